"""Steps of one worker and of two, each on a core, and what N GPUs would do.

ResNet-32, float32. A step all-reduces the gradients, at once, and the
statistics of each normalization layer. The projection is of a ring, in
which each of N workers sends 2 (N - 1) / N times the bytes.
"""

import contextlib
import json
import os
import statistics
from collections.abc import Callable

from benchmarks.steps import random_batch, resnet32
from benchmarks.turns import BATCH, Variant, ratio, take_turns

# Of the projection: an H100-like GPU, 100 Gbit/s between machines, and
# collectives that wait for each other and for the step.
GPU_STEP_MILLISECONDS = 20.0
GIGABYTES_PER_SECOND = 12.5
COLLECTIVE_MILLISECONDS = 0.05


def worker_step(
    number: int, addresses: list[str], batch_size: int, together: bool = True
) -> Callable[[int], None]:
    """Steps of one of the workers that have these addresses, on its own core.

    `batch_size` images are of each worker. Unless `together`, each trains a
    model of its own.
    """
    import keras
    import tensorflow as tf

    from keras_lt import distribute
    from keras_lt.models import classifier

    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[number]})
    if not together:
        number, addresses = 0, [addresses[number]]
    os.environ["TF_CONFIG"] = json.dumps(
        {
            "cluster": {"worker": addresses},
            "task": {"type": "worker", "index": number},
        }
    )
    strategy = distribute.strategy("auto")
    with strategy.scope():
        model = classifier(resnet32("float32"), 10, l2=1e-4)
        model.compile(
            keras.optimizers.SGD(0.01, momentum=0.9),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
    images, labels = random_batch()
    batch = images[:batch_size], labels[:batch_size]
    options = tf.data.Options()
    options.autotune.enabled = False  # see keras_lt.streams
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.OFF
    )
    batches = tf.data.Dataset.from_tensors(batch).repeat().with_options(options)
    data = distribute.dataset(strategy, lambda shard: batches)

    def run(steps: int) -> None:
        model.fit(data, steps_per_epoch=steps, shuffle=False, verbose=0)

    return run


def measure(rounds: int) -> dict:
    import socket

    import keras

    from keras_lt.models import classifier

    with contextlib.ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(7)]
        for sock in held:
            sock.bind(("localhost", 0))
        ports = [f"localhost:{sock.getsockname()[1]}" for sock in held]
    variants = {
        "one": Variant(worker_step, 0, ports[:1], BATCH),
        "two": Variant(worker_step, ports[1:3], BATCH, processes=2),
        "two_halves": Variant(worker_step, ports[3:5], BATCH // 2, processes=2),
        "two_apart": Variant(worker_step, ports[5:], BATCH, False, processes=2),
    }
    speeds = take_turns(variants, rounds, steps=10)
    model = classifier(resnet32("float32"), 10)
    layers = [
        layer
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    weights = sum(weight.numpy().size for weight in model.trainable_weights)
    moving = sum(v.numpy().size for v in model.non_trainable_weights)
    megabytes = 4 * (weights + moving) / 1e6

    def efficiency(workers: int) -> float:
        sent = 2 * (workers - 1) / workers * megabytes
        communication = sent / GIGABYTES_PER_SECOND
        communication += (1 + len(layers)) * COLLECTIVE_MILLISECONDS
        return GPU_STEP_MILLISECONDS / (GPU_STEP_MILLISECONDS + communication)

    return {
        "megabytes_all_reduced": megabytes,
        "collectives": 1 + len(layers),
        **{
            f"milliseconds_{name}": 1e3 * BATCH / statistics.median(values)
            for name, values in speeds.items()
        },
        "ratio_two_over_one": ratio(speeds, "two", "one"),
        "ratio_two_halves_over_one": ratio(speeds, "two_halves", "one"),
        "ratio_two_over_two_apart": ratio(speeds, "two", "two_apart"),
        "assumed_milliseconds_gpu_step": GPU_STEP_MILLISECONDS,
        "assumed_gigabytes_per_second": GIGABYTES_PER_SECOND,
        "assumed_milliseconds_collective": COLLECTIVE_MILLISECONDS,
        "projected_efficiency_8_gpus": efficiency(8),
        "projected_efficiency_64_gpus": efficiency(64),
    }
