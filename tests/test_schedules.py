"""Learning rates at every boundary, by hand."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_lt.schedules import CumulativeDecay, WarmupStepDecay

ARGUMENTS = {
    "learning_rate": 0.1,
    "warmup_steps": 4,
    "boundaries": [10, 20],
    "factors": [0.01, 0.0001],
}
BY_HAND = {
    0: 0.025,
    1: 0.05,
    2: 0.075,
    3: 0.1,
    4: 0.1,
    9: 0.1,
    10: 0.001,
    19: 0.001,
    20: 0.00001,
    10**6: 0.00001,
}


@pytest.mark.parametrize("kind", [int, float, tf.constant, np.int64])
def test_values(kind):
    schedule = WarmupStepDecay(**ARGUMENTS)
    for step, want in BY_HAND.items():
        assert float(schedule(kind(step))) == pytest.approx(want, 1e-6), step


def test_values_in_a_graph():
    schedule = tf.function(WarmupStepDecay(**ARGUMENTS))
    for step, want in BY_HAND.items():
        value = schedule(tf.constant(step, tf.int64))
        assert value.dtype == tf.float32
        assert float(value) == pytest.approx(want, 1e-6), step


@pytest.mark.parametrize("warmup_steps", [0, 1])
def test_without_warm_up(warmup_steps):
    schedule = WarmupStepDecay(0.3, warmup_steps)
    for step in (0, 1, 100):
        assert float(schedule(step)) == pytest.approx(0.3)


def test_a_boundary_ends_the_warm_up():
    schedule = WarmupStepDecay(1.0, 10, [5], [0.5])
    assert float(schedule(4)) == pytest.approx(0.5)  # 5 / 10
    assert float(schedule(5)) == float(schedule(8)) == 0.5


def test_boundary_at_zero_and_equal_boundaries():
    assert float(WarmupStepDecay(1.0, 0, [0], [0.5])(0)) == 0.5
    schedule = WarmupStepDecay(1.0, 0, [3, 3], [0.5, 0.25])
    assert [float(schedule(step)) for step in (2, 3)] == [1.0, 0.25]


def test_serialization():
    schedule = WarmupStepDecay(0.1, 4, (10, 20), (0.01, 0.0001))
    config = schedule.get_config()
    assert json.loads(json.dumps(config)) == config == ARGUMENTS
    optimizer = keras.optimizers.SGD(schedule)
    loaded = keras.optimizers.deserialize(
        json.loads(json.dumps(keras.optimizers.serialize(optimizer)))
    )
    assert loaded._learning_rate.get_config() == ARGUMENTS


def compiled(learning_rate, loss):
    inputs = keras.Input((1,))
    model = keras.Model(inputs, keras.layers.Dense(1)(inputs))
    model.compile(keras.optimizers.SGD(learning_rate), loss)
    return model


def test_in_a_compiled_model():
    """The gradient of the bias is 1: it sums the rates, from step 0 on."""
    model = compiled(
        WarmupStepDecay(0.1, 2, [3], [0.01]), lambda y_true, y_pred: y_pred
    )
    x, y = np.zeros((1, 1)), np.zeros((1, 1))
    total = 0.0
    for rate in (0.05, 0.1, 0.1, 0.001, 0.001):
        model.train_on_batch(x, y)
        total += rate
        assert float(model.layers[-1].bias[0]) == pytest.approx(-total, 1e-5)


def test_saved_with_its_step(tmp_path):
    model = compiled(WarmupStepDecay(0.1, 4), "mse")
    for _ in range(2):
        model.train_on_batch(np.zeros((1, 1)), np.ones((1, 1)))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert float(loaded.optimizer.learning_rate) == pytest.approx(0.075)


@pytest.mark.parametrize(
    "kwargs",
    [
        {"learning_rate": 0.0},
        {"learning_rate": -0.1},
        {"learning_rate": float("nan")},
        {"warmup_steps": -1},
        {"boundaries": [20, 10]},
        {"boundaries": [10]},
        {"factors": []},
    ],
    ids=str,
)
def test_errors(kwargs):
    with pytest.raises(ValueError, match=r"Expected .* Received: "):
        WarmupStepDecay(**{**ARGUMENTS, **kwargs})


def test_cumulative_decay():
    # 3 (1 - (t / 4)^2)
    weight = CumulativeDecay(3.0, 4)
    got = [float(weight(step)) for step in range(7)]
    assert got == [3.0, 2.8125, 2.25, 1.3125, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("arguments", [(-1.0, 4), (float("nan"), 4), (1.0, 0)])
def test_cumulative_decay_errors(arguments):
    with pytest.raises(ValueError, match=r"Expected .* Received: "):
        CumulativeDecay(*arguments)
