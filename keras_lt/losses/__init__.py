"""Losses, per example: of classes, of views, terms of a division."""

from keras_lt.losses.base import gather_over_replicas
from keras_lt.losses.classification import (
    LDAM,
    NORMALIZERS,
    BalancedSoftmax,
    ClassBalancedCrossentropy,
    ClassBalancedFocal,
    ClassBalancedSigmoid,
    ClassWeightedLoss,
    Focal,
    LabelAwareSmoothing,
    LogitAdjusted,
)
from keras_lt.losses.contrastive import (
    BalancedNegativeSampling,
    ContrastiveLoss,
    NTXent,
    SupervisedContrastive,
)
from keras_lt.losses.division import (
    cluster_balance,
    cluster_contrast,
    reversed_weights,
    running_posterior,
    weighted_likelihood,
)
from keras_lt.losses.registry import LOSSES, get

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
    "SupervisedContrastive",
    "cluster_balance",
    "cluster_contrast",
    "gather_over_replicas",
    "get",
    "reversed_weights",
    "running_posterior",
    "weighted_likelihood",
]
