"""Image files of any size and mode, decoded to one of each."""

import contextlib
import io
import math
import numbers
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from keras_lt.arguments import framing as checked_framing

# Tries of a random crop before it falls back, and random numbers of each.
CROP_DRAWS = (10, 4)
MIN_AREA = 0.08  # of a random crop, as ImageNet training has it
_CROP_RATIO = (3 / 4, 4 / 3)
# Part of the short side that evaluation keeps: 224 of 256 pixels.
_CENTRE = 224 / 256
# Pillow opens dozens of kinds, some by other programs (EPS by Ghostscript).
_KINDS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF")
MAX_PIXELS = 100_000_000  # of an image: 400 MB while it is decoded
_HUGE = 2**26  # pixels, below the number for which Pillow warns
_ORIENTATION = 0x0112  # EXIF
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)
_LIFTING = threading.Lock()
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


class BadImageError(ValueError):
    """Says that the content of a file can't be decoded.

    Example:
        >>> keras_lt.datasets.read_image(b"no image")
        Traceback (most recent call last):
            ...
        keras_lt.datasets.decoding.BadImageError: ...
    """


def check_max_pixels(max_pixels: int) -> None:
    """Refuses a limit that no image meets."""
    if not (isinstance(max_pixels, numbers.Real) and max_pixels >= 1):
        raise ValueError(
            f"Expected max_pixels >= 1. Received: max_pixels={max_pixels!r}"
        )


def read_image(
    content: bytes, channels: int = 3, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
    """Decodes an image file at the size that it has.

    The image is turned as its EXIF data says. Gray images become RGB and the
    other way round, transparency is dropped (but for 4 channels), of 16 bits
    the high byte stays, and of an animation the first picture.

    Args:
        content: The file: JPEG, PNG, BMP, GIF, WebP, TIFF.
        channels: 1 (gray), 3 (RGB) or 4 (RGBA).
        max_pixels: Images of more pixels are not decoded.

    Returns:
        uint8 (h, w, channels).

    Raises:
        BadImageError: If it is no such file, a damaged one, or too large.
        ValueError: If channels or max_pixels are none of these.

    Example:
        >>> image = keras_lt.datasets.read_image(Path("cat.jpg").read_bytes())
        >>> image.shape
        (48, 64, 3)
    """
    if channels not in _MODES:
        raise ValueError(
            f"Expected 1, 3 or 4 channels. Received: channels={channels}"
        )
    with _opened(content, max_pixels) as image:
        pixels = np.array(_upright(image, _MODES[channels]))
    return pixels.reshape(*pixels.shape[:2], channels)


def decode(
    content: bytes,
    size: int,
    draws: np.ndarray | None = None,
    min_area: float = MIN_AREA,
    max_pixels: int = MAX_PIXELS,
    framing: str = "center",
) -> np.ndarray:
    """Decodes an image file to RGB of one size, as ImageNet training does.

    The image of `read_image` is cropped, and the crop resized to a square by
    bilinear interpolation over all its pixels. Without draws, for evaluation,
    an image that has the size is left as it is; of any other the crop is the
    central square of 224/256 of the short side (a resize of the short side to
    256/224 of the size and a central crop in one). SavedModels do the same
    (`keras_lt.preprocessing.resize_and_crop`). With the framing "whole" nothing
    is cut off: an image is squeezed into the square, and random crops have
    about its ratio of width to height.

    Args:
        content: As in `read_image`.
        size: Side of the result in pixels.
        draws: Uniform numbers in [0, 1) of shape `CROP_DRAWS` for a random
            crop (see `random_box`); None is for evaluation.
        min_area: Least area of a random crop, as in `random_box`.
        max_pixels: As in `read_image`.
        framing: "center" or "whole".

    Returns:
        uint8 (size, size, 3).

    Raises:
        BadImageError: If it is no such file, a damaged one, or too large.

    Example:
        >>> content = Path("cat.jpg").read_bytes()
        >>> keras_lt.datasets.decode(content, size=32).shape
        (32, 32, 3)
    """
    whole = checked_framing(framing) == "whole"
    with _opened(content, max_pixels) as image:
        # Only JPEGs can be decoded small, those of several pictures (MPO) too.
        # Of a TIFF, Pillow turns the size at once and the pixels as it loads.
        is_jpeg = image.format in ("JPEG", "MPO")
        if not is_jpeg:
            _load(image)
        stored = upright = image.size
        if _orientation(image) in _SIDEWAYS:
            upright = stored[::-1]
        if draws is not None:
            box = random_box(*upright, draws, min_area, whole)
        elif whole or upright == (size, size):
            box = (0, 0, *upright)
        else:
            box = center_box(*upright)
        if is_jpeg:
            # Decoding at 1/2, 1/4 or 1/8 of the size, where that is enough.
            enough = size / min(box[2] - box[0], box[3] - box[1])
            image.draft(None, [math.ceil(side * enough) for side in stored])
        image = _upright(image, "RGB")
        scale = image.width / upright[0], image.height / upright[1]
        image = image.resize(
            (size, size),
            Image.Resampling.BILINEAR,
            box=[side * scale[i % 2] for i, side in enumerate(box)],
        )
        return np.asarray(image)


@contextlib.contextmanager
def _opened(content: bytes, max_pixels: int) -> Iterator[Any]:
    """The image of a file; what Pillow raises becomes a `BadImageError`."""
    check_max_pixels(max_pixels)
    try:
        with _unlimited():
            image = Image.open(io.BytesIO(content), formats=_KINDS)
        with image:
            width, height = image.size
            if width * height > max_pixels:
                raise BadImageError(
                    f"{width:,} x {height:,} pixels, more than "
                    f"max_pixels={max_pixels:,}"
                )
            yield image
    except (MemoryError, BadImageError):
        raise
    except UnidentifiedImageError as error:
        raise BadImageError("no known kind of image file") from error
    except Exception as error:  # Pillow's plugins raise a dozen kinds
        raise BadImageError(f"{type(error).__name__}: {error}") from error


@contextlib.contextmanager
def _unlimited() -> Iterator[None]:
    """Lifts Pillow's own limit of pixels, one for all threads, for ours."""
    with _LIFTING:
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = limit


def _load(image) -> None:
    """Decodes the pixels, of huge images those of one at a time."""
    huge = image.width * image.height > _HUGE
    with _unlimited() if huge else contextlib.nullcontext():
        image.load()


def _orientation(image) -> Any:
    try:
        return image.getexif().get(_ORIENTATION, 1)
    except Exception:  # of damaged EXIF data Pillow raises a dozen kinds
        return 1


def _upright(image, mode: str):
    """The image in a mode of 8 bits, turned as its EXIF data says."""
    _load(image)
    turn = _TURNS.get(_orientation(image))
    if image.mode.startswith("I;16") or (
        image.mode == "I" and image.format == "PNG"  # older Pillow
    ):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(f"32-bit pixels, mode {image.mode}")
    elif image.mode == "P" and mode != "P":
        # Its transparency may be bytes, which RGB can't have.
        image = image.convert("RGBA")
    if image.mode != mode:
        image = image.convert(mode)
    return image if turn is None else image.transpose(turn)


def center_box(width: int, height: int) -> tuple[float, ...]:
    """Left, top, right, bottom of the square that evaluation crops."""
    side = min(width, height) * _CENTRE
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def random_box(
    width: int,
    height: int,
    draws: np.ndarray,
    min_area: float = MIN_AREA,
    relative: bool = False,
) -> tuple[float, ...]:
    """The random crop of Inception (Szegedy et al., CVPR 2015).

    Its area is uniform in `min_area` to 1 of the image's, its ratio of width to
    height log-uniform in 3/4 to 4/3, its place uniform. The first of 10 tries
    that fits counts; if none does, it is the central crop whose ratio is
    nearest. So do the trainings of PyTorch (torchvision), and most published
    ones.

    Args:
        width: Pixels.
        height: Pixels.
        draws: Uniform numbers in [0, 1), shape `CROP_DRAWS`.
        min_area: Part of the image, in (0, 1].
        relative: Whether the ratio is that of the image times 3/4 to 4/3.

    Returns:
        Left, top, right, bottom in pixels, whole ones unless `relative`.
    """
    if relative:
        side = max(width, height)
        box = random_box(side, side, draws, min_area)
        by_axis = width / side, height / side
        return tuple(edge * by_axis[i % 2] for i, edge in enumerate(box))
    low, high = np.log(_CROP_RATIO)
    for area, ratio, left, top in draws.tolist():
        area = width * height * (min_area + area * (1.0 - min_area))
        ratio = math.exp(low + ratio * (high - low))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            x, y = int(left * (width - w + 1)), int(top * (height - h + 1))
            return x, y, x + w, y + h
    w = min(width, round(height * _CROP_RATIO[1]))
    h = min(height, round(width / _CROP_RATIO[0]))
    x, y = (width - w) // 2, (height - h) // 2
    return x, y, x + w, y + h
