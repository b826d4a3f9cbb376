"""The command line of a recipe, read before TensorFlow is imported.

Importing TensorFlow takes seconds, which `--help` and a wrong flag need not
wait for: a recipe declares its flags by `flag_groups`, calls `parse` and only
then imports the rest. Nothing here may import keras_lt, Keras or TensorFlow.
"""

import math
import os
import re
import signal
import sys
import textwrap
from pathlib import Path
from typing import NoReturn

from absl import flags

# TensorFlow reads these when it is imported: no start-up messages, and oneDNN
# also on CPUs without AVX-512, where it makes training twice as fast.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

MAX_DEPTH = 100  # of flag files within flag files
_LINE = 1_000


def parse(values: flags.FlagValues, description: str) -> None:
    """Parses the command line, and answers --help and what is wrong with it.

    Args:
        values: The flags of the recipe.
        description: Docstring of the recipe, which --help starts with.
    """
    # Ctrl+C while TensorFlow is being imported shows no traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    read(values, sys.argv)
    if values.help:
        print(help_text(values, description))
        sys.exit(0)


def read(values: flags.FlagValues, argv: list[str]) -> None:
    """Gives flags the values of a command line, or ends with one line."""
    try:
        rest = values(expand_flagfiles(argv))
        if len(rest) > 1:
            raise ValueError(f"Expected flags only. Received: {rest[1:]}")
        for name in values:
            value = values[name].value
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(
                    f"Expected a finite number. Received: --{name}={value}"
                )
    except (flags.Error, OSError, ValueError) as error:
        fail(error)


def fail(error: BaseException | str) -> NoReturn:
    """Ends the process with an error in one line."""
    message = " ".join(str(error).split())
    if len(message) > _LINE:
        message = f"{message[:_LINE]}… ({len(message):,} characters)"
    print(f"{os.path.basename(sys.argv[0])}: error: {message}", file=sys.stderr)
    sys.exit(1)


def help_text(values: flags.FlagValues, description: str) -> str:
    """What --help prints: the docstring, then the flags, group by group."""
    lines = [description.strip()]
    for group, members in values.flags_by_module_dict().items():
        lines += ["", f"{group}:"]
        for flag in members:
            known = getattr(flag.parser, "enum_values", ())
            more = [f"one of {', '.join(known)}"] if known else []
            if flag.default not in (None, ""):
                more.append(f"default: {flag.default_as_str.strip(chr(39))}")
            name = f"[no]{flag.name}" if flag.boolean else flag.name
            # absl puts the choices in front of what we say.
            said = re.sub(r"^<[^>]*>: ", "", flag.help)
            text = f"--{name}: {said}"
            if more:
                text += f" ({'; '.join(more)})"
            lines += textwrap.wrap(
                text,
                80,
                initial_indent="  ",
                subsequent_indent="      ",
                break_long_words=False,
                break_on_hyphens=False,
            )
    return "\n".join(lines)


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
        if not re.match(r"--?\w", line):
            raise flags.IllegalFlagValueError(
                "Expected a flag file, lines that start with -- or #. "
                f"Received: {path} with the line {line!r}"
            )
    expanded = _expanded(lines, path.parent, (*within, resolved), read)
    read.add(resolved)
    return expanded
