"""Normalization of images by channel statistics."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_lt.messages import brief


@keras.saving.register_keras_serializable(package="keras_lt")
class ImageNormalization(keras.layers.Layer):
    """Maps images to zero mean and unit variance per channel: (x - mean) / std.

    It is the first layer of every backbone here, so that a saved model takes
    raw uint8 images. The arithmetic is float32 under any dtype policy (the
    mean of CIFAR-10 is not a bfloat16 number), the output has the compute
    dtype of the layer.

    Args:
        mean: Mean of each channel, in the units of the images (0 to 255 for
            uint8).
        variance: Variance of each channel, in the square of those units. A
            channel with variance 0 (a constant one) is only centered.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape: (B, H, W, C), C equal to `len(mean)`, uint8 or floating.

    Raises:
        ValueError: If mean and variance are not finite vectors of one length,
            a variance is negative, or the input has another rank or number of
            channels.

    Example:
        >>> layer = keras_lt.layers.ImageNormalization([127.5], [127.5**2])
        >>> float(layer(np.full((1, 8, 8, 1), 255, "uint8"))[0, 0, 0, 0])
        1.0
    """

    def __init__(
        self, mean: Sequence[float], variance: Sequence[float], **kwargs: Any
    ):
        # uint8 images reach `call` as they are: autocast would only touch
        # floating inputs, and those too are wanted in float32.
        super().__init__(autocast=False, **kwargs)
        self.mean = [float(value) for value in mean]
        self.variance = [float(value) for value in variance]
        values = self.mean + self.variance
        if (
            not self.mean
            or len(self.mean) != len(self.variance)
            or not all(map(math.isfinite, values))
            or min(self.variance) < 0
        ):
            raise ValueError(
                "Expected mean and variance to be finite vectors of the same "
                "length, variances at least 0. Received: "
                f"mean={brief(mean)}, variance={brief(variance)}"
            )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if len(input_shape) != 4 or input_shape[-1] != len(self.mean):
            raise ValueError(
                f"Expected images of shape (B, H, W, {len(self.mean)}), with "
                "as many channels as mean and variance. "
                f"Received: shape={tuple(input_shape)}"
            )
        self.input_spec = keras.layers.InputSpec(
            ndim=4, axes={-1: len(self.mean)}
        )

    def call(self, inputs: Any) -> Any:
        std = np.sqrt(self.variance)
        scale = (1.0 / np.where(std > 0, std, 1.0)).astype("float32")
        mean = np.asarray(self.mean, "float32")
        outputs = (keras.ops.cast(inputs, "float32") - mean) * scale
        return keras.ops.cast(outputs, self.compute_dtype)

    def compute_output_spec(self, inputs: Any) -> keras.KerasTensor:
        return keras.KerasTensor(inputs.shape, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return {**config, "mean": self.mean, "variance": self.variance}
