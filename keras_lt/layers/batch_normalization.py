"""Batch normalization by TensorFlow's fused kernel."""

from typing import Any

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="keras_lt")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Batch normalization by TensorFlow's fused kernel.

    Computes what `keras.layers.BatchNormalization` computes (Ioffe and
    Szegedy, 2015),

        y = gamma * (x - mean) / sqrt(variance + epsilon) + beta,

    takes the same arguments and has the same weights (`set_weights`; weight
    files of functional models name layers by their class). Keras runs it as
    `tf.nn.moments` and separate arithmetic; this layer calls
    `fused_batch_norm`, which makes the whole training step of a CIFAR ResNet
    faster (`tools/benchmark.py train` measures by how much). Inputs in bfloat16
    or float16 stay so, with statistics and parameters in float32.

    The fused kernel serves inputs of rank 4 with the channels last. Anything
    else (other ranks and axes, masks, `synchronized=True`, `renorm=True`,
    float64) is left to the parent class.

    Under `tf.distribute` each replica normalizes by the statistics of its part
    of the batch, unless `synchronized=True`, and the moving statistics are
    averages over the replicas. With Keras' own layer each replica keeps moving
    statistics of its own, so that results depend on which replica computes
    them.

    Example:
        >>> layer = keras_lt.layers.FusedBatchNormalization(momentum=0.9)
        >>> layer(np.ones((8, 4, 4, 3), "float32"), training=True).shape
        TensorShape([8, 4, 4, 3])
    """

    def _fusible(self, inputs: Any, mask: Any) -> bool:
        return (
            mask is None
            and len(inputs.shape) == 4
            and self.axis in (-1, 3)
            and not self.synchronized
            # Keras 3.12, the last for Python 3.10, has no renorm.
            and not getattr(self, "renorm", False)
            and inputs.dtype in ("float32", "bfloat16", "float16")
        )

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None):
        if not self._fusible(inputs, mask):
            return super().call(inputs, training=training, mask=mask)
        channels = inputs.shape[-1]
        gamma = _float32(self.gamma) if self.scale else tf.ones((channels,))
        beta = _float32(self.beta) if self.center else tf.zeros((channels,))
        batch_statistics = bool(training and self.trainable)
        outputs, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs,
            gamma,
            beta,
            mean=None if batch_statistics else _float32(self.moving_mean),
            variance=(
                None if batch_statistics else _float32(self.moving_variance)
            ),
            epsilon=self.epsilon,
            is_training=batch_statistics,
        )
        if batch_statistics:
            # The kernel returns the unbiased variance; Keras keeps the biased.
            count = tf.cast(tf.size(inputs) // channels, variance.dtype)
            variance *= (count - 1) / count
            replicas = tf.distribute.get_replica_context()
            if replicas is not None and replicas.num_replicas_in_sync > 1:
                mean, variance = replicas.all_reduce(
                    tf.distribute.ReduceOp.MEAN, [mean, variance]
                )
            self._update(self.moving_mean, mean)
            self._update(self.moving_variance, variance)
        return outputs

    def _update(self, variable: Any, value: tf.Tensor) -> None:
        momentum = self.momentum
        variable.assign(
            _float32(variable) * momentum + value * (1.0 - momentum)
        )


def _float32(variable: Any) -> tf.Tensor:
    """The kernel takes no other dtype for parameters and statistics."""
    return keras.ops.cast(variable, "float32")
