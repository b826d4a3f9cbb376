"""Draws of IP-DPP at scale "n", and their memory above that of imports."""

import importlib.util
import statistics
from collections.abc import Callable

import numpy as np

from benchmarks.turns import WARM_UP, Variant


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


def measure(rounds: int) -> dict:
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
