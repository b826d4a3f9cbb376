"""Kills a training again and again, and compares it with one left alone.

    python tools/chaos.py --kills=20 --record=recipes/results/chaos.json

A small recipe run (--deterministic) is killed by SIGKILL at random moments,
every second time while a file is being written, and started again with the same
command. In the end its weights must be, bit by bit, those of a run that was
left alone, and so must its curves. `--record` keeps what was seen.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import argparse
import datetime
import json
import math
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import keras
import numpy as np

from keras_lt import files, report

REPO = Path(__file__).resolve().parents[1]
FLAGS = (
    "--dataset=digits",
    "--imbalance_factor=20",
    "--noflip",
    "--padding=1",
    "--backbone=cifar_resnet20",
    "--batch_size=32",
    "--epochs=8",
    "--warmup_epochs=1",
    "--decay_epochs=5,7",
    "--checkpoint_steps=3",
    "--deterministic",
)


def start(workdir: Path, flags: list[str]) -> subprocess.Popen:
    recipe = REPO / "recipes" / "cifar_lt.py"
    return subprocess.Popen(
        [sys.executable, recipe, *FLAGS, *flags, f"--workdir={workdir}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(workdir: Path, flags: list[str]) -> None:
    output, _ = (process := start(workdir, flags)).communicate()
    if process.returncode:
        raise ChildProcessError(f"{workdir}: {output.splitlines()[-1:]}")


def kill(workdir: Path, flags: list[str], after: float, writing: bool) -> bool:
    """Whether the run was killed, that is, not over before.

    `after` so many seconds from its first checkpoint, and then while it is
    `writing` a file.
    """
    process, started = start(workdir, flags), time.time()
    index, begin = workdir / "checkpoints" / "checkpoint.json", math.inf
    while process.poll() is None:
        now = time.time()
        if index.exists() and index.stat().st_mtime > started:
            begin = min(begin, now)
        due = now - begin >= after
        if due and (not writing or any(workdir.glob("**/part-*"))):
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.0005)
    process.communicate()
    return process.returncode == -signal.SIGKILL


def differences(one: Path, other: Path) -> list[str]:
    """What differs between two finished runs."""
    weights, others = (
        keras.saving.load_model(workdir / "model.keras").weights
        for workdir in (one, other)
    )
    found = [
        a.path
        for a, b in zip(weights, others, strict=True)
        if not np.array_equal(a, b, equal_nan=True)
    ]
    history, others = (
        report.read_record(workdir / "result.json")["history"]
        for workdir in (one, other)
    )
    return found + [
        name
        for name, values in history.items()
        if name != "seconds" and values != others[name]
    ]


def write(path: Path, kills: int, while_writing: int, runs: int) -> None:
    content = {
        "kills": kills,
        "while_writing": while_writing,
        "identical_runs": runs,
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "flags": FLAGS,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(),
        "environment": report.environment(),
    }
    with files.replacing(path) as part:
        part.write_text(json.dumps(content, indent=1) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument(
        "--seconds",
        type=float,
        default=4.0,
        help="longest time from a start's first checkpoint to its end",
    )
    parser.add_argument("--record", type=Path, metavar="FILE")
    arguments, flags = parser.parse_known_args()
    moments = random.Random(arguments.seed)
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    try:
        finish(folder / "alone", flags)
        kills = number = 0
        while kills < arguments.kills:
            workdir = folder / f"killed_{number}"
            while kills < arguments.kills:
                writing = kills % 2 == 1
                after = moments.uniform(0.0, arguments.seconds)
                if not kill(workdir, flags, after, writing):
                    break  # it is over
                kills += 1
                what = "writing a file" if writing else "at any moment"
                print(f"kill {kills}: {after:.2f} s on, {what}", flush=True)
            finish(workdir, flags)
            if found := differences(folder / "alone", workdir):
                print(f"differs after {kills} kills: {', '.join(found)}")
                return 1
            number += 1
            print(f"run {number} is bit-identical to the one left alone")
        if arguments.record:
            write(arguments.record, kills, kills // 2, number)
        return 0
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    sys.exit(main())
