"""Several devices, several machines: TensorFlow's strategies for Keras 3."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.backend.tensorflow import trainer
from tensorflow.python.data.ops import multi_device_iterator_ops

from keras_lt import waiting

_SECONDS_TO_WAIT = 60.0  # from one word about missing workers to the next
STRATEGIES = ("none", "mirrored", "multi_worker", "tpu", "auto")


def strategy(name: str = "auto", devices: int | None = None):
    """Makes the strategy under which models are trained.

    Models must be made and compiled in its `scope()`. Call it before
    TensorFlow computes anything. Batch sizes, losses and learning rates keep
    their meaning: a batch is the global one, cut into a slice a replica.

    Args:
        name: "none" (one device), "mirrored" (the GPUs of this machine),
            "multi_worker" (a process a machine, named by the environment
            variable TF_CONFIG or by Slurm's), "tpu" (that of TPU_NAME, or of
            this machine), or "auto": "multi_worker" where TF_CONFIG or Slurm
            name two processes or more, "mirrored" where there are two GPUs
            or more, "tpu" where TPU_NAME names one, else "none".
        devices: How many devices of this machine take part; None is all GPUs,
            or the CPU. Without GPUs the CPU is divided into so many logical
            devices, to try things out.

    Returns:
        A `tf.distribute.Strategy`.

    Raises:
        ValueError: If the name is unknown, there are not so many devices, or
            the environment does not say which processes take part.

    Example:
        >>> strategy = keras_lt.distribute.strategy("auto")
        >>> with strategy.scope():
        ...     model = keras_lt.models.classifier(backbone, 10)
        ...     model.compile(
        ...         "sgd", keras_lt.losses.BalancedSoftmax(class_counts)
        ...     )
        >>> batches = keras_lt.distribute.dataset(
        ...     strategy,
        ...     functools.partial(
        ...         keras_lt.streams.stream,
        ...         train,
        ...         sampling="random",
        ...         batch_size=32,
        ...         seed=0,
        ...     ),
        ... )
        >>> history = model.fit(
        ...     batches, steps_per_epoch=2, epochs=3, shuffle=False
        ... )
    """
    if name not in STRATEGIES:
        raise ValueError(
            f"Expected a strategy: {', '.join(STRATEGIES)}. "
            f"Received: name={name!r}"
        )
    if name == "auto":
        name = _suited()
    if devices is not None and name not in ("mirrored", "multi_worker"):
        raise ValueError(
            "Expected a number of devices with mirrored or multi_worker only. "
            f"Received: devices={devices} with {name}"
        )
    if name == "none":
        return tf.distribute.get_strategy()
    _mend_keras()
    if name == "tpu":
        try:
            resolver = tf.distribute.cluster_resolver.TPUClusterResolver()
        except ValueError as error:
            raise ValueError(
                "Expected a TPU: that of the environment variable TPU_NAME, or "
                f"of this machine. Received: {error}"
            ) from error
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    chosen = _choose_devices(devices) if devices is not None else None
    if name == "mirrored":
        return tf.distribute.MirroredStrategy(chosen)
    return _of_all_workers(_cluster())


def _of_all_workers(
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
            *(json.dumps(others), str(_SECONDS_TO_WAIT)),
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


def _suited() -> str:
    """The strategy that "auto" stands for."""
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", 1))
    if len(_tf_config()) > 1 or (tasks > 1 and "SLURM_PROCID" in os.environ):
        return "multi_worker"
    if len(tf.config.list_physical_devices("GPU")) > 1:
        return "mirrored"
    return "tpu" if "TPU_NAME" in os.environ else "none"


def _tf_config() -> list[str]:
    """Addresses of the workers in TF_CONFIG, none without it."""
    text = os.environ.get("TF_CONFIG", "{}")
    try:
        cluster = json.loads(text).get("cluster", {})
        return [*cluster.get("chief", []), *cluster.get("worker", [])]
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(
            "Expected TF_CONFIG to be JSON with a cluster and a task. "
            f"Received: TF_CONFIG={text}"
        ) from error


def _cluster() -> tf.distribute.cluster_resolver.ClusterResolver:
    resolvers = tf.distribute.cluster_resolver
    if _tf_config():
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


def _choose_devices(count: int) -> list[str]:
    kind = "GPU" if tf.config.list_physical_devices("GPU") else "CPU"
    physical = tf.config.list_physical_devices(kind)
    if kind == "CPU":
        tf.config.set_logical_device_configuration(
            physical[0], [tf.config.LogicalDeviceConfiguration()] * count
        )
    elif count > len(physical):
        raise ValueError(
            f"Expected at most {len(physical)} devices, as many as there are "
            f"GPUs. Received: devices={count}"
        )
    else:
        tf.config.set_visible_devices(physical[:count], kind)
    return [f"{kind}:{i}" for i in range(count)]


def shard(strategy: tf.distribute.Strategy) -> tuple[int, int]:
    """(i, n): this process is the i-th of n that train together.

    Example:
        >>> keras_lt.distribute.shard(strategy)
        (0, 1)
    """
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        return 0, 1
    resolver = strategy.cluster_resolver
    cluster = resolver.cluster_spec().as_dict()
    chiefs = len(cluster.get("chief", []))
    index = resolver.task_id + (chiefs if resolver.task_type == "worker" else 0)
    return index, chiefs + len(cluster.get("worker", []))


def local_replicas(strategy: tf.distribute.Strategy) -> int:
    """Number of devices of this process that train.

    Example:
        >>> keras_lt.distribute.local_replicas(strategy)
        1
    """
    return strategy.num_replicas_in_sync // shard(strategy)[1]


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes files.

    Example:
        >>> keras_lt.distribute.is_chief(strategy)
        True
    """
    return shard(strategy)[0] == 0


def dataset(
    strategy: tf.distribute.Strategy,
    make: Callable[..., tf.data.Dataset],
) -> Any:
    """Gives each replica its slice of each global batch.

    Args:
        strategy: The strategy.
        make: A function with an argument `shard`, (i, n), that gives the i-th
            of n slices of each global batch, as `keras_lt.streams.stream`
            does; sizes are static.

    Returns:
        What `Model.fit` takes; on one device `make(shard=(0, 1))`.

    Raises:
        ValueError: If the replicas do not divide a batch.

    Example:
        >>> batches = keras_lt.distribute.dataset(
        ...     strategy,
        ...     functools.partial(keras_lt.streams.evaluation, test, 100),
        ... )
    """
    if strategy.num_replicas_in_sync == 1:
        return make(shard=(0, 1))

    def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
        workers = context.num_input_pipelines
        batches = make(shard=(context.input_pipeline_id, workers))
        size = keras.tree.flatten(batches.element_spec)[0].shape[0]
        replicas = context.num_replicas_in_sync // workers
        if size % replicas:
            raise ValueError(
                "Expected a batch size that the "
                f"{context.num_replicas_in_sync} replicas divide. "
                f"Received: {size * workers}"
            )
        return batches.rebatch(size // replicas, drop_remainder=True)

    _mend_tensorflow()
    return strategy.distribute_datasets_from_function(of_worker)


def gather(strategy: tf.distribute.Strategy, rows: np.ndarray) -> np.ndarray:
    """Rows of all processes, in their order; all must call it.

    Args:
        strategy: The strategy.
        rows: (N_i, ...), another number of rows a process.

    Returns:
        (sum of N_i, ...), the same in all processes.

    Example:
        >>> keras_lt.distribute.gather(strategy, np.array([1, 2]))
        array([1, 2])
    """
    if shard(strategy)[1] == 1:
        return rows

    replicas = local_replicas(strategy)

    def value(context: Any) -> tf.Tensor:
        is_first = context.replica_id_in_sync_group % replicas == 0
        return tf.constant(rows if is_first else rows[:0])

    values = strategy.experimental_distribute_values_from_function(value)
    return strategy.gather(values, axis=0).numpy()


def wait_for_all(strategy: tf.distribute.Strategy) -> None:
    """Returns when all processes have called it.

    Example:
        >>> keras_lt.distribute.wait_for_all(strategy)
    """
    gather(strategy, np.zeros(1))


def values_of(variables: list[keras.Variable]) -> list[tf.Tensor]:
    """This replica's values of variables, as they are now.

    Example:
        >>> float(keras_lt.distribute.values_of([keras.Variable(2.0)])[0])
        2.0
    """
    return [tf.convert_to_tensor(variable.value) for variable in variables]


def assign_on_each_replica(
    variables: list[keras.Variable], values: list[tf.Tensor]
) -> None:
    """Gives each replica's copy of a variable its own value.

    `Variable.assign` would aggregate over replicas, and round.

    Args:
        variables: Variables of any kind, in a replica's context.
        values: What this replica's copies become.

    Example:
        >>> variable = keras.Variable(2.0)
        >>> keras_lt.distribute.assign_on_each_replica([variable], [3.0])
        >>> float(variable)
        3.0
    """
    mirrored, new = [], []
    for variable, value in zip(variables, values, strict=True):
        if variable.synchronization == "on_read":
            variable.assign(value)
        else:
            mirrored.append(variable.value)
            new.append(value)

    def update(
        strategy: tf.distribute.Strategy,
        variables: list[tf.Variable],
        values: list[tf.Tensor],
    ) -> None:
        for variable, value in zip(variables, values, strict=True):
            strategy.extended.update(
                variable,
                lambda variable, value: variable.assign(value),
                args=(value,),
                group=False,
            )

    tf.__internal__.distribute.interim.maybe_merge_call(
        update, tf.distribute.get_strategy(), mirrored, new
    )


def _mend_keras() -> None:
    """Lets `fit` run under several replicas, and in several processes.

    What Keras 3.15 needs (keras issue 20585); it can go when the test that
    looks for the defects fails:

    - To build metrics it averages the batches of the replicas, which several
      processes can't. Shapes are all it wants: one batch has them.
    - It averages what the processes log over its first axis, which numbers do
      not have, and which is that of the classes where it logs one per class.
    """
    trainer.TensorFlowTrainer._maybe_symbolic_build = _maybe_symbolic_build
    trainer.reduce_per_replica = _reduce_per_replica


_keras_reduce_per_replica = trainer.reduce_per_replica


def _maybe_symbolic_build(self, iterator=None, data_batch=None) -> None:
    strategy = self._distribute_strategy
    if strategy is None:
        return
    if iterator is not None:
        for _, _, batches in iterator:
            data_batch = keras.tree.map_structure(
                lambda part: strategy.experimental_local_results(part)[0],
                next(batches),
            )
            break
    with strategy.scope():
        self._symbolic_build(data_batch=data_batch)


def _reduce_per_replica(values, strategy, reduction):
    if reduction == "auto" and shard(strategy)[1] > 1:
        return keras.tree.map_structure(
            lambda value: strategy.reduce("MEAN", value, axis=None), values
        )
    return _keras_reduce_per_replica(values, strategy, reduction)


def _mend_tensorflow() -> None:
    """Lets an iterator over several devices end without a wait.

    TensorFlow has tf.data autotune the queue in front of each device, whatever
    the options of the data set. There is nothing to tune, and the end of the
    iterator, such as that of `fit`, waits for a thread that sleeps for as long
    as the iterator was used, a minute at most.
    """
    multi_device_iterator_ops._create_device_dataset = _create_device_dataset


_tf_create_device_dataset = multi_device_iterator_ops._create_device_dataset


def _create_device_dataset(*arguments: Any) -> tf.data.Dataset:
    options = tf.data.Options()
    options.autotune.enabled = False
    return _tf_create_device_dataset(*arguments).with_options(options)
