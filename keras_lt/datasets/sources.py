"""Folders and lists of image files: which images there are, in which class."""

import csv
import json
import os
import re
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_lt.datasets.files import Paths

IMAGE_SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".png",
    ".bmp",
    ".gif",
    ".webp",
    ".tif",
    ".tiff",
)
SPLITS = ("train", "val", "test")


class Index(NamedTuple):
    """Images of a split.

    Attributes:
        paths: Where they are.
        labels: int64 (N,).
        class_names: One name a class, by label id.
    """

    paths: Paths
    labels: np.ndarray
    class_names: Sequence[str]


def folder_splits(root: str) -> list[str]:
    """Splits that a folder of images has.

    Raises:
        OSError: If there is no such folder.
        ValueError: If it has a folder `val` or `test` but none for training.
    """
    if not os.path.isdir(root):
        raise FileNotFoundError(
            "Expected a folder of images after folder:. "
            f"Received: {root!r}, which is no folder"
        )
    found = [
        split for split in SPLITS if os.path.isdir(os.path.join(root, split))
    ]
    if found and "train" not in found:
        raise ValueError(
            f"Expected a folder {os.path.join(root, 'train')!r} beside "
            f"{' and '.join(found)}. Received: none"
        )
    return found or ["train"]


def index_folder(
    root: str, split: str, allow_outside_root: bool = False
) -> Index:
    """Lists `root/SPLIT/CLASS/*.jpg` and the like, in sorted order.

    Without a folder `train` the folders in `root` are the classes of "train".
    Names that start with a dot are left out.

    Args:
        root: The folder.
        split: One of its `folder_splits`.
        allow_outside_root: Whether symbolic links may lead out of `root`.

    Returns:
        The images. A class is a folder of "train", with images or not.

    Raises:
        OSError: If a folder can't be read.
        ValueError: If there are no class folders, a class is not one of
            "train", or a link leads out of `root`.
    """
    inside = _Inside(root, allow_outside_root)
    top = Path(root)
    train = top / "train" if (top / "train").is_dir() else top
    folder = train if split == "train" else top / split
    for each in {train, folder}:
        inside.check(each)
    class_names = _folders(train, inside)
    if not class_names:
        raise ValueError(
            "Expected a folder for each class, such as "
            f"{str(train / 'cat')!r}. Received: {str(train)!r} without folders"
        )
    paths, of_images = [], []
    for name in _folders(folder, inside):
        below = (folder / name).relative_to(top)
        files = _images(folder / name, inside)
        paths += [os.path.join(below, file) for file in files]
        of_images += [name] * len(files)
    labels = _labels(of_images, class_names, folder)
    return Index(Paths(root, paths), labels, class_names)


def list_splits(file: str) -> list[str]:
    """Splits that have a list: of "{split}" in its name, else "train" only.

    Raises:
        OSError: If there is no list for training.
    """
    train = file.replace("{split}", "train")
    if not os.path.isfile(train):
        raise FileNotFoundError(
            "Expected a list of images after list:. "
            f"Received: {train!r}, which is no file"
        )
    if "{split}" not in file:
        return ["train"]
    return [
        split
        for split in SPLITS
        if os.path.isfile(file.replace("{split}", split))
    ]


def index_list(
    file: str,
    split: str,
    image_root: str | None = None,
    allow_outside_root: bool = False,
) -> Index:
    """Reads a list of images and labels.

    - `.csv`: a header with `path` and `label`; labels are the names of classes,
      in sorted order (as numbers, if all are).
    - `.json`: `images`, `annotations` and `categories` as iNaturalist 2018 has
      them; classes are in the order of their ids.
    - any other: a line `relative/path label` an image, as ImageNet-LT and
      Places-LT have them; labels are ids from 0.

    Args:
        file: The list; "{split}" in it stands for the name of the split.
        split: One of its `list_splits`.
        image_root: The folder that paths start from; None is the list's.
        allow_outside_root: Whether paths may lead out of it.

    Returns:
        The images, in the order of the list. The classes are those of the list
        for training.

    Raises:
        OSError: If an image does not exist.
        ValueError: If a line is malformed, a label is not one of those for
            training, or a path leads out of the root.
    """
    path = Path(file.replace("{split}", split))
    read = _READERS.get(path.suffix.lower(), _read_text)
    listed = read(path)
    class_names = listed.class_names
    if split != "train":
        class_names = read(Path(file.replace("{split}", "train"))).class_names
    labels = _labels(listed.of_images, class_names, path)
    root = str(path.parent) if image_root is None else image_root
    _check_files(path, root, listed.paths, _Inside(root, allow_outside_root))
    return Index(Paths(root, listed.paths), labels, class_names)


class _Listed(NamedTuple):
    paths: list[str]
    of_images: list[str]
    class_names: list[str]


def _read_text(path: Path) -> _Listed:
    paths, labels = [], []
    for number, line in _lines(path):
        if not line.strip():
            continue
        parts = line.rsplit(None, 1)
        # A label of more digits is none: there would be as many classes.
        if len(parts) < 2 or not re.fullmatch(r"[0-9]{1,6}", parts[1]):
            raise ValueError(
                "Expected lines `relative/path label`, labels being ids from "
                f"0. Received: {path}, line {number}: {line.strip()!r}"
            )
        paths.append(parts[0].strip())
        labels.append(int(parts[1]))
    names = [str(label) for label in range(max(labels, default=-1) + 1)]
    return _Listed(paths, [names[label] for label in labels], names)


def _read_csv(path: Path) -> _Listed:
    rows = csv.DictReader(line for _, line in _lines(path))
    if not {"path", "label"} <= {*(rows.fieldnames or ())}:
        raise ValueError(
            "Expected a header with the columns path and label. "
            f"Received: {path} with {rows.fieldnames}"
        )
    paths, labels = [], []
    for row in rows:
        if not row["path"] or not row["label"]:
            raise ValueError(
                "Expected a path and a label in each line. "
                f"Received: {path}, line {rows.line_num}: {row}"
            )
        paths.append(row["path"])
        labels.append(sys.intern(row["label"]))
    names = {*labels}
    numbers = all(name.isdecimal() for name in names)
    return _Listed(paths, labels, sorted(names, key=int if numbers else str))


def _read_inaturalist(path: Path) -> _Listed:
    try:
        with open(path, encoding="utf-8-sig") as file:
            content = json.load(file)
        names = {
            category["id"]: str(category["name"])
            for category in sorted(
                content["categories"], key=lambda category: category["id"]
            )
        }
        category_of = {
            annotation["image_id"]: annotation["category_id"]
            for annotation in content["annotations"]
        }
        paths = [image["file_name"] for image in content["images"]]
        labels = [
            names[category_of[image["id"]]] for image in content["images"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            "Expected images (id, file_name), annotations (image_id, "
            "category_id) and categories (id, name), as iNaturalist 2018 has "
            f"them. Received: {path} ({type(error).__name__}: {error})"
        ) from error
    return _Listed(paths, labels, [*names.values()])


_READERS = {".csv": _read_csv, ".json": _read_inaturalist}


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        try:
            yield from enumerate(file, 1)
        except UnicodeDecodeError as error:
            raise ValueError(
                f"Expected a text file in UTF-8. Received: {path} ({error})"
            ) from error


def _labels(
    of_images: Iterable[str], class_names: Sequence[str], where: Path
) -> np.ndarray:
    """Label ids (N,) of images by the names of their classes."""
    ids = {name: label for label, name in enumerate(class_names)}
    try:
        return np.array([ids[name] for name in of_images], np.int64)
    except KeyError as error:
        raise ValueError(
            "Expected classes that the training images have. "
            f"Received: class {error} in {where}"
        ) from None


class _Inside:
    """Refuses what leads out of a folder, unless that is allowed."""

    def __init__(self, root: str | os.PathLike, allowed: bool):
        self.allowed = allowed
        self._root = os.path.realpath(root)

    def refuse(self, what: str | os.PathLike) -> None:
        raise ValueError(
            f"Expected images inside of {self._root} (or "
            f"allow_outside_root). Received: {os.fspath(what)!r}"
        )

    def check(self, path: str | os.PathLike) -> None:
        """Refuses a path that symbolic links lead out."""
        real = os.path.realpath(path)
        if not self.allowed and (
            os.path.commonpath([real, self._root]) != self._root
        ):
            self.refuse(path)


def _folders(folder: Path, inside: _Inside) -> list[str]:
    """Names of the folders in a folder, sorted."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir() and not entry.name.startswith("."):
                if entry.is_symlink():
                    inside.check(entry.path)
                found.append(entry.name)
    return sorted(found)


def _images(folder: Path, inside: _Inside) -> list[str]:
    """Names of the image files in a folder, sorted."""
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                raise ValueError(
                    "Expected images, and no folders, in the folder of a "
                    f"class. Received: {entry.path!r}"
                )
            if entry.name.lower().endswith(IMAGE_SUFFIXES):
                if entry.is_symlink():
                    inside.check(entry.path)
                found.append(entry.name)
    return sorted(found)


def _check_files(
    where: Path, root: str, paths: Sequence[str], inside: _Inside
) -> None:
    """Refuses paths that lead out of the root, or to nothing."""
    missing, folders = [], set()
    for path in paths:
        if not inside.allowed and (
            os.path.isabs(path) or ".." in path.split("/")
        ):
            inside.refuse(path)
        file = os.path.join(root, path)
        folder = os.path.dirname(file)
        try:
            if stat.S_ISLNK(os.lstat(file).st_mode):
                inside.check(file)
                os.stat(file)
            if folder not in folders:
                inside.check(folder)
                folders.add(folder)
        except OSError:
            missing.append(path)
    if missing:
        raise FileNotFoundError(
            f"Expected the images of {where} in {root!r} (see image_root). "
            f"Received: {len(missing):,} missing, such as {missing[0]!r}"
        )
