"""Training in rounds: every few epochs the model gets another subset.

`Rounds` trains a model round by round. What a round's subset is, a chooser
says: `InformativeSubsets` draws by IP-DPP from what the model thinks of the
images at that time, `RandomSubsets` draws uniformly, and `AllImages` leaves
nothing out, so that one can be compared with the other at the same number of
steps.
"""

import functools
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_lt import distribute, dpp, files, metrics, seeding, specs, streams
from keras_lt.arguments import integer
from keras_lt.callbacks import Checkpointing
from keras_lt.datasets import Dataset

_BATCH_SIZE = 256  # of images that are scored


class Draw(NamedTuple):
    """The subset of one round.

    Attributes:
        indices: Positions of its images in the training set, in order.
        seconds: How long the draw took, with the scoring of images.
        probabilities: What the model gave the true class of each training
            image, (N,), or None where the draw does not ask for it.
        complements: 1 - p, (N,), exact also where p is close to 1, or None.

    Example:
        >>> keras_lt.subsets.Draw(np.array([0, 2]), 0.1).indices
        array([0, 2])
    """

    indices: np.ndarray
    seconds: float
    probabilities: np.ndarray | None = None
    complements: np.ndarray | None = None

    def figures(self, labels: np.ndarray, num_classes: int) -> dict[str, Any]:
        """Describes the draw in numbers.

        Args:
            labels: Label ids of the training set, (N,).
            num_classes: C.

        Returns:
            `seconds`, `class_sizes`, and with probabilities `mean_p_drawn` and
            `mean_p_left_out`: means over the classes that leave images out.

        Example:
            >>> draw = keras_lt.subsets.RandomSubsets(10).draw(
            ...     train.labels, seed=0
            ... )
            >>> draw.figures(train.labels, 10)["class_sizes"]
            [10, 10, 10, 10, 10, 10, 10, 10, 10, 10]
        """
        class_counts = np.bincount(labels, minlength=num_classes)
        sizes = np.bincount(labels[self.indices], minlength=num_classes)
        found = {"seconds": float(self.seconds), "class_sizes": sizes.tolist()}
        if self.probabilities is not None:
            p, is_drawn = self.probabilities, np.zeros(len(labels), bool)
            is_drawn[self.indices] = True
            means = [
                (p[own & is_drawn].mean(), p[own & ~is_drawn].mean())
                for label in np.flatnonzero(sizes < class_counts)
                for own in [labels == label]
            ]
            if means:
                found["mean_p_drawn"], found["mean_p_left_out"] = map(
                    float, np.mean(means, axis=0)
                )
        return found


class RandomSubsets:
    """Subsets with as many images of each class, drawn uniformly.

    Args:
        size: Images per class; a class with fewer gives all it has.

    Raises:
        ValueError: If `size` is not positive.

    Example:
        >>> chooser = keras_lt.subsets.RandomSubsets(10)
        >>> draw = chooser.draw(train.labels, seed=0)
        >>> train.subset(draw.indices).class_counts
        array([10, 10, 10, 10, 10, 10, 10, 10, 10, 10])
    """

    # Whether `draw` asks the model for probabilities, and of which images.
    scores = False
    augmented = False

    def __init__(self, size: int = 500):
        self.size = integer("size", size, 1)

    def get_config(self) -> dict[str, Any]:
        return {"size": self.size}

    def class_counts(self, class_counts: np.ndarray) -> np.ndarray:
        """Images per class of a subset.

        Args:
            class_counts: Those of the training set.

        Example:
            >>> chooser = keras_lt.subsets.RandomSubsets(10)
            >>> chooser.class_counts(np.array([50, 20, 5]))
            array([10, 10,  5])
        """
        return np.minimum(class_counts, self.size)

    def steps_per_epoch(self, class_counts: np.ndarray, batch_size: int) -> int:
        """Steps that show about as many images as a subset has.

        Args:
            class_counts: Images per class of the training set.
            batch_size: Images per step.

        Example:
            >>> chooser = keras_lt.subsets.RandomSubsets(10)
            >>> chooser.steps_per_epoch(np.array([50, 20, 5]), batch_size=5)
            5
        """
        size = np.minimum(class_counts, self.size).sum()
        return max(1, round(size / batch_size))

    def draw(
        self,
        labels: np.ndarray,
        *,
        seed: int,
        score: Callable[[], tuple[np.ndarray, np.ndarray]] | None = None,
    ) -> Draw:
        """Draws one subset.

        Args:
            labels: Label ids of the training set, (N,).
            seed: Seed of this draw.
            score: Gives probabilities of the true classes and their
                complements, both (N,). A chooser whose `scores` is False does
                not call it.

        Example:
            >>> chooser = keras_lt.subsets.RandomSubsets(10)
            >>> len(chooser.draw(train.labels, seed=0).indices)
            100
        """
        begin = time.perf_counter()
        scores = score() if self.scores else (None, None)
        indices = self._indices(labels, seed, *scores)
        return Draw(indices, time.perf_counter() - begin, *scores)

    def _indices(
        self,
        labels: np.ndarray,
        seed: int,
        probabilities: np.ndarray | None,
        complements: np.ndarray | None,
    ) -> np.ndarray:
        return dpp.balanced_subset(labels, self.size, seed=seed)


class InformativeSubsets(RandomSubsets):
    """Subsets by IP-DPP: balanced, and by what the model finds informative.

    IP-DPP (Lin and Yuan, arXiv:2510.08836) draws the images of each class by
    a determinantal point process of their true-class probabilities;
    `keras_lt.dpp` says how. The authors' code draws uniformly, whatever the
    model says; this draws by their kernel.

    Args:
        size: Images per class; a class with fewer gives all it has.
        scale: Scale of the kernel: "n2" as published, close to uniform, or
            "n", which prefers images with low probabilities.
        augmented: Whether augmented images are scored, as the authors' code
            does, and not the images as they are.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> chooser = keras_lt.subsets.InformativeSubsets(10, scale="n")
        >>> draw = chooser.draw(
        ...     train.labels, seed=0, score=lambda: (p, 1 - p)
        ... )
        >>> found = draw.figures(train.labels, 10)
        >>> found["mean_p_drawn"] < found["mean_p_left_out"]
        True
    """

    scores = True

    def __init__(
        self, size: int = 500, scale: str = "n2", augmented: bool = False
    ):
        super().__init__(size)
        if scale not in dpp.SCALES:
            raise ValueError(
                f"Expected scale to be one of {dpp.SCALES}. "
                f"Received: scale={scale!r}"
            )
        self.scale = scale
        self.augmented = bool(augmented)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "scale": self.scale,
            "augmented": self.augmented,
        }

    def _indices(self, labels, seed, probabilities, complements):
        return dpp.balanced_subset(
            labels,
            self.size,
            seed=seed,
            probabilities=probabilities,
            complements=complements,
            scale=self.scale,
        )


class AllImages(RandomSubsets):
    """All images in every round: what subsets are to be compared with.

    Args:
        size: An epoch has the steps that it would have with subsets of so many
            images per class.

    Example:
        >>> chooser = keras_lt.subsets.AllImages(10)
        >>> chooser.draw(train.labels, seed=0).indices.shape == (len(train),)
        True
    """

    def class_counts(self, class_counts: np.ndarray) -> np.ndarray:
        return np.asarray(class_counts)

    def _indices(self, labels, seed, probabilities, complements):
        return np.arange(len(labels))


class Rounds:
    """Trains a model on subsets of the training set, drawn anew every round.

    The second stage of BNS + IP-DPP (Lin and Yuan, arXiv:2510.08836, section
    3.3). Each round draws a subset, as `subsets` says and from what the model
    then thinks of the images, and trains on it for `epochs` epochs.

    A training that was cut goes on with the same call: draws are files, each
    written at once or not at all, and the rest is in the checkpoints. Several
    processes that train together score the images together; the first one
    writes the draw, and all read it.

    Args:
        subsets: What chooses a round's images, such as `InformativeSubsets()`.
        directory: Folder of the draws; made if absent.
        epochs: Epochs of a round.
        batch_size: Images per step.
        seed: Seed of draws and of batches.
        sampling: How batches are drawn from a subset, as in
            `keras_lt.streams.stream`.
        transform: Augmentation, as in `keras_lt.streams.stream`.
        random_resized_crop: As in `keras_lt.streams.stream`.
        on_draw: Called with the number of each round that starts or goes on,
            from 0, and its `Draw`; for logs.

    Raises:
        ValueError: If `epochs` or `batch_size` is not positive.

    Example:
        >>> rounds = keras_lt.subsets.Rounds(
        ...     keras_lt.subsets.InformativeSubsets(10, scale="n"),
        ...     "draws",
        ...     epochs=2,
        ...     batch_size=25,
        ... )
        >>> rounds.fit(
        ...     model,
        ...     train,
        ...     keras_lt.callbacks.Checkpointing("checkpoints"),
        ...     epochs=4,
        ... )
        >>> [draw.figures(train.labels, 10)["class_sizes"][0]
        ...  for draw in rounds.draws(train)]
        [10, 10]
    """

    def __init__(
        self,
        subsets: RandomSubsets,
        directory: str | os.PathLike,
        *,
        epochs: int = 10,
        batch_size: int = 64,
        seed: int = 0,
        sampling: Any = "random",
        transform: Callable | None = None,
        random_resized_crop: bool | float = False,
        on_draw: Callable[[int, Draw], None] | None = None,
    ):
        self.subsets = subsets
        self.directory = Path(directory)
        self.epochs = integer("epochs", epochs, 1)
        self.batch_size = integer("batch_size", batch_size, 1)
        self.seed = seeding.checked_seed(seed)
        self.sampling = sampling
        self.transform = transform
        self.random_resized_crop = random_resized_crop
        self.on_draw = on_draw

    def steps_per_epoch(self, train: Dataset) -> int:
        """Steps of an epoch, the same in each round.

        Example:
            >>> rounds = keras_lt.subsets.Rounds(
            ...     keras_lt.subsets.RandomSubsets(10), "draws", batch_size=25
            ... )
            >>> rounds.steps_per_epoch(train)
            4
        """
        return self.subsets.steps_per_epoch(train.class_counts, self.batch_size)

    def fit(
        self,
        model: keras.Model,
        train: Dataset,
        checkpointing: Checkpointing,
        *,
        epochs: int,
        last_step: int | None = None,
        callbacks: Iterable[keras.callbacks.Callback] = (),
        verbose: int | str = "auto",
    ) -> None:
        """Trains to the end, from the latest checkpoint on.

        Args:
            model: A compiled model from images to logits.
            train: The training set.
            checkpointing: Keeps the state and the curves of the training.
            epochs: Epochs of all rounds together.
            last_step: Ends the training early, after so many steps.
            callbacks: Others; they come before `checkpointing`.
            verbose: As in `keras.Model.fit`.

        Raises:
            ValueError: If the folder of draws holds those of other images or
                other settings, or a file that is damaged.
        """
        steps = self.steps_per_epoch(train)
        total = epochs * steps
        checkpointing.restore(model)
        for step, span in checkpointing.spans(
            steps, min(total, last_step or total), epochs_a_span=self.epochs
        ):
            number = span["initial_epoch"] // self.epochs
            draw = self._drawn(model, train, number)
            if self.on_draw is not None:
                self.on_draw(number, draw)
            subset = train
            if len(draw.indices) < len(train):
                subset = train.subset(draw.indices)
            model.fit(
                distribute.dataset(
                    model.distribute_strategy,
                    functools.partial(self.stream, subset, step),
                ),
                callbacks=[*callbacks, checkpointing],
                shuffle=False,
                verbose=verbose,
                **span,
            )

    def stream(
        self,
        subset: Dataset,
        start_step: int = 0,
        shard: tuple[int, int] = (0, 1),
    ) -> tf.data.Dataset:
        """Batches of a round's images, from a step of the training on.

        Args:
            subset: The images.
            start_step: Steps before, of all rounds.
            shard: As in `keras_lt.streams.stream`.

        Example:
            >>> rounds = keras_lt.subsets.Rounds(
            ...     keras_lt.subsets.RandomSubsets(10), "draws", batch_size=25
            ... )
            >>> images, labels = next(iter(rounds.stream(train)))
            >>> labels.shape
            TensorShape([25])
        """
        return streams.stream(
            subset,
            sampling=self.sampling,
            batch_size=self.batch_size,
            seed=self.seed,
            transform=self.transform,
            random_resized_crop=self.random_resized_crop,
            start_step=start_step,
            shard=shard,
            name="stage2",
        )

    def draws(self, train: Dataset) -> list[Draw]:
        """The draws of all rounds that have begun.

        Args:
            train: The training set.

        Raises:
            ValueError: As `fit`.

        Example:
            >>> rounds = keras_lt.subsets.Rounds(
            ...     keras_lt.subsets.RandomSubsets(10), "no_draws"
            ... )
            >>> rounds.draws(train)
            []
        """
        count = len([*self.directory.glob("round-*.npz")])
        return [self._read(train, number) for number in range(count)]

    def _drawn(self, model: keras.Model, train: Dataset, number: int) -> Draw:
        """The draw of a round, of now or of an earlier start."""
        strategy = model.distribute_strategy
        if not self._path(number).exists():
            draw = self._draw(model, train, number)
            if distribute.is_chief(strategy):
                self._write(train, number, draw)
        # Others read only what the first process has written.
        distribute.wait_for_all(strategy)
        return self._read(train, number)

    def _draw(self, model: keras.Model, train: Dataset, number: int) -> Draw:
        seed = seeding.derived_seed(self.seed, "rounds", number)
        augmented = self.subsets.augmented

        def score() -> tuple[np.ndarray, np.ndarray]:
            make = functools.partial(
                streams.evaluation,
                train,
                _BATCH_SIZE,
                self.transform if augmented else None,
                seed,
                augmented and self.random_resized_crop,
            )
            return metrics.true_class_probabilities(
                *metrics.predict(model, make)
            )

        return self.subsets.draw(train.labels, seed=seed, score=score)

    def _path(self, number: int) -> Path:
        return self.directory / f"round-{number:03}.npz"

    def _key(self, train: Dataset) -> str:
        """What a draw is made from, but for the model."""
        return json.dumps(
            {
                "labels": hashlib.sha256(
                    np.ascontiguousarray(train.labels)
                ).hexdigest(),
                "seed": self.seed,
                "subsets": type(self.subsets).__name__,
                **self.subsets.get_config(),
            }
        )

    def _write(self, train: Dataset, number: int, draw: Draw) -> None:
        self.directory.mkdir(exist_ok=True)
        arrays = {k: v for k, v in draw._asdict().items() if v is not None}
        with files.replacing(self._path(number)) as part:
            files.write_arrays(part, key=self._key(train), **arrays)

    def _read(self, train: Dataset, number: int) -> Draw:
        path = self._path(number)
        try:
            found = files.read_arrays(path)
            key = str(found.pop("key"))
            draw = Draw(**found)
            if draw.indices.dtype.kind not in "iu":
                raise ValueError("without indices")
        except MemoryError:
            raise
        except Exception as error:  # zip files and NumPy raise all kinds
            raise ValueError(
                "Expected the draw of a round. "
                f"Received: {path} ({error}); without it the round is drawn "
                "anew"
            ) from error
        if key != self._key(train):
            raise ValueError(
                f"Expected a draw of {self._key(train)}. "
                f"Received: {path} of {key}"
            )
        return draw._replace(seconds=float(draw.seconds))


SUBSETS = {
    "all": AllImages,
    "ip_dpp": InformativeSubsets,
    "random": RandomSubsets,
}

_REGISTRY = specs.Registry("choice of subsets", SUBSETS, makes=RandomSubsets)


def get(identifier: Any, **context: Any) -> RandomSubsets:
    """Makes what chooses the images of rounds.

    Args:
        identifier: A text such as "ip_dpp(500, scale='n')" with a name of
            `SUBSETS` or `package.module:Name`, or a chooser.
        **context: What is filled in, as in `keras_lt.specs`.

    Raises:
        TypeError: If it is something else.
        ValueError: If there is no such name or argument.

    Example:
        >>> keras_lt.subsets.get("ip_dpp(200, scale='n')").size
        200
    """
    return _REGISTRY.get(identifier, **context)
