"""`MODEL_CARD.md`: what a served model is, in words."""

import os
import re
from collections.abc import Sequence

import numpy as np

from keras_lt import files
from keras_lt.counts import shot_groups
from keras_lt.metrics import GROUPS, known_scores
from keras_lt.report.page import data_facts, percent, text
from keras_lt.report.record import Record

_NAMED = 10  # classes that a sentence names
# What Markdown reads as more than a character: marks, entities, addresses.
_SPECIAL = re.compile(r"[\\`*_{}\[\]<>|#~@]|&(?=#?\w+;)|:(?=//)|(?<=www)\.")
_BULLET = re.compile(r"^(\d*)([-+.)])(?=\s|$)")  # starts a list


def write_model_card(
    path: str | os.PathLike,
    record: Record,
    logit_counts: Sequence[float] | None = None,
) -> None:
    """Write a model card in Markdown about the model of a record.

    Data, scores by shot group and class, limits, how to call what
    `keras_lt.export.save` wrote, and settings. The scores are those of the last
    epoch, which is what is exported.

    Args:
        path: File to write; what is there is replaced.
        record: The record of a run.
        logit_counts: What `keras_lt.export.save` got as `class_counts`.

    Raises:
        ValueError: If a required key is missing.
        OSError: If `path` can't be written.

    Example:
        >>> keras_lt.report.write_model_card(
        ...     "MODEL_CARD.md", record, record.class_counts
        ... )
    """
    record.check()
    parts = (
        _about(record),
        _scores(record),
        _limits(record),
        _calls(record, logit_counts),
        _classes(record),
        _settings(record),
    )
    with files.replacing(path) as part:
        part.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _about(record: Record) -> str:
    data, train = record.data, record.train
    counts = record.class_counts
    thresholds = record.shot_thresholds
    return "\n\n".join(
        [
            f"# {_escape(record.title)}",
            "An image classifier, trained by keras_lt "
            f"{_escape(record.environment['keras_lt'])} (method "
            f"{_escape(record.method)}, seed {record.seed}).",
            "## Data",
            f"{_escape(', '.join(data_facts(record)))}. Training images a "
            f"class: from {min(counts):,} to {max(counts):,}. Height, width "
            f"and channels of images: {text(data['image_shape'])}. Many-shot "
            f"are classes with more than {thresholds['many']:,} training "
            f"images, few-shot those with fewer than {thresholds['few']:,}, "
            "unseen those without.",
            f"The model has {train['num_parameters']:,} parameters and was "
            f"trained for {train['epochs']} epochs on {train['images']:,} "
            f"images ({_escape(train['precision'])}).",
        ]
    )


def _scores(record: Record) -> str:
    last = record.test["last"]
    columns = known_scores([last])
    row = [score.shown(last.get(score.name)) for score in columns]
    return f"""## Scores

On {last["num_images"]:,} test images. Balanced is the mean over classes, ECE
the expected calibration error.

{_table([score.label for score in columns], [row])}"""


def _limits(record: Record) -> str:
    last, names = record.test["last"], record.data["class_names"]
    groups = shot_groups(record.class_counts, **record.shot_thresholds)
    lines = [
        f"It knows {len(names):,} classes, and gives any image to one of them.",
        "The scores are of test images that come from where its training "
        "images came from. Elsewhere, and with other shares of the classes, "
        "they are others.",
    ]
    for group, reason in (
        ("few", "few training images"),
        ("unseen", "no training image"),
    ):
        labels = np.flatnonzero(groups[group])
        if len(labels):
            lines.append(f"Classes with {reason}: {_named(labels, names)}.")
    measured = [
        (accuracy, label)
        for label, accuracy in enumerate(last["per_class"])
        if accuracy is not None
    ]
    worst = ", ".join(
        f"{_escape(names[label])} ({percent(accuracy)})"
        for accuracy, label in sorted(measured)[:5]
    )
    lines.append(f"Lowest accuracies: {worst}.")
    return "## Limits\n\n" + "\n".join(f"- {line}" for line in lines)


def _named(labels: np.ndarray, names: Sequence[str]) -> str:
    shown = ", ".join(_escape(names[label]) for label in labels[:_NAMED])
    more = len(labels) - _NAMED
    return f"{shown} and {more:,} more" if more > 0 else shown


def _calls(record: Record, logit_counts: Sequence[float] | None) -> str:
    shape = tuple(record.data["image_shape"])
    prior = "There is no `serve_prior`: the prior of the logits is not known."
    if logit_counts is not None:
        shares, trained = (
            np.asarray(values) / np.sum(values)
            for values in (logit_counts, record.class_counts)
        )
        own = "what the stream and the loss of its training made them"
        if np.allclose(shares, trained):
            own = "those of the training images"
        elif np.ptp(shares[shares > 0]) < 1e-6:
            own = "equal"
        prior = (
            "`serve_prior` adjusts the probabilities to the shares of the "
            "classes where the model is used. It takes the model's own to be "
            f"{own}."
        )
    return f"""## How to call

TensorFlow is all it needs. `labels.txt` has the names of the classes, in the
order of the outputs.

```python
import numpy as np
import tensorflow as tf

model = tf.saved_model.load("saved_model")  # the folder of this card
images = np.zeros((2, *{shape}), "uint8")  # yours, of any size
served = model.signatures["serving_default"](images=tf.constant(images))
print(served["classes"].numpy()[:, 0], served["probabilities"].numpy())
```

Images of another size than {shape[0]} x {shape[1]} are resized and their centre
is cut out. `serve_float` takes float32 images of that size, `serve_bytes` JPEG
or PNG files (EXIF orientation is left aside; one that can't be decoded gets NaN
and empty names), `features` gives what the classifier sees.

{prior}"""


def _classes(record: Record) -> str:
    data, last = record.data, record.test["last"]
    groups = shot_groups(record.class_counts, **record.shot_thresholds)
    rows = [
        [
            _escape(name),
            next(group for group in GROUPS if groups[group][label]),
            f"{count:,}",
            percent(accuracy),
        ]
        for label, (name, count, accuracy) in enumerate(
            zip(
                data["class_names"],
                record.class_counts,
                last["per_class"],
                strict=True,
            )
        )
    ]
    header = ("class", "group", "training images", "accuracy")
    return f"## Classes\n\n{_table(header, rows)}"


def _settings(record: Record) -> str:
    environment = record.environment
    versions = ", ".join(
        f"{name} {environment[name]}"
        for name in ("python", "tensorflow", "keras", "numpy")
    )
    lines = [
        " ".join(f"--{name}={text(value).replace(', ', ',')}".split())
        for name, value in record.flags.items()
        if value is not None
    ]
    # Longer than what flags hold, so that these end nothing.
    ticks = re.findall("`+", "\n".join(lines))
    fence = "`" * max(3, 1 + max(map(len, ticks), default=0))
    flags = "\n".join(lines)
    return f"""## Settings

{_escape(versions)}; commit {_escape(text(environment["git_commit"]))}.

{fence}
{flags}
{fence}"""


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _escape(text: str) -> str:
    """Text as Markdown that stands for itself, on one line."""
    text = _SPECIAL.sub(r"\\\g<0>", " ".join(text.split()))
    return _BULLET.sub(r"\1\\\2", text)
