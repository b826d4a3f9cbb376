"""Accuracy on each class, a vector."""

import keras
from keras import ops

from keras_lt.metrics.base import ClassTallies, divide_or_nan


@keras.saving.register_keras_serializable(package="keras_lt")
class PerClassAccuracy(ClassTallies):
    """Accuracy on each class's images, a vector (C,) by label id.

    A class with no image is NaN. The vector reaches `history` and callbacks
    as it is; Keras' progress bar prints its mean. Before Keras 3.13, which
    needs Python 3.11, the bar fails on it: `verbose=0` leaves it out.

    Args:
        num_classes: C.
        name: Name of the metric.
        dtype: Dtype of state and result.

    Raises:
        ValueError: As in `BalancedAccuracy`.

    Example:
        >>> metric = keras_lt.metrics.PerClassAccuracy(num_classes=3)
        >>> metric([0, 0, 1], [[2.0, 0, 0], [0, 2.0, 0], [0, 2.0, 0]]).numpy()
        array([0.5, 1. , nan], dtype=float32)
    """

    def __init__(
        self,
        num_classes: int,
        name: str = "per_class_accuracy",
        dtype: str | None = None,
    ):
        super().__init__(num_classes, name=name, dtype=dtype)

    def result(self):
        return divide_or_nan(
            ops.convert_to_tensor(self.correct),
            ops.convert_to_tensor(self.total),
        )

    def get_config(self):
        return {**super().get_config(), "num_classes": self.num_classes}
