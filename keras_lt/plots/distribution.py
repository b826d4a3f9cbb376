"""How many training images the classes have."""

from collections.abc import Sequence

import numpy as np

from keras_lt.counts import Classes
from keras_lt.plots.class_axes import (
    class_axes,
    draw_bars,
    label_bars,
    sizes_of,
)
from keras_lt.plots.style import COLORS, INK, as_number, group_legend


def class_distribution(classes: Classes | Sequence[int]):
    """Training images per class, colored by shot group.

    The axis is logarithmic where the largest class has over 20 times the
    images of the smallest that has any.

    Args:
        classes: `keras_lt.counts.Classes`, or training images per class,
            integers (C,).

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If `classes` is neither.

    Example:
        >>> figure = keras_lt.plots.class_distribution([500, 50, 5])
        >>> Path("classes.png").write_bytes(keras_lt.plots.to_png(figure)) > 0
        True
    """
    classes = Classes.of(classes)
    counts = classes.counts
    axes, order, groups = class_axes(classes)
    is_log = counts.max() > 20 * counts[counts > 0].min()
    floor = 0.5 if is_log else 0
    heights = np.maximum(counts[order], floor)
    for name, places in groups.items():
        draw_bars(axes, places, heights[places], COLORS[name], floor)
    labels = [f"{count:,}" for count in counts[order]]
    label_bars(axes, heights, labels, [INK] * len(labels))
    if is_log:
        axes.set_yscale("log")
    axes.set_ylim(floor, counts.max() * (2.5 if is_log else 1.1))
    axes.yaxis.set_major_formatter(as_number)
    axes.minorticks_off()
    axes.set_ylabel("training images")
    group_legend(axes, sizes_of(groups))
    return axes.figure
