"""Samples of a data set, as features, and the batches that DLSA takes."""

import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_lt import sampling, seeding
from keras_lt.messages import brief


class Samples(NamedTuple):
    """Features (N, D) float32 and labels (N,) int64."""

    features: np.ndarray
    labels: np.ndarray

    def where(self, chosen: np.ndarray) -> "Samples":
        """The samples of a mask (N,)."""
        return Samples(self.features[chosen], self.labels[chosen])

    def digest(self) -> str:
        """Tells these samples from others of the same number."""
        digest = hashlib.sha256(repr(self.features.shape).encode())
        for array in self:
            digest.update(np.ascontiguousarray(array))
        return digest.hexdigest()


def checked(
    features: Any, labels: Any, features_dim: int, num_classes: int
) -> Samples:
    """Returns samples that DLSA can be trained on.

    Raises:
        ValueError: If shapes do not fit, features are not finite, labels are
            out of range, or there is one class only.
    """
    features, labels = np.asarray(features, np.float32), np.asarray(labels)
    if features.ndim != 2 or features.shape[1] != features_dim:
        raise ValueError(
            f"Expected features of shape (N, {features_dim}). "
            f"Received: features.shape={features.shape}"
        )
    if not np.isfinite(features).all():
        raise ValueError(
            "Expected finite features. Received: "
            f"{np.count_nonzero(~np.isfinite(features))} NaN or infinite values"
        )
    if labels.shape != features.shape[:1] or not np.issubdtype(
        labels.dtype, np.integer
    ):
        raise ValueError(
            f"Expected {len(features)} integer labels. Received: "
            f"labels.shape={labels.shape}, labels.dtype={labels.dtype}"
        )
    if len(labels) and not (0 <= labels.min() and labels.max() < num_classes):
        raise ValueError(
            f"Expected labels from 0 to {num_classes - 1}. Received: "
            f"labels from {labels.min()} to {labels.max()}"
        )
    if len(np.unique(labels)) < 2:
        raise ValueError(
            "Expected samples of at least two classes. "
            f"Received: labels {brief(np.unique(labels))}"
        )
    return Samples(features, labels.astype(np.int64))


def stream(
    samples: Samples, num_classes: int, batch_size: int, seed: int, name: str
) -> tf.data.Dataset:
    """Endless batches (features, labels) in random order."""
    members = _members(samples, num_classes)
    return sampling.batches(
        sampling.Random().draws(members, batch_size),
        _reader(samples),
        batch_size=batch_size,
        key=seeding.key_from_seed(seed, f"{name}/indices"),
    )


def pairs(
    samples: Samples, num_classes: int, batch_size: int, seed: int, name: str
) -> tf.data.Dataset:
    """Endless batches of pairs of samples of different classes."""
    read = _reader(samples)
    return sampling.batches(
        sampling.pair_draws(_members(samples, num_classes)),
        lambda drawn: tuple(read(indices) for indices in drawn),
        batch_size=batch_size,
        key=seeding.key_from_seed(seed, name),
    )


def _members(samples: Samples, num_classes: int) -> sampling.Members:
    counts = np.bincount(samples.labels, minlength=num_classes)
    return sampling.Members(samples.labels, counts)


def _reader(samples: Samples) -> Callable[[tf.Tensor], tuple]:
    # On the CPU, where tf.data reads it.
    with tf.init_scope(), tf.device("CPU:0"):
        features, labels = map(tf.constant, samples)
    return lambda indices: (
        tf.gather(features, indices),
        tf.gather(labels, indices),
    )
