"""Sheets of small images."""

from collections.abc import Mapping, Sequence

import numpy as np

from keras_lt.messages import brief
from keras_lt.plots.style import INK, method_labels, new_figure

_COLUMNS = 10
_MAX_PIXELS = 96


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
    height, width = _size(sheets)
    # In widths of an image: gaps, and what its number takes.
    place, line = 1.1, height / width + 0.36
    rows = max(1, *(-(-len(v) // _COLUMNS) for _, v in sheets.values()))
    right = place * _COLUMNS - 0.1
    each = 10 / len(sheets)
    figure = new_figure(10, 0.4 + each / right * line * rows)
    figure.get_layout_engine().set(w_pad=0.12)
    for number, (title, (images, values)) in enumerate(
        zip(method_labels(sheets), sheets.values(), strict=True), 1
    ):
        axes = figure.add_subplot(1, len(sheets), number)
        for item, (image, value) in enumerate(
            zip(_thumbnails(images), values, strict=True)
        ):
            row, column = divmod(item, _COLUMNS)
            left, bottom = place * column, line * row + height / width
            extent = (left, left + 1, bottom, line * row)
            axes.imshow(image, extent=extent, interpolation="none")
            axes.text(
                left + 0.5,
                bottom + 0.05,
                f"{value:.3f}",
                ha="center",
                va="top",
                fontsize=7,
                color=INK,
            )
        axes.set(xlim=(0, right), ylim=(line * rows, 0), aspect="equal")
        axes.set_title(title, loc="left", color=INK, fontsize=10)
        axes.set_axis_off()
    return figure


def _size(sheets) -> tuple[int, int]:
    """Height and width of all images, checked."""
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
    return sizes.pop()


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
