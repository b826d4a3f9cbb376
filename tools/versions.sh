#!/usr/bin/env bash
# Tests with the lowest versions of packages that setup.cfg allows, or with the
# newest ones there are, beyond its upper bounds, in an environment that is
# removed afterwards. Further arguments go to pytest:
#   PYTHON=python3.10 bash tools/versions.sh lowest tests/test_class_weighted.py
#   bash tools/versions.sh newest tests/test_distribute.py
# Some of the lowest versions have wheels for Python 3.10 and 3.11 only. Where
# the newest ones pass, the upper bounds of setup.cfg and the versions in
# keras_lt/distribute/patches.py can move; one test says so by failing.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/venv.sh"

which="${1:-}"
[[ "$which" == lowest || "$which" == newest ]] ||
  fail "Expected lowest or newest first. Received: ${which:-nothing}"
shift
find_python
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
# The lines of install_requires: with the lowest version alone, or without an
# upper bound.
if [[ "$which" == lowest ]]; then
  edit='s/^\([^>]*\)>=\([^,;]*\)\(,[^;]*\)\?/\1==\2/'
else
  edit='s/^\([^>]*>=[^,;]*\),[^;]*/\1/'
fi
sed -n '/^install_requires/,/^$/ s/^    //p' setup.cfg | sed "$edit" \
  >"$folder/wanted.txt"
"$python" -m venv "$folder/venv" || fail "$python could not make a venv."
unset PYTHONPATH PYTHONHOME
pip=("$folder/venv/bin/python" -m pip install --quiet --no-cache-dir
  --disable-pip-version-check)
echo "Installing the $which versions for $("$python" --version) (minutes)."
"${pip[@]}" --upgrade pip
sed -n '/^test =/,/^[a-z]* = / s/^    //p' setup.cfg >"$folder/test.txt"
"${pip[@]}" --requirement "$folder/wanted.txt" \
  --requirement "$folder/test.txt" ||
  fail "pip could not install $(tr '\n' ' ' <"$folder/wanted.txt")"
# The bounds of setup.cfg are not those of this test.
"${pip[@]}" --no-deps --editable .
"$folder/venv/bin/python" -m pytest -rs "$@"
