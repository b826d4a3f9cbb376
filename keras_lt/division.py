"""What levels of flows make of samples: who stays where, and in what company.

DLSA (Xu et al., ECCV 2022, arXiv:2208.02567) divides samples level by level:
those of a high likelihood stay at a level, the others go down.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np


class Level(NamedTuple):
    """How a level sees N samples, whether they come to it or not.

    Attributes:
        log_likelihood: (N,).
        clusters: Of the highest posterior each, from 0 to K - 1, (N,).
        num_clusters: K.
        threshold: The level keeps samples of at least this log-likelihood.

    Example:
        >>> level = keras_lt.division.Level(
        ...     log_likelihood=np.array([1.0, 3.0, 2.0]),
        ...     clusters=np.array([0, 1, 1]),
        ...     num_clusters=2,
        ...     threshold=2.0,
        ... )
        >>> keras_lt.division.route([level], 3)  # the first one is kept by none
        array([1, 0, 0])
    """

    log_likelihood: np.ndarray
    clusters: np.ndarray
    num_clusters: int
    threshold: float


def threshold(log_likelihood: np.ndarray, llh_proportion: float) -> float:
    """The threshold that keeps `llh_proportion` of the samples.

    The likelihood at place int(n (1 - llh_proportion)) of n in ascending order.

    Args:
        log_likelihood: (n,).
        llh_proportion: In (0, 1).

    Returns:
        The threshold.

    Example:
        >>> log_likelihood = np.array([3.0, 1.0, 2.0, 4.0])
        >>> float(keras_lt.division.threshold(log_likelihood, 0.5))
        3.0
    """
    size = len(log_likelihood)
    place = min(int(size * (1.0 - llh_proportion)), size - 1)
    return np.sort(log_likelihood)[place]


def class_frequencies(
    clusters: np.ndarray,
    labels: np.ndarray,
    num_clusters: int,
    num_classes: int,
) -> tuple[np.ndarray, np.ndarray]:
    """How often each class is in each cluster.

    Args:
        clusters: Of each sample (n,).
        labels: (n,).
        num_clusters: K.
        num_classes: C.

    Returns:
        Shares of the classes (K, C), zeros in an empty cluster, and the
        clusters' sizes (K,).

    Example:
        >>> keras_lt.division.class_frequencies(
        ...     clusters=np.array([0, 0, 2]),
        ...     labels=np.array([1, 0, 1]),
        ...     num_clusters=3,
        ...     num_classes=2,
        ... )
        (array([[0.5, 0.5],
               [0. , 0. ],
               [0. , 1. ]]), array([2, 0, 1]))
    """
    table = np.zeros((num_clusters, num_classes), np.int64)
    np.add.at(table, (clusters, labels), 1)
    sizes = table.sum(axis=1)
    return table / np.maximum(sizes, 1)[:, None], sizes


def route(levels: Sequence[Level], size: int) -> np.ndarray:
    """The level that keeps each sample.

    Args:
        levels: From the top down.
        size: N.

    Returns:
        int64 (N,), the number of levels for a sample that none keeps.

    Example:
        >>> kept_by = keras_lt.division.route(levels, len(features.labels))
        >>> sorted(set(kept_by.tolist()))  # the first level, and what is left
        [0, 1]
    """
    keep = [level.log_likelihood >= level.threshold for level in levels]
    return np.argmax([*keep, np.ones(size, bool)], axis=0)


def describe(
    levels: Sequence[Level], labels: np.ndarray, num_classes: int
) -> list[dict[str, Any]]:
    """What comes to each level and what it keeps, in figures.

    Args:
        levels: From the top down.
        labels: Label ids (N,).
        num_classes: C.

    Returns:
        For each level: `samples` that came to it, and `samples_by_class`
        (C,); how many it keeps, `kept` and `kept_by_class` (C,); its
        `threshold`; and of the samples that came, the clusters' sizes,
        `cluster_sizes` (K,), and the share of the largest class in each,
        `purity` (K,), 0 where it is empty.

    Example:
        >>> clusters = np.array([0, 1, 1])
        >>> level = keras_lt.division.Level(
        ...     np.array([1.0, 3.0, 2.0]), clusters, 2, threshold=2.0
        ... )
        >>> labels = np.array([0, 1, 0])
        >>> keras_lt.division.describe([level], labels, 2)[0]["purity"]
        [1.0, 0.5]
    """
    found = route(levels, len(labels))
    facts = []
    for number, level in enumerate(levels):
        came, kept = found >= number, found == number
        frequencies, sizes = class_frequencies(
            level.clusters[came], labels[came], level.num_clusters, num_classes
        )
        by_class = [
            np.bincount(labels[chosen], minlength=num_classes).tolist()
            for chosen in (came, kept)
        ]
        facts.append(
            {
                "samples": int(came.sum()),
                "samples_by_class": by_class[0],
                "kept": int(kept.sum()),
                "kept_by_class": by_class[1],
                "threshold": float(level.threshold),
                "cluster_sizes": sizes.tolist(),
                "purity": frequencies.max(axis=1).tolist(),
            }
        )
    return facts
