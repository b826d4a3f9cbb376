# Sourced by the scripts beside it: enters the checkout, finds a Python, and
# makes or reuses .venv there.

cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly supported="3.10 to 3.13"

fail() {
  echo "$(basename "$0"): $*" >&2
  exit 1
}

# Sets `python` to the first Python that is new enough and can make a venv.
find_python() {
  local candidate version without_venv=""
  local candidates=(python3 python3.13 python3.12 python3.11 python3.10)
  [[ -z "${PYTHON:-}" ]] || candidates=("$PYTHON")
  for candidate in "${candidates[@]}"; do
    version="$("$candidate" -c 'import sys
if (3, 10) <= sys.version_info < (3, 14):
    print("%d.%d" % sys.version_info[:2])' 2>/dev/null)" || continue
    [[ -n "$version" ]] || continue
    if "$candidate" -c "import ensurepip, venv" 2>/dev/null; then
      python="$candidate"
      return
    fi
    without_venv="$version"
  done
  [[ -z "$without_venv" ]] || fail "Python $without_venv lacks the modules" \
    "venv and ensurepip. On Debian and Ubuntu: apt install" \
    "python$without_venv-venv."
  [[ -z "${PYTHON:-}" ]] || fail "PYTHON=$PYTHON is not a Python $supported."
  fail "found no Python $supported. Install one, or name it:" \
    "PYTHON=/path/to/python3 bash $0"
}

# use_venv TARGET: .venv holds an editable install of TARGET ("." or ".[test]").
# The stamp is written last, so a .venv without one was interrupted.
use_venv() {
  local target="$1" key python
  local pip=(.venv/bin/python -m pip install --quiet)
  pip+=(--disable-pip-version-check)
  key="$(cat setup.cfg pyproject.toml <(pwd) | cksum)"
  # pip and Python must not see another environment's packages.
  unset PYTHONPATH PYTHONHOME
  if .venv/bin/python -c "import pip" 2>/dev/null && [[ -f .venv/stamp ]]; then
    case "$(cat .venv/stamp)" in
      "$key $target" | "$key .[test]") return ;;
    esac
  else
    find_python
    echo "Making .venv with $("$python" --version) ($python)."
    rm -rf .venv
    "$python" -m venv .venv || fail "$python could not make .venv."
  fi
  echo "Installing keras_lt and what it needs into .venv (some minutes)."
  rm -f .venv/stamp
  # An old pip loses itself among versions where an index does not say for
  # which Python they are; setuptools warns of every editable install.
  "${pip[@]}" --upgrade pip &&
    PYTHONWARNINGS=ignore "${pip[@]}" --editable "$target" ||
    fail "pip could not install $target: see above. It needs the network."
  echo "$key $target" >.venv/stamp
}
