"""Benchmarks: variants that take turns in processes of their own."""

import importlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

TOOLS = Path(__file__).parents[1] / "tools"
sys.path.insert(0, str(TOOLS))

import benchmark  # noqa: E402
from benchmarks import turns  # noqa: E402


def sleeper(seconds):
    def run(steps):
        time.sleep(steps * seconds)

    return run


def numbered(number, variable):
    """The second of two processes works as often as the variable says."""
    return sleeper(0.02 * number * int(os.environ[variable]))


def test_ratio_of_variants_that_take_turns():
    variants = {
        "one": turns.Variant(sleeper, 0.01),
        # The slower of two processes counts: 0.02 * 1 * 2 seconds.
        "two": turns.Variant(numbered, "TIMES", processes=2, TIMES="2"),
    }
    speeds = turns.take_turns(variants, 3, steps=2)
    assert turns.ratio(speeds, "one", "two") == pytest.approx(4, rel=0.4)
    assert turns.ratio(speeds, "one", "three") is None
    # 128 images per step.
    assert max(speeds["one"]) < 128 / 0.01
    assert variants["one"].megabytes > 5


def test_each_module_is_a_benchmark():
    modules = {path.stem for path in (TOOLS / "benchmarks").glob("*.py")}
    assert modules - {"__init__", "turns", "steps"} == {*benchmark.NAMES}
    for name in benchmark.NAMES:
        assert callable(importlib.import_module(f"benchmarks.{name}").measure)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["train", "--rounds=0"], "--rounds: Expected at least 1. Received: 0"),
        (["nothing"], "invalid choice: 'nothing'"),
    ],
)
def test_errors(arguments, message):
    process = subprocess.run(
        [sys.executable, TOOLS / "benchmark.py", *arguments],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 2
    assert message in process.stderr
