"""Folders of real pictures in all kinds of files: scikit-learn's digits."""

from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

# How the i-th picture of a class is written; modes in turns.
KINDS = (
    ("png", "L"),
    ("jpg", "RGB"),
    ("png", "RGBA"),
    ("jpg", "CMYK"),
    ("png", "I;16"),
    ("JPEG", "L"),
    ("png", "P"),
    ("tif", "I;16"),
    ("bmp", "RGB"),
    ("webp", "RGB"),
    ("gif", "L"),
    ("png", "1"),
)
COUNTS = {"one": 40, "two": 20, "three": 9, "four": 5}


def convert(levels: np.ndarray, mode: str) -> Image.Image:
    """A picture of gray levels (H, W) uint8 in a mode of PIL."""
    if mode == "I;16":
        return Image.fromarray(levels.astype(np.uint16) * 257)
    return Image.fromarray(levels).convert(mode)


def digits_of(label: int, count: int, side: int = 24) -> list[np.ndarray]:
    """Gray levels (H, W) of so many digits; heights and widths differ."""
    data = load_digits()
    images = data.images[data.target == label][:count]
    return [
        np.asarray(
            Image.fromarray((image * 15.9).astype(np.uint8)).resize(
                (side + 3 * (number % 3), side + 5 * (number % 2))
            )
        )
        for number, image in enumerate(images)
    ]


def write_folder(root: Path, test: bool = True) -> Path:
    """Writes train/CLASS/* of COUNTS, an empty class, and test/CLASS/*.

    Three files of train are damaged, each in its way, and one picture of test
    is one of train too.
    """
    (root / "train" / "five").mkdir(parents=True)
    for label, (name, count) in enumerate(COUNTS.items(), 1):
        for split, size in (("train", count), ("test", 4 * test)):
            pictures = digits_of(label, count + 4)
            chosen = pictures[:size] if split == "train" else pictures[-size:]
            for number, levels in enumerate(chosen if size else ()):
                suffix, mode = KINDS[number % len(KINDS)]
                path = root / split / name / f"{number:03}.{suffix}"
                path.parent.mkdir(parents=True, exist_ok=True)
                convert(levels, mode).save(path)
    one = root / "train" / "one"
    cut = one / "001.jpg"
    cut.write_bytes(cut.read_bytes()[:-200])
    (one / "002.png").write_bytes(b"")
    (root / "train" / "two" / "003.jpg").write_text("no picture")
    if test:
        twin = root / "test" / "four" / "twin.png"
        twin.write_bytes((root / "train" / "four" / "000.png").read_bytes())
    return root


BAD = ("one/001.jpg", "one/002.png", "two/003.jpg")
