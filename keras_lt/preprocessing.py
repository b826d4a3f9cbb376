"""Augmentation of whole batches, pure in per-example seeds.

A transform is a callable `(images, labels, indices, seeds)` on a batch, which
a stream applies inside tf.data: images (B, H, W, C) uint8 or float32, labels
int64 (B,), indices int64 (B,) into the data set, seeds uint64 (B,). Whatever
it returns is the batch. `seeding.uniform(seeds, lanes)` turns seeds into
random numbers; for `tf.random.stateless_*`, `tf.bitcast(seeds, tf.int32)`
gives the seeds (B, 2).
"""

from collections.abc import Callable

import tensorflow as tf

from keras_lt import seeding


def pad_crop_flip(padding: int = 4, flip: bool = True) -> Callable:
    """The standard CIFAR augmentation: zero padding, random crop, flip.

    Each image is padded with zeros (black, before any normalisation) on all
    sides, cut to its old size at an offset uniform over the
    (2 * padding + 1)^2 possible ones, and mirrored with probability 1/2. One
    gather does it for the whole batch.

    Args:
        padding: Pixels a side, at least 0.
        flip: Whether images are mirrored left to right.

    Returns:
        A transform (see the module).

    Raises:
        ValueError: If the padding is negative.

    Example:
        >>> batches = keras_lt.streams.stream(
        ...     train, sampling="random", batch_size=128, seed=0,
        ...     transform=keras_lt.preprocessing.pad_crop_flip(4),
        ... )
    """
    if padding < 0:
        raise ValueError(f"Expected padding >= 0. Received: padding={padding}")

    def transform(images, labels, indices, seeds):
        del indices
        draws = seeding.uniform(seeds, 3)  # (B, 3)
        offsets = tf.cast(draws[:, :2] * (2 * padding + 1), tf.int32)
        mirrored = (draws[:, 2] < 0.5) & flip
        return _crop(images, padding, offsets, mirrored), labels

    return transform


def _crop(
    images: tf.Tensor, padding: int, offsets: tf.Tensor, mirrored: tf.Tensor
) -> tf.Tensor:
    batch, height, width, channels = images.shape
    padded_height, padded_width = height + 2 * padding, width + 2 * padding
    padded = tf.pad(images, [[0, 0], [padding] * 2, [padding] * 2, [0, 0]])
    columns = tf.range(width)
    columns = tf.where(mirrored[:, None], width - 1 - columns, columns)
    columns += offsets[:, 1:]  # (B, W)
    rows = offsets[:, :1] + tf.range(height)  # (B, H)
    rows += tf.range(batch)[:, None] * padded_height
    pixels = rows[:, :, None] * padded_width + columns[:, None, :]  # (B, H, W)
    return tf.gather(tf.reshape(padded, [-1, channels]), pixels)


def rotate_90(images: tf.Tensor, quarter_turns: tf.Tensor) -> tf.Tensor:
    """Turns each image counter-clockwise by a number of quarter turns.

    Args:
        images: Square images (B, S, S, C).
        quarter_turns: int (B,), from 0 to 3.

    Returns:
        (B, S, S, C), of the dtype of the images.

    Raises:
        ValueError: If the images are not square.

    Example:
        >>> turned = keras_lt.preprocessing.rotate_90(images, [0, 1, 2, 3])
    """
    if images.shape[1] != images.shape[2]:
        raise ValueError(
            f"Expected square images. Received: images.shape={images.shape}"
        )
    turns = tf.reshape(quarter_turns, (-1, 1, 1, 1))
    images = tf.where(
        turns % 2 == 1, tf.transpose(images, [0, 2, 1, 3]), images
    )
    images = tf.where((turns == 1) | (turns == 2), images[:, ::-1], images)
    return tf.where(turns >= 2, images[:, :, ::-1], images)
