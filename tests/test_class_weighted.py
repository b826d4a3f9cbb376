"""What all losses with class weights have in common."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from loss_helpers import COUNTS, random_batch, small_model, value_and_gradient

from keras_lt import losses
from keras_lt.counts import effective_number_weights
from keras_lt.losses import (
    LDAM,
    BalancedSoftmax,
    ClassBalancedCrossentropy,
    ClassBalancedFocal,
    Focal,
    LabelAwareSmoothing,
    LogitAdjusted,
)

ALL = [
    loss
    for loss in losses.LOSSES.table.values()
    if isinstance(loss, type)
    and issubclass(loss, losses.ClassWeightedLoss)
    and loss is not losses.Reweighted  # weighs another loss
]


@pytest.mark.parametrize(
    "normalizer, want",
    # Weights 0, 1, 5, 0 on losses of log 2 each: divided by B = 4, by the
    # sum 6, by the 2 that are not zero.
    [("batch", 6 / 4), ("weight_sum", 6 / 6), ("nonzero", 6 / 2)],
)
def test_normalizers_by_hand(normalizer, want):
    loss = ClassBalancedCrossentropy(
        [9, 5, 1], class_weights=[0, 1, 5], normalizer=normalizer
    )
    # Logits of minus infinity in effect for one wrong class: log 2 remains.
    logits = np.array(
        [[0, 0, -1e4], [0, 0, -1e4], [-1e4, 0, 0], [0, -1e4, 0]], "float32"
    )
    value = loss(np.array([0, 1, 2, 0]), logits)
    np.testing.assert_allclose(value, want * np.log(2), rtol=1e-6)
    # Twice the weights: only the sum of weights divides it out.
    double = ClassBalancedCrossentropy(
        [9, 5, 1], class_weights=[0, 2, 10], normalizer=normalizer
    )(np.array([0, 1, 2, 0]), logits)
    factor = 1 if normalizer == "weight_sum" else 2
    np.testing.assert_allclose(double, factor * value, rtol=1e-6)


@pytest.mark.parametrize("normalizer", losses.NORMALIZERS)
@pytest.mark.parametrize("loss_class", ALL)
def test_all_zero_weights_give_zero(loss_class, normalizer):
    loss = loss_class(
        [9, 1], class_weights=[0.0, 1.0], normalizer=normalizer, reduction=None
    )
    value, gradient = value_and_gradient(
        loss, np.zeros(3, int), np.ones((3, 2))
    )
    assert value.tolist() == [0, 0, 0]
    assert not gradient.any()


@pytest.mark.parametrize("loss_class", ALL)
def test_class_without_images_weighs_nothing(loss_class):
    loss = loss_class([90, 0, 9], beta=0.99, reduction=None)
    values = loss(np.array([0, 1, 2]), np.zeros((3, 3))).numpy()
    assert values[1] == 0
    assert (values[[0, 2]] > 0).all()


@pytest.mark.parametrize("loss_class", ALL)
def test_without_weights_all_classes_weigh_the_same(loss_class):
    loss = loss_class([90, 0, 9], beta=None, reduction=None)
    values = loss(np.array([0, 1, 2]), np.zeros((3, 3))).numpy()
    np.testing.assert_allclose(
        values, loss.call(np.eye(3, dtype="float32"), np.zeros((3, 3)))
    )
    assert (values > 0).all()
    np.testing.assert_array_equal(loss._weights, 1.0)


@pytest.mark.parametrize("loss_class", ALL)
def test_labels_as_ids_columns_and_one_hot_agree(loss_class):
    labels, logits = random_batch()
    one_hot = np.eye(len(COUNTS))[labels]
    loss = loss_class(COUNTS, beta=0.99, reduction=None)
    want = loss(labels, logits).numpy()
    assert want.shape == labels.shape
    for same in (labels[:, None], one_hot, labels.astype("int64")):
        np.testing.assert_array_equal(loss(same, logits), want)


@pytest.mark.parametrize("loss_class", ALL)
def test_soft_labels_mix_weights_and_losses(loss_class):
    # All terms are linear in y, and so is w: (sum y w)(sum y l), but for the
    # 1 - y part of the binary losses, which is linear too.
    labels, logits = random_batch()
    others = (labels + 1) % len(COUNTS)
    eye = np.eye(len(COUNTS))
    soft = 0.7 * eye[labels] + 0.3 * eye[others]
    plain = loss_class(COUNTS, beta=None, reduction=None)
    weighted = loss_class(COUNTS, beta=0.99, normalizer="batch", reduction=None)
    mixed = 0.7 * plain(labels, logits) + 0.3 * plain(others, logits)
    np.testing.assert_allclose(plain(soft, logits), mixed, rtol=1e-5)
    class_weights = effective_number_weights(COUNTS, 0.99)
    np.testing.assert_allclose(
        weighted(soft, logits), (soft @ class_weights) * mixed, rtol=1e-5
    )


@pytest.mark.parametrize("loss_class", ALL)
def test_sample_weight_and_reductions(loss_class):
    labels, logits = random_batch(4)
    sample_weight = np.array([0.0, 1.0, 2.0, 0.5])

    def loss(reduction):
        return loss_class(COUNTS, beta=0.99, reduction=reduction)

    values = loss(None)(labels, logits).numpy()
    assert values.shape == (4,)
    total = (values * sample_weight).sum()
    for reduction, want in {
        "sum": total,
        "sum_over_batch_size": total / 4,
        "mean": total / 4,
        "mean_with_sample_weight": total / 3.5,
    }.items():
        got = loss(reduction)(labels, logits, sample_weight)
        np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize("loss_class", ALL)
def test_half_precision_is_cast_up(loss_class):
    labels = np.array([0, 299])
    class_counts = np.arange(300, 0, -1)
    logits = tf.random.stateless_normal((2, 300), (0, 1), dtype=tf.float32)
    logits = tf.cast(logits, tf.bfloat16)
    want = loss_class(class_counts)(labels, tf.cast(logits, tf.float32))
    for dtype in (None, "float32", "bfloat16", "float16", "mixed_bfloat16"):
        loss = loss_class(class_counts, dtype=dtype)
        got = loss(labels, logits)
        assert got.dtype == tf.float32
        # Class 299 is no number of 8 bits: it tells whether labels survive.
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("loss_class", ALL)
def test_eager_equals_graph(loss_class):
    labels, logits = random_batch()
    loss = loss_class(COUNTS, normalizer="weight_sum")
    np.testing.assert_allclose(
        tf.function(loss)(tf.constant(labels), logits),
        loss(labels, logits),
        rtol=1e-6,
    )


@pytest.mark.parametrize("loss_class", ALL)
def test_label_out_of_range_is_an_ignored_example(loss_class):
    logits = random_batch(3)[1]
    loss = loss_class(COUNTS, beta=0.99, normalizer="weight_sum")
    np.testing.assert_allclose(
        loss(np.array([1, -1, 4]), logits),
        loss(np.array([1]), logits[:1]),
        rtol=1e-6,
    )
    values = loss.call(tf.constant([1, -1, 4]), logits).numpy()
    assert values[0] > 0
    assert values[1:].tolist() == [0, 0]


@pytest.mark.parametrize(
    "labels, logits, message",
    [
        ((8,), (8, 12), r"C=4 classes .* Received: y_pred.shape=\(8, 12\)"),
        ((8,), (8,), r"Received: y_pred.shape=\(8,\)"),
        ((8, 3), (8, 4), r"Received: y_true.shape=\(8, 3\)"),
        ((8, 4, 1), (8, 4), r"Received: y_true.shape=\(8, 4, 1\)"),
    ],
)
def test_bad_shapes(labels, logits, message):
    with pytest.raises(ValueError, match=message):
        ClassBalancedCrossentropy(COUNTS)(np.zeros(labels), np.zeros(logits))


@pytest.mark.parametrize("loss_class", ALL)
def test_config_round_trip(loss_class):
    own = {
        ClassBalancedFocal: {"gamma": 0.5},
        Focal: {"gamma": 0.5},
        LDAM: {"max_margin": 0.3, "scale": 10.0},
        LogitAdjusted: {
            "tau": 2.0,
            "prior": [0.5, 0.3, 0.2, 0.0],
            "label_smoothing": 0.1,
            "prior_smoothing": 0.2,
        },
        BalancedSoftmax: {
            "prior": None,
            "label_smoothing": 0.1,
            "prior_smoothing": 0.2,
        },
        LabelAwareSmoothing: {"head": 0.4, "tail": 0.1},
    }.get(loss_class, {})
    loss = loss_class(
        np.array(COUNTS),
        beta=0.9,
        class_weights=np.array([1.0, 0.5, 2.0, 0.0]),
        normalizer="weight_sum",
        reduction="sum",
        name="mine",
        dtype="float64",
        **own,
    )
    loss.reweighting.assign(0.0)
    config = json.loads(json.dumps(keras.losses.serialize(loss)))
    assert config["registered_name"] == f"keras_lt>{loss_class.__name__}"
    assert config["config"] == {
        "class_counts": COUNTS,
        "beta": 0.9,
        "class_weights": [1.0, 0.5, 2.0, 0.0],
        "normalizer": "weight_sum",
        "reduction": "sum",
        "name": "mine",
        "dtype": "float64",
        **own,
    }
    copy = keras.losses.deserialize(config)
    assert type(copy) is loss_class
    assert copy.get_config() == loss.get_config()
    assert float(copy.reweighting) == 1.0
    loss.reweighting.assign(1.0)
    np.testing.assert_array_equal(copy(*random_batch()), loss(*random_batch()))


@pytest.mark.parametrize("loss_class", ALL)
def test_saves_with_a_compiled_model(loss_class, tmp_path):
    labels, features = random_batch()
    loss = loss_class(COUNTS, beta=0.99, normalizer="weight_sum")
    model = small_model(loss)
    model.fit(features, labels, verbose=0)
    model.save(tmp_path / "model.keras")
    copy = keras.saving.load_model(tmp_path / "model.keras")
    assert copy.loss.get_config() == loss.get_config()
    np.testing.assert_allclose(
        copy.evaluate(features, labels, verbose=0),
        model.evaluate(features, labels, verbose=0),
        rtol=1e-6,
    )


@pytest.mark.parametrize("normalizer", losses.NORMALIZERS)
def test_reweighting_switches_without_retracing(normalizer):
    labels, features = random_batch()
    traces = []

    class Traced(ClassBalancedCrossentropy):
        def call(self, y_true, y_pred):
            traces.append(1)
            return super().call(y_true, y_pred)

    loss = Traced(COUNTS, beta=0.99, normalizer=normalizer)
    model = small_model(loss)
    model.optimizer.learning_rate = 0.0
    got, traced = [], []
    for reweighting in (0.0, 1.0, 0.5, 0.0):
        loss.reweighting.assign(reweighting)
        history = model.fit(features, labels, batch_size=16, verbose=0).history
        got.append(history["loss"][0])
        traced.append(len(traces))
    assert traced == [traced[0]] * 4
    logits = model.predict(features, verbose=0)
    values = keras.losses.sparse_categorical_crossentropy(
        labels, logits, from_logits=True
    ).numpy()
    full = effective_number_weights(COUNTS, 0.99)[labels]
    want = [
        (w * values).sum() / (w.sum() if normalizer == "weight_sum" else 16)
        for w in (np.ones(16), full, 0.5 * full + 0.5, np.ones(16))
    ]
    np.testing.assert_allclose(got, want, rtol=1e-5)
    assert abs(want[0] - want[1]) > 0.01


@pytest.mark.parametrize("normalizer", losses.NORMALIZERS)
def test_two_replicas_equal_one_device(normalizer, two_replicas):
    # Sorted, so that the replicas' shares differ in weights, and class 0 of
    # zero weight, so that they differ in the number of non-zero ones.
    labels, features = random_batch(24)
    order = np.argsort(labels, kind="stable")
    labels, features = labels[order], features[order]

    def fit():
        loss = ClassBalancedCrossentropy(
            COUNTS, class_weights=[0, 1, 5, 2], normalizer=normalizer
        )
        model = small_model(loss)
        history = model.fit(
            features, labels, batch_size=12, epochs=2, shuffle=False, verbose=0
        ).history
        loss.reweighting.assign(0.0)
        plain = model.fit(
            features, labels, batch_size=12, shuffle=False, verbose=0
        ).history
        return history["loss"] + plain["loss"], model.get_weights()

    want_loss, want_weights = fit()
    with two_replicas.scope():
        got_loss, got_weights = fit()
    np.testing.assert_allclose(got_loss, want_loss, rtol=1e-5)
    for got, want in zip(got_weights, want_weights, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
