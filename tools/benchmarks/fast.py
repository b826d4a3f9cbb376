"""Minutes of 200 epochs of LDAM-DRW over those of `cifar10_lt100_fast.cfg`.

Steps of both on 12,406 random images, drawn and augmented as in a run, take
turns; the trainings have as many steps as their flag files ask for.
"""

import statistics
from collections.abc import Callable

import numpy as np

from benchmarks.turns import BATCH, Variant, ratio, take_turns

# Name: backbone, loss, optimizer, images per step, steps of the training.
TRAININGS = {
    "ldam_drw": (
        "cifar_resnet(32)",
        "ldam(max_margin=0.5,scale=30)",
        "sgd(momentum=0.9,weight_decay=2e-4)",
        128,
        200 * 97,
    ),
    "fast": (
        "cifar_cnn",
        "balanced_softmax(prior_smoothing=0.1)",
        "muon(weight_decay=5e-4)",
        256,
        10 * 48,
    ),
}


def training(
    backbone: str, loss: str, optimizer: str, batch_size: int
) -> Callable[[int], None]:
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
    network = models.backbones.get(backbone, input_shape=images.shape[1:])
    model = models.classifier(network, len(per_class))
    model.compile(
        optimizers.get(optimizer, learning_rate=0.01),
        losses.get(loss, class_counts=per_class),
        jit_compile=False,
    )
    batches = streams.stream(
        datasets.from_arrays(images, labels),
        sampling="random",
        batch_size=batch_size,
        seed=0,
        transform=preprocessing.get("pad_crop_flip(4)"),
    )
    return lambda steps: model.fit(
        batches, steps_per_epoch=steps, shuffle=False, verbose=0
    )


def measure(rounds: int) -> dict:
    variants = {
        name: Variant(training, *settings)
        for name, (*settings, _) in TRAININGS.items()
    }
    speeds = take_turns(variants, rounds, steps=30)
    steps = {name: settings[-1] for name, settings in TRAININGS.items()}
    minutes = {
        f"minutes_{name}": steps[name] * BATCH / statistics.median(values) / 60
        for name, values in speeds.items()  # as if all took BATCH images
    }
    return minutes | {
        "ratio_minutes_ldam_drw_over_fast": ratio(speeds, "fast", "ldam_drw")
        * steps["ldam_drw"]
        / steps["fast"]
    }
