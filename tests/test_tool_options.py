"""Options of the tools: answered at once, in whole phrases, with one name."""

import argparse
import collections
import importlib
import inspect
import resource
import subprocess
import sys
from pathlib import Path

import command_line
import flag_groups
import pytest

from keras_lt import datasets, evaluation

TOOLS = Path(__file__).parents[1] / "tools"
NAMES = sorted(
    path.stem
    for path in TOOLS.glob("*.py")
    if "ArgumentParser" in path.read_text()
    or "command_line.parser" in path.read_text()
)
NAMES.remove("command_line")


class Built(Exception):
    """What a tool's parser is, before it has parsed anything."""


def options(name: str) -> dict[str, argparse.Action]:
    """The options and arguments of a tool by their names."""
    module = importlib.import_module(name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name])

        def stop(self, *args, **kwargs):
            raise Built(self)

        patch.setattr(argparse.ArgumentParser, "parse_known_args", stop)
        with pytest.raises(Built) as built:
            parse = module.parse if hasattr(module, "parse") else module.main
            parse(*[[]] * len(inspect.signature(parse).parameters))
    (parser,) = built.value.args
    return {
        (action.option_strings or [action.dest])[-1]: action
        for action in parser._actions
    }


def test_tools_are_found():
    assert {"predict", "inspect_data", "sweep", "benchmark"} <= {*NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_help_texts_are_whole_phrases(name):
    for option, action in options(name).items():
        if option == "--help" or action.help is argparse.SUPPRESS:
            continue
        text = (action.help or "").partition(" (default")[0]
        assert text[:1].isupper() and len(text.split()) >= 3, option
        assert not text.startswith(("Of ", "From ")), option
        assert action.help.endswith("."), option


def test_a_thing_has_one_name():
    """Options of one name take the same, and are flags of recipes if these."""
    kinds = collections.defaultdict(set)
    for name in NAMES:
        for option, action in options(name).items():
            if not option.startswith("--"):
                continue
            # Of other names for a file to write, and for shot thresholds.
            assert option not in ("--picture", "--record", "--out", "--html")
            assert option not in ("--many", "--few", "--clusters")
            kind = "switch" if action.nargs == 0 else action.nargs
            kinds[option].add((kind, action.metavar))
    several = {option: kind for option, kind in kinds.items() if len(kind) > 1}
    assert not several
    shared = {"many_shot", "few_shot", "max_pixels", "on_bad_image", "holdout"}
    values = flag_groups.declare("data", "scores")
    assert all(name in values for name in shared)
    assert {f"--{name}" for name in shared} <= {*kinds}


def test_choices_are_those_of_the_library():
    assert command_line.MAX_PIXELS == datasets.MAX_PIXELS
    assert command_line.ON_BAD_IMAGE == tuple(datasets.ON_BAD_IMAGE)
    assert command_line.CALIBRATIONS == evaluation.CALIBRATIONS
    assert command_line.SET_METHODS == evaluation.SET_METHODS
    assert command_line.KNOWN_SCORES == evaluation.KNOWN_SCORES


# TensorFlow and Keras can't be imported in this process.
WITHOUT_TENSORFLOW = """
import runpy, sys
from pathlib import Path
sys.modules["tensorflow"] = sys.modules["keras"] = None
sys.path.insert(0, str(Path(sys.argv[1]).parent))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("option, status", [("--help", 0), ("--wrong", 2)])
@pytest.mark.parametrize("name", NAMES)
def test_answers_before_tensorflow_is_imported(name, option, status):
    if name == "chaos" and option == "--wrong":
        pytest.skip("Other options are flags of the recipe.")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.run(
        [
            sys.executable,
            "-c",
            WITHOUT_TENSORFLOW,
            TOOLS / f"{name}.py",
            option,
        ],
        capture_output=True,
        text=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert process.returncode == status, process.stderr
    assert option != "--help" or "options:" in process.stdout
    # Seconds of a processor, which other processes don't make more of.
    assert (
        after.ru_utime + after.ru_stime < before.ru_utime + before.ru_stime + 2
    )


def test_numbers_below_one_are_refused():
    process = subprocess.run(
        [sys.executable, TOOLS / "predict.py", "model", "x.png", "--top_k=0"],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 2
    assert (
        "argument --top_k: Expected at least 1. Received: 0" in process.stderr
    )
