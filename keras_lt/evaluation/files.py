"""Files of logits or predicted classes, of any framework."""

import csv
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_lt.counts import Classes, class_shares
from keras_lt.evaluation.predictions import Predictions
from keras_lt.files import opened_arrays, write_arrays
from keras_lt.messages import brief

_KEYS = ("logits", "predictions", "labels", "class_counts", "logit_counts")
_HOLDOUT = ("holdout_logits", "holdout_labels")
# Logits of more bytes are not kept: those of 8,142 classes fill a disk.
MAX_BYTES = 1 << 28
_READ = 1 << 20  # bytes at a time


class Scored(NamedTuple):
    """Answers of a model: what a file holds.

    Args:
        test: For a test set.
        holdout: For images that it was not trained on, or None.
        logit_counts: Images per class (C,), or shares, that logits have as
            their prior; None where it is not known.

    Example:
        >>> predictions = keras_lt.evaluation.Predictions(
        ...     [[2.0, 0.0]], [0], [500, 5]
        ... )
        >>> keras_lt.evaluation.Scored(predictions).holdout is None
        True
    """

    test: Predictions
    holdout: Predictions | None = None
    logit_counts: np.ndarray | None = None


def write(path: str | os.PathLike, scored: Scored) -> None:
    """Writes what `read` reads, as .npz.

    Logits of more than 256 MiB are not written, but predicted classes in their
    place and nothing of the hold-out.

    Args:
        path: File to write.
        scored: Answers of a model.

    Raises:
        OSError: If `path` can't be written.

    Example:
        >>> predictions = keras_lt.evaluation.Predictions(
        ...     [[2.0, 0.0], [2.0, 0.0]], [0, 1], [500, 5]
        ... )
        >>> keras_lt.evaluation.write(
        ...     "logits.npz", keras_lt.evaluation.Scored(predictions)
        ... )
        >>> keras_lt.evaluation.read("logits.npz").test.logits
        array([[2., 0.],
               [2., 0.]])
    """
    test, holdout, logit_counts = scored
    arrays = {"labels": test.labels, "class_counts": test.class_counts}
    if logit_counts is not None:
        arrays["logit_counts"] = logit_counts
    kept = [part.logits for part in (test, holdout) if part is not None]
    if test.logits is None or sum(each.nbytes for each in kept) > MAX_BYTES:
        arrays["predictions"] = test.predicted
    else:
        arrays["logits"] = test.logits
        if holdout is not None:
            arrays |= zip(
                _HOLDOUT, (holdout.logits, holdout.labels), strict=True
            )
    write_arrays(path, **arrays)


def read(
    path: str | os.PathLike,
    class_counts: Sequence[int] | None = None,
    many: int = 100,
    few: int = 20,
) -> Scored:
    """Reads logits or predicted classes, and labels.

    A `.npz` file has the arrays `logits` (N, C) or `predictions` (N,), with -1
    for refused, `labels` (N,), `class_counts` (C,), and may have
    `holdout_logits` and `holdout_labels`, and `logit_counts` (C,). A `.csv`
    file has a header and the column `label` and either `prediction` or one
    column of logits per class, in the order of the label ids.

    Args:
        path: The file.
        class_counts: Training images per class, in place of those of the file.
        many: A class with more training images is many-shot.
        few: A class with fewer training images is few-shot.

    Returns:
        The test set's, the hold-out's or None, and the prior of the logits.

    Raises:
        OSError: If there is no such file.
        ValueError: If it holds something else, or as `Predictions`.

    Example:
        >>> np.savez(
        ...     "ce.npz",
        ...     logits=[[2.0, 0.0], [2.0, 0.0]],
        ...     labels=[0, 1],
        ...     class_counts=[500, 5],
        ... )
        >>> keras_lt.evaluation.read("ce.npz").test.totals
        array([1, 1])
    """
    path = Path(path)
    readers = {".npz": _read_npz, ".csv": _read_csv}
    if path.suffix.lower() not in readers:
        raise ValueError(
            f"Expected a file that ends in .npz or .csv. Received: {path}"
        )
    if not path.exists():
        raise FileNotFoundError(
            "Expected a file of logits or predictions. "
            f"Received: {path}, which does not exist"
        )
    try:
        arrays = readers[path.suffix.lower()](path)
        if class_counts is not None:
            arrays["class_counts"] = class_counts
        _check_keys(arrays)
        outputs = arrays.get("predictions", arrays.get("logits"))
        classes = Classes(arrays["class_counts"], many=many, few=few)
        test = Predictions(outputs, arrays["labels"], classes)
        holdout = None
        if "holdout_logits" in arrays:
            try:
                holdout = Predictions(
                    *(arrays[name] for name in _HOLDOUT), classes
                )
                if holdout.logits is None:
                    raise ValueError(
                        "Expected logits (N, C). Received: predicted classes"
                    )
            except ValueError as error:
                raise ValueError(f"Of the hold-out: {error}") from error
        logit_counts = arrays.get("logit_counts")
        if logit_counts is not None:
            class_shares("logit_counts", logit_counts, len(classes))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error
    return Scored(test, holdout, logit_counts)


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    with opened_arrays(path) as arrays:
        return {
            name: _array(arrays, name)
            for name in (*_KEYS, *_HOLDOUT)
            if name in arrays
        }


def _array(arrays: np.lib.npyio.NpzFile, name: str) -> np.ndarray:
    """An array of the file, a large one in half the time that NumPy takes."""
    with arrays.zip.open(f"{name}.npy") as file:
        if np.lib.format.read_magic(file) != (1, 0):
            return arrays[name]
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
        if is_fortran or dtype.hasobject or not math.prod(shape):
            return arrays[name]
        found = np.empty(shape, dtype)
        left = memoryview(found.reshape(-1).view(np.uint8))
        while left:
            read = file.readinto(left[:_READ])
            if not read:
                raise ValueError(f"{name} ends too early")
            left = left[read:]
        return found


def _read_csv(path: Path) -> dict[str, np.ndarray]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        rows = csv.reader(file)
        header = [name.strip() for name in next(rows, [])]
        others = [name for name in header if name != "label"]
        if header.count("label") != 1 or not others:
            raise ValueError(
                "Expected a header with the column label, and prediction or "
                f"one column of logits per class. Received: {brief(header)}"
            )
        place = header.index("label")
        kind = int if others == ["prediction"] else float
        labels, outputs = [], []
        for row in rows:
            if not row:
                continue
            try:
                if len(row) != len(header):
                    raise ValueError
                labels.append(int(row[place]))
                cells = row[:place] + row[place + 1 :]
                outputs.append([kind(cell) for cell in cells])
            except ValueError:
                raise ValueError(
                    f"Expected a label, an integer, and {len(others)} numbers "
                    "more, integers if they are predictions. Received: line "
                    f"{rows.line_num}: {brief(row)}"
                ) from None
    labels = np.array(labels, np.int64)
    if kind is int:
        outputs = np.array(outputs, np.int64).reshape(-1)
        return {"predictions": outputs, "labels": labels}
    outputs = np.array(outputs, np.float64).reshape(-1, len(others))
    return {"logits": outputs, "labels": labels}


def _check_keys(arrays: dict) -> None:
    found = brief([*arrays])
    if ("logits" in arrays) == ("predictions" in arrays):
        raise ValueError(
            "Expected either logits (N, C) or predictions (N,). "
            f"Received: {found}"
        )
    for name in ("labels", "class_counts"):
        if name not in arrays:
            raise ValueError(f"Expected {name}. Received: {found} without them")
    if len({*_HOLDOUT} & {*arrays}) == 1:
        raise ValueError(
            f"Expected both of {' and '.join(_HOLDOUT)}. Received: {found}"
        )
    for name, rank in (("logits", 2), ("predictions", 1)):
        if name in arrays and arrays[name].ndim != rank:
            shape = "(N, C)" if rank == 2 else "(N,)"
            raise ValueError(
                f"Expected {name} of shape {shape}. "
                f"Received: {name}.shape={arrays[name].shape}"
            )
    predicted = arrays.get("predictions")
    if predicted is not None and predicted.dtype.kind not in "iu":
        raise ValueError(
            "Expected predictions that are class ids, integers. "
            f"Received: predictions.dtype={predicted.dtype}"
        )
