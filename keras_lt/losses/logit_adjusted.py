"""Cross-entropies of logits that carry the class prior."""

import keras
import numpy as np
from keras import ops

from keras_lt.arguments import real
from keras_lt.counts import by_label, log_prior
from keras_lt.losses.class_weighted import ClassWeightedLoss
from keras_lt.losses.prior import relative
from keras_lt.messages import brief


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
        prior_smoothing: e in [0, 1): y becomes (1 - e) y + e p with the prior p
            (to the power tau, as in the adjustment), so that x is drawn
            towards the same value for all classes. Uniform smoothing would
            draw it towards the rarest ones.
        name: name of the loss.
        **kwargs: arguments of `ClassWeightedLoss`, such as `beta`.

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
        prior_smoothing: float = 0.0,
        name: str | None = "logit_adjusted",
        **kwargs,
    ):
        super().__init__(class_counts, name=name, **kwargs)
        tau = real("tau", tau)
        label_smoothing = real("label_smoothing", label_smoothing)
        prior_smoothing = real("prior_smoothing", prior_smoothing)
        smoothings = (label_smoothing, prior_smoothing)
        if not (0 <= tau < np.inf and all(0 <= e < 1 for e in smoothings)):
            raise ValueError(
                "Expected tau >= 0, and label_smoothing and prior_smoothing in "
                f"[0, 1). Received: tau={tau}, "
                f"label_smoothing={label_smoothing}, "
                f"prior_smoothing={prior_smoothing}"
            )
        self.tau = tau
        self.label_smoothing = label_smoothing
        self.prior_smoothing = prior_smoothing
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
        if self.prior_smoothing:
            toward = self.prior_smoothing * ops.softmax(adjustment)
            labels = (1.0 - self.prior_smoothing) * labels + toward
        return ops.categorical_crossentropy(
            labels, logits + adjustment, from_logits=True
        )

    def logit_prior(self, class_counts) -> np.ndarray:
        """Returns the class prior that the logits carry, this one taken out.

        Raises:
            ValueError: If a class is left with a prior of 0 or infinity.
        """
        drawn = super().logit_prior(class_counts)
        taken = self.class_counts if self.prior is None else self.prior
        # 1e-6 as in `log_prior`, where it makes a difference.
        taken = np.where(np.asarray(taken) > 0, taken, 1e-6)
        with np.errstate(over="ignore", under="ignore"):
            left = drawn / taken**self.tau
        if not (np.isfinite(left).all() and left[drawn > 0].all()):
            raise ValueError(
                "Expected a tau that leaves each class a prior. "
                f"Received: tau={self.tau}, prior={brief(taken)}"
            )
        return relative(left)

    def get_config(self):
        return {
            **super().get_config(),
            "tau": self.tau,
            "prior": self.prior,
            "label_smoothing": self.label_smoothing,
            "prior_smoothing": self.prior_smoothing,
        }


@keras.saving.register_keras_serializable(package="keras_lt")
class BalancedSoftmax(LogitAdjusted):
    """Cross-entropy of the softmax that is balanced by the class counts.

    `l = -sum_c y_c * log(n_c exp(x_c) / sum_k n_k exp(x_k))` (Ren et al.,
    NeurIPS 2020, https://arxiv.org/abs/2007.10740, equation 3), with n + 1e-6
    for n as in the code of DLSA: `LogitAdjusted` with tau = 1.

    Args:
        class_counts: `(C,)` training images per class.
        name: name of the loss.
        **kwargs: `prior`, `label_smoothing` and `prior_smoothing` of
            `LogitAdjusted`, and arguments of `ClassWeightedLoss`, such as
            `beta`.

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
        name: str | None = "balanced_softmax",
        **kwargs,
    ):
        super().__init__(class_counts, tau=1.0, name=name, **kwargs)

    def get_config(self):
        config = super().get_config()
        del config["tau"]
        return config
