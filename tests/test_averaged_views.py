"""Logits that are means over views of images."""

import keras
import numpy as np
import pytest

import keras_lt
from keras_lt import export
from keras_lt.models import DualBranch, backbones, classifier
from keras_lt.models.averaged_views import AveragedViews, ImageView


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), "uint8")


@pytest.fixture(scope="module")
def model():
    return classifier(backbones.cifar_resnet(8, input_shape=(8, 8, 3)), 3)


def test_flip(model, images):
    wanted = (model(images) + model(images[:, :, ::-1])) / 2
    averaged = AveragedViews(model, "flip")
    np.testing.assert_allclose(averaged(images), wanted, atol=1e-5)
    one = AveragedViews(model, "none")
    np.testing.assert_allclose(one(images), model(images), atol=1e-6)


def test_five_crop(model, images):
    larger = keras.ops.image.resize(images.astype("float32"), (9, 9))
    crops = [
        larger[:, y : y + 8, x : x + 8]
        for y, x in ((0, 0), (0, 1), (1, 0), (1, 1), (0, 0))  # round(0.5) is 0
    ]
    crops = [np.asarray(crop).astype("uint8") for crop in crops]
    wanted = np.mean([model(crop) for crop in crops], axis=0)
    found = AveragedViews(model, "five_crop")(images)
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_of_a_model_of_ours_saved_and_exported(images, tmp_path):
    model = DualBranch(backbones.cifar_resnet(8, input_shape=(8, 8, 3)), 3)
    averaged = AveragedViews(model, "five_crop")
    averaged.save(tmp_path / "model.keras")
    loaded = keras_lt.models.load_model(tmp_path / "model.keras", compile=False)
    np.testing.assert_allclose(
        loaded(images), averaged(images), rtol=1e-5, atol=1e-6
    )
    export.save(averaged, tmp_path / "saved", images)  # compares


def test_wrong_views(model):
    with pytest.raises(ValueError, match="none, flip, five_crop"):
        AveragedViews(model, "ten_crop")
    view = ImageView(crop=(1, 1))
    assert view.compute_output_spec(keras.Input((8, 8, 3))).shape[1:] == (
        8,
        8,
        3,
    )
