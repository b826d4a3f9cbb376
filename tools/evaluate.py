"""Says what a model will do elsewhere, from its logits and labels alone.

    python tools/evaluate.py runs/photos
    python tools/evaluate.py runs/ce_0 --compare=runs/balanced_softmax_0
    python tools/evaluate.py runs/photos --dataset=folder:new_photos
    python tools/evaluate.py --logits=ce.npz
    python tools/evaluate.py --logits=ce.npz --compare=balanced.npz --json
    python tools/evaluate.py --logits=ce.csv --class_counts=500,50,5

RUN is the workdir of a finished run. Its answers for the test images, and for
its hold-out, are those in RUN/logits.npz; where there are none, or --dataset or
--split names other images of its classes, they are computed. The page is
RUN/evaluation.html.

FILE.npz has the arrays logits (N, C) or predictions (N,), with -1 for refused,
labels (N,), class_counts (C,) and, to fit a temperature and sets on, may have
holdout_logits and holdout_labels of images that the model was not trained on.
FILE.csv has a header, the column label, and either prediction or one column of
logits per class, in the order of the label ids.

Without --json it prints tables. What can't be computed from predictions alone
is null in JSON, n/a in tables. Notes about the data go to standard error.
"""

import argparse
from pathlib import Path

import command_line


def parse() -> argparse.Namespace:
    parser = command_line.parser(__doc__)
    parser.add_argument(
        "run",
        nargs="?",
        type=Path,
        metavar="RUN",
        help="Finished run to score.",
    )
    parser.add_argument(
        "--logits",
        metavar="FILE",
        help="Logits or predictions of a model, with the labels, in place of "
        "RUN.",
    )
    parser.add_argument(
        "--compare",
        metavar="RUN|FILE",
        help="Another run, or logits or predictions of another model, for the "
        "same images in the same order.",
    )
    parser.add_argument(
        "--dataset",
        help="Images to score RUN on, as --dataset of the recipes (default: "
        "its test images).",
    )
    parser.add_argument(
        "--split",
        help="Split of the data set to score RUN on (default: test, or all "
        "images of a folder or list without one).",
    )
    command_line.add_places(parser)
    command_line.add_output(
        parser, "HTML page to write (default: evaluation.html in RUN)."
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
    arguments = parser.parse_args()
    if (arguments.run is None) == (arguments.logits is None):
        parser.error("expected either RUN or --logits=FILE")
    if arguments.run is None and (arguments.dataset or arguments.split):
        parser.error("expected RUN with --dataset and --split")
    return arguments


if __name__ == "__main__":
    parse()  # --help and wrong options don't wait for the imports below

import json
import os
import sys
from typing import NamedTuple

import numpy as np

from keras_lt import counts, evaluation, files, report
from keras_lt.messages import one_line
from keras_lt.metrics import SCORES

sys.path.append(str(Path(__file__).resolve().parents[1] / "recipes"))

import scored


class Subject(NamedTuple):
    """What is evaluated: answers, and of whom.

    Attributes:
        scored: The answers.
        classes: The classes of the training images.
        title: What the page is about.
        facts: Phrases below it.
        run: The finished run, None for a file of logits.
    """

    scored: evaluation.Scored
    classes: counts.Classes
    title: str
    facts: list[str]
    run: scored.ScoredRun | None = None


def of_file(path: str, arguments: argparse.Namespace) -> Subject:
    found = evaluation.read(
        path,
        numbers("class_counts", arguments.class_counts),
        arguments.many_shot,
        arguments.few_shot,
    )
    classes = counts.Classes(
        found.test.class_counts,
        many=arguments.many_shot,
        few=arguments.few_shot,
    )
    facts = [f"{len(found.test):,} images of {len(classes):,} classes"]
    return Subject(found, classes, Path(path).name, facts)


def of_run(path: Path, arguments: argparse.Namespace) -> Subject:
    places = {name: getattr(arguments, name) for name in scored.PLACES}
    run = scored.ScoredRun(path, places)
    found, images = run.scored, "test images"
    if arguments.dataset or arguments.split:
        others = run.other_images(arguments.dataset, arguments.split)
        found = found._replace(test=run.answers(others))
        images = f"images of {arguments.dataset or run.record.dataset}"
    record = run.record
    facts = [
        record.dataset,
        f"{len(found.test):,} {images}",
        f"{len(run.classes):,} classes",
        record.method,
        f"seed {record.seed}",
    ]
    return Subject(found, run.classes, record.title, facts, run)


def subject(path: Path, arguments: argparse.Namespace) -> Subject:
    if path.is_dir():
        return of_run(path, arguments)
    return of_file(str(path), arguments)


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


def source_of(
    answers: evaluation.Scored, arguments: argparse.Namespace
) -> np.ndarray | None:
    """The prior of the logits; None is that of the training images."""
    if arguments.balanced_training:
        return np.ones(answers.test.num_classes)
    return answers.logit_counts


def compare(first: Subject, arguments: argparse.Namespace) -> dict:
    """The first of two runs compared with the second one."""
    second = subject(Path(arguments.compare), arguments)
    return evaluation.compare(
        first.scored.test,
        second.scored.test,
        arguments.draws,
        arguments.level,
        arguments.seed,
    )


def write(
    found: dict, about: Subject, arguments: argparse.Namespace
) -> Path | None:
    """Writes the page, where there is a place for it."""
    path = arguments.output
    if path is None and about.run is not None:
        path = about.run.path / "evaluation.html"
    if path is not None:
        report.write_evaluation(
            path, found, about.classes, title=about.title, facts=about.facts
        )
    return path


def main() -> None:
    files.escape_output()
    arguments = parse()
    about = subject(arguments.run or Path(arguments.logits), arguments)
    test, holdout, _ = about.scored
    found = evaluation.evaluate(
        test,
        holdout,
        given=numbers("prior", arguments.prior),
        source=source_of(about.scored, arguments),
        coverage=arguments.coverage,
        draws=arguments.draws,
        level=arguments.level,
        seed=arguments.seed,
    )
    if arguments.compare:
        for part in about.scored[:2]:  # room for those of the other
            if part is not None:
                part.logits = None
        found["comparison"] = compare(about, arguments)
    path = write(found, about, arguments)
    for note in found["notes"]:
        print(f"evaluate.py: note: {note}", file=sys.stderr)
    if arguments.json:
        print(json.dumps(found, allow_nan=False))
    else:
        print_tables(found)
        if path is not None:
            print(path)


if __name__ == "__main__":
    try:
        main()
    except (OSError, TypeError, ValueError, MemoryError) as error:
        sys.exit(f"evaluate.py: error: {one_line(error)}")
