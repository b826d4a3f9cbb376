"""Shared by all metrics: checks of scores, weights, tallies by class."""

import keras
from keras import ops

from keras_lt.arguments import integer
from keras_lt.labels import IGNORED, class_ids


def check_rank(y_pred):
    """Scores as a tensor of rank 2, of two classes at least."""
    y_pred = ops.convert_to_tensor(y_pred)
    if len(y_pred.shape) != 2 or y_pred.shape[-1] == 1:
        raise ValueError(
            "Expected `y_pred` of shape (batch, num_classes), 2 classes at "
            f"least. Received: y_pred.shape={tuple(y_pred.shape)}"
        )
    return y_pred


def check_scores(y_pred, num_classes: int):
    """Scores as a tensor (batch, num_classes)."""
    y_pred = ops.convert_to_tensor(y_pred)
    if len(y_pred.shape) != 2 or y_pred.shape[-1] != num_classes:
        raise ValueError(
            f"Expected `y_pred` of shape (batch, {num_classes}). "
            f"Received: y_pred.shape={tuple(y_pred.shape)}"
        )
    return y_pred


def example_weights(sample_weight, labels, dtype):
    """Weights (B,), 0 for ignored labels."""
    known = labels != IGNORED
    if sample_weight is None:
        return ops.cast(known, dtype)
    weights = ops.reshape(ops.cast(sample_weight, dtype), (-1,))
    return ops.where(known, weights, ops.zeros_like(weights))


def predicted_ids(y_pred):
    """Ids of the classes with the highest scores, (B,)."""
    return ops.cast(ops.argmax(y_pred, axis=-1), "int32")


def divide_or_nan(numerator, denominator):
    """The quotient, NaN where nothing was counted."""
    safe = ops.where(denominator > 0, denominator, 1)
    nan = ops.cast(float("nan"), numerator.dtype)
    return ops.where(denominator > 0, numerator / safe, nan)


class ClassTallies(keras.metrics.Metric):
    """Sums of hits and of images per class, 2 C numbers of state."""

    _direction = "up"

    def __init__(self, num_classes, name=None, dtype=None):
        num_classes = integer("num_classes", num_classes, 1)
        super().__init__(name=name, dtype=dtype)
        self.num_classes = num_classes
        self.correct, self.total = (
            self.add_weight(
                shape=(num_classes,),
                initializer="zeros",
                dtype=self.dtype,
                name=part,
            )
            for part in ("correct", "total")
        )

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_pred = check_scores(y_pred, self.num_classes)
        labels = class_ids(y_true, self.num_classes)
        weights = example_weights(sample_weight, labels, self.dtype)
        hits = ops.cast(predicted_ids(y_pred) == labels, self.dtype) * weights
        labels = ops.maximum(labels, 0)
        self.correct.assign_add(
            ops.segment_sum(hits, labels, num_segments=self.num_classes)
        )
        self.total.assign_add(
            ops.segment_sum(weights, labels, num_segments=self.num_classes)
        )

    def _macro(self, mask=None):
        """Mean accuracy over the classes of `mask` that have images."""
        present = ops.cast(self.total > 0, self.dtype)
        if mask is not None:
            present = present * ops.cast(mask, self.dtype)
        safe = ops.where(self.total > 0, self.total, 1)
        return divide_or_nan(
            ops.sum(present * self.correct / safe), ops.sum(present)
        )
