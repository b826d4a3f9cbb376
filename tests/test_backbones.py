"""Backbones against counts by formula, references, and where they are from."""

import functools
import inspect
import math
import re
import sys
import urllib.error

import keras
import numpy as np
import presets
import pytest
import tensorflow as tf

from keras_lt import export, losses
from keras_lt.layers import PaddedShortcut, PatchWhitening
from keras_lt.models import ContrastivePretrainer, DualBranch, backbones, heads
from keras_lt.models.backbones import cifar_resnet
from keras_lt.models.classifier import classifier


def size_of(variables):
    return sum(int(np.prod(variable.shape)) for variable in variables)


def expected_parameters(depth, width=1, channels=3):
    """Kernels 9 * in * out, and scale and shift of each normalization."""
    w = 16 * width
    total = 9 * channels * w + 2 * w
    before = w
    for filters in (w, 2 * w, 4 * w):
        for _ in range((depth - 2) // 6):
            total += 9 * before * filters + 9 * filters**2 + 4 * filters
            before = filters
    return total


@pytest.mark.parametrize("depth", [20, 32, 44, 56])
def test_number_of_parameters(depth):
    model = cifar_resnet(depth)
    assert size_of(model.trainable_variables) == expected_parameters(depth)
    convolutions = [
        layer
        for layer in model.layers
        if isinstance(layer, keras.layers.Conv2D)
    ]
    assert len(convolutions) == depth - 1  # the last one is the classifier
    assert not any(layer.use_bias for layer in convolutions)


def test_published_number_of_parameters():
    backbone = cifar_resnet(32)
    assert size_of(backbone.trainable_variables) == 463_504
    assert size_of(backbone.non_trainable_variables) == 2_272
    model = classifier(backbone, 10)
    assert size_of(model.trainable_variables) == 464_154


def test_resnet18():
    model = backbones.get("cifar_resnet18", l2=0.5)
    # That of torchvision with a 3x3 stem: 11,173,962 less the classifier's.
    assert size_of(model.trainable_variables) == 11_173_962 - 513 * 10
    assert model(np.zeros((2, 32, 32, 3), "uint8")).shape == (2, 512)
    shapes = [
        model.get_layer(f"stage{n}_block2_relu").output.shape for n in (1, 4)
    ]
    assert shapes == [(None, 32, 32, 64), (None, 4, 4, 512)]
    squares = sum(float((v**2).numpy().sum()) for v in model.trainable_weights)
    np.testing.assert_allclose(sum(model.losses), squares / 2, rtol=1e-5)
    # The shortcut takes every other pixel from 0.
    shortcut = model.get_layer("stage2_block1_shortcut_conv")
    x = np.random.default_rng(0).normal(size=(1, 5, 6, 64)).astype("float32")
    want = x[:, ::2, ::2] @ shortcut.kernel.numpy()[0, 0]
    np.testing.assert_allclose(shortcut(x), want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("widths", "channels"), [((32, 128, 256), 3), ((4, 8), 1)]
)
def test_cifar_cnn(widths, channels):
    model = backbones.cifar_cnn(widths, input_shape=(32, 32, channels))
    total, before = 0, 8 * channels
    for filters in widths:
        total += 9 * before * filters + 9 * filters**2 + 4 * filters
        before = filters
    assert size_of(model.trainable_variables) == total
    assert model.get_layer("stem_whitening").weights == []
    sizes = [
        model.get_layer(f"stage{stage}_2_relu").output.shape[1]
        for stage in range(1, len(widths) + 1)
    ]
    assert sizes == [15, 7, 3][: len(widths)]
    assert model.output_shape == (None, widths[-1])


def test_parameters_of_cifar_cnn_are_those_in_its_docstring():
    (trained,) = re.findall(
        "has ([0-9,]+) trainable", backbones.cifar_cnn.__doc__
    )
    model = backbones.cifar_cnn()
    assert size_of(model.trainable_variables) == int(trained.replace(",", ""))


def test_cifar_cnn_computes_its_patches_in_float32():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = backbones.cifar_cnn((4,), input_shape=(4, 4, 3))
    finally:
        keras.config.set_dtype_policy(policy)
    assert model.get_layer("stem_whitening").output.dtype == "float32"
    assert model.output.dtype == "bfloat16"


@pytest.mark.parametrize(
    "arguments",
    [
        {"widths": ()},
        {"widths": (0,)},
        {"input_shape": (8, 8, 3)},
        {"input_shape": (1, 32, 3), "widths": (4,)},
        {"mean": [0.0]},
    ],
)
def test_cifar_cnn_refuses(arguments):
    with pytest.raises(ValueError, match=r"Expected .* Received: "):
        backbones.cifar_cnn(**arguments)


@pytest.mark.parametrize(
    "make, name, value",
    [
        ("cifar_cnn", "widths", 16),
        ("cifar_cnn", "widths", "16"),
        ("resnet", "stages", 5),
        ("resnet", "stages", "5"),
        ("resnet", "stages", [16, 32]),
        ("resnet", "stages", [(16, 1, 2)]),
        ("resnet", "stages", [(16, 0)]),
        ("resnet", "stages", []),
    ],
)
def test_stages_are_lists_of_integers(make, name, value):
    with pytest.raises(
        (TypeError, ValueError), match=f"Expected .* Received: {name}="
    ):
        getattr(backbones, make)(value)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_whitening_by_the_correlations_that_it_assumes(channels):
    layer = PatchWhitening()
    impulses = np.eye(4 * channels).reshape(-1, 2, 2, channels)
    kernel = layer(impulses.astype("float32")).numpy()[:, 0, 0]
    half = kernel.shape[1] // 2
    np.testing.assert_array_equal(kernel[:, half:], -kernel[:, :half])
    places = [
        (row, column, c)
        for row in (0, 1)
        for column in (0, 1)
        for c in range(channels)
    ]
    correlation = np.array(
        [
            [
                0.95 ** math.dist(a[:2], b[:2]) * 0.94 ** abs(a[2] - b[2])
                for b in places
            ]
            for a in places
        ]
    )
    white = kernel[:, :half].T @ correlation @ kernel[:, :half]
    # All variances are 1 up to the 0.0005 that keeps small ones apart from 0.
    plain = kernel[:, :half] / np.linalg.norm(kernel[:, :half], axis=0)
    variances = np.diag(plain.T @ correlation @ plain)
    want = variances / (variances + 5e-4)
    np.testing.assert_allclose(np.diag(white), want, rtol=1e-4)
    # Brightness is the first one, and all else has no answer to it.
    answers = kernel[:, :half].sum(axis=0)
    assert answers[0] > 1
    np.testing.assert_allclose(answers[1:], 0, atol=1e-4)


def test_whitening_refuses():
    for shape in [(2, 1, 4, 3), (2, 4, 3)]:
        with pytest.raises(ValueError, match=r"Expected .* Received: shape="):
            PatchWhitening()(np.zeros(shape, "float32"))


def test_width_and_channels():
    model = cifar_resnet(8, 3, input_shape=(8, 8, 1))
    assert size_of(model.trainable_variables) == expected_parameters(8, 3, 1)
    assert model.output_shape == (None, 192)


@pytest.mark.parametrize(
    ("input_shape", "size"),
    [
        ((8, 8, 1), (8, 8)),
        ((33, 17, 3), (33, 17)),
        ((None, None, 3), (5, 9)),
        ((1, 1, 2), (1, 1)),
    ],
)
def test_input_sizes(input_shape, size):
    model = cifar_resnet(8, input_shape=input_shape)
    x = np.zeros((2, *size, input_shape[-1]), "uint8")
    outputs = model(x, training=True)
    assert outputs.shape == (2, 64)
    assert np.isfinite(outputs).all()


def test_shortcut_by_hand():
    x = np.arange(2 * 5 * 4 * 3, dtype="float32").reshape(2, 5, 4, 3)
    outputs = PaddedShortcut(8, 2)(x)
    want = np.zeros((2, 3, 2, 8), "float32")
    want[..., 2:5] = x[:, [0, 2, 4]][:, :, [0, 2]]  # 5 missing: 2 in front
    np.testing.assert_array_equal(outputs, want)


def test_shortcut_refuses():
    with pytest.raises(ValueError, match=r"Expected .* Received: strides=0"):
        PaddedShortcut(8, 0)
    for shape in [(2, 4, 4, 9), (2, 4, 8)]:
        with pytest.raises(ValueError, match=r"Expected .* Received: shape="):
            PaddedShortcut(8, 2)(np.zeros(shape))


@pytest.mark.parametrize("size", [8, 7])
def test_first_block_with_stride_2(size):
    """Odd and even sizes, against explicit padding of one pixel a side."""
    model = cifar_resnet(8, input_shape=(size, size, 3))
    rng = np.random.default_rng(0)
    weights = {}
    for layer in model.layers:
        if layer.name.endswith("_bn"):
            layer.set_weights(
                [rng.uniform(0.5, 1.5, w.shape) for w in layer.weights]
            )
        weights[layer.name] = layer.get_weights()
    block = keras.Model(
        model.get_layer("stage1_block1_relu").output,
        model.get_layer("stage2_block1_relu").output,
    )
    x = rng.normal(size=(2, size, size, 16)).astype("float32")

    def normalized(x, name):
        gamma, beta, mean, variance = weights[f"stage2_block1_{name}_bn"]
        return gamma * (x - mean) / np.sqrt(variance + 1e-5) + beta

    def convolved(x, name, stride):
        (kernel,) = weights[f"stage2_block1_{name}_conv"]
        x = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
        rows = (x.shape[1] - 3) // stride + 1
        outputs = np.zeros((len(x), rows, rows, kernel.shape[-1]))
        for i in range(rows):
            for j in range(rows):
                top, left = i * stride, j * stride
                patch = x[:, top : top + 3, left : left + 3]
                outputs[:, i, j] = np.tensordot(patch, kernel, 3)
        return outputs

    y = np.maximum(normalized(convolved(x, "1", 2), "1"), 0)
    y = normalized(convolved(y, "2", 1), "2")
    shortcut = np.pad(x[:, ::2, ::2], [(0, 0)] * 3 + [(8, 8)])
    np.testing.assert_allclose(
        block(x), np.maximum(y + shortcut, 0), rtol=1e-4, atol=1e-4
    )


def test_default_normalization_is_to_one():
    layer = cifar_resnet(8).get_layer("image_normalization")
    x = np.array([0, 255], "uint8").reshape(2, 1, 1, 1).repeat(3, 3)
    np.testing.assert_allclose(
        layer(x), np.array([-1, 1]).reshape(2, 1, 1, 1).repeat(3, 3)
    )


def test_statistics_of_the_images():
    model = cifar_resnet(8, mean=[1.0, 2.0, 3.0], variance=[4.0, 9.0, 16.0])
    layer = model.get_layer("image_normalization")
    assert layer.mean == [1.0, 2.0, 3.0]
    assert layer.variance == [4.0, 9.0, 16.0]


def test_l2_is_on_every_trainable_weight_once():
    l2 = 3e-3
    model = cifar_resnet(8, l2=l2)
    weights = [w.value for w in model.trainable_variables]
    with tf.GradientTape() as tape:
        total = tf.add_n(model.losses)
    gradients = tape.gradient(total, weights)
    assert len(model.losses) == len(weights)
    for weight, gradient in zip(weights, gradients, strict=True):
        np.testing.assert_allclose(gradient, 2 * l2 * weight, rtol=1e-6)
    assert cifar_resnet(8).losses == []


def test_initial_weights():
    keras.utils.set_random_seed(0)
    model = cifar_resnet(20)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            kernel = np.asarray(layer.kernel)
            fan_in = np.prod(kernel.shape[:-1])
            # The relative error of a standard deviation is 1 / sqrt(2 n).
            error = 4 / np.sqrt(2 * kernel.size)
            assert kernel.std() == pytest.approx(np.sqrt(2 / fan_in), error)
        elif layer.name.endswith("_bn"):
            assert layer.momentum == 0.9
            assert layer.epsilon == 1e-5
            np.testing.assert_array_equal(layer.gamma, 1)
            np.testing.assert_array_equal(layer.beta, 0)
    # A truncated distribution of the same deviation would end at 2.27 of it.
    kernel = np.asarray(model.get_layer("stage3_block3_2_conv").kernel)
    assert np.abs(kernel).max() > 3.5 * np.sqrt(2 / 576)


def test_batch_normalization_class():
    ours, theirs = (
        cifar_resnet(8, input_shape=(8, 8, 3), **kwargs)
        for kwargs in (
            {},
            {"batch_normalization": keras.layers.BatchNormalization},
        )
    )
    assert type(theirs.get_layer("stem_bn")) is keras.layers.BatchNormalization
    theirs.set_weights(ours.get_weights())
    x = np.random.default_rng(0).integers(0, 256, (4, 8, 8, 3), "uint8")
    np.testing.assert_allclose(
        ours(x, training=True), theirs(x, training=True), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("kwargs", "received"),
    [
        ({"depth": 30}, "depth=30"),
        ({"depth": 2}, "depth=2"),
        ({"width": 0}, "width=0"),
        ({"mean": [1.0]}, "mean="),
        ({"variance": [1.0]}, "mean=None"),
        ({"mean": [1.0], "variance": [1.0]}, "shape="),
    ],
    ids=str,
)
def test_errors(kwargs, received):
    with pytest.raises(
        ValueError, match=rf"Expected (.|\n)*Received: {received}"
    ):
        cifar_resnet(**kwargs)


def test_networks_for_large_images():
    """Sizes by torchvision's: ResNet-18 less a block a stage, and 32x4d."""
    block = sum(18 * c**2 + 4 * c for c in (64, 128, 256, 512))
    source = inspect.getsource(sys.modules[backbones.resnet.__module__])
    said = " ".join(source.replace("# ", "").split())
    for name, size, features in (
        ("resnet10", 11_689_512 - 513 * 1000 - block, 512),
        ("resnext50", 25_028_904 - 2049 * 1000, 2048),
    ):
        model = backbones.get(name, input_shape=(64, 96, 3), l2=0.5)
        assert model.name == name
        assert size_of(model.trainable_variables) == size
        assert f"{size:,} trainable parameters" in said
        assert len(model.losses) == len(model.trainable_variables)
        assert model.output_shape == (None, features)
        assert model.get_layer("stem_pool").output.shape[1:3] == (16, 24)
        assert model.get_layer("stage4_block1_relu").output.shape[1:3] == (2, 3)
        kernel = np.asarray(model.get_layer("stage3_block1_2_conv").kernel)
        deviation = np.sqrt(2 / (9 * kernel.shape[-1]))
        assert kernel.std() == pytest.approx(deviation, rel=0.02)


def test_bottleneck_with_groups():
    """Its strided convolution, group by group, and where the strides are."""
    model = backbones.get("resnext50", input_shape=(64, 64, 3))
    layer = model.get_layer("stage2_block1_2_conv")
    assert (layer.groups, layer.strides) == (32, (2, 2))
    assert model.get_layer("stage2_block1_1_conv").strides == (1, 1)
    assert model.get_layer("stage2_block1_shortcut_conv").strides == (2, 2)
    x = np.random.default_rng(0).normal(size=(2, 5, 5, 256)).astype("float32")
    kernel = layer.kernel.numpy()  # (3, 3, 8, 256)
    got = layer(x).numpy()
    for group in (0, 31):
        channels = slice(8 * group, 8 * group + 8)
        patch = x[:, :3, :3, channels]
        want = np.tensordot(patch, kernel[..., channels], 3)
        np.testing.assert_allclose(
            got[:, 0, 0, channels], want, rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("VGG16", (32, 48, 3)),  # caffe: BGR, mean
        ("MobileNetV2", (32, 32, 3)),  # tf: -1 to 1
        ("DenseNet121", (None, None, 3)),  # torch: mean and deviation
        ("MobileNetV3Small", (32, 32, 3)),  # its own layers
        ("ConvNeXtTiny", (32, 32, 3)),  # and with models within it
    ],
)
def test_application(name, shape, tmp_path):
    """The same as the model on what its `preprocess_input` gives."""
    make = getattr(keras.applications, name)
    keras.utils.set_random_seed(0)
    reference = make(include_top=False, weights=None, input_shape=shape)
    rng = np.random.default_rng(0)
    # As if trained: statistics and scales that are not 0 and 1.
    reference.set_weights(
        [
            rng.uniform(0.5, 1.5, w.shape) if w.ndim == 1 else w
            for w in reference.get_weights()
        ]
    )
    reference.save_weights(tmp_path / "w.weights.h5")
    model = backbones.application(
        name, shape, tmp_path / "w.weights.h5", l2=0.5
    )
    size = (64, 32, 3) if shape[0] is None else shape
    images = rng.integers(0, 256, (2, *size), "uint8")
    preprocess_input = sys.modules[make.__module__].preprocess_input
    want = np.asarray(reference(preprocess_input(images.astype("float32"))))
    got = model(images)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5 * want.std())
    assert np.abs(want).max() > 1e-3
    assert not any(
        type(layer) is keras.layers.BatchNormalization for layer in model.layers
    )
    regular = [w for w in model.trainable_weights if w.regularizer is not None]
    names = {w.name for w in model.trainable_weights if w.regularizer is None}
    assert not names & {"kernel", "bias", "gamma", "beta"}
    squares = sum(float((v**2).numpy().sum()) for v in regular)
    np.testing.assert_allclose(sum(model.losses), squares / 2, rtol=1e-4)
    if name == "VGG16":
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(loaded(images), got)
        export.save(classifier(model, 3), tmp_path / "saved", images)


@pytest.mark.parametrize("policy", ["mixed_bfloat16"])
def test_application_in_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = backbones.application("VGG16", (32, 32, 1))
    finally:
        keras.config.set_dtype_policy("float32")
    first = model.get_layer("block1_conv1")
    assert first.input.dtype == "float32"
    assert first.input.shape == (None, 32, 32, 3)  # gray images, repeated
    assert model.output.dtype == "bfloat16"


def test_failed_download(monkeypatch, tmp_path):
    def no_network(*args, **kwargs):
        raise urllib.error.URLError("no network")

    module = sys.modules["keras.src.utils.file_utils"]
    uncached = functools.partial(module.get_file, cache_dir=tmp_path)
    monkeypatch.setattr(module, "get_file", uncached)
    monkeypatch.setattr(module, "urlretrieve", no_network)
    with pytest.raises(
        OSError, match=r"Expected ImageNet's weights of VGG16 .*https://.*vgg16"
    ):
        backbones.application("VGG16", (32, 32, 3), "imagenet")


def small(**arguments):
    keras.utils.set_random_seed(1)
    return cifar_resnet(8, input_shape=(8, 8, 3), **arguments)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda backbone: classifier(backbone, 7),
        lambda backbone: DualBranch(backbone, 7),
        lambda backbone: ContrastivePretrainer(backbone, 4),
        lambda backbone: backbone,
    ],
    ids=["classifier", "dual_branch", "contrastive", "weights"],
)
def test_weights_of_trained_models(wrap, tmp_path):
    keras.utils.set_random_seed(0)
    trained = cifar_resnet(8, input_shape=(8, 8, 3), name="another_name")
    model = wrap(trained)
    if model is trained:
        path = tmp_path / "backbone.weights.h5"
        model.save_weights(path)
    else:
        path = tmp_path / "run"  # a workdir
        path.mkdir()
        model.save(path / "model.keras")
    fresh = small()
    backbones.load_weights(fresh, path)
    for got, want in zip(
        fresh.get_weights(), trained.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(got, want)


def test_weights_of_something_else(tmp_path):
    classifier(small(), 5).save(tmp_path / "model.keras")
    small().save_weights(tmp_path / "w.weights.h5")
    (tmp_path / "broken.h5").write_text("no weights")
    other = cifar_resnet(14, input_shape=(8, 8, 3))
    for name, message in (
        ("model.keras", "whose backbone has other weights"),
        (
            "w.weights.h5",
            r"model cifar_resnet14. Received: .*w\.weights",
        ),
        ("broken.h5", "of the model cifar_resnet14"),
    ):
        with pytest.raises(ValueError, match=rf"Expected (.|\n)*{message}"):
            backbones.load_weights(other, tmp_path / name)
    with pytest.raises(FileNotFoundError, match=r"Received: .*none\.keras"):
        backbones.load_weights(other, tmp_path / "none.keras")


def test_frozen_stages():
    """Training changes what is behind them, and nothing in them."""
    model = small(l2=0.1)
    backbones.freeze(model, "stage1")
    joined = classifier(model, 10)
    joined.compile(
        "sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    images = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), "uint8")
    before = {layer.name: layer.get_weights() for layer in joined.layers}
    joined.fit(images, np.arange(8), verbose=0)
    for layer in joined.layers:
        frozen = layer.name.startswith(("stem", "stage1"))
        for old, new in zip(
            before[layer.name], layer.get_weights(), strict=True
        ):
            assert (old == new).all() == frozen, layer.name
    backbones.freeze(model)
    assert not model.trainable_weights
    with pytest.raises(
        ValueError, match=r"that start with images, image, stem, stage1, stage2"
    ):
        backbones.freeze(model, "block5")


@pytest.mark.parametrize("last", ["stage1", "stage2_block1_1_conv", None])
def test_a_frozen_part_and_the_rest(last):
    """One after the other they are the backbone, and share its weights."""
    model = cifar_resnet(8)
    backbones.freeze(model, last)
    first, second = backbones.split_frozen(model)
    assert not first.trainable_variables
    for one, other in zip(
        second.trainable_variables, model.trainable_variables, strict=True
    ):
        assert one is other
    # A shortcut goes around the frozen convolution of stage2.
    assert first.layers[-1].name == "rows"
    assert first.output_shape[1] == (64 if last is None else 32 * 32 * 16)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), "uint8")
    np.testing.assert_allclose(
        second(first(images)), model(images), atol=1e-5, rtol=1e-5
    )


def test_a_backbone_without_a_frozen_part():
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match=r"whose layer dense.* is trained"):
        backbones.split_frozen(model)


def test_frozen_stages_of_an_application():
    model = backbones.application("ResNet50", (32, 32, 3))
    backbones.freeze(model, "conv3")
    frozen = {
        layer.name.split("_")[0]
        for layer in model.layers
        if layer.weights and not layer.trainable
    }
    assert frozen == {"conv1", "conv2", "conv3"}
    assert all(
        layer.name.startswith(("conv4", "conv5"))
        for layer in model.layers
        if layer.trainable_weights
    )


@pytest.fixture
def vit_preset(tmp_path):
    """A folder with a tiny vision transformer, and what it should give."""
    keras_hub = pytest.importorskip("keras_hub")
    transformer = presets.vit(hidden_dim=16, mlp_dim=32)
    converter = keras_hub.layers.ViTImageConverter(
        image_size=(8, 8), scale=1 / 64, offset=-1.5
    )
    keras_hub.models.ViTImageClassifier(
        transformer,
        5,
        keras_hub.models.ViTImageClassifierPreprocessor(converter),
    ).save_to_preset(str(tmp_path / "vit"))

    def reference(images):
        return transformer(converter(images.astype("float32")))[:, 0]

    return tmp_path / "vit", reference


def test_kerashub(vit_preset, tmp_path):
    path, reference = vit_preset
    model = backbones.kerashub(path, (12, 10, 3))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 12, 10, 3), "uint8")
    want = reference(images)
    np.testing.assert_allclose(model(images), want, rtol=1e-4, atol=1e-5)
    joined = classifier(model, 3)
    joined.compile(
        "adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    joined.fit(images, np.arange(6) % 3, verbose=0)
    joined.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        loaded.predict(images, verbose=0), joined.predict(images, verbose=0)
    )
    export.save(joined, tmp_path / "saved", images)
    backbones.freeze(model, "vit_patching")
    assert {w.path.split("/")[0] for w in model.trainable_weights} == {
        "vit_encoder"
    }


def test_preset_without_image_converter(vit_preset, tmp_path):
    path, _ = vit_preset
    (path / "image_converter.json").unlink()
    with pytest.raises(ValueError, match=r"vit, without image_converter\.json"):
        backbones.kerashub(path, (8, 8, 3))
    with pytest.raises(ValueError, match=r"none, without config\.json"):
        backbones.kerashub(tmp_path / "none", (8, 8, 3))


def test_images_and_texts(tmp_path):
    """Cosines of features and prompts are the logits of CLIP itself."""
    path = presets.clip_preset(tmp_path / "clip")
    import keras_hub

    names = ["sea_lion", "cat"]
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 12, 10, 3), "uint8")
    preprocessor = keras_hub.models.CLIPPreprocessor.from_preset(str(path))
    clip = keras_hub.models.CLIPBackbone.from_preset(str(path))
    prompts = ["a photo of a sea lion.", "a photo of a cat."]
    tokens = preprocessor({"images": None, "prompts": prompts})["token_ids"]
    clip_images = preprocessor.image_converter(images.astype("float32"))
    want = clip({"images": clip_images, "token_ids": tokens})["vision_logits"]
    want /= np.exp(clip.clip_head.logit_scale)

    model = backbones.kerashub(path, (12, 10, 3))
    head = heads.get("cosine(scale=1,start='text')")
    layer, _ = head(losses.BalancedSoftmax([2, 1]), 2)
    layer.build(model.output_shape)
    found = backbones.text_features(path, head.prompts(names))
    head.begin_at(layer, found)
    np.testing.assert_allclose(layer(model(images)), want, atol=1e-5)
    assert not any("text" in weight.path for weight in model.weights)


def test_preset_without_texts(vit_preset):
    path, _ = vit_preset
    with pytest.raises(ValueError, match=r"such as CLIP\..* of ViTBackbone"):
        backbones.text_features(path, ["a cat"])


def test_no_application():
    with pytest.raises(ValueError, match=r"MobileNetV3Small, .*'resnet50'"):
        backbones.application("resnet50")
    with pytest.raises(ValueError, match="at least 32x32"):
        backbones.application("ResNet50", (8, 8, 3))
