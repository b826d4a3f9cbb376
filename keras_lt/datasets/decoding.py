"""Image files of any size and mode, decoded to one of each."""

import contextlib
import io
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

# Tries of a random crop before it falls back, and random numbers of each.
CROP_DRAWS = (10, 4)
MIN_AREA = 0.08  # of a random crop, as ImageNet training has it
_CROP_RATIO = (3 / 4, 4 / 3)
# Part of the short side that evaluation keeps: 224 of 256 pixels.
_CENTRE = 224 / 256
# EXIF orientations that turn an image on its side.
_SIDEWAYS = (5, 6, 7, 8)
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


class BadImageError(ValueError):
    """Says that the content of a file can't be decoded.

    Example:
        >>> keras_lt.datasets.read_image(b"no image")
        Traceback (most recent call last):
            ...
        keras_lt.datasets.decoding.BadImageError: ...
    """


def read_image(content: bytes, channels: int = 3) -> np.ndarray:
    """Decodes an image file at the size that it has.

    The image is turned as its EXIF data says. Grey images become RGB and the
    other way round, transparency is dropped (but for 4 channels), of 16 bits
    the high byte stays, and of an animation the first picture.

    Args:
        content: The file: JPEG, PNG, BMP, GIF, WebP, TIFF.
        channels: 1 (grey), 3 (RGB) or 4 (RGBA).

    Returns:
        uint8 (h, w, channels).

    Raises:
        BadImageError: If it is no such file or a damaged one.
        ValueError: If channels are none of these.

    Example:
        >>> image = keras_lt.datasets.read_image(Path("cat.jpg").read_bytes())
        >>> image.shape
        (48, 64, 3)
    """
    if channels not in _MODES:
        raise ValueError(
            f"Expected 1, 3 or 4 channels. Received: channels={channels}"
        )
    with _opened(content) as image:
        pixels = np.array(_upright(image, _MODES[channels]))
    return pixels.reshape(*pixels.shape[:2], channels)


def decode(
    content: bytes,
    size: int,
    draws: np.ndarray | None = None,
    min_area: float = MIN_AREA,
) -> np.ndarray:
    """Decodes an image file to RGB of one size, as ImageNet training does.

    The image of `read_image` is cropped, and the crop resized to a square by
    bilinear interpolation over all its pixels. Without draws, for evaluation,
    an image that has the size is left as it is; of any other the crop is the
    central square of 224/256 of the short side (a resize of the short side to
    256/224 of the size and a central crop in one). SavedModels do the same
    (`keras_lt.preprocessing.resize_and_crop`).

    Args:
        content: As in `read_image`.
        size: Side of the result in pixels.
        draws: Uniform numbers in [0, 1) of shape `CROP_DRAWS` for a random
            crop (see `random_box`); None is for evaluation.
        min_area: Of a random crop, as in `random_box`.

    Returns:
        uint8 (size, size, 3).

    Raises:
        BadImageError: If it is no such file or a damaged one.

    Example:
        >>> content = Path("cat.jpg").read_bytes()
        >>> keras_lt.datasets.decode(content, size=32).shape
        (32, 32, 3)
    """
    from PIL import Image

    with _opened(content) as image:
        stored = upright = image.size
        if _orientation(image) in _SIDEWAYS:
            upright = stored[::-1]
        if draws is not None:
            box = random_box(*upright, draws, min_area)
        elif upright == (size, size):
            box = (0, 0, size, size)
        else:
            box = centre_box(*upright)
        if image.format == "JPEG":
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
def _opened(content: bytes) -> Iterator[Any]:
    """The image of a file; what PIL raises becomes a `BadImageError`."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(content)) as image:
            yield image
    except MemoryError:
        raise
    except UnidentifiedImageError as error:
        raise BadImageError("no known kind of image file") from error
    except Exception as error:  # PIL's plugins raise a dozen kinds
        raise BadImageError(f"{type(error).__name__}: {error}") from error


def _orientation(image) -> int:
    return image.getexif().get(0x0112, 1)


def _upright(image, mode: str):
    """The image in a mode of 8 bits, turned as its EXIF data says."""
    from PIL import Image, ImageOps

    deep = image.mode.startswith("I;16") or (
        image.mode == "I" and image.format == "PNG"  # older PIL
    )
    if _orientation(image) in range(2, 9):
        image = ImageOps.exif_transpose(image)
    if image.mode == mode:
        return image
    if deep:
        high = np.asarray(image).astype(np.uint32) >> 8
        image = Image.fromarray(high.astype(np.uint8))
    elif image.mode in ("I", "F"):
        raise ValueError(f"32-bit pixels, mode {image.mode}")
    elif image.mode == "P":  # its transparency may be bytes, which RGB can't
        image = image.convert("RGBA")
    return image.convert(mode)


def centre_box(width: int, height: int) -> tuple[float, ...]:
    """Left, top, right, bottom of the square that evaluation crops."""
    side = min(width, height) * _CENTRE
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def random_box(
    width: int, height: int, draws: np.ndarray, min_area: float = MIN_AREA
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

    Returns:
        Left, top, right, bottom in whole pixels.
    """
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
