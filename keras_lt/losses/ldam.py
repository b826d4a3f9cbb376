"""The loss with larger margins for smaller classes."""

import keras
import numpy as np
from keras import ops

from keras_lt.arguments import real
from keras_lt.losses.class_weighted import ClassWeightedLoss


@keras.saving.register_keras_serializable(package="keras_lt")
class LDAM(ClassWeightedLoss):
    """Label-distribution-aware margin loss.

    Cross-entropy of `s * (x_c - y_c * m_c)` with margins
    `m_c = max_margin * n_c^(-1/4) / max_k n_k^(-1/4)` (Cao et al., NeurIPS
    2019, https://arxiv.org/abs/1906.07413, equation 13). The logits x are the
    cosines of `keras_lt.layers.CosineClassifier(scale=1)`. A classifier that
    scales them itself, and so gives logits of calibrated size, learns the same
    by `LDAM(max_margin=scale * max_margin, scale=1)`. A class without images
    has margin 0.

    Args:
        class_counts: `(C,)` training images per class.
        max_margin: margin of the smallest class, 0 or more.
        scale: s, greater than 0.
        beta: in `[0, 1)`, of the class weights; `None` weighs nothing. With
            `keras_lt.callbacks.DeferredReweighting` it is LDAM-DRW.
        normalizer: `"weight_sum"`, as the authors' code, `"batch"` or
            `"nonzero"`.
        name: name of the loss.
        **kwargs: `class_weights`, `reduction`, `dtype` of `ClassWeightedLoss`.

    Raises:
        ValueError: if the margin or the scale is out of its range, and as in
            `ClassWeightedLoss`, which describes the call too.

    Example:
        >>> loss = keras_lt.losses.LDAM([10_000, 1], max_margin=0.5, scale=2.0)
        >>> loss.margins  # (1 / 10,000)^(1/4) is a tenth
        array([0.05, 0.5 ])
    """

    def __init__(
        self,
        class_counts,
        max_margin: float = 0.5,
        scale: float = 30.0,
        beta: float | None = None,
        normalizer: str = "weight_sum",
        name: str | None = "ldam",
        **kwargs,
    ):
        super().__init__(
            class_counts, beta=beta, normalizer=normalizer, name=name, **kwargs
        )
        max_margin, scale = real("max_margin", max_margin), real("scale", scale)
        if not (0 <= max_margin < np.inf and 0 < scale < np.inf):
            raise ValueError(
                "Expected max_margin >= 0 and scale > 0. Received: "
                f"max_margin={max_margin}, scale={scale}"
            )
        self.max_margin = max_margin
        self.scale = scale
        counts = self.class_counts
        margins = np.where(counts > 0, np.maximum(counts, 1) ** -0.25, 0.0)
        self.margins = margins * (max_margin / margins.max())

    def per_example(self, labels, logits):
        # As if each class were the label: log(1 + exp(others_c - own_c)), with
        # others_c = log sum_{k != c} exp(s x_k). That is total + log(1 - p_c),
        # but for the largest logit, where 1 - p_c would cancel.
        scores = self.scale * logits
        margins = ops.convert_to_tensor(self.margins, dtype=self.dtype)
        own = scores - self.scale * margins
        largest = ops.one_hot(
            ops.argmax(scores, axis=-1), len(self.margins), dtype="bool"
        )
        p = ops.minimum(ops.softmax(scores, axis=-1), 0.5)
        total = ops.logsumexp(scores, axis=-1, keepdims=True)
        without_largest = ops.logsumexp(
            ops.where(largest, -np.inf, scores), axis=-1, keepdims=True
        )
        others = ops.where(largest, without_largest, total + ops.log1p(-p))
        return ops.sum(labels * ops.softplus(others - own), axis=-1)

    def get_config(self):
        return {
            **super().get_config(),
            "max_margin": self.max_margin,
            "scale": self.scale,
        }
