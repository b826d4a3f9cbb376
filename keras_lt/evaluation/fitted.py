"""What a served model decides by: all that is fitted on a hold-out."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_lt.evaluation.calibration import (
    Scaling,
    fit_temperature,
    fit_vector_scaling,
    kind_of_holdout,
)
from keras_lt.evaluation.conformal import few_images, many_thresholds
from keras_lt.evaluation.predictions import Predictions
from keras_lt.evaluation.refusal import Refusal

CALIBRATIONS = ("temperature", "vector", "none")
COVERAGES = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99)


class Sets(NamedTuple):
    """Thresholds of sets of classes, for several coverages.

    Args:
        method: As `conformal_thresholds` takes it.
        coverages: Shares of the sets that hold the true class, increasing (K,).
        thresholds: For each of them, (K, C).

    Example:
        >>> sets = keras_lt.evaluation.Sets(
        ...     "marginal", (0.8, 0.9), np.array([[0.4, 0.4], [0.2, 0.2]])
        ... )
        >>> sets.thresholds.shape
        (2, 2)
    """

    method: str
    coverages: Sequence[float]
    thresholds: np.ndarray


class Fitted(NamedTuple):
    """What a served model decides by, for `keras_lt.export.save`.

    Args:
        scaling: Makes its probabilities calibrated.
        sets: Thresholds of sets of classes, of scaled logits; None for none.
        refusal: When it answers "none of these", by the logits as the model
            gives them or by features; None for never.
        about: What to tell of these, ready for JSON.

    Example:
        >>> scaling = keras_lt.evaluation.Scaling(1 / 1.8)
        >>> keras_lt.evaluation.Fitted(scaling).sets is None
        True
    """

    scaling: Scaling = Scaling()
    sets: Sets | None = None
    refusal: Refusal | None = None
    about: dict[str, Any] = {}  # noqa: RUF012  (nobody writes into it)


def fit(
    holdout: Predictions,
    source: Sequence[float] | None = None,
    *,
    calibration: str = "temperature",
    method: str = "pooled_tail",
    coverages: Sequence[float] = COVERAGES,
    refusal: Refusal | None = None,
) -> Fitted:
    """Fits calibration and sets on a hold-out.

    Args:
        holdout: Logits of images that the model was not trained on.
        source: As in `fit_temperature`. With it, hold-outs of any class
            frequencies serve.
        calibration: `"temperature"`, `"vector"` or `"none"`.
        method: Of the sets, as `conformal_thresholds` takes it.
        coverages: Of the sets, increasing.
        refusal: What `fit_refusal` gives, or None.

    Returns:
        All of it, with a text about it.

    Raises:
        ValueError: If the hold-out has no logits, or an argument is none of
            these.

    Example:
        >>> held_out = keras_lt.evaluation.Predictions(
        ...     [[2.0, 0.0]] * 4, [0, 0, 0, 1], [500, 5]
        ... )
        >>> fitted = keras_lt.evaluation.fit(held_out)
        >>> round(fitted.about["temperature"], 3), fitted.about["holdout"]
        (1.82, {'images': 4, 'kind': 'long-tailed'})
    """
    if calibration not in CALIBRATIONS:
        raise ValueError(
            f"Expected calibration to be one of {CALIBRATIONS}. "
            f"Received: calibration={calibration!r}"
        )
    coverages = [*coverages]
    if not coverages or sorted({*coverages}) != coverages:
        raise ValueError(
            "Expected coverages in increasing order, one at least. "
            f"Received: coverages={coverages}"
        )
    scaling, temperature = Scaling(), None
    if calibration == "temperature":
        temperature = fit_temperature(holdout, source)
        scaling = Scaling(1 / temperature)
    elif calibration == "vector":
        scaling = fit_vector_scaling(holdout, source=source)
    thresholds = np.stack(
        many_thresholds(
            holdout, [(method, each) for each in coverages], scaling
        )
    )
    about = {
        "holdout": {
            "images": len(holdout),
            "kind": kind_of_holdout(holdout.totals),
        },
        "calibration": calibration,
        "temperature": temperature,
        "sets": {
            "method": method,
            "coverages": coverages,
            "classes_with_few_images": [
                int(few_images(holdout.totals, coverage).sum())
                for coverage in coverages
            ],
        },
        "known": None,
    }
    if refusal is not None:
        about["known"] = {"score": refusal.score, "share": refusal.share}
    return Fitted(scaling, Sets(method, coverages, thresholds), refusal, about)
