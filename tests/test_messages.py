import numpy as np
import pytest
import tensorflow as tf

from keras_lt import counts, datasets, losses, streams
from keras_lt.callbacks.checkpointing import _difference
from keras_lt.messages import brief, one_line


@pytest.mark.parametrize(
    "value, shown",
    [
        (3, "3"),
        (None, "None"),
        (np.float32(0.5), "0.5"),
        ("a\nb\udce9", r"'a\nb\udce9'"),
        ([3, 4], "[3, 4]"),
        ((), "[]"),
        (np.array(3), "3"),
        (np.array([[1, 2], [3, 4]]), "[1, 2, 3, 4]"),
        (range(10), "[0, 1, 2, 3, 4, 5, 6, 7, 8, 9]"),
        ({"path": "a", "label": None}, "{'path': 'a', 'label': None}"),
    ],
)
def test_what_is_short_is_shown_whole(value, shown):
    assert brief(value) == shown


def test_what_has_lines_is_shown_in_one():
    assert "\n" not in brief(tf.ones([3, 3]))


@pytest.mark.parametrize(
    "value, size",
    [
        (np.arange(12_345), "12,345"),
        ([*range(11)], "11"),
        ({*range(3000)}, "3,000"),
        ({number: "x" for number in range(3000)}, "3,000"),
        (["y" * 10**6] * 1000, "1,000"),
        ("x" * 3_000_000, "3,000,000"),
        (b"x" * 3_000_000, "3,000,000"),
    ],
)
def test_what_is_long_is_cut_and_its_size_named(value, size):
    shown = brief(value)
    assert size in shown and len(shown) < 1200 and "…" in shown


def test_lines():
    assert one_line(ValueError("a\n b")) == "a b"
    assert len(one_line("x " * 10**6)) < 1100


MANY = np.ones(20_000, np.int64)


@pytest.mark.parametrize(
    "call",
    [
        lambda: counts.validate_class_counts(MANY.astype(str)),
        lambda: counts.validate_class_counts(0 * MANY),
        lambda: counts.log_prior(-MANY),
        lambda: losses.LogitAdjusted([5, 1], prior=MANY),
        lambda: datasets.long_tail(_one_class(), 10),
        lambda: datasets.holdout(_one_class(), 1e-9),
        lambda: streams.pairs(_one_class(), batch_size=2, seed=0),
        lambda: datasets.from_arrays(
            np.zeros((1, 1, 1, 1)), [0], [*map(str, MANY)]
        ),
    ],
)
def test_errors_of_thousands_of_classes_are_short(call):
    with pytest.raises((ValueError, TypeError)) as error:
        call()
    assert len(str(error.value)) < 1500


def _one_class():
    names = [*map(str, range(len(MANY)))]
    return datasets.from_arrays(np.zeros((2, 1, 1, 1)), [0, 0], names)


def test_differences_of_long_settings_are_named():
    found, wanted = [5] * 8142, [5] * 8142
    wanted[8000] = 4
    said = _difference("class_counts", found, wanted)
    assert said == (
        "it is of class_counts[8000]=5, and this training of "
        "class_counts[8000]=4"
    )
    assert "(8,142 in all)" in _difference("class_counts", found, None)
