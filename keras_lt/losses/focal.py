"""The focal loss of a softmax."""

import keras
import numpy as np
from keras import ops

from keras_lt.arguments import real
from keras_lt.losses.class_weighted import ClassWeightedLoss


@keras.saving.register_keras_serializable(package="keras_lt")
class Focal(ClassWeightedLoss):
    """Softmax focal loss.

    `l = -sum_c y_c * (1 - p_c)^gamma * log(p_c)`, p = softmax(x) (Lin et al.,
    ICCV 2017, https://arxiv.org/abs/1708.02002, equation 5). The code of
    LDAM-DRW takes p from the weighted cross-entropy; here it is the predicted
    probability, and the class weight multiplies the loss.

    Args:
        class_counts: `(C,)` training images per class, or None where neither
            `beta` nor `class_weights` need them.
        gamma: focusing parameter, 0 (cross-entropy) or more.
        name: name of the loss.
        **kwargs: arguments of `ClassWeightedLoss`, such as `beta`.

    Raises:
        ValueError: if `gamma` is negative, and as in `ClassWeightedLoss`, which
            describes the call too.

    Example:
        >>> loss = keras_lt.losses.Focal([500, 50], gamma=2.0)
        >>> round(float(loss(np.array([1]), np.zeros((1, 2)))), 4)
        0.1733
    """

    needs_class_counts = False

    def __init__(
        self,
        class_counts=None,
        gamma: float = 2.0,
        name: str | None = "focal",
        **kwargs,
    ):
        super().__init__(class_counts, name=name, **kwargs)
        gamma = real("gamma", gamma)
        if not 0 <= gamma < np.inf:
            raise ValueError(f"Expected gamma >= 0. Received: gamma={gamma}")
        self.gamma = gamma

    def per_example(self, labels, logits):
        log_p = ops.log_softmax(logits, axis=-1)
        if self.gamma == 0:
            return -ops.sum(labels * log_p, axis=-1)
        # A power of 0 has no gradient: below 1e-30 nothing is left to weigh.
        miss = ops.maximum(-ops.expm1(log_p), 1e-30)
        focus = ops.exp(self.gamma * ops.log(miss))
        return -ops.sum(labels * focus * log_p, axis=-1)

    def get_config(self):
        return {**super().get_config(), "gamma": self.gamma}
