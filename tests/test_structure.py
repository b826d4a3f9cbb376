"""Users' own Keras models, of every make, wherever a model is taken."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_lt import callbacks, datasets, export, features, optimizers
from keras_lt.models import (
    DLSA,
    DualBranch,
    TwoStage,
    backbones,
    feature_model,
    nearest_class_mean,
    stack,
    tau_normalize,
)

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 8, 8, 3), "uint8")
FLOATS = IMAGES.astype("float32")
LABELS = np.arange(6) % 3
DATA = datasets.from_arrays(IMAGES, LABELS, "abc")
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
layers = keras.layers


def body():
    """Features of four dimensions, all of which depend on the image."""
    return [
        layers.Rescaling(1 / 255),
        layers.Conv2D(4, 3, name="convolution"),
        layers.GlobalAveragePooling2D(),
    ]


def sequential(*end, images=True):
    start = [keras.Input((8, 8, 3))] if images else []
    return keras.Sequential([*start, *body(), *end])


def called(model):
    model(FLOATS[:4])
    return model


def trained(model):
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(FLOATS, LABELS, verbose=0)
    return model


def with_names():
    images = keras.Input((8, 8, 3), name="picture")
    logits = layers.Dense(3)(keras.Sequential(body())(images))
    return keras.Model({"picture": images}, {"scores": logits})


def with_operation():
    images = keras.Input((8, 8, 3))
    logits = sequential(layers.Dense(3))(images)
    return keras.Model(images, keras.ops.softmax(logits))


def with_shared_head():
    """A head that another model had before."""
    head = layers.Dense(3)
    head(keras.Input((4,)))
    return sequential(head)


class WithAttributes(keras.Sequential):
    """Names that mean something in models of ours, and nothing here."""

    def __init__(self):
        super().__init__([keras.Input((8, 8, 3)), *body(), layers.Dense(3)])
        self.classifier = layers.Dense(7)
        self.features = keras.Sequential([keras.Input((2,)), layers.Dense(2)])
        self.head = layers.Dense(5)
        self.tasks = ["a", "b"]


SOFTMAX = {"activation": "softmax"}
MODELS = {
    "with an input": lambda: sequential(layers.Dense(3)),
    "without one, called": lambda: called(
        sequential(layers.Dense(3), images=False)
    ),
    "without one, trained": lambda: trained(
        sequential(layers.Dense(3, **SOFTMAX), images=False)
    ),
    "softmax in the head": lambda: sequential(layers.Dense(3, **SOFTMAX)),
    "softmax layer": lambda: sequential(layers.Dense(3), layers.Softmax()),
    "activation layer": lambda: sequential(
        layers.Dense(3), layers.Activation("softmax", dtype="float32")
    ),
    "linear layer": lambda: sequential(
        layers.Dense(3), layers.Activation("linear", dtype="float32")
    ),
    "softmax operation": with_operation,
    "nested": lambda: keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            keras.Sequential(body(), name="backbone"),
            keras.Sequential([layers.Dense(4), layers.Dense(3)], name="mlp"),
        ]
    ),
    "nested softmax": lambda: keras.Sequential(
        [sequential(), keras.Sequential([layers.Dense(3, **SOFTMAX)])]
    ),
    "names": with_names,
    "shared head": with_shared_head,
    "attributes": WithAttributes,
}


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    keras.utils.set_random_seed(1)
    return MODELS[request.param]()


def probabilities(model):
    names = getattr(model, "input_names", [])
    outputs = model({"picture": FLOATS} if names == ["picture"] else FLOATS)
    if isinstance(outputs, dict):
        outputs = outputs["scores"]
    outputs = np.asarray(outputs)
    is_softmax = np.abs(outputs.sum(axis=1) - 1).max() < 1e-5
    return outputs if is_softmax else np.asarray(tf.nn.softmax(outputs))


def test_features_and_second_stages(model):
    wanted = probabilities(model)
    extracted = features.extract(model, DATA)
    kernel, bias = model.get_weights()[-2:]  # those of the head
    logits = extracted.features @ kernel + bias
    close(tf.nn.softmax(logits), wanted)
    close(TwoStage.lws(model)(FLOATS), logits)
    close(tau_normalize(model, 0.0)(FLOATS), extracted.features @ kernel)
    scaled = kernel / np.linalg.norm(kernel, axis=0)
    close(tau_normalize(model, 1.0)(FLOATS), extracted.features @ scaled)
    crt = TwoStage.crt(model, 3)
    close(crt.features(FLOATS), extracted.features)
    assert crt(FLOATS).shape == (6, 3)
    ncm = nearest_class_mean(model, extracted, 3, normalization="none")
    means = [extracted.features[LABELS == c].mean(axis=0) for c in range(3)]
    distances = extracted.features[:, None] - np.array(means)
    close(ncm(FLOATS), -np.square(distances).sum(axis=2))
    dlsa = DLSA(3, kernel.shape[0], num_clusters=2)
    close(stack(model, dlsa)(FLOATS), dlsa(extracted.features))


@pytest.mark.parametrize(
    "model",
    [
        "without one, called",
        "softmax in the head",
        "nested softmax",
        "names",
        "attributes",
    ],
    indirect=True,
)
def test_is_exported(model, tmp_path):
    export.save(model, tmp_path / "model", IMAGES)
    serve = tf.saved_model.load(tmp_path / "model").signatures
    for name, images in (("serving_default", IMAGES), ("serve_float", FLOATS)):
        served = serve[name](images=tf.constant(images))
        close(served["probabilities"], probabilities(model))
    served = serve["features"](images=tf.constant(IMAGES))["features"]
    close(served, features.extract(model, DATA).features)


@pytest.mark.parametrize(
    "make", [sequential, lambda: called(keras.Sequential(body()))]
)
def test_backbones(make):
    backbone = make()
    model = DualBranch(backbone, 3)
    close(model.features(FLOATS), np.asarray(backbone(FLOATS)))
    factors = optimizers.rate_factors(model, backbone, np.float32(0.5))
    assert factors == [0.5, 0.5, 1.0, 1.0, 1.0, 1.0]
    backbones.freeze(backbone)
    assert len(model.trainable_variables) == 4


def test_a_layer_that_is_a_model():
    model = MODELS["nested"]()
    wanted = model.get_layer("backbone")(FLOATS)
    close(feature_model(model, "backbone")(FLOATS), wanted)
    with pytest.raises(ValueError, match=r"layer: backbone, mlp. Rec.*'other'"):
        feature_model(model, "other")


TAKERS = {
    "extract": lambda model, path: features.extract(model, DATA),
    "crt": lambda model, path: TwoStage.crt(model, 3),
    "lws": lambda model, path: TwoStage.lws(model),
    "tau": lambda model, path: tau_normalize(model),
    "stack": lambda model, path: stack(model, DLSA(3, 4, num_clusters=2)),
    "export": lambda model, path: export.save(model, path / "model"),
    "litert": lambda model, path: export.save_litert(model, path / "model"),
    "dual branch": lambda model, path: DualBranch(model, 3),
    "rate factors": lambda model, path: optimizers.rate_factors(
        model, model, 0.1
    ),
}


@pytest.mark.parametrize("take", TAKERS.values(), ids=TAKERS)
def test_a_model_that_is_not_built(take, tmp_path):
    model = sequential(layers.Dense(3), images=False)
    with pytest.raises(ValueError, match=r"Expected .* built.*Received: "):
        take(model, tmp_path)
    assert not list(tmp_path.iterdir())


def test_no_model(tmp_path):
    for take in [*TAKERS.values()][:-1]:
        with pytest.raises(TypeError, match=r"a keras.Model\. Received: .*=3"):
            take(3, tmp_path)


@pytest.mark.parametrize(
    "end",
    [
        [layers.Dense(3, activation="sigmoid")],
        [layers.Dense(3), layers.Activation("tanh")],
    ],
)
def test_other_activations_are_no_logits(end, tmp_path):
    with pytest.raises(ValueError, match=r"by a softmax. Received: .*, which"):
        export.save(sequential(*end), tmp_path / "model")


def test_an_attribute_that_a_callback_reads():
    model = WithAttributes()
    model.compile("sgd", LOSS)
    with pytest.raises(ValueError, match="Expected a model compiled with a l"):
        model.fit(
            FLOATS,
            LABELS,
            callbacks=[callbacks.DeferredReweighting(1)],
            verbose=0,
        )
