"""Variants that take turns, each in its own process.

A ratio is the median over rounds of the quotient within a round, so that
another load on the machine, which changes slowly, hits both sides. Processes
keep the idle threads of one framework out of the other's way.

Nothing here or at the top of a benchmark imports TensorFlow: each process
imports what its variant needs.
"""

import multiprocessing
import os
import resource
import signal
import statistics
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

BATCH = 128
WARM_UP = 5  # steps before the first turn


class Variant:
    """A process that makes `factory(*arguments)` and runs it when asked.

    With several `processes` the factory's first argument is the number of the
    process; they run together, and the slowest counts. `variables` are put
    into their environment.
    """

    def __init__(
        self,
        factory: Callable,
        *arguments: Any,
        processes: int = 1,
        **variables: str,
    ):
        spawn = multiprocessing.get_context("spawn")
        self._pipes = []
        for number in range(processes):
            own = arguments if processes == 1 else (number, *arguments)
            pipe, theirs = spawn.Pipe()
            process = spawn.Process(
                target=_serve, args=(theirs, factory, own), daemon=True
            )
            with mock.patch.dict(os.environ, variables):
                process.start()
            theirs.close()
            self._pipes.append(pipe)
        self.megabytes = self.run(0)[1]

    def run(self, steps: int) -> tuple[float, float]:
        """Seconds that so many steps took, and the most megabytes so far."""
        for pipe in self._pipes:
            pipe.send(steps)
        seconds, megabytes = zip(
            *(pipe.recv() for pipe in self._pipes), strict=True
        )
        return max(seconds), max(megabytes)


def _serve(pipe: Any, factory: Callable, arguments: tuple) -> None:
    run = factory(*arguments)
    # A worker of TensorFlow catches the signal that ends daemons.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    while True:
        try:
            steps = pipe.recv()
        except EOFError:  # nobody asks any more
            return
        begin = time.perf_counter()
        run(steps or WARM_UP)
        seconds = time.perf_counter() - begin
        kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        pipe.send((seconds, kilobytes * 1024 / 1e6))


def take_turns(
    variants: dict[Any, Variant], rounds: int, steps: int
) -> dict[Any, list[float]]:
    """Images per second of each variant in each round."""
    speeds = {name: [] for name in variants}
    for _ in range(rounds):
        for name, variant in variants.items():
            speeds[name].append(steps * BATCH / variant.run(steps)[0])
    return speeds


def ratio(speeds: dict, over: str, under: str) -> float | None:
    if over not in speeds or under not in speeds:
        return None
    pairs = zip(speeds[over], speeds[under], strict=True)
    return statistics.median(a / b for a, b in pairs)
