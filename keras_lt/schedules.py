"""Learning rates as functions of the step."""

import contextlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from keras_lt.arguments import integer, real
from keras_lt.messages import brief
from keras_lt.specs import Registry


@keras.saving.register_keras_serializable(package="keras_lt")
class WarmupStepDecay(keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, then constant pieces.

    At step t (from 0): base * (t + 1) / warmup_steps while t < warmup_steps,
    afterwards base * factors[i] with i the number of boundaries that are
    at most t, less one, and base before the first boundary.

    Args:
        learning_rate: base, the rate after the warm-up.
        warmup_steps: Steps until the base is reached, at least 0.
        boundaries: Steps from which the factors hold, increasing.
        factors: Factors of the base, one a boundary (not cumulative).

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> rate = keras_lt.schedules.WarmupStepDecay(0.1, 5, [80], [0.01])
        >>> [round(float(rate(step)), 3) for step in (0, 4, 79, 80)]
        [0.02, 0.1, 0.1, 0.001]
    """

    def __init__(
        self,
        learning_rate: float,
        warmup_steps: int = 0,
        boundaries: Sequence[int] = (),
        factors: Sequence[float] = (),
    ):
        super().__init__()
        learning_rate = real("learning_rate", learning_rate)
        warmup_steps = integer("warmup_steps", warmup_steps, 0)
        boundaries = [
            integer(f"boundaries[{i}]", boundary, 0)
            for i, boundary in enumerate(boundaries)
        ]
        factors = [
            real(f"factors[{i}]", factor) for i, factor in enumerate(factors)
        ]
        if not 0 < learning_rate < np.inf:
            raise ValueError(
                "Expected learning_rate > 0. "
                f"Received: learning_rate={learning_rate}"
            )
        if not all(0 <= factor < np.inf for factor in factors):
            raise ValueError(
                f"Expected factors of at least 0. Received: factors={factors}"
            )
        if len(boundaries) != len(factors) or boundaries != sorted(boundaries):
            raise ValueError(
                "Expected increasing boundaries and one factor for each. "
                f"Received: boundaries={brief(boundaries)}, "
                f"factors={brief(factors)}"
            )
        self.learning_rate = learning_rate
        self.warmup_steps = warmup_steps
        self.boundaries = boundaries
        self.factors = factors

    def __call__(self, step: Any) -> Any:
        step = keras.ops.cast(step, "float32")
        factor = keras.ops.minimum(
            1.0, (step + 1.0) / max(self.warmup_steps, 1)
        )
        for boundary, value in zip(self.boundaries, self.factors, strict=True):
            factor = keras.ops.where(step >= boundary, value, factor)
        return self.learning_rate * factor

    def get_config(self) -> dict[str, Any]:
        return {
            "learning_rate": self.learning_rate,
            "warmup_steps": self.warmup_steps,
            "boundaries": self.boundaries,
            "factors": self.factors,
        }


@keras.saving.register_keras_serializable(package="keras_lt")
class CumulativeDecay(keras.optimizers.schedules.LearningRateSchedule):
    """The adaptor of cumulative learning, for the weight of a branch's loss.

    v * (1 - (t / T)^2) at step t < T, and 0 from T on (Zhou et al., BBN, CVPR
    2020, section 4.3).

    Args:
        initial_value: v, at least 0.
        decay_steps: T, at least 1.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> weight = keras_lt.schedules.CumulativeDecay(1.0, 10)
        >>> [float(weight(step)) for step in (0, 5, 10)]
        [1.0, 0.75, 0.0]
    """

    def __init__(self, initial_value: float, decay_steps: int):
        super().__init__()
        initial_value = real("initial_value", initial_value)
        decay_steps = integer("decay_steps", decay_steps, 1)
        if not 0 <= initial_value < np.inf:
            raise ValueError(
                "Expected initial_value >= 0. "
                f"Received: initial_value={initial_value}"
            )
        self.initial_value = initial_value
        self.decay_steps = decay_steps

    def __call__(self, step: Any) -> Any:
        progress = keras.ops.cast(step, "float32") / self.decay_steps
        progress = keras.ops.minimum(progress, 1.0)
        return self.initial_value * (1.0 - progress * progress)

    def get_config(self) -> dict[str, Any]:
        return {
            "initial_value": self.initial_value,
            "decay_steps": self.decay_steps,
        }


def constant(value: float) -> float:
    """The same value at each step, at least 0.

    Example:
        >>> keras_lt.schedules.constant(0.1)
        0.1
    """
    value = real("value", value)
    if not 0 <= value < np.inf:
        raise ValueError(f"Expected value >= 0. Received: value={value}")
    return value


def warmup_step(
    learning_rate: float,
    boundaries: Sequence[float] = (160, 180),
    factors: Sequence[float] = (0.01, 0.0001),
    warmup: float = 5,
    steps_per_epoch: int = 1,
) -> WarmupStepDecay:
    """`WarmupStepDecay` with its boundaries and its warm-up in epochs.

    Example:
        >>> rate = keras_lt.schedules.warmup_step(
        ...     0.1, [160, 180], [0.01, 0.0001], steps_per_epoch=87
        ... )
        >>> rate.warmup_steps, rate.boundaries
        (435, [13920, 15660])
    """
    return WarmupStepDecay(
        learning_rate,
        _steps("warmup", warmup, steps_per_epoch),
        [
            _steps(f"boundaries[{i}]", boundary, steps_per_epoch)
            for i, boundary in enumerate(boundaries)
        ],
        factors,
    )


def cosine(
    learning_rate: float,
    total_steps: int,
    warmup: float = 0,
    steps_per_epoch: int = 1,
) -> keras.optimizers.schedules.CosineDecay:
    """Rises to the rate in the epochs of the warm-up, then falls to 0.

    Example:
        >>> rate = keras_lt.schedules.cosine(
        ...     0.1, 200, warmup=5, steps_per_epoch=10
        ... )
        >>> [round(float(rate(step)), 3) for step in (0, 50, 125, 200)]
        [0.002, 0.1, 0.05, 0.0]
    """
    learning_rate = real("learning_rate", learning_rate)
    total_steps = integer("total_steps", total_steps, 1)
    warmup_steps = _steps("warmup", warmup, steps_per_epoch)
    return keras.optimizers.schedules.CosineDecay(
        learning_rate / max(warmup_steps, 1),
        decay_steps=max(1, total_steps - warmup_steps),
        warmup_target=learning_rate if warmup_steps else None,
        warmup_steps=warmup_steps,
    )


def linear(
    value: float, total_steps: int
) -> keras.optimizers.schedules.PolynomialDecay:
    """Value * (1 - t / T) at step t of T in all.

    Example:
        >>> weight = keras_lt.schedules.linear(1.0, 10)
        >>> [float(weight(step)) for step in (0, 5, 10)]
        [1.0, 0.5, 0.0]
    """
    return keras.optimizers.schedules.PolynomialDecay(
        real("value", value),
        integer("total_steps", total_steps, 1),
        end_learning_rate=0.0,
    )


def cumulative(value: float, total_steps: int) -> CumulativeDecay:
    """Value * (1 - (t / T)^2) at step t of T in all.

    Example:
        >>> weight = keras_lt.schedules.cumulative(1.0, 10)
        >>> [float(weight(step)) for step in (0, 5, 10)]
        [1.0, 0.75, 0.0]
    """
    return CumulativeDecay(value, total_steps)


def _steps(name: str, epochs: float, steps_per_epoch: int) -> int:
    epochs = real(name, epochs)
    if not 0 <= epochs < np.inf:
        raise ValueError(f"Expected {name} >= 0. Received: {name}={epochs}")
    return round(epochs * integer("steps_per_epoch", steps_per_epoch, 1))


SCHEDULES = Registry(
    "schedule",
    {
        "constant": constant,
        "warmup_step": warmup_step,
        "cosine": cosine,
        "linear": linear,
        "cumulative": cumulative,
    },
    makes=(int, float, Callable),
)


def get(identifier: Any, **context: Any) -> float | Callable:
    """Returns a learning rate, or the weight of a loss, by step.

    Epochs in a spec, as in "warmup_step(0.1, [160, 180], [0.01, 0.0001])", are
    steps where no `steps_per_epoch` says how many an epoch has.

    Args:
        identifier: A spec (see `keras_lt.specs`): constant(value),
            warmup_step(learning_rate, boundaries, factors, warmup),
            cosine(learning_rate, warmup), linear(value), cumulative(value), or
            of yours ("package.module:Name(alpha=2)"); a number, as text too;
            a schedule, which is returned, or the configuration of one.
        **context: What it needs to know, by the names of
            `keras_lt.specs.CONTEXT`: `total_steps`, `steps_per_epoch`.

    Returns:
        A number or a function of the step.

    Raises:
        TypeError: If an argument, or what is made, is of another type.
        ValueError: If there is no such schedule or argument, or one is missing.

    Example:
        >>> rate = keras_lt.schedules.get(
        ...     "warmup_step(0.1, [80], [0.01])", steps_per_epoch=100
        ... )
        >>> [round(float(rate(step)), 4) for step in (0, 499, 7_999, 8_000)]
        [0.0002, 0.1, 0.1, 0.001]
        >>> keras_lt.schedules.get("0.1")
        0.1
    """
    if isinstance(identifier, dict):
        return keras.optimizers.schedules.deserialize(identifier)
    if isinstance(identifier, str):
        with contextlib.suppress(ValueError):  # no number
            identifier = float(identifier)
    if isinstance(identifier, float):
        return constant(identifier)
    return SCHEDULES.get(identifier, **context)
