"""`report.html`: one self-contained page about a record."""

import os

import numpy as np

from keras_lt import plots
from keras_lt.evaluation import wilson
from keras_lt.metrics import GROUPS, known_scores
from keras_lt.report.record import Record
from keras_lt.report.rendering import counted, percent, text, write_page


def write_html(path: str | os.PathLike, record: Record) -> None:
    """Write a page about a record, in one file that needs no network.

    Args:
        path: File to write, new or a page of keras_lt.
        record: The record of a run.

    Raises:
        ValueError: If the record is damaged, or `path` holds something else
            than a page of keras_lt.
        OSError: If `path` can't be written.

    Example:
        >>> keras_lt.report.write_html("report.html", record)
    """
    record.check()
    last = record.test.get("last")
    _check_confusion(last, record.data["num_classes"])
    facts_of_run = {**record.train, **record.data}
    del facts_of_run["class_names"]  # the table of classes has them
    if record.from_run is not None:
        facts_of_run["from_run"] = record.from_run
    write_page(
        path,
        "report",
        record.title,
        [*data_facts(record), record.method, f"seed {record.seed}"],
        last=last,
        tiles=_tiles(record) if last else [],
        weights=_weights(record),
        figures=_figures(record),
        wide=len(record.class_counts) > plots.MAX_NAMED,
        classes=_class_table(record),
        facts_of_run=facts_of_run,
        flags=record.flags,
        environment=record.environment,
        warnings=record.others.get("warnings", ()),
        chosen=[
            [f"--{name}={text(record.flags.get(name))}", reason]
            for name, reason in record.others.get("chosen", {}).items()
        ],
    )


def data_facts(record: Record) -> list[str]:
    """The training data in words."""
    data = record.data
    factor = data["imbalance_factor"]
    return [
        record.dataset,
        f"{data['num_classes']:,} classes",
        f"{data['num_train']:,} training images",
        f"imbalance factor {text(factor)}" if factor else "all training images",
    ]


def _check_confusion(last: dict | None, num_classes: int) -> None:
    confusion = last and last["confusion"]
    if confusion is not None and len(confusion) != num_classes:
        raise ValueError(
            f"Expected {num_classes} rows (data.num_classes) in "
            f"test.last.confusion. Received: record with {len(confusion)}"
        )


def _tiles(record: Record) -> list[dict[str, str]]:
    """The headline scores, with what each is a mean over."""
    last, classes = record.test["last"], record.classes
    rule = {
        "many": f"more than {classes.many:,} images",
        "medium": f"{classes.few:,} to {classes.many:,} images",
        "few": f"fewer than {classes.few:,} images",
        "unseen": "no training image",
    }
    notes = {"top1": f"{last['num_images']:,} test images"}
    for group in GROUPS:
        size = int(classes.groups[group].sum())
        notes[group] = f"{counted(size, 'class')}, {rule[group]}"
    return [
        {
            "name": score.name,
            "label": score.label,
            "value": score.shown(last.get(score.name)),
            "interval": score.between(last["intervals"].get(score.name)),
            "note": notes.get(score.name, score.meaning),
        }
        for score in known_scores(record.test.values())
    ]


def _weights(record: Record) -> list[list[str]]:
    """A row of scores for the last weights, and one for the best if any."""
    rows = []
    for which, scores in record.test.items():
        chosen = scores.get("chosen_by")
        note = f", chosen by {chosen}" if chosen else ""
        cells = [
            score.shown(scores.get(score.name))
            for score in known_scores(record.test.values())
        ]
        rows.append([f"{which} (epoch {scores['epoch']}{note})", *cells])
    return rows


def _figures(record: Record) -> dict:
    last, classes = record.test.get("last"), record.classes
    figures = {
        "distribution": plots.class_distribution(classes),
        "accuracy": None,
        "confusion": None,
        "curves": _curves(record.history),
    }
    if last:
        hits, images = hits_of(last)
        figures["accuracy"] = plots.per_class_accuracy(
            last["per_class"], classes, wilson(hits, images)
        )
        if last["confusion"] is not None:
            figures["confusion"] = plots.confusion_matrix(
                last["confusion"], classes
            )
    return figures


def hits_of(result: dict) -> tuple[np.ndarray, np.ndarray]:
    """Right answers and test images by label id, of what a record holds."""
    images = np.array(result["images_by_class"])
    recall = np.array(result["per_class"], float)
    return np.where(images, np.round(np.nan_to_num(recall) * images), 0), images


def _curves(history: dict) -> dict:
    """Curves by the title of the stage; older records hold two stages."""
    second = "stage2_"
    histories = {"Training": {}, "Second stage": {}}
    for name, values in history.items():
        stage = "Second stage" if name.startswith(second) else "Training"
        histories[stage][name.removeprefix(second)] = values
    return {
        stage: plots.curves(found)
        for stage, found in histories.items()
        if found
    }


def _class_table(record: Record) -> tuple[list[str], list[list[str]]]:
    last, classes = record.test.get("last"), record.classes
    confusion = last and last["confusion"]
    header = ["class", "group", "training images"]
    if last:
        header.append("accuracy")
    if confusion is not None:
        header += ["test images", "most often taken for"]
    rows = []
    for label in np.argsort(-classes.counts, kind="stable"):
        row = [
            classes.names[label],
            group_of(classes.groups, label),
            f"{classes.counts[label]:,}",
        ]
        if last:
            row.append(percent(last["per_class"][label]))
        if confusion is not None:
            row += _taken_for(np.array(confusion[label]), label, classes.names)
        rows.append(row)
    return header, rows


def _taken_for(images: np.ndarray, label: int, names) -> list[str]:
    total = f"{images.sum():,}"
    images[label] = 0
    other = images.argmax()
    if not images.any():
        return [total, ""]
    return [total, f"{names[other]} ({images[other]:,})"]


def group_of(groups: dict[str, np.ndarray], label: int) -> str:
    """The shot group of a class."""
    return next(name for name in GROUPS if groups[name][label])
