"""Which samples stay at which level of DLSA, and with which others.

DLSA (Xu et al., ECCV 2022, arXiv:2208.02567) divides samples level by level:
samples of a high likelihood stay at a level, the others go down.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

# Of a pure cluster. The authors also pass over epochs after which one cluster
# holds 5,000 samples, a bound for their data sets that is left out here.
_MIN_PURITY = 0.7
_MIN_SIZE = 10


class Level(NamedTuple):
    """How a level sees N samples, whether they reach it or not.

    Attributes:
        log_likelihood: (N,).
        clusters: Cluster of the highest posterior, from 0 to K - 1, (N,).
        num_clusters: K.
        threshold: The level keeps samples of at least this log-likelihood.

    Example:
        >>> level = keras_lt.models.dlsa.Level(
        ...     log_likelihood=np.array([1.0, 3.0, 2.0]),
        ...     clusters=np.array([0, 1, 1]),
        ...     num_clusters=2,
        ...     threshold=2.0,
        ... )
        >>> keras_lt.models.dlsa.route([level], 3)
        array([1, 0, 0])
    """

    log_likelihood: np.ndarray
    clusters: np.ndarray
    num_clusters: int
    threshold: float


def threshold(log_likelihood: np.ndarray, llh_proportion: float) -> float:
    """Returns the threshold that keeps `llh_proportion` of the samples.

    It is the likelihood at place int(n (1 - llh_proportion)) of n in ascending
    order.

    Args:
        log_likelihood: (n,).
        llh_proportion: In (0, 1).

    Returns:
        The threshold.

    Example:
        >>> log_likelihood = np.array([3.0, 1.0, 2.0, 4.0])
        >>> float(keras_lt.models.dlsa.threshold(log_likelihood, 0.5))
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
    """Counts how often each class is in each cluster.

    Args:
        clusters: Cluster of each sample (n,).
        labels: (n,).
        num_clusters: K.
        num_classes: C.

    Returns:
        Shares of the classes (K, C), zeros in an empty cluster, and the
        clusters' sizes (K,).

    Example:
        >>> keras_lt.models.dlsa.class_frequencies(
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


def pure_clusters(
    clusters: np.ndarray,
    labels: np.ndarray,
    num_clusters: int,
    num_classes: int,
) -> int:
    """Counts the pure clusters, with the numbers of the authors' code.

    They are those of more than 10 samples of which more than 70 % are of one
    class.

    Args:
        clusters: Cluster of each sample (n,).
        labels: (n,).
        num_clusters: K.
        num_classes: C.

    Example:
        >>> clusters = np.repeat([0, 1, 2], [11, 11, 10])
        >>> labels = np.repeat([0, 1, 0, 1], [11, 4, 7, 10])
        >>> keras_lt.models.dlsa.pure_clusters(clusters, labels, 3, 2)
        1
    """
    frequencies, sizes = class_frequencies(
        clusters, labels, num_clusters, num_classes
    )
    is_pure = frequencies.max(axis=1) > _MIN_PURITY
    return int((is_pure & (sizes > _MIN_SIZE)).sum())


def route(levels: Sequence[Level], size: int) -> np.ndarray:
    """Finds the level that keeps each sample.

    Args:
        levels: From the top down.
        size: N.

    Returns:
        int64 (N,), the number of the level from 0; the number of levels for a
        sample that none of them keeps.

    Example:
        >>> kept_by = keras_lt.models.dlsa.route(levels, len(features.labels))
        >>> sorted(set(kept_by.tolist()))  # the first level, and what is left
        [0, 1]
    """
    keep = [level.log_likelihood >= level.threshold for level in levels]
    return np.argmax([*keep, np.ones(size, bool)], axis=0)


def describe(
    levels: Sequence[Level], labels: np.ndarray, num_classes: int
) -> list[dict[str, Any]]:
    """Says in numbers which samples reach each level and which it keeps.

    Args:
        levels: From the top down.
        labels: Label ids (N,).
        num_classes: C.

    Returns:
        For each level: the number of samples that reach it, `samples` and
        `samples_by_class` (C,); how many it keeps, `kept` and `kept_by_class`
        (C,); its `threshold`; and for the samples that reach it, the sizes of
        the clusters, `cluster_sizes` (K,), and the share of the largest class
        in each, `purity` (K,), 0 in an empty one.

    Example:
        >>> clusters = np.array([0, 1, 1])
        >>> level = keras_lt.models.dlsa.Level(
        ...     np.array([1.0, 3.0, 2.0]), clusters, 2, threshold=2.0
        ... )
        >>> labels = np.array([0, 1, 0])
        >>> keras_lt.models.dlsa.describe([level], labels, 2)[0]["purity"]
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
