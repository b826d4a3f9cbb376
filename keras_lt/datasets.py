"""Labelled images with random access, and the subsets that studies use."""

import os
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_lt import counts


class Dataset:
    """Images and labels in memory, addressed by index.

    Args:
        images: (N, H, W, C), uint8 or float32.
        labels: (N,), integers from 0 to `len(class_names) - 1`.
        class_names: One name a class, by label id.

    Attributes:
        images: (N, H, W, C).
        labels: int64 (N,).
        class_names: tuple of C strings.

    Raises:
        TypeError: If images or labels have another dtype.
        ValueError: If shapes do not fit, there is no image, a label is out of
            range, a name occurs twice, or a float image is not finite.

    Example:
        >>> train = keras_lt.datasets.load("digits", split="train")
        >>> len(train), train.num_classes, train.image_shape
        (1347, 10, (8, 8, 1))
    """

    def __init__(self, images: Any, labels: Any, class_names: Sequence[str]):
        images, labels = np.asarray(images), np.asarray(labels)
        if images.dtype == np.float64:
            images = images.astype(np.float32)
        if images.dtype not in (np.uint8, np.float32):
            raise TypeError(
                "Expected images of dtype uint8 or float32. "
                f"Received: images.dtype={images.dtype}"
            )
        if images.ndim != 4:
            raise ValueError(
                "Expected images of shape (N, H, W, C); grey images have "
                f"C = 1. Received: images.shape={images.shape}"
            )
        if len(images) == 0:
            raise ValueError(
                "Expected at least one image. "
                f"Received: images.shape={images.shape}"
            )
        if labels.shape != images.shape[:1]:
            raise ValueError(
                "Expected one label for each image. Received: "
                f"labels.shape={labels.shape}, images.shape={images.shape}"
            )
        if not np.issubdtype(labels.dtype, np.integer):
            raise TypeError(
                "Expected integer labels. "
                f"Received: labels.dtype={labels.dtype}"
            )
        if images.dtype == np.float32 and not np.isfinite(images).all():
            raise ValueError(
                "Expected finite images. Received: images with "
                f"{np.count_nonzero(~np.isfinite(images))} NaN or infinite "
                "values"
            )
        class_names = tuple(str(name) for name in class_names)
        if len(set(class_names)) < len(class_names):
            raise ValueError(
                "Expected class names without repetition. "
                f"Received: class_names={class_names}"
            )
        if labels.min() < 0 or labels.max() >= len(class_names):
            raise ValueError(
                f"Expected labels from 0 to {len(class_names) - 1}, for "
                f"{len(class_names)} classes. Received: labels from "
                f"{labels.min()} to {labels.max()}"
            )
        self.images = images
        self.labels = labels.astype(np.int64)
        self.class_names = class_names

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def class_counts(self) -> np.ndarray:
        """Images a class, int64 (C,), by label id."""
        return np.bincount(self.labels, minlength=self.num_classes)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.images.shape[1:]

    def subset(self, indices: Any) -> "Dataset":
        """Returns the images at `indices`, in their order, all classes kept."""
        return Dataset(
            self.images[indices], self.labels[indices], self.class_names
        )

    def channel_statistics(self) -> tuple[list[float], list[float]]:
        """Returns mean and variance a channel, for `ImageNormalization`."""
        channels = self.image_shape[-1]
        total, squares = np.zeros(channels), np.zeros(channels)
        for start in range(0, len(self), 1024):
            chunk = self.images[start : start + 1024].astype(np.float64)
            total += chunk.sum(axis=(0, 1, 2))
            squares += np.square(chunk).sum(axis=(0, 1, 2))
        pixels = self.images.size // channels
        mean = total / pixels
        variance = np.maximum(squares / pixels - mean**2, 0.0)
        return mean.tolist(), variance.tolist()


def from_arrays(
    images: Any, labels: Any, class_names: Sequence[str] | None = None
) -> Dataset:
    """Makes a data set of arrays.

    Args:
        images: (N, H, W, C), uint8 or floating.
        labels: (N,) integers.
        class_names: Names by label id; None names classes "0" to the largest
            label. A class that has a name and no image is legal.

    Returns:
        A `Dataset`. Its constructor says which errors it raises.

    Example:
        >>> data = keras_lt.datasets.from_arrays(images, labels, ["cat", "dog"])
    """
    if class_names is None:
        labels = np.asarray(labels)
        integral = np.issubdtype(labels.dtype, np.integer)
        largest = np.max(labels, initial=0) if integral else 0
        class_names = [str(label) for label in range(largest + 1)]
    return Dataset(images, labels, class_names)


def load(name: str, *, split: str, data_dir: str | None = None) -> Dataset:
    """Loads a data set by name into memory.

    Args:
        name: "digits" (8x8 grey, comes with scikit-learn; three quarters for
            training, stratified, always the same), or the name of a TFDS
            image-classification data set whose images have one size:
            "cifar10", "cifar100", "svhn_cropped", ...
        split: "train", "test", or another that the data set has.
        data_dir: Where TFDS keeps prepared data sets; None is TFDS' default
            (TFDS_DATA_DIR, or a folder in the home directory). What is not
            there is downloaded by TFDS.

    Returns:
        A `Dataset` with uint8 images. Where TFDS stores an `id` with each
        image, images are in the order of their ids (for TFDS' own CIFAR that
        of the original files), else in TFDS' fixed order.

    Raises:
        ValueError: If the data set or split is unknown, is not one of images
            of one size with one label, or does not fit into memory.
        FileNotFoundError: If `data_dir` does not exist, or the data set is
            not prepared and can't be downloaded.

    Example:
        >>> train = keras_lt.datasets.load("cifar10", split="train")
        >>> len(train), train.image_shape
        (50000, (32, 32, 3))
    """
    if name == "digits":
        return _load_digits(split)
    return _load_tfds(name, split, data_dir)


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
    _check_split("digits", split, indices)
    names = [str(name) for name in digits.target_names]
    return Dataset(images, digits.target, names).subset(indices[split])


def _check_split(name: str, split: str, known: Any) -> None:
    if split not in known:
        raise ValueError(
            f"Expected a split of {name}: {', '.join(sorted(known))}. "
            f"Received: split={split!r}"
        )


def _load_tfds(name: str, split: str, data_dir: str | None) -> Dataset:
    if data_dir is not None:
        data_dir = os.path.expanduser(data_dir)
    is_local = data_dir is not None and "://" not in data_dir
    if is_local and not os.path.isdir(data_dir):
        raise FileNotFoundError(
            "Expected data_dir to be a folder of prepared TFDS data sets. "
            f"Received: data_dir={data_dir!r}, which does not exist"
        )
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except (
        tfds.core.DatasetNotFoundError,
        AssertionError,  # a version that does not exist
        ValueError,
    ) as error:
        raise ValueError(
            'Expected "digits" or the name of a TFDS data set, such as '
            '"cifar10", "cifar100" or "svhn_cropped". '
            f"Received: name={name!r}"
        ) from error
    info = builder.info
    keys = info.supervised_keys
    features = info.features
    if (
        not keys
        or len(keys) != 2
        or not isinstance(features[keys[0]], tfds.features.Image)
        or not isinstance(features[keys[1]], tfds.features.ClassLabel)
        or None in features[keys[0]].shape
    ):
        raise ValueError(
            "Expected a data set of images of one size, each with one class "
            f"label. Received: name={name!r} with features {features}"
        )
    try:
        if not builder.data_path.exists():
            _check_reachable(builder.url_infos)
        builder.download_and_prepare()
    except Exception as error:  # TFDS raises a dozen kinds, by server
        raise FileNotFoundError(
            f"Expected {name} to be prepared in {builder.data_path}, or to be "
            f"downloadable. Received: {type(error).__name__}: "
            f"{str(error).splitlines()[0] if str(error) else ''}"
        ) from error
    _check_split(name, split, info.splits)
    image_key, label_key = keys
    num_images = info.splits[split].num_examples
    shape = (num_images, *features[image_key].shape)
    _check_memory(name, shape)
    images = np.empty(shape, np.uint8)
    labels = np.empty(num_images, np.int64)
    ids = []
    wanted = {key for key in (*keys, "id") if key in features}
    examples = builder.as_dataset(
        split=split,
        decoders=tfds.decode.PartialDecoding(wanted),
        shuffle_files=False,
    ).batch(1024)
    start = 0
    for batch in examples.as_numpy_iterator():
        stop = start + len(batch[label_key])
        images[start:stop] = batch[image_key]
        labels[start:stop] = batch[label_key]
        ids.extend(batch.get("id", ()))
        start = stop
    dataset = Dataset(images, labels, features[label_key].names)
    return dataset.subset(np.argsort(ids, kind="stable")) if ids else dataset


def _check_reachable(urls: Mapping[str, Any] | None) -> None:
    """Fails at once offline, where TFDS retries for minutes."""
    for url in list(urls or ())[:1]:
        if url.startswith("http"):
            head = urllib.request.Request(url, method="HEAD")
            urllib.request.urlopen(head, timeout=10).close()


def _check_memory(name: str, shape: tuple[int, ...]) -> None:
    needed = int(np.prod(shape, dtype=np.int64))
    available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if needed > available // 2:
        raise ValueError(
            "Expected a data set whose uint8 images fit into half of the "
            f"memory ({available // 2 / 1e9:.1f} GB). Received: "
            f"name={name!r} with images of shape {shape}, "
            f"{needed / 1e9:.1f} GB"
        )


def long_tail(
    dataset: Dataset,
    imbalance_factor: float,
    *,
    profile: str = "exp",
    seed: int = 0,
    selection: str = "nested",
) -> Dataset:
    """Cuts a data set to long-tailed class counts.

    The counts are those of `counts.long_tail_counts`, class 0 the largest,
    with the smallest class of `dataset` as the largest count, so that they
    follow the profile whatever the data set's own counts are. CIFAR-10 at
    100 keeps 12,406 images.

    Args:
        dataset: Where the images come from; each class needs one.
        imbalance_factor: Largest over smallest class count, at least 1.
        profile: "exp" (n_k falls exponentially) or "step" (half the classes
            are large, half small).
        seed: Chooses the images.
        selection: "nested": a seeded order a class, of which the first n_k
            stay, in the data set's order. "ldam": the images, and their
            order, of the official LDAM-DRW code for its `rand_number=seed`
            (whose published splits are those of seed 0), if the images of
            each class are in the order of the original files. In both, a set
            with a larger factor is contained in that with a smaller one.

    Returns:
        The subset, a `Dataset` with the same classes.

    Raises:
        ValueError: If an argument is out of its range or a class of `dataset`
            has no image.

    Example:
        >>> train = keras_lt.datasets.load("cifar10", split="train")
        >>> keras_lt.datasets.long_tail(train, 100).class_counts[[0, 9]]
        array([5000,   50])
    """
    if selection not in ("nested", "ldam"):
        raise ValueError(
            'Expected selection "nested" or "ldam". '
            f"Received: selection={selection!r}"
        )
    available = dataset.class_counts
    if not available.all():
        raise ValueError(
            "Expected images in every class, to cut them to a profile. "
            f"Received: class_counts={available.tolist()}"
        )
    wanted = counts.long_tail_counts(
        dataset.num_classes, int(available.min()), imbalance_factor, profile
    )
    if selection == "ldam":
        indices = counts.ldam_selection(dataset.labels, wanted, seed)
    else:
        indices = np.sort(_first_of_each(dataset, wanted, seed))
    return dataset.subset(indices)


def _first_of_each(dataset: Dataset, wanted: Any, seed: int) -> np.ndarray:
    """The first `wanted` indices of each class, in a seeded order."""
    chosen = []
    for label, count in enumerate(wanted):
        members = np.flatnonzero(dataset.labels == label)
        generator = np.random.default_rng([seed, label])
        chosen.append(generator.permutation(members)[:count])
    return np.concatenate(chosen)


def holdout(
    dataset: Dataset, fraction: float, seed: int = 0
) -> tuple[Dataset, Dataset]:
    """Splits a data set into a training and a held-out part, stratified.

    Of a class with n images, round(fraction * n) are held out, but at least
    one stays in training. A class with one image has none held out.

    Args:
        dataset: What to split.
        fraction: Share to hold out, in (0, 1).
        seed: Chooses the images.

    Returns:
        (training, held out), disjoint, each in the order of `dataset`.

    Raises:
        ValueError: If the fraction is out of range, or so small that no image
            would be held out.

    Example:
        >>> train, validation = keras_lt.datasets.holdout(train, 0.1, seed=0)
    """
    if not 0.0 < fraction < 1.0:
        raise ValueError(
            f"Expected a fraction in (0, 1). Received: fraction={fraction}"
        )
    available = dataset.class_counts
    wanted = np.floor(fraction * available + 0.5).astype(np.int64)
    wanted = np.clip(wanted, 0, np.maximum(available - 1, 0))
    if not wanted.any():
        raise ValueError(
            "Expected a fraction that holds out at least one image. Received: "
            f"fraction={fraction}, class_counts={available.tolist()}"
        )
    held_out = np.zeros(len(dataset), bool)
    held_out[_first_of_each(dataset, wanted, seed)] = True
    return dataset.subset(~held_out), dataset.subset(held_out)
