"""Features of trained models."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_lt import datasets, features, streams
from keras_lt.features import extraction
from keras_lt.models import DualBranch, classifier, feature_model

RNG = np.random.default_rng(0)
DATA = datasets.from_arrays(
    RNG.integers(0, 256, (10, 4, 4, 3), "uint8"), np.arange(10) % 3, "abc"
)


def backbone():
    inputs = keras.Input((4, 4, 3), dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(inputs)
    maps = keras.layers.Conv2D(5, 3, name="maps")(x)
    return keras.Model(inputs, maps)


@pytest.mark.parametrize("layer", [None, "maps"])
@pytest.mark.parametrize("make", [classifier, DualBranch])
def test_extract(make, layer):
    base = backbone()
    model = make(base, 3)
    got = features.extract(model, DATA, layer, batch_size=4)
    want = np.mean(base(DATA.images), axis=(1, 2))
    np.testing.assert_allclose(got.features, want, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(got.labels, DATA.labels)
    assert got.features.dtype == np.float32


def test_layers_are_shared():
    model = classifier(backbone(), 3)
    part = feature_model(model)
    model.get_layer("maps").kernel.assign(np.zeros((3, 3, 3, 5)))
    np.testing.assert_array_equal(part(DATA.images), np.zeros((10, 5)))


def test_write_and_read(tmp_path):
    written = features.Features(np.ones((2, 3), "float32"), np.array([1, 0]))
    features.save(tmp_path / "x.npz", written)
    read = features.load(tmp_path / "x.npz")
    for got, want in zip(read, written, strict=True):
        np.testing.assert_array_equal(got, want)
        assert got.dtype == want.dtype
    assert [path.name for path in tmp_path.iterdir()] == ["x.npz"]


@pytest.mark.parametrize(
    "layer, message", [("none", "layer='none'"), ("flat", "features.shape")]
)
def test_bad_layers(layer, message):
    inputs = keras.Input((4, 4, 3))
    x = keras.layers.Reshape((48, 1), name="flat")(inputs)
    model = keras.Model(inputs, keras.layers.Flatten()(x))
    with pytest.raises(ValueError, match=rf"Expected .* Received: {message}"):
        features.extract(model, DATA, layer)


def test_files_of_something_else(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, a=np.ones(2))
    with pytest.raises(ValueError, match=r"Expected a file .* Received: "):
        features.load(path)
    np.savez(path, features=np.ones(2), labels=np.ones(2))
    with pytest.raises(ValueError, match=r"Expected features .* Received: "):
        features.load(path)
    for content in (b"", b"text", b"PK\x03\x04"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"Expected a file .* Received: "):
            features.load(path)


def test_features_are_streamed_as_images_are():
    generator = np.random.default_rng(0)
    extracted = features.Features(
        generator.normal(size=(30, 3)).astype("float32"), np.arange(30) % 3
    )
    images = datasets.from_arrays(
        extracted.features[:, None, None], extracted.labels, "abc"
    )
    arguments = {"sampling": "class_balanced", "batch_size": 8, "seed": 3}
    for (got, labels), (image, wanted) in zip(
        features.stream(extracted, 3, **arguments).take(2),
        streams.stream(images, **arguments).take(2),
        strict=True,
    ):
        np.testing.assert_array_equal(got, image[:, 0, 0])
        np.testing.assert_array_equal(labels, wanted)
    for got, wanted in zip(
        features.pairs(extracted, 3, batch_size=8, seed=3).take(2),
        streams.pairs(images, batch_size=8, seed=3).take(2),
        strict=True,
    ):
        for (rows, labels), (image, ids) in zip(got, wanted, strict=True):
            np.testing.assert_array_equal(rows, image[:, 0, 0])
            np.testing.assert_array_equal(labels, ids)


@pytest.mark.parametrize(
    "rows, labels, message",
    [
        (np.ones((2, 3)), [0, 3], "from 0 to 2"),
        (np.ones((0, 3)), [], "from 0 to 2"),
        (np.full((2, 3), np.nan), [0, 1], "6 NaN"),
        (np.ones((2, 3)), [0], r"labels.shape=\(1,\)"),
    ],
)
def test_features_that_can_not_be_streamed(rows, labels, message):
    with pytest.raises(ValueError, match=message):
        features.Examples(features.Features(rows, np.array(labels)), 3)


def test_damaged_features_are_one_error(tmp_path):
    path = tmp_path / "features.npz"
    points = features.Features(np.ones((5, 3), "float32"), np.arange(5))
    features.save(path, points)
    content = path.read_bytes()
    for place in range(0, len(content), 9):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        try:
            features.load(path)
        except (ValueError, OSError) as error:
            assert str(path) in str(error)


@pytest.mark.parametrize(
    "values, labels",
    [
        (np.ones((2, 3), "U1"), [0, 1]),
        (np.ones((2, 3), "float32"), [0.5, 1.0]),
        (np.ones((2, 3), "float32"), [0, -1]),
        (np.ones((2, 3), "complex64"), [0, 1]),
    ],
)
def test_features_of_other_kinds(values, labels, tmp_path):
    np.savez(tmp_path / "f.npz", features=values, labels=np.array(labels))
    with pytest.raises(ValueError, match=r"floats, and labels \(N,\)"):
        features.load(tmp_path / "f.npz")


def test_killed_extraction_goes_on(tmp_path, monkeypatch):
    """Parts that are there are not computed again."""
    monkeypatch.setattr(extraction, "PART_ROWS", 4)
    model, path = classifier(backbone(), 3), tmp_path / "rows.npy"
    parts = []

    def killed_at_the_third():
        parts.append(sorted(each.name for each in tmp_path.iterdir()))
        if len(parts) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        features.extract_to(path, model, DATA, on_part=killed_at_the_third)
    assert parts[-1] == [f"rows.{i:05d}-of-00003.npy" for i in (0, 1)]
    got = features.extract_to(
        path, model, DATA, on_part=lambda: parts.append(0)
    )
    assert parts[3:] == [0]
    want = features.extract(model, DATA)
    np.testing.assert_allclose(got.features, want.features, atol=1e-6)
    np.testing.assert_array_equal(got.labels, DATA.labels)
    assert [each.name for each in tmp_path.iterdir()] == ["rows.npy"]


def test_streams_read_features_from_their_file(tmp_path):
    model = classifier(backbone(), 3)
    mapped = features.extract_to(tmp_path / "rows.npy", model, DATA)
    loaded = features.Features(np.array(mapped.features), mapped.labels)
    batches = [
        next(
            iter(
                features.stream(
                    each, 3, sampling="class_balanced", batch_size=6, seed=1
                )
            )
        )
        for each in (mapped, loaded)
    ]
    for one, other in zip(*batches, strict=True):
        assert one.shape == other.shape
        np.testing.assert_array_equal(one, other)


def test_views_follow_one_another(tmp_path):
    """Row v * N + i is view v of image i, and no two views are alike."""

    def brighter(images, labels, indices, seeds):
        shift = tf.cast(seeds % 50, tf.uint8)[:, None, None, None]
        return tf.zeros_like(images) + shift, labels

    inputs = keras.Input((4, 4, 3), dtype="uint8")
    mean = keras.layers.GlobalAveragePooling2D()(
        keras.layers.Rescaling(1.0)(inputs)
    )
    model = classifier(keras.Model(inputs, mean), 3)
    rows, labels = features.extract_to(
        tmp_path / "rows.npy", model, DATA, views=3, transform=brighter, seed=5
    )
    np.testing.assert_array_equal(labels, np.tile(DATA.labels, 3))
    views = np.asarray(rows)[:, 0].reshape(3, 10)
    assert len({tuple(view) for view in views}) == 3


def test_file_of_something_else(tmp_path):
    np.save(tmp_path / "rows.npy", np.ones((3, 2)))
    (tmp_path / "text.npy").write_text("no array")
    for name in ("rows.npy", "text.npy"):
        with pytest.raises(ValueError, match=rf"Received: .*{name}.* anew"):
            features.open_features(tmp_path / name, np.arange(3))
