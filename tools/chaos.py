"""Kills a training again and again, and compares it with one left alone.

    python tools/chaos.py --kills=20 --output=recipes/results/chaos.json

A small recipe run (--deterministic) is killed by SIGKILL at random moments,
every second time while a file is being written, and started again with the same
command. In the end its weights must be, bit by bit, those of a run that was
left alone, and so must its curves. With --workers=2 the run is of two
processes, one of which is killed; weights may differ by 1e-6 then, and curves
are not compared, since what a process has seen of an epoch dies with it.
`--output` keeps what was seen.
"""

import argparse

import command_line


def parse() -> tuple[argparse.Namespace, list[str]]:
    """The options, and flags of the recipe."""
    parser = command_line.parser(__doc__)
    parser.add_argument(
        "--kills",
        type=command_line.positive,
        default=20,
        help="Number of kills (default: %(default)s).",
    )
    parser.add_argument(
        "--workers",
        type=command_line.positive,
        default=1,
        metavar="N",
        help="Processes that train together (default: %(default)s).",
    )
    command_line.add_seed(parser, "the moments of the kills")
    parser.add_argument(
        "--seconds",
        type=float,
        default=4.0,
        help="Longest time from the first checkpoint of a start to its end "
        "(default: %(default)s).",
    )
    command_line.add_output(parser, "JSON file to write.")
    return parser.parse_known_args()


if __name__ == "__main__":
    parse()  # --help and wrong options don't wait for the imports below

import datetime
import json
import math
import os
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
    "--augment=pad_crop_flip(1,flip=False)",
    "--backbone=cifar_resnet(20)",
    "--batch_size=32",
    "--epochs=8",
    "--learning_rate=warmup_step(0.1,[5,7],[0.01,0.0001],warmup=1)",
    "--checkpoint_steps=3",
    "--deterministic",
)


def start(workdir: Path, flags: list[str], workers: int) -> subprocess.Popen:
    recipe = REPO / "recipes" / "cifar_lt.py"
    command = [sys.executable, recipe, *FLAGS, *flags, f"--workdir={workdir}"]
    if workers > 1:
        launch = [sys.executable, REPO / "tools" / "launch_local.py"]
        launch += [f"--workers={workers}", "--"]
        command = [*launch, *command, "--strategy=multi_worker"]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(workdir: Path, flags: list[str], workers: int) -> None:
    output, _ = (process := start(workdir, flags, workers)).communicate()
    if process.returncode:
        raise ChildProcessError(f"{workdir}: {output.splitlines()[-1:]}")


def kill(
    workdir: Path,
    flags: list[str],
    workers: int,
    worker: int,
    after: float,
    writing: bool,
) -> bool:
    """Whether the run was killed, that is, not over before.

    `after` so many seconds from its first checkpoint, and then while it is
    `writing` a file. Of several workers one is killed.
    """
    process, started = start(workdir, flags, workers), time.time()
    index, begin = workdir / "checkpoints" / "checkpoint.json", math.inf
    while process.poll() is None:
        now = time.time()
        if index.exists() and index.stat().st_mtime > started:
            begin = min(begin, now)
        due = now - begin >= after
        if due and (not writing or any(workdir.glob(f"**/{files.PART}*"))):
            victims = [process.pid] if workers == 1 else children(process.pid)
            os.kill(victims[worker], signal.SIGKILL)
            break
        time.sleep(0.0005)
    process.communicate()
    # The launcher exits as a shell does.
    return process.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL)


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return sorted(int(child) for t in tasks for child in t.read_text().split())


def differences(one: Path, other: Path, workers: int) -> list[str]:
    """What differs between two finished runs."""
    tolerance = 0.0 if workers == 1 else 1e-6
    weights, others = (
        keras.saving.load_model(workdir / "model.keras").weights
        for workdir in (one, other)
    )
    found = [
        a.path
        for a, b in zip(weights, others, strict=True)
        if not np.allclose(a, b, rtol=0.0, atol=tolerance, equal_nan=True)
    ]
    if workers > 1:
        return found
    history, others = (
        report.Record.read(workdir / "result.json").history
        for workdir in (one, other)
    )
    return found + [
        name
        for name, values in history.items()
        if name != "seconds" and values != others[name]
    ]


def write(
    path: Path,
    flags: list[str],
    workers: int,
    kills: int,
    while_writing: int,
    runs: int,
) -> None:
    content = {
        "workers": workers,
        "kills": kills,
        "while_writing": while_writing,
        "identical_runs": runs,
        "flags": [*FLAGS, *flags],
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(),
        "environment": report.environment(),
    }
    with files.replacing(path) as part:
        part.write_text(json.dumps(content, indent=1) + "\n")


def main() -> int:
    arguments, flags = parse()
    workers = arguments.workers
    moments = random.Random(arguments.seed)
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    try:
        finish(folder / "alone", flags, workers)
        kills = number = 0
        while kills < arguments.kills:
            workdir = folder / f"killed_{number}"
            while kills < arguments.kills:
                writing = kills % 2 == 1
                after = moments.uniform(0.0, arguments.seconds)
                worker = moments.randrange(workers)
                if not kill(workdir, flags, workers, worker, after, writing):
                    break  # it is over
                kills += 1
                what = "writing a file" if writing else "at any moment"
                print(
                    f"kill {kills}: worker {worker}, {after:.2f} s on, {what}",
                    flush=True,
                )
            finish(workdir, flags, workers)
            if found := differences(folder / "alone", workdir, workers):
                print(f"differs after {kills} kills: {', '.join(found)}")
                return 1
            number += 1
            print(f"run {number} ends as the one left alone")
        if arguments.output:
            write(arguments.output, flags, workers, kills, kills // 2, number)
        return 0
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, ValueError) as error:
        sys.exit(f"chaos.py: error: {' '.join(str(error).split())}")
