"""Sharpness-aware minimization, of whatever a model's `train_step` does."""

import contextlib
import math
import threading
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from keras_lt import distribute
from keras_lt.arguments import real

_Apply = Callable[[list, list], Any]


def sharpness_aware(
    model: keras.Model, rho: float | Callable[[Any], Any] = 0.05
) -> None:
    """Lets each training step of a model look for flat minima (SAM).

    Sharpness-aware minimization (Foret et al., ICLR 2021, algorithm 1) takes
    the gradient where the loss is about the highest within a ball of radius
    rho around the weights w, and steps with it from w:

        g = gradient at w
        e = rho g / ||g||              (the norm over all weights)
        w = step of the optimizer from w, with the gradient at w + e.

    It costs a second pass. Rangwani et al. (NeurIPS 2022,
    github.com/val-iisc/Saddle-LongTail) find that it lets the few-shot classes
    of re-weighted losses escape saddle points, with a rho much larger than on
    balanced data: 0.5 to 0.8 on long-tailed CIFAR.

    Any `train_step` is taken that uses `model.optimizer` once, such as those of
    Keras and of this library. g is of the global batch, from all replicas.
    Loss scaling works as ever: a first or second gradient that overflows skips
    the step. Both passes draw the same random numbers. The first one
    alone gives logs and metrics and moves the statistics of batch
    normalization, since those are to be of weights that training goes through,
    and w + e are none; PyTorch code mostly lets both passes move them. Weight
    decay, clipping and averages of the optimizer are as without SAM.

    Args:
        model: A compiled model, before its `fit`. Its `train_step` is
            replaced; saving does not keep that. Before
            `keras_lt.callbacks.SkipNonFinite`, where that is used.
        rho: The radius, at least 0, or a schedule of the step.

    Raises:
        TypeError: If `rho` is no number.
        ValueError: If `rho` is out of its range, or the model is not compiled
            or its `train_step` was replaced already.

    Example:
        >>> model.compile(
        ...     keras_lt.optimizers.SGD(0.1, momentum=0.9),
        ...     keras_lt.losses.ClassBalancedCrossentropy(class_counts),
        ... )
        >>> keras_lt.optimizers.sharpness_aware(model, rho=0.5)
        >>> history = model.fit(batches, steps_per_epoch=2, shuffle=False)
    """
    if not callable(rho):
        rho = real("rho", rho)
        if not 0 <= rho < math.inf:
            raise ValueError(f"Expected rho of at least 0. Received: rho={rho}")
    if not model.compiled:
        raise ValueError(
            f"Expected a compiled model. Received: model={model.name}, which "
            "is not"
        )
    if "train_step" in vars(model):
        raise ValueError(
            "Expected a model whose train_step is that of its class. "
            f"Received: model={model.name}, whose train_step was replaced"
        )
    step = model.train_step

    def train_step(data: Any) -> dict[str, Any]:
        # Without a strategy Keras builds metrics within the first step, when
        # it is too late to copy them.
        model._symbolic_build(data_batch=data)
        state = _state(model)
        before = distribute.values_of(state)
        climb = _Climb(rho, model.optimizer)
        with _applying(model.optimizer, climb.up):
            logs = step(data)
        after = distribute.values_of(state)
        distribute.assign_on_each_replica(state, before)
        with _applying(model.optimizer, climb.down):
            step(data)
        distribute.assign_on_each_replica(state, after)
        return logs

    model.train_step = train_step
    model.train_function = None  # was made of the other one


class _Climb:
    """The way from the weights w up to w + e, and back."""

    def __init__(
        self, rho: float | Callable, optimizer: keras.optimizers.Optimizer
    ):
        self._rho = rho
        self._optimizer = optimizer
        self._weights: list[keras.Variable] = []

    def up(
        self, apply: _Apply, gradients: list, weights: list[keras.Variable]
    ) -> None:
        del apply
        pairs = [
            (tf.convert_to_tensor(gradient), weight)
            for gradient, weight in zip(gradients, weights, strict=True)
            if gradient is not None
        ]
        self._weights = [weight for _, weight in pairs]
        self._start = distribute.values_of(self._weights)
        # Of a scaled loss too: the direction is the same.
        gradients = distribute.sum_over_replicas(
            [gradient for gradient, _ in pairs]
        )
        dtype = keras.backend.result_type(
            "float32", *(weight.dtype for weight in self._weights)
        )
        gradients = [tf.cast(gradient, dtype) for gradient in gradients]
        self._norm = tf.linalg.global_norm(gradients)
        rho = self._rho
        if callable(rho):
            rho = rho(self._optimizer.iterations)
        factor = tf.math.divide_no_nan(tf.cast(rho, dtype), self._norm)
        distribute.assign_on_each_replica(
            self._weights,
            [
                start + tf.cast(factor * gradient, start.dtype)
                for start, gradient in zip(self._start, gradients, strict=True)
            ],
        )

    def down(
        self, apply: _Apply, gradients: list, weights: list[keras.Variable]
    ) -> None:
        distribute.assign_on_each_replica(self._weights, self._start)
        is_finite = tf.math.is_finite(self._norm)
        # A loss scale must see what the first pass saw.
        gradients = [
            gradient
            if gradient is None
            else tf.where(is_finite, tf.convert_to_tensor(gradient), math.nan)
            for gradient in gradients
        ]
        apply(gradients, weights)


class _Hook(threading.local):
    """What takes the place of an optimizer's step, in this replica's thread."""

    instead: Callable | None = None


_HOOK = _Hook()


@contextlib.contextmanager
def _applying(
    optimizer: keras.optimizers.Optimizer, instead: Callable
) -> Iterator[None]:
    """Calls `instead(apply, gradients, weights)` where `apply` is called."""
    if not hasattr(optimizer.apply, "takes_hooks"):
        optimizer.apply = _taking_hooks(optimizer.apply)
    _HOOK.instead = instead
    try:
        yield
    finally:
        _HOOK.instead = None


def _taking_hooks(own: _Apply) -> _Apply:
    def apply(grads: list, trainable_variables: list | None = None) -> Any:
        instead, _HOOK.instead = _HOOK.instead, None
        if instead is None:
            return own(grads, trainable_variables)
        return instead(own, list(grads), list(trainable_variables))

    apply.takes_hooks = True
    return apply


def _state(model: keras.Model) -> list[keras.Variable]:
    """What a step changes beside the trained weights and the optimizer."""
    variables = [*model.non_trainable_variables]
    for metric in model.metrics:
        variables += metric.variables
    return [*{id(variable): variable for variable in variables}.values()]
