"""Minutes of 200 epochs of LDAM-DRW over those of `cifar10_lt100_fast.cfg`.

Steps of both on 12,406 random images, drawn and augmented as in a run, take
turns; the trainings have as many steps as their flag files ask for.
"""

import statistics
from collections.abc import Callable

import flag_files
import numpy as np

from benchmarks.turns import BATCH, Variant, ratio, take_turns

# Name: the run, by its flag files.
RUNS = {
    "ldam_drw": "cifar10_lt100_ldam_drw_c200",
    "fast": "cifar10_lt100_fast",
}
IMAGES = 12_406


def training(flags: dict[str, str]) -> Callable[[int], None]:
    from keras_lt import (
        counts,
        datasets,
        losses,
        models,
        optimizers,
        preprocessing,
        streams,
    )

    generator = np.random.default_rng(0)
    per_class = counts.long_tail_counts(10, 5_000, 100)
    labels = np.repeat(np.arange(len(per_class)), per_class)
    images = generator.integers(0, 256, (len(labels), 32, 32, 3), np.uint8)
    network = models.backbones.get(
        flags["backbone"], input_shape=images.shape[1:]
    )
    head, loss = models.head_for(
        losses.get(flags["loss"], class_counts=per_class), 10
    )
    model = models.classifier(network, 10, head=head)
    model.compile(
        optimizers.get(flags["optimizer"], learning_rate=0.01),
        loss,
        jit_compile=False,
    )
    batches = streams.stream(
        datasets.from_arrays(images, labels),
        sampling="random",
        batch_size=int(flags["batch_size"]),
        seed=0,
        transform=preprocessing.get(flags["augment"]),
    )
    return lambda steps: model.fit(
        batches, steps_per_epoch=steps, shuffle=False, verbose=0
    )


def measure(rounds: int) -> dict:
    flags = {
        name: flag_files.values(flag_files.find(run))
        for name, run in RUNS.items()
    }
    variants = {name: Variant(training, each) for name, each in flags.items()}
    speeds = take_turns(variants, rounds, steps=30)
    steps = {
        name: int(each["epochs"]) * round(IMAGES / int(each["batch_size"]))
        for name, each in flags.items()
    }
    minutes = {
        f"minutes_{name}": steps[name] * BATCH / statistics.median(values) / 60
        for name, values in speeds.items()  # as if all took BATCH images
    }
    return minutes | {
        "ratio_minutes_ldam_drw_over_fast": ratio(speeds, "fast", "ldam_drw")
        * steps["ldam_drw"]
        / steps["fast"]
    }
