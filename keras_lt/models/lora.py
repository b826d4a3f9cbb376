"""LoRA: a trained product of low rank beside each kernel of a frozen model."""

import contextlib
from collections.abc import Callable, Iterator, Sequence

import keras

from keras_lt import trainable
from keras_lt.arguments import integer

# Projections of attention that have one by default, as in the paper.
ATTENTION = ("query", "value")


def lora(
    rank: int = 8, layers: str | Sequence[str] | None = None
) -> Callable[[keras.Model], keras.Model]:
    r"""Trains low-rank changes of some kernels: spec "lora(rank=8)".

    A kernel W becomes W + A B, with A (..., rank) and B (rank, units), where B
    starts from 0 ("LoRA", Hu et al., ICLR 2022, equation 3, alpha = rank), by
    `enable_lora` of Keras' own layers: Dense, EinsumDense, Embedding, and
    convolutions that are not depthwise. All else is frozen. `merged` makes
    plain kernels of them.

    Args:
        rank: Rank of the changes.
        layers: Start of the names of the layers that have one, or several:
            "stage3", ("query", "value", "dense"). None is `ATTENTION` where
            there are such layers, and all that can have one elsewhere.

    Returns:
        A function that changes a built backbone and returns it. It then trains
        rank (inputs + units) weights of each kernel, where the inputs of a
        convolution are those of its window. It raises ValueError if no layer
        has such a name and can have one.

    Raises:
        ValueError: If the rank is not positive.

    Example:
        >>> tune = keras_lt.models.tuning.lora(rank=2, layers="stage3")
        >>> backbone = tune(keras_lt.models.backbones.cifar_resnet(8))
        >>> sorted({w.name for w in backbone.trainable_weights})
        ['lora_kernel_a', 'lora_kernel_b']
    """
    rank = integer("rank", rank, 1)

    def tune(backbone: keras.Model) -> keras.Model:
        chosen = _chosen(backbone, layers)
        backbone.trainable = True
        before = {id(weight) for weight in backbone.weights}
        for layer in chosen:
            layer.enable_lora(rank)
        trainable.train_only(
            backbone, lambda _, weight: id(weight) not in before
        )
        return backbone

    return tune


def _chosen(
    backbone: keras.Model, layers: str | Sequence[str] | None
) -> list[keras.layers.Layer]:
    """The layers of a backbone that are to have a low-rank change."""
    able = [
        layer
        for layer in trainable.all_layers(backbone)
        if hasattr(layer, "enable_lora") and layer.built
    ]
    starts = layers or ATTENTION
    starts = (starts,) if isinstance(starts, str) else tuple(starts)
    chosen = [layer for layer in able if layer.name.startswith(starts)]
    if layers is None and not chosen:
        chosen = able
    if not chosen:
        known = dict.fromkeys(layer.name.split("_")[0] for layer in able)
        raise ValueError(
            "Expected the start of the name of a dense layer, an embedding or "
            "a convolution, of those that start with "
            f"{', '.join(known) or '(there is none)'}. "
            f"Received: layers={layers!r}"
        )
    return chosen


@contextlib.contextmanager
def merged(model: keras.Model) -> Iterator[bool]:
    """Makes plain kernels of W + A B, as long as the context lasts.

    A model that is saved meanwhile is as it would be without LoRA, and gives
    the same.

    Args:
        model: A model, with LoRA or without.

    Yields:
        Whether anything was merged.

    Example:
        >>> with keras_lt.models.lora.merged(model):
        ...     model.save("model.keras")
    """
    enabled = [
        layer
        for layer in trainable.all_layers(model)
        if getattr(layer, "lora_enabled", False)
    ]
    before = []
    for layer in enabled:
        kernel, change = _kernel_and_change(layer)
        before.append((kernel, keras.ops.convert_to_numpy(kernel)))
        kernel.assign_add(keras.ops.cast(change, kernel.dtype))
    ranks = [layer.lora_rank for layer in enabled]
    for layer in enabled:
        layer.lora_enabled, layer.lora_rank = False, None
    try:
        yield bool(enabled)
    finally:
        for layer, rank, (kernel, value) in zip(
            enabled, ranks, before, strict=True
        ):
            kernel.assign(value)
            layer.lora_enabled, layer.lora_rank = True, rank


def _kernel_and_change(layer: keras.layers.Layer) -> tuple:
    """W and A B of a layer."""
    name = "embeddings" if hasattr(layer, "lora_embeddings_a") else "kernel"
    a, b = (getattr(layer, f"lora_{name}_{end}") for end in "ab")
    change = layer.lora_alpha / layer.lora_rank * keras.ops.matmul(a, b)
    return getattr(layer, f"_{name}"), change
