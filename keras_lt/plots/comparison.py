"""Several methods in one figure."""

from collections.abc import Mapping, Sequence

import numpy as np

from keras_lt.counts import Classes
from keras_lt.plots.class_axes import (
    MAX_NAMED,
    accuracies,
    class_axes,
    draw_strip,
)
from keras_lt.plots.style import (
    COLORS,
    DASHES,
    INK,
    MARKERS,
    METHODS,
    as_percent,
    draw_grid,
    group_legend,
    method_labels,
    method_legend,
    new_axes,
    refuse_none,
)


def grouped_bars(
    methods: Mapping[str, Mapping[str, tuple[float, float | None] | None]],
):
    """Accuracy on the shot groups, a row of bars per method.

    Args:
        methods: For each method (its label) and shot group: mean and standard
            deviation over seeds, the latter None where there is one seed; or
            None where the group is empty, which reads n/a.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If there is no method.

    Example:
        >>> figure = keras_lt.plots.grouped_bars({
        ...     "ce": {"many": (0.80, 0.01), "medium": (0.57, 0.02)},
        ...     "cb": {"many": (0.49, None), "medium": (0.66, None)},
        ... })
    """
    refuse_none(methods)
    groups = list(dict.fromkeys(g for m in methods.values() for g in m))
    axes = new_axes(10, 0.8 + 0.2 * len(methods) * (len(groups) + 1))
    height = 1 / (len(groups) + 1)
    for row, scores in enumerate(methods.values()):
        for number, group in enumerate(groups):
            place = row + height * (number - (len(groups) - 1) / 2)
            found = scores.get(group) or (None, None)
            _draw_bar(axes, place, height, COLORS[group], *found)
    axes.set_yticks(range(len(methods)), method_labels(methods))
    axes.set_ylim(len(methods) - 0.5, -0.5)
    axes.set_xlim(0, 1.06)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.xaxis.set_major_formatter(as_percent)
    axes.set_xlabel("accuracy")
    draw_grid(axes, "x")
    group_legend(axes, {group: group for group in groups})
    return axes.figure


def _draw_bar(axes, place, height, color, mean, deviation) -> None:
    if mean is not None:
        axes.barh(place, mean, 0.9 * height, color=color)
    if deviation is not None:
        axes.errorbar(mean, place, xerr=deviation, color=INK, capsize=2, lw=1)
    axes.annotate(
        "n/a" if mean is None else f"{100 * mean:.1f}",
        ((mean or 0) + (deviation or 0), place),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        fontsize=8,
        color=INK,
    )


def compare_per_class(
    methods: Mapping[str, Sequence[float | None]],
    classes: Classes | Sequence[int],
):
    """Accuracy on each class, a line per method; the strip shows shot groups.

    From 40 classes on a line is the mean over neighbors in this order, since
    as many points could not be followed; the axis says over how many classes.

    Args:
        methods: For each method (its label) the accuracy by label id (C,),
            None or NaN where there is no image, which leaves a gap.
        classes: `keras_lt.counts.Classes`, or training images per class,
            integers (C,).

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If there is no method, or the lengths differ.

    Example:
        >>> figure = keras_lt.plots.compare_per_class(
        ...     {"ce": [0.9, 0.2], "cb": [0.7, 0.5]}, [500, 5]
        ... )
    """
    refuse_none(methods)
    classes = Classes.of(classes)
    accuracy = [accuracies(values, classes) for values in methods.values()]
    axes, order, groups = class_axes(classes, 10, 4.6)
    few_classes = len(classes) <= MAX_NAMED
    window = 2 * (len(classes) // 40) + 1
    for number, values in enumerate(accuracy):
        axes.plot(
            _running_mean(values[order], window),
            color=METHODS[number % len(METHODS)],
            linestyle=DASHES[number // len(METHODS) % len(DASHES)],
            linewidth=1.6 if few_classes else 1,
            marker=MARKERS[number % len(MARKERS)] if few_classes else None,
            markersize=5,
            clip_on=False,
        )
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(as_percent)
    neighbors = f", mean over {window} classes" if window > 1 else ""
    axes.set_ylabel("accuracy" + neighbors)
    draw_strip(axes, groups)
    method_legend(axes, axes.lines, methods)
    return axes.figure


def _running_mean(values, window):
    """Mean of the known among `window` values, an odd number, around each;
    NaN stays NaN.
    """
    known = ~np.isnan(values)
    ones = np.ones(window)
    sums = np.convolve(np.where(known, values, 0), ones, mode="same")
    sizes = np.convolve(known, ones, mode="same")
    return np.where(known, sums / np.maximum(sizes, 1), np.nan)


def trade_off(
    methods: Mapping[str, Sequence[tuple[float, float]]],
    x_label: str = "many-shot accuracy",
    y_label: str = "few-shot accuracy",
):
    """Two accuracies against each other: what a method gains and what it costs.

    A faint marker is a seed, tied to the mean of its method; the n-th mean
    bears the number n.

    Args:
        methods: For each method (its label) one (x, y) per seed.
        x_label: Name of x.
        y_label: Name of y.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If there is no method, or one without a seed.

    Example:
        >>> figure = keras_lt.plots.trade_off(
        ...     {"ce": [(0.80, 0.39), (0.81, 0.28)], "cb": [(0.49, 0.67)]}
        ... )
    """
    _refuse_no_seeds(methods)
    axes = new_axes(10, 5.2)
    means, marks = [], []
    for number, seeds in enumerate(methods.values()):
        points = np.asarray(seeds, float)  # (seeds, 2)
        mean = points.mean(axis=0)
        color = METHODS[number % len(METHODS)]
        marker = MARKERS[number % len(MARKERS)]
        _draw_seeds(axes, mean, points, color, marker)
        means.append(mean)
        marks += axes.plot(
            *mean,
            marker,
            color=color,
            markersize=9,
            markeredgecolor=INK,
            markeredgewidth=0.8,
            zorder=3,
        )
    axes.margins(0.1)
    axes.xaxis.set_major_formatter(as_percent)
    axes.yaxis.set_major_formatter(as_percent)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    draw_grid(axes)
    method_legend(axes, marks, methods)
    _number(axes, means)
    return axes.figure


def progress(
    methods: Mapping[str, Sequence[tuple[Sequence[float], Sequence[float]]]],
    x_label: str = "minutes",
    y_label: str = "accuracy",
):
    """Accuracy against what a training has cost so far, a line per seed.

    Args:
        methods: For each method (its label) one (x, y) per seed, of as many
            values each.
        x_label: Name of x.
        y_label: Name of y.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If there is no method, or one without a seed.

    Example:
        >>> figure = keras_lt.plots.progress(
        ...     {"ce": [([1, 2], [0.3, 0.5])], "cb": [([1.5, 3], [0.2, 0.6])]}
        ... )
    """
    _refuse_no_seeds(methods)
    axes = new_axes(10, 5.2)
    marks = []
    for number, seeds in enumerate(methods.values()):
        for x, y in seeds:
            lines = axes.plot(
                x,
                np.asarray(y, float),
                color=METHODS[number % len(METHODS)],
                linestyle=DASHES[number // len(METHODS) % len(DASHES)],
                linewidth=1.4,
                marker="o" if len(x) < 3 else None,
            )
        marks += lines
    axes.yaxis.set_major_formatter(as_percent)
    axes.set_xlim(left=0)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    draw_grid(axes)
    method_legend(axes, marks, methods)
    return axes.figure


def _refuse_no_seeds(methods) -> None:
    refuse_none(methods)
    for name, seeds in methods.items():
        if not len(seeds):
            raise ValueError(
                f"Expected a seed of each method. Received: {name!r} without"
            )


def _draw_seeds(axes, mean, points, color, marker) -> None:
    """Faint markers, tied to their mean."""
    for point in points:
        axes.plot(
            *zip(mean, point, strict=True),
            color=color,
            alpha=0.6,
            linewidth=0.8,
            marker=marker,
            markevery=[1],
            markersize=5,
            markeredgewidth=0,
        )


def _number(axes, means):
    """Writes 1, 2, ... beside `means`, where they meet neither each other nor
    a mean if that can be.
    """
    axes.figure.draw_without_rendering()  # settles the layout
    points = axes.transData.transform(means) * 72 / axes.figure.dpi
    taken = list(points)
    angles = np.pi / 4 * np.array([1, 3, 7, 5, 2, 6, 0, 4])
    around = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    offsets = np.concatenate([13 * around, 24 * around])
    for number, (mean, point) in enumerate(zip(means, points, strict=True), 1):
        distances = [
            min(np.hypot(*(point + offset - other)) for other in taken)
            for offset in offsets
        ]
        best = int(np.argmax(np.minimum(distances, 12)))
        taken.append(point + offsets[best])
        axes.annotate(
            str(number),
            mean,
            xytext=offsets[best],
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=10,
            fontweight="bold",
            color=INK,
            arrowprops={"arrowstyle": "-", "color": INK, "linewidth": 0.6}
            if best >= len(around)
            else None,
        )
