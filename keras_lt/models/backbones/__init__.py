"""Backbones: models from uint8 images to features.

A ResNet is added to `PRESETS`, in `resnet`. Another backbone is added here
alone, beside its module and its test: import it, give it a name in `BACKBONES`,
and list it in `__all__`.
"""

import functools
from typing import Any

import keras

from keras_lt.models.backbones.applications import (
    application,
    application_names,
)
from keras_lt.models.backbones.cnn import cifar_cnn
from keras_lt.models.backbones.hub import kerashub, text_features
from keras_lt.models.backbones.images import image_shape
from keras_lt.models.backbones.resnet import PRESETS, cifar_resnet, resnet
from keras_lt.models.backbones.weights import (
    freeze,
    is_trained,
    load_weights,
    split_frozen,
)
from keras_lt.specs import Registry

__all__ = [
    "BACKBONES",
    "PRESETS",
    "application",
    "application_names",
    "cifar_cnn",
    "cifar_resnet",
    "freeze",
    "get",
    "image_shape",
    "is_trained",
    "kerashub",
    "load_weights",
    "resnet",
    "split_frozen",
    "text_features",
]

BACKBONES = Registry(
    "backbone",
    {
        "cifar_cnn": cifar_cnn,
        "cifar_resnet": cifar_resnet,
        **{
            name: functools.partial(resnet, name=name, **preset)
            for name, preset in PRESETS.items()
        },
        "resnet": resnet,
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
        **context: Values to fill in, by the names of
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
