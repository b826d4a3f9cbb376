"""Lengths of vectors."""

from typing import Any

import keras


def lengths(vectors: Any, axis: int) -> Any:
    """Euclidean lengths along an axis, which stays; 0 has gradient 0."""
    squares = keras.ops.sum(keras.ops.square(vectors), axis, keepdims=True)
    # The root has no gradient at 0.
    positive = squares > 0
    roots = keras.ops.sqrt(keras.ops.where(positive, squares, 1.0))
    return keras.ops.where(positive, roots, 0.0)
