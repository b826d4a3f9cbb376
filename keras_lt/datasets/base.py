"""Labeled images in memory, and the subsets that studies use."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_lt import classes, counts
from keras_lt.messages import brief


class Dataset:
    """Images and labels in memory, addressed by index.

    Args:
        images: (N, H, W, C), uint8 or float32.
        labels: (N,), integers from 0 to `len(class_names) - 1`.
        class_names: One name per class, by label id; white space around a name
            is none of it.

    Attributes:
        images: (N, H, W, C). Once streams read them they can't be written to.
        labels: int64 (N,).
        class_names: tuple of C strings.
        framing: How images of another shape become squares, see `decode`;
            "center" where all have one size.

    Raises:
        TypeError: If images or labels have another dtype, or class names are
            not text or have no order.
        ValueError: If shapes do not fit, there is no image, a label is out of
            range, or a float image is not finite; if a name is empty, is not
            one line of UTF-8, or occurs twice, or two differ only by white
            space, Unicode form or, where all are numbers, not by value.

    Example:
        >>> data = keras_lt.datasets.Dataset(images, labels, class_names)
        >>> data.num_classes, data.image_shape
        (10, (8, 8, 1))
        >>> len(data.subset(np.arange(100)))
        100
    """

    framing = "center"

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
                "Expected images of shape (N, H, W, C); gray images have "
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
        if images.dtype == np.float32 and not np.isfinite(images).all():
            raise ValueError(
                "Expected finite images. Received: images with "
                f"{np.count_nonzero(~np.isfinite(images))} NaN or infinite "
                "values"
            )
        self.images = images
        self._tensor = None
        self._set_labels(labels, class_names)

    def _set_labels(self, labels: np.ndarray, class_names: Any) -> None:
        if not np.issubdtype(labels.dtype, np.integer):
            raise TypeError(
                "Expected integer labels. "
                f"Received: labels.dtype={labels.dtype}"
            )
        class_names = classes.checked(class_names, "class_names")
        if labels.min() < 0 or labels.max() >= len(class_names):
            raise ValueError(
                f"Expected labels from 0 to {len(class_names) - 1}, for "
                f"{len(class_names)} classes. Received: labels from "
                f"{labels.min()} to {labels.max()}"
            )
        self.labels = labels.astype(np.int64)
        self.class_names = class_names

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def class_counts(self) -> np.ndarray:
        """Images per class, int64 (C,), by label id."""
        return np.bincount(self.labels, minlength=self.num_classes)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.images.shape[1:]

    def subset(self, indices: Any) -> "Dataset":
        """Returns the images at `indices`, in their order, all classes kept."""
        return Dataset(
            self.images[indices], self.labels[indices], self.class_names
        )

    def batch_reader(
        self, random_resized_crop: bool = False, min_area: float | None = None
    ) -> Callable[[tf.Tensor, tf.Tensor | None], tf.Tensor]:
        """Returns how streams get at images, as a function for graphs.

        Args:
            random_resized_crop: For data sets of files, see `FileDataset`.
            min_area: The same.

        Returns:
            The function (indices int64 (B,), seeds uint64 (B,)) -> images (B,
            H, W, C). Images in memory need no seeds.

        Raises:
            ValueError: If images in memory are to be cropped: they have one
                size already, and `keras_lt.preprocessing` has their crops.

        Example:
            >>> read = train.batch_reader()
            >>> indices = tf.constant([3, 1], tf.int64)
            >>> read(indices, tf.zeros(2, tf.uint64)).shape
            TensorShape([2, 8, 8, 1])
        """
        if random_resized_crop:
            raise ValueError(
                "Expected a data set of files with random_resized_crop. "
                f"Received: {type(self).__name__} of images in memory"
            )
        images = self._as_tensor()
        return lambda indices, seeds=None: tf.gather(images, indices)

    def _as_tensor(self) -> tf.Tensor:
        """The images as a tensor: one for all readers, and `images` too."""
        if self._tensor is None:
            with tf.init_scope(), tf.device("CPU:0"):
                self._tensor = tf.constant(self.images)
            self.images = np.asarray(memoryview(self._tensor))
        return self._tensor

    def channel_statistics(self) -> tuple[list[float], list[float]]:
        """Returns mean and variance a channel, for `ImageNormalization`.

        Example:
            >>> mean, variance = train.channel_statistics()
            >>> backbone = keras_lt.models.backbones.cifar_resnet(
            ...     8,
            ...     input_shape=train.image_shape,
            ...     mean=mean,
            ...     variance=variance,
            ... )
        """
        channels = self.image_shape[-1]
        total, squares = np.zeros(channels), np.zeros(channels)
        step = max(1, min(1024, 2**22 // int(np.prod(self.image_shape))))
        for start in range(0, len(self), step):
            chunk = self.images[start : start + step].astype(np.float64)
            total += chunk.sum(axis=(0, 1, 2))
            squares += np.square(chunk).sum(axis=(0, 1, 2))
        pixels = len(self) * self.image_shape[0] * self.image_shape[1]
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
            label, of which half at least need images then. A class that has a
            name and no image is legal.

    Returns:
        A `Dataset`. Its constructor says which errors it raises.

    Example:
        >>> data = keras_lt.datasets.from_arrays(images, labels, class_names)
        >>> len(data) == len(labels)
        True
    """
    if class_names is None:
        labels = np.asarray(labels)
        integral = np.issubdtype(labels.dtype, np.integer)
        class_names = classes.of_ids(labels, "labels") if integral else ()
    return Dataset(images, labels, class_names)


def check_split(name: str, split: str, known: Iterable[str]) -> None:
    """Refuses a split that the data set `name` does not have."""
    if split not in known:
        raise ValueError(
            f"Expected a split of {name}: {', '.join(sorted(known))}. "
            f"Received: split={split!r}"
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
        selection: "nested": each class in a seeded order, whose first n_k
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
        >>> train = keras_lt.datasets.load("digits", split="train")
        >>> train = keras_lt.datasets.long_tail(train, imbalance_factor=10)
        >>> train.class_counts[[0, 9]]
        array([131,  13])
    """
    return dataset.subset(
        _long_tail(dataset, imbalance_factor, profile, seed, selection)
    )


def long_tail_split(
    dataset: Dataset,
    imbalance_factor: float,
    fraction: float = 0.1,
    *,
    profile: str = "exp",
    seed: int = 0,
    selection: str = "nested",
) -> tuple[Dataset, Dataset]:
    """Cuts a data set to a long tail, and balanced test images beside it.

    The test images are those that the cut leaves out: as many of each class,
    round(fraction * n) with n images of the smallest class of `dataset`. Where
    the cut leaves fewer of a class, which is so of the largest, it loses
    images to the test. On them methods can be compared and settings be chosen,
    so that a test set is not seen before they are.

    Args:
        dataset: As in `long_tail`.
        imbalance_factor: As in `long_tail`.
        fraction: Share of the images of a class to test on, in (0, 1).
        profile: As in `long_tail`.
        seed: As in `long_tail`; also chooses the test images.
        selection: As in `long_tail`.

    Returns:
        (training, test), disjoint.

    Raises:
        ValueError: As in `long_tail`; if the fraction leaves no image of a
            class for the training or the test.

    Example:
        >>> train = keras_lt.datasets.load("digits", split="train")
        >>> train, test = keras_lt.datasets.long_tail_split(train, 10)
        >>> train.class_counts[[0, 9]], set(test.class_counts.tolist())
        (array([120,  13]), {13})
    """
    kept = _long_tail(dataset, imbalance_factor, profile, seed, selection)
    is_kept = np.zeros(len(dataset), bool)
    is_kept[kept] = True
    least = dataset.class_counts.min()
    size = int(np.floor(fraction * least + 0.5))
    if not 0 < size < least:
        raise ValueError(
            "Expected a fraction in (0, 1) that leaves images of each class to "
            f"train on and to test on. Received: fraction={fraction} of "
            f"{least} images of the smallest class"
        )
    is_test = np.zeros(len(dataset), bool)
    for label in range(dataset.num_classes):
        members = np.flatnonzero(dataset.labels == label)
        # What the cut keeps comes last.
        order = np.random.default_rng([seed, label, 1]).permutation(members)
        order = order[np.argsort(is_kept[order], kind="stable")]
        is_test[order[:size]] = True
    return dataset.subset(kept[~is_test[kept]]), dataset.subset(is_test)


def _long_tail(
    dataset: Dataset,
    imbalance_factor: float,
    profile: str,
    seed: int,
    selection: str,
) -> np.ndarray:
    """Indices of what `long_tail` keeps, in its order."""
    if selection not in ("nested", "ldam"):
        raise ValueError(
            'Expected selection "nested" or "ldam". '
            f"Received: selection={selection!r}"
        )
    available = dataset.class_counts
    if not available.all():
        raise ValueError(
            "Expected images in every class, to cut them to a profile. "
            f"Received: class_counts={brief(available)}"
        )
    wanted = counts.long_tail_counts(
        dataset.num_classes, int(available.min()), imbalance_factor, profile
    )
    if selection == "ldam":
        return counts.ldam_selection(dataset.labels, wanted, seed)
    return np.sort(_first_of_each(dataset, wanted, seed))


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
            f"fraction={fraction}, class_counts={brief(available)}"
        )
    held_out = np.zeros(len(dataset), bool)
    held_out[_first_of_each(dataset, wanted, seed)] = True
    return dataset.subset(~held_out), dataset.subset(held_out)
