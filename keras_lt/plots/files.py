"""Figures as files: PNG, or SVG to put into a page."""

import io
import re

from keras_lt.plots.style import INK, RC


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

    It has no background, and its text takes the page's font and color.

    Example:
        >>> figure = keras_lt.plots.class_distribution([500, 50, 5])
        >>> keras_lt.plots.to_svg(figure)[:4]
        '<svg'
    """
    buffer = io.StringIO()
    _save(figure, buffer, format="svg", metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Names of groups would repeat from one figure of a page to the next.
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r"font: ([^;\"]*?px) [^;\"]*", r"font: \1 inherit", svg)
    return re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)


def _save(figure, buffer, **arguments) -> None:
    import matplotlib

    with matplotlib.rc_context(RC):
        figure.savefig(buffer, bbox_inches="tight", **arguments)
