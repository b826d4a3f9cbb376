"""Learning rates as functions of the step."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from keras_lt.arguments import integer, real
from keras_lt.messages import brief


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
