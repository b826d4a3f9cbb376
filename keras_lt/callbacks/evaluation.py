"""`Evaluation`: scores of whole data sets in the logs of each epoch."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import keras

from keras_lt.callbacks.averaging import AveragedWeights
from keras_lt.counts import Classes
from keras_lt.metrics import (
    evaluate,
    headline_scores,
    predict,
    prediction_step,
)


class Evaluation(keras.callbacks.Callback):
    """Scores data sets at the end of each epoch, and writes scores into `logs`.

    Each headline score of `keras_lt.metrics.SCORES` that a data set NAME has is
    logged as "NAME_balanced" and so on. `fit` keeps it in its history, and
    callbacks that come later in their list read it: `Checkpointing(monitor=
    "val_balanced")` the best epoch, `LongTailTensorBoard(evaluation=...)` the
    curves. (A Keras callback that monitors one needs `mode`: Keras knows the
    direction of compiled metrics alone.)

    Args:
        datasets: {name: finite `tf.data.Dataset` of (images, int labels), each
            image once}, such as a hold-out, or a function that
            `keras_lt.metrics.predict` takes.
        classes: `keras_lt.counts.Classes`, or training images per class (C,).
        averages: What averages the model's weights in this training; then the
            averages are scored.

    Attributes:
        classes: A `keras_lt.counts.Classes`.
        results: {name: what `keras_lt.metrics.evaluate` gave last}.
        epoch: The epoch, from 0, that they are of; None before the first one.

    Raises:
        TypeError: As `keras_lt.counts.Classes`.
        ValueError: As `keras_lt.counts.Classes`.

    Example:
        >>> evaluation = keras_lt.callbacks.Evaluation(
        ...     {"val": keras_lt.streams.evaluation(held_out, 100)},
        ...     class_counts,
        ... )
        >>> history = model.fit(
        ...     batches,
        ...     steps_per_epoch=2,
        ...     shuffle=False,
        ...     callbacks=[evaluation],
        ... )
        >>> "val_balanced" in history.history
        True
    """

    def __init__(
        self,
        datasets: Mapping[str, Iterable | Callable],
        classes: Classes | Sequence[int],
        averages: AveragedWeights | None = None,
    ):
        super().__init__()
        self.datasets = dict(datasets)
        self.classes = Classes.of(classes)
        self.averages = averages
        self.results: dict[str, dict[str, Any]] = {}
        self.epoch: int | None = None
        self._step = None

    def set_model(self, model: keras.Model) -> None:
        if self.model is not model:
            self._step = prediction_step(model)  # traced once for all epochs
        super().set_model(model)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.epoch = epoch
        for name, dataset in self.datasets.items():
            with self.averages.applied() if self.averages else nullcontext():
                logits, labels = predict(self.model, dataset, self._step)
            result = evaluate(logits, labels, self.classes)
            self.results[name] = result
            for score in headline_scores():
                if logs is not None and result[score.name] is not None:
                    logs[f"{name}_{score.name}"] = result[score.name]
