"""Which classes are taken for which."""

from collections.abc import Sequence

import numpy as np

from keras_lt.counts import Classes
from keras_lt.plots.class_axes import (
    MAX_LABELED,
    MAX_NAMED,
    order_note,
    order_of,
    short_names,
)
from keras_lt.plots.style import INK, new_axes


def confusion_matrix(
    confusion: Sequence[Sequence[int]], classes: Classes | Sequence[int]
):
    """Share of each true class's images (row) by predicted class (column).

    Args:
        confusion: Images (C, C), rows are true classes.
        classes: `keras_lt.counts.Classes`, or training images per class,
            integers (C,).

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If the shape is not (C, C).

    Example:
        >>> figure = keras_lt.plots.confusion_matrix(
        ...     [[8, 2], [5, 5]], keras_lt.counts.Classes([500, 5], ["a", "b"])
        ... )
    """
    classes = Classes.of(classes)
    size = len(classes)
    confusion = np.asarray(confusion)
    if confusion.shape != (size, size):
        raise ValueError(
            f"Expected `confusion` of shape ({size}, {size}). "
            f"Received: confusion.shape={confusion.shape}"
        )
    order = order_of(classes)
    confusion = confusion[np.ix_(order, order)]
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    # Alpha carries the share, so that the figure suits any background.
    image = np.empty((size, size, 4))
    image[..., :3] = np.array([0x2F, 0x6D, 0xB5]) / 255
    image[..., 3] = share**0.6
    axes = new_axes(6, 5.4)
    axes.imshow(image, interpolation="none")
    if size <= MAX_LABELED:
        _write_shares(axes, share)
    axes.set_xlabel("predicted class" + order_note(size))
    axes.set_ylabel("true class")
    if size <= MAX_NAMED:
        labels = short_names(classes, order)
        axes.set_xticks(range(size), labels, rotation=45, ha="right")
        axes.set_yticks(range(size), labels)
    else:
        axes.set(xticks=[], yticks=[])
    for side in axes.spines.values():
        side.set(visible=True, alpha=0.3)
    return axes.figure


def _write_shares(axes, share: np.ndarray) -> None:
    for row, column in zip(*np.nonzero(share), strict=True):
        axes.text(
            column,
            row,
            f"{100 * share[row, column]:.0f}",
            ha="center",
            va="center",
            fontsize=9,
            color="#ffffff" if share[row, column] > 0.4 else INK,
        )
