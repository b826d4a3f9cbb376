"""The focal loss of a softmax."""

import numpy as np
import pytest
from loss_helpers import COUNTS, random_batch, value_and_gradient

from keras_lt.losses import ClassBalancedCrossentropy, Focal


def test_focal_by_hand():
    # softmax of (log 3, 0) is (3/4, 1/4).
    logits = np.array([[np.log(3.0), 0.0]] * 2)
    loss = Focal([9, 1], gamma=2.0, reduction=None)
    want = [(1 / 4) ** 2 * np.log(4 / 3), (3 / 4) ** 2 * np.log(4)]
    np.testing.assert_allclose(loss(np.array([0, 1]), logits), want, rtol=1e-6)


def test_focal_without_focus_is_crossentropy():
    labels, logits = random_batch()
    want = ClassBalancedCrossentropy(COUNTS, beta=None)(labels, logits)
    for gamma in (0.0, 1e-9):
        got = Focal(COUNTS, gamma=gamma)(labels, logits)
        np.testing.assert_allclose(got, want, rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.3, 1.0, 5.0])
def test_focal_of_huge_logits_has_finite_gradients(gamma):
    logits = np.array([[1e4, 0.0, 0.0, 0.0], [0.0, 1e4, 0.0, 0.0]])
    value, gradient = value_and_gradient(
        Focal(COUNTS, gamma=gamma, reduction=None), np.zeros(2, int), logits
    )
    np.testing.assert_allclose(value, [0.0, 1e4], atol=1e-6)
    np.testing.assert_allclose(gradient, [[0] * 4, [-1, 1, 0, 0]], atol=1e-6)
