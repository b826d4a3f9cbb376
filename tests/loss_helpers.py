"""What tests of losses share."""

import keras
import numpy as np
import tensorflow as tf

COUNTS = [900, 90, 9, 3]


def value_and_gradient(loss, labels, logits):
    logits = tf.constant(logits, loss.dtype)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss(labels, logits)
    return value.numpy(), tape.gradient(value, logits).numpy()


def random_batch(size=16, seed=0):
    rng = np.random.RandomState(seed)
    labels = rng.randint(0, len(COUNTS), size)
    return labels, rng.normal(size=(size, len(COUNTS))).astype("float32")


def assert_golden(name, loss, case, key, index=()):
    """Value and gradient of a loss against those of `key`."""
    value, gradient = value_and_gradient(loss, case["labels"], case["logits"])
    assert value.dtype == gradient.dtype == loss.dtype
    want = case[f"{key}grad"][index]
    if loss.dtype == "float64":
        value_rtol, rtol, atol = 1e-9, 1e-9, 1e-12
    else:
        large = np.abs(case["logits"]).max() >= 50
        value_rtol, rtol = 1e-5, 0
        atol = (2e-5 if large else 1e-5) * np.abs(want).max()
    np.testing.assert_allclose(
        value,
        case[f"{key}loss"][index],
        rtol=value_rtol,
        atol=1e-12,
        err_msg=f"{name} {key}",
    )
    np.testing.assert_allclose(
        gradient, want, rtol=rtol, atol=atol, err_msg=f"{name} {key}"
    )


def small_model(loss):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(len(COUNTS))]
    )
    model.compile(keras.optimizers.SGD(0.5), loss=loss, metrics=["accuracy"])
    return model
