"""A plain network of few, wide layers."""

from collections.abc import Sequence

import keras

from keras_lt.arguments import integers, real
from keras_lt.layers import FusedBatchNormalization, PatchWhitening
from keras_lt.models.backbones.blocks import Builder
from keras_lt.models.backbones.images import normalized_images


def cifar_cnn(
    widths: Sequence[int] = (32, 128, 256),
    *,
    input_shape: Sequence[int | None] = (32, 32, 3),
    mean: Sequence[float] | None = None,
    variance: Sequence[float] | None = None,
    l2: float = 0.0,
    batch_normalization: type[keras.layers.Layer] = FusedBatchNormalization,
    name: str = "cifar_cnn",
) -> keras.Model:
    """A small convolutional network that learns fast, without head.

    Whitened patches of 2x2 pixels, then stages of two 3x3 convolutions, each
    with batch normalization and a ReLU, and a 2x2 max-pooling after the first
    one; at last a global average. This is how the fastest known networks for
    CIFAR-10 are built (Jordan, "94% on CIFAR-10 in 3.29 seconds on a single
    GPU", 2024, https://arxiv.org/abs/2404.00498): a few wide layers keep a
    processor busier than many narrow ones, and whitening saves the epochs in
    which a first convolution is learned. Here it does not depend on the data
    (see `keras_lt.layers.PatchWhitening`), widths are those that two CPU cores
    do fast, and features are averaged.

    With the widths below it has 1,086,848 trainable parameters and takes 44
    million multiplications per image, where ResNet-32 has 463,504 and takes 69
    million.

    Args:
        widths: Filters of each stage.
        input_shape: (H, W, C) of the images; H and W may be None. Each stage
            halves them.
        mean: Mean of each channel of the training images, in their units.
        variance: Variance of each channel. With neither, images are mapped
            from 0..255 to -1..1.
        l2: Factor of the squared norm of every trainable weight in the loss.
        batch_normalization: Class of the batch normalization layers.
        name: Name of the model.

    Returns:
        A `keras.Model` from images (B, H, W, C), uint8 or floating, to
        features (B, widths[-1]).

    Raises:
        TypeError: If widths are no list of integers.
        ValueError: If there is no width or one is not positive, images are too
            small to be halved so often, or only one of mean and variance is
            given.

    Example:
        >>> backbone = keras_lt.models.backbones.cifar_cnn((16, 32))
        >>> backbone(np.zeros((2, 32, 32, 3), "uint8")).shape
        TensorShape([2, 32])
    """
    widths = integers("widths", widths, 1)
    # Whitening enlarges what rounding to 16 bits would leave.
    images, x = normalized_images(input_shape, mean, variance, "float32")
    smallest = min((n - 1 for n in x.shape[1:3] if n), default=None)
    if smallest is not None and not smallest >> len(widths):
        raise ValueError(
            "Expected images that are large enough to be halved once per "
            "width, after a row and a column are lost. Received: "
            f"widths={widths}, input_shape={images.shape[1:]}"
        )
    x = PatchWhitening(dtype="float32", name="stem_whitening")(x)
    build = Builder(real("l2", l2), "fan_in", batch_normalization)
    x = build.relu(x, "stem")
    for stage, filters in enumerate(widths, 1):
        x = build.convolution(x, filters, 1, f"stage{stage}_1")
        x = keras.layers.MaxPooling2D(2, name=f"stage{stage}_pool")(x)
        x = build.normalization(x, f"stage{stage}_1")
        x = build.relu(x, f"stage{stage}_1")
        x = build.unit(x, filters, 1, f"stage{stage}_2")
    features = keras.layers.GlobalAveragePooling2D(name="features")(x)
    return keras.Model(images, features, name=name)
