"""ContrastivePretrainer: its outputs, training, saving and features."""

import json

import keras
import networks
import numpy as np
import presets
import pytest

from keras_lt import (
    datasets,
    dpp,
    features,
    losses,
    metrics,
    preprocessing,
    streams,
)
from keras_lt.models import (
    ContrastivePretrainer,
    TwoStage,
    backbones,
    classifier,
)


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits", split="train")


def backbone(**arguments):
    return backbones.cifar_resnet(8, input_shape=(8, 8, 1), **arguments)


def batches(dataset, batch_size=64):
    return streams.stream(
        dataset,
        sampling="random",
        batch_size=batch_size,
        seed=0,
        transform=preprocessing.two_views(preprocessing.simclr()),
    )


def compiled(model, temperature=0.5):
    model.compile(
        keras.optimizers.AdamW(1e-3, weight_decay=0.05, beta_2=0.95),
        losses.BalancedNegativeSampling(temperature),
    )
    return model


def test_views_stay_apart(digits):
    model = ContrastivePretrainer(backbone(), 5)
    views = digits.images[:4], digits.images[4:8]
    embeddings = model.predict(views, verbose=0)
    assert embeddings.shape == (4, 2, 5)
    for number, images in enumerate(views):
        alone = model.predict((images, images), verbose=0)
        np.testing.assert_allclose(embeddings[:, number], alone[:, 0], 1e-5)
    # The head by hand: two dense layers, ReLU between them.
    first, first_bias, second, second_bias = model.get_layer(
        "projection"
    ).get_weights()
    hidden = np.maximum(model.features(views[1]) @ first + first_bias, 0)
    want = hidden @ second + second_bias
    np.testing.assert_allclose(embeddings[:, 1], want, rtol=1e-4, atol=1e-5)


def test_training_clusters_the_classes(digits):
    model = compiled(ContrastivePretrainer(backbone(), 16))
    history = model.fit(
        batches(digits), steps_per_epoch=25, epochs=5, shuffle=False, verbose=0
    ).history
    assert history["loss"][-1] < 0.8 * history["loss"][0]
    extracted = features.extract(model, digits)
    np.testing.assert_allclose(
        extracted.features[:8], model.features(digits.images[:8]), 1e-4, 1e-5
    )
    assert extracted.features.shape == (len(digits), 64)
    # A second stage and a classifier go on from the same weights.
    probe = TwoStage.crt(model, 10)
    np.testing.assert_allclose(
        probe.features(digits.images[:8]), extracted.features[:8], 1e-4, 1e-5
    )
    tuned = classifier(model.backbone, 10)
    assert tuned.layers[1] is model.backbone.layers[1]


def test_l2_and_its_parts():
    model = ContrastivePretrainer(backbone(l2=0.5), 4, l2=0.25)
    squares = [
        sum(float((v**2).numpy().sum()) for v in part.trainable_weights)
        for part in (model.backbone, model.get_layer("projection"))
    ]
    np.testing.assert_allclose(
        sum(model.losses), squares[0] / 2 + squares[1] / 4, rtol=1e-5
    )


@pytest.fixture
def set_policy():
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_saves_and_goes_on(digits, policy, set_policy, tmp_path):
    set_policy(policy)
    network = networks.convolutional((8, 8, 1))
    model = compiled(ContrastivePretrainer(network, 6, l2=0.01))
    stream = batches(digits)
    model.fit(stream, steps_per_epoch=2, shuffle=False, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert json.dumps(loaded.get_config()) == json.dumps(model.get_config())
    after = []
    for each in (model, loaded):
        each.fit(stream, steps_per_epoch=2, shuffle=False, verbose=0)
        after.append(each.get_weights())
    for one, other in zip(*after, strict=True):
        np.testing.assert_array_equal(one, other)
    assert loaded.optimizer.iterations == 4


def test_two_replicas_equal_one_device(digits, set_policy, two_replicas):
    set_policy("float64")
    views = next(iter(batches(digits, 32)))

    def fit():
        keras.utils.set_random_seed(0)
        # Without batch statistics, which each replica has of its own.
        images = keras.Input((8, 8, 1), dtype="uint8")
        x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 16)(images))
        x = keras.layers.Dense(12, activation="tanh")(x)
        model = ContrastivePretrainer(keras.Model(images, x), 4)
        model.compile(
            keras.optimizers.SGD(0.01),
            losses.BalancedNegativeSampling(dtype="float64"),
        )
        (first, second), labels = views
        history = model.fit(
            (first.numpy(), second.numpy()),
            labels.numpy(),
            batch_size=16,
            epochs=3,
            shuffle=False,
            verbose=0,
        ).history
        return history["loss"], model.get_weights()

    want_loss, want_weights = fit()
    with two_replicas.scope():
        got_loss, got_weights = fit()
    assert want_loss[-1] < want_loss[0]
    np.testing.assert_allclose(got_loss, want_loss, rtol=1e-6)
    for got, want in zip(got_weights, want_weights, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-8, atol=1e-12)


def test_both_stages_of_a_vision_transformer(digits, tmp_path):
    transformer = presets.vit(hidden_dim=16, mlp_dim=32)
    images = keras.Input((8, 8, 1), dtype="uint8")
    x = keras.layers.Rescaling(1 / 128, offset=-1)(images)
    x = transformer(keras.layers.Concatenate()([x, x, x]))[:, 0]
    model = compiled(ContrastivePretrainer(keras.Model(images, x), 8))
    model.fit(batches(digits), steps_per_epoch=2, shuffle=False, verbose=0)
    second = TwoStage.crt(model, 10, freeze=False)
    second.compile(
        keras.optimizers.AdamW(1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    p, complements = metrics.true_class_probabilities(
        *metrics.predict(second, streams.evaluation(digits, 256))
    )
    drawn = dpp.balanced_subset(
        digits.labels,
        20,
        seed=0,
        probabilities=p,
        complements=complements,
        scale="n",
    )
    subset = streams.stream(
        digits.subset(drawn), sampling="random", batch_size=50, seed=0
    )
    second.fit(subset, steps_per_epoch=4, shuffle=False, verbose=0)
    second.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    few = digits.images[:9]
    np.testing.assert_allclose(
        loaded.predict(few, verbose=0), second.predict(few, verbose=0), 1e-5
    )
    before = model.features(few), second.features(few)
    assert np.abs(before[0] - before[1]).max() > 1e-3


def test_errors():
    with pytest.raises(ValueError, match=r"Expected projection_dim .*=0$"):
        ContrastivePretrainer(backbone(), 0)
    with pytest.raises(ValueError, match=r"Expected as backbone .* Received"):
        ContrastivePretrainer(keras.Sequential([keras.layers.Flatten()]))
