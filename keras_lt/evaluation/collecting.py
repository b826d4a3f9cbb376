"""Which class to collect more images of: recall as a function of the count."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.optimize
from scipy.special import expit

from keras_lt.arguments import integer
from keras_lt.counts import validate_class_counts
from keras_lt.evaluation.intervals import check_level
from keras_lt.messages import brief

# Weak priors (mean, deviation) of level, slope and the logarithm of the
# deviation of classes, in logits: they decide where classes are few.
_PRIORS = np.array([[0.0, 3.0], [0.4, 0.4], [0.0, 1.0]])
_NEWTON = 12  # steps; the curvature of a class is never below 1 / tau^2


class Gains(NamedTuple):
    """Expected gains, by class, and their intervals.

    Attributes:
        recall: Gain in the recall of the class (C,), 0 to 1.
        balanced: Gain in balanced accuracy (C,): this divided by C.
        low: Lower ends of the interval of `balanced` (C,).
        high: Upper ends (C,).

    Example:
        >>> keras_lt.evaluation.Gains([0.1], [0.01], [0.0], [0.02]).balanced
        [0.01]
    """

    recall: np.ndarray
    balanced: np.ndarray
    low: np.ndarray
    high: np.ndarray


class RecallCurve:
    """Recall of a class as a function of its training images.

    `logit(recall) = a + b log(n + 1) + u`, where u is what a class has of its
    own (it is harder or easier than others), normal with deviation tau. a, b
    and tau have the highest posterior given correct and all test images of
    each class, u integrated out by Laplace's approximation; weak priors
    (b: 0.4 with deviation 0.4) decide where classes are few or all of one
    size. The recall of a class is then a compromise of its own test images
    and of the curve, the more of its own the more images there are.

    The curve is fitted across classes: that a class would move along it as it
    gets more images is an assumption, and what other classes lose to it is
    left out.

    Args:
        hits: Correct test images per class, integers (C,).
        trials: Test images per class, integers (C,).
        class_counts: Training images per class, integers (C,).

    Attributes:
        level: a, at the mean of log(n + 1).
        slope: b.
        deviation: tau.
        slope_error: Standard error of b.

    Raises:
        TypeError: As `keras_lt.counts.validate_class_counts`.
        ValueError: If lengths differ, if a class has more hits than trials, or
            if there is no test image.

    Example:
        >>> curve = keras_lt.evaluation.RecallCurve(
        ...     hits=[90, 70, 50], trials=[100] * 3, class_counts=[500, 50, 5]
        ... )
        >>> gains = curve.gains(10)
        >>> int(gains.balanced.argmax())
        2
    """

    def __init__(
        self,
        hits: Sequence[int],
        trials: Sequence[int],
        class_counts: Sequence[int],
    ):
        self.class_counts = validate_class_counts(class_counts)
        self._hits, self._trials = (np.asarray(v) for v in (hits, trials))
        shape = self.class_counts.shape
        if not self._hits.shape == self._trials.shape == shape:
            raise ValueError(
                "Expected hits, trials and counts of one length. Received: "
                f"{len(hits)}, {len(trials)}, {len(class_counts)}"
            )
        if not ((0 <= self._hits) & (self._hits <= self._trials)).all():
            raise ValueError(
                "Expected at least 0 hits and at most as many as trials. "
                f"Received: hits={brief(self._hits)}, "
                f"trials={brief(self._trials)}"
            )
        if not self._trials.any():
            raise ValueError("Expected a test image. Received: none")
        x = np.log(self.class_counts + 1.0)
        self._mean_log = x.mean()
        self._fit(x - self._mean_log)

    def _fit(self, x: np.ndarray) -> None:
        self._start = np.zeros(len(x))  # of the steps to a mode
        start = _PRIORS[:, 0]
        found = scipy.optimize.minimize(
            lambda theta: -self._log_posterior(theta, x), start, method="BFGS"
        )
        self._theta = found.x
        self._start, _ = self._own(
            found.x[0] + found.x[1] * x, np.exp(found.x[2])
        )
        self.level, self.slope = map(float, found.x[:2])
        self.deviation = float(np.exp(found.x[2]))
        self._covariance = np.linalg.inv(
            _curvature(lambda t: -self._log_posterior(t, x), found.x)
        )
        self.slope_error = float(np.sqrt(self._covariance[1, 1]))

    def _log_posterior(self, theta: np.ndarray, x: np.ndarray) -> float:
        mean, tau = theta[0] + theta[1] * x, np.exp(theta[2])
        u, curvature = self._own(mean, tau)
        eta = mean + u
        log_p = -np.logaddexp(0, -eta)
        likelihood = self._hits * log_p + (self._trials - self._hits) * (
            log_p - eta
        )
        own = likelihood - 0.5 * (u / tau) ** 2 - np.log(tau)
        own -= 0.5 * np.log(curvature)
        prior = -0.5 * (((theta - _PRIORS[:, 0]) / _PRIORS[:, 1]) ** 2).sum()
        return float(own.sum() + prior)

    def _own(self, mean: np.ndarray, tau: np.ndarray) -> tuple:
        """Mode of u of each class, and the curvature there."""
        u = self._start
        for _ in range(_NEWTON):
            p = expit(mean + u)
            slope = self._hits - self._trials * p - u / tau**2
            curvature = self._trials * p * (1 - p) + 1 / tau**2
            # Where p is close to 0 or 1 a full step can go too far.
            step = np.clip(slope / curvature, -2, 2)
            u = u + step
            if np.abs(step).max() < 1e-6:
                break
        p = expit(mean + u)
        return u, self._trials * p * (1 - p) + 1 / tau**2

    def recall(self, class_counts: Sequence[int]) -> np.ndarray:
        """Recall of a class like most of others, as drawn in figures.

        Args:
            class_counts: Training images (n,).

        Returns:
            Recalls (n,): the curve at u = 0.

        Example:
            >>> curve = keras_lt.evaluation.RecallCurve(
            ...     [90, 70, 50], [100] * 3, class_counts=[500, 50, 5]
            ... )
            >>> low, high = curve.recall([10, 100])
            >>> bool(low < high)
            True
        """
        x = np.log(np.asarray(class_counts) + 1.0) - self._mean_log
        return expit(self.level + self.slope * x)

    def gains(
        self,
        more: int = 10,
        level: float = 0.9,
        draws: int = 500,
        seed: int = 0,
    ) -> Gains:
        """What more training images of one class would give.

        Args:
            more: Images to add to the class.
            level: Level of the intervals.
            draws: Draws of the posterior of a, b, tau and each u, over which
                gains are means.
            seed: Seed of the draws.

        Returns:
            Gains of each class by itself.

        Raises:
            TypeError: If an argument is no number.
            ValueError: If one is out of its range.

        Example:
            >>> curve = keras_lt.evaluation.RecallCurve(
            ...     [90, 70, 50], [100] * 3, class_counts=[500, 50, 5]
            ... )
            >>> gains = curve.gains(more=20, level=0.8)
            >>> bool((gains.low < gains.balanced).all())
            True
        """
        more = integer("more", more, 1)
        check_level(level)
        draws = integer("draws", draws, 1)
        generator = np.random.default_rng(integer("seed", seed, 0))
        theta = generator.multivariate_normal(
            self._theta, self._covariance, draws
        )
        now, then = (
            np.log(self.class_counts + add) - self._mean_log
            for add in (1.0, 1.0 + more)
        )
        total = np.empty((draws, len(now)))
        for row, (intercept, slope, log_tau) in zip(total, theta, strict=True):
            mean, tau = intercept + slope * now, np.exp(log_tau)
            u, curvature = self._own(mean, tau)
            u = u + generator.normal(size=u.shape) / np.sqrt(curvature)
            row[:] = expit(intercept + slope * then + u) - expit(mean + u)
        size = len(now)
        low, high = np.quantile(
            total, [(1 - level) / 2, (1 + level) / 2], axis=0
        )
        recall = total.mean(0)
        return Gains(recall, recall / size, low / size, high / size)


def _curvature(function, at: np.ndarray, step: float = 1e-3) -> np.ndarray:
    """Second derivatives by differences."""
    size = len(at)
    steps = step * np.eye(size)
    found = np.empty((size, size))
    for i in range(size):
        for j in range(size):
            found[i, j] = (
                function(at + steps[i] + steps[j])
                - function(at + steps[i] - steps[j])
                - function(at - steps[i] + steps[j])
                + function(at - steps[i] - steps[j])
            ) / (4 * step**2)
    return found
