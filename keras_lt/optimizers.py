"""Optimizers by name, and with a learning rate for each variable."""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_lt import schedules
from keras_lt.arguments import real
from keras_lt.messages import brief
from keras_lt.specs import Registry, Spec


class _RateFactors:
    """Multiplies the learning rate of a Keras optimizer by variable."""

    def __init__(
        self,
        learning_rate: Any = 0.01,
        *args: Any,
        rate_factors: Sequence[float] = (),
        **kwargs: Any,
    ):
        if isinstance(learning_rate, (np.number, np.ndarray)):
            learning_rate = real("learning_rate", learning_rate)
        super().__init__(learning_rate, *args, **kwargs)
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

    def _apply_weight_decay(self, variables: Any) -> None:
        """Keras' own is at one rate for all; `update_step` decays instead."""

    def update_step(
        self, gradient: Any, variable: Any, learning_rate: Any
    ) -> None:
        factor = self.rate_factors[self._get_variable_index(variable)]
        learning_rate = keras.ops.cast(learning_rate, variable.dtype) * factor
        if self.weight_decay is not None and self._use_weight_decay(variable):
            self.assign_sub(
                variable, variable * self.weight_decay * learning_rate
            )
        super().update_step(gradient, variable, learning_rate)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        return {**config, "rate_factors": list(self.rate_factors)}


@keras.saving.register_keras_serializable(package="keras_lt")
class FineTuningSGD(_RateFactors, keras.optimizers.SGD):
    """`keras.optimizers.SGD` with a learning rate a variable.

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
        ValueError: If a factor is negative, or there is another number of
            variables.

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


@keras.saving.register_keras_serializable(package="keras_lt")
class FineTuningAdamW(_RateFactors, keras.optimizers.AdamW):
    """`keras.optimizers.AdamW` with a learning rate a variable.

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
        factor: Of the variables of `part`; 1 for all others.

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
    _keras_optimizers(),
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
        identifier: A spec (see `keras_lt.specs`) of an optimizer of Keras, such
            as "sgd(momentum=0.9)", or of yours
            ("package.module:Name(alpha=2)"); else what `keras.optimizers.get`
            takes: an optimizer or its configuration.
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
