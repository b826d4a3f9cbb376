"""The base of the losses that can weigh classes."""

import keras
import numpy as np
from keras import ops

from keras_lt.arguments import real
from keras_lt.counts import (
    by_label,
    effective_number_weights,
    validate_class_counts,
)
from keras_lt.distribute import sum_over_replicas
from keras_lt.labels import dense
from keras_lt.losses import prior
from keras_lt.losses.base import Float32Loss
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
    not enter the normalizer.

    `reweighting` is a scalar variable, 1 by default: the weights in effect are
    `reweighting * w + (1 - reweighting)`. At 0 all classes weigh the same.
    `keras_lt.callbacks.DeferredReweighting` assigns it, without retracing. It
    is state of a run, in neither config nor checkpoint.

    Logits are cast to float32 or wider. An example whose label is no class has
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

    def logit_prior(self, class_counts) -> np.ndarray:
        """Returns the class prior that logits trained with this loss carry.

        See `keras_lt.losses.logit_prior`. Class weights count as they are at
        the end of deferred re-weighting.
        """
        counts = prior.relative(class_counts)
        if self._weights is None:
            return counts
        self._check_classes(counts)
        return prior.relative(counts * self._weights)

    def _check_classes(self, counts: np.ndarray) -> None:
        if len(counts) != len(self.class_counts):
            raise ValueError(
                f"Expected class_counts of {len(self.class_counts)} classes, "
                f"as the loss has. Received: class_counts={brief(counts)}"
            )

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
