"""Labels of a batch, in the forms that losses and metrics take.

Labels are ids, `(B,)` or `(B, 1)`, or rows `(B, C)`: one-hot, or shares of
classes as mixing makes them.

An ignored label is an id of no class, such as -1, or C and more, or a row
without a positive share (`one_hot(-1)`). Its example has weight 0 in every loss
and every metric here. Where a loss is a mean over the batch the example counts
in the batch's size, as one of `sample_weight` 0 does. Eager calls warn, and
name the label; `keras_lt.datasets` and `keras_lt.metrics.evaluate` refuse it.
"""

import warnings
from typing import Any

import numpy as np
import tensorflow as tf
from keras import ops

IGNORED = -1


def dense(y_true: Any, num_classes: int, dtype: str) -> Any:
    """Returns labels as rows (B, C), zeros for an ignored one.

    Args:
        y_true: Labels, as the module describes them.
        num_classes: C.
        dtype: Dtype of the rows.

    Raises:
        ValueError: If the labels have another shape, or are fractions.

    Example:
        >>> keras_lt.labels.dense([1, 0], 2, "float32").numpy().tolist()
        [[0.0, 1.0], [1.0, 0.0]]
    """
    y_true = ops.convert_to_tensor(y_true)
    if _are_rows(y_true, num_classes):
        return ops.cast(y_true, dtype)
    return ops.one_hot(class_ids(y_true, num_classes), num_classes, dtype=dtype)


def class_ids(y_true: Any, num_classes: int | None = None) -> Any:
    """Returns labels as ids, int32 (B,), `IGNORED` for an ignored one.

    Args:
        y_true: Labels, as the module describes them. Of rows it is the class
            of the largest share.
        num_classes: C; None where any number of classes will do: then ids are
            ignored below 0 only.

    Raises:
        ValueError: As `dense`.

    Example:
        >>> shares = np.array([[0.2, 0.8], [0.0, 0.0]])
        >>> keras_lt.labels.class_ids(shares, 2).numpy().tolist()
        [1, -1]
    """
    y_true = _widened(ops.convert_to_tensor(y_true))
    if _are_rows(y_true, num_classes):
        known = ops.max(y_true, axis=-1) > 0
        ids = ops.cast(ops.argmax(y_true, axis=-1), "int32")
    else:
        shape = tuple(y_true.shape)
        if len(shape) != 1 and (len(shape) != 2 or shape[-1] != 1):
            raise ValueError(
                "Expected y_true to be label ids of shape (batch,) or "
                "(batch, 1), or soft labels of shape (batch, "
                f"{num_classes or 'C'}). Received: y_true.shape={shape}"
            )
        ids = ops.reshape(y_true, (-1,))
        known = ids >= 0  # before ids are cast to int32, which wraps
        if num_classes is not None:
            known = known & (ids < num_classes)
        _check_eager(ids, known, num_classes)
        ids = ops.cast(ops.where(known, ids, ops.zeros_like(ids)), "int32")
    return ops.where(known, ids, IGNORED)


def _widened(y_true: Any) -> Any:
    """Small integers as int32, which C fits too, and others as int64."""
    dtype = tf.as_dtype(y_true.dtype)
    if dtype.is_floating:
        return y_true
    wide = dtype in (tf.int64, tf.uint64, tf.uint32)
    return ops.cast(y_true, "int64" if wide else "int32")


def _are_rows(y_true: Any, num_classes: int | None) -> bool:
    shape = tuple(y_true.shape)
    if len(shape) != 2 or shape[-1] in (1, None):
        return False
    return num_classes is None or shape[-1] == num_classes


def _check_eager(ids: Any, known: Any, num_classes: int | None) -> None:
    """Looks at values where there are any: not while a graph is traced."""
    if tf.is_symbolic_tensor(ids):
        return
    ids, known = ops.convert_to_numpy(ids), ops.convert_to_numpy(known)
    fractions = ids[known & (ids != np.floor(ids))]
    if fractions.size:
        raise ValueError(
            "Expected y_true to be label ids, which are integers. "
            f"Received: label {fractions[0]}"
        )
    if not known.all():
        most = "" if num_classes is None else f" to {num_classes - 1}"
        warnings.warn(
            f"Expected labels from 0{most}. Received: label "
            f"{ids[~known][0]:.0f}, whose examples are ignored (weight 0).",
            stacklevel=3,
        )
