"""Checks of label ids and the like."""

import numpy as np

from keras_lt.messages import brief


def checked_ids(ids, size: int, name: str) -> np.ndarray:
    """Returns ids (N,) below `size`, as integers.

    Raises:
        ValueError: If they are something else.
    """
    ids = np.asarray(ids)
    if (
        ids.ndim != 1
        or (ids.size and ids.dtype.kind not in "iu")
        or not ((ids >= 0) & (ids < size)).all()
    ):
        raise ValueError(
            f"Expected integers (N,) from 0 to {size - 1}. "
            f"Received: {name}={brief(ids)}"
        )
    return ids.astype(int)
