"""Long-tail metrics as `keras.metrics.Metric`, and `evaluate` of a test set.

Metrics take labels in every form that `keras_lt.labels` describes, so that one
metric serves training on mixed labels and validation on label ids. They know
their direction: `EarlyStopping(monitor="val_balanced_accuracy")` needs no
`mode`. `SCORES` is the one table of what is computed, stored and shown.
"""

from keras_lt.metrics.balanced_accuracy import BalancedAccuracy
from keras_lt.metrics.checks import check_scored
from keras_lt.metrics.confusion_matrix import ConfusionMatrix
from keras_lt.metrics.expected_calibration_error import (
    ExpectedCalibrationError,
)
from keras_lt.metrics.per_class_accuracy import PerClassAccuracy
from keras_lt.metrics.prediction import predict, prediction_step
from keras_lt.metrics.probabilities import true_class_probabilities
from keras_lt.metrics.scores import (
    GROUPS,
    SCORES,
    Score,
    Tally,
    headline_scores,
    known_scores,
    summary,
)
from keras_lt.metrics.scoring import evaluate, tally_of
from keras_lt.metrics.shot_accuracy import ShotAccuracy
from keras_lt.metrics.top1_accuracy import Top1Accuracy

__all__ = [
    "GROUPS",
    "SCORES",
    "BalancedAccuracy",
    "ConfusionMatrix",
    "ExpectedCalibrationError",
    "PerClassAccuracy",
    "Score",
    "ShotAccuracy",
    "Tally",
    "Top1Accuracy",
    "check_scored",
    "evaluate",
    "headline_scores",
    "known_scores",
    "predict",
    "prediction_step",
    "summary",
    "tally_of",
    "true_class_probabilities",
]
