"""Features of a trained model: extract, save and load them."""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_lt import files, streams
from keras_lt.datasets import Dataset
from keras_lt.messages import brief
from keras_lt.metrics import predict
from keras_lt.structure import feature_model


class Features(NamedTuple):
    """Features (N, D) float32 and labels (N,) int64 of a data set's images.

    Example:
        >>> features = keras_lt.features.Features(
        ...     np.ones((3, 2), "float32"), np.array([0, 1, 1])
        ... )
        >>> features.labels
        array([0, 1, 1])
    """

    features: np.ndarray
    labels: np.ndarray


def extract(
    model: keras.Model,
    dataset: Dataset,
    layer: str | None = None,
    batch_size: int = 256,
) -> Features:
    """Computes the features of every image, once and in order.

    Args:
        model: As `keras_lt.models.feature_model` takes it.
        dataset: The images.
        layer: As `keras_lt.models.feature_model` takes it.
        batch_size: Images at a time.

    Returns:
        The features, float32, and the labels.

    Raises:
        ValueError: As `keras_lt.models.feature_model`.

    Example:
        >>> features = keras_lt.features.extract(model, train)
        >>> keras_lt.features.save("train.npz", features)
    """
    return Features(
        *predict(
            feature_model(model, layer), streams.evaluation(dataset, batch_size)
        )
    )


def stream(
    features: Features, num_classes: int, **arguments: Any
) -> tf.data.Dataset:
    """Streams batches of features, as `keras_lt.streams.stream` does images.

    Args:
        features: What `extract` gave.
        num_classes: C.
        **arguments: Those of `keras_lt.streams.stream`.

    Returns:
        An endless `tf.data.Dataset` of (features (B, D), labels (B,)).

    Raises:
        ValueError: As `keras_lt.streams.stream`.

    Example:
        >>> batches = keras_lt.features.stream(
        ...     features, 10, sampling="class_balanced", batch_size=128, seed=0
        ... )
        >>> batch, labels = next(iter(batches))
        >>> batch.shape
        TensorShape([128, 8])
    """
    return streams.stream(Examples(features, num_classes), **arguments)


def pairs(
    features: Features, num_classes: int, **arguments: Any
) -> tf.data.Dataset:
    """Streams pairs of features, as `keras_lt.streams.pairs` does images.

    Args:
        features: What `extract` gave.
        num_classes: C.
        **arguments: Those of `keras_lt.streams.pairs`.

    Returns:
        An endless `tf.data.Dataset` of ((features (B, D), labels (B,)),
        (features, labels)), the classes of a pair being different.

    Raises:
        ValueError: As `keras_lt.streams.pairs`.

    Example:
        >>> batches = keras_lt.features.pairs(
        ...     features, 10, batch_size=128, seed=0
        ... )
        >>> (first, labels), (second, other_labels) = next(iter(batches))
        >>> bool(tf.reduce_any(labels == other_labels))
        False
    """
    return streams.pairs(Examples(features, num_classes), **arguments)


class Examples:
    """Features as `keras_lt.streams` reads data sets.

    Args:
        features: What `extract` gave.
        num_classes: C.

    Attributes:
        labels: int64 (N,).
        num_classes: C.
        class_counts: Features per class, int64 (C,).

    Raises:
        ValueError: If there is no feature, one is not finite, or a label is out
            of range.

    Example:
        >>> examples = keras_lt.features.Examples(features, 10)
        >>> read = examples.batch_reader()
        >>> read(tf.constant([3, 1])).shape
        TensorShape([2, 8])
    """

    def __init__(self, features: Features, num_classes: int):
        self.features = np.asarray(features.features, np.float32)
        self.labels = np.asarray(features.labels).astype(np.int64)
        self.num_classes = num_classes
        labels = self.labels
        if self.features.ndim != 2 or labels.shape != self.features.shape[:1]:
            raise ValueError(
                "Expected features (N, D) and labels (N,). Received: "
                f"features.shape={self.features.shape}, "
                f"labels.shape={labels.shape}"
            )
        if not len(labels) or labels.min() < 0 or labels.max() >= num_classes:
            raise ValueError(
                f"Expected labels from 0 to {num_classes - 1}. "
                f"Received: labels={brief(labels)}"
            )
        if not np.isfinite(self.features).all():
            raise ValueError(
                "Expected finite features. Received: features with "
                f"{np.count_nonzero(~np.isfinite(self.features))} NaN or "
                "infinite values"
            )
        self.class_counts = np.bincount(labels, minlength=num_classes)

    def batch_reader(
        self, random_resized_crop: bool = False
    ) -> Callable[[tf.Tensor, tf.Tensor | None], tf.Tensor]:
        """Returns the function (indices (B,), seeds) -> features (B, D)."""
        if random_resized_crop:
            raise ValueError(
                "Expected a data set of files with random_resized_crop. "
                "Received: features"
            )
        with tf.init_scope(), tf.device("CPU:0"):
            features = tf.constant(self.features)
        return lambda indices, seeds=None: tf.gather(features, indices)


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
    try:
        with np.load(filepath, allow_pickle=False) as arrays:
            features = Features(arrays["features"], arrays["labels"])
    except MemoryError:
        raise
    except Exception as error:  # zip files and NumPy raise all kinds
        if getattr(error, "filename", None) is not None:  # can't be opened
            raise
        raise ValueError(
            "Expected a file that keras_lt.features.save wrote. "
            f"Received: {filepath} ({error})"
        ) from error
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
