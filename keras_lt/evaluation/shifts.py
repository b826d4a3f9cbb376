"""Expected accuracy under other class frequencies."""

from collections.abc import Sequence

import numpy as np

from keras_lt.arguments import integer, real
from keras_lt.counts import class_shares
from keras_lt.evaluation.calibration import adjustment
from keras_lt.evaluation.predictions import (
    Predictions,
    need_logits,
    over_chunks,
)

FACTORS = (2, 5, 10, 25, 50)
_DRAWS = 1000
_LEAST_DRAWS = 20
# Logits compared for adjusted draws, at most: seconds on two cores.
_WORK = 10**10
# Logits that are adjusted at once: what is made of them stays in the cache of
# one processor, from which all frequencies read them.
_BLOCK = 1 << 16


def tail_frequencies(
    class_counts: Sequence[int], factor: float, backward: bool = False
) -> np.ndarray:
    """Class frequencies of a long tail in the order of the training set.

    The class of rank k, 0 for the one with most training images, has a
    frequency proportional to `factor ** (-k / (C - 1))`, or backward
    `factor ** (k / (C - 1))` (Hong et al., CVPR 2021, LADE, section 4.1).
    Classes with equally many images are in order of their label ids.

    Args:
        class_counts: Training images per class (C,).
        factor: Largest frequency over the smallest, at least 1.
        backward: Whether the class with fewest images is most frequent.

    Returns:
        Shares of sum 1, float64 (C,).

    Raises:
        ValueError: If `factor` is below 1 or infinite.

    Example:
        >>> keras_lt.evaluation.tail_frequencies([5, 50, 500], 4).round(3)
        array([0.143, 0.286, 0.571])
    """
    if not 1 <= real("factor", factor) < np.inf:
        raise ValueError(
            "Expected factor >= 1 (largest frequency over smallest). "
            f"Received: factor={factor}"
        )
    counts = np.asarray(class_counts)
    ranks = np.empty(len(counts))
    ranks[np.argsort(-counts, kind="stable")] = np.arange(len(counts))
    sign = 1 if backward else -1
    frequencies = float(factor) ** (sign * ranks / max(len(counts) - 1, 1))
    return frequencies / frequencies.sum()


def recalls(
    predictions: Predictions, adjustments: np.ndarray | None = None
) -> np.ndarray:
    """Recalls of the classes, of the logits as they are or adjusted.

    Args:
        predictions: The answers to score.
        adjustments: Terms to add, (A, C); None for predictions as they are.

    Returns:
        (A, C), or (C,); NaN for a class without an image.
    """
    size = predictions.num_classes
    if adjustments is None:
        right = predictions.predicted == predictions.labels
        hits = np.bincount(predictions.labels[right], minlength=size)
    else:
        logits = need_logits(predictions, "adjustment")
        kind = np.result_type(logits.dtype, np.float32)
        added = adjustments.astype(kind)
        rows = max(1, _BLOCK // size)

        def count(logits, labels):
            right = np.empty((len(added), len(labels)), bool)
            for start in range(0, len(labels), rows):
                part = slice(start, start + rows)
                own = logits[part].astype(kind, copy=False)
                adjusted = np.empty_like(own)
                for found, one in zip(right, added, strict=True):
                    np.add(own, one, out=adjusted)
                    found[part] = adjusted.argmax(1) == labels[part]
            return np.stack(
                [np.bincount(labels[row], minlength=size) for row in right]
            )

        hits = sum(over_chunks(count, logits, predictions.labels))
    with np.errstate(invalid="ignore"):  # of classes without images
        return hits / predictions.totals


def accuracy(recall: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Expected accuracy where classes have these shares.

    Classes without an image, of NaN recall, are left out and the shares of
    the others scaled to sum 1.
    """
    present = ~np.isnan(recall)
    known = np.where(present, shares, 0).sum(-1)
    total = (np.where(present, recall, 0) * shares).sum(-1)
    return np.where(known > 0, total / np.where(known > 0, known, 1), np.nan)


def shifted(
    predictions: Predictions,
    shares: Sequence[float],
    source: Sequence[float] | None = None,
) -> dict[str, float | None]:
    """Expected accuracy under other class frequencies.

    `sum_c q_c r_c`, r the recalls and q the shares: the mean of top-1 over
    test sets that are drawn from these images with such frequencies, without
    drawing any.

    Args:
        predictions: The answers to score.
        shares: q, shares or images per class (C,).
        source: As in `adjustment`; None is the training images per class.

    Returns:
        `plain`, of the predictions as they are, and `adjusted`, of the logits
        with q as their known prior, None without logits; both None if none of
        the classes with a share has an image.

    Raises:
        ValueError: If shares are not C finite numbers of at least 0.

    Example:
        >>> predictions = keras_lt.evaluation.Predictions(
        ...     [[2.0, 0.0], [1.0, 0.0]], [0, 1], [500, 5]
        ... )
        >>> keras_lt.evaluation.shifted(predictions, [0.25, 0.75])
        {'plain': 0.25, 'adjusted': 0.75}
    """
    return _shifted(predictions, {"": shares}, source)[""]


def shifts(
    predictions: Predictions,
    given: Sequence[float] | None = None,
    source: Sequence[float] | None = None,
    draws: int | None = None,
    seed: int = 0,
) -> dict[str, dict]:
    """Expected accuracies under many class frequencies, as `shifted` has them.

    Args:
        predictions: The answers to score.
        given: Class frequencies (C,) of one's own, or None.
        source: As in `adjustment`; None is the training images per class.
        draws: Frequencies drawn from a uniform Dirichlet distribution; None is
            1,000, or fewer where there are many logits, 20 at least.
        seed: Seed of the draws.

    Returns:
        What `shifted` gives for `forward_2`, `forward_5`, `forward_10`,
        `forward_25`, `forward_50`, `backward_2` to `backward_50` (see
        `tail_frequencies`), `uniform`, `training` and, if there is one,
        `given`. `dirichlet` has the means over the draws as `plain` and
        `adjusted`, their fifth percentiles as `plain_p5` and `adjusted_p5`,
        and the number of `draws`.

    Raises:
        ValueError: As `shifted`, or if there are no draws.

    Example:
        >>> predictions = keras_lt.evaluation.Predictions(
        ...     [[2.0, 0.0], [1.0, 0.0]], [0, 1], [500, 5]
        ... )
        >>> found = keras_lt.evaluation.shifts(predictions)
        >>> round(found["forward_10"]["plain"], 3)
        0.909
    """
    size = predictions.num_classes
    if draws is None:
        draws = _DRAWS
        if predictions.logits is not None:
            affordable = _WORK // predictions.logits.size
            draws = min(max(affordable, _LEAST_DRAWS), draws)
    draws = integer("draws", draws, 1)
    counts = predictions.class_counts
    targets = {
        f"{way}_{factor}": tail_frequencies(counts, factor, way == "backward")
        for way in ("forward", "backward")
        for factor in FACTORS
    }
    targets |= {"uniform": np.ones(size), "training": counts}
    if given is not None:
        targets["given"] = given
    found = _shifted(predictions, targets, source)
    generator = np.random.default_rng(integer("seed", seed, 0))
    # Exponential numbers scaled to sum 1 are uniform on the simplex.
    drawn = dict(enumerate(generator.exponential(size=(draws, size))))
    drawn = _shifted(predictions, drawn, source)
    found["dirichlet"] = {"draws": draws}
    for name in ("plain", "adjusted"):
        values = [one[name] for one in drawn.values()]
        is_known = None not in values
        found["dirichlet"] |= {
            name: float(np.mean(values)) if is_known else None,
            f"{name}_p5": float(np.quantile(values, 0.05))
            if is_known
            else None,
        }
    return found


def _shifted(predictions: Predictions, targets: dict, source) -> dict:
    size = predictions.num_classes
    shares = np.stack(
        [class_shares("shares", values, size) for values in targets.values()]
    )
    found = {"plain": accuracy(recalls(predictions), shares)}
    if predictions.logits is not None:
        if source is None:
            source = predictions.class_counts
        class_shares("source", source, size)  # checks it
        added = np.stack([adjustment(one, source) for one in shares])
        found["adjusted"] = accuracy(recalls(predictions, added), shares)
    else:
        found["adjusted"] = np.full(len(shares), np.nan)
    return {
        target: {
            name: None if np.isnan(values[number]) else float(values[number])
            for name, values in found.items()
        }
        for number, target in enumerate(targets)
    }
