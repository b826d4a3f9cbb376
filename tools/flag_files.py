"""Flag files of recipes, and the runs that they make.

A run is named by its flag files: NAME.cfg alone makes the run NAME, and
BASE.cfg with BUDGET.cfg after it, such as c30.cfg, the run BASE_BUDGET. Its
recipe stands in the command in the header of the first file, as in

    #   python recipes/second_stage.py --workdir=runs/crt_c30 ...

and else in that of the files that this one nests; a file without any is one of
recipes/cifar_lt.py.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
FOLDER = REPO / "recipes" / "flags"
sys.path.append(str(REPO / "recipes"))

import command

_COMMAND = re.compile(r"^#\s+python recipes/(\w+\.py)\b", re.MULTILINE)
_NESTED = re.compile(r"^--?flagfile=(.+)$", re.MULTILINE)


def name(files: Sequence[Path]) -> str:
    """Name of the run that some flag files make, one after the other.

    `flags/cifar10_lt100_ce.cfg` and `flags/c30.cfg` make the run
    cifar10_lt100_ce_c30.
    """
    return "_".join(path.stem for path in files)


def find(run: str, folder: Path = FOLDER) -> list[Path]:
    """The flag files of a run.

    Args:
        run: Name of the run.
        folder: Where flag files are.

    Raises:
        FileNotFoundError: If there are no such files.
    """
    whole = folder / f"{run}.cfg"
    if whole.is_file():
        return [whole]
    for underscore in reversed([*re.finditer("_", run)]):
        files = [
            folder / f"{run[: underscore.start()]}.cfg",
            folder / f"{run[underscore.end() :]}.cfg",
        ]
        if all(path.is_file() for path in files):
            return files
    raise FileNotFoundError(
        f"Expected the name of a run: {folder}/NAME.cfg, or BASE_BUDGET of "
        f"BASE.cfg and BUDGET.cfg. Received: {run}"
    )


def values(files: Sequence[Path]) -> dict[str, str]:
    """What flag files give, one after the other: the text of each flag."""
    lines = command.expand_flagfiles([f"--flagfile={path}" for path in files])
    pairs = (line.removeprefix("--").partition("=") for line in lines)
    return {name: value for name, _, value in pairs}


def script(files: Sequence[Path]) -> Path:
    """The recipe that flag files are for."""
    for path in files:
        for text in _texts(path):
            if found := _COMMAND.search(text):
                return REPO / "recipes" / found[1]
    return REPO / "recipes" / "cifar_lt.py"


def _texts(path: Path) -> Iterator[str]:
    """The text of a file, then those of the files that it nests."""
    text = path.read_text(encoding="utf-8")
    yield text
    for nested in _NESTED.findall(text):
        yield from _texts(path.parent / nested.strip())


def needs(files: Sequence[Path]) -> str | None:
    """Name of the run that `--from=@NAME` asks for, or None."""
    given = [f"--flagfile={path}" for path in files]
    found = None
    for argument in command.expand_flagfiles(given):
        flag, _, value = argument.partition("=")
        if flag in ("--from", "-from"):
            found = value
    return found[1:] if found and found.startswith("@") else None
