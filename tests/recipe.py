"""Runs the recipe, in this process or in one of its own."""

import contextlib
import importlib
import subprocess
import sys
from pathlib import Path

import keras
from absl.testing import flagsaver

REPO = Path(__file__).resolve().parents[1]
RECIPE = REPO / "recipes" / "cifar_lt.py"
# The same numbers on every machine; arguments that come later win.
_DEFAULTS = ["--mixed_precision=none"]
sys.path.insert(0, str(RECIPE.parent))

import cifar_lt  # noqa: E402
import options  # noqa: E402
import parts  # noqa: E402, F401
import workdir  # noqa: E402


def script(name: str):
    """A recipe as a module."""
    return importlib.import_module(name)


def run(monkeypatch, *arguments) -> int:
    """Exit code of `python recipes/cifar_lt.py ARGUMENTS`, run in here."""
    command = [str(RECIPE), *_DEFAULTS, *map(str, arguments)]
    monkeypatch.setattr(sys, "argv", command)
    policy = keras.config.dtype_policy()
    with flagsaver.flagsaver():
        try:
            workdir.run_app(cifar_lt.main)
        except SystemExit as end:
            return end.code or 0
        finally:
            keras.config.set_dtype_policy(policy)


def start(*arguments) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, str(RECIPE), *_DEFAULTS, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@contextlib.contextmanager
def flags(*arguments):
    """The flags of such a command, while the context lasts."""
    with flagsaver.flagsaver():
        options.FLAGS([str(RECIPE), *map(str, arguments)])
        yield
