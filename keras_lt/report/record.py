"""`result.json`: the record of a run, with a versioned schema."""

import dataclasses
import json
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_lt import evaluation, files
from keras_lt.counts import Classes
from keras_lt.messages import brief
from keras_lt.metrics import SCORES
from keras_lt.report.schema import MAX_DEPTH, Field, check_values, is_deeper

SCHEMA_VERSION = 2

_SHARE = "a number from 0 to 1, or null"
_DATA = {
    "imbalance_factor": Field(
        "a number or null", "largest over smallest class, or null"
    ),
    "profile": Field("text or null", "exp or step, or null"),
    "selection": Field("text or null", "which rule chose the images, or null"),
    "split_seed": Field(
        "an integer or null",
        "seed of the long-tailed selection and hold-out",
    ),
    "holdout": Field(_SHARE, "fraction of the training set held out"),
    "num_train": Field("a count", "images trained on"),
    "num_test": Field("a count", "images tested on"),
    "num_classes": Field("a count above 0", "C"),
    "class_names": Field("a list of texts", "C names"),
    "image_shape": Field(
        "a list of 3 counts above 0", "[height, width, channels]"
    ),
}
_THRESHOLDS = {
    "many": Field("a number", "more training images than this: many-shot"),
    "few": Field("a number", "fewer training images than this: few-shot"),
}
_ENVIRONMENT = {
    "python": Field("text", "its version"),
    "tensorflow": Field("text", "its version"),
    "keras": Field("text", "its version"),
    "numpy": Field("text", "its version"),
    "keras_lt": Field("text", "its version"),
    "platform": Field("text", "operating system"),
    "cpu_count": Field("an integer or null", "cores"),
    "devices": Field("a list of texts", "names"),
    "git_commit": Field("text or null", "of the checkout, null outside git"),
    "git_dirty": Field("a boolean or null", "whether the checkout had changes"),
}
_TRAIN = {
    "epochs": Field("a count", "epochs trained"),
    "steps": Field("a count above 0", "steps trained"),
    "steps_per_epoch": Field("a count", "steps per epoch"),
    "batch_size": Field("a count", "global batch size, of each branch"),
    "images": Field("a count", "images processed"),
    "wall_time_seconds": Field(
        "a number", "seconds of training, over all starts"
    ),
    "images_per_second": Field(
        "a number of at least 0, or null", "images over wall_time_seconds"
    ),
    "precision": Field("text", "dtype policy, as mixed_bfloat16"),
    "num_parameters": Field(
        "a count", "parameters of the model, moving statistics too"
    ),
    "resumed": Field("a count", "number of times the run was resumed"),
}
# Scores that records of the first version have.
_FIRST_SCORES = ("top1", "balanced", "many", "medium", "few", "unseen", "ece")
_FIRST_TEST = {
    **{name: Field(_SHARE, SCORES[name].meaning) for name in _FIRST_SCORES},
    "per_class": Field(
        "a list of numbers from 0 to 1 or null",
        "C fractions by label id, null without test images",
    ),
    "confusion": Field(
        "a square matrix of counts, or null",
        "C x C images, rows true; null above 1,000 classes",
    ),
    "num_images": Field("a count", "number of test images"),
    "epoch": Field(
        "a count", "number of epochs that were over when the weights were kept"
    ),
}
_LATER_SCORES = (
    "top5",
    "geometric_mean",
    "harmonic_mean",
    "lowest_recall",
    "lowest_5_recall",
    "macro_f1",
    "matthews",
    "ece_equal_mass",
    "classwise_ece",
    "brier",
    "nll",
)
_TEST = {
    **_FIRST_TEST,
    **{
        name: Field("a number or null", SCORES[name].meaning)
        for name in _LATER_SCORES
    },
    "intervals": Field(
        "intervals by score", "{score: [low, high]}, 95 % bootstrap intervals"
    ),
    "shifted": Field(
        "accuracies by class frequencies",
        "{frequencies: {plain, adjusted}}, expected top-1 under them",
    ),
    "images_by_class": Field("a list of counts", "C test images by label id"),
    "right": Field(
        "text or null",
        "base64 of bits, whether an image is answered rightly, by label id",
    ),
}
# Images of a confusion matrix that are counted one by one in memory.
_MOST_IMAGES = 10_000_000
_CHOSEN_BY = {"chosen_by": Field("text", "monitored figure that chose them")}


def _schema(schema: Field | dict) -> dict:
    return {"schema": schema}


@dataclasses.dataclass(kw_only=True)
class Record:
    """The result of a run in numbers: `result.json`.

    Attributes are the keys of the file; `SCHEMA` says what each holds. NumPy's
    values become Python's, and NaN and infinity None, so that a record is what
    its file gives back. Keys beyond those of the schema are kept, at the top
    in `others`.

    Raises:
        ValueError: If a required key is missing or of another kind.
        TypeError: If a value has no counterpart in JSON.

    Example:
        >>> logits = model.predict(test.images)
        >>> record = keras_lt.report.Record(
        ...     name="ce",
        ...     dataset="digits",
        ...     data={
        ...         "imbalance_factor": 10,
        ...         "profile": "exp",
        ...         "selection": "nested",
        ...         "split_seed": 0,
        ...         "holdout": 0.0,
        ...         "num_train": len(train),
        ...         "num_test": len(test),
        ...         "num_classes": 10,
        ...         "class_names": class_names,
        ...         "image_shape": train.image_shape,
        ...     },
        ...     class_counts=class_counts,
        ...     shot_thresholds={"many": 100, "few": 20},
        ...     method="single",
        ...     flags={"learning_rate": 0.01},
        ...     seed=0,
        ...     environment=keras_lt.report.environment(),
        ...     train={
        ...         "epochs": 3,
        ...         "steps": 6,
        ...         "steps_per_epoch": 2,
        ...         "batch_size": 32,
        ...         "images": 192,
        ...         "wall_time_seconds": 1.5,
        ...         "images_per_second": 128.0,
        ...         "precision": "float32",
        ...         "num_parameters": model.count_params(),
        ...         "resumed": 0,
        ...     },
        ...     history={"loss": [2.3, 2.2, 2.1]},
        ...     test={
        ...         "last": {
        ...             **keras_lt.evaluation.recorded(
        ...                 keras_lt.evaluation.Predictions(
        ...                     logits, test.labels, class_counts
        ...                 )
        ...             ),
        ...             "epoch": 3,
        ...         }
        ...     },
        ... )
        >>> record.title, record.test["last"]["num_images"]
        ('ce', 450)
    """

    name: str | None = dataclasses.field(
        metadata=_schema(
            Field("text or null", "name of the flag file without its ending")
        )
    )
    dataset: str = dataclasses.field(
        metadata=_schema(
            Field("text", "name of the data set, as given to --dataset")
        )
    )
    data: dict = dataclasses.field(metadata=_schema(_DATA))
    class_counts: Sequence[int] = dataclasses.field(
        metadata=_schema(
            Field("a list of counts", "C training images by label id")
        )
    )
    shot_thresholds: dict = dataclasses.field(metadata=_schema(_THRESHOLDS))
    method: str = dataclasses.field(
        metadata=_schema(Field("text", "method of the run, as single"))
    )
    flags: dict = dataclasses.field(
        metadata=_schema(
            Field(
                "values by flag",
                "{name: value} of all flags in effect; see `augmentation`",
            )
        )
    )
    seed: int = dataclasses.field(
        metadata=_schema(Field("an integer", "seed of the run"))
    )
    environment: dict = dataclasses.field(metadata=_schema(_ENVIRONMENT))
    train: dict = dataclasses.field(metadata=_schema(_TRAIN))
    history: dict = dataclasses.field(
        metadata=_schema(
            Field(
                "lists of numbers by metric",
                "{metric: one value per epoch}, stage2_... of a second stage",
            )
        )
    )
    test: dict = dataclasses.field(
        metadata=_schema(Field("an object", "{} of a run without a classifier"))
    )
    from_run: str | None = None
    others: dict = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = _plain(getattr(self, field.name), f"record.{field.name}")
            setattr(self, field.name, value)
        self.check()

    @classmethod
    def read(cls, path: str | os.PathLike) -> "Record":
        """Reads and checks a record.

        Args:
            path: File that `write` wrote.

        Returns:
            The record.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is not JSON, is of another schema version than 1
                or 2, or lacks a required key or holds a value of another kind;
                the message names the file and the key.

        Example:
            >>> path = "runs/ce_0/result.json"
            >>> keras_lt.report.Record.read(path).dataset
            'digits'
        """
        where = f"path={str(path)!r}"
        try:
            values = json.loads(Path(path).read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            raise ValueError(
                f"Expected a JSON record. Received: {where} ({error})"
            ) from error
        return cls.from_dict(values, where)

    @classmethod
    def from_dict(cls, values: dict, where: str = "record") -> "Record":
        """A record of what `to_dict` gave; `where` names it in errors.

        Example:
            >>> keras_lt.report.Record.from_dict(record.to_dict()) == record
            True
        """
        _check(values, where)
        values = {**values}
        if values.pop("schema_version") == 1:
            values["test"] = _with_later_scores(values)
        names = {field.name for field in dataclasses.fields(cls)} - {"others"}
        others = {k: v for k, v in values.items() if k not in names}
        own = {k: v for k, v in values.items() if k in names}
        return cls(**own, others=others)

    def to_dict(self) -> dict:
        """The keys and values of the file.

        Example:
            >>> record.to_dict()["schema_version"]
            2
        """
        values = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
        }
        others = values.pop("others")
        return {"schema_version": SCHEMA_VERSION, **values, **others}

    def check(self, where: str = "record") -> None:
        """Raises the errors of `read`: dictionaries may have been changed.

        Example:
            >>> record.check()
        """
        _check(self.to_dict(), where)

    def write(self, path: str | os.PathLike) -> None:
        """Writes the record as JSON, at once or not at all.

        Args:
            path: File to write.

        Raises:
            ValueError: If a required key is missing or of another kind.
            TypeError: If a value has no counterpart in JSON.

        Example:
            >>> record.write("result.json")
        """
        values = _plain(self.to_dict(), "record")
        _check(values, "record")
        text = json.dumps(values, indent=2, allow_nan=False, ensure_ascii=False)
        with files.replacing(path) as part:
            part.write_text(_flat_lists(text) + "\n", encoding="utf-8")

    @property
    def classes(self) -> Classes:
        """Counts, names and shot thresholds of the classes.

        Raises:
            ValueError: If a name is not that of a class.

        Example:
            >>> record.classes.groups["few"]
            array([False, False,  True, False])
        """
        names, thresholds = self.data["class_names"], self.shot_thresholds
        return Classes(self.class_counts, names, **thresholds)

    @property
    def title(self) -> str:
        """Name of the run's flag file, or what the run was.

        Example:
            >>> record.title
            'toy'
        """
        return self.name or f"{self.method} on {self.dataset}"

    @property
    def augmentation(self) -> str:
        """The regime of augmentation, by which results are kept apart.

        It is the flag `augment`, of a stage without one that of the run before
        it (`train["from_flags"]`), "standard" for what is the default, "none"
        on features that are computed once, and
        whether images were cropped at random and resized
        (`data["random_resized_crop"]`; they were not where an older record
        does not say).

        Example:
            >>> record.augmentation
            'standard'
        """
        flags = {**self.train.get("from_flags", {}), **self.flags}
        if flags.get("tune") == "head":  # features of images as they are
            return "none"
        augment = flags.get("augment") or "standard"
        crops = self.data.get("random_resized_crop", False)
        if augment == "random_resized_crop" or augment.startswith(
            "random_resized_crop("  # of another least area than usual
        ):
            return augment
        augment = augment.removeprefix("random_resized_crop|")
        if augment == f"pad_crop_flip({0 if crops else 4})":
            augment = "standard"
        return augment + (" with random resized crops" if crops else "")


SCHEMA = {
    "schema_version": Field("a count", "2"),
    **{
        field.name: field.metadata["schema"]
        for field in dataclasses.fields(Record)
        if field.metadata
    },
    "test": {"last": _TEST},
}
"""Required keys of a record, of which of `KINDS` they are, and what they hold.
`test` is empty for a run without a classifier, and may hold `best`, the same
scores for the weights that the hold-out chose, with `chosen_by` (the monitored
figure). `from_run` is null, or names the run whose model a stage started from.
Keys beyond these are kept. Records of version 1 lack what stands from `top5` to
`right`; where they are read it is made from their confusion matrix, null where
that does not say it."""


def _check(values: Any, where: str) -> None:
    """Raises the ValueError of `Record.read`; `where` names the record."""
    if not isinstance(values, dict):
        raise ValueError(
            f"Expected a record, a JSON object. Received: {where} holds "
            f"{type(values).__name__}"
        )
    version = values.get("schema_version")
    if version not in (1, SCHEMA_VERSION) or isinstance(version, bool):
        raise ValueError(
            f"Expected a record with schema_version={SCHEMA_VERSION} or 1. "
            f"Received: {where} with schema_version={version!r}"
        )
    if is_deeper(values, MAX_DEPTH):
        raise ValueError(
            f"Expected a record at most {MAX_DEPTH} levels deep. "
            f"Received: {where} with more"
        )
    check_values(_schema_of(values), values, where)
    _check_thresholds(values["shot_thresholds"], where)
    num_classes = values["data"]["num_classes"]
    by_class = {
        "class_counts": values["class_counts"],
        "data.class_names": values["data"]["class_names"],
    }
    for which in ("last", "best"):
        if which in values["test"]:
            scores = values["test"][which]
            for key in {"per_class", "images_by_class"} & {*scores}:
                by_class[f"test.{which}.{key}"] = scores[key]
    for key, found in by_class.items():
        if len(found) != num_classes:
            raise ValueError(
                f"Expected {num_classes} values (data.num_classes) in {key}. "
                f"Received: {where} with {key}={brief(found)}"
            )


def _schema_of(values: dict) -> dict:
    """The schema, with what only some records have."""
    schema, tests = {**SCHEMA}, values.get("test")
    keys = _FIRST_TEST if values["schema_version"] == 1 else _TEST
    if "from_run" in values:
        schema["from_run"] = Field("text or null", "run that it started from")
    if tests == {}:
        return schema | {"test": Field("an object", "no scores")}
    if isinstance(tests, dict):
        schema["test"] = {"last": _with_own_scores(keys, tests.get("last"))}
        if "best" in tests:
            best = _with_own_scores(keys, tests["best"])
            schema["test"]["best"] = {**best, **_CHOSEN_BY}
    return schema


def _with_own_scores(keys: dict, scores: Any) -> dict:
    """The keys of a scoring, with scores of a user's own that are there."""
    if not isinstance(scores, dict):
        return keys
    own = ({*SCORES} - {*keys}) & {*scores}
    kind = "a number or null"
    return keys | {name: Field(kind, SCORES[name].meaning) for name in own}


def _with_later_scores(values: dict) -> dict:
    """The scores of a record of version 1, with those that came later."""
    counts, thresholds = values["class_counts"], values["shot_thresholds"]
    return values["test"] | {
        which: {**_later_scores(scores, counts, thresholds), **scores}
        for which, scores in values["test"].items()
        if which in ("last", "best")
    }


def _later_scores(scores: dict, counts: list[int], thresholds: dict) -> dict:
    """What `evaluation.recorded` gives, of a confusion matrix alone."""
    confusion = scores["confusion"]
    size = sum(map(sum, confusion)) if confusion else 0
    is_known = 0 < size <= _MOST_IMAGES and len(confusion) == len(counts)
    if not is_known or not any(counts):
        return {
            **dict.fromkeys(_LATER_SCORES),
            "intervals": {},
            "shifted": {},
            "images_by_class": [0] * len(counts),
            "right": None,
        }
    images = np.array(confusion)
    cells = np.nonzero(images)
    labels, predicted = (np.repeat(ids, images[cells]) for ids in cells)
    answers = evaluation.Predictions(
        predicted, labels, Classes(counts, **thresholds)
    )
    # Which image is which is not known.
    return {**evaluation.recorded(answers), "right": None}


def _check_thresholds(thresholds: dict, where: str) -> None:
    extra = {*thresholds} - {*_THRESHOLDS}
    if extra or not 0 <= thresholds["few"] <= thresholds["many"]:
        raise ValueError(
            "Expected a record whose shot_thresholds are many and few, "
            f"0 <= few <= many. Received: {where} with "
            f"shot_thresholds={brief(thresholds)}"
        )


def _plain(value, where: str):
    """NumPy values as Python's, NaN and infinity as None, names printable."""
    if isinstance(value, dict):
        return {str(k): _plain(v, f"{where}.{k}") for k, v in value.items()}
    if isinstance(value, (np.ndarray, np.generic, tf.Tensor)):
        value = np.asarray(value).tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(v, f"{where}[{i}]") for i, v in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, str):
        return files.printable(value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    raise TypeError(
        "Expected values that JSON can hold. "
        f"Received: {where} of type {type(value).__name__}"
    )


def _flat_lists(text: str) -> str:
    """Put each innermost list of numbers on one line.

    JSON escapes line breaks in strings, so one after a bracket is layout.
    """
    return re.sub(
        r'\[\n\s*([^\[\]{}"]*?)\n\s*\]',
        lambda match: "[" + re.sub(r"\s*\n\s*", " ", match[1]) + "]",
        text,
    )
