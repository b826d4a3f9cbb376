"""Says in words when a training has learned nothing."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_IMAGES = 1_000  # training images of a sample, at most about so many
_CLASSES = 500  # classes of a sample
_FEW_STEPS = 300
_ERRORS = 2  # standard errors within which an accuracy is that of chance


def sample(labels: np.ndarray) -> np.ndarray:
    """Returns indices of images, about as many of each class, always the same.

    Args:
        labels: (N,), label ids.
    """
    generator = np.random.default_rng(0)
    present = generator.permutation(np.unique(labels))[:_CLASSES]
    each = max(_IMAGES // max(len(present), 1), 1)
    chosen = [
        generator.permutation(np.flatnonzero(labels == label))[:each]
        for label in present
    ]
    return np.sort(np.concatenate(chosen))


def at_chance(labels: np.ndarray, predicted: np.ndarray, classes: int) -> bool:
    """Says whether a balanced accuracy is one that guessing would give.

    Guesses are right in one of C cases. The mean over K classes of their
    accuracies on n_c images each then has the standard error
    sqrt(sum_c (1/C) (1 - 1/C) / n_c) / K; within two of them above 1/C, and
    less than a quarter of the way from there to 1, nothing was learned.

    Args:
        labels: (N,), label ids.
        predicted: (N,), label ids.
        classes: C.
    """
    present, counts = np.unique(labels, return_counts=True)
    if classes < 2 or len(present) < 2:
        return False  # one class alone can't be told from others
    chance = 1 / classes
    error = math.sqrt(np.sum(chance * (1 - chance) / counts)) / len(present)
    bound = chance + min(_ERRORS * error, (1 - chance) / 4)
    return balanced(labels, predicted) <= bound


def balanced(labels: np.ndarray, predicted: np.ndarray) -> float:
    """Returns the mean over classes of the share of right answers."""
    return float(
        np.mean(
            [
                (predicted[labels == label] == label).mean()
                for label in np.unique(labels)
            ]
        )
    )


def warning(
    labels: np.ndarray,
    predicted: np.ndarray,
    classes: int,
    *,
    steps: int,
    history: Mapping[str, Sequence[float]],
    flags: Mapping[str, Any],
) -> str | None:
    """Returns what is to be said of a training that learned nothing, or None.

    Args:
        labels: (N,), of training images.
        predicted: (N,), what the trained model takes them for.
        classes: C, of all classes.
        steps: Steps of the training.
        history: {name: one value per epoch}.
        flags: {flag: value} of the run.
    """
    if not at_chance(labels, predicted, classes):
        return None
    found = balanced(labels, predicted)
    said = (
        f"This training has learned nothing: its balanced accuracy on "
        f"{len(labels):,} of its own training images is {found:.1%}, and "
        f"guessing has {1 / classes:.1%}."
    )
    is_constant = len(np.unique(predicted)) == 1
    if is_constant:
        said += " It takes all of them for the same class."
    losses = [loss for loss in history.get("loss", ()) if loss is not None]
    if len(losses) > 1:
        said += (
            f" The loss was {losses[0]:.3g} in the first epoch and "
            f"{losses[-1]:.3g} in the last."
        )
    return f"{said} {_advice(steps, losses, is_constant, flags)}"


def _advice(
    steps: int,
    losses: Sequence[float],
    is_constant: bool,
    flags: Mapping[str, Any],
) -> str:
    """What to change, the likeliest first."""
    if steps < _FEW_STEPS:
        return f"Train for more than {steps:,} steps: raise --epochs."
    advice = []
    rose = len(losses) > 1 and losses[-1] >= losses[0]
    if is_constant or rose or "sgd" in str(flags.get("optimizer")):
        advice.append(
            "a tenth of the --learning_rate with a warm-up, as "
            "--optimizer=adamw --learning_rate=cosine(0.001,warmup=3) has it"
        )
    if not flags.get("weights"):
        advice.append("a pretrained backbone, as --backbone=MobileNetV3Small")
    advice.append("more --epochs")
    advice.append("a larger --image_size")
    return f"Try, in this order: {'; '.join(advice)}."
