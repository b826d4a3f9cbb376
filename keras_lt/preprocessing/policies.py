"""Augmentations of many operations, drawn for each image."""

import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_lt import seeding
from keras_lt.arguments import function, integer, real
from keras_lt.preprocessing.transforms import per_image

# What rand_augment draws from; "identity" leaves an image as it is.
_OPERATIONS = (
    "identity",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "rotate",
    "brightness",
    "color",
    "contrast",
    "sharpness",
    "posterize",
    "solarize",
    "auto_contrast",
    "equalize",
)

# Sub-policies of auto_augment: twice (operation, probability, magnitude), as
# in the paper's appendix. Three operations have no magnitude.
_POLICIES = {
    "cifar10": (
        (("invert", 0.1, 7), ("contrast", 0.2, 6)),
        (("rotate", 0.7, 2), ("translate_x", 0.3, 9)),
        (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
        (("shear_y", 0.5, 8), ("translate_y", 0.7, 9)),
        (("auto_contrast", 0.5, 8), ("equalize", 0.9, 2)),
        (("shear_y", 0.2, 7), ("posterize", 0.3, 7)),
        (("color", 0.4, 3), ("brightness", 0.6, 7)),
        (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
        (("equalize", 0.6, 5), ("equalize", 0.5, 1)),
        (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
        (("color", 0.7, 7), ("translate_x", 0.5, 8)),
        (("equalize", 0.3, 7), ("auto_contrast", 0.4, 8)),
        (("translate_y", 0.4, 3), ("sharpness", 0.2, 6)),
        (("brightness", 0.9, 6), ("color", 0.2, 8)),
        (("solarize", 0.5, 2), ("invert", 0.0, 3)),
        (("equalize", 0.2, 0), ("auto_contrast", 0.6, 0)),
        (("equalize", 0.2, 8), ("equalize", 0.6, 4)),
        (("color", 0.9, 9), ("equalize", 0.6, 6)),
        (("auto_contrast", 0.8, 4), ("solarize", 0.2, 8)),
        (("brightness", 0.1, 3), ("color", 0.7, 0)),
        (("solarize", 0.4, 5), ("auto_contrast", 0.9, 3)),
        (("translate_y", 0.9, 9), ("translate_y", 0.7, 9)),
        (("auto_contrast", 0.9, 2), ("solarize", 0.8, 3)),
        (("equalize", 0.8, 8), ("invert", 0.1, 3)),
        (("translate_y", 0.7, 9), ("auto_contrast", 0.9, 1)),
    ),
    "imagenet": (
        (("posterize", 0.4, 8), ("rotate", 0.6, 9)),
        (("solarize", 0.6, 5), ("auto_contrast", 0.6, 5)),
        (("equalize", 0.8, 8), ("equalize", 0.6, 3)),
        (("posterize", 0.6, 7), ("posterize", 0.6, 6)),
        (("equalize", 0.4, 7), ("solarize", 0.2, 4)),
        (("equalize", 0.4, 4), ("rotate", 0.8, 8)),
        (("solarize", 0.6, 3), ("equalize", 0.6, 7)),
        (("posterize", 0.8, 5), ("equalize", 1.0, 2)),
        (("rotate", 0.2, 3), ("solarize", 0.6, 8)),
        (("equalize", 0.6, 8), ("posterize", 0.4, 6)),
        (("rotate", 0.8, 8), ("color", 0.4, 0)),
        (("rotate", 0.4, 9), ("equalize", 0.6, 2)),
        (("equalize", 0.0, 7), ("equalize", 0.8, 8)),
        (("invert", 0.6, 4), ("equalize", 1.0, 8)),
        (("color", 0.6, 4), ("contrast", 1.0, 8)),
        (("rotate", 0.8, 8), ("color", 1.0, 2)),
        (("color", 0.8, 8), ("solarize", 0.8, 7)),
        (("sharpness", 0.4, 7), ("invert", 0.6, 8)),
        (("shear_x", 0.6, 5), ("equalize", 1.0, 9)),
        (("color", 0.4, 0), ("equalize", 0.6, 3)),
        (("equalize", 0.4, 7), ("solarize", 0.2, 4)),
        (("solarize", 0.6, 5), ("auto_contrast", 0.6, 5)),
        (("invert", 0.6, 4), ("equalize", 1.0, 8)),
        (("color", 0.6, 4), ("contrast", 1.0, 8)),
        (("equalize", 0.8, 8), ("equalize", 0.6, 3)),
    ),
}


def auto_augment(policy: str = "cifar10") -> Callable:
    """AutoAugment (Cubuk et al., CVPR 2019) of whole batches.

    For each image one of 25 sub-policies is drawn with equal probability. It is
    two operations, each of which is done with a probability of its own, by a
    magnitude of 0 to 9 and with a sign that is drawn; the tables are those of
    the paper's appendix (arXiv:1805.09501). The operations are those of
    `rand_augment`, with m = magnitude / 9, and the inversion of an image.

    Args:
        policy: "cifar10", which serves CIFAR-100 too, or "imagenet".

    Returns:
        A transform (see the module) of images with values from 0 to 255 and 3
        channels or 1 (then color is the identity).

    Raises:
        ValueError: If there is no such policy, or the images have another
            number of channels.

    Example:
        >>> strong = keras_lt.preprocessing.chain(
        ...     keras_lt.preprocessing.pad_crop_flip(4),
        ...     keras_lt.preprocessing.auto_augment("cifar10"),
        ...     keras_lt.preprocessing.cutout(4),
        ... )
        >>> batches = keras_lt.streams.stream(
        ...     train,
        ...     sampling="random",
        ...     batch_size=32,
        ...     seed=0,
        ...     transform=strong,
        ... )
    """
    if policy not in [*_POLICIES]:
        raise ValueError(
            f"Expected policy to be one of {[*_POLICIES]}. "
            f"Received: policy={policy!r}"
        )
    names = (*_OPERATIONS, "invert")
    table = np.array(
        [
            [(names.index(name), chance, most) for name, chance, most in each]
            for each in _POLICIES[policy]
        ],
        np.float32,
    )  # (25, 2, 3)

    def transform(images, labels, indices, seeds):
        del indices
        _check_channels(images)
        dtype = tf.as_dtype(images.dtype)
        draws = seeding.uniform(seeds, 5)
        chosen = tf.cast(draws[:, 0] * len(table), tf.int32)
        rows = tf.gather(tf.constant(table), chosen)  # (batch, 2, 3)
        augmented = tf.round(tf.cast(images, tf.float32))
        for place in range(2):
            operations, chances, most = tf.unstack(rows[:, place], axis=1)
            is_done = draws[:, 1 + place] < chances
            signs = tf.where(draws[:, 3 + place] < 0.5, -1.0, 1.0)
            augmented = _operate(
                augmented,
                # The identity is the first one.
                tf.where(is_done, tf.cast(operations, tf.int32), 0),
                signs,
                most / 9.0,
                names,
            )
        return tf.cast(augmented, dtype), labels

    return transform


def rand_augment(num_operations: int = 2, magnitude: float = 10) -> Callable:
    """RandAugment (Cubuk et al., NeurIPS 2020) of whole batches.

    For each image, and `num_operations` times, one of 14 operations is drawn
    with equal probability, and a sign. With m = magnitude / 30 they are, as in
    torchvision: identity; shear by 0.3 m and translation by 150/331 m of the
    side, each along x or y; rotation by 30 m degrees; brightness, color,
    contrast and sharpness by a factor of 1 + 0.9 m or 1 - 0.9 m;
    posterization to 8 - round(4 m) bits; solarization from 255 (1 - m) on;
    auto-contrast; histogram equalization. Pixels from outside are gray (128).

    It is written by hand since `keras.layers.RandAugment` draws the same
    operations for all images of a batch, from a generator that keeps a state,
    so that no stream could start at any step or be cut into shards.

    Args:
        num_operations: Operations per image, from 1 to 14.
        magnitude: From 0 to 30.

    Returns:
        A transform (see the module) of images with values from 0 to 255 and 3
        channels or 1 (then color is the identity).

    Raises:
        ValueError: If an argument is out of its range, or the images have
            another number of channels.

    Example:
        >>> strong = keras_lt.preprocessing.chain(
        ...     keras_lt.preprocessing.pad_crop_flip(4),
        ...     keras_lt.preprocessing.rand_augment(2, 10),
        ...     keras_lt.preprocessing.cutout(4),
        ... )
        >>> batches = keras_lt.streams.stream(
        ...     train,
        ...     sampling="random",
        ...     batch_size=32,
        ...     seed=0,
        ...     transform=strong,
        ... )
    """
    num_operations = integer(
        "num_operations", num_operations, 1, len(_OPERATIONS)
    )
    magnitude = real("magnitude", magnitude)
    if not 0 <= magnitude <= 30:
        raise ValueError(
            f"Expected magnitude in [0, 30]. Received: magnitude={magnitude}"
        )

    def transform(images, labels, indices, seeds):
        del indices
        _check_channels(images)
        dtype = tf.as_dtype(images.dtype)
        augmented = tf.round(tf.cast(images, tf.float32))
        for number in range(num_operations):
            draws = seeding.uniform(seeding.fold_in(seeds, number), 2)
            operations = tf.cast(draws[:, 0] * len(_OPERATIONS), tf.int32)
            signs = tf.where(draws[:, 1] < 0.5, -1.0, 1.0)
            augmented = _operate(augmented, operations, signs, magnitude / 30)
        return tf.cast(augmented, dtype), labels

    return transform


def _operate(images, operations, signs, strength, names=_OPERATIONS):
    """Does the operation of each image, by its place in `names`.

    The strength, from 0 to 1, is a number or one for each image.
    """

    def chosen(name):
        return operations == names.index(name)

    def of_each(value):
        return per_image(tf.broadcast_to(value, tf.shape(signs)))

    def amount(name, most):
        return tf.where(chosen(name), most * strength * signs, 0.0)

    moved = _affine(
        images,
        shear_x=amount("shear_x", 0.3),
        shear_y=amount("shear_y", 0.3),
        translate_x=amount("translate_x", 150 / 331),
        translate_y=amount("translate_y", 150 / 331),
        angle=amount("rotate", math.radians(30)),
    )
    gray = _gray(images)
    mean = tf.reduce_mean(gray, axis=(1, 2, 3), keepdims=True)
    bits = tf.cast(tf.round(4.0 * strength), tf.int32)
    step = of_each(tf.gather([1.0, 2.0, 4.0, 8.0, 16.0], bits))
    results = {
        "brightness": _blended(images, 0.0, 0.9 * strength * signs),
        "color": _blended(images, gray, 0.9 * strength * signs),
        "contrast": _blended(images, tf.round(mean), 0.9 * strength * signs),
        "sharpness": _blended(images, _smooth(images), 0.9 * strength * signs),
        "posterize": tf.floor(images / step) * step,
        "solarize": tf.where(
            images < of_each(255.0 * (1.0 - strength)), images, 255.0 - images
        ),
        "auto_contrast": _auto_contrast(images),
        "equalize": _equalize(images),
        "invert": 255.0 - images,
    }
    images = moved
    for name, result in results.items():
        if name in names:
            images = tf.where(per_image(chosen(name)), result, images)
    return tf.round(images)


def _affine(images, shear_x, shear_y, translate_x, translate_y, angle):
    """Each image sheared (at its corner), shifted and turned, gray outside."""
    height, width = images.shape[1:3]
    x, y = (width - 1) / 2, (height - 1) / 2  # the center
    cosine, sine = tf.cos(angle), tf.sin(angle)
    zeros = tf.zeros_like(angle)
    matrices = [
        cosine,
        shear_x - sine,
        translate_x * width + shear_x / 2.0 + x - x * cosine + y * sine,
        shear_y + sine,
        cosine,
        translate_y * height + shear_y / 2.0 + y - x * sine - y * cosine,
        zeros,
        zeros,
    ]
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=tf.stack(matrices, axis=1),
        output_shape=[height, width],
        interpolation="NEAREST",
        fill_mode="CONSTANT",
        fill_value=128.0,
    )


def _smooth(images):
    """A mean that counts the pixel itself five times; the border stays."""
    channels = images.shape[-1]
    kernel = tf.constant([[1, 1, 1], [1, 5, 1], [1, 1, 1]], tf.float32) / 13.0
    kernel = tf.tile(kernel[:, :, None, None], [1, 1, channels, 1])
    inner = tf.nn.depthwise_conv2d(images, kernel, [1, 1, 1, 1], "VALID")
    inner = tf.pad(inner, [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=-1)
    return tf.where(inner < 0.0, images, tf.round(inner))


def _auto_contrast(images):
    low = tf.reduce_min(images, axis=(1, 2), keepdims=True)
    high = tf.reduce_max(images, axis=(1, 2), keepdims=True)
    stretched = tf.math.divide_no_nan(255.0 * (images - low), high - low)
    return tf.where(high > low, stretched, images)


def _equalize(images):
    """Flattens the histogram of each channel of each image, as PIL does."""
    _, height, width, channels = images.shape
    planes = tf.reshape(
        tf.transpose(images, [0, 3, 1, 2]), [-1, height * width]
    )
    values = tf.cast(planes, tf.int32)
    histogram = tf.math.bincount(values, minlength=256, maxlength=256, axis=-1)
    # A step is what the other pixels than those of the brightest value give.
    brightest = tf.reduce_max(values, axis=1, keepdims=True)
    step = tf.gather(histogram, brightest, batch_dims=1)
    step = (height * width - step) // 255
    below = tf.cumsum(histogram, axis=1, exclusive=True)
    table = (below + step // 2) // tf.maximum(step, 1)
    table = tf.minimum(table, 255)
    table = tf.where(step == 0, tf.range(256), table)
    planes = tf.gather(tf.cast(table, tf.float32), values, batch_dims=1)
    planes = tf.reshape(planes, [-1, channels, height, width])
    return tf.transpose(planes, [0, 2, 3, 1])


def simclr(
    min_area: float | None = 0.2, jitter: float = 0.5, blur: float = 0.0
) -> Callable:
    """SimCLR's augmentation for small images (Chen et al., ICML 2020, B.9).

    A crop of random size and place, resized to the image's, the mirror image
    with probability 1/2, with probability 0.8 other colors, with probability
    0.2 gray, and with probability `blur` blurred. In units of `jitter` s the
    colors are: brightness and contrast by factors from 1 - 0.8 s to 1 + 0.8 s,
    saturation likewise, hue by a shift of up to 0.2 s of the circle. The blur
    is Gaussian, its kernel a tenth of the image wide (3 pixels at least), its
    standard deviation uniform from 0.1 to 2 pixels. All is drawn for each
    image, from its seed.

    Args:
        min_area: Smallest area of a crop as a part of the image's, in (0, 1].
            Its aspect ratio is from 3/4 to 4/3. None is for images that are
            random crops already: they are mirrored, not cropped.
        jitter: s, from 0 to 1.
        blur: Probability, from 0 to 1: 0 as SimCLR has it for CIFAR, 0.5 for
            large images.

    Returns:
        A function of images (B, H, W, C), values from 0 to 255, C of 3 or (no
        saturation, hue and gray) 1, and seeds uint64 (B,) that returns images
        of the same shape and dtype.

    Raises:
        ValueError: If an argument is out of its range or C is another.

    Example:
        >>> key = keras_lt.seeding.key_from_seed(0, "views")
        >>> seeds = keras_lt.seeding.fold_in(key, tf.range(len(images)))
        >>> views = keras_lt.preprocessing.simclr()(images, seeds)
        >>> views.shape == images.shape
        True
    """
    if min_area is not None:
        min_area = real("min_area", min_area)
    jitter, blur = real("jitter", jitter), real("blur", blur)
    if not (
        (min_area is None or 0 < min_area <= 1)
        and 0 <= jitter <= 1
        and 0 <= blur <= 1
    ):
        raise ValueError(
            "Expected min_area in (0, 1], jitter and blur in [0, 1]. Received: "
            f"min_area={min_area}, jitter={jitter}, blur={blur}"
        )

    def augment(images: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
        _check_channels(images)
        draws = tf.unstack(seeding.uniform(seeds, 13), axis=1)  # (B,)
        dtype = tf.as_dtype(images.dtype)
        images = tf.cast(images, tf.float32)
        if min_area is None:
            mirrored = per_image(draws[4] < 0.5)
            images = tf.where(mirrored, images[:, :, ::-1], images)
        else:
            images = _resized_crop(images, min_area, *draws[:5])
        jittered = _jitter(images, jitter, *draws[5:9])
        images = tf.where(per_image(draws[9] < 0.8), jittered, images)
        gray = _gray(images)
        images = tf.where(per_image(draws[10] < 0.2), gray, images)
        if blur:
            deviations = 0.1 + 1.9 * draws[12]
            blurred = _gaussian_blur(images, deviations)
            images = tf.where(per_image(draws[11] < blur), blurred, images)
        if dtype.is_integer:
            images = tf.round(images)
        return tf.cast(images, dtype)

    return augment


def two_views(augment: Callable, read: Callable | None = None) -> Callable:
    """Makes two views of each image, for contrastive learning.

    Args:
        augment: A function of images (B, H, W, C) and seeds uint64 (B,) to
            images, such as `simclr` gives.
        read: A function of indices (B,) and seeds to images, which gives each
            view images of its own. For images in files, each view a random
            crop of the file: `train.batch_reader(True, min_area=0.2)`, with
            `simclr(min_area=None)`.

    Returns:
        A transform (see the module) to ((view_1, view_2), labels), for
        `keras_lt.models.ContrastivePretrainer`.

    Raises:
        TypeError: If an argument is no function.

    Example:
        >>> batches = keras_lt.streams.stream(
        ...     train, sampling="random", batch_size=256, seed=0,
        ...     transform=keras_lt.preprocessing.two_views(
        ...         keras_lt.preprocessing.simclr()
        ...     ),
        ... )
    """
    function("augment", augment)
    if read is not None:
        function("read", read)

    def transform(images, labels, indices, seeds):
        def view(i):
            own = images
            if read is not None:
                own = read(indices, seeding.fold_in(seeds, 2 + i))
            return augment(own, seeding.fold_in(seeds, i))

        return (view(0), view(1)), labels

    return transform


def _check_channels(images):
    if images.shape[-1] not in (1, 3):
        raise ValueError(
            "Expected images of 1 or 3 channels. "
            f"Received: images.shape={images.shape}"
        )


def _blended(images, other, change):
    """`other` where the change is -1, the images where it is 0, and beyond."""
    mixed = other + per_image(1.0 + change) * (images - other)
    return tf.clip_by_value(mixed, 0.0, 255.0)


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
        return _blended(images, other, 0.8 * strength * (2.0 * draws - 1.0))

    images = blended(images, 0.0, brightness)
    mean = tf.reduce_mean(_gray(images), axis=(1, 2, 3), keepdims=True)
    images = blended(images, mean, contrast)
    if images.shape[-1] == 1:
        return images
    images = blended(images, _gray(images), saturation)
    hsv = tf.image.rgb_to_hsv(images / 255.0)
    shift = per_image(0.2 * strength * (2.0 * hue - 1.0))
    turned = tf.math.floormod(hsv[..., :1] + shift, 1.0)
    return 255.0 * tf.image.hsv_to_rgb(tf.concat([turned, hsv[..., 1:]], -1))


def _gaussian_blur(images, deviations):
    """Each image by a standard deviation of its own, mirrored at the border."""
    for axis in (1, 2):
        size = images.shape[axis]
        radius = max(1, size // 20)
        offsets = tf.range(-radius, radius + 1, dtype=tf.float32)
        kernels = tf.nn.softmax(-0.5 * (offsets / deviations[:, None]) ** 2)
        padding = [[0, 0]] * 4
        padding[axis] = [radius, radius]
        padded = tf.pad(images, padding, "REFLECT")
        images = tf.add_n(
            [
                per_image(kernels[:, k])
                * tf.gather(padded, tf.range(k, k + size), axis=axis)
                for k in range(2 * radius + 1)
            ]
        )
    return images


def _gray(images: tf.Tensor) -> tf.Tensor:
    """Luma (ITU-R BT.601) in every channel."""
    if images.shape[-1] == 1:
        return images
    luma = tf.tensordot(images, tf.constant([0.299, 0.587, 0.114]), 1)
    return tf.repeat(luma[..., None], 3, axis=-1)
