import numpy as np
import tensorflow as tf
from data import chi_square, chi_square_limit

from keras_lt import seeding

MASK = (1 << 64) - 1


def splitmix64(state):
    """Steele, Lea and Flood (2014), as published by Vigna (splitmix64.c)."""
    z = (state + 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def keys(count, name="test"):
    key = seeding.key_from_seed(0, name)
    return seeding.fold_in(key, tf.range(count, dtype=tf.int64))


def test_splitmix64_gives_the_published_numbers():
    # The first outputs of splitmix64.c from state 0: our reference is right.
    assert splitmix64(0) == 0xE220A8397B1DCDAF
    assert splitmix64(0x9E3779B97F4A7C15) == 0x6E789E6AA1B965F4


def test_derived_seeds_do_not_collide():
    # 0 + 1 is 1 + 0.
    found = {
        seeding.derived_seed(seed, name, number)
        for seed in (0, 1, 2, np.int64(3), (1 << 32), (1 << 63) - 1, -1)
        for name in ("rounds", "levels")
        for number in range(20)
    }
    assert len(found) == 7 * 2 * 20
    assert all(0 <= seed < 1 << 32 for seed in found)
    got = seeding.derived_seed(7, "rounds", 3)
    key = seeding.fold_in(seeding.key_from_seed(7, "rounds"), 3)
    assert got == int(key) // 2**32 == seeding.derived_seed(7, "rounds", 3)


def test_fold_in_is_splitmix64():
    # Output number `data` of the generator whose state starts at `key`.
    for key in (0, 1, 2**63 + 12345, MASK):
        data = [0, 1, 2, 1000, 2**40 + 7, 2**63 - 1, -1]
        got = seeding.fold_in(
            tf.constant(key, tf.uint64), tf.constant(data, tf.int64)
        )
        assert got.dtype == tf.uint64
        gamma = 0x9E3779B97F4A7C15
        want = [splitmix64((key + gamma * n) & MASK) for n in data]
        assert [int(value) for value in got.numpy()] == want


def test_fold_in_broadcasts_keys_with_data():
    rows = tf.constant([3, 4], tf.uint64)
    table = seeding.fold_in(rows[:, None], tf.range(3, dtype=tf.int64))
    assert table.shape == (2, 3)
    np.testing.assert_array_equal(
        table[1], seeding.fold_in(rows[1], tf.range(3, dtype=tf.int64))
    )


def test_key_from_seed_differs_by_seed_and_by_name():
    seen = {
        int(seeding.key_from_seed(seed, name))
        for seed in (-(2**31), -2, -1, 0, 1, 2, 42, 2**31, 2**63)
        for name in ("", "a", "b", "random/indices", "random/transform")
    }
    assert len(seen) == 9 * 5
    assert seeding.key_from_seed(3, "a") == seeding.key_from_seed(3, "a")


def test_uniform_range_moments_and_grid():
    for dtype, precision in ((tf.float32, 24), (tf.float64, 53)):
        draws = seeding.uniform(keys(20_000), 4, dtype)
        assert draws.dtype == dtype
        assert draws.shape == (20_000, 4)
        draws = draws.numpy().astype(np.float64)
        assert draws.min() >= 0 and draws.max() < 1
        scaled = draws * 2.0**precision
        np.testing.assert_array_equal(scaled, np.floor(scaled))
        # Standard errors of mean and variance of n uniform numbers:
        # sqrt(1 / 12 / n) and sqrt(1 / 180 / n).
        n = len(draws)
        assert abs(draws.mean(0) - 1 / 2).max() < 4 / (12 * n) ** 0.5
        assert abs(draws.var(0) - 1 / 12).max() < 4 / (180 * n) ** 0.5
        for column in draws.T:
            cells = np.bincount((column * 64).astype(int), minlength=64)
            assert chi_square(cells, n / 64) < chi_square_limit(63)


def test_uniform_lanes_and_neighbors_are_independent():
    draws = seeding.uniform(keys(20_000), 3).numpy()
    pairs = [(draws[:, i], draws[:, j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    pairs.append((draws[:-1, 0], draws[1:, 0]))
    for a, b in pairs:
        cells = (a * 8).astype(int) * 8 + (b * 8).astype(int)
        table = np.bincount(cells, minlength=64)
        assert chi_square(table, len(a) / 64) < chi_square_limit(63)


def test_integers_are_uniform_below_their_bounds():
    for bound in (1, 2, 3, 10, 97):
        drawn = seeding.integers(keys(20_000), tf.constant(bound, tf.int64))
        assert drawn.dtype == tf.int64
        cells = np.bincount(drawn, minlength=bound)
        assert len(cells) == bound
        if bound > 1:
            statistic = chi_square(cells, 20_000 / bound)
            assert statistic < chi_square_limit(bound - 1)


def test_integers_take_a_bound_for_each_key():
    bounds = np.tile([1, 5, 2**31], 1000)
    drawn = seeding.integers(keys(3000), tf.constant(bounds)).numpy()
    high = keys(3000).numpy().astype(object) >> 32
    np.testing.assert_array_equal(drawn, (high * bounds) >> 32)
    assert (drawn >= 0).all() and (drawn < bounds).all()
    # The largest key gives bound - 1, not bound.
    largest = tf.constant([MASK], tf.uint64)
    assert seeding.integers(largest, tf.constant(2**31, tf.int64)) == 2**31 - 1


def test_eager_graph_and_tf_data_agree():
    def numbers(position):
        key = seeding.fold_in(seeding.key_from_seed(-5, "x"), position[None])
        return (
            seeding.uniform(key, 3),
            seeding.uniform(key, 1, tf.float64),
            seeding.integers(key, tf.constant(1000, tf.int64)),
        )

    dataset = tf.data.Dataset.range(20).map(numbers)
    for position, mapped in enumerate(dataset):
        position = tf.constant(position, tf.int64)
        for other in (numbers(position), tf.function(numbers)(position)):
            for a, b in zip(mapped, other, strict=True):
                np.testing.assert_array_equal(a, b)
