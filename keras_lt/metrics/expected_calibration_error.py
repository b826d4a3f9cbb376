"""The gap between confidence and accuracy."""

import keras
import numpy as np
from keras import ops

from keras_lt.arguments import integer
from keras_lt.labels import class_ids
from keras_lt.metrics.base import (
    check_rank,
    divide_or_nan,
    example_weights,
    predicted_ids,
)

_CHUNK = 4096


@keras.saving.register_keras_serializable(package="keras_lt")
class ExpectedCalibrationError(keras.metrics.Metric):
    """Expected calibration error of the predicted class's probability.

    `sum_m |B_m| / n * |acc(B_m) - conf(B_m)|` over `num_bins` equally wide
    bins ((m-1)/M, m/M] of confidence (Guo et al., ICML 2017, eq. 3). NaN
    before any image.

    Args:
        num_bins: M.
        from_logits: Whether scores are logits (softmax is applied) or
            probabilities.
        name: Name of the metric.
        dtype: Dtype of state and result.

    Raises:
        ValueError: If `num_bins` is not a positive integer, or scores are
            not of rank 2.

    Example:
        >>> metric = keras_lt.metrics.ExpectedCalibrationError(
        ...     num_bins=2, from_logits=False
        ... )
        >>> float(metric([0, 1], [[0.75, 0.25], [0.75, 0.25]]))
        0.25
    """

    _direction = "down"

    def __init__(
        self,
        num_bins: int = 15,
        from_logits: bool = True,
        name: str = "expected_calibration_error",
        dtype: str | None = None,
    ):
        num_bins = integer("num_bins", num_bins, 1)
        super().__init__(name=name, dtype=dtype)
        self.num_bins = num_bins
        self.from_logits = from_logits
        self.excess = self.add_weight(
            shape=(num_bins,),
            initializer="zeros",
            dtype=self.dtype,
            name="excess",
        )
        self.total = self.add_weight(
            shape=(), initializer="zeros", dtype=self.dtype, name="total"
        )

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_pred = ops.cast(check_rank(y_pred), self.dtype)
        if self.from_logits:
            y_pred = ops.softmax(y_pred, axis=-1)
        labels = class_ids(y_true, y_pred.shape[-1])
        weights = example_weights(sample_weight, labels, self.dtype)
        confidence = ops.max(y_pred, axis=-1)
        hits = predicted_ids(y_pred) == labels
        bins = ops.cast(ops.ceil(confidence * self.num_bins), "int32") - 1
        self.excess.assign_add(
            ops.segment_sum(
                (ops.cast(hits, self.dtype) - confidence) * weights,
                ops.clip(bins, 0, self.num_bins - 1),
                num_segments=self.num_bins,
            )
        )
        self.total.assign_add(ops.sum(weights))

    def result(self):
        return divide_or_nan(
            ops.sum(ops.abs(self.excess)),
            ops.convert_to_tensor(self.total),
        )

    def get_config(self):
        return {
            **super().get_config(),
            "num_bins": self.num_bins,
            "from_logits": self.from_logits,
        }


def calibration_error(logits: np.ndarray, labels: np.ndarray) -> float:
    """The error of logits (N, C), in chunks that fit into memory."""
    metric = ExpectedCalibrationError(dtype="float64")
    for start in range(0, len(logits), _CHUNK):
        part = slice(start, start + _CHUNK)
        metric.update_state(labels[part], logits[part])
    return float(metric.result())
