"""Measures speed as ratios: variants take turns, each in its own process.

    python tools/benchmark.py train            # training step of ResNet-32
    python tools/benchmark.py train --method=dual_branch
    python tools/benchmark.py stage2           # classifier re-training
    python tools/benchmark.py bns              # BNS loss and gradient
    python tools/benchmark.py dpp              # draws of IP-DPP
    python tools/benchmark.py dlsa             # what a division costs in use
    python tools/benchmark.py input --json     # input pipeline
    python tools/benchmark.py checkpoint       # what checkpoints cost
    python tools/benchmark.py guards           # --deterministic and the like
    python tools/benchmark.py scaling          # two workers over one
    python tools/benchmark.py files            # images in 100,000 files

A ratio is the median over rounds of the quotient within a round, so that
another load on the machine, which changes slowly, hits both sides. Processes
keep the idle threads of one framework out of the other's way.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import argparse
import contextlib
import importlib.util
import io
import itertools
import json
import multiprocessing
import resource
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from keras_lt import hardware, report

BATCH = 128
WARM_UP = 5  # steps before the first turn
PRECISIONS = ("float32", "bfloat16")


class Variant:
    """A process that makes `factory(*arguments)` and runs it when asked.

    With several `processes` the factory's first argument is the number of the
    process; they run together, and the slowest counts. `variables` are put
    into their environment.
    """

    def __init__(
        self,
        factory: Callable,
        *arguments: Any,
        processes: int = 1,
        **variables: str,
    ):
        spawn = multiprocessing.get_context("spawn")
        self._pipes = []
        for number in range(processes):
            own = arguments if processes == 1 else (number, *arguments)
            pipe, theirs = spawn.Pipe()
            process = spawn.Process(
                target=_serve, args=(theirs, factory, own), daemon=True
            )
            with mock.patch.dict(os.environ, variables):
                process.start()
            theirs.close()
            self._pipes.append(pipe)
        self.megabytes = self.run(0)[1]

    def run(self, steps: int) -> tuple[float, float]:
        """Seconds that so many steps took, and the most megabytes so far."""
        for pipe in self._pipes:
            pipe.send(steps)
        seconds, megabytes = zip(
            *(pipe.recv() for pipe in self._pipes), strict=True
        )
        return max(seconds), max(megabytes)


def _serve(pipe: Any, factory: Callable, arguments: tuple) -> None:
    run = factory(*arguments)
    # A worker of TensorFlow catches the signal that ends daemons.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    while True:
        try:
            steps = pipe.recv()
        except EOFError:  # nobody asks any more
            return
        begin = time.perf_counter()
        run(steps or WARM_UP)
        seconds = time.perf_counter() - begin
        kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        pipe.send((seconds, kilobytes * 1024 / 1e6))


def take_turns(
    variants: dict[Any, Variant], rounds: int, steps: int
) -> dict[Any, list[float]]:
    """Images a second of each variant in each round."""
    speeds = {name: [] for name in variants}
    for _ in range(rounds):
        for name, variant in variants.items():
            speeds[name].append(steps * BATCH / variant.run(steps)[0])
    return speeds


def ratio(speeds: dict, over: str, under: str) -> float | None:
    if over not in speeds or under not in speeds:
        return None
    pairs = zip(speeds[over], speeds[under], strict=True)
    return statistics.median(a / b for a, b in pairs)


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


def dual_step(
    precision: str, auxiliary: str, joint_forward: bool = False
) -> Callable[[int], None]:
    from keras_lt.models import DualBranch

    model = DualBranch(
        resnet32(precision),
        10,
        auxiliary=auxiliary,
        joint_forward=joint_forward,
        l2=1e-4,
    )
    batch = {"balanced": random_batch(), "random": random_batch()}
    return keras_steps(model, batch)


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


def torch_step(precision: str) -> Callable[[int], None]:
    import torch
    from torch import nn
    from torch.nn import functional

    torch.set_num_threads(os.cpu_count())

    class Block(nn.Module):
        def __init__(self, before: int, filters: int):
            super().__init__()
            self.strides = 1 if before == filters else 2
            self.missing = (filters - before) // 2
            self.conv1 = nn.Conv2d(
                before, filters, 3, self.strides, 1, bias=False
            )
            self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
            self.norm1 = nn.BatchNorm2d(filters)
            self.norm2 = nn.BatchNorm2d(filters)

        def forward(self, x):
            y = functional.relu(self.norm1(self.conv1(x)))
            y = self.norm2(self.conv2(y))
            if self.strides > 1:
                pad = (0, 0, 0, 0, self.missing, self.missing)
                x = functional.pad(x[:, :, ::2, ::2], pad)
            return functional.relu(y + x)

    filters = [16] * 5 + [32] * 5 + [64] * 5
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, 1, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        *map(Block, [16, *filters], filters),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    ).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        model.parameters(), 0.01, momentum=0.9, weight_decay=2e-4
    )
    images, labels = random_batch()
    images = torch.from_numpy(images).permute(0, 3, 1, 2)  # channels last
    labels = torch.from_numpy(labels)

    def run(steps: int) -> None:
        for _ in range(steps):
            inputs = (images.float() - 127.5) / 127.5
            with torch.autocast(
                "cpu", torch.bfloat16, enabled=precision == "bfloat16"
            ):
                logits = model(inputs)
            loss = functional.cross_entropy(logits.float(), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return run


def random_batch() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (BATCH, 32, 32, 3), np.uint8)
    return images, generator.integers(0, 10, BATCH)


def train(rounds: int) -> dict:
    """Images/s of a ResNet-32 training step, batch 128.

    Where the CPU emulates bfloat16, the one figure of it is how many times as
    long as in float32 a step takes.
    """
    with_torch = importlib.util.find_spec("torch") is not None
    figures = {}
    for precision in fast_precisions():
        variants = {
            "keras_lt": Variant(single_step, precision),
            "keras_lt_without_onednn": Variant(
                single_step, precision, TF_ENABLE_ONEDNN_OPTS="0"
            ),
            "keras": Variant(single_step, precision, False),
        }
        if with_torch:
            variants["torch"] = Variant(torch_step, precision)
        speeds = take_turns(variants, rounds, steps=10)
        for name in ("keras_lt", "keras_lt_without_onednn", "keras", "torch"):
            figures[f"images_per_second_{name}_{precision}"] = (
                statistics.median(speeds[name]) if name in speeds else None
            )
        for name in ("keras_lt_without_onednn", "keras", "torch"):
            figures[f"ratio_over_{name}_{precision}"] = ratio(
                speeds, "keras_lt", name
            )
    if hardware.emulates_bfloat16():
        variants = {name: Variant(single_step, name) for name in PRECISIONS}
        speeds = take_turns(variants, rounds, steps=2)
        figures["ratio_time_bfloat16_over_float32"] = ratio(
            speeds, "float32", "bfloat16"
        )
    return figures


def fast_precisions() -> tuple[str, ...]:
    """Those that this machine does not emulate."""
    return PRECISIONS[:1] if hardware.emulates_bfloat16() else PRECISIONS


def train_dual_branch(rounds: int) -> dict:
    """Time of a dual-branch step of ResNet-32, batch 128 a branch."""
    figures = {}
    for precision in fast_precisions():
        variants = {
            "single": Variant(single_step, precision),
            "classifier": Variant(dual_step, precision, "classifier"),
            "rotation": Variant(dual_step, precision, "rotation"),
            "joint": Variant(dual_step, precision, "classifier", True),
        }
        speeds = take_turns(variants, rounds, steps=10)
        for name, values in speeds.items():
            figures[f"milliseconds_{name}_{precision}"] = (
                1e3 * BATCH / statistics.median(values)
            )
        # Speeds are of single batches: half of it is the cost of two steps.
        figures[f"ratio_classifier_over_two_single_{precision}"] = (
            ratio(speeds, "single", "classifier") / 2
        )
        figures[f"ratio_rotation_over_classifier_{precision}"] = ratio(
            speeds, "classifier", "rotation"
        )
        figures[f"ratio_joint_over_classifier_{precision}"] = ratio(
            speeds, "classifier", "joint"
        )
    return figures


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


def stage2(rounds: int) -> dict:
    """Seconds of 10 epochs of cRT on CIFAR-10-LT, extraction included."""
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


def bns_step(size: int, expanded: bool) -> Callable[[int], None]:
    """BNS and its gradient on `size` pairs of views with 128 dimensions."""
    import tensorflow as tf

    from keras_lt import losses

    generator = np.random.default_rng(0)
    embeddings = generator.normal(size=(size, 2, 128)).astype(np.float32)
    embeddings = tf.constant(embeddings)
    labels = tf.constant(generator.integers(0, 10, size))
    ours = losses.BalancedNegativeSampling()

    def by_expansion(labels, embeddings):
        """All pairs of views side by side, as in the authors' code."""
        views = tf.concat(tf.unstack(embeddings, axis=1), axis=0)
        views = tf.math.l2_normalize(views, axis=1)
        labels = tf.tile(labels, [2])
        first = tf.tile(views[:, None], [1, 2 * size, 1])  # (2 B, 2 B, D)
        second = tf.tile(views[None], [2 * size, 1, 1])
        scores = tf.exp(tf.reduce_sum(first * second, axis=2) / 0.5)
        same = tf.cast(labels[:, None] == labels, tf.float32)
        positive = same - tf.eye(2 * size)
        attraction = tf.reduce_sum(positive * scores, axis=1)
        attraction /= tf.reduce_sum(positive, axis=1)
        repulsion = tf.reduce_mean((1.0 - same) * scores, axis=1)
        return tf.reduce_mean(
            tf.nn.softplus(-attraction) + tf.nn.softplus(repulsion)
        )

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            tape.watch(embeddings)
            loss = (by_expansion if expanded else ours)(labels, embeddings)
        return loss, tape.gradient(loss, embeddings)

    def run(steps: int) -> None:
        for _ in range(steps):
            step()

    return run


def bns(rounds: int) -> dict:
    """BNS and its gradient at B = 1,024: one product or all pairs expanded."""
    variants = {
        name: Variant(bns_step, 1_024, name == "expanded")
        for name in ("keras_lt", "expanded")
    }
    speeds = take_turns(variants, rounds, steps=5)
    imported = Variant(bns_step, 2, False).megabytes
    figures = {}
    for name, variant in variants.items():
        seconds = BATCH / statistics.median(speeds[name])
        figures[f"milliseconds_{name}"] = 1e3 * seconds
        figures[f"megabytes_{name}"] = variant.megabytes - imported
    figures["ratio_time_expanded_over_keras_lt"] = ratio(
        speeds, "keras_lt", "expanded"
    )
    figures["ratio_megabytes_expanded_over_keras_lt"] = (
        figures["megabytes_expanded"] / figures["megabytes_keras_lt"]
    )
    return figures


def draws(size: int, k: int) -> Callable[[int], None]:
    """Draws of `k` of `size` images by IP-DPP."""
    from keras_lt import dpp

    p = np.random.default_rng(0).random(size)

    def run(steps: int) -> None:
        for seed in range(steps):
            dpp.sample(p, k, seed=seed, scale="n")

    return run


def dense_draws(size: int, k: int, dppy: bool) -> Callable[[int], None]:
    """What such draws take by a matrix: its eigenvectors, at least."""
    from keras_lt import dpp

    kernel = dpp.information_kernel(np.random.default_rng(0).random(size), "n")

    def run(steps: int) -> None:
        for seed in range(steps if steps != WARM_UP else 0):
            if not dppy:
                np.linalg.eigh(kernel)
                continue
            from dppy.finite_dpps import FiniteDPP

            process = FiniteDPP("likelihood", L=kernel)
            process.sample_exact_k_dpp(k, random_state=seed)

    return run


def dpp_(rounds: int) -> dict:
    """Draws of IP-DPP at scale "n", and their memory above that of imports."""
    size, k = 5_000, 500
    ours = Variant(draws, size, k)
    others = {"eigendecomposition": Variant(dense_draws, size, k, False)}
    if importlib.util.find_spec("dppy") is not None:
        others["dppy"] = Variant(dense_draws, size, k, True)
    seconds = {name: [] for name in ("keras_lt", *others)}
    for _ in range(rounds):
        seconds["keras_lt"].append(ours.run(100)[0] / 100)
        for name, variant in others.items():
            seconds[name].append(variant.run(1)[0])
    figures = {
        f"milliseconds_{name}_5000": 1e3 * statistics.median(values)
        for name, values in seconds.items()
    }
    for name in others:
        pairs = zip(seconds[name], seconds["keras_lt"], strict=True)
        figures[f"ratio_{name}_over_keras_lt_5000"] = statistics.median(
            theirs / ours for theirs, ours in pairs
        )
    large = Variant(draws, 1_000_000, 100_000)
    figures["seconds_keras_lt_1000000"] = statistics.median(
        large.run(1)[0] for _ in range(rounds)
    )
    figures["megabytes_keras_lt_1000000"] = (
        large.megabytes - Variant(draws, 10, 1).megabytes
    )
    return figures


def exported(depth: int) -> Callable[[int], None]:
    """Predictions of a SavedModel: a classifier, or a DLSA of that depth."""
    import tensorflow as tf

    from keras_lt import export
    from keras_lt.models import DLSA, classifier, stack

    model = classifier(resnet32("float32"), 10)
    if depth:
        model = stack(model, DLSA(10, 64, depth=depth))
    with tempfile.TemporaryDirectory() as folder:
        export.save(model, f"{folder}/model")
        loaded = tf.saved_model.load(f"{folder}/model")
    images = tf.constant(random_batch()[0])

    def run(steps: int) -> None:
        for _ in range(steps):
            loaded.serving_default(images)

    return run


def dlsa(rounds: int) -> dict:
    """Images a second of exported models, divided and not."""
    variants = {
        "backbone": Variant(exported, 0),
        "depth_1": Variant(exported, 1),
        "depth_3": Variant(exported, 3),
    }
    speeds = take_turns(variants, rounds, 20)
    return {
        f"images_per_second_{name}": statistics.median(values)
        for name, values in speeds.items()
    } | {
        f"ratio_{name}_over_backbone": ratio(speeds, name, "backbone")
        for name in ("depth_1", "depth_3")
    }


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


def input_(rounds: int) -> dict:
    """Images/s and memory of a class-balanced stream with pad-crop-flip."""
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


def checkpoint(rounds: int) -> dict:
    """Time of an epoch of CIFAR-10-LT after a checkpoint, over one without.

    ResNet-32, 97 steps of 128 images, in one `fit` that writes a
    checkpoint every second epoch. The training waits for a copy of the state,
    and shares the processor with its writing in the epoch that follows.
    """
    import keras

    from keras_lt import callbacks
    from keras_lt.models import classifier

    run = keras_steps(
        classifier(resnet32(fast_precisions()[-1]), 10, l2=1e-4), random_batch()
    )
    run(WARM_UP)
    ends, waits = [], []

    class Timed(callbacks.Checkpointing):
        def _save(self) -> None:
            begin = time.perf_counter()
            super()._save()
            waits.append(time.perf_counter() - begin)

    clock = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: ends.append(time.perf_counter())
    )
    with tempfile.TemporaryDirectory() as folder:
        timed = Timed(folder, save_freq_epochs=2, save_freq_minutes=10)
        run(97, epochs=2 * rounds + 2, callbacks=[clock, timed])
    # The epochs from the third on; the first checkpoint is after the second.
    seconds = np.diff(ends)[1:].reshape(rounds, 2)
    with_one, without = seconds.T
    return {
        "seconds_epoch": statistics.median(without),
        "seconds_epoch_with_checkpoint": statistics.median(with_one),
        "milliseconds_wait": 1e3 * statistics.median(waits),
        "ratio_with_over_without": statistics.median(with_one / without),
    }


def guarded_step(guard: str) -> Callable[[int], None]:
    import tensorflow as tf

    from keras_lt import callbacks
    from keras_lt.models import classifier

    if guard == "deterministic":
        tf.config.experimental.enable_op_determinism()
    model = classifier(resnet32("float32"), 10, l2=1e-4)
    run = keras_steps(model, random_batch())
    if guard != "skip_nonfinite":
        return run
    skip = callbacks.SkipNonFinite(model, 1)
    return lambda steps: run(steps, callbacks=[skip])


def guards(rounds: int) -> dict:
    """What --deterministic and --skip_nonfinite cost a step of ResNet-32."""
    names = ("plain", "deterministic", "skip_nonfinite")
    variants = {name: Variant(guarded_step, name) for name in names}
    speeds = take_turns(variants, rounds, steps=10)
    return {
        **{
            f"milliseconds_{name}": 1e3 * BATCH / statistics.median(values)
            for name, values in speeds.items()
        },
        **{
            f"ratio_{name}_over_plain": ratio(speeds, "plain", name)
            for name in names[1:]
        },
    }


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


# Of the projection: an H100-like GPU, 100 Gbit/s between machines, and
# collectives that wait for each other and for the step.
GPU_STEP_MILLISECONDS = 20.0
GIGABYTES_PER_SECOND = 12.5
COLLECTIVE_MILLISECONDS = 0.05


def scaling(rounds: int) -> dict:
    """Steps of one worker and of two, each on a core, and what N GPUs would do.

    ResNet-32, float32. A step all-reduces the gradients, at once, and the
    statistics of each normalisation layer. The projection is of a ring, in
    which each of N workers sends 2 (N - 1) / N times the bytes.
    """
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


def files_(rounds: int) -> dict:
    """Images/s of a class-balanced stream of 100,000 files in 1,000 classes."""
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


SUBJECTS = {
    ("train", "single"): train,
    ("train", "dual_branch"): train_dual_branch,
    ("stage2", "single"): stage2,
    ("bns", "single"): bns,
    ("dpp", "single"): dpp_,
    ("dlsa", "single"): dlsa,
    ("input", "single"): input_,
    ("checkpoint", "single"): checkpoint,
    ("guards", "single"): guards,
    ("scaling", "single"): scaling,
    ("files", "single"): files_,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument(
        "subject",
        choices=[*dict.fromkeys(subject for subject, _ in SUBJECTS)],
    )
    parser.add_argument(
        "--method",
        choices=["single", "dual_branch"],
        default="single",
        help="whose training step",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--rounds", type=int, default=7, help="turns of each variant"
    )
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error(f"--rounds must be at least 1, not {arguments.rounds}")
    if (arguments.subject, arguments.method) not in SUBJECTS:
        parser.error(f"--method is for train, not {arguments.subject}")
    measure = SUBJECTS[arguments.subject, arguments.method]
    figures = measure(arguments.rounds)
    if arguments.json:
        figures["environment"] = report.environment()
        json.dump(figures, sys.stdout, indent=1)
        print()
        return
    machine = hardware.summary()
    isa = machine["onednn_max_cpu_isa"] or ""
    print(measure.__doc__.splitlines()[0])
    print(
        f"{machine['cpu']}, {machine['cpu_count']} cores, "
        f"{' '.join(machine['cpu_features']) or 'no AVX2'}; oneDNN "
        f"{'on' if machine['onednn'] else 'off'}"
        f"{isa and f', which takes it for one with {isa}'}"
    )
    for name, value in figures.items():
        shown = "not measured" if value is None else f"{value:12,.2f}"
        print(f"{name:44}{shown:>12}")


if __name__ == "__main__":
    main()
