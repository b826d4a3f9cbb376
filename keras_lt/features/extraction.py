"""Features of a frozen model: computed once, and kept on disk."""

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_lt import distribute, files, progress, seeding, streams
from keras_lt.arguments import integer
from keras_lt.datasets import Dataset
from keras_lt.features.examples import Features
from keras_lt.messages import one_line
from keras_lt.metrics import predict, prediction_step
from keras_lt.structure import feature_model

PART_ROWS = 2_048  # what a start that is killed has to compute again at most
# Pixels of a batch: enough to keep the cores busy, and what fits into memory.
_PIXELS = 1 << 22


def extract(
    model: keras.Model,
    dataset: Dataset,
    layer: str | None = None,
    batch_size: int = 256,
) -> Features:
    """Computes the features of every image, once and in order.

    Args:
        model: As `keras_lt.models.feature_model` takes it.
        dataset: The images.
        layer: As `keras_lt.models.feature_model` takes it.
        batch_size: Images at a time.

    Returns:
        The features, float32, and the labels.

    Raises:
        ValueError: As `keras_lt.models.feature_model`.

    Example:
        >>> features = keras_lt.features.extract(model, train)
        >>> keras_lt.features.save("train.npz", features)
    """
    return Features(
        *predict(
            feature_model(model, layer), streams.evaluation(dataset, batch_size)
        )
    )


def extract_to(
    path: str | os.PathLike,
    model: keras.Model,
    dataset: Dataset,
    layer: str | None = None,
    *,
    views: int = 0,
    transform: Callable | None = None,
    random_resized_crop: bool = False,
    seed: int = 0,
    batch_size: int | None = None,
    on_part: Callable[[], Any] = lambda: None,
) -> Features:
    """Computes features into an .npy file, part by part, and maps it.

    A part is a file beside `path` until all are there, so that a start that
    was killed is gone on with by the same call. Memory holds a part at most.
    Of several processes (the model's strategy) all call it: each computes a
    share of the parts, and the first one joins them; they share the folder.

    Args:
        path: File to make. It is taken as it is if it exists: its name has to
            tell what it was made from.
        model: As `keras_lt.models.feature_model` takes it.
        dataset: The images.
        layer: As `keras_lt.models.feature_model` takes it.
        views: How many views of each image there are, as `transform` and
            `random_resized_crop` make them; 0 is each image as it is. Row
            v * N + i is view v of image i.
        transform: As `keras_lt.streams.stream` takes it.
        random_resized_crop: The same.
        seed: Seed of the views.
        batch_size: Images at a time; None suits their size.
        on_part: Called before each part is written.

    Returns:
        Features (max(1, views) * N, D), a memory-mapped float32 array that is
        read from the file where it is indexed, and their labels.

    Raises:
        OSError: If the folder can't be written.
        ValueError: As `keras_lt.models.feature_model`, or if the file holds
            something else.

    Example:
        >>> features = keras_lt.features.extract_to(
        ...     "train.npy", model, train
        ... )
        >>> type(features.features).__name__, features.features.shape[1]
        ('memmap', 8)
    """
    path, views = Path(path), integer("views", views, 0)
    strategy = model.distribute_strategy
    distribute.wait_for_all(strategy)  # who looks sees what the others see
    if not path.exists():
        extraction = _Extraction(
            path, feature_model(model, layer), dataset, views
        )
        seen = {}
        if views:
            seen = {
                "transform": transform,
                "random_resized_crop": random_resized_crop,
            }
        extraction.run(seen, seed, batch_size, on_part)
        distribute.wait_for_all(strategy)
        if distribute.is_chief(strategy):
            extraction.join()
        distribute.wait_for_all(strategy)
    return open_features(path, np.tile(dataset.labels, max(1, views)))


def open_features(path: str | os.PathLike, labels: np.ndarray) -> Features:
    """Maps the features in an .npy file, which are read where they are indexed.

    Args:
        path: File that `extract_to` made.
        labels: (N,).

    Raises:
        OSError: If there is no such file.
        ValueError: If it holds something else than as many features.

    Example:
        >>> labels = keras_lt.features.extract_to("t.npy", model, test).labels
        >>> features, _ = keras_lt.features.open_features("t.npy", labels)
    """
    try:
        rows = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:  # NumPy's own of damaged files
        raise ValueError(
            f"Expected features that extract_to made. Received: {path} "
            f"({one_line(error)}); without this file they are computed anew"
        ) from error
    if (
        not isinstance(rows, np.memmap)
        or rows.ndim != 2
        or rows.dtype != np.float32
        or len(rows) != len(labels)
    ):
        raise ValueError(
            f"Expected features ({len(labels)}, D), float32. Received: {path} "
            "with something else; without this file they are computed anew"
        )
    return Features(rows, np.asarray(labels))


class _Extraction:
    """The parts of an .npy file that is being made."""

    def __init__(
        self, path: Path, model: keras.Model, dataset: Dataset, views: int
    ):
        self.path = path
        self.model = model
        self.dataset = dataset
        self.views = max(1, views)
        self.per_view = math.ceil(len(dataset) / PART_ROWS)

    def parts(self) -> Iterator[tuple[int, int, Path]]:
        """View, number within the view, and file of each part."""
        count = self.views * self.per_view
        for number in range(count):
            name = f"{self.path.stem}.{number:05d}-of-{count:05d}.npy"
            view, part = divmod(number, self.per_view)
            yield view, part, self.path.with_name(name)

    def run(
        self,
        seen: dict[str, Any],
        seed: int,
        batch_size: int | None,
        on_part: Callable[[], Any],
    ) -> None:
        """Computes this process's share of the parts that are not there."""
        process, processes = distribute.shard(self.model.distribute_strategy)
        own = [*self.parts()][process::processes]
        missing = [part for part in own if not part[2].exists()]
        size = self.views * len(self.dataset) / (self.views * self.per_view)
        step = prediction_step(self.model)
        with progress.bar(
            "Features",
            round(size * len(own)),
            "images",
            round(size * (len(own) - len(missing))),
        ) as bar:
            for view, part, file in missing:
                batches = streams.evaluation(
                    self.dataset,
                    batch_size or self.batch_size(),
                    seed=seeding.derived_seed(seed, "views", view),
                    shard=(part, self.per_view),
                    **seen,
                )
                rows, _ = predict(self.model, _counted(batches, bar), step)
                on_part()
                with files.replacing(file) as new, open(new, "wb") as opened:
                    np.save(opened, rows)

    def batch_size(self) -> int:
        pixels = math.prod(self.dataset.image_shape[:2])
        return max(16, min(256, _PIXELS // pixels))

    def join(self) -> None:
        """Makes one file of all parts, and deletes them."""
        parts = [path for _, _, path in self.parts()]
        rows = self.views * len(self.dataset)
        header = {
            "descr": np.lib.format.dtype_to_descr(np.dtype("float32")),
            "fortran_order": False,
            "shape": (rows, self.model.output_shape[-1]),
        }
        with files.replacing(self.path) as new, open(new, "wb") as opened:
            np.lib.format.write_array_header_1_0(opened, header)
            for part in parts:
                opened.write(np.load(part, allow_pickle=False).data)
        for part in parts:
            part.unlink()


def _counted(batches: tf.data.Dataset, bar: Any) -> Iterator:
    for batch in batches:
        yield batch
        bar.update(len(batch[1]))
