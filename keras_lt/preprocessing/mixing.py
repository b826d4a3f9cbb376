"""What blends each image and its label with a partner's."""

import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_lt import seeding
from keras_lt.arguments import integer, real
from keras_lt.counts import validate_class_counts
from keras_lt.preprocessing.transforms import box, per_image


def mixup(num_classes: int, alpha: float = 1.0) -> Callable:
    """Blends each image and its label with a partner's (Zhang et al., 2018).

    x = l x_i + (1 - l) x_j and y alike, l from Beta(alpha, alpha) for each
    example (the authors draw one l per batch). uint8 images stay so, rounded.

    Args:
        num_classes: C, at least 1.
        alpha: Greater than 0; 1 is uniform.

    Returns:
        A mix (see the module).

    Raises:
        ValueError: If an argument is out of its range, or, when called, a
            label is.

    Example:
        >>> batches = keras_lt.streams.stream(
        ...     train, sampling="random", batch_size=128, seed=0,
        ...     mix=keras_lt.preprocessing.mixup(train.num_classes),
        ... )
    """
    num_classes = integer("num_classes", num_classes, 1)
    quantiles = _beta_quantiles(alpha)

    def mix(images, labels, other_images, other_labels, seeds):
        share = _interpolated(quantiles, seeding.uniform(seeds, 1)[:, 0])
        return (
            _blend(images, other_images, share),
            _soft(labels, other_labels, share, num_classes),
        )

    mix.num_classes = num_classes
    return mix


def remix(
    class_counts, alpha: float = 1.0, kappa: float = 3.0, tau: float = 0.5
) -> Callable:
    """Mixup whose labels favor the smaller class (Chou et al., ECCV 2020).

    With n_i and n_j images in the classes of the example and its partner, the
    label's share (equation 8) is 0 where n_i / n_j >= kappa and l < tau, 1
    where n_i / n_j <= 1 / kappa and 1 - l < tau, and mixup's l elsewhere.

    Args:
        class_counts: Training images per class (C,).
        alpha: As in `mixup`.
        kappa: Ratio of counts from which classes differ, at least 1.
        tau: Share up to which a label can go, from 0 to 1.

    Returns:
        A mix (see the module).

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> batches = keras_lt.streams.stream(
        ...     train,
        ...     sampling="random",
        ...     batch_size=128,
        ...     seed=0,
        ...     mix=keras_lt.preprocessing.remix(train.class_counts),
        ... )
    """
    counts = validate_class_counts(class_counts)
    kappa, tau = real("kappa", kappa), real("tau", tau)
    if not (1 <= kappa < math.inf and 0 <= tau <= 1):
        raise ValueError(
            "Expected kappa >= 1 and tau in [0, 1]. Received: "
            f"kappa={kappa}, tau={tau}"
        )
    quantiles = _beta_quantiles(alpha)

    def mix(images, labels, other_images, other_labels, seeds):
        share = _interpolated(quantiles, seeding.uniform(seeds, 1)[:, 0])
        labels = _checked(labels, len(counts))
        other_labels = _checked(other_labels, len(counts))
        sizes = tf.constant(counts, tf.float32)
        size = tf.gather(sizes, labels)
        other_size = tf.gather(sizes, other_labels)
        label_share = tf.where(
            (size >= kappa * other_size) & (share < tau), 0.0, share
        )
        label_share = tf.where(
            (other_size >= kappa * size) & (1.0 - share < tau),
            1.0,
            label_share,
        )
        return (
            _blend(images, other_images, share),
            _soft(labels, other_labels, label_share, len(counts)),
        )

    mix.num_classes = len(counts)
    return mix


def cutmix(num_classes: int, alpha: float = 1.0) -> Callable:
    """Pastes a box of the partner into each image (Yun et al., ICCV 2019).

    The box has sides sqrt(1 - l) of the image's, l from Beta(alpha, alpha), and
    a center uniform over the pixels; what of it is inside the image is
    replaced, and labels are mixed by areas.

    Args:
        num_classes: C, at least 1.
        alpha: Greater than 0; 1 is uniform.

    Returns:
        A mix (see the module).

    Raises:
        ValueError: If an argument is out of its range, or, when called, a
            label is.

    Example:
        >>> batches = keras_lt.streams.stream(
        ...     train,
        ...     sampling="random",
        ...     batch_size=128,
        ...     seed=0,
        ...     mix=keras_lt.preprocessing.cutmix(train.num_classes),
        ... )
    """
    num_classes = integer("num_classes", num_classes, 1)
    quantiles = _beta_quantiles(alpha)

    def mix(images, labels, other_images, other_labels, seeds):
        height, width = images.shape[1:3]
        draws = seeding.uniform(seeds, 3)
        part = tf.sqrt(1.0 - _interpolated(quantiles, draws[:, 0]))
        row = tf.floor(draws[:, 1] * height)
        column = tf.floor(draws[:, 2] * width)
        tall, wide = tf.floor(part * height), tf.floor(part * width)
        top, left = row - tf.floor(tall / 2.0), column - tf.floor(wide / 2.0)
        inside = box(height, width, top, left, top + tall, left + wide)
        pasted = tf.reduce_mean(tf.cast(inside, tf.float32), axis=(1, 2, 3))
        return (
            tf.where(inside, other_images, images),
            _soft(labels, other_labels, 1.0 - pasted, num_classes),
        )

    mix.num_classes = num_classes
    return mix


def _beta_quantiles(alpha: float) -> np.ndarray:
    """Quantiles of Beta(alpha, alpha) at 4,097 even steps from 0 to 1."""
    from scipy import stats

    alpha = real("alpha", alpha)
    if not 0 < alpha < math.inf:
        raise ValueError(f"Expected alpha > 0. Received: alpha={alpha}")
    quantiles = stats.beta.ppf(np.linspace(0.0, 1.0, 4097), alpha, alpha)
    return quantiles.astype(np.float32)


def _interpolated(quantiles: np.ndarray, draws: tf.Tensor) -> tf.Tensor:
    """Quantiles at draws in [0, 1), linear between the steps."""
    place = draws * (len(quantiles) - 1)
    below = tf.cast(place, tf.int32)
    low, high = tf.gather(quantiles, below), tf.gather(quantiles, below + 1)
    return low + (place - tf.floor(place)) * (high - low)


def _blend(images, other_images, share):
    dtype = tf.as_dtype(images.dtype)
    images = tf.cast(images, tf.float32)
    other_images = tf.cast(other_images, tf.float32)
    mixed = other_images + per_image(share) * (images - other_images)
    return tf.cast(tf.round(mixed) if dtype.is_integer else mixed, dtype)


def _soft(labels, other_labels, share, num_classes):
    share = share[:, None]
    first, second = (
        tf.one_hot(_checked(each, num_classes), num_classes)
        for each in (labels, other_labels)
    )
    return share * first + (1.0 - share) * second


def _checked(labels, num_classes):
    """Refuses labels that are no class: their rows would not sum to 1."""
    labels = tf.convert_to_tensor(labels)
    if labels.shape.rank != 1 or not labels.dtype.is_integer:
        raise ValueError(
            "Expected labels to be ids, integers of shape (batch,). Received: "
            f"labels.shape={labels.shape}, labels.dtype={labels.dtype.name}"
        )
    labels = tf.cast(labels, tf.int64)
    expected = f"Expected labels from 0 to {num_classes - 1} (num_classes)."
    inside = (labels >= 0) & (labels < num_classes)
    if not tf.is_symbolic_tensor(labels):
        if not np.all(inside):
            wrong = labels[~inside][0].numpy()
            raise ValueError(f"{expected} Received: label {wrong}")
        return labels
    check = tf.debugging.Assert(
        tf.reduce_all(inside), [f"{expected} Received:", labels]
    )
    with tf.control_dependencies([check]):
        return tf.identity(labels)
