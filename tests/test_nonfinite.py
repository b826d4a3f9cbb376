"""What a training does about losses that become NaN or infinite."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_lt import callbacks
from keras_lt.callbacks import checkpointing as checkpoints
from keras_lt.layers import FusedBatchNormalization
from keras_lt.losses import NTXent
from keras_lt.models import ContrastivePretrainer, DualBranch, classifier
from keras_lt.schedules import WarmupStepDecay

STEPS = 6
POISONED = 3
RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(STEPS, 8, 6, 6, 3)).astype("float32")
LABELS = RNG.integers(0, 3, (STEPS, 8))


def backbone():
    return keras.Sequential(
        [
            keras.Input((6, 6, 3)),
            keras.layers.Conv2D(4, 3, use_bias=False),
            FusedBatchNormalization(momentum=0.5),
            keras.layers.ReLU(),
        ]
    )


def single():
    return classifier(backbone(), 3, l2=0.01)


def dual():
    auxiliary = ["classifier", "rotation"]
    return DualBranch(backbone(), 3, auxiliary=auxiliary)


def contrastive():
    return ContrastivePretrainer(backbone(), 3)


def compiled(make=single, adam=False, **arguments):
    keras.utils.set_random_seed(1)
    model = make()
    rate = WarmupStepDecay(0.1, 2, [4], [0.1])
    model.compile(
        keras.optimizers.AdamW(rate)
        if adam
        else keras.optimizers.SGD(rate, 0.9),
        NTXent()
        if make is contrastive
        else keras.losses.SparseCategoricalCrossentropy(True),
        metrics=None if make is contrastive else ["accuracy"],
        **arguments,
    )
    return model


def batches(make=single, poison=None, leave_out=(), start=0):
    """A step is one batch; `poison` is put into some pixels of one."""
    images = IMAGES.copy()
    if poison is not None:
        images[POISONED, :2, 0] = poison  # of the first replica only
    steps = [step for step in range(start, STEPS) if step not in leave_out]
    images, labels = images[steps], LABELS[steps]
    data = {
        single: lambda: (images, labels),
        dual: lambda: {
            "balanced": (images, labels),
            "random": (images[:, ::-1], labels[:, ::-1]),
        },
        contrastive: lambda: ((images, images[:, :, ::-1]), labels),
    }[make]()
    return tf.data.Dataset.from_tensor_slices(data)


class Count(keras.callbacks.Callback):
    """Counts a step that the data leave out."""

    def on_train_batch_begin(self, batch, logs=None):
        if batch == POISONED:
            self.model.optimizer.iterations.assign_add(1)


def fit(model, data, *callbacks):
    steps = len(data)
    return model.fit(
        data,
        verbose=0,
        shuffle=False,
        callbacks=callbacks,
        epochs=1,
        steps_per_epoch=steps,
    ).history


def state(model):
    variables = [*model.variables, *model.optimizer.variables]
    return {v.path: np.array(v) for v in variables}


def assert_same_state(model, other):
    got, want = state(model), state(other)
    assert len(got) == len(want)
    for (name, value), wanted in zip(got.items(), want.values(), strict=True):
        np.testing.assert_array_equal(value, wanted, err_msg=name)


def skip_and_leave_out(poison=np.nan, make=single, **arguments):
    """The training that skips a step, and the one whose data lack it."""
    model, other = compiled(make, **arguments), compiled(make, **arguments)
    skip = callbacks.SkipNonFinite(model, 2)
    with pytest.warns(UserWarning, match=r"4 of epoch 1.*[(]1 of at mo"):
        history = fit(model, batches(make, poison), skip)
    assert history.pop("skipped", [1.0]) == [1.0]
    assert skip.skipped == 1
    other.optimizer.build(other.trainable_variables)
    want = fit(other, batches(make, leave_out=[POISONED]), Count())
    assert_same_state(model, other)
    assert history == want
    assert int(model.optimizer.iterations) == STEPS
    assert all(np.isfinite(values).all() for values in state(model).values())


@pytest.mark.parametrize("poison", [np.nan, np.inf, 1e38], ids=str)
def test_a_skipped_step_changes_nothing(poison):
    skip_and_leave_out(poison)


@pytest.mark.parametrize("make", [dual, contrastive])
def test_other_models(make):
    skip_and_leave_out(make=make, adam=make is contrastive)


@pytest.mark.parametrize(
    "arguments", [{"run_eagerly": True}, {"jit_compile": True}], ids=str
)
def test_eager_and_compiled(arguments):
    skip_and_leave_out(**arguments)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        skip_and_leave_out()
    finally:
        keras.config.set_dtype_policy(before)


def test_a_loss_scale_that_is_too_large_is_no_skip():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = compiled()
    finally:
        keras.config.set_dtype_policy(before)
    model.optimizer.build(model.trainable_variables)
    model.optimizer.dynamic_scale.assign(2.0**40)
    skip = callbacks.SkipNonFinite(model, 1)
    fit(model, batches(), skip)
    assert skip.skipped == 0
    assert float(model.optimizer.dynamic_scale) < 2.0**40


@pytest.mark.parametrize("make", [single, dual])
def test_replicas_agree(make, two_replicas):
    """The first replica's images are poisoned, and both skip the step."""
    with two_replicas.scope():
        model, other = compiled(make), compiled(make)
        other.optimizer.build(other.trainable_variables)
    skip = callbacks.SkipNonFinite(model, 1)
    with pytest.warns(UserWarning, match="at step 4 of epoch 1"):
        history = fit(model, batches(make, np.nan), skip)
    want = fit(other, batches(make, leave_out=[POISONED]), Count())
    for name, values in want.items():
        assert history[name] == values, name
    for variable, wanted in zip(
        (*model.variables, *model.optimizer.variables),
        (*other.variables, *other.optimizer.variables),
        strict=True,
    ):
        for value, want_value in zip(
            two_replicas.experimental_local_results(variable.value),
            two_replicas.experimental_local_results(wanted.value),
            strict=True,
        ):
            np.testing.assert_array_equal(value, want_value, variable.path)


def test_replicas_agree_on_a_loss_without_gradient(two_replicas):
    """Only the first replica sees the loss, and gradients are finite."""

    def loss(labels, outputs):
        infinite = tf.where(labels > 1.0, np.inf, 0.0)
        return tf.square(outputs) + tf.stop_gradient(infinite)

    labels = np.zeros((1, 4, 1), "float32")
    labels[0, 0] = 2.0
    with two_replicas.scope():
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.1), loss)
    skip = callbacks.SkipNonFinite(model, 1)
    data = tf.data.Dataset.from_tensor_slices((np.ones_like(labels), labels))
    want = state(model)
    with pytest.warns(UserWarning, match="at step 1 of epoch 1"):
        fit(model, data, skip)
    kernel = model.layers[-1].kernel
    for value in two_replicas.experimental_local_results(kernel.value):
        np.testing.assert_array_equal(value, want[kernel.path])


def test_gives_up_past_the_limit():
    model = compiled()
    skip = callbacks.SkipNonFinite(model, 1)
    data = batches(poison=np.nan).concatenate(batches(poison=np.nan))
    with (
        pytest.warns(UserWarning, match="skipped"),
        pytest.raises(
            FloatingPointError,
            match=r"Expected at most 1 steps .* Received: 2, the last one at "
            "step 10 of epoch 1",
        ),
    ):
        fit(model, data, skip)


def test_the_number_survives_a_restart(tmp_path):
    def start(begin, steps):
        model = compiled()
        checkpointing = callbacks.Checkpointing(tmp_path, save_freq_steps=1)
        skip = callbacks.SkipNonFinite(model, 1, checkpointing)
        checkpointing.restore(model)
        assert checkpointing.position == (0, begin)
        data = batches(poison=np.nan, start=begin).take(steps)
        stop = keras.callbacks.LambdaCallback(
            on_train_batch_begin=lambda batch, logs: 1 / (steps - 1 - batch)
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(ZeroDivisionError):
                fit(model, data, skip, checkpointing, stop)
        checkpoints._WRITER.submit(int).result()
        return skip, model, checkpointing

    assert start(0, POISONED + 2)[0].skipped == 1
    skip, model, checkpointing = start(POISONED + 1, 2)
    assert skip.skipped == 1
    # The step that would be the second one.
    checkpointing._step = POISONED
    with pytest.raises(FloatingPointError, match="at step 4 of epoch 1"):
        fit(model, batches(poison=np.nan, start=POISONED), skip)


def test_refuses_a_limit_of_none():
    with pytest.raises(ValueError, match=r"Expected limit .* limit=0"):
        callbacks.SkipNonFinite(compiled(), 0)


def test_stopping_names_the_parts_of_the_loss():
    model = compiled(dual)
    images = IMAGES.copy()
    images[POISONED] = np.nan
    data = tf.data.Dataset.from_tensor_slices(
        {"balanced": (IMAGES, LABELS), "random": (images, LABELS)}
    )
    with pytest.raises(
        FloatingPointError,
        match="Received: auxiliary_loss=nan, loss=nan, rotation_loss=nan at "
        "step 4 of epoch 1",
    ):
        fit(model, data, callbacks.StopOnNonFinite())


def test_stopping_counts_from_the_start_of_an_epoch_that_was_cut(tmp_path):
    checkpointing = callbacks.Checkpointing(tmp_path)
    checkpointing._step = 2
    with pytest.raises(FloatingPointError, match="at step 4 of epoch 1"):
        fit(
            compiled(),
            batches(poison=np.nan, start=2),
            callbacks.StopOnNonFinite(checkpointing),
        )


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_stops_on_a_loss_that_is_not_finite(value):
    images = np.ones((5, 1), "float32")
    images[3] = value  # epoch 1 is steps 0, 1, epoch 2 ends with this one
    batches = tf.data.Dataset.from_tensor_slices((images, images)).batch(1)
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.01), "mse")
    steps = []
    with pytest.raises(
        FloatingPointError, match=r"Received: .* at step 2 of epoch 2 \("
    ):
        model.fit(
            batches,
            steps_per_epoch=2,
            epochs=2,
            verbose=0,
            callbacks=[
                keras.callbacks.LambdaCallback(
                    on_train_batch_begin=lambda batch, logs: steps.append(1)
                ),
                callbacks.StopOnNonFinite(),
            ],
        )
    assert len(steps) == 4


def test_goes_on_with_a_finite_loss():
    history = fit(compiled(), batches(), callbacks.StopOnNonFinite())
    assert len(history["loss"]) == 1
