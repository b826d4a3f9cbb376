"""Labeled images: in memory or in files, subsets, hold-out."""

from keras_lt.datasets.base import (
    Dataset,
    from_arrays,
    holdout,
    long_tail,
    long_tail_split,
)
from keras_lt.datasets.decoding import (
    MAX_PIXELS,
    BadImageError,
    decode,
    read_image,
)
from keras_lt.datasets.files import (
    ON_BAD_IMAGE,
    FileDataset,
    ImageSource,
    Paths,
    as_files,
)
from keras_lt.datasets.loading import left_out, load, splits
from keras_lt.datasets.sources import IMAGE_SUFFIXES, LeftOut

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "ON_BAD_IMAGE",
    "BadImageError",
    "Dataset",
    "FileDataset",
    "ImageSource",
    "LeftOut",
    "Paths",
    "as_files",
    "decode",
    "from_arrays",
    "holdout",
    "left_out",
    "load",
    "long_tail",
    "long_tail_split",
    "read_image",
    "splits",
]
