"""Calibration of probabilities: errors, and scalings that reduce them."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import scipy.optimize
import scipy.sparse

from keras_lt.arguments import integer
from keras_lt.counts import class_shares, log_prior
from keras_lt.evaluation.predictions import (
    Predictions,
    need_logits,
    over_chunks,
)
from keras_lt.metrics import GROUPS

BINS = 15
TEMPERATURES = 1e-2, 1e2
# Of more logits some say where to look for the temperature of all.
_START_LOGITS = 10_000_000
_STEP = 0.01  # of log(1 / T), for a difference


def adjustment(target: Sequence[float], source: Sequence[float]) -> np.ndarray:
    """The term to add to logits where classes have other frequencies.

    `log q_c - log(n_c + 1e-6)`, q the shares of the target and n those of the
    training set, up to a constant: Bayes' rule for images that differ in class
    frequencies alone (Saerens et al., Neural Computation 2002, equation 2.4;
    Menon et al., ICLR 2021, post hoc). SavedModels of `keras_lt.export` do the
    same with a prior.

    Args:
        target: q, shares or images per class (C,).
        source: n, the images per class that are the prior of the logits: those
            of the training set for a plain loss, ones where a loss or a
            sampler balanced the classes.

    Returns:
        float64 (C,).

    Raises:
        ValueError: If they are not as many finite numbers of at least 0.

    Example:
        >>> keras_lt.evaluation.adjustment([1, 1], [100, 1]).round(2)
        array([-5.3 , -0.69])
    """
    log_source = log_prior(source)
    shares = class_shares("target", target, len(log_source))
    # As exported models: a class that does not occur has a finite logit.
    return np.log(np.maximum(shares, np.finfo("float32").tiny)) - log_source


class Scaling(NamedTuple):
    """Logits as `scale * logits + bias`, whose softmax is calibrated.

    Args:
        scale: A number, or one per class (C,).
        bias: A number, or one per class (C,).

    Example:
        >>> keras_lt.evaluation.Scaling(scale=0.5).bias
        0.0
    """

    scale: float | np.ndarray = 1.0
    bias: float | np.ndarray = 0.0

    def adjusted(
        self, target: Sequence[float], source: Sequence[float]
    ) -> "Scaling":
        """The scaling with `keras_lt.evaluation.adjustment` as more bias.

        Args:
            target: Class frequencies to adjust to (C,).
            source: Those that the logits carry (C,).

        Example:
            >>> scaling = keras_lt.evaluation.Scaling(scale=0.5)
            >>> scaling.adjusted([1, 1], [3, 1])([[0.0, 0.0]]).argmax()
            np.int64(1)
        """
        return self._replace(bias=self.bias + adjustment(target, source))

    def __call__(self, logits: np.ndarray) -> np.ndarray:
        """The scaled logits, float64 (N, C)."""
        scaled = np.multiply(logits, self.scale, dtype=np.float64)
        if np.any(self.bias):
            scaled += self.bias
        return scaled


class ImageScores(NamedTuple):
    """The terms of calibration errors and scores of sets, by image.

    Args:
        confidence: Probability of the predicted class (N,).
        hits: Whether the predicted class is right (N,).
        nll: Negative log-likelihood of the true class (N,).
        brier: Squared distance of the probabilities and the label (N,).
        excess: Sparse (N, C * bins): probabilities above 1 / bins in the bin
            of their class, with those of the true class 1 less.
        low: Weighted sums (D, C) of the probabilities up to 1 / bins.
        held: Whether sets hold the true class, one row per threshold (T, N).
        sizes: Classes in the sets (T, N).
    """

    confidence: np.ndarray
    hits: np.ndarray
    nll: np.ndarray
    brier: np.ndarray
    held: np.ndarray
    sizes: np.ndarray
    excess: scipy.sparse.csr_matrix | None = None
    low: np.ndarray | float = 0.0


def image_scores(
    predictions: Predictions,
    scaling: Scaling = Scaling(),  # noqa: B008  (a tuple)
    weights: np.ndarray | None = None,
    bins: int = BINS,
    thresholds: Sequence[np.ndarray] = (),
) -> ImageScores:
    """Computes the softmax once, and all that scores need of it.

    Args:
        predictions: Answers with logits.
        scaling: Scaling to apply to the logits first.
        weights: (D, N), of images, for class-wise errors; None is without.
        bins: Bins of class-wise errors.
        thresholds: Of sets of classes, (C,) each.
    """
    logits = need_logits(predictions, "calibration")

    def work(logits, labels, weights=None):
        z = scaling(logits)
        z -= z.max(1, keepdims=True)
        rows = np.arange(len(z))
        true = z[rows, labels]
        hits = z.argmax(1) == labels
        np.exp(z, out=z)
        sums = z.sum(1)
        z /= sums[:, None]
        own = z[rows, labels]
        brier = np.einsum("nc,nc->n", z, z) - 2 * own + 1
        held, sizes = np.empty((2, len(thresholds), len(z)), np.int64)
        for place, each in enumerate(thresholds):
            reached = reaches(z, each)
            held[place], sizes[place] = reached[rows, labels], reached.sum(1)
        part = [z.max(1), hits, np.log(sums) - true, brier, held, sizes]
        if weights is None:
            return part
        # Nearly all of many classes' probabilities are in the first bin.
        places = np.flatnonzero(z > 1 / bins)
        row, column = np.divmod(places, z.shape[1])
        high = z.ravel()[places]
        z.ravel()[places] = 0
        cells = np.concatenate(
            [
                column * bins + _bins(high, bins),
                labels * bins + _bins(own, bins),
            ]
        )
        values = np.concatenate([high, -np.ones(len(rows))])
        shape = len(rows), z.shape[1] * bins
        excess = scipy.sparse.csr_matrix(
            (values, (np.concatenate([row, rows]), cells)), shape
        )
        return [*part, excess, weights.T @ z]

    others, rows = [predictions.labels], 1
    if weights is not None:
        others.append(weights.T)
        low = np.zeros((len(weights), logits.shape[1]))
        rows = 2 * len(weights)  # so that to add up takes less than the rest
    parts = []
    for part in over_chunks(work, logits, *others, rows=rows):
        if weights is not None:
            low += part.pop()
        parts.append(part)
    columns = [*zip(*parts, strict=True)]
    found = [np.concatenate(column, axis=-1) for column in columns[:6]]
    if weights is None:
        return ImageScores(*found)
    return ImageScores(*found, scipy.sparse.vstack(columns[6], "csr"), low)


def reaches(probabilities: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Which classes are in a set, booleans (N, C)."""
    # The last bits of a probability depend on the order of its sums.
    return probabilities >= np.asarray(thresholds) * (1 - 1e-12)


def calibration(
    predictions: Predictions,
    scaling: Scaling = Scaling(),  # noqa: B008  (a tuple)
    bins: int = BINS,
) -> dict[str, float]:
    """Calibration errors of the softmax of the logits.

    - `ece`: `sum_m |B_m| / N * |accuracy(B_m) - confidence(B_m)|`, B_m the
      images whose predicted class has a probability in ((m - 1) / M, m / M]
      (Guo et al., ICML 2017, equation 3);
    - `ece_equal_mass`: the same with bins of equally many images (Nixon et
      al., CVPR workshops 2019);
    - `classwise_ece`: mean over classes c of `sum_m |B_cm| / N * |share of
      class c in B_cm - mean of p_c in B_cm|`, B_cm the images with p_c in the
      m-th bin (Kull et al., NeurIPS 2019);
    - `brier`: mean over images of `sum_c (p_c - [c is true]) ** 2`, 0 to 2
      (Brier, 1950);
    - `nll`: mean over images of `-log p` of the true class.

    Args:
        predictions: Answers with logits.
        scaling: Scaling to apply to the logits first.
        bins: M.

    Returns:
        The errors by name.

    Raises:
        ValueError: If there are no logits, or no bins.

    Example:
        >>> predictions = keras_lt.evaluation.Predictions(
        ...     np.log([[0.75, 0.25], [0.75, 0.25]]), [0, 1], [500, 5]
        ... )
        >>> errors = keras_lt.evaluation.calibration(predictions)
        >>> round(errors["ece"], 3), round(errors["brier"], 3)
        (0.25, 0.625)
    """
    bins = integer("bins", bins, 1)
    weights = np.ones((1, len(predictions)))
    images = image_scores(predictions, scaling, weights, bins)
    found = errors(images, weights, bins)
    found["classwise_ece"] = classwise_error(images, weights)
    return {name: float(value[0]) for name, value in found.items()}


def mean_errors(images: ImageScores) -> dict[str, float]:
    """The errors of `calibration` without the class-wise one, which is slow."""
    found = errors(images, np.ones((1, len(images.nll))))
    return {name: float(value[0]) for name, value in found.items()}


def errors(
    images: ImageScores, weights: np.ndarray, bins: int = BINS
) -> dict[str, np.ndarray]:
    """Calibration errors (D,) of images that have weights (D, N)."""
    size = weights.sum(1)
    gap = images.hits - images.confidence
    width = _bins(images.confidence, bins)
    order = np.argsort(images.confidence, kind="stable")
    mass = np.empty(len(gap), np.int64)
    mass[order] = np.arange(len(gap)) * bins // len(gap)

    def binned(places):
        gaps = scipy.sparse.csr_matrix(
            (gap, (places, np.arange(len(gap)))), (bins, len(gap))
        )
        return np.abs(gaps @ weights.T).sum(0) / size

    return {
        "ece": binned(width),
        "ece_equal_mass": binned(mass),
        "brier": weights @ images.brier / size,
        "nll": weights @ images.nll / size,
    }


def classwise_error(images: ImageScores, weights: np.ndarray) -> np.ndarray:
    """The class-wise errors (D,) of images scored with weights (D, N)."""
    draws, classes = images.low.shape
    sums = (images.excess.T @ weights.T).T.reshape(draws, classes, -1)
    sums[:, :, 0] += images.low
    return np.abs(sums).sum((1, 2)) / weights.sum(1) / classes


def _bins(probabilities: np.ndarray, bins: int) -> np.ndarray:
    places = np.ceil(probabilities * bins).astype(np.int64) - 1
    return np.clip(places, 0, bins - 1)


def fit_temperature(
    holdout: Predictions, source: Sequence[float] | None = None
) -> float:
    """The temperature T that calibrates logits best, as `logits / T`.

    It minimizes the negative log-likelihood of the hold-out (Guo et al., ICML
    2017, section 4.2). Predicted classes stay as they are. T is right for
    images whose classes are as frequent as those of the hold-out.

    With a `source`, the hold-out may have other class frequencies than it: the
    loss is that of `logits / T + log h - log source`, h the images per class of
    the hold-out, and T is right for images whose classes are as frequent as the
    source, such as all equally frequent after balanced softmax.

    Args:
        holdout: Logits of images that the model was not trained on.
        source: As in `keras_lt.evaluation.adjustment`; None takes the logits as
            they are.

    Returns:
        T, from 0.01 (a hold-out without a mistake asks for 0) to 100 (logits
        that say nothing).

    Raises:
        ValueError: If there are no logits.

    Example:
        >>> held_out = keras_lt.evaluation.Predictions(
        ...     [[2.0, 0.0]] * 4, [0, 0, 0, 1], [500, 5]
        ... )
        >>> round(keras_lt.evaluation.fit_temperature(held_out), 3)
        1.82
    """
    logits = need_logits(holdout, "a temperature")
    offset = _offset(holdout, source)

    def slope_of(every):
        some, labels = logits[::every], holdout.labels[::every]
        return functools.cache(functools.partial(_slope, some, labels, offset))

    # The loss is convex in 1 / T: its slope grows.
    low, high = TEMPERATURES
    ends = least, most = -np.log(high), -np.log(low)
    slope = slope_of(1)
    every = -(-logits.size // _START_LOGITS)
    if every > 1:
        some = slope_of(every)
        start = _root(some, *ends, xtol=1e-4)
        if least < start < most:
            rise = some(start + _STEP) - some(start - _STEP)
            step = slope(start) * 2 * _STEP / (every * rise)
            found = _by_secants(slope, start, start - step)
            if least < found < most:
                return float(np.exp(-found))
        ends = _around(start, slope, *ends)
    found = _root(slope, *ends)
    return {least: high, most: low}.get(found, float(np.exp(-found)))


def _slope(
    logits: np.ndarray,
    labels: np.ndarray,
    offset: np.ndarray | None,
    log_scale: float,
) -> float:
    """Slope of the loss of `exp(log_scale) * logits`, over exp(log_scale)."""
    scale = np.exp(log_scale)

    def work(logits, labels):
        top = logits.max(1, keepdims=True)
        z = np.subtract(logits, top, dtype=np.float64)
        true = z[np.arange(len(z)), labels].sum()
        shares = scale * z
        if offset is not None:
            shares += offset
            shares -= shares.max(1, keepdims=True)
        np.exp(shares, out=shares)
        means = np.einsum("nc,nc->n", shares, z) / shares.sum(1)
        return means.sum() - true

    return sum(over_chunks(work, logits, labels))


def _root(
    slope: Callable, least: float, most: float, xtol: float = 1e-7
) -> float:
    """Where a growing slope is 0, or the end nearest to it."""
    if slope(least) >= 0:
        return least
    if slope(most) <= 0:
        return most
    return scipy.optimize.brentq(slope, least, most, xtol=xtol)


def _by_secants(slope: Callable, first: float, second: float) -> float:
    """Where a slope is 0, from two points near by; NaN if it is not found."""
    if second == first:
        return first
    found, ended = scipy.optimize.newton(
        slope,
        first,
        x1=second,
        tol=3e-5,  # the point after the last one is far nearer than that
        maxiter=6,
        full_output=True,
        disp=False,
    )
    return found if ended.converged else np.nan


def _around(
    start: float, slope: Callable, least: float, most: float
) -> tuple[float, float]:
    """Ends near `start` between which the slope is 0, or those given."""
    width = 0.02
    while True:
        low, high = max(start - width, least), min(start + width, most)
        if (low == least or slope(low) < 0) and (
            high == most or slope(high) > 0
        ):
            return low, high
        width *= 4


def _offset(
    holdout: Predictions, source: Sequence[float] | None
) -> np.ndarray | None:
    if source is None:
        return None
    return adjustment(holdout.totals, source)


def fit_vector_scaling(
    holdout: Predictions,
    iterations: int = 100,
    source: Sequence[float] | None = None,
) -> Scaling:
    """A scale and a bias per class that calibrate logits best.

    `softmax(a * logits + b)`, a and b (C,), with the lowest negative
    log-likelihood of the hold-out (Guo et al., ICML 2017, section 4.2), by
    L-BFGS from the temperature. Predicted classes may change: b also holds
    how frequent classes are in the hold-out. A class without an image there
    keeps the scale of the temperature and has no bias.

    Args:
        holdout: Logits of images that the model was not trained on.
        iterations: Largest number of iterations of L-BFGS.
        source: As in `fit_temperature`: b is what is left to learn then.

    Returns:
        Scale and bias, for `calibration` and the like.

    Raises:
        ValueError: If there are no logits.

    Example:
        >>> held_out = keras_lt.evaluation.Predictions(
        ...     [[2.0, 0.0]] * 4, [0, 0, 0, 1], [500, 5]
        ... )
        >>> scaling = keras_lt.evaluation.fit_vector_scaling(held_out)
        >>> errors = keras_lt.evaluation.calibration(held_out, scaling)
        >>> round(errors["ece"], 3)
        0.0
    """
    logits = need_logits(holdout, "vector scaling")
    iterations = integer("iterations", iterations, 1)
    size = holdout.num_classes
    present = holdout.totals > 0
    offset = _offset(holdout, source)

    def loss(parameters):
        scale, bias = parameters.reshape(2, size)

        def work(logits, labels):
            z = logits.astype(np.float64)
            shares = z * scale + bias
            if offset is not None:
                shares += offset
            shares -= shares.max(1, keepdims=True)
            rows = np.arange(len(z))
            true = shares[rows, labels].sum()
            np.exp(shares, out=shares)
            sums = shares.sum(1)
            shares /= sums[:, None]
            shares[rows, labels] -= 1
            slopes = [np.einsum("nc,nc->c", shares, z), shares.sum(0)]
            return np.log(sums).sum() - true, np.stack(slopes)

        values, slopes = zip(
            *over_chunks(work, logits, holdout.labels), strict=True
        )
        slope = np.where(present, sum(slopes), 0).ravel()
        return sum(values) / len(logits), slope / len(logits)

    start = np.zeros((2, size))
    start[0] = 1 / fit_temperature(holdout, source)
    found = scipy.optimize.minimize(
        loss,
        start.ravel(),
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": iterations},
    )
    return Scaling(*found.x.reshape(2, size))


def reliability(
    predictions: Predictions,
    scaling: Scaling = Scaling(),  # noqa: B008  (a tuple)
    bins: int = BINS,
) -> dict[str, dict[str, list | float] | None]:
    """What a reliability diagram shows: how often confident answers are right.

    By shot group of the predicted class, which is what a user knows of an
    image: where calibration is right, images that are taken for a tail class
    with a probability of 80 % are of this class in 80 % of the cases too.

    Args:
        predictions: Answers with logits.
        scaling: Scaling to apply to the logits first.
        bins: Bins of equal width of the probability of the predicted class.

    Returns:
        For `"all"` and each shot group `images`, `confidence` and `accuracy`,
        one number per bin, means over its images and None without one; and
        `ece`, as `calibration` has it, of these images. None for a group that
        nothing is taken for.

    Raises:
        ValueError: If there are no logits, or no bins.

    Example:
        >>> predictions = keras_lt.evaluation.Predictions(
        ...     np.log([[0.75, 0.25], [0.75, 0.25]]), [0, 1], [500, 5]
        ... )
        >>> found = keras_lt.evaluation.reliability(predictions, bins=4)
        >>> found["many"]["accuracy"], found["few"]
        ([None, None, 0.5, None], None)
    """
    bins = integer("bins", bins, 1)
    logits = need_logits(predictions, "calibration")
    images = image_scores(predictions, scaling)
    parts = over_chunks(lambda rows: scaling(rows).argmax(1), logits)
    predicted = np.concatenate([*parts])
    places = _bins(images.confidence, bins)
    masks = {"all": np.ones(len(predicted), bool)}
    masks |= {name: predictions.groups[name][predicted] for name in GROUPS}

    def of(mask):
        if not mask.any():
            return None
        sizes, confidence, hits = (
            np.bincount(places[mask], values[mask], bins)
            for values in (mask, images.confidence, images.hits)
        )
        means = {
            name: [
                float(total / size) if size else None
                for total, size in zip(sums, sizes, strict=True)
            ]
            for name, sums in (("confidence", confidence), ("accuracy", hits))
        }
        return {
            "images": sizes.astype(int).tolist(),
            **means,
            "ece": float(np.abs(hits - confidence).sum() / mask.sum()),
        }

    return {name: of(mask) for name, mask in masks.items()}


def kind_of_holdout(totals: Sequence[int]) -> str:
    """Says whether a hold-out is `"balanced"` or `"long-tailed"`.

    It is balanced if its largest class has at most twice the images of its
    smallest: what is fitted on it holds for classes of such frequencies.

    Args:
        totals: Images per class of the hold-out (C,).

    Example:
        >>> keras_lt.evaluation.kind_of_holdout([50, 40])
        'balanced'
    """
    return "balanced" if max(totals) <= 2 * min(totals) else "long-tailed"
