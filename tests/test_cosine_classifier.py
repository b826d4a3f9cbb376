"""Cosine classifiers and weight scaling by the authors' code."""

import numpy as np
import pytest
import tensorflow as tf
from golden import load_cases, report_cases

from keras_lt.layers import CosineClassifier, LearnableWeightScaling


def logits_and_gradients(layer, features, upstream, weights):
    """Of sum(upstream * logits) by features and trained weights."""
    features = tf.constant(features, layer.dtype)
    layer.build(features.shape)
    layer.set_weights(weights)
    with tf.GradientTape() as tape:
        tape.watch(features)
        logits = layer(features)
        value = tf.reduce_sum(tf.cast(upstream, layer.dtype) * logits)
    sources = [features, *(w.value for w in layer.trainable_variables)]
    return [logits, *tape.gradient(value, sources)]


def assert_golden(got, want, dtype, name):
    """In float32 row by row: rows differ in scale."""
    if dtype == "float64":
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)
        return
    largest = np.abs(want).max(axis=-1, keepdims=True)
    assert (np.abs(got - want) <= 1e-5 * largest).all(), name


@pytest.mark.golden
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_golden_cosine_classifiers(dtype):
    cases = load_cases("cosine_classifier")
    for name, case in cases:
        num_classes = len(case["weight"])
        for key, arguments in {
            "cosnorm": {
                "scale": float(case["scale"]),
                "feature_norm": "squash",
            },
            "normed": {},
        }.items():
            got = logits_and_gradients(
                CosineClassifier(num_classes, dtype=dtype, **arguments),
                case["features"],
                case["upstream"],
                [case["weight"].T],
            )
            got[2] = tf.transpose(got[2])
            for value, part in zip(
                got, ("logits", "grad_features", "grad_weight"), strict=True
            ):
                want = case[f"{key}_{part}"]
                assert_golden(value, want, dtype, f"{name} {key}_{part}")
    if dtype == "float64":
        report_cases("cosine_classifier", cases)


@pytest.mark.golden
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_golden_learnable_weight_scaling(dtype):
    cases = load_cases("tau_norm")
    for name, case in cases:
        logits, _, gradient = logits_and_gradients(
            LearnableWeightScaling(dtype=dtype),
            case["linear_logits"],
            case["upstream"],
            [case["lws_scales"]],
        )
        assert_golden(logits, case["lws_logits"], dtype, name)
        assert_golden(gradient, case["lws_grad_scales"], dtype, name)
    if dtype == "float64":
        report_cases("tau_norm", cases)


@pytest.mark.parametrize("feature_norm", ["l2", "squash"])
def test_cosine_of_zeros(feature_norm):
    layer = CosineClassifier(2, feature_norm=feature_norm)
    weights = [np.array([[1.0, 0.0], [1.0, 0.0]])]
    logits, *gradients = logits_and_gradients(
        layer, np.array([[0.0, 0.0], [3.0, 4.0]]), np.ones((2, 2)), weights
    )
    norm = 5.0 if feature_norm == "l2" else 6.0
    want = [[0, 0], [7 / 2**0.5 / norm, 0]]
    np.testing.assert_allclose(logits, want, rtol=1e-6)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_cosine_weights_start_at_length_one():
    layer = CosineClassifier(400)
    layer.build((None, 100))
    lengths = np.linalg.norm(layer.kernel, axis=0)
    # The length of D standard normals over sqrt(D) deviates by 1 / sqrt(2 D).
    assert lengths.mean() == pytest.approx(1.0, abs=0.02)
    assert lengths.std() == pytest.approx(1 / 200**0.5, rel=0.2)
