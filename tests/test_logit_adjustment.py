"""Logit adjustment by hand."""

import numpy as np

from keras_lt.layers import LogitAdjustment


def test_logit_adjustment_by_hand():
    layer = LogitAdjustment([9, 1, 0], tau=2.0)
    want = [1 - 2 * np.log(9), 1, 1 - 2 * np.log(1e-6)]
    np.testing.assert_allclose(layer(np.ones((1, 3)))[0], want, atol=1e-5)
