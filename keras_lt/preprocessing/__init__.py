"""Augmentation of whole batches, pure in per-example seeds.

A transform is a callable `(images, labels, indices, seeds)` on a batch, which
a stream applies inside tf.data: images (B, H, W, C) uint8 or float32, labels
int64 (B,), indices int64 (B,) into the data set, seeds uint64 (B,). Whatever
it returns is the batch. `seeding.uniform(seeds, lanes)` turns seeds into
random numbers; for `tf.random.stateless_*`, `tf.bitcast(seeds, tf.int32)`
gives the seeds (B, 2). `rotate_90` and `simclr` are for the train step.

A mix is a callable `(images, labels, other_images, other_labels, seeds)` that a
stream applies after the transform to each example and a partner, drawn as the
example was. It returns images and soft labels float32 (B, C), and says by an
attribute `num_classes` how large C is, if it can. Losses and metrics of
keras_lt take soft labels and ids alike. Keras' `metrics=["accuracy"]` does not:
trained on soft labels it scores the ids of validation data 0, where
`keras_lt.metrics.Top1Accuracy` is right.

An augmentation is added here alone, beside its module and its test: import it,
give it a name in `AUGMENTATIONS` or `MIXES`, and list it in `__all__`.
"""

from collections.abc import Callable
from typing import Any

from keras_lt.preprocessing.mixing import cutmix, mixup, remix
from keras_lt.preprocessing.policies import (
    auto_augment,
    rand_augment,
    simclr,
    two_views,
)
from keras_lt.preprocessing.transforms import (
    chain,
    cutout,
    pad_crop_flip,
    resize_and_crop,
    rotate_90,
)
from keras_lt.specs import Registry, parse_chain

__all__ = [
    "AUGMENTATIONS",
    "MIXES",
    "auto_augment",
    "chain",
    "cutmix",
    "cutout",
    "get",
    "get_mix",
    "mixup",
    "pad_crop_flip",
    "rand_augment",
    "remix",
    "resize_and_crop",
    "rotate_90",
    "simclr",
    "two_views",
]

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
        A transform, as described above.

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
        A mix, as described above.

    Raises:
        TypeError: If an argument, or what is made, is of another type.
        ValueError: If there is no such mix or argument, or one is missing.

    Example:
        >>> mix = keras_lt.preprocessing.get_mix("mixup(0.4)", num_classes=10)
        >>> mix.num_classes
        10
    """
    return None if identifier is None else MIXES.get(identifier, **context)
