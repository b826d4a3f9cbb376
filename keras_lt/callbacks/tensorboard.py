"""`LongTailTensorBoard`: scalars, class-wise pictures, flags and HParams."""

import os
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from keras_lt import distribute, plots
from keras_lt.arguments import integer
from keras_lt.callbacks.evaluation import Evaluation
from keras_lt.counts import Classes
from keras_lt.metrics import SCORES, headline_scores


class LongTailTensorBoard(keras.callbacks.Callback):
    """Writes a long-tailed run's figures and pictures for TensorBoard.

    After each epoch: every number in `logs` as `train/...` or `val/...`, with
    the learning rate and the part of the loss that weights add; and for each
    data set of `evaluation` its scores, per-class accuracy as a histogram and
    as bars ordered by class count, and the confusion matrix. Nothing is scored
    here: `evaluation` comes before this callback in the list that `fit` gets.
    Once: the class distribution, `flags` as a table, and `hparams`, so that
    the HParams tab compares runs by any of the scalars. A step is the number
    of epochs that are over, so a second `fit` with `initial_epoch`, or a
    resumed run in the same folder, goes on where the first one ended.

    Args:
        log_dir: Folder for the event file.
        classes: `keras_lt.counts.Classes`, or training images per class (C,).
        evaluation: The callback that scores data sets in this training, or
            None. The name of a data set is the first part of its tags.
        flags: {name: value} to show as text.
        hparams: {name: value} for the HParams tab. None is written as "none"
            and a list as text.
        picture_freq: Epochs between sets of pictures; `fit` ends with one.

    Raises:
        TypeError: As `keras_lt.counts.Classes`.
        ValueError: As `keras_lt.counts.Classes`, or if `picture_freq` is not
            positive.

    Example:
        >>> classes = keras_lt.counts.Classes(class_counts, class_names)
        >>> evaluation = keras_lt.callbacks.Evaluation(
        ...     {"val": keras_lt.streams.evaluation(held_out, 100)}, classes
        ... )
        >>> callback = keras_lt.callbacks.LongTailTensorBoard(
        ...     "logs", classes, evaluation=evaluation
        ... )
        >>> history = model.fit(
        ...     batches,
        ...     steps_per_epoch=2,
        ...     shuffle=False,
        ...     callbacks=[evaluation, callback],
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
        classes: Classes | Sequence[int],
        *,
        evaluation: Evaluation | None = None,
        flags: dict | None = None,
        hparams: dict | None = None,
        picture_freq: int = 10,
    ):
        super().__init__()
        self.log_dir = log_dir
        self.classes = Classes.of(classes)
        self.evaluation = evaluation
        self.flags = flags
        self.hparams = hparams
        self.picture_freq = integer("picture_freq", picture_freq, 1)
        self._writer = None
        self._epochs = 0
        self._undrawn = {}

    def on_train_begin(self, logs=None):
        self._open()

    def on_epoch_end(self, epoch, logs=None):
        self._epochs = epoch + 1
        results = self._results(epoch)
        scores = {
            f"{name}_{score.name}"
            for name in results
            for score in headline_scores()
        }  # written below, under the names of their data sets
        figures = {
            key: value
            for key, value in (logs or {}).items()
            if np.ndim(value) == 0 and key not in scores
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
            for name, result in results.items():
                self._write(name, result)
                self._undrawn[name] = result
                if self._epochs % self.picture_freq == 0:
                    self._draw(name, self._undrawn.pop(name))
        self._writer.flush()

    def _results(self, epoch: int) -> dict[str, dict]:
        if self.evaluation is None:
            return {}
        if self.evaluation.epoch != epoch:
            raise ValueError(
                "Expected the Evaluation before LongTailTensorBoard in the "
                "list of callbacks. Received: it after it, or not at all"
            )
        return self.evaluation.results

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
            result: What `keras_lt.metrics.evaluate` gave, or
                `keras_lt.evaluation.recorded`: then a table of all scores with
                their intervals is written too.
            name: First part of the tags.
            step: Epochs that are over; by default those that this callback
                has seen.
        """
        step = self._epochs if step is None else step
        with self._open().as_default(step=step):
            self._write(name, result)
            self._draw(name, result)
            if result.get("intervals"):
                tf.summary.text(f"{name}/scores", _with_intervals(result))
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
            plots.class_distribution(self.classes),
        )
        if self.flags:
            tf.summary.text("flags", _markdown(self.flags))
        if self.hparams:
            from tensorboard.plugins.hparams import api as hp

            hp.hparams(
                {key: _hparam(value) for key, value in self.hparams.items()}
            )

    def _write(self, name, result):
        for key, value in _scalars(result).items():
            tf.summary.scalar(f"{name}/{key}", value)
        known = [value for value in result["per_class"] if value is not None]
        tf.summary.histogram(f"{name}/per_class_accuracy", known)

    def _draw(self, name, result):
        _image(
            f"{name}/accuracy_by_class_count",
            plots.per_class_accuracy(result["per_class"], self.classes),
        )
        if result["confusion"] is not None:
            _image(
                f"{name}/confusion",
                plots.confusion_matrix(result["confusion"], self.classes),
            )


def _scalars(result) -> dict[str, float]:
    values = {s.name: result.get(s.name) for s in headline_scores()}
    return {key: value for key, value in values.items() if value is not None}


def _with_intervals(result) -> str:
    rows = [
        f"| {score.label} | {score.shown(result[score.name])} "
        f"| {score.between(result['intervals'][score.name])} |"
        for score in SCORES.values()
        if score.name in result["intervals"]
    ]
    header = ["| score | value | 95 % interval |", "| --- | --- | --- |"]
    return "\n".join([*header, *rows])


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
