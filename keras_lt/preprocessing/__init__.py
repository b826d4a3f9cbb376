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
"""

from keras_lt.preprocessing.mixing import cutmix, mixup, remix
from keras_lt.preprocessing.policies import (
    auto_augment,
    rand_augment,
    simclr,
    two_views,
)
from keras_lt.preprocessing.registry import (
    AUGMENTATIONS,
    MIXES,
    get,
    get_mix,
)
from keras_lt.preprocessing.transforms import (
    chain,
    cutout,
    pad_crop_flip,
    resize_and_crop,
    rotate_90,
)

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
