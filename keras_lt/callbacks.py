"""Callbacks: re-weighting schedules, checkpoints, TensorBoard views."""

import json
import math
import os
import time
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_lt import files
from keras_lt.tensorboard import LongTailTensorBoard

__all__ = [
    "Checkpointing",
    "DeferredReweighting",
    "LongTailTensorBoard",
    "StopOnNonFinite",
]


class DeferredReweighting(keras.callbacks.Callback):
    """Uniform class weights first, the loss's own later (DRW).

    Deferred re-weighting (Cao et al., NeurIPS 2019, algorithm 1): the network
    learns its features from the plain loss, and the re-weighted loss only
    steers the end of the training, where the learning rate is low. The
    callback assigns the variable `reweighting` of the loss, so nothing is
    traced again, and it reads the epoch that `fit` counts, so a training
    resumed by `fit(initial_epoch=...)` has the right weights at once.

    Args:
        start_epoch: First epoch (from 0) with the class weights.

    Raises:
        ValueError: If `start_epoch` is negative, or the compiled loss is not
            a `keras_lt.losses.ClassWeightedLoss` (nor a structure with one,
            nor that of a `DualBranch`'s task).

    Example:
        >>> model.compile("sgd", keras_lt.losses.ClassBalancedCrossentropy(n))
        >>> model.fit(
        ...     batches, steps_per_epoch=97, epochs=200,
        ...     callbacks=[keras_lt.callbacks.DeferredReweighting(160)],
        ... )
    """

    def __init__(self, start_epoch: int):
        super().__init__()
        if start_epoch < 0:
            raise ValueError(
                "Expected start_epoch >= 0. "
                f"Received: start_epoch={start_epoch}"
            )
        self.start_epoch = start_epoch

    def on_train_begin(self, logs: Any = None) -> None:
        tasks = getattr(self.model, "tasks", ())  # of a DualBranch
        losses = keras.tree.flatten(self.model.loss)
        losses += [task.loss for task in tasks]
        self._losses = [loss for loss in losses if hasattr(loss, "reweighting")]
        if not self._losses:
            raise ValueError(
                "Expected a model compiled with a loss that has class weights "
                "(keras_lt.losses.ClassBalancedCrossentropy, ...). "
                f"Received: loss={self.model.loss}"
            )

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        for loss in self._losses:
            loss.reweighting.assign(float(epoch >= self.start_epoch))


class StopOnNonFinite(keras.callbacks.Callback):
    """Ends a training by an error when its loss is NaN or infinite.

    `keras.callbacks.TerminateOnNaN` ends `fit` as if the training were over.

    Raises:
        FloatingPointError: At the end of the step, naming it.
    """

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        loss = (logs or {}).get("loss")
        if loss is not None and not math.isfinite(loss):
            raise FloatingPointError(
                f"Expected a finite loss. Received: loss={float(loss)} at "
                f"step {batch + 1} of epoch {self._epoch + 1} (a lower "
                "learning rate or a longer warm-up may help)"
            )


class Checkpointing(keras.callbacks.Callback):
    """Keeps the weights and the history of a training, epoch by epoch.

    After each epoch it writes weights and optimizer state, and then, in one
    atomic step, an index (`checkpoint.json`) that names the file: at any
    moment the index names files that are whole. Files that it no longer names
    are removed.

    Args:
        directory: Where the files are; made if absent.
        monitor: Name in the logs by which the best epoch is chosen, larger
            being better; None keeps the latest only.

    Attributes:
        history: One list a logged scalar, one value an epoch, over all starts;
            with `seconds` (training steps only) and `learning_rate`.
        starts: How many times a training was started with this directory.

    Raises:
        KeyError: If the logs have no `monitor`.

    Example:
        >>> checkpointing = keras_lt.callbacks.Checkpointing("checkpoints")
        >>> model.fit(
        ...     batches, steps_per_epoch=97, epochs=30,
        ...     initial_epoch=checkpointing.restore(model),
        ...     callbacks=[checkpointing],
        ... )
    """

    def __init__(
        self, directory: str | os.PathLike, *, monitor: str | None = None
    ):
        super().__init__()
        self.directory = Path(directory)
        self.monitor = monitor
        self._index = {"starts": 0, "epoch": 0, "latest": None, "history": {}}

    @property
    def history(self) -> dict[str, list[float]]:
        return self._index["history"]

    @property
    def starts(self) -> int:
        return self._index["starts"]

    @property
    def best(self) -> dict[str, Any] | None:
        """`epoch` (how many were over), `value` and `path`, or None."""
        if "best" not in self._index:
            return None
        best = self._index["best"]
        return {**best, "path": self.directory / best["file"]}

    def restore(self, model: keras.Model) -> int:
        """Loads the latest checkpoint into a compiled model, if there is one.

        Args:
            model: Built and compiled as when the checkpoint was written.

        Returns:
            The number of epochs that are over, for `fit(initial_epoch=...)`.

        Raises:
            ValueError: If the index or the weights can't be read, or are
                those of another model.
        """
        index = self.directory / "checkpoint.json"
        if index.exists():
            try:
                self._index = json.loads(index.read_text())
                path = self.directory / self._index["latest"]
                model.optimizer.build(model.trainable_variables)
                with warnings.catch_warnings():
                    # Keras leaves out the state of another optimizer so.
                    warnings.filterwarnings(
                        "error", "Skipping variable loading"
                    )
                    model.load_weights(path)
            except (
                OSError,
                KeyError,
                TypeError,
                ValueError,
                UserWarning,
            ) as error:
                raise ValueError(
                    "Expected a checkpoint of this model. Received: "
                    f"{index}, which can't be restored: {error}"
                ) from error
        self._index["starts"] += 1
        return self._index["epoch"]

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._begin = self._end = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._end = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs = {
            **(logs or {}),
            "learning_rate": keras.ops.convert_to_numpy(
                self.model.optimizer.learning_rate
            ),
            "seconds": self._end - self._begin,
        }
        for name, value in logs.items():
            if np.ndim(value) == 0:
                self.history.setdefault(name, []).append(float(value))
        file = f"epoch-{epoch + 1:04d}.weights.h5"
        self._index.update(epoch=epoch + 1, latest=file)
        if self.monitor is not None:
            if self.monitor not in logs:
                raise KeyError(
                    f"Expected {self.monitor!r} in the logs. "
                    f"Received: {sorted(logs)}"
                )
            value = float(logs[self.monitor])
            best = self._index.get("best", {"value": -math.inf})
            if value > best["value"]:  # NaN is not
                self._index["best"] = {
                    "epoch": epoch + 1,
                    "value": value,
                    "file": file,
                }
        self._write(file)

    def _write(self, file: str) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        with files.replacing(self.directory / file) as part:
            self.model.save_weights(part, overwrite=True)
        with files.replacing(self.directory / "checkpoint.json") as part:
            part.write_text(json.dumps(self._index))
        named = {file, self._index.get("best", {}).get("file")}
        for path in self.directory.glob("*.weights.h5"):
            if path.name not in named:
                path.unlink()
