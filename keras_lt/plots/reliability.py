"""Whether probabilities hold: accuracy against confidence."""

from collections.abc import Mapping

from keras_lt.plots.style import (
    COLORS,
    INK,
    as_percent,
    draw_grid,
    label_above,
    new_axes,
    refuse_none,
)

_LARGEST = 11  # size of the marker of a bin that has all images


def reliability(groups: Mapping[str, Mapping | None]):
    """Accuracy against confidence, of all images and by shot group.

    On the dashed line answers are right as often as they say; below it they are
    too sure. A marker is a bin, larger where it has more of the group's images.

    Args:
        groups: What `keras_lt.evaluation.reliability` gives.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If there is no group with an image.

    Example:
        >>> figure = keras_lt.plots.reliability({
        ...     "few": {
        ...         "images": [8, 2],
        ...         "confidence": [0.4, 0.9],
        ...         "accuracy": [0.3, 0.5],
        ...         "ece": 0.16,
        ...     }
        ... })
    """
    known = {name: group for name, group in groups.items() if group}
    refuse_none(known)
    axes = new_axes(6, 4.6)
    marks, labels = [], []
    for name, group in known.items():
        total = sum(group["images"])
        bins = [
            (x, y, _LARGEST * (images / total) ** 0.5)
            for x, y, images in zip(
                group["confidence"],
                group["accuracy"],
                group["images"],
                strict=True,
            )
            if images
        ]
        color = COLORS.get(name, INK)
        x, y, sizes = zip(*bins, strict=True)
        marks += axes.plot(x, y, color=color, linewidth=1.4)
        axes.scatter(x, y, [size**2 for size in sizes], color=color, zorder=3)
        labels.append(f"{name} ({100 * group['ece']:.1f})")
    axes.plot([0, 1], [0, 1], color=INK, linestyle=(0, (4, 2)), linewidth=1)
    axes.set_xlim(0, 1.02)
    axes.set_ylim(0, 1.02)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(as_percent)
    axes.set_xlabel("probability of the predicted class")
    axes.set_ylabel("share of right answers")
    draw_grid(axes)
    label_above(
        axes,
        handles=marks,
        labels=labels,
        columnspacing=1.2,
        handlelength=1.4,
        title="shot group of the predicted class (ECE in percent)",
        title_fontsize=9,
        alignment="left",
    )
    return axes.figure
