"""Tuning of normalizations and biases alone."""

from collections.abc import Callable

import keras

from keras_lt import trainable

# What layers of Keras call the weights of normalizations, and biases.
_NAMES = ("gamma", "beta", "bias")


def norm_and_bias() -> Callable[[keras.Model], keras.Model]:
    """Trains normalizations and biases: spec "norm_and_bias".

    Scales and offsets of normalizations, and biases of all layers, are trained
    ("BitFit", Ben Zaken et al., ACL 2022; "Training BatchNorm and Only
    BatchNorm", Frankle et al., ICLR 2021); kernels are frozen. A batch
    normalization that is trained normalizes by its batches, and updates its
    statistics.

    Returns:
        A function that changes a built backbone and returns it. It raises
        ValueError if there is nothing of the kind.

    Example:
        >>> tune = keras_lt.models.tuning.norm_and_bias()
        >>> backbone = tune(keras_lt.models.backbones.cifar_resnet(8))
        >>> sorted({weight.name for weight in backbone.trainable_weights})
        ['beta', 'gamma']
    """

    def tune(backbone: keras.Model) -> keras.Model:
        kept = trainable.train_only(
            backbone, lambda _, weight: weight.name in _NAMES
        )
        if not kept:
            raise ValueError(
                "Expected a backbone with normalizations or biases. "
                f"Received: {backbone.name}, without"
            )
        return backbone

    return tune
