"""Looks at a data set before it is trained on: what is in it, what is wrong.

    python tools/inspect_data.py folder:photos
    python tools/inspect_data.py 'list:ImageNet_LT_{split}.txt' --image_root=...

SOURCE and the options are those of --dataset of the recipes. Every image is
read and decoded. Prints classes, counts and shot groups, damaged files, images
that are in several splits, odd sizes, and writes a picture of the distribution.
The exit code is 1 if training would fail, and the last line says why.
"""

import argparse

import command_line


def parse() -> argparse.Namespace:
    parser = command_line.parser(__doc__)
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="Images and labels, as --dataset of the recipes.",
    )
    command_line.add_places(parser)
    parser.add_argument(
        "--test_split",
        default="test",
        help="Split of the data set to test on (default: %(default)s).",
    )
    parser.add_argument(
        "--test_fraction",
        type=float,
        default=0.2,
        help="Fraction of each class to test on where folder: or list: has no "
        "test split (default: %(default)s).",
    )
    parser.add_argument(
        "--split_seed",
        type=int,
        default=0,
        help="Seed that selects the images of a test set that folder: or list: "
        "does not have (default: %(default)s).",
    )
    command_line.add_scores(parser)
    command_line.add_output(
        parser,
        "Picture of the distribution of classes to write.",
        "class_distribution.png",
    )
    return parser.parse_args()


if __name__ == "__main__":
    parse()  # --help and wrong options don't wait for the imports below

import hashlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np

from keras_lt import counts, datasets, files, plots, progress
from keras_lt.messages import one_line

# An image is odd if its short side has fewer pixels, or its long side is more
# times as long.
SMALL, LONG = 16, 4
SHOWN = 5  # names of a kind
AT_A_TIME = 64  # images of a thread
CLASSES_SHOWN = 20


class Image(NamedTuple):
    """What a file holds: a digest, (width, height), and what is wrong."""

    digest: bytes
    size: tuple[int, int] | None
    error: str | None


def look(dataset: datasets.Dataset, index: int) -> Image:
    if not isinstance(dataset, datasets.FileDataset):
        image = dataset.images[index]
        return Image(digest(image.tobytes()), image.shape[1::-1], None)
    try:
        content = dataset.read(index)
    except OSError as error:
        return Image(b"", None, error.strerror or str(error))
    try:
        image = datasets.read_image(content, max_pixels=dataset.max_pixels)
    except datasets.BadImageError as error:
        return Image(digest(content), None, str(error))
    return Image(digest(content), image.shape[1::-1], None)


def digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=16).digest()


def look_at_all(dataset: datasets.Dataset, split: str) -> list[Image]:
    def some(start: int) -> list[Image]:
        stop = min(start + AT_A_TIME, len(dataset))
        return [look(dataset, index) for index in range(start, stop)]

    found = []
    with (
        ThreadPoolExecutor(os.cpu_count()) as threads,
        progress.bar(f"Images of {split}", len(dataset), "images") as bar,
    ):
        for images in threads.map(some, range(0, len(dataset), AT_A_TIME)):
            found += images
            bar.update(len(images))
    return found


def name(dataset: datasets.Dataset, split: str, index: int) -> str:
    if isinstance(dataset, datasets.FileDataset):
        return dataset.name(index)
    return f"{split}[{index}]"


def listed(title: str, names: list[str]) -> None:
    """Prints how many there are and the first ones."""
    print(f"{title}: {len(names):,}")
    for each in names[:SHOWN]:
        print(f"  {each}")
    if len(names) > SHOWN:
        print(f"  and {len(names) - SHOWN:,} more")


def say_left_out(left_out: datasets.LeftOut) -> None:
    """Files and folders that are not read, files by folder and ending."""
    of_folder = {}
    for path in left_out.files:
        of_folder.setdefault(os.path.dirname(path), []).append(path)
    print(f"Files left out: {left_out.endings()}")
    for folder in sorted(of_folder, key=lambda each: -len(of_folder[each])):
        endings = datasets.LeftOut(of_folder[folder], []).endings()
        print(f"  {files.printable(folder)}: {endings}")
    listed(
        "Folders with images left out",
        [files.printable(folder) for folder in left_out.folders],
    )


def load(arguments: argparse.Namespace) -> dict[str, datasets.Dataset]:
    known = datasets.splits(arguments.source, arguments.data_dir)
    wanted = {"train", "val", "validation", arguments.test_split}
    # One that has none for testing: `load` cuts it, or says what is wrong.
    names = dict.fromkeys([*known, "train", arguments.test_split])
    cut = arguments.test_fraction if arguments.test_split == "test" else 0.0
    return {
        split: datasets.load(
            arguments.source,
            split=split,
            data_dir=arguments.data_dir,
            image_root=arguments.image_root,
            max_pixels=arguments.max_pixels,
            allow_outside_root=arguments.allow_outside_root,
            test_fraction=cut,
            split_seed=arguments.split_seed,
        )
        for split in names
        if split in wanted
    }


def say_counts(
    parts: dict[str, datasets.Dataset], arguments: argparse.Namespace
) -> None:
    train = parts["train"]
    class_counts = train.class_counts
    present = class_counts[class_counts > 0]
    groups = counts.shot_groups(
        class_counts, arguments.many_shot, arguments.few_shot
    )
    sizes = (f"{group} {mask.sum():,}" for group, mask in groups.items())
    for split, dataset in parts.items():
        print(f"{split}: {len(dataset):,} images")
    print(f"Classes: {train.num_classes:,}, {len(present):,} with images")
    print(
        f"Imbalance factor: {present.max() / present.min():,.4g} "
        f"({present.max():,} to {present.min():,} images per class)"
    )
    print(f"Gini coefficient: {counts.gini(class_counts):.3f}")
    print(f"Classes by shot group: {', '.join(sizes)}")
    order = np.argsort(-class_counts, kind="stable")
    if len(order) > CLASSES_SHOWN:
        ends = CLASSES_SHOWN // 2
        order = [*order[:ends], None, *order[-ends:]]
    for label in order:
        if label is None:
            print("  ...")
            continue
        each = (
            f"{dataset.class_counts[label]:,} {split}"
            for split, dataset in parts.items()
        )
        print(f"  {train.class_names[label]}: {', '.join(each)}")


def say_duplicates(
    parts: dict[str, datasets.Dataset], found: dict[str, list[Image]]
) -> None:
    """Images with the same content, in several splits or classes."""
    places = {}
    for split, images in found.items():
        for index, image in enumerate(images):
            if image.error is None:
                places.setdefault(image.digest, []).append((split, index))
    across, classes, repeated = [], [], 0
    for same in places.values():
        if len(same) < 2:
            continue
        repeated += len(same) - 1
        # One place of each split, and of each class, stands for all.
        of_split, of_class = {}, {}
        for split, index in same:
            each = name(parts[split], split, index)
            of_split.setdefault(split, each)
            of_class.setdefault(parts[split].labels[index], each)
        for found_in, names in ((of_split, across), (of_class, classes)):
            if len(found_in) > 1:
                names.append(" = ".join([*found_in.values()][:SHOWN]))
    listed("Images in several splits", across)
    listed("Images in several classes", classes)
    print(f"Images that repeat others: {repeated:,}")


def say_sizes(
    parts: dict[str, datasets.Dataset], found: dict[str, list[Image]]
) -> None:
    sizes, odd = [], []
    if not any(isinstance(d, datasets.FileDataset) for d in parts.values()):
        print("Width, height: {1}, {0}".format(*parts["train"].image_shape))
        return
    for split, images in found.items():
        for index, image in enumerate(images):
            if image.size is None:
                continue
            sizes.append(image.size)
            short, long = sorted(image.size)
            if short < SMALL or long > LONG * short:
                width, height = image.size
                each = name(parts[split], split, index)
                odd.append(f"{each}: {width} x {height}")
    if sizes:
        low, middle, high = np.percentile(
            sizes, [0, 50, 100], axis=0, method="nearest"
        )
        print(
            f"Width: {low[0]} to {high[0]}, median {middle[0]}; "
            f"height: {low[1]} to {high[1]}, median {middle[1]}"
        )
    listed(f"Odd sizes (under {SMALL} pixels, or {LONG} to 1)", odd)


def failures(
    parts: dict[str, datasets.Dataset],
    found: dict[str, list[Image]],
    replaces: bool,
) -> list[str]:
    """Why training would fail; prints the damaged files."""
    bad, reasons = [], []
    for split, images in found.items():
        dataset = parts[split]
        errors = [i for i, image in enumerate(images) if image.error]
        bad += [f"{name(dataset, split, i)}: {images[i].error}" for i in errors]
        gone = sum(not images[i].digest for i in errors)
        if gone:
            reasons.append(f"{gone:,} files of {split} can't be read")
        damaged = np.bincount(
            dataset.labels[errors], minlength=dataset.num_classes
        )
        lost = (damaged > 0) & (damaged == dataset.class_counts)
        if not replaces and len(errors) > gone:
            reasons.append(
                f"{len(errors) - gone:,} images of {split} can't be decoded "
                "(--on_bad_image=replace takes others for them)"
            )
        elif lost.any():
            label = int(lost.argmax())
            reasons.append(
                f"no image of class {dataset.class_names[label]} in {split} "
                "can be decoded"
            )
    listed("Unreadable files", bad)
    return reasons


def main() -> None:
    files.escape_output()
    arguments = parse()
    parts = load(arguments)
    say_counts(parts, arguments)
    say_left_out(datasets.left_out(arguments.source))
    found = {split: look_at_all(data, split) for split, data in parts.items()}
    say_sizes(parts, found)
    say_duplicates(parts, found)
    reasons = failures(parts, found, arguments.on_bad_image == "replace")
    train = parts["train"]
    classes = counts.Classes(
        train.class_counts,
        train.class_names,
        arguments.many_shot,
        arguments.few_shot,
    )
    figure = plots.class_distribution(classes)
    arguments.output.write_bytes(plots.to_png(figure))
    print(f"Picture: {arguments.output}")
    if reasons:
        raise ValueError(f"training would fail: {'; '.join(reasons)}")


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError, MemoryError) as error:
        sys.exit(f"inspect_data.py: error: {one_line(error)}")
