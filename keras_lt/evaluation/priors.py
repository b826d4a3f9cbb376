"""Estimates of the class frequencies of unlabeled images."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import scipy.optimize
from scipy import stats

from keras_lt.arguments import integer, real
from keras_lt.counts import (
    by_label,
    class_shares,
    log_prior,
    validate_class_counts,
)
from keras_lt.evaluation.calibration import adjustment
from keras_lt.evaluation.intervals import LEVEL, check_level
from keras_lt.evaluation.predictions import Predictions
from keras_lt.messages import brief

_DRAWS = 200


class Prior(NamedTuple):
    """Estimated class frequencies, with intervals.

    Args:
        shares: Shares of classes, float64 (C,), with sum 1.
        low: Lower ends of the intervals (C,).
        high: Upper ends of the intervals (C,).

    Example:
        >>> prior = keras_lt.evaluation.Prior(
        ...     np.array([0.7, 0.3]), np.array([0.6, 0.2]), np.array([0.8, 0.4])
        ... )
        >>> prior.shares
        array([0.7, 0.3])
    """

    shares: np.ndarray
    low: np.ndarray
    high: np.ndarray


def estimate_prior_em(
    logits: np.ndarray,
    source: Sequence[float],
    draws: int = _DRAWS,
    level: float = LEVEL,
    seed: int = 0,
    tolerance: float = 1e-6,
    iterations: int = 1000,
) -> Prior:
    """Class frequencies of unlabeled images by expectation-maximization.

    With p the softmax of the logits and s their prior, in turns `r_nc ~ q_c /
    s_c p_nc`, of sum 1 over classes, and `q_c = mean_n r_nc` (Saerens et al.,
    Neural Computation 2002, equation 2.9): the q of the highest likelihood,
    which is concave in it. Images may differ from those of training by how
    frequent classes are, and by nothing else; logits should be calibrated
    (Alexandari et al., ICML 2020), as by `fit_temperature`.

    Args:
        logits: (N, C), of the unlabeled images.
        source: s, images per class or shares (C,), that the logits have as
            their prior: those of the training set for a plain loss, ones where
            a loss or a sampler balanced the classes.
        draws: Bootstrap draws of images for the intervals, 0 for none.
        level: Share of the intervals that hold the true frequency.
        seed: Seed of the draws.
        tolerance: The iterations end when no share changes by more.
        iterations: Largest number of iterations.

    Returns:
        The frequencies; without draws intervals are NaN.

    Raises:
        ValueError: If logits are not finite (N, C), or an argument is out of
            its range.

    Example:
        >>> logits = np.log(np.repeat([[0.9, 0.1], [0.1, 0.9]], [25, 75], 0))
        >>> prior = keras_lt.evaluation.estimate_prior_em(logits, [1, 1])
        >>> prior.shares.round(2)
        array([0.19, 0.81])
    """
    likelihood = _likelihood(logits, source)
    check_level(level)
    if not real("tolerance", tolerance) > 0:
        raise ValueError(
            f"Expected tolerance > 0. Received: tolerance={tolerance}"
        )
    iterations = integer("iterations", iterations, 1)
    images = len(likelihood)
    weights = np.ones((1, images))
    (shares,) = _em(likelihood, weights, tolerance, iterations)
    generator = np.random.default_rng(integer("seed", seed, 0))
    drawn = []
    for _ in range(integer("draws", draws, 0)):
        places = generator.integers(images, size=images)
        weights = np.bincount(places, minlength=images)[None]
        drawn.append(_em(likelihood, weights, tolerance, iterations, shares)[0])
    return _with_intervals(shares, drawn, level)


def _likelihood(logits: np.ndarray, source: Sequence[float]) -> np.ndarray:
    """Likelihoods of the classes (N, C), the largest of an image 1."""
    logits = np.asarray(logits)
    log_source = log_prior(source)
    if (
        logits.ndim != 2
        or logits.shape[1:] != log_source.shape
        or not len(logits)
        or not np.isfinite(logits).all()
    ):
        raise ValueError(
            f"Expected finite logits of shape (N, {len(log_source)}), N > 0. "
            f"Received: logits.shape={logits.shape}, "
            f"{(~np.isfinite(logits)).sum()} of them NaN or infinite"
        )
    likelihood = logits - log_source
    likelihood -= likelihood.max(1, keepdims=True)
    return np.exp(likelihood, out=likelihood)


def likelihood_ratio_test(
    logits: np.ndarray,
    source: Sequence[float],
    reference: Sequence[float] | None = None,
) -> dict[str, float]:
    """Tests if unlabeled images have the class frequencies of a reference.

    `2 (L(q) - L(r))`, L the log-likelihood of the images as a mixture of their
    classes, q its maximum (`estimate_prior_em`) and r the reference, compared
    with chi-squared of as many degrees of freedom as there are frequencies to
    choose (Wilks, 1938). Frequencies at 0 make it smaller, so p-values are
    rather too large. It needs calibrated logits, where `shift_test` needs a
    hold-out.

    Args:
        logits: As in `estimate_prior_em`.
        source: As in `estimate_prior_em`.
        reference: r, shares or images per class (C,); None is the source.

    Returns:
        `statistic` and `p_value`.

    Raises:
        ValueError: If logits are not finite (N, C), or frequencies are not C
            numbers of at least 0.

    Example:
        >>> logits = np.log(np.repeat([[0.9, 0.1], [0.1, 0.9]], [10, 90], 0))
        >>> found = keras_lt.evaluation.likelihood_ratio_test(logits, [1, 1])
        >>> found["p_value"] < 0.001
        True
    """
    likelihood = _likelihood(logits, source)
    size = likelihood.shape[1]
    if reference is None:
        reference = source
    reference = class_shares("reference", reference, size)
    weights = np.ones((1, len(likelihood)))
    (shares,) = _em(likelihood, weights, 1e-6, 1000)
    least = np.finfo(likelihood.dtype).tiny
    ratios = likelihood @ shares / np.maximum(likelihood @ reference, least)
    statistic = max(float(2 * np.log(ratios).sum()), 0.0)
    return {
        "statistic": statistic,
        "p_value": float(stats.chi2.sf(statistic, max(size - 1, 1))),
    }


class MovingPrior:
    """Class frequencies of a stream of unlabeled images, in a moving window.

    The frequencies of the last images by expectation-maximization, from where
    the last estimate was: `estimate_prior_em` of the window.

    Args:
        source: As in `estimate_prior_em`.
        window: Images that count, the last ones.
        strength: Weight of the source in the estimate, in images: how slowly
            it leaves the source as the first images come.

    Attributes:
        shares: The estimate, float64 (C,), of sum 1.
        seen: Images that have come.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> moving = keras_lt.evaluation.MovingPrior([1, 1], window=50)
        >>> logits = np.log(np.repeat([[0.9, 0.1], [0.1, 0.9]], [10, 90], 0))
        >>> for batch in np.split(logits, 10):
        ...     shares = moving.update(batch)
        >>> shares.round(2)
        array([0., 1.])
        >>> adjusted = batch + moving.adjustment
    """

    def __init__(
        self,
        source: Sequence[float],
        window: int = 1000,
        strength: float = 0.0,
    ):
        self._source = by_label("source", source, np.float64)
        self._log_source = log_prior(self._source)
        size = len(self._source)
        self._start = class_shares("source", self._source, size)
        self.window = integer("window", window, 1)
        if not 0 <= real("strength", strength) < np.inf:
            raise ValueError(
                "Expected strength >= 0, in images. "
                f"Received: strength={strength}"
            )
        self.strength = strength
        self._kept = np.zeros((0, size))
        self.shares = self._start
        self.seen = 0

    def update(self, logits: np.ndarray) -> np.ndarray:
        """Takes the logits of the next images, and returns the estimate.

        Args:
            logits: (N, C), calibrated, with the source as their prior. Of more
                than the window the last ones count.

        Raises:
            ValueError: If they are not finite (N, C); nothing is changed.
        """
        new = _likelihood(logits, self._source)
        self.seen += len(new)
        self._kept = np.concatenate([self._kept, new])[-self.window :]
        images = len(self._kept)
        # The source as images that are surely of their class.
        likelihood, weights = self._kept, np.ones(images)
        if self.strength:
            likelihood = np.concatenate([likelihood, np.eye(len(self._start))])
            weights = np.append(weights, self.strength * self._start)
        (self.shares,) = _em(
            likelihood, weights[None], 1e-4, 200, self.shares[None]
        )
        return self.shares

    @property
    def adjustment(self) -> np.ndarray:
        """The term to add to logits (C,), as `adjustment` gives it."""
        return adjustment(self.shares, self._source)


def _em(likelihood, weights, tolerance, iterations, start=None) -> np.ndarray:
    """Shares (D, C) for weights (D, N) of the images."""
    classes = likelihood.shape[1]
    total = weights.sum(1, keepdims=True)
    shares = np.full((len(weights), classes), 1 / classes)
    if start is not None:
        # None of them 0, which it could not leave.
        shares[:] = (start + 1e-3 / classes) / (1 + 1e-3)
    for _ in range(iterations):
        mixed = shares @ likelihood.T  # (D, N)
        new = shares * ((weights / mixed) @ likelihood)
        new /= total
        change = np.abs(new - shares).max()
        shares = new
        if change < tolerance:
            break
    return shares / shares.sum(1, keepdims=True)


def estimate_prior_bbse(
    predicted: np.ndarray,
    holdout: Predictions,
    draws: int = _DRAWS,
    level: float = LEVEL,
    seed: int = 0,
) -> Prior:
    """Class frequencies of unlabeled images from predicted classes.

    The shares m of predicted classes are `m = P q`, P the share of the images
    of each class (column) that are taken for a class (row), known from the
    hold-out. It is solved for q of at least 0 by least squares: black-box
    shift estimation (Lipton et al., ICML 2018), which needs neither calibrated
    logits nor a prior of theirs, and may be used with a hold-out of any class
    frequencies.

    Args:
        predicted: Predicted class ids of the unlabeled images, (N,), -1 for
            the refused.
        holdout: Images that the model was not trained on, some of each class.
        draws: Bootstrap draws of images and of the hold-out, 0 for none.
        level: Share of the intervals that hold the true frequency.
        seed: Seed of the draws.

    Returns:
        The frequencies; without draws intervals are NaN.

    Raises:
        ValueError: If predicted ids are out of range, or the hold-out lacks a
            class.

    Example:
        >>> held_out = keras_lt.evaluation.Predictions(
        ...     np.repeat([0, 1, 0, 1], [90, 10, 20, 80]),
        ...     np.repeat([0, 1], [100, 100]),
        ...     classes=[500, 5],
        ... )
        >>> prior = keras_lt.evaluation.estimate_prior_bbse(
        ...     np.repeat([0, 1], [41, 59]), held_out
        ... )
        >>> prior.shares.round(2)
        array([0.3, 0.7])
    """
    given = _given(predicted, holdout)
    counts = _confusion(holdout)
    check_level(level)
    shares = _solve(given, counts)
    generator = np.random.default_rng(integer("seed", seed, 0))
    drawn = [
        _solve(
            generator.multinomial(given.sum(), given / given.sum()),
            _redrawn(counts, generator),
        )
        for _ in range(integer("draws", draws, 0))
    ]
    return _with_intervals(shares, drawn, level)


def shift_test(
    predicted: np.ndarray,
    holdout: Predictions,
    source: Sequence[int] | None = None,
    draws: int = 999,
    seed: int = 0,
) -> dict[str, float]:
    """Tests if classes of unlabeled images are as frequent as in training.

    If they are, the shares of predicted classes are `P s`, P as in
    `estimate_prior_bbse` and s the shares of the training set. Their distance
    `sum_c (m_c - e_c)^2 / (m_c + e_c)` is compared with that of draws for
    which this holds, of the images and of the hold-out (the black-box test of
    Lipton et al., ICML 2018, with frequencies of the training set even where
    the hold-out is balanced).

    Args:
        predicted: As in `estimate_prior_bbse`.
        holdout: As in `estimate_prior_bbse`.
        source: Frequencies to compare with, (C,); None is the training images
            per class.
        draws: Draws under the hypothesis; no p-value is below 1 / (draws + 1).
        seed: Seed of the draws.

    Returns:
        `statistic`, the distance, and `p_value`.

    Raises:
        ValueError: As `estimate_prior_bbse`.

    Example:
        >>> held_out = keras_lt.evaluation.Predictions(
        ...     np.repeat([0, 1], 100), np.repeat([0, 1], 100), [300, 100]
        ... )
        >>> same = keras_lt.evaluation.shift_test(
        ...     np.repeat([0, 1], [75, 25]), held_out
        ... )
        >>> other = keras_lt.evaluation.shift_test(
        ...     np.repeat([0, 1], [25, 75]), held_out
        ... )
        >>> same["p_value"], other["p_value"]
        (1.0, 0.001)
    """
    given = _given(predicted, holdout)
    counts = _confusion(holdout)
    if source is None:
        source = holdout.class_counts
    source = validate_class_counts(source)
    if len(source) != holdout.num_classes:
        raise ValueError(
            f"Expected source of {holdout.num_classes} classes, as the "
            f"hold-out. Received: source={brief(source)}"
        )
    source = source / source.sum()
    size = given.sum()

    def distance(given, counts):
        expected = source @ (counts / counts.sum(1, keepdims=True))
        found = given / size
        both = expected + found
        return ((found - expected) ** 2 / np.where(both > 0, both, 1)).sum()

    expected = source @ (counts / counts.sum(1, keepdims=True))
    statistic = distance(given, counts)
    generator = np.random.default_rng(integer("seed", seed, 0))
    draws = integer("draws", draws, 1)
    above = sum(
        distance(
            generator.multinomial(size, expected), _redrawn(counts, generator)
        )
        # Draws that are the same but for rounding count.
        >= statistic - 1e-12
        for _ in range(draws)
    )
    return {
        "statistic": float(statistic),
        "p_value": float((above + 1) / (draws + 1)),
    }


def _given(predicted: np.ndarray, holdout: Predictions) -> np.ndarray:
    """Images by predicted class (C + 1,), the refused first."""
    predicted = np.asarray(predicted)
    size = holdout.num_classes
    if (
        predicted.ndim != 1
        or predicted.dtype.kind not in "iu"
        or not len(predicted)
        or not -1 <= predicted.min() <= predicted.max() < size
    ):
        raise ValueError(
            f"Expected predicted class ids (N,) from 0 to {size - 1}, or -1 "
            f"for none. Received: predicted={brief(predicted)}"
        )
    return np.bincount(predicted.astype(np.int64) + 1, minlength=size + 1)


def _confusion(holdout: Predictions) -> np.ndarray:
    """Images by true and predicted class, (C, C + 1), the refused first."""
    lacking = np.flatnonzero(holdout.totals == 0)
    if len(lacking):
        raise ValueError(
            "Expected a hold-out with images of every class. Received: none "
            f"of {len(lacking)} classes, labels {brief(lacking)}"
        )
    size = holdout.num_classes
    cells = holdout.labels * (size + 1) + holdout.predicted + 1
    counts = np.bincount(cells, minlength=size * (size + 1))
    return counts.reshape(size, size + 1)


def _redrawn(counts: np.ndarray, generator) -> np.ndarray:
    totals = counts.sum(1)
    return generator.multinomial(totals, counts / totals[:, None])


def _solve(given: np.ndarray, counts: np.ndarray) -> np.ndarray:
    rates = counts / counts.sum(1, keepdims=True)
    shares, _ = scipy.optimize.nnls(rates.T, given / given.sum())
    if not shares.any():
        raise ValueError(
            "Expected predicted classes that occur in the hold-out. Received: "
            f"predictions of other ones alone, {brief(np.flatnonzero(given))}"
        )
    return shares / shares.sum()


def _with_intervals(shares, drawn: list, level: float) -> Prior:
    if not drawn:
        nothing = np.full(len(shares), np.nan)
        return Prior(shares, nothing, nothing)
    ends = np.quantile(
        drawn, [(1 - level) / 2, (1 + level) / 2], axis=0, method="weibull"
    )
    return Prior(shares, *ends)
