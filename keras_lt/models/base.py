"""The train_step plumbing that the models here share."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from keras_lt import trainable


class TrainingModel(keras.Model):
    """A `keras.Model` whose training batches are structures of its own.

    A subclass writes `train_step` with the parts below, and says by
    `main_batch` which part of a training batch is what `evaluate` takes.
    """

    def main_batch(self, data: Any) -> Any:
        """Returns the (inputs, targets) of `call` in a training batch."""
        raise NotImplementedError

    def _symbolic_build(self, iterator=None, data_batch=None):
        # Keras 3.15 builds metrics and losses under a tf.distribute strategy
        # by calling the model on a whole training batch. It can go when Keras
        # takes them from `train_step`.
        if isinstance(data_batch, dict):
            data_batch = self.main_batch(data_batch)
        super()._symbolic_build(iterator, data_batch)

    def make_train_function(self, force: bool = False) -> Any:
        if self.optimizer is not None:
            trainable.build_optimizer(self)
        return super().make_train_function(force)

    def minimize(self, loss: Any, tape: tf.GradientTape) -> None:
        """One optimizer step, the loss scaled as the optimizer wants it."""
        weights = self.trainable_weights
        # The gradient of a scaled loss, without asking each model for one.
        scale = self.optimizer.scale_loss(tf.ones_like(loss))
        gradients = tape.gradient(loss, weights, output_gradients=scale)
        self.optimizer.apply_gradients(zip(gradients, weights, strict=True))


def without_traits_of_parts(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration that a model of models has from its parent.

    Its parts say themselves what is trainable, and in which dtype. Keras would
    set `trainable` of all parts to that of the whole.
    """
    return {
        name: value
        for name, value in config.items()
        if name not in ("trainable", "dtype")
    }


def refuse_fit(how: str) -> Callable:
    """A `train_step` for a model that `fit` can't train.

    Args:
        how: The call that trains it.
    """

    def train_step(self, data: Any) -> dict[str, Any]:
        raise ValueError(
            f"Expected {how} to train a {type(self).__name__}. Received: fit"
        )

    return train_step
