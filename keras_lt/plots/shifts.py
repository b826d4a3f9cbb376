"""Accuracy under other class frequencies."""

from collections.abc import Mapping, Sequence

import numpy as np

from keras_lt.plots.style import (
    DASHES,
    MARKERS,
    METHODS,
    as_percent,
    draw_grid,
    method_legend,
    new_axes,
    refuse_none,
)


def shifted_accuracy(
    methods: Mapping[str, Sequence[float | None]], names: Sequence[str]
):
    """Accuracy under several class frequencies, a line per method.

    Args:
        methods: For each method (its label) the accuracies, None where there
            is none.
        names: Names of the class frequencies, in the order of the axis.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If there is no method, or the lengths differ.

    Example:
        >>> figure = keras_lt.plots.shifted_accuracy(
        ...     {"as it is": [0.8, 0.6, 0.3], "adjusted": [0.8, 0.7, 0.7]},
        ...     ["forward 10", "uniform", "backward 10"],
        ... )
    """
    refuse_none(methods)
    axes = new_axes(10, 3.8)
    draw_grid(axes)
    for number, (label, values) in enumerate(methods.items()):
        if len(values) != len(names):
            raise ValueError(
                f"Expected {len(names)} accuracies per method. "
                f"Received: {len(values)} of {label!r}"
            )
        axes.plot(
            np.array(values, float),
            color=METHODS[number % len(METHODS)],
            linestyle=DASHES[number // len(METHODS) % len(DASHES)],
            marker=MARKERS[number % len(MARKERS)],
            markersize=5,
            linewidth=1.6,
            clip_on=False,
        )
    axes.set_xticks(
        range(len(names)),
        names,
        rotation=45,
        ha="right",
        rotation_mode="anchor",
    )
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(as_percent)
    axes.set_ylabel("accuracy")
    method_legend(axes, axes.lines, methods)
    return axes.figure
