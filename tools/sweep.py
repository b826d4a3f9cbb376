"""Runs flag files with several seeds, and the runs that these start from.

    python tools/sweep.py cifar10_lt100_ce_c30 cifar10_lt100_crt_c30 \
        --seeds 0 1 2
    python tools/sweep.py a.cfg b.cfg --jobs=2 -- --data_dir=/data/tfds

A run is named by its flag file, or by two: cifar10_lt100_ce_c30 is
recipes/flags/cifar10_lt100_ce.cfg with c30.cfg. Its workdir is RUNS/NAME_SEED,
what it prints goes into RUNS/NAME_SEED.log. Where its flags have
--from=@OTHER, the run OTHER of the same seed comes first.

A run whose record is in recipes/results or in its workdir is skipped, one that
was cut goes on: after a kill, the same command does what is left. Flags after
`--` go to every run. The table of all these records is printed at the end; the
exit status is 1 if a run failed.

With --jobs=N the machine's cores are shared out to N runs at a time.
"""

import argparse
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import command_line
import flag_files


class Wanted(NamedTuple):
    """One run.

    Attributes:
        files: Its flag files.
        seed: Its seed.
        needs: The run that it starts from, or None.
    """

    files: tuple[Path, ...]
    seed: int
    needs: "Wanted | None"

    @property
    def name(self) -> str:
        return flag_files.name(self.files)


def wanted(given: str, seed: int, within: tuple[str, ...] = ()) -> Wanted:
    """The run of a flag file or of a name, with those that it needs.

    Raises:
        FileNotFoundError: If there are no such flag files.
        ValueError: If a run needs itself.
    """
    path = Path(given)
    if path.suffix == ".cfg":
        if not path.is_file():
            raise FileNotFoundError(f"Expected a flag file. Received: {path}")
        files = [path.resolve()]
    else:
        files = flag_files.find(given)
    return _with_needs(files, seed, within)


def _with_needs(
    files: list[Path], seed: int, within: tuple[str, ...]
) -> Wanted:
    name, other = flag_files.name(files), flag_files.needs(files)
    if name in within:
        raise ValueError(
            "Expected runs that do not need themselves. Received: "
            f"{' from '.join([*within, name])}"
        )
    needs = None
    if other is not None:
        others = flag_files.find(other, files[0].parent)
        needs = _with_needs(others, seed, (*within, name))
    return Wanted(tuple(files), seed, needs)


class Sweep:
    """The runs to make, and the processes that make them."""

    def __init__(self, runs: Path, flags: list[str]):
        self.runs = runs
        self.flags = flags
        self.failed = []
        self.stopped = False
        self._processes = set()
        self._lock = threading.Lock()
        self._over = {}  # an event for each run that others may wait for

    def workdir(self, run: Wanted) -> Path:
        return self.runs / f"{run.name}_{run.seed}"

    def record(self, run: Wanted) -> Path | None:
        """The record of a run, if it is finished."""
        kept = flag_files.REPO / "recipes" / "results" / run.name
        for path in (
            kept / f"seed{run.seed}.json",
            self.workdir(run) / "result.json",
        ):
            if path.exists():
                return path
        return None

    def plan(self, runs: Iterable[Wanted]) -> list[Wanted]:
        """What is left to do; what a run needs stands before it."""
        planned = []
        for run in runs:
            if path := self.record(run):
                print(f"finished before: {path}", flush=True)
                continue
            chain = [run]
            # Others start from the models of a run, which no record holds.
            while (needed := chain[-1].needs) and not (
                self.workdir(needed) / "result.json"
            ).exists():
                chain.append(needed)
            planned += [each for each in reversed(chain)]
        planned = [*dict.fromkeys(planned)]
        self._over = {run: threading.Event() for run in planned}
        return planned

    def run(self, run: Wanted, cores: Iterable[int]) -> None:
        try:
            if run.needs in self._over:
                self._over[run.needs].wait()
            if not self.stopped:
                self._run(run, cores)
        finally:
            self._over[run].set()

    def _run(self, run: Wanted, cores: Iterable[int]) -> None:
        workdir = self.workdir(run)
        if run.needs and self.workdir(run.needs) in self.failed:
            self.failed.append(workdir)
            print(f"failed: {workdir}: {run.needs.name} failed", flush=True)
            return
        command = [
            sys.executable,
            flag_files.script(run.files),
            *(f"--flagfile={path}" for path in run.files),
            f"--seed={run.seed}",
            f"--workdir={workdir}",
            *([f"--from={self.workdir(run.needs)}"] if run.needs else []),
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

    def work_off(self, planned: list[Wanted], parts: list[list[int]]) -> None:
        """Makes runs, one at a time on each part of the cores."""
        left = queue.SimpleQueue()
        for run in planned:
            left.put(run)

        def work(cores: list[int]) -> None:
            while not self.stopped:
                try:
                    run = left.get_nowait()
                except queue.Empty:
                    return
                self.run(run, cores)

        threads = [
            threading.Thread(target=work, args=(part,)) for part in parts
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            # A signal that another thread receives waits for this one to wake.
            while thread.is_alive():
                thread.join(timeout=0.2)


def shares(jobs: int) -> list[list[int]]:
    """The cores of this process in `jobs` parts."""
    cores = sorted(os.sched_getaffinity(0))
    if not 1 <= jobs <= len(cores):
        raise ValueError(
            f"Expected --jobs from 1 to {len(cores)}, the cores. "
            f"Received: --jobs={jobs}"
        )
    return [cores[part::jobs] for part in range(jobs)]


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = command_line.parser(__doc__)
    parser.add_argument(
        "runs_to_make",
        nargs="+",
        metavar="RUN",
        help="Flag file, or name of a run of recipes/flags.",
    )
    parser.add_argument(
        "--seeds",
        nargs="+",
        type=int,
        default=[0],
        help="Seeds of each run (default: 0).",
    )
    command_line.add_runs(parser, "runs")
    parser.add_argument(
        "--jobs",
        type=int,
        default=1,
        help="Runs at a time (default: 1).",
    )
    return command_line.parse_with_flags(parser, argv)


def main(arguments: argparse.Namespace, flags: list[str]) -> int:
    runs = [
        wanted(given, seed)
        for seed in arguments.seeds
        for given in arguments.runs_to_make
    ]
    parts = shares(arguments.jobs)
    arguments.runs.mkdir(parents=True, exist_ok=True)
    sweep = Sweep(arguments.runs, flags)
    planned = sweep.plan(runs)
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, sweep.stop)
    sweep.work_off(planned, parts)
    # TensorFlow takes seconds to import, and the runs do not wait for it.
    import results

    from keras_lt import report

    records = {}
    for run in runs:
        if path := sweep.record(run):
            records.setdefault(run.name, []).append(report.Record.read(path))
    print(results.tables(records))
    return 1 if sweep.failed or sweep.stopped else 0


if __name__ == "__main__":
    try:
        sys.exit(main(*parse(sys.argv[1:])))
    except (OSError, ValueError) as error:
        sys.exit(f"sweep.py: error: {' '.join(str(error).split())}")
