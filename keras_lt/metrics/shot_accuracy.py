"""Accuracy on the many-, medium-, few-shot or unseen classes."""

from collections.abc import Sequence

import keras
from keras import ops

from keras_lt.arguments import real
from keras_lt.counts import shot_groups, validate_class_counts
from keras_lt.metrics.base import ClassTallies, divide_or_nan
from keras_lt.metrics.scores import GROUPS


@keras.saving.register_keras_serializable(package="keras_lt")
class ShotAccuracy(ClassTallies):
    """Accuracy on the many-, medium-, few-shot or unseen classes.

    Groups are those of `keras_lt.counts.shot_groups`: more than `many`
    training images, `few` to `many`, 1 to fewer than `few`, and none (Liu et
    al., CVPR 2019; their code and DLSA's count the unseen as few-shot). With
    `average="macro"` the value is the mean over the group's classes of the
    accuracy on each class's images, classes without an image left out; with
    `"pooled"` it is the accuracy over the group's images, as in the BNS code.
    A group that is empty, or has no image, is NaN.

    Args:
        class_counts: Training images per class, integers (C,).
        group: `"many"`, `"medium"`, `"few"` or `"unseen"`.
        many: A class with more training images is many-shot.
        few: A class with fewer training images is few-shot.
        average: `"macro"` or `"pooled"`.
        name: Name of the metric, `few_shot_accuracy` or the like by default.
        dtype: Dtype of state and result.

    Raises:
        ValueError: If an argument is none of the above, or scores are not of
            shape (batch, C).

    Example:
        >>> metric = keras_lt.metrics.ShotAccuracy([500, 50, 5], group="few")
        >>> float(metric([2, 2, 0], [[0, 0, 9.0], [9.0, 0, 0], [9.0, 0, 0]]))
        0.5
    """

    def __init__(
        self,
        class_counts: Sequence[int],
        group: str,
        many: int = 100,
        few: int = 20,
        average: str = "macro",
        name: str | None = None,
        dtype: str | None = None,
    ):
        if group not in GROUPS:
            raise ValueError(
                f"Expected `group` to be one of {GROUPS}. "
                f"Received: group={group!r}"
            )
        if average not in ("macro", "pooled"):
            raise ValueError(
                "Expected `average` to be 'macro' or 'pooled'. "
                f"Received: average={average!r}"
            )
        class_counts = validate_class_counts(class_counts)
        mask = shot_groups(class_counts, many=many, few=few)[group]
        super().__init__(
            len(mask), name=name or f"{group}_shot_accuracy", dtype=dtype
        )
        self.class_counts = class_counts.tolist()
        self.group = group
        self.many = real("many", many)
        self.few = real("few", few)
        self.average = average
        self._mask = mask

    def result(self):
        if self.average == "macro":
            return self._macro(self._mask)
        mask = ops.cast(self._mask, self.dtype)
        return divide_or_nan(
            ops.sum(mask * self.correct), ops.sum(mask * self.total)
        )

    def get_config(self):
        return {
            **super().get_config(),
            "class_counts": self.class_counts,
            "group": self.group,
            "many": self.many,
            "few": self.few,
            "average": self.average,
        }
