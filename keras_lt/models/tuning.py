"""What of a network is trained: tunings by name.

A tuning is a function of a built backbone that returns the one to go on with:
the same, with some layers frozen, or another one that shares its layers. A
tuning is added here alone, beside its module and its test: import it and give
it a name in `TUNINGS`.
"""

from collections.abc import Callable
from typing import Any

import keras

from keras_lt.arguments import integer
from keras_lt.models.adapters import adapters
from keras_lt.models.backbones import freeze
from keras_lt.models.lora import lora
from keras_lt.models.norm_and_bias import norm_and_bias
from keras_lt.specs import Registry

Tuning = Callable[[keras.Model], keras.Model]


def everything() -> Tuning:
    """Trains all of the network: spec "all".

    Example:
        >>> tune = keras_lt.models.tuning.everything()
        >>> tune(backbone) is backbone
        True
    """
    return lambda backbone: backbone


class Head:
    """Trains the classifier alone: spec "head".

    The backbone is frozen, batch statistics too, so that its features can be
    computed once (`keras_lt.features`).

    Args:
        views: How many augmented views of each image are there to train on;
            0 is the image as it is.

    Raises:
        ValueError: If views is negative.

    Example:
        >>> tune = keras_lt.models.tuning.Head(views=4)
        >>> tune(keras_lt.models.backbones.cifar_resnet(20)).trainable_weights
        []
    """

    def __init__(self, views: int = 0):
        self.views = integer("views", views, 0)

    def __call__(self, backbone: keras.Model) -> keras.Model:
        freeze(backbone)
        return backbone


class After:
    """Trains what comes after a stage: spec "after('stage2')".

    Args:
        last: Start of the names of the last layers that stay as they are, as
            `keras_lt.models.backbones.freeze` takes it.
        views: None runs the frozen layers at every step, on images that are
            augmented anew. A number computes what they give once, as
            `Head` does it: of so many augmented views of each image, or with 0
            of the image as it is.

    Raises:
        ValueError: If views is negative, or, when called, no layer has such a
            name.

    Example:
        >>> tune = keras_lt.models.tuning.After("stage2")
        >>> tuned = tune(keras_lt.models.backbones.cifar_resnet(20))
        >>> {w.path.split("_")[0] for w in tuned.trainable_variables}
        {'stage3'}
    """

    def __init__(self, last: str, views: int | None = None):
        self.last = last
        self.views = None if views is None else integer("views", views, 0)

    def __call__(self, backbone: keras.Model) -> keras.Model:
        freeze(backbone, self.last)
        return backbone


TUNINGS = Registry(
    "tuning",
    {
        "all": everything,
        "head": Head,
        "after": After,
        "norm_and_bias": norm_and_bias,
        "lora": lora,
        "adapters": adapters,
    },
)


def get(identifier: Any, **context: Any) -> Tuning:
    """Returns a tuning.

    Args:
        identifier: A spec (see `keras_lt.specs`): all, head(views),
            after('stage', views), norm_and_bias, lora(rank, layers),
            adapters(width), or one of yours ("package.module:name(alpha=2)");
            or a tuning.
        **context: Values to fill in, by the names of `keras_lt.specs.CONTEXT`.

    Raises:
        TypeError: If an argument, or what is made, is of another type.
        ValueError: If there is no such tuning or argument.

    Example:
        >>> tune = keras_lt.models.tuning.get("after('stage1')")
        >>> backbone = tune(keras_lt.models.backbones.cifar_resnet(20))
    """
    return TUNINGS.get(identifier, **context)
