"""Recall of classes by their training images, with a curve."""

from collections.abc import Callable, Sequence

import numpy as np

from keras_lt.counts import Classes
from keras_lt.plots.class_axes import accuracies
from keras_lt.plots.style import (
    COLORS,
    INK,
    as_number,
    as_percent,
    draw_grid,
    group_legend,
    new_axes,
)


def recall_by_count(
    per_class: Sequence[float | None],
    classes: Classes | Sequence[int],
    curve: Callable[[np.ndarray], np.ndarray],
):
    """Recall of each class over its training images, a dot per class.

    Args:
        per_class: Recall by label id (C,), None or NaN where there is no test
            image.
        classes: `keras_lt.counts.Classes`, or training images per class,
            integers (C,).
        curve: Training images (n,) -> recalls (n,), such as
            `keras_lt.evaluation.RecallCurve.recall`.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If the lengths differ.

    Example:
        >>> curve = keras_lt.evaluation.RecallCurve(
        ...     [90, 60, 30], [100] * 3, [500, 50, 5]
        ... )
        >>> figure = keras_lt.plots.recall_by_count(
        ...     [0.9, 0.6, 0.3], [500, 50, 5], curve.recall
        ... )
    """
    classes = Classes.of(classes)
    values = accuracies(per_class, classes)
    axes = new_axes(10, 3.8)
    draw_grid(axes)
    places = classes.counts + 1.0  # the axis of a class without images too
    for name, mask in classes.groups.items():
        axes.plot(
            places[mask],
            values[mask],
            "o",
            color=COLORS[name],
            markersize=5,
            alpha=0.8,
            markeredgewidth=0,
        )
    at = np.unique(np.geomspace(1, places.max() + 1, 200))
    axes.plot(at, curve(at - 1), color=INK, linewidth=1.4)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(as_number)
    axes.set_ylim(-0.02, 1.02)
    axes.yaxis.set_major_formatter(as_percent)
    axes.set_xlabel("training images + 1")
    axes.set_ylabel("recall")
    group_legend(
        axes,
        {
            name: f"{name} ({mask.sum():,})"
            for name, mask in classes.groups.items()
            if mask.any()
        },
    )
    return axes.figure
