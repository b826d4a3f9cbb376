"""Second stages on subsets of the training set: one `fit` a round.

A round draws its subset anew, from what the model then thinks of the images.
Draws are kept, so that a run that was cut within a round goes on with its
subset.
"""

import functools
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
import workdir as workdirs

from keras_lt import (
    datasets,
    distribute,
    dpp,
    metrics,
    report,
    seeding,
    streams,
)

KINDS = ("ip_dpp", "random_balanced", "class_balanced", "instance")


class Rounds(NamedTuple):
    """What the second stage trains on.

    Attributes:
        kind: One of KINDS: subsets of `subset_size` images a class, by IP-DPP
            or at random, or all images, in class-balanced or random order.
        subset_size: Images a class. It sets the steps of an epoch of any kind.
        scale: Of IP-DPP's kernel.
        resample_epochs: Epochs of a round.
        epochs: Epochs of the stage.
        batch_size: Images a step.
        seed: Of draws and streams.
        transform: Augmentation.
        random_resized_crop: Whether images are cropped before it.
        score_augmented: Whether draws score augmented images.
        max_steps: Where a smoke run stops, or None.
    """

    kind: str
    subset_size: int
    scale: str
    resample_epochs: int
    epochs: int
    batch_size: int
    seed: int
    transform: Callable
    random_resized_crop: bool
    score_augmented: bool
    max_steps: int | None

    def steps_per_epoch(self, class_counts: np.ndarray) -> int:
        size = np.minimum(class_counts, self.subset_size).sum()
        return max(1, round(size / self.batch_size))

    def last_step(self, class_counts: np.ndarray) -> int:
        steps = self.epochs * self.steps_per_epoch(class_counts)
        return min(steps, self.max_steps or steps)

    def fit(
        self,
        model: keras.Model,
        train: datasets.Dataset,
        run: workdirs.Workdir,
        checkpointing: keras.callbacks.Callback,
        callbacks: Sequence[keras.callbacks.Callback],
        **arguments: Any,
    ) -> None:
        """Trains to the end, from the latest checkpoint."""
        checkpointing.restore(model)
        for step, span in checkpointing.spans(
            self.steps_per_epoch(train.class_counts),
            self.last_step(train.class_counts),
            epochs_a_span=self.resample_epochs,
        ):
            subset = train
            if self.kind in ("ip_dpp", "random_balanced"):
                number = span["initial_epoch"] // self.resample_epochs
                subset = train.subset(self.draw(model, train, run, number))
            make = functools.partial(self.stream, subset, step)
            model.fit(
                distribute.dataset(run.strategy, make),
                callbacks=[*callbacks, checkpointing],
                shuffle=False,
                **span,
                **arguments,
            )

    def stream(
        self,
        subset: datasets.Dataset,
        start_step: int,
        shard: tuple[int, int] = (0, 1),
    ) -> tf.data.Dataset:
        """Batches of a round's images, from a step of the stage on."""
        sampling = self.kind if self.kind == "class_balanced" else "random"
        return streams.stream(
            subset,
            sampling=sampling,
            batch_size=self.batch_size,
            seed=self.seed,
            transform=self.transform,
            random_resized_crop=self.random_resized_crop,
            start_step=start_step,
            shard=shard,
            name="stage2",
        )

    def draw(
        self,
        model: keras.Model,
        train: datasets.Dataset,
        run: workdirs.Workdir,
        number: int,
    ) -> np.ndarray:
        """Indices of a round's images, drawn now or by an earlier start.

        Each start logs the draw: one may have ended between the two.
        """
        if not (run.path / _name(number)).exists():
            self._draw(model, train, run, number)
        distribute.wait_for_all(run.strategy)
        self._log(train, run, number)
        return read_draw(run, number)["indices"]

    def _draw(
        self,
        model: keras.Model,
        train: datasets.Dataset,
        run: workdirs.Workdir,
        number: int,
    ) -> None:
        begin = time.perf_counter()
        seed = seeding.derived_seed(self.seed, "rounds", number)
        scores = {}
        if self.kind == "ip_dpp":
            scored = metrics.predict(
                model,
                functools.partial(
                    streams.evaluation,
                    train,
                    256,
                    self.transform if self.score_augmented else None,
                    seed,
                    self.score_augmented and self.random_resized_crop,
                ),
            )
            p, complements = metrics.true_class_probabilities(*scored)
            scores = {"probabilities": p, "complements": complements}
        indices = dpp.balanced_subset(
            train.labels,
            self.subset_size,
            seed=seed,
            scale=self.scale,
            **scores,
        )
        seconds = time.perf_counter() - begin

        def write(path):
            with open(path, "wb") as file:
                np.savez(file, indices=indices, seconds=seconds, **scores)

        run.write(_name(number), write)

    def facts(
        self, train: datasets.Dataset, run: workdirs.Workdir, number: int
    ) -> dict[str, Any]:
        """What a round drew, in figures.

        The mean p of drawn and of left-out images are means over the classes
        that leave images out.
        """
        drawn = read_draw(run, number)
        indices = drawn["indices"]
        sizes = np.bincount(train.labels[indices], minlength=train.num_classes)
        facts = {
            "epoch": number * self.resample_epochs,
            "seconds": float(drawn["seconds"]),
            "class_sizes": sizes.tolist(),
        }
        if "probabilities" in drawn:
            p, is_drawn = drawn["probabilities"], np.zeros(len(train), bool)
            is_drawn[indices] = True
            means = [
                (p[own & is_drawn].mean(), p[own & ~is_drawn].mean())
                for label in np.flatnonzero(sizes < train.class_counts)
                for own in [train.labels == label]
            ]
            if means:
                facts["mean_p_drawn"], facts["mean_p_left_out"] = np.mean(
                    means, axis=0
                )
        return facts

    def record(
        self, train: datasets.Dataset, run: workdirs.Workdir
    ) -> dict[str, Any]:
        """What a record says of the stage; writes the page of its last draw."""
        count = len(list((run.path / "draws").glob("round-*.npz")))
        if self.kind == "ip_dpp":
            drawn = read_draw(run, count - 1)
            run.write(
                "selection.html",
                lambda path: report.write_selection(
                    path,
                    train.images,
                    train.labels,
                    drawn["probabilities"],
                    drawn["indices"],
                    train.class_names,
                    title=f"Round {count} of IP-DPP, scale {self.scale}",
                ),
            )
        return {
            "stage2_steps": self.last_step(train.class_counts),
            "draws": [self.facts(train, run, n) for n in range(count)],
        }

    def _log(
        self, train: datasets.Dataset, run: workdirs.Workdir, number: int
    ) -> None:
        if not run.is_chief:
            return
        run.check()
        facts = self.facts(train, run, number)
        sizes = facts.pop("class_sizes")
        epoch = facts.pop("epoch")
        with tf.summary.create_file_writer(
            str(run.path / "tensorboard" / "draws")
        ).as_default(step=epoch):
            for name, value in facts.items():
                tf.summary.scalar(f"draws/{name}", value)
            tf.summary.histogram("draws/class_sizes", sizes)
        shown = ", ".join(
            f"{name} {value:.3f}" for name, value in facts.items()
        )
        print(f"{sum(sizes):,} images drawn before epoch {epoch + 1}: {shown}")


def read_draw(run: workdirs.Workdir, number: int) -> dict[str, np.ndarray]:
    """`indices`, and for IP-DPP `probabilities` and `complements`."""
    path = run.path / _name(number)
    try:
        with np.load(path, allow_pickle=False) as arrays:
            drawn = dict(arrays)
        if drawn["indices"].dtype.kind not in "iu" or "seconds" not in drawn:
            raise ValueError("without indices and seconds")
        return drawn
    except MemoryError:
        raise
    except Exception as error:  # zip files and NumPy raise all kinds
        raise ValueError(
            "Expected the draw of a round. "
            f"Received: {path} ({error}); without it the round is drawn anew"
        ) from error


def _name(number: int) -> str:
    return f"draws/round-{number:03}.npz"
