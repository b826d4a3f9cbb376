"""Losses that become NaN or infinite: the training stops, or skips the step."""

import math
import warnings
from typing import Any

import keras
import tensorflow as tf

from keras_lt import distribute, trainable
from keras_lt.arguments import integer
from keras_lt.callbacks.checkpointing import Checkpointing


class _Watch(keras.callbacks.Callback):
    """Knows which step of an epoch it is, also of one that was cut."""

    def __init__(self, checkpointing: Checkpointing | None):
        super().__init__()
        self.checkpointing = checkpointing

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch, self._steps_before = epoch, 0
        if self.checkpointing is not None:
            self._steps_before = self.checkpointing.position[1]

    def _where(self, batch: int) -> str:
        step = self._steps_before + batch + 1
        return f"at step {step} of epoch {self._epoch + 1}"


class StopOnNonFinite(_Watch):
    """Ends a training by an error when its loss is NaN or infinite.

    `keras.callbacks.TerminateOnNaN` ends `fit` as if the training were over.
    The error names those of the logged losses (`loss`, and the parts that a
    model such as `DualBranch` logs) that are not finite.

    Args:
        checkpointing: The one of the training, which knows where an epoch
            was cut; None counts steps from the start of `fit`'s epoch.

    Raises:
        FloatingPointError: At the end of the step, naming it.

    Example:
        >>> history = model.fit(
        ...     batches,
        ...     steps_per_epoch=2,
        ...     shuffle=False,
        ...     callbacks=[keras_lt.callbacks.StopOnNonFinite()],
        ... )
    """

    def __init__(self, checkpointing: Checkpointing | None = None):
        super().__init__(checkpointing)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        # Logs are means over the epoch, so it is the first such step that
        # counts.
        wrong = {
            name: float(value)
            for name, value in (logs or {}).items()
            if name.endswith("loss") and not math.isfinite(value)
        }
        if wrong:
            shown = ", ".join(f"{name}={wrong[name]}" for name in wrong)
            raise FloatingPointError(
                f"Expected a finite loss. Received: {shown} "
                f"{self._where(batch)} (a lower learning rate or a longer "
                "warm-up may help)"
            )


class SkipNonFinite(_Watch):
    """Undoes training steps that give NaN or infinity, up to a limit.

    After a step that has made any number of weights, statistics, optimizer or
    metrics NaN or infinite, as a loss or a gradient that is not finite does,
    all of these are what they were before it, on all replicas. The step still
    counts: `optimizer.iterations` goes on, since streams and schedules are
    functions of the step. A loss scale that is too large for float16 is none of
    this: `keras.optimizers.LossScaleOptimizer` sees to it itself.

    A warning names each step that was skipped, and `skipped`, their number in
    the training so far, is in the logs of an epoch.

    Args:
        model: A compiled model, before its first `fit`. Its `train_step` is
            replaced by one that can be undone; that costs a copy of the state
            a step.
        limit: How many steps are skipped at most.
        checkpointing: The one of the training, which then keeps the number;
            to be given before it restores the model.

    Raises:
        FloatingPointError: At the end of the step after which there are more.
        ValueError: If `limit` is not positive.

    Example:
        >>> skip = keras_lt.callbacks.SkipNonFinite(model, limit=10)
        >>> history = model.fit(
        ...     batches, steps_per_epoch=2, shuffle=False, callbacks=[skip]
        ... )
        >>> skip.skipped
        0
    """

    def __init__(
        self,
        model: keras.Model,
        limit: int,
        checkpointing: Checkpointing | None = None,
    ):
        super().__init__(checkpointing)
        self.limit = integer("limit", limit, 1)
        with model.distribute_strategy.scope():
            self._skipped = keras.Variable(
                0,
                dtype="int64",
                trainable=False,
                aggregation="only_first_replica",
                name="skipped",
            )
        trainable.build_optimizer(model)
        if checkpointing is not None:
            checkpointing.counters["skipped"] = self._skipped
        self._step_of(model)

    @property
    def skipped(self) -> int:
        """How many steps were skipped in the training so far."""
        return int(keras.ops.convert_to_numpy(self._skipped))

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        super().on_epoch_begin(epoch, logs)
        self._seen = self.skipped

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        skipped, seen = self.skipped, self._seen
        self._seen = skipped
        if skipped > self.limit:
            raise FloatingPointError(
                f"Expected at most {self.limit} steps with a loss or gradients "
                f"that are not finite. Received: {skipped}, the last one "
                f"{self._where(batch)}"
            )
        if skipped > seen:
            warnings.warn(
                "The loss or a gradient is not finite "
                f"{self._where(batch)}, which is skipped ({skipped} of at "
                f"most {self.limit}).",
                stacklevel=2,
            )

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if logs is not None:
            logs["skipped"] = float(self.skipped)

    def _step_of(self, model: keras.Model) -> None:
        step, iterations = model.train_step, model.optimizer.iterations

        def train_step(data: Any) -> dict[str, Any]:
            # Without a strategy Keras builds metrics within the first step,
            # when it is too late to copy them.
            model._symbolic_build(data_batch=data)
            variables = _state(model)
            before = distribute.values_of(variables)
            number = tf.convert_to_tensor(iterations.value)
            logs = step(data)
            after = distribute.values_of(variables)
            is_good = distribute.all_replicas(
                tf.reduce_all(
                    [
                        # What is infinite from the start may stay so.
                        tf.reduce_all(
                            tf.math.is_finite(new) | ~tf.math.is_finite(old)
                        )
                        for old, new in zip(before, after, strict=True)
                        if new.dtype.is_floating
                    ]
                )
            )
            distribute.assign_on_each_replica(
                variables,
                [
                    tf.where(is_good, new, old)
                    for old, new in zip(before, after, strict=True)
                ],
            )
            iterations.assign(tf.where(is_good, iterations.value, number + 1))
            self._skipped.assign_add(tf.cast(~is_good, "int64"))
            return {**logs, **model.get_metrics_result()}

        model.train_step = train_step
        model.train_function = None  # was made of the other one


def _state(model: keras.Model) -> list[keras.Variable]:
    """All variables that a training step changes, but the step's number."""
    variables = [*model.variables, *model.optimizer.variables]
    for metric in model.metrics:
        variables += metric.variables
    found = {id(variable): variable for variable in variables}
    found.pop(id(model.optimizer.iterations), None)
    return list(found.values())
