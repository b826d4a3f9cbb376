"""Second stages: other classifiers on the features of a trained model."""

import keras
import numpy as np

from keras_lt.features import Features, feature_model
from keras_lt.layers import NearestClassMean


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
        >>> balanced = keras_lt.models.tau_normalize(model, 0.7)
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
    return keras.Model(features.inputs, logits, name="tau_normalized")


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
    return keras.Model(extractor.inputs, logits, name="nearest_class_mean")
