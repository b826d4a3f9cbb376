"""Classifies images with a SavedModel of `keras_lt.export.save`.

    python tools/predict.py runs/quickstart cat.jpg dog.png
    python tools/predict.py saved_model photos --output=classes.csv --top_k=3
    python tools/predict.py saved_model photos --prior=0.5,0.3,0.2
    python tools/predict.py runs/photos photos --prior=estimate
    python tools/predict.py runs/photos photos --sets=0.9 --refuse

MODEL is the folder of the SavedModel, or a workdir with `saved_model` in it, or
with `saved_model_calibrated`, by `tools/evaluate.py RUN --calibrate`, which is
taken first and which --sets and --refuse need. Of a folder all images with a
known ending are taken, at any depth, but for names that start with a dot.
Output is CSV, or JSON lines in a file that ends in .jsonl: a row per image,
with its most probable classes or, where it can't be read, with the error. In
CSV, names that a spreadsheet would take for a formula have a ' before them, and
| is between the classes of a set. --prior=estimate passes over all images
twice.

A SavedModel is a program: it can read and write files. Run none that you don't
trust.
"""

import argparse
from pathlib import Path

import command_line


def parse() -> argparse.Namespace:
    parser = command_line.parser(__doc__)
    parser.add_argument(
        "model",
        type=Path,
        metavar="MODEL",
        help="Folder of a SavedModel, or workdir of a run.",
    )
    parser.add_argument(
        "images",
        nargs="+",
        type=Path,
        metavar="IMAGE|FOLDER",
        help="Images, and folders of images, to classify.",
    )
    command_line.add_output(
        parser, "New .csv or .jsonl file to write (default: standard output)."
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="Replace the file at --output.",
    )
    parser.add_argument(
        "--top_k",
        type=command_line.positive,
        default=5,
        help="Classes per image (default: %(default)s).",
    )
    parser.add_argument(
        "--prior",
        help="Shares of the classes where the images come from: a list, a "
        "file with one, or estimate, to estimate them from all the images "
        "(default: those that the model was trained with).",
    )
    parser.add_argument(
        "--sets",
        type=float,
        metavar="COVERAGE",
        help="Add the set of classes that holds the true one with this "
        "probability, such as 0.9.",
    )
    parser.add_argument(
        "--refuse",
        action="store_true",
        help='Add the answer: the most probable class, or "none of these".',
    )
    command_line.add_batch_size(parser, 32)
    command_line.add_max_pixels(parser)
    arguments = parser.parse_args()
    output = arguments.output
    if output and output.suffix not in (".csv", ".jsonl"):
        parser.error(f"--output must end in .csv or .jsonl, not {output}")
    if arguments.sets is not None and not 0 < arguments.sets < 1:
        parser.error(
            "Expected --sets between 0 and 1, such as 0.9. "
            f"Received: --sets={arguments.sets}"
        )
    if output and output.exists() and not arguments.overwrite:
        parser.error(f"{output} exists: --overwrite replaces it")
    return arguments


if __name__ == "__main__":
    parse()  # --help and wrong options don't wait for the imports below

import contextlib
import csv
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_lt import (
    counts,
    datasets,
    evaluation,
    export,
    files,
    preprocessing,
    progress,
)
from keras_lt.arguments import framing
from keras_lt.messages import one_line

ESTIMATE = "estimate"
NONE = "none of these"
# Products of numbers that the intervals of an estimated prior may take: a few
# seconds.
_WORK = 10**10
_SHOWN = 10  # classes of an estimated prior


class Answer(NamedTuple):
    """What a model says of an image.

    Attributes:
        probabilities: Of the classes (C,).
        set: Which classes are in the set (C,), if there is one.
        known: Whether it is of any class, if that was asked.
    """

    probabilities: np.ndarray
    set: np.ndarray | None = None
    known: bool | None = None


class Model(NamedTuple):
    """A loaded SavedModel: what it serves, and what it takes."""

    signatures: dict[str, Callable]
    class_names: list[str]
    size: tuple[int, int]
    channels: int
    loaded: Any  # the signatures' variables live as long as this
    fitted: dict[str, Any]  # what fitted.json says
    framing: str  # what images.json says


def load(path: Path) -> Model:
    for name in ("saved_model_calibrated", "saved_model"):
        if (path / name).is_dir():
            path /= name
            break
    if not (path / "labels.txt").is_file():
        raise ValueError(
            "Expected a SavedModel of keras_lt.export.save, with labels.txt, "
            f"or a workdir. Received: {path}"
        )
    loaded = tf.saved_model.load(path)
    size, channels, classes = read_signatures(loaded, path)
    names = read_labels(path / "labels.txt", classes)
    return Model(
        loaded.signatures,
        names,
        size,
        channels,
        loaded,
        read_fitted(path / "fitted.json"),
        read_framing(path / "images.json"),
    )


def read_framing(path: Path) -> str:
    """How images are brought to the model's size."""
    if not path.is_file():
        return "center"
    try:
        return framing(json.loads(path.read_text("utf-8"))["framing"])
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            "Expected how images are brought to the model's size. "
            f"Received: {path} ({one_line(error)})"
        ) from error


def read_fitted(path: Path) -> dict[str, Any]:
    """What was fitted on a hold-out; nothing where there is no such file."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text("utf-8"))
        return {
            "calibration": str(found["calibration"]),
            "method": str(found["sets"]["method"]),
            "most": float(found["sets"]["coverages"][-1]),
        }
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            "Expected what keras_lt.evaluation.fit tells of it. "
            f"Received: {path} ({one_line(error)})"
        ) from error


def read_signatures(loaded: Any, path: Path) -> tuple:
    """Size and channels of the images, and the number of classes."""
    try:
        serve = loaded.signatures["serving_default"]
        sized = loaded.signatures["serve_float"]
        (any_size, floats) = (
            function.structured_input_signature[1]["images"]
            for function in (serve, sized)
        )
        _, classes = serve.structured_outputs["probabilities"].shape
        _, *size, channels = floats.shape
        is_ours = (
            any_size.dtype == tf.uint8
            and any_size.shape.as_list() == [None, None, None, channels]
            and len(size) == 2
            and None not in (*size, channels, classes)
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        is_ours = False
    if not is_ours:
        raise ValueError(
            "Expected a SavedModel of keras_lt.export.save, with its "
            "signatures serving_default, of uint8 images of any size, and "
            f"serve_float. Received: {path}, with other ones"
        )
    return tuple(size), channels, classes


def read_labels(path: Path, classes: int) -> list[str]:
    """The names of the classes, of which the model has so many."""
    try:
        names = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(
            f"Expected names of classes in UTF-8. Received: {path} ({error})"
        ) from error
    if len(names) != classes or len({*names}) != classes or "" in names:
        raise ValueError(
            f"Expected the {classes} different names of the model's classes, "
            f"one per line. Received: {path} with {len(names)}, "
            f"{len({*names} - {''})} of them different"
        )
    return names


def read(path: Path, model: Model, max_pixels: int) -> np.ndarray | str:
    """The image at the model's size, or why there is none."""
    try:
        image = datasets.read_image(
            files.read(path), model.channels, max_pixels
        )
    except OSError as error:
        return error.strerror or str(error)
    except datasets.BadImageError as error:
        return one_line(error)
    images = preprocessing.resize_and_crop(
        image[None], model.size, model.framing
    )
    return images[0].numpy()


def find(images: list[Path]) -> list[Path]:
    """The files themselves, and those in folders, in order."""
    found = []
    for path in images:
        if path.is_dir():
            found += sorted(
                file
                for file in path.rglob("*")
                if file.name.lower().endswith(datasets.IMAGE_SUFFIXES)
                and not file.name.startswith(".")
                and not file.is_dir()
            )
        else:
            found.append(path)
    if not found:
        raise ValueError(
            "Expected images. Received: "
            f"{', '.join(map(files.printable, images))} with "
            f"no {', '.join(datasets.IMAGE_SUFFIXES)} inside"
        )
    return found


def read_prior(prior: str, model: Model) -> np.ndarray:
    """Of a list of shares, or of a file with such a list."""
    given = Path(prior).read_text() if os.path.isfile(prior) else prior
    try:
        shares = [float(share) for share in given.replace(",", " ").split()]
    except ValueError as error:
        raise ValueError(
            "Expected --prior to be a file or a list of shares, such as "
            f"0.5,0.3,0.2. Received: --prior={prior}"
        ) from error
    found = counts.class_shares("prior", shares, len(model.class_names))
    return found.astype("float32")


def need(model: Model, signature: str, option: str, how: str) -> Callable:
    """A signature that an option needs."""
    if signature not in model.signatures:
        raise ValueError(
            f"Expected a model that was exported {how}, for --{option}. "
            f"Received: signatures {', '.join(model.signatures)}"
        )
    return model.signatures[signature]


def estimate_prior(model: Model, logits: np.ndarray) -> np.ndarray:
    """Shares of the classes among unlabeled images, printed."""
    images, classes = logits.shape
    source = export.carried_prior(model.loaded)
    source /= source.sum()
    draws = min(100, _WORK // (100 * images * classes))
    prior = evaluation.estimate_prior_em(logits, source, draws=draws)
    test = evaluation.likelihood_ratio_test(logits, source)
    show_prior(prior, source, model.class_names)
    print(
        f"{images:,} images: class frequencies "
        + ("differ" if test["p_value"] < 0.05 else "can't be told apart")
        + f" from those that the model assumes (p = {test['p_value']:.2g}).",
        file=sys.stderr,
    )
    if model.fitted.get("calibration", "none") == "none":
        print(
            "predict.py: note: the model is not calibrated, and the estimate "
            "is worse for it: tools/evaluate.py RUN --calibrate",
            file=sys.stderr,
        )
    return prior.shares.astype("float32")


def say_what_holds(model: Model, arguments: argparse.Namespace) -> None:
    """Of sets, where classes are not as frequent as in the hold-out."""
    method = model.fitted.get("method", "")
    by_class = method in ("class_conditional", "pooled_tail")
    if arguments.sets and arguments.prior is not None and not by_class:
        print(
            f"predict.py: note: {method.replace('_', '-')} sets hold their "
            "share with the class frequencies of the hold-out, and not with "
            "those of --prior (class-conditional ones do: tools/evaluate.py "
            "RUN --calibrate --set_method=pooled_tail)",
            file=sys.stderr,
        )


def show_prior(
    prior: evaluation.Prior, source: np.ndarray, names: list[str]
) -> None:
    """Prints the most frequent classes, with 95 % intervals."""
    print("share, 95% interval, share that the model assumes", file=sys.stderr)
    for label in np.argsort(-prior.shares, kind="stable")[:_SHOWN]:
        share, low, high = (100 * part[label] for part in prior)
        between = "n/a" if np.isnan(low) else f"{low:.1f} to {high:.1f}"
        print(
            f"{share:6.1f}%  {between:>14}  {100 * source[label]:6.1f}%  "
            f"{names[label]}",
            file=sys.stderr,
        )
    if len(names) > _SHOWN:
        rest = len(names) - _SHOWN
        print(f"        and {rest:,} classes more", file=sys.stderr)


def serving(
    model: Model, arguments: argparse.Namespace, prior: np.ndarray | None
) -> Callable:
    """What gives the answers for a batch of images."""
    serve = model.signatures["serving_default"]
    how = "by tools/evaluate.py RUN --calibrate"
    if arguments.sets is not None:
        sets = need(model, "serve_sets", "sets", how)
        coverage = tf.constant(arguments.sets, tf.float32)
        most = model.fitted.get("most", 1.0)
        if arguments.sets > most:
            raise ValueError(
                f"Expected --sets of up to {most:g}, the largest coverage of "
                f"the model's table. Received: --sets={arguments.sets:g}"
            )
    if arguments.refuse:
        known = need(model, "serve_known", "refuse", how)

    def answers(images: np.ndarray) -> Iterator[Answer]:
        images = tf.constant(images)
        if prior is None:
            served = serve(images=images)
        else:
            served = model.signatures["serve_prior"](
                images=images, prior=tf.constant(prior)
            )
        columns = [served["probabilities"].numpy()]
        nothing = [None] * len(columns[0])
        columns.append(
            nothing
            if arguments.sets is None
            else sets(images=images, coverage=coverage)["sets"].numpy()
        )
        columns.append(
            known(images=images)["known"].numpy()
            if arguments.refuse
            else nothing
        )
        return map(Answer, *columns)

    return answers


def predictions(
    paths: list[Path],
    model: Model,
    answers: Callable,
    batch_size: int,
    max_pixels: int,
) -> Iterator[tuple[Path, Any]]:
    """What `answers` gives for each image, or why there is none."""
    with futures.ThreadPoolExecutor() as pool:
        for start in range(0, len(paths), batch_size):
            batch = paths[start : start + batch_size]
            images = list(
                pool.map(lambda path: read(path, model, max_pixels), batch)
            )
            good = [image for image in images if not isinstance(image, str)]
            served = iter(())
            if good:
                served = iter(answers(np.stack(good)))
            for path, image in zip(batch, images, strict=True):
                yield path, image if isinstance(image, str) else next(served)


def write_rows(
    file: Any,
    json_lines: bool,
    rows: Iterator[tuple[Path, Answer | str]],
    class_names: list[str],
    top_k: int,
    more: Sequence[str] = (),
) -> int:
    """Writes a row per image; returns how many could be read.

    Args:
        file: Where to.
        json_lines: Whether as JSON lines, else as CSV.
        rows: Images, and answers or errors.
        class_names: By label id.
        top_k: Classes per image.
        more: "answer" and "set", those that there are.
    """
    count = 0
    writer = csv.writer(file, lineterminator="\n")
    if not json_lines:
        ranks = range(1, top_k + 1)
        columns = [(f"class_{rank}", f"probability_{rank}") for rank in ranks]
        writer.writerow(["image", *sum(columns, ()), *more, "error"])
    for path, found in rows:
        row = {"image": files.printable(path)}
        if isinstance(found, str):
            row["error"] = found
        else:
            count += 1
            row |= as_row(found, class_names, top_k)
        if json_lines:
            print(json.dumps(row, ensure_ascii=False), file=file)
        else:
            writer.writerow(as_cells(row, top_k, more))
    return count


def as_row(found: Answer, class_names: list[str], top_k: int) -> dict:
    """What there is to say of an image, ready for JSON."""
    order = np.argsort(-found.probabilities, kind="stable")
    top = order[:top_k]
    names = [class_names[label] for label in top]
    shares = [float(f"{found.probabilities[label]:.6g}") for label in top]
    row = {"classes": names, "probabilities": shares}
    if found.known is not None:
        row["answer"] = names[0] if found.known else NONE
    if found.set is not None:
        row["set"] = [class_names[label] for label in order if found.set[label]]
    return row


def as_cells(row: dict, top_k: int, more: Sequence[str]) -> list:
    """The same as cells of CSV; classes of a set are joined by |."""
    cells = [""] * (2 * top_k)
    if "classes" in row:
        cells[::2] = map(harmless, row["classes"])
        cells[1::2] = row["probabilities"]
    if "answer" in more:
        cells.append(harmless(row.get("answer", "")))
    if "set" in more:
        cells.append(harmless("|".join(row.get("set", []))))
    return [harmless(row["image"]), *cells, harmless(row.get("error", ""))]


def harmless(cell: str) -> str:
    """Text of a CSV cell that no spreadsheet runs as a formula."""
    return f"'{cell}" if cell.startswith(tuple("=+-@\t\r\n")) else cell


def main() -> None:
    files.escape_output()
    arguments = parse()
    model = load(arguments.model)

    def passed(answers: Callable) -> Iterator[tuple[Path, Any]]:
        # Rows may go to standard output.
        with progress.bar("", len(paths), "images", file=sys.stderr) as bar:
            for found in predictions(
                paths,
                model,
                answers,
                arguments.batch_size,
                arguments.max_pixels,
            ):
                yield found
                bar.update()

    prior = None
    if arguments.prior is not None:
        need(model, "serve_prior", "prior", "with class_counts")
        if arguments.prior != ESTIMATE:
            prior = read_prior(arguments.prior, model)
    serving(model, arguments, prior)  # refuses what the model does not have
    say_what_holds(model, arguments)
    paths = find(arguments.images)
    if arguments.prior == ESTIMATE:
        serve = model.signatures["serving_default"]
        logits = [
            found
            for _, found in passed(
                lambda images: serve(images=images)["logits"].numpy()
            )
            if not isinstance(found, str)
        ]
        refuse_none(len(logits), paths)
        prior = estimate_prior(model, np.stack(logits))
    asked = {"answer": arguments.refuse, "set": arguments.sets is not None}
    with contextlib.ExitStack() as stack:
        output = arguments.output
        file = sys.stdout
        if output:
            part = stack.enter_context(files.replacing(output))
            file = stack.enter_context(
                open(part, "w", encoding="utf-8", newline="")
            )
        count = write_rows(
            file,
            bool(output) and output.suffix == ".jsonl",
            passed(serving(model, arguments, prior)),
            model.class_names,
            min(arguments.top_k, len(model.class_names)),
            [name for name in asked if asked[name]],
        )
    refuse_none(count, paths)


def refuse_none(count: int, paths: list[Path]) -> None:
    if not count:
        raise ValueError(
            f"Expected images that can be read. Received: {len(paths)}, none "
            "of which can be"
        )


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError, MemoryError, tf.errors.OpError) as error:
        sys.exit(f"predict.py: error: {one_line(error)}")
