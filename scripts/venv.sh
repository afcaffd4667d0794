#!/bin/sh
# Make .venv fit pyproject.toml: `scripts/venv.sh run` for the programs, `dev` for the tests too.
# Does nothing when it already does. PYTHON=/path/to/python chooses the interpreter.
set -eu
cd "$(dirname "$0")/.."
want=${1:-run}
stamp=.venv/.installed
sum=$(cksum < pyproject.toml)

fits() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; }

find_python() {
  # A pyenv shim can be there for a version that is not, and Debian's python3 has no ensurepip
  # until python3-venv is installed; so each one is tried.
  for name in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.14 python}; do
    if fits "$name" && "$name" -c 'import ensurepip' 2> /dev/null; then echo "$name"; return; fi
  done
  echo "venv: no Python 3.11 or newer with venv found; install one (Debian: apt-get install" \
    "python3-venv), or say PYTHON=/path/to/python" >&2
  exit 1
}

if fits .venv/bin/python && [ -f "$stamp" ]; then
  have=$(cat "$stamp")
  if [ "$have" = "dev $sum" ] || [ "$have" = "$want $sum" ]; then exit 0; fi
fi

echo "== install ($want)"
if ! fits .venv/bin/python; then
  python=$(find_python)
  rm -rf .venv
  "$python" -m venv .venv || { rm -rf .venv; exit 1; }
fi
rm -f "$stamp"
pip() { .venv/bin/python -m pip --disable-pip-version-check --quiet "$@"; }
# Dependency groups came with pip 25.1.
pip install --upgrade 'pip>=25.1'
if [ "$want" = dev ]; then pip install --editable . --group dev; else pip install --editable .; fi
echo "$want $sum" > "$stamp"
