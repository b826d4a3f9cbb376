#!/usr/bin/env bash
# Tests with the lowest versions of packages that setup.cfg allows, in an
# environment that is removed afterwards. Arguments go to pytest:
#   PYTHON=python3.10 bash tools/lowest_versions.sh tests/test_class_weighted.py
# Some of these versions have wheels for Python 3.10 and 3.11 only.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/venv.sh"

find_python
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
# The lines of install_requires, each with its lowest version alone.
sed -n '/^install_requires/,/^$/ s/^    \([^>]*\)>=/\1==/p' setup.cfg \
  >"$folder/lowest.txt"
"$python" -m venv "$folder/venv" || fail "$python could not make a venv."
unset PYTHONPATH PYTHONHOME
pip=("$folder/venv/bin/python" -m pip install --quiet --no-cache-dir
  --disable-pip-version-check)
echo "Installing the lowest versions for $("$python" --version) (minutes)."
"${pip[@]}" --upgrade pip
"${pip[@]}" --constraint "$folder/lowest.txt" --editable ".[test]" ||
  fail "pip could not install $(tr '\n' ' ' <"$folder/lowest.txt")"
"$folder/venv/bin/python" -m pytest -rs "$@"
