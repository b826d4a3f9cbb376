import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from golden import load_cases, report_cases

from keras_lt import losses
from keras_lt.counts import effective_number_weights, log_prior
from keras_lt.losses import (
    LDAM,
    BalancedSoftmax,
    ClassBalancedCrossentropy,
    ClassBalancedFocal,
    ClassBalancedSigmoid,
    Focal,
    LabelAwareSmoothing,
    LogitAdjusted,
)

ALL = [
    ClassBalancedCrossentropy,
    ClassBalancedSigmoid,
    ClassBalancedFocal,
    Focal,
    LDAM,
    LogitAdjusted,
    BalancedSoftmax,
    LabelAwareSmoothing,
]
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


@pytest.mark.golden
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_golden_cb_losses(dtype):
    cases = load_cases("cb_losses")
    for name, case in cases:
        arguments = {
            "class_counts": np.ones(case["class_weights"].shape, int),
            "class_weights": case["class_weights"],
            "dtype": dtype,
        }
        for loss_class, key in (
            (ClassBalancedCrossentropy, "softmax_"),
            (ClassBalancedSigmoid, "sigmoid_"),
        ):
            assert_golden(name, loss_class(**arguments), case, key)
        for row, gamma in enumerate(case["focal_gammas"]):
            loss = ClassBalancedFocal(gamma=float(gamma), **arguments)
            assert_golden(name, loss, case, "focal_", row)
    if dtype == "float64":
        report_cases("cb_losses", cases)


@pytest.mark.golden
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_golden_ldam(dtype):
    cases = load_cases("ldam")
    for name, case in cases:
        arguments = {
            "class_counts": case["class_counts"],
            "max_margin": float(case["max_m"]),
            "scale": float(case["s"]),
            "dtype": dtype,
        }
        loss = LDAM(**arguments)
        np.testing.assert_allclose(loss.margins, case["margins"], rtol=1e-9)
        assert_golden(name, loss, case, "")
        weighted = LDAM(class_weights=case["class_weights"], **arguments)
        case["weighted_loss"] = case["loss_weighted"]
        case["weighted_grad"] = case["grad_weighted"]
        assert_golden(name, weighted, case, "weighted_")
    if dtype == "float64":
        report_cases("ldam", cases)


@pytest.mark.golden
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_golden_balanced_softmax(dtype):
    cases = load_cases("balanced_softmax")
    for name, case in cases:
        counts = case["train_counts"]
        weighted = np.bincount(
            case["train_labels"], case["sample_weight"], len(counts)
        )
        prior = None if (weighted == counts).all() else weighted
        arguments = {"class_counts": counts, "prior": prior, "dtype": dtype}
        loss = BalancedSoftmax(**arguments)
        np.testing.assert_allclose(
            log_prior(weighted), case["log_prior"], rtol=1e-9
        )
        assert_golden(name, loss, case, "")
        smoothing = float(case["smoothing"])
        loss = BalancedSoftmax(label_smoothing=smoothing, **arguments)
        assert_golden(name, loss, case, "v2_")
    if dtype == "float64":
        report_cases("balanced_softmax", cases)


def test_focal_by_hand():
    # softmax of (log 3, 0) is (3/4, 1/4).
    logits = np.array([[np.log(3.0), 0.0]] * 2)
    loss = Focal([9, 1], gamma=2.0, reduction=None)
    want = [(1 / 4) ** 2 * np.log(4 / 3), (3 / 4) ** 2 * np.log(4)]
    np.testing.assert_allclose(loss(np.array([0, 1]), logits), want, rtol=1e-6)


def test_focal_without_focus_is_crossentropy():
    labels, logits = random_batch()
    want = ClassBalancedCrossentropy(COUNTS, beta=None)(labels, logits)
    for gamma in (0.0, 1e-9):
        got = Focal(COUNTS, gamma=gamma)(labels, logits)
        np.testing.assert_allclose(got, want, rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.3, 1.0, 5.0])
def test_focal_of_huge_logits_has_finite_gradients(gamma):
    logits = np.array([[1e4, 0.0, 0.0, 0.0], [0.0, 1e4, 0.0, 0.0]])
    value, gradient = value_and_gradient(
        Focal(COUNTS, gamma=gamma, reduction=None), np.zeros(2, int), logits
    )
    np.testing.assert_allclose(value, [0.0, 1e4], atol=1e-6)
    np.testing.assert_allclose(gradient, [[0] * 4, [-1, 1, 0, 0]], atol=1e-6)


def test_logit_adjusted_by_hand():
    # softmax of (0 + 2 log 3, 0 + 2 log 1) is (9/10, 1/10).
    loss = LogitAdjusted([3_000_000, 1_000_000], tau=2.0, reduction=None)
    got = loss(np.array([0, 1]), np.zeros((2, 2)))
    np.testing.assert_allclose(got, np.log([10 / 9, 10]), rtol=1e-5)


def test_absent_class_is_all_but_impossible():
    # Its prior is log(1e-6) beside log(1).
    loss = BalancedSoftmax([1, 0])
    got = loss(np.array([0]), np.array([[0.0, np.log(1e6)]]))
    np.testing.assert_allclose(got, np.log(2), rtol=1e-5)


def test_label_aware_smoothing_by_hand():
    # e is 0.3, 0.3 sin(pi / 4) and 0; C - 1 = 2.
    loss = LabelAwareSmoothing([500, 275, 50], head=0.3, reduction=None)
    amounts = np.array([0.3, 0.3 / 2**0.5, 0.0])
    logits = np.array([[1.0, 2.0, 4.0]] * 3)
    log_p = logits[0] - np.log(np.exp(logits[0]).sum())
    targets = np.eye(3) * (1 - amounts)[:, None]
    targets += (1 - np.eye(3)) * amounts[:, None] / 2
    np.testing.assert_allclose(
        loss(np.arange(3), logits), -targets @ log_p, rtol=1e-5
    )


def test_crossentropy_by_hand():
    # softmax of (log 3, 0) is (3/4, 1/4).
    logits = np.array([[np.log(3.0), 0.0], [np.log(3.0), 0.0]])
    loss = ClassBalancedCrossentropy(
        [9, 1], class_weights=[0.5, 1.5], reduction=None
    )
    np.testing.assert_allclose(
        loss(np.array([0, 1]), logits),
        [0.5 * np.log(4 / 3), 1.5 * np.log(4)],
        rtol=1e-6,
    )


def test_sigmoid_and_focal_by_hand():
    # sigmoid(log 3) = 3/4, sigmoid(0) = 1/2; the label is class 0.
    labels, logits = np.array([0]), np.array([[np.log(3.0), 0.0]])
    sigmoid = ClassBalancedSigmoid([9, 1], beta=None)
    want = np.log(4 / 3) + np.log(2)
    np.testing.assert_allclose(sigmoid(labels, logits), want, rtol=1e-6)
    focal = ClassBalancedFocal([9, 1], beta=None, gamma=2.0)
    want = (1 / 4) ** 2 * np.log(4 / 3) + (1 / 2) ** 2 * np.log(2)
    np.testing.assert_allclose(focal(labels, logits), want, rtol=1e-6)


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


def test_focal_without_focus_is_sigmoid():
    labels, logits = random_batch()
    np.testing.assert_allclose(
        ClassBalancedFocal(COUNTS, gamma=0.0)(labels, logits),
        ClassBalancedSigmoid(COUNTS)(labels, logits),
        rtol=1e-6,
    )


@pytest.mark.parametrize("scale", [100.0, 1e4, 1e30])
@pytest.mark.parametrize("gamma", [0.0, 0.3, 1.0, 2.0, 5.0])
def test_huge_logits_stay_finite(scale, gamma):
    signs = np.array([[1.0, -1.0, 0.0, 1.0], [-1.0, 1.0, -1.0, 0.0]])
    for loss in (
        ClassBalancedCrossentropy(COUNTS),
        ClassBalancedSigmoid(COUNTS),
        ClassBalancedFocal(COUNTS, gamma=gamma),
    ):
        value, gradient = value_and_gradient(
            loss, np.array([0, 0]), scale * signs
        )
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()
        # The second example is the worst of mistakes: it costs, and pulls up.
        assert value >= scale * loss._weights[0] / 2 * (1 - 1e-6)
        assert gradient[1, 0] < 0


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
    "change, message",
    [
        ({"class_counts": [5, -1]}, r"class_counts\[1\]=-1"),
        ({"class_counts": [5]}, r"at least 2 classes.*class_counts=\[5\]"),
        ({"beta": 1.0}, "beta=1.0"),
        ({"normalizer": "sum"}, "'nonzero'.* normalizer='sum'"),
        ({"class_weights": [1, 2, 3]}, r"shape \(2,\).*shape=\(3,\)"),
        ({"class_weights": [1, -2]}, r"class_weights=\[1.0, -2.0\]"),
        ({"class_weights": [1, np.nan]}, r"class_weights=\[1.0, nan\]"),
        ({"reduction": "median"}, "reduction=median"),
        ({"gamma": -1.0}, "gamma >= 0. Received: gamma=-1.0"),
        ({"gamma": float("nan")}, "gamma=nan"),
    ],
)
def test_bad_arguments(change, message):
    with pytest.raises(ValueError, match=message):
        ClassBalancedFocal(**({"class_counts": [9, 1]} | change))


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
        },
        BalancedSoftmax: {"prior": None, "label_smoothing": 0.1},
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


def small_model(loss):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(len(COUNTS))]
    )
    model.compile(keras.optimizers.SGD(0.5), loss=loss, metrics=["accuracy"])
    return model


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


def test_mixed_precision_model_trains():
    labels, features = random_batch()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = small_model(ClassBalancedFocal(COUNTS))
        assert model(features).dtype == tf.bfloat16
        history = model.fit(features, labels, epochs=20, verbose=0).history
    finally:
        keras.config.set_dtype_policy("float32")
    assert history["loss"][-1] < history["loss"][0]


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
