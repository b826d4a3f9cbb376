"""Features with their labels, and the streams that are drawn from them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_lt import streams
from keras_lt.messages import brief

CHUNK = 4_096  # rows at a time of features that may be in a file


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
        features: What `extract` or `extract_to` gave; the latter's are read
            from their file batch by batch.
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
        # Those in a file stay there.
        self.features = np.asanyarray(features.features, np.float32)
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
        bad = sum(
            np.count_nonzero(~np.isfinite(self.features[i : i + CHUNK]))
            for i in range(0, len(labels), CHUNK)
        )
        if bad:
            raise ValueError(
                f"Expected finite features. Received: features with {bad} NaN "
                "or infinite values"
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
        if isinstance(self.features, np.memmap):
            return self._from_file
        with tf.init_scope(), tf.device("CPU:0"):
            features = tf.constant(self.features)
        return lambda indices, seeds=None: tf.gather(features, indices)

    def _from_file(self, indices: tf.Tensor, seeds: Any = None) -> tf.Tensor:
        rows = tf.numpy_function(
            lambda each: np.asarray(self.features[each]),
            [indices],
            tf.float32,
            stateful=False,
        )
        rows.set_shape([*indices.shape, self.features.shape[1]])
        return rows

    def subset(self, indices: Any) -> "Examples":
        """Returns the features at `indices`, in memory, all classes kept."""
        return Examples(
            Features(np.asarray(self.features[indices]), self.labels[indices]),
            self.num_classes,
        )

    def __len__(self) -> int:
        return len(self.labels)
