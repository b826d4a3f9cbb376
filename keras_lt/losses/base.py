"""What the losses share: their dtype, and sums over replicas."""

import keras
import tensorflow as tf


def sum_over_replicas(value):
    """Sums a tensor of each replica over all of them."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return value
    return context.all_reduce(tf.distribute.ReduceOp.SUM, value)


def gather_over_replicas(value):
    """Rows of all replicas, and the index of this replica's first one.

    Example:
        >>> rows, start = keras_lt.losses.gather_over_replicas(tf.ones((4, 3)))
        >>> rows.shape, int(start)  # of one replica
        (TensorShape([4, 3]), 0)
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return value, 0
    rows = tf.shape(value)[0]
    first = tf.cast(context.replica_id_in_sync_group, rows.dtype) * rows
    return context.all_gather(value, axis=0), first


class Float32Loss(keras.losses.Loss):
    """Computes in float32 at least.

    `Loss.__call__` casts the labels too: in 16 bits ids above 256 fail.
    """

    @property
    def dtype(self):
        if self._dtype in ("float16", "bfloat16"):
            return "float32"
        return self._dtype

    def get_config(self):
        return {**super().get_config(), "dtype": self.dtype}
