"""Says what a model will do elsewhere, from its logits and labels alone.

    python tools/evaluate.py runs/photos
    python tools/evaluate.py runs/ce_0 --compare=runs/balanced_softmax_0
    python tools/evaluate.py runs/photos --dataset=folder:new_photos
    python tools/evaluate.py runs/photos --calibrate
    python tools/evaluate.py runs/photos --unknown=folder:other_photos
    python tools/evaluate.py --logits=ce.npz
    python tools/evaluate.py --logits=ce.npz --compare=balanced.npz --json
    python tools/evaluate.py --logits=ce.csv --class_counts=500,50,5

RUN is the workdir of a finished run. Its answers for the test images, and for
its hold-out, are those in RUN/logits.npz; where there are none, or --dataset or
--split names other images of its classes, they are computed. The page is
RUN/evaluation.html. --calibrate writes RUN/saved_model_calibrated, a SavedModel
whose probabilities are calibrated on the hold-out, and that gives sets of
classes and "none of these" too; tools/predict.py RUN takes it. RUN's own model
and its record stay as they are.

FILE.npz has the arrays logits (N, C) or predictions (N,), with -1 for refused,
labels (N,), class_counts (C,) and, to fit a temperature and sets on, may have
holdout_logits and holdout_labels of images that the model was not trained on.
FILE.csv has a header, the column label, and either prediction or one column of
logits per class, in the order of the label ids.

Without --json it prints tables, and what can be done about what they show. What
can't be computed from predictions alone is null in JSON, n/a in tables. Notes
about the data go to standard error.
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
    add_fitted(parser)
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
    for name in ("dataset", "split", "fit_on", "calibrate", "unknown"):
        if arguments.run is None and getattr(arguments, name):
            parser.error(f"expected RUN with --{name}")
    return arguments


def add_fitted(parser: argparse.ArgumentParser) -> None:
    """What is fitted on images held out, and written into a SavedModel."""
    parser.add_argument(
        "--fit_on",
        metavar="DATASET",
        help="Images to fit on that RUN was not trained on, as --dataset of "
        "the recipes (default: those that it held out).",
    )
    parser.add_argument(
        "--calibrate",
        nargs="?",
        const="temperature",
        choices=command_line.CALIBRATIONS,
        help="Write RUN/saved_model_calibrated: a temperature, or a scale and "
        "a bias per class (vector); none adds sets and refusal alone.",
    )
    parser.add_argument(
        "--set_method",
        choices=command_line.SET_METHODS,
        default="pooled_tail",
        help="Sets of classes of that model: over all images, over those of "
        "each class, the same with one threshold for classes with few images, "
        "or by probability over prior (default: %(default)s).",
    )
    parser.add_argument(
        "--unknown",
        metavar="DATASET",
        help="Images of none of RUN's classes, to be told apart: folder:PATH, "
        "with images at any depth, or a data set.",
    )
    parser.add_argument(
        "--refuse_by",
        choices=command_line.KNOWN_SCORES,
        default="energy",
        help='Score by which that model says "none of these" '
        "(default: %(default)s).",
    )
    parser.add_argument(
        "--keep",
        type=float,
        default=0.95,
        help="Share of the images of known classes that it keeps "
        "(default: %(default)s).",
    )


if __name__ == "__main__":
    parse()  # --help and wrong options don't wait for the imports below

import json
import os
import sys
from typing import NamedTuple

import numpy as np

from keras_lt import counts, datasets, evaluation, files, report
from keras_lt.messages import one_line
from keras_lt.metrics import SCORES

sys.path.append(str(Path(__file__).resolve().parents[1] / "recipes"))

import predict
import scored
import served


class Subject(NamedTuple):
    """What is evaluated: answers, and of whom.

    Attributes:
        scored: The answers.
        classes: The classes of the training images.
        title: What the page is about.
        facts: Phrases below it.
        run: The finished run, None for a file of logits.
        images: The images that were scored, if the run was asked for them.
        held_out: The images of --fit_on.
    """

    scored: evaluation.Scored
    classes: counts.Classes
    title: str
    facts: list[str]
    run: scored.ScoredRun | None = None
    images: datasets.Dataset | None = None
    held_out: datasets.Dataset | None = None


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
    most, least = max(classes.counts), min(classes.counts)
    facts = [
        f"{len(found.test):,} images of {len(classes):,} classes",
        f"{most:,} to {least:,} training images per class",
    ]
    return Subject(found, classes, Path(path).name, facts)


def of_run(path: Path, arguments: argparse.Namespace) -> Subject:
    places = {name: getattr(arguments, name) for name in scored.PLACES}
    run = scored.ScoredRun(path, places)
    found, images = run.scored, "test images"
    others = held_out = None
    if arguments.dataset or arguments.split:
        others = run.other_images(arguments.dataset, arguments.split)
        found = found._replace(test=run.answers(others))
        images = f"images of {arguments.dataset or run.record.dataset}"
    if arguments.fit_on:
        held_out = run.other_images(arguments.fit_on, None)
        found = found._replace(holdout=run.answers(held_out))
    record = run.record
    facts = [
        record.dataset,
        f"{len(found.test):,} {images}",
        f"{len(run.classes):,} classes",
        record.method,
        f"seed {record.seed}",
    ]
    return Subject(
        found, run.classes, record.title, facts, run, others, held_out
    )


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


def print_tables(found: dict, about: Subject) -> None:
    print(f"{about.title}: {', '.join(about.facts)}\n")
    level = f"{100 * found['level']:g} % interval"
    rows = []
    for name, ends in found["intervals"].items():
        score = SCORES[name]
        rows.append(
            [score.label, shown(found[name], name), score.between(ends)]
        )
    table(["score in percent", "value", level], rows)
    (first, *others), rows = report.table_of_shifts(found["shifted"])
    table([f"top-1 under {first}", *others], rows)
    if found["holdout"]:
        print_fitted(found)
    if "unknown" in found:
        table(*report.table_of_unknown(found["unknown"]))
    if "calibrated" in found:
        print(*report.about_fitted(found["calibrated"]), "", sep="\n")
    if "comparison" in found:
        table(*report.table_of_differences(found["comparison"]))
        print(*found["comparison"]["verdict"], "", sep="\n")


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


def tell_apart(about: Subject, given: str) -> dict:
    """How well images of --unknown are told from those of the classes."""
    kind, _, path = given.partition(":")
    if kind == "folder" and not Path(path).is_dir():
        raise ValueError(
            f"Expected a folder after folder:. Received: --unknown={given}, "
            "which is none"
        )
    found = predict.find([Path(path)]) if kind == "folder" else []
    run = about.run
    return served.tell_apart(
        run,
        about.scored.test,
        about.images or run.data.test,
        served.unknown_images(run, given, found),
    )


def calibrate(
    about: Subject, arguments: argparse.Namespace
) -> evaluation.Fitted:
    """What is fitted on the hold-out, and how it does on the test images."""
    run, (test, holdout, _) = about.run, about.scored
    if holdout is None:
        raise ValueError(
            "Expected a run with a hold-out (--holdout=0.1 when it was "
            "trained), or --fit_on=DATASET, for --calibrate. "
            f"Received: {run.path}, without"
        )
    if test.logits is None:
        raise ValueError(
            "Expected logits for --calibrate. Received: predicted classes, as "
            f"{run.path} keeps where logits are many"
        )
    source = source_of(about.scored, arguments)
    refusal = served.refusal(
        run, arguments.refuse_by, arguments.keep, holdout, about.held_out
    )
    fitted = evaluation.fit(
        holdout,
        source,
        calibration=arguments.calibrate,
        method=arguments.set_method,
        refusal=refusal,
    )
    return served.tested(fitted, test, source)


def compare(first: Subject, arguments: argparse.Namespace) -> dict:
    """The first of two runs compared with the second one."""
    second = subject(Path(arguments.compare), arguments)
    found = evaluation.compare(
        first.scored.test,
        second.scored.test,
        arguments.draws,
        arguments.level,
        arguments.seed,
    )
    names = arguments.run or arguments.logits, arguments.compare
    one, other = (files.printable(Path(name).name) for name in names)
    found["verdict"].insert(0, f"The first is {one}, the second {other}.")
    return found


def what_next(found: dict, about: Subject) -> list[str]:
    """What can be done about what was found, in sentences."""
    said = []
    if found["holdout"] is None:
        how = "give holdout_logits and holdout_labels"
        if about.run is not None:
            how = "train with --holdout=0.1, or give --fit_on=DATASET"
        said.append(
            "Nothing is fitted on images held out, such as a temperature or "
            f"sets of classes: {how}."
        )
    elif about.run is not None and "calibrated" not in found:
        said.append(
            "A model with this temperature, sets of classes and 'none of "
            "these' is written by --calibrate."
        )
    gains = {
        name: one["adjusted"] - one["plain"]
        for name, one in found["shifted"].items()
        if one["adjusted"] is not None and name != "dirichlet"
    }
    best = max(gains, key=gains.get, default=None)
    if best and gains[best] >= 0.01:
        said.append(
            "Where class frequencies are known, or can be estimated from "
            "images without labels, adjust to them: "
            f"{100 * gains[best]:+.1f} points of top-1 at "
            f"{best.replace('_', ' ')} (tools/predict.py --prior=FILE or "
            "estimate)."
        )
    return said


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
    path = None
    if arguments.unknown:
        found["unknown"] = tell_apart(about, arguments.unknown)
    if arguments.calibrate:
        fitted = calibrate(about, arguments)
        found["calibrated"] = fitted.about
        source = source_of(about.scored, arguments)
        path = served.write(about.run, fitted, source)
    if arguments.compare:
        for part in about.scored[:2]:  # room for those of the other
            if part is not None:
                part.logits = None
        found["comparison"] = compare(about, arguments)
    paths = [path, write(found, about, arguments)]
    for note in found["notes"]:
        print(f"evaluate.py: note: {note}", file=sys.stderr)
    if arguments.json:
        print(json.dumps(found, allow_nan=False))
    else:
        print_tables(found, about)
        print(*what_next(found, about), *filter(None, paths), sep="\n")


if __name__ == "__main__":
    try:
        main()
    except (OSError, TypeError, ValueError, MemoryError) as error:
        sys.exit(f"evaluate.py: error: {one_line(error)}")
