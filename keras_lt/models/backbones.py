"""Backbones: models from uint8 images to features."""

import functools
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from keras_lt.arguments import integer, real
from keras_lt.features import feature_model
from keras_lt.layers import FusedBatchNormalization, ImageNormalization
from keras_lt.specs import Registry

# Of ImageNet's training images, as torchvision has them.
IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_VARIANCE = (58.395**2, 57.12**2, 57.375**2)


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
        >>> shortcut = keras_lt.models.backbones.PaddedShortcut(32, 2)
        >>> shortcut(np.zeros((1, 8, 8, 16), "float32")).shape
        TensorShape([1, 4, 4, 32])
    """

    def __init__(self, filters: int, strides: int, **kwargs: Any):
        super().__init__(**kwargs)
        filters = integer("filters", filters)
        strides = integer("strides", strides)
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
    depth, width = integer("depth", depth), integer("width", width)
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
        >>> backbone.output_shape
        (None, 512)
    """
    return _resnet(
        [(64, 2), (128, 2), (256, 2), (512, 2)],
        input_shape=input_shape,
        mean=mean,
        variance=variance,
        l2=l2,
        batch_normalization=batch_normalization,
        name=name,
    )


def resnet10(
    *,
    input_shape: Sequence[int | None] = (224, 224, 3),
    mean: Sequence[float] = IMAGENET_MEAN,
    variance: Sequence[float] = IMAGENET_VARIANCE,
    l2: float = 0.0,
    batch_normalization: type[keras.layers.Layer] = FusedBatchNormalization,
    name: str = "resnet10",
) -> keras.Model:
    """ResNet-10 for large images, the small network of ImageNet-LT, no head.

    ResNet-18 (He et al., CVPR 2016) with one basic block a stage in place of
    two, as Liu et al. (CVPR 2019) and Kang et al. (ICLR 2020) use it: a 7x7
    convolution and max-pooling, both of stride 2, and stages with 64, 128, 256
    and 512 channels. Kernels start from N(0, 2 / fan_out). It has 4,905,792
    trainable parameters.

    Args:
        input_shape: (H, W, C) of the images; H and W may be None.
        mean: Mean a channel, in the units of the images.
        variance: Variance a channel.
        l2: As in `cifar_resnet`.
        batch_normalization: The layer class for batch normalisation.
        name: Name of the model.

    Returns:
        A `keras.Model` from images (B, H, W, C), uint8 or floating, to
        features (B, 512).

    Example:
        >>> backbone = keras_lt.models.backbones.resnet10()
        >>> backbone.output_shape
        (None, 512)
    """
    return _resnet(
        [(64, 1), (128, 1), (256, 1), (512, 1)],
        large=True,
        input_shape=input_shape,
        mean=mean,
        variance=variance,
        l2=l2,
        batch_normalization=batch_normalization,
        name=name,
    )


def resnext50(
    *,
    input_shape: Sequence[int | None] = (224, 224, 3),
    mean: Sequence[float] = IMAGENET_MEAN,
    variance: Sequence[float] = IMAGENET_VARIANCE,
    l2: float = 0.0,
    batch_normalization: type[keras.layers.Layer] = FusedBatchNormalization,
    name: str = "resnext50",
) -> keras.Model:
    """ResNeXt-50 (32x4d), the usual network of ImageNet-LT, without head.

    Xie et al., CVPR 2017: stages of 3, 4, 6 and 3 bottleneck blocks, whose 3x3
    convolution has 32 groups of 4, 8, 16 and 32 channels; stem and start as in
    `resnet10`. It has 22,979,904 trainable parameters.

    Args:
        input_shape: As in `resnet10`.
        mean: As in `resnet10`.
        variance: As in `resnet10`.
        l2: As in `cifar_resnet`.
        batch_normalization: The layer class for batch normalisation.
        name: Name of the model.

    Returns:
        A `keras.Model` from images (B, H, W, C), uint8 or floating, to
        features (B, 2048).

    Example:
        >>> backbone = keras_lt.models.backbones.resnext50()
        >>> backbone.output_shape
        (None, 2048)
    """
    return _resnet(
        [(128, 3), (256, 4), (512, 6), (1024, 3)],
        large=True,
        groups=32,
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
    padded_shortcuts=False,
    large=False,
    groups=None,
    input_shape,
    mean,
    variance,
    l2,
    batch_normalization,
    name,
):
    """Blocks in stages of (filters, blocks) on a 3x3 convolution.

    `large` is the stem for large images, `groups` makes bottleneck blocks with
    grouped convolutions of so many filters between 1x1 convolutions, the
    second of twice as many.
    """
    input_shape = image_shape(input_shape)
    l2 = real("l2", l2)
    if (mean is None) != (variance is None):
        raise ValueError(
            "Expected both of mean and variance, or neither. "
            f"Received: mean={mean}, variance={variance}"
        )
    if mean is None:
        mean = [127.5] * input_shape[-1]
        variance = [127.5**2] * input_shape[-1]
    regularizer = keras.regularizers.L2(l2) if l2 else None

    def convolution(inputs, filters, strides, name, size=3, groups=1):
        if size > 1 and strides > 1:
            padding = keras.layers.ZeroPadding2D(size // 2, name=f"{name}_pad")
            inputs = padding(inputs)
        return keras.layers.Conv2D(
            filters,
            size,
            strides,
            padding="valid" if strides > 1 else "same",
            groups=groups,
            use_bias=False,
            kernel_initializer=keras.initializers.VarianceScaling(
                2.0, "fan_out" if large else "fan_in", "untruncated_normal"
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

    def unit(inputs, filters, strides, name, **arguments):
        x = convolution(inputs, filters, strides, name, **arguments)
        return relu(normalization(x, name), name)

    images = keras.Input(input_shape, dtype="uint8", name="images")
    x = ImageNormalization(mean, variance, name="image_normalization")(images)
    if large:
        x = unit(x, 64, 2, "stem", size=7)
        x = keras.layers.ZeroPadding2D(1, name="stem_pool_pad")(x)
        x = keras.layers.MaxPooling2D(3, 2, name="stem_pool")(x)
    else:
        x = unit(x, stages[0][0], 1, "stem")
    for stage, (filters, blocks) in enumerate(stages, 1):
        outputs = 2 * filters if groups else filters
        for block in range(1, blocks + 1):
            strides = 2 if stage > 1 and block == 1 else 1
            prefix = f"stage{stage}_block{block}"
            shortcut = x
            if x.shape[-1] != outputs:
                shortcut_name = f"{prefix}_shortcut"
                if padded_shortcuts:
                    shortcut = PaddedShortcut(
                        outputs, strides, name=shortcut_name
                    )(x)
                else:
                    shortcut = normalization(
                        convolution(x, outputs, strides, shortcut_name, 1),
                        shortcut_name,
                    )
            if groups:
                x = unit(x, filters, 1, f"{prefix}_1", size=1)
                x = unit(x, filters, strides, f"{prefix}_2", groups=groups)
                x = convolution(x, outputs, 1, f"{prefix}_3", 1)
                x = normalization(x, f"{prefix}_3")
            else:
                x = unit(x, filters, strides, f"{prefix}_1")
                x = convolution(x, filters, 1, f"{prefix}_2")
                x = normalization(x, f"{prefix}_2")
            x = keras.layers.Add(name=f"{prefix}_add")([x, shortcut])
            x = relu(x, prefix)
    features = keras.layers.GlobalAveragePooling2D(name="features")(x)
    return keras.Model(images, features, name=name)


def image_shape(shape: Sequence[int | None]) -> tuple[int | None, ...]:
    """The shape of an image as Python's numbers, H and W maybe None.

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
            "Expected an input_shape (H, W, C), H and W maybe None. "
            f"Received: input_shape={shape}"
        )
    return shape


def application(
    name: str,
    input_shape: Sequence[int | None] = (224, 224, 3),
    weights: str | os.PathLike | None = None,
    *,
    l2: float = 0.0,
) -> keras.Model:
    """A model of `keras.applications` that takes uint8 images, without head.

    The model's own `preprocess_input` is part of the graph, and its batch
    normalisations are fused ones. Grey images are repeated to three channels.

    Args:
        name: A function of `keras.applications`, such as "ResNet50",
            "MobileNetV3Small" or "ConvNeXtTiny".
        input_shape: (H, W, C) of the images, C 3 or 1; H and W may be None
            where the model's may. Each model has a smallest size.
        weights: "imagenet" (downloaded to `~/.keras/models` once), a path as
            `load_weights` takes it, where `.weights.h5` and `.h5` files are
            those of `keras.applications` with `include_top=False`, or None for
            a random start.
        l2: Factor of the squared norm in the loss, of every weight that can
            have a regularizer.

    Returns:
        A functional model from images (B, H, W, C), uint8 or floating in 0 to
        255, to maps (B, h, w, D). Its layers have the names they have there.

    Raises:
        ValueError: If there is no such model, or it can't have this input
            shape.
        OSError: If ImageNet's weights are not here and can't be downloaded.

    Example:
        >>> backbone = keras_lt.models.backbones.application(
        ...     "MobileNet", (96, 96, 3)
        ... )  # weights="imagenet" downloads trained ones
        >>> model = keras_lt.models.classifier(backbone, 10)
    """
    if name not in application_names():
        raise ValueError(
            "Expected the name of a model in keras.applications: "
            f"{', '.join(application_names())}. Received: name={name!r}"
        )
    l2 = real("l2", l2)
    make = getattr(keras.applications, name)
    _, x = _rgb_images(input_shape)
    # Operations outside of layers, and so float32 under any dtype policy.
    x = sys.modules[make.__module__].preprocess_input(x)
    try:
        model = make(
            include_top=False,
            weights="imagenet" if weights == "imagenet" else None,
            input_tensor=x,
            input_shape=tuple(x.shape[1:]),
        )
    except ValueError:
        raise
    except Exception as error:  # Keras raises no narrower one
        raise OSError(
            f"Expected ImageNet's weights of {name} from the network, or "
            f"downloaded before. Received: {error}"
        ) from error
    if weights is not None and weights != "imagenet":
        load_weights(model, weights)

    def clone(layer):
        config = layer.get_config()
        for key in config:
            if key.endswith("_regularizer") and key != "activity_regularizer":
                config[key] = keras.regularizers.L2(l2) if l2 else None
        fused = type(layer) is keras.layers.BatchNormalization
        made = FusedBatchNormalization if fused else type(layer)
        return made.from_config(config)

    cloned = keras.models.clone_model(
        model, clone_function=clone, recursive=True
    )
    cloned.set_weights(model.get_weights())
    return keras.Model(cloned.inputs[0], cloned.outputs[0], name=name)


def _rgb_images(input_shape):
    """An input of uint8 images, and what it is as RGB float32."""
    input_shape = image_shape(input_shape)
    images = keras.Input(input_shape, dtype="uint8", name="images")
    x = keras.ops.cast(images, "float32")
    if input_shape[-1] == 1:
        x = keras.ops.repeat(x, 3, axis=-1)
    return images, x


def application_names() -> list[str]:
    """Names of the models in `keras.applications`.

    Example:
        >>> "ResNet50" in keras_lt.models.backbones.application_names()
        True
    """
    return [
        name
        for name, value in vars(keras.applications).items()
        if name[0].isupper() and callable(value)
    ]


def kerashub(
    path: str | os.PathLike, input_shape: Sequence[int | None]
) -> keras.Model:
    """A KerasHub backbone from a local preset, which takes uint8 images.

    The preset is a folder that `save_to_preset` of a model for images wrote:
    its backbone, and the image converter that resizes and scales; nothing is
    downloaded. It needs `pip install .[kerashub]`.

    Args:
        path: The folder.
        input_shape: (H, W, C) of the images, C 3 or 1 (repeated to 3).

    Returns:
        A functional model from images (B, H, W, C), uint8 or floating in 0 to
        255, to maps (B, h, w, D) or, of a vision transformer, features (B, D):
        its class token, or the mean of the others where it has none.

    Raises:
        ImportError: If KerasHub is not installed.
        ValueError: If the folder holds no such preset.

    Example:
        >>> # It needs keras-hub, and downloads the weights once.
        >>> keras_hub.models.ImageClassifier.from_preset(
        ...     "vit_base_patch16_224_imagenet"
        ... ).save_to_preset("vit")  # doctest: +SKIP
        >>> backbone = keras_lt.models.backbones.kerashub(
        ...     "vit", (224, 224, 3)
        ... )  # doctest: +SKIP
    """
    import keras_hub

    path = Path(path)
    for name in ("config.json", "image_converter.json"):
        if not (path / name).exists():
            raise ValueError(
                "Expected the folder of a KerasHub preset for images. "
                f"Received: path={path}, without {name}"
            )
    backbone = keras_hub.models.Backbone.from_preset(
        str(path), dtype=keras.config.dtype_policy()
    )
    converter = keras_hub.layers.ImageConverter.from_preset(
        str(path), dtype="float32"
    )
    images, x = _rgb_images(input_shape)
    # Of uint8 images it would round what it resizes, but not in a tf.function.
    x = converter(x)
    # Some take their images by name.
    x = backbone(keras.tree.map_structure(lambda _: x, backbone.input))
    if len(x.shape) == 3:
        tokens = getattr(backbone, "use_class_token", True)
        x = x[:, 0] if tokens else keras.ops.mean(x, axis=1)
    return keras.Model(images, x, name="kerashub")


def load_weights(backbone: keras.Model, path: str | os.PathLike) -> None:
    """Gives a backbone the weights of a file, or those of a trained model.

    Args:
        backbone: A built backbone.
        path: A `.weights.h5` or `.h5` file of this backbone; or a model of
            ours with the same backbone, of any method and number of classes: a
            `.keras` file, or the workdir of a run, whose `model.keras` it is.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the weights are of another backbone.

    Example:
        >>> keras_lt.models.backbones.load_weights(backbone, "runs/simclr")
    """
    file = Path(path)
    if file.is_dir():
        file = file / "model.keras"
    if not file.is_file():
        raise FileNotFoundError(
            "Expected weights: a .weights.h5 or .keras file, or the workdir of "
            f"a finished run. Received: {file}, which does not exist"
        )
    if file.suffix == ".keras":
        try:
            model = keras.saving.load_model(file, compile=False)
        except MemoryError:
            raise
        except Exception as error:  # Keras, HDF5 and zip files raise all kinds
            raise ValueError(
                "Expected a .keras file with a model that Keras can load. "
                f"Received: {file} ({error})"
            ) from error
        found = feature_model(model).weights
        wanted, given = (
            [w.shape for w in each] for each in (backbone.weights, found)
        )
        if given != wanted:
            raise ValueError(
                f"Expected a model with the backbone {backbone.name}. "
                f"Received: {file}, whose backbone has other weights"
            )
        backbone.set_weights([keras.ops.convert_to_numpy(w) for w in found])
        return
    try:
        backbone.load_weights(file)
    except MemoryError:
        raise
    except Exception as error:  # HDF5 and Keras raise all kinds
        raise ValueError(
            f"Expected the weights of {backbone.name}. Received: {file}, "
            f"which can't be read as such: {error}"
        ) from error


def freeze(backbone: keras.Model, last: str | None = None) -> None:
    """Freezes a backbone, or its first layers, with their batch statistics.

    Args:
        backbone: A functional model. What it shares layers with is frozen too,
            but a model that was compiled before has to be compiled again.
        last: What the names of the last layers to freeze start with: "stage2"
            for the first two stages of our ResNets and what is in front of
            them, "conv3" for those of `keras.applications`. None is all.

    Raises:
        ValueError: If no layer has such a name.

    Example:
        >>> backbone = keras_lt.models.backbones.cifar_resnet(20)
        >>> keras_lt.models.backbones.freeze(backbone, "stage2")
        >>> {w.path.split("_")[0] for w in backbone.trainable_variables}
        {'stage3'}
    """
    layers = _leaves(backbone)
    end = len(layers)
    if last is not None:
        ends = [
            i
            for i, layer in enumerate(layers, 1)
            if layer.name.startswith(last)
        ]
        if not ends:
            starts = dict.fromkeys(layer.name.split("_")[0] for layer in layers)
            raise ValueError(
                "Expected the start of the name of a layer, of those that "
                f"start with {', '.join(starts)}. Received: last={last!r}"
            )
        end = ends[-1]
    for layer in layers[:end]:
        layer.trainable = False


def _leaves(model):
    """The layers of a model in the order of the data, those of parts too."""
    leaves = []
    for layer in model.layers:
        is_model = isinstance(layer, keras.Model)
        leaves += _leaves(layer) if is_model else [layer]
    return leaves


BACKBONES = Registry(
    "backbone",
    {
        "cifar_resnet": cifar_resnet,
        "cifar_resnet18": cifar_resnet18,
        "resnet10": resnet10,
        "resnext50": resnext50,
        "kerashub": kerashub,
        **{
            name: functools.partial(application, name)
            for name in application_names()
        },
    },
    makes=keras.Model,
)


def get(identifier: Any, **context: Any) -> keras.Model:
    """Returns a backbone.

    Args:
        identifier: A spec (see `keras_lt.specs`) of a function of this module,
            such as "cifar_resnet(32)" or "kerashub('FOLDER')", of a model in
            `keras.applications` ("ResNet50(weights='imagenet')"), or of yours
            ("package.module:Name(alpha=2)"); or a model, which is returned.
        **context: What it needs to know, by the names of
            `keras_lt.specs.CONTEXT`: `input_shape`, and if wanted `l2`, `mean`
            and `variance`.

    Raises:
        TypeError: If an argument, or what is made, is of another type.
        ValueError: If there is no such backbone or argument, or one is missing.

    Example:
        >>> backbone = keras_lt.models.backbones.get(
        ...     "cifar_resnet(20, width=2)", input_shape=train.image_shape
        ... )
        >>> backbone.output_shape
        (None, 128)
    """
    return BACKBONES.get(identifier, **context)
