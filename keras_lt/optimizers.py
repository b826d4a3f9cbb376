"""SGD as it is published, rates by variable, flat minima; and by name."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_lt import schedules
from keras_lt.arguments import integer, real
from keras_lt.messages import brief
from keras_lt.sharpness import sharpness_aware
from keras_lt.specs import Registry, Spec, parse_chain

__all__ = [
    "FINE_TUNING",
    "OPTIMIZERS",
    "SGD",
    "FineTuningAdamW",
    "FineTuningSGD",
    "Muon",
    "Pipeline",
    "get",
    "pipeline",
    "rate_factors",
    "sharpness_aware",
]


@keras.saving.register_keras_serializable(package="keras_lt")
class SGD(keras.optimizers.SGD):
    """SGD whose velocity does not hold the learning rate, as in PyTorch.

    With gradient g, weight decay d and momentum m a step is

        g = g + d w
        v = m v + g
        w = w - rate v            (nesterov: w - rate (g + m v)),

    as in `torch.optim.SGD`, whose form most published code has (Sutskever et
    al., ICML 2013, write it with the rate within, as `keras.optimizers.SGD`
    has it: v = m v - rate g, w = w + v). The two are the same while the rate
    is. After a drop of the rate, Keras' own goes on for about 1 / (1 - m) steps
    with a velocity of the old rate.

    The decay is coupled: it passes through the momentum as the gradient of
    d / 2 ||w||^2 in the loss would, without being a part of the loss.
    `keras.optimizers.SGD(weight_decay=...)` is decoupled instead. Gradients
    are clipped before it. `exclude_from_weight_decay` leaves variables out.

    Args:
        learning_rate: A number, a schedule, or a function without arguments.
        momentum: m, from 0 to 1.
        nesterov: Whether a step looks ahead along the velocity.
        weight_decay: d, at least 0; None is 0.
        **kwargs: As in the parent class.

    Raises:
        TypeError: If a number is none.
        ValueError: If one is out of its range.

    Example:
        >>> model.compile(
        ...     keras_lt.optimizers.SGD(
        ...         0.1, momentum=0.9, nesterov=True, weight_decay=5e-4
        ...     ),
        ...     keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        ... )
    """

    def __init__(
        self,
        learning_rate: Any = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float | None = None,
        **kwargs: Any,
    ):
        if not callable(learning_rate):
            learning_rate = float(real("learning_rate", learning_rate))
        momentum = float(real("momentum", momentum))
        if weight_decay is not None:
            weight_decay = float(real("weight_decay", weight_decay))
        if not (0 <= momentum <= 1 and 0 <= (weight_decay or 0.0) < math.inf):
            raise ValueError(
                "Expected momentum in [0, 1] and weight_decay of at least 0. "
                f"Received: momentum={momentum}, weight_decay={weight_decay}"
            )
        super().__init__(
            learning_rate,
            momentum,
            bool(nesterov),
            weight_decay=weight_decay,
            **kwargs,
        )

    def _apply_weight_decay(self, variables: Any) -> None:
        """Keras' own is decoupled; `update_step` adds to the gradient."""

    def update_step(
        self, gradient: Any, variable: Any, learning_rate: Any
    ) -> None:
        dtype = variable.dtype
        gradient = tf.convert_to_tensor(tf.cast(gradient, dtype))
        rate = tf.cast(learning_rate, dtype)
        if self.weight_decay and self._use_weight_decay(variable):
            decay = tf.cast(self.weight_decay, dtype)
            gradient += decay * tf.convert_to_tensor(variable)
        if not self.momentum:
            self.assign_sub(variable, rate * gradient)
            return
        velocity = self.momentums[self._get_variable_index(variable)]
        # One op in place of the parent's eight.
        tf.raw_ops.ResourceApplyMomentum(
            var=_handle(variable),
            accum=_handle(velocity),
            lr=rate,
            grad=gradient,
            momentum=tf.cast(self.momentum, dtype),
            use_nesterov=self.nesterov,
        )


@keras.saving.register_keras_serializable(package="keras_lt")
class Muon(SGD):
    """Steps of orthogonal matrices for convolutions, and SGD for all else.

    The kernel of a convolution is a matrix W with a column per filter, m
    columns in all. Its step is

        v = muon_momentum v + g
        W = W sqrt(m) / ||W||
        W = W - rate O(g + muon_momentum v),

    where O replaces all singular values of a matrix by about 1, so that each
    direction is learned at the same pace, those with small gradients too
    (Jordan et al., "Muon", 2024, https://kellerjordan.github.io/posts/muon;
    norm and steps of matrices are those of its CIFAR-10 speed record). O is
    X := a X + (b A + c A A) X with A = X X^T, from X = G / ||G||, `ns_steps`
    times. Since the norm of W is fixed, these kernels have no weight decay.
    Biases, normalizations, dense layers and kernels with a single output
    (depthwise ones) take the steps of `keras_lt.optimizers.SGD`.

    `keras.optimizers.Muon` leaves convolutions to AdamW.

    Args:
        learning_rate: A number, a schedule, or a function without arguments.
        momentum: Momentum of SGD, above 0 and at most 1.
        nesterov: Whether steps of SGD look ahead along the velocity.
        weight_decay: Of variables that SGD steps, as there.
        muon_momentum: Momentum of kernels, from 0 to 1 (excluded).
        ns_steps: Iterations of Newton and Schulz, at least 1.
        **kwargs: As in the parent class.

    Raises:
        TypeError: If a number is none.
        ValueError: If one is out of its range.

    Example:
        >>> model.compile(
        ...     keras_lt.optimizers.Muon(0.1, weight_decay=5e-4),
        ...     keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        ... )
    """

    def __init__(
        self,
        learning_rate: Any = 0.1,
        momentum: float = 0.9,
        nesterov: bool = True,
        weight_decay: float | None = None,
        muon_momentum: float = 0.6,
        ns_steps: int = 3,
        **kwargs: Any,
    ):
        super().__init__(
            learning_rate, momentum, nesterov, weight_decay, **kwargs
        )
        self.muon_momentum = float(real("muon_momentum", muon_momentum))
        self.ns_steps = integer("ns_steps", ns_steps, 1)
        if not (self.momentum > 0 and 0 <= self.muon_momentum < 1):
            raise ValueError(
                "Expected momentum above 0 and muon_momentum from 0 to 1 "
                f"(excluded). Received: momentum={momentum}, "
                f"muon_momentum={muon_momentum}"
            )

    def update_step(
        self, gradient: Any, variable: Any, learning_rate: Any
    ) -> None:
        if len(variable.shape) != 4 or variable.shape[-1] == 1:
            super().update_step(gradient, variable, learning_rate)
            return
        dtype = variable.dtype
        gradient = tf.convert_to_tensor(tf.cast(gradient, dtype))
        velocity = self.momentums[self._get_variable_index(variable)]
        factor = tf.cast(self.muon_momentum, dtype)
        new_velocity = factor * tf.convert_to_tensor(velocity) + gradient
        self.assign(velocity, new_velocity)
        filters = variable.shape[-1]
        step = _orthogonal(
            tf.reshape(gradient + factor * new_velocity, (-1, filters)),
            self.ns_steps,
        )
        kernel = tf.convert_to_tensor(variable)
        kernel *= tf.math.divide_no_nan(
            tf.cast(math.sqrt(filters), dtype), tf.norm(kernel)
        )
        step = tf.cast(learning_rate, dtype) * tf.reshape(step, kernel.shape)
        self.assign(variable, kernel - step)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return {
            **config,
            "muon_momentum": self.muon_momentum,
            "ns_steps": self.ns_steps,
        }


def _orthogonal(matrix: tf.Tensor, steps: int) -> tf.Tensor:
    """Brings the singular values of a matrix towards 1.

    The coefficients are those of Jordan et al. (2024), by which the small ones
    come near 1 in the fewest steps, and none is exactly 1.
    """
    is_tall = matrix.shape[0] > matrix.shape[1]
    x = matrix / (tf.norm(matrix) + 1e-7)
    x = tf.transpose(x) if is_tall else x
    for _ in range(steps):
        square = tf.matmul(x, x, transpose_b=True)
        square = -4.7750 * square + 2.0315 * tf.matmul(square, square)
        x = 3.4445 * x + tf.matmul(square, x)
    return tf.transpose(x) if is_tall else x


def _handle(variable: keras.Variable | tf.Variable) -> tf.Tensor:
    if isinstance(variable, keras.Variable):
        variable = variable.value
    return variable.handle


class _RateFactors:
    """Multiplies the learning rate of a Keras optimizer by variable."""

    def __init__(
        self, *args: Any, rate_factors: Sequence[float] = (), **kwargs: Any
    ):
        super().__init__(*args, **kwargs)
        factors = [real("rate_factors", factor) for factor in rate_factors]
        if not all(0 <= factor < math.inf for factor in factors):
            raise ValueError(
                "Expected rate_factors of at least 0. "
                f"Received: rate_factors={rate_factors}"
            )
        self.rate_factors = factors

    def build(self, variables: Sequence[keras.Variable]) -> None:
        if len(variables) != len(self.rate_factors):
            raise ValueError(
                "Expected a factor for each trainable variable, as "
                "keras_lt.optimizers.rate_factors(model, ...) gives. "
                f"Received: {len(self.rate_factors)} rate_factors for "
                f"{len(variables)} variables"
            )
        super().build(variables)

    def update_step(
        self, gradient: Any, variable: Any, learning_rate: Any
    ) -> None:
        factor = self.rate_factors[self._get_variable_index(variable)]
        learning_rate = keras.ops.cast(learning_rate, variable.dtype) * factor
        super().update_step(gradient, variable, learning_rate)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return {**config, "rate_factors": list(self.rate_factors)}


@keras.saving.register_keras_serializable(package="keras_lt")
class FineTuningSGD(_RateFactors, SGD):
    """`SGD` with a learning rate for each variable.

    The rate of variable i is `rate_factors[i]` times the learning rate, be
    that a number or a schedule: each variable changes as with an optimizer of
    that rate alone. A backbone with trained weights wants a lower rate than
    the new classifier on it.

    Args:
        learning_rate: As in the parent class.
        *args: As in the parent class.
        rate_factors: A factor for each trainable variable of the model, in
            their order, at least 0; `rate_factors` makes them.
        **kwargs: As in the parent class.

    Raises:
        TypeError: If a number is none.
        ValueError: If a factor is negative, there is another number of
            variables, or as in the parent class.

    Example:
        >>> model = keras_lt.models.classifier(backbone, 10)
        >>> factors = keras_lt.optimizers.rate_factors(model, backbone, 0.1)
        >>> model.compile(
        ...     keras_lt.optimizers.FineTuningSGD(
        ...         0.1, momentum=0.9, rate_factors=factors
        ...     ),
        ...     keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        ... )
    """


class _AdamW(keras.optimizers.AdamW):
    """Keras' own, with the decay of a variable at the rate of its step."""

    def __init__(self, learning_rate: Any = 0.001, *args: Any, **kwargs: Any):
        if not callable(learning_rate):
            learning_rate = float(real("learning_rate", learning_rate))
        super().__init__(learning_rate, *args, **kwargs)

    def _apply_weight_decay(self, variables: Any) -> None:
        """Keras' own is at one rate for all; `update_step` decays instead."""

    def update_step(
        self, gradient: Any, variable: Any, learning_rate: Any
    ) -> None:
        if self.weight_decay is not None and self._use_weight_decay(variable):
            self.assign_sub(
                variable, variable * self.weight_decay * learning_rate
            )
        super().update_step(gradient, variable, learning_rate)


@keras.saving.register_keras_serializable(package="keras_lt")
class FineTuningAdamW(_RateFactors, _AdamW):
    """`keras.optimizers.AdamW` with a learning rate for each variable.

    As `FineTuningSGD`; the decoupled weight decay of a variable is at its own
    rate too. (Scaling the gradients would do nothing: Adam divides by their
    length.)

    Args:
        learning_rate: As in the parent class.
        *args: As in the parent class.
        rate_factors: As in `FineTuningSGD`.
        **kwargs: As in the parent class.

    Raises:
        ValueError: As in `FineTuningSGD`.

    Example:
        >>> factors = keras_lt.optimizers.rate_factors(model, backbone, 0.1)
        >>> optimizer = keras_lt.optimizers.FineTuningAdamW(
        ...     1e-3, weight_decay=0.05, rate_factors=factors
        ... )
    """


def rate_factors(
    model: keras.Model, part: keras.Layer, factor: float
) -> list[float]:
    """Factors of the learning rate for a model of which a part is slower.

    Args:
        model: A built model, frozen as it will be trained.
        part: A model or layer whose variables are among those of `model`,
            such as its backbone.
        factor: Factor of the variables of `part`; 1 for all others.

    Returns:
        A factor for each trainable variable of `model`, in their order.

    Raises:
        ValueError: If a model is not built, or a trainable variable of the part
            is not of the model.

    Example:
        >>> factors = keras_lt.optimizers.rate_factors(model, backbone, 0.1)
    """
    factor = real("factor", factor)
    for name, each in (("model", model), ("part", part)):
        if not each.built:
            raise ValueError(
                f"Expected a {name} that is built, or called on images. "
                f"Received: {name}={each.name}"
            )
    inside = {id(variable) for variable in part.trainable_variables}
    variables = model.trainable_variables
    if not inside <= {id(variable) for variable in variables}:
        raise ValueError(
            "Expected a part of the model. "
            f"Received: part={part.name}, model={model.name}"
        )
    return [factor if id(each) in inside else 1.0 for each in variables]


def _keras_optimizers() -> dict[str, type[keras.optimizers.Optimizer]]:
    """Keras' own optimizers by their names, those that wrap others left out."""
    wrappers = ("LossScaleOptimizer", "MultiOptimizer", "OptimizerMap")
    return {
        name.lower(): value
        for name, value in vars(keras.optimizers).items()
        if isinstance(value, type) and name not in ("Optimizer", *wrappers)
    }


OPTIMIZERS = Registry(
    "optimizer",
    # Keras' SGD is not the published one, but some records are of it.
    {
        "keras_sgd": keras.optimizers.SGD,
        "keras_muon": keras.optimizers.Muon,
        **_keras_optimizers(),
        "sgd": SGD,
        "muon": Muon,
    },
    makes=keras.optimizers.Optimizer,
    nested={"learning_rate": schedules.get},
)
FINE_TUNING = Registry(
    "optimizer with a learning rate for each variable",
    {"sgd": FineTuningSGD, "adamw": FineTuningAdamW},
    makes=keras.optimizers.Optimizer,
    nested={"learning_rate": schedules.get},
)


def get(
    identifier: Any,
    *,
    learning_rate: Any = None,
    rate_factors: Sequence[float] | None = None,
    **context: Any,
) -> keras.optimizers.Optimizer:
    """Returns an optimizer, as `keras.optimizers.get` does.

    Args:
        identifier: A spec (see `keras_lt.specs`): "sgd(momentum=0.9)" of `SGD`
            and "muon" of `Muon` above, "keras_sgd(momentum=0.9)" of
            `keras.optimizers.SGD`, another name of an optimizer of Keras, or
            one of yours ("package.module:Name(alpha=2)"); else what
            `keras.optimizers.get` takes: an optimizer or its configuration.
        learning_rate: The learning rate of a spec that has none: what
            `keras_lt.schedules.get` takes.
        rate_factors: What `rate_factors` gives, for a spec of "sgd" or "adamw".
        **context: What a spec needs to know, by the names of
            `keras_lt.specs.CONTEXT`.

    Raises:
        TypeError: If an argument, or what is made, is of another type.
        ValueError: If there is no such optimizer or argument, or one is given
            twice.

    Example:
        >>> optimizer = keras_lt.optimizers.get(
        ...     "sgd(momentum=0.9)", learning_rate="cosine(0.1)", total_steps=10
        ... )
        >>> optimizer.momentum, round(float(optimizer.learning_rate), 3)
        (0.9, 0.1)
    """
    given = {}
    if learning_rate is not None:
        given["learning_rate"] = schedules.get(learning_rate, **context)
    if rate_factors is not None:
        given["rate_factors"] = rate_factors
    if isinstance(identifier, (str, Spec)):
        registry = OPTIMIZERS if rate_factors is None else FINE_TUNING
        return registry.get(identifier, given=given, **context)
    if given:
        raise ValueError(
            f"Expected a spec such as sgd(momentum=0.9) with "
            f"{' and '.join(given)}. Received: {brief(identifier)}"
        )
    return OPTIMIZERS.get(keras.optimizers.get(identifier))


@dataclasses.dataclass(frozen=True)
class Pipeline:
    """An optimizer, and what is done around its steps.

    Attributes:
        optimizer: A spec, for `get`.
        rho: Radius for `sharpness_aware`; None is without it.
        momentum: Momentum for `keras_lt.callbacks.AveragedWeights`; None is
            without averages.

    Example:
        >>> made = keras_lt.optimizers.Pipeline("sgd(momentum=0.9)", rho=0.5)
        >>> made.rho, made.momentum
        (0.5, None)
    """

    optimizer: str
    rho: float | None = None
    momentum: float | None = None


def _sharpness_aware(rho: float = 0.05) -> dict[str, float]:
    rho = real("rho", rho)
    if not 0 <= rho < math.inf:
        raise ValueError(f"Expected rho of at least 0. Received: rho={rho}")
    return {"rho": rho}


def _averaged(momentum: float = 0.999) -> dict[str, float]:
    momentum = real("momentum", momentum)
    if not 0 <= momentum < 1:
        raise ValueError(
            "Expected momentum from 0 to 1 (excluded). "
            f"Received: momentum={momentum}"
        )
    return {"momentum": momentum}


AROUND = Registry(
    "addition to an optimizer",
    {"sharpness_aware": _sharpness_aware, "averaged": _averaged},
    makes=dict,
)


def pipeline(identifier: str) -> Pipeline:
    """Reads an optimizer with what is done around its steps.

    `sgd(momentum=0.9)|sharpness_aware(0.5)|averaged(0.999)` steps by SGD along
    the gradient of `sharpness_aware`, and averages the weights. Whoever trains
    applies them in this order: compile, `sharpness_aware`,
    `keras_lt.callbacks.SkipNonFinite`, `AveragedWeights`, and
    `Checkpointing.restore`; after the training `AveragedWeights.apply`.

    Args:
        identifier: A spec of an optimizer, and after it, each at most once and
            in any order, `|sharpness_aware(rho)` and `|averaged(momentum)`.

    Raises:
        TypeError: If it is no text, or an argument no number.
        ValueError: If it is no spec, there is no such addition or argument, or
            one comes twice.

    Example:
        >>> made = keras_lt.optimizers.pipeline("adamw|averaged(0.99)")
        >>> made.optimizer, made.rho, made.momentum
        ('adamw', None, 0.99)
    """
    first, *others = parse_chain(identifier)
    found = {}
    for spec in others:
        for name, value in AROUND.get(spec).items():
            if name in found:
                raise ValueError(
                    f"Expected {spec.name} once. Received: {brief(identifier)}"
                )
            found[name] = value
    return Pipeline(str(first), **found)
