"""Which images are mistaken, which pairs of classes are confused."""

from typing import NamedTuple

import numpy as np

from keras_lt.evaluation.calibration import Scaling, image_scores
from keras_lt.evaluation.predictions import (
    Predictions,
    need_logits,
)


class ConfusedPair(NamedTuple):
    """Two classes and how often each is taken for the other.

    Attributes:
        classes: Their ids; images of the first are lost more often.
        missed: Test images of the first that are taken for the second, and of
            the second for the first.
        lost: What these mistakes take from balanced accuracy, 0 to 1.

    Example:
        >>> keras_lt.evaluation.ConfusedPair((1, 0), (2, 1), 0.75).lost
        0.75
    """

    classes: tuple[int, int]
    missed: tuple[int, int]
    lost: float


def confidences(
    predictions: Predictions,
    scaling: Scaling = Scaling(),  # noqa: B008  (a tuple)
) -> np.ndarray:
    """Softmax probability of the predicted class, by image.

    Args:
        predictions: Answers with logits.
        scaling: Scaling to apply to the logits first, such as a temperature.

    Returns:
        Probabilities, float64 (N,).

    Raises:
        ValueError: If there are no logits.

    Example:
        >>> predictions = keras_lt.evaluation.Predictions(
        ...     np.log([[0.75, 0.25]]), [1], [500, 5]
        ... )
        >>> keras_lt.evaluation.confidences(predictions)
        array([0.75])
    """
    need_logits(predictions, "confidences")
    return image_scores(predictions, scaling).confidence


def confident_errors(
    predictions: Predictions,
    scaling: Scaling = Scaling(),  # noqa: B008  (a tuple)
) -> np.ndarray:
    """Mistaken images, those of which the model is surest first.

    Args:
        predictions: Answers with logits.
        scaling: Scaling to apply to the logits first, such as a temperature.

    Returns:
        Indices of all mistaken images, int64 (errors,).

    Raises:
        ValueError: If there are no logits.

    Example:
        >>> predictions = keras_lt.evaluation.Predictions(
        ...     [[3.0, 0.0], [2.0, 0.0], [4.0, 0.0]], [1, 0, 1], [500, 5]
        ... )
        >>> keras_lt.evaluation.confident_errors(predictions)
        array([2, 0])
    """
    sure = confidences(predictions, scaling)
    wrong = np.flatnonzero(predictions.predicted != predictions.labels)
    return wrong[np.argsort(-sure[wrong], kind="stable")]


def confused_pairs(predictions: Predictions) -> list[ConfusedPair]:
    """Pairs of classes that are taken for each other, the costliest first.

    With `n_ij` of the `n_i` images of class i taken for class j, a pair takes
    `(n_ij / n_i + n_ji / n_j) / C` from the balanced accuracy over C classes
    that have images. So one image of a class with few counts as much as many
    of a class with many.

    Args:
        predictions: Answers for images of any classes.

    Returns:
        All pairs with a mistake.

    Example:
        >>> predictions = keras_lt.evaluation.Predictions(
        ...     np.array([0, 1, 0, 0]), [0, 0, 1, 1], [500, 5]
        ... )
        >>> keras_lt.evaluation.confused_pairs(predictions)
        [ConfusedPair(classes=(1, 0), missed=(2, 1), lost=0.75)]
    """
    labels, predicted = predictions.labels, predictions.predicted
    size = predictions.num_classes
    wrong = (predicted != labels) & (predicted >= 0)
    keys, missed = np.unique(
        labels[wrong] * size + predicted[wrong], return_counts=True
    )
    shares = {}
    for key, number in zip(keys.tolist(), missed.tolist(), strict=True):
        i, j = divmod(key, size)
        shares[i, j] = number, number / int(predictions.totals[i])
    present = int(np.count_nonzero(predictions.totals))
    pairs = []
    for i, j in {tuple(sorted(pair)) for pair in shares}:
        one, other = (shares.get(p, (0, 0.0)) for p in ((i, j), (j, i)))
        if other[1] > one[1]:
            i, j, one, other = j, i, other, one
        lost = (one[1] + other[1]) / present
        pairs.append(ConfusedPair((i, j), (one[0], other[0]), lost))
    return sorted(pairs, key=lambda pair: (-pair.lost, pair.classes))
