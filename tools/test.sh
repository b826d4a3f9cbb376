#!/usr/bin/env bash
# Lints the project and runs all of its tests in .venv.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/venv.sh"

use_venv ".[test]"
.venv/bin/ruff check --quiet .
.venv/bin/ruff format --check --quiet .

log="$(mktemp)"
trap 'rm -f "$log"' EXIT
# A process a core, each with the files of tests that it takes next, the long
# ones first (tests/conftest.py): so all processes end at about the same time.
.venv/bin/python -m pytest -rs -n auto --dist loadfile --no-loadscope-reorder |
  tee "$log"

# Tests that need ../shared skip without it, but not where it is.
if [[ -d ../shared ]]; then
  grep -q "^golden: " "$log" || fail "no golden test has run."
  ! grep "^SKIPPED.*KERAS_LT_[A-Z]*_DIR" "$log" ||
    fail "tests above did not find what ../shared should hold."
fi
