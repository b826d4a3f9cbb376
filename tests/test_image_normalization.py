"""Normalization of images."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_lt.layers import ImageNormalization


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float16"])
def test_image_normalization_values(dtype):
    layer = ImageNormalization([10.0, 20.0], [4.0, 25.0])
    x = np.array([[[[10, 20], [12, 25], [0, 0]]]], dtype)
    want = [[[[0, 0], [1, 1], [-5, -4]]]]
    outputs = layer(x)
    assert outputs.dtype == tf.float32
    np.testing.assert_allclose(outputs, want, rtol=1e-6)


def test_image_normalization_constant_channel():
    outputs = ImageNormalization([10.0, 3.0], [4.0, 0.0])(
        np.array([[[[12, 3], [10, 5]]]], "uint8")
    )
    np.testing.assert_allclose(outputs, [[[[1, 0], [0, 2]]]])


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_image_normalization_computes_in_float32(dtype):
    mean, std = 125.3, 0.5  # in bfloat16 the mean is 125.5 or 125
    layer = ImageNormalization([mean], [std**2], dtype="mixed_bfloat16")
    outputs = layer(np.full((1, 1, 1, 1), 125, dtype))
    assert outputs.dtype == tf.bfloat16
    assert float(outputs[0, 0, 0, 0]) == float(
        tf.cast((125 - mean) / std, "bfloat16")
    )


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_image_normalization_symbolic(policy):
    layer = ImageNormalization([1.0] * 3, [1.0] * 3, dtype=policy)
    outputs = layer(keras.Input((None, 7, 3), dtype="uint8"))
    assert outputs.shape == (None, None, 7, 3)
    assert outputs.dtype == layer.compute_dtype
    assert not layer.weights


@pytest.mark.parametrize(
    ("mean", "variance"),
    [
        ([], []),
        ([1.0], [1.0, 1.0]),
        ([1.0], [-1.0]),
        ([np.nan], [1.0]),
        ([1.0], [np.inf]),
    ],
)
def test_image_normalization_refuses_statistics(mean, variance):
    with pytest.raises(ValueError, match=r"Expected .* Received: mean="):
        ImageNormalization(mean, variance)


@pytest.mark.parametrize("shape", [(4, 4, 3), (2, 4, 4, 1), (2, 4, 4, 3, 3)])
def test_image_normalization_refuses_inputs(shape):
    with pytest.raises(ValueError, match=r"Expected .*\n?.*Received: shape="):
        ImageNormalization([0.0] * 3, [1.0] * 3)(np.zeros(shape))


def test_image_normalization_refuses_later_inputs():
    layer = ImageNormalization([0.0] * 3, [1.0] * 3)
    layer(np.zeros((2, 4, 4, 3)))
    with pytest.raises(ValueError, match=r"4, 4, 1"):
        layer(np.zeros((2, 4, 4, 1)))
