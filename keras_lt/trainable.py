"""Which weights of a model its training changes, and which it leaves alone."""

import re
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np


class Share(NamedTuple):
    """How many parameters are trained, and how many there are.

    Example:
        >>> keras_lt.trainable.Share(10, 100)
        Share(trained=10, all=100)
    """

    trained: int
    all: int


def build_optimizer(model: keras.Model) -> None:
    """Makes the variables of a model's optimizer, as its first step would.

    A step that makes variables is traced twice by TensorFlow, which takes
    seconds for small networks and a minute for deep ones. Numbers stay the
    same. A model with layers that are not built is left as it is.

    Args:
        model: A compiled model whose frozen layers stay frozen.

    Example:
        >>> keras_lt.trainable.build_optimizer(model)
        >>> model.optimizer.built
        True
    """
    is_built = all(layer.built for layer in all_layers(model))
    if is_built and not model.optimizer.built:
        with model.distribute_strategy.scope():
            model.optimizer.build(model.trainable_variables)


def all_layers(model: keras.Model) -> list[keras.layers.Layer]:
    """Returns a model and all layers in it, those of layers too.

    Example:
        >>> len(keras_lt.trainable.all_layers(model)) > len(model.layers)
        True
    """
    return list(model._flatten_layers())


def train_only(
    model: keras.Model,
    keep: Callable[[keras.layers.Layer, keras.Variable], bool],
) -> list[keras.Variable]:
    """Freezes a model but for the weights that are to be kept.

    A layer without such weights is frozen, and so are its batch statistics. A
    layer with one has the statistics of its training.

    Args:
        model: A built model.
        keep: Whether a weight of a layer is to be trained.

    Returns:
        The weights that are trained.

    Example:
        >>> kept = keras_lt.trainable.train_only(
        ...     backbone, lambda layer, weight: weight.name == "bias"
        ... )
        >>> len(kept) == len(backbone.trainable_weights)
        True
    """
    model.trainable = True
    kept = []
    for layer in all_layers(model):
        own = _own(layer)
        wanted = [weight for weight in own if keep(layer, weight)]
        is_leaf = not layer._layers
        if is_leaf and not wanted:
            layer.trainable = False
        else:
            wanted_ids = {id(weight) for weight in wanted}
            for weight in own:
                weight.trainable = id(weight) in wanted_ids
        kept += wanted
    return kept


def changing_weights(model: keras.Model) -> list[keras.Variable]:
    """Returns the weights that are not among `frozen_weights`.

    Example:
        >>> len(keras_lt.trainable.changing_weights(model)) > 0
        True
    """
    frozen = {id(weight) for weight in frozen_weights(model)}
    return [weight for weight in model.weights if id(weight) not in frozen]


def frozen_weights(model: keras.Model) -> list[keras.Variable]:
    """Returns the weights that training does not change, by any step.

    They are those of frozen layers, batch statistics too, and single weights
    that were frozen, such as the kernel beside a low-rank one.

    Example:
        >>> keras_lt.models.backbones.freeze(backbone)
        >>> len(keras_lt.trainable.frozen_weights(backbone)) == len(
        ...     backbone.weights
        ... )
        True
    """
    frozen = []
    for layer in all_layers(model):
        frozen += [weight for weight in _own(layer) if not weight.trainable]
        if not layer.trainable:
            frozen += layer._non_trainable_variables
    return frozen


def has_frozen_parts(model: keras.Model) -> bool:
    """Whether single weights of a layer are frozen, and not whole layers.

    Example:
        >>> backbone = keras_lt.models.tuning.norm_and_bias()(backbone)
        >>> keras_lt.trainable.has_frozen_parts(backbone)
        True
    """
    return any(
        layer.trainable and not weight.trainable
        for layer in all_layers(model)
        for weight in _own(layer)
    )


def shares(model: keras.Model) -> dict[str, Share]:
    """Counts the parameters of the layers that are trained, by their names.

    Layers whose names differ by a number are counted together.

    Args:
        model: A built model.

    Returns:
        {name: `Share`} of the layers with trained weights, in the order of the
        model; "frozen", all others; and "all".

    Example:
        >>> backbone = keras_lt.models.tuning.lora(rank=2)(backbone)
        >>> table = keras_lt.trainable.shares(backbone)
        >>> table["frozen"].trained, table["all"].all == backbone.count_params()
        (0, True)
    """
    counts: dict[str, list[int]] = {}
    rest = [0, 0]
    for layer in all_layers(model):
        own = [*_own(layer), *layer._non_trainable_variables]
        sizes = [int(np.prod(weight.shape)) for weight in own]
        trained = sum(
            size
            for weight, size in zip(own, sizes, strict=True)
            if weight.trainable
        )
        name = re.sub(r"\d+", "*", layer.name)
        row = counts.setdefault(name, [0, 0]) if trained else rest
        row[0] += trained
        row[1] += sum(sizes)
    rows = {name: Share(*row) for name, row in counts.items()}
    rows["frozen"] = Share(*rest)
    trained, total = (sum(row[i] for row in rows.values()) for i in (0, 1))
    return {**rows, "all": Share(trained, total)}


def table(model: keras.Model) -> str:
    """Returns `shares` as lines of text.

    Example:
        >>> print(keras_lt.trainable.table(model).splitlines()[0].split())
        ['layers', 'trained', 'parameters']
    """
    rows = shares(model)
    width = max(map(len, ("layers", *rows)))
    return "\n".join(
        [
            f"{'layers':{width}}  {'trained':>12}  {'parameters':>12}",
            *(
                f"{name:{width}}  {row.trained:12,}  {row.all:12,}"
                for name, row in rows.items()
            ),
        ]
    )


def _own(layer: keras.layers.Layer) -> list[keras.Variable]:
    """What a layer itself would train, without the layers in it."""
    return layer._trainable_variables
