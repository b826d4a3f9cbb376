"""Image-classification data sets of TFDS, in memory or by random access."""

import json
import os
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_lt import classes, files
from keras_lt.datasets.base import Dataset, check_split
from keras_lt.datasets.files import FileDataset


def load(
    name: str, split: str, data_dir: str | None, **decoding: Any
) -> Dataset:
    """Loads a data set of TFDS, as `keras_lt.datasets.load` describes it.

    Args:
        name: Name of the data set.
        split: One of its `splits`.
        data_dir: Where TFDS keeps prepared data sets.
        **decoding: Arguments of `FileDataset`.

    Returns:
        A `Dataset` if the images have one size and take half of the memory at
        most, else a `FileDataset`.
    """
    import tensorflow_datasets as tfds

    builder = _builder(name, data_dir)
    features, keys = builder.info.features, builder.info.supervised_keys
    if (
        not keys
        or len(keys) != 2
        or not isinstance(features[keys[0]], tfds.features.Image)
        or not isinstance(features[keys[1]], tfds.features.ClassLabel)
    ):
        raise ValueError(
            "Expected a data set of images, each with one class label. "
            f"Received: name={name!r} with features {features}"
        )
    if None in features[keys[0]].shape:
        return _by_random_access(builder, split, **decoding)
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
    check_split(name, split, builder.info.splits)
    if not _fits(builder, split):
        return _by_random_access(builder, split, **decoding)
    return _in_memory(builder, split)


def splits(name: str, data_dir: str | None) -> list[str]:
    """Splits of a data set; none if it is not prepared yet."""
    return [*_builder(name, data_dir).info.splits]


def _builder(name: str, data_dir: str | None) -> Any:
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
        return tfds.builder(name, data_dir=data_dir)
    except (
        tfds.core.DatasetNotFoundError,
        AssertionError,  # a version that does not exist
        ValueError,
    ) as error:
        raise ValueError(
            'Expected "digits", "folder:PATH", "list:FILE", or the name of a '
            'TFDS data set, such as "cifar10", "cifar100" or "svhn_cropped". '
            f"Received: name={name!r}"
        ) from error


def _in_memory(builder: Any, split: str) -> Dataset:
    import tensorflow_datasets as tfds

    features, keys = builder.info.features, builder.info.supervised_keys
    num_images = builder.info.splits[split].num_examples
    image_key, label_key = keys
    images = np.empty((num_images, *features[image_key].shape), np.uint8)
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
    dataset = Dataset(images, *_in_order(labels, features[label_key].names))
    return dataset.subset(np.argsort(ids, kind="stable")) if ids else dataset


def _by_random_access(builder: Any, split: str, **decoding: Any) -> FileDataset:
    import tensorflow_datasets as tfds

    name, info = builder.name, builder.info
    command = f"tfds build {name} --file_format=array_record"
    if not info.splits:
        raise FileNotFoundError(
            f"Expected {name}, whose images differ in size or do not fit into "
            f"memory, to be prepared in {builder.data_path} ({command}). "
            "Received: nothing there"
        )
    check_split(name, split, info.splits)
    if info.file_format != tfds.core.FileFormat.ARRAY_RECORD:
        raise ValueError(
            f"Expected {name}, whose images differ in size or do not fit into "
            f"memory, in array_record files, which have random access "
            f"({command}, or tfds convert_format). Received: "
            f"{info.file_format.value} files in {builder.data_path}"
        )
    image_key, label_key = info.supervised_keys
    kept = os.path.join(builder.data_path, f"keras_lt_labels_{split}.npy")
    source = builder.as_data_source(
        split, decoders={image_key: tfds.decode.SkipDecoding()}
    )
    return FileDataset(
        _Records(source, image_key, f"{name}/{split}"),
        *_in_order(
            _labels(source, label_key, kept, _origin(info.splits[split])),
            info.features[label_key].names,
        ),
        **decoding,
    )


def _in_order(
    labels: np.ndarray, names: Sequence[str]
) -> tuple[np.ndarray, list[str]]:
    """Labels and names of classes of TFDS, in the order of all sources."""
    names = classes.checked(names, "names of TFDS")
    ordered = classes.in_order(names, "names of TFDS")
    places = {name: label for label, name in enumerate(ordered)}
    moved = np.array([places[name] for name in names])
    known = (labels >= 0) & (labels < len(names))  # others are refused later
    return np.where(known, moved[np.where(known, labels, 0)], labels), ordered


class _Records:
    """Encoded images of a split, by the place of their record."""

    def __init__(self, source: Any, key: str, name: str):
        self._source, self._key, self._name = source, key, name

    def __len__(self) -> int:
        return len(self._source)

    def name(self, index: int) -> str:
        return f"{self._name}[{index}]"

    def read(self, index: int) -> bytes:
        return self._source[int(index)][self._key]


def _origin(split: Any) -> str:
    """Tells the files of a split from those that were there before."""
    found = []
    for path in split.filepaths:
        stat = tf.io.gfile.stat(os.fspath(path))
        found.append([os.path.basename(path), stat.length, stat.mtime_nsec])
    return json.dumps(found)


def _labels(source: Any, key: str, kept: str, origin: str) -> np.ndarray:
    """All labels of a source: read once, then kept in a file.

    A file beside it says which records they are from.
    """
    origin_kept = f"{os.path.splitext(kept)[0]}.json"
    origin = json.dumps([key, origin])
    try:
        if Path(origin_kept).read_text() == origin:
            labels = np.load(kept, allow_pickle=False)
            if labels.shape == (len(source),):
                return labels
    except (EOFError, OSError, ValueError):  # none yet, or damaged
        pass
    labels = np.empty(len(source), np.int64)
    for start in range(0, len(labels), 1024):
        places = range(start, min(start + 1024, len(labels)))
        records = source.__getitems__(places)
        labels[places] = [record[key] for record in records]
    try:
        with files.replacing(kept) as part, open(part, "wb") as file:
            np.save(file, labels)
        with files.replacing(origin_kept) as part:
            part.write_text(origin)
    except OSError:  # a folder that can't be written: they are read anew
        pass
    return labels


def _check_reachable(urls: Mapping[str, Any] | None) -> None:
    """Fails at once offline, where TFDS retries for minutes."""
    for url in list(urls or ())[:1]:
        if url.startswith("http"):
            head = urllib.request.Request(url, method="HEAD")
            urllib.request.urlopen(head, timeout=10).close()


def _fits(builder: Any, split: str) -> bool:
    """Whether the images of a split take half of the memory at most.

    A `Dataset` holds them once, and once more while they are put in order, cut
    to a subset or made a tensor.
    """
    shape = builder.info.features[builder.info.supervised_keys[0]].shape
    size = builder.info.splits[split].num_examples
    needed = 2 * size * int(np.prod(shape, dtype=np.int64))
    available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return needed <= available // 2
