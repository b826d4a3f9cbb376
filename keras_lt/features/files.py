"""Features in .npz files."""

import os

from keras_lt import files
from keras_lt.features.examples import Features


def save(filepath: str | os.PathLike, features: Features) -> None:
    """Writes features as .npz, at once or not at all.

    Args:
        filepath: File to write; what is there is replaced.
        features: What `extract` gave.

    Raises:
        OSError: If `filepath` can't be written.

    Example:
        >>> keras_lt.features.save("train.npz", features)
    """
    with files.replacing(filepath) as part:
        files.write_arrays(part, **features._asdict())


def load(filepath: str | os.PathLike) -> Features:
    """Reads what `save` wrote.

    Raises:
        OSError: If there is no such file.
        ValueError: If it holds something else.

    Example:
        >>> keras_lt.features.save("train.npz", features)
        >>> features, labels = keras_lt.features.load("train.npz")
    """
    wanted = "a file that keras_lt.features.save wrote"
    with files.opened_arrays(filepath, wanted) as arrays:
        features = Features(arrays["features"], arrays["labels"])
    kinds = features.features.dtype.kind, features.labels.dtype.kind
    if (
        features.features.ndim != 2
        or features.labels.shape != (len(features.features),)
        or kinds not in (("f", "i"), ("f", "u"))
        or (features.labels < 0).any()
    ):
        raise ValueError(
            "Expected features (N, D), floats, and labels (N,), integers of "
            f"at least 0. Received: {filepath} with {features.features.shape} "
            f"{features.features.dtype} and {features.labels.shape} "
            f"{features.labels.dtype}"
        )
    return features
