"""Decoding of files that cameras, editors and attackers write."""

import io
import struct
import subprocess
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image

from keras_lt import datasets

ORIENTATION = 0x0112
SHORT, LONG, SIGNED_LONG, TEXT = 3, 4, 9, 2


def encode(image, kind, **arguments):
    file = io.BytesIO()
    image.save(file, kind, **arguments)
    return file.getvalue()


def upright(height=240, width=120):
    """A picture whose place can be told from its colors."""
    y, x = np.mgrid[:height, :width]
    levels = [200 * y / height, 200 * x / width, 90 * (x + y) / (x + y).max()]
    return np.stack(levels, -1).astype(np.uint8)


def stored(pixels, orientation):
    """How a camera stores an upright picture, by the EXIF standard."""
    return {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: a.transpose(1, 0, 2)[::-1],
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: a.transpose(1, 0, 2)[:, ::-1],
    }[orientation](pixels)


def exif(*entries):
    """EXIF data of (tag, type, four bytes) and one value each."""
    content = b"II*\0" + struct.pack("<IH", 8, len(entries))
    for tag, kind, value in entries:
        content += struct.pack("<HHI", tag, kind, 1) + value
    return b"Exif\0\0" + content + bytes(4)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    "kind, arguments, bound",
    [
        ("png", {}, 0),
        ("webp", {"lossless": True}, 0),
        ("tiff", {}, 0),
        ("tiff", {"compression": "tiff_lzw"}, 0),
        ("tiff", {"compression": "tiff_adobe_deflate"}, 0),
        ("jpeg", {"quality": 98, "subsampling": 0}, 4),
        ("mpo", {"quality": 98, "subsampling": 0}, 4),
    ],
)
def test_turned_images_of_all_kinds_are_the_upright_one(
    kind, arguments, bound, orientation
):
    pixels = upright()
    image = Image.fromarray(np.ascontiguousarray(stored(pixels, orientation)))
    data = Image.Exif()
    data[ORIENTATION] = orientation
    content = encode(image, kind, exif=data, **arguments)
    whole = datasets.read_image(content).astype(int)
    assert whole.shape == pixels.shape
    assert abs(whole - pixels).max() <= bound
    plain = encode(Image.fromarray(pixels), "png")
    crop = np.full(datasets.decoding.CROP_DRAWS, 0.3)
    for draws in (None, crop):
        got = datasets.decode(content, 20, draws).astype(int)
        want = datasets.decode(plain, 20, draws)
        assert abs(got - want).max() <= bound


@pytest.mark.parametrize("mode", ["I;16", "L", "LA", "P", "RGBA", "1"])
@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_turned_images_of_all_modes(kind, mode):
    levels = upright()[..., 0]
    image = Image.fromarray(levels).convert("RGB").convert("L")
    if mode == "I;16":
        image = Image.fromarray(levels.astype(np.uint16) * 257)
    elif mode != "L":
        image = image.convert(mode)
    data = Image.Exif()
    data[ORIENTATION] = 6
    if (kind, mode) == ("png", "I;16"):
        turned = Image.fromarray(np.rot90(np.asarray(image)).copy())
    else:
        turned = image.transpose(Image.Transpose.ROTATE_90)
    got = datasets.read_image(encode(turned, kind, exif=data))
    np.testing.assert_array_equal(got, datasets.read_image(encode(image, kind)))


@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
@pytest.mark.parametrize(
    "entries, turned",
    [
        ([(ORIENTATION, LONG, struct.pack("<I", 6))], True),
        (
            [
                (0x0100, SIGNED_LONG, struct.pack("<i", -5)),
                (ORIENTATION, SHORT, struct.pack("<HH", 6, 0)),
            ],
            True,
        ),
        (
            [
                (0x0100, TEXT, b"wide"),
                (ORIENTATION, SHORT, struct.pack("<HH", 6, 0)),
            ],
            True,
        ),
        (
            [
                (ORIENTATION, SHORT, struct.pack("<HH", 6, 0)),
                (0x8825, SIGNED_LONG, struct.pack("<i", -3)),  # GPS
            ],
            True,
        ),
        ([(ORIENTATION, TEXT, b"6\0\0\0")], False),
        ([(ORIENTATION, SHORT, struct.pack("<HH", 9, 0))], False),
        ([(ORIENTATION, SIGNED_LONG, struct.pack("<i", -6))], False),
    ],
    ids=["long", "negative", "text", "gps", "words", "nine", "minus six"],
)
def test_damaged_exif_data_does_not_damage_the_image(kind, entries, turned):
    pixels = upright(40, 20)
    image = Image.fromarray(pixels)
    content = encode(image, kind, exif=exif(*entries))
    want = datasets.read_image(encode(image, kind))
    if turned:  # orientation 6: a quarter to the right
        want = np.rot90(want, -1)
    np.testing.assert_array_equal(datasets.read_image(content), want)
    assert datasets.decode(content, 8).shape == (8, 8, 3)


@pytest.mark.parametrize("data", [b"junk", b"II*\0", b"II*\0\xff\xff\xff\xff"])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_exif_data_that_is_none_is_left_alone(data):
    image = Image.fromarray(upright(40, 20))
    for kind in ("jpeg", "png", "webp"):
        got = datasets.read_image(encode(image, kind, exif=b"Exif\0\0" + data))
        assert got.shape == (40, 20, 3)


@pytest.mark.parametrize(
    "kind", ["eps", "ppm", "pcx", "ico", "tga", "jpeg2000", "pdf", "sgi"]
)
def test_other_kinds_are_bad_images_and_start_nothing(kind, monkeypatch):
    content = encode(Image.fromarray(upright(40, 20)), kind)
    monkeypatch.setattr(subprocess, "Popen", None)  # Ghostscript
    for read in (datasets.read_image, lambda c: datasets.decode(c, 8)):
        with pytest.raises(datasets.BadImageError, match="no known kind"):
            read(content)


def black_png(width, height):
    """A file of a few kilobytes, whatever the size."""

    def chunk(kind, content):
        check = zlib.crc32(kind + content)
        size = struct.pack(">I", len(content))
        return size + kind + content + struct.pack(">I", check)

    packed = zlib.compressobj(1)
    rows = [packed.compress(bytes(width + 1)) for _ in range(height)]
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", b"".join([*rows, packed.flush()]))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(20, 11), (11, 20)])
def test_pixels_are_limited(size):
    content = black_png(*size)
    assert datasets.read_image(content, max_pixels=220).shape[1::-1] == size
    assert datasets.decode(content, 4, max_pixels=220).shape == (4, 4, 3)
    message = rf"{size[0]} x {size[1]} pixels, more than max_pixels=219$"
    with pytest.raises(datasets.BadImageError, match=message):
        datasets.read_image(content, max_pixels=219)
    with pytest.raises(datasets.BadImageError, match=message):
        datasets.decode(content, 4, max_pixels=219)
    for wrong in (0, None, "many", float("nan")):
        with pytest.raises(ValueError, match="Expected max_pixels >= 1"):
            datasets.decode(content, 4, max_pixels=wrong)


def test_sizes_are_looked_at_before_pixels_are(monkeypatch):
    """Sizes for which Pillow warns, raises, or would need 40 GB."""
    monkeypatch.setattr(Image.core, "new", None)  # where pixels would be
    limit = Image.MAX_IMAGE_PIXELS
    header = bytearray(black_png(1, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for side in (10_001, 13_000, 20_000, 100_000):
            header[16:24] = struct.pack(">II", side, side)
            header[29:33] = struct.pack(">I", zlib.crc32(header[12:29]))
            message = rf"{side:,} x {side:,} pixels.*max_pixels=100,000,000"
            with pytest.raises(datasets.BadImageError, match=message):
                datasets.decode(bytes(header), 8)
    assert limit == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_pillow_has_no_limit_of_its_own(kind, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)  # it raises from 101
    monkeypatch.setattr(datasets.decoding, "_HUGE", 40)
    content = encode(Image.new("L", (12, 10), 7), kind)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (datasets.read_image(content) == 7).all()
        assert (datasets.decode(content, 4) == 7).all()
    assert Image.MAX_IMAGE_PIXELS == 50
