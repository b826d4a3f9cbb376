"""SGD against PyTorch's formula, rates by variable against plain optimizers."""

import functools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_lt import optimizers
from keras_lt.models import backbones, classifier

FACTORS = [0.1, 1.0, 0.0]
MAKE = {
    "sgd": lambda rate, kind=optimizers.SGD, **more: kind(
        rate, momentum=0.9, nesterov=True, **more
    ),
    "sgd_decay": lambda rate, kind=optimizers.SGD, **more: kind(
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


def test_pipeline():
    read = optimizers.pipeline
    assert read("sgd(momentum=0.9)") == optimizers.Pipeline("sgd(momentum=0.9)")
    for text in (
        "sgd(momentum=0.9)|sharpness_aware(0.5)|averaged",
        "sgd(momentum=0.9) | averaged(momentum=0.999)|sharpness_aware(0.5)",
    ):
        wanted = optimizers.Pipeline("sgd(momentum=0.9)", 0.5, 0.999)
        assert read(text) == wanted


@pytest.mark.parametrize(
    "text, error, message",
    [
        ("sgd|sam(0.5)", ValueError, "one of sharpness_aware, averaged"),
        ("sgd|averaged|averaged(0.9)", ValueError, "averaged once"),
        ("sgd|averaged(1)", ValueError, "momentum from 0 to 1"),
        ("sgd|averaged('a')", TypeError, "a number"),
        ("sgd|sharpness_aware(-1)", ValueError, "rho of at least 0"),
        ("sgd|sharpness_aware(decay=1)", ValueError, "no argument decay"),
    ],
)
def test_pipeline_refuses(text, error, message):
    with pytest.raises(error, match=message):
        optimizers.pipeline(text)


RATES = [0.5, 0.5, 0.5, 0.05, 0.05, 0.05]
SGD_ARGUMENTS = {
    "plain": {},
    "momentum": {"momentum": 0.9},
    "nesterov": {"momentum": 0.9, "nesterov": True},
    "decay": {"momentum": 0.9, "weight_decay": 0.3},
    "nesterov_decay": {"momentum": 0.8, "nesterov": True, "weight_decay": 0.3},
    "decay_alone": {"weight_decay": 0.3},
}


def drop():
    """The rates above, by step."""
    return keras.optimizers.schedules.PiecewiseConstantDecay([2], [0.5, 0.05])


def as_pytorch(
    momentum=0.0, nesterov=False, weight_decay=0.0, decayed=(1,) * 3
):
    """torch.optim.SGD's formula, in NumPy and float64."""
    weights = [np.float64(start) for start in starts()]
    velocities = [0.0] * len(weights)
    for rate, step in zip(RATES, gradients(len(RATES)), strict=True):
        for i, gradient in enumerate(np.float64(step)):
            gradient = gradient + weight_decay * decayed[i] * weights[i]
            velocities[i] = momentum * velocities[i] + gradient
            change = velocities[i]
            if nesterov:
                change = gradient + momentum * velocities[i]
            weights[i] = weights[i] - rate * change
    return weights


def applied(optimizer, dtype="float32", graph=False, dense=True):
    """Weights after the steps."""
    found = [keras.Variable(v, dtype=dtype, name=v.name) for v in variables()]
    optimizer.build(found)

    def step(*each):
        if not dense:
            each = [tf.IndexedSlices(g, tf.range(3), (3, 2)) for g in each]
        optimizer.apply(each, found)

    step = tf.function(step) if graph else step
    for each in gradients(len(RATES)):
        step(*(tf.constant(gradient) for gradient in each))
    return found


def assert_close(got, want, tolerance=1e-6):
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(keras.ops.cast(one, "float64")),
            other,
            rtol=tolerance,
            atol=tolerance,
        )


@pytest.mark.parametrize("name", SGD_ARGUMENTS)
@pytest.mark.parametrize("graph", [False, True])
def test_sgd_is_pytorchs(name, graph):
    """Over a drop of the rate, where Keras' own form is another."""
    arguments = SGD_ARGUMENTS[name]
    want = as_pytorch(**arguments)
    assert_close(
        applied(optimizers.SGD(drop(), **arguments), graph=graph), want
    )
    if name in ("momentum", "nesterov"):
        kerass = applied(keras.optimizers.SGD(drop(), **arguments))
        difference = np.abs(kerass[0].numpy() - want[0])
        # The velocity after three steps of 0.5, at least a step long.
        assert difference.max() > 0.5


@pytest.mark.parametrize("name", SGD_ARGUMENTS)
def test_sgd_is_torchs(name):
    torch = pytest.importorskip("torch")
    weights = [torch.nn.Parameter(torch.tensor(start)) for start in starts()]
    optimizer = torch.optim.SGD(
        weights, lr=1.0, **{"weight_decay": 0.0, **SGD_ARGUMENTS[name]}
    )
    for rate, step in zip(RATES, gradients(len(RATES)), strict=True):
        optimizer.param_groups[0]["lr"] = rate
        for weight, gradient in zip(weights, step, strict=True):
            weight.grad = torch.tensor(gradient)
        optimizer.step()
    found = applied(optimizers.SGD(drop(), **SGD_ARGUMENTS[name]))
    assert_close(found, [weight.detach().numpy() for weight in weights])


# Units of rounding, and a dozen of roundings of numbers up to 4.
@pytest.mark.parametrize(
    "dtype, tolerance",
    [
        ("float64", 1e-7),  # the rate is float32
        ("float16", 12 * 2.0**-11 * 4),
        ("bfloat16", 12 * 2.0**-8 * 4),
    ],
)
@pytest.mark.parametrize("graph", [False, True])
def test_sgd_in_other_precisions(dtype, tolerance, graph):
    arguments = SGD_ARGUMENTS["nesterov_decay"]
    found = applied(optimizers.SGD(drop(), **arguments), dtype, graph)
    assert {variable.dtype for variable in found} == {dtype}
    assert_close(found, as_pytorch(**arguments), tolerance)


def test_sgd_on_sparse_gradients():
    arguments = SGD_ARGUMENTS["nesterov_decay"]
    found = applied(optimizers.SGD(drop(), **arguments), dense=False)
    assert_close(found, as_pytorch(**arguments))


def test_sgd_leaves_variables_out_of_the_decay():
    optimizer = optimizers.SGD(drop(), **SGD_ARGUMENTS["decay"])
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    want = as_pytorch(**SGD_ARGUMENTS["decay"], decayed=(1, 0, 1))
    assert_close(applied(optimizer), want)


def test_sgd_clips_before_the_decay():
    clipped, plain = variables(), variables()
    optimizers.SGD(0.5, weight_decay=0.3, clipvalue=0.1).apply(
        [tf.fill((3, 2), 7.0)] * 3, clipped
    )
    optimizers.SGD(0.5, weight_decay=0.3).apply(
        [tf.fill((3, 2), 0.1)] * 3, plain
    )
    assert_close(clipped, [variable.numpy() for variable in plain])


@pytest.mark.parametrize("graph", [False, True])
def test_sgd_accumulates_gradients(graph):
    """Two gradients' mean, decayed once."""
    arguments = SGD_ARGUMENTS["decay"]
    found = applied(
        optimizers.SGD(0.5, gradient_accumulation_steps=2, **arguments),
        graph=graph,
    )
    want = variables()
    plain = optimizers.SGD(0.5, **arguments)
    for first, second in gradients(len(RATES)).reshape(3, 2, 3, 3, 2):
        plain.apply([tf.constant(g) for g in (first + second) / 2], want)
    assert_close(found, [variable.numpy() for variable in want])


def test_sgd_scales_the_loss():
    arguments = SGD_ARGUMENTS["nesterov_decay"]
    optimizer = keras.optimizers.LossScaleOptimizer(
        optimizers.SGD(drop(), **arguments), 4.0
    )
    found = variables()
    for step in gradients(len(RATES)):
        optimizer.apply([tf.constant(4.0 * g) for g in step], found)
    assert_close(found, as_pytorch(**arguments))


def test_sgd_averages_weights():
    arguments = SGD_ARGUMENTS["nesterov_decay"]
    optimizer = optimizers.SGD(
        drop(), use_ema=True, ema_momentum=0.75, **arguments
    )
    found, average = variables(), None
    for step in gradients(len(RATES)):
        optimizer.apply([tf.constant(g) for g in step], found)
        value = found[0].numpy()
        average = value if average is None else 0.75 * average + 0.25 * value
    assert_close(found, as_pytorch(**arguments))
    optimizer.finalize_variable_values(found)
    assert_close(found[:1], [average])


def orthogonalized(matrix, steps):
    """By singular values, on which the iteration acts one by one."""
    u, values, vt = np.linalg.svd(matrix, full_matrices=False)
    values /= np.linalg.norm(values)
    for _ in range(steps):
        values = 3.4445 * values - 4.7750 * values**3 + 2.0315 * values**5
    return u * values @ vt, values


@pytest.mark.parametrize("shape", [(2, 2, 3, 5), (1, 1, 3, 8)])
@pytest.mark.parametrize("graph", [False, True])
def test_muon_by_singular_values(shape, graph):
    rng = np.random.default_rng(0)
    start, *steps = rng.normal(size=(4, *shape))
    with keras.device("cpu"):
        kernel = keras.Variable(start, dtype="float64")
    optimizer = optimizers.Muon(0.2, muon_momentum=0.6, ns_steps=5)
    optimizer.build([kernel])
    apply = tf.function(optimizer.apply) if graph else optimizer.apply
    want, velocity = start.reshape(-1, shape[-1]), 0.0
    for gradient in steps:
        apply([tf.constant(gradient)])
        gradient = gradient.reshape(want.shape)
        velocity = 0.6 * velocity + gradient
        step, values = orthogonalized(gradient + 0.6 * velocity, 5)
        assert 0.6 < values.min() and values.max() < 1.3
        want = want * np.sqrt(shape[-1]) / np.linalg.norm(want) - 0.2 * step
    np.testing.assert_allclose(
        kernel.numpy().reshape(want.shape), want, rtol=1e-6, atol=1e-8
    )


def test_muon_steps_all_else_by_sgd():
    rng = np.random.default_rng(0)
    shapes = [(3, 2), (4,), (3, 3, 6, 1)]  # dense, bias, depthwise
    results = []
    for make in (optimizers.Muon, optimizers.SGD):
        rng = np.random.default_rng(0)
        trained = [
            keras.Variable(rng.normal(size=shape), dtype="float32")
            for shape in shapes
        ]
        optimizer = make(
            schedule(), momentum=0.8, nesterov=True, weight_decay=0.3
        )
        for _ in range(3):
            optimizer.apply(
                [tf.constant(rng.normal(size=s), "float32") for s in shapes],
                trained,
            )
        results.append(trained)
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


def test_muon_starts_from_zeros():
    kernel = keras.Variable(np.zeros((1, 1, 2, 2)), dtype="float32")
    optimizers.Muon(0.1).apply([tf.zeros((1, 1, 2, 2))], [kernel])
    np.testing.assert_array_equal(kernel, 0)


@pytest.mark.parametrize(
    "arguments, error, received",
    [
        ({"momentum": 0}, ValueError, "momentum=0, "),
        ({"muon_momentum": 1}, ValueError, "muon_momentum=1"),
        ({"muon_momentum": "a"}, TypeError, "muon_momentum='a'"),
        ({"ns_steps": 0}, ValueError, "ns_steps=0"),
        ({"ns_steps": 1.5}, ValueError, "ns_steps=1.5"),
    ],
    ids=str,
)
def test_muon_refuses(arguments, error, received):
    with pytest.raises(error, match=f"Expected .* Received: .*{received}"):
        optimizers.Muon(**arguments)


def test_muon_by_name():
    made = optimizers.get("muon(weight_decay=5e-4)", learning_rate=0.1)
    assert type(made) is optimizers.Muon and made.weight_decay == 5e-4
    theirs = optimizers.get("keras_muon", learning_rate=0.1)
    assert type(theirs) is keras.optimizers.Muon


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


@pytest.mark.parametrize(
    "kind, policy",
    [
        ("FineTuningAdamW", "mixed_float16"),
        ("FineTuningSGD", "float32"),
        ("SGD", "mixed_float16"),
        ("Muon", "mixed_float16"),
    ],
)
def test_saves_and_goes_on(kind, policy, set_policy, tmp_path):
    set_policy(policy)
    backbone, model, *data = model_and_data()
    make = getattr(optimizers, kind)
    if kind != "FineTuningAdamW":
        make = functools.partial(
            make, momentum=0.9, nesterov=True, weight_decay=0.01
        )
    if kind in ("SGD", "Muon"):
        make = without_factors(make)
    compiled(make, backbone, model)
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


def without_factors(kind):
    return lambda *args, rate_factors, **kwargs: kind(*args, **kwargs)


@pytest.mark.parametrize(
    "kind",
    [
        without_factors(optimizers.SGD),
        without_factors(optimizers.Muon),
        functools.partial(
            optimizers.FineTuningSGD, momentum=0.9, nesterov=True
        ),
        optimizers.FineTuningAdamW,
    ],
    ids=["SGD", "Muon", "FineTuningSGD", "FineTuningAdamW"],
)
def test_two_replicas_equal_one_device(kind, set_policy, two_replicas):
    set_policy("float64")

    def fit():
        keras.utils.set_random_seed(0)
        # Without batch statistics, which each replica has of its own.
        part = keras.layers.Conv2D(5, 2, activation="tanh")
        model = keras.Sequential(
            [
                keras.Input((2, 2, 1)),
                part,
                keras.layers.Flatten(),
                keras.layers.Dense(3),
            ]
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
        inputs, labels = rng.normal(size=(32, 2, 2, 1)), np.arange(32) % 3
        model.fit(
            inputs, labels, batch_size=16, epochs=3, shuffle=False, verbose=0
        )
        return model.get_weights()

    want = fit()
    with two_replicas.scope():
        got = fit()
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize(
    "arguments, error, received",
    [
        ({"momentum": 1.5}, ValueError, "momentum=1.5"),
        ({"momentum": "0.9"}, TypeError, "momentum='0.9'"),
        ({"weight_decay": -1}, ValueError, "weight_decay=-1.0"),
        ({"weight_decay": float("nan")}, ValueError, "weight_decay=nan"),
        ({"learning_rate": "0.1"}, TypeError, "learning_rate='0.1'"),
    ],
    ids=str,
)
def test_refuses_what_is_no_such_number(arguments, error, received):
    with pytest.raises(error, match=f"Expected .* Received: .*{received}"):
        optimizers.SGD(**arguments)


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
