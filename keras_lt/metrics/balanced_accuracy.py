"""Mean over classes of the accuracy on each."""

import keras

from keras_lt.metrics.base import ClassTallies


@keras.saving.register_keras_serializable(package="keras_lt")
class BalancedAccuracy(ClassTallies):
    """Mean over classes of the accuracy on each class's images.

    `(1 / P) sum_c correct_c / total_c` over the P classes that occur in
    the labels (macro recall; Brodersen et al., ICPR 2010). On a test set with
    equally many images per class it equals top-1. NaN before any image.

    Args:
        num_classes: C.
        name: Name of the metric.
        dtype: Dtype of state and result.

    Raises:
        ValueError: If `num_classes` is not a positive integer, or scores are
            not of shape (batch, C).

    Example:
        >>> metric = keras_lt.metrics.BalancedAccuracy(num_classes=2)
        >>> logits = [[2.0, 0.0], [0.0, 2.0], [2.0, 0.0], [2.0, 0.0]]
        >>> round(float(metric([0, 0, 0, 1], logits)), 3)
        0.333
    """

    def __init__(
        self,
        num_classes: int,
        name: str = "balanced_accuracy",
        dtype: str | None = None,
    ):
        super().__init__(num_classes, name=name, dtype=dtype)

    def result(self):
        return self._macro()

    def get_config(self):
        return {**super().get_config(), "num_classes": self.num_classes}
