"""Models and weights in files, which may be damaged or of another model."""

import contextlib
import hashlib
import os
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import h5py
import keras
import numpy as np

from keras_lt import trainable

_TRAINED = "trained"
_FROZEN = "frozen_sha256"


def load_model(path: str | os.PathLike, compile: bool = True) -> keras.Model:
    """Reads a .keras file, as `keras.saving.load_model` with one kind of error.

    Args:
        path: The file.
        compile: Whether the model is compiled as it was.

    Raises:
        ValueError: If the file is damaged, lacks weights, or holds something
            else.

    Example:
        >>> model.save("model.keras")
        >>> again = keras_lt.models.load_model("model.keras")
    """
    try:
        with _no_weights_missing():
            return keras.saving.load_model(path, compile=compile)
    except MemoryError:
        raise
    except Exception as error:  # Keras, HDF5 and zip files raise all kinds
        raise ValueError(
            "Expected a .keras file with a model that Keras can load. "
            f"Received: {path} ({error})"
        ) from error


def load_weights(model: keras.Model, path: str | os.PathLike) -> None:
    """Reads a .weights.h5 file, as `load_weights` of a model with one error.

    Args:
        model: A built model.
        path: The file; of a checkpoint that leaves out frozen weights, the
            model has to have these.

    Raises:
        ValueError: If the file is damaged, lacks weights, or is of another
            model.

    Example:
        >>> model.save_weights("model.weights.h5")
        >>> keras_lt.models.load_weights(model, "model.weights.h5")
    """
    try:
        if not load_trained(model, path):
            with _no_weights_missing():
                model.load_weights(path)
    except MemoryError:
        raise
    except Exception as error:  # HDF5 and Keras raise all kinds
        raise ValueError(
            f"Expected a file of weights of the model {model.name}. "
            f"Received: {path} ({error})"
        ) from error


def save_trained(
    file: h5py.File, weights: Sequence[keras.Variable], frozen_sha256: str
) -> None:
    """Writes the weights that training changes, and which others it needs.

    Args:
        file: An open file.
        weights: `keras_lt.trainable.changing_weights` of the model.
        frozen_sha256: `frozen_digest` of the model.
    """
    group = file.create_group(_TRAINED)
    group.attrs[_FROZEN] = frozen_sha256
    for i, weight in enumerate(weights):
        group[str(i)] = keras.ops.convert_to_numpy(weight)


def load_trained(model: keras.Model, path: str | os.PathLike) -> bool:
    """Reads what `save_trained` wrote, if a file holds that.

    Args:
        model: A built model with the frozen weights of the one that was saved.
        path: The file.

    Returns:
        Whether it does; if not, the model is as it was.

    Raises:
        ValueError: If the model has other frozen weights, or other shapes.
    """
    with h5py.File(path) as file:
        if _TRAINED not in file:
            return False
        found = file[_TRAINED]
        weights = trainable.changing_weights(model)
        if found.attrs[_FROZEN] != frozen_digest(model):
            raise ValueError(
                "the weights that are not trained are others than they were: "
                "the backbone was given other weights, or another part of it "
                "is trained"
            )
        if len(found) != len(weights):
            raise ValueError(
                f"it holds {len(found)} trained weights, and the model "
                f"{len(weights)}"
            )
        for i, weight in enumerate(weights):
            weight.assign(found[str(i)][()])
    return True


def frozen_digest(model: keras.Model) -> str | None:
    """SHA-256 of the weights that training does not change; None of none."""
    frozen = trainable.frozen_weights(model)
    if not frozen:
        return None
    digest = hashlib.sha256()
    for weight in frozen:
        value: Any = keras.ops.convert_to_numpy(weight)
        digest.update(f"{value.shape} {value.dtype}".encode())
        digest.update(np.ascontiguousarray(value).view(np.uint8).data)
    return digest.hexdigest()


@contextlib.contextmanager
def _no_weights_missing() -> Iterator[None]:
    """Makes an error of Keras' warning that a file lacks weights.

    Keras leaves such weights as they were.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Skipping nested container")
        yield
