"""Checks of what a model gave for labeled images."""

import numpy as np

_ELEMENTS = 1 << 20  # logits that are checked at once


def check_scored(
    logits: np.ndarray, labels: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Checks what a model gave for labeled images.

    Args:
        logits: As `evaluate` takes them.
        labels: As `evaluate` takes them.
        num_classes: C.

    Returns:
        Predicted class ids, -1 for none, and labels, int64 (N,) both.

    Raises:
        ValueError: As `evaluate`.

    Example:
        >>> keras_lt.metrics.check_scored([[2.0, 0.0], [0.0, 2.0]], [1, 1], 2)
        (array([0, 1]), array([1, 1]))
    """
    logits, labels = np.asarray(logits), np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    predicted = logits
    if logits.ndim == 1 and logits.dtype.kind in "iu":
        _check_predicted(predicted, num_classes)
    else:
        _check_logits(logits, num_classes)
        predicted = logits.argmax(axis=1)
    check_labels(labels, len(logits), num_classes)
    return predicted.astype(np.int64), labels.astype(np.int64)


def _check_logits(logits: np.ndarray, num_classes: int) -> None:
    if logits.ndim != 2 or logits.shape[1] != num_classes or not len(logits):
        raise ValueError(
            f"Expected `logits` of shape (N, {num_classes}), N > 0, for "
            f"{num_classes} class counts. "
            f"Received: logits.shape={logits.shape}"
        )
    size = max(1, _ELEMENTS // num_classes)
    # The ends of a row tell of NaN and infinity, and take less time than all.
    finite = np.concatenate(
        [
            np.isfinite(part.min(axis=1)) & np.isfinite(part.max(axis=1))
            for part in np.split(logits, range(size, len(logits), size))
        ]
    )
    if not finite.all():
        raise ValueError(
            "Expected finite `logits`. Received: NaN or infinity for "
            f"{(~finite).sum()} of {len(logits)} images"
        )


def _check_predicted(predicted: np.ndarray, num_classes: int) -> None:
    if not len(predicted) or not (
        -1 <= predicted.min() and predicted.max() < num_classes
    ):
        shown = "none"
        if len(predicted):
            shown = f"ids from {predicted.min()} to {predicted.max()}"
        raise ValueError(
            f"Expected predicted class ids from 0 to {num_classes - 1}, or -1 "
            f"for none, of at least one image. Received: {shown}"
        )


def check_labels(labels: np.ndarray, size: int, num_classes: int) -> None:
    """Raises a ValueError unless labels are ids (size,) of the classes."""
    if labels.shape != (size,) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"Expected integer `labels` of shape ({size},). Received: "
            f"labels.shape={labels.shape}, labels.dtype={labels.dtype}"
        )
    if size and not 0 <= labels.min() <= labels.max() < num_classes:
        raise ValueError(
            f"Expected `labels` from 0 to {num_classes - 1}. Received: "
            f"labels from {labels.min()} to {labels.max()}"
        )
