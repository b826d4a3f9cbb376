"""Weights of a backbone: where they start, and which of them stay."""

import os
from pathlib import Path

import keras
import numpy as np

from keras_lt import model_files
from keras_lt.structure import (
    feature_model,
    layer_output,
    one_to_one,
    pooled_features,
)


def load_weights(backbone: keras.Model, path: str | os.PathLike) -> None:
    """Gives a backbone the weights of a file, or those of a trained model.

    Args:
        backbone: A built backbone.
        path: A `.weights.h5` or `.h5` file of this backbone; or a model of
            keras_lt with the same backbone, of any method and number of
            classes: a `.keras` file, or the workdir of a run with a
            `model.keras`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the weights are of another backbone.

    Example:
        >>> keras_lt.models.backbones.load_weights(backbone, "runs/simclr")
    """
    file = Path(path)
    if file.is_dir():
        file = file / "model.keras"
    if not file.is_file():
        raise FileNotFoundError(
            "Expected weights: a .weights.h5 or .keras file, or the workdir of "
            f"a finished run. Received: {file}, which does not exist"
        )
    if file.suffix != ".keras":
        model_files.load_weights(backbone, file)
        return
    found = feature_model(model_files.load_model(file, compile=False)).weights
    wanted, given = (
        [w.shape for w in each] for each in (backbone.weights, found)
    )
    if given != wanted:
        raise ValueError(
            f"Expected a model with the backbone {backbone.name}. "
            f"Received: {file}, whose backbone has other weights"
        )
    backbone.set_weights([keras.ops.convert_to_numpy(w) for w in found])


def freeze(backbone: keras.Model, last: str | None = None) -> None:
    """Freezes a backbone, or its first layers, with their batch statistics.

    Args:
        backbone: A functional model. Models that share its layers are frozen
            too; a model that was compiled before has to be compiled again.
        last: Start of the names of the last layers to freeze: "stage2"
            for the first two stages of our ResNets and what is in front of
            them, "conv3" for those of `keras.applications`. None is all.

    Raises:
        ValueError: If no layer has such a name.

    Example:
        >>> backbone = keras_lt.models.backbones.cifar_resnet(20)
        >>> keras_lt.models.backbones.freeze(backbone, "stage2")
        >>> {w.path.split("_")[0] for w in backbone.trainable_variables}
        {'stage3'}
    """
    layers = _leaves(backbone)
    end = len(layers)
    if last is not None:
        ends = [
            i
            for i, layer in enumerate(layers, 1)
            if layer.name.startswith(last)
        ]
        if not ends:
            starts = dict.fromkeys(layer.name.split("_")[0] for layer in layers)
            raise ValueError(
                "Expected the start of the name of a layer, of those that "
                f"start with {', '.join(starts)}. Received: last={last!r}"
            )
        end = ends[-1]
    for layer in layers[:end]:
        layer.trainable = False


def split_frozen(backbone: keras.Model) -> tuple[keras.Model, keras.Model]:
    """Cuts a backbone where its trained layers begin.

    What the first part gives of an image does not change while the second one
    is trained, so that it can be computed once (`keras_lt.features`).

    Args:
        backbone: A functional or sequential model whose first layers are
            frozen, see `freeze`.

    Returns:
        Two models that share its layers: from images to rows (B, D), the
        flattened maps at the cut, by a last layer named "rows"; and from rows
        to what the backbone gives. Where all is frozen the rows are its
        features (B, D), maps averaged, which the second one passes on.

    Raises:
        ValueError: If no frozen layer comes first whose output is all that the
            others need.

    Example:
        >>> backbone = keras_lt.models.backbones.cifar_resnet(20)
        >>> keras_lt.models.backbones.freeze(backbone, "stage2")
        >>> first, second = keras_lt.models.backbones.split_frozen(backbone)
        >>> first.output_shape, second.output_shape
        ((None, 8192), (None, 64))
    """
    images, cut = pooled_features(backbone)
    rest = None
    backbone = one_to_one(backbone, "backbone")
    trained = [layer for layer in backbone.layers if layer.trainable_weights]
    if trained:
        cut, rest = _last_cut(backbone, before=trained[0])
    rows = keras.layers.Flatten(name="rows")(cut)
    given = keras.Input(rows.shape[1:], name="rows_of_images")
    found = given
    if rest is not None:
        found = rest(keras.layers.Reshape(cut.shape[1:])(given))
    return (
        keras.Model(images, rows, name="frozen"),
        keras.Model(given, found, name=backbone.name),
    )


def _last_cut(backbone, before):
    """A tensor that all before a layer flows through, and what comes after."""
    layers = backbone.layers
    for layer in reversed(layers[: layers.index(before)]):
        if isinstance(layer, keras.layers.InputLayer):
            break
        cut = layer_output(backbone, layer.name)
        try:
            return cut, keras.Model(cut, backbone.outputs[0])
        except ValueError:  # the others need more than this tensor
            continue
    raise ValueError(
        "Expected a backbone whose first layers are frozen, up to one whose "
        "output is all that the others need. Received: "
        f"backbone={backbone.name}, whose layer {before.name} is trained"
    )


def is_trained(backbone: keras.Model) -> bool:
    """Says whether a backbone's weights were trained before.

    It looks at the layers that normalize: their scale, offset and moving
    statistics are the same for all channels when a layer is made, and differ
    after some training. Of a network without such layers, such as VGG16,
    nothing can be said: it counts as not trained.

    Args:
        backbone: A built backbone.

    Example:
        >>> backbone = keras_lt.models.backbones.cifar_resnet(20)
        >>> keras_lt.models.backbones.is_trained(backbone)
        False
    """
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    return any(
        np.ptp(keras.ops.convert_to_numpy(weight)) > 0
        for weight in backbone.weights
        if weight.name in names
    )


def _leaves(model):
    """The layers of a model in the order of the data, those of parts too."""
    leaves = []
    for layer in model.layers:
        is_model = isinstance(layer, keras.Model)
        leaves += _leaves(layer) if is_model else [layer]
    return leaves
