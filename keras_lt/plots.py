"""Pictures of a run as matplotlib figures, for TensorBoard and the report.
Classes are ordered from most to fewest training images.
"""

import io
import re
from collections.abc import Sequence

import numpy as np

from keras_lt.counts import shot_groups, validate_class_counts

COLORS = {
    "many": "#2f6db5",
    "medium": "#d9982b",
    "few": "#c8503c",
    "unseen": "#8b93a1",
}
_INK = "#1b2230"
_LINES = ("#2f6db5", "#c8503c", "#d9982b", "#4f9a6b", "#7c5cb0", "#8b93a1")
MAX_NAMED = 30
_MAX_LABELLED = 12
_RC = {
    "font.family": "sans-serif",
    "font.size": 10,
    "svg.fonttype": "none",
    "svg.hashsalt": "keras_lt",
    "axes.unicode_minus": False,
}


def class_distribution(
    class_counts: Sequence[int],
    *,
    class_names: Sequence[str] | None = None,
    many: int = 100,
    few: int = 20,
):
    """Training images a class, coloured by shot group.

    The axis is logarithmic where the largest class has over 20 times the
    images of the smallest that has any.

    Args:
        class_counts: Training images a class, integers (C,).
        class_names: C names, label ids by default.
        many: A class with more training images is many-shot.
        few: A class with fewer training images is few-shot.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If `class_counts` are not counts, or the number of names
            differs.
    """
    counts = validate_class_counts(class_counts)
    axes, order, groups = _class_axes(counts, class_names, many, few)
    is_log = counts.max() > 20 * counts[counts > 0].min()
    floor = 0.5 if is_log else 0
    heights = np.maximum(counts[order], floor)
    for name, places in groups.items():
        _bars(axes, places, heights[places], name, floor)
    labels = [f"{count:,}" for count in counts[order]]
    _label(axes, heights, labels, [_INK] * len(labels))
    if is_log:
        axes.set_yscale("log")
    axes.set_ylim(floor, counts.max() * (2.5 if is_log else 1.1))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.6g}")
    axes.minorticks_off()
    axes.set_ylabel("training images")
    _legend(axes, groups)
    return axes.figure


def per_class_accuracy(
    per_class: Sequence[float | None],
    class_counts: Sequence[int],
    *,
    class_names: Sequence[str] | None = None,
    many: int = 100,
    few: int = 20,
):
    """Accuracy on each class, with a line at the mean of each shot group.

    A cross on the axis (n/a, where bars are labelled) marks a class without
    an image.

    Args:
        per_class: Accuracy by label id (C,), None or NaN where there is
            no image.
        class_counts: Training images a class, integers (C,).
        class_names: C names, label ids by default.
        many: A class with more training images is many-shot.
        few: A class with fewer training images is few-shot.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If the lengths differ.
    """
    counts = validate_class_counts(class_counts)
    values = np.array([np.nan if v is None else v for v in per_class], float)
    if values.shape != counts.shape:
        raise ValueError(
            f"Expected {len(counts)} values in `per_class`. "
            f"Received: len(per_class)={len(values)}"
        )
    axes, order, groups = _class_axes(counts, class_names, many, few)
    values = values[order]
    for name, places in groups.items():
        _bars(axes, places, np.nan_to_num(values[places]), name, 0)
        known = values[places][~np.isnan(values[places])]
        if len(known):
            axes.hlines(
                known.mean(),
                places[0] - 0.5,
                places[-1] + 0.5,
                color=_INK,
                linestyle=(0, (4, 2)),
                linewidth=1,
            )
    _label(
        axes,
        np.where(values > 0.1, 0, np.nan_to_num(values)),
        ["n/a" if np.isnan(v) else f"{100 * v:.1f}" for v in values],
        ["#ffffff" if v > 0.1 else _INK for v in values],
    )
    if len(values) > _MAX_LABELLED:
        absent = np.flatnonzero(np.isnan(values))
        heights = np.full(len(absent), 0.02)
        axes.plot(absent, heights, "x", color=_INK, markersize=4)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f}%")
    axes.set_ylabel("accuracy")
    _legend(axes, groups)
    return axes.figure


def confusion_matrix(
    confusion: Sequence[Sequence[int]],
    class_counts: Sequence[int],
    *,
    class_names: Sequence[str] | None = None,
):
    """Share of each true class' images (row) by predicted class (column).

    Args:
        confusion: Images (C, C), rows are true classes.
        class_counts: Training images a class, integers (C,).
        class_names: C names, label ids by default.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If the shape is not (C, C).
    """
    counts = validate_class_counts(class_counts)
    confusion = np.asarray(confusion)
    num_classes = len(counts)
    if confusion.shape != (num_classes, num_classes):
        raise ValueError(
            f"Expected `confusion` of shape ({num_classes}, {num_classes}). "
            f"Received: confusion.shape={confusion.shape}"
        )
    names = _names(class_names, num_classes)
    order = _order(counts)
    confusion = confusion[np.ix_(order, order)]
    share = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    # Alpha carries the share, so that the picture suits any background.
    image = np.empty((num_classes, num_classes, 4))
    image[..., :3] = np.array([0x2F, 0x6D, 0xB5]) / 255
    image[..., 3] = share**0.6
    axes = _axes(6, 5.4)
    axes.imshow(image, interpolation="none")
    if num_classes <= _MAX_LABELLED:
        for row, column in zip(*np.nonzero(confusion), strict=True):
            axes.text(
                column,
                row,
                f"{100 * share[row, column]:.0f}",
                ha="center",
                va="center",
                fontsize=9,
                color="#ffffff" if share[row, column] > 0.4 else _INK,
            )
    axes.set_xlabel("predicted class" + _order_note(num_classes))
    axes.set_ylabel("true class")
    if num_classes <= MAX_NAMED:
        labels = [names[i] for i in order]
        axes.set_xticks(range(num_classes), labels, rotation=45, ha="right")
        axes.set_yticks(range(num_classes), labels)
    else:
        axes.set(xticks=[], yticks=[])
    for side in axes.spines.values():
        side.set(visible=True, alpha=0.3)
    return axes.figure


def curves(history: dict[str, Sequence[float]]):
    """One small panel a metric; `val_` values share the panel of their own.

    Many, medium, few and unseen share one panel. Entries that are not a list
    of numbers are left out.

    Args:
        history: `keras.callbacks.History().history`, or a record's.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If no entry holds numbers.
    """
    panels = {}
    for key, values in history.items():
        if not len(values) or any(
            v is not None and not np.isscalar(v) for v in values
        ):
            continue
        base = key.removeprefix("val_")
        title = "shot groups" if base in COLORS else base.replace("_", " ")
        panels.setdefault(title, []).append((key, values))
    if not panels:
        raise ValueError(
            "Expected a `history` with numbers. "
            f"Received: history with keys {list(history)}"
        )
    rows = -(-len(panels) // 2)
    figure = _figure(6, 2.5 * rows)
    figure.get_layout_engine().set(h_pad=0.12, w_pad=0.12)
    for place, (title, lines) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(rows, 2, place)
        _style(axes)
        for number, (key, values) in enumerate(lines):
            values = [np.nan if v is None else v for v in values]
            base = key.removeprefix("val_")
            axes.plot(
                np.arange(1, len(values) + 1),
                values,
                color=COLORS.get(base, _LINES[number % len(_LINES)]),
                linewidth=1.6,
                marker="o" if len(values) < 3 else None,
                label=key.replace("_", " "),
            )
        axes.set_title(title, loc="left", color=_INK, fontsize=10)
        axes.grid(axis="y", color=_INK, alpha=0.13, linewidth=0.8)
        longest = max(len(values) for _, values in lines)
        axes.set_xlim(1 - 0.02 * longest, longest + 0.02 * longest)
        axes.xaxis.get_major_locator().set_params(integer=True)
        if len(lines) > 1:
            axes.legend(frameon=False, labelcolor=_INK, fontsize=8)
        if place > len(panels) - 2:
            axes.set_xlabel("epoch")
    return figure


def to_png(figure, dpi: int = 110) -> bytes:
    """The figure as PNG on white."""
    buffer = io.BytesIO()
    _save(figure, buffer, format="png", facecolor="white", dpi=dpi)
    return buffer.getvalue()


def to_svg(figure) -> str:
    """The figure as an `<svg>` element to put into a page.

    It has no background, and its text takes the page's font and colour.
    """
    buffer = io.StringIO()
    _save(figure, buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(_INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Names of groups would repeat from one picture of a page to the next.
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r"font: ([^;\"]*?px) [^;\"]*", r"font: \1 inherit", svg)
    return re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)


def _save(figure, buffer, **arguments):
    import matplotlib

    with matplotlib.rc_context(_RC):
        figure.savefig(buffer, bbox_inches="tight", **arguments)


def _figure(width: float, height: float):
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_RC):
        return Figure(
            figsize=(width, height), facecolor="none", layout="constrained"
        )


def _axes(width: float, height: float):
    axes = _figure(width, height).add_subplot()
    _style(axes)
    return axes


def _style(axes):
    axes.set_facecolor("none")
    for name, side in axes.spines.items():
        side.set_visible(name == "bottom")
        side.set(color=_INK, linewidth=0.8)
    axes.tick_params(colors=_INK, length=0, labelsize=9)
    axes.xaxis.label.set_color(_INK)
    axes.yaxis.label.set_color(_INK)


def _class_axes(counts, class_names, many, few):
    """Axes with a place a class, their order, and places a shot group."""
    num_classes = len(counts)
    names = _names(class_names, num_classes)
    order = _order(counts)
    axes = _axes(6 if num_classes <= MAX_NAMED else 10, 3.4)
    axes.grid(axis="y", color=_INK, alpha=0.13, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlim(-0.7, num_classes - 0.3)
    if num_classes <= MAX_NAMED:
        axes.set_xticks(
            range(num_classes),
            [names[i] for i in order],
            rotation=45,
            ha="right",
            rotation_mode="anchor",
        )
    else:
        axes.set_xticks([])
        axes.set_xlabel(f"{num_classes:,} classes" + _order_note(num_classes))
    members = shot_groups(counts, many=many, few=few)
    groups = {
        name: np.flatnonzero(mask[order])
        for name, mask in members.items()
        if mask.any()
    }
    return axes, order, groups


def _bars(axes, places, heights, group, floor):
    """Bars as one outline, which stays small for thousands of classes."""
    half = 0.4 if len(places) <= 200 else 0.5
    edges = np.stack([places - half, places + half], axis=1).ravel()
    levels = np.full(2 * len(places) - 1, floor, float)
    levels[::2] = heights
    axes.stairs(levels, edges, baseline=floor, fill=True, color=COLORS[group])


def _label(axes, heights, labels, colors):
    if len(labels) > _MAX_LABELLED:
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


def _legend(axes, groups):
    from matplotlib.patches import Patch

    axes.legend(
        handles=[
            Patch(color=COLORS[name], label=f"{name} ({len(places):,})")
            for name, places in groups.items()
        ],
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=4,
        frameon=False,
        labelcolor=_INK,
        fontsize=9,
        handlelength=0.9,
        handleheight=0.9,
        borderaxespad=0.2,
    )


def _names(class_names, num_classes):
    if class_names is None:
        return [str(i) for i in range(num_classes)]
    if len(class_names) != num_classes:
        raise ValueError(
            f"Expected {num_classes} class names. "
            f"Received: len(class_names)={len(class_names)}"
        )
    names = [n if len(n) <= 20 else n[:19] + "…" for n in map(str, class_names)]
    return [name.replace("$", r"\$") for name in names]


def _order(counts):
    return np.argsort(-counts, kind="stable")


def _order_note(num_classes):
    return ", most to fewest images" if num_classes > MAX_NAMED else ""
