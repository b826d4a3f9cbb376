"""Second stages by name: what to make of a trained model's classifier.

Decoupled training (Kang et al., ICLR 2020) learns features first and the
classifier on them afterwards. A second stage here is a function of

    model: a finished first stage,
    extract: a function that gives the features of the training images, which
        only those call that need them,
    num_classes: C,

that returns a model from images to logits. If that is a `TwoStage`, its `head`
is still to be trained on features, at `head_rates` times the learning rate
where it has them, one for each variable; other models are finished.
"""

import math
from collections.abc import Callable
from typing import Any

import keras

from keras_lt.arguments import real
from keras_lt.models.two_stage import (
    TwoStage,
    nearest_class_mean,
    tau_normalize,
)
from keras_lt.specs import Registry

SecondStage = Callable[[keras.Model, Callable[[], Any], int], keras.Model]


def crt(l2: float = 0.0) -> SecondStage:
    """Classifier re-training, and linear probes: a new linear classifier.

    Args:
        l2: Factor of the squared norm of its weights in the loss.

    Example:
        >>> stage = keras_lt.models.second_stages.crt()
        >>> second = stage(stage1, lambda: features, num_classes=10)
        >>> second.head.output_shape
        (None, 10)
    """
    l2 = real("l2", l2)

    def make(
        model: keras.Model, extract: Callable[[], Any], num_classes: int
    ) -> keras.Model:
        return TwoStage.crt(model, num_classes, l2=l2)

    return make


def lws() -> SecondStage:
    """Learnable weight scaling: one scale per class of the classifier.

    Example:
        >>> stage = keras_lt.models.second_stages.lws()
        >>> second = stage(stage1, lambda: features, num_classes=10)
        >>> [tuple(w.shape) for w in second.head.trainable_variables]
        [(10,)]
    """

    def make(
        model: keras.Model, extract: Callable[[], Any], num_classes: int
    ) -> keras.Model:
        return TwoStage.lws(model)

    return make


def mislas(classifier_rate: float = 0.5) -> SecondStage:
    """The second stage of MiSLAS: `keras_lt.models.TwoStage.mislas`.

    Args:
        classifier_rate: Learning rate of the classifier over that of the
            scales; the authors' code has 0.5 for CIFAR-10, 0.2 for CIFAR-100.

    Example:
        >>> stage = keras_lt.models.second_stages.mislas()
        >>> second = stage(stage1, lambda: features, num_classes=10)
        >>> second.head_rates
        (0.5, 0.5, 1.0)
    """
    classifier_rate = real("classifier_rate", classifier_rate)
    if not 0 <= classifier_rate < math.inf:
        raise ValueError(
            "Expected classifier_rate of at least 0. "
            f"Received: classifier_rate={classifier_rate}"
        )

    def make(
        model: keras.Model, extract: Callable[[], Any], num_classes: int
    ) -> keras.Model:
        second = TwoStage.mislas(model)
        *classifier, _ = second.head.trainable_variables
        second.head_rates = (*[classifier_rate] * len(classifier), 1.0)
        return second

    return make


def tau(tau: float = 1.0) -> SecondStage:
    """Tau-normalization: `keras_lt.models.tau_normalize`; nothing to train.

    Args:
        tau: Exponent, at least 0.

    Example:
        >>> stage = keras_lt.models.second_stages.tau(0.7)
        >>> stage(stage1, lambda: features, num_classes=10).name
        'tau_normalized'
    """
    tau = real("tau", tau)
    if tau < 0:
        raise ValueError(f"Expected tau >= 0. Received: tau={tau}")

    def make(
        model: keras.Model, extract: Callable[[], Any], num_classes: int
    ) -> keras.Model:
        return tau_normalize(model, tau)

    return make


def ncm(
    normalization: str = "l2", similarity: str = "euclidean"
) -> SecondStage:
    """Nearest class mean: `keras_lt.models.nearest_class_mean`.

    Args:
        normalization: "none", "l2" or "centered_l2".
        similarity: "euclidean" or "dot".

    Example:
        >>> stage = keras_lt.models.second_stages.ncm()
        >>> stage(stage1, lambda: features, num_classes=10).name
        'nearest_class_mean'
    """

    def make(
        model: keras.Model, extract: Callable[[], Any], num_classes: int
    ) -> keras.Model:
        return nearest_class_mean(
            model,
            extract(),
            num_classes,
            normalization=normalization,
            similarity=similarity,
        )

    return make


SECOND_STAGES = Registry(
    "second stage",
    {
        "crt": crt,
        "lws": lws,
        "mislas": mislas,
        "tau": tau,
        "ncm": ncm,
        "linear_probe": crt,
    },
)


def get(identifier: Any, **context: Any) -> SecondStage:
    """Returns a second stage.

    Args:
        identifier: A spec (see `keras_lt.specs`): crt(l2), lws,
            mislas(classifier_rate), tau(tau),
            ncm(normalization, similarity), linear_probe(l2), or one of yours
            ("package.module:name(alpha=2)"); or a second stage.
        **context: Values to fill in, by the names of
            `keras_lt.specs.CONTEXT`.

    Raises:
        TypeError: If an argument, or what is made, is of another type.
        ValueError: If there is no such second stage or argument.

    Example:
        >>> stage = keras_lt.models.second_stages.get("tau(0.7)")
        >>> model = stage(stage1, lambda: features, num_classes=10)
    """
    return SECOND_STAGES.get(identifier, **context)
