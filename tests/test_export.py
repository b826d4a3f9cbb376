"""SavedModels in a process that has TensorFlow only."""

import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_lt import export
from keras_lt.models import backbones, classifier

SERVE = """
import sys
import numpy as np
import tensorflow as tf

before = set(sys.modules)  # TensorFlow imports some of Keras by itself
images = np.load("images.npy")
loaded = tf.saved_model.load("saved_model")
logits = loaded.serve(images).numpy()
signature = loaded.signatures["serving_default"]
(name,) = signature.structured_input_signature[1]
assert signature.structured_input_signature[1][name].dtype == tf.uint8
(signed,) = signature(**{name: tf.constant(images)}).values()
late = {name.split(".")[0] for name in set(sys.modules) - before}
assert not {"keras", "keras_lt"} & late
np.savez("served.npz", logits=logits, signed=signed.numpy())
"""


def images(size=5):
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (size, 8, 8, 3), "uint8")


def small_model():
    """With statistics and weights that are not the initial ones."""
    keras.utils.set_random_seed(0)
    backbone = backbones.cifar_resnet(8, input_shape=(8, 8, 3))
    model = classifier(backbone, 4)
    for seed in range(3):
        model(np.roll(images(), seed, 0), training=True)
    return model


@pytest.fixture(scope="module")
def model():
    return small_model()


def test_serves_without_keras(model, tmp_path):
    export.save(model, tmp_path / "saved_model", images())
    np.save(tmp_path / "images.npy", images(3))
    subprocess.run(
        [sys.executable, "-c", SERVE],
        cwd=tmp_path,
        check=True,
        timeout=120,
        env={"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
    )
    served = np.load(tmp_path / "served.npz")
    want = np.asarray(model(images(3), training=False))
    for logits in (served["logits"], served["signed"]):
        np.testing.assert_allclose(
            logits, want, rtol=1e-5, atol=1e-5 * np.abs(want).max()
        )
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "images.npy",
        "saved_model",
        "served.npz",
    ]


def test_mixed_precision(tmp_path):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = small_model()
    finally:
        keras.config.set_dtype_policy(before)
    export.save(model, tmp_path / "saved_model", images())
    loaded = tf.saved_model.load(tmp_path / "saved_model")
    assert loaded.serve(images()).dtype == tf.float32


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_refuses_a_path_that_exists(model, tmp_path, kind):
    path = tmp_path / "saved_model"
    if kind == "folder":
        path.mkdir()
    else:
        path.write_text("mine")
    with pytest.raises(FileExistsError, match=r"Expected .* Received: path="):
        export.save(model, path)
    assert list(tmp_path.iterdir()) == [path]
    assert kind == "folder" or path.read_text() == "mine"


@pytest.mark.parametrize("error", [0.01, np.nan])
def test_refuses_other_outputs(model, tmp_path, monkeypatch, error):
    load = tf.saved_model.load

    class Wrong:
        def __init__(self, path):
            self.loaded = load(path)

        def serve(self, images):
            served = np.array(self.loaded.serve(images))
            served[-1, -1] += error * np.abs(served).max()
            return served

    monkeypatch.setattr(tf.saved_model, "load", Wrong)
    path = tmp_path / "saved_model"
    with pytest.raises(ValueError, match=r"Expected .*\n?.* Received: a diff"):
        export.save(model, path, images())
    assert not path.exists()
    monkeypatch.undo()
    export.save(model, path, images())  # what is left is no obstacle
    assert list(tmp_path.iterdir()) == [path]


def test_nothing_at_the_path_until_it_is_whole(model, tmp_path, monkeypatch):
    def killed(self, path, **kwargs):
        path.mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(type(model), "export", killed)
    path = tmp_path / "saved_model"
    with pytest.raises(KeyboardInterrupt):
        export.save(model, path)
    assert not path.exists()
