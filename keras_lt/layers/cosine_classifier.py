"""Logits by angles."""

import math
from typing import Any

import keras

from keras_lt.arguments import integer, real
from keras_lt.layers.vectors import lengths

FEATURE_NORMS = ("l2", "squash")


@keras.saving.register_keras_serializable(package="keras_lt")
class CosineClassifier(keras.layers.Layer):
    """Logits by the angles between features and class weights.

    With unit class weights w_c / |w_c| and s the scale, logit c is their
    product with

    - `feature_norm="l2"`: s x / |x|, the cosine (Wang et al., CVPR 2018; the
      classifier of LDAM, with s = 1 and its scale in the loss);
    - `feature_norm="squash"`: s x / (1 + |x|), which keeps some of the length
      (Liu et al., CVPR 2019, with s = 16).

    A feature vector or class weight of zeros gives logits of 0.

    Args:
        num_classes: C, at least 2.
        scale: s, greater than 0.
        feature_norm: "l2" or "squash".
        kernel_initializer: Initializer of the class weights (D, C). By default
            a class weight has a length of about 1.
        kernel_regularizer: Regularizer of the class weights.
        learnable_scale: Whether s is trained too, from `scale` on.
        centered: Whether the weight `center` (D,), which is not trained and 0
            at first, is taken from features before.
        dtype: Dtype or policy; float32 under any global policy.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape: (B, D). Output shape: (B, C).

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> head = keras_lt.layers.CosineClassifier(10, scale=16.0)
        >>> model = keras_lt.models.classifier(backbone, 10, head=head)
    """

    def __init__(
        self,
        num_classes: int,
        scale: float = 1.0,
        feature_norm: str = "l2",
        kernel_initializer: Any = None,
        kernel_regularizer: Any = None,
        learnable_scale: bool = False,
        centered: bool = False,
        dtype: Any = "float32",
        **kwargs: Any,
    ):
        super().__init__(dtype=dtype, **kwargs)
        num_classes = integer("num_classes", num_classes)
        scale = real("scale", scale)
        if num_classes < 2 or not 0 < scale < math.inf:
            raise ValueError(
                "Expected num_classes >= 2 and scale > 0. Received: "
                f"num_classes={num_classes}, scale={scale}"
            )
        if feature_norm not in FEATURE_NORMS:
            raise ValueError(
                f"Expected feature_norm to be one of {FEATURE_NORMS}. "
                f"Received: feature_norm={feature_norm!r}"
            )
        self.num_classes = num_classes
        self.scale = scale
        self.feature_norm = feature_norm
        self.kernel_initializer = keras.initializers.get(
            kernel_initializer
            or keras.initializers.VarianceScaling(
                1.0, "fan_in", "untruncated_normal"
            )
        )
        self.kernel_regularizer = keras.regularizers.get(kernel_regularizer)
        self.learnable_scale = learnable_scale
        self.centered = centered

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if len(input_shape) != 2:
            raise ValueError(
                "Expected features of shape (B, D). "
                f"Received: shape={tuple(input_shape)}"
            )
        self.kernel = self.add_weight(
            name="kernel",
            shape=(input_shape[-1], self.num_classes),
            initializer=self.kernel_initializer,
            regularizer=self.kernel_regularizer,
        )
        if self.learnable_scale:
            self.learned_scale = self.add_weight(
                name="scale",
                shape=(),
                initializer=keras.initializers.Constant(self.scale),
            )
        if self.centered:
            self.center = self.add_weight(
                name="center", shape=(input_shape[-1],), trainable=False
            )

    def call(self, features: Any) -> Any:
        if self.centered:
            features = features - self.center
        norms = lengths(features, axis=1)
        if self.feature_norm == "squash":
            norms = 1.0 + norms
        kernel = keras.ops.divide_no_nan(self.kernel, lengths(self.kernel, 0))
        scale = self.learned_scale if self.learnable_scale else self.scale
        return scale * keras.ops.matmul(
            keras.ops.divide_no_nan(features, norms), kernel
        )

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return (input_shape[0], self.num_classes)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "scale": self.scale,
            "feature_norm": self.feature_norm,
            "kernel_initializer": keras.initializers.serialize(
                self.kernel_initializer
            ),
            "kernel_regularizer": keras.regularizers.serialize(
                self.kernel_regularizer
            ),
            "learnable_scale": self.learnable_scale,
            "centered": self.centered,
        }
