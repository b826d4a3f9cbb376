"""Images per second of a class-balanced stream of 100,000 files."""

import io
import itertools
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.turns import BATCH, Variant, ratio, take_turns


def write_files(root: Path, classes: int, images: int) -> Path:
    """A folder of JPEG files of 64 by 64 pixels, so many in so many classes."""
    from PIL import Image

    generator = np.random.default_rng(0)
    contents = []
    for _ in range(16):
        coarse = generator.integers(0, 256, (8, 8, 3), np.uint8)
        file = io.BytesIO()
        Image.fromarray(coarse).resize((64, 64)).save(file, "jpeg", quality=90)
        contents.append(file.getvalue())
    for label in range(classes):
        folder = root / "train" / f"{label:04}"
        folder.mkdir(parents=True)
        for number in range(images // classes):
            content = contents[(label + number) % len(contents)]
            (folder / f"{number:04}.jpg").write_bytes(content)
    return root


def load_files(root: Path) -> Any:
    from keras_lt import datasets

    return datasets.load(
        f"folder:{root}", split="train", image_size=64, test_fraction=0
    )


def file_index(root: Path) -> Callable[[int], None]:
    def run(steps: int) -> None:
        for _ in range(steps):
            load_files(root)

    return run


def file_stream(root: Path) -> Callable[[int], None]:
    """A class-balanced stream of random crops."""
    from keras_lt import streams

    batches = iter(
        streams.stream(
            load_files(root),
            sampling="class_balanced",
            batch_size=BATCH,
            seed=0,
            random_resized_crop=True,
        )
    )

    def run(steps: int) -> None:
        for _ in range(steps):
            next(batches)

    return run


def file_loop(root: Path) -> Callable[[int], None]:
    """Plain reading and decoding, one file after the other."""
    from PIL import Image

    paths = itertools.cycle(sorted(root.glob("train/*/*")))

    def run(steps: int) -> None:
        for path in itertools.islice(paths, steps * BATCH):
            with Image.open(path) as image:
                np.asarray(image.convert("RGB").resize((64, 64)))

    return run


def measure(rounds: int) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        root = write_files(Path(folder) / "large", 1_000, 100_000)
        small = write_files(Path(folder) / "small", 2, 4)
        index = Variant(file_index, root)
        variants = {
            "stream": Variant(file_stream, root),
            "sequential": Variant(file_loop, root),
        }
        speeds = take_turns(variants, rounds, steps=100)
        seconds = [index.run(1)[0] for _ in range(rounds)]
        imported = Variant(file_stream, small).megabytes
    return {
        "seconds_index": statistics.median(seconds),
        "megabytes_stream": variants["stream"].megabytes - imported,
        **{
            f"images_per_second_{name}": statistics.median(values)
            for name, values in speeds.items()
        },
        "ratio_stream_over_sequential": ratio(speeds, "stream", "sequential"),
    }
