"""Losses, per example: of classes from logits, of views from embeddings."""

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

__all__ = [
    "LDAM",
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
    "gather_over_replicas",
]
