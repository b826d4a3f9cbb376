"""Evaluation from logits and labels: scores, intervals, shifts, sets."""

from keras_lt.evaluation.calibration import (
    Scaling,
    adjustment,
    calibration,
    fit_temperature,
    fit_vector_scaling,
    kind_of_holdout,
    reliability,
)
from keras_lt.evaluation.collecting import Gains, RecallCurve
from keras_lt.evaluation.comparison import compare, mcnemar
from keras_lt.evaluation.conformal import METHODS as SET_METHODS
from keras_lt.evaluation.conformal import (
    conformal_sets,
    conformal_thresholds,
    score_sets,
)
from keras_lt.evaluation.duplicates import (
    near_duplicates,
    thumbnail_distance,
)
from keras_lt.evaluation.files import Scored, read, write
from keras_lt.evaluation.fitted import CALIBRATIONS, Fitted, Sets, fit
from keras_lt.evaluation.intervals import bootstrap, per_class, wilson
from keras_lt.evaluation.label_errors import (
    LabelErrors,
    label_errors,
    out_of_fold_logits,
)
from keras_lt.evaluation.mistakes import (
    ConfusedPair,
    confidences,
    confident_errors,
    confused_pairs,
)
from keras_lt.evaluation.neighbors import Neighbors, nearest
from keras_lt.evaluation.predictions import Predictions
from keras_lt.evaluation.priors import (
    MovingPrior,
    Prior,
    estimate_prior_bbse,
    estimate_prior_em,
    likelihood_ratio_test,
    shift_test,
)
from keras_lt.evaluation.recorded import answers_of, recorded
from keras_lt.evaluation.refusal import (
    KNOWN_SCORES,
    Gaussians,
    Refusal,
    fit_gaussians,
    fit_refusal,
    kept_by_group,
    known_score,
    separation,
)
from keras_lt.evaluation.scores import scores
from keras_lt.evaluation.shifts import (
    shifted,
    shifts,
    tail_frequencies,
)
from keras_lt.evaluation.summary import evaluate

__all__ = [
    "CALIBRATIONS",
    "KNOWN_SCORES",
    "SET_METHODS",
    "ConfusedPair",
    "Fitted",
    "Gains",
    "Gaussians",
    "LabelErrors",
    "MovingPrior",
    "Neighbors",
    "Predictions",
    "Prior",
    "RecallCurve",
    "Refusal",
    "Scaling",
    "Scored",
    "Sets",
    "adjustment",
    "answers_of",
    "bootstrap",
    "calibration",
    "compare",
    "confidences",
    "confident_errors",
    "conformal_sets",
    "conformal_thresholds",
    "confused_pairs",
    "estimate_prior_bbse",
    "estimate_prior_em",
    "evaluate",
    "fit",
    "fit_gaussians",
    "fit_refusal",
    "fit_temperature",
    "fit_vector_scaling",
    "kept_by_group",
    "kind_of_holdout",
    "known_score",
    "label_errors",
    "likelihood_ratio_test",
    "mcnemar",
    "near_duplicates",
    "nearest",
    "out_of_fold_logits",
    "per_class",
    "read",
    "recorded",
    "reliability",
    "score_sets",
    "scores",
    "separation",
    "shift_test",
    "shifted",
    "shifts",
    "tail_frequencies",
    "thumbnail_distance",
    "wilson",
    "write",
]
