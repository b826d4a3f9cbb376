"""Logits by the distance to class means."""

from typing import Any

import keras
import numpy as np

from keras_lt.arguments import integer
from keras_lt.layers.vectors import lengths

NORMALIZATIONS = ("none", "l2", "centered_l2")
SIMILARITIES = ("euclidean", "dot")


@keras.saving.register_keras_serializable(package="keras_lt")
class NearestClassMean(keras.layers.Layer):
    """Logits by the distance of features to the class means.

    With t the transform of features and m_c the mean of t(x) over class c,
    logit c is -|t(x) - m_c|^2 (`similarity="euclidean"`) or the product of
    t(x) and m_c over D ("dot", the cosine mode of the code of Kang et al., ICLR
    2020). t(x) is x ("none"), x / |x| ("l2"), or the latter for x minus the
    mean of all features ("centered_l2"). A class without features never has the
    largest logit.

    `keras_lt.models.nearest_class_mean` makes a model with it.

    Args:
        num_classes: C, at least 2.
        normalization: "none", "l2" or "centered_l2".
        similarity: "euclidean" or "dot".
        dtype: Dtype or policy; float32 under any global policy.
        **kwargs: Arguments of `keras.layers.Layer`.

    Input shape: (B, D). Output shape: (B, C).

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> layer = keras_lt.layers.NearestClassMean(10)
        >>> layer.adapt(features.features, features.labels)
        >>> scores = layer(features.features)  # (N, 10)
    """

    def __init__(
        self,
        num_classes: int,
        normalization: str = "none",
        similarity: str = "euclidean",
        dtype: Any = "float32",
        **kwargs: Any,
    ):
        super().__init__(dtype=dtype, **kwargs)
        num_classes = integer("num_classes", num_classes)
        if num_classes < 2:
            raise ValueError(
                f"Expected num_classes >= 2. Received: {num_classes=}"
            )
        if (
            normalization not in NORMALIZATIONS
            or similarity not in SIMILARITIES
        ):
            raise ValueError(
                f"Expected normalization to be one of {NORMALIZATIONS} and "
                f"similarity one of {SIMILARITIES}. Received: "
                f"{normalization=}, {similarity=}"
            )
        self.num_classes = num_classes
        self.normalization = normalization
        self.similarity = similarity

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        if len(input_shape) != 2:
            raise ValueError(
                "Expected features of shape (B, D). "
                f"Received: shape={tuple(input_shape)}"
            )
        shapes = {
            "mean": (input_shape[-1],),
            "class_means": (self.num_classes, input_shape[-1]),
            "present": (self.num_classes,),
        }
        for name, shape in shapes.items():
            weight = self.add_weight(name=name, shape=shape, trainable=False)
            setattr(self, name, weight)

    def adapt(self, features: Any, labels: Any) -> None:
        """Computes the class means from features and their labels.

        Args:
            features: (N, D).
            labels: Class ids (N,).

        Raises:
            ValueError: If the shapes don't fit or a label is out of range.
        """
        features = np.asarray(features, np.float64)
        labels = np.asarray(labels)
        if (
            features.ndim != 2
            or labels.shape != features.shape[:1]
            or not len(labels)
            or not (0 <= labels.min() and labels.max() < self.num_classes)
        ):
            raise ValueError(
                "Expected features (N, D) and N labels from 0 to "
                f"{self.num_classes - 1}. Received: features.shape="
                f"{features.shape}, labels.shape={labels.shape}"
            )
        if not self.built:
            self.build(features.shape)
        self.mean.assign(features.mean(axis=0))
        if self.normalization == "centered_l2":
            features = features - features.mean(axis=0)
        if self.normalization != "none":
            norms = np.linalg.norm(features, axis=1, keepdims=True)
            features = features / np.where(norms > 0, norms, 1.0)
        counts = np.bincount(labels, minlength=self.num_classes)
        sums = np.zeros((self.num_classes, features.shape[1]))
        np.add.at(sums, labels, features)
        self.class_means.assign(sums / np.maximum(counts, 1)[:, None])
        self.present.assign(counts > 0)

    def call(self, features: Any) -> Any:
        ops = keras.ops
        if self.normalization == "centered_l2":
            features = features - self.mean
        if self.normalization != "none":
            features = ops.divide_no_nan(features, lengths(features, axis=1))
        products = ops.matmul(features, ops.transpose(self.class_means))
        if self.similarity == "dot":
            logits = products / features.shape[-1]
        else:
            squares = ops.sum(ops.square(features), axis=1, keepdims=True)
            others = ops.sum(ops.square(self.class_means), axis=1)
            logits = 2.0 * products - squares - others
        lowest = ops.min(logits, axis=1, keepdims=True) - 1.0
        return ops.where(self.present > 0, logits, lowest)

    def compute_output_shape(self, input_shape: Any) -> tuple[int | None, ...]:
        return (input_shape[0], self.num_classes)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "normalization": self.normalization,
            "similarity": self.similarity,
        }
