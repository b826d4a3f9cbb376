"""`MODEL_CARD.md`: what a served model is, in words."""

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_lt import files
from keras_lt.metrics import Score, known_scores
from keras_lt.report.page import data_facts, group_of
from keras_lt.report.record import Record
from keras_lt.report.rendering import markdown, percent, text

_NAMED = 10  # classes that a sentence names
_WORST = 5
# Scores that the Hugging Face Hub knows under other names.
_HUB_METRICS = {"top1": "accuracy", "balanced": "balanced_accuracy"}


def write_model_card(
    path: str | os.PathLike,
    record: Record,
    logit_counts: Sequence[float] | None = None,
    fitted: Mapping[str, Any] | None = None,
) -> None:
    """Write a model card in Markdown about the model of a record.

    Data, scores by shot group and class, limits, how to call what
    `keras_lt.export.save` wrote, and settings. The scores are those of the last
    epoch, which is what is exported. It opens with metadata in YAML, which the
    Hugging Face Hub reads in the README.md of a repository: task, tags, scores,
    and a license that is unknown until you name it.

    Args:
        path: File to write; what is there is replaced.
        record: The record of a run with a classifier.
        logit_counts: The `class_counts` that `keras_lt.export.save` got.
        fitted: What is told (`about`) of the `fitted` that it got, or None.

    Raises:
        ValueError: If the record is damaged or has no test scores.
        OSError: If `path` can't be written.

    Example:
        >>> keras_lt.report.write_model_card(
        ...     "MODEL_CARD.md", record, record.class_counts
        ... )
    """
    record.check()
    if not record.test:
        raise ValueError(
            "Expected the record of a run with a classifier. "
            f"Received: {record.title!r} without test scores"
        )
    last, classes = record.test["last"], record.classes
    columns = known_scores([last])
    card = markdown(
        "card.md.jinja",
        title=record.title,
        source=_source(record),
        measured=_measured(columns, last),
        method=record.method,
        seed=record.seed,
        from_run=record.from_run,
        environment=record.environment,
        data=record.data,
        facts=data_facts(record),
        least=int(classes.counts.min()),
        most=int(classes.counts.max()),
        thresholds=record.shot_thresholds,
        train=record.train,
        last=last,
        warnings=record.others.get("warnings", ()),
        score_header=["", *(score.label for score in columns)],
        score_rows=[
            [
                "score",
                *(score.shown(last.get(score.name)) for score in columns),
            ],
            [
                "95 % interval",
                *(
                    score.between(last["intervals"].get(score.name)) or "n/a"
                    for score in columns
                ),
            ],
        ],
        few=_named(classes, "few"),
        unseen=_named(classes, "unseen"),
        worst=_worst(last["per_class"], classes.names),
        prior=_prior(logit_counts, classes.counts),
        fitted=fitted,
        about_fitted=about_fitted(fitted) if fitted else [],
        classes=[
            [
                name,
                group_of(classes.groups, label),
                f"{count:,}",
                percent(share),
            ]
            for label, (name, count, share) in enumerate(
                zip(
                    classes.names,
                    classes.counts,
                    last["per_class"],
                    strict=True,
                )
            )
        ],
        versions=_versions(record.environment),
        flags=_flags(record.flags),
    )
    with files.replacing(path) as part:
        part.write_text(card, encoding="utf-8")


def _source(record: Record) -> dict[str, str]:
    """The test images as the Hub names them, without the folder they are in."""
    kind, _, where = record.dataset.partition(":")
    name = where.rstrip("/").rpartition("/")[2] or kind
    return {
        "type": re.sub(r"[^a-z0-9._-]+", "-", kind.lower()).strip("-") or "own",
        "name": name,
        "split": record.data.get("test_split", "test"),
    }


def _measured(columns: Sequence[Score], last: dict) -> list[dict]:
    """The scores that have a value, as fractions."""
    return [
        {
            "type": _HUB_METRICS.get(score.name, score.name),
            "name": score.label,
            "value": last[score.name],
        }
        for score in columns
        if last.get(score.name) is not None
    ]


def about_fitted(about: Mapping[str, Any]) -> list[str]:
    """Sentences about what was fitted on a hold-out.

    Args:
        about: What `keras_lt.evaluation.fit` tells of it, and perhaps how it
            does on test images.

    Example:
        >>> held_out = keras_lt.evaluation.Predictions(
        ...     [[2.0, 0.0]] * 4, [0, 0, 0, 1], [500, 5]
        ... )
        >>> fitted = keras_lt.evaluation.fit(held_out)
        >>> keras_lt.report.about_fitted(fitted.about)[0]
        'Logits are divided by the temperature 1.82.'
    """
    said = {
        "temperature": "Logits are divided by the temperature "
        f"{about['temperature'] or 1:.3g}.",
        "vector": "Logits have a scale and a bias per class (vector scaling).",
        "none": "Probabilities are as the model gives them.",
    }
    holdout = about["holdout"]
    lines = [
        said[about["calibration"]],
        f"Fitted on a {holdout['kind']} hold-out of {holdout['images']:,} "
        "images, which the model was not trained on.",
    ]
    test = about.get("test")
    if test:
        lines.append(
            f"On {test['images']:,} test images the calibration error is "
            f"{percent(test['ece'])} (before: {percent(test['ece_before'])}), "
            "with probabilities adjusted to their class frequencies; balanced "
            f"accuracy is {percent(test['balanced'])}."
        )
    sets = about["sets"]
    method = sets["method"].replace("_", "-")
    lines.append(
        f"Sets of classes are {method}, for {_shares(sets['coverages'])}% of "
        f"the images{_few_images(sets)}."
    )
    known = about["known"]
    if known:
        lines.append(
            f'"None of these" is said by {known["score"].replace("_", " ")}, '
            f"and {100 * known['share']:g}% of the images of the classes are "
            "kept."
        )
    return lines


def _shares(shares: Sequence[float]) -> str:
    return ", ".join(f"{100 * share:g}" for share in shares)


def _few_images(sets: Mapping[str, Any]) -> str:
    """What is done about classes with too few images to have a threshold."""
    coverages = sets["coverages"]
    # The coverage that is asked for most, or the largest.
    place = coverages.index(0.9) if 0.9 in coverages else -1
    few = sets["classes_with_few_images"][place]
    done = {
        "class_conditional": "are in every set",
        "pooled_tail": "share a threshold, which holds on average over them",
    }
    if not few or sets["method"] not in done:
        return ""
    return (
        f"; at {100 * coverages[place]:g}% {few:,} classes with too few "
        f"images held out {done[sets['method']]}"
    )


def _named(classes, group: str) -> str:
    """Names of the classes of a shot group, some of them if they are many."""
    labels = np.flatnonzero(classes.groups[group])
    shown = ", ".join(classes.names[label] for label in labels[:_NAMED])
    more = len(labels) - _NAMED
    return f"{shown} and {more:,} more" if more > 0 else shown


def _worst(per_class: Sequence[float | None], names: Sequence[str]) -> str:
    measured = [
        (accuracy, label)
        for label, accuracy in enumerate(per_class)
        if accuracy is not None
    ]
    return ", ".join(
        f"{names[label]} ({percent(accuracy)})"
        for accuracy, label in sorted(measured)[:_WORST]
    )


def _prior(
    logit_counts: Sequence[float] | None, class_counts: np.ndarray
) -> str | None:
    """Which class frequencies the logits carry, in words; None if unknown."""
    if logit_counts is None:
        return None
    shares, trained = (
        np.asarray(values) / np.sum(values)
        for values in (logit_counts, class_counts)
    )
    if np.allclose(shares, trained):
        return "those of the training images"
    if np.ptp(shares[shares > 0]) < 1e-6:
        return "equal"
    return "those that the sampler and the loss of its training gave it"


def _versions(environment: dict) -> str:
    names = ("python", "tensorflow", "keras", "numpy")
    return ", ".join(f"{name} {environment[name]}" for name in names)


def _flags(flags: dict) -> list[str]:
    return [
        " ".join(f"--{name}={text(value).replace(', ', ',')}".split())
        for name, value in flags.items()
        if value is not None
    ]
