"""Counter-based random numbers: each is a pure function of its key.

A stateful generator must be replayed to be resumed, and gives other numbers
when the batch is cut differently. Here the number for a sample is a hash of
(key, position), vectorized over positions.
"""

import zlib

import tensorflow as tf

from keras_lt.arguments import integer

_GOLDEN_GAMMA = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


def _constant(value: int) -> tf.Tensor:
    return tf.constant(value & _MASK, tf.uint64)


def _finalize(x: tf.Tensor) -> tf.Tensor:
    shift = tf.bitwise.right_shift
    x = tf.bitwise.bitwise_xor(x, shift(x, _constant(30)))
    x *= _constant(0xBF58476D1CE4E5B9)
    x = tf.bitwise.bitwise_xor(x, shift(x, _constant(27)))
    x *= _constant(0x94D049BB133111EB)
    return tf.bitwise.bitwise_xor(x, shift(x, _constant(31)))


def fold_in(key: tf.Tensor, data: tf.Tensor) -> tf.Tensor:
    """Derives keys from a key and integers.

    One step of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014) from the state
    that `key` and `data` select, so neighboring integers give unrelated keys.

    Args:
        key: uint64 keys, of a shape that broadcasts with `data`.
        data: Integers (int64 or uint64).

    Returns:
        uint64 keys of the broadcast shape.

    Example:
        >>> key = keras_lt.seeding.key_from_seed(0, "random")
        >>> keys = keras_lt.seeding.fold_in(key, tf.range(4))  # (4,)
    """
    data = tf.bitcast(tf.cast(data, tf.int64), tf.uint64)
    return _finalize(key + _constant(_GOLDEN_GAMMA) * (data + _constant(1)))


def key_from_seed(seed: int, name: str) -> tf.Tensor:
    """Returns the uint64 key () of a run's seed and of what it is used for.

    Args:
        seed: An integer of 64 bits.
        name: What it is used for.

    Raises:
        TypeError: If the seed is no number.
        ValueError: If the seed is no integer, or has more than 64 bits.

    Example:
        >>> key = keras_lt.seeding.key_from_seed(0, "random")
    """
    seed = checked_seed(seed)
    salt = tf.constant(zlib.crc32(name.encode()), tf.int64)
    root = _finalize(_constant(seed + _GOLDEN_GAMMA))
    return fold_in(root, salt)


def checked_seed(seed: int) -> int:
    """Returns a seed as an `int`, if it is an integer of 64 bits.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is no integer, or out of its range.

    Example:
        >>> keras_lt.seeding.checked_seed(np.int64(3))
        3
    """
    seed = integer("seed", seed)
    if not -(1 << 63) <= seed <= _MASK:
        raise ValueError(
            f"Expected seed to be an integer of 64 bits. Received: seed={seed}"
        )
    return seed


def derived_seed(seed: int, name: str, number: int) -> int:
    """Returns the seed of one of several parts of what has a seed.

    `seed + number` would give part 1 of seed 0 what part 0 of seed 1 has.

    Args:
        seed: Seed of the whole.
        name: What the parts are.
        number: Which part.

    Returns:
        An integer in [0, 2**32), as every generator takes it.

    Raises:
        TypeError: As `key_from_seed`.
        ValueError: As `key_from_seed`.

    Example:
        >>> seed = keras_lt.seeding.derived_seed(0, "rounds", 1)
    """
    key = fold_in(key_from_seed(seed, name), integer("number", number, 0))
    return int(key) >> 32


def uniform(
    keys: tf.Tensor, lanes: int, dtype: tf.DType = tf.float32
) -> tf.Tensor:
    """Draws uniform numbers in [0, 1).

    Args:
        keys: uint64 keys (B,).
        lanes: Independent numbers a key.
        dtype: float32 (multiples of 2**-24) or float64 (of 2**-53).

    Returns:
        (B, lanes) of the dtype.

    Example:
        >>> key = keras_lt.seeding.key_from_seed(0, "random")
        >>> keys = keras_lt.seeding.fold_in(key, tf.range(4))
        >>> keras_lt.seeding.uniform(keys, lanes=2).shape
        TensorShape([4, 2])
    """
    precision = 53 if dtype == tf.float64 else 24
    bits = fold_in(keys[:, None], tf.range(lanes, dtype=tf.int64))
    bits = tf.bitwise.right_shift(bits, _constant(64 - precision))
    return tf.cast(bits, dtype) * 2.0**-precision


def integers(keys: tf.Tensor, bound: tf.Tensor) -> tf.Tensor:
    """Draws integers in [0, bound).

    Args:
        keys: uint64 keys (B,).
        bound: int64 (B,) or (), from 1 to 2**31.

    Returns:
        int64 (B,). The bias of the reduction (multiply, then shift) is less
        than bound / 2**32.

    Example:
        >>> key = keras_lt.seeding.key_from_seed(0, "random")
        >>> keys = keras_lt.seeding.fold_in(key, tf.range(1000))
        >>> dice = 1 + keras_lt.seeding.integers(keys, 6)
        >>> int(tf.reduce_min(dice)), int(tf.reduce_max(dice))
        (1, 6)
    """
    high = tf.bitwise.right_shift(keys, _constant(32))
    product = high * tf.cast(bound, tf.uint64)
    return tf.cast(tf.bitwise.right_shift(product, _constant(32)), tf.int64)
