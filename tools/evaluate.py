"""Says what a model will do elsewhere, from its logits and labels alone.

    python tools/evaluate.py --logits=ce.npz
    python tools/evaluate.py --logits=ce.npz --compare=balanced.npz --json
    python tools/evaluate.py --logits=ce.csv --class_counts=500,50,5

FILE.npz has the arrays logits (N, C) or predictions (N,), with -1 for refused,
labels (N,), class_counts (C,) and, to fit a temperature and sets on, may have
holdout_logits and holdout_labels of images that the model was not trained on.
FILE.csv has a header, the column label, and either prediction or one column of
logits per class, in the order of the label ids.

Without --json it prints tables. What can't be computed from predictions alone
is null in JSON, n/a in tables. Notes about the data go to standard error.
"""

import argparse

import command_line


def parse() -> argparse.Namespace:
    parser = command_line.parser(__doc__)
    parser.add_argument(
        "--logits",
        required=True,
        metavar="FILE",
        help="Logits or predictions of a model, with the labels.",
    )
    parser.add_argument(
        "--compare",
        metavar="FILE",
        help="Logits or predictions of another model for the same images in "
        "the same order.",
    )
    parser.add_argument(
        "--json", action="store_true", help="Print JSON in place of text."
    )
    parser.add_argument(
        "--class_counts",
        help="Training images per class: a list or a file with one.",
    )
    parser.add_argument(
        "--prior",
        help="Shares of the classes where the model will be used: a list or a "
        "file with one.",
    )
    parser.add_argument(
        "--balanced_training",
        action="store_true",
        help="A loss or a sampler balanced the classes in training: logits "
        "have a uniform prior and not that of --class_counts.",
    )
    command_line.add_scores(parser)
    parser.add_argument(
        "--coverage",
        type=float,
        default=0.9,
        help="Share of the sets of classes that hold the true one "
        "(default: %(default)s).",
    )
    parser.add_argument(
        "--level",
        type=float,
        default=0.95,
        help="Confidence level of the intervals (default: %(default)s).",
    )
    parser.add_argument(
        "--draws",
        type=int,
        default=1000,
        help="Number of bootstrap draws (default: %(default)s).",
    )
    command_line.add_seed(parser, "bootstrap draws and class frequencies")
    return parser.parse_args()


if __name__ == "__main__":
    parse()  # --help and wrong options don't wait for the imports below

import json
import os
import sys
from pathlib import Path

import numpy as np

from keras_lt import evaluation, files
from keras_lt.messages import one_line
from keras_lt.metrics import SCORES


def numbers(name: str, given: str | None) -> list[float] | None:
    """Of a list, or of a file with such a list."""
    if given is None:
        return None
    text = Path(given).read_text() if os.path.isfile(given) else given
    try:
        return [float(number) for number in text.replace(",", " ").split()]
    except ValueError as error:
        raise ValueError(
            f"Expected --{name} to be a file or a list of numbers, such as "
            f"500,50,5. Received: --{name}={given}"
        ) from error


def shown(value: float | None, name: str = "top1") -> str:
    """A value as scores of that name are shown."""
    return SCORES[name].shown(value, unit=False)


def table(header: list[str], rows: list[list[str]]) -> None:
    widths = [
        max(map(len, column)) for column in zip(header, *rows, strict=True)
    ]
    for row in (header, *rows):
        first, *others = zip(row, widths, strict=True)
        cells = [first[0].ljust(first[1])]
        cells += [cell.rjust(width) for cell, width in others]
        print("  ".join(cells).rstrip())
    print()


def print_tables(found: dict) -> None:
    level = f"{100 * found['level']:g} % interval"
    rows = []
    for name, ends in found["intervals"].items():
        between = " to ".join(shown(end, name) for end in ends)
        rows.append([SCORES[name].label, shown(found[name], name), between])
    table(["score in percent", "value", level], rows)
    rows = [
        [name.replace("_", " "), shown(one["plain"]), shown(one["adjusted"])]
        for name, one in found["shifted"].items()
    ]
    table(["class frequencies", "top-1 as it is", "adjusted to them"], rows)
    if found["holdout"]:
        print_fitted(found)
    if "comparison" in found:
        print("\n".join(found["comparison"]["verdict"]))


def print_fitted(found: dict) -> None:
    print(
        f"Fitted on a {found['holdout']['kind']} hold-out of "
        f"{found['holdout']['images']:,} images:"
    )
    rows = [["none", "1", shown(found["ece"]), f"{found['nll']:.3f}"]]
    rows.append(
        [
            "temperature",
            f"{found['temperature']:.3g}",
            shown(found["ece_calibrated"]),
            f"{found['nll_calibrated']:.3f}",
        ]
    )
    vector = found["vector_scaling"]
    if vector:
        rows.append(
            ["vector scaling", "", shown(vector["ece"]), f"{vector['nll']:.3f}"]
        )
    table(["calibration", "T", "ECE", "NLL"], rows)
    rows = [
        [
            method.replace("_", "-"),
            *(
                shown(sets[name])
                for name in ("coverage", "macro_coverage", "lowest_coverage")
            ),
            f"{sets['size']:.2f}",
            *(
                "n/a" if size is None else f"{size:.2f}"
                for size in sets["group_size"].values()
            ),
        ]
        for method, sets in found["sets"].items()
        if method != "asked"
    ]
    groups = [f"size {name}" for name in sets_groups(found)]
    asked = f"sets for {shown(found['sets']['asked'])} %"
    table([asked, "coverage", "macro", "lowest", "size", *groups], rows)


def sets_groups(found: dict) -> list[str]:
    return [*found["sets"]["marginal"]["group_size"]]


def main() -> None:
    files.escape_output()
    arguments = parse()
    counts = numbers("class_counts", arguments.class_counts)

    def read(path):
        return evaluation.read(
            path, counts, arguments.many_shot, arguments.few_shot
        )

    def compare(first):
        second = read(arguments.compare).test
        return evaluation.compare(
            first, second, arguments.draws, arguments.level, arguments.seed
        )

    test, holdout = read(arguments.logits)
    source = None
    if arguments.balanced_training:
        source = np.ones(test.num_classes)
    found = evaluation.evaluate(
        test,
        holdout,
        given=numbers("prior", arguments.prior),
        source=source,
        coverage=arguments.coverage,
        draws=arguments.draws,
        level=arguments.level,
        seed=arguments.seed,
    )
    if arguments.compare:
        test.logits = holdout = None  # room for those of the other
        found["comparison"] = compare(test)
    for note in found["notes"]:
        print(f"evaluate.py: note: {note}", file=sys.stderr)
    if arguments.json:
        print(json.dumps(found, allow_nan=False))
    else:
        print_tables(found)


if __name__ == "__main__":
    try:
        main()
    except (OSError, TypeError, ValueError, MemoryError) as error:
        sys.exit(f"evaluate.py: error: {one_line(error)}")
