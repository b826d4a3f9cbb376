"""`Checkpointing`: the state of a training on disk, whatever happens to it."""

import hashlib
import io
import json
import math
import os
import signal
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from keras_lt import distribute, files
from keras_lt.messages import brief

# One thread for all checkpoints of the process, which waits for it in the end.
_WRITER = ThreadPoolExecutor(1, "checkpoints")


class Checkpointing(keras.callbacks.Callback):
    """Keeps the state of a training, so that it goes on wherever it is cut.

    A checkpoint is weights, optimizer state and, within an epoch, the metrics
    so far. It is written first, and then, in one atomic step, an index
    (`checkpoint.json`) that names it: at any moment the index names files that
    are whole. Files that it no longer names are removed. On a stream that seeks
    (`keras_lt.streams.stream(start_step=...)`) a training that was killed ends
    with the very weights of one that was not, if its ops are deterministic.

    Training waits only until the state is copied to the host's memory; a thread
    writes the copy. An error of that thread is raised at the end of the next
    step, a checkpoint that is due while another is being written waits for it,
    and the end of training waits for the last one.

    Of several processes the first one writes, and all restore what it wrote, so
    they share the folder. It alone can't know the metrics of all: those of an
    epoch that was cut are of the rest of it then. By SIGTERM it ends all, which
    can't go on without it.

    Args:
        directory: Where the files are; made if absent.
        monitor: Name in the logs by which the best epoch is chosen, larger
            being better; None keeps no best one.
        every_epochs: Epochs from one checkpoint to the next; the last epoch of
            a `fit` has one too.
        every_steps: Steps from one checkpoint to the next within an epoch.
        every_minutes: Minutes from one checkpoint to the next within an epoch.
        keep: How many checkpoints are kept, the best one aside. Of a damaged
            one the one before is used.
        settings: {name: value} of JSON that a training must share with the one
            that it goes on with, such as its class names.
        exit_on_sigterm: Whether SIGTERM writes a checkpoint after the step and
            ends the process with status 143.

    Attributes:
        counters: {name: integer variable}, to be filled before `restore`: what
            belongs to the state beside model and optimizer.
        history: One list a logged scalar, one value an epoch, over all starts;
            with `seconds` (training steps only) and `learning_rate`.
        starts: How many times a training was started with this directory.

    Raises:
        KeyError: If the logs have no `monitor`.
        OSError: In training, if a checkpoint can't be written. The one before
            is what it was.
        ValueError: If an interval or `keep` is not positive.

    Example:
        >>> checkpointing = keras_lt.callbacks.Checkpointing("checkpoints")
        >>> checkpointing.restore(model)  # how many epochs are over
        0
        >>> for start_step, span in checkpointing.spans(3, last_step=6):
        ...     batches = keras_lt.streams.stream(
        ...         train,
        ...         sampling="random",
        ...         batch_size=32,
        ...         seed=0,
        ...         start_step=start_step,
        ...     )
        ...     history = model.fit(
        ...         batches, shuffle=False, callbacks=[checkpointing], **span
        ...     )
        >>> checkpointing.position
        (2, 0)
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        *,
        monitor: str | None = None,
        every_epochs: int = 1,
        every_steps: int | None = None,
        every_minutes: float | None = None,
        keep: int = 2,
        settings: dict[str, Any] | None = None,
        exit_on_sigterm: bool = False,
    ):
        super().__init__()
        for name, value in (
            ("every_epochs", every_epochs),
            ("every_steps", every_steps),
            ("every_minutes", every_minutes),
            ("keep", keep),
        ):
            if value is not None and not value > 0:
                raise ValueError(
                    f"Expected a positive `{name}`. Received: {name}={value}"
                )
        self.directory = Path(directory)
        self.monitor = monitor
        self.every_epochs = every_epochs
        self.every_steps = every_steps or math.inf
        self.every_seconds = 60 * (every_minutes or math.inf)
        self.keep = keep
        self.settings = json.loads(json.dumps(settings or {}))
        self.counters: dict[str, keras.Variable] = {}
        self.exit_on_sigterm = exit_on_sigterm
        self._index = {
            "starts": 0,
            "settings": self.settings,
            "history": {},
            "checkpoints": [],
        }
        self._epoch = self._step = 0  # what is over
        self._seconds = 0.0  # of the steps of this epoch
        self._metrics = None  # of the steps of an epoch that was cut
        self._saved = None  # the last position that was
        self._writing: Future | None = None
        self._terminated = False

    @property
    def history(self) -> dict[str, list[float]]:
        return self._index["history"]

    @property
    def starts(self) -> int:
        return self._index["starts"]

    @property
    def position(self) -> tuple[int, int]:
        """How many epochs are over, and how many steps of the next one."""
        return self._epoch, self._step

    @property
    def best(self) -> dict[str, Any] | None:
        """`epoch` (how many were over), `value` and `path`, or None.

        Example:
            >>> checkpointing = keras_lt.callbacks.Checkpointing(
            ...     "checkpoints", monitor="val_accuracy"
            ... )
            >>> checkpointing.best is None  # before the first epoch
            True
        """
        if "best" not in self._index:
            return None
        best = self._index["best"]
        return {**best, "path": self.directory / best["file"]}

    def restore(self, model: keras.Model) -> int:
        """Loads the latest checkpoint into a compiled model, if there is one.

        Args:
            model: Built and compiled as when the checkpoint was written.

        Returns:
            The number of epochs that are over.

        Raises:
            ValueError: If the index can't be read, no checkpoint is whole, or
                they are those of another model or other settings.
        """
        _WRITER.submit(int).result()  # what is being written is written
        index = self.directory / "checkpoint.json"
        if index.exists():
            try:
                self._index = json.loads(index.read_text())
                self._refuse_other_settings()
                checkpoint = self._latest_whole()
                self._load(model, checkpoint)
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
        return self._epoch

    def _refuse_other_settings(self) -> None:
        found = self._index["settings"]
        for name in sorted({*found, *self.settings}):
            first, second = found.get(name), self.settings.get(name)
            if first != second:
                raise ValueError(_difference(name, first, second))

    def _latest_whole(self) -> dict[str, Any]:
        checkpoints = self._index["checkpoints"]
        for number, checkpoint in enumerate(checkpoints):
            damaged = [
                name
                for name, digest in checkpoint["files"].items()
                if _digest(self.directory / name) != digest
            ]
            if not damaged:
                self._index["checkpoints"] = checkpoints[number:]
                return checkpoint
            warnings.warn(
                f"{self.directory / damaged[0]} is damaged or missing; the "
                "checkpoint before it is used.",
                stacklevel=4,
            )
        raise ValueError("none of its files is whole")

    def _load(self, model: keras.Model, checkpoint: dict[str, Any]) -> None:
        weights, *metrics = checkpoint["files"]
        with model.distribute_strategy.scope():
            model.optimizer.build(model.trainable_variables)
        with warnings.catch_warnings():
            # Keras leaves out the state of another optimizer so.
            warnings.filterwarnings("error", "Skipping variable loading")
            model.load_weights(self.directory / weights)
        self._epoch, self._step = checkpoint["epoch"], checkpoint["step"]
        self._seconds = checkpoint["seconds"]
        self._saved = self._epoch, self._step
        for name, variable in self.counters.items():
            variable.assign(checkpoint.get("counters", {}).get(name, 0))
        for values in self.history.values():
            del values[self._epoch :]
        if metrics:
            with np.load(
                self.directory / metrics[0], allow_pickle=False
            ) as arrays:
                self._metrics = [arrays[name] for name in arrays.files]

    def spans(
        self,
        steps_per_epoch: int,
        last_step: int,
        epochs_a_span: int | None = None,
    ) -> Iterator[tuple[int, dict[str, int]]]:
        """What is left to train, as calls of `fit` with this callback.

        The rest of an epoch that was cut comes first, then whole epochs, then
        the steps of an epoch that `last_step` cuts.

        Args:
            steps_per_epoch: Steps.
            last_step: Steps of the whole training.
            epochs_a_span: None for as many epochs in a call as there are, or
                how many, counted from the first epoch of all.

        Yields:
            The step where the data go on, and `initial_epoch`, `epochs` and
            `steps_per_epoch` of the call.
        """
        while True:
            epoch, begin = self._epoch, self._epoch * steps_per_epoch
            begin += self._step
            if begin >= last_step:
                return
            until = last_step // steps_per_epoch
            if self._step or epoch >= until:
                until = epoch + 1
            elif epochs_a_span:
                whole = (epoch // epochs_a_span + 1) * epochs_a_span
                until = min(until, whole)
            left = steps_per_epoch - self._step
            yield (
                begin,
                {
                    "initial_epoch": epoch,
                    "epochs": until,
                    "steps_per_epoch": min(left, last_step - begin),
                },
            )

    def on_train_begin(self, logs: Any = None) -> None:
        self._steps_since, self._saved_at = 0, time.perf_counter()
        if self.exit_on_sigterm:
            self._handler = signal.signal(signal.SIGTERM, self._terminate)

    def _terminate(self, signum: int, frame: Any) -> None:
        self._terminated = True
        signal.signal(signal.SIGTERM, self._handler)  # a second one ends all

    def on_train_end(self, logs: Any = None) -> None:
        if self._saved != (self._epoch, self._step):
            self._save()
        self._collect()
        if self.exit_on_sigterm:
            signal.signal(signal.SIGTERM, self._handler)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._steps_before = self._step  # of an epoch that was cut
        self._last_batch = -1
        self._seconds_before = self._seconds
        self._begin = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        now = time.perf_counter()
        if self._metrics is not None:
            # Metrics are sums. `fit` has reset them, and before the first
            # step there may be none.
            variables = _metric_variables(self.model)
            for variable, value in zip(variables, self._metrics, strict=True):
                variable.assign(variable + value)
            self._metrics = None
        self._seconds = self._seconds_before + now - self._begin
        self._step = self._steps_before + batch + 1
        self._steps_since += batch - self._last_batch
        self._last_batch = batch
        is_due = (
            self._steps_since >= self.every_steps
            or now - self._saved_at >= self.every_seconds
        )
        # The end of the epoch writes its own.
        is_last = batch + 1 == self.params["steps"]
        is_over = self._terminated and self._is_chief()
        if is_over or (is_due and not is_last):
            self._save()
            # What it took is none of the steps' time.
            self._begin += time.perf_counter() - now
        if is_over:
            self._collect()
            raise SystemExit(128 + signal.SIGTERM)
        if self._writing is not None and self._writing.done():
            self._collect()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs = {
            **(logs or {}),
            "learning_rate": keras.ops.convert_to_numpy(
                self.model.optimizer.learning_rate
            ),
            "seconds": self._seconds,
        }
        for name, value in logs.items():
            if np.ndim(value) == 0:
                self.history.setdefault(name, []).append(float(value))
        self._epoch, self._step, self._seconds = epoch + 1, 0, 0.0
        is_best = False
        if self.monitor is not None:
            if self.monitor not in logs:
                raise KeyError(
                    f"Expected {self.monitor!r} in the logs. "
                    f"Received: {sorted(logs)}"
                )
            value = float(logs[self.monitor])
            best = self._index.get("best", {"value": -math.inf})
            is_best = value > best["value"]  # NaN is not
        if is_best:
            self._index["best"] = {
                "epoch": epoch + 1,
                "value": value,
                "file": f"{self._stem()}.weights.h5",
            }
        if is_best or self._epoch % self.every_epochs == 0:
            self._save()

    def _stem(self) -> str:
        within = f"-step-{self._step:06d}" if self._step else ""
        return f"epoch-{self._epoch:04d}{within}"

    def _save(self) -> None:
        """Copies the state, and has it written when the one before is."""
        self._saved = self._epoch, self._step
        self._steps_since, self._saved_at = 0, time.perf_counter()
        if not self._is_chief():
            return
        self._collect()
        state = [
            (variable, keras.ops.convert_to_numpy(variable))
            for variable in (
                *self.model.variables,
                *self.model.optimizer.variables,
            )
        ]
        trained = {id(variable) for variable in self.model.trainable_variables}
        for variable, value in state:
            if id(variable) in trained and not np.isfinite(value).all():
                raise FloatingPointError(
                    "Expected finite weights, to keep them. Received: "
                    f"{variable.path} after step {self._step} of epoch "
                    f"{self._epoch + 1}"
                )
        metrics = None
        _, processes = distribute.shard(self.model.distribute_strategy)
        if self._step and processes == 1:
            metrics = [
                keras.ops.convert_to_numpy(variable)
                for variable in _metric_variables(self.model)
            ]
        checkpoint = {
            "epoch": self._epoch,
            "step": self._step,
            "seconds": self._seconds,
            "counters": {
                name: int(keras.ops.convert_to_numpy(variable))
                for name, variable in self.counters.items()
            },
        }
        history = {name: [*values] for name, values in self.history.items()}
        self._writing = _WRITER.submit(
            self._write,
            self._stem(),
            state,
            metrics,
            checkpoint,
            {**self._index, "history": history},
        )

    def _is_chief(self) -> bool:
        return distribute.is_chief(self.model.distribute_strategy)

    def _collect(self) -> None:
        """Waits for the writing, and raises its error."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            self._index["checkpoints"] = writing.result()

    def _write(
        self,
        stem: str,
        state: list[tuple[keras.Variable, np.ndarray]],
        metrics: list[np.ndarray] | None,
        checkpoint: dict[str, Any],
        index: dict[str, Any],
    ) -> list[dict[str, Any]]:
        """Writes a checkpoint and the index; returns what this names then."""
        weights = _NamedBytes(f"{stem}.weights.h5")
        optimizer = self.model.optimizer
        with keras.StatelessScope(state):  # variables have these values here
            # While Keras saves an optimizer it makes another one, with
            # variables, which this scope does not allow.
            keras.saving.save_weights(
                self.model, weights, objects_to_skip=[optimizer]
            )
            with h5py.File(weights, "r+") as file:
                _save_optimizer(optimizer, file, "optimizer")
        contents = [weights]
        if metrics is not None:
            contents.append(_NamedBytes(f"{stem}.metrics.npz"))
            np.savez(contents[1], *metrics)
        checkpoint["files"] = {
            content.name: hashlib.sha256(content.getbuffer()).hexdigest()
            for content in contents
        }
        before = [
            other
            for other in index["checkpoints"]
            if weights.name not in other["files"]
        ]
        checkpoints = [checkpoint, *before][: self.keep]
        text = json.dumps({**index, "checkpoints": checkpoints})
        contents.append(_NamedBytes("checkpoint.json", text.encode()))
        for content in contents:
            path = self.directory / content.name
            try:
                self.directory.mkdir(parents=True, exist_ok=True)
                with files.replacing(path) as part:
                    part.write_bytes(content.getbuffer())
            except OSError as error:
                raise OSError(
                    "Expected a folder with room for checkpoints that can be "
                    f"written. Received: {path} ({error.strerror}); "
                    + (
                        f"{next(iter(before[0]['files']))} is as it was"
                        if before
                        else "there was none before"
                    )
                ) from error
        named = {index.get("best", {}).get("file")}
        for checkpoint in checkpoints:
            named.update(checkpoint["files"])
        for path in self.directory.glob("*epoch-*"):
            if path.name not in named:
                path.unlink()
        return checkpoints


class _NamedBytes(io.BytesIO):
    """A file in memory; `save_weights` asks for the ending of its name.

    HDF5 does not come back from a disk that is full while it writes to it.
    """

    def __init__(self, name: str, content: bytes = b""):
        super().__init__(content)
        self.name = name

    def __str__(self) -> str:
        return self.name


def _save_optimizer(
    optimizer: keras.optimizers.Optimizer, file: h5py.File, path: str
) -> None:
    """Lays the state of an optimizer out as Keras does."""
    optimizer.save_own_variables(file.create_group(f"{path}/vars"))
    if hasattr(optimizer, "inner_optimizer"):  # of a LossScaleOptimizer
        _save_optimizer(
            optimizer.inner_optimizer, file, f"{path}/inner_optimizer"
        )


def _difference(name: str, found: Any, wanted: Any) -> str:
    """What the error says of a setting; of a long list the first difference."""
    hint = ""
    if isinstance(found, list) and isinstance(wanted, list):
        if sorted(map(repr, found)) == sorted(map(repr, wanted)):
            hint = " (the same in another order)"
        if len(found) == len(wanted) and brief(found) == brief(wanted):
            place = next(i for i, v in enumerate(found) if v != wanted[i])
            name = f"{name}[{place}]"
            found, wanted = found[place], wanted[place]
    return (
        f"it is of {name}={brief(found)}, and this training of "
        f"{name}={brief(wanted)}{hint}"
    )


def _metric_variables(model: keras.Model) -> list[keras.Variable]:
    return [v for metric in model.metrics for v in metric.variables]


def _digest(path: Path) -> str | None:
    """SHA-256 of a file, None if there is none."""
    if not path.is_file():
        return None
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()
