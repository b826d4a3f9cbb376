"""Masked dense layers by hand."""

import numpy as np
import pytest
import tensorflow as tf

from keras_lt.layers import MaskedDense


def test_masked_dense_by_hand():
    layer = MaskedDense([0, 1, 2], [-1, 1])
    layer.build((None, 3))
    layer.kernel.assign([[1, 2], [3, 4], [5, 6]])
    layer.bias.assign([10, 20])
    # No input has a degree up to -1; those of 0 and 1 have one up to 1.
    want = [[10, 20 + 1 * 2 + 2 * 4]]
    np.testing.assert_allclose(layer(np.array([[1.0, 2.0, 3.0]])), want)


def test_masked_dense_starts_as_in_pytorch():
    layer = MaskedDense(range(400), [400] * 300)
    layer.build((None, 400))
    for weight in layer.weights:
        assert np.abs(weight).max() == pytest.approx(0.05, rel=0.02)
        assert np.abs(weight).max() <= 0.05
        # The deviation of a uniform number within 1.
        assert np.std(weight) == pytest.approx(0.05 / 3**0.5, rel=0.1)
    correlation = np.corrcoef(layer.kernel[0], layer.bias)[0, 1]
    assert abs(correlation) < 0.3  # 5 deviations of independent numbers


def test_masked_dense_does_not_hold_its_mask():
    """A graph of D x D numbers would be as large as the weights."""
    layer = MaskedDense(range(1000), range(1000))
    layer.build((None, 1000))
    function = tf.function(layer).get_concrete_function(
        tf.TensorSpec((None, 1000))
    )
    assert function.graph.as_graph_def().ByteSize() < 50_000


def test_masked_dense_refuses_other_widths():
    layer = MaskedDense([0, 1], [0])
    layer(np.zeros((2, 2)))
    with pytest.raises(ValueError, match=r"expected axis -1"):
        layer(np.zeros((2, 3)))


@pytest.mark.parametrize("degrees", [([], [0]), ([0], [])])
def test_masked_dense_refuses_no_units(degrees):
    with pytest.raises(ValueError, match=r"Expected .* Received: input_degr"):
        MaskedDense(*degrees)
