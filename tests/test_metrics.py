"""Metrics against golden vectors, hand-worked numbers and Keras' training."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from golden import load_cases, report_cases

from keras_lt import metrics
from keras_lt.counts import shot_groups

THRESHOLDS = {"500_200": (500, 200), "100_20": (100, 20)}
LABELS = np.array([0, 0, 0, 0, 1, 1, 3, 3])
PREDICTED = np.array([0, 0, 0, 1, 1, 2, 3, 3])
COUNTS = [900, 50, 10, 5]
# Accuracy: class 0 3/4, class 1 1/2, class 2 has no image, class 3 2/2.
# The progress bar of Keras 3.12, the last for Python 3.10, fails on vectors.
VERBOSE = 0 if keras.__version__.startswith("3.12.") else "auto"


def one_hot(ids, num_classes=4, scale=4.0):
    return scale * np.eye(num_classes, dtype="float32")[ids]


def all_metrics():
    return [
        metrics.BalancedAccuracy(4),
        metrics.PerClassAccuracy(4),
        *(metrics.ShotAccuracy(COUNTS, group) for group in metrics.GROUPS),
        metrics.ConfusionMatrix(4),
        metrics.ExpectedCalibrationError(5),
    ]


@pytest.mark.golden
def test_golden_shot_accuracy():
    cases = load_cases("shot_acc")
    for name, case in cases:
        counts, labels = case["train_counts"], case["labels"]
        predicted = case["preds"]  # -1 is none
        figures = metrics.evaluate(predicted, labels, counts)
        # Scores that miss where no class is predicted.
        missed = np.where(predicted < 0, (labels + 1) % len(counts), predicted)
        logits = one_hot(missed, len(counts))
        scored = metrics.evaluate(logits, labels, counts)
        scored |= {"ece": None, "confusion": figures["confusion"]}
        assert scored == figures
        assert figures["top1"] == pytest.approx(case["overall_acc"], 1e-12)
        per_class = np.array(figures["per_class"], float)
        present = case["present_classes"]
        np.testing.assert_allclose(
            per_class[present], case["per_class_acc"], rtol=1e-12
        )
        assert np.isnan(np.delete(per_class, present)).all(), name
        confusion = np.zeros((len(counts), len(counts)), int)
        seen = predicted >= 0
        np.add.at(confusion, (labels[seen], predicted[seen]), 1)
        assert figures["confusion"] == confusion.tolist(), name
        # The DLSA code counts a class without training images as few-shot.
        groups = shot_groups(counts)
        groups["few"] = groups["few"] | groups["unseen"]
        for group in ("many", "medium", "few"):
            values = per_class[groups[group]]
            values = values[~np.isnan(values)]
            expected = case[f"dlsa_{group}"]
            assert np.mean(values if len(values) else 0) == pytest.approx(
                expected, 1e-12
            ), (name, group)
            if not groups["unseen"].any():
                ours = figures[group]
                assert (0 if ours is None else ours) == pytest.approx(
                    expected, 1e-12
                ), (name, group)
        for key, (many, few) in THRESHOLDS.items():
            groups = shot_groups(counts, many=many, few=few)
            codes = case[f"bns_{key}_group"]
            for code, group in enumerate(("many", "medium", "few")):
                np.testing.assert_array_equal(groups[group], codes == code)
                metric = metrics.ShotAccuracy(
                    counts, group, many, few, average="pooled", dtype="float64"
                )
                value = float(metric(labels, logits))
                expected = case[f"bns_{key}_{group}"]
                if np.isin(labels, np.flatnonzero(groups[group])).any():
                    assert value == pytest.approx(expected, 1e-12), name
                else:
                    assert np.isnan(value) and expected == 0, name
            np.testing.assert_array_equal(groups["unseen"], codes == -1)
    report_cases("shot_acc", cases)


@pytest.mark.parametrize("labels", [LABELS, LABELS[:, None], one_hot(LABELS)])
def test_values_for_every_form_of_labels(labels):
    results = {
        m.name: m(labels, one_hot(PREDICTED)).numpy() for m in all_metrics()
    }
    assert results["balanced_accuracy"] == pytest.approx(
        (3 / 4 + 1 / 2 + 1) / 3
    )
    np.testing.assert_allclose(
        results["per_class_accuracy"], [0.75, 0.5, np.nan, 1]
    )
    assert results["many_shot_accuracy"] == pytest.approx(0.75)
    assert results["medium_shot_accuracy"] == pytest.approx(0.5)
    # Class 2 has no test image and is left out of the few-shot mean.
    assert results["few_shot_accuracy"] == pytest.approx(1)
    assert np.isnan(results["unseen_shot_accuracy"])
    expected = [[3, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 2]]
    np.testing.assert_array_equal(results["confusion_matrix"], expected)
    assert results["confusion_matrix"].dtype == np.int32


def test_pooled_is_over_images():
    counts = [900, 900, 5, 0]
    macro = metrics.ShotAccuracy(counts, "many")
    pooled = metrics.ShotAccuracy(counts, "many", average="pooled")
    scores = one_hot(PREDICTED)
    assert float(macro(LABELS, scores)) == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert float(pooled(LABELS, scores)) == pytest.approx(4 / 6)


@pytest.mark.parametrize("shape", [(8,), (8, 1)])
def test_sample_weight(shape):
    weights = np.array([1, 1, 1, 3, 1, 0, 1, 1], float).reshape(shape)
    results = {
        m.name: m(LABELS, one_hot(PREDICTED), weights).numpy()
        for m in all_metrics()
    }
    np.testing.assert_allclose(
        results["per_class_accuracy"], [0.5, 1, np.nan, 1]
    )
    assert results["balanced_accuracy"] == pytest.approx(2.5 / 3)
    # The matrix counts images: weight 3 counts once, weight 0 not.
    np.testing.assert_array_equal(
        results["confusion_matrix"].sum(axis=1), [4, 1, 0, 2]
    )


def test_expected_calibration_error():
    probabilities = np.array(
        [[0.9, 0.1], [0.8, 0.2], [0.4, 0.6], [0.5, 0.5]], "float32"
    )
    labels = [0, 1, 1, 0]
    # Bins ((m-1)/2, m/2]: 0.5 lies in the first, correct; the other three in
    # the second with mean confidence 2.3/3 and accuracy 2/3.
    expected = 1 / 4 * abs(1 - 0.5) + 3 / 4 * abs(2 / 3 - 2.3 / 3)
    metric = metrics.ExpectedCalibrationError(2, from_logits=False)
    assert float(metric(labels, probabilities)) == pytest.approx(expected)
    metric = metrics.ExpectedCalibrationError(2)
    logits = np.log(probabilities) + 3
    assert float(metric(labels, logits)) == pytest.approx(expected, 1e-5)


def test_batches_add_up_and_reset():
    for metric in all_metrics():
        metric(LABELS[:3], one_hot(PREDICTED[:3]))
        metric(LABELS[3:], one_hot(PREDICTED[3:]))
        parts = metric.result().numpy()
        metric.reset_state()
        metric(LABELS, one_hot(PREDICTED))
        np.testing.assert_allclose(parts, metric.result().numpy(), rtol=1e-6)


def test_config_round_trip():
    for metric in [
        *all_metrics(),
        metrics.ShotAccuracy(
            np.array(COUNTS), "few", 60, 7, average="pooled", name="tail"
        ),
    ]:
        config = keras.saving.serialize_keras_object(metric)
        copy = keras.saving.deserialize_keras_object(config)
        assert type(copy) is type(metric)
        assert copy.get_config() == metric.get_config()


def compiled(**arguments):
    model = keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(4, dtype="float32")]
    )
    model.compile(
        "sgd",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy", *all_metrics()],
        **arguments,
    )
    model.layers[0].set_weights([np.eye(4) * 3, np.zeros(4)])
    return model


@pytest.mark.parametrize("jit_compile", [False, True])
def test_compiled_evaluation(jit_compile):
    model = compiled(jit_compile=jit_compile)
    scores = one_hot(PREDICTED)
    figures = metrics.evaluate(3 * scores, LABELS, COUNTS)
    found = model.evaluate(
        scores, LABELS, batch_size=3, return_dict=True, verbose=VERBOSE
    )
    for name in ("balanced", "many_shot", "medium_shot", "few_shot"):
        expected = figures[name.removesuffix("_shot")]
        assert found[f"{name}_accuracy"] == pytest.approx(expected), name
    np.testing.assert_array_equal(
        found["confusion_matrix"], figures["confusion"]
    )


def test_training_saving_and_monitoring(tmp_path):
    model = compiled()
    scores = one_hot(PREDICTED)
    checkpoint = keras.callbacks.ModelCheckpoint(
        tmp_path / "best.keras",
        monitor="val_balanced_accuracy",
        mode="max",
        save_best_only=True,
    )
    history = model.fit(
        scores,
        LABELS,
        validation_data=(scores, LABELS),
        epochs=2,
        callbacks=[checkpoint, keras.callbacks.CSVLogger(tmp_path / "log")],
        verbose=VERBOSE,
    ).history
    assert np.shape(history["per_class_accuracy"]) == (2, 4)
    model = keras.models.load_model(tmp_path / "best.keras")
    again = model.evaluate(scores, LABELS, return_dict=True, verbose=VERBOSE)
    assert again["balanced_accuracy"] == pytest.approx(
        max(history["val_balanced_accuracy"])
    )


def test_two_replicas_see_all_images(two_replicas):
    scores = one_hot(PREDICTED)
    with two_replicas.scope():
        model = compiled()
    found = model.evaluate(
        scores, LABELS, batch_size=4, return_dict=True, verbose=VERBOSE
    )
    figures = metrics.evaluate(scores, LABELS, COUNTS)
    for name in ("balanced", "many_shot", "medium_shot", "few_shot"):
        expected = figures[name.removesuffix("_shot")]
        assert found[f"{name}_accuracy"] == pytest.approx(expected), name


def test_mixed_precision_scores():
    scores = tf.cast(one_hot(PREDICTED), "bfloat16")
    for metric, expected in zip(all_metrics(), all_metrics(), strict=True):
        np.testing.assert_allclose(
            metric(LABELS, scores), expected(LABELS, one_hot(PREDICTED))
        )


def test_predict_keeps_order_and_last_batch():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Rescaling(2.0)])
    images = np.arange(7, dtype="float32")[:, None]
    dataset = tf.data.Dataset.from_tensor_slices((images, np.arange(7)))
    logits, labels = metrics.predict(model, dataset.batch(3))
    np.testing.assert_array_equal(logits, 2 * images)
    np.testing.assert_array_equal(labels, np.arange(7))
    with pytest.raises(ValueError, match="finite"):
        metrics.predict(model, dataset.batch(3).repeat())
    with pytest.raises(ValueError, match="at least one batch"):
        metrics.predict(model, dataset.take(0).batch(3))


def test_predict_takes_batches_of_images_and_labels():
    model = compiled()
    images = np.random.default_rng(0).normal(size=(7, 4)).astype("float32")
    labels = np.arange(7) % 4
    arrays = tf.data.Dataset.from_tensor_slices((images, labels))
    want = metrics.predict(model, arrays.batch(3))
    weights = np.ones(7, "float32")
    weighted = tf.data.Dataset.from_tensor_slices((images, labels, weights))
    got = metrics.predict(model, weighted.batch(3))
    np.testing.assert_array_equal(got[0], want[0])
    np.testing.assert_array_equal(got[1], want[1])
    for other in (
        arrays,  # no batches
        (images, labels),
        tf.data.Dataset.from_tensor_slices(images).batch(3),
        arrays.batch(3).map(lambda x, y: {"balanced": (x, y)}),
        arrays.batch(3).map(lambda x, y: (x, y[:1])),
    ):
        with pytest.raises(
            ValueError, match=r"batches \(images .*labels.*Received: "
        ):
            metrics.predict(model, other)


def test_evaluate_is_chunked_and_plain(monkeypatch):
    whole = metrics.evaluate(one_hot(PREDICTED), LABELS, COUNTS)
    assert whole["per_class"] == [0.75, 0.5, None, 1.0]
    assert whole["unseen"] is None
    assert whole["top1"] == 6 / 8
    assert whole["num_images"] == 8
    monkeypatch.setattr(metrics.expected_calibration_error, "_CHUNK", 3)
    parts = metrics.evaluate(one_hot(PREDICTED), LABELS, COUNTS)
    assert parts["ece"] == pytest.approx(whole["ece"])
    assert {**parts, "ece": 0} == {**whole, "ece": 0}
    monkeypatch.setattr(metrics.scoring, "MAX_CONFUSION_CLASSES", 3)
    large = metrics.evaluate(one_hot(PREDICTED), LABELS, COUNTS)
    assert large["confusion"] is None


@pytest.mark.parametrize(
    "change, message",
    [
        ({"logits": one_hot(PREDICTED) * np.nan}, "for 8 of 8 images"),
        ({"logits": one_hot(PREDICTED)[:, :3]}, r"\(N, 4\)"),
        ({"logits": one_hot(PREDICTED)[:0]}, "N > 0"),
        ({"labels": LABELS[:7]}, r"shape \(8,\)"),
        ({"labels": LABELS + 0.5}, "integer `labels`"),
        ({"labels": LABELS + 1}, "from 1 to 4"),
        ({"labels": LABELS - 1}, "from -1 to 2"),
    ],
)
def test_evaluate_rejects(change, message):
    arguments = {
        "logits": one_hot(PREDICTED),
        "labels": LABELS,
        "classes": COUNTS,
        **change,
    }
    with pytest.raises(ValueError, match=message):
        metrics.evaluate(**arguments)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: metrics.BalancedAccuracy(0), "num_classes=0"),
        (lambda: metrics.ConfusionMatrix(2.5), "num_classes=2.5"),
        (lambda: metrics.ExpectedCalibrationError(0), "num_bins=0"),
        (lambda: metrics.ShotAccuracy(COUNTS, "rare"), "group='rare'"),
        (
            lambda: metrics.ShotAccuracy(COUNTS, "few", average="micro"),
            "average='micro'",
        ),
        (
            lambda: metrics.BalancedAccuracy(3)(LABELS, one_hot(PREDICTED)),
            r"\(8, 4\)",
        ),
        (
            lambda: metrics.ExpectedCalibrationError()(LABELS, LABELS * 1.0),
            r"\(8,\)",
        ),
    ],
)
def test_metrics_reject(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_true_class_probabilities():
    logits = np.array([[0.0, 1.0, 2.0], [5.0, 5.0, 5.0], [0.0, -800.0, 90.0]])
    for label in range(3):
        shares = np.exp(logits[0]) / np.exp(logits[0]).sum()
        p, complements = metrics.true_class_probabilities(logits, [label] * 3)
        assert p.dtype == complements.dtype == np.float64
        np.testing.assert_allclose(p[:2], [shares[label], 1 / 3])
        np.testing.assert_allclose(complements[:2], 1 - p[:2])
    # What float64 can't tell from 1 is known by what it lacks.
    assert p[2] == 1.0
    np.testing.assert_allclose(complements[2], np.exp(-90.0))
    p, complements = metrics.true_class_probabilities(logits, [0, 1, 0])
    np.testing.assert_allclose(p[2], np.exp(-90.0))
    assert complements[2] == 1.0
