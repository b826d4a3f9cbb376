"""Pictures of runs as matplotlib figures, for TensorBoard and the report.
Classes are ordered from most to fewest training images.
"""

import io
import re
from collections.abc import Mapping, Sequence

import numpy as np

from keras_lt.counts import shot_groups, validate_class_counts
from keras_lt.messages import brief

COLORS = {
    "many": "#2f6db5",
    "medium": "#d9982b",
    "few": "#c8503c",
    "unseen": "#8b93a1",
}
_INK = "#1b2230"
_LINES = ("#2f6db5", "#c8503c", "#d9982b", "#4f9a6b", "#7c5cb0", "#8b93a1")
# Methods: the colours of Okabe and Ito, which the colour-blind tell apart.
# Methods of one colour differ in the line, those of one marker in the colour.
_METHODS = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"),
    "#7f7f7f",
)
_DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)))
_MARKERS = "os^DvPX*<>"
MAX_NAMED = 30
_MAX_LABELLED = 12
_MAX_LABEL = 44
_SHEET_COLUMNS = 10
_MAX_PIXELS = 96
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

    Example:
        >>> figure = keras_lt.plots.class_distribution([500, 50, 5])
        >>> Path("classes.png").write_bytes(keras_lt.plots.to_png(figure)) > 0
        True
    """
    counts = validate_class_counts(class_counts)
    axes, order, groups = _class_axes(counts, class_names, many, few)
    is_log = counts.max() > 20 * counts[counts > 0].min()
    floor = 0.5 if is_log else 0
    heights = np.maximum(counts[order], floor)
    for name, places in groups.items():
        _bars(axes, places, heights[places], COLORS[name], floor)
    labels = [f"{count:,}" for count in counts[order]]
    _label(axes, heights, labels, [_INK] * len(labels))
    if is_log:
        axes.set_yscale("log")
    axes.set_ylim(floor, counts.max() * (2.5 if is_log else 1.1))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.6g}")
    axes.minorticks_off()
    axes.set_ylabel("training images")
    _legend(axes, _sizes(groups))
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

    Example:
        >>> figure = keras_lt.plots.per_class_accuracy(
        ...     [0.9, 0.6, None], class_counts=[500, 50, 5]
        ... )
    """
    counts = validate_class_counts(class_counts)
    values = _accuracies(per_class, counts)
    axes, order, groups = _class_axes(counts, class_names, many, few)
    values = values[order]
    for name, places in groups.items():
        _bars(axes, places, np.nan_to_num(values[places]), COLORS[name], 0)
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
    _cross_out(axes, np.isnan(values))
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(_as_percent)
    axes.set_ylabel("accuracy")
    _legend(axes, _sizes(groups))
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

    Example:
        >>> figure = keras_lt.plots.confusion_matrix(
        ...     [[8, 2], [5, 5]], [500, 5], class_names=["cat", "dog"]
        ... )
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

    Example:
        >>> history = model.fit(
        ...     batches, steps_per_epoch=2, epochs=2, shuffle=False
        ... )
        >>> figure = keras_lt.plots.curves(history.history)
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


def grouped_bars(
    methods: Mapping[str, Mapping[str, tuple[float, float | None] | None]],
):
    """Accuracy on the shot groups, a row of bars a method.

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
    _refuse_none(methods)
    groups = list(dict.fromkeys(g for m in methods.values() for g in m))
    axes = _axes(10, 0.8 + 0.2 * len(methods) * (len(groups) + 1))
    height = 1 / (len(groups) + 1)
    for row, scores in enumerate(methods.values()):
        for number, group in enumerate(groups):
            place = row + height * (number - (len(groups) - 1) / 2)
            mean, deviation = scores.get(group) or (None, None)
            if mean is not None:
                axes.barh(place, mean, 0.9 * height, color=COLORS[group])
            if deviation is not None:
                axes.errorbar(
                    mean, place, xerr=deviation, color=_INK, capsize=2, lw=1
                )
            axes.annotate(
                "n/a" if mean is None else f"{100 * mean:.1f}",
                ((mean or 0) + (deviation or 0), place),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
                color=_INK,
            )
    axes.set_yticks(range(len(methods)), _method_labels(methods))
    axes.set_ylim(len(methods) - 0.5, -0.5)
    axes.set_xlim(0, 1.06)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.xaxis.set_major_formatter(_as_percent)
    axes.set_xlabel("accuracy")
    axes.grid(axis="x", color=_INK, alpha=0.13, linewidth=0.8)
    axes.set_axisbelow(True)
    _legend(axes, {group: group for group in groups})
    return axes.figure


def compare_per_class(
    methods: Mapping[str, Sequence[float | None]],
    class_counts: Sequence[int],
    *,
    class_names: Sequence[str] | None = None,
    many: int = 100,
    few: int = 20,
):
    """Accuracy on each class, a line a method; the strip shows shot groups.

    From 40 classes on it is the mean over neighbours in the order, the label
    saying of how many classes, since as many lines could not be followed.

    Args:
        methods: For each method (its label) the accuracy by label id (C,),
            None or NaN where there is no image, which leaves a gap.
        class_counts: Training images a class, integers (C,).
        class_names: C names, label ids by default.
        many: A class with more training images is many-shot.
        few: A class with fewer training images is few-shot.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If there is no method, or the lengths differ.

    Example:
        >>> figure = keras_lt.plots.compare_per_class(
        ...     {"ce": [0.9, 0.2], "cb": [0.7, 0.5]}, class_counts=[500, 5]
        ... )
    """
    _refuse_none(methods)
    counts = validate_class_counts(class_counts)
    accuracy = [_accuracies(values, counts) for values in methods.values()]
    axes, order, groups = _class_axes(counts, class_names, many, few, 10, 4.6)
    few_classes = len(counts) <= MAX_NAMED
    window = 2 * (len(counts) // 40) + 1
    for number, values in enumerate(accuracy):
        axes.plot(
            _running_mean(values[order], window),
            color=_METHODS[number % len(_METHODS)],
            linestyle=_DASHES[number // len(_METHODS) % len(_DASHES)],
            linewidth=1.6 if few_classes else 1,
            marker=_MARKERS[number % len(_MARKERS)] if few_classes else None,
            markersize=5,
            clip_on=False,
        )
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(_as_percent)
    neighbours = f", mean over {window} classes" if window > 1 else ""
    axes.set_ylabel("accuracy" + neighbours)
    _strip(axes, groups)
    _method_legend(axes, axes.lines, methods)
    return axes.figure


def trade_off(
    methods: Mapping[str, Sequence[tuple[float, float]]],
    x_label: str = "many-shot accuracy",
    y_label: str = "few-shot accuracy",
):
    """Two accuracies against each other: what is won and what is paid.

    A faint marker is a seed, tied to the mean of its method; the n-th mean
    bears the number n.

    Args:
        methods: For each method (its label) one (x, y) a seed.
        x_label: What x is.
        y_label: What y is.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If there is no method, or one without a seed.

    Example:
        >>> figure = keras_lt.plots.trade_off(
        ...     {"ce": [(0.80, 0.39), (0.81, 0.28)], "cb": [(0.49, 0.67)]}
        ... )
    """
    _refuse_none(methods)
    axes = _axes(10, 5.2)
    means, marks = [], []
    for number, (name, seeds) in enumerate(methods.items()):
        if not len(seeds):
            raise ValueError(
                f"Expected a seed of each method. Received: {name!r} without"
            )
        points = np.asarray(seeds, float)  # (seeds, 2)
        mean = points.mean(axis=0)
        color = _METHODS[number % len(_METHODS)]
        marker = _MARKERS[number % len(_MARKERS)]
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
        means.append(mean)
        marks += axes.plot(
            *mean,
            marker,
            color=color,
            markersize=9,
            markeredgecolor=_INK,
            markeredgewidth=0.8,
            zorder=3,
        )
    axes.margins(0.1)
    axes.xaxis.set_major_formatter(_as_percent)
    axes.yaxis.set_major_formatter(_as_percent)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(color=_INK, alpha=0.13, linewidth=0.8)
    axes.set_axisbelow(True)
    _method_legend(axes, marks, methods)
    _number(axes, means)
    return axes.figure


def contact_sheets(sheets: Mapping[str, tuple[np.ndarray, Sequence[float]]]):
    """Small images side by side in sheets, each with a number beneath.

    A sheet has rows of 10. An image of more than 96 pixels a side is shown
    by means over blocks of pixels.

    Args:
        sheets: For each sheet (its title) images (n, H, W, C) from 0 to 255,
            C being 1 or 3, and their n numbers. n may be 0.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If there is no sheet; if images have another shape or
            range, or not one number each; or if H, W differ between sheets.

    Example:
        >>> drawn, left = [0, 1, 2], [3, 4]
        >>> figure = keras_lt.plots.contact_sheets(
        ...     {
        ...         "drawn": (images[drawn], p[drawn]),
        ...         "left out": (images[left], p[left]),
        ...     }
        ... )
    """
    if not sheets:
        raise ValueError(
            f"Expected at least one sheet. Received: sheets={sheets!r}"
        )
    sizes = set()
    for title, (images, values) in sheets.items():
        shape = np.shape(images)
        if len(shape) != 4 or shape[3] not in (1, 3) or 0 in shape[1:]:
            raise ValueError(
                "Expected images of shape (n, H, W, 1 or 3). "
                f"Received: shape {shape} in {title!r}"
            )
        if len(values) != shape[0]:
            raise ValueError(
                f"Expected a number for each of {shape[0]} images. "
                f"Received: {len(values)} in {title!r}"
            )
        if shape[0] and not (np.min(images) >= 0 and np.max(images) <= 255):
            raise ValueError(
                "Expected images from 0 to 255. Received: values from "
                f"{np.min(images)} to {np.max(images)} in {title!r}"
            )
        sizes.add(shape[1:3])
    if len(sizes) > 1:
        raise ValueError(
            "Expected images of one height and width. "
            f"Received: {brief(sorted(sizes))}"
        )
    ((height, width),) = sizes
    # In widths of an image: gaps, and what its number takes.
    place, line = 1.1, height / width + 0.36
    rows = max(1, *(-(-len(v) // _SHEET_COLUMNS) for _, v in sheets.values()))
    right = place * _SHEET_COLUMNS - 0.1
    each = 10 / len(sheets)
    figure = _figure(10, 0.4 + each / right * line * rows)
    figure.get_layout_engine().set(w_pad=0.12)
    for number, (title, (images, values)) in enumerate(
        zip(_method_labels(sheets), sheets.values(), strict=True), 1
    ):
        axes = figure.add_subplot(1, len(sheets), number)
        for item, (image, value) in enumerate(
            zip(_thumbnails(images), values, strict=True)
        ):
            row, column = divmod(item, _SHEET_COLUMNS)
            left, bottom = place * column, line * row + height / width
            axes.imshow(
                image,
                extent=(left, left + 1, bottom, line * row),
                interpolation="none",
            )
            axes.text(
                left + 0.5,
                bottom + 0.05,
                f"{value:.3f}",
                ha="center",
                va="top",
                fontsize=7,
                color=_INK,
            )
        axes.set(xlim=(0, right), ylim=(line * rows, 0), aspect="equal")
        axes.set_title(title, loc="left", color=_INK, fontsize=10)
        axes.set_axis_off()
    return figure


def share_histogram(
    values: Mapping[str, Sequence[float]],
    x_label: str,
    bins: int = 20,
    *,
    limits: tuple[float, float] = (0, 1),
    colors: Sequence[str] = _LINES,
    threshold: float | None = None,
):
    """Share of each set of values by bins.

    Args:
        values: For each set (its label) numbers within `limits`. A set
            without one is flat.
        x_label: What the numbers are.
        bins: Bins of equal width.
        limits: Lower and upper end of the bins.
        colors: Of the sets, from the first again where there are more.
        threshold: Where to draw a line, if anywhere.

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
    low, high = limits
    axes = _axes(6, 3.4)
    for number, (name, numbers) in enumerate(values.items()):
        numbers = np.asarray(numbers, float)
        if not ((numbers >= low) & (numbers <= high)).all():  # NaN too
            raise ValueError(
                f"Expected numbers from {low:.6g} to {high:.6g}. "
                f"Received: {name}={brief(numbers)}"
            )
        counts, edges = np.histogram(numbers, bins, limits)
        shares = counts / max(len(numbers), 1)
        color = colors[number % len(colors)]
        axes.stairs(shares, edges, fill=True, color=color, alpha=0.2)
        axes.stairs(shares, edges, color=color, linewidth=1.6)
    marks, labels = axes.patches[1::2], _method_labels(values)
    if threshold is not None:
        marks.append(
            axes.axvline(threshold, color=_INK, linestyle=(0, (4, 2)), lw=1.2)
        )
        labels.append("threshold")
    margin = 0.01 * (edges[-1] - edges[0])
    axes.set_xlim(edges[0] - margin, edges[-1] + margin)
    axes.set_ylim(0)
    axes.yaxis.set_major_formatter(_as_percent)
    axes.set_xlabel(x_label)
    axes.set_ylabel("share of each set")
    axes.grid(axis="y", color=_INK, alpha=0.13, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.legend(
        marks,
        labels,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=4,
        frameon=False,
        labelcolor=_INK,
        fontsize=9,
        columnspacing=1.2,
        handlelength=1.4,
        handleheight=0.9,
        borderaxespad=0.2,
    )
    return axes.figure


def level_shares(
    levels: Mapping[str, Sequence[int]],
    class_counts: Sequence[int],
    *,
    class_names: Sequence[str] | None = None,
    many: int = 100,
    few: int = 20,
):
    """Which levels the samples of each class are at, as shares of the class.

    The strip shows shot groups. A cross on the axis (n/a, where there are few
    classes) marks a class without a sample.

    Args:
        levels: For each level (its label) its samples by label id (C,). The
            first lies at the bottom.
        class_counts: Training images a class, integers (C,).
        class_names: C names, label ids by default.
        many: A class with more training images is many-shot.
        few: A class with fewer training images is few-shot.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If there is no level, or the lengths differ.

    Example:
        >>> figure = keras_lt.plots.level_shares(
        ...     {"level 1": [400, 1], "left": [100, 4]}, class_counts=[500, 5]
        ... )
    """
    if not levels:
        raise ValueError(
            f"Expected at least one level. Received: levels={levels!r}"
        )
    counts = validate_class_counts(class_counts)
    for name, samples in levels.items():
        if np.shape(samples) != counts.shape:
            raise ValueError(
                f"Expected samples of {len(counts)} classes. "
                f"Received: shape {np.shape(samples)} in {name!r}"
            )
    axes, order, groups = _class_axes(counts, class_names, many, few, 10, 4.2)
    samples = np.stack([np.asarray(row)[order] for row in levels.values()])
    sizes = samples.sum(axis=0)
    tops = np.cumsum(samples, axis=0) / np.maximum(sizes, 1)  # (levels, C)
    places = np.arange(len(counts))
    # Each from 0 and before the one above it: half the outline.
    for top, color in reversed(
        list(zip(tops, _shades(len(tops)), strict=True))
    ):
        _bars(axes, places, top, color, 0)
    bars = axes.patches[::-1]
    absent = sizes == 0
    labels = ["n/a" if missing else "" for missing in absent]
    _label(axes, tops[-1], labels, [_INK] * len(labels))
    _cross_out(axes, absent)
    axes.set_ylim(-0.03, 1)  # the strip lies below the bars
    axes.yaxis.set_major_formatter(_as_percent)
    axes.set_ylabel("share of the class")
    _strip(axes, groups)
    _method_legend(axes, bars, levels)
    return axes.figure


def cluster_purity(
    frequencies: np.ndarray,
    sizes: Sequence[int],
    class_counts: Sequence[int],
    *,
    many: int = 100,
    few: int = 20,
):
    """Share of the largest class in each cluster, against the cluster's size.

    The colour is the shot group of that class. Empty clusters are not shown;
    the line is at the purity that one cluster of all samples would have.

    Args:
        frequencies: Shares of the classes in each cluster (K, C), as
            `keras_lt.division.class_frequencies` gives them.
        sizes: Samples in each cluster (K,).
        class_counts: Training images a class, integers (C,).
        many: A class with more training images is many-shot.
        few: A class with fewer training images is few-shot.

    Returns:
        A `matplotlib.figure.Figure`.

    Raises:
        ValueError: If the shapes do not fit, or all clusters are empty.

    Example:
        >>> figure = keras_lt.plots.cluster_purity(
        ...     np.array([[0.9, 0.1], [0.25, 0.75]]), [50, 4], [500, 5]
        ... )
    """
    counts = validate_class_counts(class_counts)
    frequencies, sizes = np.asarray(frequencies), np.asarray(sizes)
    if sizes.ndim != 1 or frequencies.shape != (len(sizes), len(counts)):
        raise ValueError(
            f"Expected frequencies (K, {len(counts)}) and sizes (K,). "
            f"Received: shapes {frequencies.shape}, {sizes.shape}"
        )
    if not sizes.any():
        raise ValueError(
            f"Expected a cluster with samples. Received: sizes={sizes}"
        )
    purity, largest = frequencies.max(axis=1), frequencies.argmax(axis=1)
    axes = _axes(6, 3.4)
    legend = {}
    for group, mask in shot_groups(counts, many=many, few=few).items():
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
    axes.axhline(
        (sizes @ frequencies).max() / sizes.sum(),
        color=_INK,
        linestyle=(0, (4, 2)),
        linewidth=1.2,
    )
    filled = sizes[sizes > 0]
    axes.set_xscale("log")
    axes.set_xlim(filled.min() / 1.6, filled.max() * 1.6)
    # Of 1, 2 and 5 one lies in any range of these limits.
    axes.xaxis.get_major_locator().set_params(subs=(1, 2, 5))
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.6g}")
    axes.minorticks_off()
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(_as_percent)
    axes.set_xlabel("samples in the cluster")
    axes.set_ylabel("share of its largest class")
    axes.grid(color=_INK, alpha=0.13, linewidth=0.8)
    axes.set_axisbelow(True)
    _legend(axes, legend)
    return axes.figure


def to_png(figure, dpi: int = 110) -> bytes:
    """The figure as PNG on white.

    Example:
        >>> figure = keras_lt.plots.class_distribution([500, 50, 5])
        >>> keras_lt.plots.to_png(figure)[1:4]
        b'PNG'
    """
    buffer = io.BytesIO()
    _save(figure, buffer, format="png", facecolor="white", dpi=dpi)
    return buffer.getvalue()


def to_svg(figure) -> str:
    """The figure as an `<svg>` element to put into a page.

    It has no background, and its text takes the page's font and colour.

    Example:
        >>> figure = keras_lt.plots.class_distribution([500, 50, 5])
        >>> keras_lt.plots.to_svg(figure)[:4]
        '<svg'
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


def _class_axes(counts, class_names, many, few, width=None, height=3.4):
    """Axes with a place a class, their order, and places a shot group."""
    num_classes = len(counts)
    names = _names(class_names, num_classes)
    order = _order(counts)
    axes = _axes(width or (6 if num_classes <= MAX_NAMED else 10), height)
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


def _bars(axes, places, heights, color, floor):
    """Bars as one outline, which stays small for thousands of classes."""
    if len(places) <= 200:
        edges = np.stack([places - 0.4, places + 0.4], axis=1).ravel()
        levels = np.full(2 * len(places) - 1, floor, float)
        levels[::2] = heights
    else:  # without gaps
        edges, levels = np.append(places - 0.5, places[-1] + 0.5), heights
    axes.stairs(levels, edges, baseline=floor, fill=True, color=color)


def _cross_out(axes, absent):
    """A cross on the axis for each absent class, where bars have no labels."""
    if len(absent) > _MAX_LABELLED:
        places = np.flatnonzero(absent)
        heights = np.full(len(places), 0.02)
        axes.plot(places, heights, "x", color=_INK, markersize=4)


def _strip(axes, groups):
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
    legend = _legend(axes, _sizes(groups))
    axes.add_artist(legend)  # one axes holds one legend, and artists
    legend.set_clip_on(False)


def _shades(size):
    """Colours from dark to light, of no shot group's hue."""
    dark, light = np.array([[0x1F, 0x6B, 0x5C], [0xBC, 0xDF, 0xD3]]) / 255
    return [
        tuple(dark + (light - dark) * part) for part in np.linspace(0, 1, size)
    ]


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


def _sizes(groups):
    return {
        name: f"{name} ({len(places):,})" for name, places in groups.items()
    }


def _legend(axes, groups):
    """Legend of shot groups, `groups` holding their labels."""
    from matplotlib.patches import Patch

    return axes.legend(
        handles=[
            Patch(color=COLORS[name], label=label)
            for name, label in groups.items()
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


def _method_legend(axes, marks, methods):
    axes.legend(
        marks,
        _method_labels(methods),
        loc="upper left",
        bbox_to_anchor=(1.01, 1),
        frameon=False,
        labelcolor=_INK,
        fontsize=9,
        handlelength=2.4,
        borderaxespad=0,
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
            color=_INK,
            arrowprops={"arrowstyle": "-", "color": _INK, "linewidth": 0.6}
            if best >= len(around)
            else None,
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


def _method_labels(methods):
    """Names cut in the middle: a suffix often tells them apart."""
    names = (
        name if len(name) <= _MAX_LABEL else f"{name[:21]}…{name[-22:]}"
        for name in methods
    )
    return [name.replace("$", r"\$") for name in names]


def _thumbnails(images):
    """Images as uint8 (n, h, w, 3), at most _MAX_PIXELS a side."""
    images = np.asarray(images)
    step = -(-max(images.shape[1:3]) // _MAX_PIXELS)
    for axis in (1, 2):
        starts = np.arange(0, images.shape[axis], step)
        sizes = np.diff(starts, append=images.shape[axis])
        images = np.add.reduceat(images, starts, axis, float)
        images /= sizes.reshape([-1 if i == axis else 1 for i in range(4)])
    images = np.rint(images).astype(np.uint8)
    return np.repeat(images, 3 // images.shape[3], axis=3)


def _running_mean(values, window):
    """Mean of the known among `window` values, an odd number, around each;
    NaN stays NaN.
    """
    known = ~np.isnan(values)
    ones = np.ones(window)
    sums = np.convolve(np.where(known, values, 0), ones, mode="same")
    sizes = np.convolve(known, ones, mode="same")
    return np.where(known, sums / np.maximum(sizes, 1), np.nan)


def _accuracies(per_class, counts):
    values = np.array([np.nan if v is None else v for v in per_class], float)
    if values.shape != counts.shape:
        raise ValueError(
            f"Expected {len(counts)} values in `per_class`. "
            f"Received: len(per_class)={len(values)}"
        )
    return values


def _refuse_none(methods):
    if not methods:
        raise ValueError(
            f"Expected at least one method. Received: methods={methods!r}"
        )


def _as_percent(value, _):
    return f"{100 * value:.6g}%"


def _order(counts):
    return np.argsort(-counts, kind="stable")


def _order_note(num_classes):
    return ", most to fewest images" if num_classes > MAX_NAMED else ""
