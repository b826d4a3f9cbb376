"""Labels that are smoothed more for larger classes."""

import keras
import numpy as np
from keras import ops

from keras_lt.arguments import real
from keras_lt.losses.class_weighted import ClassWeightedLoss


@keras.saving.register_keras_serializable(package="keras_lt")
class LabelAwareSmoothing(ClassWeightedLoss):
    """Cross-entropy with labels that are smoothed more for larger classes.

    A label y becomes 1 - e_y at its class and e_y / (C - 1) elsewhere, with

        e_y = tail + (head - tail)
            * sin(pi / 2 * (n_y - min n) / (max n - min n))

    (Zhong et al., MiSLAS, CVPR 2021, https://arxiv.org/abs/2104.00466,
    equations 3 and 5, the concave form). The authors' code spreads e_y / C over
    all classes.

    Args:
        class_counts: `(C,)` training images per class; those without images
            are left out of the minimum and have e = tail.
        head: e of the largest class, in [0, 1).
        tail: e of the smallest class, in [0, 1).
        name: name of the loss.
        **kwargs: arguments of `ClassWeightedLoss`, such as `beta`.

    Raises:
        ValueError: if `head` or `tail` is out of its range, and as in
            `ClassWeightedLoss`, which describes the call too.

    Example:
        >>> loss = keras_lt.losses.LabelAwareSmoothing([500, 275, 50], head=0.3)
        >>> loss.smoothing.round(3)
        array([0.3  , 0.212, 0.   ])
    """

    def __init__(
        self,
        class_counts,
        head: float = 0.3,
        tail: float = 0.0,
        name: str | None = "label_aware_smoothing",
        **kwargs,
    ):
        super().__init__(class_counts, name=name, **kwargs)
        head, tail = real("head", head), real("tail", tail)
        if not (0 <= head < 1 and 0 <= tail < 1):
            raise ValueError(
                "Expected head and tail in [0, 1). Received: "
                f"head={head}, tail={tail}"
            )
        self.head = head
        self.tail = tail
        counts = self.class_counts
        least = counts[counts > 0].min()
        place = np.maximum(counts - least, 0) / max(counts.max() - least, 1)
        self.smoothing = tail + (head - tail) * np.sin(np.pi / 2 * place)

    def per_example(self, labels, logits):
        smoothing = ops.convert_to_tensor(self.smoothing, dtype=self.dtype)
        amount = labels * smoothing  # (B, C)
        others = ops.sum(amount, axis=-1, keepdims=True) - amount
        others = others / (len(self.class_counts) - 1)
        return ops.categorical_crossentropy(
            labels - amount + others, logits, from_logits=True
        )

    def get_config(self):
        return {**super().get_config(), "head": self.head, "tail": self.tail}
