"""The processes of a cluster, and the wait until all of them are there."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator

import tensorflow as tf

from keras_lt.distribute import waiting

SECONDS_TO_WAIT = 60.0  # between lines about workers that are missing


def addresses() -> list[str]:
    """Addresses of the workers in TF_CONFIG, none without it.

    Example:
        >>> keras_lt.distribute.workers.addresses()
        []
    """
    text = os.environ.get("TF_CONFIG", "{}")
    try:
        cluster = json.loads(text).get("cluster", {})
        return [*cluster.get("chief", []), *cluster.get("worker", [])]
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(
            "Expected TF_CONFIG to be JSON with a cluster and a task. "
            f"Received: TF_CONFIG={text}"
        ) from error


def cluster() -> tf.distribute.cluster_resolver.ClusterResolver:
    """The processes that TF_CONFIG or Slurm's variables name.

    Raises:
        ValueError: If neither does.
    """
    resolvers = tf.distribute.cluster_resolver
    if addresses():
        return resolvers.TFConfigClusterResolver()
    if "SLURM_PROCID" in os.environ:
        if shutil.which("nvidia-smi"):
            return resolvers.SlurmClusterResolver()
        # It knows no machines without GPUs: say that each task has one.
        tasks = int(os.environ["SLURM_STEP_NUM_TASKS"])
        return resolvers.SlurmClusterResolver(
            gpus_per_node=tasks, gpus_per_task=1, auto_set_gpu=False
        )
    raise ValueError(
        "Expected TF_CONFIG or Slurm's variables to name the processes of "
        "multi_worker (tools/launch_local.py sets TF_CONFIG). "
        "Received: neither"
    )


def strategy_of_all(
    resolver: tf.distribute.cluster_resolver.ClusterResolver,
) -> tf.distribute.MultiWorkerMirroredStrategy:
    """Waits for all workers; each minute it is said which ones are missing."""
    tasks = resolver.cluster_spec().as_dict()  # Slurm's sets the others
    own = resolver.task_type, resolver.task_id
    addresses = {
        (kind, index): address
        for kind, of_kind in tasks.items()
        for index, address in enumerate(of_kind)
    }
    if own not in addresses:
        raise ValueError(
            "Expected a task of the cluster. Received: "
            f"task {own[0]} {own[1]}, of {len(addresses)} tasks"
        )
    _refuse_used_port(addresses[own])
    others = {
        f"{kind} {index} ({address})": address
        for (kind, index), address in addresses.items()
        if (kind, index) != own
    }
    with _saying_who_is_missing(others), _own_signals():
        try:
            return tf.distribute.MultiWorkerMirroredStrategy(resolver)
        except (tf.errors.OpError, RuntimeError) as error:
            raise OSError(
                "Expected a cluster whose processes reach each other. "
                f"Received: {', '.join(others)}, and at {addresses[own]}: "
                f"{error}"
            ) from error


@contextlib.contextmanager
def _saying_who_is_missing(others: dict[str, str]) -> Iterator[None]:
    watch = subprocess.Popen(
        [
            *(sys.executable, waiting.__file__),
            *(json.dumps(others), str(SECONDS_TO_WAIT)),
        ],
        stdin=subprocess.PIPE,
    )
    try:
        yield
    finally:
        watch.stdin.close()  # ends it
        watch.wait()


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """SIGINT ends the wait, and SIGTERM stays what it was.

    No handler of Python runs while TensorFlow waits, and TensorFlow puts one of
    its own in the place of SIGTERM's.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        signum: signal.getsignal(signum)
        for signum in (signal.SIGINT, signal.SIGTERM)
    }
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        for signum, handler in before.items():
            if handler is not None:  # one that is not of Python
                signal.signal(signum, handler)


def _refuse_used_port(address: str) -> None:
    """What gRPC says of it is long, and does not name the cause."""
    _, _, port = address.rpartition(":")
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("", int(port)))
            probe.listen()
    except (ValueError, OverflowError) as error:
        raise ValueError(
            "Expected the addresses of TF_CONFIG to be host:port. "
            f"Received: {address!r}"
        ) from error
    except OSError as error:
        raise OSError(
            "Expected a port that is free for this process, as TF_CONFIG has "
            f"it. Received: {address} ({error.strerror})"
        ) from error
