import functools
import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from data import chi_square, chi_square_limit, numbered

from keras_lt import datasets, features, preprocessing, sampling, streams
from keras_lt.features import Features

SAMPLINGS = sorted({*sampling.SAMPLERS.table} - {"switched"})
COUNTS = np.array([60, 0, 25, 9, 1])
VECTOR = (0.1, 0.3, 0.3, 0.2, 0.1)


def make(dataset, sampling="random", batch_size=8, seed=0, **arguments):
    if sampling == "progressive":
        sampling = "progressive(total_steps=20)"
    return streams.stream(
        dataset,
        sampling=sampling,
        batch_size=batch_size,
        seed=seed,
        **arguments,
    )


def take(dataset, count):
    return list(dataset.take(count).as_numpy_iterator())


def indices(dataset, draws, batch_size, **arguments):
    """The first `draws` indices of a stream of a `numbered` data set."""
    batches = take(
        make(dataset, batch_size=batch_size, **arguments),
        -(-draws // batch_size),
    )
    drawn = np.concatenate([images[:, 0, 0, 0] for images, _ in batches])
    labels = np.concatenate([labels for _, labels in batches])
    drawn = drawn.astype(np.int64)
    np.testing.assert_array_equal(dataset.labels[drawn], labels)
    return drawn[:draws]


def permutations(size, epochs, **arguments):
    dataset = numbered([size])
    drawn = indices(dataset, size * epochs, 4096, **arguments)
    return drawn.reshape(epochs, size)


def pictures(count=50):
    generator = np.random.default_rng(0)
    return datasets.from_arrays(
        generator.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8),
        generator.integers(0, 4, count),
        "abcd",
    )


def assert_batches_equal(got, want):
    for a, b in zip(got, want, strict=True):
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)


# Each epoch of "random" is a permutation.


# 65537 = 2**16 + 1 images: RandomIndexShuffle alone loses the last one.
@pytest.mark.parametrize(
    "size, batch_size",
    [(12, 4), (10, 4), (7, 32), (1, 3), (2, 3), (100, 64), (65537, 40_000)],
)
def test_every_epoch_visits_every_image_once(size, batch_size):
    dataset = numbered([size])
    epochs = np.reshape(indices(dataset, 3 * size, batch_size), (3, size))
    np.testing.assert_array_equal(np.sort(epochs), [np.arange(size)] * 3)
    if size >= 10:
        assert (epochs[0] != epochs[1]).any()
        assert (epochs[1] != epochs[2]).any()


def test_positions_are_uniform():
    # M[i, j] counts how often image j stood at position i. For uniform
    # permutations var M[i, j] = E / N (1 - 1 / N), so Pearson's sum has mean
    # N (N - 1), and (N - 1) / N times it is chi-square of (N - 1)^2 degrees.
    size, epochs = 64, 640
    order = permutations(size, epochs)
    table = [np.bincount(column, minlength=size) for column in order.T]
    statistic = chi_square(np.array(table), epochs / size) * (size - 1) / size
    assert statistic < chi_square_limit((size - 1) ** 2)


def test_all_orders_of_few_images_are_equally_likely():
    size, epochs = 4, 480
    seen = {order: 0 for order in itertools.permutations(range(size))}
    for order in permutations(size, epochs):
        seen[tuple(order.tolist())] += 1
    statistic = chi_square(np.array(list(seen.values())), epochs / len(seen))
    assert statistic < chi_square_limit(len(seen) - 1)


def test_epochs_and_seeds_are_uncorrelated():
    # The correlation r of two independent permutations has mean 0 and
    # variance 1 / (N - 1); z = r sqrt(N - 1) is near normal, E|z| = 0.798 with
    # standard deviation 0.603. 96 permutations make 4560 pairs: the mean |z|
    # has a standard error of 0.009, and one |z| > 5.5 a chance of 2e-4.
    size, epochs = 400, 8
    orders = np.concatenate(
        [permutations(size, epochs, seed=seed) for seed in range(-4, 8)]
    )
    z = np.corrcoef(orders)[np.triu_indices(len(orders), 1)] * (size - 1) ** 0.5
    assert abs(np.abs(z).mean() - 0.798) < 4 * 0.603 / len(z) ** 0.5
    assert abs(z.mean()) < 4 / len(z) ** 0.5
    assert np.abs(z).max() < 5.5


def test_neighboring_positions_are_uncorrelated():
    # Lag-1 correlation inside an order: mean near 0, variance 1 / N.
    size, epochs = 400, 50
    lag = [
        np.corrcoef(order[1:], order[:-1])[0, 1]
        for order in permutations(size, epochs)
    ]
    assert abs(np.mean(lag)) < 4 / (size * epochs) ** 0.5


# Class frequencies, over 10^5 draws.


def probabilities(sampling):
    present = COUNTS > 0
    if sampling == "class_balanced":
        weights = present
    elif sampling == "square_root":
        weights = COUNTS**0.5
    elif sampling == "reversed":
        weights = np.where(present, 1 / np.maximum(COUNTS, 1), 0)
    else:
        weights = np.where(present, sampling, 0)
    return weights / weights.sum()


def assert_drawn_as(drawn, dataset, expected):
    """By class, and evenly by image inside a class."""
    draws, counts = len(drawn), dataset.class_counts
    classes = np.bincount(dataset.labels[drawn], minlength=len(counts))
    nonzero = np.count_nonzero(expected)
    limit = chi_square_limit(nonzero - 1)
    assert chi_square(classes, draws * expected) < limit
    each = (expected / np.maximum(counts, 1))[dataset.labels]
    images = np.bincount(drawn, minlength=len(dataset))
    limit = chi_square_limit(np.count_nonzero(each) - 1)
    assert chi_square(images, draws * each) < limit


@pytest.mark.parametrize(
    "sampling",
    ["class_balanced", "square_root", "reversed", VECTOR, (0.5, 0, 0, 0, 0.5)],
)
def test_classes_are_drawn_as_the_formula_says(sampling):
    dataset = numbered(COUNTS)
    drawn = indices(dataset, 100_000, 1000, sampling=sampling)
    assert_drawn_as(drawn, dataset, probabilities(sampling))


@pytest.mark.parametrize("step", [0, 5, 10, 25])
def test_progressive_goes_from_natural_to_balanced(step):
    # (1 - t / T) n_c / N + (t / T) / C with T = 10, balanced ever after.
    dataset = numbered(COUNTS)
    progress = min(step / 10, 1)
    expected = (1 - progress) * COUNTS / COUNTS.sum()
    expected += progress * probabilities("class_balanced")
    drawn = indices(
        dataset,
        100_000,
        100_000,
        sampling="progressive(total_steps=10)",
        start_step=step,
    )
    assert_drawn_as(drawn, dataset, expected)


def test_progressive_moves_with_the_step_not_the_sample():
    # All of the last step before T is drawn with t = T - 1.
    dataset = numbered([99_999, 1])
    drawn = indices(
        dataset, 20_000, 10_000, sampling="progressive(total_steps=2)"
    )
    rare = (dataset.labels[drawn] == 1).reshape(2, -1).mean(axis=1)
    # Expected 1e-5 and 1/2 * 1e-5 + 1/2 * 1/2.
    assert rare[0] < 0.001
    assert abs(rare[1] - 0.25) < 4 * (0.25 * 0.75 / 10_000) ** 0.5


def test_mix_takes_partners_of_the_same_sampling():
    dataset = numbered(COUNTS)

    def both(images, labels, other_images, other_labels, seeds):
        assert seeds.dtype == tf.uint64
        return (images, other_images), (labels, other_labels)

    arguments = {"sampling": "class_balanced", "batch_size": 1000, "mix": both}
    batches = take(make(dataset, **arguments), 100)
    first, second = (
        np.concatenate([images[i].ravel() for images, _ in batches])
        for i in range(2)
    )
    for drawn in (first, second):
        drawn = drawn.astype(int)
        assert_drawn_as(drawn, dataset, probabilities("class_balanced"))
    labels = np.concatenate([labels[1] for _, labels in batches])
    np.testing.assert_array_equal(dataset.labels[second.astype(int)], labels)
    # Independent: as often the same class as the probabilities say.
    same = np.mean(dataset.labels[first.astype(int)] == labels)
    assert same == pytest.approx(1 / 4, abs=5 * (3 / 16 / 1e5) ** 0.5)


def test_mixed_batches_seek_and_shard():
    arguments = {
        "transform": preprocessing.pad_crop_flip(2),
        "mix": preprocessing.mixup(4),
    }
    whole = take(make(pictures(), **arguments), 4)
    late = take(make(pictures(), start_step=2, **arguments), 2)
    assert_batches_equal(late, whole[2:])
    shards = [
        take(make(pictures(), shard=(part, 2), **arguments), 4)
        for part in range(2)
    ]
    joined = [
        [np.concatenate(part) for part in zip(*slices, strict=True)]
        for slices in zip(*shards, strict=True)
    ]
    assert_batches_equal(joined, whole)


def test_switch_of_the_sampling():
    arguments = {"dataset": pictures(), "name": "same"}
    drs = sampling.get("switched(random,class_balanced,1.5)", steps_per_epoch=2)
    switched = take(make(sampling=drs, **arguments), 6)
    random = take(make(sampling="random", **arguments), 3)
    balanced = take(
        make(sampling="class_balanced", start_step=3, **arguments), 3
    )
    assert_batches_equal(switched, random + balanced)
    (late,) = take(make(sampling=drs, start_step=5, **arguments), 1)
    assert_batches_equal([late], switched[5:])


def test_half_balanced_is_half_balanced_and_half_an_epoch():
    dataset = numbered(COUNTS)
    drawn = indices(dataset, 190 * 1000, 1000, sampling="half_balanced")
    balanced, random = drawn[0::2], drawn[1::2]
    assert_drawn_as(balanced, dataset, probabilities("class_balanced"))
    epochs = random.reshape(1000, 95)
    np.testing.assert_array_equal(np.sort(epochs), [np.arange(95)] * 1000)
    assert (epochs[0] != epochs[1]).any()


# A pure function of seed, name and position.


@pytest.mark.parametrize("sampling", [*SAMPLINGS, "vector"])
def test_a_stream_seeks(sampling):
    dataset = pictures()
    arguments = {
        "sampling": [0.25] * 4 if sampling == "vector" else sampling,
        "transform": preprocessing.pad_crop_flip(2),
    }
    whole = take(make(dataset, **arguments), 20)  # over three epochs' ends
    assert_batches_equal(take(make(dataset, **arguments), 20), whole)
    for step in (1, 6, 19):
        (batch,) = take(make(dataset, start_step=step, **arguments), 1)
        assert_batches_equal([batch], [whole[step]])
    other = take(make(dataset, seed=1, **arguments), 20)
    assert any((a[0] != b[0]).any() for a, b in zip(whole, other, strict=True))


def test_a_far_step_costs_nothing():
    (batch,) = take(make(pictures(), start_step=10**12), 1)
    assert batch[0].shape == (8, 8, 8, 3)


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("parts", [2, 3])
def test_shards_make_up_the_global_batch(sampling, parts):
    arguments = {
        "sampling": sampling,
        "batch_size": 12,
        "transform": preprocessing.pad_crop_flip(2),
    }
    whole = take(make(pictures(), **arguments), 6)
    shards = [
        take(make(pictures(), shard=(part, parts), **arguments), 6)
        for part in range(parts)
    ]
    joined = [
        [np.concatenate(part) for part in zip(*slices, strict=True)]
        for slices in zip(*shards, strict=True)
    ]
    assert_batches_equal(joined, whole)


@pytest.mark.parametrize(
    "sampling", [s for s in SAMPLINGS if s != "progressive"]
)
def test_the_batch_size_does_not_change_the_samples(sampling):
    joined = []
    for batch_size in (32, 64):
        batches = take(
            make(
                pictures(),
                sampling=sampling,
                batch_size=batch_size,
                transform=preprocessing.pad_crop_flip(2),
            ),
            192 // batch_size,
        )
        joined.append(
            [np.concatenate(part) for part in zip(*batches, strict=True)]
        )
    assert_batches_equal(joined[:1], joined[1:])


def test_streams_of_other_names_or_seeds_are_independent():
    dataset = numbered([10] * 8)
    drawn = [
        indices(dataset, 20_000, 1000, sampling="class_balanced", **arguments)
        for arguments in ({}, {"name": "a"}, {"name": "b"}, {"seed": 1})
    ]
    for a, b in itertools.combinations(drawn, 2):
        cells = np.bincount(a // 10 * 8 + b // 10, minlength=64)
        assert chi_square(cells, 20_000 / 64) < chi_square_limit(63)


def test_a_transform_gets_the_batch_its_indices_and_fresh_seeds():
    dataset = numbered(COUNTS, shape=(2, 3, 1))
    seen = []

    def transform(images, labels, indices, seeds):
        assert images.shape == (8, 2, 3, 1) and images.dtype == tf.float32
        assert labels.shape == (8,) and labels.dtype == tf.int64
        assert indices.shape == (8,) and indices.dtype == tf.int64
        assert seeds.shape == (8,) and seeds.dtype == tf.uint64
        return {"all": (images, labels, indices, seeds)}

    for batch in take(make(dataset, "reversed", transform=transform), 10):
        images, labels, where, seeds = batch["all"]
        np.testing.assert_array_equal(images, dataset.images[where])
        np.testing.assert_array_equal(labels, dataset.labels[where])
        seen.extend(seeds.tolist())
    assert len(set(seen)) == 80


# Shape of the thing, and its neighbors.


def test_batches_are_static_and_without_end():
    batches = make(pictures(), batch_size=12, shard=(1, 3))
    images, labels = batches.element_spec
    assert images.shape == (4, 8, 8, 3) and images.dtype == tf.uint8
    assert labels.shape == (4,) and labels.dtype == tf.int64
    cardinality = int(batches.cardinality())
    assert cardinality < 0 or cardinality > 10**18


def test_zipped_zips_by_name():
    parts = {
        "balanced": make(pictures(), "class_balanced"),
        "random": make(pictures(), "random", batch_size=4),
    }
    both = take(streams.zipped(parts), 3)
    for name, part in parts.items():
        assert_batches_equal([batch[name] for batch in both], take(part, 3))
    with pytest.raises(ValueError, match="at least one stream"):
        streams.zipped({})


def test_zipped_refuses_streams_that_draw_the_same_images():
    dataset, copy = numbered([5, 3]), numbered([5, 3])

    def swap(*arrays):
        return (*arrays[:2][::-1], *arrays[2:])

    extracted = Features(np.zeros((8, 2), "float32"), dataset.labels)
    pairs = functools.partial(streams.pairs, batch_size=2, seed=0)
    of_features = {"sampling": "random", "batch_size": 2, "seed": 0}
    once = make(dataset)
    mixed = {"mix": preprocessing.mixup(2)}
    for first, second in (
        (once, once),
        (once, make(dataset)),
        (once, make(copy)),
        (once, make(dataset, batch_size=4, start_step=3)),
        (once, make(dataset).map(swap).prefetch(1)),
        (make(dataset, name="a"), make(dataset, "class_balanced", name="a")),
        (make(dataset, [0.5, 0.5]), make(dataset, [0.5, 0.5])),
        (make(dataset, **mixed, name="a"), make(dataset, name="a/partners")),
        (pairs(dataset), pairs(copy)),
        (
            features.stream(extracted, 2, **of_features),
            features.stream(extracted, 2, **of_features),
        ),
        (
            features.pairs(extracted, 2, batch_size=2, seed=0),
            features.pairs(extracted, 2, batch_size=2, seed=0),
        ),
    ):
        with pytest.raises(
            ValueError, match=r"name of its own, .*name='b'.*'a'.*'b'"
        ):
            streams.zipped({"a": first, "b": second})
    streams.zipped(
        {
            "a": once,
            "name": make(dataset, name="b"),
            "seed": make(dataset, seed=np.int64(1)),
            "sampling": make(dataset, "class_balanced"),
            "data": make(numbered([5, 4])),
            "pairs": pairs(dataset),
            "own": streams.from_tf_data(
                tf.data.Dataset.from_tensors((np.zeros(2), np.zeros(2)))
            ),
        }
    )
    with pytest.raises(TypeError, match=r"'a'.* 'list'"):
        streams.zipped({"a": [once]})


def test_from_tf_data_repeats_a_pipeline():
    images = np.arange(7, dtype=np.float32).reshape(7, 1, 1, 1)
    own = tf.data.Dataset.from_tensor_slices((images, np.arange(7)))
    batches = streams.from_tf_data(own.batch(3, drop_remainder=True))
    assert batches.element_spec[0].shape == (3, 1, 1, 1)
    labels = [batch[1].tolist() for batch in take(batches, 5)]
    assert labels == [[0, 1, 2], [3, 4, 5]] * 2 + [[0, 1, 2]]


@pytest.mark.parametrize(
    "break_it",
    [
        lambda own: own.batch(3),
        lambda own: own,
        lambda own: own.map(lambda x, y: x).batch(3, drop_remainder=True),
        lambda own: own.map(lambda x, y: (x, y, y)).batch(
            3, drop_remainder=True
        ),
        lambda own: own.map(lambda x, y: {"x": x, "y": y}).batch(
            3, drop_remainder=True
        ),
    ],
)
def test_from_tf_data_refuses_what_is_no_batch_of_pairs(break_it):
    images = np.zeros((7, 2, 2, 1), np.float32)
    own = tf.data.Dataset.from_tensor_slices((images, np.arange(7)))
    with pytest.raises(ValueError, match="drop_remainder=True"):
        streams.from_tf_data(break_it(own))


@pytest.mark.parametrize(
    "batch_size, sizes",
    [(4, [4, 4, 2]), (5, [5, 5]), (16, [10]), (1, [1] * 10)],
)
def test_evaluation_is_every_image_once_in_order(batch_size, sizes):
    dataset = numbered([6, 4])
    batches = streams.evaluation(dataset, batch_size)
    assert int(batches.cardinality()) == len(sizes)
    batches = list(batches.as_numpy_iterator())
    assert [len(labels) for _, labels in batches] == sizes
    images, labels = map(np.concatenate, zip(*batches, strict=True))
    np.testing.assert_array_equal(images, dataset.images)
    np.testing.assert_array_equal(labels, dataset.labels)


def test_evaluation_needs_a_batch_size():
    with pytest.raises(ValueError, match="batch_size=0"):
        streams.evaluation(pictures(), 0)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": -8}, "batch_size=-8"),
        ({"start_step": -1}, "start_step=-1"),
        ({"shard": (2, 2)}, r"shard=\(2, 2\)"),
        ({"shard": (-1, 2)}, r"shard=\(-1, 2\)"),
        ({"shard": (0, 0)}, r"shard=\(0, 0\)"),
        ({"shard": (0, 3)}, "batch_size=8"),
        ({"sampling": "balanced"}, "class_balanced.*Received: 'balanced'"),
        ({"sampling": [0.5, 0.5]}, "5 class probabilities"),
        ({"sampling": [0.3] * 5}, "sum to 1"),
        ({"sampling": [1.5, -0.5, 0, 0, 0]}, "5 class probabilities"),
        ({"sampling": [np.nan] * 5}, "5 class probabilities"),
        ({"sampling": [0, 1, 0, 0, 0]}, "a class that has images"),
        ({"sampling": "progressive()"}, "the argument total_steps"),
        ({"sampling": "progressive(total_steps=0)"}, "total_steps=0"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        make(numbered(COUNTS), **arguments)


class Recorder(keras.Model):
    """Keeps the labels of the batches that `fit` trains on."""

    def __init__(self):
        super().__init__()
        self.head = keras.layers.Dense(1)
        self.seen = []

    def call(self, images):
        return self.head(keras.ops.reshape(images, (-1, 1)))

    def train_step(self, batch):
        self.seen.append(batch[1].numpy().tolist())
        return super().train_step(batch)


def test_fit_sees_the_batches_of_the_stream_in_order():
    dataset = numbered([20, 10])
    model = Recorder()
    model.compile(loss="mse", run_eagerly=True)
    history = model.fit(
        make(dataset), steps_per_epoch=2, epochs=3, shuffle=False, verbose=0
    ).history
    assert np.isfinite(history["loss"]).all()
    batches = take(make(dataset), 6)
    assert model.seen == [labels.tolist() for _, labels in batches]


def test_replicas_get_slices_of_the_same_batch(two_replicas):
    batches = make(pictures(), batch_size=6)
    distributed = iter(two_replicas.experimental_distribute_dataset(batches))
    for _, labels in take(batches, 3):
        _, split = next(distributed)
        parts = two_replicas.experimental_local_results(split)
        assert [len(part) for part in parts] == [3, 3]
        np.testing.assert_array_equal(np.concatenate(parts), labels)


def test_evaluation_of_augmented_images():
    data = numbered([20, 5], (6, 6, 1))
    transform = preprocessing.pad_crop_flip(2)

    def images(*arguments):
        batches = streams.evaluation(data, *arguments)
        found, labels = zip(*batches, strict=True)
        np.testing.assert_array_equal(np.concatenate(labels), data.labels)
        return np.concatenate(found)

    moved = images(10, transform)
    # Each image's own, whatever the batch; padding is black, its number not.
    np.testing.assert_array_equal(images(7, transform), moved)
    assert (images(10, transform, 1) != moved).any()
    np.testing.assert_array_equal(moved.max(axis=(1, 2, 3)), np.arange(25.0))
    assert (moved[1:].min(axis=(1, 2, 3)) == 0).mean() > 0.8
    np.testing.assert_array_equal(images(10), data.images)


def test_pairs_are_of_two_classes_drawn_uniformly():
    counts = [30, 0, 4, 1]
    data = numbered(counts)
    batches = streams.pairs(data, batch_size=500, seed=0)
    drawn = [[], []]
    for batch in batches.take(60):
        for into, (images, labels) in zip(drawn, batch, strict=True):
            indices = images.numpy().astype(int).reshape(-1)
            np.testing.assert_array_equal(data.labels[indices], labels)
            into.append(indices)
    first, second = (np.concatenate(indices) for indices in drawn)
    classes = data.labels[first] * 4 + data.labels[second]
    observed = np.bincount(classes, minlength=16)
    expected = np.zeros(16)
    for a, b in [(0, 2), (0, 3), (2, 0), (2, 3), (3, 0), (3, 2)]:
        expected[4 * a + b] = 30_000 / 6
    assert chi_square(observed, expected) < chi_square_limit(5)
    for indices in (first, second):  # uniform within a class
        members = np.bincount(indices, minlength=35)
        want = 10_000 / np.array(counts)[data.labels]
        assert chi_square(members, want) < chi_square_limit(32)
    # The two of a pair are independent: 30 x 4 combinations.
    both = (data.labels[first] == 0) & (data.labels[second] == 2)
    table = np.histogram2d(first[both], second[both], bins=[35, 35])[0]
    table = table[table.any(axis=1)][:, table.any(axis=0)]
    assert table.shape == (30, 4)
    assert chi_square(table, both.sum() / 120) < chi_square_limit(119)


def test_pairs_seek():
    data = numbered([9, 5, 3])

    def take(count, **arguments):
        batches = streams.pairs(data, batch_size=7, **arguments)
        return [
            np.stack([part[0].numpy().ravel() for part in batch])
            for batch in batches.take(count)
        ]

    whole = take(5, seed=0)
    np.testing.assert_array_equal(take(2, seed=0, start_step=3), whole[3:])
    assert (np.array(take(5, seed=1)) != np.array(whole)).any()
    assert (np.array(take(5, seed=0, name="level 2")) != np.array(whole)).any()


@pytest.mark.parametrize(
    "counts, arguments, message",
    [
        ([5, 0], {}, r"two classes .* class_counts=\[5, 0\]"),
        ([5, 1], {"batch_size": 0}, "batch_size=0"),
        ([5, 1], {"start_step": -1}, "start_step=-1"),
    ],
)
def test_pairs_errors(counts, arguments, message):
    with pytest.raises(ValueError, match=f"Expected .*{message}"):
        streams.pairs(
            numbered(counts), **{"batch_size": 2, "seed": 0, **arguments}
        )
