"""Backbones of `keras.applications`."""

import os
import sys
from collections.abc import Sequence

import keras

from keras_lt.arguments import real
from keras_lt.layers import FusedBatchNormalization
from keras_lt.models.backbones.images import rgb_images
from keras_lt.models.backbones.weights import load_weights


def application(
    name: str,
    input_shape: Sequence[int | None] = (224, 224, 3),
    weights: str | os.PathLike | None = None,
    *,
    l2: float = 0.0,
) -> keras.Model:
    """A model of `keras.applications` that takes uint8 images, without head.

    The model's own `preprocess_input` is part of the graph, and its batch
    normalizations are fused ones. Gray images are repeated to three channels.

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
    _, x = rgb_images(input_shape)
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
