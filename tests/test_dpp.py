"""Draws and probabilities of k-DPPs, against enumeration of all subsets."""

import itertools
import re

import numpy as np
import pytest
from data import chi_square, chi_square_limit
from golden import load_cases, report_cases

from keras_lt import dpp

# The first is that of a golden case.
EIGHT = {
    "spread": [0.11, 0.93, 0.52, 0.27, 0.78, 0.05, 0.64, 0.99],
    "extreme": [1.0, 0.0, 1.0, 0.5, 0.0, 1.0, 0.9, 0.999],
    "learned": [1.0, 1.0, 1.0, 0.99, 1.0, 1.0, 0.6, 1.0],
}


def enumerated(kernel, k):
    """All subsets of k items, and the probability of each."""
    subsets = list(itertools.combinations(range(len(kernel)), k))
    volumes = [np.linalg.det(kernel[np.ix_(s, s)]) for s in subsets]
    return np.array(subsets), np.array(volumes) / np.sum(volumes)


def frequencies(draws, subsets):
    """How often each subset was drawn."""
    places = {tuple(subset): place for place, subset in enumerate(subsets)}
    drawn = [places[tuple(draw)] for draw in draws]
    return np.bincount(drawn, minlength=len(subsets))


@pytest.mark.golden
def test_golden_kernels():
    cases = load_cases("ipdpp_kernel")
    for _, case in cases:
        p, k = case["p"], int(case["k"])
        kernel = dpp.information_kernel(p)
        np.testing.assert_allclose(kernel, case["S"], rtol=0, atol=1e-14)
        if not k:
            continue
        logs = [dpp.log_probability(subset, p) for subset in case["subsets"]]
        np.testing.assert_allclose(np.exp(logs), case["subset_prob"], rtol=1e-9)
        np.testing.assert_allclose(
            dpp.inclusion_probabilities(p, k),
            case["inclusion_prob"],
            rtol=1e-9,
        )
    report_cases("ipdpp_kernel", cases)


@pytest.mark.parametrize("scale", dpp.SCALES)
@pytest.mark.parametrize("p", EIGHT.values(), ids=EIGHT.keys())
def test_probabilities_are_those_of_the_kernel(p, scale):
    kernel = dpp.information_kernel(p, scale)
    np.testing.assert_allclose(kernel.sum(axis=1), 1.0)
    np.testing.assert_array_equal(kernel, kernel.T)
    size = len(p)
    divisor = size if scale == "n" else size**2
    np.testing.assert_allclose(kernel[1, 2], p[1] * p[2] / divisor)
    for k in range(1, size + 1):
        subsets, probabilities = enumerated(kernel, k)
        logs = [dpp.log_probability(s[::-1], p, scale=scale) for s in subsets]
        np.testing.assert_allclose(np.exp(logs), probabilities, rtol=1e-8)
        members = (subsets[:, :, None] == np.arange(size)).any(axis=1)
        np.testing.assert_allclose(
            dpp.inclusion_probabilities(p, k, scale=scale),
            probabilities @ members,
            rtol=1e-8,
        )


@pytest.mark.parametrize(
    "name, scale, count, tells_from_uniform",
    [
        ("spread", "n", 2_000, True),
        ("extreme", "n", 2_000, True),
        ("learned", "n", 2_000, True),
        # The published scale is so close to uniform draws that one case of many
        # draws tells them apart; 123,000 would be needed with "learned".
        ("extreme", "n2", 27_000, True),
        ("spread", "n2", 2_000, False),
        ("learned", "n2", 2_000, False),
    ],
)
def test_draws_are_those_of_the_kernel(name, scale, count, tells_from_uniform):
    p = EIGHT[name]
    subsets, probabilities = enumerated(dpp.information_kernel(p, scale), 3)
    observed = frequencies(
        (dpp.sample(p, 3, seed=seed, scale=scale) for seed in range(count)),
        subsets,
    )
    statistic = chi_square(observed, count * probabilities)
    assert statistic < chi_square_limit(len(subsets) - 1)
    # The statistic with the most power against a sampler that p doesn't reach:
    # the mean log-likelihood ratio of the kernel and of uniform draws.
    ratios = np.log(probabilities * len(subsets))
    expected = probabilities @ ratios
    error = (probabilities @ (ratios - expected) ** 2 / count) ** 0.5
    assert abs(observed @ ratios / count - expected) < 3.5 * error
    if tells_from_uniform:
        assert expected - ratios.mean() > 7 * error


def two_hundred():
    """A quarter close to 0, the others close to 1."""
    generator = np.random.default_rng(0)
    return np.concatenate(
        [generator.uniform(0, 0.01, 50), generator.uniform(0.99, 1, 150)]
    )


def deviation(draws, p, expected):
    """How far the mean p of draws is from the expected, in standard errors."""
    sums = p[draws].sum(axis=1)
    error = sums.std(ddof=1) / len(sums) ** 0.5
    return abs(sums.mean() - p @ expected) / error


@pytest.mark.parametrize("scale, count", [("n2", 4_000), ("n", 2_000)])
def test_inclusion_of_two_hundred(scale, count):
    p = two_hundred()
    expected = dpp.inclusion_probabilities(p, 50, scale=scale)
    np.testing.assert_allclose(expected.sum(), 50)
    draws = np.array(
        [dpp.sample(p, 50, seed=seed, scale=scale) for seed in range(count)]
    )
    assert deviation(draws, p, expected) < 3.5
    observed = np.bincount(draws.ravel(), minlength=200)
    variances = count * expected * (1 - expected)
    statistic = ((observed - count * expected) ** 2 / variances).sum()
    assert statistic < chi_square_limit(199)
    # A sampler that p does not reach is found out.
    uniform = np.random.default_rng(1).random((count, 200), np.float32)
    uniform = np.argpartition(uniform, 50, axis=1)[:, :50]
    if scale == "n":  # with "n2" it takes 500,000 draws
        assert deviation(uniform, p, expected) > 3.5


def test_larger_inclusions_by_the_recursion_of_elementary_symmetric_sums():
    # e_k without item i in exact integers, where d are multiples of 1 / N^2.
    size, k = 40, 12
    p = np.random.default_rng(0).integers(0, 2, size).astype(float)
    ones = int(p.sum())
    d = [size - ones if each else size for each in p]  # times N, scale "n"
    u2 = [int(each) for each in p]

    def symmetric(values, most):
        sums = [1] + [0] * most
        for value in values:
            for j in range(most, 0, -1):
                sums[j] += value * sums[j - 1]
        return sums

    def total(items):
        """Sum over subsets of k of prod d + sum of u^2 over the others' d."""
        values = [d[i] for i in items]
        result = symmetric(values, k)[k]
        for i in items:
            if u2[i]:
                others = [d[j] for j in items if j != i]
                result += u2[i] * symmetric(others, k)[k - 1]
        return result

    everything = total(range(size))
    want = [
        1 - total([j for j in range(size) if j != i]) / everything
        for i in range(size)
    ]
    got = dpp.inclusion_probabilities(p, k, scale="n")
    np.testing.assert_allclose(got, want, rtol=1e-9)


def test_small_probabilities_are_preferred():
    # The figure of the design: 0.45 where the class has 0.50.
    p = np.random.default_rng(0).random(5_000)
    means = {
        scale: np.mean(
            [
                p[dpp.sample(p, 500, seed=s, scale=scale)].mean()
                for s in range(9)
            ]
        )
        for scale in dpp.SCALES
    }
    assert abs(means["n"] - 0.45) < 0.01
    assert abs(means["n2"] - p.mean()) < 0.015


def test_complements_keep_what_p_loses():
    # All p round to 1; the hardest image is as sure to come as at 1 - 1e-3.
    complements = np.full(50, 1e-20)
    complements[7] = 1e-17
    scaled = np.minimum(complements * 1e14, 1.0)
    got = dpp.inclusion_probabilities(
        np.ones(50), 5, scale="n", complements=complements
    )
    want = dpp.inclusion_probabilities(1 - scaled, 5, scale="n")
    np.testing.assert_allclose(got, want, rtol=0.01)
    assert got[7] > 0.8
    drawn = [
        dpp.sample(
            np.ones(50), 5, seed=seed, scale="n", complements=complements
        )
        for seed in range(200)
    ]
    assert sum(7 in draw for draw in drawn) > 140


def test_all_of_them_learned_is_uniform():
    np.testing.assert_allclose(dpp.information_kernel([1, 1], "n"), 0.5)
    ones = np.ones(6)
    np.testing.assert_allclose(
        dpp.inclusion_probabilities(ones, 2, scale="n"), 1 / 3
    )
    log = dpp.log_probability([1, 4], ones, scale="n")
    np.testing.assert_allclose(np.exp(log), 1 / 15)
    subsets = list(itertools.combinations(range(6), 2))
    draws = (dpp.sample(ones, 2, seed=s, scale="n") for s in range(1_500))
    observed = frequencies(draws, subsets)
    assert chi_square(observed, 1_500 / 15) < chi_square_limit(14)


@pytest.mark.parametrize("scale", dpp.SCALES)
def test_trivial_sizes(scale):
    for p in ([0.5, 0.0, 1.0], [1.0], [0.0], []):
        for k in {0, len(p)}:
            drawn = dpp.sample(p, k, seed=0, scale=scale)
            np.testing.assert_array_equal(drawn, np.arange(k))
            assert drawn.dtype == np.int64
            included = dpp.inclusion_probabilities(p, k, scale=scale)
            np.testing.assert_array_equal(included, [float(k > 0)] * len(p))
            assert dpp.log_probability(range(k), p, scale=scale) == 0.0


def test_a_draw_is_a_function_of_its_seed():
    p = np.linspace(0, 1, 30)
    first, again, other, several = (
        dpp.sample(p, 9, seed=seed) for seed in (3, 3, 4, [3, 1])
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any() and (first != several).any()
    assert (np.diff(first) > 0).all() and len(first) == 9


def test_balanced_subset():
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 3], 40))
    labels = np.append(labels, [2, 2, 4])
    p = np.random.default_rng(1).random(len(labels))
    for scores in ({}, {"probabilities": p, "scale": "n"}):
        chosen = dpp.balanced_subset(labels, 6, seed=[3, 1], **scores)
        counts = np.bincount(labels[chosen], minlength=5)
        np.testing.assert_array_equal(counts, [6, 6, 2, 6, 1])
        assert (np.diff(chosen) > 0).all()
    # Within a class it is `sample`, with a seed of the class' own.
    members = np.flatnonzero(labels == 3)
    drawn = dpp.sample(p[members], 6, seed=[3, 1, 3], scale="n")
    np.testing.assert_array_equal(chosen[labels[chosen] == 3], members[drawn])
    again = dpp.balanced_subset(
        labels,
        6,
        seed=[3, 1],
        probabilities=p,
        complements=1 - p,
        scale="n",
    )
    np.testing.assert_array_equal(chosen, again)
    assert len(dpp.balanced_subset([], 5, seed=0)) == 0


def test_balanced_subset_without_scores_is_uniform():
    labels = np.repeat([0, 1], [5, 2])
    pairs = list(itertools.combinations(range(5), 2))
    draws = (
        dpp.balanced_subset(labels, 2, seed=seed)[:2] for seed in range(2_000)
    )
    observed = frequencies(draws, pairs)
    assert chi_square(observed, 200) < chi_square_limit(9)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: dpp.sample([0.5, np.nan], 1, seed=0), r"\[1\]=nan"),
        (lambda: dpp.sample([0.5, 1.1], 1, seed=0), r"\[1\]=1.1"),
        (lambda: dpp.sample([[0.5]], 1, seed=0), r"shape \(1, 1\)"),
        (lambda: dpp.sample([0.5, 0.1], 3, seed=0), "from 0 to 2, N.* k=3"),
        (lambda: dpp.sample([0.5, 0.1], -1, seed=0), "k=-1"),
        (lambda: dpp.sample([0.5, 0.1], 0.5, seed=0), "k=0.5"),
        (lambda: dpp.sample([0.5], 1, seed=0, scale="n3"), "scale='n3'"),
        (lambda: dpp.information_kernel([0.5], "x"), "scale='x'"),
        (
            lambda: dpp.sample([0.5, 1], 1, seed=0, complements=[0.5, 0.2]),
            "1 - probabilities",
        ),
        (lambda: dpp.log_probability([1, 1], [0.5, 0.2, 0.1]), "distinct"),
        (lambda: dpp.log_probability([3], [0.5, 0.2, 0.1]), "from 0 to 2"),
        (lambda: dpp.inclusion_probabilities([0.5], 2), "k=2"),
        (lambda: dpp.balanced_subset([0, 0], 0, seed=0), "k=0"),
        (
            lambda: dpp.balanced_subset([0, 0], 1, seed=0, probabilities=[1]),
            r"each of 2 labels.* shape \(1,\)",
        ),
        (
            lambda: dpp.sample_features(np.eye(3)[:, :2], 3, seed=0),
            "the rank of the kernel.* k=3",
        ),
        (
            lambda: dpp.sample_features([[np.inf]], 1, seed=0),
            "1 values not finite",
        ),
        (
            lambda: dpp.sample_features(np.eye(2), 1, seed=0, quality=[1, -1]),
            "at least 0",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message) as error:
        call()
    assert re.match("Expected .* Received: ", str(error.value))


def features(size, dimensions):
    return np.random.default_rng(0).normal(size=(size, dimensions))


@pytest.mark.parametrize("k", [1, 3, 4])
def test_draws_of_features_are_those_of_their_kernel(k):
    rows, quality = features(7, 4), np.array([1, 2, 0.5, 1, 0, 3, 1])
    kernel = np.outer(quality, quality) * (rows @ rows.T)
    subsets, probabilities = enumerated(kernel, k)
    probabilities = np.maximum(probabilities, 0.0)
    count = 4_000
    observed = frequencies(
        (
            dpp.sample_features(rows, k, seed=seed, quality=quality)
            for seed in range(count)
        ),
        subsets,
    )
    likely = probabilities > 1e-12  # without the item of quality 0
    assert observed[~likely].sum() == 0
    statistic = chi_square(observed[likely], count * probabilities[likely])
    assert statistic < chi_square_limit(likely.sum() - 1)


def test_features_of_few_dimensions():
    rows = np.repeat(features(6, 2), 3, axis=1)  # of rank 2
    drawn = [dpp.sample_features(rows, 2, seed=seed) for seed in range(50)]
    assert all(len(set(draw)) == 2 for draw in drawn)
    assert len(dpp.sample_features(rows, 0, seed=0)) == 0
    # Two copies of an item are never drawn together.
    copies = np.concatenate([rows, rows])
    for seed in range(200):
        first, second = dpp.sample_features(copies, 2, seed=seed)
        assert first % 6 != second % 6
