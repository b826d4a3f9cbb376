"""What a frozen network gives: computed once, kept, and shared by runs."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import inputs
import keras
import numpy as np
import run as runs

from keras_lt import datasets, features, files, metrics, streams, structure
from keras_lt.models import feature_model

FOLDER = "features"
_BATCH = 1_024  # rows at a time
_COMPARED = 8  # images whose features are computed again before others' count


def kept(
    run: runs.Run,
    model: keras.Model,
    dataset: datasets.Dataset,
    layer: str | None = None,
    *,
    views: int = 0,
    augmentation: inputs.Augmentation | None = None,
    spec: str | None = None,
    seed: int = 0,
    others: Iterable[Path] = (),
) -> features.Features:
    """The features of a data set's images, computed once.

    They are in the folder of the run, under a name that tells images, weights,
    precision and views apart. What a run beside this one has, in the same
    parent folder, or one of `others`, is shared.

    Args:
        run: The run.
        model: The model, whose features these are.
        dataset: The images.
        layer: Its layer whose outputs they are; None is the inputs of the
            classifier.
        views: Augmented views of each image; 0 is the image as it is.
        augmentation: How views are augmented.
        spec: What --augment says of it.
        seed: Seed of the views.
        others: Folders of other runs to look in.
    """
    to_features = feature_model(model, layer)
    key, seen = {}, {}
    if views:
        key = {"views": views, "augment": spec, "seed": seed}
        seen = {
            "transform": augmentation.transform,
            "random_resized_crop": augmentation.crops,
            "seed": seed,
        }
    path = run.path / _name(to_features, dataset, **key)
    if run.is_chief:
        run.check()
        _find(path, others)
        if path.exists() and not views:
            _compare(path, to_features, dataset)
    return features.extract_to(
        path, model, dataset, layer, views=views, on_part=run.check, **seen
    )


def known(
    run: runs.Run,
    model: keras.Model,
    data: inputs.Data,
    others: Iterable[Path] = (),
) -> inputs.Data | None:
    """The features of all images of a run, where earlier ones have them all.

    Args:
        run: The run.
        model: The model, whose features these are.
        data: The images.
        others: Folders of other runs to look in.

    Returns:
        Data to score the part behind the features on; None where features of
        some images would have to be computed first.
    """
    to_features = feature_model(model)

    def examples(dataset: datasets.Dataset) -> features.Examples | None:
        path = run.path / _name(to_features, dataset)
        _find(path, others)
        if path.exists():
            _compare(path, to_features, dataset)
        if not path.exists():
            return None
        rows = features.open_features(path, dataset.labels)
        return features.Examples(rows, dataset.num_classes)

    found = []
    for each in data:
        found.append(each and examples(each))
        if each and found[-1] is None:
            return None
    return inputs.Data(*found)


def of_all(
    run: runs.Run,
    model: keras.Model,
    data: inputs.Data,
    layer: str | None = None,
    *,
    others: Iterable[Path] = (),
    **views: Any,
) -> inputs.Data:
    """The features of all images of a run, as data to train and score on.

    Args:
        run: The run.
        model: The model, whose features these are.
        data: The images.
        layer: As in `kept`.
        others: As in `kept`.
        **views: Those of the training images, as `kept` takes them.
    """

    def examples(dataset: datasets.Dataset, **seen: Any) -> features.Examples:
        rows = kept(run, model, dataset, layer, others=others, **seen)
        return features.Examples(rows, dataset.num_classes)

    return inputs.Data(
        examples(data.train, **views),
        data.held_out and examples(data.held_out),
        examples(data.test),
    )


def _name(
    to_features: keras.Model, dataset: datasets.Dataset, **key: Any
) -> str:
    """Where features are in the folder of a run."""
    key |= {
        "images": runs.digest_of_images(dataset),
        "model": runs.digest_of_model(to_features),
        "precision": keras.config.dtype_policy().name,
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode())
    return f"{FOLDER}/{digest.hexdigest()[:16]}.npy"


def _find(path: Path, others: Iterable[Path]) -> None:
    """Takes what another run has, without a copy where the disk can."""
    path.parent.mkdir(exist_ok=True)
    if path.exists():
        return
    run, name = path.parent.parent, path.relative_to(path.parent.parent)
    folders = [*others, *sorted(run.parent.glob("*"))]
    for found in (folder / name for folder in folders):
        if not found.is_file() or found.is_symlink():
            continue
        with files.replacing(path) as part:
            try:
                os.link(found, part)
            except OSError:  # another disk, or one without links
                shutil.copyfile(found, part)
        print(f"Features are those of {found.parent.parent}.")
        return


def _compare(path: Path, model: keras.Model, dataset: datasets.Dataset) -> None:
    """Deletes features that this network does not give.

    Networks of the same weights may scale their images differently.
    """
    rows = features.open_features(path, dataset.labels).features
    some = dataset.subset(np.arange(min(_COMPARED, len(dataset))))
    batches = streams.evaluation(some, _COMPARED)
    again, _ = metrics.predict(model, batches)
    first = np.asarray(rows[: len(again)])
    close = np.linalg.norm(first - again) <= 0.02 * np.linalg.norm(again)
    if first.shape != again.shape or not close:
        path.unlink()


def through(
    model: keras.Model, examples: features.Examples
) -> features.Examples:
    """The features that the trained part makes of rows, in memory."""
    rows, pooled = structure.pooled_features(model)
    found = metrics.predict(
        keras.Model(rows, pooled), streams.evaluation(examples, _BATCH)
    )
    return features.Examples(features.Features(*found), examples.num_classes)
