"""Labels in all forms; ignored ones have weight 0 in every loss and metric."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_lt import labels, losses, metrics

COUNTS = [900, 90, 9, 0]
RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(7, 4)).astype("float32")
VIEWS = RNG.normal(size=(7, 2, 3)).astype("float32")
LABELS = np.array([0, -1, 2, 4, 3, 1, 1 << 40])  # 2^40 as int32 is 0
KNOWN = np.array([0, 2, 4, 5])
ROWS = np.array(LABELS[:, None] == np.arange(4), float)
CLASSIFICATION = [
    losses.ClassBalancedCrossentropy,
    losses.ClassBalancedSigmoid,
    losses.ClassBalancedFocal,
    losses.Focal,
    losses.LDAM,
    losses.LogitAdjusted,
    losses.BalancedSoftmax,
    losses.LabelAwareSmoothing,
]
METRICS = [
    metrics.Top1Accuracy,
    lambda: metrics.BalancedAccuracy(4),
    lambda: metrics.PerClassAccuracy(4),
    *(
        lambda group=group: metrics.ShotAccuracy(COUNTS, group)
        for group in metrics.GROUPS
    ),
    lambda: metrics.ShotAccuracy(COUNTS, "many", average="pooled"),
    lambda: metrics.ConfusionMatrix(4),
    metrics.ExpectedCalibrationError,
]
FORMS = {
    "ids": LABELS,
    "column": LABELS[:, None],
    "float64": LABELS.astype("float64"),
    "rows": ROWS,
}
pytestmark = pytest.mark.filterwarnings("ignore:Expected labels")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("make", METRICS)
def test_metrics_give_ignored_labels_no_weight(make, form):
    want = make()(LABELS[KNOWN], LOGITS[KNOWN]).numpy()
    np.testing.assert_allclose(make()(FORMS[form], LOGITS), want, rtol=1e-6)
    metric = make()
    tf.function(metric.update_state)(tf.constant(FORMS[form]), LOGITS)
    np.testing.assert_allclose(metric.result(), want, rtol=1e-6)


@pytest.mark.parametrize("make", METRICS)
@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint64"])
def test_metrics_take_integers_of_any_size(make, dtype):
    ids = LABELS[KNOWN].astype(dtype)
    want = make()(LABELS[KNOWN], LOGITS[KNOWN])
    np.testing.assert_array_equal(make()(ids, LOGITS[KNOWN]), want)


@pytest.mark.parametrize("normalizer", losses.NORMALIZERS)
@pytest.mark.parametrize("loss_class", CLASSIFICATION)
def test_losses_give_ignored_labels_no_weight(loss_class, normalizer):
    loss = loss_class(COUNTS, normalizer=normalizer, reduction=None)
    want = loss(LABELS[KNOWN], LOGITS[KNOWN]).numpy()
    if normalizer != "batch":  # these divide by what has weight
        want = want * len(LABELS) / len(KNOWN)
    for y_true in FORMS.values():
        for call in (loss, tf.function(loss)):
            got = call(tf.constant(y_true), LOGITS).numpy()
            np.testing.assert_allclose(got[KNOWN], want, rtol=1e-5)
            assert not np.delete(got, KNOWN).any()


@pytest.mark.parametrize(
    "loss",
    [
        losses.SupervisedContrastive(reduction=None),
        losses.BalancedNegativeSampling(reduction=None),
        losses.BalancedNegativeSampling(negatives="others", reduction=None),
    ],
)
def test_views_of_ignored_labels_are_left_out(loss):
    ids = np.array([0, -1, 1, 0, -1, 1, 2])
    known = np.flatnonzero(ids >= 0)
    want = loss(ids[known], VIEWS[known])
    rows = np.array([np.eye(3)[i] if i >= 0 else np.zeros(3) for i in ids])
    per_view = np.repeat(ids[:, None, None], 2, axis=1)
    for y_true in (ids, ids[:, None], rows, per_view):
        got = tf.function(loss)(tf.constant(y_true), VIEWS).numpy()
        np.testing.assert_allclose(got[known], want, rtol=1e-5)
        assert not np.delete(got, known).any()


@pytest.mark.parametrize(
    "ids",
    [[-1, -1, -1], [0, -1, -1], [[[0], [-1]], [[-1], [-1]], [[-1], [-1]]]],
)
@pytest.mark.parametrize(
    "loss",
    [losses.SupervisedContrastive(), losses.BalancedNegativeSampling()],
)
def test_views_without_others_have_finite_gradients(loss, ids):
    views = tf.Variable(VIEWS[:3])
    with tf.GradientTape() as tape:
        value = loss(np.array(ids), views)
    assert np.isfinite(value)
    assert np.isfinite(tape.gradient(value, views)).all()


def test_views_need_no_labels_where_the_loss_has_no_use_for_them():
    want = losses.NTXent()(np.zeros(7), VIEWS)
    for y_true in (-np.ones(7), np.eye(7), LABELS):
        assert losses.NTXent()(y_true, VIEWS) == want


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(
    "call",
    [
        lambda y: losses.LDAM(COUNTS)(y, LOGITS[:2]),
        lambda y: losses.SupervisedContrastive()(y, VIEWS[:2]),
        lambda y: metrics.Top1Accuracy()(y, LOGITS[:2]),
        lambda y: metrics.ConfusionMatrix(4)(y, LOGITS[:2]),
        lambda y: metrics.ExpectedCalibrationError()(y, LOGITS[:2]),
    ],
)
def test_eager_calls_name_the_label(call):
    with pytest.warns(UserWarning, match="Received: label -3, .*weight 0"):
        call(np.array([1, -3]))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        call(np.array([1, 3]))
    with pytest.raises(ValueError, match=r"integers\. Received: label 0\.5"):
        call(np.array([1, 0.5]))


@pytest.mark.parametrize("shape", [(7, 3), (7, 5), (7, 2, 2), ()])
def test_labels_of_another_shape(shape):
    for call in (
        lambda y: losses.LDAM(COUNTS)(y, LOGITS),
        lambda y: metrics.BalancedAccuracy(4)(y, LOGITS),
        lambda y: metrics.Top1Accuracy()(y, LOGITS),
        lambda y: metrics.ConfusionMatrix(4)(y, LOGITS),
    ):
        with pytest.raises(
            ValueError, match=r"\(batch, 4\)\. Received: y_true"
        ):
            call(np.zeros(shape))
    with pytest.raises(ValueError, match="Received: y_true"):
        losses.SupervisedContrastive()(np.zeros((7, 2, 2)), VIEWS)


def test_forms_of_labels():
    for y_true in FORMS.values():
        got = labels.class_ids(y_true, 4).numpy()
        assert got.tolist() == [0, -1, 2, -1, 3, 1, -1]
        np.testing.assert_array_equal(labels.dense(y_true, 4, "float32"), ROWS)
    # Of any number of classes those below 0 alone are none.
    got = labels.class_ids(np.array([-2, 0, 900])).numpy()
    assert got.tolist() == [-1, 0, 900]


def test_top1_of_mixed_training_and_plain_validation():
    """Keras' own "accuracy" gives the ids 0."""
    x = np.eye(3, dtype="float32")
    mixed = 0.8 * x + 0.1
    mixed /= mixed.sum(axis=1, keepdims=True)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    model.layers[0].set_weights([np.eye(3), np.zeros(3)])
    model.compile(
        keras.optimizers.SGD(0.0),
        losses.BalancedSoftmax([3, 2, 1]),
        metrics=[
            metrics.Top1Accuracy(),
            metrics.BalancedAccuracy(3),
            metrics.ShotAccuracy([300, 50, 5], "few"),
            metrics.ExpectedCalibrationError(),
        ],
    )
    logs = model.fit(
        x, mixed, validation_data=(x, np.arange(3)), verbose=0
    ).history
    for name in ("top1_accuracy", "balanced_accuracy", "few_shot_accuracy"):
        assert logs[name] == logs[f"val_{name}"] == [1.0]


@pytest.mark.parametrize(
    "make, larger",
    [
        (metrics.Top1Accuracy, True),
        (lambda: metrics.BalancedAccuracy(3), True),
        (lambda: metrics.ShotAccuracy([300, 50, 5], "few"), True),
        (metrics.ExpectedCalibrationError, False),
    ],
)
def test_callbacks_know_the_direction_of_metrics(make, larger):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    metric = make()
    model.compile(
        keras.optimizers.SGD(0.0),
        losses.BalancedSoftmax([3, 2, 1]),
        metrics=[metric],
    )
    monitor = f"val_{metric.name}"
    watching = [
        keras.callbacks.EarlyStopping(monitor),
        keras.callbacks.ReduceLROnPlateau(monitor),
        keras.callbacks.ModelCheckpoint(
            "{epoch}.keras", monitor, save_best_only=True
        ),
    ]
    data = np.eye(3, dtype="float32"), np.arange(3)
    model.evaluate(*data, verbose=0)
    for callback in watching:
        callback.set_model(model)
        callback._set_monitor_op()
        assert bool(callback.monitor_op(2.0, 1.0)) is larger
