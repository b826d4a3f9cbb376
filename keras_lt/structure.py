"""Parts of a trained model: its images, its features, its head."""

import functools
from typing import Any, NamedTuple

import keras


@functools.singledispatch
def classifier_of(model: Any) -> Any:
    """Returns the model from images to logits; our models register theirs."""
    return model


@functools.singledispatch
def features_of(model: Any) -> keras.Model | None:
    """Returns the model from images to features, if it is known."""
    return None


class Head(NamedTuple):
    """The end of a classifier.

    Attributes:
        features: Inputs of the last layer.
        layer: The last layer.
        activation: Name of the activation that follows it as a separate layer
            or operation; None if there is none.
    """

    features: keras.KerasTensor
    layer: Any
    activation: str | None


def one_to_one(model: Any, what: str = "model") -> keras.Model:
    """Returns a functional model of one input and one output.

    Args:
        model: The model.
        what: Name of the model in errors.

    Returns:
        The model, or one that shares its layers and takes batches of any size
        as a tensor and gives a tensor.

    Raises:
        TypeError: If it is no model.
        ValueError: If it is another model, or not built.
    """
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"Expected as {what} a keras.Model. Received: {what}={model!r}"
        )
    # A model of another kind has neither, a sequential one may lack them.
    inputs = getattr(model, "inputs", None) or []
    outputs = getattr(model, "outputs", None) or []
    if len(inputs) != 1 or len(outputs) != 1:
        raise ValueError(
            f"Expected as {what} a functional or sequential model of one "
            "input and one output, built (with keras.Input as its first layer, "
            f"or called on images). Received: {what}={model}, with "
            f"{len(inputs)} inputs and {len(outputs)} outputs"
        )
    (images,), (result,) = inputs, outputs
    # A sequential model takes tensors, and has no `input`.
    if not isinstance(model, keras.Sequential) and not all(
        isinstance(each, keras.KerasTensor)
        for each in (model.input, model.output)
    ):
        model = keras.Model(images, result, name=model.name)
    if images.shape[0] is not None:
        images = keras.Input(images.shape[1:], dtype=images.dtype)
        model = keras.Model(images, model(images), name=model.name)
    return model


def feature_model(model: keras.Model, layer: str | None = None) -> keras.Model:
    """Returns the part of a model from its images to its features.

    Args:
        model: A built functional or sequential model whose last layer is the
            classifier, with an activation or a layer of one after it or not,
            or a model of ours.
        layer: Name of the layer whose outputs are the features; None for the
            inputs of the classifier, or the `features` of a model of ours.

    Returns:
        A functional model that shares the layers, to features (B, D); maps
        (B, H, W, D) are averaged over H and W.

    Raises:
        TypeError: If it is no model.
        ValueError: If it is another model or not built, there is no such layer
            or its outputs have another shape.

    Example:
        >>> images_to_features = keras_lt.models.feature_model(model)
        >>> images_to_features(images[:5]).shape
        TensorShape([5, 8])
    """
    known = features_of(model) if layer is None else None
    if known is not None:
        features, (images,) = known.outputs[0], known.inputs
    else:
        model = one_to_one(classifier_of(model))
        (images,) = model.inputs
        features = (
            head_of(model).features
            if layer is None
            else layer_output(model, layer)
        )
    return keras.Model(images, pooled(features), name="features")


def pooled(features: keras.KerasTensor) -> keras.KerasTensor:
    """Returns features (B, D) as they are, maps (B, H, W, D) averaged.

    Raises:
        ValueError: If they have another rank.

    """
    rank = len(features.shape)
    if rank not in (2, 4):
        raise ValueError(
            "Expected features (B, D) or maps (B, H, W, D). "
            f"Received: features.shape={features.shape}"
        )
    if rank == 2:
        return features
    return keras.layers.GlobalAveragePooling2D(name="pooled")(features)


def pooled_features(
    backbone: keras.Model,
) -> tuple[keras.KerasTensor, keras.KerasTensor]:
    """Returns images and features (B, D) of a backbone, maps averaged.

    Raises:
        ValueError: If it is no functional or sequential model of one input
            and one output, or this has another rank than 2 or 4.
    """
    backbone = one_to_one(backbone, "backbone")
    return backbone.inputs[0], pooled(backbone.outputs[0])


def layer_output(model: keras.Model, name: str) -> keras.KerasTensor:
    """Returns the output of a layer in a functional or sequential model.

    `layer.output` is something else where the layer is a model or is used in
    several models.

    Raises:
        ValueError: If there is no such layer.
    """
    known = [layer.name for layer in model.layers]
    pending, seen = list(model.outputs), set()
    while name in known and pending:
        tensor = pending.pop()
        operation, node = _origin(tensor)
        if operation.name == name:
            return tensor
        if id(node) not in seen:
            seen.add(id(node))
            pending += node.input_tensors
    raise ValueError(
        f"Expected the name of a layer: {', '.join(known)}. "
        f"Received: layer={name!r}"
    )


def head_of(model: keras.Model) -> Head:
    """Returns the end of a functional or sequential model, also of nested ones.

    Raises:
        ValueError: If it ends in something that takes more than one tensor.
    """
    return _head(model.outputs[0], model.name)


def logits_model(model: keras.Model) -> keras.Model:
    """Returns the model without the softmax at its end, if it has one.

    Raises:
        ValueError: If it ends in another activation.
    """
    try:
        head = head_of(model)
    except ValueError:  # an end of several tensors, which is no activation
        return model
    layer, activation = head.layer, head.activation
    if activation is None and isinstance(layer, keras.layers.Dense):
        activation = _name(layer.activation)
        if activation == "softmax":
            layer = without_activation(layer, head.features.shape)
    if activation in (None, "linear", "log_softmax"):
        return model
    if activation != "softmax":
        raise ValueError(
            "Expected a model that gives logits, or probabilities by a "
            f"softmax. Received: {model.name}, which ends in {activation}"
        )
    return keras.Model(model.inputs[0], layer(head.features), name=model.name)


def without_activation(
    layer: keras.layers.Dense, input_shape: tuple[int | None, ...]
) -> keras.layers.Dense:
    """Returns a copy of a layer without its activation, quantized as it is.

    Raises:
        ValueError: If Keras can't copy it (quantized as float8).
    """
    copy = type(layer).from_config(
        {**layer.get_config(), "activation": "linear"}
    )
    copy.build(input_shape)
    try:
        copy.set_weights(layer.get_weights())
    except ValueError as error:
        raise ValueError(
            "Expected a head that is not quantized, or as int8 or int4. "
            f"Received: {layer.name}, quantized as {layer.quantization_mode}"
        ) from error
    return copy


def _origin(tensor: keras.KerasTensor) -> tuple[Any, Any]:
    """The operation that a tensor comes from, and that use of it."""
    operation, use, _ = tensor._keras_history
    return operation, operation._inbound_nodes[use]


def _head(tensor: keras.KerasTensor, name: str) -> Head:
    operation, node = _origin(tensor)
    if len(node.input_tensors) != 1:
        raise ValueError(
            "Expected a model that ends in a layer of one tensor. "
            f"Received: {name}, which ends in {operation.name}"
        )
    (below,) = node.input_tensors
    activation = _activation(operation)
    if activation is not None:
        found = _head(below, name)
        # Of several activations the last one that does something.
        if activation != "linear" or found.activation is None:
            found = found._replace(activation=activation)
        return found
    # Our own models without a graph are layers here.
    if not isinstance(operation, keras.Model) or not getattr(
        operation, "outputs", None
    ):
        return Head(below, operation, None)
    inner = _head(operation.outputs[0], operation.name)
    if inner.features is operation.inputs[0]:
        return inner._replace(features=below)
    part = keras.Model(operation.inputs, inner.features)
    return inner._replace(features=part(below))


def _activation(operation: Any) -> str | None:
    """The name of what a layer or operation does, if that is an activation."""
    if isinstance(operation, keras.layers.Activation):
        return _name(operation.activation)
    # An operation of `keras.ops` has no public class.
    kind = type(operation).__name__
    names = {
        "Identity": "linear",
        "LogSoftmax": "log_softmax",
        "Sigmoid": "sigmoid",
        "Softmax": "softmax",
    }
    return names.get(kind)


def _name(activation: Any) -> str:
    return getattr(activation, "__name__", type(activation).__name__)
