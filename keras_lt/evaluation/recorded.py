"""What a record keeps of the answers of a model, and what it gives back."""

import base64
import binascii
from collections.abc import Mapping, Sequence

import numpy as np

from keras_lt.counts import Classes
from keras_lt.evaluation.intervals import DRAWS, LEVEL, all_intervals, resample
from keras_lt.evaluation.predictions import Predictions
from keras_lt.evaluation.shifts import shifts
from keras_lt.metrics import SCORES, evaluate

# Scores that are functions of the recalls alone.
OF_RECALLS = (
    "top1",
    "balanced",
    "geometric_mean",
    "harmonic_mean",
    "lowest_recall",
    "lowest_5_recall",
    "many",
    "medium",
    "few",
    "unseen",
)


def recorded(
    predictions: Predictions, source: Sequence[float] | None = None
) -> dict:
    """All that a record keeps of one scoring, ready for JSON.

    Args:
        predictions: The answers to score.
        source: As in `adjustment`; None is the training images per class.

    Returns:
        What `keras_lt.metrics.evaluate` gives, and beside it all scores of
        `keras_lt.metrics.SCORES`, None where they are not known; `intervals`,
        what `bootstrap` gives (95 %); `shifted`, what `shifts` gives;
        `images_by_class`, test images by label id; and `right`, whether each
        image was answered rightly, in the order of the label ids and within a
        class in that of the images: bits in base64 (`answers_of` reads them).

    Example:
        >>> predictions = keras_lt.evaluation.Predictions(
        ...     np.array([0, 0, 1, 0]), [0, 0, 1, 1], classes=[500, 5]
        ... )
        >>> kept = keras_lt.evaluation.recorded(predictions)
        >>> kept["lowest_recall"], kept["images_by_class"], kept["right"]
        (0.5, [2, 2], '4A==')
    """
    outputs = predictions.logits
    if outputs is None:
        outputs = predictions.predicted
    estimates, drawn = resample(predictions, DRAWS, seed=0)
    order = np.argsort(predictions.labels, kind="stable")
    right = (predictions.predicted == predictions.labels)[order]
    return {
        **dict.fromkeys(SCORES),
        **estimates,
        **evaluate(outputs, predictions.labels, predictions.classes),
        "intervals": all_intervals(predictions, estimates, drawn, LEVEL),
        "shifted": shifts(predictions, source=source),
        "images_by_class": predictions.totals.tolist(),
        "right": base64.b64encode(np.packbits(right).tobytes()).decode(),
    }


def answers_of(result: Mapping, classes: Classes) -> Predictions | None:
    """Answers that a record has kept: right ones, and others as refused.

    Scores of recalls, `OF_RECALLS`, are those of the model; others are not.

    Args:
        result: What `recorded` gave.
        classes: The classes of the training images.

    Returns:
        Images in the order of their label ids; None where nothing was kept.

    Raises:
        ValueError: If what was kept is damaged.

    Example:
        >>> classes = keras_lt.counts.Classes([500, 5])
        >>> kept = {"images_by_class": [2, 2], "right": "4A=="}
        >>> answers = keras_lt.evaluation.answers_of(kept, classes)
        >>> answers.labels, answers.predicted
        (array([0, 0, 1, 1]), array([ 0,  0,  1, -1]))
    """
    if result.get("right") is None:
        return None
    totals = result["images_by_class"]
    try:
        packed = base64.b64decode(result["right"], validate=True)
    except (binascii.Error, ValueError):
        packed = b""
    bits = np.unpackbits(np.frombuffer(packed, np.uint8))
    size = sum(totals)
    if len(totals) != len(classes) or len(packed) != -(-size // 8):
        raise ValueError(
            f"Expected right answers of {size:,} test images, in base64. "
            f"Received: right of {len(packed):,} bytes"
        )
    labels = np.repeat(np.arange(len(totals)), totals)
    right = bits[:size].astype(bool)
    return Predictions(np.where(right, labels, -1), labels, classes)
