"""BNS and its gradient at B = 1,024: one product or all pairs expanded."""

import statistics
from collections.abc import Callable

import numpy as np

from benchmarks.turns import BATCH, Variant, ratio, take_turns


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


def measure(rounds: int) -> dict:
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
