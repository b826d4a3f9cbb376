"""AdaptFormer: small bottlenecks beside the MLPs of a frozen transformer."""

import math
from collections.abc import Callable
from typing import Any

import keras

from keras_lt import trainable
from keras_lt.arguments import integer, real

# Names of the layers that are the MLP of a block, in the order of the data:
# KerasHub's CLIP; DeiT, whose last one adds the shortcut; ViT and Swin.
_MLPS = (
    ("dense_1", "activation", "dense_2"),
    ("mlp", "output_layer"),
    ("mlp",),
)


@keras.saving.register_keras_serializable(package="keras_lt")
class AdaptFormer(keras.layers.Layer):
    r"""An MLP with a bottleneck beside it.

    With h, the normalized input of a block's MLP, it gives

        MLP(h) + s ReLU(h W_down + b_down) W_up + b_up',    b_up' = s b_up

    ("AdaptFormer", Chen et al., NeurIPS 2022, equations 2 and 3). W_up and the
    biases start from 0, so that the block is what it was. The scale s is
    learned, as in LIFT (Shi et al., ICML 2024), whose code has a normalization
    of its own before the bottleneck, which is left out as in AdaptFormer.

    Args:
        parts: Layers of the MLP in the order of the data. What the last one
            takes beside the data is passed on to it.
        width: Width r of the bottleneck.
        scale: Where s starts; 0.1 as in both papers' code.
        **kwargs: Those of `keras.layers.Layer`.

    Input shape: (..., D). Output shape: the same. It has 2 D r + r + D + 1
    weights beside those of the MLP.

    Example:
        >>> dense = keras.layers.Dense(8)
        >>> layer = keras_lt.models.adapters.AdaptFormer([dense], 2)
        >>> layer(np.ones((3, 8), "float32")).shape
        TensorShape([3, 8])
        >>> 2 * 8 * 2 + 2 + 8 + 1 + (8 * 8 + 8) == layer.count_params()
        True
    """

    def __init__(
        self,
        parts: list[keras.layers.Layer],
        width: int,
        scale: float = 0.1,
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.parts = list(parts)
        self.width = integer("width", width, 1)
        self.initial_scale = real("scale", scale)

    def build(self, input_shape: Any) -> None:
        self.down = keras.layers.Dense(
            self.width,
            activation="relu",
            kernel_initializer="he_uniform",
            dtype=self.dtype_policy,
            name="down",
        )
        self.up = keras.layers.Dense(
            input_shape[-1],
            kernel_initializer="zeros",
            dtype=self.dtype_policy,
            name="up",
        )
        self.down.build(input_shape)
        self.up.build((*input_shape[:-1], self.width))
        self.scale = self.add_weight(
            name="scale",
            shape=(),
            initializer=keras.initializers.Constant(self.initial_scale),
        )

    def call(self, inputs: Any, *others: Any) -> Any:
        x = inputs
        for part in self.parts[:-1]:
            x = part(x)
        return self.parts[-1](x, *others) + self.scale * self.up(
            self.down(inputs)
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "parts": keras.saving.serialize_keras_object(self.parts),
            "width": self.width,
            "scale": self.initial_scale,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "AdaptFormer":
        parts = keras.saving.deserialize_keras_object(config["parts"])
        return cls(**{**config, "parts": parts})


@keras.saving.register_keras_serializable(package="keras_lt")
class WithAdapters(keras.layers.Layer):
    """A layer or model with transformer blocks, an adapter in each of them.

    The configuration of the layer says nothing of adapters, so that a file of
    the model has this one's, which puts them there again.

    Args:
        layer: A built layer with blocks of KerasHub's ViT, DeiT, Swin or CLIP.
            It is changed, and frozen but for the adapters.
        width: Width of the bottlenecks.
        **kwargs: Those of `keras.layers.Layer`.

    Raises:
        ValueError: If the layer has no such blocks, or is not built.

    Example:
        >>> encoder = keras_hub.models.ViTBackbone.from_preset(
        ...     "vit"
        ... )  # doctest: +SKIP
        >>> layer = keras_lt.models.adapters.WithAdapters(
        ...     encoder, width=4
        ... )  # doctest: +SKIP
    """

    def __init__(self, layer: keras.layers.Layer, width: int, **kwargs: Any):
        # What it takes is cast by the layer, and not before it.
        super().__init__(autocast=False, **kwargs)
        self.layer = layer
        self.width = integer("width", width, 1)
        for block in _blocks(layer):
            _adapt(block, self.width)
        added = _added(layer)
        trainable.train_only(layer, lambda _, weight: id(weight) in added)
        self.built = True

    def build(self, *_: Any) -> None:
        """The layer is built before."""

    def call(self, inputs: Any, **kwargs: Any) -> Any:
        return self.layer(inputs, **kwargs)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "layer": keras.saving.serialize_keras_object(self.layer),
            "width": self.width,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "WithAdapters":
        layer = keras.saving.deserialize_keras_object(config["layer"])
        return cls(**{**config, "layer": layer})


def adapters(
    width: int | None = None, *, num_classes: int | None = None
) -> Callable[[keras.Model], keras.Model]:
    """Trains a bottleneck beside each MLP of a transformer: spec "adapters".

    See `AdaptFormer`; all else is frozen. By LIFT's rule (Shi et al., ICML
    2024, section 4) the bottlenecks have about as many weights as a classifier
    of C classes: with L blocks their width is

        r = 2^floor(log2(C / (2 L))), at least 1.

    Args:
        width: r; None for the rule.
        num_classes: C of the rule.

    Returns:
        A function that takes a built functional backbone with blocks of
        KerasHub's ViT, DeiT, Swin or CLIP, such as that of
        `keras_lt.models.backbones.kerashub`, changes it, and returns the one
        to go on with. It trains the sum over blocks of 2 D r + r + D + 1
        weights, D the width of the block. It raises ValueError if there are no
        such blocks, they have adapters, or neither `width` nor `num_classes` is
        given.

    Example:
        >>> backbone = keras_lt.models.backbones.kerashub(
        ...     "vit", (224, 224, 3)
        ... )  # doctest: +SKIP
        >>> tune = keras_lt.models.tuning.adapters(num_classes=100)
        >>> backbone = tune(backbone)  # doctest: +SKIP
    """
    if width is not None:
        width = integer("width", width, 1)

    def tune(backbone: keras.Model) -> keras.Model:
        if width is None and num_classes is None:
            raise ValueError(
                "Expected a width of adapters, or num_classes to find one. "
                "Received: neither"
            )
        count = len(_blocks(backbone))
        size = width or adapter_width(num_classes, count)

        def with_adapters(layer):
            # Operations outside of layers come here too.
            if isinstance(layer, keras.layers.Layer) and any(
                _mlp(each) for each in trainable.all_layers(layer)
            ):
                return WithAdapters(layer, size, name=layer.name)
            return layer

        adapted = keras.models.clone_model(
            backbone, clone_function=with_adapters
        )
        added = _added(adapted)
        trainable.train_only(adapted, lambda _, weight: id(weight) in added)
        return adapted

    return tune


def adapter_width(num_classes: int, num_blocks: int) -> int:
    """LIFT's rule: r = 2^floor(log2(C / (2 L))), at least 1.

    Args:
        num_classes: C.
        num_blocks: L.

    Example:
        >>> keras_lt.models.adapters.adapter_width(100, 12)  # ViT-B/16
        4
    """
    num_classes = integer("num_classes", num_classes, 1)
    num_blocks = integer("num_blocks", num_blocks, 1)
    return 2 ** max(0, math.floor(math.log2(num_classes / (2 * num_blocks))))


def _blocks(model: keras.layers.Layer) -> list[keras.layers.Layer]:
    """The transformer blocks in a model or layer whose MLP can be adapted.

    Raises:
        ValueError: If there are none, or they have adapters.
    """
    layers = trainable.all_layers(model)
    found = [layer for layer in layers if _mlp(layer) is not None]
    adapted = any(isinstance(layer, AdaptFormer) for layer in layers)
    if adapted or not found:
        raise ValueError(
            "Expected a KerasHub ViT, DeiT, Swin or CLIP image encoder without "
            f"adapters. Received: {model.name}, with "
            + ("adapters" if adapted else "no block of such a transformer")
        )
    return found


def _added(model: keras.layers.Layer) -> set[int]:
    """Ids of the weights that adapters have added."""
    return {
        id(weight)
        for layer in trainable.all_layers(model)
        if isinstance(layer, AdaptFormer)
        for weight in (layer.scale, *layer.down.weights, *layer.up.weights)
    }


def _mlp(layer: keras.layers.Layer) -> tuple[str, ...] | None:
    """Names of the layers in a block that are its MLP, if it has one."""
    is_block = any(
        isinstance(getattr(layer, name, None), keras.layers.Layer)
        for name in ("mha", "attention", "attn")
    )
    for names in _MLPS if is_block else ():
        parts = [getattr(layer, name, None) for name in names]
        if all(isinstance(part, keras.layers.Layer) for part in parts):
            return names
    return None


def _adapt(block: keras.layers.Layer, width: int) -> None:
    """Puts an adapter in the place of a block's MLP."""
    names = _mlp(block)
    parts = [getattr(block, name) for name in names]
    if not parts[0].built:
        raise ValueError(
            f"Expected a transformer that is built. Received: {block.name}, "
            "which is not"
        )
    adapter = AdaptFormer(
        parts, width, dtype=block.dtype_policy, name=f"{names[-1]}_adapted"
    )
    dim = _input_dim(parts[0])
    adapter.build((None, None, dim))
    block._tracker.unlock()  # as `enable_lora` does
    for name in names[:-1]:
        passed = keras.layers.Identity(dtype=block.dtype_policy, name=name)
        setattr(block, name, passed)
    setattr(block, names[-1], adapter)
    block._tracker.lock()


def _input_dim(layer: keras.layers.Layer) -> int:
    """D, by the first dense layer of an MLP."""
    dense = next(
        each
        for each in trainable.all_layers(layer)
        if isinstance(each, keras.layers.Dense)
    )
    return dense.kernel.shape[0]
