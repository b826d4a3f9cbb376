"""`Checkpointing`: the state of a training on disk, whatever happens to it."""

import hashlib
import io
import json
import math
import os
import re
import signal
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import keras
import numpy as np

from keras_lt import distribute, files, model_files, trainable
from keras_lt.messages import brief

# One thread for all checkpoints of the process, which waits for it in the end.
_WRITER = ThreadPoolExecutor(1, "checkpoints")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# What a file of a checkpoint is called, by epochs and steps that are over.
_STEM = re.compile(r"epoch-(\d+)(?:-step-(\d+))?")
_DIGEST = re.compile("[0-9a-f]{64}")
_AVERAGES = "averages"  # beside what Keras keeps in a file of weights


class Checkpointing(keras.callbacks.Callback):
    """Keeps the state of a training, so that it goes on wherever it is cut.

    A checkpoint is weights, optimizer state and, within an epoch, the metrics
    so far. Weights that training does not change are left out, but for a digest
    of them: a model has them before `restore`. It is written first, and then,
    in one atomic step, an index (`checkpoint.json`) that names it: at any
    moment the index names files that are whole. Files that it no longer names
    are removed. On a stream that seeks
    (`keras_lt.streams.stream(start_step=...)`) a training that was killed ends
    with the very weights of one that was not, if its ops are deterministic.

    It is written by hand since Keras' `BackupAndRestore` begins an epoch that
    was cut anew, `OrbaxCheckpoint` leaves the restart to its user, and neither
    keeps the metrics of a part of an epoch, finds a damaged file by its digest,
    or answers SIGTERM.

    Training waits only until the state is copied to the host's memory; a thread
    writes the copy. An error of that thread is raised at the end of the next
    step, a checkpoint that is due while another is being written waits for it,
    and the end of training waits for the last one.

    Of several processes the first one writes, and all restore what it wrote, so
    they share the folder. It alone can't know the metrics of all: those of an
    epoch that was cut are of the rest of it then. By a signal it ends all,
    which can't go on without it.

    Args:
        directory: Where the files are; made when training begins, if absent. If
            it is deleted after that, the next checkpoint is an error.
        monitor: Name in the logs by which the best epoch is chosen, larger
            being better; None keeps no best one.
        save_freq_epochs: Epochs between checkpoints; the last epoch of a `fit`
            has one too.
        save_freq_steps: Steps between checkpoints within an epoch.
        save_freq_minutes: Minutes between checkpoints within an epoch.
        max_to_keep: How many checkpoints are kept, beside the best one. In the
            place of a damaged one the one before it is used.
        settings: {name: value} of JSON that a training must share with the one
            that it goes on with, such as its class names.
        exit_on_sigterm: Whether SIGTERM, and SIGINT as of Ctrl+C, write a
            checkpoint after the step or epoch and end the process with status
            143 or 130. While the loop over `spans` or, without one, a `fit`
            lasts, their handlers are replaced. A second signal ends the process
            at once.

    Attributes:
        counters: {name: integer variable}, to be filled before `restore`: what
            belongs to the state beside model and optimizer.
        averages: A variable for each weight of the model, to be there before
            `restore`, or None; `AveragedWeights` gives them.
        history: One list a logged scalar, one value per epoch, over all starts;
            with `seconds` (training steps only) and `learning_rate`.
        starts: How many times a training was started with this directory.

    Raises:
        KeyError: If the logs have no `monitor`.
        OSError: In training, if a checkpoint can't be written. The one before
            is what it was.
        ValueError: If an interval or `max_to_keep` is not positive.

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
        save_freq_epochs: int = 1,
        save_freq_steps: int | None = None,
        save_freq_minutes: float | None = None,
        max_to_keep: int = 2,
        settings: dict[str, Any] | None = None,
        exit_on_sigterm: bool = False,
    ):
        super().__init__()
        for name, value in (
            ("save_freq_epochs", save_freq_epochs),
            ("save_freq_steps", save_freq_steps),
            ("save_freq_minutes", save_freq_minutes),
            ("max_to_keep", max_to_keep),
        ):
            if value is not None and not value > 0:
                raise ValueError(
                    f"Expected a positive `{name}`. Received: {name}={value}"
                )
        self.directory = Path(directory)
        self.monitor = monitor
        self.save_freq_epochs = save_freq_epochs
        self.save_freq_steps = save_freq_steps or math.inf
        self.save_freq_seconds = 60 * (save_freq_minutes or math.inf)
        self.max_to_keep = max_to_keep
        self.settings = json.loads(json.dumps(settings or {}))
        self.counters: dict[str, keras.Variable] = {}
        self.averages: list[keras.Variable] | None = None
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
        self._frozen: _Frozen | None = None
        self._writing: Future | None = None
        self._is_made = False  # the directory
        self._signal: int | None = None  # that came
        self._handlers: dict[int, Any] = {}  # that were replaced
        self._within_spans = False

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

    def load_best(self, model: keras.Model) -> None:
        """Gives a model the weights of the best epoch.

        They are averages, where the training was with `AveragedWeights`.

        Args:
            model: Model of the training.

        Raises:
            ValueError: If there is no best epoch, or its file is damaged.

        Example:
            >>> checkpointing = keras_lt.callbacks.Checkpointing(
            ...     "checkpoints", monitor="val_accuracy"
            ... )
            >>> if checkpointing.best:
            ...     checkpointing.load_best(model)
        """
        if self.best is None:
            raise ValueError(
                "Expected a training with a best epoch. "
                f"Received: {self.directory}, which holds none"
            )
        path = self.best["path"]
        try:
            if not model_files.load_trained(model, path):
                model.load_weights(path)
            _load_averages(path, model.weights, needed=False)
        except Exception as error:  # HDF5 and Keras raise all kinds
            raise ValueError(
                "Expected the weights of the best epoch. "
                f"Received: {path}, which can't be read: {error}"
            ) from error

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
        trainable.build_optimizer(model)
        index = self.directory / "checkpoint.json"
        if index.exists():
            try:
                self._index = _checked(json.loads(index.read_text()))
                self._refuse_other_settings()
                self._refuse_damaged_best()
                checkpoint = self._latest_whole()
                self._load(model, checkpoint)
            except MemoryError:
                raise
            except Exception as error:  # HDF5 and Keras raise all kinds
                raise ValueError(
                    "Expected a checkpoint of this model. Received: "
                    f"{index}, which can't be restored: {error}"
                ) from error
        self._index["starts"] += 1
        return self._epoch

    def _refuse_other_settings(self) -> None:
        # An index of an older version may lack some.
        for name, first in sorted(self._index["settings"].items()):
            second = self.settings.get(name)
            if first != second:
                raise ValueError(_difference(name, first, second))

    def _refuse_damaged_best(self) -> None:
        best = self.best
        # Older indices hold no digest.
        if best and best.get("sha256") not in (None, _digest(best["path"])):
            raise ValueError(
                f"{best['path']}, of the best epoch, is damaged or missing"
            )

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
        with warnings.catch_warnings():
            # Keras leaves out the state of another optimizer so.
            warnings.filterwarnings("error", "Skipping variable loading")
            if model_files.load_trained(model, self.directory / weights):
                with h5py.File(self.directory / weights) as file:
                    _load_optimizer(model.optimizer, file, "optimizer")
            else:
                model.load_weights(self.directory / weights)
        if self.averages is not None:
            _load_averages(self.directory / weights, self.averages)
        self._epoch, self._step = checkpoint["epoch"], checkpoint["step"]
        self._seconds = checkpoint["seconds"]
        self._saved = self._epoch, self._step
        for name, variable in self.counters.items():
            variable.assign(checkpoint.get("counters", {}).get(name, 0))
        for values in self.history.values():
            del values[self._epoch :]
        if metrics:
            arrays = files.read_arrays(self.directory / metrics[0])
            self._metrics = [*arrays.values()]

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
        self._within_spans = True
        try:
            self._catch_signals()
            yield from self._spans(steps_per_epoch, last_step, epochs_a_span)
        finally:  # also if the body of the loop raises
            self._within_spans = False
            self._release_signals()

    def _spans(
        self, steps_per_epoch: int, last_step: int, epochs_a_span: int | None
    ) -> Iterator[tuple[int, dict[str, int]]]:
        while True:
            epoch, begin = self._epoch, self._epoch * steps_per_epoch
            begin += self._step
            epochs = math.ceil(last_step / steps_per_epoch)
            if (
                begin > epochs * steps_per_epoch
                or self._step >= steps_per_epoch
            ):
                raise ValueError(
                    f"Expected a checkpoint of a training of {last_step} "
                    f"steps, {steps_per_epoch} per epoch. Received: "
                    f"{self.directory} at epoch {epoch}, step {self._step}"
                )
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
        if not self._is_made and self._is_chief():
            self.directory.mkdir(parents=True, exist_ok=True)
            self._is_made = True
        self._steps_since, self._saved_at = 0, time.perf_counter()
        self._catch_signals()
        self._exit_if_told()  # it came between two calls of `fit`

    def _catch_signals(self) -> None:
        if not self.exit_on_sigterm or self._handlers:
            return
        for signum in _SIGNALS:
            self._handlers[signum] = signal.signal(signum, self._told)

    def _release_signals(self) -> None:
        for signum, handler in self._handlers.items():
            signal.signal(signum, handler)
        self._handlers = {}

    def _told(self, signum: int, frame: Any) -> None:
        if not self._within_spans and not self._is_in_fit(frame):
            # `fit` was ended by an error, which no callback is told of.
            self._release_signals()
            signal.raise_signal(signum)
            return
        self._signal = signum
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)

    def _is_in_fit(self, frame: Any) -> bool:
        while frame is not None:
            code = frame.f_code
            if code.co_name == "fit" and (
                frame.f_locals.get("self") is self.model
            ):
                return True
            frame = frame.f_back
        return False

    def _exit_if_told(self) -> None:
        """Ends the process if a signal came; the state is saved."""
        if self._signal is not None and self._is_chief():
            self._collect()
            self._release_signals()
            raise SystemExit(128 + self._signal)

    def on_train_end(self, logs: Any = None) -> None:
        if self._saved != (self._epoch, self._step):
            self._save()
        self._collect()
        self._exit_if_told()
        if not self._within_spans:
            self._release_signals()

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
            self._steps_since >= self.save_freq_steps
            or now - self._saved_at >= self.save_freq_seconds
        )
        # The end of the epoch writes its own.
        is_last = batch + 1 == self.params["steps"]
        is_over = self._signal is not None and self._is_chief()
        if (is_over or is_due) and not is_last:
            self._save()
            # What it took is none of the steps' time.
            self._begin += time.perf_counter() - now
        if not is_last:
            self._exit_if_told()
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
        is_over = self._signal is not None and self._is_chief()
        if is_best or is_over or self._epoch % self.save_freq_epochs == 0:
            self._save()
        self._exit_if_told()

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
        state = self._copied_state()
        metrics = None
        _, processes = distribute.shard(self.model.distribute_strategy)
        if self._step and processes == 1:
            metrics = [
                keras.ops.convert_to_numpy(variable)
                for variable in _metric_variables(self.model)
            ]
        averages = None
        if self.averages is not None:
            averages = {
                i: keras.ops.convert_to_numpy(average)
                for i, (weight, average) in enumerate(
                    zip(self.model.weights, self.averages, strict=True)
                )
                if id(weight) not in self._frozen.ids
            }
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
            averages,
            metrics,
            checkpoint,
            {**self._index, "history": history},
        )

    def _copied_state(self) -> list[tuple[keras.Variable, np.ndarray]]:
        """Values of the variables of model and optimizer that change."""
        if self._frozen is None:  # they stay the same ones
            weights = trainable.frozen_weights(self.model)
            self._frozen = _Frozen(
                {id(weight) for weight in weights},
                model_files.frozen_digest(self.model),
            )
        state = [
            (variable, keras.ops.convert_to_numpy(variable))
            for variable in (
                *self.model.variables,
                *self.model.optimizer.variables,
            )
            if id(variable) not in self._frozen.ids
        ]
        trained = {id(variable) for variable in self.model.trainable_variables}
        for variable, value in state:
            if id(variable) in trained and not np.isfinite(value).all():
                raise FloatingPointError(
                    "Expected finite weights, to keep them. Received: "
                    f"{variable.path} after step {self._step} of epoch "
                    f"{self._epoch + 1}"
                )
        return state

    def _is_chief(self) -> bool:
        return distribute.is_chief(self.model.distribute_strategy)

    def _collect(self) -> None:
        """Waits for the writing, and raises its error."""
        if self._writing is not None:
            writing, self._writing = self._writing, None
            written = writing.result()
            self._index["checkpoints"] = written["checkpoints"]
            best = written.get("best")
            if best and best["file"] == self._index["best"]["file"]:
                self._index["best"] = best  # with its digest

    def _write(
        self,
        stem: str,
        state: list[tuple[keras.Variable, np.ndarray]],
        averages: dict[int, np.ndarray] | None,
        metrics: list[np.ndarray] | None,
        checkpoint: dict[str, Any],
        index: dict[str, Any],
    ) -> dict[str, Any]:
        """Writes a checkpoint and the index; returns the index."""
        weights = self._weights_file(stem, state, averages)
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
        index["checkpoints"] = [checkpoint, *before][: self.max_to_keep]
        best = index.get("best", {})
        if best.get("file") == weights.name:
            index["best"] = {
                **best,
                "sha256": checkpoint["files"][best["file"]],
            }
        text = json.dumps(index)
        contents.append(_NamedBytes("checkpoint.json", text.encode()))
        for content in contents:
            path = self.directory / content.name
            try:
                with files.replacing(path) as part:
                    part.write_bytes(content.getbuffer())
            except OSError as error:
                left = (
                    f"{next(iter(before[0]['files']))} is as it was"
                    if before
                    else "there was none before"
                )
                raise OSError(f"{error}; {left}") from error
        named = {best.get("file")}
        for checkpoint in index["checkpoints"]:
            named.update(checkpoint["files"])
        for path in self.directory.glob("epoch-*"):
            is_ours = _STEM.fullmatch(path.name.partition(".")[0])
            if is_ours and path.name not in named:
                path.unlink(missing_ok=True)
        return index

    def _weights_file(
        self,
        stem: str,
        state: list[tuple[keras.Variable, np.ndarray]],
        averages: dict[int, np.ndarray] | None,
    ) -> "_NamedBytes":
        """Weights, state of the optimizer, and averages, as a file in memory.

        It is laid out as Keras does, but for weights where some are frozen.
        """
        weights = _NamedBytes(f"{stem}.weights.h5")
        optimizer = self.model.optimizer
        whole = self._frozen.sha256 is None
        with keras.StatelessScope(state):  # variables have these values here
            if whole:
                # While Keras saves an optimizer it makes another one, with
                # variables, which this scope does not allow.
                keras.saving.save_weights(
                    self.model, weights, objects_to_skip=[optimizer]
                )
            with h5py.File(weights, "r+" if whole else "w") as file:
                if not whole:
                    changing = trainable.changing_weights(self.model)
                    model_files.save_trained(
                        file, changing, self._frozen.sha256
                    )
                _save_optimizer(optimizer, file, "optimizer")
                for i, average in (averages or {}).items():
                    file[f"{_AVERAGES}/{i}"] = average
        return weights


class _Frozen(NamedTuple):
    """Weights that training does not change: their ids, and a digest."""

    ids: set[int]
    sha256: str | None


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


def _load_optimizer(
    optimizer: keras.optimizers.Optimizer, file: h5py.File, path: str
) -> None:
    """Reads what `_save_optimizer` wrote."""
    optimizer.load_own_variables(file[f"{path}/vars"])
    if hasattr(optimizer, "inner_optimizer"):
        _load_optimizer(
            optimizer.inner_optimizer, file, f"{path}/inner_optimizer"
        )


def _load_averages(
    path: Path, variables: list[keras.Variable], needed: bool = True
) -> None:
    """Gives variables the averages of a file, which may have to hold some."""
    with h5py.File(path) as file:
        found = file.get(_AVERAGES)
        if found is None:
            if needed:
                raise ValueError(f"{path} holds no averages of weights")
            return
        for i, variable in enumerate(variables):
            if str(i) in found:  # those of frozen weights are not
                variable.assign(found[str(i)][()])


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


def _checked(index: Any) -> dict[str, Any]:
    """An index as `_write` writes it.

    Raises:
        ValueError: If it is something else, or names files that are not those
            of its epochs.
    """
    _expect(index, dict, "the index")
    for name, kind in (
        ("starts", int),
        ("settings", dict),
        ("history", dict),
        ("checkpoints", list),
    ):
        _expect(index.get(name), kind, name)
    for name, values in index["history"].items():
        _expect(values, list, f"history.{name}")
        for value in values:
            _expect(value, float, f"history.{name}")
    for number, checkpoint in enumerate(index["checkpoints"]):
        _check_checkpoint(checkpoint, f"checkpoints[{number}]")
        # Each epoch leaves its seconds there.
        seconds = index["history"].get("seconds", [])
        if checkpoint["epoch"] > len(seconds):
            raise ValueError(
                f"checkpoints[{number}] is of {checkpoint['epoch']} epochs, "
                f"and its history of {len(seconds)}"
            )
    if "best" in index:
        best = index["best"]
        _expect(best, dict, "best")
        _expect(best.get("epoch"), int, "best.epoch")
        _expect(best.get("value"), float, "best.value")
        _check_file(best.get("file"), best["epoch"], 0, "best.file")
        if "sha256" in best:
            _check_digest(best["sha256"], "best.sha256")
    return index


def _check_checkpoint(checkpoint: Any, where: str) -> None:
    _expect(checkpoint, dict, where)
    for name, kind in (
        ("epoch", int),
        ("step", int),
        ("seconds", float),
        ("files", dict),
    ):
        _expect(checkpoint.get(name), kind, f"{where}.{name}")
    counters = checkpoint.get("counters", {})
    _expect(counters, dict, f"{where}.counters")
    for name, value in counters.items():
        _expect(value, int, f"{where}.counters.{name}")
    if not 1 <= len(checkpoint["files"]) <= 2:
        raise ValueError(f"{where} has {len(checkpoint['files'])} files")
    ends = (".weights.h5", ".metrics.npz")
    for end, (name, digest) in zip(
        ends, checkpoint["files"].items(), strict=False
    ):
        position = checkpoint["epoch"], checkpoint["step"]
        _check_file(name, *position, f"{where}.files", end)
        _check_digest(digest, f"{where}.files.{name}")


def _check_file(
    name: Any, epoch: int, step: int, where: str, end: str = ".weights.h5"
) -> None:
    _expect(name, str, where)
    found = _STEM.fullmatch(name.removesuffix(end))
    position = (int(found[1]), int(found[2] or 0)) if found else None
    if not name.endswith(end) or position != (epoch, step):
        raise ValueError(
            f"{where} is {name!r:.80}, and not the {end} file of epoch "
            f"{epoch}, step {step}"
        )


def _check_digest(digest: Any, where: str) -> None:
    _expect(digest, str, where)
    if not _DIGEST.fullmatch(digest):
        raise ValueError(f"{where} is no SHA-256: {digest!r:.80}")


def _expect(value: Any, kind: type, where: str) -> None:
    """Raises ValueError where a value is not of its kind.

    Integers are counts, of at least 0, and floats may be written as integers.
    """
    kinds = (int, float) if kind is float else kind
    is_right = isinstance(value, kinds) and not isinstance(value, bool)
    if not is_right or (kind is int and value < 0):
        raise ValueError(f"{where} is {value!r:.80}, and no {kind.__name__}")
