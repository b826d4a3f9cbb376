"""Data of a run: the images, and the streams that are drawn from them."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from keras_lt import (
    counts,
    datasets,
    files,
    preprocessing,
    sampling,
    specs,
    streams,
)
from keras_lt.messages import brief

LEFT_OUT = "left_out"  # of --test_split


@dataclasses.dataclass(frozen=True)
class DataSettings:
    """Which images are trained and tested on: the flags of the group "data".

    The attributes are described there.
    """

    dataset: str
    data_dir: str | None = None
    image_root: str | None = None
    image_size: int | str | None = None
    on_bad_image: str = "fail"
    max_pixels: int = datasets.MAX_PIXELS
    allow_outside_root: bool = False
    test_split: str | None = None
    test_fraction: float | None = None
    imbalance_factor: float | None = None
    profile: str = "exp"
    selection: str = "nested"
    split_seed: int = 0
    holdout: float = 0.0


class Size(NamedTuple):
    """How large images are, None as they are, and how they become squares."""

    side: int | None
    framing: str


class Data(NamedTuple):
    """The data sets of a run.

    `held_out` is a part of the training images by --holdout, else the split for
    validation that the data set has, else None.
    """

    train: datasets.Dataset
    held_out: datasets.Dataset | None
    test: datasets.Dataset


def load_data(settings: DataSettings) -> Data:
    """Loads the splits, cuts the training set, and holds a part of it out.

    Raises:
        ValueError: If what a cut leaves out is to be tested on and there is no
            cut, or as `datasets.load` does.
    """
    test_split = settings.test_split or "test"
    by_cut = test_split == LEFT_OUT
    if by_cut and settings.imbalance_factor is None:
        raise ValueError(
            f"Expected --imbalance_factor with --test_split={LEFT_OUT}, the "
            "training images that this cut leaves out. Received: none"
        )
    size = size_of(settings.image_size)
    arguments = {
        name: value
        for name, value in (
            ("image_size", size.side),
            ("test_fraction", settings.test_fraction),
        )
        if value is not None
    }
    if test_split != "test" and not by_cut:
        arguments["test_fraction"] = 0.0  # all images of "train" are trained on

    def load(split: str) -> datasets.Dataset:
        return datasets.load(
            settings.dataset,
            split=split,
            data_dir=settings.data_dir,
            image_root=settings.image_root,
            on_bad_image=settings.on_bad_image,
            max_pixels=settings.max_pixels,
            allow_outside_root=settings.allow_outside_root,
            split_seed=settings.split_seed,
            **arguments,
        )

    train = load("train")
    test = None if by_cut else load(test_split)
    if settings.imbalance_factor is not None:
        cut = functools.partial(
            datasets.long_tail_split if by_cut else datasets.long_tail,
            train,
            settings.imbalance_factor,
            profile=settings.profile,
            seed=settings.split_seed,
            selection=settings.selection,
        )
        train, test = cut() if by_cut else (cut(), test)
    held_out = None
    if settings.holdout:
        train, held_out = datasets.holdout(
            train, settings.holdout, settings.split_seed
        )
    else:
        known = datasets.splits(settings.dataset, settings.data_dir)
        for split in {*known} - {test_split} & {"val", "validation"}:
            held_out = load(split)
    return at_size(Data(train, held_out, test), size)


def size_of(image_size: int | str | None) -> Size:
    """Reads what --image_size says: 128, or whole(128)."""
    text = str(image_size)
    if text.startswith("whole("):
        return Size(int(text[len("whole(") : -1]), "whole")
    return Size(image_size, "center")


def at_size(data: Data, size: Size) -> Data:
    """Returns the data sets, each `framed`."""
    return Data(*(each and framed(each, size) for each in data))


def framed(dataset: datasets.Dataset, size: Size) -> datasets.Dataset:
    """Returns the same images at a size, where one is asked for."""
    if not isinstance(dataset, datasets.FileDataset):
        if size.side is None or dataset.image_shape[:2] == (size.side,) * 2:
            return dataset
        dataset = datasets.as_files(dataset)
    return dataset.at_size(size.side or dataset.image_size, size.framing)


def classes_of(
    train: datasets.Dataset, scores: Mapping[str, Any]
) -> counts.Classes:
    """Returns counts, names and shot thresholds of the classes.

    Args:
        train: The training images.
        scores: {flag: value} of the group "scores".
    """
    return counts.Classes(
        train.class_counts,
        train.class_names,
        many=scores["many_shot"],
        few=scores["few_shot"],
    )


def say_what_is_read(data: Data, dataset: str, classes: counts.Classes) -> None:
    """Prints sizes, and what of a folder of images is not read.

    Args:
        data: The images.
        dataset: What --dataset says.
        classes: The classes of the training images.
    """
    left_out = datasets.left_out(dataset)
    if left_out.files:
        print(
            f"Files that are not read: {left_out.endings()}, such as "
            f"{files.printable(left_out.files[0])}"
        )
    if left_out.folders:
        print(
            f"Folders with images that are not read: {len(left_out.folders):,},"
            f" such as {files.printable(left_out.folders[0])}"
        )
    shown = brief(data.train.class_counts)
    print(f"{len(data.train)} training images, by class: {shown}")
    sizes = (f"{name} {mask.sum()}" for name, mask in classes.groups.items())
    print(f"Classes by shot group: {', '.join(sizes)}")


def bad_images(data: Data) -> list[str]:
    """Names of the images for which others were taken so far."""
    of_files = (d for d in data if isinstance(d, datasets.FileDataset))
    return sorted({name for dataset in of_files for name in dataset.replaced})


def say_bad_images(data: Data) -> None:
    names = bad_images(data)
    if names:
        print(
            "Bad images, for which the next of their class are taken: "
            f"{len(names):,}, such as {', '.join(names[:3])}"
        )


def reporting_bad_images(data: Data) -> keras.callbacks.Callback:
    """Prints them after each epoch."""
    return keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: say_bad_images(data)
    )


def evaluation(dataset: datasets.Dataset, batch_size: int) -> Callable:
    """What `metrics.predict` takes to score a data set."""
    return functools.partial(streams.evaluation, dataset, batch_size)


class Augmentation(NamedTuple):
    """How images are augmented.

    Attributes:
        crops: Whether images are cut from their files at random and resized,
            or the least area of such a cut.
        transform: What is done to a batch of images then, or None.
    """

    crops: bool | float
    transform: Callable | None


RANDOM_RESIZED_CROP = "random_resized_crop"
AS_THEY_ARE = "none"  # of --augment


def _random_resized_crop(min_area: float | None = None) -> bool | float:
    """What a stream takes: the least area of a cut, or True for the usual."""
    if min_area is None:
        return True
    if not 0 < min_area <= 1:
        raise ValueError(
            f"Expected min_area in (0, 1]. Received: min_area={min_area}"
        )
    return float(min_area)


_CROPS = specs.Registry(
    "random crop",
    {RANDOM_RESIZED_CROP: _random_resized_crop},
    makes=(bool, float),
)


def augmentation(
    spec: str | None, train: datasets.Dataset, **context
) -> Augmentation:
    """Returns what --augment says, or what suits the data set for None.

    A random resized crop is made when a file is decoded, which costs less than
    to decode it whole, so it is no transform of batches.
    """
    if spec == AS_THEY_ARE:
        return Augmentation(False, None)
    is_of_files = isinstance(train, datasets.FileDataset)
    if spec is None:
        spec = "pad_crop_flip(4)"
        if is_of_files:
            spec = f"{RANDOM_RESIZED_CROP}|pad_crop_flip(0)"
    first, *others = specs.parse_chain(spec)
    crops = first.name == RANDOM_RESIZED_CROP
    if crops and not is_of_files:
        raise ValueError(
            "Expected images from files for --augment="
            f"{RANDOM_RESIZED_CROP}|... Received: --augment={spec}"
        )
    if crops:
        crops = _CROPS.get(first) if first.called else True
        spec = str(specs.Chain(others))
    return Augmentation(
        crops, preprocessing.get(spec, **context) if spec else None
    )


class Stream(NamedTuple):
    """Training batches, as a function of the step that they start at.

    Attributes:
        dataset: The images.
        augmentation: How they are augmented.
        batch_size: Images per step.
        seed: Seed of the run.
        steps_per_epoch: Steps of an epoch, for samplers that change.
        total_steps: Steps of the training.
        mix: How each image is mixed with another one, or None.
        auxiliary_augmentation: How those of an auxiliary branch are augmented;
            as the others by default.
    """

    dataset: datasets.Dataset
    augmentation: Augmentation
    batch_size: int
    seed: int
    steps_per_epoch: int
    total_steps: int
    mix: Callable | None = None
    auxiliary_augmentation: Augmentation | None = None

    @property
    def auxiliary(self) -> "Stream":
        """What the batches of an auxiliary branch are drawn from."""
        found = self.auxiliary_augmentation or self.augmentation
        return self._replace(augmentation=found)

    def sampler(self, spec: str) -> sampling.Sampler:
        return sampling.get(
            spec,
            class_counts=self.dataset.class_counts,
            steps_per_epoch=self.steps_per_epoch,
            total_steps=self.total_steps,
        )

    def batches(
        self,
        sampler: str,
        start_step: int,
        shard: tuple[int, int] = (0, 1),
        name: str | None = None,
    ) -> tf.data.Dataset:
        """Returns slices of the global batches, from a step on.

        Args:
            sampler: What --sampling takes.
            start_step: The first step.
            shard: (i, n), the i-th of n slices of each batch.
            name: Names the random numbers, by default as the sampler.
        """
        return streams.stream(
            self.dataset,
            sampling=self.sampler(sampler),
            batch_size=self.batch_size,
            seed=self.seed,
            transform=self.augmentation.transform,
            mix=self.mix,
            random_resized_crop=self.augmentation.crops,
            start_step=start_step,
            shard=shard,
            name=name,
        )
