"""Data sets by name: embedded, of folders and lists of files, of TFDS."""

import os

import numpy as np

from keras_lt.datasets import decoding, prepared, sources
from keras_lt.datasets.base import Dataset, check_split, holdout
from keras_lt.datasets.files import FileDataset


def load(
    name: str,
    *,
    split: str,
    data_dir: str | None = None,
    image_size: int = 224,
    image_root: str | None = None,
    on_bad_image: str = "fail",
    max_pixels: int = decoding.MAX_PIXELS,
    allow_outside_root: bool = False,
    test_fraction: float = 0.2,
    split_seed: int = 0,
) -> Dataset:
    """Loads a data set by name.

    Args:
        name: What to load:

            - "digits": 8x8 gray, comes with scikit-learn; three quarters for
              training, stratified, always the same.
            - "folder:PATH": images in PATH/train/CLASS, and in PATH/val/CLASS
              and PATH/test/CLASS if these are there; or in PATH/CLASS. Classes
              are the folders for training. Instead of train, val and test
              stand training, valid, validation, dev and testing too, in any
              case. `left_out` tells what is not read.
            - "list:FILE": paths and labels in a text file of lines
              `relative/path label`, a CSV file with the columns `path` and
              `label`, or a JSON file as iNaturalist and COCO have it; "{split}"
              in FILE stands for train, val or test, however spelled.
            - the name of a TFDS image-classification data set: "cifar10",
              "svhn_cropped", "imagenet_lt", ... Images of one size that fit
              into memory are loaded, and downloaded if need be; others must
              be prepared as array_record files.

            Wherever they come from, classes are in order of value if all
            their names are numbers, else in order of name.
        split: "train", "test", or another that the data set has. Where a folder
            or list has no "test", it is cut from its training images.
        data_dir: Where TFDS keeps prepared data sets; None is TFDS' default
            (TFDS_DATA_DIR, or a folder in the home directory). What is not
            there is downloaded by TFDS.
        image_size: Side of the images that are decoded from files.
        image_root: The folder that the paths of a list start from; None is
            that of the list.
        on_bad_image: "fail" or "replace", see `FileDataset`.
        max_pixels: The most that an image in a file may have, see
            `FileDataset`.
        allow_outside_root: Whether symbolic links, and the paths of a list,
            may lead out of the folder of the images.
        test_fraction: Part of the training images of each class that is the
            test set of a folder or list without one, rounded as `holdout`
            does; 0 cuts none.
        split_seed: Chooses these.

    Returns:
        A `Dataset` in memory, or a `FileDataset`. Where TFDS stores an `id`
        with each image of one in memory, images are in the order of their ids
        (for TFDS' own CIFAR that of the original files), else in TFDS' fixed
        order.

    Raises:
        ValueError: If the data set or split is unknown, is not one of images
            with one label, or is of files that `FileDataset` can't take.
        FileNotFoundError: If a folder or file does not exist, or the data set
            is not prepared and can't be downloaded.

    Example:
        >>> train = keras_lt.datasets.load("digits", split="train")
        >>> len(train), train.image_shape
        (1347, (8, 8, 1))
        >>> photos = keras_lt.datasets.load(
        ...     "folder:photos", split="train", image_size=32
        ... )
        >>> photos.class_names
        ('a', 'b')
    """
    if name == "digits":
        return _load_digits(split)
    of_files = {
        "image_size": image_size,
        "on_bad_image": on_bad_image,
        "max_pixels": max_pixels,
    }
    kind, place = _kind(name)
    if kind is None:
        return prepared.load(name, split, data_dir, **of_files)
    known = splits(name)
    is_cut = "test" not in known and test_fraction
    check_split(name, split, [*known, *(["test"] if is_cut else [])])
    whole = "train" if is_cut and split == "test" else split
    if kind == "folder":
        index = sources.index_folder(place, whole, allow_outside_root)
    else:
        index = sources.index_list(place, whole, image_root, allow_outside_root)
    if not len(index.paths):
        raise ValueError(
            "Expected at least one image. "
            f"Received: split {whole!r} of {name} without images"
        )
    dataset = FileDataset(*index, **of_files)
    if is_cut and whole == "train":
        train, test = holdout(dataset, test_fraction, split_seed)
        return train if split == "train" else test
    return dataset


def splits(name: str, data_dir: str | None = None) -> list[str]:
    """Splits that a data set has, without any that `load` would cut.

    Args:
        name: As `load` takes it.
        data_dir: As `load` takes it.

    Returns:
        Their names.

    Raises:
        ValueError: If the data set is unknown.
        FileNotFoundError: If a folder or file does not exist.

    Example:
        >>> keras_lt.datasets.splits("digits")
        ['train', 'test']
    """
    if name == "digits":
        return ["train", "test"]
    kind, place = _kind(name)
    if kind == "folder":
        return sources.folder_splits(place)
    if kind == "list":
        return sources.list_splits(place)
    return prepared.splits(name, data_dir)


def left_out(name: str) -> sources.LeftOut:
    """Tells what a folder of images has that `load` does not read.

    Args:
        name: As `load` takes it. Of other data sets than "folder:PATH"
            nothing is left out.

    Returns:
        `files`: paths of files with other endings than `IMAGE_SUFFIXES` in the
        folders of classes, and of images in no such folder; `folders`: paths
        of those that hold images beside the folders of the splits.

    Raises:
        OSError: If a folder can't be read.
        ValueError: If there are two folders for a split.

    Example:
        >>> keras_lt.datasets.left_out("folder:photos")
        LeftOut(files=[], folders=[])
    """
    kind, place = _kind(name)
    if kind != "folder":
        return sources.LeftOut([], [])
    return sources.left_out(place)


def _kind(name: str) -> tuple[str | None, str]:
    kind, colon, place = name.partition(":")
    if colon and kind in ("folder", "list"):
        return kind, os.path.expanduser(place)
    return None, name


def _load_digits(split: str) -> Dataset:
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)[..., None]
    train, test = train_test_split(
        np.arange(len(images)),
        test_size=0.25,
        stratify=digits.target,
        random_state=0,
    )
    indices = {"train": np.sort(train), "test": np.sort(test)}
    check_split("digits", split, indices)
    names = [str(name) for name in digits.target_names]
    return Dataset(images, digits.target, names).subset(indices[split])
