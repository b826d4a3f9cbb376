"""Runs a recipe that sends itself a signal once its first checkpoint is there.

    python tests/ended.py SIGNAL WORKER STEP RECIPE --workdir=FOLDER ARGUMENTS

It waits for the checkpoint before a step that comes after it, so that a busy
machine neither ends the run too soon nor lets it come to its end. Of several
processes that train together WORKER gets the signal; else it is 0.
"""

import json
import os
import runpy
import signal
import sys
import time
from pathlib import Path

name, worker, step, recipe = sys.argv[1:5]
sys.argv = sys.argv[4:]
sys.path[0] = str(Path(recipe).parent)
workdir = next(x[10:] for x in sys.argv if x.startswith("--workdir="))
index = Path(workdir) / "checkpoints" / "checkpoint.json"

from keras_lt import callbacks  # noqa: E402


class Ended(callbacks.StopOnNonFinite):
    def on_train_batch_begin(self, batch, logs=None):
        if self.model.optimizer.iterations == int(step):
            while not index.exists():
                time.sleep(0.01)  # it is written by a thread
            os.kill(os.getpid(), getattr(signal, name))


config = json.loads(os.environ.get("TF_CONFIG", '{"task": {"index": 0}}'))
if config["task"]["index"] == int(worker):
    callbacks.StopOnNonFinite = Ended
runpy.run_path(recipe, run_name="__main__")
