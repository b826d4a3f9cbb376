"""A backbone with a classifier, the single-branch model; heads of models."""

from typing import Any

import keras

from keras_lt import layers, losses
from keras_lt.arguments import integer, real
from keras_lt.initializers import PriorBias
from keras_lt.structure import pooled_features


def classifier(
    backbone: keras.Model,
    num_classes: int,
    *,
    head: keras.layers.Layer | None = None,
    l2: float = 0.0,
    name: str = "classifier",
) -> keras.Model:
    """Joins a backbone and a classifier to a model that gives logits.

    Args:
        backbone: A functional or sequential model from images to features
            (B, D) or maps (B, H, W, D), which are averaged over H and W.
        num_classes: C, at least 2.
        head: A layer from features (B, D) to logits (B, C), such as
            `keras_lt.layers.CosineClassifier`; None is `linear_head`.
        l2: Factor of the squared norm of that head's weights in the loss.
        name: Name of the model.

    Returns:
        A functional `keras.Model` from images to logits (B, C).

    Raises:
        ValueError: If there are fewer than 2 classes, the features have
            another rank, or the head gives other logits.

    Example:
        >>> backbone = keras_lt.models.backbones.cifar_resnet(20)
        >>> model = keras_lt.models.classifier(backbone, 10)
        >>> model.output_shape
        (None, 10)
    """
    num_classes = integer("num_classes", num_classes)
    head = head or linear_head(num_classes, l2=l2, name="logits")
    images, features = pooled_features(backbone)
    logits = head(features)
    if logits.shape[1:] != (num_classes,):
        raise ValueError(
            f"Expected a head that gives logits (B, {num_classes}). "
            f"Received: head={head}, which gives {logits.shape}"
        )
    return keras.Model(images, logits, name=name)


def head_dtype() -> str:
    """Returns the dtype of heads: float32, or float64 if that is Keras' floatx.

    It is the same under any dtype policy: 16-bit logits are too inexact.
    """
    return keras.backend.result_type("float32", keras.config.floatx())


def linear_head(
    num_classes: int,
    *,
    bias_initializer: keras.initializers.Initializer | str = "zeros",
    l2: float = 0.0,
    l2_bias: float | None = None,
    name: str | None = None,
) -> keras.layers.Dense:
    """The linear classifier of the published CIFAR-LT codes.

    It computes in `head_dtype`, and its kernel starts from N(0, 2 / fan_in).

    Args:
        num_classes: C, at least 2.
        bias_initializer: Initializer of the bias, such as
            `keras_lt.initializers.PriorBias()` for the sigmoid losses.
        l2: Factor of the squared norm of the kernel in the loss.
        l2_bias: The same for the bias; None for that of the kernel. The
            class-balanced code exempts it for the sigmoid losses.
        name: Name of the layer.

    Returns:
        A `keras.layers.Dense`.

    Raises:
        ValueError: If there are fewer than 2 classes.

    Example:
        >>> head = keras_lt.models.linear_head(10, l2=1e-4)
        >>> model = keras_lt.models.classifier(backbone, 10, head=head)
    """
    num_classes = integer("num_classes", num_classes)
    if num_classes < 2:
        raise ValueError(
            f"Expected num_classes >= 2. Received: num_classes={num_classes}"
        )
    l2 = real("l2", l2)
    l2_bias = l2 if l2_bias is None else real("l2_bias", l2_bias)
    return keras.layers.Dense(
        num_classes,
        kernel_initializer=keras.initializers.VarianceScaling(
            2.0, "fan_in", "untruncated_normal"
        ),
        bias_initializer=bias_initializer,
        kernel_regularizer=keras.regularizers.L2(l2) if l2 else None,
        bias_regularizer=keras.regularizers.L2(l2_bias) if l2_bias else None,
        dtype=head_dtype(),
        name=name,
    )


def head_for(
    loss: Any, num_classes: int, *, l2: float = 0.0, name: str | None = None
) -> tuple[keras.layers.Layer, Any]:
    """The classifier that suits a loss, and the loss to train it with.

    - `keras_lt.losses.LDAM` is of cosines: `keras_lt.layers.CosineClassifier`
      scales them, so that logits of the model are logits for whoever calls it,
      and a loss without a scale, with margins times this scale, is returned.
    - The sigmoid losses want every class to be taken for improbable at first:
      `linear_head` with `keras_lt.initializers.PriorBias`, whose bias is not
      pulled back to 0 (as in the class-balanced code).
    - All others have `linear_head`.

    Args:
        loss: A loss of classes.
        num_classes: C, at least 2.
        l2: Factor of the squared norm of the head's weights in the loss.
        name: Name of the layer.

    Returns:
        A layer from features (B, D) to logits (B, C), and the loss.

    Raises:
        ValueError: If there are fewer than 2 classes.

    Example:
        >>> head, loss = keras_lt.models.head_for(
        ...     keras_lt.losses.LDAM(class_counts), len(class_counts)
        ... )
        >>> head.scale, loss.scale
        (30.0, 1.0)
    """
    if isinstance(loss, losses.LDAM):
        head = layers.CosineClassifier(
            num_classes,
            scale=loss.scale,
            kernel_regularizer=keras.regularizers.L2(l2),
            name=name,
        )
        return head, of_cosines(loss, loss.scale)
    sigmoid = (losses.ClassBalancedSigmoid, losses.ClassBalancedFocal)
    arguments = {}
    if isinstance(loss, sigmoid):
        arguments = {"bias_initializer": PriorBias(), "l2_bias": 0.0}
    return linear_head(num_classes, l2=l2, name=name, **arguments), loss


def of_cosines(loss: Any, scale: float) -> Any:
    """The loss of a classifier that scales its cosines itself.

    `keras_lt.losses.LDAM` has its margins times this scale then, and no scale
    of its own; other losses are as they were.
    """
    if not isinstance(loss, losses.LDAM):
        return loss
    margin = loss.max_margin * scale
    config = {**loss.get_config(), "max_margin": margin, "scale": 1.0}
    return type(loss).from_config(config)


def projection_head(
    features_dim: int,
    projection_dim: int,
    l2: float = 0.0,
    dtype: Any = None,
) -> keras.Sequential:
    """SimCLR's head: a dense layer as wide as the features, ReLU, another.

    Args:
        features_dim: D.
        projection_dim: P.
        l2: Factor of the squared norm of its weights in the loss.
        dtype: Its dtype policy; None for the global one.

    Returns:
        A built model from features (B, D) to embeddings (B, P).
    """
    l2 = real("l2", l2)
    regularizer = keras.regularizers.L2(l2) if l2 else None

    def dense(units, **arguments):
        return keras.layers.Dense(
            units,
            kernel_regularizer=regularizer,
            bias_regularizer=regularizer,
            dtype=dtype,
            **arguments,
        )

    return keras.Sequential(
        [
            keras.Input((features_dim,)),
            dense(features_dim, activation="relu"),
            dense(projection_dim),
        ],
        name="projection",
    )
