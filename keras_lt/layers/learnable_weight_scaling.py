"""A learned scale for each class."""

from typing import Any

import keras


@keras.saving.register_keras_serializable(package="keras_lt")
class LearnableWeightScaling(keras.layers.Layer):
    """Multiplies the logit of each class by a learned scale, which starts at 1.

    The second stage of LWS (Kang et al., ICLR 2020, section 4.3) trains these
    scales alone, on class-balanced samples. As in the authors' code the bias of
    the classifier is scaled too.

    Args:
        dtype: Dtype or policy; float32 under any global policy.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape: (B, C). Output shape: the same.

    Raises:
        ValueError: If the input has another rank.

    Example:
        >>> layer = keras_lt.layers.LearnableWeightScaling()
        >>> float(layer(np.array([[2.0, 3.0]]))[0, 1])
        3.0
    """

    def __init__(self, dtype: Any = "float32", **kwargs: Any):
        super().__init__(dtype=dtype, **kwargs)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if len(input_shape) != 2:
            raise ValueError(
                "Expected logits of shape (B, C). "
                f"Received: shape={tuple(input_shape)}"
            )
        self.scales = self.add_weight(
            name="scales", shape=(input_shape[-1],), initializer="ones"
        )

    def call(self, logits: Any) -> Any:
        return logits * self.scales
