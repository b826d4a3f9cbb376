"""Levels of a division, and their clusters."""

from collections.abc import Mapping, Sequence

import numpy as np

from keras_lt.counts import Classes
from keras_lt.plots.class_axes import (
    class_axes,
    cross_out,
    draw_bars,
    draw_strip,
    label_bars,
)
from keras_lt.plots.style import (
    COLORS,
    INK,
    as_number,
    as_percent,
    draw_grid,
    group_legend,
    method_legend,
    new_axes,
    shades,
)


def level_shares(
    levels: Mapping[str, Sequence[int]],
    classes: Classes | Sequence[int],
):
    """Which levels the samples of each class are at, as shares of the class.

    The strip shows shot groups. A cross on the axis (n/a, where there are few
    classes) marks a class without a sample.

    Args:
        levels: For each level (its label) its samples by label id (C,). The
            first lies at the bottom.
        classes: `keras_lt.counts.Classes`, or training images per class,
            integers (C,).

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If there is no level, or the lengths differ.

    Example:
        >>> figure = keras_lt.plots.level_shares(
        ...     {"level 1": [400, 1], "left": [100, 4]}, [500, 5]
        ... )
    """
    if not levels:
        raise ValueError(
            f"Expected at least one level. Received: levels={levels!r}"
        )
    classes = Classes.of(classes)
    for name, samples in levels.items():
        if np.shape(samples) != (len(classes),):
            raise ValueError(
                f"Expected samples of {len(classes)} classes. "
                f"Received: shape {np.shape(samples)} in {name!r}"
            )
    axes, order, groups = class_axes(classes, 10, 4.2)
    samples = np.stack([np.asarray(row)[order] for row in levels.values()])
    sizes = samples.sum(axis=0)
    tops = np.cumsum(samples, axis=0) / np.maximum(sizes, 1)  # (levels, C)
    places = np.arange(len(classes))
    # Each from 0 and before the one above it: half the outline.
    for top, color in reversed(list(zip(tops, shades(len(tops)), strict=True))):
        draw_bars(axes, places, top, color)
    bars = axes.patches[::-1]
    absent = sizes == 0
    labels = ["n/a" if missing else "" for missing in absent]
    label_bars(axes, tops[-1], labels, [INK] * len(labels))
    cross_out(axes, absent)
    axes.set_ylim(-0.03, 1)  # the strip lies below the bars
    axes.yaxis.set_major_formatter(as_percent)
    axes.set_ylabel("share of the class")
    draw_strip(axes, groups)
    method_legend(axes, bars, levels)
    return axes.figure


def cluster_purity(
    frequencies: np.ndarray,
    sizes: Sequence[int],
    classes: Classes | Sequence[int],
):
    """Share of the largest class in each cluster, against the cluster's size.

    The color is the shot group of that class. Empty clusters are not shown;
    the line is at the purity that one cluster of all samples would have.

    Args:
        frequencies: Shares of the classes in each cluster (K, C), as
            `keras_lt.models.dlsa.class_frequencies` gives them.
        sizes: Samples in each cluster (K,).
        classes: `keras_lt.counts.Classes`, or training images per class,
            integers (C,).

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If the shapes do not fit, or all clusters are empty.

    Example:
        >>> figure = keras_lt.plots.cluster_purity(
        ...     np.array([[0.9, 0.1], [0.25, 0.75]]), [50, 4], [500, 5]
        ... )
    """
    classes = Classes.of(classes)
    frequencies, sizes = np.asarray(frequencies), np.asarray(sizes)
    if sizes.ndim != 1 or frequencies.shape != (len(sizes), len(classes)):
        raise ValueError(
            f"Expected frequencies (K, {len(classes)}) and sizes (K,). "
            f"Received: shapes {frequencies.shape}, {sizes.shape}"
        )
    if not sizes.any():
        raise ValueError(
            f"Expected a cluster with samples. Received: sizes={sizes}"
        )
    axes = new_axes(6, 3.4)
    legend = _draw_clusters(axes, frequencies, sizes, classes.groups)
    axes.axhline(
        (sizes @ frequencies).max() / sizes.sum(),
        color=INK,
        linestyle=(0, (4, 2)),
        linewidth=1.2,
    )
    filled = sizes[sizes > 0]
    axes.set_xscale("log")
    axes.set_xlim(filled.min() / 1.6, filled.max() * 1.6)
    # One of the subdivisions 1, 2 and 5 lies within any of these limits.
    axes.xaxis.get_major_locator().set_params(subs=(1, 2, 5))
    axes.xaxis.set_major_formatter(as_number)
    axes.minorticks_off()
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(as_percent)
    axes.set_xlabel("samples in the cluster")
    axes.set_ylabel("share of its largest class")
    draw_grid(axes)
    group_legend(axes, legend)
    return axes.figure


def _draw_clusters(axes, frequencies, sizes, groups) -> dict[str, str]:
    """Dots of clusters; returns the label of each shot group."""
    purity, largest = frequencies.max(axis=1), frequencies.argmax(axis=1)
    legend = {}
    for group, mask in groups.items():
        members = np.flatnonzero(mask[largest] & (sizes > 0))
        if len(members):
            legend[group] = f"{group} ({len(members):,})"
            axes.plot(
                sizes[members],
                purity[members],
                "o",
                color=COLORS[group],
                alpha=0.6,
                markersize=6,
                markeredgewidth=0,
                clip_on=False,
            )
    return legend
