"""The linear classifier on a backbone."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_lt import losses
from keras_lt.initializers import PriorBias
from keras_lt.layers import CosineClassifier
from keras_lt.models import classifier, head_for, linear_head


def backbone(*shape):
    """Gives its input, images of any rank, as the features."""
    inputs = keras.Input(shape)
    return keras.Model(inputs, keras.layers.Identity()(inputs))


def test_logits_by_hand():
    model = classifier(backbone(2), 3)
    kernel = np.array([[1.0, 2.0, 3.0], [0.0, -1.0, 1.0]])
    model.set_weights([kernel, np.array([0.5, 0.0, -0.5])])
    outputs = model(np.array([[1.0, 2.0]]))
    np.testing.assert_allclose(outputs, [[1.5, 0.0, 4.5]], rtol=1e-6)


def test_feature_maps_are_averaged():
    model = classifier(backbone(None, 3, 2), 4)
    maps = np.random.default_rng(0).normal(size=(5, 2, 3, 2))
    kernel, bias = model.get_layer("logits").get_weights()
    want = maps.mean((1, 2)) @ kernel + bias
    np.testing.assert_allclose(model(maps), want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_logits_are_float32(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = classifier(backbone(4), 3)
    finally:
        keras.config.set_dtype_policy(before)
    features = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    outputs = model(features)
    assert outputs.dtype == tf.float32
    assert model.get_layer("logits").kernel.dtype == "float32"
    # The backbone rounds the features, nothing rounds the product.
    rounded = tf.cast(
        tf.cast(features, policy.removeprefix("mixed_")), "float32"
    )
    want = rounded @ model.get_layer("logits").kernel
    np.testing.assert_allclose(outputs, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("kwargs", "factors"),
    [
        ({}, (0.0, 0.0)),
        ({"l2": 0.01}, (0.01, 0.01)),
        ({"l2": 0.01, "l2_bias": 0.0}, (0.01, 0.0)),
        ({"l2": 0.01, "l2_bias": 0.03}, (0.01, 0.03)),
    ],
    ids=str,
)
def test_l2(kwargs, factors):
    head = linear_head(3, bias_initializer="ones", **kwargs)
    model = classifier(backbone(4), 3, head=head)
    weights = [w.value for w in model.trainable_variables]
    with tf.GradientTape() as tape:
        total = tf.add_n([0.0, *model.losses])
    gradients = tape.gradient(total, weights, unconnected_gradients="zero")
    for weight, gradient, factor in zip(
        weights, gradients, factors, strict=True
    ):
        np.testing.assert_allclose(gradient, 2 * factor * weight, rtol=1e-6)


def test_initial_weights():
    keras.utils.set_random_seed(0)
    kernel, bias = classifier(backbone(200), 100).get_weights()
    # The relative error of a standard deviation is 1 / sqrt(2 n).
    assert kernel.std() == pytest.approx(np.sqrt(2 / 200), 4 / 200)
    assert np.abs(kernel).max() > 3 * np.sqrt(2 / 200)  # not truncated
    np.testing.assert_array_equal(bias, 0)


def test_prior_bias():
    head = linear_head(5, bias_initializer=PriorBias())
    model = classifier(backbone(4), 5, head=head)
    probabilities = keras.ops.sigmoid(model(np.zeros((2, 4))))
    np.testing.assert_allclose(probabilities, np.full((2, 5), 0.2), rtol=1e-6)


def test_names():
    assert classifier(backbone(4), 3).name == "classifier"
    assert classifier(backbone(4), 3, name="mine").name == "mine"


def test_saves(tmp_path):
    model = classifier(backbone(4, 4, 2), 3, head=CosineClassifier(3))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    x = np.random.default_rng(0).normal(size=(2, 4, 4, 2))
    np.testing.assert_array_equal(model(x), loaded(x))


@pytest.mark.parametrize("num_classes", [1, 0, -3])
def test_refuses_few_classes(num_classes):
    with pytest.raises(
        ValueError, match=rf"Expected .* Received: num_classes={num_classes}"
    ):
        classifier(backbone(4), num_classes)


@pytest.mark.parametrize("shape", [(), (3, 4), (2, 3, 4, 5)])
def test_refuses_other_ranks(shape):
    with pytest.raises(
        ValueError, match=r"Expected .* Received: features.shape"
    ):
        classifier(backbone(*shape), 3)


def test_refuses_a_head_of_other_classes():
    with pytest.raises(ValueError, match=r"Expected .* \(B, 3\)\. Received: "):
        classifier(backbone(4), 3, head=CosineClassifier(4))


def test_head_of_ldam_scales_its_cosines():
    loss = losses.LDAM([90, 9, 1], max_margin=0.4, scale=20)
    head, loss = head_for(loss, 3)
    features = np.random.default_rng(0).normal(size=(8, 5)).astype("float32")
    logits, labels = head(features), np.arange(8) % 3
    want = losses.LDAM([90, 9, 1], max_margin=0.4, scale=20.0)
    np.testing.assert_allclose(
        loss(labels, logits), want(labels, logits / 20), rtol=1e-5
    )


@pytest.mark.parametrize(
    "loss, bias",
    [
        (losses.ClassBalancedFocal([9, 3, 1]), -np.log(2)),
        (losses.ClassBalancedSigmoid([9, 3, 1]), -np.log(2)),
        (losses.BalancedSoftmax([9, 3, 1]), 0.0),
        (keras.losses.SparseCategoricalCrossentropy(from_logits=True), 0.0),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_head_of_sigmoid_losses_starts_from_the_prior(loss, bias):
    """A probability of 1 / C of each of three classes, -log(C - 1)."""
    head, same = head_for(loss, 3, l2=0.1)
    head.build((None, 4))
    assert same is loss
    np.testing.assert_allclose(head.bias, [bias] * 3, rtol=1e-6)
    assert (head.bias_regularizer is None) == (bias != 0)
    assert head.kernel_regularizer is not None
