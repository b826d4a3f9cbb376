"""DLSA: flows divide features level by level, and each part has a classifier.

"Constructing Balance from Imbalance for Long-tailed Image Recognition" (Xu et
al., ECCV 2022, arXiv:2208.02567). `flows` and `mixture` are the density of
features, `terms` and `trainer` how it learns clusters of one class each,
`routing` which samples stay at a level, `model` and `stack` what comes of it.
"""

from keras_lt.models.dlsa.flows import MaskedAutoregressiveFlow
from keras_lt.models.dlsa.mixture import FlowGaussianMixture
from keras_lt.models.dlsa.model import DLSA
from keras_lt.models.dlsa.routing import (
    Level,
    class_frequencies,
    describe,
    pure_clusters,
    route,
    threshold,
)
from keras_lt.models.dlsa.settings import (
    ClassifierSettings,
    Contrast,
    FlowSettings,
)
from keras_lt.models.dlsa.stack import DividedModel, stack
from keras_lt.models.dlsa.terms import (
    cluster_balance,
    cluster_contrast,
    reversed_weights,
    running_posterior,
    weighted_likelihood,
)
from keras_lt.models.dlsa.trainer import FlowTrainer

__all__ = [
    "DLSA",
    "ClassifierSettings",
    "Contrast",
    "DividedModel",
    "FlowGaussianMixture",
    "FlowSettings",
    "FlowTrainer",
    "Level",
    "MaskedAutoregressiveFlow",
    "class_frequencies",
    "cluster_balance",
    "cluster_contrast",
    "describe",
    "pure_clusters",
    "reversed_weights",
    "route",
    "running_posterior",
    "stack",
    "threshold",
    "weighted_likelihood",
]
