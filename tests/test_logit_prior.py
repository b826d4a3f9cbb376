"""The class prior of trained logits, as losses say it."""

import keras
import numpy as np
import pytest
from loss_helpers import COUNTS

from keras_lt import losses
from keras_lt.counts import effective_number_weights
from keras_lt.losses import BalancedSoftmax, LogitAdjusted, logit_prior

DRAWN = np.array(COUNTS)
WEIGHTS = effective_number_weights(COUNTS, 0.99)


@pytest.mark.parametrize(
    "spec, want",
    [
        ("crossentropy", DRAWN),
        ("mean_squared_error", DRAWN),
        ("focal(gamma=2)", DRAWN),
        ("ldam", DRAWN),
        ("label_aware_smoothing", DRAWN),
        ("class_balanced(beta=None)", DRAWN),
        ("class_balanced(beta=0.99)", DRAWN * WEIGHTS),
        ("class_balanced_sigmoid(beta=0.99)", DRAWN * WEIGHTS),
        ("class_balanced_focal(beta=0.99)", DRAWN * WEIGHTS),
        ("ldam(beta=0.99)", DRAWN * WEIGHTS),
        ("ldam(class_weights=[1, 0, 2, 4])", DRAWN * [1, 0, 2, 4]),
        ("balanced_softmax", [1, 1, 1, 1]),
        ("balanced_softmax(beta=0.99)", WEIGHTS),
        ("logit_adjusted(tau=0)", DRAWN),
        ("logit_adjusted(tau=1.5)", DRAWN**-0.5),
        ("logit_adjusted(prior=[9, 9, 9, 1])", DRAWN / [9, 9, 9, 1]),
        ("reweighted(crossentropy,beta=0.99)", DRAWN * WEIGHTS),
        ("reweighted(balanced_softmax,beta=0.99)", WEIGHTS),
    ],
)
def test_prior_by_hand(spec, want):
    loss = losses.get(spec, class_counts=COUNTS)
    want = np.asarray(want, float)
    np.testing.assert_allclose(
        logit_prior(loss, COUNTS), want / want[want > 0].min(), rtol=1e-12
    )


def test_what_was_drawn_is_not_what_the_loss_knows():
    # Class-balanced sampling under a loss that takes the counts out too.
    got = logit_prior(BalancedSoftmax(COUNTS), np.ones(4))
    np.testing.assert_allclose(got, 900 / DRAWN / (900 / 900), rtol=1e-12)
    got = logit_prior(keras.losses.CategoricalCrossentropy(), [0.5, 0, 0.25, 1])
    np.testing.assert_array_equal(got, [2, 0, 1, 4])


def test_class_without_images_has_no_prior():
    for loss in (
        losses.Focal([9, 0, 3]),
        losses.ClassBalancedCrossentropy([9, 0, 3], beta=0.9),
        LogitAdjusted([9, 0, 3], tau=2.0),
    ):
        prior = logit_prior(loss, [9, 0, 3])
        assert prior[1] == 0 and prior[[0, 2]].min() == 1


def test_deferred_weights_count_in_full():
    loss = losses.ClassBalancedCrossentropy(COUNTS, beta=0.99)
    want = loss.logit_prior(COUNTS)
    loss.reweighting.assign(0.0)
    np.testing.assert_array_equal(loss.logit_prior(COUNTS), want)


def test_a_users_loss_says_its_own():
    class Loss(keras.losses.Loss):
        def logit_prior(self, class_counts):
            return np.ones(len(class_counts))

    assert logit_prior(Loss(), COUNTS).tolist() == [1] * 4


@pytest.mark.parametrize(
    "counts, message",
    [
        ([1, 2], r"4 classes.* class_counts=\[1.0, 2.0\]"),
        ([0, 0, 0, 0], "not all zero"),
        ([1, 2, 3, np.nan], "finite"),
        ([[1, 2, 3, 4]], r"shape \(C,\)"),
    ],
)
def test_bad_counts(counts, message):
    with pytest.raises(ValueError, match=message):
        logit_prior(losses.LDAM(COUNTS), counts)


def test_tau_that_leaves_no_prior():
    with pytest.raises(ValueError, match=r"leaves each.* Received: tau=1000"):
        logit_prior(LogitAdjusted(COUNTS, tau=1000), COUNTS)
