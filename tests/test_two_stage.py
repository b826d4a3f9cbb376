"""Second stages, those in closed form on the authors' numbers."""

import keras
import numpy as np
import pytest
from golden import load_cases, report_cases

from keras_lt import datasets, export, features, streams
from keras_lt.features import Features
from keras_lt.layers import CosineClassifier, NearestClassMean
from keras_lt.models import (
    TwoStage,
    backbones,
    classifier,
    feature_model,
    nearest_class_mean,
    tau_normalize,
)

BATCHES = {"batch_size": 16, "seed": 0}
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def identity(dim):
    inputs = keras.Input((dim,))
    return keras.Model(inputs, keras.layers.Identity()(inputs))


@pytest.mark.golden
def test_golden_tau_normalize():
    cases = load_cases("tau_norm")
    for name, case in cases:
        classes, dim = case["weight"].shape
        model = classifier(identity(dim), classes)
        model.set_weights([case["weight"].T, case["bias"]])
        for row, tau in enumerate(case["taus"]):
            normalized = tau_normalize(model, float(tau))
            logits = np.asarray(normalized(case["features"]))
            want = case["tau_logits"][row]
            error = np.abs(logits - want).max()
            assert error <= 1e-5 * np.abs(want).max(), (name, tau)
            predicted = logits.argmax(axis=1)
            np.testing.assert_array_equal(predicted, case["tau_preds"][row])
    report_cases("tau_norm", cases)


@pytest.mark.golden
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_golden_nearest_class_mean(dtype):
    cases = load_cases("cosine_classifier")
    for name, case in cases:
        labels = case["ncm_train_labels"]
        for key, normalization in {
            "un": "none",
            "l2n": "l2",
            "cl2n": "centered_l2",
        }.items():
            for mode, similarity in {"l2": "euclidean", "cos": "dot"}.items():
                layer = NearestClassMean(
                    labels.max() + 1, normalization, similarity, dtype=dtype
                )
                layer.adapt(case["ncm_train_features"], labels)
                np.testing.assert_allclose(
                    layer.class_means,
                    case[f"ncm_centroids_{key}"],
                    rtol=1e-9 if dtype == "float64" else 1e-5,
                    atol=1e-12 if dtype == "float64" else 1e-6,
                )
                got = np.asarray(layer(case["features"]))
                want = case[f"ncm_logits_{key}_{mode}"]
                if dtype == "float64":
                    np.testing.assert_allclose(got, want, 1e-9, 1e-9)
                    continue
                # The terms of a squared distance cancel in float32.
                terms = np.abs(want).max(axis=1, keepdims=True)
                if (key, mode) == ("un", "l2"):
                    terms = terms + np.square(case["features"]).sum(
                        axis=1, keepdims=True
                    )
                assert (np.abs(got - want) <= 1e-5 * terms + 1e-6).all(), name
    if dtype == "float64":
        report_cases("cosine_classifier", cases)


def test_nearest_class_mean_as_a_model(tmp_path):
    train = Features(
        np.array([[0.0, 0], [2, 0], [0, 8]], "float32"), np.array([0, 0, 2])
    )
    model = classifier(identity(2), 4)
    ncm = nearest_class_mean(model, train, 4, normalization="none")
    # Means (1, 0) and (0, 8); classes 1 and 3 have no features.
    logits = np.asarray(ncm(np.array([[1.0, 1.0]])))
    np.testing.assert_allclose(logits, [[-1, -51, -50, -51]], rtol=1e-6)
    ncm.save(tmp_path / "ncm.keras")
    loaded = keras.saving.load_model(tmp_path / "ncm.keras")
    np.testing.assert_array_equal(loaded(np.ones((1, 2))), logits)


def test_closed_forms_are_exported(stage1, tmp_path):
    cached = features.extract(stage1, DATA)
    for name, model in {
        "ncm": nearest_class_mean(stage1, cached, 3),
        "tau": tau_normalize(stage1),
    }.items():
        export.save(model, tmp_path / name, IMAGES)


def test_tau_normalize_of_a_zero_weight():
    model = classifier(identity(2), 2)
    model.set_weights([np.array([[3.0, 0], [4, 0]]), np.array([5.0, 6])])
    got = tau_normalize(model, 1.0)(np.array([[1.0, 1.0]]))
    np.testing.assert_allclose(got, [[7 / 5, 0]], rtol=1e-6)


LABELS = np.repeat([0, 1, 2], [40, 16, 8])
IMAGES = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 3), "uint8")
DATA = datasets.from_arrays(IMAGES, LABELS, "abc")


@pytest.fixture(scope="module")
def stage1():
    keras.utils.set_random_seed(0)
    base = backbones.cifar_resnet(8, input_shape=(8, 8, 3))
    model = classifier(base, 3)
    model.compile("sgd", LOSS)
    model.fit(IMAGES, LABELS, verbose=0)
    return model


def fit(model, batches):
    model.compile(keras.optimizers.SGD(0.5), LOSS)
    model.fit(batches, steps_per_epoch=3, epochs=2, shuffle=False, verbose=0)


def differ(before, after):
    return [bool((a != b).any()) for a, b in zip(before, after, strict=True)]


@pytest.mark.parametrize("make", [lambda m: TwoStage.crt(m, 3), TwoStage.lws])
def test_only_the_head_learns(make, stage1):
    before = stage1.get_weights()
    model = make(stage1)
    frozen, head = model.features.get_weights(), model.head.get_weights()
    fit(model, streams.stream(DATA, sampling="class_balanced", **BATCHES))
    assert not any(differ(before, stage1.get_weights()))
    assert not any(differ(frozen, model.features.get_weights()))
    learned = {len(w.shape) for w in model.trainable_variables}
    changed = differ(head, model.head.get_weights())
    assert any(changed) and sum(changed) == len(learned)


def test_learning_on_cached_features_is_the_same(stage1):
    on_images, on_features = (TwoStage.crt(stage1, 3) for _ in range(2))
    on_features.set_weights(on_images.get_weights())
    arguments = {"sampling": "class_balanced", **BATCHES}
    fit(on_images, streams.stream(DATA, **arguments))
    cached = features.extract(stage1, DATA)
    fit(on_features.head, features.stream(cached, 3, **arguments))
    np.testing.assert_allclose(
        on_images(IMAGES), on_features(IMAGES), rtol=1e-4, atol=1e-5
    )


def test_lws_starts_as_the_first_stage(stage1):
    model = TwoStage.lws(stage1)
    np.testing.assert_allclose(model(IMAGES), stage1(IMAGES), 1e-5, 1e-6)
    assert [w.name for w in model.trainable_variables] == ["scales"]


def test_without_freezing_all_learns_but_the_first_stage(stage1):
    before = stage1.get_weights()
    model = TwoStage.crt(stage1, 3, freeze=False)
    copy = model.features.get_weights()
    fit(model, streams.stream(DATA, sampling="random", **BATCHES))
    assert not any(differ(before, stage1.get_weights()))
    assert all(differ(copy, model.features.get_weights()))


def test_two_stage_of_a_layer_of_a_users_model():
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, name="maps")(inputs)
    x = keras.layers.Flatten()(keras.layers.ReLU()(x))
    model = keras.Model(inputs, keras.layers.Dense(7)(x))
    second = TwoStage.crt(model, 3, layer="maps")
    assert second.head.input_shape == (None, 4)
    assert second(IMAGES.astype("float32")).shape == (64, 3)


@pytest.mark.parametrize("make", [lambda m: TwoStage.crt(m, 3), TwoStage.lws])
def test_two_stage_saves(make, stage1, tmp_path):
    model = make(stage1)
    fit(model, streams.stream(DATA, sampling="random", **BATCHES))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(IMAGES), model(IMAGES))
    assert len(loaded.trainable_variables) == len(model.trainable_variables)
    export.save(model, tmp_path / "saved_model", IMAGES)


def test_errors():
    model = classifier(identity(2), 3)
    with pytest.raises(ValueError, match=r"Expected tau .* Received: tau=-1"):
        tau_normalize(model, -1)
    cosine = classifier(identity(2), 3, head=CosineClassifier(3))
    with pytest.raises(ValueError, match=r"Expected a model .* Received: "):
        tau_normalize(cosine)
    wide = Features(np.ones((2, 5)), np.zeros(2, int))
    with pytest.raises(ValueError, match=r"Expected features \(N, 2\)"):
        nearest_class_mean(model, wide, 3)
    outside = Features(np.ones((2, 2)), np.array([0, 3]))
    with pytest.raises(ValueError, match=r"Expected features .* Received: "):
        nearest_class_mean(model, outside, 3)


def dense_model(dtype=None):
    """Weights that integers of 8 and 4 bits can only approach."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(5, activation="relu", dtype=dtype),
            keras.layers.Dense(4, activation="softmax", dtype=dtype),
        ]
    )
    model.layers[-1].bias.assign([0.5, -0.5, 0.25, 0.0])
    return model


def changed(kind):
    """The model, the features that it computes, and its last layer's kernel."""
    model = dense_model()
    head = model.layers[-1]
    kernel = head.get_weights()[0]
    if kind == "lora":
        head.enable_lora(2)
        low_rank = np.arange(8, dtype="float32").reshape(2, 4)
        head.lora_kernel_b.assign(low_rank)
        kernel = kernel + np.asarray(head.lora_kernel_a) @ low_rank
        return model, kernel, 1e-6
    head.quantize(kind)
    # Half a step of the integers, of which there are 2^bits.
    bits = {"int8": 8, "int4": 4}.get(kind, 23)
    return model, kernel, np.abs(kernel).max() / (2 ** (bits - 1) - 1)


@pytest.mark.parametrize("kind", ["int8", "int4", "float8", "lora"])
def test_kernels_that_stand_for_others(kind):
    model, kernel, error = changed(kind)
    found = feature_model(model)(np.eye(6, dtype="float32"))
    normalized = tau_normalize(model, 1.0)
    (got,) = normalized.layers[-1].get_weights()
    wanted = kernel / np.linalg.norm(kernel, axis=0)
    lengths = np.linalg.norm(kernel, axis=0).min()
    np.testing.assert_allclose(got, wanted, atol=3 * error / lengths)
    if kind == "float8":
        with pytest.raises(ValueError, match=r"int8 or int4\. Rec.*float8"):
            TwoStage.lws(model)
        return
    second = TwoStage.lws(model)
    shares = keras.ops.softmax(second(np.eye(6, dtype="float32")))
    np.testing.assert_allclose(
        shares, model(np.eye(6, dtype="float32")), atol=1e-5
    )
    crt = TwoStage.crt(model, 4)
    np.testing.assert_allclose(
        crt.features(np.eye(6, dtype="float32")), found, atol=1e-6
    )


@pytest.mark.parametrize("kind", ["int8", "int4", "float8", "lora"])
def test_features_that_stand_for_others(kind):
    model = dense_model()
    layer = model.layers[0]
    if kind == "lora":
        layer.enable_lora(2)
        layer.lora_kernel_b.assign(np.ones((2, 5)))
    else:
        layer.quantize(kind)
    if kind == "float8":
        with pytest.raises(ValueError, match=r"Expected features .*Received"):
            TwoStage.crt(model, 4)
        return
    images = np.eye(6, dtype="float32")
    wanted = feature_model(model)(images)
    np.testing.assert_allclose(
        TwoStage.crt(model, 4).features(images), wanted, atol=1e-6
    )


def test_weights_of_a_quantized_model_are_no_others(tmp_path):
    model = dense_model()
    model.quantize("int8")
    model.save(tmp_path / "model.keras")
    backbone = feature_model(dense_model())
    before = backbone.get_weights()
    with pytest.raises(ValueError, match=r"Expected a model with the backbone"):
        backbones.load_weights(backbone, tmp_path / "model.keras")
    np.testing.assert_array_equal(backbone.get_weights()[0], before[0])
