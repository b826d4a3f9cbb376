"""Losses of classes, from logits."""

import keras
import numpy as np
from keras import ops

from keras_lt.arguments import real
from keras_lt.counts import (
    by_label,
    effective_number_weights,
    log_prior,
    validate_class_counts,
)
from keras_lt.labels import dense
from keras_lt.losses.base import Float32Loss, sum_over_replicas
from keras_lt.messages import brief

NORMALIZERS = ("batch", "weight_sum", "nonzero")


class ClassWeightedLoss(Float32Loss):
    """Base class of the classification losses that can weigh classes.

    A subclass gives `per_example(labels, logits)`. Example i with labels y (one
    row, soft or one-hot) has the weight `w_i = sum_c y_c * w_c` and the value

    - `normalizer="batch"`: `w_i * l_i`,
    - `normalizer="weight_sum"`: `w_i * l_i / mean(w)`,
    - `normalizer="nonzero"`: `w_i * l_i * B / #(w != 0)`,

    so that their mean, Keras' default reduction, is the weighted sum divided by
    B, by the sum of weights, or by the number of non-zero weights. Means and
    counts run over the global batch, all replicas together. Where every weight
    is zero so are the values. `sample_weight` multiplies the values and does
    not enter the normaliser.

    `reweighting` is a scalar variable, 1 by default: the weights in effect are
    `reweighting * w + (1 - reweighting)`. At 0 all classes weigh the same.
    `keras_lt.callbacks.DeferredReweighting` assigns it, without retracing. It
    is state of a run, in neither config nor checkpoint.

    Logits are taken to float32 at least. An example whose label is no class has
    weight 0, as `keras_lt.labels` describes it.

    Args:
        class_counts: `(C,)` training images per class, by label id; C >= 2. A
            pandas Series or a mapping is put in order, as
            `keras_lt.counts.validate_class_counts` describes it. A loss that
            sets `needs_class_counts = False` takes None where no class weights
            are asked for, and logits of any number of classes.
        beta: in `[0, 1)`, the class weights are
            `keras_lt.counts.effective_number_weights(class_counts, beta)`, 0
            for a class without images. `None` weighs all classes alike, those
            without images too.
        class_weights: `(C,)` class weights to use in place of those of `beta`.
        normalizer: `"batch"`, `"weight_sum"` or `"nonzero"`.
        reduction: as in `keras.losses.Loss`.
        name: name of the loss.
        dtype: dtype of the computation; 16-bit ones become float32.

    Call arguments:
        y_true: label ids, `(B,)` or `(B, 1)`, or soft labels `(B, C)`; see
            `keras_lt.labels`.
        y_pred: logits, `(B, C)`.

    Raises:
        ValueError: if an argument is out of its range, or, when called, if
            shapes do not fit.

    Example:
        >>> class Brier(keras_lt.losses.ClassWeightedLoss):
        ...     def per_example(self, labels, logits):
        ...         error = labels - keras.ops.softmax(logits)
        ...         return keras.ops.sum(keras.ops.square(error), axis=-1)
        >>> loss = Brier([900, 100], class_weights=[0.5, 1.5])
        >>> float(loss(np.array([0, 1]), np.zeros((2, 2))))
        0.5
    """

    needs_class_counts = True

    def __init__(
        self,
        class_counts,
        beta: float | None = None,
        class_weights=None,
        normalizer: str = "batch",
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype=None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.class_counts = self._weights = None
        self.beta = None if beta is None else real("beta", beta)
        self.class_weights = class_weights
        self.normalizer = normalizer
        if normalizer not in NORMALIZERS:
            raise ValueError(
                f"Expected normalizer to be one of {NORMALIZERS}. "
                f"Received: normalizer={normalizer!r}"
            )
        self.reweighting = keras.Variable(
            1.0, trainable=False, dtype="float32", name="reweighting"
        )
        weighted = beta is not None or class_weights is not None
        if class_counts is None and not (self.needs_class_counts or weighted):
            return
        self.class_counts = validate_class_counts(class_counts)
        num_classes = len(self.class_counts)
        if num_classes < 2:
            raise ValueError(
                "Expected class_counts of at least 2 classes. "
                f"Received: class_counts={brief(self.class_counts)}"
            )
        if class_weights is not None:
            weights = by_label("class_weights", class_weights, np.float64)
            self.class_weights = weights.tolist()
            if weights.shape != (num_classes,):
                raise ValueError(
                    f"Expected class_weights of shape ({num_classes},), as "
                    "class_counts. Received: "
                    f"class_weights.shape={weights.shape}"
                )
            if not (np.isfinite(weights).all() and (weights >= 0).all()):
                raise ValueError(
                    "Expected class_weights to be finite, zero or more. "
                    f"Received: class_weights={brief(weights)}"
                )
        elif beta is not None:
            weights = effective_number_weights(self.class_counts, self.beta)
        else:
            weights = np.ones(num_classes)
        self._weights = weights

    def per_example(self, labels, logits):
        """Unweighted loss of each example.

        Args:
            labels: `(B, C)` one-hot or soft labels, in the loss's dtype.
            logits: `(B, C)`, in the same dtype.

        Returns:
            Tensor of shape `(B,)`.
        """
        raise NotImplementedError

    def call(self, y_true, y_pred):
        logits = ops.cast(y_pred, self.dtype)
        self._check_logits(logits)
        labels = dense(y_true, logits.shape[-1], self.dtype)
        on = ops.cast(self.reweighting, self.dtype)
        weights = self._weights
        if weights is None:
            weights = np.ones(logits.shape[-1])
        class_weights = on * ops.convert_to_tensor(
            weights, dtype=self.dtype
        ) + (1.0 - on)
        weights = ops.sum(labels * class_weights, axis=-1)  # (B,)
        values = weights * self.per_example(labels, logits)
        if self.normalizer == "batch":
            return values
        if self.normalizer == "nonzero":
            norms = ops.cast(ops.not_equal(weights, 0), self.dtype)
        else:
            norms = weights
        total, size = ops.unstack(
            sum_over_replicas(
                ops.stack([ops.sum(norms), ops.sum(ops.ones_like(norms))])
            )
        )
        return values * ops.divide_no_nan(size, total)

    def _check_logits(self, logits):
        if self.class_counts is None:
            if len(logits.shape) != 2 or (logits.shape[-1] or 0) < 2:
                raise ValueError(
                    "Expected y_pred of shape (batch, C), C known and at least "
                    f"2 classes. Received: y_pred.shape={tuple(logits.shape)}"
                )
            return
        num_classes = len(self.class_counts)
        if len(logits.shape) != 2 or logits.shape[-1] != num_classes:
            raise ValueError(
                f"Expected y_pred with C={num_classes} classes "
                "(len(class_counts)), of shape (batch, C). "
                f"Received: y_pred.shape={tuple(logits.shape)}"
            )

    def get_config(self):
        counts = self.class_counts
        return {
            **super().get_config(),
            "class_counts": counts if counts is None else counts.tolist(),
            "beta": self.beta,
            "class_weights": self.class_weights,
            "normalizer": self.normalizer,
        }


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
        beta: in `[0, 1)`; `None` weighs nothing.
        normalizer: `"batch"`, `"weight_sum"` or `"nonzero"`.
        name: name of the loss.
        **kwargs: `class_weights`, `reduction`, `dtype` of `ClassWeightedLoss`.

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
        beta: float | None = None,
        normalizer: str = "batch",
        name: str | None = "focal",
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
        log_p = ops.log_softmax(logits, axis=-1)
        if self.gamma == 0:
            return -ops.sum(labels * log_p, axis=-1)
        # A power of 0 has no gradient: below 1e-30 nothing is left to weigh.
        miss = ops.maximum(-ops.expm1(log_p), 1e-30)
        focus = ops.exp(self.gamma * ops.log(miss))
        return -ops.sum(labels * focus * log_p, axis=-1)

    def get_config(self):
        return {**super().get_config(), "gamma": self.gamma}


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


@keras.saving.register_keras_serializable(package="keras_lt")
class LogitAdjusted(ClassWeightedLoss):
    """Cross-entropy of logits that carry the class prior.

    `l = -sum_c y_c * log(softmax(x + tau * log(n + 1e-6))_c)` (Menon et al.,
    ICLR 2021, https://arxiv.org/abs/2007.07314, equation 10; the counts need
    not sum to 1, softmax takes their scale out). Trained so, x itself is the
    classifier for balanced classes.

    Args:
        class_counts: `(C,)` training images per class.
        tau: strength of the prior, 0 or more; 1 is consistent for the balanced
            error.
        prior: `(C,)` class frequencies to use in place of the counts, such as
            sums of sample weights, 0 or more.
        label_smoothing: e in [0, 1): a label becomes 1 - e at its class and
            e / (C - 1) elsewhere, as in the code of DLSA.
        beta: in `[0, 1)`; `None` weighs nothing.
        normalizer: `"batch"`, `"weight_sum"` or `"nonzero"`.
        name: name of the loss.
        **kwargs: `class_weights`, `reduction`, `dtype` of `ClassWeightedLoss`.

    Raises:
        ValueError: if an argument is out of its range, and as in
            `ClassWeightedLoss`, which describes the call too.

    Example:
        >>> loss = keras_lt.losses.LogitAdjusted([300, 100], tau=1.0)
        >>> round(float(loss(np.array([1]), np.zeros((1, 2)))), 4)  # log 4
        1.3863
    """

    def __init__(
        self,
        class_counts,
        tau: float = 1.0,
        prior=None,
        label_smoothing: float = 0.0,
        beta: float | None = None,
        normalizer: str = "batch",
        name: str | None = "logit_adjusted",
        **kwargs,
    ):
        super().__init__(
            class_counts, beta=beta, normalizer=normalizer, name=name, **kwargs
        )
        tau = real("tau", tau)
        label_smoothing = real("label_smoothing", label_smoothing)
        if not (0 <= tau < np.inf and 0 <= label_smoothing < 1):
            raise ValueError(
                "Expected tau >= 0 and label_smoothing in [0, 1). Received: "
                f"tau={tau}, label_smoothing={label_smoothing}"
            )
        self.tau = tau
        self.label_smoothing = label_smoothing
        self.prior = prior
        if prior is None:
            prior = self.class_counts
        else:
            prior = by_label("prior", prior, np.float64)
            self.prior = prior.tolist()
        self._adjustment = tau * log_prior(prior)
        if len(self._adjustment) != len(self.class_counts):
            raise ValueError(
                f"Expected a prior of {len(self.class_counts)} classes, as "
                f"class_counts. Received: prior={brief(prior)}"
            )

    def per_example(self, labels, logits):
        adjustment = ops.convert_to_tensor(self._adjustment, dtype=self.dtype)
        others = self.label_smoothing / (len(self.class_counts) - 1)
        labels = labels * (1.0 - self.label_smoothing - others) + others
        return ops.categorical_crossentropy(
            labels, logits + adjustment, from_logits=True
        )

    def get_config(self):
        return {
            **super().get_config(),
            "tau": self.tau,
            "prior": self.prior,
            "label_smoothing": self.label_smoothing,
        }


@keras.saving.register_keras_serializable(package="keras_lt")
class BalancedSoftmax(LogitAdjusted):
    """Cross-entropy of the softmax that is balanced by the class counts.

    `l = -sum_c y_c * log(n_c exp(x_c) / sum_k n_k exp(x_k))` (Ren et al.,
    NeurIPS 2020, https://arxiv.org/abs/2007.10740, equation 3), with n + 1e-6
    for n as in the code of DLSA: `LogitAdjusted` with tau = 1.

    Args:
        class_counts: `(C,)` training images per class.
        beta: in `[0, 1)`; `None` weighs nothing.
        normalizer: `"batch"`, `"weight_sum"` or `"nonzero"`.
        name: name of the loss.
        **kwargs: `prior` and `label_smoothing` of `LogitAdjusted`, and
            `class_weights`, `reduction`, `dtype` of `ClassWeightedLoss`.

    Raises:
        ValueError: as in `LogitAdjusted` and `ClassWeightedLoss`, which
            describes the call too.

    Example:
        >>> loss = keras_lt.losses.BalancedSoftmax([300, 100])
        >>> round(float(loss(np.array([1]), np.zeros((1, 2)))), 4)  # log 4
        1.3863
    """

    def __init__(
        self,
        class_counts,
        beta: float | None = None,
        normalizer: str = "batch",
        name: str | None = "balanced_softmax",
        **kwargs,
    ):
        super().__init__(
            class_counts,
            tau=1.0,
            beta=beta,
            normalizer=normalizer,
            name=name,
            **kwargs,
        )

    def get_config(self):
        config = super().get_config()
        del config["tau"]
        return config


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
        beta: in `[0, 1)`; `None` weighs nothing.
        normalizer: `"batch"`, `"weight_sum"` or `"nonzero"`.
        name: name of the loss.
        **kwargs: `class_weights`, `reduction`, `dtype` of `ClassWeightedLoss`.

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
        beta: float | None = None,
        normalizer: str = "batch",
        name: str | None = "label_aware_smoothing",
        **kwargs,
    ):
        super().__init__(
            class_counts, beta=beta, normalizer=normalizer, name=name, **kwargs
        )
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
