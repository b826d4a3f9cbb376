"""Heads by name, and what they start from."""

import keras
import numpy as np
import pytest

from keras_lt import layers, losses
from keras_lt.models import heads

# Two classes around directions that are easy to tell by hand, and one without.
FEATURES = np.array([[3.0, 4.0], [4.0, 3.0], [0.0, 2.0]], "float32")
LABELS = np.array([0, 0, 1])
LOSS = losses.BalancedSoftmax([2, 1, 0])


def begun(spec, loss=LOSS):
    head = heads.get(spec)
    layer, loss = head(loss, 3)
    layer.build((None, 2))
    head.begin(layer, FEATURES, LABELS)
    return layer, loss


def test_cosine_starts_from_mean_directions():
    layer, _ = begun("cosine(scale=10)")
    assert isinstance(layer, layers.CosineClassifier)
    # (0.6, 0.8) and (0.8, 0.6) on average, at length 1; a class without
    # features has no direction, and so the logit 0.
    side = np.sqrt(0.5)
    want = [[side, 0, 0], [side, 1, 0]]
    np.testing.assert_allclose(layer.kernel, want, atol=1e-6)
    found = layer(np.array([[1.0, 0.0], [0.0, 5.0]]))
    want = [[10 * side, 0, 0], [10 * side, 10, 0]]
    np.testing.assert_allclose(found, want, atol=1e-5)


def test_centered_cosine():
    layer, _ = begun("cosine(scale=1,centered=True)")
    center = FEATURES.mean(axis=0)
    np.testing.assert_allclose(layer.center, center, rtol=1e-6)
    rows = FEATURES - center
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    means = np.stack([rows[:2].mean(axis=0), rows[2]])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    want = np.c_[rows @ means.T, np.zeros(3)]
    np.testing.assert_allclose(layer(FEATURES), want, atol=1e-5)
    np.testing.assert_array_equal(layer(center[None]), np.zeros((1, 3)))
    assert [w.name for w in layer.trainable_weights] == ["kernel"]


def test_linear_starts_from_mean_directions():
    """Its logits are lengths along them, counted from the center."""
    layer, _ = begun("linear(start='class_means')")
    cosine, _ = begun("cosine(scale=1,centered=True)")
    offset = np.linalg.norm(FEATURES - FEATURES.mean(0), axis=1)[:, None]
    np.testing.assert_allclose(
        layer(FEATURES), cosine(FEATURES) * offset, atol=1e-5
    )


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_starts_from_texts(name):
    head = heads.get(f"{name}(start='text',prompt='one {{}}, or two {{}}s')")
    assert head.prompts(["sea_lion"]) == ["one sea lion, or two sea lions"]
    layer, _ = head(LOSS, 3)
    layer.build((None, 2))
    head.begin_at(layer, np.array([[3.0, 4.0], [0.0, 2.0], [0.0, 0.0]]))
    scale = 25 / np.linalg.norm(FEATURES, axis=1) if name == "cosine" else 1
    want = FEATURES @ [[0.6, 0, 0], [0.8, 1, 0]] * np.reshape(scale, (-1, 1))
    np.testing.assert_allclose(layer(FEATURES), want, rtol=1e-5)


def test_scale_can_be_learned(tmp_path):
    layer, loss = begun("cosine(scale=2,learnable=True)")
    model = keras.Sequential([keras.Input((2,)), layer])
    model.compile(keras.optimizers.SGD(0.5), loss)
    model.fit(FEATURES, LABELS, verbose=0, epochs=3)
    assert float(layer.learned_scale) > 2.0
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(FEATURES), model(FEATURES))


def test_margins_are_scaled_with_the_cosines():
    _, loss = begun("cosine(scale=10)", losses.LDAM([2, 1, 1], max_margin=0.5))
    assert (loss.max_margin, loss.scale) == (5.0, 1.0)


def test_users_layer():
    layer = keras.layers.Dense(3)
    assert heads.get(layer)(LOSS, 3, l2=0.0, name="logits") == (layer, LOSS)


@pytest.mark.parametrize(
    "spec, message",
    [
        ("cosine(start='texts')", "one of .*'text'.*'texts'"),
        ("linear(start='text',prompt='a photo')", "{} for the name of a class"),
        ("cosine(start='text',centered=True)", "start='class_means'.*'text'"),
        ("cosine(scale=0)", "scale > 0"),
        ("cosine(start='random',centered=True)", "start='class_means'"),
        ("cosin", "Did you mean cosine"),
    ],
)
def test_wrong_heads_are_refused(spec, message):
    with pytest.raises(ValueError, match=message):
        heads.get(spec)
