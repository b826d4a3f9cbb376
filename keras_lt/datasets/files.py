"""Labeled images that stay in their files until they are asked for."""

import functools
import hashlib
import io
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_lt import files, seeding
from keras_lt.arguments import framing as checked_framing
from keras_lt.datasets.base import Dataset
from keras_lt.datasets.decoding import (
    CROP_DRAWS,
    MAX_PIXELS,
    MIN_AREA,
    BadImageError,
    check_max_pixels,
    decode,
)

ON_BAD_IMAGE = ("fail", "replace")
_STATISTICS_IMAGES = 2_000


class ImageSource(Protocol):
    """Where the encoded images of a data set are, by index.

    Example:
        >>> class Contents(keras_lt.datasets.ImageSource):
        ...     def __init__(self, contents):
        ...         self.contents = contents
        ...
        ...     def __len__(self):
        ...         return len(self.contents)
        ...
        ...     def name(self, index):
        ...         return f"image {index}"
        ...
        ...     def read(self, index):
        ...         return self.contents[index]
        >>> source = Contents([Path("cat.jpg").read_bytes()])
        >>> data = keras_lt.datasets.FileDataset(
        ...     source, [0], ["cat", "dog"], image_size=32
        ... )
    """

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """What errors call the image."""

    def read(self, index: int) -> bytes:
        """The content of its file."""


class Paths:
    """Paths of many files in one buffer, which is all the memory they take.

    Args:
        root: The folder that paths start from.
        paths: Paths below it.

    Example:
        >>> paths = keras_lt.datasets.Paths("photos", ["a/1.jpg", "b/2.png"])
        >>> paths.name(1)
        'photos/b/2.png'
    """

    def __init__(self, root: str | os.PathLike, paths: Iterable[str]):
        self.root = os.fspath(root)
        buffer, ends = bytearray(), [0]
        for path in paths:
            buffer += os.fsencode(path)
            ends.append(len(buffer))
        self._buffer, self._ends = bytes(buffer), np.array(ends)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def name(self, index: int) -> str:
        start, end = self._ends[index], self._ends[index + 1]
        return os.path.join(self.root, os.fsdecode(self._buffer[start:end]))

    def read(self, index: int) -> bytes:
        return files.read(self.name(index))


class FileDataset(Dataset):
    """Labeled images in files, decoded by index when they are asked for.

    Memory holds where the images are and their labels, whatever their number.
    Any size and mode is decoded to RGB of one size, as `decode` describes it:
    for evaluation, or in streams that ask for it by `random_resized_crop` a
    random crop that depends on nothing but the seed of its position.

    Args:
        source: Where the encoded images are, such as `Paths`.
        labels: (N,), integers from 0 to `len(class_names) - 1`.
        class_names: One name per class, by label id.
        image_size: Side of the decoded images, S.
        on_bad_image: What to do about an image that can't be decoded. "fail"
            raises an error that names it; "replace" takes the next image of
            its class, always the same one, and counts it in `replaced`. A file
            that can't be read at all is an error in either case.
        max_pixels: An image of more pixels counts as one that can't be
            decoded: a small file may hold more than fits into memory.

    Attributes:
        images: Stands for the array (N, S, S, 3): `images[indices]` decodes
            these.
        labels: int64 (N,).
        class_names: tuple of C strings.
        framing: How images become squares, see `decode` and `at_size`.
        replaced: How often each bad image was replaced, by its name; shared
            with the data sets that `subset` makes of this one.

    Raises:
        TypeError: If labels are no integers.
        ValueError: If an argument is out of its range, or lengths differ.

    Example:
        >>> paths = keras_lt.datasets.Paths("photos", ["a/1.jpg", "b/2.png"])
        >>> data = keras_lt.datasets.FileDataset(
        ...     paths, [0, 1], ["a", "b"], image_size=32
        ... )
        >>> data.images[:2].shape
        (2, 32, 32, 3)
        >>> data.at_size(48, framing="whole").image_shape
        (48, 48, 3)
    """

    def __init__(
        self,
        source: ImageSource,
        labels: Any,
        class_names: Sequence[str],
        *,
        image_size: int = 224,
        on_bad_image: str = "fail",
        max_pixels: int = MAX_PIXELS,
    ):
        labels = np.asarray(labels)
        if labels.shape != (len(source),) or len(source) == 0:
            raise ValueError(
                "Expected one label for each image, and one image at least. "
                f"Received: {len(source)} images, labels.shape={labels.shape}"
            )
        _check_image_size(image_size)
        if on_bad_image not in ON_BAD_IMAGE:
            raise ValueError(
                f"Expected on_bad_image to be one of {ON_BAD_IMAGE}. "
                f"Received: on_bad_image={on_bad_image!r}"
            )
        check_max_pixels(max_pixels)
        self._set_labels(labels, class_names)
        self.source = source
        self.image_size = image_size
        self.on_bad_image = on_bad_image
        self.max_pixels = max_pixels
        self.framing = "center"
        self.replaced: dict[str, int] = {}
        self._rows = np.arange(len(source))

    @property
    def images(self) -> "_Images":
        return _Images(self)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.image_size, self.image_size, 3

    def name(self, index: int) -> str:
        """Returns what errors call an image: its path, escaped if need be."""
        return files.printable(self.source.name(self._rows[index]))

    def read(self, index: int) -> bytes:
        """Returns the content of an image's file."""
        return self.source.read(self._rows[index])

    def subset(self, indices: Any) -> "FileDataset":
        """Returns the images at `indices`, in their order, all classes kept."""
        part = object.__new__(FileDataset)
        part.__dict__.update(self.__dict__)
        part._rows, part.labels = self._rows[indices], self.labels[indices]
        return part

    def at_size(
        self, image_size: int, framing: str = "center"
    ) -> "FileDataset":
        """Returns the same images, decoded to another size.

        Args:
            image_size: Side of the decoded images.
            framing: How they become squares, see `decode`.

        Raises:
            ValueError: If an argument is out of its range.
        """
        _check_image_size(image_size)
        found = self.subset(slice(None))
        found.image_size = image_size
        found.framing = checked_framing(framing)
        return found

    def batch_reader(
        self, random_resized_crop: bool = False, min_area: float = MIN_AREA
    ) -> Callable[[tf.Tensor, tf.Tensor | None], tf.Tensor]:
        """Returns how streams get at images, as a function for graphs.

        It decodes in the thread that calls it: tf.data has several.

        Args:
            random_resized_crop: Whether images are cropped at random, a pure
                function of their seeds, and not in the center.
            min_area: Least area of a random crop, in (0, 1] of the image.

        Returns:
            The function (indices int64 (B,), seeds uint64 (B,)) -> images
            uint8 (B, S, S, 3).

        Raises:
            ValueError: If the area is out of its range.
        """
        if not 0 < min_area <= 1:
            raise ValueError(
                f"Expected min_area in (0, 1]. Received: min_area={min_area}"
            )

        def read(indices, seeds=None):
            arguments = [indices]
            if random_resized_crop:
                draws = seeding.uniform(seeds, int(np.prod(CROP_DRAWS)))
                arguments.append(draws)
            # Not stateful: else tf.data would call it once at a time where
            # ops are to be deterministic.
            images = tf.numpy_function(
                functools.partial(self._read, min_area),
                arguments,
                tf.uint8,
                stateful=False,
            )
            images.set_shape((*indices.shape, *self.image_shape))
            return images

        return read

    def channel_statistics(self) -> tuple[list[float], list[float]]:
        """Returns mean and variance a channel, for `ImageNormalization`.

        They are those of 2,000 images at most, always the same ones.
        """
        size = min(len(self), _STATISTICS_IMAGES)
        chosen = np.random.default_rng(0).permutation(len(self))[:size]
        return Dataset.channel_statistics(self.subset(np.sort(chosen)))

    def _read(
        self,
        min_area: float,
        indices: np.ndarray,
        draws: np.ndarray | None = None,
    ) -> np.ndarray:
        images = np.empty((len(indices), *self.image_shape), np.uint8)
        for place, index in enumerate(indices):
            crop = []
            if draws is not None:
                crop = [draws[place].reshape(CROP_DRAWS), min_area]
            images[place] = self._decode(index, *crop)
        return images

    def _decode(self, index: int, *crop: Any) -> np.ndarray:
        try:
            return self._decode_itself(index, *crop)
        except BadImageError as error:
            name = self.name(index)
            if self.on_bad_image == "fail":
                raise ValueError(
                    "Expected an image that can be decoded. "
                    f"Received: {name} ({error})"
                ) from error
        for other in self._next_of_class(index):
            try:
                image = self._decode_itself(other, *crop)
            except BadImageError:
                continue
            self.replaced[name] = self.replaced.get(name, 0) + 1
            return image
        label = self.labels[index]
        raise ValueError(
            "Expected an image that can be decoded in class "
            f"{self.class_names[label]!r}. Received: none of its "
            f"{self.class_counts[label]}"
        )

    def _decode_itself(self, index: int, *crop: Any) -> np.ndarray:
        return decode(
            self.read(index),
            self.image_size,
            *crop,
            max_pixels=self.max_pixels,
            framing=self.framing,
        )

    def _next_of_class(self, index: int) -> np.ndarray:
        """The other images of its class, from the next one around."""
        members = np.flatnonzero(self.labels == self.labels[index])
        place = np.searchsorted(members, index)
        return np.concatenate([members[place + 1 :], members[:place]])


def as_files(dataset: Dataset) -> FileDataset:
    """Returns images in memory as if they were files: `at_size` resizes them.

    So small images can be enlarged for a network that knows larger ones,
    without memory for more than a batch of these.

    Args:
        dataset: RGB or gray images, uint8; gray ones become RGB.

    Raises:
        ValueError: If its images are others.

    Example:
        >>> digits = keras_lt.datasets.load("digits", split="train")
        >>> photos = keras_lt.datasets.as_files(digits)
        >>> photos.at_size(64, framing="whole").image_shape
        (64, 64, 3)
    """
    images = dataset.images
    if images.dtype != np.uint8 or images.shape[-1] not in (1, 3):
        raise ValueError(
            "Expected images uint8 of 1 or 3 channels, to resize them. "
            f"Received: {images.dtype} of shape {images.shape[1:]}"
        )
    return FileDataset(
        _InMemory(images),
        dataset.labels,
        dataset.class_names,
        image_size=min(images.shape[1:3]),
    )


class _InMemory:
    """An `ImageSource` of an array, whose content its names tell."""

    def __init__(self, images: np.ndarray):
        self._images = images

    @functools.cached_property
    def _digest(self) -> str:
        content = np.ascontiguousarray(self._images)
        return hashlib.sha256(content).hexdigest()[:16]

    def __len__(self) -> int:
        return len(self._images)

    def name(self, index: int) -> str:
        return f"image {index} of {self._digest}"

    def read(self, index: int) -> bytes:
        image = self._images[index]
        pixels = image[..., 0] if image.shape[-1] == 1 else image
        content = io.BytesIO()
        Image.fromarray(pixels).save(content, "BMP")
        return content.getvalue()


def _check_image_size(image_size: int) -> None:
    if image_size < 1:
        raise ValueError(
            f"Expected image_size >= 1. Received: image_size={image_size}"
        )


class _Images:
    """Stands for the array of a data set's images, decodes what is taken."""

    dtype = np.dtype(np.uint8)

    def __init__(self, dataset: FileDataset):
        self._dataset = dataset
        self.shape = (len(dataset), *dataset.image_shape)

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, indices: Any) -> np.ndarray:
        chosen = np.arange(len(self))[indices]
        flat = np.ravel(chosen)
        images = np.empty((len(flat), *self.shape[1:]), np.uint8)

        def fill(place: int) -> None:
            images[place] = self._dataset._decode(flat[place])

        with ThreadPoolExecutor(os.cpu_count()) as threads:
            for _ in threads.map(fill, range(len(flat))):
                pass  # an error of `fill` is raised here
        return images.reshape((*np.shape(chosen), *self.shape[1:]))
