"""Masked autoregressive flows: invertible maps of features."""

import itertools
import math
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_lt.arguments import integer
from keras_lt.layers import MaskedDense

# Momentum and epsilon of the authors' batch normalization.
_MOMENTUM = 0.9
_EPSILON = 1e-5


class _MADE(keras.layers.Layer):
    """One autoregressive block: u_i = (x_i - m_i) * exp(-a_i).

    m_i and a_i are functions of the x_j that come before x_i, in the order of
    the dimensions or in the reverse one.
    """

    def __init__(
        self,
        hidden_units: int | None,
        hidden_layers: int,
        reverse: bool,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.hidden_units = hidden_units
        self.hidden_layers = hidden_layers
        self.reverse = reverse

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        dim = input_shape[-1]
        order = np.arange(dim)[:: -1 if self.reverse else 1]
        hidden = np.arange(self.hidden_units or dim) % max(1, dim - 1)
        degrees = [
            order,
            *[hidden] * (self.hidden_layers + 1),
            np.tile(order - 1, 2),
        ]
        self.order = order.tolist()
        self.dense_layers = []
        for below, above in itertools.pairwise(degrees):
            layer = MaskedDense(below, above, dtype=self.dtype_policy)
            layer.build((None, len(below)))
            self.dense_layers.append(layer)

    def _parameters(self, x: Any) -> list[Any]:
        """The m and a of x, (B, D) each."""
        *hidden, output = self.dense_layers
        for layer in hidden:
            x = ops.relu(layer(x))
        return ops.split(output(x), 2, axis=1)

    def call(self, x: Any, training: bool | None = None) -> tuple[Any, Any]:
        shift, log_scale = self._parameters(x)
        return (x - shift) * ops.exp(-log_scale), -log_scale

    def inverse(self, u: Any) -> tuple[Any, Any]:
        def set_next(position, state):
            x, _ = state
            shift, log_scale = self._parameters(x)
            is_next = ops.equal(self.order, position)
            # Dimensions that are not set yet stay 0: they are masked, but an
            # overflow in them would pass a mask as NaN.
            x = ops.where(is_next, u * ops.exp(log_scale) + shift, x)
            return x, log_scale

        start = ops.zeros_like(u), ops.zeros_like(u)
        return ops.fori_loop(0, len(self.order), set_next, start)


class _FlowBatchNormalization(keras.layers.Layer):
    """y = exp(log_gamma) * (x - mean) / sqrt(variance + 1e-5) + beta.

    It normalizes by the unbiased variance, as the authors' code does (Dinh et
    al., ICLR 2017, take the biased one), and moves by 0.1 towards each batch.
    One sample has no unbiased variance, where that code gives NaN: a batch
    (of a replica) with fewer than two is normalized as in inference, and
    moves nothing.
    """

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        def add(name, initializer, trainable):
            return self.add_weight(
                name=name,
                shape=(input_shape[-1],),
                initializer=initializer,
                trainable=trainable,
            )

        self.log_gamma = add("log_gamma", "zeros", True)
        self.beta = add("beta", "zeros", True)
        self.moving_mean = add("moving_mean", "zeros", False)
        self.moving_variance = add("moving_variance", "ones", False)

    def call(self, x: Any, training: bool | None = None) -> tuple[Any, Any]:
        mean, variance = self.moving_mean, self.moving_variance
        if training and self.trainable:
            mean, variance = self._batch_statistics(x)
        scale, log_scale = self._scale(variance)
        y = (x - mean) * scale + self.beta
        return y, ops.broadcast_to(log_scale, ops.shape(x))

    def inverse(self, y: Any) -> tuple[Any, Any]:
        scale, log_scale = self._scale(self.moving_variance)
        x = (y - self.beta) / scale + self.moving_mean
        return x, ops.broadcast_to(-log_scale, ops.shape(y))

    def _scale(self, variance: Any) -> tuple[Any, Any]:
        """Returns the factor of x, and its logarithm."""
        variance = variance + _EPSILON
        scale = ops.exp(self.log_gamma) / ops.sqrt(variance)
        return scale, self.log_gamma - 0.5 * ops.log(variance)

    def _batch_statistics(self, x: Any) -> list[Any]:
        count = ops.shape(x)[0]
        mean = ops.mean(x, axis=0)
        divisor = ops.cast(ops.maximum(count - 1, 1), x.dtype)
        variance = ops.sum(ops.square(x - mean), axis=0) / divisor
        statistics = []
        for moving, value in (
            (self.moving_mean, mean),
            (self.moving_variance, variance),
        ):
            value = ops.where(count > 1, value, moving)
            moving.assign(_MOMENTUM * moving + (1.0 - _MOMENTUM) * value)
            statistics.append(value)
        return statistics


@keras.saving.register_keras_serializable(package="keras_lt")
class MaskedAutoregressiveFlow(keras.Model):
    """An invertible map of features to a space where a density is simple.

    A stack of MADE blocks (Papamakarios et al., NeurIPS 2017, equations 3 to
    5), each

        u_i = (x_i - m_i) * exp(-a_i),    log |du_i / dx_i| = -a_i,

    with m_i and a_i computed by masked dense layers from the x_j before x_i,
    in every second block in the reverse order. A batch normalization follows
    each, which in training takes the statistics of the batch (of a replica);
    of a batch of one sample, which has none, it takes the moving ones.

    The weights start as those of PyTorch's linear layers, as in the authors'
    code of DLSA, which this flow equals.

    Args:
        num_blocks: Number of MADE blocks, at least 1.
        hidden_units: Width of the hidden layers; None is D. With fewer than
            D - 1, the last dimensions of a block's order do not influence
            others.
        hidden_layers: Layers from hidden units to hidden units in a block, at
            least 0: as the authors count, that is one less than there are
            layers of hidden units.
        batch_norm: Whether batch normalization follows each block.
        dtype: Dtype or policy; float32 under any global policy.
        **kwargs: Arguments of `keras.Model`.

    Input shape: (B, D). Output: u (B, D), and (B, D) with the contribution of
    each dimension to the logarithm of |det du/dx|, which is the sum over D.

    Raises:
        ValueError: If an argument is out of its range, or the input has
            another rank.

    Example:
        >>> flow = keras_lt.models.MaskedAutoregressiveFlow(num_blocks=2)
        >>> x = features.features[:100]
        >>> u, log_abs_det = flow(x)  # (B, D) each
        >>> again, _ = flow.inverse(u)
        >>> bool(np.allclose(again, x, atol=1e-3))
        True
        >>> flow.log_prob(x).shape
        TensorShape([100])
    """

    def __init__(
        self,
        num_blocks: int = 2,
        hidden_units: int | None = None,
        hidden_layers: int = 1,
        batch_norm: bool = True,
        dtype: Any = "float32",
        **kwargs: Any,
    ):
        super().__init__(dtype=dtype, **kwargs)
        num_blocks = integer("num_blocks", num_blocks)
        hidden_layers = integer("hidden_layers", hidden_layers)
        if hidden_units is not None:
            hidden_units = integer("hidden_units", hidden_units)
        units = 1 if hidden_units is None else hidden_units
        if num_blocks < 1 or units < 1 or hidden_layers < 0:
            raise ValueError(
                "Expected num_blocks >= 1, hidden_units >= 1 or None and "
                f"hidden_layers >= 0. Received: num_blocks={num_blocks}, "
                f"hidden_units={hidden_units}, hidden_layers={hidden_layers}"
            )
        self.num_blocks = num_blocks
        self.hidden_units = hidden_units
        self.hidden_layers = hidden_layers
        self.batch_norm = bool(batch_norm)
        self.steps = []
        for block in range(num_blocks):
            self.steps.append(
                _MADE(
                    hidden_units,
                    hidden_layers,
                    reverse=block % 2 == 1,
                    dtype=self.dtype_policy,
                    name=f"made_{block}",
                )
            )
            if batch_norm:
                self.steps.append(
                    _FlowBatchNormalization(
                        dtype=self.dtype_policy, name=f"batch_norm_{block}"
                    )
                )

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        check_rank(input_shape)
        for step in self.steps:
            step.build(input_shape)

    def call(self, x: Any, training: bool | None = None) -> tuple[Any, Any]:
        log_abs_det = 0.0
        for step in self.steps:
            x, term = step(x, training=training)
            log_abs_det = log_abs_det + term
        return x, log_abs_det

    def inverse(self, u: Any) -> tuple[Any, Any]:
        """The x of given u, by D evaluations of each block.

        Args:
            u: Outputs of `call` in inference mode (B, D).

        Returns:
            x (B, D), and (B, D) whose sum over D is log |det dx/du|.
        """
        x = ops.convert_to_tensor(u, self.compute_dtype)
        if not self.built:
            self.build(x.shape)
        log_abs_det = 0.0
        for step in reversed(self.steps):
            x, term = step.inverse(x)
            log_abs_det = log_abs_det + term
        return x, log_abs_det

    def log_prob(self, x: Any, training: bool | None = None) -> Any:
        """Log-density of x (B, D) if u is standard normal, (B,)."""
        u, log_abs_det = self(x, training=training)
        log_normal = log_normalizer(u) - 0.5 * ops.sum(u * u, axis=1)
        return log_normal + ops.sum(log_abs_det, axis=1)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_blocks": self.num_blocks,
            "hidden_units": self.hidden_units,
            "hidden_layers": self.hidden_layers,
            "batch_norm": self.batch_norm,
        }


def check_rank(shape: tuple[int | None, ...]) -> None:
    """Refuses what is not features (B, D)."""
    if len(shape) != 2:
        raise ValueError(
            f"Expected features of shape (B, D). Received: shape={tuple(shape)}"
        )


def log_normalizer(u: Any) -> float:
    """Logarithm of the factor of a unit Gaussian, -D / 2 log(2 pi)."""
    return -0.5 * u.shape[1] * math.log(2.0 * math.pi)
