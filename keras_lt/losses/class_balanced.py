"""The losses of Cui et al., weighted by the effective number of samples."""

import keras
import numpy as np
from keras import ops

from keras_lt.arguments import real
from keras_lt.losses.class_weighted import ClassWeightedLoss


@keras.saving.register_keras_serializable(package="keras_lt")
class ClassBalancedCrossentropy(ClassWeightedLoss):
    """Softmax cross-entropy weighted by the effective number of samples.

    `l = -sum_c y_c * log(softmax(x)_c)` (Cui et al., CVPR 2019,
    https://arxiv.org/abs/1901.05555, section 4.1). The authors' code divides by
    the number of non-zero weights, the default here; the LDAM-DRW code by the
    sum of weights.

    Args:
        class_counts: `(C,)` training images per class.
        beta: in `[0, 1)`; `None` for plain cross-entropy.
        normalizer: `"nonzero"`, `"weight_sum"` or `"batch"`.
        name: name of the loss.
        **kwargs: `class_weights`, `reduction`, `dtype` of `ClassWeightedLoss`.

    Raises:
        ValueError: as in `ClassWeightedLoss`, which describes the call too.

    Example:
        >>> loss = keras_lt.losses.ClassBalancedCrossentropy(
        ...     [5000, 500, 50], beta=0.999
        ... )
        >>> round(float(loss(np.array([2]), np.array([[0.0, 0.0, 3.0]]))), 3)
        0.243
    """

    def __init__(
        self,
        class_counts,
        beta: float | None = 0.9999,
        normalizer: str = "nonzero",
        name: str | None = "class_balanced_crossentropy",
        **kwargs,
    ):
        super().__init__(
            class_counts, beta=beta, normalizer=normalizer, name=name, **kwargs
        )

    def per_example(self, labels, logits):
        return ops.categorical_crossentropy(labels, logits, from_logits=True)


@keras.saving.register_keras_serializable(package="keras_lt")
class ClassBalancedSigmoid(ClassWeightedLoss):
    """Sigmoid cross-entropy weighted by the effective number of samples.

    `l = -sum_c y_c log(p_c) + (1 - y_c) log(1 - p_c)`, p = sigmoid(x) (Cui et
    al., CVPR 2019, https://arxiv.org/abs/1901.05555, section 4.2). The weight
    of an example multiplies all C terms. Start the classifier's bias at
    -log(C - 1).

    Args:
        class_counts: `(C,)` training images per class.
        beta: in `[0, 1)`; `None` weighs nothing.
        normalizer: `"batch"`, as the authors' code, `"weight_sum"` or
            `"nonzero"`.
        name: name of the loss.
        **kwargs: `class_weights`, `reduction`, `dtype` of `ClassWeightedLoss`.

    Raises:
        ValueError: as in `ClassWeightedLoss`, which describes the call too.

    Example:
        >>> loss = keras_lt.losses.ClassBalancedSigmoid(
        ...     [500, 50], class_weights=[0.5, 1.5]
        ... )
        >>> round(float(loss(np.array([1]), np.array([[-1e4, -1e4]]))))
        15000
    """

    def __init__(
        self,
        class_counts,
        beta: float | None = 0.9999,
        normalizer: str = "batch",
        name: str | None = "class_balanced_sigmoid",
        **kwargs,
    ):
        super().__init__(
            class_counts, beta=beta, normalizer=normalizer, name=name, **kwargs
        )

    def per_example(self, labels, logits):
        hit, miss = ops.softplus(-logits), ops.softplus(logits)
        return ops.sum(labels * hit + (1.0 - labels) * miss, axis=-1)


@keras.saving.register_keras_serializable(package="keras_lt")
class ClassBalancedFocal(ClassWeightedLoss):
    """Sigmoid focal loss weighted by the effective number of samples.

    `l = -sum_c y_c (1-p_c)^gamma log(p_c) + (1-y_c) p_c^gamma log(1-p_c)`,
    p = sigmoid(x) (Cui et al., CVPR 2019, https://arxiv.org/abs/1901.05555,
    section 4.3; Lin et al., ICCV 2017, https://arxiv.org/abs/1708.02002). The
    weight of an example multiplies all C terms. Start the classifier's bias at
    -log(C - 1).

    Args:
        class_counts: `(C,)` training images per class.
        beta: in `[0, 1)`; `None` weighs nothing.
        gamma: focusing parameter, 0 or more. The authors' code has 1 by
            default; 0 gives `ClassBalancedSigmoid`.
        normalizer: `"batch"`, as the authors' code, `"weight_sum"` or
            `"nonzero"`.
        name: name of the loss.
        **kwargs: `class_weights`, `reduction`, `dtype` of `ClassWeightedLoss`.

    Raises:
        ValueError: if `gamma` is negative, and as in `ClassWeightedLoss`, which
            describes the call too.

    Example:
        >>> loss = keras_lt.losses.ClassBalancedFocal(
        ...     [500, 50], beta=None, gamma=2.0
        ... )
        >>> round(float(loss(np.array([1]), np.array([[-1e4, -1e4]]))))
        10000
    """

    def __init__(
        self,
        class_counts,
        beta: float | None = 0.9999,
        gamma: float = 1.0,
        normalizer: str = "batch",
        name: str | None = "class_balanced_focal",
        **kwargs,
    ):
        super().__init__(
            class_counts, beta=beta, normalizer=normalizer, name=name, **kwargs
        )
        gamma = real("gamma", gamma)
        if not 0 <= gamma < np.inf:
            raise ValueError(f"Expected gamma >= 0. Received: gamma={gamma}")
        self.gamma = gamma

    def per_example(self, labels, logits):
        # The authors' modulator overflows in float32 at logits below -88: the
        # worst mistakes cost nothing there and gradients are NaN. This form,
        # (1 - p)^gamma = exp(-gamma * softplus(x)), holds for all of them.
        hit, miss = ops.softplus(-logits), ops.softplus(logits)
        positive = ops.exp(-self.gamma * miss) * hit
        negative = ops.exp(-self.gamma * hit) * miss
        return ops.sum(labels * positive + (1.0 - labels) * negative, axis=-1)

    def get_config(self):
        return {**super().get_config(), "gamma": self.gamma}
