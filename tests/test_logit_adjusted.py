"""Losses of adjusted logits by DLSA's code and by hand."""

import numpy as np
import pytest
from golden import load_cases, report_cases
from loss_helpers import assert_golden

from keras_lt.counts import log_prior
from keras_lt.losses import BalancedSoftmax, LogitAdjusted


@pytest.mark.golden
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_golden_balanced_softmax(dtype):
    cases = load_cases("balanced_softmax")
    for name, case in cases:
        counts = case["train_counts"]
        weighted = np.bincount(
            case["train_labels"], case["sample_weight"], len(counts)
        )
        prior = None if (weighted == counts).all() else weighted
        arguments = {"class_counts": counts, "prior": prior, "dtype": dtype}
        loss = BalancedSoftmax(**arguments)
        np.testing.assert_allclose(
            log_prior(weighted), case["log_prior"], rtol=1e-9
        )
        assert_golden(name, loss, case, "")
        smoothing = float(case["smoothing"])
        loss = BalancedSoftmax(label_smoothing=smoothing, **arguments)
        assert_golden(name, loss, case, "v2_")
    if dtype == "float64":
        report_cases("balanced_softmax", cases)


def test_logit_adjusted_by_hand():
    # softmax of (0 + 2 log 3, 0 + 2 log 1) is (9/10, 1/10).
    loss = LogitAdjusted([3_000_000, 1_000_000], tau=2.0, reduction=None)
    got = loss(np.array([0, 1]), np.zeros((2, 2)))
    np.testing.assert_allclose(got, np.log([10 / 9, 10]), rtol=1e-5)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.3])
def test_smoothing_towards_the_prior(label_smoothing):
    """At x = 0 the softmax is the prior p; the loss is that of hand."""
    p = np.array([0.6, 0.3, 0.1])
    loss = BalancedSoftmax(
        [6_000_000, 3_000_000, 1_000_000],
        label_smoothing=label_smoothing,
        prior_smoothing=0.2,
        reduction=None,
    )
    got = loss(np.arange(3), np.zeros((3, 3)))
    labels = np.full((3, 3), label_smoothing / 2)
    np.fill_diagonal(labels, 1 - label_smoothing)
    want = -(0.8 * labels + 0.2 * p) @ np.log(p)
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_smoothing_towards_the_prior_draws_to_equal_logits():
    # If nothing is known of an image, labels are drawn by the prior; smoothed
    # towards it they are least surprising where all x are the same.
    counts = [6_000_000, 3_000_000, 1_000_000]
    loss = BalancedSoftmax(counts, prior_smoothing=0.9)
    labels = np.repeat(np.arange(3), [6, 3, 1])
    even = float(loss(labels, np.zeros((10, 3))))
    for change in np.eye(3):
        for step in (-0.1, 0.1):
            assert float(loss(labels, np.tile(step * change, (10, 1)))) > even


def test_absent_class_is_all_but_impossible():
    # Its prior is log(1e-6) beside log(1).
    loss = BalancedSoftmax([1, 0])
    got = loss(np.array([0]), np.array([[0.0, np.log(1e6)]]))
    np.testing.assert_allclose(got, np.log(2), rtol=1e-5)
