"""A density of features: a flow with a mixture of Gaussians behind it."""

import math
from typing import Any

import keras
from keras import ops

from keras_lt.arguments import integer, real
from keras_lt.models.dlsa.flows import (
    MaskedAutoregressiveFlow,
    check_rank,
    log_normalizer,
)


@keras.saving.register_keras_serializable(package="keras_lt")
class FlowGaussianMixture(keras.Model):
    """A density of features: a flow, and a mixture of Gaussians behind it.

    With u the flow's output for x, component k of the mixture is

        log p_k(x) = log N(u; mu_k, I) + log |det du/dx|,

    and all have the prior 1 / K (Xu et al., ECCV 2022, section 3.2). The
    means are drawn once from N(0, center_std^2 I) and never trained: the flow
    learns to bring samples to them.

    Called, it gives log p_k(x).

    Args:
        num_components: K, at least 1.
        center_std: Standard deviation of the means, at least 0.
        flow: A `MaskedAutoregressiveFlow`; None is one of two blocks, as the
            authors take.
        seed: Seed of the means.
        dtype: Dtype or policy; float32 under any global policy.
        **kwargs: Arguments of `keras.Model`.

    Input shape: (B, D). Output shape: (B, K).

    Raises:
        ValueError: If an argument is out of its range, or the input has
            another rank.

    Example:
        >>> mixture = keras_lt.models.FlowGaussianMixture(20, center_std=0.05)
        >>> x = features.features[:100]
        >>> loss = -mixture.log_likelihood(x, training=True)  # (B,)
        >>> log_joint = mixture.log_joint(x)  # (B, K)
        >>> clusters = mixture.assign(x)  # (B,)
    """

    def __init__(
        self,
        num_components: int,
        center_std: float,
        flow: MaskedAutoregressiveFlow | None = None,
        seed: int = 0,
        dtype: Any = "float32",
        **kwargs: Any,
    ):
        super().__init__(dtype=dtype, **kwargs)
        num_components = integer("num_components", num_components)
        center_std = real("center_std", center_std)
        if num_components < 1 or not 0 <= center_std < math.inf:
            raise ValueError(
                "Expected num_components >= 1 and a finite center_std >= 0. "
                f"Received: num_components={num_components}, "
                f"center_std={center_std}"
            )
        self.num_components = num_components
        self.center_std = center_std
        self.flow = flow or MaskedAutoregressiveFlow(dtype=self.dtype_policy)
        self.seed = integer("seed", seed)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        check_rank(input_shape)
        if not self.flow.built:
            self.flow.build(input_shape)
        self.means = self.add_weight(
            name="means",
            shape=(self.num_components, input_shape[-1]),
            initializer=keras.initializers.RandomNormal(
                0.0, self.center_std, self.seed
            ),
            trainable=False,
        )

    def call(self, x: Any, training: bool | None = None) -> Any:
        return self.log_joint_of(*self.flow(x, training=training))

    def log_joint(self, x: Any, training: bool | None = None) -> Any:
        """The log p_k(x) of x (B, D), (B, K), without the prior 1 / K."""
        return self(x, training=training)

    def log_joint_of(self, u: Any, log_abs_det: Any) -> Any:
        """The same for the outputs of the flow for x.

        Example:
            >>> mixture = keras_lt.models.FlowGaussianMixture(20, 0.05)
            >>> mixture.build((None, 8))
            >>> u, log_abs_det = mixture.flow(features.features[:100])
            >>> mixture.log_joint_of(u, log_abs_det).shape
            TensorShape([100, 20])
        """
        # -|u - mu_k|^2 / 2 without a (B, K, D) array. Terms that depend on k
        # are added up apart, so that posteriors stay exact where |u| is large.
        affinity = ops.matmul(u, ops.transpose(self.means))
        affinity -= 0.5 * ops.sum(ops.square(self.means), axis=1)
        common = ops.sum(log_abs_det - 0.5 * ops.square(u), axis=1)
        return affinity + (common + log_normalizer(u))[:, None]

    def log_likelihood(
        self, x: Any, training: bool | None = None, mask: Any = None
    ) -> Any:
        """Log-density of x under the mixture.

        Args:
            x: Features (B, D).
            training: Whether to normalize by the statistics of this batch.
            mask: The components that count, bool (K,), at least one of them;
                None is all.

        Returns:
            (B,), logsumexp_k log p_k(x) - log K, k over the components that
            count and K their number.
        """
        log_joint = self(x, training=training)
        log_count = math.log(self.num_components)
        if mask is not None:
            log_joint = ops.where(mask, log_joint, -math.inf)
            log_count = ops.log(ops.sum(ops.cast(mask, log_joint.dtype)))
        return ops.logsumexp(log_joint, axis=1) - log_count

    def assign(self, x: Any) -> Any:
        """The most probable component of each x (B, D), int32 (B,)."""
        return ops.argmax(self(x, training=False), axis=1)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_components": self.num_components,
            "center_std": self.center_std,
            "flow": keras.saving.serialize_keras_object(self.flow),
            "seed": self.seed,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "FlowGaussianMixture":
        flow = keras.saving.deserialize_keras_object(config["flow"])
        return cls(**{**config, "flow": flow})
