"""The losses of Cui et al. by the authors' code and by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from golden import load_cases, report_cases
from loss_helpers import (
    COUNTS,
    assert_golden,
    random_batch,
    small_model,
    value_and_gradient,
)

from keras_lt.losses import (
    ClassBalancedCrossentropy,
    ClassBalancedFocal,
    ClassBalancedSigmoid,
)


@pytest.mark.golden
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_golden_cb_losses(dtype):
    cases = load_cases("cb_losses")
    for name, case in cases:
        arguments = {
            "class_counts": np.ones(case["class_weights"].shape, int),
            "class_weights": case["class_weights"],
            "dtype": dtype,
        }
        for loss_class, key in (
            (ClassBalancedCrossentropy, "softmax_"),
            (ClassBalancedSigmoid, "sigmoid_"),
        ):
            assert_golden(name, loss_class(**arguments), case, key)
        for row, gamma in enumerate(case["focal_gammas"]):
            loss = ClassBalancedFocal(gamma=float(gamma), **arguments)
            assert_golden(name, loss, case, "focal_", row)
    if dtype == "float64":
        report_cases("cb_losses", cases)


def test_crossentropy_by_hand():
    # softmax of (log 3, 0) is (3/4, 1/4).
    logits = np.array([[np.log(3.0), 0.0], [np.log(3.0), 0.0]])
    loss = ClassBalancedCrossentropy(
        [9, 1], class_weights=[0.5, 1.5], reduction=None
    )
    np.testing.assert_allclose(
        loss(np.array([0, 1]), logits),
        [0.5 * np.log(4 / 3), 1.5 * np.log(4)],
        rtol=1e-6,
    )


def test_sigmoid_and_focal_by_hand():
    # sigmoid(log 3) = 3/4, sigmoid(0) = 1/2; the label is class 0.
    labels, logits = np.array([0]), np.array([[np.log(3.0), 0.0]])
    sigmoid = ClassBalancedSigmoid([9, 1], beta=None)
    want = np.log(4 / 3) + np.log(2)
    np.testing.assert_allclose(sigmoid(labels, logits), want, rtol=1e-6)
    focal = ClassBalancedFocal([9, 1], beta=None, gamma=2.0)
    want = (1 / 4) ** 2 * np.log(4 / 3) + (1 / 2) ** 2 * np.log(2)
    np.testing.assert_allclose(focal(labels, logits), want, rtol=1e-6)


def test_focal_without_focus_is_sigmoid():
    labels, logits = random_batch()
    np.testing.assert_allclose(
        ClassBalancedFocal(COUNTS, gamma=0.0)(labels, logits),
        ClassBalancedSigmoid(COUNTS)(labels, logits),
        rtol=1e-6,
    )


@pytest.mark.parametrize("scale", [100.0, 1e4, 1e30])
@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.0, 5.0])
def test_huge_logits_stay_finite(scale, gamma):
    signs = np.array([[1.0, -1.0, 0.0, 1.0], [-1.0, 1.0, -1.0, 0.0]])
    for loss in (
        ClassBalancedCrossentropy(COUNTS),
        ClassBalancedSigmoid(COUNTS),
        ClassBalancedFocal(COUNTS, gamma=gamma),
    ):
        value, gradient = value_and_gradient(
            loss, np.array([0, 0]), scale * signs
        )
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()
        # The second example is the worst of mistakes: it costs, and pulls up.
        assert value >= scale * loss._weights[0] / 2 * (1 - 1e-6)
        assert gradient[1, 0] < 0


@pytest.mark.parametrize(
    "change, message",
    [
        ({"class_counts": [5, -1]}, r"class_counts\[1\]=-1"),
        ({"class_counts": [5]}, r"at least 2 classes.*class_counts=\[5\]"),
        ({"beta": 1.0}, "beta=1.0"),
        ({"normalizer": "sum"}, "'nonzero'.* normalizer='sum'"),
        ({"class_weights": [1, 2, 3]}, r"shape \(2,\).*shape=\(3,\)"),
        ({"class_weights": [1, -2]}, r"class_weights=\[1.0, -2.0\]"),
        ({"class_weights": [1, np.nan]}, r"class_weights=\[1.0, nan\]"),
        ({"reduction": "median"}, "reduction=median"),
        ({"gamma": -1.0}, "gamma >= 0. Received: gamma=-1.0"),
        ({"gamma": float("nan")}, "gamma=nan"),
    ],
)
def test_bad_arguments(change, message):
    with pytest.raises(ValueError, match=message):
        ClassBalancedFocal(**({"class_counts": [9, 1]} | change))


def test_mixed_precision_model_trains():
    labels, features = random_batch()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = small_model(ClassBalancedFocal(COUNTS))
        assert model(features).dtype == tf.bfloat16
        history = model.fit(features, labels, epochs=20, verbose=0).history
    finally:
        keras.config.set_dtype_policy("float32")
    assert history["loss"][-1] < history["loss"][0]
