"""What recipes share: flag files that nest, and the folder of a run."""

import contextlib
import errno
import fcntl
import os
import re
import signal
import stat
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from absl import app, flags, logging

from keras_lt import distribute, filenames, files
from keras_lt.messages import one_line

flags.DEFINE_bool("traceback", False, "Show where in the code an error arose.")

FLAGS = flags.FLAGS
# What Python code that tf.data calls has raised, in the error of an op.
_RAISED_IN_STREAM = re.compile(r"\b\w+Error: (.+?)\nTraceback ", re.DOTALL)
MAX_DEPTH = 100  # of flag files within flag files


def expand_flagfiles(argv: list[str]) -> list[str]:
    """Puts the lines of flag files in the place of `--flagfile=`.

    absl does so too, but looks for a nested file from the current folder and
    not from that of the file that names it. Of a flag that comes twice the last
    value counts, so of a file that is included twice the last time is enough:
    each is read once, however they include each other.
    """
    return _expanded(argv, Path(), (), set())


def _expanded(
    arguments: list[str],
    folder: Path,
    within: tuple[Path, ...],
    read: set[Path],
) -> list[str]:
    """`within` are the files that are being read, `read` those that were."""
    expanded = []
    for argument in reversed(arguments):
        flag, equals, name = argument.partition("=")
        if flag not in ("--flagfile", "-flagfile"):
            expanded.append([argument])
        elif not equals:
            raise flags.IllegalFlagValueError(
                "Expected --flagfile=FILE. Received: --flagfile without ="
            )
        else:
            expanded.append(_read_flagfile(folder / name, within, read))
    return [argument for part in reversed(expanded) for argument in part]


def _read_flagfile(
    path: Path, within: tuple[Path, ...], read: set[Path]
) -> list[str]:
    resolved = path.resolve()
    if resolved in within:
        raise flags.IllegalFlagValueError(
            f"Expected flag files that nest. Received: {path} within itself"
        )
    if resolved in read:
        return []
    if len(within) >= MAX_DEPTH:
        raise flags.IllegalFlagValueError(
            f"Expected flag files at most {MAX_DEPTH} deep. Received: {path}"
        )
    if not path.is_file():
        raise FileNotFoundError(
            "Expected a flag file. "
            f"Received: --flagfile={path}, which does not exist"
        )
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"Expected a flag file, which is text in UTF-8. Received: {path} "
            f"({error})"
        ) from error
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    for line in lines:
        if not line.startswith("-"):
            raise flags.IllegalFlagValueError(
                "Expected a flag file, lines that start with -- or #. "
                f"Received: {path} with the line {line!r}"
            )
    expanded = _expanded(lines, path.parent, (*within, resolved), read)
    read.add(resolved)
    return expanded


def run_app(main: Callable[[list[str]], None]) -> None:
    """Runs `main` as absl does, with one line for what a user got wrong.

    SIGINT, as of Ctrl+C, and SIGTERM end it with one line and the status 130 or
    143; what is being written is left as it was before. A second signal ends
    the process at once. A training may put handlers of its own in place for a
    while (`keras_lt.callbacks.Checkpointing`).
    """
    name = os.path.basename(sys.argv[0])

    def fail(error: BaseException | str) -> None:
        if FLAGS.is_parsed() and FLAGS.traceback and sys.exc_info()[0]:
            traceback.print_exc()
        print(f"{name}: error: {one_line(error)}", file=sys.stderr)
        sys.exit(1)

    def parse(argv: list[str]) -> list[str]:
        try:
            rest = FLAGS(expand_flagfiles(argv))
        except (flags.Error, OSError, ValueError) as error:
            fail(error)
        if not FLAGS["verbosity"].present:
            logging.set_verbosity(logging.ERROR)
            tf.get_logger().setLevel("ERROR")
        return rest

    def guarded(argv: list[str]) -> None:
        try:
            with _ending_by_signals():
                main(argv)
        except SystemExit as end:
            ends = {128 + signum: signum.name for signum in _SIGNALS}
            if end.code in ends:
                print(
                    f"{name}: ended by {ends[end.code]}; the same command goes "
                    "on where it was cut",
                    file=sys.stderr,
                )
            raise
        except (ValueError, TypeError, OSError, ArithmeticError) as error:
            fail(error)
        except (MemoryError, tf.errors.ResourceExhaustedError) as error:
            if os.strerror(errno.ENOSPC) in str(error):
                fail(f"Expected a disk with room. Received: {error}")
            fail(
                "Expected more memory or a smaller --batch_size. Received: "
                f"{one_line(error) or type(error).__name__}"
            )
        except tf.errors.OpError as error:
            raised = _RAISED_IN_STREAM.search(error.message)
            if raised:
                fail(raised[1])
            if "Collective ops is aborted" not in error.message:
                fail(f"{type(error).__name__}: {error.message}")
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
    lines = _read_lines(started) if started.is_file() else ()
    values = dict(line.split("=", 1) for line in lines if "=" in line)
    return values.get(f"--{name}")


_SIGNALS = (signal.SIGINT, signal.SIGTERM)


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


# What a run writes when its training is over.
RESULTS = (
    "report.html",
    "model.keras",
    "saved_model/variables/variables.*",
    "saved_model/assets",
    "saved_model/saved_model.pb",
    "saved_model/fingerprint.pb",
    "saved_model/labels.txt",
    "saved_model/MODEL_CARD.md",
    "model.tflite",
)


class Workdir:
    """The folder of one run, held while the context lasts.

    Its `flags.cfg` holds the flags that the run was started with, and its
    `result.json`, written last, says that the run is over. Nobody else can
    enter a folder that is held: the chief has locked its `.lock`. If that is
    deleted or replaced, with the folder or without, the run ends before it
    writes anything else. Of the processes that train together the chief holds
    it and writes; the others read.

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

    # Patterns of what a run writes, in the order in which it is deleted: a
    # run that has no result is not finished, and one that has flags is still
    # known as a run. Nothing else is deleted.
    OUTPUTS = (
        "result.json",
        *RESULTS,
        "selection.html",
        "division.html",
        "division_test.html",
        "stage1.keras",
        "draws/round-*.npz",
        "features.npz",
        "made_from.json",
        *(
            f"checkpoints/{stage}{name}"
            for stage in ("", "stage2/")
            for name in (
                "checkpoint.json",
                "epoch-*.weights.h5",
                "epoch-*.metrics.npz",
                "level-*.weights.h5",
                "levels.json",
            )
        ),
        *(
            f"tensorboard/{stage}events.out.tfevents.*"
            for stage in ("", "stage2/", "draws/")
        ),
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
            self._refuse_links()
            files.delete_parts(self.path)
            if self._overwrite:
                self._delete(self.OUTPUTS)
            started = self.path / "flags.cfg"
            lines = [line for line in self._lines if line]
            if started.exists():
                self._compare(_read_lines(started), lines)
            else:
                with files.replacing(started) as part:
                    part.write_text("\n".join(lines) + "\n", encoding="utf-8")
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

    def _refuse_foreign(self) -> None:
        """Only a run's folder has both a lock and flags of ours.

        A user may have copied a `flags.cfg` to use it as a flag file.
        """
        if not self.path.is_dir():
            return
        started, lock = self.path / "flags.cfg", self.path / ".lock"
        if _is_regular(started) and _is_regular(lock):
            names = {line.partition("=")[0] for line in _read_lines(started)}
            if all(_is_flag(name) for name in names):
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
        names = {Path(pattern).parts[0] for pattern in self.OUTPUTS}
        for path in (
            *(self.path / name for name in sorted(names)),
            *(self.path / "checkpoints" / name for name in ("stage2",)),
            *(self.path / "tensorboard" / name for name in ("stage2", "draws")),
        ):
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

    def check(self) -> None:
        """Raises FileNotFoundError if the folder is no longer held."""
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

    def callback(self) -> keras.callbacks.Callback:
        """The first one of a training: it checks the folder at each step."""
        return _Held(self)

    def _compare(self, lines_before: list[str], lines: list[str]) -> None:
        before, now = set(lines_before), set(lines)
        if before != now:
            raise ValueError(
                f"Expected the flags of the run in {self.path} (or another "
                "--workdir, or --overwrite). Received: "
                f"{' '.join(sorted(now - before)) or 'defaults'} where the "
                f"run has {' '.join(sorted(before - now)) or 'defaults'}"
            )

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
        self._delete(RESULTS)

    def write(self, name: str, write: Callable[[Path], Any]) -> None:
        """The chief writes a file by `write(path)`, at once or not at all."""
        if not self.is_chief:
            return
        self.check()
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


class _Held(keras.callbacks.Callback):
    def __init__(self, run: Workdir):
        super().__init__()
        self._run = run

    def on_train_begin(self, logs: Any = None) -> None:
        self._run.check()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._run.check()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._run.check()


def _is_regular(path: Path) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except OSError:
        return False


def _read_lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8", errors="replace").splitlines()


def _is_flag(name: str) -> bool:
    """Whether a line that `Flag.serialize` gave may start so."""
    bare = name.removeprefix("--")
    known = bare in FLAGS or bare.removeprefix("no") in FLAGS
    return name.startswith("--") and known
