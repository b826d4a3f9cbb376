"""Augmentation of whole batches, pure in per-example seeds.

A transform is a callable `(images, labels, indices, seeds)` on a batch, which
a stream applies inside tf.data: images (B, H, W, C) uint8 or float32, labels
int64 (B,), indices int64 (B,) into the data set, seeds uint64 (B,). Whatever
it returns is the batch. `seeding.uniform(seeds, lanes)` turns seeds into
random numbers; for `tf.random.stateless_*`, `tf.bitcast(seeds, tf.int32)`
gives the seeds (B, 2). `rotate_90` and `simclr` are for the train step.

A mix is a callable `(images, labels, other_images, other_labels, seeds)` that a
stream applies after the transform to each example and a partner, drawn as the
example was. It returns images and soft labels float32 (B, C).
"""

import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_lt import seeding
from keras_lt.counts import validate_class_counts


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


def cutout(size: int) -> Callable:
    """Blacks out a square of each image (DeVries and Taylor, 2017).

    Its centre is uniform over the pixels, so at the borders less is lost. As in
    the authors' code a side is `size // 2` to both sides of the centre.

    Args:
        size: Side of the square in pixels, at least 2; 16 for CIFAR-10.

    Returns:
        A transform (see the module).

    Raises:
        ValueError: If the size is less than 2.

    Example:
        >>> transform = keras_lt.preprocessing.chain(
        ...     keras_lt.preprocessing.pad_crop_flip(4),
        ...     keras_lt.preprocessing.cutout(16),
        ... )
    """
    if size < 2:
        raise ValueError(f"Expected size >= 2. Received: size={size}")

    def transform(images, labels, indices, seeds):
        del indices
        height, width = images.shape[1:3]
        row, column = tf.unstack(seeding.uniform(seeds, 2), axis=1)
        row, column = tf.floor(row * height), tf.floor(column * width)
        half = float(size // 2)
        inside = _box(
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
    """

    def transform(images, labels, indices, seeds):
        for number, each in enumerate(transforms):
            images, labels = each(
                images, labels, indices, seeding.fold_in(seeds, number)
            )
        return images, labels

    return transform


def mixup(num_classes: int, alpha: float = 1.0) -> Callable:
    """Blends each image and its label with a partner's (Zhang et al., 2018).

    x = l x_i + (1 - l) x_j and y alike, l from Beta(alpha, alpha) for each
    example (the authors draw one l a batch). uint8 images stay so, rounded.

    Args:
        num_classes: C.
        alpha: Greater than 0; 1 is uniform.

    Returns:
        A mix (see the module).

    Raises:
        ValueError: If alpha is not positive.

    Example:
        >>> batches = keras_lt.streams.stream(
        ...     train, sampling="random", batch_size=128, seed=0,
        ...     mix=keras_lt.preprocessing.mixup(train.num_classes),
        ... )
    """
    quantiles = _beta_quantiles(alpha)

    def mix(images, labels, other_images, other_labels, seeds):
        share = _interpolated(quantiles, seeding.uniform(seeds, 1)[:, 0])
        return (
            _blend(images, other_images, share),
            _soft(labels, other_labels, share, num_classes),
        )

    return mix


def remix(
    class_counts, alpha: float = 1.0, kappa: float = 3.0, tau: float = 0.5
) -> Callable:
    """Mixup whose labels favour the smaller class (Chou et al., ECCV 2020).

    With n_i and n_j images in the classes of the example and its partner, the
    label's share (equation 8) is 0 where n_i / n_j >= kappa and l < tau, 1
    where n_i / n_j <= 1 / kappa and 1 - l < tau, and mixup's l elsewhere.

    Args:
        class_counts: Training images a class (C,).
        alpha: As in `mixup`.
        kappa: Ratio of counts from which classes differ, at least 1.
        tau: Share up to which a label can go, from 0 to 1.

    Returns:
        A mix (see the module).

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> mix = keras_lt.preprocessing.remix(train.class_counts)
    """
    counts = validate_class_counts(class_counts)
    if not (1 <= kappa < math.inf and 0 <= tau <= 1):
        raise ValueError(
            "Expected kappa >= 1 and tau in [0, 1]. Received: "
            f"kappa={kappa}, tau={tau}"
        )
    quantiles = _beta_quantiles(alpha)

    def mix(images, labels, other_images, other_labels, seeds):
        share = _interpolated(quantiles, seeding.uniform(seeds, 1)[:, 0])
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

    return mix


def cutmix(num_classes: int, alpha: float = 1.0) -> Callable:
    """Pastes a box of the partner into each image (Yun et al., ICCV 2019).

    The box has sides sqrt(1 - l) of the image's, l from Beta(alpha, alpha), and
    a centre uniform over the pixels; what of it is inside the image is
    replaced, and labels are mixed by areas.

    Args:
        num_classes: C.
        alpha: Greater than 0; 1 is uniform.

    Returns:
        A mix (see the module).

    Raises:
        ValueError: If alpha is not positive.

    Example:
        >>> mix = keras_lt.preprocessing.cutmix(train.num_classes)
    """
    quantiles = _beta_quantiles(alpha)

    def mix(images, labels, other_images, other_labels, seeds):
        height, width = images.shape[1:3]
        draws = seeding.uniform(seeds, 3)
        part = tf.sqrt(1.0 - _interpolated(quantiles, draws[:, 0]))
        row = tf.floor(draws[:, 1] * height)
        column = tf.floor(draws[:, 2] * width)
        tall, wide = tf.floor(part * height), tf.floor(part * width)
        top, left = row - tf.floor(tall / 2.0), column - tf.floor(wide / 2.0)
        inside = _box(height, width, top, left, top + tall, left + wide)
        pasted = tf.reduce_mean(tf.cast(inside, tf.float32), axis=(1, 2, 3))
        return (
            tf.where(inside, other_images, images),
            _soft(labels, other_labels, 1.0 - pasted, num_classes),
        )

    return mix


def _box(height, width, top, left, bottom, right):
    """(B, H, W, 1): the pixels in boxes that end before bottom and right."""
    rows = tf.range(height, dtype=tf.float32)[:, None, None]
    columns = tf.range(width, dtype=tf.float32)[:, None]
    return (
        (rows >= _per_image(top))
        & (rows < _per_image(bottom))
        & (columns >= _per_image(left))
        & (columns < _per_image(right))
    )


def _beta_quantiles(alpha: float) -> np.ndarray:
    """Quantiles of Beta(alpha, alpha) at 4,097 even steps from 0 to 1."""
    from scipy import stats

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
    mixed = other_images + _per_image(share) * (images - other_images)
    return tf.cast(tf.round(mixed) if dtype.is_integer else mixed, dtype)


def _soft(labels, other_labels, share, num_classes):
    share = share[:, None]
    first = tf.one_hot(labels, num_classes)
    return share * first + (1.0 - share) * tf.one_hot(other_labels, num_classes)


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


def simclr(min_area: float = 0.2, jitter: float = 0.5) -> Callable:
    """SimCLR's augmentation for small images (Chen et al., ICML 2020, B.9).

    A crop of random size and place, resized to the image's, the mirror image
    with probability 1/2, with probability 0.8 other colours, and with
    probability 0.2 grey. As SimCLR does for CIFAR, nothing is blurred. In
    units of `jitter` s the colours are: brightness and contrast by factors
    from 1 - 0.8 s to 1 + 0.8 s, saturation likewise, hue by a shift of up to
    0.2 s of the circle. All is drawn for each image, from its seed.

    Args:
        min_area: Smallest area of a crop as a part of the image's, in (0, 1].
            Its aspect ratio is from 3/4 to 4/3.
        jitter: s, from 0 to 1.

    Returns:
        A function of images (B, H, W, C), values from 0 to 255, C of 3 or (no
        saturation, hue and grey) 1, and seeds uint64 (B,) that returns images
        of the same shape and dtype.

    Raises:
        ValueError: If an argument is out of its range or C is another.

    Example:
        >>> view = keras_lt.preprocessing.simclr()(images, seeds)
    """
    if not (0 < min_area <= 1 and 0 <= jitter <= 1):
        raise ValueError(
            "Expected min_area in (0, 1] and jitter in [0, 1]. Received: "
            f"min_area={min_area}, jitter={jitter}"
        )

    def augment(images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        if images.shape[-1] not in (1, 3):
            raise ValueError(
                "Expected images of 1 or 3 channels. "
                f"Received: images.shape={images.shape}"
            )
        draws = tf.unstack(seeding.uniform(seeds, 11), axis=1)  # (B,)
        dtype = tf.as_dtype(images.dtype)
        images = tf.cast(images, tf.float32)
        images = _resized_crop(images, min_area, *draws[:5])
        jittered = _jitter(images, jitter, *draws[5:9])
        images = tf.where(_per_image(draws[9] < 0.8), jittered, images)
        grey = _grey(images)
        images = tf.where(_per_image(draws[10] < 0.2), grey, images)
        if dtype.is_integer:
            images = tf.round(images)
        return tf.cast(images, dtype)

    return augment


def _per_image(values: tf.Tensor) -> tf.Tensor:
    return values[:, None, None, None]


def _resized_crop(images, min_area, area, ratio, top, left, mirrored):
    _, height, width, _ = images.shape
    area = min_area + (1.0 - min_area) * area
    ratio = tf.exp(math.log(4 / 3) * (2.0 * ratio - 1.0))

    def weights(part, place, size, mirrored):
        """(B, size, size): of each pixel in each of the crop, bilinear."""
        part = tf.minimum(part, 1.0)[:, None]
        centers = (tf.range(size, dtype=tf.float32) + 0.5) / size
        centers = tf.where(mirrored[:, None], 1.0 - centers, centers)
        at = (place[:, None] * (1.0 - part) + part * centers) * size - 0.5
        at = tf.clip_by_value(at, 0.0, size - 1.0)[:, :, None]
        distance = tf.abs(at - tf.range(size, dtype=tf.float32))
        return tf.maximum(1.0 - distance, 0.0)

    never = tf.zeros_like(mirrored, tf.bool)
    rows = weights(tf.sqrt(area / ratio), top, height, never)
    columns = weights(tf.sqrt(area * ratio), left, width, mirrored < 0.5)
    images = tf.einsum("bik,bkwc->biwc", rows, images)
    return tf.einsum("bjl,bilc->bijc", columns, images)


def _jitter(images, strength, brightness, contrast, saturation, hue):
    def blended(images, other, draws):
        factor = 1.0 + 0.8 * strength * (2.0 * draws - 1.0)
        mixed = other + _per_image(factor) * (images - other)
        return tf.clip_by_value(mixed, 0.0, 255.0)

    images = blended(images, 0.0, brightness)
    mean = tf.reduce_mean(_grey(images), axis=(1, 2, 3), keepdims=True)
    images = blended(images, mean, contrast)
    if images.shape[-1] == 1:
        return images
    images = blended(images, _grey(images), saturation)
    hsv = tf.image.rgb_to_hsv(images / 255.0)
    shift = _per_image(0.2 * strength * (2.0 * hue - 1.0))
    turned = tf.math.floormod(hsv[..., :1] + shift, 1.0)
    return 255.0 * tf.image.hsv_to_rgb(tf.concat([turned, hsv[..., 1:]], -1))


def _grey(images: tf.Tensor) -> tf.Tensor:
    """Luma (ITU-R BT.601) in every channel."""
    if images.shape[-1] == 1:
        return images
    luma = tf.tensordot(images, tf.constant([0.299, 0.587, 0.114]), 1)
    return tf.repeat(luma[..., None], 3, axis=-1)
