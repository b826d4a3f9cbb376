"""Models as SavedModels that TensorFlow serves by itself."""

import os
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_lt import files


def save(
    model: keras.Model, path: str | os.PathLike, images: Any = None
) -> None:
    """Writes a model as a SavedModel, at once or not at all.

    The models here carry their normalisation, so the SavedModel takes the
    images as they are: its `serve` function and its signature
    `serving_default` map uint8 images (B, H, W, C) to what the model gives.
    Loading it needs nothing but TensorFlow.

    Args:
        model: A built model.
        path: A folder that does not exist.
        images: Some images, to compare the SavedModel's outputs with the
            model's before it is put in place; None compares nothing.

    Raises:
        FileExistsError: If something is at `path`.
        ValueError: If the outputs differ by more than 1e-4 of the largest (of
            1e-2 for models that compute in 16 bits).

    Example:
        >>> keras_lt.export.save(model, "saved_model", test.images[:16])
        >>> loaded = tf.saved_model.load("saved_model")
        >>> logits = loaded.serve(test.images[:16])
    """
    path = Path(path)
    if path.exists():
        raise FileExistsError(
            f"Expected a path where nothing is. Received: path={path}"
        )
    with files.replacing(path) as part:
        model.export(part, format="tf_saved_model", verbose=False)
        if images is not None:
            _check_parity(model, part, images)


def _check_parity(model: keras.Model, path: Path, images: Any) -> None:
    loaded = tf.saved_model.load(path)
    served = np.asarray(loaded.serve(images))
    expected = np.asarray(model(images, training=False))
    error = np.abs(served - expected).max()
    bits16 = {"float16", "bfloat16"} & _compute_dtypes(model)
    bound = (1e-2 if bits16 else 1e-4) * np.abs(expected).max()
    if not error <= bound:
        raise ValueError(
            "Expected the SavedModel to give what the model gives, to "
            f"{bound:.2g}. Received: a difference of {error:.2g}"
        )


def _compute_dtypes(layer: keras.Layer) -> set[str]:
    """Compute dtypes of a layer and of all in it."""
    inner = map(_compute_dtypes, getattr(layer, "layers", ()))
    return {layer.compute_dtype}.union(*inner)
