"""Pictures of images in a page, small enough to be kept and sent."""

import base64
import io
import os
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from markupsafe import Markup
from PIL import Image

from keras_lt.report.evaluation import Part
from keras_lt.report.rendering import write_page

PICTURE_BYTES = 2_500_000  # of all pictures of a page, as text
_SIDES = 96, 64, 48, 32, 16
_SHARP = 32  # smaller images are kept as they are


class Picture(NamedTuple):
    """An image with what is to be said of it.

    Args:
        image: (H, W, 1 or 3) from 0 to 255.
        caption: A short text below it.
        name: Where it is from, such as a file.

    Example:
        >>> image = np.zeros((8, 8, 1), "uint8")
        >>> keras_lt.report.Picture(image, "lynx, not cat", "a.png").name
        'a.png'
    """

    image: np.ndarray
    caption: str
    name: str = ""


class Gallery(NamedTuple):
    """A section of pictures.

    Args:
        title: Its heading.
        meaning: What is seen, in one sentence.
        rows: Pictures under a heading of their own.
        nothing: What is said where there is no row.

    Example:
        >>> keras_lt.report.Gallery("Errors", "The surest ones.", {}).nothing
        'None was found.'
    """

    title: str
    meaning: str
    rows: dict[str, Sequence[Picture]]
    nothing: str = "None was found."


def write_galleries(
    path: str | os.PathLike,
    galleries: Sequence[Gallery],
    *,
    title: str,
    facts: Sequence[str] = (),
    parts: Sequence[Part] = (),
) -> None:
    """Write a page of pictures, in one file that needs no network.

    Pictures are stored at 96 pixels a side, or at fewer, so that all of them
    take 2.5 MB at most.

    Args:
        path: File to write, new or a page of keras_lt.
        galleries: The sections with pictures.
        title: Heading.
        facts: Phrases below the heading.
        parts: More sections, after the galleries.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If `path` holds something else than a page of keras_lt, or
            an image has another shape.

    Example:
        >>> image = np.zeros((8, 8, 1), "uint8")
        >>> picture = keras_lt.report.Picture(image, "cat, not lynx")
        >>> errors = keras_lt.report.Gallery(
        ...     "Errors", "The surest mistakes.", {"lynx": [picture]}
        ... )
        >>> keras_lt.report.write_galleries(
        ...     "mistakes.html", [errors], title="Mistakes"
        ... )
    """
    images = [
        picture.image
        for gallery in galleries
        for pictures in gallery.rows.values()
        for picture in pictures
    ]
    sources = iter(_encoded(images))
    sections = [
        {
            "gallery": gallery,
            "rows": {
                heading: [(picture, next(sources)) for picture in pictures]
                for heading, pictures in gallery.rows.items()
            },
        }
        for gallery in galleries
    ]
    write_page(
        path, "galleries", title, facts, sections=sections, parts_shown=parts
    )


def _encoded(images: Sequence[np.ndarray]) -> list[Markup]:
    """Addresses that hold the pictures, all of one largest side."""
    for side in _SIDES:
        found = [_source(image, side) for image in images]
        if sum(map(len, found)) <= PICTURE_BYTES:
            break
    return found


def _source(image: np.ndarray, side: int) -> Markup:
    image = np.asarray(image)
    if image.ndim != 3 or image.shape[2] not in (1, 3) or 0 in image.shape:
        raise ValueError(
            "Expected an image of shape (H, W, 1 or 3). "
            f"Received: shape {image.shape}"
        )
    pixels = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    picture = Image.fromarray(
        pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
    )
    small = max(picture.size) <= _SHARP
    picture.thumbnail((side, side))
    content = io.BytesIO()
    kind = "png" if small else "jpeg"
    picture.save(content, kind, **({} if small else {"quality": 80}))
    text = base64.b64encode(content.getvalue()).decode()
    return Markup(f"data:image/{kind};base64,{text}")
