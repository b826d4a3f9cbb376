"""Rates by variable against an optimizer of that rate for each alone."""

import json

import keras
import numpy as np
import pytest

from keras_lt import optimizers
from keras_lt.models import backbones, classifier

FACTORS = [0.1, 1.0, 0.0]
MAKE = {
    "sgd": lambda rate, kind=keras.optimizers.SGD, **more: kind(
        rate, momentum=0.9, nesterov=True, **more
    ),
    "sgd_decay": lambda rate, kind=keras.optimizers.SGD, **more: kind(
        rate, momentum=0.9, weight_decay=0.3, **more
    ),
    "adamw": lambda rate, kind=keras.optimizers.AdamW, **more: kind(
        rate, weight_decay=0.3, **more
    ),
}
KINDS = {
    "sgd": optimizers.FineTuningSGD,
    "sgd_decay": optimizers.FineTuningSGD,
    "adamw": optimizers.FineTuningAdamW,
}


def schedule(factor=1.0):
    return keras.optimizers.schedules.CosineDecay(0.2 * factor, 10)


def starts():
    rng = np.random.default_rng(0)
    return [rng.normal(size=(3, 2)).astype("float32") for _ in FACTORS]


def variables(names=("kernel", "bias", "kernel")):
    return [
        keras.Variable(value, name=name)
        for value, name in zip(starts(), names, strict=True)
    ]


def gradients(steps):
    rng = np.random.default_rng(1)
    return rng.normal(size=(steps, len(FACTORS), 3, 2)).astype("float32")


@pytest.mark.parametrize("name", MAKE)
@pytest.mark.parametrize("excluded", [False, True])
def test_equals_optimizers_of_each_rate(name, excluded):
    """Over a schedule, one plain optimizer a variable at the scaled rate."""
    steps = gradients(6)
    ours = MAKE[name](schedule(), KINDS[name], rate_factors=FACTORS)
    theirs = [MAKE[name](schedule(factor)) for factor in FACTORS]
    for optimizer in (ours, *theirs) if excluded else ():
        optimizer.exclude_from_weight_decay(var_names=["bias"])
    got, want = variables(), variables()
    for step in steps:
        ours.apply([keras.ops.convert_to_tensor(g) for g in step], got)
        for optimizer, gradient, variable in zip(
            theirs, step, want, strict=True
        ):
            optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-7)
    assert np.abs(np.asarray(got[0]) - starts()[0]).max() > 1e-3
    np.testing.assert_array_equal(got[2], starts()[2])  # its factor is 0


@pytest.fixture
def set_policy():
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy("float32")


def model_and_data():
    keras.utils.set_random_seed(0)
    backbone = backbones.cifar_resnet(8, input_shape=(8, 8, 3))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (64, 8, 8, 3), "uint8")
    return backbone, classifier(backbone, 10), images, np.arange(64) % 10


def compiled(kind, backbone, model):
    factors = optimizers.rate_factors(model, backbone, 0.1)
    assert factors == [0.1] * (len(factors) - 2) + [1.0, 1.0]
    model.compile(
        kind(schedule(), rate_factors=factors),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_saves_and_goes_on(policy, set_policy, tmp_path):
    set_policy(policy)
    backbone, model, *data = model_and_data()
    compiled(optimizers.FineTuningAdamW, backbone, model)
    fit = {"batch_size": 32, "shuffle": False, "verbose": 0}
    model.fit(*data, **fit)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    config = loaded.optimizer.get_config()
    assert json.loads(json.dumps(config)) == config
    after = []
    for each in (model, loaded):
        each.fit(*data, **fit)
        after.append(each.get_weights())
    for one, other in zip(*after, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("kind", [*dict.fromkeys(KINDS.values())])
def test_two_replicas_equal_one_device(kind, set_policy, two_replicas):
    set_policy("float64")

    def fit():
        keras.utils.set_random_seed(0)
        # Without batch statistics, which each replica has of its own.
        part = keras.layers.Dense(5, activation="tanh")
        model = keras.Sequential(
            [keras.Input((4,)), part, keras.layers.Dense(3)]
        )
        model.compile(
            kind(
                0.05,
                weight_decay=0.2,
                rate_factors=optimizers.rate_factors(model, part, 0.1),
            ),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        rng = np.random.default_rng(0)
        inputs, labels = rng.normal(size=(32, 4)), np.arange(32) % 3
        model.fit(
            inputs, labels, batch_size=16, epochs=3, shuffle=False, verbose=0
        )
        return model.get_weights()

    want = fit()
    with two_replicas.scope():
        got = fit()
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-12)


def test_errors():
    with pytest.raises(ValueError, match=r"Expected rate_factors .*\[-1.0\]"):
        optimizers.FineTuningSGD(0.1, rate_factors=[-1.0])
    optimizer = optimizers.FineTuningAdamW(0.1, rate_factors=[1.0])
    with pytest.raises(ValueError, match="Received: 1 rate_factors for 3"):
        optimizer.build(variables())
    _, model, *_ = model_and_data()
    other = backbones.cifar_resnet(8, name="other")
    with pytest.raises(ValueError, match="Received: part=other, model="):
        optimizers.rate_factors(model, other, 0.1)
