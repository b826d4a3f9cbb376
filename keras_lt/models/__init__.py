"""Models: what trains, and the backbones that it trains."""

from keras_lt.models import backbones
from keras_lt.models.auxiliary import (
    AuxiliaryTask,
    ClassifierTask,
    ContrastiveTask,
    RotationTask,
)
from keras_lt.models.classifier import classifier, linear_head
from keras_lt.models.dual_branch import DualBranch

__all__ = [
    "AuxiliaryTask",
    "ClassifierTask",
    "ContrastiveTask",
    "DualBranch",
    "RotationTask",
    "backbones",
    "classifier",
    "linear_head",
]
