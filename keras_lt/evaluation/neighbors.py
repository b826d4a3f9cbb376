"""The nearest images by their features."""

from typing import NamedTuple

import numpy as np

_AT_A_TIME = 1 << 24  # similarities


class Neighbors(NamedTuple):
    """The nearest of some features, for each of others.

    Attributes:
        indices: int64 (N,).
        similarities: Cosines, float32 (N,), -1 to 1.

    Example:
        >>> keras_lt.evaluation.Neighbors([3], [0.5]).indices
        [3]
    """

    indices: np.ndarray
    similarities: np.ndarray


def nearest(
    features: np.ndarray,
    among: np.ndarray,
    among_labels: np.ndarray | None = None,
    wanted: np.ndarray | None = None,
) -> Neighbors:
    """Finds the nearest of other features by the cosine.

    All features are centered on the mean of `among` first: those of networks
    are positive, and without that all alike.

    Args:
        features: (N, D).
        among: (M, D).
        among_labels: Classes of these (M,), needed with `wanted`.
        wanted: Class (N,) that the nearest one is to have.

    Returns:
        Indices of `among` and cosines. Where none has the wanted class the
        index is -1 and the cosine -1.

    Raises:
        ValueError: If shapes do not agree.

    Example:
        >>> found = keras_lt.evaluation.nearest(
        ...     np.array([[2.0, 0.0]]), np.array([[0.0, 1.0], [1.0, 0.0]])
        ... )
        >>> found.indices
        array([1])
    """
    features, among = np.asarray(features), np.asarray(among)
    if features.ndim != 2 or among.ndim != 2 or not len(among):
        raise ValueError(
            "Expected features (N, D) and others (M, D), M > 0. Received: "
            f"shapes {features.shape} and {among.shape}"
        )
    if features.shape[1] != among.shape[1]:
        raise ValueError(
            "Expected features of one dimension. Received: shapes "
            f"{features.shape} and {among.shape}"
        )
    mean = among.mean(0, dtype=np.float64).astype(np.float32)
    among = _directions(among, mean)
    indices = np.full(len(features), -1)
    cosines = np.full(len(features), -1, np.float32)
    if wanted is None:
        groups = [(np.arange(len(features)), np.arange(len(among)))]
    else:
        wanted, among_labels = np.asarray(wanted), np.asarray(among_labels)
        groups = [
            tuple(np.flatnonzero(of == label) for of in (wanted, among_labels))
            for label in np.unique(wanted)
        ]
    for rows, columns in groups:
        step = max(1, _AT_A_TIME // max(1, len(columns)))
        others = among[columns]
        for start in range(0, len(rows) if len(columns) else 0, step):
            some = rows[start : start + step]
            found = _directions(features[some], mean) @ others.T
            best = found.argmax(1)
            indices[some] = columns[best]
            cosines[some] = found[np.arange(len(some)), best]
    return Neighbors(indices, cosines)


def _directions(features: np.ndarray, mean: np.ndarray) -> np.ndarray:
    centered = np.asarray(features, np.float32) - mean
    norms = np.linalg.norm(centered, axis=1, keepdims=True)
    return centered / np.maximum(norms, 1e-12)
