"""Second stages: other classifiers on the features of a trained model."""

import copy
from typing import Any

import keras
import numpy as np

from keras_lt.arguments import real
from keras_lt.layers import LearnableWeightScaling, NearestClassMean
from keras_lt.models.base import without_traits_of_parts
from keras_lt.models.classifier import linear_head
from keras_lt.structure import (
    Head,
    classifier_of,
    feature_model,
    features_of,
    head_of,
    one_to_one,
    without_activation,
)


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
            `keras_lt.models.feature_model` gives. It is copied, so training
            does not touch the first stage.
        head: A functional model from features (B, D) to logits (B, C).
        freeze: Whether the features stay as they are, batch statistics too.
        name: Name of the model.

    Attributes:
        features: The copy.
        head: The head.
        head_rates: Factors of the learning rate to train the head with, one
            for each of its variables; None where they are all 1.

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

    head_rates: tuple[float, ...] | None = None

    def __init__(
        self,
        features: keras.Model,
        head: keras.Model,
        freeze: bool = True,
        name: str = "two_stage",
    ):
        features = _copy(one_to_one(features, "features"))
        features.trainable = not freeze
        images = keras.Input(
            batch_shape=features.inputs[0].shape, dtype=features.inputs[0].dtype
        )
        extracted = features(images, training=False if freeze else None)
        super().__init__(images, head(extracted), name=name)
        self.features = features
        self.head = head
        self.freeze = bool(freeze)

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
            model: The first stage, as `keras_lt.models.feature_model` takes
                it.
            num_classes: C.
            layer: Name of the layer whose outputs are the features; None for
                the inputs of the last layer.
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
        """Learnable weight scaling (LWS): trains one scale per class alone.

        Args:
            model: The first stage: a functional or sequential model whose last
                layer is the classifier, or a `DualBranch`. A softmax after it
                is left out.

        Example:
            >>> model = keras_lt.models.TwoStage.lws(stage1)
            >>> [tuple(w.shape) for w in model.trainable_variables]
            [(10,)]
        """
        return cls._scaled(model, trainable=False)

    @classmethod
    def mislas(cls, model: keras.Model) -> "TwoStage":
        """MiSLAS: goes on with the classifier, and learns a scale per class.

        The second stage of Zhong et al. (CVPR 2021,
        https://arxiv.org/abs/2104.00466), as their code (dvlab-research/MiSLAS)
        has it for CIFAR-10: the classifier of a first stage with mixup is not
        trained anew, as by `crt`, but from where it is; features and batch
        statistics stay. Train it with `keras_lt.losses.LabelAwareSmoothing` on
        class-balanced samples.

        Args:
            model: As in `lws`.

        Example:
            >>> model = keras_lt.models.TwoStage.mislas(stage1)
            >>> [tuple(w.shape) for w in model.head.trainable_variables]
            [(8, 10), (10,), (10,)]
        """
        return cls._scaled(model, trainable=True)

    @classmethod
    def _scaled(cls, model: keras.Model, trainable: bool) -> "TwoStage":
        features, head = _features_and_head(model)
        layer, shape = head.layer, head.features.shape
        if isinstance(layer, keras.layers.Dense):
            copied = without_activation(layer, shape)
        else:
            copied = layer.from_config(layer.get_config())
            copied.build(shape)
            copied.set_weights(layer.get_weights())
        copied.trainable = trainable
        scaling = LearnableWeightScaling(name="scales")
        return cls(features, _on_features(features, copied, scaling))

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return {
            **without_traits_of_parts(super().get_config()),
            "features": serialize(self.features),
            "head": serialize(self.head),
            "freeze": self.freeze,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "TwoStage":
        config = copy.deepcopy(config)  # a functional model empties its own
        for name in ("features", "head"):
            config[name] = keras.saving.deserialize_keras_object(config[name])
        return cls(**config)


@features_of.register
def _(model: TwoStage) -> keras.Model:
    return model.features


def _copy(features: keras.Model) -> keras.Model:
    """Returns a copy with the same weights.

    Raises:
        ValueError: If Keras can't copy them (quantized as float8).
    """
    copied = keras.models.clone_model(features)
    try:
        copied.set_weights(features.get_weights())
    except ValueError as error:
        raise ValueError(
            "Expected features whose layers are not quantized, or as int8 or "
            f"int4. Received: features={features.name}: {error}"
        ) from error
    return copied


def _features_and_head(model: keras.Model) -> tuple[keras.Model, Head]:
    """Returns the model without its classifier, and the classifier.

    Raises:
        ValueError: If the classifier takes something else than (B, D).
    """
    model = one_to_one(classifier_of(model))
    head = head_of(model)
    if len(head.features.shape) != 2:
        raise ValueError(
            "Expected a model whose last layer takes features (B, D). "
            f"Received: {head.layer.name}, which takes {head.features.shape}"
        )
    return keras.Model(model.inputs[0], head.features, name="features"), head


def _on_features(
    features: keras.Model, *layers: keras.layers.Layer
) -> keras.Model:
    inputs = keras.Input(batch_shape=features.outputs[0].shape, name="features")
    return keras.Sequential([inputs, *layers], name="head")


def tau_normalize(model: keras.Model, tau: float = 1.0) -> keras.Model:
    """Makes the class weights more equal in length: w_c / |w_c|^tau, no bias.

    Classes with many images get long weights, and so large logits
    (tau-normalization, Kang et al., ICLR 2020, section 4.2). At tau = 0 only
    the bias is gone. Choose tau on held-out images.

    Args:
        model: A functional or sequential model whose last layer is a
            `keras.layers.Dense`, or a `keras_lt.models.DualBranch` with such a
            main head. An activation after it is left out. Quantized weights
            and those with LoRA count with the values that they stand for.
        tau: Exponent of the lengths, at least 0.

    Returns:
        A functional model that shares all layers but the last one.

    Raises:
        ValueError: If tau is negative or the last layer is another one.

    Example:
        >>> balanced = keras_lt.models.tau_normalize(model, tau=0.7)
        >>> balanced(test.images[:16]).shape
        TensorShape([16, 10])
    """
    tau = real("tau", tau)
    if not 0 <= tau < np.inf:
        raise ValueError(f"Expected tau >= 0. Received: tau={tau}")
    features, head = _features_and_head(model)
    if not isinstance(head.layer, keras.layers.Dense):
        raise ValueError(
            "Expected a model whose last layer is a keras.layers.Dense. "
            f"Received: {head.layer}"
        )
    kernel = _kernel(head.layer, head.features.shape)
    lengths = np.linalg.norm(kernel, axis=0)
    scaled = keras.layers.Dense(
        head.layer.units, use_bias=False, dtype="float32", name="logits"
    )
    logits = scaled(features.output)
    # A weight of zeros stays one.
    scaled.set_weights([kernel / np.where(lengths > 0, lengths, 1.0) ** tau])
    return keras.Model(features.input, logits, name="tau_normalized")


def _kernel(layer: keras.layers.Dense, shape: tuple) -> np.ndarray:
    """The weights (D, C) that a dense layer multiplies by, in floats."""
    if layer.quantization_mode in (None, "float8"):
        return keras.ops.convert_to_numpy(layer.kernel)  # with LoRA's part
    # The layer itself knows best what its integers stand for.
    plain = without_activation(layer, shape)
    units = np.eye(shape[-1], dtype="float32")
    return np.asarray(plain(units)) - np.asarray(plain(0 * units[:1]))


def nearest_class_mean(
    model: keras.Model,
    features: tuple[np.ndarray, np.ndarray],
    num_classes: int,
    *,
    layer: str | None = None,
    normalization: str = "l2",
    similarity: str = "euclidean",
) -> keras.Model:
    """Classifies by the nearest class mean (NCM, Kang et al., ICLR 2020).

    Args:
        model: A trained model, as `keras_lt.models.feature_model` takes it.
        features: Features (N, D) and labels (N,) of the training images, as
            `keras_lt.features.extract(model, train, layer)` gives them.
        num_classes: C, at least 2.
        layer: Name of the layer whose outputs the features are; None for the
            inputs of the last layer.
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
    found = np.shape(features[0])
    if found[1:] != extractor.output.shape[1:]:
        raise ValueError(
            f"Expected features (N, {extractor.output.shape[-1]}), as of the "
            f"model. Received: features.features.shape={found}"
        )
    head = NearestClassMean(num_classes, normalization, similarity)
    logits = head(extractor.output)
    head.adapt(*features)
    return keras.Model(extractor.input, logits, name="nearest_class_mean")
