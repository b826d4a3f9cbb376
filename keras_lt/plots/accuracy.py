"""How well one model does on each class."""

from collections.abc import Sequence

import numpy as np

from keras_lt.counts import Classes
from keras_lt.plots.class_axes import (
    accuracies,
    class_axes,
    cross_out,
    draw_bars,
    label_bars,
    sizes_of,
)
from keras_lt.plots.style import COLORS, INK, as_percent, group_legend


def per_class_accuracy(
    per_class: Sequence[float | None],
    classes: Classes | Sequence[int],
    intervals: tuple[Sequence[float | None], Sequence[float | None]]
    | None = None,
):
    """Accuracy on each class, with a line at the mean of each shot group.

    A cross on the axis (n/a, where bars are labeled) marks a class without
    an image.

    Args:
        per_class: Accuracy by label id (C,), None or NaN where there is
            no image.
        classes: `keras_lt.counts.Classes`, or training images per class,
            integers (C,).
        intervals: Lower and upper ends by label id (C,) each, None where there
            is no image; they are drawn as bars of error.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If the lengths differ.

    Example:
        >>> figure = keras_lt.plots.per_class_accuracy(
        ...     [0.9, 0.6, None], [500, 50, 5]
        ... )
    """
    classes = Classes.of(classes)
    values = accuracies(per_class, classes)
    axes, order, groups = class_axes(classes)
    values = values[order]
    for name, places in groups.items():
        draw_bars(axes, places, np.nan_to_num(values[places]), COLORS[name])
        known = values[places][~np.isnan(values[places])]
        if len(known):
            axes.hlines(
                known.mean(),
                places[0] - 0.5,
                places[-1] + 0.5,
                color=INK,
                linestyle=(0, (4, 2)),
                linewidth=1,
            )
    if intervals is not None:
        low, high = (accuracies(ends, classes)[order] for ends in intervals)
        axes.vlines(
            np.arange(len(values)), low, high, color=INK, linewidth=1, alpha=0.7
        )
    label_bars(
        axes,
        np.where(values > 0.1, 0, np.nan_to_num(values)),
        ["n/a" if np.isnan(v) else f"{100 * v:.1f}" for v in values],
        ["#ffffff" if v > 0.1 else INK for v in values],
    )
    cross_out(axes, np.isnan(values))
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(as_percent)
    axes.set_ylabel("accuracy")
    group_legend(axes, sizes_of(groups))
    return axes.figure
