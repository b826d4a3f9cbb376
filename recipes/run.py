"""The folder of a run, what it keeps, and how a recipe ends.

A recipe imports this after `command.parse`: it needs TensorFlow.
"""

import contextlib
import errno
import fcntl
import functools
import hashlib
import json
import os
import re
import signal
import stat
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import command
import flag_groups
import keras
import numpy as np
import tensorflow as tf
from absl import flags, logging

from keras_lt import datasets, distribute, files, specs
from keras_lt.messages import one_line

# First line of a run's flags.cfg, which is a flag file itself.
HEADER = "# The flags of a run of recipes/"
# What a run writes when its training is over.
RESULTS = (
    "report.html",
    "model.keras",
    "saved_model/variables/variables.*",
    "saved_model/assets",
    "saved_model/saved_model.pb",
    "saved_model/fingerprint.pb",
    "saved_model/labels.txt",
    "saved_model/images.json",
    "saved_model/MODEL_CARD.md",
    "saved_model/README.md",
    "model.tflite",
    "logits.npz",
)
_CALIBRATED = "saved_model_calibrated"  # by tools/evaluate.py --calibrate
# Patterns of what a run writes, in the order in which it is deleted: a run that
# has no result is not finished, and one that has flags is still known as a run.
# Nothing else is deleted.
OUTPUTS = (
    "result.json",
    *RESULTS,
    *(
        each.replace("saved_model", _CALIBRATED, 1)
        for each in RESULTS
        if each.startswith("saved_model/")
    ),
    f"{_CALIBRATED}/fitted.json",
    "evaluation.html",
    "selection.html",
    "division.html",
    "division_test.html",
    "draws/round-*.npz",
    "features/*.npy",
    "made_from.json",
    *(
        f"checkpoints/{name}"
        for name in (
            "checkpoint.json",
            "epoch-*.weights.h5",
            "epoch-*.metrics.npz",
            "level-*.weights.h5",
            "levels.json",
        )
    ),
    *(
        f"tensorboard/{folder}events.out.tfevents.*"
        for folder in ("", "draws/")
    ),
    "flags.cfg",
)
MADE_FROM = "made_from.json"
_CHOSEN = "# chosen: --"  # a line of flags.cfg: a flag, and why it was chosen
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# What Python code that tf.data calls has raised, in the error of an op.
_RAISED_IN_STREAM = re.compile(r"\b\w+Error: (.+?)\nTraceback ", re.DOTALL)


class Run:
    """The folder of one run, held while the context lasts.

    Its `flags.cfg` holds the flags that the run was started with, written with
    the first other file, so that a start that was refused before leaves no run.
    Its `result.json`, written last, says that the run is over. Nobody else can
    enter a folder that is held: the chief has locked its `.lock`. If that is
    deleted or replaced, with the folder or without, the run ends before it
    writes anything else. Of the processes that train together the chief holds
    the folder and writes; the others read.

    Args:
        path: The folder; made if absent.
        values: The flags of the recipe.
        strategy: Of the run.
        overwrite: Whether a run that is there is deleted.
        chosen: {flag: reason} of the flags that no user gave.

    Attributes:
        path: The folder.
        chosen: As given.
        flags: {name: value} of the flags that a run can't change.
        strategy: The strategy.
        is_chief: Whether this process writes.

    Raises:
        OSError: On entering, if the folder can't be written.
        ValueError: On entering, if it holds something else, a run with other
            flags, or a run that is going on.
    """

    def __init__(
        self,
        path: str | None,
        values: flags.FlagValues,
        strategy: tf.distribute.Strategy,
        overwrite: bool = False,
        chosen: Mapping[str, str] | None = None,
    ):
        self.path = Path(_checked_path(path))
        self.chosen = dict(chosen or {})
        self.strategy = strategy
        self.is_chief = distribute.is_chief(strategy)
        compared = flag_groups.compared(values)
        self.flags = {
            flag.name: files.printable(flag.value)
            if isinstance(flag.value, str)
            else flag.value
            for flag in compared
        }
        lines = (files.printable(flag.serialize()) for flag in compared)
        self._lines = [HEADER + os.path.basename(sys.argv[0])]
        self._lines += [line for line in lines if line]
        self._lines += [
            f"{_CHOSEN}{name}: {files.printable(reason)}"
            for name, reason in self.chosen.items()
        ]
        self._overwrite = overwrite

    def __enter__(self) -> "Run":
        if self.is_chief:
            self._begin()
        distribute.wait_for_all(self.strategy)
        return self

    def _begin(self) -> None:
        self._refuse_foreign()
        self._lock = self._locked()
        try:
            self._refuse_links()
            files.delete_parts(self.path)
            started = self.path / "flags.cfg"
            if self._overwrite and started.exists():
                # What a user has put there is still beside flags of ours.
                self._delete(OUTPUTS)
                self._keep_flags()
            if started.exists():
                self._compare(_read_lines(started))
            if not self.finished:
                self._refuse_what_is_in_the_way()
        except BaseException:
            os.close(self._lock)
            raise

    def __exit__(self, kind: type | None, *exception: Any) -> None:
        if self.is_chief:
            os.close(self._lock)
        if kind is None:
            distribute.wait_for_all(self.strategy)

    # --- What is refused -----------------------------------------------------

    def _refuse_foreign(self) -> None:
        """Only a run's folder has both a lock and flags of ours.

        A user may have copied a `flags.cfg` to use it as a flag file.
        """
        if not self.path.is_dir():
            return
        started, lock = self.path / "flags.cfg", self.path / ".lock"
        if _is_regular(started) and _is_regular(lock):
            if "".join(_read_lines(started)[:1]).startswith(HEADER):
                return
        foreign = sorted(
            entry.name
            for entry in self.path.iterdir()
            if not _is_regular(lock)
            or (entry != lock and not entry.name.startswith(files.PART))
        )
        if foreign:
            raise ValueError(
                "Expected --workdir to be new, empty, or the folder of a run, "
                "with its flags.cfg and .lock. "
                f"Received: --workdir={self.path} with {foreign[0]} in it"
            )

    def _refuse_links(self) -> None:
        """What a run writes or deletes is in its own folder."""
        names = {Path(pattern).parts[0] for pattern in OUTPUTS}
        names.add("tensorboard/draws")
        for path in (self.path / name for name in sorted(names)):
            if path.is_symlink():
                raise ValueError(
                    "Expected a --workdir whose files are no symbolic links. "
                    f"Received: {path}, which leads to {os.readlink(path)}"
                )

    def _refuse_what_is_in_the_way(self) -> None:
        """Refuses what `discard_results` would leave where results go."""
        ours = {path for each in RESULTS for path in self.path.glob(each)}
        ours |= {(self.path / each).parent for each in RESULTS}
        for name in sorted({Path(each).parts[0] for each in RESULTS}):
            path = self.path / name
            wrong = [each for each in path.rglob("*") if each not in ours]
            if path.exists() and path.is_dir() != (name == "saved_model"):
                wrong = [path]
            if wrong:
                raise ValueError(
                    "Expected nothing where the run will write. "
                    f"Received: {min(wrong)}"
                )

    def _locked(self) -> int:
        """The lock file, open; what is in it does not matter."""
        path = self.path / ".lock"
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = os.open(
                path,
                os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK,
                0o666,
            )
        except OSError as error:
            raise OSError(
                "Expected a --workdir that can be written, and whose .lock is "
                f"a file. Received: --workdir={self.path} ({error.strerror})"
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(lock)
            raise ValueError(
                "Expected a --workdir that no other process is using. "
                f"Received: --workdir={self.path}"
            ) from error
        return lock

    def _compare(self, lines: list[str]) -> None:
        before, now = (
            {line for line in each if not line.startswith(_CHOSEN)}
            for each in (lines, self._lines)
        )
        if before != now:
            found, wanted = sorted(before - now), sorted(now - before)
            raise ValueError(
                f"Expected the flags of the run in {self.path} (or another "
                "--workdir, or --overwrite). Received: "
                f"{' '.join(wanted) or 'defaults'} where the run has "
                f"{' '.join(found) or 'defaults'}"
            )

    # --- What is written -----------------------------------------------------

    def check(self) -> None:
        """Makes sure that the folder is held, and has its flags.

        Raises:
            FileNotFoundError: If it was deleted or replaced.
        """
        if not self.is_chief:
            return
        held = os.fstat(self._lock)
        try:
            found = os.stat(self.path / ".lock", follow_symlinks=False)
            is_held = os.path.samestat(held, found)
        except OSError:
            is_held = False
        if not is_held:
            raise FileNotFoundError(
                "Expected the --workdir to stay where it was. Received: "
                f"--workdir={self.path}, which was deleted or replaced while "
                "the run was going on"
            )
        if not (self.path / "flags.cfg").exists():
            self._keep_flags()

    def _keep_flags(self) -> None:
        with files.replacing(self.path / "flags.cfg") as part:
            part.write_text("\n".join(self._lines) + "\n", "utf-8")

    def callback(self) -> keras.callbacks.Callback:
        """The first one of a training: it checks the folder at each step."""
        return _Held(self)

    def write(self, name: str, write: Callable[[Path], Any]) -> None:
        """The chief writes a file by `write(path)`, at once or not at all."""
        if not self.is_chief:
            return
        self.check()
        path = self.path / name
        path.parent.mkdir(exist_ok=True)
        with files.replacing(path) as part:
            write(part)

    def made_from(self, name: str, key: Mapping[str, Any]) -> bool:
        """Whether an artifact is of an earlier start, made from the same.

        Artifacts made from something else are refused; those of which nothing
        says what they were made from are made anew.

        Args:
            name: File or folder within the run's.
            key: What it is made from, {name: JSON value}, such as digests.

        Raises:
            ValueError: If it was made from something else.
        """
        path, index = self.path / name, self._read_index()
        key = json.loads(json.dumps(key))
        exists = path.exists()
        if exists and name in index and index[name] != key:
            found = index[name]
            other = [each for each in key if key[each] != found.get(each)]
            raise ValueError(
                f"Expected what {path} was made from (or another --workdir, or "
                f"--overwrite). Received: other {' and '.join(other)}"
            )
        is_known = exists and name in index
        # The key comes first: no artifact is ever without one.
        if index.get(name) != key:
            text = json.dumps({**index, name: key}, indent=1)
            self.write(MADE_FROM, lambda part: part.write_text(text, "utf-8"))
        return is_known

    def _read_index(self) -> dict[str, Any]:
        path = self.path / MADE_FROM
        if not path.exists():
            return {}
        try:
            return {
                name: dict(key)
                for name, key in json.loads(path.read_text("utf-8")).items()
            }
        except (AttributeError, RecursionError, TypeError, ValueError) as error:
            raise ValueError(
                f"Expected what a run keeps of its origins. Received: {path} "
                f"({error})"
            ) from error

    def discard_results(self) -> None:
        """Deletes what a start that was cut while finishing has left."""
        self._delete(RESULTS)

    def _delete(self, patterns: Iterable[str]) -> None:
        """Deletes files, and the folders that they leave empty."""
        for pattern in patterns:
            for path in sorted(self.path.glob(pattern), reverse=True):
                if path.is_dir() and not path.is_symlink():
                    with contextlib.suppress(OSError):  # a user's files
                        path.rmdir()
                else:
                    path.unlink(missing_ok=True)
            folder = (self.path / pattern).parent
            while folder != self.path:
                with contextlib.suppress(OSError):
                    folder.rmdir()
                folder = folder.parent

    # --- What is told --------------------------------------------------------

    @property
    def finished(self) -> bool:
        return (self.path / "result.json").exists()

    @property
    def name(self) -> str | None:
        """Names of the flag files on the command line, or None."""
        names = [
            Path(argument.partition("=")[2]).stem
            for argument in sys.argv
            if argument.startswith("--flagfile=")
        ]
        return "_".join(names) or None

    def say_where(self) -> None:
        """The chief prints what is in the folder."""
        if not self.is_chief:
            return
        for title, name in (
            ("report", "report.html"),
            ("result", "result.json"),
            ("Keras model", "model.keras"),
            ("SavedModel", "saved_model"),
            ("TensorBoard", "tensorboard"),
        ):
            print(f"{title + ':':13}{self.path / name}")


def complete(
    values: flags.FlagValues,
    strategy: tf.distribute.Strategy,
    make: Callable[[Run], None],
    chosen: Mapping[str, str] | None = None,
) -> None:
    """Makes a run in --workdir, and leaves one that is finished as it is.

    Args:
        values: The flags of the recipe.
        strategy: The strategy.
        make: Trains, scores and exports what is not finished.
        chosen: {flag: reason} of the flags that no user gave.
    """
    with Run(values.workdir, values, strategy, values.overwrite, chosen) as run:
        if run.finished:
            print(f"Finished before; nothing is changed in {run.path}.")
        else:
            make(run)
        run.say_where()


class _Held(keras.callbacks.Callback):
    def __init__(self, run: Run):
        super().__init__()
        self._run = run

    def on_train_begin(self, logs: Any = None) -> None:
        self._run.check()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._run.check()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._run.check()


@functools.lru_cache(maxsize=2)
def digest_of_images(dataset: datasets.Dataset) -> str:
    """Tells data sets apart by labels, and by pixels or the names of files."""
    shape = dataset.image_shape
    if dataset.framing != "center":
        shape = *shape, dataset.framing
    digest = hashlib.sha256(repr((dataset.class_names, shape)).encode())
    digest.update(np.ascontiguousarray(dataset.labels))
    if isinstance(dataset, datasets.FileDataset):
        for index in range(len(dataset)):
            name = os.path.basename(dataset.name(index))  # folders may move
            digest.update(f"{name}\n".encode("utf-8", "surrogatepass"))
    else:
        digest.update(np.ascontiguousarray(dataset.images))
    return digest.hexdigest()


def digest_of_model(model: keras.Model) -> str:
    """Tells models apart by their weights."""
    digest = hashlib.sha256()
    for weight in model.get_weights():
        digest.update(repr((weight.shape, str(weight.dtype))).encode())
        digest.update(np.ascontiguousarray(weight).tobytes())
    return digest.hexdigest()


def flag_of_run(path: str | os.PathLike, name: str) -> str | None:
    """Returns the value of a flag in the run that a folder holds, if any."""
    started = Path(path) / "flags.cfg"
    lines = _read_lines(started) if started.is_file() else ()
    values = dict(line.split("=", 1) for line in lines if "=" in line)
    return values.get(f"--{name}")


def chosen_of_run(path: str | os.PathLike) -> dict[str, str]:
    """Returns {flag: reason} of what was chosen in the run of a folder."""
    started = Path(path) / "flags.cfg"
    lines = _read_lines(started) if started.is_file() else ()
    chosen = (
        line.removeprefix(_CHOSEN).partition(": ")
        for line in lines
        if line.startswith(_CHOSEN)
    )
    return {name: reason for name, _, reason in chosen}


def run_app(main: Callable[[], None], values: flags.FlagValues) -> None:
    """Runs a recipe, with one line for what a user got wrong.

    SIGINT, as of Ctrl+C, and SIGTERM end it with one line and the status 130 or
    143; what is being written is left as it was before. A second signal ends
    the process at once. A training may put handlers of its own in place for a
    while (`keras_lt.callbacks.Checkpointing`).

    Args:
        main: The recipe.
        values: Its flags, parsed already or not.
    """
    if not values.is_parsed():
        command.read(values, sys.argv)
    logging.set_verbosity(logging.ERROR)
    tf.get_logger().setLevel("ERROR")
    files.escape_output()

    def fail(error: BaseException | str) -> None:
        if values.traceback and sys.exc_info()[0]:
            traceback.print_exc()
        command.fail(error)

    try:
        _write_specs_in_one_form(values)
        with _ending_by_signals():
            main()
    except SystemExit as end:
        ends = {128 + signum: signum.name for signum in _SIGNALS}
        if end.code in ends:
            print(
                f"{os.path.basename(sys.argv[0])}: ended by {ends[end.code]}; "
                "the same command goes on where it was cut",
                file=sys.stderr,
            )
        raise
    except tf.errors.OpError as error:
        fail(_of_operation(error))
    except MemoryError as error:
        fail(_of_memory(error))
    except (ValueError, TypeError, OSError, ArithmeticError) as error:
        fail(error)


def _write_specs_in_one_form(values: flags.FlagValues) -> None:
    """The same spec is the same text in flags.cfg, records and reports."""
    for flag in flag_groups.specs(values):
        if flag.value is None:
            continue
        try:
            float(flag.value)
        except ValueError:  # no number, which --learning_rate may be
            flag.value = str(specs.parse_chain(flag.value))


def _of_memory(error: BaseException) -> str:
    if os.strerror(errno.ENOSPC) in str(error):
        return f"Expected a disk with room. Received: {error}"
    return (
        "Expected more memory or a smaller --batch_size. Received: "
        f"{one_line(error) or type(error).__name__}"
    )


def _of_operation(error: tf.errors.OpError) -> str:
    """What a user is told of an error of TensorFlow."""
    if isinstance(error, tf.errors.ResourceExhaustedError):
        return _of_memory(error)
    raised = _RAISED_IN_STREAM.search(error.message)
    if raised:
        return raised[1]
    if "Collective ops is aborted" not in error.message:
        return f"{type(error).__name__}: {error.message}"
    process = re.search(r"/job:\S+/task:\d+", error.message)
    return (
        "Expected all processes of the run to go on. Received: the end of "
        f"{process[0] if process else 'another one'} (the same command "
        "resumes the run)"
    )


@contextlib.contextmanager
def _ending_by_signals() -> Iterator[None]:
    def told(signum: int, frame: Any) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        raise SystemExit(128 + signum)

    before = {signum: signal.signal(signum, told) for signum in _SIGNALS}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _checked_path(path: str | None) -> str:
    if path is None:
        raise ValueError("Expected --workdir=FOLDER. Received: none")
    shown = files.printable(path)
    if shown != path:  # TensorFlow takes no such path
        raise ValueError(
            "Expected a --workdir in UTF-8, without control characters. "
            f"Received: --workdir={shown}"
        )
    return path


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def _read_lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines()
