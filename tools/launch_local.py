"""Starts N workers of a command on this machine, as on N machines.

    python tools/launch_local.py --workers=2 -- python train.py --flags ...

Each worker is a process with a process group and a TF_CONFIG of its own, of a
cluster of N workers on free ports of this machine. What it prints is shown line
by line, `[worker i] ` in front. SIGINT and SIGTERM go to all workers. When one
fails it is named, and the others, which may wait for it in vain, get SIGTERM if
they have not had it, and SIGKILL --grace seconds later. The exit status is that
of the first one to fail, 128 and its number for a signal.

No worker outlives this process, even if SIGKILL ends it. What workers have
started themselves ends with them, unless SIGKILL ends this process. It needs
Linux.

The workers share the cores: TensorFlow takes all of them in each, unless
TF_NUM_INTRAOP_THREADS and TF_NUM_INTEROP_THREADS are set.
"""

import argparse
import contextlib
import ctypes
import json
import math
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import BinaryIO

PR_SET_PDEATHSIG = 1  # of linux/prctl.h


class Worker:
    """One process, and what of its output is not shown yet."""

    def __init__(self, index: int, command: list[str], addresses: list[str]):
        config = {
            "cluster": {"worker": addresses},
            "task": {"type": "worker", "index": index},
        }
        environment = {
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            "TF_CONFIG": json.dumps(config),
        }
        self.index = index
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            preexec_fn=_bound_to_this_process(),
        )
        self.end = os.pidfd_open(self._process.pid)  # readable at its end
        self.sinks = {
            self._process.stdout: sys.stdout.buffer,
            self._process.stderr: sys.stderr.buffer,
        }
        self._rests = dict.fromkeys(self.sinks, b"")
        for pipe in self.sinks:
            os.set_blocking(pipe.fileno(), False)

    def send(self, signum: int) -> None:
        os.killpg(self._process.pid, signum)

    def show(self, pipe: BinaryIO) -> bytes | None:
        """Shows the whole lines that have come; returns what was read."""
        data = pipe.read(1 << 16)
        *lines, rest = (self._rests[pipe] + (data or b"")).split(b"\n")
        self._rests[pipe] = rest
        self._write(pipe, lines)
        return data

    def finish(self) -> int:
        """Shows the rest of a worker that has ended; returns its status."""
        self.send(signal.SIGKILL)  # to what it leaves behind
        for pipe in self.sinks:
            while self.show(pipe):
                pass
            if rest := self._rests[pipe]:
                self._write(pipe, [rest])
        return self.wait()

    def wait(self) -> int:
        """Waits for the end and returns the status, below 0 for a signal."""
        os.close(self.end)
        for pipe in self.sinks:
            pipe.close()
        return self._process.wait()

    def _write(self, pipe: BinaryIO, lines: list[bytes]) -> None:
        prefix = f"[worker {self.index}] ".encode()
        sink = self.sinks[pipe]
        sink.write(b"".join(prefix + line + b"\n" for line in lines))
        sink.flush()


def _bound_to_this_process() -> Callable[[], None]:
    """What a new process does first, so that it ends with this one."""
    prctl, parent = ctypes.CDLL(None).prctl, os.getpid()

    def bind() -> None:
        os.setpgid(0, 0)
        prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it ended before that
            os._exit(1)

    return bind


def hold_port(stack: contextlib.ExitStack) -> int:
    """A port of 127.0.0.1 that is free, and stays so while `stack` is open.

    A socket is bound to it that does not listen: who asks the system for any
    port does not get this one, while a server that sets SO_REUSEADDR, as
    gRPC's do, can listen at it.
    """
    held = stack.enter_context(socket.socket())
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    held.bind(("127.0.0.1", 0))
    return held.getsockname()[1]


class Launch:
    """The workers that run, and how it ends."""

    def __init__(self, grace: float):
        self.running: list[Worker] = []
        self.status = 0
        self._grace = grace
        self._deadline = math.inf  # of those that are to end
        self._told = False
        self._events = selectors.DefaultSelector()

    def add(self, worker: Worker) -> None:
        self.running.append(worker)
        for file in (worker.end, *worker.sinks):
            self._events.register(file, selectors.EVENT_READ, worker)

    def send(self, signum: int, frame: object = None) -> None:
        self._told |= signum == signal.SIGTERM
        for worker in self.running:
            worker.send(signum)

    def watch(self) -> None:
        """Returns when no worker runs any more."""
        while self.running:
            wait = None
            if self._deadline < math.inf:
                wait = max(0.0, self._deadline - time.monotonic())
            found = self._events.select(wait)
            if not found and wait is not None:
                self.send(signal.SIGKILL)
                self._deadline = math.inf
            for key, _ in found:
                worker, file = key.data, key.fileobj
                if file != worker.end and worker.show(file) == b"":
                    self._events.unregister(file)
            for key, _ in found:
                if key.fd == key.data.end:
                    self._finish(key.data)

    def _finish(self, worker: Worker) -> None:
        for file in (worker.end, *worker.sinks):
            with contextlib.suppress(KeyError):  # it was closed before
                self._events.unregister(file)
        self.running.remove(worker)
        status = worker.finish()
        if not status or self.status:
            return
        self.status = status if status > 0 else 128 - status
        how = f"failed with status {status}"
        if status < 0:
            how = f"was killed by {signal.Signals(-status).name}"
        others = "; ending the others" if self.running else ""
        print(f"Worker {worker.index} {how}{others}.", file=sys.stderr)
        if not self._told:
            self.send(signal.SIGTERM)
        self._deadline = time.monotonic() + self._grace


def launch(command: list[str], count: int, grace: float) -> int:
    """Runs `count` workers to their end; returns the exit status."""
    run = Launch(grace)
    with contextlib.ExitStack() as stack:
        addresses = [f"127.0.0.1:{hold_port(stack)}" for _ in range(count)]
        try:
            for index in range(count):
                run.add(Worker(index, command, addresses))
            for signum in (signal.SIGINT, signal.SIGTERM):
                signal.signal(signum, run.send)
            run.watch()
        finally:
            run.send(signal.SIGKILL)
            for worker in run.running:
                worker.wait()
    return run.status


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        usage="%(prog)s --workers=N [--grace=SECONDS] -- COMMAND ...",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--workers",
        type=int,
        required=True,
        metavar="N",
        help="Processes that train together.",
    )
    parser.add_argument(
        "--grace",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="Time from SIGTERM to SIGKILL once a worker has failed "
        "(default: %(default)s).",
    )
    end = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    arguments, command = parser.parse_args(sys.argv[1:end]), sys.argv[end + 1 :]
    if sys.platform != "linux":
        raise OSError(f"Expected Linux. Received: {sys.platform}")
    if arguments.workers < 1:
        raise ValueError(
            f"Expected --workers >= 1. Received: --workers={arguments.workers}"
        )
    if not 0 <= arguments.grace < math.inf:
        raise ValueError(
            f"Expected --grace >= 0. Received: --grace={arguments.grace}"
        )
    if not command:
        raise ValueError("Expected a command after --. Received: none")
    if not shutil.which(command[0]):
        raise FileNotFoundError(
            f"Expected a command that can be run. Received: {command[0]}"
        )
    return launch(command, arguments.workers, arguments.grace)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (OSError, ValueError) as error:
        if isinstance(error, BrokenPipeError):
            # What is not written yet would fail once more at the exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(f"launch_local.py: error: {error}")
