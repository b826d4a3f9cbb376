"""Seconds of 10 epochs of cRT on CIFAR-10-LT, extraction included."""

import statistics
from collections.abc import Callable

import numpy as np

from benchmarks.steps import fast_precisions, resnet32
from benchmarks.turns import BATCH, Variant, ratio, take_turns


def retraining(cached: bool) -> Callable[[int], None]:
    """cRT on 12,406 images, from their features or the images themselves."""
    import keras

    from keras_lt import datasets, features, streams
    from keras_lt.models import TwoStage, classifier

    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (12_406, 32, 32, 3), np.uint8)
    data = datasets.from_arrays(images, np.arange(len(images)) % 10)
    stage1 = classifier(resnet32(fast_precisions()[-1]), 10)
    model = TwoStage.crt(stage1, 10)
    trained = model.head if cached else model
    trained.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    arguments = {"sampling": "class_balanced", "batch_size": BATCH, "seed": 0}

    def run(steps: int) -> None:
        if cached:
            extracted = features.extract(stage1, data)
            batches = features.stream(extracted, 10, **arguments)
        else:
            batches = streams.stream(data, **arguments)
        trained.fit(batches, steps_per_epoch=steps, shuffle=False, verbose=0)

    return run


def measure(rounds: int) -> dict:
    variants = {
        "cached": Variant(retraining, True),
        "backbone": Variant(retraining, False),
    }
    steps = 10 * 97
    speeds = take_turns(variants, rounds, steps)
    seconds = {
        f"seconds_{name}": steps * BATCH / statistics.median(values)
        for name, values in speeds.items()
    }
    return seconds | {
        "ratio_backbone_over_cached": ratio(speeds, "cached", "backbone")
    }
