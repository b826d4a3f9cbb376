"""Models that train, their backbones, heads and second stages."""

from keras_lt.model_files import load_model, load_weights
from keras_lt.models import (
    auxiliary,
    backbones,
    dlsa,
    heads,
    second_stages,
    tuning,
)
from keras_lt.models.auxiliary import (
    AuxiliaryTask,
    ClassifierTask,
    ContrastiveTask,
    RotationTask,
)
from keras_lt.models.averaged_views import AveragedViews
from keras_lt.models.classifier import classifier, head_for, linear_head
from keras_lt.models.contrastive import ContrastivePretrainer
from keras_lt.models.dlsa import (
    DLSA,
    FlowGaussianMixture,
    MaskedAutoregressiveFlow,
    stack,
)
from keras_lt.models.dual_branch import DualBranch
from keras_lt.models.two_stage import (
    TwoStage,
    nearest_class_mean,
    tau_normalize,
)
from keras_lt.structure import feature_model

__all__ = [
    "DLSA",
    "AuxiliaryTask",
    "AveragedViews",
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
    "dlsa",
    "feature_model",
    "head_for",
    "heads",
    "linear_head",
    "load_model",
    "load_weights",
    "nearest_class_mean",
    "second_stages",
    "stack",
    "tau_normalize",
    "tuning",
]
