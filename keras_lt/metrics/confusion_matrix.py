"""Images by true and by predicted class."""

import keras
from keras import ops

from keras_lt.arguments import integer
from keras_lt.labels import class_ids
from keras_lt.metrics.base import (
    check_scores,
    example_weights,
    predicted_ids,
)


@keras.saving.register_keras_serializable(package="keras_lt")
class ConfusionMatrix(keras.metrics.Metric):
    """Number of images by true class (row) and predicted class (column).

    It counts images: an image of `sample_weight` 0 is left out, any other
    counts once. Before Keras 3.13 it needs `verbose=0`, as `PerClassAccuracy`
    does.

    Args:
        num_classes: C. The state holds C x C integers.
        name: Name of the metric.
        dtype: Ignored by the result, which is int32.

    Raises:
        ValueError: As in `BalancedAccuracy`.

    Example:
        >>> metric = keras_lt.metrics.ConfusionMatrix(num_classes=2)
        >>> metric([0, 0, 1], [[2.0, 0], [0, 2.0], [0, 2.0]]).numpy()
        array([[1, 1],
               [0, 1]], dtype=int32)
    """

    def __init__(
        self,
        num_classes: int,
        name: str = "confusion_matrix",
        dtype: str | None = None,
    ):
        num_classes = integer("num_classes", num_classes, 1)
        super().__init__(name=name, dtype=dtype)
        self.num_classes = num_classes
        self.counts = self.add_weight(
            shape=(num_classes, num_classes),
            initializer="zeros",
            dtype="int32",
            name="counts",
        )

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_pred = check_scores(y_pred, self.num_classes)
        labels = class_ids(y_true, self.num_classes)
        kept = example_weights(sample_weight, labels, "float32") != 0
        labels = ops.maximum(labels, 0)
        cells = ops.segment_sum(
            ops.cast(kept, "int32"),
            labels * self.num_classes + predicted_ids(y_pred),
            num_segments=self.num_classes**2,
        )
        self.counts.assign_add(
            ops.reshape(cells, (self.num_classes, self.num_classes))
        )

    def result(self):
        return ops.convert_to_tensor(self.counts)

    def get_config(self):
        return {**super().get_config(), "num_classes": self.num_classes}
