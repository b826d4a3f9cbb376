"""Which example stands at which position of a stream.

A sampler is a pure function of (seed, position): it draws no state along, so a
stream can start at any step. `keras_lt.streams` reads what it draws.
"""

import functools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_lt import seeding
from keras_lt.arguments import integer, real
from keras_lt.counts import by_label, validate_class_counts
from keras_lt.messages import brief
from keras_lt.specs import Registry

_Draws = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]


class Members:
    """The examples of a data set by class, to draw from.

    Args:
        labels: (N,) label ids.
        class_counts: Examples per class, (C,).

    Attributes:
        class_counts: The same, int64.

    Example:
        >>> members = keras_lt.sampling.Members([1, 0, 1], [1, 2])
        >>> len(members), members.class_counts
        (3, array([1, 2]))
        >>> draw = keras_lt.sampling.Random().draws(members, batch_size=3)
        >>> key = keras_lt.seeding.key_from_seed(0, "example")
        >>> sorted(draw(key, tf.range(3, dtype=tf.int64)).numpy().tolist())
        [0, 1, 2]
    """

    def __init__(self, labels: Any, class_counts: Any):
        self.labels = np.asarray(labels)
        self.class_counts = validate_class_counts(class_counts)

    def __len__(self) -> int:
        return len(self.labels)

    @functools.cached_property
    def pick(self) -> _Draws:
        """The function (keys (B,), classes (B,)) -> an example of each class.

        All examples of a class are equally likely.
        """
        counts = self.class_counts
        with tf.init_scope():  # these outlive a graph that asks for them first
            order = tf.constant(np.argsort(self.labels, kind="stable"))
            offsets = tf.constant(np.cumsum(counts) - counts)
            class_counts = tf.constant(counts)

        def pick(keys: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
            ranks = seeding.integers(
                seeding.fold_in(keys, 1), tf.gather(class_counts, classes)
            )
            return tf.gather(order, tf.gather(offsets, classes) + ranks)

        return pick


class Sampler:
    """Draws a class by its weight, then one of its examples, with replacement.

    A sampler of one's own says the weights of the classes; or it overrides
    `draws` and `expected_counts`, to be anything else.

    Attributes:
        name: Names the random numbers of a stream that has no other name.

    Example:
        A user's own sampler, which `--sampling=my_module:Tempered(0.3)` takes:

        >>> class Tempered(keras_lt.sampling.Sampler):
        ...     def __init__(self, power):
        ...         self.power = power
        ...
        ...     def class_weights(self, class_counts):
        ...         return class_counts**self.power
        >>> Tempered(0.5).expected_counts([64, 16]).round(1)
        array([53.3, 26.7])
    """

    @property
    def name(self) -> str:
        return type(self).__name__

    def class_weights(self, class_counts: np.ndarray) -> np.ndarray:
        """Numbers (C,) that the probabilities of the classes are shares of.

        That of a class without examples is to be 0.
        """
        raise NotImplementedError(
            f"Expected {type(self).__name__} to say class_weights(class_counts)"
        )

    def expected_counts(self, class_counts: Any) -> np.ndarray | None:
        """How often each class is drawn in N draws, N the number of examples.

        Args:
            class_counts: Examples per class, (C,).

        Returns:
            Expected draws per class, float64 (C,), of sum N; None where they
            change in the course of a training.
        """
        counts = validate_class_counts(class_counts)
        weights = np.asarray(self.class_weights(counts), np.float64)
        return counts.sum() * weights / weights.sum()

    def draws(self, members: Members, batch_size: int) -> _Draws:
        """Returns the function (key, positions (B,)) -> indices (B,).

        Args:
            members: What to draw from.
            batch_size: Size of a global batch: a position is of step
                `position // batch_size`.
        """
        classes = _by_weight(self.class_weights(members.class_counts))
        pick = members.pick

        def drawn(key: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
            keys = seeding.fold_in(key, positions)
            return pick(keys, classes(keys))

        return drawn


class Random(Sampler):
    """Every example once in an epoch of N draws, in a seeded order.

    Batches run over the ends of epochs.

    Example:
        >>> keras_lt.sampling.Random().expected_counts([90, 10])
        array([90., 10.])
    """

    name = "random"

    def expected_counts(self, class_counts: Any) -> np.ndarray:
        return validate_class_counts(class_counts).astype(np.float64)

    def draws(self, members: Members, batch_size: int) -> _Draws:
        return functools.partial(_permuted, size=len(members))


class ClassBalanced(Sampler):
    """Each of the C classes that have examples with probability 1 / C.

    Example:
        >>> keras_lt.sampling.ClassBalanced().expected_counts([90, 10, 0])
        array([50., 50.,  0.])
    """

    name = "class_balanced"

    def class_weights(self, class_counts: np.ndarray) -> np.ndarray:
        return class_counts > 0


class SquareRoot(Sampler):
    """Class c with a probability proportional to sqrt(n_c).

    n_c is its number of examples (Mahajan et al., ECCV 2018,
    https://arxiv.org/abs/1805.00932).

    Example:
        >>> keras_lt.sampling.SquareRoot().expected_counts([90, 10])
        array([75., 25.])
    """

    name = "square_root"

    def class_weights(self, class_counts: np.ndarray) -> np.ndarray:
        return np.sqrt(class_counts)


class Reversed(Sampler):
    """Class c with a probability proportional to 1 / n_c.

    The sampler of BBN (Zhou et al., CVPR 2020,
    https://arxiv.org/abs/1912.02413).

    Example:
        >>> keras_lt.sampling.Reversed().expected_counts([90, 10])
        array([10., 90.])
    """

    name = "reversed"

    def class_weights(self, class_counts: np.ndarray) -> np.ndarray:
        return np.where(class_counts > 0, 1.0 / np.maximum(class_counts, 1), 0)


class Progressive(Sampler):
    """From the natural to the balanced distribution of classes.

    Class c has the probability (1 - t / T) n_c / N + (t / T) / C at step t of
    T, with 1 / C after the end (Kang et al., ICLR 2020,
    https://arxiv.org/abs/1910.09217, with steps for epochs).

    Args:
        total_steps: T, the steps of the whole training.

    Example:
        >>> batches = keras_lt.streams.stream(
        ...     train,
        ...     sampling=keras_lt.sampling.Progressive(total_steps=1_000),
        ...     batch_size=128,
        ...     seed=0,
        ... )
    """

    name = "progressive"

    def __init__(self, total_steps: int):
        self.total_steps = integer("total_steps", total_steps, 1)

    def expected_counts(self, class_counts: Any) -> None:
        del class_counts  # they change with the step

    def draws(self, members: Members, batch_size: int) -> _Draws:
        counts, pick = members.class_counts, members.pick
        balanced, natural = _by_weight(counts > 0), _by_weight(counts)

        def drawn(key: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
            keys = seeding.fold_in(key, positions)
            draws = seeding.uniform(seeding.fold_in(keys, 3), 1, tf.float64)
            progress = (positions // batch_size) / self.total_steps
            classes = tf.where(
                draws[:, 0] < progress, balanced(keys), natural(keys)
            )
            return pick(keys, classes)

        return drawn


class HalfBalanced(Sampler):
    """Class-balanced at even positions, random at odd ones.

    So the random half is an epoch of N in 2 N draws.

    Example:
        >>> keras_lt.sampling.HalfBalanced().expected_counts([90, 10])
        array([70., 30.])
    """

    name = "half_balanced"

    def expected_counts(self, class_counts: Any) -> np.ndarray:
        halves = (Random(), ClassBalanced())
        return sum(half.expected_counts(class_counts) for half in halves) / 2

    def draws(self, members: Members, batch_size: int) -> _Draws:
        balanced = ClassBalanced().draws(members, batch_size)
        random = Random().draws(members, batch_size)

        def drawn(key: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
            return tf.where(
                positions % 2 == 0,
                balanced(key, positions),
                random(key, positions // 2),
            )

        return drawn


class ClassProbabilities(Sampler):
    """Classes by given probabilities.

    A class without examples is never drawn; the others keep their proportions.

    Args:
        probabilities: One per class by label id, of sum 1; a Series or mapping
            as `keras_lt.counts.validate_class_counts` takes it.

    Example:
        >>> sampler = keras_lt.sampling.ClassProbabilities([0.2, 0.8])
        >>> sampler.expected_counts([90, 10])
        array([20., 80.])
    """

    name = "probabilities"

    def __init__(self, probabilities: Sequence[float] | Mapping):
        self.probabilities = probabilities

    def class_weights(self, class_counts: np.ndarray) -> np.ndarray:
        weights = by_label("sampling", self.probabilities, np.float64)
        if (
            weights.shape != class_counts.shape
            or not np.isfinite(weights).all()
            or (weights < 0).any()
            or abs(weights.sum() - 1.0) > 1e-6
        ):
            raise ValueError(
                f"Expected {len(class_counts)} class probabilities that sum to "
                f"1. Received: sampling={brief(self.probabilities)}"
            )
        weights = np.where(class_counts > 0, weights, 0.0)
        if not weights.any():
            raise ValueError(
                "Expected a positive probability for a class that has images. "
                f"Received: sampling={brief(self.probabilities)}, "
                f"class_counts={brief(class_counts)}"
            )
        return weights


class Switched(Sampler):
    """One sampler up to an epoch, another one from it on.

    `Switched("random", "class_balanced", 160, steps_per_epoch)` is deferred
    re-sampling (DRS; Cao et al., NeurIPS 2019,
    https://arxiv.org/abs/1906.07413).

    Args:
        before: The first sampler, as `get` takes it.
        after: The second one.
        epoch: The epoch, counted from 0, from which the second one draws.
        steps_per_epoch: Steps per epoch.

    Example:
        >>> drs = keras_lt.sampling.Switched(
        ...     "random", "class_balanced", 160, steps_per_epoch=97
        ... )
        >>> drs.step
        15520
    """

    def __init__(
        self, before: Any, after: Any, epoch: float, steps_per_epoch: int
    ):
        self.before, self.after = get(before), get(after)
        epoch = real("epoch", epoch)
        if not 0 <= epoch < np.inf:
            raise ValueError(f"Expected epoch >= 0. Received: epoch={epoch}")
        self.step = round(
            epoch * integer("steps_per_epoch", steps_per_epoch, 1)
        )

    @property
    def name(self) -> str:
        return self.before.name

    def expected_counts(self, class_counts: Any) -> np.ndarray | None:
        """Those of the second sampler, which a training ends with."""
        return self.after.expected_counts(class_counts)

    def draws(self, members: Members, batch_size: int) -> _Draws:
        before = self.before.draws(members, batch_size)
        after = self.after.draws(members, batch_size)
        position = self.step * batch_size

        def drawn(key: tf.Tensor, positions: tf.Tensor) -> tf.Tensor:
            return tf.where(
                positions < position,
                before(key, positions),
                after(key, positions),
            )

        return drawn


def _by_weight(weights: Any) -> Callable[[tf.Tensor], tf.Tensor]:
    """Returns the function keys (B,) -> classes (B,), drawn by weight."""
    # Cumulative probabilities, float64 (C,), 1 from the last positive on.
    cumulative = np.cumsum(weights, dtype=np.float64)
    cumulative /= cumulative[-1]
    cumulative = tf.constant(cumulative)

    def classes(keys: tf.Tensor) -> tf.Tensor:
        draws = seeding.uniform(seeding.fold_in(keys, 2), 1, tf.float64)
        return tf.searchsorted(cumulative, draws[:, 0], side="right")

    return classes


def _permuted(key: tf.Tensor, positions: tf.Tensor, size: int) -> tf.Tensor:
    """Indices of a random order, another one for each `size` positions."""
    epochs = positions // size
    words = seeding.fold_in(
        seeding.fold_in(key, epochs)[:, None], tf.range(2, dtype=tf.int64)
    )  # (B, 2) uint64: one seed per index, as a batch may straddle epochs
    seeds = tf.reshape(tf.bitcast(words, tf.uint32), [-1, 4])[:, :3]
    # The op never yields a max_index of 2**b, b even and at least 16: there,
    # shuffle one index more and step past it.
    spare = (size - 1) & (size - 2) == 0

    def shuffled(index: tf.Tensor) -> tf.Tensor:
        return tf.raw_ops.RandomIndexShuffle(
            index=index,
            seed=seeds,
            max_index=tf.constant(size - 1 + spare, tf.int64),
            rounds=8,
        )

    indices = shuffled(positions % size)
    if spare:
        past = shuffled(tf.fill(tf.shape(positions), tf.cast(size, tf.int64)))
        indices = tf.where(indices == size, past, indices)
    return indices


def pair_draws(members: Members) -> Callable[..., tuple[tf.Tensor, tf.Tensor]]:
    """Returns the function (key, positions (B,)) -> two indices (B,) each.

    The two are of different classes: all ordered pairs of classes that have
    examples are equally likely, and so are the examples of a class.

    Raises:
        ValueError: If fewer than two classes have examples.

    Example:
        >>> members = keras_lt.sampling.Members([0, 1, 1], [1, 2])
        >>> draw = keras_lt.sampling.pair_draws(members)
        >>> key = keras_lt.seeding.key_from_seed(0, "pairs")
        >>> first, second = draw(key, tf.range(4, dtype=tf.int64))
        >>> bool(tf.reduce_all((first == 0) != (second == 0)))
        True
    """
    present = np.flatnonzero(members.class_counts)
    if len(present) < 2:
        raise ValueError(
            "Expected samples of two classes or more. "
            f"Received: class_counts={brief(members.class_counts)}"
        )
    classes, pick = tf.constant(present), members.pick

    def drawn(
        key: tf.Tensor, positions: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        keys = seeding.fold_in(key, positions)
        first = seeding.integers(seeding.fold_in(keys, 2), len(present))
        shift = seeding.integers(seeding.fold_in(keys, 3), len(present) - 1)
        second = (first + 1 + shift) % len(present)
        return tuple(
            pick(seeding.fold_in(keys, 4 + i), tf.gather(classes, which))
            for i, which in enumerate((first, second))
        )

    return drawn


def batches(
    draw: Callable,
    read: Callable,
    *,
    batch_size: int,
    key: tf.Tensor,
    start_step: int = 0,
) -> tf.data.Dataset:
    """Endless batches of what is drawn, each a function of key and step.

    Args:
        draw: What `Sampler.draws` or `pair_draws` gave.
        read: A function of what `draw` returns.
        batch_size: Positions per step.
        key: Key of the random numbers, made by
            `keras_lt.seeding.key_from_seed`.
        start_step: The first step.

    Example:
        >>> members = keras_lt.sampling.Members([0, 1, 1], [1, 2])
        >>> batches = keras_lt.sampling.batches(
        ...     keras_lt.sampling.Random().draws(members, batch_size=3),
        ...     lambda indices: tf.gather(["a", "b", "c"], indices),
        ...     batch_size=3,
        ...     key=keras_lt.seeding.key_from_seed(0, "letters"),
        ... )
        >>> sorted(next(iter(batches)).numpy().tolist())
        [b'a', b'b', b'c']
    """

    def batch(step: tf.Tensor) -> Any:
        positions = step * batch_size + tf.range(batch_size, dtype=tf.int64)
        return read(draw(key, positions))

    steps = tf.data.Dataset.range(start_step, np.iinfo(np.int64).max)
    return mapped(steps, batch)


def mapped(steps: tf.data.Dataset, batch: Callable) -> tf.data.Dataset:
    """Maps steps to batches, ahead of their use.

    Example:
        >>> squares = keras_lt.sampling.mapped(
        ...     tf.data.Dataset.range(3), lambda step: step**2
        ... )
        >>> [int(square) for square in squares]
        [0, 1, 4]
    """
    options = tf.data.Options()
    # A shard is cut already, tf.distribute is not to cut it again.
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.OFF
    )
    # Its thread sleeps for longer and longer (2.56 s, 5.12 s, ... 60 s), and
    # the end of `fit` waits until it wakes.
    options.autotune.enabled = False
    # It has nothing to improve here, and copies all images to look for it.
    options.experimental_optimization.apply_default_optimizations = False
    return (
        steps.map(batch, num_parallel_calls=os.cpu_count())
        .prefetch(2)
        .with_options(options)
    )


def get(identifier: Any, **context: Any) -> Sampler:
    """Returns a sampler.

    Args:
        identifier: A spec (see `keras_lt.specs`): random, class_balanced,
            square_root, reversed, progressive, half_balanced,
            switched(before, after, epoch), or of yours,
            "package.module:name(alpha=2)": a `Sampler`, or a function that
            returns the probability of each class; probabilities by label id;
            or a `Sampler`, which is returned.
        **context: What it needs to know, by the names of
            `keras_lt.specs.CONTEXT`: `class_counts`, `steps_per_epoch`,
            `total_steps`.

    Raises:
        TypeError: If an argument, or what is made, is of another type.
        ValueError: If there is no such sampler or argument, or one is missing.

    Example:
        >>> keras_lt.sampling.get("class_balanced").expected_counts([90, 10])
        array([50., 50.])
    """
    found = SAMPLERS.get(identifier, **context)
    return found if isinstance(found, Sampler) else ClassProbabilities(found)


SAMPLERS = Registry(
    "sampler",
    {
        "random": Random,
        "class_balanced": ClassBalanced,
        "square_root": SquareRoot,
        "reversed": Reversed,
        "progressive": Progressive,
        "half_balanced": HalfBalanced,
        "switched": Switched,
    },
    makes=(Sampler, Iterable),
    nested={"before": get, "after": get},
)
