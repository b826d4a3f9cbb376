"""`result.json`: the record of a run, with a versioned schema (`SCHEMA`)."""

import importlib
import json
import math
import os
import platform
import re
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_lt import filenames, files, hardware
from keras_lt.messages import brief

SCHEMA_VERSION = 1


class Field(NamedTuple):
    """One value of a record: of which of `KINDS` it is, and what it says."""

    kind: str
    text: str


def _is_integer(value: Any, least: int) -> bool:
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    return is_integer and least <= value < 2**63


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and abs(value) < 1e300


def _is_share(value: Any) -> bool:
    return value is None or (_is_number(value) and 0 <= value <= 1)


def _is_flag_value(value: Any) -> bool:
    return value is None or isinstance(value, (bool, str)) or _is_number(value)


def _is_list(value: Any, holds: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and all(map(holds, value))


KINDS: dict[str, Callable[[Any], bool]] = {
    "text": lambda value: isinstance(value, str),
    "text or null": lambda value: value is None or isinstance(value, str),
    "a boolean or null": lambda value: value is None or isinstance(value, bool),
    "an integer": lambda value: _is_integer(value, -(2**63)),
    "an integer or null": lambda value: (
        value is None or _is_integer(value, -(2**63))
    ),
    "a count": lambda value: _is_integer(value, 0),
    "a count above 0": lambda value: _is_integer(value, 1),
    "a number": _is_number,
    "a number or null": lambda value: value is None or _is_number(value),
    "a number of at least 0, or null": lambda value: (
        value is None or (_is_number(value) and value >= 0)
    ),
    "a number from 0 to 1, or null": _is_share,
    "a list of numbers from 0 to 1 or null": lambda value: _is_list(
        value, _is_share
    ),
    "a list of counts": lambda value: _is_list(
        value, lambda each: _is_integer(each, 0)
    ),
    "a list of 3 counts above 0": lambda value: (
        _is_list(value, lambda each: _is_integer(each, 1)) and len(value) == 3
    ),
    "a square matrix of counts, or null": lambda value: (
        value is None
        or _is_list(
            value,
            lambda row: (
                _is_list(row, lambda each: _is_integer(each, 0))
                and len(row) == len(value)
            ),
        )
    ),
    "a list of texts": lambda value: _is_list(
        value, lambda each: isinstance(each, str)
    ),
    "values by flag": lambda value: (
        isinstance(value, dict)
        and all(
            _is_flag_value(each) or _is_list(each, _is_flag_value)
            for each in value.values()
        )
    ),
    "lists of numbers by metric": lambda value: (
        isinstance(value, dict)
        and all(
            _is_list(each, KINDS["a number or null"]) for each in value.values()
        )
    ),
}
"""What the values of a record may be."""

MAX_DEPTH = 32  # of lists and objects within each other

_SHARE = "a number from 0 to 1, or null"
_SCORES = {
    "top1": Field(_SHARE, "fraction of test images whose class is predicted"),
    "balanced": Field(_SHARE, "mean over classes of per_class"),
    "many": Field(
        _SHARE, "mean over many-shot classes, null for an empty group"
    ),
    "medium": Field(_SHARE, "mean over medium-shot classes"),
    "few": Field(_SHARE, "mean over few-shot classes"),
    "unseen": Field(_SHARE, "mean over classes without training images"),
    "ece": Field(_SHARE, "expected calibration error, 15 bins"),
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

SCHEMA = {
    "schema_version": Field("a count", "1"),
    "name": Field(
        "text or null", "name of the flag file without its ending, or null"
    ),
    "dataset": Field("text", "name of the data set, as given to --dataset"),
    "data": {
        "imbalance_factor": Field(
            "a number or null", "largest over smallest class, or null"
        ),
        "profile": Field("text or null", "exp or step, or null"),
        "selection": Field(
            "text or null", "which rule chose the images, or null"
        ),
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
    },
    "class_counts": Field("a list of counts", "C training images by label id"),
    "shot_thresholds": {
        "many": Field("a number", "more training images than this: many-shot"),
        "few": Field("a number", "fewer training images than this: few-shot"),
    },
    "method": Field("text", "method of the run, as single"),
    "flags": Field(
        "values by flag",
        "{name: value} of all flags in effect; see `augmentation`",
    ),
    "seed": Field("an integer", "seed of the run"),
    "environment": {
        "python": Field("text", "its version"),
        "tensorflow": Field("text", "its version"),
        "keras": Field("text", "its version"),
        "numpy": Field("text", "its version"),
        "keras_lt": Field("text", "its version"),
        "platform": Field("text", "operating system"),
        "cpu_count": Field("an integer or null", "cores"),
        "devices": Field("a list of texts", "names"),
        "git_commit": Field(
            "text or null", "of the checkout, null outside git"
        ),
        "git_dirty": Field(
            "a boolean or null", "whether the checkout had changes"
        ),
    },
    "train": {
        "epochs": Field("a count", "epochs trained"),
        "steps": Field("a count above 0", "steps trained"),
        "steps_per_epoch": Field("a count", "steps an epoch"),
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
    },
    "history": Field(
        "lists of numbers by metric",
        "{metric: one value an epoch}, stage2_... of a second stage",
    ),
    "test": {"last": _SCORES},
}
"""Required keys of a record, of which of `KINDS` they are, and what they hold.
`test` may also hold `best`, the same scores for the weights that the hold-out
chose, with `chosen_by` (the monitored figure); keys beyond these are kept."""


def environment() -> dict:
    """Software and machine of this process.

    Returns:
        `python`, `tensorflow`, `keras`, `numpy`, `keras_lt` (versions),
        `platform`, what `keras_lt.hardware.summary()` gives, `devices`
        (names), `git_commit` of the checkout that holds keras_lt and
        `git_dirty` (both None outside git).

    Example:
        >>> environment = keras_lt.report.environment()
        >>> environment["keras_lt"] == keras_lt.__version__
        True
    """
    return {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "keras_lt": importlib.import_module("keras_lt").__version__,
        "platform": platform.platform(),
        **hardware.summary(),
        "devices": [_device_name(d) for d in tf.config.list_physical_devices()],
        **_git(),
    }


def _device_name(device) -> str:
    details = tf.config.experimental.get_device_details(device)
    name = details.get("device_name")
    kind = ":".join(device.name.split(":")[-2:])
    return f"{kind} ({name})" if name else kind


def _git() -> dict:
    folder = Path(__file__).resolve().parent

    def git(*arguments):
        return subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        ).stdout.strip()

    try:
        # An installed copy inside somebody's checkout is not that checkout's.
        git("ls-files", "--error-unmatch", "__init__.py")
        return {
            "git_commit": git("rev-parse", "HEAD"),
            "git_dirty": bool(git("status", "--porcelain")),
        }
    except (OSError, subprocess.SubprocessError):
        return {"git_commit": None, "git_dirty": None}


def record(
    *,
    name: str | None,
    dataset: str,
    data: dict,
    class_counts: Sequence[int],
    shot_thresholds: dict,
    method: str,
    flags: dict,
    seed: int,
    environment: dict,
    train: dict,
    history: dict,
    test: dict,
) -> dict:
    """The record of a run: its arguments, and the version of the schema.

    Args:
        name: Name of the flag file without its ending.
        dataset: Name of the data set.
        data: As `SCHEMA["data"]` has it.
        class_counts: Training images a class, integers (C,).
        shot_thresholds: `many` and `few`.
        method: Method of the run.
        flags: Flags in effect.
        seed: Seed of the run.
        environment: What `environment()` gave when the run started.
        train: As `SCHEMA["train"]` has it.
        history: A list of one value an epoch for each metric.
        test: `last` and perhaps `best`, each what `evaluate` gives with
            `epoch`.

    Returns:
        A dictionary of plain Python values for `write_record`; NaN and
        infinity become None.

    Raises:
        ValueError: If a required key is missing or of another kind.
        TypeError: If a value has no counterpart in JSON.

    Example:
        >>> logits = model.predict(test.images)
        >>> record = keras_lt.report.record(
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
        ...             **keras_lt.metrics.evaluate(
        ...                 logits, test.labels, class_counts
        ...             ),
        ...             "epoch": 3,
        ...         }
        ...     },
        ... )
    """
    result = _plain(
        {
            "schema_version": SCHEMA_VERSION,
            "name": name,
            "dataset": dataset,
            "data": data,
            "class_counts": class_counts,
            "shot_thresholds": shot_thresholds,
            "method": method,
            "flags": flags,
            "seed": seed,
            "environment": environment,
            "train": train,
            "history": history,
            "test": test,
        },
        "record",
    )
    check(result, "record")
    return result


def write_record(path: str | os.PathLike, record: dict) -> None:
    """Write a record as JSON, at once or not at all.

    Args:
        path: File to write.
        record: What `record` gave.

    Raises:
        ValueError: If a required key is missing or of another kind.
        TypeError: If a value has no counterpart in JSON.

    Example:
        >>> keras_lt.report.write_record("result.json", record)
    """
    record = _plain(record, "record")
    check(record, "record")
    text = json.dumps(record, indent=2, allow_nan=False, ensure_ascii=False)
    with files.replacing(path) as part:
        part.write_text(_flat_lists(text) + "\n", encoding="utf-8")


def read_record(path: str | os.PathLike) -> dict:
    """Read and check a record.

    Args:
        path: File that `write_record` wrote.

    Returns:
        The record.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not JSON, is of another schema version, or lacks
            a required key or holds a value of another kind; the message names
            the file and the key.

    Example:
        >>> record = keras_lt.report.read_record("runs/ce_0/result.json")
        >>> record["dataset"]
        'digits'
    """
    try:
        result = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"Expected a JSON record. Received: path={str(path)!r} ({error})"
        ) from error
    check(result, f"path={str(path)!r}")
    return result


def class_names_of(path: str | os.PathLike) -> list[str] | None:
    """Names of the classes that a model or weights are of, by label id.

    A model has outputs without names: those are in the folder of its run.

    Args:
        path: A file in the folder of a run, or in its `checkpoints`.

    Returns:
        The names in the run's `result.json`, index of checkpoints or
        `saved_model/labels.txt`; None where there is none of these.

    Raises:
        ValueError: If one can't be read.

    Example:
        >>> names = keras_lt.report.class_names_of("runs/ce_0/model.keras")
    """
    above = Path(path).resolve().parents[:3]
    runs = [p.parent for p in above[:2] if p.name == "checkpoints"]
    for folder in (above[0], *runs):
        for name, read in (
            ("result.json", _names_of_record),
            ("checkpoint.json", _names_of_checkpoints),
            ("checkpoints/checkpoint.json", _names_of_checkpoints),
            ("saved_model/labels.txt", _names_of_labels),
        ):
            names = read(folder / name) if (folder / name).is_file() else None
            if names is not None:
                return names
    return None


def _names_of_record(path: Path) -> list[str]:
    return read_record(path)["data"]["class_names"]


def _names_of_checkpoints(path: Path) -> list[str] | None:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))["settings"]
        names = settings.get("class_names")
        return None if names is None else [str(name) for name in names]
    except (
        AttributeError,
        KeyError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        raise ValueError(
            "Expected an index of checkpoints, with settings. "
            f"Received: {path} ({type(error).__name__}: {error})"
        ) from error


def _names_of_labels(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def check(result, where: str) -> None:
    """Raises the ValueError of `read_record`; `where` names the record."""
    if not isinstance(result, dict):
        raise ValueError(
            f"Expected a record, a JSON object. Received: {where} holds "
            f"{type(result).__name__}"
        )
    version = result.get("schema_version")
    if version != SCHEMA_VERSION:
        raise ValueError(
            f"Expected a record with schema_version={SCHEMA_VERSION}. "
            f"Received: {where} with schema_version={version!r}"
        )
    if _is_deeper(result, MAX_DEPTH):
        raise ValueError(
            f"Expected a record at most {MAX_DEPTH} levels deep. "
            f"Received: {where} with more"
        )
    schema = SCHEMA
    tests = result.get("test")
    if isinstance(tests, dict) and "best" in tests:
        best = {**_SCORES, "chosen_by": Field("text", "monitored figure")}
        schema = {**SCHEMA, "test": {"last": _SCORES, "best": best}}
    missing = list(_missing(schema, result))
    if missing:
        raise ValueError(
            f"Expected a record with all keys of schema "
            f"{SCHEMA_VERSION}. Received: {where} without "
            f"{', '.join(missing)}"
        )
    for key, field, value in _values(schema, result):
        if not KINDS[field.kind](value):
            raise ValueError(
                f"Expected a record whose {key} is {field.kind}. "
                f"Received: {where} with {key}={brief(value)}"
            )
    thresholds = result["shot_thresholds"]
    extra = {*thresholds} - {*SCHEMA["shot_thresholds"]}
    if extra or not 0 <= thresholds["few"] <= thresholds["many"]:
        raise ValueError(
            "Expected a record whose shot_thresholds are many and few, "
            f"0 <= few <= many. Received: {where} with "
            f"shot_thresholds={brief(thresholds)}"
        )
    num_classes = result["data"]["num_classes"]
    by_class = {
        "class_counts": result["class_counts"],
        "data.class_names": result["data"]["class_names"],
    }
    for which, scores in result["test"].items():
        if which in schema["test"]:
            by_class[f"test.{which}.per_class"] = scores["per_class"]
    for key, values in by_class.items():
        if len(values) != num_classes:
            raise ValueError(
                f"Expected {num_classes} values (data.num_classes) in {key}. "
                f"Received: {where} with {key}={brief(values)}"
            )


def _is_deeper(value: Any, depth: int) -> bool:
    """Whether lists and objects are within each other deeper than that."""
    level = [value]
    for _ in range(depth):
        inner = []
        for each in level:
            if isinstance(each, dict):
                inner += each.values()
            elif isinstance(each, (list, tuple)):
                inner += each
        level = [
            each for each in inner if isinstance(each, (dict, list, tuple))
        ]
        if not level:
            return False
    return True


def augmentation(record: dict) -> str:
    """The regime of augmentation, by which results are kept apart.

    It is the flag `augment` ("standard" where a record has none), and whether
    images were cropped at random and resized (`data.random_resized_crop`; they
    were not where a record has none).

    Example:
        >>> keras_lt.report.augmentation(record)
        'standard'
    """
    augment = record["flags"].get("augment", "standard")
    if record["data"].get("random_resized_crop", False):
        return f"{augment} with random resized crops"
    return augment


def _missing(schema: dict, result, prefix: str = ""):
    for key, inner in schema.items():
        if not isinstance(result, dict) or key not in result:
            yield prefix + key
        elif isinstance(inner, dict):
            yield from _missing(inner, result[key], f"{prefix}{key}.")


def _values(
    schema: dict, result: dict, prefix: str = ""
) -> Iterator[tuple[str, Field, Any]]:
    for key, inner in schema.items():
        if isinstance(inner, dict):
            yield from _values(inner, result[key], f"{prefix}{key}.")
        else:
            yield prefix + key, inner, result[key]


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
        return filenames.printable(value)
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
