"""Speed and memory of a class-balanced stream with pad-crop-flip."""

import statistics
from collections.abc import Callable

import numpy as np

from benchmarks.turns import BATCH, Variant, ratio, take_turns


def balanced_stream(classes: int) -> Callable[[int], None]:
    """50,000 CIFAR-sized images in so many classes, as a balanced stream."""
    from keras_lt import datasets, preprocessing, streams

    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (50_000, 32, 32, 3), np.uint8)
    labels = np.arange(len(images)) % classes
    batches = iter(
        streams.stream(
            datasets.from_arrays(images, labels),
            sampling="class_balanced",
            batch_size=BATCH,
            seed=0,
            transform=preprocessing.pad_crop_flip(),
        )
    )

    def run(steps: int) -> None:
        for _ in range(steps):
            next(batches)

    return run


def measure(rounds: int) -> dict:
    variants = {
        classes: Variant(balanced_stream, classes)
        for classes in (10, 1_000, 10_000)
    }
    speeds = take_turns(variants, rounds, steps=1_000)
    figures = {}
    for classes, variant in variants.items():
        figures[f"images_per_second_{classes}_classes"] = statistics.median(
            speeds[classes]
        )
        figures[f"process_megabytes_{classes}_classes"] = variant.megabytes
    for classes in (1_000, 10_000):
        figures[f"ratio_{classes}_classes_over_10"] = ratio(speeds, classes, 10)
        figures[f"ratio_megabytes_{classes}_classes_over_10"] = (
            variants[classes].megabytes / variants[10].megabytes
        )
    return figures
