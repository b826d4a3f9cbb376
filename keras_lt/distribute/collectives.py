"""What replicas and processes know and tell of each other.

Under a `tf.distribute` strategy a training step runs once on each replica (a
device), and each process has one replica or more. All that is summed, gathered
or sliced over them is here.
"""

from typing import Any

import keras
import numpy as np
import tensorflow as tf


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


def gather(strategy: tf.distribute.Strategy, rows: np.ndarray) -> np.ndarray:
    """Rows of all processes, in their order; all must call it.

    Args:
        strategy: The strategy.
        rows: (N_i, ...), any number of rows per process.

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


def _replicas() -> tf.distribute.ReplicaContext | None:
    """The context of this replica, None where there are no others."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return None
    return context


def sum_over_replicas(value: Any) -> Any:
    """Sums each tensor of a structure over all replicas.

    Example:
        >>> keras_lt.distribute.sum_over_replicas(tf.constant(2)).numpy().item()
        2
    """
    context = _replicas()
    if context is None:
        return value
    return context.all_reduce(tf.distribute.ReduceOp.SUM, value)


def all_replicas(flag: tf.Tensor) -> tf.Tensor:
    """Whether a flag holds on all replicas.

    Example:
        >>> bool(keras_lt.distribute.all_replicas(tf.constant(True)))
        True
    """
    context = _replicas()
    if context is None:
        return flag
    count = sum_over_replicas(tf.cast(flag, tf.int32))
    return count == context.num_replicas_in_sync


def gather_over_replicas(value: tf.Tensor) -> tuple[tf.Tensor, Any]:
    """Rows of all replicas, and the index of this replica's first one.

    Example:
        >>> rows, start = keras_lt.distribute.gather_over_replicas(
        ...     tf.ones((4, 3))
        ... )
        >>> rows.shape, int(start)  # of one replica
        (TensorShape([4, 3]), 0)
    """
    context = _replicas()
    if context is None:
        return value, 0
    rows = tf.shape(value)[0]
    first = tf.cast(context.replica_id_in_sync_group, rows.dtype) * rows
    return context.all_gather(value, axis=0), first


def sample_positions(step: Any, local_size: int) -> tf.Tensor:
    """Positions, since step 0, of this replica's examples of a step.

    Replicas take slices of one global batch, so random numbers that are a
    function of these positions do not depend on the number of replicas.

    Returns:
        int64 (local_size,).

    Example:
        >>> keras_lt.distribute.sample_positions(2, 3).numpy()
        array([6, 7, 8])
    """
    context = tf.distribute.get_replica_context()
    local_size = tf.cast(local_size, tf.int64)
    slices = tf.cast(step, tf.int64) * context.num_replicas_in_sync
    slices += tf.cast(context.replica_id_in_sync_group, tf.int64)
    return slices * local_size + tf.range(local_size)


def unscaled(loss: Any) -> Any:
    """Undoes the division by the number of replicas in Keras' losses.

    Example:
        >>> keras_lt.distribute.unscaled(2.0)
        2.0
    """
    return loss * tf.distribute.get_strategy().num_replicas_in_sync
