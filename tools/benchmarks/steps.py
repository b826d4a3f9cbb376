"""Training steps of ResNet-32 that several benchmarks take."""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.turns import BATCH

PRECISIONS = ("float32", "bfloat16")


def fast_precisions() -> tuple[str, ...]:
    """Precisions that this machine does not emulate."""
    from keras_lt import hardware

    return PRECISIONS[:1] if hardware.emulates_bfloat16() else PRECISIONS


def random_batch() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (BATCH, 32, 32, 3), np.uint8)
    return images, generator.integers(0, 10, BATCH)


def resnet32(precision: str, **arguments: Any) -> Any:
    import keras

    from keras_lt.models import backbones

    keras.config.set_dtype_policy(
        {"float32": "float32", "bfloat16": "mixed_bfloat16"}[precision]
    )
    return backbones.cifar_resnet(32, l2=1e-4, **arguments)


def keras_steps(model: Any, batch: Any) -> Callable[..., None]:
    import keras
    import tensorflow as tf

    model.compile(
        keras.optimizers.SGD(0.01, momentum=0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    options = tf.data.Options()
    options.autotune.enabled = False  # see keras_lt.streams
    batches = tf.data.Dataset.from_tensors(batch).repeat()
    batches = batches.with_options(options)

    def run(steps: int, **arguments: Any) -> None:
        model.fit(
            batches,
            steps_per_epoch=steps,
            shuffle=False,
            verbose=0,
            **arguments,
        )

    return run


def single_step(precision: str, fused: bool = True) -> Callable[[int], None]:
    import keras

    from keras_lt import layers
    from keras_lt.models import classifier

    normalization = (
        layers.FusedBatchNormalization
        if fused
        else keras.layers.BatchNormalization
    )
    backbone = resnet32(precision, batch_normalization=normalization)
    return keras_steps(classifier(backbone, 10, l2=1e-4), random_batch())
