"""All figures of one scoring of a data set."""

from collections.abc import Sequence

import numpy as np

from keras_lt.counts import Classes
from keras_lt.metrics.checks import check_scored
from keras_lt.metrics.scores import Tally, headline_scores

MAX_CONFUSION_CLASSES = 1000


def evaluate(
    logits: np.ndarray,
    labels: np.ndarray,
    classes: Classes | Sequence[int],
) -> dict:
    """All figures of one scoring of a data set, ready for JSON.

    Args:
        logits: Scores (N, C), or predicted class ids, integers (N,), with -1
            for none: a miss, in no column of the confusion matrix.
        labels: Class ids (N,) or (N, 1).
        classes: `keras_lt.counts.Classes`, or training images per class,
            integers (C,).

    Returns:
        The headline scores of `keras_lt.metrics.SCORES` as fractions: `top1`,
        `balanced`, `harmonic_mean` and `lowest_recall` over classes, `many`,
        `medium`, `few`, `unseen` (None for a group without an image) and `ece`
        (None for predicted ids, which have no confidence). Beside them
        `per_class` (C fractions by label id, None for a class without an
        image), `confusion` (C x C integers, rows are true classes; None above
        1,000 classes) and `num_images`.

    Raises:
        ValueError: On logits that are not finite, shapes that do not agree,
            or labels out of range.

    Example:
        >>> scores = keras_lt.metrics.evaluate(
        ...     [[2.0, 0.0], [2.0, 0.0]], [0, 1], [500, 5]
        ... )
        >>> scores["few"]
        0.0
    """
    classes = Classes.of(classes)
    logits = np.asarray(logits)
    predicted, labels = check_scored(logits, labels, len(classes))
    tally = tally_of(predicted, labels, classes.groups)
    found = {}
    for score in headline_scores():
        value = None
        if score.of is not None:
            value = score.of(tally)
        elif logits.ndim == 2:
            value = score.of_logits(logits, labels)
        found[score.name] = None if value is None else float(value)
    per_class = tally.hits / np.maximum(tally.totals, 1)
    return found | {
        "per_class": [
            float(value) if present else None
            for value, present in zip(per_class, tally.present, strict=True)
        ],
        "confusion": _confusion(predicted, labels, len(classes)),
        "num_images": len(labels),
    }


def tally_of(
    predicted: np.ndarray, labels: np.ndarray, groups: dict[str, np.ndarray]
) -> Tally:
    """Counts answers by class.

    Args:
        predicted: Predicted class ids, integers (N,), -1 for none.
        labels: Class ids, integers (N,).
        groups: Masks (C,) of the shot groups.

    Example:
        >>> groups = keras_lt.counts.shot_groups([500, 5])
        >>> keras_lt.metrics.tally_of(
        ...     np.array([0, 0]), np.array([0, 1]), groups
        ... ).hits
        array([1, 0])
    """
    size = len(next(iter(groups.values())))
    return Tally(
        hits=np.bincount(labels[predicted == labels], minlength=size),
        given=np.bincount(predicted + 1, minlength=size + 1),
        totals=np.bincount(labels, minlength=size),
        groups=groups,
    )


def _confusion(
    predicted: np.ndarray, labels: np.ndarray, num_classes: int
) -> list[list[int]] | None:
    if num_classes > MAX_CONFUSION_CLASSES:
        return None
    seen = predicted >= 0
    confusion = np.zeros((num_classes, num_classes), np.int64)
    np.add.at(confusion, (labels[seen], predicted[seen]), 1)
    return confusion.tolist()
