"""Accuracy over images, of labels in any form."""

import keras
from keras import ops

from keras_lt.labels import class_ids
from keras_lt.metrics.base import (
    check_rank,
    divide_or_nan,
    example_weights,
    predicted_ids,
)


@keras.saving.register_keras_serializable(package="keras_lt")
class Top1Accuracy(keras.metrics.Metric):
    """Share of the images whose class has the highest score.

    It takes label ids and rows of shares in turn; of a row, as mixing makes
    it, the class of the largest share counts. Keras' `metrics=["accuracy"]`
    settles for the form that it sees first: trained on mixed labels it scores
    label ids of a hold-out 0. NaN before any image.

    Args:
        name: Name of the metric.
        dtype: Dtype of state and result.

    Raises:
        ValueError: If scores are not of rank 2, or labels are neither ids nor
            rows of as many.

    Example:

    >>> metric = keras_lt.metrics.Top1Accuracy()
    >>> scores = [[2.0, 0.0], [2.0, 0.0]]
    >>> float(metric([0, 1], scores)), float(metric([[0.7, 0.3]], scores[:1]))
    (0.5, 0.6666666865348816)
    """

    _direction = "up"

    def __init__(self, name: str = "top1_accuracy", dtype: str | None = None):
        super().__init__(name=name, dtype=dtype)
        self.correct, self.total = (
            self.add_weight(
                shape=(), initializer="zeros", dtype=self.dtype, name=part
            )
            for part in ("correct", "total")
        )

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_pred = check_rank(y_pred)
        labels = class_ids(y_true, y_pred.shape[-1])
        weights = example_weights(sample_weight, labels, self.dtype)
        hits = ops.cast(predicted_ids(y_pred) == labels, self.dtype)
        self.correct.assign_add(ops.sum(hits * weights))
        self.total.assign_add(ops.sum(weights))

    def result(self):
        return divide_or_nan(
            ops.convert_to_tensor(self.correct),
            ops.convert_to_tensor(self.total),
        )
