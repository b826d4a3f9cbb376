"""Samplers: what they draw in expectation, and those of users."""

import numpy as np
import pytest
from data import chi_square, chi_square_limit, numbered

from keras_lt import sampling, streams

COUNTS = np.array([90, 0, 30, 10])
SPECS = [
    "random",
    "class_balanced",
    "square_root",
    "reversed",
    "half_balanced",
    "switched(random,class_balanced,0)",
]


@pytest.mark.parametrize("sampler", [*SPECS, [0.1, 0.2, 0.3, 0.4]], ids=str)
def test_expected_counts_are_what_a_stream_draws(sampler):
    sampler = sampling.get(sampler, steps_per_epoch=1)
    expected = sampler.expected_counts(COUNTS)
    assert expected.sum() == pytest.approx(130)
    assert expected[1] == 0
    batches = streams.stream(
        numbered(COUNTS), sampling=sampler, batch_size=6500, seed=0
    )
    labels = np.concatenate([labels for _, labels in batches.take(4)])
    drawn = np.bincount(labels, minlength=4)
    if sampler.name == "random" and not hasattr(sampler, "after"):
        np.testing.assert_array_equal(drawn, 200 * expected)
    assert chi_square(drawn[COUNTS > 0], 200 * expected[COUNTS > 0]) < (
        chi_square_limit(2)
    )


def test_expected_counts_are_unknown_where_they_change():
    assert (
        sampling.get("progressive(total_steps=9)").expected_counts(COUNTS)
        is None
    )
    assert sampling.get("progressive(total_steps=9)").name == "progressive"


def test_switched_ends_with_the_second_sampler():
    drs = sampling.get("switched(class_balanced,random,3)", steps_per_epoch=7)
    assert drs.step == 21
    assert drs.name == "class_balanced"
    np.testing.assert_array_equal(drs.expected_counts(COUNTS), COUNTS)


def test_sampler_of_a_user_needs_weights_alone():
    class Tempered(sampling.Sampler):
        def class_weights(self, class_counts):
            return class_counts**2.0

    sampler = Tempered()
    assert sampler.name == "Tempered"
    np.testing.assert_allclose(
        sampler.expected_counts([30, 10]), [40 * 0.9, 40 * 0.1]
    )
    batches = streams.stream(
        numbered([30, 10]), sampling=sampler, batch_size=1000, seed=0
    )
    _, labels = next(iter(batches))
    # Binomial with p = 0.1: a standard deviation of 0.0095.
    assert np.mean(labels) == pytest.approx(0.1, abs=5 * 0.0095)


def test_sampler_without_weights_says_so():
    class Empty(sampling.Sampler):
        pass

    with pytest.raises(NotImplementedError, match="Empty to say class_weights"):
        Empty().expected_counts([3, 1])
