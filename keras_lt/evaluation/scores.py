"""Scores of a classifier: functions of its confusion matrix."""

import numpy as np

from keras_lt.evaluation.predictions import Predictions, over_chunks
from keras_lt.metrics import SCORES, Tally, tally_of
from keras_lt.metrics.scores import TOP


def scores(predictions: Predictions) -> dict[str, float | None]:
    """Scores of a classifier, each as a fraction.

    With r_c the recall of class c, its share of right answers, over the P
    classes that have an image:

    - `top1`: right answers over images;
    - `top5`: share of the images whose class is among the five with the
      highest logits, None without logits;
    - `balanced`: `sum_c r_c / P`;
    - `geometric_mean`: `(prod_c r_c) ** (1 / P)` (Kubat and Matwin, ICML
      1997); `harmonic_mean`: `P / sum_c (1 / r_c)` (Du and Wu, WACV 2024,
      "No one left behind"); both are 0 if a recall is;
    - `lowest_recall`: `min_c r_c`; `lowest_5_recall`: mean of the five lowest;
    - `macro_f1`: mean over classes of `2 h_c / (n_c + m_c)`, h right answers,
      n images of the class, m images that were given it;
    - `matthews`: correlation of labels and predicted classes, -1 to 1
      (Gorodkin, 2004); a refused image is one of a class of its own;
    - `many`, `medium`, `few`, `unseen`: means of r_c over the classes of a
      shot group, None for a group without an image.

    Args:
        predictions: The answers to score.

    Returns:
        The scores by name.

    Example:
        >>> predictions = keras_lt.evaluation.Predictions(
        ...     np.array([0, 0, 0, 1, 1, 0]), [0, 0, 0, 0, 1, 1], [500, 5]
        ... )
        >>> found = keras_lt.evaluation.scores(predictions)
        >>> found["balanced"], round(found["harmonic_mean"], 3)
        (0.625, 0.6)
    """
    tally = tally_of(
        predictions.predicted, predictions.labels, predictions.groups
    )
    found = of_tally(tally)
    found["top5"] = None
    if predictions.logits is not None:
        found["top5"] = in_top(predictions).mean()
    return {
        name: None if value is None else float(value)
        for name, value in found.items()
    }


def of_tally(tally: Tally) -> dict[str, np.ndarray | None]:
    """Scores that are functions of counts: of one scoring or of many draws.

    Args:
        tally: Images by class and answer, (..., C).

    Returns:
        Scores of shape (...) by name, None for a group without an image.
    """
    return {name: score.of(tally) for name, score in SCORES.items() if score.of}


def in_top(predictions: Predictions, k: int = TOP) -> np.ndarray:
    """Whether the class of each image is among those of the k highest logits.

    Of equal logits those of lower label ids come first, as in `argmax`.

    Args:
        predictions: Answers with logits.
        k: How many logits.

    Returns:
        Booleans (N,).
    """

    def before(logits, labels):
        true = np.take_along_axis(logits, labels[:, None], 1)
        ranks = (logits > true).sum(1)
        for row in np.flatnonzero((logits >= true).sum(1) > ranks + 1):
            ranks[row] += (logits[row, : labels[row]] == true[row]).sum()
        return ranks < k

    chunks = over_chunks(before, predictions.logits, predictions.labels)
    return np.concatenate([*chunks])
