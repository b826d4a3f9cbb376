"""Runs the recipes, in this process or in ones of their own."""

import contextlib
import importlib
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import command
import keras
import run as runs
from absl.testing import flagsaver

from keras_lt import callbacks, export, report

REPO = Path(__file__).resolve().parents[1]
# The same numbers on every machine; arguments that come later win.
_DEFAULTS = ["--mixed_precision=none"]


def script(name: str = "cifar_lt") -> ModuleType:
    """A recipe as a module, with `main` and `FLAGS`."""
    return importlib.import_module(name)


def path(name: str = "cifar_lt") -> Path:
    return REPO / "recipes" / f"{name}.py"


def expanded(*arguments) -> list[str]:
    """Arguments, with the lines of flag files in their place."""
    return command.expand_flagfiles([*map(str, arguments)])


def run(monkeypatch, *arguments, name: str = "cifar_lt") -> int:
    """Exit code of `python recipes/NAME.py ARGUMENTS`, run in here."""
    argv = [str(path(name)), *_DEFAULTS, *map(str, arguments)]
    monkeypatch.setattr(sys, "argv", argv)
    values = script(name).FLAGS
    policy, saved = (
        keras.config.dtype_policy(),
        flagsaver.save_flag_values(values),
    )
    values.unparse_flags()
    try:
        runs.run_app(script(name).main, values)
    except SystemExit as end:
        return end.code or 0
    finally:
        flagsaver.restore_flag_values(saved, values)
        keras.config.set_dtype_policy(policy)
    return 0


def leave_out_pages(monkeypatch) -> None:
    """Runs write no SavedModel and draw nothing, half of a short one's time.

    For tests that look at something else; others look at these.
    """
    monkeypatch.setattr(export, "save", lambda _, path, *a, **k: path.mkdir())
    monkeypatch.setattr(report, "write_html", lambda path, _: path.touch())
    board = callbacks.LongTailTensorBoard
    monkeypatch.setattr(board, "_draw", lambda *_: None)


def tool(monkeypatch, name: str, *arguments) -> int | str:
    """Exit code of `python tools/NAME.py ARGUMENTS`, or its error, in here."""
    path = str(REPO / "tools" / f"{name}.py")
    monkeypatch.setattr(sys, "argv", [path, *map(str, arguments)])
    try:
        runpy.run_path(path, run_name="__main__")
    except SystemExit as end:
        return end.code or 0
    return 0


def ended_by(signal_name: str, step: int, worker: int = 0) -> list:
    """What `python` runs before a recipe that gets a signal before a step.

    It is a step after the first checkpoint: tests/ended.py.
    """
    return [REPO / "tests" / "ended.py", signal_name, worker, step]


def start(*arguments, name: str = "cifar_lt", before=()) -> subprocess.Popen:
    """`python BEFORE recipes/NAME.py ARGUMENTS` in a process of its own."""
    command = [*before, path(name), *_DEFAULTS, *arguments]
    return subprocess.Popen(
        [sys.executable, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@contextlib.contextmanager
def flags(*arguments, name: str = "cifar_lt") -> Iterator:
    """The flags of such a command, while the context lasts."""
    values = script(name).FLAGS
    saved = flagsaver.save_flag_values(values)
    try:
        values([name, *map(str, arguments)])
        yield values
    finally:
        flagsaver.restore_flag_values(saved, values)
