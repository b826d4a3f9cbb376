"""Histograms of shares."""

from collections.abc import Mapping, Sequence

import numpy as np

from keras_lt.messages import brief
from keras_lt.plots.style import (
    INK,
    LINES,
    as_percent,
    draw_grid,
    label_above,
    method_labels,
    new_axes,
)


def share_histogram(
    values: Mapping[str, Sequence[float]],
    x_label: str,
    bins: int = 20,
    *,
    limits: tuple[float, float] = (0, 1),
    colors: Sequence[str] = LINES,
    threshold: float | None = None,
):
    """Shares of the values of each set that fall into bins.

    Args:
        values: For each set (its label) numbers within `limits`. A set
            without one is flat.
        x_label: Name of the numbers.
        bins: Number of bins, which have equal widths.
        limits: Lower and upper end of the bins.
        colors: Colors of the sets; where there are more sets they repeat.
        threshold: Where to draw a line; None draws none.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If there is no set, or a number is not within `limits`.

    Example:
        >>> figure = keras_lt.plots.share_histogram(
        ...     {"drawn": [0.1, 0.4], "left out": [0.9, 0.95, 0.99]}, "p"
        ... )
    """
    if not values:
        raise ValueError(
            f"Expected at least one set. Received: values={values!r}"
        )
    axes = new_axes(6, 3.4)
    for number, (name, numbers) in enumerate(values.items()):
        numbers = _within(limits, name, numbers)
        counts, edges = np.histogram(numbers, bins, limits)
        shares = counts / max(len(numbers), 1)
        color = colors[number % len(colors)]
        axes.stairs(shares, edges, fill=True, color=color, alpha=0.2)
        axes.stairs(shares, edges, color=color, linewidth=1.6)
    marks, labels = axes.patches[1::2], method_labels(values)
    if threshold is not None:
        marks.append(
            axes.axvline(threshold, color=INK, linestyle=(0, (4, 2)), lw=1.2)
        )
        labels.append("threshold")
    margin = 0.01 * (edges[-1] - edges[0])
    axes.set_xlim(edges[0] - margin, edges[-1] + margin)
    axes.set_ylim(0)
    axes.yaxis.set_major_formatter(as_percent)
    axes.set_xlabel(x_label)
    axes.set_ylabel("share of each set")
    draw_grid(axes, "y")
    label_above(
        axes,
        handles=marks,
        labels=labels,
        columnspacing=1.2,
        handlelength=1.4,
    )
    return axes.figure


def _within(limits: tuple[float, float], name: str, numbers) -> np.ndarray:
    low, high = limits
    numbers = np.asarray(numbers, float)
    if not ((numbers >= low) & (numbers <= high)).all():  # refuses NaN too
        raise ValueError(
            f"Expected numbers from {low:.6g} to {high:.6g}. "
            f"Received: {name}={brief(numbers)}"
        )
    return numbers
