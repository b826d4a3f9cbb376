"""SavedModels in a process that has TensorFlow only; models for LiteRT."""

import re
import subprocess
import sys

import keras
import networks
import numpy as np
import pytest
import tensorflow as tf

from keras_lt import export
from keras_lt.layers import LogitAdjustment
from keras_lt.models import (
    DLSA,
    DualBranch,
    TwoStage,
    classifier,
    stack,
)
from keras_lt.models.dlsa import ClassifierSettings, FlowSettings
from keras_lt.structure import feature_model

NAMES = ["ant", "bee", "cat", "dög", "eel", "fox"]
COUNTS = [900, 100, 40, 9, 3, 0]
PRIOR = np.array([0.0, 1, 1, 2, 4, 2], "float32")
SERVE = """
import sys
import numpy as np
import tensorflow as tf

before = set(sys.modules)  # TensorFlow imports some of Keras by itself
given = dict(np.load("given.npz"))
loaded = tf.saved_model.load("saved_model").signatures
files = [tf.io.encode_png(image) for image in given["images"]]
served = {
    "serving_default": loaded["serving_default"](images=given["images"]),
    "larger": loaded["serving_default"](images=given["larger"]),
    "serve_float": loaded["serve_float"](
        images=given["images"].astype("float32")
    ),
    "serve_bytes": loaded["serve_bytes"](images=tf.stack(files)),
    "serve_prior": loaded["serve_prior"](
        images=given["images"], prior=given["prior"]
    ),
    "features": loaded["features"](images=given["images"]),
}
late = {name.split(".")[0] for name in set(sys.modules) - before}
assert not {"keras", "keras_lt"} & late
np.savez(
    "served.npz",
    **{
        f"{name}/{key}": np.char.decode(value.numpy().astype("S"), "utf-8")
        if key == "classes"
        else value.numpy()
        for name, outputs in served.items()
        for key, value in outputs.items()
    },
)
"""


def images(size=5):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (size, 8, 8, 3), "uint8")


def small_model():
    """With statistics and weights that are not the initial ones."""
    keras.utils.set_random_seed(0)
    model = classifier(networks.convolutional(), 6)
    for seed in range(3):
        model(np.roll(images(), seed, 0), training=True)
    return model


def small_dlsa():
    dlsa = DLSA(6, features_dim=64, num_clusters=4)
    features = np.random.default_rng(0).normal(size=(60, 64))
    dlsa.fit_features(
        features.astype("float32"),
        np.arange(60) % 6,
        flow=FlowSettings(epochs=1),
        classifier=ClassifierSettings(epochs=1),
        verbose=0,
    )
    return dlsa


@pytest.fixture(scope="module")
def model():
    return small_model()


def softmax(logits):
    exponents = np.exp(logits - logits.max(1, keepdims=True))
    return exponents / exponents.sum(1, keepdims=True)


def close(got, want):
    np.testing.assert_allclose(got, want, 1e-5, 1e-5 * np.abs(want).max())


def test_serves_without_keras(model, tmp_path):
    export.save(
        model,
        tmp_path / "saved_model",
        images(),
        class_names=NAMES,
        class_counts=COUNTS,
    )
    doubled = images(3).repeat(16, 1).repeat(16, 2)
    np.savez(
        tmp_path / "given.npz", images=images(3), larger=doubled, prior=PRIOR
    )
    subprocess.run(
        [sys.executable, "-c", SERVE],
        cwd=tmp_path,
        check=True,
        timeout=120,
        env={"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
    )
    served = np.load(tmp_path / "served.npz")
    logits = np.asarray(model(images(3), training=False))
    order = np.argsort(-logits, axis=1)[:, :5]
    for name in ("serving_default", "serve_float", "serve_bytes"):
        close(served[f"{name}/logits"], logits)
        close(served[f"{name}/probabilities"], softmax(logits))
        classes = served[f"{name}/classes"]
        np.testing.assert_array_equal(classes, np.array(NAMES)[order])
    # x + log q - log(n + 1e-6), and no chance for the class with q = 0.
    wanted = logits[:, 1:] + np.log(PRIOR[1:] / 10)
    wanted -= np.log(np.array(COUNTS[1:]) + 1e-6)
    close(served["serve_prior/logits"][:, 1:], wanted)
    close(served["serve_prior/probabilities"][:, 1:], softmax(wanted))
    assert not served["serve_prior/probabilities"][:, 0].any()
    assert np.isfinite(served["serve_prior/logits"]).all()
    close(served["features/features"], feature_model(model)(images(3)))
    assert served["larger/logits"].shape == (3, 6)
    labels = (tmp_path / "saved_model" / "labels.txt").read_text("utf-8")
    assert labels.splitlines() == NAMES
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "given.npz",
        "saved_model",
        "served.npz",
    ]


KINDS = {
    "dual_branch": lambda model: DualBranch(networks.convolutional(), 6),
    "crt": lambda model: TwoStage.crt(model, 6),
    "lws": TwoStage.lws,
    "dlsa": lambda model: stack(model, small_dlsa()),
}


@pytest.mark.parametrize("kind", KINDS)
def test_models_of_all_kinds(model, kind, tmp_path):
    model = KINDS[kind](model)
    export.save(model, tmp_path / "saved_model", images())
    loaded = tf.saved_model.load(tmp_path / "saved_model").signatures
    assert set(loaded) == {
        "serving_default",
        "serve_float",
        "serve_bytes",
        "features",
    }
    served = loaded["serving_default"](images=images())
    close(served["logits"], model(images(), training=False))
    assert served["classes"][0, 0] in list(map(str, range(6)))


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy, tmp_path):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = small_model()
    finally:
        keras.config.set_dtype_policy(before)
    export.save(model, tmp_path / "saved_model", images(), class_counts=COUNTS)
    loaded = tf.saved_model.load(tmp_path / "saved_model").signatures
    for signature in loaded.values():
        for name, output in signature.structured_outputs.items():
            wanted = tf.string if name == "classes" else tf.float32
            assert output.dtype == wanted
    with pytest.raises(ValueError, match=r"Expected .* float32.* Received: "):
        export.save_litert(model, tmp_path / "model.tflite")


def float_model(channels):
    inputs = keras.Input((8, 8, channels))
    outputs = keras.layers.Dense(6)(keras.layers.Flatten()(inputs))
    return keras.Model(inputs, outputs)


def test_floats_are_rounded_for_models_of_integers_alone(model, tmp_path):
    floats = images() - np.float32(0.3)
    for name, each, wanted in (
        ("integers", model, model(images(), training=False)),
        ("floats", float_model(3), None),
    ):
        export.save(each, tmp_path / name, images())
        loaded = tf.saved_model.load(tmp_path / name).signatures
        served = loaded["serve_float"](images=floats)["logits"]
        close(served, each(floats) if wanted is None else wanted)


def test_bytes_of_several_sizes_and_modes(tmp_path):
    """Gray and JPEG files of other sizes, for a model of two channels none."""
    model = float_model(1)
    export.save(model, tmp_path / "gray", images()[..., :1])
    loaded = tf.saved_model.load(tmp_path / "gray").signatures
    encoded = [
        tf.io.encode_png(images()[0, ..., :1]).numpy(),
        tf.io.encode_jpeg(np.full((24, 9, 3), 77, "uint8")).numpy(),
        tf.io.encode_png(np.full((6, 7, 1), 77, "uint8")).numpy(),
    ]
    served = loaded["serve_bytes"](images=tf.constant(encoded))["logits"]
    gray = np.full((2, 8, 8, 1), 77, "uint8")
    seen = np.concatenate([images(1)[..., :1], gray])
    close(served, model(seen))
    export.save(float_model(2), tmp_path / "two", images()[..., :2])
    loaded = tf.saved_model.load(tmp_path / "two").signatures
    assert "serve_bytes" not in loaded


def test_prior_at_export_and_at_request(model, tmp_path):
    export.save(
        model,
        tmp_path / "saved_model",
        images(),
        class_counts=COUNTS,
        prior=PRIOR,
    )
    loaded = tf.saved_model.load(tmp_path / "saved_model").signatures
    baked = loaded["serving_default"](images=images())
    asked = loaded["serve_prior"](images=images(), prior=PRIOR)
    close(baked["probabilities"], asked["probabilities"])
    # The request's prior is in place of that of the export.
    uniform = loaded["serve_prior"](images=images(), prior=np.ones(6, "f"))
    adjusted = LogitAdjustment(COUNTS)(model(images(), training=False))
    close(uniform["probabilities"], tf.nn.softmax(adjusted))
    for wrong in ([-1, 1, 1, 1, 1, 1], [0] * 6, [np.nan, 1, 1, 1, 1, 1]):
        with pytest.raises(tf.errors.InvalidArgumentError, match="Expected a"):
            loaded["serve_prior"](
                images=images(), prior=np.array(wrong, "float32")
            )


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"class_names": ["a", "b"]}, "names of 6 classes"),
        (
            {"class_names": ["a", "b", "c", "d", "e", "f\ng"]},
            "without line breaks",
        ),
        ({"class_names": ["a", "b", "c", "d", "e", ""]}, "without line breaks"),
        ({"class_names": list("abcdee")}, "without repetition"),
        ({"class_names": list("abcdefg")}, "names of 6 classes"),
        ({"class_counts": [1, 2]}, "Expected the counts of 6 classes"),
        ({"class_counts": [-1] * 6}, "Expected finite class frequencies"),
        ({"prior": PRIOR}, "Expected class_counts with prior"),
        ({"class_counts": COUNTS, "prior": [1]}, "Expected prior of 6"),
        ({"class_counts": COUNTS, "prior": [0] * 6}, "Expected prior of 6"),
        ({"class_counts": COUNTS, "prior": list("abcdef")}, "Expected prior"),
        ({"layer": "none"}, "Expected the name of a layer"),
    ],
)
def test_bad_arguments(model, tmp_path, arguments, message):
    with pytest.raises(ValueError, match=rf"{message}.*Received: "):
        export.save(model, tmp_path / "saved_model", **arguments)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("shape", [(4,), (None, None, 3)])
def test_other_models_are_refused(shape, tmp_path):
    inputs = keras.Input(shape)
    model = keras.Model(inputs, keras.layers.Dense(6)(inputs))
    for write in (export.save, export.save_litert):
        with pytest.raises(ValueError, match=r"Expected a model .* Received: "):
            write(model, tmp_path / "model")


@pytest.fixture(scope="module")
def signatures(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("signatures") / "saved_model"
    export.save(model, path, class_names=NAMES, class_counts=COUNTS)
    return tf.saved_model.load(path).signatures


def with_pixel(value):
    floats = images(2).astype("float32")
    floats[1, 2, 3, 0] = value
    return floats


ENCODED = tf.io.encode_png(images(1)[0]).numpy()
SIZE = r"images of shape \(B, 8, 8, 3\)\. Received: shape\] \[{}\]"
ANY_SIZE = r"images of shape \(B, H, W, 3\)\. Received: shape\] \[{}\]"
PRIOR_SHAPE = r"a prior of shape \(6\)\. Received: shape\] \[{}\]"
SHARES = "a prior of shares of at least 0, one of them above"


@pytest.mark.parametrize(
    "name, inputs, message",
    [
        ("serve_float", np.ones((1, 9, 9, 3), "f"), SIZE.format("1 9 9 3")),
        ("serve_float", np.ones((1, 8, 8, 1), "f"), SIZE.format("1 8 8 1")),
        ("serve_float", np.ones((8, 8, 3), "f"), SIZE.format("8 8 3")),
        ("serve_float", np.ones((1, 1, 8, 8, 3), "f"), "Expected images"),
        ("serve_float", with_pixel(np.nan), "Expected pixels from 0 to 255"),
        ("serve_float", with_pixel(np.inf), "Expected pixels from 0 to 255"),
        ("serve_float", with_pixel(-2.0), "Expected pixels from 0 to 255"),
        ("serve_float", with_pixel(3e3), "Expected pixels from 0 to 255"),
        ("serving_default", images(1)[0], ANY_SIZE.format("8 8 3")),
        ("serving_default", images()[..., :1], ANY_SIZE.format("5 8 8 1")),
        ("serving_default", images()[:, :0], ANY_SIZE.format("5 0 8 3")),
        ("features", images(1)[0], ANY_SIZE.format("8 8 3")),
        ("serve_bytes", np.array(ENCODED, object), "Expected images of shape"),
        ("serve_bytes", np.array([[ENCODED]], object), "Expected images of sh"),
        ("serve_prior", [1.0], PRIOR_SHAPE.format("1")),
        ("serve_prior", 1.0, PRIOR_SHAPE.format("")),
        ("serve_prior", np.ones((1, 6)), PRIOR_SHAPE.format("1 6")),
        ("serve_prior", np.ones((6, 1)), PRIOR_SHAPE.format("6 1")),
        ("serve_prior", np.ones(7), PRIOR_SHAPE.format("7")),
        ("serve_prior", [-1, 1, 1, 1, 1, 1], SHARES),
        ("serve_prior", [np.nan, 1, 1, 1, 1, 1], SHARES),
        ("serve_prior", [np.inf, 1, 1, 1, 1, 1], SHARES),
        ("serve_prior", [0] * 6, SHARES),
    ],
)
def test_inputs_are_held_to_their_specs(signatures, name, inputs, message):
    arguments = {"images": tf.constant(inputs)}
    if name == "serve_prior":
        arguments = {
            "images": tf.constant(images(1)),
            "prior": tf.constant(inputs, tf.float32),
        }
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        signatures[name](**arguments)


def test_legal_inputs_at_the_ends_of_their_ranges(signatures, model):
    uniform = signatures["serve_prior"](
        images=tf.constant(images()), prior=np.ones(6, "float32")
    )
    for share in (3e38, 1e-37):
        served = signatures["serve_prior"](
            images=tf.constant(images()), prior=np.full(6, share, "float32")
        )
        close(served["logits"], uniform["logits"])
    floats = images().astype("float32")
    floats[0, 0, 0], floats[0, 0, 1] = 0, 255
    served = signatures["serve_float"](images=tf.constant(floats))
    close(served["logits"], model(floats.astype("uint8"), training=False))


def test_batches_without_images(signatures):
    none = np.zeros((0, 8, 8, 3), "uint8")
    prior = np.ones(6, "float32")
    for name, arguments in {
        "serving_default": {"images": none},
        "serve_float": {"images": none.astype("float32")},
        "serve_bytes": {"images": tf.zeros(0, tf.string)},
        "serve_prior": {"images": none, "prior": prior},
    }.items():
        served = signatures[name](
            **{key: tf.constant(value) for key, value in arguments.items()}
        )
        assert served["logits"].shape == (0, 6)
        assert served["classes"].shape == (0, 5)
    assert signatures["features"](images=none)["features"].shape == (0, 64)


def test_damaged_files_do_not_hurt_the_others(signatures):
    good = [tf.io.encode_png(image).numpy() for image in images(2)]
    wanted = signatures["serve_bytes"](images=tf.constant(good))
    bad = [b"not an image", b"", good[0][:60]]
    mixed = [bad[0], good[0], bad[1], bad[2], good[1]]
    served = signatures["serve_bytes"](images=tf.constant(mixed))
    for name, values in served.items():
        np.testing.assert_array_equal(
            tf.gather(values, [1, 4]), wanted[name], err_msg=name
        )
        missing = tf.gather(values, [0, 2, 3]).numpy()
        if name == "classes":
            assert (missing == b"").all()
        else:
            assert np.isnan(missing).all()
    served = signatures["serve_bytes"](images=tf.constant(bad))
    assert np.isnan(served["probabilities"]).all()


@pytest.mark.parametrize("write", [export.save, export.save_litert])
@pytest.mark.parametrize("kind", ["folder", "file"])
def test_refuses_a_path_that_exists(model, tmp_path, kind, write):
    path = tmp_path / "saved_model"
    if kind == "folder":
        path.mkdir()
    else:
        path.write_text("mine")
    with pytest.raises(FileExistsError, match=r"Expected .* Received: path="):
        write(model, path)
    assert list(tmp_path.iterdir()) == [path]
    assert kind == "folder" or path.read_text() == "mine"


@pytest.mark.parametrize(
    "signature, error",
    [
        ("serving_default", 0.01),
        ("serving_default", np.nan),
        ("serve_float", 0.01),
        ("serve_bytes", 0.01),
        ("serve_prior", 0.01),
        ("features", 0.01),
    ],
)
def test_refuses_other_outputs(model, tmp_path, monkeypatch, signature, error):
    load = tf.saved_model.load

    class Wrong:
        def __init__(self, path):
            self.signatures = dict(load(path).signatures)
            right = self.signatures[signature]

            def wrong(**arguments):
                served = dict(right(**arguments))
                key = "features" if signature == "features" else "logits"
                values = np.array(served[key])
                values[-1, -1] += error * np.abs(values).max()
                return served | {key: values}

            self.signatures[signature] = wrong

    monkeypatch.setattr(tf.saved_model, "load", Wrong)
    path = tmp_path / "saved_model"
    with pytest.raises(ValueError, match=rf"{signature} .* Received: a diff"):
        export.save(model, path, images(), class_counts=COUNTS)
    assert not list(tmp_path.iterdir())


def test_nothing_at_the_path_until_it_is_whole(model, tmp_path, monkeypatch):
    def killed(module, path, **kwargs):
        path.mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(tf.saved_model, "save", killed)
    path = tmp_path / "saved_model"
    with pytest.raises(KeyboardInterrupt):
        export.save(model, path)
    assert not path.exists()


@pytest.mark.parametrize("kind", ["single", "dlsa"])
def test_litert(model, kind, tmp_path):
    if kind == "dlsa":
        model = KINDS[kind](model)
    export.save_litert(model, tmp_path / "model.tflite", images())
    interpreter = tf.lite.Interpreter(str(tmp_path / "model.tflite"))
    serve = interpreter.get_signature_runner("serving_default")
    logits = np.asarray(model(images(3), training=False))
    served = serve(images=images(3))
    close(served["logits"], logits)
    close(served["probabilities"], softmax(logits))
    assert [p.name for p in tmp_path.iterdir()] == ["model.tflite"]


def test_litert_refuses_other_outputs(model, tmp_path, monkeypatch):
    interpreter = tf.lite.Interpreter

    class Reversed(interpreter):
        def get_signature_runner(self, name):
            right = super().get_signature_runner(name)
            return lambda images: right(images=images[::-1])

    monkeypatch.setattr(tf.lite, "Interpreter", Reversed)
    with pytest.raises(ValueError, match=r"the LiteRT .* Received: a diff"):
        export.save_litert(model, tmp_path / "model.tflite", images())
    assert not list(tmp_path.iterdir())


def test_litert_where_it_can_not_be(model, tmp_path, monkeypatch):
    inputs = keras.Input((8, 8, 3), dtype="uint8")
    odd = keras.ops.bitwise_and(inputs, np.array(3, "uint8"))
    logits = keras.layers.Dense(6)(keras.layers.Flatten()(odd))
    path = tmp_path / "model.tflite"
    with pytest.raises(ValueError, match=r"converter can take.*\n?.*Received"):
        export.save_litert(keras.Model(inputs, logits), path)
    monkeypatch.delattr(tf.lite, "TFLiteConverter")
    message = f"tf.lite.TFLiteConverter. Received: TensorFlow {tf.__version__}"
    with pytest.raises(ValueError, match=re.escape(message)):
        export.save_litert(model, path)
    assert not list(tmp_path.iterdir())
