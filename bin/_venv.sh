# shellcheck shell=sh
# Sourced by bin/quickstart and bin/test: makes .venv and installs this checkout into it.
# Needs $root; a second call finds its work done and takes a few milliseconds.
: "${root:?}"

say() { printf '%s\n' "$*" >&2; }

fail() {
  say "$0: $*"
  exit 78
}

# Prints the first Python that is 3.11 or newer.
find_python() {
  for candidate in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11 \
      /usr/bin/python3 /usr/local/bin/python3 /opt/homebrew/bin/python3; do
    [ -n "$candidate" ] || continue
    command -v "$candidate" > /dev/null 2>&1 || continue
    "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null || continue
    command -v "$candidate"
    return 0
  done
  return 1
}

# install_checkout EXTRAS: .venv has this checkout and its dependencies afterwards.
install_checkout() {
  if [ ! -x "$root/.venv/bin/python" ]; then
    python=$(find_python) || fail "needs Python 3.11 or newer; found: $(
      python3 --version 2>&1 || true). Install it, or name it: PYTHON=/path/to/python3.12 $0"
    say "making $root/.venv with $("$python" --version)"
    "$python" -m venv "$root/.venv" || {
      rm -rf "$root/.venv"
      fail "$python cannot make a virtual environment (on Debian: apt install python3-venv)"
    }
  fi
  # What was installed, for which extras, from which pyproject.toml.
  stamp="$root/.venv/.installed-$1"
  wanted=$(cksum < "$root/pyproject.toml")
  if [ "$(cat "$stamp" 2> /dev/null)" = "$wanted" ]; then
    return 0
  fi
  say "installing persona-pg[$1] into $root/.venv"
  "$root/.venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --editable "${root}[$1]" >&2 || fail "pip could not install the dependencies (see above)"
  printf '%s\n' "$wanted" > "$stamp"
}
