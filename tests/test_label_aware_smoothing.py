"""Label-aware smoothing by hand."""

import numpy as np

from keras_lt.losses import LabelAwareSmoothing


def test_label_aware_smoothing_by_hand():
    # e is 0.3, 0.3 sin(pi / 4) and 0; C - 1 = 2.
    loss = LabelAwareSmoothing([500, 275, 50], head=0.3, reduction=None)
    amounts = np.array([0.3, 0.3 / 2**0.5, 0.0])
    logits = np.array([[1.0, 2.0, 4.0]] * 3)
    log_p = logits[0] - np.log(np.exp(logits[0]).sum())
    targets = np.eye(3) * (1 - amounts)[:, None]
    targets += (1 - np.eye(3)) * amounts[:, None] / 2
    np.testing.assert_allclose(
        loss(np.arange(3), logits), -targets @ log_p, rtol=1e-5
    )
