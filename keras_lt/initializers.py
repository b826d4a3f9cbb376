"""Initializers: where weights start."""

import math
from collections.abc import Sequence
from typing import Any

import keras

from keras_lt.arguments import real


@keras.saving.register_keras_serializable(package="keras_lt")
class PriorBias(keras.initializers.Initializer):
    """Bias with which a sigmoid classifier starts at a given prior.

    b = -log((1 - pi) / pi), so sigmoid(b) = pi (Lin et al., ICCV 2017,
    section 3.3). The class-balanced loss uses pi = 1 / C for its sigmoid and
    focal losses (Cui et al., CVPR 2019, section 5.1): with pi = 0.5 the many
    negatives of the first steps make those losses diverge.

    Args:
        prior: pi in (0, 1), or None for 1 / C with C the length of the bias.

    Raises:
        ValueError: If the prior is not in (0, 1), or is None and C is 1.

    Example:
        >>> head = keras.layers.Dense(
        ...     10, bias_initializer=keras_lt.initializers.PriorBias()
        ... )
        >>> head.build((None, 64))
        >>> round(float(head.bias[0]), 4)  # -log(9)
        -2.1972
    """

    def __init__(self, prior: float | None = None):
        if prior is not None:
            prior = real("prior", prior)
        if prior is not None and not 0.0 < prior < 1.0:
            raise ValueError(
                f"Expected a prior in (0, 1) or None. Received: prior={prior}"
            )
        self.prior = prior

    def __call__(self, shape: Sequence[int], dtype: Any = None) -> Any:
        prior = 1.0 / shape[-1] if self.prior is None else self.prior
        if prior == 1.0:
            raise ValueError(
                "Expected at least 2 classes for the prior 1 / C. "
                f"Received: shape={tuple(shape)}"
            )
        return keras.ops.full(shape, -math.log((1.0 - prior) / prior), dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "prior": self.prior}
