"""Folders and lists of image files: which images there are, in which class."""

import collections
import csv
import functools
import json
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_lt import classes, files
from keras_lt.datasets.files import Paths
from keras_lt.messages import brief

IMAGE_SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".jpe",
    ".jfif",
    ".jfi",
    ".jif",
    ".pjpeg",
    ".pjp",
    ".jpg_large",  # as Twitter has it
    ".mpo",
    ".png",
    ".apng",
    ".bmp",
    ".dib",
    ".gif",
    ".webp",
    ".tif",
    ".tiff",
)
# Splits, and how else their folders and lists are called, in any case.
_SPELLINGS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
SPLITS = tuple(_SPELLINGS)
_ENDINGS_SHOWN = 5


class Index(NamedTuple):
    """Images of a split.

    Attributes:
        paths: Where they are.
        labels: int64 (N,).
        class_names: One name per class, by label id.
    """

    paths: Paths
    labels: np.ndarray
    class_names: Sequence[str]


class LeftOut(NamedTuple):
    """What a folder of images has that is not read.

    Attributes:
        files: Paths of files with other endings than those of images in the
            folders of classes, and of images in no such folder.
        folders: Paths of folders beside those of the splits that hold images.

    Example:
        >>> paths = ["photos/cat/1.heic", "photos/cat/2.heic", "photos/3.jpg"]
        >>> keras_lt.datasets.LeftOut(paths, []).endings()
        '3 (.heic 2, .jpg 1)'
    """

    files: list[str]
    folders: list[str]

    def endings(self) -> str:
        """Returns how many files there are, and of which endings."""
        endings = collections.Counter(
            os.path.splitext(path)[1].lower() or "none" for path in self.files
        )
        shown = [
            f"{files.printable(ending)} {count:,}"
            for ending, count in endings.most_common(_ENDINGS_SHOWN)
        ]
        if len(endings) > _ENDINGS_SHOWN:
            shown.append("...")
        number = f"{len(self.files):,}"
        return f"{number} ({', '.join(shown)})" if shown else number


def folder_splits(root: str) -> list[str]:
    """Splits that a folder of images has.

    Raises:
        OSError: If there is no such folder.
        ValueError: If it has a folder for validation or tests but none for
            training, or two of a split.
    """
    if not os.path.isdir(root):
        raise FileNotFoundError(
            "Expected a folder of images after folder:. "
            f"Received: {root!r}, which is no folder"
        )
    found = _split_folders(root)
    if found and "train" not in found:
        raise ValueError(
            f"Expected a folder {os.path.join(root, 'train')!r} beside "
            f"{' and '.join(found.values())} (or, if these are classes, with "
            "all classes in it). Received: none"
        )
    return [*found] or ["train"]


def index_folder(
    root: str, split: str, allow_outside_root: bool = False
) -> Index:
    """Lists `root/SPLIT/CLASS/*.jpg` and the like, in sorted order.

    A folder may be called as `_SPELLINGS` has it. Without one for training the
    folders in `root` are the classes of "train". Names that start with a dot
    are left out.

    Args:
        root: The folder.
        split: One of its `folder_splits`.
        allow_outside_root: Whether symbolic links may lead out of `root`.

    Returns:
        The images. A class is a folder of "train", with images or not.

    Raises:
        OSError: If a folder can't be read.
        ValueError: If there are no class folders, a class is not one of
            "train", an image is no regular file, or a link leads out of
            `root`.
    """
    inside = _Inside(root, allow_outside_root)
    top, folders = Path(root), _split_folders(root)
    train = top / folders.get("train", "")
    folder = train if split == "train" else top / folders[split]
    for each in {train, folder}:
        inside.check(each)
    class_names = classes.in_order(
        map(files.decoded, _folders(train, inside)), str(train)
    )
    if not class_names:
        raise ValueError(
            "Expected a folder for each class, such as "
            f"{str(train / 'cat')!r}. Received: {str(train)!r} without folders"
        )
    paths, of_images = [], []
    for name in _folders(folder, inside):
        below = (folder / name).relative_to(top)
        found = _images(folder / name, inside)
        paths += [os.path.join(below, file) for file in found]
        class_name = classes.clean(files.decoded(name), str(folder))
        of_images += [class_name] * len(found)
    labels = _labels(of_images, class_names, folder)
    return Index(Paths(root, paths), labels, class_names)


def left_out(root: str) -> LeftOut:
    """Looks for what `index_folder` leaves out, without reading a file.

    Names that start with a dot are none of it.

    Args:
        root: The folder.

    Raises:
        OSError: If a folder can't be read.
        ValueError: As `folder_splits`.
    """
    splits = _split_folders(root)
    tops = [os.path.join(root, name) for name in splits.values()] or [root]
    others, folders = [], []
    for top in tops:
        for entry in _visible(top):
            if entry.is_dir():
                others += [
                    file.path
                    for file in _visible(entry.path)
                    if not _is_image(file.name)
                ]
            elif _is_image(entry.name):
                others.append(entry.path)
    if splits:
        for entry in _visible(root):
            if not entry.is_dir():
                others += [entry.path] * _is_image(entry.name)
            elif entry.name not in splits.values() and _holds_images(entry):
                folders.append(entry.path)
    return LeftOut(sorted(others), sorted(folders))


def _split_folders(root: str) -> dict[str, str]:
    """Names of the folders of splits, {split: name}."""
    found = {}
    for entry in _visible(root):
        split = _split_of(entry.name)
        if split and entry.is_dir():
            found.setdefault(split, []).append(entry.name)
    for split, folders in found.items():
        if len(folders) > 1:
            raise ValueError(
                f"Expected one folder for {split!r}. Received: "
                f"{' and '.join(map(repr, sorted(folders)))} in {root!r}"
            )
    return {split: found[split][0] for split in SPLITS if split in found}


def _split_of(folder: str) -> str | None:
    """The split that a folder of this name holds."""
    name = re.sub(r"[ _-]?set$", "", folder.lower())
    for split, spellings in _SPELLINGS.items():
        if name in spellings:
            return split
    return None


def _visible(folder: str | os.PathLike) -> list[os.DirEntry]:
    """What is in a folder and has no name that starts with a dot."""
    with os.scandir(folder) as entries:
        return [each for each in entries if not each.name.startswith(".")]


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES)


def _holds_images(folder: os.DirEntry) -> bool:
    """Whether there are images in a folder, or two levels below at most."""
    for path, below, names in os.walk(folder.path):
        if any(_is_image(name) and name[0] != "." for name in names):
            return True
        if len(Path(path).relative_to(folder.path).parts) == 2:
            below.clear()
    return False


def list_splits(file: str) -> list[str]:
    """Splits that have a list: of "{split}" in its name, else "train" only.

    Raises:
        OSError: If there is no list for training.
        ValueError: If there are two of a split.
    """
    train = _list_of(file, "train")
    if not os.path.isfile(train):
        raise FileNotFoundError(
            "Expected a list of images after list:. "
            f"Received: {train!r}, which is no file"
        )
    if "{split}" not in file:
        return ["train"]
    return [split for split in SPLITS if os.path.isfile(_list_of(file, split))]


def _list_of(file: str, split: str) -> str:
    """The list of a split, however it is spelled."""
    found = {}
    for word in _SPELLINGS[split]:
        for spelling in (word, word.capitalize(), word.upper()):
            path = file.replace("{split}", spelling)
            if os.path.isfile(path):
                # Case makes no difference to some file systems.
                found.setdefault(os.path.realpath(path), path)
    if len(found) > 1:
        raise ValueError(
            f"Expected one list for {split!r}. Received: "
            f"{' and '.join(map(repr, found.values()))}"
        )
    return next(iter(found.values()), file.replace("{split}", split))


def index_list(
    file: str,
    split: str,
    image_root: str | None = None,
    allow_outside_root: bool = False,
) -> Index:
    """Reads a list of images and labels.

    - `.csv`: a header with `path` and `label`, the names of classes; white
      space around cells is none of them.
    - `.json`: `images`, `annotations` and `categories` as iNaturalist and COCO
      have them; all annotations of an image are of one category, and an image
      that is in the list twice counts once.
    - any other: a line `relative/path label` an image, as ImageNet-LT and
      Places-LT have them; labels are ids from 0, and half of the classes at
      least have images.

    Classes are in the order of `keras_lt.classes.in_order`, as those of folders
    are.

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
            training or has no name that `keras_lt.classes.clean` takes, or a
            path leads out of the root or to no file.
    """
    path = Path(_list_of(file, split))
    read = _READERS.get(path.suffix.lower(), _read_text)
    listed = training = read(path)
    if split != "train":
        training = read(Path(_list_of(file, "train")))
    class_names = training.class_names()
    labels = _labels(listed.of_images, class_names, path)
    root = str(path.parent) if image_root is None else image_root
    paths = [files.encoded(image) for image in listed.paths]
    _check_files(path, root, paths, _Inside(root, allow_outside_root))
    return Index(Paths(root, paths), labels, class_names)


class _Listed(NamedTuple):
    """What a list says.

    Attributes:
        paths: Paths of the images.
        of_images: The name of each one's class.
        class_names: Gives the names of all classes, by label id.
    """

    paths: list[str]
    of_images: list[str]
    class_names: Callable[[], list[str]]


def _read_text(path: Path) -> _Listed:
    paths, labels, numbers = [], [], []
    for number, line in _lines(path):
        if not line.strip():
            continue
        parts = line.rsplit(None, 1)
        if len(parts) < 2 or not re.fullmatch(r"[0-9]{1,6}", parts[1]):
            raise ValueError(
                "Expected lines `relative/path label`, labels being ids from "
                f"0. Received: {path}, line {number}: {brief(line.strip())}"
            )
        paths.append(_image_path(parts[0].strip(), f"{path}, line {number}"))
        labels.append(int(parts[1]))
        numbers.append(number)

    def class_names():
        place = labels.index(max(labels)) if labels else None
        line = "" if place is None else f", line {numbers[place]}"
        return classes.of_ids(labels, f"{path}{line}")

    return _Listed(paths, [str(label) for label in labels], class_names)


def _read_csv(path: Path) -> _Listed:
    rows = _rows(path)
    _, header = next(rows, (1, []))
    columns = [cell.strip() for cell in header]
    if columns.count("path") != 1 or columns.count("label") != 1:
        raise ValueError(
            "Expected a header with the columns path and label, one of each, "
            "separated by commas. "
            f"Received: {path} with the header {brief(header)}"
        )
    paths, of_images, names = [], [], {}
    for number, cells in rows:
        where = f"{path}, line {number}"
        row = dict(zip(columns, cells, strict=False))
        image, label = (
            row.get(column, "").strip(classes.SPACES)
            for column in ("path", "label")
        )
        if not image or not label or any(cells[len(columns) :]):
            raise ValueError(
                "Expected a path and a label in each line, and no more cells "
                f"than the header has. Received: {where}: {brief(cells)}"
            )
        if label not in names:
            names[label] = classes.clean(label, where)
        paths.append(_image_path(image, where))
        of_images.append(names[label])
    distinct = dict.fromkeys(of_images)
    ordered = functools.partial(classes.in_order, distinct, str(path))
    return _Listed(paths, of_images, ordered)


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Rows of a CSV file that are not empty, with the lines they start in."""
    rows = csv.reader(
        (line for _, line in _lines(path)), skipinitialspace=True, strict=True
    )
    while True:
        start = rows.line_num + 1
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            raise ValueError(
                "Expected a CSV file with quotes in pairs and cells of at most "
                f"{csv.field_size_limit():,} characters. "
                f"Received: {path}, line {start} ({error})"
            ) from error
        if any(cell.strip() for cell in cells):
            yield start, cells


def _read_inaturalist(path: Path) -> _Listed:
    try:
        with open(path, encoding="utf-8-sig") as file:
            content = json.load(file)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"Expected a JSON file in UTF-8. Received: {path} ({error})"
        ) from error
    names = _pairs(path, content, "categories", "id", "name", classes.clean)
    listed = _pairs(path, content, "images", "id", "file_name", _image_path)
    of_images = _pairs(path, content, "annotations", "image_id", "category_id")
    for what, ids in (
        ("images without annotation", listed.keys() - of_images.keys()),
        ("annotated images that are not listed", of_images.keys() - listed),
        ("categories that are not listed", {*of_images.values()} - {*names}),
    ):
        if ids:
            raise ValueError(
                "Expected an annotation for each image, with the id of one of "
                f"the categories. Received: {path} with {len(ids):,} {what}, "
                f"such as {brief(min(ids, key=str))}"
            )
    return _Listed(
        [*listed.values()],
        [names[of_images[image]] for image in listed],
        functools.partial(classes.in_order, names.values(), str(path)),
    )


def _pairs(
    path: Path,
    content: Any,
    kind: str,
    key: str,
    value: str,
    check: Callable[[Any, str], Any] = lambda found, where: found,
) -> dict[Any, Any]:
    """What the entries of a kind have under two keys: {`key`: `value`}."""
    entries = content.get(kind) if isinstance(content, dict) else None
    expected = (
        "Expected lists of images (id, file_name), annotations (image_id, "
        "category_id) and categories (id, name), as iNaturalist and COCO have "
        "them"
    )
    if not isinstance(entries, list):
        raise ValueError(f"{expected}. Received: {path} without a list {kind}")
    found, others = {}, {}
    for number, entry in enumerate(entries):
        where = f"{path}, {kind}[{number}]"
        if not isinstance(entry, dict) or not all(
            isinstance(entry.get(each), (str, int, float))
            and not isinstance(entry[each], bool)
            for each in (key, value)
        ):
            raise ValueError(f"{expected}. Received: {where}: {brief(entry)}")
        its_key, its_value = entry[key], check(entry[value], where)
        if found.setdefault(its_key, its_value) != its_value:
            others.setdefault(its_key, its_value)
    if others:
        example, other = next(iter(others.items()))
        raise ValueError(
            f"Expected one {value} for each {key} of {kind}. Received: {path} "
            f"with {len(others):,} that have several, such as {key} "
            f"{brief(example)} with {brief(found[example])} and {brief(other)}"
        )
    return found


_READERS = {".csv": _read_csv, ".json": _read_inaturalist}


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with open(path, encoding="utf-8-sig", newline="") as file:
        try:
            yield from enumerate(file, 1)
        except UnicodeDecodeError as error:
            raise ValueError(
                f"Expected a text file in UTF-8. Received: {path} ({error})"
            ) from error


def _image_path(path: Any, where: str) -> str:
    """Returns a path of a list; refuses what no file can be called."""
    try:
        if path and b"\0" not in path.encode("utf-8", "surrogateescape"):
            return path
    except (AttributeError, UnicodeEncodeError):
        pass
    raise ValueError(
        f"Expected the path of an image. Received: {where}: {brief(path)}"
    )


def _labels(
    of_images: Iterable[str], class_names: Sequence[str], where: Path
) -> np.ndarray:
    """Label ids (N,) of images by the names of their classes."""
    ids = {name: label for label, name in enumerate(class_names)}
    try:
        return np.array([ids[name] for name in of_images], np.int64)
    except KeyError as error:
        (name,) = error.args
        other = classes.alike(name, class_names)
        hint = f" (where training has {other!a})" if other else ""
        raise ValueError(
            "Expected classes that the training images have. "
            f"Received: class {brief(name)} in {where}{hint}"
        ) from None


class _Inside:
    """Refuses what leads out of a folder, unless that is allowed."""

    def __init__(self, root: str | os.PathLike, allowed: bool):
        self.allowed = allowed
        self._root = os.path.realpath(root)

    def refuse(self, what: str | os.PathLike) -> None:
        raise ValueError(
            f"Expected images inside of {self._root} (or "
            f"allow_outside_root). Received: {brief(os.fspath(what))}"
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
    for entry in _visible(folder):
        if entry.is_dir():
            if entry.is_symlink():
                inside.check(entry.path)
            found.append(entry.name)
    return sorted(found)


def _images(folder: Path, inside: _Inside) -> list[str]:
    """Names of the image files in a folder, sorted."""
    found = []
    for entry in _visible(folder):
        if entry.is_dir():
            raise ValueError(
                "Expected images, and no folders, in the folder of a "
                f"class. Received: {entry.path!r}"
            )
        if _is_image(entry.name):
            if entry.is_symlink():
                inside.check(entry.path)
            # A link to nothing is for those who read it.
            if not entry.is_file() and os.path.exists(entry.path):
                raise ValueError(
                    "Expected images in regular files. Received: "
                    f"{entry.path!r}, a FIFO, socket or device"
                )
            found.append(entry.name)
    return sorted(found)


def _check_files(
    where: Path, root: str, paths: Sequence[str], inside: _Inside
) -> None:
    """Refuses paths that lead out of the root, or to no file."""
    missing, others, folders = [], [], set()
    for path in paths:
        if not inside.allowed and (
            os.path.isabs(path) or ".." in path.split("/")
        ):
            inside.refuse(path)
        file = os.path.join(root, path)
        folder = os.path.dirname(file)
        try:
            mode = os.lstat(file).st_mode
            if stat.S_ISLNK(mode):
                inside.check(file)
                mode = os.stat(file).st_mode
            if not stat.S_ISREG(mode):
                others.append(path)
            if folder not in folders:
                inside.check(folder)
                folders.add(folder)
        except OSError:
            missing.append(path)
    if missing:
        raise FileNotFoundError(
            f"Expected the images of {where} in {root!r} (see image_root). "
            f"Received: {len(missing):,} missing, such as {brief(missing[0])}"
        )
    if others:
        raise ValueError(
            f"Expected files of images in {where}. Received: {len(others):,} "
            "folders, devices and the like, such as "
            f"{brief(os.path.join(root, others[0]))}"
        )
