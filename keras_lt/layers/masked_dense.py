"""A dense layer without some of its connections."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_lt.arguments import integer


@keras.saving.register_keras_serializable(package="keras_lt")
class MaskedDense(keras.layers.Layer):
    """A dense layer without the connections that the degrees of units forbid.

    y = x (kernel * mask) + bias, where output o sees input i if its degree is
    at least that of i (Germain et al., ICML 2015, equation 8; for layers of
    an autoregressive network the outputs of the last one have their degree
    minus 1). The mask is computed from the degrees whenever it is needed: as
    an array it would be as large as the kernel in every graph and SavedModel.

    Kernel and bias start uniform within 1 / sqrt(D), as in PyTorch's linear
    layer, where D counts masked inputs too.

    Args:
        input_degrees: Degrees of the inputs (D,), integers.
        output_degrees: Degrees of the outputs (P,), integers.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape: (B, D). Output shape: (B, P).

    Raises:
        ValueError: If either list of degrees is empty, or the input has another
            rank or width.

    Example:
        >>> layer = keras_lt.layers.MaskedDense([0, 1], [-1, 0])
        >>> outputs = layer(np.ones((8, 2)))  # the bias alone; bias and x_0
    """

    def __init__(
        self,
        input_degrees: Sequence[int],
        output_degrees: Sequence[int],
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.input_degrees, self.output_degrees = (
            [integer(name, degree) for degree in degrees]
            for name, degrees in (
                ("input_degrees", input_degrees),
                ("output_degrees", output_degrees),
            )
        )
        if not self.input_degrees or not self.output_degrees:
            raise ValueError(
                "Expected a degree for each input and output. Received: "
                f"input_degrees={self.input_degrees}, "
                f"output_degrees={self.output_degrees}"
            )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        shape = len(self.input_degrees), len(self.output_degrees)
        if len(input_shape) != 2 or input_shape[-1] != shape[0]:
            raise ValueError(
                f"Expected inputs of shape (B, {shape[0]}), a degree for "
                f"each. Received: shape={tuple(input_shape)}"
            )
        self.input_spec = keras.layers.InputSpec(ndim=2, axes={-1: shape[0]})
        limit = shape[0] ** -0.5
        self.kernel, self.bias = (
            self.add_weight(
                name=name,
                shape=weight_shape,
                initializer=keras.initializers.RandomUniform(-limit, limit),
            )
            for name, weight_shape in (("kernel", shape), ("bias", shape[1:]))
        )

    def call(self, inputs: Any) -> Any:
        ops = keras.ops
        below = ops.expand_dims(np.asarray(self.input_degrees, "int32"), 1)
        mask = ops.less_equal(below, np.asarray(self.output_degrees, "int32"))
        return ops.matmul(inputs, ops.where(mask, self.kernel, 0)) + self.bias

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return (input_shape[0], len(self.output_degrees))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "input_degrees": self.input_degrees,
            "output_degrees": self.output_degrees,
        }
