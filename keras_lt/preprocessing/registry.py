"""Augmentations and mixes by name."""

from collections.abc import Callable
from typing import Any

from keras_lt.preprocessing.mixing import cutmix, mixup, remix
from keras_lt.preprocessing.policies import (
    auto_augment,
    rand_augment,
    simclr,
    two_views,
)
from keras_lt.preprocessing.transforms import chain, cutout, pad_crop_flip
from keras_lt.specs import Registry, parse_chain

VIEWS = Registry("view", {"simclr": simclr})
AUGMENTATIONS = Registry(
    "augmentation",
    {
        "pad_crop_flip": pad_crop_flip,
        "rand_augment": rand_augment,
        "auto_augment": auto_augment,
        "cutout": cutout,
        "two_views": two_views,
    },
    nested={"augment": VIEWS.get},
)
MIXES = Registry("mix", {"mixup": mixup, "remix": remix, "cutmix": cutmix})


def get(identifier: Any, **context: Any) -> Callable | None:
    """Returns a transform of batches.

    Args:
        identifier: Specs (see `keras_lt.specs`) of augmentations, such as
            "pad_crop_flip(4)|rand_augment(2, 10)|cutout(16)", the first one
            applied first; or a transform, or None, which are returned.
        **context: What one needs to know, by the names of
            `keras_lt.specs.CONTEXT`.

    Returns:
        A transform (see the module).

    Raises:
        TypeError: If an argument, or what is made, is of another type.
        ValueError: If there is no such augmentation or argument, or one is
            missing.

    Example:
        >>> batches = keras_lt.streams.stream(
        ...     train,
        ...     sampling="random",
        ...     batch_size=32,
        ...     seed=0,
        ...     transform=keras_lt.preprocessing.get(
        ...         "pad_crop_flip(1)|cutout(4)"
        ...     ),
        ... )
        >>> views = keras_lt.preprocessing.get("two_views(simclr(0.2))")
    """
    if identifier is None:
        return None
    if not isinstance(identifier, str):
        return AUGMENTATIONS.get(identifier, **context)
    transforms = [
        AUGMENTATIONS.get(spec, **context) for spec in parse_chain(identifier)
    ]
    return transforms[0] if len(transforms) == 1 else chain(*transforms)


def get_mix(identifier: Any, **context: Any) -> Callable | None:
    """Returns a mix of batches.

    Args:
        identifier: A spec (see `keras_lt.specs`) of a mix, such as
            "mixup(0.4)"; or a mix, or None, which are returned.
        **context: What it needs to know, by the names of
            `keras_lt.specs.CONTEXT`: `num_classes` or `class_counts`.

    Returns:
        A mix (see the module).

    Raises:
        TypeError: If an argument, or what is made, is of another type.
        ValueError: If there is no such mix or argument, or one is missing.

    Example:
        >>> mix = keras_lt.preprocessing.get_mix("mixup(0.4)", num_classes=10)
        >>> mix.num_classes
        10
    """
    return None if identifier is None else MIXES.get(identifier, **context)
