"""Likely label errors, by a classifier that has not seen the images."""

from typing import NamedTuple

import numpy as np
import scipy.sparse
from scipy.special import expit

from keras_lt.arguments import integer
from keras_lt.counts import log_prior
from keras_lt.evaluation.calibration import fit_temperature
from keras_lt.evaluation.predictions import Predictions, over_chunks


class LabelErrors(NamedTuple):
    """Images whose labels are likely wrong, the likeliest first.

    Attributes:
        indices: int64 (n,).
        suggested: Class id that each looks like, int64 (n,).
        log_odds: Of the label against all other classes, (n,): the lower, the
            likelier it is wrong.
        judged: Whether each of all images could be judged, bool (N,).

    Example:
        >>> keras_lt.evaluation.LabelErrors([7], [1], [-4.0], [True]).suggested
        [1]
    """

    indices: np.ndarray
    suggested: np.ndarray
    log_odds: np.ndarray
    judged: np.ndarray


def out_of_fold_logits(
    features: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    folds: int = 5,
    seed: int = 0,
) -> np.ndarray:
    """Logits of each image from a classifier that has not seen it.

    The images are cut into folds with the classes in equal parts. For each
    fold a linear discriminant is fitted to the features of the others: `log
    n_c + m_c' S^-1 x - m_c' S^-1 m_c / 2` with class means m_c and the
    covariance S within classes, shrunk as Ledoit and Wolf (2004) do. It has a
    closed form, so that it takes seconds where a trained head takes minutes.

    Args:
        features: (N, D).
        labels: Class ids (N,).
        num_classes: C.
        folds: At least 2; of a class with fewer images each image is a fold.
        seed: Seed of the folds.

    Returns:
        Logits, float32 (N, C). Of a class that only its own fold has, they are
        as low as the lowest of the image: nothing is known of it.

    Raises:
        ValueError: If shapes or labels are wrong, or no two images are there.

    Example:
        >>> logits = keras_lt.evaluation.out_of_fold_logits(
        ...     np.repeat([[0.0, 1.0], [4.0, 0.0]], 5, axis=0)
        ...     + np.tile([[0.1, 0.0], [-0.1, 0.1]], (5, 1)),
        ...     np.repeat([0, 1], 5),
        ...     num_classes=2,
        ... )
        >>> logits.argmax(1)
        array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1])
    """
    # Here, so that importing keras_lt does not wait for scikit-learn.
    from sklearn.covariance import ledoit_wolf_shrinkage

    x = np.asarray(features, np.float32)
    labels = np.asarray(labels)
    folds = integer("folds", folds, 2)
    if x.ndim != 2 or labels.shape != x.shape[:1] or len(x) < 2:
        raise ValueError(
            "Expected features (N, D), N > 1, and labels (N,). Received: "
            f"shapes {x.shape} and {labels.shape}"
        )
    x = x - x.mean(0)
    counts, means, scatter = _moments(x, labels, num_classes)
    shrinkage = ledoit_wolf_shrinkage(
        x - means[labels], assume_centered=True, block_size=4096
    )
    logits = np.empty((len(x), num_classes), np.float32)
    for fold in _folds(labels, folds, seed):
        own = _moments(x[fold], labels[fold], num_classes)
        logits[fold] = _discriminant(
            x[fold],
            counts - own[0],
            counts[:, None] * means - own[0][:, None] * own[1],
            scatter - own[2],
            shrinkage,
        )
    return logits


def _folds(labels: np.ndarray, folds: int, seed: int) -> list[np.ndarray]:
    """Positions of each fold; a class of fewer images is spread over some."""
    generator = np.random.default_rng(integer("seed", seed, 0))
    order = generator.permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    # Each class goes on where the one before it ended: equal folds.
    of_place = np.arange(len(labels)) % folds
    found = [np.sort(order[of_place == fold]) for fold in range(folds)]
    return [fold for fold in found if len(fold)]


def _moments(x: np.ndarray, labels: np.ndarray, num_classes: int) -> tuple:
    """Counts (C,), means (C, D) and the sum of products (D, D)."""
    counts = np.bincount(labels, minlength=num_classes)
    rows = np.arange(len(x))
    of_class = scipy.sparse.csr_matrix(
        (np.ones(len(x)), (labels, rows)), (num_classes, len(x))
    )
    means = of_class @ x / np.maximum(counts, 1)[:, None]
    return counts, means, (x.T @ x).astype(np.float64)


def _discriminant(
    x: np.ndarray,
    counts: np.ndarray,
    sums: np.ndarray,
    products: np.ndarray,
    shrinkage: float,
) -> np.ndarray:
    means = sums / np.maximum(counts, 1)[:, None]
    within = products - (means.T * counts) @ means
    within /= max(1, counts.sum() - np.count_nonzero(counts))
    size = len(within)
    scale = max(np.trace(within) / size, 1e-12)
    within *= 1 - shrinkage
    within.flat[:: size + 1] += max(shrinkage, 1e-6) * scale
    directions = np.linalg.solve(within, means.T)  # (D, C)
    offsets = -0.5 * np.einsum("cd,dc->c", means, directions)
    offsets += log_prior(counts / counts.sum())
    logits = x @ directions.astype(np.float32) + offsets.astype(np.float32)
    known = counts > 0
    logits[:, ~known] = logits[:, known].min(1, keepdims=True)
    return logits


def label_errors(
    logits: np.ndarray, labels: np.ndarray, class_counts: np.ndarray
) -> LabelErrors:
    """Images whose labels are likely wrong: confident learning.

    An image is one if a class other than its label has the highest
    probability of those that reach their threshold, which is the mean
    probability that the images of a class have for it (Northcutt et al., JAIR
    2021, equations 1 and 2): classes of few images, which are rarely sure, are
    judged by themselves. They are ordered by the probability of the label;
    of 698 labels planted wrong among 34,889, 48 were among the first 50, where
    the margin to the other class, often 1 to many digits, found 36.
    Probabilities are those of the logits at the temperature that fits the
    labels best.

    Args:
        logits: Of images that the classifier has not seen (N, C), such as
            `out_of_fold_logits` gives.
        labels: Their labels (N,).
        class_counts: Images per class, integers (C,). Images of a class that
            has only one are not judged.

    Returns:
        Indices, suggestions, log-odds, and which images were judged.

    Raises:
        ValueError: As `Predictions`.

    Example:
        >>> found = keras_lt.evaluation.label_errors(
        ...     np.array([[4.0, 0], [3, 0], [0, 4], [0, 5], [5, 0]]),
        ...     labels=np.array([0, 0, 1, 1, 1]),
        ...     class_counts=[2, 3],
        ... )
        >>> found.indices, found.suggested
        (array([4]), array([0]))
    """
    predictions = Predictions(logits, labels, class_counts)
    labels = predictions.labels
    scale = 1 / fit_temperature(predictions)

    def log_probabilities(logits):
        z = logits.astype(np.float64) * scale
        z -= z.max(1, keepdims=True)
        return z - np.log(np.exp(z).sum(1, keepdims=True))

    def own_log_odds(logits, labels):
        z = log_probabilities(logits)
        rows = np.arange(len(z))
        own = z[rows, labels]
        z[rows, labels] = -np.inf
        return own - np.log(np.exp(z).sum(1))

    chunks = over_chunks(own_log_odds, predictions.logits, labels)
    log_odds = np.concatenate([*chunks])
    own = expit(log_odds)
    sums = np.bincount(labels, own, minlength=predictions.num_classes)
    thresholds = sums / np.maximum(predictions.totals, 1)
    thresholds[predictions.totals == 0] = np.inf

    def best_other(logits, labels):
        p = np.exp(log_probabilities(logits))
        p[np.arange(len(p)), labels] = -1
        p[p < thresholds] = -1
        best = p.argmax(1)
        return best, p[np.arange(len(p)), best]

    chunks = over_chunks(best_other, predictions.logits, labels)
    best, other = (np.concatenate(part) for part in zip(*chunks, strict=True))
    judged = predictions.class_counts[labels] > 1
    indices = np.flatnonzero(judged & (other > own))
    indices = indices[np.argsort(log_odds[indices], kind="stable")]
    return LabelErrors(indices, best[indices], log_odds[indices], judged)
