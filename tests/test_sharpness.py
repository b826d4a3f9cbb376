"""Sharpness-aware steps against the formula worked by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_nonfinite import IMAGES, LABELS, contrastive, dual, fit, single

from keras_lt import callbacks, optimizers
from keras_lt.losses import NTXent

RATE, RHO = 0.1, 0.5
INPUTS = np.array([[1.0, 2.0], [3.0, -1.0], [0.5, 0.5], [2.0, 1.0]])
TARGETS = np.array([[1.0], [0.0], [2.0], [-1.0]])
START = np.array([[0.3], [-0.2]])


def line(dtype="float32"):
    """Two weights and a mean of squares."""
    inputs = keras.Input((2,), dtype=dtype)
    dense = keras.layers.Dense(1, use_bias=False, dtype=dtype)
    model = keras.Model(inputs, dense(inputs))
    model.set_weights([START])
    return model


def gradient(weights):
    return 2.0 * INPUTS.T @ (INPUTS @ weights - TARGETS) / len(INPUTS)


def by_hand(steps, rho=lambda step: RHO, momentum=0.9, decay=0.1):
    weights, velocity = START, 0.0
    for step in range(steps):
        first = gradient(weights)
        climbed = weights + rho(step) * first / np.linalg.norm(first)
        velocity = momentum * velocity + gradient(climbed) + decay * weights
        weights = weights - RATE * velocity
    return weights


def sgd(**arguments):
    return optimizers.SGD(RATE, 0.9, weight_decay=0.1, **arguments)


def train_line(optimizer, dtype="float32", rho=RHO, steps=4, **arguments):
    model = line(dtype)
    model.compile(optimizer, "mse", **arguments)
    optimizers.sharpness_aware(model, rho)
    data = tf.data.Dataset.from_tensors((INPUTS, TARGETS)).repeat(steps)
    history = fit(model, data)
    return model, history


@pytest.mark.parametrize(
    "arguments",
    [{"run_eagerly": True}, {"jit_compile": True}, {"steps_per_execution": 2}],
    ids=str,
)
def test_equals_the_formula(arguments):
    model, _ = train_line(sgd(), **arguments)
    np.testing.assert_allclose(model.get_weights()[0], by_hand(4), rtol=1e-5)
    assert int(model.optimizer.iterations) == 4
    plain = by_hand(4, rho=lambda step: 0.0)
    assert np.abs(plain - by_hand(4)).max() > 0.01


def test_radius_of_a_schedule():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay(
        [1], [0.0, 1.0]
    )
    model, _ = train_line(sgd(), rho=schedule)
    want = by_hand(4, rho=lambda step: float(step > 1))
    np.testing.assert_allclose(model.get_weights()[0], want, rtol=1e-5)


def test_a_gradient_of_0_stays():
    model = line()
    model.set_weights([np.zeros((2, 1))])
    model.compile(optimizers.SGD(RATE), "mse")
    optimizers.sharpness_aware(model, RHO)
    model.train_on_batch(INPUTS, np.zeros((4, 1)))
    np.testing.assert_array_equal(model.get_weights()[0], np.zeros((2, 1)))


def test_scaled_loss():
    scaled = keras.optimizers.LossScaleOptimizer(sgd(), 2.0**10)
    model, _ = train_line(scaled)
    np.testing.assert_allclose(model.get_weights()[0], by_hand(4), rtol=1e-5)


def test_a_loss_scale_that_is_too_large_skips_the_step():
    scaled = keras.optimizers.LossScaleOptimizer(sgd(), 2.0**127)
    model, _ = train_line(scaled, steps=1)
    np.testing.assert_array_equal(
        model.get_weights()[0], START.astype("float32")
    )
    assert float(scaled.dynamic_scale) == 2.0**126
    assert int(scaled.iterations) == 0


def test_averages_accumulation_and_clipping_are_the_optimizers():
    model, _ = train_line(sgd(gradient_accumulation_steps=2), steps=2)
    first = gradient(START)
    climbed = gradient(START + RHO * first / np.linalg.norm(first))
    want = START - RATE * (climbed + 0.1 * START)
    np.testing.assert_allclose(model.get_weights()[0], want, rtol=1e-5)
    model, _ = train_line(sgd(use_ema=True, ema_momentum=0.5), steps=2)
    want = 0.5 * by_hand(1) + 0.5 * by_hand(2)
    np.testing.assert_allclose(model.get_weights()[0], want, rtol=1e-5)
    model, _ = train_line(sgd(clipvalue=1e-3), steps=1)
    want = START - RATE * (1e-3 * np.sign(climbed) + 0.1 * START)
    np.testing.assert_allclose(model.get_weights()[0], want, rtol=1e-5)


@pytest.mark.parametrize("scaled", [False, True])
def test_two_replicas_equal_the_formula(scaled, two_replicas):
    """The norm is of the global batch's gradient."""
    with two_replicas.scope():
        optimizer = sgd()
        if scaled:
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer, 64.0)
        model, _ = train_line(optimizer, "float64")
    np.testing.assert_allclose(model.get_weights()[0], by_hand(4), rtol=1e-6)
    for value in two_replicas.experimental_local_results(
        model.trainable_weights[0].value
    ):
        np.testing.assert_array_equal(value, model.get_weights()[0])


def compiled(make, rate, **arguments):
    keras.utils.set_random_seed(1)
    model = make()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        optimizers.SGD(rate),
        NTXent() if make is contrastive else loss,
        metrics=None if make is contrastive else ["accuracy"],
        **arguments,
    )
    return model


def batch(make):
    images, labels = IMAGES[0], LABELS[0]
    return tf.data.Dataset.from_tensors(
        {
            dual: {
                "balanced": (images, labels),
                "random": (images[:, ::-1], labels[::-1]),
            },
            contrastive: ((images, images[:, :, ::-1]), labels),
        }.get(make, (images, labels))
    )


def dropping():
    """A head with noise of its own, and a loss of its activity."""
    return keras.Sequential(
        [
            single(),
            keras.layers.Dropout(0.5, seed=3),
            keras.layers.Dense(3, activity_regularizer="l2"),
        ]
    )


@pytest.mark.parametrize("make", [single, dual, contrastive, dropping])
def test_any_train_step(make):
    """Two plain steps from w and from w + e, which have the same seeds."""
    first = compiled(make, 1.0)
    start = [weight.numpy() for weight in first.trainable_weights]
    want_logs = fit(first, batch(make))
    climb = [
        before - after.numpy()
        for before, after in zip(start, first.trainable_weights, strict=True)
    ]
    norm = np.sqrt(sum(np.sum(each**2) for each in climb))
    second = compiled(make, 1.0)
    for weight, before, way in zip(
        second.trainable_weights, start, climb, strict=True
    ):
        weight.assign(before + RHO * way / norm)
    climbed = [weight.numpy() for weight in second.trainable_weights]
    fit(second, batch(make))
    model = compiled(make, RATE)
    optimizers.sharpness_aware(model, RHO)
    logs = fit(model, batch(make))
    for weight, before, high, low in zip(
        model.trainable_weights,
        start,
        climbed,
        second.trainable_weights,
        strict=True,
    ):
        np.testing.assert_allclose(
            weight.numpy(),
            before - RATE * (high - low.numpy()),
            rtol=1e-5,
            atol=1e-6,
            err_msg=weight.path,
        )
    # Logs, batch statistics and seeds are those of the first pass.
    assert logs.keys() == want_logs.keys()
    for name, values in want_logs.items():
        assert logs[name] == pytest.approx(values)
    for variable, wanted in zip(
        model.non_trainable_variables,
        first.non_trainable_variables,
        strict=True,
    ):
        np.testing.assert_allclose(variable, wanted, rtol=1e-6)
    gap = np.abs(first.trainable_weights[0].numpy() - start[0]).max()
    assert gap > 1e-3


def test_replicas_of_several_branches_agree(two_replicas):
    with two_replicas.scope():
        model = compiled(dual, RATE)
    optimizers.sharpness_aware(model, RHO)
    start = model.get_weights()
    fit(model, batch(dual).repeat(2))
    for variable, before in zip(model.weights, start, strict=True):
        one, other = two_replicas.experimental_local_results(variable.value)
        assert np.isfinite(one).all()
        if variable.trainable:
            np.testing.assert_array_equal(one, other)
            assert np.any(one != before)


def test_a_step_that_is_skipped_leaves_no_trace():
    model = compiled(single, RATE)
    optimizers.sharpness_aware(model, RHO)
    skip = callbacks.SkipNonFinite(model, 1)
    start = model.get_weights()
    data = tf.data.Dataset.from_tensors((IMAGES[0] * np.nan, LABELS[0]))
    with pytest.warns(UserWarning, match="at step 1 of epoch 1"):
        fit(model, data, skip)
    for one, other in zip(model.get_weights(), start, strict=True):
        np.testing.assert_array_equal(one, other)
    assert int(model.optimizer.iterations) == 1


def test_saved_and_compiled_again(tmp_path):
    model, _ = train_line(sgd(), steps=2)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        loaded.optimizer.momentums[0], model.optimizer.momentums[0]
    )
    optimizers.sharpness_aware(loaded, RHO)
    fit(loaded, tf.data.Dataset.from_tensors((INPUTS, TARGETS)).repeat(2))
    np.testing.assert_allclose(loaded.get_weights()[0], by_hand(4), rtol=1e-5)
    model.set_weights([START])
    model.compile(sgd(), "mse")
    fit(model, tf.data.Dataset.from_tensors((INPUTS, TARGETS)).repeat(4))
    np.testing.assert_allclose(model.get_weights()[0], by_hand(4), rtol=1e-5)


def test_the_optimizer_serves_other_models():
    """A step without the two passes is a plain one."""
    optimizer = sgd()
    model, _ = train_line(optimizer, steps=1)
    model.set_weights([START])
    for velocity in optimizer.momentums:
        velocity.assign(np.zeros((2, 1)))
    optimizer.apply([tf.constant(gradient(START), "float32")])
    np.testing.assert_allclose(
        model.get_weights()[0], by_hand(1, rho=lambda step: 0.0), rtol=1e-5
    )


def test_errors():
    model = line()
    with pytest.raises(ValueError, match="Expected a compiled model"):
        optimizers.sharpness_aware(model)
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"Expected rho .* rho=-1"):
        optimizers.sharpness_aware(model, -1)
    with pytest.raises(TypeError, match=r"Expected rho .* rho='1'"):
        optimizers.sharpness_aware(model, "1")
    optimizers.sharpness_aware(model, np.float32(0.5))
    with pytest.raises(ValueError, match="train_step was replaced"):
        optimizers.sharpness_aware(model)
