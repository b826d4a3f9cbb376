"""Heads by name: the classifier on features, and what it starts from.

A head is a function of

    loss: the loss that it is trained with,
    num_classes: C,
    l2: factor of the squared norm of its weights in the loss,
    name: name of the layer,

that returns a layer from features (B, D) to logits (B, C) and the loss to train
it with. One that does not start at random has `start`: with "class_means" also
`begin(layer, features, labels)`, with "text" also `prompts(class_names)` and
`begin_at(layer, vectors)`, which give the built layer its weights.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
import scipy.sparse

from keras_lt import layers, losses
from keras_lt.arguments import real
from keras_lt.models.classifier import head_for, of_cosines
from keras_lt.specs import Registry

STARTS = ("random", "class_means", "text")
PROMPT = "a photo of a {}."
_CHUNK = 4_096  # rows at a time of features that may be on disk


class Auto:
    """The head that suits the loss, at random: spec "auto".

    `keras_lt.models.head_for` says which one that is.

    Example:
        >>> head = keras_lt.models.heads.Auto()
        >>> layer, loss = head(keras_lt.losses.BalancedSoftmax([9, 1]), 2)
        >>> type(layer).__name__
        'Dense'
    """

    start = "random"

    def __call__(
        self,
        loss: Any,
        num_classes: int,
        *,
        l2: float = 0.0,
        name: str | None = None,
    ) -> tuple[keras.layers.Layer, Any]:
        return head_for(loss, num_classes, l2=l2, name=name)


class _Started:
    """What a head starts from.

    Attributes:
        start: One of STARTS.
        prompt: Text with {} for the name of a class.
    """

    def __init__(self, start: str, prompt: str):
        if start not in STARTS:
            raise ValueError(
                f"Expected start to be one of {STARTS}. "
                f"Received: start={start!r}"
            )
        if not isinstance(prompt, str) or "{}" not in prompt:
            raise ValueError(
                "Expected prompt to be a text with {} for the name of a class. "
                f"Received: prompt={prompt!r}"
            )
        self.start, self.prompt = start, prompt

    def prompts(self, class_names: Sequence[str]) -> list[str]:
        """The text of each class, underscores of its name as spaces."""
        return [
            self.prompt.replace("{}", name.replace("_", " "))
            for name in class_names
        ]


class Linear(_Started):
    """A linear classifier: spec "linear(start='class_means')".

    From class means, the weight u_c of a class is the mean direction of its
    features from the mean m of all, scaled to length 1, and its bias -u_c m:
    its logit is how far features lie from m in the direction of the class
    (LIFT, Shi et al., ICML 2024, section 4.3, which does not center: features
    behind a ReLU all have about one direction). From texts, the weight of a
    class is the feature of its prompt, scaled to length 1, and its bias 0.

    Args:
        start: "random", "class_means" or "text".
        prompt: Text with {} for the name of a class.

    Raises:
        ValueError: If an argument is something else.

    Example:
        >>> head = keras_lt.models.heads.Linear("class_means")
        >>> layer, loss = head(keras_lt.losses.Focal(), 10)
        >>> layer.build((None, features.features.shape[1]))
        >>> head.begin(layer, *features)
    """

    def __init__(self, start: str = "random", prompt: str = PROMPT):
        super().__init__(start, prompt)

    def __call__(
        self,
        loss: Any,
        num_classes: int,
        *,
        l2: float = 0.0,
        name: str | None = None,
    ) -> tuple[keras.layers.Layer, Any]:
        if isinstance(loss, losses.LDAM):
            raise ValueError(
                "Expected a cosine head with ldam, whose margins are of "
                "cosines. Received: a linear head"
            )
        return head_for(loss, num_classes, l2=l2, name=name)

    def begin(
        self, layer: keras.layers.Dense, features: Any, labels: Any
    ) -> None:
        """Gives the layer the weights that class means make.

        Args:
            layer: What this head made, built.
            features: (N, D).
            labels: (N,).
        """
        center = _mean(features)
        means = _class_means(features, labels, layer.units, center)
        weights = _directions(means)
        layer.kernel.assign(weights.T)
        layer.bias.assign(-weights @ center)

    def begin_at(self, layer: keras.layers.Dense, vectors: np.ndarray) -> None:
        """Gives the layer the directions (C, D) of classes as weights."""
        layer.kernel.assign(_directions(vectors).T)
        layer.bias.assign(np.zeros(layer.units))


class Cosine(_Started):
    """A cosine classifier: spec "cosine(scale=25, start='class_means')".

    From class means, the weight of a class is the mean of its features, scaled
    to length 1 each: LIFT's start and scale (Shi et al., ICML 2024, section
    4.3). `centered` takes the mean of all features from each first. From texts,
    the weight of a class is the feature of its prompt.

    Args:
        scale: Factor of the cosines, greater than 0.
        learnable: Whether the scale is trained too.
        start: "random", "class_means" or "text".
        centered: Whether features are centered.
        prompt: Text with {} for the name of a class.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> head = keras_lt.models.heads.Cosine(scale=16, centered=True)
        >>> layer, loss = head(keras_lt.losses.Focal(), 10)
        >>> layer.build((None, features.features.shape[1]))
        >>> head.begin(layer, *features)
        >>> layer(features.features[:3]).shape
        TensorShape([3, 10])

        From texts, with the features of a text encoder:

        >>> head = keras_lt.models.heads.Cosine(start="text")
        >>> head.prompts(["sea_lion", "cat"])
        ['a photo of a sea lion.', 'a photo of a cat.']
        >>> layer, loss = head(keras_lt.losses.Focal(), 2)
        >>> layer.build((None, 3))
        >>> head.begin_at(layer, np.array([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]]))
    """

    def __init__(
        self,
        scale: float = 25.0,
        learnable: bool = False,
        start: str = "class_means",
        centered: bool = False,
        prompt: str = PROMPT,
    ):
        super().__init__(start, prompt)
        self.scale = real("scale", scale)
        if not 0 < self.scale < np.inf:
            raise ValueError(f"Expected scale > 0. Received: scale={scale}")
        self.learnable = learnable
        self.centered = centered
        if centered and start != "class_means":
            raise ValueError(
                "Expected start='class_means' with centered=True, for which "
                f"features are read before. Received: start={start!r}"
            )

    def __call__(
        self,
        loss: Any,
        num_classes: int,
        *,
        l2: float = 0.0,
        name: str | None = None,
    ) -> tuple[keras.layers.Layer, Any]:
        layer = layers.CosineClassifier(
            num_classes,
            scale=self.scale,
            learnable_scale=self.learnable,
            centered=self.centered,
            kernel_regularizer=keras.regularizers.L2(l2) if l2 else None,
            name=name,
        )
        return layer, of_cosines(loss, self.scale)

    def begin(
        self, layer: layers.CosineClassifier, features: Any, labels: Any
    ) -> None:
        """Gives the layer the weights that class means make.

        Args:
            layer: What this head made, built.
            features: (N, D).
            labels: (N,).
        """
        center = 0.0
        if self.centered:
            center = _mean(features)
            layer.center.assign(center)
        means = _class_means(features, labels, layer.num_classes, center)
        self.begin_at(layer, means)

    def begin_at(
        self, layer: layers.CosineClassifier, vectors: np.ndarray
    ) -> None:
        """Gives the layer the directions (C, D) of classes as weights."""
        layer.kernel.assign(_directions(vectors).T)


HEADS = Registry("head", {"auto": Auto, "linear": Linear, "cosine": Cosine})


def get(identifier: Any, **context: Any) -> Callable:
    """Returns a head.

    Args:
        identifier: A spec (see `keras_lt.specs`): auto, linear(start, prompt),
            cosine(scale, learnable, start, centered, prompt), or one of yours
            ("package.module:Name(alpha=2)"), which may be a Keras layer to
            logits too; or a head.
        **context: Values to fill in, by the names of `keras_lt.specs.CONTEXT`.

    Raises:
        TypeError: If an argument, or what is made, is of another type.
        ValueError: If there is no such head or argument.

    Example:
        >>> head = keras_lt.models.heads.get("cosine(scale=16)")
        >>> head.start
        'class_means'
    """
    made = HEADS.get(identifier, **context)
    if isinstance(made, keras.layers.Layer):
        return lambda loss, num_classes, **arguments: (made, loss)
    return made


def _chunks(features: Any) -> Iterator[tuple[slice, np.ndarray]]:
    """Rows as float64, some at a time: they may be in a file."""
    for first in range(0, len(features), _CHUNK):
        rows = slice(first, first + _CHUNK)
        yield rows, np.asarray(features[rows], np.float64)


def _mean(features: Any) -> np.ndarray:
    return sum(part.sum(0) for _, part in _chunks(features)) / len(features)


def _class_means(
    features: Any,
    labels: Any,
    num_classes: int,
    center: np.ndarray | float = 0.0,
) -> np.ndarray:
    """Means (C, D) of directions from the center, 0 without features."""
    labels = np.asarray(labels)
    sums = np.zeros((num_classes, features.shape[1]))
    for rows, part in _chunks(features):
        lengths = np.linalg.norm(part - center, axis=1, keepdims=True)
        part = (part - center) / np.where(lengths > 0, lengths, 1.0)
        own = labels[rows]
        ones = np.ones(len(own)), (own, np.arange(len(own)))
        sums += scipy.sparse.csr_matrix(ones, (num_classes, len(own))) @ part
    counts = np.bincount(labels, minlength=num_classes)
    return sums / np.maximum(counts, 1)[:, None]


def _directions(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1.0)
