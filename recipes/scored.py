"""A finished run of whatever recipe, and its answers, to be evaluated."""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import inputs
import keras
import numpy as np
import tensorflow as tf

from keras_lt import (
    counts,
    datasets,
    evaluation,
    export,
    features,
    files,
    metrics,
    models,
    report,
)
from keras_lt.classes import difference
from keras_lt.messages import brief

BATCH_SIZE = 256
KEPT = "logits.npz"
# Flags that say where the images of a run are now.
PLACES = (
    "data_dir",
    "image_root",
    "on_bad_image",
    "max_pixels",
    "allow_outside_root",
)


class ScoredRun:
    """A finished run with a classifier, whose parts are read as they are used.

    Args:
        path: Its folder.
        where: {flag: value} that say where its images are now, such as
            `data_dir`; the others are those of its record.

    Attributes:
        path: Its folder.
        record: Its record.

    Raises:
        OSError: If it has no record.
        ValueError: If the record can't be read, or has no test scores.
    """

    def __init__(
        self, path: str | Path, where: Mapping[str, Any] | None = None
    ):
        self.path = Path(path)
        if not (self.path / "result.json").is_file():
            raise FileNotFoundError(
                "Expected the workdir of a finished run. "
                f"Received: {path}, which has no result.json"
            )
        self.record = report.Record.read(self.path / "result.json")
        if not self.record.test:
            raise ValueError(
                "Expected a run with a classifier. "
                f"Received: {path}, which has no test scores"
            )
        self._where = dict(where or {})

    @property
    def classes(self) -> counts.Classes:
        """Counts, names and shot thresholds of its classes."""
        return self.record.classes

    @functools.cached_property
    def settings(self) -> inputs.DataSettings:
        """Which images it was trained and tested on."""
        given = {**self.record.flags, **self._where}
        known = {each.name for each in dataclasses.fields(inputs.DataSettings)}
        given = {name: value for name, value in given.items() if name in known}
        return inputs.DataSettings(**given)

    @functools.cached_property
    def data(self) -> inputs.Data:
        """Its images: those it was trained on, held out, and tested on.

        Raises:
            OSError: If they are not there.
            ValueError: If there are other classes or other counts now.
        """
        data = inputs.load_data(self.settings)
        found = difference(data.train.class_names, self.classes.names)
        if not found and (data.train.class_counts != self.classes.counts).any():
            found = "other numbers of training images"
        if found:
            raise ValueError(
                f"Expected the images of {self.path}, as its record has them. "
                f"Received: {self.settings.dataset}: {found}"
            )
        return data

    @functools.cached_property
    def model(self) -> keras.Model:
        """The trained model, with the views that the run averages over."""
        model = models.load_model(self.path / "model.keras", compile=False)
        views = self.record.flags.get("tta", "none")
        return model if views == "none" else models.AveragedViews(model, views)

    @functools.cached_property
    def train_features(self) -> features.Features:
        """The features of the images that it was trained on."""
        return features.extract(self.model, self.data.train)

    @functools.cached_property
    def scored(self) -> evaluation.Scored:
        """Its answers for test images, in their order, and its hold-out.

        They are those that the run has kept; of a run that has none they are
        computed, and kept. Where the prior of the logits was not kept, as it
        was not at first, it is the one that the run's SavedModel takes out.

        Raises:
            OSError: If the images are not there.
            ValueError: If what it has kept is damaged.
        """
        kept = self.path / KEPT
        if kept.is_file():
            many, few = self.classes.many, self.classes.few
            found = evaluation.read(kept, many=many, few=few)
            if found.logit_counts is None:
                found = found._replace(logit_counts=self._prior())
            return found
        data = self.data
        made = evaluation.Scored(
            self.answers(data.test),
            self.answers(data.held_out) if data.held_out else None,
            self._prior(),
        )
        with files.replacing(kept) as part:
            evaluation.write(part, made)
        return made

    def _prior(self) -> np.ndarray | None:
        path = self.path / "saved_model"
        if not (path / "saved_model.pb").is_file():
            return None
        return export.carried_prior(tf.saved_model.load(path))

    def answers(self, dataset: datasets.Dataset) -> evaluation.Predictions:
        """The answers of its model for images of its classes, or some of them.

        Raises:
            ValueError: If images have another shape, or a class is none of its.
        """
        expected = tuple(self.record.data["image_shape"])
        if tuple(dataset.image_shape) != expected:
            raise ValueError(
                f"Expected images of shape {expected}, as {self.path} has. "
                f"Received: image_shape={tuple(dataset.image_shape)}"
            )
        names = {name: label for label, name in enumerate(self.classes.names)}
        others = [name for name in dataset.class_names if name not in names]
        if others:
            raise ValueError(
                f"Expected images of the classes of {self.path}. "
                f"Received: {len(others):,} other classes, {brief(others)}"
            )
        labels = np.array([names[name] for name in dataset.class_names])
        batches = inputs.evaluation(dataset, BATCH_SIZE)
        logits, own = metrics.predict(self.model, batches)
        return evaluation.Predictions(logits, labels[own], self.classes)

    def other_images(self, dataset: str | None, split: str | None):
        """Images of another data set or split, such as new ones.

        Args:
            dataset: As --dataset of the recipes; None is the run's.
            split: Name of a split; None is test, or all images of a folder or
                list without one.
        """
        settings = self.settings
        name = dataset or settings.dataset
        known = datasets.splits(name, settings.data_dir)
        size = inputs.size_of(settings.image_size)
        found = datasets.load(
            name,
            split=split or ("test" if "test" in known else "train"),
            data_dir=settings.data_dir,
            image_root=settings.image_root,
            on_bad_image=settings.on_bad_image,
            max_pixels=settings.max_pixels,
            allow_outside_root=settings.allow_outside_root,
            test_fraction=0.0,
            **({} if size.side is None else {"image_size": size.side}),
        )
        return inputs.framed(found, size)
