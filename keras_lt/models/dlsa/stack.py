"""One model from images to logits: a DLSA on a trained network."""

import keras

from keras_lt.models.base import refuse_fit
from keras_lt.models.dlsa.model import DLSA
from keras_lt.structure import feature_model


@keras.saving.register_keras_serializable(package="keras_lt")
class DividedModel(keras.Model):
    """The functional model of `stack`, which `fit` refuses to train.

    Gradients do not see how samples are divided.

    Example:
        >>> model = keras_lt.models.stack(stage1, dlsa)
        >>> isinstance(model, keras_lt.models.dlsa.DividedModel)
        True
    """

    train_step = refuse_fit("DLSA.fit_features, on features,")


def stack(
    model: keras.Model, dlsa: DLSA, layer: str | None = None
) -> keras.Model:
    """Puts a DLSA on the features of a trained model: from images to logits.

    Args:
        model: As `keras_lt.models.feature_model` takes it.
        dlsa: Trained on features of that model.
        layer: Name of the layer whose outputs they are; None for what the last
            layer takes.

    Returns:
        A functional model that shares the layers.

    Raises:
        ValueError: If the features have another dimension.

    Example:
        >>> model = keras_lt.models.stack(stage1, dlsa)
        >>> model(test.images[:16]).shape
        TensorShape([16, 10])
    """
    extractor = feature_model(model, layer)
    dim = dlsa.features_dim
    if extractor.output.shape[-1] != dim:
        raise ValueError(
            f"Expected a model with {dim} features, as dlsa takes them. "
            f"Received: {extractor.output.shape[-1]}"
        )
    logits = dlsa(extractor.output)
    return DividedModel(extractor.input, logits, name="divided")
