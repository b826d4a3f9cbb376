"""Adapters in tiny transformers of KerasHub, with random weights."""

import keras
import numpy as np
import pytest

from keras_lt import export, model_files, trainable
from keras_lt.models import backbones, classifier
from keras_lt.models.adapters import AdaptFormer, adapter_width, adapters
from keras_lt.models.backbones.images import rgb_images
from keras_lt.models.lora import lora, merged

WIDTH = 2


def transformer(kind):
    """A backbone from images (8, 8, 3) or (32, 32, 3), and widths of blocks."""
    hub = pytest.importorskip("keras_hub").models
    tiny = {
        "image_shape": (8, 8, 3),
        "patch_size": 4,
        "num_layers": 2,
        "num_heads": 2,
        "hidden_dim": 16,
    }
    if kind == "vit":
        inner = hub.ViTBackbone(**tiny, mlp_dim=32)
    elif kind == "deit":
        inner = hub.DeiTBackbone(**tiny, intermediate_dim=32, dropout_rate=0.0)
    elif kind == "clip":
        inner = hub.CLIPVisionEncoder(**tiny, intermediate_dim=32)
    else:
        inner = hub.SwinTransformerBackbone(
            image_shape=(32, 32, 3),
            patch_size=4,
            embed_dim=8,
            depths=(1, 1),
            num_heads=(2, 2),
            window_size=4,
        )
    images, x = rgb_images((32, 32, 3) if kind == "swin" else (8, 8, 3))
    x = inner(keras.tree.map_structure(lambda _: x, inner.input))
    dims = [8, 16] if kind == "swin" else [16, 16]
    return keras.Model(images, x[:, 0]), dims


def some(shape):
    return np.random.default_rng(0).integers(0, 256, (6, *shape), "uint8")


def trained(model, images):
    model.compile(
        keras.optimizers.Adam(0.1),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.fit(images, np.arange(6) % 3, epochs=2, verbose=0)
    return model.predict(images, verbose=0)


def size(weights):
    return sum(int(np.prod(weight.shape)) for weight in weights)


def close(found, wanted):
    np.testing.assert_allclose(found, wanted, atol=1e-5 * abs(wanted).max())


@pytest.mark.parametrize("kind", ["vit", "deit", "clip", "swin"])
def test_adapters(kind, tmp_path):
    backbone, dims = transformer(kind)
    images = some(backbone.input_shape[1:])
    before = np.asarray(backbone(images))
    tuned = adapters(WIDTH)(backbone)
    np.testing.assert_array_equal(tuned(images), before)  # W_up is 0
    wanted = sum(2 * dim * WIDTH + WIDTH + dim + 1 for dim in dims)
    assert size(tuned.trainable_weights) == wanted

    model = classifier(tuned, 3)
    frozen = trainable.frozen_weights(model)
    held = [np.asarray(weight) for weight in frozen]
    logits = trained(model, images)
    assert all(map(np.array_equal, map(np.asarray, frozen), held))
    assert abs(np.asarray(tuned(images)) - before).max() > 1e-2
    model.save(tmp_path / "model.keras")
    loaded = model_files.load_model(tmp_path / "model.keras")
    close(loaded.predict(images, verbose=0), logits)
    export.save(model, tmp_path / "saved", images)
    with pytest.raises(ValueError, match="with adapters"):
        adapters(WIDTH)(tuned)


def test_lora_of_a_transformer(tmp_path):
    backbone, _ = transformer("vit")
    images = some((8, 8, 3))
    tuned = lora(rank=2)(backbone)
    # Query and value (16, heads, 8): A is (16, heads, 2), B (2, 8).
    assert size(tuned.trainable_weights) == 2 * 2 * (16 * 2 * 2 + 2 * 8)
    model = classifier(tuned, 3)
    logits = trained(model, images)
    with merged(model):
        model.save(tmp_path / "model.keras")
    loaded = model_files.load_model(tmp_path / "model.keras", compile=False)
    close(loaded.predict(images, verbose=0), logits)
    assert not any("lora" in weight.path for weight in loaded.weights)


def test_an_adapter_is_its_formula():
    rng = np.random.default_rng(0)
    dense = keras.layers.Dense(4)
    layer = AdaptFormer([dense], 2)
    x = rng.normal(size=(3, 4)).astype("float32")
    layer(x)
    for weight in layer.weights:
        weight.assign(rng.normal(size=weight.shape))
    (down, bias), (up, up_bias) = (
        [np.asarray(w) for w in each.weights] for each in (layer.down, layer.up)
    )
    beside = np.maximum(x @ down + bias, 0) @ up + up_bias
    wanted = np.asarray(dense(x)) + float(layer.scale) * beside
    np.testing.assert_allclose(layer(x), wanted, rtol=1e-5)


@pytest.mark.parametrize(
    ("num_classes", "num_blocks", "width"),
    [(100, 12, 4), (1000, 12, 32), (8142, 12, 256), (10, 12, 1)],
)
def test_width_by_the_rule(num_classes, num_blocks, width):
    assert adapter_width(num_classes, num_blocks) == width


def test_refused():
    backbone = backbones.cifar_resnet(8, input_shape=(8, 8, 3))
    with pytest.raises(ValueError, match="a width of adapters"):
        adapters()(backbone)
    with pytest.raises(ValueError, match="no block of such a transformer"):
        adapters(2)(backbone)
