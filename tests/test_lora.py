"""What is trained of a backbone: low-rank changes, normalizations, biases."""

import h5py
import keras
import numpy as np
import pytest

from keras_lt import callbacks, model_files, trainable
from keras_lt.models import backbones, classifier
from keras_lt.models.lora import lora, merged
from keras_lt.models.norm_and_bias import norm_and_bias

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
LABELS = np.arange(8) % 3


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (8, 8, 8, 3), "uint8")


def network(tune, seed=0, rate=0.1):
    """A compiled classifier on a tuned ResNet, the same for the same seed."""
    keras.utils.set_random_seed(seed)
    backbone = tune(backbones.cifar_resnet(8, input_shape=(8, 8, 3)))
    model = classifier(backbone, 3)
    model.compile(keras.optimizers.SGD(rate, 0.9), LOSS)
    return model


def values(weights):
    return [keras.ops.convert_to_numpy(weight) for weight in weights]


def equal(first, second):
    return all(map(np.array_equal, first, second))


def size(weights):
    return sum(int(np.prod(weight.shape)) for weight in weights)


def test_lora_of_a_resnet(images):
    rank = 3
    backbone = backbones.cifar_resnet(8, input_shape=(8, 8, 3))
    before = np.asarray(backbone(images))
    tuned = lora(rank, layers="stage3")(backbone)
    np.testing.assert_array_equal(tuned(images), before)  # B is 0
    # Two 3 x 3 convolutions of 64 filters, the first one on 32 channels.
    wanted = rank * (9 * 32 + 64) + rank * (9 * 64 + 64)
    assert size(tuned.trainable_weights) == wanted
    table = trainable.shares(tuned)
    assert table["all"] == (wanted, tuned.count_params())
    assert table["frozen"].trained == 0
    assert f"{wanted:,}" in trainable.table(tuned)


def test_nothing_but_changes_of_low_rank_is_trained(images):
    model = network(lora(2))
    frozen = trainable.frozen_weights(model)
    before = values(frozen)
    trained = values(model.trainable_weights)
    model.fit(images, LABELS, epochs=2, verbose=0)  # A moves when B has
    assert equal(values(frozen), before)  # batch statistics too
    assert not any(
        map(np.array_equal, values(model.trainable_weights), trained)
    )
    assert {w.name for w in model.trainable_weights} == {
        "lora_kernel_a",
        "lora_kernel_b",
        "kernel",
        "bias",
    }


def test_merged(images, tmp_path):
    model = network(lora(2), rate=0.5)
    model.fit(images, LABELS, verbose=0)
    wanted, held = model.predict(images, verbose=0), values(model.weights)
    with merged(model) as changed:
        assert changed
        model.save(tmp_path / "model.keras")
    assert equal(values(model.weights), held)
    plain = model_files.load_model(tmp_path / "model.keras", compile=False)
    assert not any("lora" in weight.path for weight in plain.weights)
    found = plain.predict(images, verbose=0)
    np.testing.assert_allclose(found, wanted, atol=1e-5 * abs(wanted).max())
    with merged(plain) as changed:
        assert not changed


@pytest.fixture
def global_policy():
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy("float32")


# bfloat16 has 8 significant bits, float16 11: a few of the last may differ.
@pytest.mark.parametrize(
    "policy, near", [("mixed_bfloat16", 2**-6), ("mixed_float16", 2**-9)]
)
@pytest.mark.parametrize("tune", [lora(2), norm_and_bias()])
def test_16_bits(tune, policy, near, images, tmp_path, global_policy):
    losses = {}
    for name in ("float32", policy):
        global_policy(name)
        model = network(tune)
        losses[name] = model.fit(
            images, LABELS, epochs=4, shuffle=False, verbose=0
        ).history["loss"]
    assert min(losses[policy]) < 0.9 * losses[policy][0]
    np.testing.assert_allclose(losses[policy], losses["float32"], rtol=near)
    assert {weight.dtype for weight in model.weights} == {"float32"}
    wanted = model.predict(images, verbose=0)
    with merged(model):
        model.save(tmp_path / "model.keras")
    plain = model_files.load_model(tmp_path / "model.keras", compile=False)
    found = plain.predict(images, verbose=0)
    np.testing.assert_allclose(found, wanted, atol=near * abs(wanted).max())


@pytest.mark.parametrize("layers", ["stage9", ("a", "b")])
def test_lora_of_no_layer(layers):
    backbone = backbones.cifar_resnet(8, input_shape=(8, 8, 3))
    with pytest.raises(ValueError, match=r"start with stem, stage1.*Received"):
        lora(2, layers)(backbone)


def test_norm_and_bias(images):
    model = network(norm_and_bias())
    names = [weight.name for weight in model.trainable_weights]
    assert set(names) == {"gamma", "beta", "kernel", "bias"}
    assert names.count("kernel") == 1  # the classifier's
    kernels = [w for w in model.weights if "_conv" in w.path]
    moving = [w for w in model.weights if "moving" in w.path]
    before, statistics = values(kernels), values(moving)
    model.fit(images, LABELS, verbose=0)
    assert equal(values(kernels), before)
    assert not equal(values(moving), statistics)
    with pytest.raises(ValueError, match="normalizations or biases"):
        norm_and_bias()(keras.Sequential([keras.Input((8,))]))


@pytest.mark.parametrize("tune", [lora(2), norm_and_bias()])
def test_checkpoints_hold_what_is_trained(tune, images, tmp_path):
    def train(epochs, directory):
        model = network(tune)
        checkpointing = callbacks.Checkpointing(directory, monitor="score")
        averages = callbacks.AveragedWeights(model, 0.5, checkpointing)
        checkpointing.restore(model)
        score = keras.callbacks.LambdaCallback(
            on_epoch_end=lambda epoch, logs: logs.update(score=epoch == 0)
        )
        for _, span in checkpointing.spans(1, epochs):
            model.fit(
                images,
                LABELS,
                batch_size=8,
                shuffle=False,
                verbose=0,
                callbacks=[averages, score, checkpointing],
                **span,
            )
        return model, checkpointing, averages

    first, _, _ = train(1, tmp_path / "cut")
    resumed, checkpointing, averages = train(3, tmp_path / "cut")
    whole, _, wanted = train(3, tmp_path / "whole")
    assert checkpointing.starts == 2
    assert equal(values(resumed.weights), values(whole.weights))
    assert equal(
        values(resumed.optimizer.variables), values(whole.optimizer.variables)
    )
    assert equal(values(averages._averages), values(wanted._averages))

    path = checkpointing.best["path"]
    with h5py.File(path) as file:
        stored = sum(each.size for each in file["trained"].values())
    changing = trainable.changing_weights(resumed)
    assert stored == size(changing) < 0.5 * size(resumed.weights)

    # The best epoch, given to the model and to another one of the flags.
    other = network(tune, rate=0.0)
    model_files.load_weights(other, path)
    assert equal(values(other.weights), values(first.weights))


def test_frozen_weights_have_to_be_the_same(images, tmp_path):
    def restore(model):
        checkpointing = callbacks.Checkpointing(tmp_path / "checkpoints")
        checkpointing.restore(model)
        return checkpointing

    model = network(lora(2))
    model.fit(images, LABELS, verbose=0, callbacks=[restore(model)])
    restore(network(lora(2)))
    for other, message in (
        (network(lora(2), seed=1), "not trained are others"),
        (network(lora(2, "stage3")), "holds 16 trained weights, and the model"),
        (network(lora(3)), "shape"),
    ):
        with pytest.raises(ValueError, match=message):
            restore(other)
