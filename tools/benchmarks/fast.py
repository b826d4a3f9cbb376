"""Minutes of 200 epochs of LDAM-DRW over those of `cifar10_lt100_fast.cfg`.

Steps of both on 12,406 random images, drawn and augmented as in a run, take
turns; the trainings are as many as their flag files ask for.
"""

import statistics
from collections.abc import Callable

import numpy as np

from benchmarks.turns import BATCH, Variant, ratio, take_turns

COUNTS = [5_000, 2_997, 1_796, 1_077, 645, 387, 232, 139, 83, 50]
STEPS_PER_EPOCH = sum(COUNTS) // BATCH + 1
# Name: backbone, loss, optimizer, epochs.
TRAININGS = {
    "ldam_drw": (
        "cifar_resnet(32)",
        "ldam(max_margin=0.5,scale=30)",
        "sgd(momentum=0.9,weight_decay=2e-4)",
        200,
    ),
    "fast": (
        "cifar_cnn",
        "balanced_softmax",
        "sgd(momentum=0.9,nesterov=True,weight_decay=5e-4)",
        10,
    ),
}


def training(
    backbone: str, loss: str, optimizer: str, epochs: int
) -> Callable[[int], None]:
    from keras_lt import (
        datasets,
        losses,
        models,
        optimizers,
        preprocessing,
        streams,
    )

    del epochs
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (sum(COUNTS), 32, 32, 3), np.uint8)
    labels = np.repeat(np.arange(len(COUNTS)), COUNTS)
    network = models.backbones.get(backbone, input_shape=images.shape[1:])
    model = models.classifier(network, len(COUNTS))
    model.compile(
        optimizers.get(
            optimizer, learning_rate=0.01, steps_per_epoch=STEPS_PER_EPOCH
        ),
        losses.get(loss, class_counts=COUNTS),
        jit_compile=False,
    )
    batches = streams.stream(
        datasets.from_arrays(images, labels),
        sampling="random",
        batch_size=BATCH,
        seed=0,
        transform=preprocessing.get("pad_crop_flip(4)"),
    )
    return lambda steps: model.fit(
        batches, steps_per_epoch=steps, shuffle=False, verbose=0
    )


def measure(rounds: int) -> dict:
    variants = {
        name: Variant(training, *settings)
        for name, settings in TRAININGS.items()
    }
    speeds = take_turns(variants, rounds, steps=30)
    images = {
        name: settings[-1] * STEPS_PER_EPOCH * BATCH
        for name, settings in TRAININGS.items()
    }
    minutes = {
        f"minutes_{name}": images[name] / statistics.median(values) / 60
        for name, values in speeds.items()
    }
    per_image = ratio(speeds, "fast", "ldam_drw")
    return minutes | {
        "ratio_images_per_second": per_image,
        "ratio_minutes": per_image * images["ldam_drw"] / images["fast"],
    }
