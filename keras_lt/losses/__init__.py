"""Losses, per example: of classes, of views, terms of a division."""

from keras_lt.losses.base import gather_over_replicas
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
from keras_lt.losses.division import (
    cluster_balance,
    cluster_contrast,
    reversed_weights,
    running_posterior,
    weighted_likelihood,
)
from keras_lt.losses.focal import Focal
from keras_lt.losses.label_aware_smoothing import LabelAwareSmoothing
from keras_lt.losses.ldam import LDAM
from keras_lt.losses.logit_adjusted import BalancedSoftmax, LogitAdjusted
from keras_lt.losses.prior import logit_prior
from keras_lt.losses.registry import LOSSES, get
from keras_lt.losses.reweighted import Reweighted

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
    "cluster_balance",
    "cluster_contrast",
    "gather_over_replicas",
    "get",
    "logit_prior",
    "reversed_weights",
    "running_posterior",
    "weighted_likelihood",
]
