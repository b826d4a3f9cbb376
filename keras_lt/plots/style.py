"""Colors, axes and legends that all figures share."""

import numpy as np

COLORS = {
    "many": "#2f6db5",
    "medium": "#d9982b",
    "few": "#c8503c",
    "unseen": "#8b93a1",
}
INK = "#1b2230"
LINES = ("#2f6db5", "#c8503c", "#d9982b", "#4f9a6b", "#7c5cb0", "#8b93a1")
# Methods have the colors of Okabe and Ito, which color-blind people can tell
# apart. Methods of one color differ in the line, those of one marker in the
# color.
METHODS = (
    *("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"),
    "#7f7f7f",
)
DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)))
MARKERS = "os^DvPX*<>"
RC = {
    "font.family": "sans-serif",
    "font.size": 10,
    "svg.fonttype": "none",
    "svg.hashsalt": "keras_lt",
    "axes.unicode_minus": False,
}
_LONGEST_LABEL = 44


def new_figure(width: float, height: float):
    """A figure without a background, of that many inches."""
    # matplotlib takes long to import, and most programs draw nothing.
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(RC):
        return Figure(
            figsize=(width, height), facecolor="none", layout="constrained"
        )


def new_axes(width: float, height: float):
    """The axes of a new figure."""
    axes = new_figure(width, height).add_subplot()
    style_axes(axes)
    return axes


def style_axes(axes) -> None:
    """A line at the bottom alone, and small labels."""
    axes.set_facecolor("none")
    for name, side in axes.spines.items():
        side.set_visible(name == "bottom")
        side.set(color=INK, linewidth=0.8)
    axes.tick_params(colors=INK, length=0, labelsize=9)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)


def draw_grid(axes, axis: str = "both") -> None:
    """Faint lines at the ticks, behind everything else."""
    axes.grid(axis=axis, color=INK, alpha=0.13, linewidth=0.8)
    axes.set_axisbelow(True)


def as_percent(value: float, _=None) -> str:
    """A tick of an axis of fractions."""
    return f"{100 * value:.6g}%"


def as_number(value: float, _=None) -> str:
    """A tick of an axis of counts."""
    return f"{value:,.6g}"


def shades(size: int) -> list[tuple[float, ...]]:
    """Colors from dark to light, of no shot group's hue."""
    dark, light = np.array([[0x1F, 0x6B, 0x5C], [0xBC, 0xDF, 0xD3]]) / 255
    return [
        tuple(dark + (light - dark) * part) for part in np.linspace(0, 1, size)
    ]


def label_above(axes, **arguments):
    """A legend in one line above the axes."""
    return axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=4,
        frameon=False,
        labelcolor=INK,
        fontsize=9,
        handleheight=0.9,
        borderaxespad=0.2,
        **arguments,
    )


def group_legend(axes, labels: dict[str, str]):
    """Legend of shot groups, `labels` by name of the group."""
    from matplotlib.patches import Patch

    handles = [
        Patch(color=COLORS[name], label=label) for name, label in labels.items()
    ]
    return label_above(axes, handles=handles, handlelength=0.9)


def method_legend(axes, marks, methods) -> None:
    """Legend of methods, or of what else has a label, beside the axes."""
    axes.legend(
        marks,
        method_labels(methods),
        loc="upper left",
        bbox_to_anchor=(1.01, 1),
        frameon=False,
        labelcolor=INK,
        fontsize=9,
        handlelength=2.4,
        borderaxespad=0,
    )


def method_labels(methods) -> list[str]:
    """Labels cut in the middle, since a suffix often tells them apart."""
    names = (
        name if len(name) <= _LONGEST_LABEL else f"{name[:21]}…{name[-22:]}"
        for name in methods
    )
    return [name.replace("$", r"\$") for name in names]


def refuse_none(methods) -> None:
    """Raises a ValueError if there is no method."""
    if not methods:
        raise ValueError(
            f"Expected at least one method. Received: methods={methods!r}"
        )
