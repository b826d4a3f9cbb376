"""Runs flag files with several seeds, skipping what is finished.

    python tools/sweep.py recipes/flags/cifar10_lt100_*_c30.cfg --seeds 0 1 2
    python tools/sweep.py a.cfg b.cfg --jobs=2 -- --data_dir=/data/tfds

A run's workdir is RUNS/FLAGFILE_SEED, what it prints goes into
RUNS/FLAGFILE_SEED.log. A run whose record is in recipes/results or in its
workdir is skipped, one that was cut goes on: after a kill, the same command
does what is left. Flags after `--` go to every run. The table of all these
records is printed at the end; the exit status is 1 if a run failed.

With --jobs=N the machine's cores are shared out to N runs at a time.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import argparse
import itertools
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path

import results

from keras_lt import filenames, report


class Sweep:
    """The runs to make, and the processes that make them."""

    def __init__(self, runs: Path, flags: list[str]):
        self.runs = runs
        self.flags = flags
        self.failed = []
        self.stopped = False
        self._processes = set()
        self._lock = threading.Lock()

    def record(self, flag_file: Path, seed: int) -> Path | None:
        """The record of a run, if it is finished."""
        for path in (
            results.RECORDS / flag_file.stem / f"seed{seed}.json",
            self.workdir(flag_file, seed) / "result.json",
        ):
            if path.exists():
                return path
        return None

    def workdir(self, flag_file: Path, seed: int) -> Path:
        return self.runs / f"{flag_file.stem}_{seed}"

    def run(self, flag_file: Path, seed: int, cores: Iterable[int]) -> None:
        workdir = self.workdir(flag_file, seed)
        command = [
            sys.executable,
            results.REPO / "recipes" / "cifar_lt.py",
            f"--flagfile={flag_file}",
            f"--seed={seed}",
            f"--workdir={workdir}",
            *self.flags,
        ]
        log = workdir.with_name(f"{workdir.name}.log")
        with open(log, "ab") as output:
            begin = output.tell()
            with self._lock:
                if self.stopped:
                    return
                process = subprocess.Popen(
                    command, stdout=output, stderr=subprocess.STDOUT
                )
                self._processes.add(process)
            os.sched_setaffinity(process.pid, cores)
            status = process.wait()
        self._processes.discard(process)
        if status and not self.stopped:
            self.failed.append(workdir)
            said = (
                log.read_bytes()[begin:].decode(errors="replace").splitlines()
            )
            # TensorFlow's threads may have the last word.
            said = [line for line in said if ": error: " in line] or said
            print(f"failed: {workdir}: {' '.join(said[-1:])}", flush=True)
        elif not status:
            print(f"finished: {workdir}", flush=True)

    def stop(self, signum: int, frame: object) -> None:
        with self._lock:
            self.stopped = True
            for process in self._processes:
                process.send_signal(signum)


def shares(jobs: int) -> list[list[int]]:
    """The cores of this process in `jobs` parts."""
    cores = sorted(os.sched_getaffinity(0))
    if not 1 <= jobs <= len(cores):
        raise ValueError(
            f"Expected --jobs from 1 to {len(cores)}, the cores. "
            f"Received: --jobs={jobs}"
        )
    return [cores[part::jobs] for part in range(jobs)]


def main() -> int:
    filenames.escape_output()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("flag_files", nargs="+", type=Path, metavar="FLAGFILE")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--jobs", type=int, default=1)
    arguments, flags = split(sys.argv[1:], parser)
    for path in arguments.flag_files:
        if not path.is_file():
            raise FileNotFoundError(f"Expected a flag file. Received: {path}")
    parts = shares(arguments.jobs)
    arguments.runs.mkdir(parents=True, exist_ok=True)
    sweep = Sweep(arguments.runs, flags)
    wanted = [
        (path.resolve(), seed)
        for seed, path in itertools.product(
            arguments.seeds, arguments.flag_files
        )
    ]
    left = queue.SimpleQueue()
    for flag_file, seed in wanted:
        if record := sweep.record(flag_file, seed):
            print(f"finished before: {record}", flush=True)
        else:
            left.put((flag_file, seed))
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, sweep.stop)

    def work(cores: list[int]) -> None:
        while not sweep.stopped:
            try:
                flag_file, seed = left.get_nowait()
            except queue.Empty:
                return
            sweep.run(flag_file, seed, cores)

    threads = [threading.Thread(target=work, args=(part,)) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        # A signal that another thread receives waits for this one to wake.
        while thread.is_alive():
            thread.join(timeout=0.2)
    records = {}
    for flag_file, seed in wanted:
        if path := sweep.record(flag_file, seed):
            record = report.Record.read(path)
            records.setdefault(flag_file.stem, []).append(record)
    print(results.tables(records))
    return 1 if sweep.failed or sweep.stopped else 0


def split(
    argv: list[str], parser: argparse.ArgumentParser
) -> tuple[argparse.Namespace, list[str]]:
    """The arguments before `--`, parsed, and those after it."""
    end = argv.index("--") if "--" in argv else len(argv)
    return parser.parse_args(argv[:end]), argv[end + 1 :]


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, ValueError) as error:
        sys.exit(f"sweep.py: error: {' '.join(str(error).split())}")
