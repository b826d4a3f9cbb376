"""Tests whether two models differ, by their answers for the same images."""

import numpy as np
from scipy import stats

from keras_lt.arguments import integer
from keras_lt.evaluation.intervals import (
    DRAWS,
    LEVEL,
    check_level,
    count_draws,
    from_bounds,
    interval,
    ruled_by_few,
)
from keras_lt.evaluation.predictions import Predictions
from keras_lt.evaluation.scores import scores
from keras_lt.metrics import SCORES


def mcnemar(first: Predictions, second: Predictions) -> dict[str, float]:
    """McNemar's exact test whether two models are right equally often.

    Of the images that one model alone has right each has them half of the
    times if the models are equally good: the p-value is that of a two-sided
    binomial test (McNemar, 1947; Dietterich, 1998).

    Args:
        first: Answers of the first model.
        second: Answers of the second model for the same images.

    Returns:
        `only_first` and `only_second`, images that one alone has right, and
        `p_value`.

    Raises:
        ValueError: If images or classes differ.

    Example:
        >>> labels, counts = np.zeros(8, int), [500, 5]
        >>> right = keras_lt.evaluation.Predictions(labels, labels, counts)
        >>> wrong = keras_lt.evaluation.Predictions(labels + 1, labels, counts)
        >>> keras_lt.evaluation.mcnemar(right, wrong)["p_value"]
        0.0078125
    """
    _check_same(first, second)
    right, others = (run.predicted == run.labels for run in (first, second))
    only_first, only_second = (
        int((one & ~other).sum())
        for one, other in ((right, others), (others, right))
    )
    total = only_first + only_second
    p_value = stats.binomtest(only_first, total).pvalue if total else 1.0
    return {
        "only_first": only_first,
        "only_second": only_second,
        "p_value": float(p_value),
    }


def compare(
    first: Predictions,
    second: Predictions,
    draws: int = DRAWS,
    level: float = LEVEL,
    seed: int = 0,
) -> dict:
    """Differences of two models' scores on the same images, with intervals.

    A paired bootstrap: each draw takes the same images for both, as
    `bootstrap` draws them, so what is hard for both counts for none. Scores
    that the lowest recalls rule, which a bootstrap does not know, are compared
    by the bounds that `bootstrap` takes for each model alone: these intervals
    are wider than need be.

    Args:
        first: Answers of the first model.
        second: Answers of the second model for the same images.
        draws: How many draws.
        level: Share of the intervals that hold the true difference.
        seed: Seed of the draws.

    Returns:
        `differences`, by name of a score `[difference, low, high]`, first less
        second; `mcnemar`, what `mcnemar` gives; and `verdict`, sentences on
        top-1, balanced accuracy and the lowest recall that say which is better
        or that they cannot be told apart.

    Raises:
        ValueError: If images or classes differ.

    Example:
        >>> labels, counts = np.repeat([0, 1], 50), [500, 5]
        >>> first = keras_lt.evaluation.Predictions(labels, labels, counts)
        >>> second = keras_lt.evaluation.Predictions(
        ...     np.roll(labels, 1), labels, counts
        ... )
        >>> found = keras_lt.evaluation.compare(first, second)
        >>> found["verdict"][0]
        'By top-1 the two cannot be told apart (p = 0.5).'
    """
    _check_same(first, second)
    check_level(level)
    generator = np.random.default_rng(integer("seed", seed, 0))
    drawn = count_draws([first, second], integer("draws", draws, 1), generator)
    estimates = scores(first), scores(second)
    differences = {}
    for name, values in drawn[0].items():
        if values is not None:
            estimate = estimates[0][name] - estimates[1][name]
            width = np.ptp(SCORES[name].bounds)
            ends = interval(
                values - drawn[1][name], estimate, level, (-width, width)
            )
            differences[name] = [estimate, *ends]
    # Both intervals hold at once as often as asked (Bonferroni).
    needed = ruled_by_few(first, second)
    one, other = (
        from_bounds(each, scored, (1 + level) / 2, needed)
        for each, scored in zip((first, second), estimates, strict=True)
    )
    for name in needed:
        differences[name][1:] = [
            one[name][0] - other[name][1],
            one[name][1] - other[name][0],
        ]
    test = mcnemar(first, second)
    return {
        "differences": differences,
        "mcnemar": test,
        "verdict": [
            _by_test(differences["top1"][0], test["p_value"], 1 - level),
            *(
                _by_interval(label, *differences[name])
                for name, label in (
                    ("balanced", "balanced accuracy"),
                    ("lowest_recall", "lowest recall"),
                )
            ),
        ],
    }


def _by_test(difference: float, p_value: float, most: float) -> str:
    shown = f"p = {p_value:.2g}" if p_value >= 1e-4 else "p < 0.0001"
    if p_value >= most:
        return f"By top-1 the two cannot be told apart ({shown})."
    better = "first" if difference > 0 else "second"
    points = f"{abs(100 * difference):.1f} points"
    return f"By top-1 the {better} is better, by {points} ({shown})."


def _by_interval(name: str, *ends: float) -> str:
    difference, low, high = (100 * value for value in ends)
    if low <= 0 <= high:
        return (
            f"By {name} the two cannot be told apart (first less second: "
            f"{low:.1f} to {high:.1f} points)."
        )
    better = "first" if difference > 0 else "second"
    least, most = sorted((abs(low), abs(high)))
    return (
        f"By {name} the {better} is better, by {abs(difference):.1f} points "
        f"({least:.1f} to {most:.1f})."
    )


def _check_same(first: Predictions, second: Predictions) -> None:
    if first.num_classes != second.num_classes:
        raise ValueError(
            "Expected two models of the same classes. Received: "
            f"{first.num_classes} and {second.num_classes} classes"
        )
    if len(first) != len(second):
        raise ValueError(
            "Expected two models' answers for the same images. Received: "
            f"{len(first)} and {len(second)} images"
        )
    others = np.flatnonzero(first.labels != second.labels)
    if len(others):
        raise ValueError(
            "Expected two models' answers for the same images in the same "
            f"order. Received: {len(others)} with other labels, the first one "
            f"in row {others[0]}"
        )
