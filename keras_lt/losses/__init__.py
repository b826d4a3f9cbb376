"""Losses, one value per example: of class labels and of pairs of views.

A loss is added here alone, beside its module and its test: import it, give it a
name in `LOSSES`, and list it in `__all__`.
"""

import re
from typing import Any

import keras

from keras_lt.losses.class_balanced import (
    ClassBalancedCrossentropy,
    ClassBalancedFocal,
    ClassBalancedSigmoid,
)
from keras_lt.losses.class_weighted import NORMALIZERS, ClassWeightedLoss
from keras_lt.losses.contrastive import (
    BalancedNegativeSampling,
    ContrastiveLoss,
    NTXent,
    SupervisedContrastive,
)
from keras_lt.losses.focal import Focal
from keras_lt.losses.label_aware_smoothing import LabelAwareSmoothing
from keras_lt.losses.ldam import LDAM
from keras_lt.losses.logit_adjusted import BalancedSoftmax, LogitAdjusted
from keras_lt.losses.prior import logit_prior
from keras_lt.losses.reweighted import Reweighted
from keras_lt.specs import Registry, Spec

__all__ = [
    "LDAM",
    "LOSSES",
    "NORMALIZERS",
    "BalancedNegativeSampling",
    "BalancedSoftmax",
    "ClassBalancedCrossentropy",
    "ClassBalancedFocal",
    "ClassBalancedSigmoid",
    "ClassWeightedLoss",
    "ContrastiveLoss",
    "Focal",
    "LabelAwareSmoothing",
    "LogitAdjusted",
    "NTXent",
    "Reweighted",
    "SupervisedContrastive",
    "get",
    "logit_prior",
]


def crossentropy(soft_labels: bool = False) -> keras.losses.Loss:
    """Keras' softmax cross-entropy of logits, for labels of either form."""
    if soft_labels:
        return keras.losses.CategoricalCrossentropy(from_logits=True)
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def _keras_losses() -> dict[str, type[keras.losses.Loss]]:
    """Keras' own losses by their names in snake case."""
    found = {}
    for name, value in vars(keras.losses).items():
        if isinstance(value, type) and value is not keras.losses.Loss:
            words = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=L)(?=D)", "_", name)
            found[words.lower()] = value
    return found


LOSSES = Registry(
    "loss",
    {
        "crossentropy": crossentropy,
        "class_balanced": ClassBalancedCrossentropy,
        "class_balanced_sigmoid": ClassBalancedSigmoid,
        "class_balanced_focal": ClassBalancedFocal,
        "focal": Focal,
        "ldam": LDAM,
        "balanced_softmax": BalancedSoftmax,
        "logit_adjusted": LogitAdjusted,
        "label_aware_smoothing": LabelAwareSmoothing,
        "reweighted": Reweighted,
        "bns": BalancedNegativeSampling,
        "nt_xent": NTXent,
        "supcon": SupervisedContrastive,
        **_keras_losses(),
    },
    nested={"loss": lambda spec, **context: get(spec, **context)},
)


def get(identifier: Any, **context: Any) -> Any:
    """Returns a loss, as `keras.losses.get` does.

    Args:
        identifier: A spec (see `keras_lt.specs`) of a loss of keras_lt, such as
            "class_balanced_focal(beta=0.999, gamma=1)", of one of Keras by its
            name in snake case, or of yours ("package.module:Name(alpha=2)");
            else what `keras.losses.get` takes: a loss, a function of labels
            and predictions, a configuration, or None.
        **context: Values to fill in, by the names of
            `keras_lt.specs.CONTEXT`: `class_counts` as a rule.

    Returns:
        A `keras.losses.Loss`, a function, or None for None.

    Raises:
        TypeError: If an argument, or what is made, is of another type.
        ValueError: If there is no such loss or argument, or one is missing.

    Example:
        >>> loss = keras_lt.losses.get(
        ...     "logit_adjusted(tau=1.5)", class_counts=[100, 10]
        ... )
        >>> loss.tau
        1.5
        >>> keras_lt.losses.get("focal(gamma=2)").gamma
        2
    """
    if not isinstance(identifier, (str, Spec)):
        return keras.losses.get(identifier)
    return LOSSES.get(identifier, **context)
