"""`AveragedWeights`: an exponential moving average of a training's weights."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_lt import distribute
from keras_lt.arguments import real
from keras_lt.callbacks.checkpointing import Checkpointing


class AveragedWeights(keras.callbacks.Callback):
    """Averages weights over the steps, and scores a model with the averages.

    After step t (from 1) the average a of each weight w, the statistics of
    batch normalization included, becomes

        a = d a + (1 - d) w,    d = min(momentum, (1 + t) / (10 + t)),

    as `tf.train.ExponentialMovingAverage(num_updates=t)` has it; t is
    `optimizer.iterations`, so a training that goes on averages as one that was
    not cut. Training itself is not changed by a bit. The validation of `fit`
    scores the averages, and so does `Evaluation(averages=...)`; at all
    other times the model holds the weights that are trained, until `apply()`
    gives it the averages after the training, for tests, saving and export.

    (The averages of Keras' optimizers, `use_ema`, leave batch statistics out,
    are swapped by additions, which round the trained weights, and overwrite
    these at the end of each `fit`, also where a training takes several.)

    Args:
        model: A compiled model, before its first `fit`. Its `train_step` is
            replaced. After `keras_lt.optimizers.sharpness_aware` and
            `SkipNonFinite`, where these are used.
        momentum: From 0 to 1 (excluded): 0.999 averages over about a thousand
            steps.
        checkpointing: The one of the training, which then keeps the averages,
            and whose `load_best` gives those of the best epoch; to be given
            before it restores the model.

    Raises:
        TypeError: If `momentum` is no number.
        ValueError: If it is out of its range or the model is not compiled.

    Example:
        >>> averages = keras_lt.callbacks.AveragedWeights(model, 0.99)
        >>> history = model.fit(
        ...     batches, steps_per_epoch=2, shuffle=False, callbacks=[averages]
        ... )
        >>> averages.apply()
        >>> keras_lt.export.save(model, "averaged", images[:8])
    """

    def __init__(
        self,
        model: keras.Model,
        momentum: float = 0.999,
        checkpointing: Checkpointing | None = None,
    ):
        super().__init__()
        self.momentum = real("momentum", momentum)
        if not 0 <= self.momentum < 1:
            raise ValueError(
                "Expected momentum from 0 to 1 (excluded). "
                f"Received: momentum={momentum}"
            )
        if not model.compiled:
            raise ValueError(
                f"Expected a compiled model. Received: model={model.name}, "
                "which is not"
            )
        self._weights = model.weights
        self._trained: list[np.ndarray] | None = None  # while averages are in
        with model.distribute_strategy.scope():
            self._averages = [_average_of(weight) for weight in self._weights]
        if checkpointing is not None:
            checkpointing.averages = self._averages
        self._step_of(model)

    def apply(self) -> None:
        """Gives the model the averages, after its training."""
        for weight, average in zip(self._weights, self._averages, strict=True):
            weight.assign(keras.ops.convert_to_numpy(average))

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """The model holds the averages in the block, and then what it held.

        Example:
            >>> averages = keras_lt.callbacks.AveragedWeights(model)
            >>> with averages.applied():
            ...     logits, labels = keras_lt.metrics.predict(
            ...         model, keras_lt.streams.evaluation(test, 100)
            ...     )
        """
        self._swap_in()
        try:
            yield
        finally:
            self._swap_out()

    def on_train_begin(self, logs: Any = None) -> None:
        self._swap_out()  # of a validation that ended by an error

    def on_test_begin(self, logs: Any = None) -> None:
        self._swap_in()

    def on_test_end(self, logs: Any = None) -> None:
        self._swap_out()

    def _swap_in(self) -> None:
        if self._trained is None:
            self._trained = [
                keras.ops.convert_to_numpy(weight) for weight in self._weights
            ]
            self.apply()

    def _swap_out(self) -> None:
        if self._trained is not None:
            for weight, value in zip(self._weights, self._trained, strict=True):
                weight.assign(value)
            self._trained = None

    def _step_of(self, model: keras.Model) -> None:
        step = model.train_step

        def train_step(data: Any) -> dict[str, Any]:
            logs = step(data)
            count = tf.cast(model.optimizer.iterations, "float32")
            decay = tf.minimum(self.momentum, (1.0 + count) / (10.0 + count))
            distribute.assign_on_each_replica(
                self._averages,
                [
                    average
                    + tf.cast(1.0 - decay, average.dtype)
                    * (tf.cast(weight, average.dtype) - average)
                    for weight, average in zip(
                        distribute.values_of(self._weights),
                        distribute.values_of(self._averages),
                        strict=True,
                    )
                ],
            )
            return logs

        model.train_step = train_step
        model.train_function = None  # was made of the other one


def _average_of(weight: keras.Variable) -> keras.Variable:
    return keras.Variable(
        keras.ops.convert_to_numpy(weight),
        # In 16 bits 0.999 of a number is the number.
        dtype=keras.backend.result_type(weight.dtype, "float32"),
        trainable=False,
        aggregation=weight.aggregation,
        synchronization=weight.synchronization,
        name=f"{weight.name}_average",
    )
