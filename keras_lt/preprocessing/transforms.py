"""Crops, mirror images, black squares, turns, sizes, chains of transforms."""

from collections.abc import Callable

import tensorflow as tf

from keras_lt import seeding
from keras_lt.arguments import framing as checked_framing
from keras_lt.arguments import function, integer


def pad_crop_flip(padding: int = 4, flip: bool = True) -> Callable:
    """The standard CIFAR augmentation: zero padding, random crop, flip.

    Each image is padded with zeros (black, before any normalization) on all
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
    padding = integer("padding", padding, 0)

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
    batch = batch or tf.shape(images)[0]  # of the last batch of a data set
    padded_height, padded_width = height + 2 * padding, width + 2 * padding
    padded = tf.pad(images, [[0, 0], [padding] * 2, [padding] * 2, [0, 0]])
    columns = tf.range(width)
    columns = tf.where(mirrored[:, None], width - 1 - columns, columns)
    columns += offsets[:, 1:]  # (B, W)
    rows = offsets[:, :1] + tf.range(height)  # (B, H)
    rows += tf.range(batch)[:, None] * padded_height
    pixels = rows[:, :, None] * padded_width + columns[:, None, :]  # (B, H, W)
    return tf.gather(tf.reshape(padded, [-1, channels]), pixels)


def cutout(size: int) -> Callable:
    """Blacks out a square of each image (DeVries and Taylor, 2017).

    Its center is uniform over the pixels, so at the borders less is lost. As in
    the authors' code a side is `size // 2` to both sides of the center.

    Args:
        size: Side of the square in pixels, at least 2 and at most that of the
            image; 16 for CIFAR-10.

    Returns:
        A transform (see the module).

    Raises:
        ValueError: If the size is less than 2, or, when called, larger than
            the images.

    Example:
        >>> transform = keras_lt.preprocessing.chain(
        ...     keras_lt.preprocessing.pad_crop_flip(1),
        ...     keras_lt.preprocessing.cutout(4),
        ... )
        >>> batches = keras_lt.streams.stream(
        ...     train,
        ...     sampling="random",
        ...     batch_size=32,
        ...     seed=0,
        ...     transform=transform,
        ... )
    """
    size = integer("size", size, 2)

    def transform(images, labels, indices, seeds):
        del indices
        height, width = images.shape[1:3]
        if size > min(height, width):
            raise ValueError(
                "Expected a square no larger than the images. Received: "
                f"size={size}, images.shape={tuple(images.shape)}"
            )
        row, column = tf.unstack(seeding.uniform(seeds, 2), axis=1)
        row, column = tf.floor(row * height), tf.floor(column * width)
        half = float(size // 2)
        inside = box(
            height, width, row - half, column - half, row + half, column + half
        )
        return tf.where(inside, tf.zeros((), images.dtype), images), labels

    return transform


def chain(*transforms: Callable) -> Callable:
    """One transform of several, each with random numbers of its own.

    Args:
        *transforms: Transforms, the first one applied first.

    Returns:
        A transform (see the module).

    Raises:
        TypeError: If one is no function.

    Example:
        >>> transform = keras_lt.preprocessing.chain(
        ...     keras_lt.preprocessing.pad_crop_flip(),
        ...     keras_lt.preprocessing.cutout(16),
        ... )
    """
    for number, each in enumerate(transforms):
        function(f"transforms[{number}]", each)

    def transform(images, labels, indices, seeds):
        for number, each in enumerate(transforms):
            images, labels = each(
                images, labels, indices, seeding.fold_in(seeds, number)
            )
        return images, labels

    return transform


def box(height, width, top, left, bottom, right) -> tf.Tensor:
    """(B, H, W, 1): the pixels in boxes that end before bottom and right."""
    rows = tf.range(height, dtype=tf.float32)[:, None, None]
    columns = tf.range(width, dtype=tf.float32)[:, None]
    return (
        (rows >= per_image(top))
        & (rows < per_image(bottom))
        & (columns >= per_image(left))
        & (columns < per_image(right))
    )


def rotate_90(images: tf.Tensor, quarter_turns: tf.Tensor) -> tf.Tensor:
    """Turns each image counter-clockwise by a number of quarter turns.

    Args:
        images: Square images (B, S, S, C).
        quarter_turns: Integers (B,); negative ones turn clockwise.

    Returns:
        (B, S, S, C), of the dtype of the images.

    Raises:
        ValueError: If the images are not square.

    Example:
        >>> turned = keras_lt.preprocessing.rotate_90(images[:4], [0, 1, 2, 3])
        >>> bool(np.all(turned[2] == images[2, ::-1, ::-1]))
        True
    """
    if images.shape[1] != images.shape[2]:
        raise ValueError(
            f"Expected square images. Received: images.shape={images.shape}"
        )
    turns = tf.reshape(quarter_turns, (-1, 1, 1, 1)) % 4
    images = tf.where(
        turns % 2 == 1, tf.transpose(images, [0, 2, 1, 3]), images
    )
    images = tf.where((turns == 1) | (turns == 2), images[:, ::-1], images)
    return tf.where(turns >= 2, images[:, :, ::-1], images)


def per_image(values: tf.Tensor) -> tf.Tensor:
    """(B,) as (B, 1, 1, 1)."""
    return values[:, None, None, None]


def resize_and_crop(
    images: tf.Tensor, size: tuple[int, int], framing: str = "center"
) -> tf.Tensor:
    """Brings images to one size, as ImageNet models are evaluated.

    An image (h, w) is enlarged by the factor 256 / 224 * max(H / h, W / w) and
    its center cut out, in one: a pixel is the mean of those that it covers,
    weighted by a triangle (bilinear, anti-aliased). An image that has the size
    is left as it is, bit for bit. With the framing "whole" nothing is cut off:
    height and width have factors of their own, H / h and W / w.
    `keras_lt.datasets.decode` does the same to files.

    Args:
        images: uint8 (B, h, w, C), h and w at least 1.
        size: (H, W), each at least 1.
        framing: "center" or "whole".

    Returns:
        uint8 (B, H, W, C).

    Raises:
        ValueError: If an argument is out of its range, or the images are no
            uint8.

    Example:
        >>> keras_lt.preprocessing.resize_and_crop(photos, (224, 224)).shape
        TensorShape([8, 224, 224, 3])
    """
    checked_framing(framing)
    height, width = size
    size = integer("height", height, 1), integer("width", width, 1)
    images = tf.convert_to_tensor(images)
    if images.dtype != tf.uint8:
        raise ValueError(
            f"Expected uint8 images. Received: images.dtype={images.dtype.name}"
        )
    before = tf.shape(images)[1:3]
    after = tf.constant(size)

    def resized():
        sides, cut = tf.cast(before, tf.float32), tf.cast(after, tf.float32)
        factor = cut / sides
        if framing == "center":
            largest = tf.reduce_max(factor) * (256 / 224)
            factor = tf.stack([largest, largest])
        pixels = tf.raw_ops.ScaleAndTranslate(
            images=images,
            size=after,
            scale=factor,
            translation=(cut - sides * factor) / 2,
            kernel_type="triangle",
            antialias=True,
        )
        return tf.saturate_cast(tf.round(pixels), tf.uint8)

    fitted = tf.cond(
        tf.reduce_all(before == after), lambda: tf.identity(images), resized
    )
    return tf.ensure_shape(fitted, [None, *size, None])
