"""Class names from the folder of a run."""

import json
import os
from pathlib import Path

from keras_lt.report.record import Record


def class_names_of(path: str | os.PathLike) -> list[str] | None:
    """Class names of a model or of weights, by label id.

    The outputs of a model have no names; the folder of its run has them.

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
    return Record.read(path).data["class_names"]


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
