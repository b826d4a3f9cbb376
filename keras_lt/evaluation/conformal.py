"""Sets of classes that hold the true one: split conformal prediction."""

import math
from collections.abc import Iterable

import numpy as np
import scipy.special

from keras_lt.counts import log_prior
from keras_lt.evaluation.calibration import (
    ImageScores,
    Scaling,
    image_scores,
    reaches,
)
from keras_lt.evaluation.intervals import check_level
from keras_lt.evaluation.predictions import Predictions, need_logits
from keras_lt.metrics import GROUPS

METHODS = ("marginal", "class_conditional", "pooled_tail", "prior_adjusted")


def conformal_thresholds(
    holdout: Predictions,
    method: str = "marginal",
    coverage: float = 0.9,
    scaling: Scaling = Scaling(),  # noqa: B008  (a tuple)
) -> np.ndarray:
    """Thresholds t such that `{c: p_c >= t_c}` holds the true class.

    p is the softmax of the logits. On images drawn as those of the hold-out
    the share of the sets that hold their class is at least `coverage`, and at
    most 1 / (n + 1) above it where no two scores are equal, n images:

    - `"marginal"`: over all images, with one threshold (Sadinle et al., JASA
      2019);
    - `"class_conditional"`: over the images of each class, with its own
      threshold (Vovk, 2012). Below `coverage / (1 - coverage)` images of a
      class it is in every set;
    - `"pooled_tail"`: the same, but the classes with so few images share one
      threshold, from the images of all of them: on average over these images
      it holds, as by Mondrian groups (Vovk et al., 2003). Sets stay small where
      most classes are in the tail;
    - `"prior_adjusted"`: over all images, by p_c / prior_c, the prior from the
      `class_counts`, which makes sets of a size that hold most classes best
      (Ding et al., ICLR 2026, arXiv:2507.06867): macro coverage is higher.

    A threshold is the k-th lowest score of a true class, k = (n + 1) * (1 -
    coverage) rounded down, and 0 where k is.

    Args:
        holdout: Logits of images that the model was not trained on.
        method: One of the four.
        coverage: Share of the sets that hold the true class.
        scaling: Scaling to apply to the logits first.

    Returns:
        t, float64 (C,).

    Raises:
        ValueError: If there are no logits, or an argument is none of these.

    Example:
        >>> held_out = keras_lt.evaluation.Predictions(
        ...     np.log([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]]), [0, 0, 1], [9, 9]
        ... )
        >>> keras_lt.evaluation.conformal_thresholds(
        ...     held_out, coverage=0.75
        ... ).round(3)
        array([0.7, 0.7])
    """
    (found,) = many_thresholds(holdout, [(method, coverage)], scaling)
    return found


def many_thresholds(
    holdout: Predictions,
    choices: Iterable[tuple[str, float]],
    scaling: Scaling,
) -> list[np.ndarray]:
    """Thresholds for several methods and coverages, from one softmax.

    Args:
        holdout: As in `conformal_thresholds`.
        choices: Pairs of a method and a coverage.
        scaling: As in `conformal_thresholds`.

    Returns:
        Thresholds (C,) for each pair.
    """
    choices = [*choices]
    for method, coverage in choices:
        if method not in METHODS:
            raise ValueError(
                f"Expected method to be one of {METHODS}. "
                f"Received: method={method!r}"
            )
        check_level(coverage, "coverage")
    true = np.exp(-image_scores(holdout, scaling).nll)
    return [_thresholds(true, holdout, *choice) for choice in choices]


def _thresholds(
    true: np.ndarray, holdout: Predictions, method: str, coverage: float
) -> np.ndarray:
    """Thresholds (C,), from the probabilities of the true classes (N,)."""
    size = holdout.num_classes
    if method in ("class_conditional", "pooled_tail"):
        groups = np.split(
            true[np.argsort(holdout.labels, kind="stable")],
            np.cumsum(holdout.totals)[:-1],
        )
        found = np.array([lowest(own, coverage) for own in groups])
        tail = few_images(holdout.totals, coverage)
        if method == "pooled_tail" and tail.any():
            found[tail] = lowest(true[tail[holdout.labels]], coverage)
        return found
    prior = np.ones(size)
    if method == "prior_adjusted":
        prior = np.exp(log_prior(holdout.class_counts))
        prior /= prior.sum()
    return prior * lowest(true / prior[holdout.labels], coverage)


def _rank(images: int, share: float) -> int:
    # Rounded first: 10 * (1 - 0.9) is a little below 1.
    return math.floor(round((images + 1) * (1 - share), 9))


def lowest(scores: np.ndarray, share: float, none: float = 0.0) -> float:
    """The score that a new one reaches with the probability `share`, at least.

    The k-th lowest of n, k = (n + 1) * (1 - share) rounded down; `none` where k
    is 0, as with few scores.
    """
    rank = _rank(len(scores), share)
    return float(np.partition(scores, rank - 1)[rank - 1]) if rank else none


def few_images(totals: np.ndarray, coverage: float) -> np.ndarray:
    """Classes (C,) with too few images for a threshold of their own."""
    return np.array([_rank(total, coverage) == 0 for total in totals])


def conformal_sets(
    logits: np.ndarray,
    thresholds: np.ndarray,
    scaling: Scaling = Scaling(),  # noqa: B008  (a tuple)
) -> np.ndarray:
    """The sets of classes, as booleans (N, C).

    Args:
        logits: (N, C).
        thresholds: Result of `conformal_thresholds` (C,).
        scaling: The scaling that the thresholds were made with.

    Returns:
        Whether a class is in the set of an image. A set may be empty: no class
        is as probable as those of the hold-out were.

    Example:
        >>> keras_lt.evaluation.conformal_sets(
        ...     np.log([[0.6, 0.4], [0.9, 0.1]]), np.array([0.3, 0.3])
        ... )
        array([[ True,  True],
               [ True, False]])
    """
    return reaches(scipy.special.softmax(scaling(logits), axis=1), thresholds)


def score_sets(
    predictions: Predictions,
    thresholds: np.ndarray,
    scaling: Scaling = Scaling(),  # noqa: B008  (a tuple)
) -> dict[str, float | dict | None]:
    """How often sets hold the true class, and how large they are.

    Args:
        predictions: Logits and labels of images that thresholds are not from.
        thresholds: Result of `conformal_thresholds` (C,).
        scaling: The scaling that the thresholds were made with.

    Returns:
        `coverage`, the share of the sets that hold the class;
        `macro_coverage`, the mean of these shares over classes;
        `lowest_coverage`, the lowest of them; `size`, classes in a set on
        average, and `empty`, the share of sets with none; `group_coverage` and
        `group_size`, the means over the images of each shot group.

    Raises:
        ValueError: If there are no logits.

    Example:
        >>> predictions = keras_lt.evaluation.Predictions(
        ...     np.log([[0.6, 0.4], [0.9, 0.1]]), [1, 0], [500, 5]
        ... )
        >>> found = keras_lt.evaluation.score_sets(predictions, [0.3, 0.3])
        >>> found["coverage"], found["size"]
        (1.0, 1.5)
    """
    need_logits(predictions, "sets")
    images = image_scores(predictions, scaling, thresholds=[thresholds])
    (found,) = of_sets(predictions, images)
    return found


def of_sets(predictions: Predictions, images: ImageScores) -> list[dict]:
    """What `score_sets` gives, for each of the thresholds of image scores."""
    parts = zip(images.held, images.sizes, strict=True)
    return [_of_sets(predictions, *part) for part in parts]


def _of_sets(
    predictions: Predictions, held: np.ndarray, sizes: np.ndarray
) -> dict:
    """Scores of sets of these sizes, that hold a class or not, (N,)."""
    labels, totals = predictions.labels, predictions.totals
    present = totals > 0
    by_class = np.bincount(labels, held, len(totals))[present] / totals[present]

    def by_group(values):
        masks = {name: predictions.groups[name][labels] for name in GROUPS}
        return {
            name: float(values[mask].mean()) if mask.any() else None
            for name, mask in masks.items()
        }

    return {
        "coverage": float(held.mean()),
        "macro_coverage": float(by_class.mean()),
        "lowest_coverage": float(by_class.min()),
        "size": float(sizes.mean()),
        "empty": float((sizes == 0).mean()),
        "group_coverage": by_group(held),
        "group_size": by_group(sizes),
    }
