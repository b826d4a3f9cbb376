"""Averaged weights against the formula, and what scores and keeps them."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_checkpoints import STEPS, batches, small_model
from test_nonfinite import batches as poisoned
from test_nonfinite import compiled, fit, single
from test_tensorboard import IMAGES, LABELS, make_model

from keras_lt import callbacks, optimizers
from keras_lt.callbacks import checkpointing as checkpoints

MOMENTUM = 0.6  # the eighth step is the first one that has it


class Record(keras.callbacks.Callback):
    """The weights before training and after each step."""

    def on_train_begin(self, logs=None):
        self.weights = [self.model.get_weights()]

    def on_train_batch_end(self, batch, logs=None):
        self.weights.append(self.model.get_weights())


def by_hand(recorded):
    averages, *steps = recorded
    for t, weights in enumerate(steps, 1):
        decay = min(MOMENTUM, (1 + t) / (10 + t))
        averages = [
            decay * average + (1 - decay) * weight
            for average, weight in zip(averages, weights, strict=True)
        ]
    return averages


def assert_weights(model, wanted, tolerance=0.0):
    for weight, value in zip(model.weights, wanted, strict=True):
        np.testing.assert_allclose(
            np.asarray(weight), value, tolerance, tolerance, err_msg=weight.path
        )


def held_out():
    images, labels = next(iter(batches()))
    return tf.data.Dataset.from_tensors((images, labels))


def train(model, *others, epochs=4, **arguments):
    return model.fit(
        batches(),
        steps_per_epoch=STEPS,
        epochs=epochs,
        verbose=0,
        shuffle=False,
        callbacks=others,
        **arguments,
    ).history


@pytest.mark.parametrize(
    "arguments", [{"run_eagerly": True}, {"jit_compile": True}], ids=str
)
def test_equals_the_formula(arguments):
    model = small_model()
    model.compile(model.optimizer, model.loss, **arguments)
    averages, record = callbacks.AveragedWeights(model, MOMENTUM), Record()
    train(model, averages, record)
    want = by_hand(record.weights)
    assert_weights(model, record.weights[-1])
    with averages.applied():
        assert_weights(model, want, 1e-5)
    assert_weights(model, record.weights[-1])
    averages.apply()
    assert_weights(model, want, 1e-5)
    # Batch statistics too.
    statistics = model.non_trainable_weights
    assert statistics
    gap = np.abs(np.asarray(statistics[0]) - record.weights[-1][2]).max()
    assert gap > 1e-6


def test_training_is_as_without():
    """To the bit, with a validation after each epoch too."""
    plain, model = small_model(), small_model()
    train(plain)
    averages = callbacks.AveragedWeights(model, MOMENTUM)
    history = train(model, averages, validation_data=held_out())
    assert_weights(model, plain.get_weights())
    averages.apply()
    score = model.evaluate(held_out(), verbose=0, return_dict=True)
    assert history["val_loss"][-1] == pytest.approx(score["loss"], rel=1e-6)
    plain_score = plain.evaluate(held_out(), verbose=0, return_dict=True)
    assert score["loss"] != pytest.approx(plain_score["loss"], rel=1e-4)


def test_evaluation_scores_the_averages():
    model = make_model()
    averages = callbacks.AveragedWeights(model, MOMENTUM)
    # All images are of the class of their 1, or of the next one.
    for average, value in zip(
        averages._averages, [np.roll(np.eye(3), 1, 1), np.zeros(3)], strict=True
    ):
        average.assign(value)
    model.optimizer.iterations.assign(10**6)
    averages.momentum = 1.0 - 1e-6
    want = np.mean([1, 1, 2, 0, 1, 2] == LABELS)
    dataset = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(4)
    evaluation = callbacks.Evaluation({"val": dataset}, [5, 5, 5], averages)
    history = model.fit(IMAGES, LABELS, callbacks=[evaluation], verbose=0)
    assert history.history["val_top1"] == pytest.approx([want])
    assert_weights(model, [np.eye(3), np.zeros(3)])


class Cut(keras.callbacks.Callback):
    """Ends a training by an error after so many steps."""

    def __init__(self, steps):
        super().__init__()
        self.steps = steps

    def on_train_batch_end(self, batch, logs=None):
        self.steps -= 1
        if not self.steps:
            raise KeyboardInterrupt


def start(directory, seed=0, values=None, steps=1000):
    """Trains from where the directory is."""
    model = small_model(seed)
    checkpointing = callbacks.Checkpointing(
        directory, monitor="score" if values else None, save_freq_steps=1
    )
    averages = callbacks.AveragedWeights(model, MOMENTUM, checkpointing)
    checkpointing.restore(model)
    seen = []

    def log(epoch, logs):
        if values:
            logs["score"] = values[epoch]
        with averages.applied():
            seen.append(model.get_weights())

    others = [averages, keras.callbacks.LambdaCallback(on_epoch_end=log)]
    for step, span in checkpointing.spans(STEPS, 3 * STEPS, 1):
        model.fit(
            batches(step),
            verbose=0,
            shuffle=False,
            callbacks=[*others, checkpointing, Cut(steps)],
            **span,
        )
    checkpoints._WRITER.submit(int).result()
    return model, averages, checkpointing, seen


def test_a_resumed_training_averages_as_the_uninterrupted_one(tmp_path):
    """Cut within an epoch, and started when there is nothing left."""
    whole, averages, *_ = start(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        start(tmp_path / "parts", steps=2)
    *_, seen = start(tmp_path / "parts", seed=9)
    assert len(seen) == 3
    again, others, *_, seen = start(tmp_path / "parts", seed=8)
    assert not seen
    assert_weights(again, whole.get_weights())
    averages.apply()
    others.apply()
    assert_weights(again, whole.get_weights())


def test_best_epoch_has_its_averages(tmp_path):
    model, _, checkpointing, seen = start(tmp_path, values=[0.1, 0.3, 0.2])
    checkpointing.load_best(model)
    assert_weights(model, seen[1])


def test_averages_that_a_checkpoint_lacks(tmp_path):
    model = small_model()
    checkpointing = callbacks.Checkpointing(tmp_path)
    checkpointing.restore(model)
    train(model, checkpointing, epochs=1)
    with pytest.raises(ValueError, match="holds no averages of weights"):
        start(tmp_path)


def test_two_replicas(two_replicas):
    """Batch statistics are averages over replicas."""
    with two_replicas.scope():
        model = compiled()
    averages, record = callbacks.AveragedWeights(model, MOMENTUM), Record()
    fit(model, poisoned(), averages, record)
    assert_weights(model, record.weights[-1])
    averages.apply()
    assert_weights(model, by_hand(record.weights), 1e-5)
    for variable in model.trainable_weights:
        one, other = two_replicas.experimental_local_results(variable.value)
        np.testing.assert_array_equal(one, other)


def test_with_sharpness_and_skipped_steps():
    model = compiled()
    optimizers.sharpness_aware(model, 0.1)
    skip = callbacks.SkipNonFinite(model, 1)
    averages, record = callbacks.AveragedWeights(model, MOMENTUM), Record()
    with pytest.warns(UserWarning, match="at step 4"):
        fit(model, poisoned(single, np.nan), skip, averages, record)
    averages.apply()
    assert_weights(model, by_hand(record.weights), 1e-5)


def test_weights_of_16_bits():
    """0.999 of a bfloat16 would be itself."""
    inputs = keras.Input((1,), dtype="bfloat16")
    dense = keras.layers.Dense(
        1, use_bias=False, dtype="bfloat16", kernel_initializer="ones"
    )
    model = keras.Model(inputs, dense(inputs))
    model.compile(optimizers.SGD(0.0), "mse")
    averages = callbacks.AveragedWeights(model, 0.999)
    model.optimizer.iterations.assign(10**6)
    model.set_weights([np.array([[2.0]])])
    model.fit(np.ones((4, 1)), np.ones((4, 1)), batch_size=1, verbose=0)
    average = float(np.asarray(averages._averages[0])[0, 0])
    assert average == pytest.approx(2 - 0.999**4, abs=1e-6)


def test_errors():
    with pytest.raises(ValueError, match=r"Expected momentum .* momentum=1$"):
        callbacks.AveragedWeights(small_model(), 1)
    with pytest.raises(TypeError, match=r"Expected momentum .* momentum='1'"):
        callbacks.AveragedWeights(small_model(), "1")
    with pytest.raises(ValueError, match="Expected a compiled model"):
        callbacks.AveragedWeights(single())
