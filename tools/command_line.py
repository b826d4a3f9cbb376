"""Options of the tools: each thing has one name and one help text in all.

A tool parses its command line before it imports TensorFlow, which takes
seconds: `--help` and a wrong option need not wait for it. So nothing here
imports TensorFlow, Keras or keras_lt; a test compares the choices below with
those of the library. The names are those of the recipes' flags, where a recipe
has one for the same thing.
"""

import argparse
import os
from pathlib import Path

# TensorFlow reads these when it is imported: no start-up messages, and oneDNN
# also on CPUs without AVX-512.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

MAX_PIXELS = 100_000_000
ON_BAD_IMAGE = ("fail", "replace")
CALIBRATIONS = ("temperature", "vector", "none")
SET_METHODS = ("marginal", "class_conditional", "pooled_tail", "prior_adjusted")
KNOWN_SCORES = ("energy", "max_logit", "mahalanobis")


def parser(description: str, **arguments) -> argparse.ArgumentParser:
    """Returns a parser whose --help starts with the docstring of a tool."""
    return argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        **arguments,
    )


def positive(text: str) -> int:
    """The type of options that are whole numbers from 1 on."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(
            f"Expected at least 1. Received: {value}"
        )
    return value


positive.__name__ = "integer"  # argparse says "invalid integer value"


def parse_with_flags(
    of: argparse.ArgumentParser, argv: list[str]
) -> tuple[argparse.Namespace, list[str]]:
    """The arguments before `--`, and those after it, for the recipes."""
    end = argv.index("--") if "--" in argv else len(argv)
    return of.parse_args(argv[:end]), argv[end + 1 :]


def add_runs(to: argparse.ArgumentParser, default: str) -> None:
    """Where a tool makes runs."""
    to.add_argument(
        "--runs",
        type=Path,
        default=Path(default),
        help="Folder of the workdirs and logs (default: %(default)s).",
    )


def add_scores(to: argparse.ArgumentParser) -> None:
    """Thresholds of shot groups."""
    to.add_argument(
        "--many_shot",
        type=int,
        default=100,
        help="Classes with more training images are many-shot "
        "(default: %(default)s).",
    )
    to.add_argument(
        "--few_shot",
        type=int,
        default=20,
        help="Classes with fewer training images are few-shot "
        "(default: %(default)s).",
    )


def add_seed(to: argparse.ArgumentParser, of: str) -> None:
    to.add_argument(
        "--seed",
        type=int,
        default=0,
        help=f"Seed of {of} (default: %(default)s).",
    )


def add_output(
    to: argparse.ArgumentParser, text: str, default: str | None = None
) -> None:
    """The file that a tool writes."""
    if default is not None:
        text = f"{text.removesuffix('.')} (default: {default})."
    to.add_argument(
        "--output",
        type=Path,
        default=default and Path(default),
        metavar="FILE",
        help=text,
    )


def add_places(to: argparse.ArgumentParser) -> None:
    """Where images are, and which of them are taken."""
    to.add_argument(
        "--data_dir",
        metavar="FOLDER",
        help="Folder of prepared TFDS data sets (default: that of TFDS).",
    )
    to.add_argument(
        "--image_root",
        metavar="FOLDER",
        help="Folder that the paths of list:FILE start from (default: that of "
        "FILE).",
    )
    to.add_argument(
        "--on_bad_image",
        choices=ON_BAD_IMAGE,
        default="fail",
        help="What is done about a file that can't be decoded: fail, or "
        "replace it by the next image of its class (default: %(default)s).",
    )
    add_max_pixels(to)
    to.add_argument(
        "--allow_outside_root",
        action="store_true",
        help="Allow symbolic links and paths of list:FILE that lead out of the "
        "folder of the images.",
    )


def add_max_pixels(to: argparse.ArgumentParser) -> None:
    to.add_argument(
        "--max_pixels",
        type=positive,
        default=MAX_PIXELS,
        help="Images of more pixels count as files that can't be decoded "
        "(default: %(default)s).",
    )


def add_batch_size(to: argparse.ArgumentParser, default: int) -> None:
    to.add_argument(
        "--batch_size",
        type=positive,
        default=default,
        help="Images that the model takes at a time (default: %(default)s).",
    )
