"""Classifies images with a SavedModel of `keras_lt.export.save`.

    python tools/predict.py runs/quickstart cat.jpg dog.png
    python tools/predict.py saved_model photos --output=classes.csv --top_k=3
    python tools/predict.py saved_model photos --prior=0.5,0.3,0.2

MODEL is the folder of the SavedModel, or a workdir with `saved_model` in it. Of
a folder all images with a known ending are taken, at any depth, but for names
that start with a dot. Output is CSV, or JSON lines in a file that ends in
.jsonl: a row per image, with its most probable classes or, where it can't be
read, with the error. In CSV, names that a spreadsheet would take for a formula
have a ' before them.

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
        help="Shares of the classes where the images come from: a list or a "
        "file with one (default: those that the model was trained with).",
    )
    command_line.add_batch_size(parser, 32)
    command_line.add_max_pixels(parser)
    arguments = parser.parse_args()
    output = arguments.output
    if output and output.suffix not in (".csv", ".jsonl"):
        parser.error(f"--output must end in .csv or .jsonl, not {output}")
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
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from keras_lt import counts, datasets, files, preprocessing
from keras_lt.messages import one_line


class Model(NamedTuple):
    """A loaded SavedModel: what it serves, and what it takes."""

    signatures: dict[str, Callable]
    class_names: list[str]
    size: tuple[int, int]
    channels: int
    loaded: Any  # the signatures' variables live as long as this


def load(path: Path) -> Model:
    if (path / "saved_model").is_dir():
        path /= "saved_model"
    if not (path / "labels.txt").is_file():
        raise ValueError(
            "Expected a SavedModel of keras_lt.export.save, with labels.txt, "
            f"or a workdir. Received: {path}"
        )
    loaded = tf.saved_model.load(path)
    size, channels, classes = read_signatures(loaded, path)
    names = read_labels(path / "labels.txt", classes)
    return Model(loaded.signatures, names, size, channels, loaded)


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
    return preprocessing.resize_and_crop(image[None], model.size)[0].numpy()


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
    if "serve_prior" not in model.signatures:
        raise ValueError(
            "Expected a model that was exported with class_counts, for "
            f"--prior. Received: signatures {', '.join(model.signatures)}"
        )
    found = counts.class_shares("prior", shares, len(model.class_names))
    return found.astype("float32")


def predictions(
    paths: list[Path],
    model: Model,
    serve: Callable,
    batch_size: int,
    max_pixels: int,
) -> Iterator[tuple[Path, np.ndarray | str]]:
    """Probabilities (C,) of each image, or why there are none."""
    with futures.ThreadPoolExecutor() as pool:
        for start in range(0, len(paths), batch_size):
            batch = paths[start : start + batch_size]
            images = list(
                pool.map(lambda path: read(path, model, max_pixels), batch)
            )
            good = [image for image in images if not isinstance(image, str)]
            served = iter(())
            if good:
                served = iter(
                    serve(images=np.stack(good))["probabilities"].numpy()
                )
            for path, image in zip(batch, images, strict=True):
                yield path, image if isinstance(image, str) else next(served)


def write_rows(
    file: Any,
    json_lines: bool,
    rows: Iterator[tuple[Path, np.ndarray | str]],
    class_names: list[str],
    top_k: int,
) -> int:
    """Writes a row per image; returns how many could be read."""
    count = 0
    writer = csv.writer(file, lineterminator="\n")
    if not json_lines:
        ranks = range(1, top_k + 1)
        columns = [(f"class_{rank}", f"probability_{rank}") for rank in ranks]
        writer.writerow(["image", *sum(columns, ()), "error"])
    for path, found in rows:
        row = {"image": files.printable(path)}
        cells = [""] * (2 * top_k)
        if isinstance(found, str):
            row["error"] = found
        else:
            count += 1
            top = np.argsort(-found, kind="stable")[:top_k]
            row["classes"] = [class_names[label] for label in top]
            row["probabilities"] = [float(f"{found[i]:.6g}") for i in top]
            cells[::2] = map(harmless, row["classes"])
            cells[1::2] = row["probabilities"]
        if json_lines:
            print(json.dumps(row, ensure_ascii=False), file=file)
        else:
            error = harmless(row.get("error", ""))
            writer.writerow([harmless(row["image"]), *cells, error])
    return count


def harmless(cell: str) -> str:
    """Text of a CSV cell that no spreadsheet runs as a formula."""
    return f"'{cell}" if cell.startswith(tuple("=+-@\t\r\n")) else cell


def main() -> None:
    files.escape_output()
    arguments = parse()
    model = load(arguments.model)
    serve = model.signatures["serving_default"]
    if arguments.prior is not None:
        prior = tf.constant(read_prior(arguments.prior, model))

        def serve(images):
            return model.signatures["serve_prior"](images=images, prior=prior)

    paths = find(arguments.images)
    rows = tqdm(
        predictions(
            paths, model, serve, arguments.batch_size, arguments.max_pixels
        ),
        total=len(paths),
        unit=" images",
        file=sys.stderr,
    )
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
            rows,
            model.class_names,
            min(arguments.top_k, len(model.class_names)),
        )
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
