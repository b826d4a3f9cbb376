"""Confidence intervals of scores."""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from keras_lt.arguments import integer, real
from keras_lt.evaluation.calibration import (
    classwise_error,
    errors,
    image_scores,
)
from keras_lt.evaluation.predictions import Predictions
from keras_lt.evaluation.scores import in_top, of_tally, scores
from keras_lt.metrics import SCORES, Tally
from keras_lt.metrics.scores import LOWEST

LEVEL = 0.95
DRAWS = 1000
_CLASSWISE_DRAWS = 200  # each has C * 15 sums
_LEAST_DRAWS = 100
# Products of a logit and a draw, at most: seconds on two cores.
_WORK = 4 * 10**10
_BLOCK = 100
_FEW_RIGHT = 5  # right answers of a class


def wilson(
    hits: Sequence[int], totals: Sequence[int], level: float = LEVEL
) -> tuple[np.ndarray, np.ndarray]:
    """Intervals of shares, such as the recalls of classes.

    `(p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n)`, p =
    hits / n (Wilson, 1927). They hold for few images too, and where all or
    none are hits.

    Args:
        hits: Right answers, (C,).
        totals: n, images, (C,).
        level: Share of the intervals that hold the true share.

    Returns:
        Lower and upper ends, (C,) each; NaN where n is 0.

    Raises:
        ValueError: If hits are not between 0 and n, or `level` not between 0
            and 1.

    Example:
        >>> low, high = keras_lt.evaluation.wilson([8, 10], [10, 10])
        >>> low.round(3), high.round(3)
        (array([0.49 , 0.722]), array([0.943, 1.   ]))
    """
    hits, totals = np.asarray(hits, float), np.asarray(totals, float)
    if hits.shape != totals.shape or not ((hits >= 0) & (hits <= totals)).all():
        raise ValueError(
            "Expected hits from 0 to totals, of one shape. "
            f"Received: hits.shape={hits.shape}, totals.shape={totals.shape}"
        )
    z = stats.norm.ppf((1 + check_level(level)) / 2)
    with np.errstate(invalid="ignore"):  # of classes without images
        # Hits and misses each get half of z^2 more.
        middle = (hits + z**2 / 2) / (totals + z**2)
        spread = np.sqrt(hits * (totals - hits) / totals + z**2 / 4)
        spread *= z / (totals + z**2)
    # Rounding must not put 0 of n above 0, or n of n below 1.
    low = np.where(hits == 0, 0 * middle, middle - spread)
    high = np.where(hits == totals, 1 + 0 * middle, middle + spread)
    empty = totals == 0
    return np.where(empty, np.nan, low), np.where(empty, np.nan, high)


def per_class(
    predictions: Predictions, level: float = LEVEL
) -> dict[str, list[float | None]]:
    """Recall of each class with its Wilson interval, by label id.

    Args:
        predictions: The answers to score.
        level: As in `wilson`.

    Returns:
        `images`, `recall`, `low` and `high`, C numbers each; None for a class
        without an image.

    Example:
        >>> predictions = keras_lt.evaluation.Predictions(
        ...     np.array([0, 0, 0]), [0, 0, 1], [500, 5, 5]
        ... )
        >>> keras_lt.evaluation.per_class(predictions)["recall"]
        [1.0, 0.0, None]
    """
    totals = predictions.totals
    hits = _hits(predictions)
    columns = {
        "recall": np.where(totals > 0, hits / np.maximum(totals, 1), np.nan)
    }
    columns["low"], columns["high"] = wilson(hits, totals, level)
    return {
        "images": totals.tolist(),
        **{
            name: [None if np.isnan(x) else float(x) for x in values]
            for name, values in columns.items()
        },
    }


def bootstrap(
    predictions: Predictions,
    draws: int = DRAWS,
    level: float = LEVEL,
    seed: int = 0,
) -> dict[str, list[float]]:
    """Intervals of all scores and calibration errors, by resampling images.

    Images are drawn with replacement class by class, so that each class keeps
    its size: for scores of classes by multinomial draws of the rows of the
    confusion matrix, which is the same; for the others by drawing images. Of n
    images of a class n - 1 are drawn, which makes variances right where n is
    small (Rao and Wu, JASA 1988). Ends are percentiles of the draws (Efron,
    1979), moved so that their median is the score: errors of calibration and
    the lowest recall are drawn too high and too low.

    A bootstrap does not know how low the lowest recalls are, nor means that
    they rule. Intervals of `lowest_recall` and `lowest_5_recall`, and of
    `geometric_mean` and `harmonic_mean` where fewer than 5 images of a class
    are answered rightly, are the scores of lower and of upper bounds of the
    recalls (Clopper and Pearson, 1934) that hold for all classes at once
    (Sidak, 1967): they hold the truth at least as often as `level` says,
    mostly more often. `tools/coverage.py` counts how often.

    Other intervals do not show a class with one image, or with only right or
    wrong answers, to vary: of these `wilson` tells more.

    Args:
        predictions: The answers to score.
        draws: How many draws, 200 at most for the class-wise error, and 100
            of 400 million logits or more.
        level: Share of the intervals that hold the true score.
        seed: Seed of the draws.

    Returns:
        `[low, high]` by name of the score, those left out that are None in
        `scores`.

    Raises:
        ValueError: If `level` is not between 0 and 1, or `draws` below 1.

    Example:
        >>> predictions = keras_lt.evaluation.Predictions(
        ...     np.repeat([0, 1, 0], [80, 60, 60]),
        ...     np.repeat([0, 1], [100, 100]),
        ...     classes=[500, 5],
        ... )
        >>> low, high = keras_lt.evaluation.bootstrap(predictions)["top1"]
        >>> round(low, 1), round(high, 1)
        (0.5, 0.7)
    """
    check_level(level)
    return all_intervals(
        predictions, *resample(predictions, draws, seed), level
    )


def resample(
    predictions: Predictions, draws: int, seed: int
) -> tuple[dict[str, float | None], dict[str, np.ndarray | None]]:
    """Scores and calibration errors by name, and their draws (D,)."""
    draws = integer("draws", draws, 1)
    generator = np.random.default_rng(integer("seed", seed, 0))
    (drawn,) = count_draws([predictions], draws, generator)
    estimates = scores(predictions)
    if predictions.logits is not None:
        more, more_drawn = _image_draws(predictions, draws, generator)
        estimates |= more
        drawn |= more_drawn
    return estimates, drawn


def all_intervals(
    predictions: Predictions,
    estimates: dict[str, float | None],
    drawn: dict[str, np.ndarray | None],
    level: float,
) -> dict[str, list[float]]:
    """`[low, high]` by name, of what `resample` gave, as in `bootstrap`."""
    found = {
        name: interval(values, estimates[name], level, SCORES[name].bounds)
        for name, values in drawn.items()
        if values is not None
    }
    needed = ruled_by_few(predictions)
    return found | from_bounds(predictions, estimates, level, needed)


def few_right(predictions: Predictions) -> np.ndarray:
    """Classes with test images (C,) of which few are answered rightly."""
    return (predictions.totals > 0) & (_hits(predictions) < _FEW_RIGHT)


def _hits(predictions: Predictions) -> np.ndarray:
    right = predictions.predicted == predictions.labels
    return np.bincount(
        predictions.labels[right], minlength=predictions.num_classes
    )


def ruled_by_few(*predictions: Predictions) -> dict[str, int]:
    """Scores that few recalls rule, by name, and how many: see `bootstrap`."""
    size = np.count_nonzero(predictions[0].totals)
    classes = {"lowest_recall": 1, f"lowest_{LOWEST}_recall": LOWEST}
    if any(few_right(each).any() for each in predictions):
        classes |= {"geometric_mean": size, "harmonic_mean": size}
    return classes


def from_bounds(
    predictions: Predictions,
    estimates: dict[str, float | None],
    level: float,
    needed: dict[str, int],
) -> dict[str, list[float]]:
    """Intervals of scores that few recalls rule, from bounds of all recalls.

    A score that grows with each recall is at most that of upper bounds. It is
    at least that of lower bounds, which need to hold for the classes alone
    that are lowest in truth.

    Args:
        predictions: The answers.
        estimates: Their scores.
        level: Share of the intervals that hold the true score, at least.
        needed: What `ruled_by_few` gives.
    """
    totals = predictions.totals
    hits, totals = _hits(predictions)[totals > 0], totals[totals > 0]
    size = len(totals)
    tail = (1 - level) / 2
    highest = _bound(totals - hits, totals, tail, size)
    found = {}
    for name, count in needed.items():
        lowest = _bound(hits, totals, tail, min(count, size))
        ends = np.stack([lowest, 1 - highest])
        tally = Tally(ends * totals, None, totals, predictions.groups)
        low, high = SCORES[name].of(tally)
        found[name] = [
            float(min(low, estimates[name])),
            float(max(high, estimates[name])),
        ]
    return found


def _bound(
    hits: np.ndarray, totals: np.ndarray, tail: float, classes: int
) -> np.ndarray:
    """Lower bounds of shares, some of `classes` wrong with chance `tail`."""
    alone = -np.expm1(np.log1p(-tail) / classes)
    low = stats.beta.ppf(alone, np.maximum(hits, 1), totals - hits + 1)
    return np.where(hits == 0, 0.0, low)


def interval(
    drawn: np.ndarray,
    estimate: float,
    level: float,
    bounds: tuple[float, float] = (0, 1),
) -> list[float]:
    """Percentiles of draws, moved so that their median is the estimate.

    Example:
        >>> keras_lt.evaluation.intervals.interval(
        ...     np.array([0.1, 0.2, 0.3]), 0.5, level=1.0
        ... )
        [0.4, 0.6]
    """
    # Of D draws the k-th has a share k / (D + 1) of new ones below it.
    ends = np.quantile(
        drawn, [(1 - level) / 2, (1 + level) / 2], method="weibull"
    )
    low, high = ends - np.median(drawn) + estimate
    least, most = bounds
    # Rounding must not part an interval and its estimate.
    return [
        float(max(min(low, estimate), least)),
        float(min(max(high, estimate), most)),
    ]


def count_draws(
    runs: Sequence[Predictions], draws: int, generator: np.random.Generator
) -> list[dict[str, np.ndarray | None]]:
    """Scores (D,) of draws of images, the same ones for each of the runs."""
    first = runs[0]
    size = first.num_classes
    outcomes = np.stack(
        [first.labels, *(run.predicted + 1 for run in runs)], axis=1
    )
    keys = np.ravel_multi_index(outcomes.T, (size, *[size + 1] * len(runs)))
    _, places, counts = np.unique(keys, return_index=True, return_counts=True)
    cells = outcomes[places]
    hits = np.zeros((len(runs), size, draws))
    given = np.zeros((len(runs), size + 1, draws))
    starts = np.searchsorted(cells[:, 0], np.arange(size + 1))
    for label in np.flatnonzero(first.totals):
        own = slice(starts[label], starts[label + 1])
        images = first.totals[label]
        if images == 1:
            drawn = np.ones((draws, 1))
        else:
            drawn = generator.multinomial(
                images - 1, counts[own] / images, draws
            ) * (images / (images - 1))
        for number in range(len(runs)):
            classes = cells[own, 1 + number]
            hits[number, label] = drawn[:, classes == label + 1].sum(1)
            if len(runs) == 1:  # each class once
                given[number, classes] += drawn.T
            else:
                np.add.at(given[number], classes, drawn.T)
    return [
        of_tally(Tally(hits[number].T, given[number].T, run.totals, run.groups))
        for number, run in enumerate(runs)
    ]


def _image_draws(predictions: Predictions, draws: int, generator) -> tuple:
    """Scores of images, and their draws (D,)."""
    affordable = _WORK // predictions.logits.size
    few = min(draws, max(min(affordable, _CLASSWISE_DRAWS), _LEAST_DRAWS))
    top = in_top(predictions)
    first = np.ones((1, len(predictions)))
    weights = np.concatenate(
        [first, _image_weights(predictions, few, generator)]
    )
    images = image_scores(predictions, weights=weights)
    blocks = [{**errors(images, weights), "top5": weights @ top / len(top)}]
    classwise = classwise_error(images, weights)
    done = few
    while done < draws:
        block = min(_BLOCK, draws - done)
        weights = _image_weights(predictions, block, generator)
        blocks.append(
            {**errors(images, weights), "top5": weights @ top / len(top)}
        )
        done += block
    drawn = {
        name: np.concatenate([block[name] for block in blocks])
        for name in blocks[0]
    }
    drawn["classwise_ece"] = classwise
    return (
        {name: float(values[0]) for name, values in drawn.items()},
        {name: values[1:] for name, values in drawn.items()},
    )


def _image_weights(predictions: Predictions, draws: int, generator):
    """How often each image is drawn, (D, N), scaled to as many per class."""
    size = len(predictions)
    order = np.argsort(predictions.labels, kind="stable")
    totals = predictions.totals[predictions.totals > 0]
    starts = np.cumsum(totals) - totals
    # All but one image of each class are drawn, of one image this one.
    drawn = np.maximum(totals - 1, 1)
    start, total = np.repeat(starts, drawn), np.repeat(totals, drawn)
    scale = np.repeat(totals / drawn, totals)
    weights = np.empty((draws, size))
    for row in weights:
        places = start + (generator.random(len(start)) * total).astype(np.int64)
        row[order] = np.bincount(places, minlength=size) * scale
    return weights


def check_level(level: float, name: str = "level") -> float:
    """Returns the share of intervals or sets that hold what they should.

    Raises:
        ValueError: If it is not between 0 and 1.
    """
    if not 0 < real(name, level) < 1:
        raise ValueError(
            f"Expected {name} between 0 and 1. Received: {name}={level}"
        )
    return level
