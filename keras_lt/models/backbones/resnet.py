"""ResNets: one function, and a table of presets."""

from collections.abc import Sequence
from typing import Any

import keras

from keras_lt.arguments import integer, integers, real
from keras_lt.layers import FusedBatchNormalization
from keras_lt.models.backbones.blocks import Builder
from keras_lt.models.backbones.images import normalized_images

STEMS = ("small", "large")
# Statistics of ImageNet's training images per channel, as in torchvision.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_VARIANCE = (58.395**2, 57.12**2, 57.375**2)
_FOR_IMAGENET = {
    "stem": "large",
    "input_shape": (224, 224, 3),
    "mean": IMAGENET_MEAN,
    "variance": IMAGENET_VARIANCE,
}
# Arguments of `resnet`. A network is added here alone.
PRESETS: dict[str, dict[str, Any]] = {
    # ResNet-18 as contrastive learning on small images uses it, with a 3x3
    # convolution of stride 1 in front and no max-pooling (Chen et al., ICML
    # 2020, B.9): 11,168,832 trainable parameters.
    "cifar_resnet18": {"stages": ((64, 2), (128, 2), (256, 2), (512, 2))},
    # The small network of ImageNet-LT: ResNet-18 with one basic block per stage
    # in place of two (Liu et al., CVPR 2019; Kang et al., ICLR 2020):
    # 4,905,792 trainable parameters.
    "resnet10": {
        "stages": ((64, 1), (128, 1), (256, 1), (512, 1)),
        **_FOR_IMAGENET,
    },
    # ResNeXt-50 (32x4d), the usual network of ImageNet-LT (Xie et al., CVPR
    # 2017): 22,979,904 trainable parameters.
    "resnext50": {
        "stages": ((128, 3), (256, 4), (512, 6), (1024, 3)),
        "groups": 32,
        **_FOR_IMAGENET,
    },
}


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
    32 and 64 times `width` channels, shortcuts without parameters, and a global
    average. As in the published CIFAR-LT codes, a convolution with stride 2
    pads both sides, its shortcut takes every other pixel from 0, and weights
    start from N(0, 2 / fan_in).

    ResNet-32 has 464,154 trainable parameters with its 10-way linear
    classifier: 463,504 here (kernels, and scale and shift of every
    normalization; not the 2,272 moving statistics) and 650 there.

    Args:
        depth: 20, 32, 44, 56, or any other 6n + 2.
        width: Factor of the number of channels.
        input_shape: As in `resnet`.
        mean: As in `resnet`.
        variance: As in `resnet`.
        l2: As in `resnet`.
        batch_normalization: As in `resnet`.
        name: Name of the model.

    Returns:
        A `keras.Model` from images (B, H, W, C), uint8 or floating, to
        features (B, 64 * width).

    Raises:
        ValueError: If the depth is not 6n + 2 or the width is not positive, and
            as in `resnet`.

    Example:
        >>> backbone = keras_lt.models.backbones.cifar_resnet(20)
        >>> backbone(np.zeros((2, 32, 32, 3), "uint8")).shape
        TensorShape([2, 64])
    """
    depth, width = integer("depth", depth), integer("width", width)
    if depth < 8 or (depth - 2) % 6:
        raise ValueError(
            "Expected a depth of 6n + 2 (20, 32, 44, 56, ...). "
            f"Received: depth={depth}"
        )
    if width < 1:
        raise ValueError(f"Expected width >= 1. Received: width={width}")
    blocks = (depth - 2) // 6
    return resnet(
        [(16 * width, blocks), (32 * width, blocks), (64 * width, blocks)],
        padded_shortcuts=True,
        input_shape=input_shape,
        mean=mean,
        variance=variance,
        l2=l2,
        batch_normalization=batch_normalization,
        name=name or f"cifar_resnet{depth}",
    )


def resnet(
    stages: Sequence[tuple[int, int]],
    *,
    stem: str = "small",
    groups: int | None = None,
    padded_shortcuts: bool = False,
    input_shape: Sequence[int | None] = (32, 32, 3),
    mean: Sequence[float] | None = None,
    variance: Sequence[float] | None = None,
    l2: float = 0.0,
    batch_normalization: type[keras.layers.Layer] = FusedBatchNormalization,
    name: str = "resnet",
) -> keras.Model:
    """A residual network (He et al., CVPR 2016), without head.

    A stem, stages of blocks of which all but the first halve height and width,
    and a global average. `PRESETS` holds the arguments of well-known ones, and
    `keras_lt.models.backbones.get` makes them by name.

    Args:
        stages: Pairs (filters, blocks), one per stage.
        stem: "small", a 3x3 convolution of stride 1 with the filters of the
            first stage; or "large", a 7x7 convolution with 64 filters and
            max-pooling, both of stride 2. Kernels start from N(0, 2 / fan_in)
            with the former and from N(0, 2 / fan_out) with the latter, as
            published for either.
        groups: None for basic blocks of two 3x3 convolutions. A number makes
            bottleneck blocks: 1x1, 3x3 and 1x1 convolutions, the second one in
            so many groups, the last one with twice the filters (Xie et al.,
            CVPR 2017).
        padded_shortcuts: Whether shortcuts between different shapes have no
            parameters (`keras_lt.layers.PaddedShortcut`); else they are 1x1
            convolutions.
        input_shape: (H, W, C) of the images; H and W may be None.
        mean: Mean of each channel of the training images, in their units.
        variance: Variance of each channel. With neither, images are mapped
            from 0..255 to -1..1.
        l2: Factor of the squared norm of every trainable weight in the loss.
            PyTorch's `weight_decay=2e-4` is `l2=1e-4`.
        batch_normalization: Class of the batch normalization layers.
        name: Name of the model.

    Returns:
        A `keras.Model` from images (B, H, W, C), uint8 or floating, to
        features (B, D).

    Raises:
        TypeError: If stages are no pairs of integers.
        ValueError: If an argument is out of its range, or only one of mean and
            variance is given.

    Example:
        >>> backbone = keras_lt.models.backbones.resnet([(16, 1), (32, 2)])
        >>> backbone.output_shape
        (None, 32)
        >>> keras_lt.models.backbones.get("resnext50").output_shape
        (None, 2048)
    """
    if stem not in STEMS:
        raise ValueError(
            f"Expected stem to be one of {STEMS}. Received: stem={stem!r}"
        )
    if isinstance(stages, str) or not isinstance(stages, Sequence):
        raise TypeError(
            "Expected stages to be a list of pairs (filters, blocks). "
            f"Received: stages={stages!r}"
        )
    stages = [integers("stages", stage, 1, count=2) for stage in stages]
    if not stages:
        raise ValueError("Expected a stage or more. Received: stages=[]")
    images, x = normalized_images(input_shape, mean, variance)
    build = Builder(
        real("l2", l2),
        "fan_out" if stem == "large" else "fan_in",
        batch_normalization,
        groups,
        padded_shortcuts,
    )
    x = build.stem(x, stem, stages[0][0])
    for stage, (filters, blocks) in enumerate(stages, 1):
        for block in range(1, blocks + 1):
            strides = 2 if stage > 1 and block == 1 else 1
            x = build.block(x, filters, strides, f"stage{stage}_block{block}")
    features = keras.layers.GlobalAveragePooling2D(name="features")(x)
    return keras.Model(images, features, name=name)
