"""What recipes share: flag files that nest, and the folder of a run."""

import fcntl
import os
import re
import shutil
import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import tensorflow as tf
from absl import app, flags, logging

from keras_lt import distribute, filenames, files
from keras_lt.messages import one_line

flags.DEFINE_bool("traceback", False, "Show where in the code an error arose.")

FLAGS = flags.FLAGS
# What Python code that tf.data calls has raised, in the error of an op.
_RAISED_IN_STREAM = re.compile(r"\b\w+Error: (.+?)\nTraceback ", re.DOTALL)


def expand_flagfiles(argv: list[str]) -> list[str]:
    """Puts the lines of flag files in the place of `--flagfile=`.

    absl does so too, but looks for a nested file from the current folder and
    not from that of the file that names it.
    """
    expanded = []
    for argument in argv:
        flag, equals, name = argument.partition("=")
        if flag not in ("--flagfile", "-flagfile"):
            expanded.append(argument)
        elif equals:
            expanded += _read_flagfile(Path(name))
        else:
            raise flags.IllegalFlagValueError(
                "Expected --flagfile=FILE. Received: --flagfile without ="
            )
    return expanded


def _read_flagfile(path: Path, within: tuple[Path, ...] = ()) -> list[str]:
    if path.resolve() in within:
        raise flags.IllegalFlagValueError(
            f"Expected flag files that nest. Received: {path} within itself"
        )
    if not path.is_file():
        raise FileNotFoundError(
            "Expected a flag file. "
            f"Received: --flagfile={path}, which does not exist"
        )
    arguments = []
    for line in path.read_text().splitlines():
        line = line.strip()
        if line.startswith("--flagfile="):
            nested = Path(line.removeprefix("--flagfile="))
            arguments += _read_flagfile(
                path.parent / nested, (*within, path.resolve())
            )
        elif line and not line.startswith("#"):
            arguments.append(line)
    return arguments


def run_app(main: Callable[[list[str]], None]) -> None:
    """Runs `main` as absl does, with one line for what a user got wrong."""
    name = os.path.basename(sys.argv[0])

    def fail(error: Exception | str) -> None:
        print(f"{name}: error: {one_line(error)}", file=sys.stderr)
        sys.exit(1)

    def parse(argv: list[str]) -> list[str]:
        try:
            rest = FLAGS(expand_flagfiles(argv))
        except (flags.Error, OSError) as error:
            fail(error)
        if not FLAGS["verbosity"].present:
            logging.set_verbosity(logging.ERROR)
            tf.get_logger().setLevel("ERROR")
        return rest

    def guarded(argv: list[str]) -> None:
        try:
            main(argv)
        except (ValueError, TypeError, OSError, ArithmeticError) as error:
            if FLAGS.traceback:
                traceback.print_exc()
            fail(error)
        except tf.errors.OpError as error:
            raised = _RAISED_IN_STREAM.search(error.message)
            is_lost = "Collective ops is aborted" in error.message
            if not raised and not is_lost:
                raise
            if FLAGS.traceback:
                traceback.print_exc()
            if raised:
                fail(raised[1])
            process = re.search(r"/job:\S+/task:\d+", error.message)
            fail(
                "Expected all processes of the run to go on. Received: the end "
                f"of {process[0] if process else 'another one'} (the same "
                "command resumes the run)"
            )

    app.run(guarded, flags_parser=parse)


def flag_of_run(path: str, name: str) -> str | None:
    """Returns the value of a flag in the run that a folder holds, if any."""
    started = Path(path) / "flags.cfg"
    lines = started.read_text("utf-8").splitlines() if started.is_file() else ()
    values = dict(line.split("=", 1) for line in lines if "=" in line)
    return values.get(f"--{name}")


class Workdir:
    """The folder of one run, held while the context lasts.

    Its `flags.cfg` holds the flags that the run was started with, and its
    `result.json`, written last, says that the run is over. Nobody else can
    enter a folder that is held. Of the processes that train together the chief
    holds it and writes; the others read.

    Args:
        path: The folder; made if absent.
        compared: Flags that may not differ between the starts of a run.
        overwrite: Whether a run that is there is deleted.
        strategy: Of the run.

    Attributes:
        path: The folder.
        flags: The compared flags, {name: value}.
        strategy: The strategy.
        is_chief: Whether this process writes.

    Raises:
        OSError: On entering, if the folder can't be written.
        ValueError: On entering, if it holds something else, a run with other
            flags, or a run that is going on.
    """

    # The order in which they are deleted: a run that has no result is not
    # finished, and one that has flags is still known as a run.
    OUTPUTS = (
        "result.json",
        "report.html",
        "model.keras",
        "saved_model",
        "model.tflite",
        "selection.html",
        "division.html",
        "division_test.html",
        "stage1.keras",
        "draws",
        "features.npz",
        "checkpoints",
        "tensorboard",
        "flags.cfg",
    )

    def __init__(
        self,
        path: str,
        compared: Iterable[flags.Flag],
        overwrite: bool,
        strategy: tf.distribute.Strategy,
    ):
        self.path = Path(path)
        self.strategy = strategy
        self.is_chief = distribute.is_chief(strategy)
        self.flags = {
            flag.name: filenames.printable(flag.value)
            if isinstance(flag.value, str)
            else flag.value
            for flag in compared
        }
        self._lines = [
            filenames.printable(flag.serialize()) for flag in compared
        ]
        self._overwrite = overwrite

    def __enter__(self) -> "Workdir":
        if self.is_chief:
            self._begin()
        distribute.wait_for_all(self.strategy)
        return self

    def _begin(self) -> None:
        self._refuse_foreign()
        self._lock = self._locked()
        try:
            if self._overwrite:
                self._delete(self.OUTPUTS)
            started = self.path / "flags.cfg"
            lines = [line for line in self._lines if line]
            if started.exists():
                self._compare(started.read_text("utf-8").splitlines(), lines)
            else:
                with files.replacing(started) as part:
                    part.write_text("\n".join(lines) + "\n", "utf-8")
        except BaseException:
            self._lock.close()
            raise

    def __exit__(self, kind: type | None, *exception: Any) -> None:
        if self.is_chief:
            self._lock.close()
        if kind is None:
            distribute.wait_for_all(self.strategy)

    def _refuse_foreign(self) -> None:
        if not self.path.is_dir() or (self.path / "flags.cfg").exists():
            return
        foreign = [
            entry.name
            for entry in self.path.iterdir()
            if entry.name not in (".lock", "part-flags.cfg")
        ]
        if foreign:
            raise ValueError(
                "Expected --workdir to be new, empty, or the folder of a run. "
                f"Received: --workdir={self.path} with {min(foreign)} in it"
            )

    def _locked(self) -> Any:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = open(self.path / ".lock", "w")
        except OSError as error:
            raise OSError(
                "Expected a --workdir that can be written. "
                f"Received: --workdir={self.path} ({error.strerror})"
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise ValueError(
                "Expected a --workdir that no other process is using. "
                f"Received: --workdir={self.path}"
            ) from error
        return lock

    def _compare(self, lines_before: list[str], lines: list[str]) -> None:
        before, now = set(lines_before), set(lines)
        if before != now:
            raise ValueError(
                f"Expected the flags of the run in {self.path} (or another "
                "--workdir, or --overwrite). Received: "
                f"{' '.join(sorted(now - before)) or 'defaults'} where the "
                f"run has {' '.join(sorted(before - now)) or 'defaults'}"
            )

    def _delete(self, names: Iterable[str]) -> None:
        for name in names:
            path = self.path / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    @property
    def finished(self) -> bool:
        return (self.path / "result.json").exists()

    @property
    def name(self) -> str | None:
        """Name of the last flag file on the command line, or None."""
        files = [
            argument.partition("=")[2]
            for argument in sys.argv
            if argument.startswith("--flagfile=")
        ]
        return Path(files[-1]).stem if files else None

    def discard_results(self) -> None:
        """Deletes what a start that was cut while finishing has left."""
        self._delete(
            ("report.html", "model.keras", "saved_model", "model.tflite")
        )

    def write(self, name: str, write: Callable[[Path], Any]) -> None:
        """The chief writes a file by `write(path)`, at once or not at all."""
        if not self.is_chief:
            return
        path = self.path / name
        path.parent.mkdir(exist_ok=True)
        with files.replacing(path) as part:
            write(part)

    def say_where(self) -> None:
        for title, name in (
            ("report", "report.html"),
            ("result", "result.json"),
            ("Keras model", "model.keras"),
            ("SavedModel", "saved_model"),
            ("TensorBoard", "tensorboard"),
        ):
            print(f"{title + ':':13}{self.path / name}")
