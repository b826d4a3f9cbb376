"""Learning rates as functions of the step."""

from collections.abc import Sequence
from typing import Any

import keras


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
        if not learning_rate > 0 or warmup_steps < 0:
            raise ValueError(
                "Expected learning_rate > 0 and warmup_steps >= 0. Received: "
                f"learning_rate={learning_rate}, warmup_steps={warmup_steps}"
            )
        if len(boundaries) != len(factors) or list(boundaries) != sorted(
            boundaries
        ):
            raise ValueError(
                "Expected increasing boundaries and one factor for each. "
                f"Received: boundaries={boundaries}, factors={factors}"
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
            "boundaries": list(self.boundaries),
            "factors": list(self.factors),
        }
