"""Second stages by name."""

from pathlib import Path

import keras
import numpy as np
import pytest
import second_stage

from keras_lt.datasets import from_arrays
from keras_lt.features import Features
from keras_lt.models import (
    TwoStage,
    classifier,
    nearest_class_mean,
    second_stages,
    tau_normalize,
)

CLASSES = 3


@pytest.fixture(scope="module")
def stage1():
    keras.utils.set_random_seed(0)
    images = keras.Input((4, 4, 1))
    features = keras.layers.Dense(5)(keras.layers.Flatten()(images))
    return classifier(keras.Model(images, features), CLASSES)


@pytest.fixture(scope="module")
def features():
    generator = np.random.default_rng(0)
    return Features(
        generator.normal(size=(9, 5)).astype("float32"), np.arange(9) % CLASSES
    )


def not_needed():
    raise AssertionError("these need no features")


def test_what_is_left_to_train(stage1):
    for spec, shapes in (
        ("crt", [(5, CLASSES), (CLASSES,)]),
        ("linear_probe(l2=0)", [(5, CLASSES), (CLASSES,)]),
        ("lws", [(CLASSES,)]),
        ("mislas", [(5, CLASSES), (CLASSES,), (CLASSES,)]),
    ):
        second = second_stages.get(spec)(stage1, not_needed, CLASSES)
        assert isinstance(second, TwoStage)
        assert [w.shape for w in second.head.trainable_weights] == shapes
        assert not second.features.trainable_weights


def test_mislas_goes_on_with_a_classifier(stage1, features):
    """Half the step of a classifier that learns as fast as the scales."""
    images = np.random.default_rng(1).random((6, 4, 4, 1))
    train = from_arrays(np.zeros((9, 4, 4, 1), "uint8"), features.labels)
    learning = second_stage.Learning(
        loss="label_aware_smoothing(head=0.27)",
        sampling="random",
        optimizer="sgd(weight_decay=0.1)",
        learning_rate="0.1",
        epochs=1,
        batch_size=9,
        steps_per_epoch=1,
    )
    moves = []
    for rate in (1.0, 0.5):
        make = second_stages.get(f"mislas(classifier_rate={rate})")
        second = make(stage1, not_needed, CLASSES)
        np.testing.assert_allclose(second(images), stage1(images), rtol=1e-5)
        before = second.head.get_weights()
        second_stage.fit_head(second, features, train, learning, seed=0)
        after = second.head.get_weights()
        moves.append([a - b for a, b in zip(after, before, strict=True)])
    kernel, bias, scales = range(3)
    for part, factor in ((kernel, 0.5), (bias, 0.5), (scales, 1.0)):
        assert np.abs(moves[0][part]).max() > 1e-3
        np.testing.assert_allclose(
            moves[1][part], factor * moves[0][part], rtol=1e-3, atol=1e-6
        )


def test_regularization_of_a_new_classifier(stage1):
    for spec, factor in (("crt", 0), ("crt(l2=0.3)", 0.3)):
        second = second_stages.get(spec)(stage1, not_needed, CLASSES)
        norm = sum(float(np.square(w).sum()) for w in second.head.get_weights())
        np.testing.assert_allclose(
            float(sum(second.head.losses)), factor * norm, rtol=1e-6
        )


@pytest.mark.parametrize(
    "spec, wanted",
    [
        ("tau(0.7)", lambda m, f: tau_normalize(m, 0.7)),
        ("tau", lambda m, f: tau_normalize(m, 1.0)),
        ("ncm", lambda m, f: nearest_class_mean(m, f, CLASSES)),
        (
            "ncm('none',similarity='dot')",
            lambda m, f: nearest_class_mean(
                m, f, CLASSES, normalization="none", similarity="dot"
            ),
        ),
    ],
)
def test_finished_ones(spec, wanted, stage1, features):
    extract = (lambda: features) if spec.startswith("ncm") else not_needed
    images = np.random.default_rng(1).normal(size=(6, 4, 4, 1))
    made = second_stages.get(spec)(stage1, extract, CLASSES)
    np.testing.assert_array_equal(
        made(images), wanted(stage1, features)(images)
    )


def test_scales_of_class_means(stage1, features):
    """A classifier without weights of its own can be scaled too."""
    ncm = second_stages.get("ncm")(stage1, lambda: features, CLASSES)
    second = second_stages.get("lws")(ncm, not_needed, CLASSES)
    images = np.random.default_rng(1).normal(size=(6, 4, 4, 1))
    np.testing.assert_allclose(second(images), ncm(images), rtol=1e-5)
    assert [w.shape for w in second.head.trainable_weights] == [(CLASSES,)]


def mine(scale: float = 1.0):
    """A user's own second stage."""
    return lambda model, extract, num_classes: (model, scale, num_classes)


def test_own_one(stage1, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    stage = second_stages.get("test_second_stages:mine(scale=2)")
    assert stage(stage1, not_needed, CLASSES) == (stage1, 2, CLASSES)
    assert second_stages.get(stage) is stage


@pytest.mark.parametrize(
    "spec, message",
    [
        (
            "ctr",
            "one of crt, lws, mislas, tau, .* Did you mean crt",
        ),
        ("tau(-1)", "tau >= 0. Received: tau=-1"),
        ("lws(2)", "takes no arguments"),
        ("crt(tau=1)", "no argument tau.*takes l2"),
    ],
)
def test_errors(spec, message):
    with pytest.raises(ValueError, match=f"Expected .*{message}"):
        second_stages.get(spec)
