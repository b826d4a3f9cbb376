"""The images that backbones take."""

from collections.abc import Sequence

import keras

from keras_lt.arguments import integer
from keras_lt.layers import ImageNormalization


def image_shape(shape: Sequence[int | None]) -> tuple[int | None, ...]:
    """Returns the shape of an image as Python numbers; H and W may be None.

    Raises:
        TypeError: If it holds something else than integers.
        ValueError: If it is no (H, W, C).

    Example:
        >>> keras_lt.models.backbones.image_shape([None, None, np.int64(3)])
        (None, None, 3)
    """
    shape = tuple(
        None if length is None else integer("input_shape", length, 1)
        for length in shape
    )
    if len(shape) != 3 or shape[2] is None:
        raise ValueError(
            "Expected an input_shape (H, W, C), where H and W may be None. "
            f"Received: input_shape={shape}"
        )
    return shape


def normalized_images(
    input_shape: Sequence[int | None],
    mean: Sequence[float] | None,
    variance: Sequence[float] | None,
    dtype: str | None = None,
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """An input of uint8 images, and the same images with mean 0, variance 1.

    With neither mean nor variance, 0..255 is mapped to -1..1.
    """
    input_shape = image_shape(input_shape)
    if (mean is None) != (variance is None):
        raise ValueError(
            "Expected both of mean and variance, or neither. "
            f"Received: mean={mean}, variance={variance}"
        )
    if mean is None:
        mean = [127.5] * input_shape[-1]
        variance = [127.5**2] * input_shape[-1]
    images = keras.Input(input_shape, dtype="uint8", name="images")
    normalization = ImageNormalization(
        mean, variance, dtype=dtype, name="image_normalization"
    )
    return images, normalization(images)


def rgb_images(
    input_shape: Sequence[int | None],
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """An input of uint8 images, and the same images as RGB in float32."""
    input_shape = image_shape(input_shape)
    images = keras.Input(input_shape, dtype="uint8", name="images")
    x = keras.ops.cast(images, "float32")
    if input_shape[-1] == 1:
        x = keras.ops.repeat(x, 3, axis=-1)
    return images, x
