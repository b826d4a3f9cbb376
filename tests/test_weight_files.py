"""Files of weights can't make the library read other files."""

import os
import zipfile

import h5py
import keras
import numpy as np
import pytest

from keras_lt.models import backbones, classifier


def make_backbone(seed):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((4, 4, 1))
    x = keras.layers.Conv2D(2, 3, name="convolution")(inputs)
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x))


def kernel(file: h5py.File) -> h5py.Dataset:
    """The data set of the convolution's kernel."""
    found = []
    file.visititems(
        lambda _, item: (
            found.append(item)
            if isinstance(item, h5py.Dataset) and item.ndim == 4
            else None
        )
    )
    return found[0]


def external_data(file, secret):
    """The data set's bytes are in another file, of any kind."""
    with h5py.File(secret) as other:
        values = kernel(other)[()]
    values.tofile(secret.with_suffix(".bin"))
    place = [(os.fspath(secret.with_suffix(".bin")), 0, h5py.h5f.UNLIMITED)]
    name = kernel(file).name
    del file[name]
    file.create_dataset(name, values.shape, values.dtype, external=place)


def virtual_data(file, secret):
    name, shape = kernel(file).name, kernel(file).shape
    with h5py.File(secret) as other:
        source = h5py.VirtualSource(kernel(other))
    layout = h5py.VirtualLayout(shape, "float32")
    layout[:] = source
    del file[name]
    file.create_virtual_dataset(name, layout)


def linked_data(file, secret):
    name = kernel(file).name
    del file[name]
    file[name] = h5py.ExternalLink(secret, name)


def linked_layer(file, secret):
    name = kernel(file).parent.name
    del file[name]
    file[name] = h5py.ExternalLink(secret, name)


def linked_top(file, secret):
    name = "/" + kernel(file).name.split("/")[1]
    del file[name]
    file[name] = h5py.ExternalLink(secret, name)


CRAFTS = (external_data, virtual_data, linked_data, linked_layer, linked_top)


def write(path, model):
    """The HDF5 file in which Keras keeps the model's weights."""
    if path.name.endswith(".weights.h5"):
        model.save_weights(path)
    else:
        model.save(path)  # of Keras 2: keras.applications' files are so
    return path


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
@pytest.mark.parametrize("ending", [".weights.h5", ".h5", ".keras"])
@pytest.mark.parametrize("craft", CRAFTS)
def test_weights_do_not_lead_to_other_files(craft, ending, tmp_path):
    secret, other = make_backbone(1), make_backbone(2)
    hdf5 = ".weights.h5" if ending == ".keras" else ending
    path = tmp_path / f"crafted{ending}"
    if ending == ".keras":
        secret, other = classifier(secret, 3), classifier(other, 3)
    crafted = write(tmp_path / f"crafted{hdf5}", other)
    with h5py.File(crafted, "r+") as file:
        craft(file, write(tmp_path / f"secret{hdf5}", secret))
    if ending == ".keras":
        other.save(tmp_path / "other.keras")
        with (
            zipfile.ZipFile(tmp_path / "other.keras") as whole,
            zipfile.ZipFile(path, "w") as archive,
        ):
            for name in whole.namelist():
                content = whole.read(name)
                if name.endswith(".h5"):
                    content = crafted.read_bytes()
                archive.writestr(name, content)

    backbone = make_backbone(0)
    with pytest.raises(ValueError):
        backbones.load_weights(backbone, path)
    read = backbone.get_layer("convolution").kernel
    assert not np.array_equal(read, secret.weights[0])


@pytest.mark.parametrize("ending", [".weights.h5", ".h5"])
def test_weights_without_links_are_read(ending, tmp_path):
    backbone, other = make_backbone(0), make_backbone(1)
    path = write(tmp_path / f"good{ending}", other)
    backbones.load_weights(backbone, path)
    np.testing.assert_array_equal(backbone.weights[0], other.weights[0])
