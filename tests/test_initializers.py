"""Initializers."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_lt.initializers import PriorBias


@pytest.mark.parametrize(
    ("prior", "classes", "want"),
    [(None, 10, 0.1), (None, 2, 0.5), (0.01, 5, 0.01), (0.9, 1, 0.9)],
)
def test_prior_bias(prior, classes, want):
    bias = PriorBias(prior)((classes,), "float32")
    assert bias.dtype == tf.float32
    probabilities = 1 / (1 + np.exp(-np.asarray(bias)))
    np.testing.assert_allclose(probabilities, [want] * classes, rtol=1e-6)


def test_prior_bias_in_a_layer():
    head = keras.layers.Dense(10, bias_initializer=PriorBias())
    head.build((None, 4))
    np.testing.assert_allclose(head.bias, [-np.log(9)] * 10, rtol=1e-6)


@pytest.mark.parametrize("prior", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_prior_bias_refuses_priors(prior):
    with pytest.raises(ValueError, match=r"Expected .* Received: prior="):
        PriorBias(prior)


def test_prior_bias_refuses_one_class():
    with pytest.raises(ValueError, match=r"at least 2 .* Received: shape="):
        PriorBias()((1,))
