"""Second stages: other classifiers on the features of a trained model."""

import copy
from typing import Any

import keras
import numpy as np

from keras_lt.features import Features, feature_model
from keras_lt.layers import LearnableWeightScaling, NearestClassMean
from keras_lt.models.classifier import linear_head


@keras.saving.register_keras_serializable(package="keras_lt")
class TwoStage(keras.Model):
    """The features of a trained model with another classifier, to be trained.

    Decoupled training (Kang et al., ICLR 2020): features learned from all
    images as they come, then a classifier from class-balanced ones. `crt` and
    `lws` make the usual second stages; `tau_normalize` and
    `nearest_class_mean` are those in closed form.

    It is a functional model: compile it and fit it on images, or, where they
    are not augmented and the features are frozen, compile `head` and fit that
    on features, which takes seconds. They share their weights.

    Args:
        features: A functional model from images to features (B, D), such as
            `keras_lt.features.feature_model` gives. It is copied, so training
            does not touch the first stage.
        head: A functional model from features (B, D) to logits (B, C).
        freeze: Whether the features stay as they are, batch statistics too.
        name: Name of the model.

    Attributes:
        features: The copy.
        head: The head.

    Example:
        >>> model = keras_lt.models.TwoStage.crt(stage1, num_classes=10)
        >>> features = keras_lt.features.extract(stage1, train)
        >>> balanced = keras_lt.features.stream(
        ...     features, 10, sampling="class_balanced", batch_size=128, seed=0
        ... )
        >>> model.head.compile(
        ...     "sgd",
        ...     keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        ... )
        >>> history = model.head.fit(
        ...     balanced, steps_per_epoch=2, epochs=2, shuffle=False
        ... )
        >>> model.predict(test.images).shape
        (450, 10)
    """

    def __init__(
        self,
        features: keras.Model,
        head: keras.Model,
        freeze: bool = True,
        name: str = "two_stage",
    ):
        weights = features.get_weights()
        features = keras.models.clone_model(features)
        features.set_weights(weights)
        features.trainable = not freeze
        images = keras.Input(
            batch_shape=features.input_shape, dtype=features.inputs[0].dtype
        )
        extracted = features(images, training=False if freeze else None)
        super().__init__(images, head(extracted), name=name)
        self.features = features
        self.head = head
        self.freeze = freeze

    @classmethod
    def crt(
        cls,
        model: keras.Model,
        num_classes: int,
        *,
        layer: str | None = None,
        head: keras.layers.Layer | None = None,
        freeze: bool = True,
        l2: float = 0.0,
    ) -> "TwoStage":
        """Classifier re-training (cRT): a new classifier, from the start.

        Args:
            model: The first stage, as `keras_lt.features.feature_model` takes
                it.
            num_classes: C.
            layer: Name of the layer whose outputs are the features; None for
                what the last layer takes.
            head: A layer from features to logits; None is
                `keras_lt.models.linear_head`.
            freeze: As in `TwoStage`.
            l2: Factor of the squared norm of that head's weights in the loss.
        """
        features = feature_model(model, layer)
        head = head or linear_head(num_classes, l2=l2, name="logits")
        return cls(features, _on_features(features, head), freeze)

    @classmethod
    def lws(cls, model: keras.Model) -> "TwoStage":
        """Learnable weight scaling (LWS): a scale a class, nothing else.

        Args:
            model: The first stage: a functional model whose last layer is the
                classifier, or a `DualBranch`.

        Example:
            >>> model = keras_lt.models.TwoStage.lws(stage1)
            >>> [tuple(w.shape) for w in model.trainable_variables]
            [(10,)]
        """
        features = feature_model(model)
        stage1_head = getattr(model, "classifier", model).layers[-1]
        head = stage1_head.from_config(stage1_head.get_config())
        head.build(features.output.shape)
        head.set_weights(stage1_head.get_weights())
        head.trainable = False
        scaling = LearnableWeightScaling(name="scales")
        return cls(features, _on_features(features, head, scaling))

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return {
            "features": serialize(self.features),
            "head": serialize(self.head),
            "freeze": self.freeze,
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "TwoStage":
        config = copy.deepcopy(config)  # a functional model empties its own
        for name in ("features", "head"):
            config[name] = keras.saving.deserialize_keras_object(config[name])
        return cls(**config)


def _on_features(
    features: keras.Model, *layers: keras.layers.Layer
) -> keras.Model:
    inputs = keras.Input(batch_shape=features.output_shape, name="features")
    return keras.Sequential([inputs, *layers], name="head")


def tau_normalize(model: keras.Model, tau: float = 1.0) -> keras.Model:
    """Classifies by weights of more equal length: w_c / |w_c|^tau, no bias.

    Classes with many images get long weights, and so large logits
    (tau-normalisation, Kang et al., ICLR 2020, section 4.2). At tau = 0 only
    the bias is gone. Choose tau on held-out images.

    Args:
        model: A functional model whose last layer is a `keras.layers.Dense`,
            or a `keras_lt.models.DualBranch` with such a main head.
        tau: At least 0.

    Returns:
        A functional model that shares all layers but the last one.

    Raises:
        ValueError: If tau is negative or the last layer is another one.

    Example:
        >>> balanced = keras_lt.models.tau_normalize(model, tau=0.7)
        >>> balanced(test.images[:16]).shape
        TensorShape([16, 10])
    """
    if not 0 <= tau < np.inf:
        raise ValueError(f"Expected tau >= 0. Received: tau={tau}")
    features = feature_model(model)
    head = getattr(model, "classifier", model).layers[-1]
    if not isinstance(head, keras.layers.Dense):
        raise ValueError(
            "Expected a model whose last layer is a keras.layers.Dense. "
            f"Received: {head}"
        )
    kernel = keras.ops.convert_to_numpy(head.kernel)  # (D, C)
    lengths = np.linalg.norm(kernel, axis=0)
    scaled = keras.layers.Dense(
        head.units, use_bias=False, dtype="float32", name="logits"
    )
    logits = scaled(features.output)
    # A weight of zeros stays one.
    scaled.set_weights([kernel / np.where(lengths > 0, lengths, 1.0) ** tau])
    return keras.Model(features.input, logits, name="tau_normalized")


def nearest_class_mean(
    model: keras.Model,
    features: Features,
    num_classes: int,
    *,
    layer: str | None = None,
    normalization: str = "l2",
    similarity: str = "euclidean",
) -> keras.Model:
    """Classifies by the nearest mean of a class (NCM, Kang et al., ICLR 2020).

    Args:
        model: A trained model, as `keras_lt.features.feature_model` takes it.
        features: Those of the training images, of
            `keras_lt.features.extract(model, train, layer)`.
        num_classes: C, at least 2.
        layer: Name of the layer whose outputs they are; None for what the last
            layer takes.
        normalization: "none", "l2" or "centered_l2".
        similarity: "euclidean" or "dot"; `keras_lt.layers.NearestClassMean`
            says what they are.

    Returns:
        A functional model from images to logits (B, C) that shares the layers.

    Raises:
        ValueError: If an argument is out of its range, or the features are not
            those of the layer.

    Example:
        >>> features = keras_lt.features.extract(model, train)
        >>> ncm = keras_lt.models.nearest_class_mean(model, features, 10)
        >>> ncm(test.images[:16]).shape
        TensorShape([16, 10])
    """
    extractor = feature_model(model, layer)
    if features.features.shape[1:] != extractor.output.shape[1:]:
        raise ValueError(
            f"Expected features (N, {extractor.output.shape[-1]}), as of the "
            "model. Received: features.features.shape="
            f"{features.features.shape}"
        )
    head = NearestClassMean(num_classes, normalization, similarity)
    logits = head(extractor.output)
    head.adapt(*features)
    return keras.Model(extractor.input, logits, name="nearest_class_mean")
