"""CIFAR ResNets against counts by formula and a reference in tf.nn."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_lt.models.backbones import (
    PaddedShortcut,
    cifar_resnet,
    cifar_resnet18,
)
from keras_lt.models.classifier import classifier


def size_of(variables):
    return sum(int(np.prod(variable.shape)) for variable in variables)


def expected_parameters(depth, width=1, channels=3):
    """Kernels 9 * in * out, and scale and shift of each normalisation."""
    w = 16 * width
    total = 9 * channels * w + 2 * w
    before = w
    for filters in (w, 2 * w, 4 * w):
        for _ in range((depth - 2) // 6):
            total += 9 * before * filters + 9 * filters**2 + 4 * filters
            before = filters
    return total


@pytest.mark.parametrize("depth", [20, 32, 44, 56])
def test_number_of_parameters(depth):
    model = cifar_resnet(depth)
    assert size_of(model.trainable_variables) == expected_parameters(depth)
    convolutions = [
        layer
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D)
    ]
    assert len(convolutions) == depth - 1  # the last one is the classifier
    assert not any(layer.use_bias for layer in convolutions)


def test_published_number_of_parameters():
    backbone = cifar_resnet(32)
    assert size_of(backbone.trainable_variables) == 463_504
    assert size_of(backbone.non_trainable_variables) == 2_272
    model = classifier(backbone, 10)
    assert size_of(model.trainable_variables) == 464_154


def test_resnet18():
    model = cifar_resnet18(l2=0.5)
    # That of torchvision with a 3x3 stem: 11,173,962 less the classifier's.
    assert size_of(model.trainable_variables) == 11_173_962 - 513 * 10
    assert model(np.zeros((2, 32, 32, 3), "uint8")).shape == (2, 512)
    shapes = [
        model.get_layer(f"stage{n}_block2_relu").output.shape for n in (1, 4)
    ]
    assert shapes == [(None, 32, 32, 64), (None, 4, 4, 512)]
    squares = sum(float((v**2).numpy().sum()) for v in model.trainable_weights)
    np.testing.assert_allclose(sum(model.losses), squares / 2, rtol=1e-5)
    # The shortcut takes every other pixel from 0.
    shortcut = model.get_layer("stage2_block1_shortcut_conv")
    x = np.random.default_rng(0).normal(size=(1, 5, 6, 64)).astype("float32")
    want = x[:, ::2, ::2] @ shortcut.kernel.numpy()[0, 0]
    np.testing.assert_allclose(shortcut(x), want, rtol=1e-4, atol=1e-5)


def test_width_and_channels():
    model = cifar_resnet(8, 3, input_shape=(8, 8, 1))
    assert size_of(model.trainable_variables) == expected_parameters(8, 3, 1)
    assert model.output_shape == (None, 192)


@pytest.mark.parametrize(
    ("input_shape", "size"),
    [
        ((8, 8, 1), (8, 8)),
        ((33, 17, 3), (33, 17)),
        ((None, None, 3), (5, 9)),
        ((1, 1, 2), (1, 1)),
    ],
)
def test_input_sizes(input_shape, size):
    model = cifar_resnet(8, input_shape=input_shape)
    x = np.zeros((2, *size, input_shape[-1]), "uint8")
    outputs = model(x, training=True)
    assert outputs.shape == (2, 64)
    assert np.isfinite(outputs).all()


def test_shortcut_by_hand():
    x = np.arange(2 * 5 * 4 * 3, dtype="float32").reshape(2, 5, 4, 3)
    outputs = PaddedShortcut(8, 2)(x)
    want = np.zeros((2, 3, 2, 8), "float32")
    want[..., 2:5] = x[:, [0, 2, 4]][:, :, [0, 2]]  # 5 missing: 2 in front
    np.testing.assert_array_equal(outputs, want)


def test_shortcut_refuses():
    with pytest.raises(ValueError, match=r"Expected .* Received: strides=0"):
        PaddedShortcut(8, 0)
    for shape in [(2, 4, 4, 9), (2, 4, 8)]:
        with pytest.raises(ValueError, match=r"Expected .* Received: shape="):
            PaddedShortcut(8, 2)(np.zeros(shape))


@pytest.mark.parametrize("size", [8, 7])
def test_first_block_with_stride_2(size):
    """Odd and even sizes, against explicit padding of one pixel a side."""
    model = cifar_resnet(8, input_shape=(size, size, 3))
    rng = np.random.default_rng(0)
    weights = {}
    for layer in model.layers:
        if layer.name.endswith("_bn"):
            layer.set_weights(
                [rng.uniform(0.5, 1.5, w.shape) for w in layer.weights]
            )
        weights[layer.name] = layer.get_weights()
    block = keras.Model(
        model.get_layer("stage1_block1_relu").output,
        model.get_layer("stage2_block1_relu").output,
    )
    x = rng.normal(size=(2, size, size, 16)).astype("float32")

    def normalized(x, name):
        gamma, beta, mean, variance = weights[f"stage2_block1_{name}_bn"]
        return gamma * (x - mean) / np.sqrt(variance + 1e-5) + beta

    def convolved(x, name, stride):
        (kernel,) = weights[f"stage2_block1_{name}_conv"]
        x = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
        rows = (x.shape[1] - 3) // stride + 1
        outputs = np.zeros((len(x), rows, rows, kernel.shape[-1]))
        for i in range(rows):
            for j in range(rows):
                top, left = i * stride, j * stride
                patch = x[:, top : top + 3, left : left + 3]
                outputs[:, i, j] = np.tensordot(patch, kernel, 3)
        return outputs

    y = np.maximum(normalized(convolved(x, "1", 2), "1"), 0)
    y = normalized(convolved(y, "2", 1), "2")
    shortcut = np.pad(x[:, ::2, ::2], [(0, 0)] * 3 + [(8, 8)])
    np.testing.assert_allclose(
        block(x), np.maximum(y + shortcut, 0), rtol=1e-4, atol=1e-4
    )


def test_default_normalization_is_to_one():
    layer = cifar_resnet(8).get_layer("image_normalization")
    x = np.array([0, 255], "uint8").reshape(2, 1, 1, 1).repeat(3, 3)
    np.testing.assert_allclose(
        layer(x), np.array([-1, 1]).reshape(2, 1, 1, 1).repeat(3, 3)
    )


def test_statistics_of_the_images():
    model = cifar_resnet(8, mean=[1.0, 2.0, 3.0], variance=[4.0, 9.0, 16.0])
    layer = model.get_layer("image_normalization")
    assert layer.mean == [1.0, 2.0, 3.0]
    assert layer.variance == [4.0, 9.0, 16.0]


def test_l2_is_on_every_trainable_weight_once():
    l2 = 3e-3
    model = cifar_resnet(8, l2=l2)
    weights = [w.value for w in model.trainable_variables]
    with tf.GradientTape() as tape:
        total = tf.add_n(model.losses)
    gradients = tape.gradient(total, weights)
    assert len(model.losses) == len(weights)
    for weight, gradient in zip(weights, gradients, strict=True):
        np.testing.assert_allclose(gradient, 2 * l2 * weight, rtol=1e-6)
    assert cifar_resnet(8).losses == []


def test_initial_weights():
    keras.utils.set_random_seed(0)
    model = cifar_resnet(20)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            kernel = np.asarray(layer.kernel)
            fan_in = np.prod(kernel.shape[:-1])
            # The relative error of a standard deviation is 1 / sqrt(2 n).
            error = 4 / np.sqrt(2 * kernel.size)
            assert kernel.std() == pytest.approx(np.sqrt(2 / fan_in), error)
        elif layer.name.endswith("_bn"):
            assert layer.momentum == 0.9
            assert layer.epsilon == 1e-5
            np.testing.assert_array_equal(layer.gamma, 1)
            np.testing.assert_array_equal(layer.beta, 0)
    # A truncated distribution of the same deviation would end at 2.27 of it.
    kernel = np.asarray(model.get_layer("stage3_block3_2_conv").kernel)
    assert np.abs(kernel).max() > 3.5 * np.sqrt(2 / 576)


def test_batch_normalization_class():
    ours, theirs = (
        cifar_resnet(8, input_shape=(8, 8, 3), **kwargs)
        for kwargs in (
            {},
            {"batch_normalization": keras.layers.BatchNormalization},
        )
    )
    assert type(theirs.get_layer("stem_bn")) is keras.layers.BatchNormalization
    theirs.set_weights(ours.get_weights())
    x = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), "uint8")
    np.testing.assert_allclose(
        ours(x, training=True), theirs(x, training=True), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("kwargs", "received"),
    [
        ({"depth": 30}, "depth=30"),
        ({"depth": 2}, "depth=2"),
        ({"width": 0}, "width=0"),
        ({"mean": [1.0]}, "mean="),
        ({"variance": [1.0]}, "mean=None"),
        ({"mean": [1.0], "variance": [1.0]}, "shape="),
    ],
    ids=str,
)
def test_errors(kwargs, received):
    with pytest.raises(
        ValueError, match=rf"Expected (.|\n)*Received: {received}"
    ):
        cifar_resnet(**kwargs)
