"""Axes with a place for each class, from most to fewest training images."""

from collections.abc import Sequence

import numpy as np

from keras_lt.counts import Classes
from keras_lt.plots.style import COLORS, INK, draw_grid, group_legend, new_axes

MAX_NAMED = 30  # classes whose names stand at the axis
MAX_LABELED = 12  # classes whose values stand at the bars
_NO_GAPS = 200


def class_axes(classes: Classes, width: float | None = None, height=3.4):
    """Axes, the order of the classes, and the places of each shot group."""
    size = len(classes)
    order = order_of(classes)
    axes = new_axes(width or (6 if size <= MAX_NAMED else 10), height)
    draw_grid(axes, "y")
    axes.set_xlim(-0.7, size - 0.3)
    if size <= MAX_NAMED:
        axes.set_xticks(
            range(size),
            short_names(classes, order),
            rotation=45,
            ha="right",
            rotation_mode="anchor",
        )
    else:
        axes.set_xticks([])
        axes.set_xlabel(f"{size:,} classes" + order_note(size))
    groups = {
        name: np.flatnonzero(mask[order])
        for name, mask in classes.groups.items()
        if mask.any()
    }
    return axes, order, groups


def order_of(classes: Classes) -> np.ndarray:
    """Label ids from most to fewest training images."""
    return np.argsort(-classes.counts, kind="stable")


def order_note(size: int) -> str:
    """A note on the order, where classes are not named."""
    return ", most to fewest images" if size > MAX_NAMED else ""


def short_names(classes: Classes, order: np.ndarray) -> list[str]:
    """Names in order, cut to 20 characters; matplotlib reads $ as math."""
    names = (classes.names[label] for label in order)
    names = (n if len(n) <= 20 else n[:19] + "…" for n in names)
    return [name.replace("$", r"\$") for name in names]


def accuracies(
    per_class: Sequence[float | None], classes: Classes
) -> np.ndarray:
    """Values (C,), NaN for None.

    Raises:
        ValueError: If there is not one for each class.
    """
    values = np.array([np.nan if v is None else v for v in per_class], float)
    if values.shape != (len(classes),):
        raise ValueError(
            f"Expected {len(classes)} values in `per_class`. "
            f"Received: len(per_class)={len(values)}"
        )
    return values


def sizes_of(groups: dict[str, np.ndarray]) -> dict[str, str]:
    """Labels that say how many classes a shot group has."""
    return {
        name: f"{name} ({len(places):,})" for name, places in groups.items()
    }


def draw_bars(axes, places, heights, color, floor: float = 0) -> None:
    """Bars as one outline, which stays small for thousands of classes."""
    if len(places) <= _NO_GAPS:
        edges = np.stack([places - 0.4, places + 0.4], axis=1).ravel()
        levels = np.full(2 * len(places) - 1, floor, float)
        levels[::2] = heights
    else:
        edges, levels = np.append(places - 0.5, places[-1] + 0.5), heights
    axes.stairs(levels, edges, baseline=floor, fill=True, color=color)


def label_bars(axes, heights, labels, colors) -> None:
    """Values at the bars, where there are few."""
    if len(labels) > MAX_LABELED:
        return
    rows = zip(heights, labels, colors, strict=True)
    for place, (height, label, color) in enumerate(rows):
        axes.annotate(
            label,
            (place, height),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color=color,
        )


def cross_out(axes, absent: np.ndarray) -> None:
    """A cross on the axis for each absent class, where bars have no labels."""
    if len(absent) > MAX_LABELED:
        places = np.flatnonzero(absent)
        heights = np.full(len(places), 0.02)
        axes.plot(places, heights, "x", color=INK, markersize=4)


def draw_strip(axes, groups: dict[str, np.ndarray]) -> None:
    """Shot groups along the lower edge, with a legend that leaves room for
    another one.
    """
    for group, places in groups.items():
        axes.axvspan(
            places[0] - 0.5,
            places[-1] + 0.5,
            ymax=0.02,
            color=COLORS[group],
            linewidth=0,
        )
    legend = group_legend(axes, sizes_of(groups))
    axes.add_artist(legend)  # one axes holds one legend, and artists
    legend.set_clip_on(False)
