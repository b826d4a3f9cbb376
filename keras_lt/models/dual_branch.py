"""A balanced branch and auxiliary branches on one backbone."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_lt import distribute, seeding
from keras_lt.arguments import integer, real
from keras_lt.models.auxiliary import TASKS, AuxiliaryTask
from keras_lt.models.base import (
    TrainingModel,
    without_traits_of_parts,
)
from keras_lt.models.classifier import classifier, linear_head
from keras_lt.structure import classifier_of, pooled_features

# Arguments that Keras serializes.
_OBJECTS = (
    "backbone",
    "head",
    "auxiliary",
    "auxiliary_weight",
)


@keras.saving.register_keras_serializable(package="keras_lt")
class DualBranch(TrainingModel):
    """A classifier on balanced samples, an auxiliary task on random ones.

    The dual-branch training of "To Balance or Not to Balance" (Zhang et al.,
    arXiv:1912.04486). Feature extractor and main classifier learn from a
    class-balanced stream, so that every class weighs the same; auxiliary
    tasks on the same extractor learn from a random stream, so that the
    features see all the data. With features f, main head g and heads h_t of
    tasks with weights a_t a step minimizes

        L(g(f(x_balanced)), y) + sum_t a_t L_t(h_t(f(x_t)), y_t) + L2,

    where the task makes x_t and y_t from the random batch, and L2 is counted
    once.

    It is compiled and trained as any Keras model. `fit` takes batches
    {"balanced": (images, labels), "random": (images, labels)}, with sample
    weights as a third where wanted; `evaluate` and `predict` take plain ones,
    `call(images)` gives the logits of the main head, and `export` writes the
    main classifier alone. `classifier` is that classifier as a functional
    model, and `features` is the part that both branches share; they share
    their weights with this model.

    `compile(loss=..., metrics=...)` is for the main head. In training the model
    also logs `main_loss`, and `NAME_loss` and `NAME_accuracy` of each task,
    without the task's weight; `loss` is the sum above.

    Args:
        backbone: A functional or sequential model from images to features
            (B, D) or maps (B, H, W, D), which are averaged over H and W.
        num_classes: C, at least 2.
        auxiliary: "classifier" (a second classifier), "rotation" (by which of
            four angles an image was rotated), "contrastive" (which two views
            show the same image) or another spec of a task, such as
            "classifier(loss=focal(gamma=2))"; an `AuxiliaryTask`; a list of
            these; or None for the main branch alone.
        auxiliary_weight: a_t: a number, a schedule of the step such as
            `keras.optimizers.schedules.PolynomialDecay` (linear) or
            `keras_lt.schedules.CumulativeDecay`, or a list with one for each
            task.
        head: A layer from features (B, D) to logits (B, C); None is
            `keras_lt.models.linear_head`.
        joint_forward: Whether the batches of all branches are one batch for
            the backbone, which then normalizes them by common statistics; else
            each has a pass and statistics of its own. On two CPU cores two
            passes take 0.92 (float32) to 0.95 (bfloat16) of the time of one,
            and were better: 70.6 against 66.3 percent on 9,000 images that
            the long-tailed CIFAR-10 had left out of the training set (30
            epochs on 11,164 images, one seed, classifier task).
        l2: Factor of the squared norm of the weights of those heads that are
            made here. The backbone brings its own regularizers.
        seed: Seed of the tasks' random numbers, which are functions of it, the
            optimizer's step and the place in the global batch.
        name: Name of the model.

    Raises:
        ValueError: If an argument is out of its range, or a training batch is
            not as above.

    Example:
        >>> model = keras_lt.models.DualBranch(backbone, 10)
        >>> model.compile(
        ...     "sgd",
        ...     keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        ... )
        >>> streams = {
        ...     "balanced": keras_lt.streams.stream(
        ...         train, sampling="class_balanced", batch_size=32, seed=0
        ...     ),
        ...     "random": keras_lt.streams.stream(
        ...         train, sampling="random", batch_size=32, seed=0
        ...     ),
        ... }
        >>> history = model.fit(
        ...     keras_lt.streams.zipped(streams),
        ...     steps_per_epoch=2,
        ...     shuffle=False,
        ... )
    """

    def __init__(
        self,
        backbone: keras.Model,
        num_classes: int,
        *,
        auxiliary: str | AuxiliaryTask | Sequence | None = "classifier",
        auxiliary_weight: float | Callable | Sequence = 1.0,
        head: keras.layers.Layer | None = None,
        joint_forward: bool = False,
        l2: float = 0.0,
        seed: int = 0,
        name: str = "dual_branch",
    ):
        # Images are cast by the backbone, and not before it.
        super().__init__(name=name, autocast=False)
        num_classes = integer("num_classes", num_classes)
        l2, seed = real("l2", l2), integer("seed", seed)
        auxiliary_weight = _plain(auxiliary_weight)
        images, features = pooled_features(backbone)
        self.features = keras.Model(images, features, name="features")
        self._head = head or linear_head(num_classes, l2=l2, name="logits")
        self.classifier = classifier(
            self.features, num_classes, head=self._head
        )
        self.tasks = _tasks(auxiliary, num_classes, l2)
        for task in self.tasks:
            if not task.built:  # a loaded one is
                task.build(features.shape)
        self._task_weights = _task_weights(auxiliary_weight, len(self.tasks))
        self._main_loss = keras.metrics.Mean(name="main_loss")
        # Stored after the parts that they are made into, so that the order of
        # the weights does not depend on how a part was named.
        self.backbone = backbone
        self.num_classes = num_classes
        self.auxiliary = auxiliary
        self.auxiliary_weight = auxiliary_weight
        self.head = head
        self.joint_forward = bool(joint_forward)
        self.l2 = l2
        self.seed = seed
        self.build(images.shape)

    @property
    def layers(self) -> list[keras.layers.Layer]:
        """The classifier, which holds the backbone, and the tasks."""
        return [self.classifier, *self.tasks]

    def build(self, input_shape: Any) -> None:
        """All parts are built when the model is made."""

    def call(self, images: Any, training: bool | None = None) -> Any:
        return self.classifier(images, training=training)

    def main_batch(self, data: Any) -> Any:
        return data["balanced"]

    def fit(
        self,
        x: Any = None,
        *args: Any,
        validation_data: Any = None,
        class_weight: Any = None,
        **kwargs: Any,
    ) -> keras.callbacks.History:
        """Trains on batches of both branches, as `keras.Model.fit`.

        Raises:
            ValueError: On a `class_weight`, or training batches as
                `validation_data`.
        """
        if class_weight is not None:
            raise ValueError(
                "Expected class weights in the loss of a branch, such as "
                "keras_lt.losses.ClassBalancedCrossentropy, or weights of "
                "samples in its batches. Received: "
                f"class_weight={class_weight}"
            )
        _refuse_training_batches(
            getattr(validation_data, "element_spec", None), "validation_data"
        )
        return super().fit(x, *args, validation_data=validation_data, **kwargs)

    def predict_step(self, data: Any) -> Any:
        _refuse_training_batches(data, "predict")
        return super().predict_step(data)

    def train_step(self, data: Any) -> dict[str, Any]:
        if isinstance(data, tuple):  # train_on_batch makes it one
            data = data[0]
        names = ["balanced", "random"][: 2 if self.tasks else 1]
        if not isinstance(data, dict) or not {*names} <= data.keys():
            received = list(data) if isinstance(data, dict) else type(data)
            raise ValueError(
                f"Expected training batches {{name: (images, labels)}} with "
                f"the names {names}. Received: {received}"
            )
        images, labels, sample_weight = keras.utils.unpack_x_y_sample_weight(
            data["balanced"]
        )
        *random, random_weight = keras.utils.unpack_x_y_sample_weight(
            data.get("random", (None, None))
        )
        examples = [self._examples(task, *random) for task in self.tasks]
        size = ops.shape(images)[0]
        with tf.GradientTape() as tape:
            features, *task_features = self._extract(
                [images, *(inputs for inputs, _ in examples)]
            )
            logits = self._head(features, training=True)
            loss = self.compute_loss(
                images, labels, logits, sample_weight, training=True
            )
            self._main_loss.update_state(
                distribute.unscaled(loss) - ops.sum(self.losses), size
            )
            for task, weight, inputs, (_, targets) in zip(
                self.tasks,
                self._task_weights,
                task_features,
                examples,
                strict=True,
            ):
                outputs = task(inputs, training=True)
                task_loss = task.loss(targets, outputs, random_weight)
                task.update_metrics(
                    distribute.unscaled(task_loss), targets, outputs
                )
                if callable(weight):
                    weight = weight(self.optimizer.iterations)
                loss += weight * task_loss
            self._loss_tracker.update_state(distribute.unscaled(loss), size)
        self.minimize(loss, tape)
        return self.compute_metrics(images, labels, logits, sample_weight)

    def _examples(self, task: AuxiliaryTask, images: Any, labels: Any) -> tuple:
        size = ops.shape(images)[0]
        positions = distribute.sample_positions(self.optimizer.iterations, size)
        key = seeding.key_from_seed(self.seed, f"{task.name}/examples")
        return task.examples(images, labels, seeding.fold_in(key, positions))

    def _extract(self, batches: list) -> list:
        """Features of each batch, by one forward pass or one for each."""
        if not self.joint_forward or len(batches) == 1:
            return [self.features(images, training=True) for images in batches]
        dtype = batches[0].dtype
        joint = ops.concatenate([ops.cast(x, dtype) for x in batches])
        sizes = [ops.shape(images)[0] for images in batches]
        return tf.split(self.features(joint, training=True), sizes)

    def test_step(self, data: Any) -> dict[str, Any]:
        _refuse_training_batches(data, "evaluate")
        logs = super().test_step(data)
        of_tasks = {m.name for task in self.tasks for m in task.metrics}
        for name in {self._main_loss.name, *of_tasks}:
            del logs[name]
        return logs

    def export(self, filepath: Any, *args: Any, **kwargs: Any) -> Any:
        return self.classifier.export(filepath, *args, **kwargs)

    def get_config(self) -> dict[str, Any]:
        serialize = keras.saving.serialize_keras_object
        return {
            **without_traits_of_parts(super().get_config()),
            "num_classes": self.num_classes,
            "joint_forward": self.joint_forward,
            "l2": self.l2,
            "seed": self.seed,
            **{name: serialize(getattr(self, name)) for name in _OBJECTS},
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "DualBranch":
        config = copy.deepcopy(config)  # a functional model empties its own
        for name in _OBJECTS:
            config[name] = keras.saving.deserialize_keras_object(config[name])
        return cls(**config)


def _refuse_training_batches(data: Any, where: str) -> None:
    if isinstance(data, tuple):  # evaluate and predict may make it one
        data = data[0]
    if isinstance(data, dict):
        raise ValueError(
            "Expected batches (images, labels), such as "
            f"keras_lt.streams.evaluation(dataset, 256) gives, for {where}. "
            f"Received: training batches with the names {list(data)}"
        )


@classifier_of.register
def _(model: DualBranch) -> keras.Model:
    return model.classifier


def _tasks(auxiliary: Any, num_classes: int, l2: float) -> list[AuxiliaryTask]:
    listed = isinstance(auxiliary, Sequence) and not isinstance(auxiliary, str)
    given = auxiliary if listed else [] if auxiliary is None else [auxiliary]
    tasks = [TASKS.get(task, num_classes=num_classes, l2=l2) for task in given]
    names = [task.name for task in tasks]
    if len({"main", *names}) <= len(names):
        raise ValueError(
            'Expected tasks with names of their own, and not "main". '
            f"Received: {names}"
        )
    return tasks


def _plain(weight: Any) -> Any:
    """Numbers and arrays of any kind as Python's, a schedule as it is."""

    def plain(one):
        return one if callable(one) else real("auxiliary_weight", one)

    if isinstance(weight, (list, tuple)) or np.ndim(weight):
        return [plain(one) for one in weight]
    return plain(weight)


def _task_weights(given: Any, count: int) -> list[float | Callable]:
    weights = given if isinstance(given, Sequence) else [given] * count
    numbers = [weight for weight in weights if not callable(weight)]
    if len(weights) != count or not all(
        0 <= number < float("inf") for number in numbers
    ):
        raise ValueError(
            "Expected auxiliary_weight to be a number of at least 0 or a "
            f"schedule, or one of these for each of the {count} tasks. "
            f"Received: auxiliary_weight={given}"
        )
    return list(weights)
