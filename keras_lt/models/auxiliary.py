"""Auxiliary tasks: what a branch beside the main classifier learns.

A task is added here alone, beside its export in `keras_lt.models` and its test:
write its class, and give it a name in `TASKS`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_lt import losses, preprocessing, schedules, seeding
from keras_lt.arguments import integer, real
from keras_lt.distribute import gather_over_replicas
from keras_lt.losses import NTXent
from keras_lt.models.classifier import (
    head_dtype,
    linear_head,
    projection_head,
)
from keras_lt.specs import Registry, Spec, parse_chain


class AuxiliaryTask(keras.layers.Layer):
    """Base class of the auxiliary tasks of `keras_lt.models.DualBranch`.

    A task is a layer from features (B, D) to outputs, its head. In addition
    `examples` makes inputs and targets from a batch of the random stream, and
    `loss` compares targets and outputs. A subclass writes `examples`, `build`
    and `call`. Register it with Keras to save models that hold it. Heads
    compute in `head_dtype` of `keras_lt.models.classifier`, float32 as a rule,
    under any dtype policy.

    Args:
        loss: A `keras.losses.Loss`, or the class name or configuration of one.
        accuracy: A function of targets and outputs that gives the accuracy
            of each example, or None.
        name: Name of the task in logs: `NAME_loss`, `NAME_accuracy`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        TypeError: If the loss is no such object (Keras' loss functions don't
            average over a batch).

    Example:
        >>> @keras.saving.register_keras_serializable("my_package")
        ... class MeanColor(keras_lt.models.AuxiliaryTask):
        ...     def __init__(
        ...         self, loss="MeanSquaredError", name="color", **kwargs
        ...     ):
        ...         super().__init__(loss=loss, name=name, **kwargs)
        ...         self.head = keras.layers.Dense(3, dtype="float32")
        ...
        ...     def examples(self, images, labels, seeds):
        ...         pixels = keras.ops.cast(images, "float32") / 255.0
        ...         return images, keras.ops.mean(pixels, axis=(1, 2))
        ...
        ...     def build(self, features_shape):
        ...         self.head.build(features_shape)
        ...
        ...     def call(self, features):
        ...         return self.head(features)
    """

    def __init__(
        self,
        *,
        loss: keras.losses.Loss | str | dict,
        name: str,
        accuracy: Callable | None = None,
        dtype: Any = None,
        **kwargs: Any,
    ):
        super().__init__(name=name, dtype=dtype or head_dtype(), **kwargs)
        self.loss = keras.losses.get(loss)
        if not isinstance(self.loss, keras.losses.Loss):
            raise TypeError(
                "Expected a keras.losses.Loss, such as "
                f"keras.losses.MeanSquaredError(). Received: loss={loss!r}"
            )
        self._loss_tracker = keras.metrics.Mean(name=f"{name}_loss")
        self._accuracy = accuracy and keras.metrics.MeanMetricWrapper(
            accuracy, name=f"{name}_accuracy"
        )

    def examples(self, images: Any, labels: Any, seeds: Any) -> tuple[Any, Any]:
        """Makes inputs of the backbone and targets of the loss.

        Args:
            images: (B, H, W, C), as the random stream gave them.
            labels: Their labels.
            seeds: uint64 (B,), one for each example and step;
                `keras_lt.seeding.uniform` turns them into random numbers.

        Returns:
            Images, as many as the head expects, and targets.
        """
        raise NotImplementedError

    def update_metrics(self, loss: Any, targets: Any, outputs: Any) -> None:
        self._loss_tracker.update_state(loss)
        if self._accuracy is not None:
            self._accuracy.update_state(targets, outputs)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "loss": keras.losses.serialize(self.loss),
        }


def _accuracy(targets: Any, outputs: Any) -> Any:
    if len(targets.shape) == 2 and targets.shape[-1] == outputs.shape[-1]:
        return keras.metrics.categorical_accuracy(targets, outputs)
    return keras.metrics.sparse_categorical_accuracy(targets, outputs)


class _Classification(AuxiliaryTask):
    """A linear classifier on the features."""

    def __init__(self, num_outputs: int, *, loss: Any, l2: float, **kwargs):
        if loss is None:
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        super().__init__(loss=loss, accuracy=_accuracy, **kwargs)
        self.l2 = real("l2", l2)
        self.head = linear_head(num_outputs, l2=l2, name="head")

    def build(self, features_shape: tuple[int | None, ...]) -> None:
        self.head.build(features_shape)

    def call(self, features: Any) -> Any:
        return self.head(features)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "l2": self.l2}


@keras.saving.register_keras_serializable(package="keras_lt")
class ClassifierTask(_Classification):
    """A second linear classifier, trained on the random stream.

    The auxiliary branch of Zhang et al. (arXiv:1912.04486, section 3).

    Args:
        num_classes: C.
        loss: Loss of labels (B,) and logits (B, C); None is cross-entropy.
        l2: Factor of the squared norm of the head's weights in the loss.
        name: Name of the task in logs.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: If there are fewer than 2 classes.

    Example:
        >>> task = keras_lt.models.ClassifierTask(
        ...     10, loss=keras_lt.losses.ClassBalancedCrossentropy(class_counts)
        ... )
        >>> model = keras_lt.models.DualBranch(backbone, 10, auxiliary=task)
    """

    def __init__(
        self,
        num_classes: int,
        loss: keras.losses.Loss | str | dict | None = None,
        l2: float = 0.0,
        name: str = "auxiliary",
        **kwargs: Any,
    ):
        super().__init__(num_classes, loss=loss, l2=l2, name=name, **kwargs)
        self.num_classes = integer("num_classes", num_classes)

    def examples(self, images: Any, labels: Any, seeds: Any) -> tuple[Any, Any]:
        return images, labels

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "num_classes": self.num_classes}


@keras.saving.register_keras_serializable(package="keras_lt")
class RotationTask(_Classification):
    """Tells by which of four angles an image was rotated; needs no labels.

    Each image is rotated by 0, 90, 180 or 270 degrees, drawn at random (Gidaris
    et al., ICLR 2018, who show all four of every image; the auxiliary branch of
    Zhang et al., arXiv:1912.04486, section 3).

    Args:
        loss: Loss of angles (B,), quarter turns from 0 to 3, and logits
            (B, 4); None is cross-entropy.
        l2: Factor of the squared norm of the head's weights in the loss.
        name: Name of the task in logs.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: If the images are not square.

    Example:
        >>> model = keras_lt.models.DualBranch(
        ...     backbone, 10, auxiliary=keras_lt.models.RotationTask(l2=1e-4)
        ... )
    """

    def __init__(
        self,
        loss: keras.losses.Loss | str | dict | None = None,
        l2: float = 0.0,
        name: str = "rotation",
        **kwargs: Any,
    ):
        super().__init__(4, loss=loss, l2=l2, name=name, **kwargs)

    def examples(self, images: Any, labels: Any, seeds: Any) -> tuple[Any, Any]:
        quarter_turns = seeding.integers(seeds, 4)
        turned = preprocessing.rotate_90(images, quarter_turns)
        return turned, ops.cast(quarter_turns, "int32")


def _found(targets: Any, embeddings: Any) -> Any:
    """Whether the nearest second view is that of the same image."""
    del targets
    first, second = ops.unstack(ops.normalize(embeddings, axis=-1), 2, axis=1)
    candidates, offset = gather_over_replicas(second)
    nearest = ops.argmax(first @ ops.transpose(candidates), axis=-1)
    return ops.equal(nearest, offset + ops.arange(ops.shape(first)[0]))


@keras.saving.register_keras_serializable(package="keras_lt")
class ContrastiveTask(AuxiliaryTask):
    """Tells which views in a batch show the same image; needs no labels.

    Two views of each image by SimCLR's augmentation, a projection head of two
    dense layers (D, then `projection_dim`) and NT-Xent (Chen et al., ICML
    2020, eq. 1).

    Args:
        projection_dim: Dimension in which views are compared.
        loss: Loss of embeddings (B, 2, projection_dim); None is
            `keras_lt.losses.NTXent()`.
        augment: A function of images (B, H, W, C) and seeds (B,) that makes a
            view, registered with Keras so that it can be saved; None is
            `keras_lt.preprocessing.simclr()`.
        l2: Factor of the squared norm of the head's weights in the loss.
        name: Name of the task in logs.
        **kwargs: Arguments of `keras.layers.Layer`.

    Raises:
        ValueError: If `projection_dim` is not positive.

    Example:
        >>> task = keras_lt.models.ContrastiveTask(
        ...     64, loss=keras_lt.losses.NTXent(temperature=0.2)
        ... )
        >>> model = keras_lt.models.DualBranch(backbone, 10, auxiliary=task)
    """

    def __init__(
        self,
        projection_dim: int = 128,
        loss: keras.losses.Loss | str | dict | None = None,
        augment: Callable | None = None,
        l2: float = 0.0,
        name: str = "contrastive",
        **kwargs: Any,
    ):
        super().__init__(
            loss=loss or NTXent(), accuracy=_found, name=name, **kwargs
        )
        projection_dim = integer("projection_dim", projection_dim)
        if projection_dim < 1:
            raise ValueError(
                "Expected projection_dim >= 1. "
                f"Received: projection_dim={projection_dim}"
            )
        self.projection_dim = projection_dim
        self.augment = augment
        self.l2 = real("l2", l2)
        self._views = augment or preprocessing.simclr()

    def build(self, features_shape: tuple[int | None, ...]) -> None:
        self.head = projection_head(
            features_shape[-1], self.projection_dim, self.l2, self.dtype_policy
        )

    def examples(self, images: Any, labels: Any, seeds: Any) -> tuple[Any, Any]:
        views = [
            self._views(images, seeding.fold_in(seeds, view))
            for view in range(2)
        ]
        shape = (-1, *images.shape[1:])
        return ops.reshape(ops.stack(views, axis=1), shape), labels

    def call(self, features: Any) -> Any:
        return ops.reshape(self.head(features), (-1, 2, self.projection_dim))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "projection_dim": self.projection_dim,
            "augment": keras.saving.serialize_keras_object(self.augment),
            "l2": self.l2,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]):
        augment = keras.saving.deserialize_keras_object(config["augment"])
        return cls(**{**config, "augment": augment})


TASKS = Registry(
    "auxiliary task",
    {
        "classifier": ClassifierTask,
        "rotation": RotationTask,
        "contrastive": ContrastiveTask,
    },
    makes=AuxiliaryTask,
    nested={"loss": losses.get},
)


def get(
    identifier: Any, **context: Any
) -> tuple[list[AuxiliaryTask], list[float | Callable]]:
    """Returns auxiliary tasks and their weights, for `DualBranch`.

    Args:
        identifier: Specs (see `keras_lt.specs`) of tasks, such as
            "rotation(weight=linear(1.0))|classifier", of keras_lt or yours
            ("package.module:Name(alpha=2)"); or a task. `weight`, of any task,
            is what `keras_lt.schedules.get` takes, 1 by default.
        **context: Values to fill in, by the names of
            `keras_lt.specs.CONTEXT`: `num_classes`, `total_steps`, `l2`.

    Returns:
        The tasks, and the weight of each.

    Raises:
        TypeError: If an argument, or what is made, is of another type.
        ValueError: If there is no such task or argument, or one is missing.

    Example:
        >>> tasks, weights = keras_lt.models.auxiliary.get(
        ...     "rotation(weight=linear(1.0))|classifier(weight=0.5)",
        ...     num_classes=10,
        ...     total_steps=6_000,
        ... )
        >>> model = keras_lt.models.DualBranch(
        ...     backbone, 10, auxiliary=tasks, auxiliary_weight=weights
        ... )
        >>> [task.name for task in model.tasks]
        ['rotation', 'auxiliary']
    """
    chain = [identifier]
    if isinstance(identifier, str):
        chain = parse_chain(identifier)
    tasks, weights = [], []
    for each in chain:
        weight = 1.0
        if isinstance(each, Spec) and "weight" in each.keywords:
            keywords = dict(each.keywords)
            weight = schedules.get(keywords.pop("weight"), **context)
            each = dataclasses.replace(each, keywords=keywords)
        tasks.append(TASKS.get(each, **context))
        weights.append(weight)
    return tasks, weights
