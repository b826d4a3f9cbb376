"""Logits without their class prior."""

import math
from collections.abc import Sequence
from typing import Any

import keras

from keras_lt.arguments import real
from keras_lt.counts import by_label, log_prior


@keras.saving.register_keras_serializable(package="keras_lt")
class LogitAdjustment(keras.layers.Layer):
    """Removes a class prior from logits: x - tau * log(n + 1e-6).

    Post-hoc logit adjustment (Menon et al., ICLR 2021, equation 9).

    Args:
        class_counts: Images per class (C,), or their shares, at least 0.
        tau: Strength of the adjustment, at least 0.
        dtype: Dtype or policy; float32 under any global policy.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape: (B, C). Output shape: the same.

    Raises:
        ValueError: If an argument is out of its range, or the input has
            another number of classes.

    Example:
        >>> layer = keras_lt.layers.LogitAdjustment(class_counts)
        >>> adjusted = keras.Model(model.inputs, layer(model.outputs[0]))
    """

    def __init__(
        self,
        class_counts: Sequence[float],
        tau: float = 1.0,
        dtype: Any = "float32",
        **kwargs: Any,
    ):
        super().__init__(dtype=dtype, **kwargs)
        tau = real("tau", tau)
        if not 0 <= tau < math.inf:
            raise ValueError(f"Expected tau >= 0. Received: tau={tau}")
        self.class_counts = by_label("class_counts", class_counts).tolist()
        self.tau = tau
        self._adjustment = tau * log_prior(self.class_counts)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if input_shape[-1] != len(self._adjustment):
            raise ValueError(
                f"Expected logits of {len(self._adjustment)} classes. "
                f"Received: shape={tuple(input_shape)}"
            )

    def call(self, logits: Any) -> Any:
        return logits - keras.ops.cast(self._adjustment, logits.dtype)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "class_counts": self.class_counts,
            "tau": self.tau,
        }
