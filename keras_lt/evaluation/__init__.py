"""Evaluation from logits and labels: scores, intervals, shifts, sets."""

from keras_lt.evaluation.calibration import (
    Scaling,
    calibration,
    fit_temperature,
    fit_vector_scaling,
    kind_of_holdout,
)
from keras_lt.evaluation.comparison import compare, mcnemar
from keras_lt.evaluation.conformal import (
    conformal_sets,
    conformal_thresholds,
    score_sets,
)
from keras_lt.evaluation.files import Scored, read, write
from keras_lt.evaluation.intervals import bootstrap, per_class, wilson
from keras_lt.evaluation.predictions import Predictions
from keras_lt.evaluation.priors import (
    Prior,
    estimate_prior_bbse,
    estimate_prior_em,
    shift_test,
)
from keras_lt.evaluation.scores import scores
from keras_lt.evaluation.shifts import (
    adjustment,
    shifted,
    shifts,
    tail_frequencies,
)
from keras_lt.evaluation.summary import evaluate

__all__ = [
    "Predictions",
    "Prior",
    "Scaling",
    "Scored",
    "adjustment",
    "bootstrap",
    "calibration",
    "compare",
    "conformal_sets",
    "conformal_thresholds",
    "estimate_prior_bbse",
    "estimate_prior_em",
    "evaluate",
    "fit_temperature",
    "fit_vector_scaling",
    "kind_of_holdout",
    "mcnemar",
    "per_class",
    "read",
    "score_sets",
    "scores",
    "shift_test",
    "shifted",
    "shifts",
    "tail_frequencies",
    "wilson",
    "write",
]
