"""Backbones: models from uint8 images to features."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_lt.layers import FusedBatchNormalization, ImageNormalization


@keras.saving.register_keras_serializable(package="keras_lt")
class PaddedShortcut(keras.layers.Layer):
    """The parameter-free shortcut of CIFAR ResNets ("option A").

    Takes every `strides`-th pixel from 0 and pads the channels with zeros,
    half of them in front (He et al., CVPR 2016, section 4.2).

    Args:
        filters: Channels of the output.
        strides: Step between the pixels that stay.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: If `strides` is not positive, or the input has another
            rank than 4 or more than `filters` channels.

    Example:
        >>> PaddedShortcut(32, 2)(np.zeros((1, 8, 8, 16), "float32")).shape
        TensorShape([1, 4, 4, 32])
    """

    def __init__(self, filters: int, strides: int, **kwargs: Any):
        super().__init__(**kwargs)
        if strides < 1:
            raise ValueError(f"Expected strides >= 1. Received: {strides=}")
        self.filters = filters
        self.strides = strides

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if len(input_shape) != 4 or input_shape[-1] > self.filters:
            raise ValueError(
                f"Expected maps (B, H, W, D), D at most {self.filters} (the "
                f"filters). Received: shape={tuple(input_shape)}"
            )

    def call(self, inputs: Any) -> Any:
        # The average of one pixel: a strided slice is 15 times slower on CPU.
        outputs = keras.ops.average_pool(inputs, 1, self.strides)
        missing = self.filters - inputs.shape[-1]
        front = missing // 2
        return keras.ops.pad(
            outputs, [[0, 0], [0, 0], [0, 0], [front, missing - front]]
        )

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return {**config, "filters": self.filters, "strides": self.strides}


def cifar_resnet(
    depth: int = 32,
    width: int = 1,
    *,
    input_shape: Sequence[int | None] = (32, 32, 3),
    mean: Sequence[float] | None = None,
    variance: Sequence[float] | None = None,
    l2: float = 0.0,
    batch_normalization: type[keras.layers.Layer] = FusedBatchNormalization,
    name: str | None = None,
) -> keras.Model:
    """The CIFAR ResNet of He et al. (CVPR 2016, section 4.2), without head.

    A 3x3 convolution, three stages of (depth - 2) / 6 basic blocks with 16,
    32 and 64 times `width` channels, the shortcuts without parameters, and a
    global average. As in the published CIFAR-LT codes a convolution with
    stride 2 pads both sides, its shortcut takes every other pixel from 0, and
    weights start from N(0, 2 / fan_in).

    ResNet-32 has 464,154 trainable parameters with its 10-way linear
    classifier: 463,504 here (kernels, and scale and shift of every
    normalisation; not the 2,272 moving statistics) and 650 there.

    Args:
        depth: 20, 32, 44, 56, or any other 6n + 2.
        width: Multiplies the channels.
        input_shape: (H, W, C) of the images; H and W may be None.
        mean: Mean a channel of the training images, in their units.
        variance: Variance a channel. With neither, the images are mapped
            from 0..255 to -1..1.
        l2: Factor of the squared norm of every trainable weight in the loss.
            PyTorch's `weight_decay=2e-4` is `l2=1e-4`.
        batch_normalization: The layer class for batch normalisation.
        name: Name of the model.

    Returns:
        A `keras.Model` from images (B, H, W, C), uint8 or floating, to
        features (B, 64 * width).

    Raises:
        ValueError: If the depth is not 6n + 2, the width is not positive or
            only one of mean and variance is given.

    Example:
        >>> backbone = keras_lt.models.backbones.cifar_resnet(20)
        >>> backbone(np.zeros((2, 32, 32, 3), "uint8")).shape
        TensorShape([2, 64])
    """
    if depth < 8 or (depth - 2) % 6:
        raise ValueError(
            "Expected a depth of 6n + 2 (20, 32, 44, 56, ...). "
            f"Received: depth={depth}"
        )
    if width < 1:
        raise ValueError(f"Expected width >= 1. Received: width={width}")

    blocks = (depth - 2) // 6
    return _resnet(
        [(16 * width, blocks), (32 * width, blocks), (64 * width, blocks)],
        padded_shortcuts=True,
        input_shape=input_shape,
        mean=mean,
        variance=variance,
        l2=l2,
        batch_normalization=batch_normalization,
        name=name or f"cifar_resnet{depth}",
    )


def cifar_resnet18(
    *,
    input_shape: Sequence[int | None] = (32, 32, 3),
    mean: Sequence[float] | None = None,
    variance: Sequence[float] | None = None,
    l2: float = 0.0,
    batch_normalization: type[keras.layers.Layer] = FusedBatchNormalization,
    name: str = "cifar_resnet18",
) -> keras.Model:
    """ResNet-18 for small images, as contrastive learning uses it, no head.

    The ResNet-18 of ImageNet (He et al., CVPR 2016), but with a 3x3 convolution
    of stride 1 in front and no max-pooling (Chen et al., ICML 2020, B.9): four
    stages of two basic blocks with 64, 128, 256 and 512 channels, shortcuts by
    1x1 convolutions where the shape changes. It has 11,168,832 trainable
    parameters.

    Args:
        input_shape: (H, W, C) of the images; H and W may be None.
        mean: As in `cifar_resnet`.
        variance: As in `cifar_resnet`.
        l2: As in `cifar_resnet`.
        batch_normalization: The layer class for batch normalisation.
        name: Name of the model.

    Returns:
        A `keras.Model` from images (B, H, W, C), uint8 or floating, to
        features (B, 512).

    Raises:
        ValueError: If only one of mean and variance is given.

    Example:
        >>> backbone = keras_lt.models.backbones.cifar_resnet18()
    """
    return _resnet(
        [(64, 2), (128, 2), (256, 2), (512, 2)],
        padded_shortcuts=False,
        input_shape=input_shape,
        mean=mean,
        variance=variance,
        l2=l2,
        batch_normalization=batch_normalization,
        name=name,
    )


def _resnet(
    stages,
    *,
    padded_shortcuts,
    input_shape,
    mean,
    variance,
    l2,
    batch_normalization,
    name,
):
    """Basic blocks in stages of (filters, blocks) on a 3x3 convolution."""
    if (mean is None) != (variance is None):
        raise ValueError(
            "Expected both of mean and variance, or neither. "
            f"Received: mean={mean}, variance={variance}"
        )
    if mean is None:
        mean = [127.5] * input_shape[-1]
        variance = [127.5**2] * input_shape[-1]
    regularizer = keras.regularizers.L2(l2) if l2 else None

    def convolution(inputs, filters, strides, name, size=3):
        if size > 1 and strides > 1:
            inputs = keras.layers.ZeroPadding2D(1, name=f"{name}_pad")(inputs)
        return keras.layers.Conv2D(
            filters,
            size,
            strides,
            padding="valid" if strides > 1 else "same",
            use_bias=False,
            kernel_initializer=keras.initializers.VarianceScaling(
                2.0, "fan_in", "untruncated_normal"
            ),
            kernel_regularizer=regularizer,
            name=f"{name}_conv",
        )(inputs)

    def normalization(inputs, name):
        return batch_normalization(
            momentum=0.9,
            epsilon=1e-5,
            gamma_regularizer=regularizer,
            beta_regularizer=regularizer,
            name=f"{name}_bn",
        )(inputs)

    def relu(inputs, name):
        return keras.layers.ReLU(name=f"{name}_relu")(inputs)

    images = keras.Input(input_shape, dtype="uint8", name="images")
    x = ImageNormalization(mean, variance, name="image_normalization")(images)
    x = convolution(x, stages[0][0], 1, "stem")
    x = relu(normalization(x, "stem"), "stem")
    for stage, (filters, blocks) in enumerate(stages, 1):
        for block in range(1, blocks + 1):
            strides = 2 if stage > 1 and block == 1 else 1
            prefix = f"stage{stage}_block{block}"
            shortcut = x
            if x.shape[-1] != filters:
                shortcut_name = f"{prefix}_shortcut"
                if padded_shortcuts:
                    shortcut = PaddedShortcut(
                        filters, strides, name=shortcut_name
                    )(x)
                else:
                    shortcut = normalization(
                        convolution(x, filters, strides, shortcut_name, 1),
                        shortcut_name,
                    )
            x = convolution(x, filters, strides, f"{prefix}_1")
            x = relu(normalization(x, f"{prefix}_1"), f"{prefix}_1")
            x = convolution(x, filters, 1, f"{prefix}_2")
            x = normalization(x, f"{prefix}_2")
            x = keras.layers.Add(name=f"{prefix}_add")([x, shortcut])
            x = relu(x, prefix)
    features = keras.layers.GlobalAveragePooling2D(name="features")(x)
    return keras.Model(images, features, name=name)
