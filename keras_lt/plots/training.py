"""How a training went, epoch by epoch."""

from collections.abc import Sequence

import numpy as np

from keras_lt.plots.style import (
    COLORS,
    INK,
    LINES,
    draw_grid,
    new_figure,
    style_axes,
)


def curves(history: dict[str, Sequence[float]]):
    """One small panel per metric; `val_` values share the panel of their own.

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
    panels = _panels(history)
    rows = -(-len(panels) // 2)
    figure = new_figure(6, 2.5 * rows)
    figure.get_layout_engine().set(h_pad=0.12, w_pad=0.12)
    for place, (title, lines) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(rows, 2, place)
        style_axes(axes)
        _draw_lines(axes, lines)
        axes.set_title(title, loc="left", color=INK, fontsize=10)
        draw_grid(axes, "y")
        longest = max(len(values) for values in lines.values())
        axes.set_xlim(1 - 0.02 * longest, longest + 0.02 * longest)
        axes.xaxis.get_major_locator().set_params(integer=True)
        if len(lines) > 1:
            axes.legend(frameon=False, labelcolor=INK, fontsize=8)
        if place > len(panels) - 2:
            axes.set_xlabel("epoch")
    return figure


def _panels(history) -> dict[str, dict[str, Sequence[float]]]:
    """Lines by the title of their panel."""
    panels = {}
    for key, values in history.items():
        if not len(values) or any(
            v is not None and not np.isscalar(v) for v in values
        ):
            continue
        title = key.removeprefix("val_").replace("_", " ")
        if _group(key) in COLORS:
            title = "shot groups"
        panels.setdefault(title, {})[key] = values
    if not panels:
        raise ValueError(
            "Expected a `history` with numbers. "
            f"Received: history with keys {list(history)}"
        )
    return panels


def _group(key: str) -> str:
    """The shot group whose accuracy it may be, as metrics are named."""
    return key.removeprefix("val_").removesuffix("_shot_accuracy")


def _draw_lines(axes, lines: dict[str, Sequence[float]]) -> None:
    for number, (key, values) in enumerate(lines.items()):
        axes.plot(
            np.arange(1, len(values) + 1),
            [np.nan if v is None else v for v in values],
            color=COLORS.get(_group(key), LINES[number % len(LINES)]),
            linewidth=1.6,
            marker="o" if len(values) < 3 else None,
            label=key.replace("_", " "),
        )
