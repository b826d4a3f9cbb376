"""Models: what trains, and the backbones that it trains."""

from keras_lt.models import auxiliary, backbones, second_stages
from keras_lt.models.auxiliary import (
    AuxiliaryTask,
    ClassifierTask,
    ContrastiveTask,
    RotationTask,
)
from keras_lt.models.classifier import classifier, linear_head
from keras_lt.models.contrastive import ContrastivePretrainer
from keras_lt.models.dlsa import DLSA, stack
from keras_lt.models.dual_branch import DualBranch
from keras_lt.models.flows import (
    FlowGaussianMixture,
    MaskedAutoregressiveFlow,
)
from keras_lt.models.two_stage import (
    TwoStage,
    nearest_class_mean,
    tau_normalize,
)

__all__ = [
    "DLSA",
    "AuxiliaryTask",
    "ClassifierTask",
    "ContrastivePretrainer",
    "ContrastiveTask",
    "DualBranch",
    "FlowGaussianMixture",
    "MaskedAutoregressiveFlow",
    "RotationTask",
    "TwoStage",
    "auxiliary",
    "backbones",
    "classifier",
    "linear_head",
    "nearest_class_mean",
    "second_stages",
    "stack",
    "tau_normalize",
]
