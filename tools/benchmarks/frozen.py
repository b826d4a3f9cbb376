"""Memory and time of 100,000 images in 1,000 classes on frozen features.

A folder of drawn pictures of 32 pixels, 800 to 1 per class, 1,280 features of a
MobileNetV2 each, and a cosine classifier in 5 epochs: the whole command, from
the folder to the report, first without features and then with those of the
first run. The same with a tenth of the images says what each image adds.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

RECIPE = Path(__file__).resolve().parents[2] / "recipes" / "cifar_lt.py"
CLASSES = 1_000
FLAGS = (
    "--image_size=32",
    "--backbone=MobileNetV2(weights=None)",
    "--tune=head",
    "--loss=balanced_softmax",
    "--head=cosine(scale=25,start='class_means',centered=True)",
    "--optimizer=sgd(momentum=0.9)",
    "--learning_rate=cosine(0.5)",
    "--epochs=5",
    "--batch_size=512",
    "--mixed_precision=none",
)


def write_images(folder: Path, images: int, classes: int) -> None:
    """A long tail of training images, and one test image per class."""
    shares = 800.0 ** -(np.arange(classes) / classes)
    counts = np.maximum(1, np.round(images * shares / shares.sum())).astype(int)
    counts[0] += images - counts.sum()
    generator = np.random.default_rng(0)
    for label, count in enumerate(counts):
        color = generator.integers(0, 256, 3)
        for split, number in (("train", count), ("test", 1)):
            place = folder / split / f"{label:04}"
            place.mkdir(parents=True)
            for index in range(number):
                noise = generator.integers(-40, 41, (32, 32, 3))
                pixels = np.clip(color + noise, 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(place / f"{index}.bmp")


def run_recipe(images: Path, workdir: Path) -> tuple[float, float]:
    """Seconds, and megabytes at most."""
    begin = time.perf_counter()
    process = subprocess.Popen(
        [
            sys.executable,
            RECIPE,
            f"--dataset=folder:{images}",
            f"--workdir={workdir}",
            *FLAGS,
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(
            f"Expected exit code 0 of {RECIPE.name}. "
            f"Received: {process.returncode}"
        )
    return time.perf_counter() - begin, usage.ru_maxrss * 1024 / 1e6


def measure(
    rounds: int, images: int = 100_000, classes: int = CLASSES
) -> dict[str, float]:
    figures, most = {}, {}
    for size in (images // 10, images):
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            write_images(place / "images", size, classes)
            first, most[size] = run_recipe(place / "images", place / "0")
            again, other = zip(
                *(
                    run_recipe(place / "images", place / str(number))
                    for number in range(1, rounds + 1)
                ),
                strict=True,
            )
        figures |= {
            f"seconds_{size}_images": first,
            f"seconds_{size}_images_again": statistics.median(again),
            f"process_megabytes_{size}_images": most[size],
            f"process_megabytes_{size}_images_again": max(other),
        }
    added = (most[images] - most[images // 10]) / (images - images // 10)
    figures["kilobytes_per_image"] = added * 1e3
    return figures
