"""Images that are nearly the same."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_lt.arguments import real
from keras_lt.evaluation.neighbors import Neighbors

_SIDE = 8  # of the thumbnails that are compared


def thumbnail_distance(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """How much images differ that are seen from afar.

    Each image is reduced to 8 x 8 gray means of blocks (fewer where a side has
    fewer pixels); the distance is the mean absolute difference of these.

    Args:
        images: (N, H, W, 1 or 3) from 0 to 255.
        others: As many, of the same size.

    Returns:
        Distances, float64 (N,), 0 to 255.

    Raises:
        ValueError: If shapes differ.

    Example:
        >>> black = np.zeros((1, 32, 32, 3), "uint8")
        >>> keras_lt.evaluation.thumbnail_distance(black, black + 3)
        array([3.])
    """
    images, others = np.asarray(images), np.asarray(others)
    if images.shape != others.shape or images.ndim != 4:
        raise ValueError(
            "Expected two arrays of images (N, H, W, C) of one shape. "
            f"Received: shapes {images.shape} and {others.shape}"
        )
    return np.abs(_gray_means(images) - _gray_means(others)).mean((1, 2))


def _gray_means(images: np.ndarray) -> np.ndarray:
    means = images.mean(3, dtype=np.float64)
    for axis in (1, 2):
        size = means.shape[axis]
        starts = np.arange(min(size, _SIDE)) * size // min(size, _SIDE)
        lengths = np.diff(starts, append=size)
        means = np.add.reduceat(means, starts, axis)
        means /= lengths[:, None] if axis == 1 else lengths
    return means


def near_duplicates(
    found: Neighbors,
    images: Sequence[Any],
    among: Sequence[Any],
    *,
    similarity: float = 0.9,
    distance: float = 6.0,
    most: int = 1000,
) -> np.ndarray:
    """Images that are nearly the same as their nearest ones.

    They must be alike for the network (the cosine of their features) and in
    their pixels (`thumbnail_distance`): a network takes all pictures of one
    kind of shirt for alike, and two pictures of white walls have nearly the
    same pixels.

    Args:
        found: What `nearest` gave.
        images: Images (N, H, W, C) that can be indexed with an array.
        among: Those that `found.indices` are of.
        similarity: Least cosine, -1 to 1.
        distance: Most distance of thumbnails, in gray levels of 255.
        most: Images to look at, those with the highest cosines.

    Returns:
        Indices of `images`, the most alike first, int64.

    Raises:
        TypeError: If a bound is no number.

    Example:
        >>> found = keras_lt.evaluation.Neighbors(
        ...     np.array([1]), np.array([0.99])
        ... )
        >>> among = np.zeros((2, 8, 8, 1), "uint8")
        >>> keras_lt.evaluation.near_duplicates(found, among[:1] + 1, among)
        array([0])
    """
    real("similarity", similarity)
    real("distance", distance)
    order = np.argsort(-found.similarities, kind="stable")[:most]
    alike = order[
        (found.similarities[order] >= similarity) & (found.indices[order] >= 0)
    ]
    if not len(alike):
        return alike
    apart = thumbnail_distance(images[alike], among[found.indices[alike]])
    return alike[apart <= distance]
