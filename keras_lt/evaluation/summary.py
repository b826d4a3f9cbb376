"""All scores of a model from its logits and labels, ready for JSON."""

from collections.abc import Sequence

import numpy as np

from keras_lt.evaluation.calibration import (
    TEMPERATURES,
    Scaling,
    fit_temperature,
    fit_vector_scaling,
    image_scores,
    kind_of_holdout,
    mean_errors,
    reliability,
)
from keras_lt.evaluation.conformal import (
    METHODS,
    few_images,
    many_thresholds,
    of_sets,
)
from keras_lt.evaluation.intervals import (
    DRAWS,
    LEVEL,
    all_intervals,
    check_level,
    few_right,
    per_class,
    resample,
)
from keras_lt.evaluation.predictions import Predictions, over_chunks
from keras_lt.evaluation.shifts import shifts
from keras_lt.messages import brief

CALIBRATION = ("ece", "ece_equal_mass", "classwise_ece", "brier", "nll")
# Logits of a hold-out on which vector scaling takes seconds.
_VECTOR_LOGITS = 20_000_000
# Logits of a test set that are counted for a reliability diagram.
_RELIABILITY_LOGITS = 100_000_000
# Logits of one image that differ by more are no logits of a network, or are
# too large to be scored.
_WIDEST, _WIDEST_SCORED = 1e4, 1e100


def evaluate(
    test: Predictions,
    holdout: Predictions | None = None,
    *,
    given: Sequence[float] | None = None,
    source: Sequence[float] | None = None,
    coverage: float = 0.9,
    draws: int = DRAWS,
    level: float = LEVEL,
    seed: int = 0,
) -> dict:
    """All scores of a model, with intervals, under shifts, calibrated.

    Args:
        test: Answers for the test images.
        holdout: Answers for other images that it was not trained on; None
            leaves out everything that is fitted on them.
        given: As in `shifts`.
        source: As in `shifts`.
        coverage: As in `conformal_thresholds`.
        draws: As in `bootstrap`.
        level: As in `bootstrap`.
        seed: As in `bootstrap` and `shifts`.

    Returns:
        What `scores` and `calibration` give; `intervals`, what `bootstrap`
        gives, of `level`; `per_class`, what `per_class` gives, with the
        `class_counts`; `shifted`, what `shifts` gives. Of the hold-out:
        `holdout`, its number of `images` and its `kind` (`kind_of_holdout`);
        `temperature`, and `ece_calibrated` and `nll_calibrated` of the test
        set with it; `vector_scaling`, `ece` and `nll` of the test set with
        that; `sets`, what `score_sets` gives for each method, at this
        temperature. `reliability`, what `reliability` gives of up to a hundred
        million logits. What can't be computed is None, and `notes` has
        sentences about what should be known.

    Raises:
        ValueError: If the hold-out has other classes or no logits, logits of
            an image differ by more than 1e100, or an argument is out of its
            range.

    Example:
        >>> predictions = keras_lt.evaluation.Predictions(
        ...     [[2.0, 0.0], [2.0, 0.0]], [0, 1], classes=[500, 5]
        ... )
        >>> found = keras_lt.evaluation.evaluate(predictions)
        >>> found["top1"], found["harmonic_mean"], found["temperature"]
        (0.5, 0.0, None)
    """
    check_level(level)
    check_level(coverage, "coverage")
    notes = _notes(test)
    estimates, drawn = resample(test, draws, seed)
    found = {
        "images": len(test),
        "classes": test.num_classes,
        **dict.fromkeys(CALIBRATION),
        **estimates,
        "temperature": None,
        "ece_calibrated": None,
        "nll_calibrated": None,
        "vector_scaling": None,
        "holdout": None,
        "sets": None,
        "reliability": None,
    }
    if test.logits is not None and test.logits.size <= _RELIABILITY_LOGITS:
        found["reliability"] = reliability(test)
    if source is None and test.logits is not None:
        notes.append(
            "Where logits are adjusted, they are taken to carry the class "
            "frequencies of the training images, as with cross-entropy; if a "
            "loss or a sampler balanced the classes, say so (source, "
            "--balanced_training)."
        )
    if holdout is not None and test.logits is not None:
        fitted, more = _fitted(test, holdout, coverage)
        found |= fitted
        notes += more
    elif holdout is not None:
        notes.append(
            "The hold-out is not used: there are predictions and no logits."
        )
    found["level"] = level
    found["intervals"] = all_intervals(test, estimates, drawn, level)
    found["shifted"] = shifts(test, given, source, seed=seed)
    found["per_class"] = {
        "class_counts": test.class_counts.tolist(),
        **per_class(test, level),
    }
    found["notes"] = notes
    return found


def _fitted(
    test: Predictions, holdout: Predictions, coverage: float
) -> tuple[dict, list[str]]:
    """Scores of the test set with what is fitted on a hold-out."""
    if holdout.num_classes != test.num_classes:
        raise ValueError(
            f"Expected a hold-out of {test.num_classes} classes. "
            f"Received: {holdout.num_classes}"
        )
    temperature = fit_temperature(holdout)
    scaled = Scaling(1 / temperature)
    choices = [(method, coverage) for method in METHODS]
    thresholds = many_thresholds(holdout, choices, scaled)
    images = image_scores(test, scaled, thresholds=thresholds)
    errors, sets = mean_errors(images), of_sets(test, images)
    kind = kind_of_holdout(holdout.totals)
    found = {
        "holdout": {"images": len(holdout), "kind": kind},
        "temperature": temperature,
        "ece_calibrated": errors["ece"],
        "nll_calibrated": errors["nll"],
        "sets": {**dict(zip(METHODS, sets, strict=True)), "asked": coverage},
    }
    notes = []
    if holdout.logits.size <= _VECTOR_LOGITS:
        vector = fit_vector_scaling(holdout)
        errors = mean_errors(image_scores(test, vector))
        found["vector_scaling"] = {
            name: errors[name] for name in ("ece", "nll")
        }
    else:
        notes.append(
            "Vector scaling is left out: the hold-out has more than "
            f"{_VECTOR_LOGITS:,} logits."
        )
    if temperature in TEMPERATURES:
        notes.append(
            f"The temperature {temperature:g} is the end of its range: the "
            "hold-out is too easy or too hard to say which is best."
        )
    few = np.flatnonzero(few_images(holdout.totals, coverage))
    if len(few):
        notes.append(
            f"The hold-out has too few images of {_named(test, few)}, for a "
            f"threshold at {100 * coverage:g} %: class-conditional sets always "
            "hold them, and sets with a pooled tail have one threshold for all "
            "of them."
        )
    lacking = np.flatnonzero(holdout.totals == 0)
    if len(lacking):
        notes.append(
            f"The hold-out has no image of {_named(test, lacking)}: sets of "
            "the class-conditional method always hold them, and vector scaling "
            "does nothing of their own for them."
        )
    return found, notes


def _notes(test: Predictions) -> list[str]:
    notes = []
    if test.logits is not None:
        notes += _about_logits(test.logits)
    empty = np.flatnonzero(test.totals == 0)
    if len(empty):
        notes.append(
            f"The test set has no image of {_named(test, empty)}: means over "
            "classes and shifted class frequencies leave them out."
        )
    single = np.flatnonzero(test.totals == 1)
    if len(single):
        notes.append(
            f"The test set has one image of {_named(test, single)}: their "
            "recalls are 0 or 1, and the intervals of scores do not show how "
            "these would vary. Those by class do."
        )
    few = np.flatnonzero(few_right(test))
    if len(few):
        notes.append(
            f"Fewer than 5 test images of {_named(test, few)} are answered "
            "rightly: intervals of the geometric and the harmonic mean are "
            "bounds, wider than those of other scores."
        )
    unseen = np.flatnonzero(test.class_counts == 0)
    if len(unseen):
        notes.append(
            f"The training set has no image of {_named(test, unseen)}: where "
            "logits are adjusted, their prior counts as 1e-6 images."
        )
    refused = int((test.predicted < 0).sum())
    if refused:
        notes.append(f"Refused images, which count as wrong: {refused:,}.")
    return notes


def _about_logits(logits: np.ndarray) -> list[str]:
    """Whether they look like something else."""

    def ends(logits):
        with np.errstate(over="ignore", invalid="ignore"):
            off = np.abs(logits.sum(1, dtype=np.float64) - 1).max()
        low, high = logits.min(1), logits.max(1)
        with np.errstate(over="ignore"):
            return off, low.min(), (high - low.astype(np.float64)).max()

    off, low, width = map(
        np.array, zip(*over_chunks(ends, logits), strict=True)
    )
    if off.max() < 1e-2 and low.min() >= 0 and logits.shape[1] > 1:
        return [
            "The logits are at least 0 and sum to 1, as probabilities do: of a "
            "softmax give the logits, or the logarithm of its probabilities."
        ]
    if width.max() > _WIDEST_SCORED:
        raise ValueError(
            f"Expected logits of an image that differ by {_WIDEST_SCORED:g} at "
            f"most. Received: a difference of {width.max():.3g}"
        )
    if width.max() > _WIDEST:
        return [
            f"Logits of an image differ by up to {width.max():.3g}: the "
            "softmax gives 1 to a class and 0 to the others, and negative "
            "log-likelihoods say little."
        ]
    return []


def _named(of: Predictions, labels: np.ndarray) -> str:
    many = "1 class" if len(labels) == 1 else f"{len(labels):,} classes"
    return f"{many}, {brief([of.classes.names[label] for label in labels])}"
