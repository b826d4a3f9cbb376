"""Callbacks in real, small trainings."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_lt import callbacks
from keras_lt.losses import ClassBalancedCrossentropy, ClassBalancedSigmoid
from keras_lt.models import ClassifierTask, DualBranch

# Logits of a frozen model, and class weights that change their mean.
LOGITS = np.array([[2.0, 0.0], [0.0, 1.0], [3.0, 1.0]], "float32")
LABELS = np.array([0, 1, 1])
WEIGHTS = [0.5, 3.0]
CROSSENTROPY = np.log(np.exp(LOGITS).sum(1)) - LOGITS[range(3), LABELS]
PLAIN = CROSSENTROPY.mean()
WEIGHTED = (CROSSENTROPY * np.take(WEIGHTS, LABELS)).mean()


class Counted(ClassBalancedCrossentropy):
    """Counts how often Python calls it: once a trace."""

    traces = 0

    def per_example(self, labels, logits):
        self.traces += 1
        return super().per_example(labels, logits)


def weighted_loss():
    return Counted([6, 1], class_weights=WEIGHTS, normalizer="batch")


def frozen_model(loss):
    inputs = keras.Input((2,))
    outputs = keras.layers.Dense(2, kernel_initializer="identity")(inputs)
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.SGD(0.0), loss)
    return model


def fit(model, **kwargs):
    batches = tf.data.Dataset.from_tensors((LOGITS, LABELS)).repeat()
    return model.fit(batches, steps_per_epoch=2, verbose=0, **kwargs)


@pytest.mark.parametrize(
    ("start_epoch", "want"),
    [
        (0, [WEIGHTED] * 4),
        (2, [PLAIN, PLAIN, WEIGHTED, WEIGHTED]),
        (9, [PLAIN] * 4),
    ],
)
def test_reweighting_starts(start_epoch, want):
    assert abs(PLAIN - WEIGHTED) > 0.1
    loss = weighted_loss()
    traces = []
    history = fit(
        frozen_model(loss),
        epochs=4,
        callbacks=[
            callbacks.DeferredReweighting(start_epoch),
            keras.callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs: traces.append(loss.traces)
            ),
        ],
    )
    np.testing.assert_allclose(history.history["loss"], want, rtol=1e-6)
    assert traces[0] > 0
    assert traces == [traces[0]] * 4


@pytest.mark.parametrize(
    ("initial_epoch", "want"),
    [(1, [PLAIN, WEIGHTED, WEIGHTED]), (3, [WEIGHTED])],
)
def test_reweighting_of_a_resumed_training(initial_epoch, want):
    history = fit(
        frozen_model(weighted_loss()),
        initial_epoch=initial_epoch,
        epochs=4,
        callbacks=[callbacks.DeferredReweighting(2)],
    )
    np.testing.assert_allclose(history.history["loss"], want, rtol=1e-6)


def test_reweighting_of_several_losses():
    inputs = keras.Input((2,))
    outputs = [keras.layers.Identity(name=name)(inputs) for name in "abc"]
    loss = {
        "a": ClassBalancedCrossentropy([6, 1]),
        "b": ClassBalancedSigmoid([6, 1]),
        "c": "mse",
    }
    model = keras.Model(inputs, dict(zip("abc", outputs, strict=True)))
    model.compile("sgd", loss)
    callback = callbacks.DeferredReweighting(3)
    callback.set_model(model)
    callback.on_train_begin()
    for epoch, want in ((2, 0.0), (3, 1.0)):
        callback.on_epoch_begin(epoch)
        assert float(loss["a"].reweighting) == want
        assert float(loss["b"].reweighting) == want


def test_reweighting_of_an_auxiliary_branch():
    loss = ClassBalancedCrossentropy([6, 1])
    backbone = keras.Sequential([keras.Input((2,)), keras.layers.Identity()])
    model = DualBranch(backbone, 2, auxiliary=ClassifierTask(2, loss=loss))
    model.compile("sgd", "mse")
    callback = callbacks.DeferredReweighting(3)
    callback.set_model(model)
    callback.on_train_begin()
    for epoch, want in ((2, 0.0), (3, 1.0)):
        callback.on_epoch_begin(epoch)
        assert float(loss.reweighting) == want


def test_reweighting_needs_a_weighted_loss():
    model = frozen_model("mse")
    with pytest.raises(
        ValueError, match=r"Expected .* class weights .* Received: loss=mse"
    ):
        fit(model, callbacks=[callbacks.DeferredReweighting(1)])


def test_reweighting_refuses_negative_epochs():
    with pytest.raises(
        ValueError, match=r"Expected .* Received: start_epoch=-1"
    ):
        callbacks.DeferredReweighting(-1)
