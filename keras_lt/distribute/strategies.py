"""The strategy under which models are trained, and its data."""

import os
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_lt.distribute import workers

STRATEGIES = ("none", "mirrored", "multi_worker", "tpu", "auto")


def strategy(name: str = "auto", devices: int | None = None):
    """Makes the strategy under which models are trained.

    Models must be made and compiled in its `scope()`. Call it before
    TensorFlow computes anything. Batch sizes, losses and learning rates keep
    their meaning: a batch is the global one, cut into a slice per replica.

    Args:
        name: "none" (one device), "mirrored" (the GPUs of this machine),
            "multi_worker" (one process per machine, named by the environment
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
    _apply_patches()
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
    return workers.strategy_of_all(workers.cluster())


def _apply_patches() -> None:
    # Imported here: nothing of Keras and TensorFlow is replaced for those who
    # use one device.
    from keras_lt.distribute import patches

    patches.apply()


def _suited() -> str:
    """The strategy that "auto" stands for."""
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", 1))
    is_slurm = tasks > 1 and "SLURM_PROCID" in os.environ
    if is_slurm or len(workers.addresses()) > 1:
        return "multi_worker"
    if len(tf.config.list_physical_devices("GPU")) > 1:
        return "mirrored"
    return "tpu" if "TPU_NAME" in os.environ else "none"


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
        processes = context.num_input_pipelines
        batches = make(shard=(context.input_pipeline_id, processes))
        size = keras.tree.flatten(batches.element_spec)[0].shape[0]
        replicas = context.num_replicas_in_sync // processes
        if size % replicas:
            raise ValueError(
                "Expected a batch size that the "
                f"{context.num_replicas_in_sync} replicas divide. "
                f"Received: {size * processes}"
            )
        return batches.rebatch(size // replicas, drop_remainder=True)

    _apply_patches()  # the strategy may be the user's own
    return strategy.distribute_datasets_from_function(of_worker)
