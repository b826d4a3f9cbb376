"""Endless streams of batches, each a pure function of (seed, step)."""

import inspect
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from keras_lt import seeding
from keras_lt.arguments import function, integer
from keras_lt.sampling import Members, Sampler, batches, mapped, pair_draws
from keras_lt.sampling import get as get_sampler


class Examples(Protocol):
    """What streams read: images of `keras_lt.datasets`, features, one's own.

    Attributes:
        labels: int64 (N,).
        num_classes: C.
        class_counts: Examples per class, int64 (C,).

    Example:
        A data set of arrays of any shape, decoded by nobody:

        >>> class Signals(keras_lt.streams.Examples):
        ...     labels = np.array([0, 1, 1])
        ...     num_classes, class_counts = 2, np.array([1, 2])
        ...
        ...     def batch_reader(self, random_resized_crop=False):
        ...         signals = tf.ones((3, 500))
        ...         return lambda indices, seeds=None: tf.gather(
        ...             signals, indices
        ...         )
        >>> batches = keras_lt.streams.stream(
        ...     Signals(), sampling="class_balanced", batch_size=4, seed=0
        ... )
        >>> next(iter(batches))[0].shape
        TensorShape([4, 500])
    """

    labels: np.ndarray
    num_classes: int
    class_counts: np.ndarray

    def batch_reader(
        self, random_resized_crop: bool = False
    ) -> Callable[[tf.Tensor, tf.Tensor | None], tf.Tensor]:
        """Returns the function (indices (B,), seeds (B,)) -> examples (B, ...).

        Seeds are of random crops; where nothing is random they may be None.
        """


def stream(
    dataset: Examples,
    *,
    sampling: str | Sequence[float] | Sampler,
    batch_size: int,
    seed: int,
    transform: Callable | None = None,
    mix: Callable | None = None,
    random_resized_crop: bool | float = False,
    start_step: int = 0,
    shard: tuple[int, int] = (0, 1),
    name: str | None = None,
) -> tf.data.Dataset:
    """Streams batches of a data set, for ever.

    What stands at a position depends on nothing but the seed, the stream's
    name and the position (the index of a sample since step 0). So a stream
    started at step k goes on exactly as one that has made k steps, at no
    cost, and shards are slices of the same global batch.

    Args:
        dataset: The images.
        sampling: Which image stands where, as `keras_lt.sampling.get` takes
            it: "random", "class_balanced", the probabilities of the classes, or
            another sampler.
        batch_size: Size of the global batch; it need not divide N.
        seed: The run's seed, an integer.
        transform: Augmentation, as `keras_lt.preprocessing` describes it.
        mix: Mixing of each example with a partner, which is drawn as it was, as
            `keras_lt.preprocessing` describes it. Labels are then soft: for
            an accuracy take `keras_lt.metrics.Top1Accuracy`, since Keras' own
            `metrics=["accuracy"]` would score ids of validation data 0.
        random_resized_crop: Whether images from files are cropped at random
            before they are resized, as ImageNet training does, and not in the
            center (`keras_lt.datasets.FileDataset`). A number is the least
            area of a crop as a part of the image; True is 0.08.
        start_step: First step, counted from 0.
        shard: (i, n): yield the i-th of n slices of each batch.
        name: Names the random numbers, by default as the sampling. Two streams
            of one run that have the same sampling need different names to be
            independent: `zipped` refuses them otherwise.

    Returns:
        A `tf.data.Dataset` of (images, labels), or of what the transform
        returns, batch dimension `batch_size / n`, static.

    Raises:
        TypeError: If an argument is of another type.
        ValueError: If an argument is out of its range.

    Example:
        >>> batches = keras_lt.streams.stream(
        ...     train, sampling="class_balanced", batch_size=128, seed=0
        ... )
        >>> history = model.fit(
        ...     batches, steps_per_epoch=2, epochs=3, shuffle=False
        ... )
    """
    _check_dataset(dataset)
    batch_size = integer("batch_size", batch_size, 1)
    start_step = integer("start_step", start_step, 0)
    seed = seeding.checked_seed(seed)
    part, parts = _checked_shard(shard)
    if batch_size % parts:
        raise ValueError(
            "Expected a batch_size that the number of shards divides. "
            f"Received: shard={shard}, batch_size={batch_size}"
        )
    class_counts = dataset.class_counts
    sampler = get_sampler(
        sampling,
        class_counts=class_counts,
        num_classes=dataset.num_classes,
        seed=seed,
    )
    draw = sampler.draws(Members(dataset.labels, class_counts), batch_size)
    if name is None:
        name = sampler.name
    _check_name(name)
    _check_parameters("transform", transform, "images, labels, indices, seeds")
    _check_mix(mix, dataset.num_classes)
    read = _reader(dataset, random_resized_crop)
    labels = tf.constant(dataset.labels)
    local_size = batch_size // parts

    def examples(positions: tf.Tensor, name: str) -> Any:
        indices = draw(
            seeding.key_from_seed(seed, f"{name}/indices"), positions
        )
        key = seeding.key_from_seed(seed, f"{name}/crop")
        images = read(indices, seeding.fold_in(key, positions))
        drawn = images, tf.gather(labels, indices)
        if transform is None:
            return drawn
        key = seeding.key_from_seed(seed, f"{name}/transform")
        return transform(*drawn, indices, seeding.fold_in(key, positions))

    def batch(step: tf.Tensor) -> Any:
        first = step * batch_size + part * local_size
        positions = first + tf.range(local_size, dtype=tf.int64)
        if mix is None:
            return examples(positions, name)
        return mix(
            *examples(positions, name),
            *examples(positions, f"{name}/partners"),
            seeding.fold_in(
                seeding.key_from_seed(seed, f"{name}/mix"), positions
            ),
        )

    names = [f"{name}/indices"]
    if mix is not None:
        names.append(f"{name}/partners/indices")
    steps = tf.data.Dataset.range(start_step, np.iinfo(np.int64).max)
    return _with_origin(mapped(steps, batch), dataset, seed, names)


def _check_dataset(dataset: Any) -> None:
    if not callable(getattr(dataset, "batch_reader", None)):
        raise TypeError(
            "Expected a data set of keras_lt.datasets, such as "
            "from_arrays(images, labels, class_names) gives. "
            f"Received: dataset of {type(dataset)}"
        )


def _checked_shard(shard: Any) -> tuple[int, int]:
    message = f"Expected shard=(i, n) with 0 <= i < n. Received: shard={shard}"
    if not isinstance(shard, Sequence) or len(shard) != 2:
        raise ValueError(message)
    part, parts = (integer("shard", each) for each in shard)
    if not 0 <= part < parts:
        raise ValueError(message)
    return part, parts


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or not name:
        raise ValueError(f"Expected name to be a text. Received: name={name!r}")


def _check_parameters(
    name: str, value: Callable | None, parameters: str
) -> None:
    """Refuses what is no function of these parameters."""
    if value is None:
        return
    function(name, value)
    try:
        inspect.signature(value).bind(*parameters.split(", "))
    except TypeError:
        raise TypeError(
            f"Expected {name} to be a function of ({parameters}). "
            f"Received: {name}{inspect.signature(value)}"
        ) from None
    except ValueError:  # of some functions in C the parameters are not known
        return


def _check_mix(mix: Callable | None, num_classes: int) -> None:
    _check_parameters(
        "mix", mix, "images, labels, other_images, other_labels, seeds"
    )
    mixed_classes = getattr(mix, "num_classes", num_classes)
    if mixed_classes < num_classes:
        raise ValueError(
            f"Expected a mix of the {num_classes} classes of the data set. "
            f"Received: mix with num_classes={mixed_classes}"
        )


class _Origin(NamedTuple):
    """What the random numbers of a stream are a function of."""

    labels: np.ndarray
    seed: int
    names: frozenset[str]

    def draws_as(self, other: "_Origin") -> bool:
        """Whether both draw the same images of a data set somewhere."""
        return (
            self.seed == other.seed
            and bool(self.names & other.names)
            and np.array_equal(self.labels, other.labels)
        )


def _with_origin(
    stream: tf.data.Dataset, dataset: Examples, seed: int, names: list[str]
) -> tf.data.Dataset:
    stream.keras_lt_origin = _Origin(dataset.labels, seed, frozenset(names))
    return stream


def _origins(stream: tf.data.Dataset) -> Iterator[_Origin]:
    """The origins of all streams that one is made of."""
    if hasattr(stream, "keras_lt_origin"):
        yield stream.keras_lt_origin
        return
    for source in stream._inputs():  # what `map` and the like were called on
        yield from _origins(source)


def pairs(
    dataset: Examples,
    *,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    name: str = "pairs",
) -> tf.data.Dataset:
    """Streams pairs of samples of different classes, for ever.

    For each pair two different classes are drawn, all ordered pairs of classes
    that have samples being equally likely, and a sample of each. What stands at
    a position depends on nothing but seed, name and position.

    Args:
        dataset: Samples of two classes at least.
        batch_size: Pairs per batch.
        seed: Seed of the run, an integer.
        start_step: The first batch.
        name: Pairs of other names are independent.

    Returns:
        An endless `tf.data.Dataset` of ((images, labels), (images, labels)).

    Raises:
        ValueError: If an argument is out of its range or there are fewer than
            two classes.

    Example:
        >>> batches = keras_lt.streams.pairs(train, batch_size=256, seed=0)
        >>> (images, labels), (others, other_labels) = next(iter(batches))
        >>> bool(tf.reduce_any(labels == other_labels))
        False
    """
    _check_dataset(dataset)
    batch_size = integer("batch_size", batch_size, 1)
    start_step = integer("start_step", start_step, 0)
    _check_name(name)
    members = Members(dataset.labels, dataset.class_counts)
    read, labels = dataset.batch_reader(), tf.constant(dataset.labels)

    def both(drawn: tuple[tf.Tensor, tf.Tensor]) -> Any:
        return tuple(
            (read(indices), tf.gather(labels, indices)) for indices in drawn
        )

    drawn = batches(
        pair_draws(members),
        both,
        batch_size=batch_size,
        key=seeding.key_from_seed(seed, name),
        start_step=start_step,
    )
    return _with_origin(drawn, dataset, seed, [name])


def zipped(streams: Mapping[str, tf.data.Dataset]) -> tf.data.Dataset:
    """Zips streams into one stream of dicts, one batch of each a step.

    Streams are to be independent. Two of one data set that have the same seed
    and name (which is the sampling, if not given) draw the same images; what
    `stream` and `pairs` made is known, also behind `map` and the like.

    Args:
        streams: Streams by name.

    Returns:
        A `tf.data.Dataset` of dicts with the same keys.

    Raises:
        TypeError: If one is no `tf.data.Dataset`.
        ValueError: If there is no stream, or two draw the same images.

    Example:
        >>> dual = keras_lt.streams.zipped(
        ...     {
        ...         "balanced": keras_lt.streams.stream(
        ...             train, sampling="class_balanced", batch_size=128, seed=0
        ...         ),
        ...         "random": keras_lt.streams.stream(
        ...             train, sampling="random", batch_size=128, seed=0
        ...         ),
        ...     }
        ... )
    """
    if not streams:
        raise ValueError(
            f"Expected at least one stream. Received: streams={streams}"
        )
    for key, each in streams.items():
        if not isinstance(each, tf.data.Dataset):
            raise TypeError(
                "Expected streams by name, each a tf.data.Dataset. "
                f"Received: streams[{key!r}] of {type(each)}"
            )
    for first, second in itertools.combinations(streams, 2):
        if _draw_alike(streams[first], streams[second]):
            raise ValueError(
                "Expected streams that draw images of their own: give each a "
                "name of its own, as in stream(..., name="
                f"{second!r}). Received: streams[{first!r}] and "
                f"streams[{second!r}] of the same data set, seed and name"
            )
    return tf.data.Dataset.zip(dict(streams))


def _draw_alike(first: tf.data.Dataset, second: tf.data.Dataset) -> bool:
    return first is second or any(
        one.draws_as(other)
        for one in _origins(first)
        for other in _origins(second)
    )


def from_tf_data(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Makes a stream of a user's own tf.data pipeline.

    It repeats the pipeline without end. It can't seek: a resumed run starts
    the pipeline anew, and does not see the batches that the uninterrupted run
    would have seen.

    Args:
        dataset: Yields (images, labels) with a static batch dimension, as
            `batch(..., drop_remainder=True)` makes it.

    Returns:
        A `tf.data.Dataset` of the same elements, infinite.

    Raises:
        TypeError: If it is no `tf.data.Dataset`.
        ValueError: If the elements are not such pairs.

    Example:
        >>> dataset = tf.data.Dataset.from_tensor_slices((images, labels))
        >>> batches = keras_lt.streams.from_tf_data(
        ...     dataset.shuffle(1000).batch(32, drop_remainder=True)
        ... )
    """
    if not isinstance(dataset, tf.data.Dataset):
        raise TypeError(
            f"Expected a tf.data.Dataset. Received: dataset of {type(dataset)}"
        )
    spec = dataset.element_spec
    if (
        not isinstance(spec, tuple)
        or len(spec) != 2
        or any(
            getattr(part, "shape", None) is None
            or part.shape.rank is None
            or part.shape.rank < 1
            or part.shape[0] is None
            for part in spec
        )
    ):
        raise ValueError(
            "Expected batches (images, labels) of a static size: "
            "dataset.batch(size, drop_remainder=True). "
            f"Received: element_spec={spec}"
        )
    if spec[0].shape[0] != spec[1].shape[0]:
        raise ValueError(
            "Expected as many labels as images in a batch. "
            f"Received: element_spec={spec}"
        )
    return dataset.repeat().prefetch(tf.data.AUTOTUNE)


def _reader(dataset: Examples, random_resized_crop: bool | float) -> Callable:
    """What reads examples; readers of one's own need not know an area."""
    if isinstance(random_resized_crop, bool):
        return dataset.batch_reader(random_resized_crop)
    return dataset.batch_reader(True, random_resized_crop)


def evaluation(
    dataset: Examples,
    batch_size: int,
    transform: Callable | None = None,
    seed: int = 0,
    random_resized_crop: bool | float = False,
    shard: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Batches that hold every image exactly once, in order.

    Args:
        dataset: The images.
        batch_size: Size of all batches but the last.
        transform: As in `stream`, for images as training sees them; None
            leaves them as they are.
        seed: Seed of the transform and of random crops.
        random_resized_crop: As in `stream`, for images as training sees them.
        shard: (i, n): the i-th of n parts of the data set, equal but for one
            image.

    Returns:
        A finite `tf.data.Dataset` of (images, labels); its last batch holds
        what remains.

    Raises:
        ValueError: If the batch size is not positive, the shard is none, or
            images in memory are to be cropped.

    Example:
        >>> batches = keras_lt.streams.evaluation(test, 100)
        >>> loss, accuracy = model.evaluate(batches)
    """
    _check_dataset(dataset)
    batch_size = integer("batch_size", batch_size, 1)
    part, parts = _checked_shard(shard)
    _check_parameters("transform", transform, "images, labels, indices, seeds")
    begin, end = (len(dataset) * i // parts for i in (part, part + 1))
    read = _reader(dataset, random_resized_crop)
    labels = tf.constant(dataset.labels)
    key = seeding.key_from_seed(seed, "evaluation")
    crop_key = seeding.key_from_seed(seed, "evaluation/crop")

    def batch(indices):
        images = read(indices, seeding.fold_in(crop_key, indices))
        batch = images, tf.gather(labels, indices)
        if transform is None:
            return batch
        return transform(*batch, indices, seeding.fold_in(key, indices))

    return mapped(tf.data.Dataset.range(begin, end).batch(batch_size), batch)
