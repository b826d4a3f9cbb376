"""Models and weights in files, which may be damaged or of another model."""

import contextlib
import os
import warnings
from collections.abc import Iterator

import keras


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
        path: The file.

    Raises:
        ValueError: If the file is damaged, lacks weights, or is of another
            model.

    Example:
        >>> model.save_weights("model.weights.h5")
        >>> keras_lt.models.load_weights(model, "model.weights.h5")
    """
    try:
        with _no_weights_missing():
            model.load_weights(path)
    except MemoryError:
        raise
    except Exception as error:  # HDF5 and Keras raise all kinds
        raise ValueError(
            f"Expected a file of weights of the model {model.name}. "
            f"Received: {path} ({error})"
        ) from error


@contextlib.contextmanager
def _no_weights_missing() -> Iterator[None]:
    """Makes an error of Keras' warning that a file lacks weights.

    Keras leaves such weights as they were.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Skipping nested container")
        yield
