#!/usr/bin/env bash
# Trains a small network on the embedded digits: no network, no GPU needed.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/venv.sh"

use_venv "."
run="$PWD/runs/quickstart"
.venv/bin/python recipes/cifar_lt.py \
  --flagfile=recipes/flags/quickstart.cfg --workdir="$run"

cat <<END

Open report.html in a browser. For the TensorBoard log and the SavedModel:
  '$PWD/.venv/bin/tensorboard' --logdir '$run/tensorboard'
  '$PWD/.venv/bin/saved_model_cli' show --all --dir '$run/saved_model'
END
