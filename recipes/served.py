"""A finished run's SavedModel with what is fitted on images held out."""

import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import inputs
import numpy as np
import scored

from keras_lt import (
    datasets,
    evaluation,
    export,
    features,
    files,
    metrics,
    report,
)
from keras_lt.evaluation import Fitted, Gaussians, Predictions, Refusal

# Beside the SavedModel that the record of the run is about.
CALIBRATED = "saved_model_calibrated"
_COMPARED = 16  # images that each signature is tried with


def unknown_images(
    run: scored.ScoredRun, given: str, found: Sequence[Path] = ()
) -> datasets.Dataset:
    """Images of none of the classes of a run, at its size.

    Args:
        run: The run.
        given: What --unknown says, to be named in errors.
        found: The files of a folder; else `given` is a data set's name.

    Raises:
        OSError: If there is no such data set.
        ValueError: If the images have another shape.
    """
    shape = tuple(run.record.data["image_shape"])
    if found:
        images = datasets.FileDataset(
            datasets.Paths("", map(str, found)),
            np.zeros(len(found), np.int64),
            ["unknown"],
            image_size=shape[0],
            on_bad_image=run.settings.on_bad_image,
            max_pixels=run.settings.max_pixels,
        )
        images = inputs.framed(images, inputs.size_of(run.settings.image_size))
    else:
        images = run.other_images(given, None)
    if tuple(images.image_shape) != shape:
        raise ValueError(
            f"Expected images of shape {shape}, as {run.path} has. "
            f"Received: --unknown={given}, of {tuple(images.image_shape)}"
        )
    return images


def _logits(run: scored.ScoredRun, images: datasets.Dataset) -> np.ndarray:
    batches = inputs.evaluation(images, scored.BATCH_SIZE)
    return metrics.predict(run.model, batches)[0]


def _features(run: scored.ScoredRun, images: datasets.Dataset) -> np.ndarray:
    return features.extract(run.model, images).features


def gaussians(run: scored.ScoredRun) -> Gaussians:
    """Where the features of each class are, of the training images."""
    return evaluation.fit_gaussians(*run.train_features, len(run.classes))


def tell_apart(
    run: scored.ScoredRun,
    test: Predictions,
    known: datasets.Dataset,
    unknown: datasets.Dataset,
) -> dict[str, Any]:
    """How well each score tells images of the classes from others.

    Args:
        run: The run.
        test: Its answers for `known`.
        known: Images of its classes.
        unknown: Images of none of them.

    Returns:
        For each score what `evaluation.separation` gives, `kept` and `images`.
    """
    logits = _logits(run, unknown)
    around = gaussians(run)
    both = {
        "mahalanobis": [
            {"features": _features(run, images), "gaussians": around}
            for images in (known, unknown)
        ]
    }
    found: dict[str, Any] = {"images": len(logits)}
    for name in evaluation.KNOWN_SCORES:
        arguments = both.get(
            name, [{"logits": test.logits}, {"logits": logits}]
        )
        own, others = (
            evaluation.known_score(name, **each) for each in arguments
        )
        threshold = np.sort(own)[len(own) // 20]
        kept = evaluation.kept_by_group(own >= threshold, test)
        found[name] = {**evaluation.separation(own, others), "kept": kept}
    return found


def refusal(
    run: scored.ScoredRun,
    name: str,
    share: float,
    holdout: Predictions,
    images: datasets.Dataset | None,
) -> Refusal:
    """The rule for "none of these", fitted on images held out.

    Args:
        run: The run.
        name: Of the score.
        share: Share of known images that are kept.
        holdout: Answers for the images held out.
        images: These; None is those that the run held out.
    """
    if name != "mahalanobis":
        scores = evaluation.known_score(name, holdout.logits)
        return evaluation.fit_refusal(name, scores, share)
    around = gaussians(run)
    held = _features(run, images or run.data.held_out)
    scores = evaluation.known_score(name, None, held, around)
    return evaluation.fit_refusal(name, scores, share, around)


def tested(
    fitted: Fitted, test: Predictions, source: Sequence[float] | None
) -> Fitted:
    """Adds to what is told of it how it does on the test images.

    Calibration is judged where it should hold: with probabilities adjusted to
    the class frequencies of these images.

    Args:
        fitted: What was fitted.
        test: The answers of the model for the test images.
        source: The prior of its logits, None if it is not known.
    """

    def ece(scaling):
        if source is not None:
            scaling = scaling.adjusted(test.totals, source)
        return evaluation.calibration(test, scaling)["ece"]

    served = Predictions(
        fitted.scaling(test.logits), test.labels, test.class_counts
    )
    scores = evaluation.scores(served)
    about = {
        "images": len(test),
        "top1": scores["top1"],
        "balanced": scores["balanced"],
        "ece_before": ece(Fitted().scaling),
        "ece": ece(fitted.scaling),
    }
    return fitted._replace(about={**fitted.about, "test": about})


def write(
    run: scored.ScoredRun, fitted: Fitted, source: Sequence[float] | None
) -> Path:
    """Writes the SavedModel beside that of the run, whole or not at all.

    Args:
        run: The run; what it has kept stays as it is.
        fitted: What to put into it.
        source: The prior of the logits, None if it is not known.

    Returns:
        The folder; one that is there is replaced.
    """
    path = run.path / CALIBRATED
    if path.is_symlink():
        raise ValueError(
            f"Expected a folder of this run. Received: {path}, a link"
        )
    new, old = (
        run.path / f"{files.PART}{secrets.token_hex(8)}-{name}"
        for name in ("new", "old")
    )
    try:
        export.save(
            run.model,
            new,
            run.data.test.images[:_COMPARED],
            class_names=run.classes.names,
            class_counts=source,
            fitted=fitted,
            framing=run.data.test.framing,
        )
        for name in ("MODEL_CARD.md", "README.md"):
            report.write_model_card(
                new / name, run.record, source, fitted.about
            )
        if path.exists():
            path.rename(old)
        new.rename(path)
    finally:
        for each in (new, old):
            shutil.rmtree(each, ignore_errors=True)
    return path
