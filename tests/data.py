"""Where prepared TFDS data is, and data sets that tests share."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from keras_lt import datasets


def tfds_dir() -> str:
    """`KERAS_LT_DATA_DIR`, or `../shared/data/tfds` next to the repository."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data" / "tfds"
    path = Path(os.environ.get("KERAS_LT_DATA_DIR") or default)
    if not (path / "cifar10").is_dir():
        pytest.skip(f"no prepared cifar10 in {path} (KERAS_LT_DATA_DIR)")
    return str(path)


def numbered(class_counts, shape=(1, 1, 1)) -> datasets.Dataset:
    """A data set whose i-th image holds the float i, labels shuffled."""
    labels = np.repeat(np.arange(len(class_counts)), class_counts)
    labels = np.random.default_rng(0).permutation(labels)
    images = np.broadcast_to(
        np.arange(len(labels), dtype=np.float32).reshape(-1, 1, 1, 1),
        (len(labels), *shape),
    )
    names = [f"class {label}" for label in range(len(class_counts))]
    return datasets.from_arrays(images, labels, names)


def chi_square_limit(degrees: int) -> float:
    """Where a chi-square variable is with probability 1 - 1e-6.

    The Wilson-Hilferty approximation with the normal quantile 4.753. Seeds are
    fixed, so a test passes or fails for good: the level only says how odd a
    wrong alarm would have been when the test was written.
    """
    scale = 2 / (9 * degrees)
    return degrees * (1 - scale + 4.753 * scale**0.5) ** 3


def chi_square(observed, expected) -> float:
    """Pearson's statistic; a cell that can't be hit must not have been."""
    observed, expected = np.broadcast_arrays(observed, expected)
    assert not observed[expected == 0].any()
    observed, expected = observed[expected > 0], expected[expected > 0]
    return float((np.square(observed - expected) / expected).sum())


def write_cifar10(
    folder: Path, train_per_class: int = 60, test_per_class: int = 10
) -> str:
    """Prepares a cifar10 of a few images of noise, in the form of TFDS.

    Commands for CIFAR-10 read it as they read the real one, in seconds.
    """
    import tensorflow_datasets as tfds

    names = "airplane automobile bird cat deer dog frog horse ship truck"
    features = tfds.features.FeaturesDict(
        {
            "id": tfds.features.Text(),
            "image": tfds.features.Image(shape=(32, 32, 3)),
            "label": tfds.features.ClassLabel(names=names.split()),
        }
    )
    root = folder / "cifar10" / "3.0.2"
    root.mkdir(parents=True)
    random = np.random.default_rng(0)
    splits = []
    for split, size in (("train", train_per_class), ("test", test_per_class)):
        path = root / f"cifar10-{split}.tfrecord-00000-of-00001"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for label in np.repeat(np.arange(10), size):
                image = random.integers(0, 256, (32, 32, 3), np.uint8)
                example = {"id": "", "image": image, "label": label}
                writer.write(features.serialize_example(example))
        splits.append({"name": split, "shardLengths": [str(10 * size)]})
    features.save_config(root)
    info = {"name": "cifar10", "version": "3.0.2", "fileFormat": "tfrecord"}
    (root / "dataset_info.json").write_text(
        json.dumps({**info, "splits": splits})
    )
    return str(folder)
