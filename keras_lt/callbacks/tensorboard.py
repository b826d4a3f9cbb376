"""`LongTailTensorBoard`: scalars, class-wise pictures, flags and HParams."""

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext

import keras
import numpy as np
import tensorflow as tf

from keras_lt import distribute, plots
from keras_lt.callbacks.averaging import AveragedWeights
from keras_lt.counts import validate_class_counts
from keras_lt.metrics import (
    evaluate,
    headline_scores,
    predict,
    prediction_step,
)


class LongTailTensorBoard(keras.callbacks.Callback):
    """Writes a long-tailed run's figures and pictures for TensorBoard.

    After each epoch: every number in `logs` as `train/...` or `val/...`, with
    the learning rate and the part of the loss that weights add; and for each
    of `evaluations` what `keras_lt.metrics.evaluate` gives on it: scalars,
    per-class accuracy as a histogram and as bars ordered by class count, and
    the confusion matrix.
    The scalars enter `logs` too, as "NAME_balanced" and so on, where callbacks
    that follow can monitor them (with `mode`: Keras knows the direction of
    compiled metrics alone) and `fit` keeps them in its history.
    Once: the class distribution, `flags` as a table, and `hparams`, so that
    the HParams tab compares runs by any of the scalars. A step is the number
    of epochs that are over, so a second `fit` with `initial_epoch`, or a
    resumed run in the same folder, goes on where the first one ended.

    Args:
        log_dir: Folder for the event file.
        class_counts: Training images a class, integers (C,).
        evaluations: {name: finite `tf.data.Dataset` of (images, int labels),
            each image once}, such as a hold-out, or a function that
            `keras_lt.metrics.predict` takes; None writes no class-wise
            figures. A name is the first part of its tags.
        class_names: C names, label ids by default.
        many: A class with more training images is many-shot.
        few: A class with fewer training images is few-shot.
        flags: {name: value} to show as text.
        hparams: {name: value} for the HParams tab. None is written as "none"
            and a list as text.
        picture_every: Epochs from one set of pictures to the next; `fit`
            ends with one.
        averages: What averages the model's weights in this training; then
            `evaluations` are of the averages.

    Raises:
        ValueError: If `class_counts` are no counts, the number of names
            differs, or `picture_every` is not positive.

    Example:
        >>> callback = keras_lt.callbacks.LongTailTensorBoard(
        ...     "logs",
        ...     class_counts,
        ...     evaluations={"val": keras_lt.streams.evaluation(held_out, 100)},
        ... )
        >>> history = model.fit(
        ...     batches, steps_per_epoch=2, shuffle=False, callbacks=[callback]
        ... )
        >>> logits, labels = keras_lt.metrics.predict(
        ...     model, keras_lt.streams.evaluation(test, 100)
        ... )
        >>> callback.write_test(
        ...     keras_lt.metrics.evaluate(logits, labels, class_counts)
        ... )
    """

    def __init__(
        self,
        log_dir: str | os.PathLike,
        class_counts: Sequence[int],
        *,
        evaluations: Mapping[str, tf.data.Dataset | Callable] | None = None,
        class_names: Sequence[str] | None = None,
        many: int = 100,
        few: int = 20,
        flags: dict | None = None,
        hparams: dict | None = None,
        picture_every: int = 10,
        averages: AveragedWeights | None = None,
    ):
        super().__init__()
        if picture_every < 1:
            raise ValueError(
                "Expected `picture_every` of at least 1. "
                f"Received: picture_every={picture_every}"
            )
        num_classes = len(validate_class_counts(class_counts))
        if class_names is not None and len(class_names) != num_classes:
            raise ValueError(
                f"Expected {num_classes} class names. "
                f"Received: len(class_names)={len(class_names)}"
            )
        self.log_dir = log_dir
        self.class_counts = class_counts
        self.evaluations = evaluations
        self.class_names = class_names
        self.many = many
        self.few = few
        self.flags = flags
        self.hparams = hparams
        self.picture_every = picture_every
        self.averages = averages
        self._writer = None
        self._step = None
        self._epochs = 0
        self._undrawn = {}

    def set_model(self, model):
        if self.model is not model:
            self._step = prediction_step(model)
        super().set_model(model)

    def on_train_begin(self, logs=None):
        self._open()

    def on_epoch_end(self, epoch, logs=None):
        self._epochs = epoch + 1
        logs = {} if logs is None else logs
        figures = {
            key: value for key, value in logs.items() if np.ndim(value) == 0
        }
        figures.setdefault(
            "learning_rate",
            keras.ops.convert_to_numpy(self.model.optimizer.learning_rate),
        )
        if self.model.losses:
            figures["regularization"] = sum(map(float, self.model.losses))
        with self._open().as_default(step=self._epochs):
            for key, value in figures.items():
                name = key.removeprefix("val_")
                part = "train" if name == key else "val"
                tf.summary.scalar(f"{part}/{name}", float(value))
            for name, dataset in (self.evaluations or {}).items():
                for key, value in self._evaluate(name, dataset).items():
                    logs[f"{name}_{key}"] = value
        self._writer.flush()

    def on_train_end(self, logs=None):
        with self._writer.as_default(step=self._epochs):
            for name, result in self._undrawn.items():
                self._draw(name, result)
        self._undrawn = {}
        self._writer.flush()

    def write_test(
        self, result: dict, name: str = "test", step: int | None = None
    ) -> None:
        """Writes final figures.

        Args:
            result: What `keras_lt.metrics.evaluate` gave.
            name: First part of the tags.
            step: Epochs that are over; by default those that this callback
                has seen.
        """
        step = self._epochs if step is None else step
        with self._open().as_default(step=step):
            self._write(name, result)
            self._draw(name, result)
        self._writer.flush()

    def _open(self):
        if self._writer is None and not self._writes():
            self._writer = tf.summary.create_noop_writer()
        elif self._writer is None:
            self._writer = tf.summary.create_file_writer(
                os.fspath(self.log_dir)
            )
            with self._writer.as_default(step=0):
                self._write_once()
        return self._writer

    def _writes(self) -> bool:
        """One of the processes that train a model does."""
        return self.model is None or distribute.is_chief(
            self.model.distribute_strategy
        )

    def _write_once(self):
        _image(
            "data/class_distribution",
            plots.class_distribution(
                self.class_counts,
                class_names=self.class_names,
                many=self.many,
                few=self.few,
            ),
        )
        if self.flags:
            tf.summary.text("flags", _markdown(self.flags))
        if self.hparams:
            from tensorboard.plugins.hparams import api as hp

            hp.hparams(
                {key: _hparam(value) for key, value in self.hparams.items()}
            )

    def _evaluate(self, name, dataset) -> dict:
        """Writes what there is to say of a data set; returns its scalars."""
        with self.averages.applied() if self.averages else nullcontext():
            logits, labels = predict(self.model, dataset, self._step)
        result = evaluate(
            logits, labels, self.class_counts, many=self.many, few=self.few
        )
        self._write(name, result)
        self._undrawn[name] = result
        if self._epochs % self.picture_every == 0:
            self._draw(name, self._undrawn.pop(name))
        return _scalars(result)

    def _write(self, name, result):
        for key, value in _scalars(result).items():
            tf.summary.scalar(f"{name}/{key}", value)
        known = [value for value in result["per_class"] if value is not None]
        tf.summary.histogram(f"{name}/per_class_accuracy", known)

    def _draw(self, name, result):
        _image(
            f"{name}/accuracy_by_class_count",
            plots.per_class_accuracy(
                result["per_class"],
                self.class_counts,
                class_names=self.class_names,
                many=self.many,
                few=self.few,
            ),
        )
        if result["confusion"] is not None:
            _image(
                f"{name}/confusion",
                plots.confusion_matrix(
                    result["confusion"],
                    self.class_counts,
                    class_names=self.class_names,
                ),
            )


def _scalars(result) -> dict[str, float]:
    values = {s.name: result.get(s.name) for s in headline_scores()}
    return {key: value for key, value in values.items() if value is not None}


def _image(name, figure):
    png = tf.io.decode_png(plots.to_png(figure), channels=3)
    tf.summary.image(name, png[tf.newaxis])


def _markdown(flags: dict) -> str:
    rows = (
        f"| {name} | {str(value).replace('|', chr(92) + '|')} |"
        for name, value in sorted(flags.items())
    )
    return "\n".join(["| flag | value |", "| --- | --- |", *rows])


def _hparam(value) -> bool | int | float | str:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None:
        return "none"
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    return value if isinstance(value, (bool, int, float, str)) else str(value)
