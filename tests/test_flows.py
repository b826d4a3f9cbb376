"""Flows against the authors' code, and against what defines a flow."""

import json
import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from golden import load_cases, report_cases
from sklearn.datasets import make_moons

from keras_lt.models import FlowGaussianMixture, MaskedAutoregressiveFlow

PI_SHIFT = 1e-5  # The authors' log p has 3.141593 for pi.


def features(size=32, dim=5, seed=0):
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(size, dim)) @ rng.normal(size=(dim, dim))
    return mixed.astype("float32") + 0.5


def randomize(model, seed=0):
    """Gives all weights, statistics included, values off their start."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        value = rng.normal(0.0, 0.2, weight.shape)
        if weight.name == "moving_variance":
            value = np.exp(value)
        weight.assign(weight + value)


def step_to_likelihood(model, optimizer, x):
    with tf.GradientTape() as tape:
        if isinstance(model, FlowGaussianMixture):
            values = model.log_likelihood(x, training=True)
        else:
            values = model.log_prob(x, training=True)
        loss = -tf.reduce_mean(values)
    weights = model.trainable_weights
    optimizer.apply(tape.gradient(loss, weights), weights)
    return loss


def trained_flow(x, steps=10, **kwargs):
    keras.utils.set_random_seed(0)
    flow = MaskedAutoregressiveFlow(**kwargs)
    flow.build(x.shape)
    optimizer = keras.optimizers.Adam(0.01)
    for _ in range(steps):
        step_to_likelihood(flow, optimizer, x)
    return flow


# The authors' code.


def weights_by_name(mixture):
    """Their names of the weights -> ours, with those to be transposed."""
    names = {"means": mixture.means}
    for i, step in enumerate(mixture.flow.steps):
        if hasattr(step, "dense_layers"):
            for j, layer in enumerate(step.dense_layers):
                part = f"net.{2 * j - 1}" if j else "net_input"
                names[f"nf.net.{i}.{part}.weight"] = layer.kernel
                names[f"nf.net.{i}.{part}.bias"] = layer.bias
        else:
            for theirs, ours in {
                "log_gamma": step.log_gamma,
                "beta": step.beta,
                "running_mean": step.moving_mean,
                "running_var": step.moving_variance,
            }.items():
                names[f"nf.net.{i}.{theirs}"] = ours
    return names


def as_ours(name, value):
    if name == "means":
        return value[0]
    return value.T if name.endswith("weight") else value


def mixture_of(case, dtype):
    flow = MaskedAutoregressiveFlow(
        num_blocks=int(case["n_blocks"]),
        hidden_layers=int(case["n_hidden"]),
        batch_norm=bool(case["batch_norm"]),
        dtype=dtype,
    )
    mixture = FlowGaussianMixture(
        int(case["num_cluster"]), 1.0, flow, dtype=dtype
    )
    mixture.build(case["x"].shape)
    ours = weights_by_name(mixture)
    stored = [
        name
        for name in map(str, case["state_names"])
        if not re.search(r"mask$|base_dist", name)
    ]
    assert sorted(stored) == sorted(ours)
    for name in stored:
        ours[name].assign(as_ours(name, case[f"state/{name}"]))
    for i, made in enumerate(flow.steps[:: 1 + flow.batch_norm]):
        assert made.order == case["input_degrees"][i].tolist()
    return mixture, ours


class Comparison:
    """Holds values against those of a case, to what the README allows."""

    def __init__(self, name, case, dtype):
        self.name, self.case, self.dtype = name, case, dtype
        self.largest_gradient = max(
            np.abs(value).max()
            for key, value in case.items()
            if key.startswith("train1_grad/")
        )

    def __call__(self, got, key, ours=lambda value: value):
        want = ours(self.case[key])
        rtol, atol = (1e-8, 1e-9) if self.dtype == "float64" else (1e-5, 1e-5)
        # Under a normalization the gradients of biases and scales are small
        # differences of large terms, so those of a case have one measure.
        weights = key.startswith("train1_grad/")
        atol *= self.largest_gradient if weights else np.abs(want).max()
        if re.search("log_(p|lh|prob)", key) and "maf" not in key:
            atol = max(atol, PI_SHIFT)
        assert tf.as_dtype(got.dtype) == self.dtype
        np.testing.assert_allclose(
            got, want, rtol, atol, err_msg=f"{self.name} {key}"
        )


@pytest.mark.golden
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_golden_maf_flow(dtype):
    cases = load_cases("maf_flow")
    for name, case in cases:
        mixture, ours = mixture_of(case, dtype)
        flow = mixture.flow
        check = Comparison(name, case, dtype)
        x = tf.constant(case["x"], dtype)

        def check_outputs(
            stage, x, training, mixture=mixture, check=check, case=case
        ):
            """Every output of a stage that the case has."""
            u, log_abs_det = mixture.flow(x, training=training)
            got = {
                "u": u,
                "log_abs_det": log_abs_det,
                "log_p_x": mixture.log_joint_of(u, log_abs_det),
            }
            for part in got.keys() & {
                key.removeprefix(f"{stage}_") for key in case
            }:
                check(got[part], f"{stage}_{part}")
            return got

        eval0 = check_outputs("eval0", x, False)
        check(flow.log_prob(x), "eval0_maf_log_prob")
        check(mixture.log_joint(x), "eval0_log_p_x")
        check(mixture.log_likelihood(x), "eval0_log_lh")
        check(
            mixture.log_likelihood(x, mask=case["cluster_mask"]),
            "eval0_masked_log_lh",
        )
        np.testing.assert_array_equal(
            mixture.assign(x), case["eval0_log_p_x"].argmax(axis=1)
        )
        inverse, log_abs_det = flow.inverse(eval0["u"])
        check(inverse, "inverse_x")
        check(log_abs_det, "inverse_log_abs_det")

        # Two evaluations, of which only one may move the statistics.
        before = mixture.get_weights()
        check_outputs("train1", x, True)
        mixture.set_weights(before)
        with tf.GradientTape() as tape:
            tape.watch(x)
            log_likelihood = mixture.log_likelihood(x, training=True)
            loss = -tf.reduce_mean(log_likelihood)
        check(log_likelihood, "train1_log_lh")
        check(loss, "train1_neg_mean_log_lh")
        names = [str(grad_name) for grad_name in case["grad_names"]]
        assert len(names) == len(mixture.trainable_weights)
        gradient_x, gradients = tape.gradient(
            loss, [x, [ours[name].value for name in names]]
        )
        check(gradient_x, "train1_grad_x")
        for grad_name, value in zip(names, gradients, strict=True):
            check(
                value,
                f"train1_grad/{grad_name}",
                lambda want, grad_name=grad_name: as_ours(grad_name, want),
            )

        def check_statistics(stage, ours=ours, check=check, case=case):
            for key in case:
                if key.startswith(f"{stage}/"):
                    check(ours[key.removeprefix(f"{stage}/")], key)

        check_statistics("after_train1")
        x2 = tf.constant(case["x2"], dtype)
        check(mixture.log_likelihood(x2, training=True), "train2_log_lh")
        check_statistics("after_train2")
        check_outputs("eval2", x, False)
        check(mixture.log_likelihood(x), "eval2_log_lh")
    if dtype == "float64":
        report_cases("maf_flow", cases)


# What defines a flow.


@pytest.mark.parametrize("num_blocks", [1, 3])
@pytest.mark.parametrize("hidden_units", [None, 1, 16])
@pytest.mark.parametrize("hidden_layers", [0, 2])
def test_log_abs_det_is_of_the_jacobian(
    num_blocks, hidden_units, hidden_layers
):
    flow = MaskedAutoregressiveFlow(
        num_blocks, hidden_units, hidden_layers, dtype="float64"
    )
    x = tf.constant(features(), "float64")
    flow(x)
    randomize(flow)
    with tf.GradientTape() as tape:
        tape.watch(x)
        u, log_abs_det = flow(x)
    jacobian = tape.batch_jacobian(u, x)
    want = np.linalg.slogdet(jacobian)[1]
    np.testing.assert_allclose(tf.reduce_sum(log_abs_det, 1), want, atol=1e-9)
    if num_blocks == 1:
        np.testing.assert_array_equal(np.triu(jacobian, 1), 0)
        diagonal = np.diagonal(jacobian, axis1=1, axis2=2)
        np.testing.assert_allclose(log_abs_det, np.log(diagonal), atol=1e-9)
        if hidden_units == 16:  # no degree of which all units are off
            below = np.abs(jacobian).max(axis=0)[np.tril_indices(5, -1)]
            assert (below > 0).all()


def test_second_block_has_the_reverse_order():
    flow = MaskedAutoregressiveFlow(2, hidden_units=16, batch_norm=False)
    x = tf.constant(features())
    flow(x)
    randomize(flow)
    with tf.GradientTape() as tape:
        tape.watch(x)
        u, _ = flow.steps[1](x)
    jacobian = tape.batch_jacobian(u, x)
    np.testing.assert_array_equal(np.tril(jacobian, -1), 0)
    assert (np.abs(jacobian).max(axis=0)[np.triu_indices(5)] > 0).all()


def test_masked_weights_have_no_gradient():
    flow = MaskedAutoregressiveFlow(2, hidden_units=7)
    x = features()
    flow(x)
    randomize(flow)
    with tf.GradientTape() as tape:
        loss = -tf.reduce_mean(flow.log_prob(x, training=True))
    layers = [layer for made in flow.steps[::2] for layer in made.dense_layers]
    gradients = tape.gradient(loss, [layer.kernel.value for layer in layers])
    for layer, gradient in zip(layers, gradients, strict=True):
        forbidden = np.greater.outer(layer.input_degrees, layer.output_degrees)
        assert forbidden.any()
        assert (gradient.numpy()[forbidden] == 0).all()
        assert (gradient.numpy()[~forbidden] != 0).any()


@pytest.mark.parametrize(
    "dim, kwargs",
    [(1, {}), (2, {}), (8, {}), (8, {"hidden_units": 5})],
    ids=str,
)
def test_inverse_after_training(dim, kwargs):
    x = features(64, dim)
    flow = trained_flow(x, num_blocks=3, **kwargs)
    u, log_abs_det = flow(x)
    assert u.dtype == "float32"
    assert np.abs(u - x).max() > 0.1
    inverse, inverse_log_abs_det = tf.function(flow.inverse)(u)
    np.testing.assert_allclose(inverse, x, atol=1e-5)
    np.testing.assert_allclose(inverse_log_abs_det, -log_abs_det, atol=1e-5)


def test_inverse_of_a_new_flow():
    flow = MaskedAutoregressiveFlow()
    u = features()
    np.testing.assert_allclose(flow(flow.inverse(u)[0])[0], u, atol=1e-5)


def test_inverse_where_what_is_not_set_would_overflow():
    """u * exp(a) of a dimension that waits for others may be infinite."""
    flow = MaskedAutoregressiveFlow(1, hidden_layers=0, batch_norm=False)
    flow.build((None, 2))
    hidden, output = flow.steps[0].dense_layers
    hidden.kernel.assign([[1.0, 1.0], [0.0, 0.0]])
    hidden.bias.assign([0.0, 0.0])
    # m = (100, 0), a = (0, 100 - h): at x_0 = 0, exp(a_1) is infinite.
    output.kernel.assign([[0, 0, 0, -1.0], [0, 0, 0, 0]])
    output.bias.assign([100.0, 0.0, 0.0, 100.0])
    x, _ = flow.inverse([[0.0, 2.0]])
    np.testing.assert_allclose(x, [[100.0, 2.0]], rtol=1e-6)


def test_log_prob_is_a_density():
    """It integrates to one over a grid of the plane."""
    flow = trained_flow(features(128, 2), steps=20, num_blocks=2)
    axis = np.linspace(-12, 12, 241)
    grid = np.stack(np.meshgrid(axis, axis), -1).reshape(-1, 2)
    density = np.exp(flow.log_prob(grid))
    assert density.sum() * (axis[1] - axis[0]) ** 2 == pytest.approx(
        1, abs=0.01
    )


def test_mixture_log_joint_by_scipy():
    stats = pytest.importorskip("scipy.stats")
    mixture = FlowGaussianMixture(3, 2.0, dtype="float64")
    x = features()
    mixture(x)
    randomize(mixture)
    u, log_abs_det = mixture.flow(x)
    want = [
        stats.multivariate_normal(mean).logpdf(u)
        for mean in np.asarray(mixture.means)
    ] + np.sum(log_abs_det, axis=1)
    np.testing.assert_allclose(mixture(x), np.transpose(want), rtol=1e-9)
    total = np.log(np.exp(want).mean(axis=0))
    np.testing.assert_allclose(mixture.log_likelihood(x), total, rtol=1e-9)
    np.testing.assert_array_equal(mixture.assign(x), np.argmax(want, axis=0))


def test_mixture_of_far_samples_in_float32():
    """Posteriors are right where |u|^2 is far above their differences."""
    mixture = FlowGaussianMixture(8, 0.05)
    mixture.build((None, 64))
    u = np.random.default_rng(0).normal(0, 100, (16, 64)).astype("float32")
    joint = np.asarray(mixture.log_joint_of(u, np.zeros_like(u)), "float64")
    means = np.asarray(mixture.means, "float64")
    exact = -0.5 * np.square(u[:, None].astype("float64") - means).sum(-1)
    np.testing.assert_allclose(joint, exact - 64 / 2 * np.log(2 * np.pi), 1e-6)
    assert (joint.argmax(1) == exact.argmax(1)).all()


def test_means_are_of_the_seed_and_fixed():
    x = features(64, 20)

    def means(seed):
        mixture = FlowGaussianMixture(50, 0.5, seed=seed)
        mixture(x)
        return mixture, mixture.means.numpy()

    mixture, value = means(3)
    np.testing.assert_array_equal(value, means(3)[1])
    assert np.abs(value - means(4)[1]).max() > 0.5
    assert value.mean() == pytest.approx(0.0, abs=0.05)
    assert value.std() == pytest.approx(0.5, rel=0.05)
    step_to_likelihood(mixture, keras.optimizers.Adam(0.1), x)
    np.testing.assert_array_equal(mixture.means, value)


def test_mixture_keeps_a_trained_flow():
    x = features()
    flow = trained_flow(x)
    want = flow(x)[0]
    mixture = FlowGaussianMixture(4, 0.1, flow)
    mixture(x)
    np.testing.assert_array_equal(mixture.flow(x)[0], want)


# Batch normalization.


@pytest.mark.parametrize("size", [0, 1])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_too_few_samples_are_normalized_as_in_inference(size, jit_compile):
    flow = MaskedAutoregressiveFlow(2)
    x = tf.constant(features())
    flow(x)
    randomize(flow)
    want = flow(x[:size])
    before = flow.get_weights()

    @tf.function(
        input_signature=[tf.TensorSpec((None, 5))], jit_compile=jit_compile
    )
    def step(x):
        with tf.GradientTape() as tape:
            u, log_abs_det = flow(x, training=True)
            loss = tf.reduce_sum(u**2 - log_abs_det)
        return u, log_abs_det, tape.gradient(loss, flow.trainable_weights)

    *outputs, gradients = step(x[:size])
    for value, wanted in zip(outputs, want, strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=1e-5)
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    for value, wanted in zip(flow.get_weights(), before, strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-6)
    mean = flow.steps[1].moving_mean.numpy()
    step(x)
    assert np.abs(flow.steps[1].moving_mean - mean).min() > 0


def test_frozen_flow_does_not_move():
    flow = MaskedAutoregressiveFlow(2)
    x = features()
    want = flow(x)[0]
    flow.trainable = False
    np.testing.assert_array_equal(flow(x, training=True)[0], want)
    np.testing.assert_array_equal(flow(x)[0], want)


def test_constant_dimensions_stay_finite():
    x = features()
    x[:, 2] = 3.0
    flow = trained_flow(x)
    assert np.isfinite(flow.log_prob(x)).all()


# A Keras model.


def log_loss(_, log_joint):
    return -tf.reduce_logsumexp(log_joint, axis=1)


def compiled_mixture():
    keras.utils.set_random_seed(0)
    mixture = FlowGaussianMixture(4, 0.5)
    mixture.build((None, 5))
    mixture.compile(keras.optimizers.SGD(0.05), log_loss)
    return mixture


def fit(model, x):
    data = tf.data.Dataset.from_tensors((x, np.zeros(len(x)))).repeat(3)
    model.fit(data, epochs=1, verbose=0)
    return model.get_weights()


def test_replicas_normalize_by_their_own_samples(two_replicas):
    """Two replicas that see the same half do what one does with it."""
    x = features(16)
    want = fit(compiled_mixture(), x)
    with two_replicas.scope():
        mixture = compiled_mixture()
    before = mixture.get_weights()
    got = fit(mixture, np.concatenate([x, x]))
    moved = 0
    for value, wanted, start in zip(got, want, before, strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-4, atol=1e-5)
        moved += np.abs(wanted - start).max() > 1e-3
    assert moved == len(want) - 1  # all but the means


@pytest.mark.parametrize("model_class", ["flow", "mixture"])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_eager_equals_graph(model_class, jit_compile):
    x = features()

    def run(wrap):
        keras.utils.set_random_seed(0)
        flow = MaskedAutoregressiveFlow(2, hidden_units=6)
        mixture = FlowGaussianMixture(3, 0.5, flow)
        mixture(x)
        randomize(mixture)
        model = flow if model_class == "flow" else mixture
        optimizer = keras.optimizers.SGD(0.01)
        optimizer.build(model.trainable_weights)
        loss = wrap(lambda x: step_to_likelihood(model, optimizer, x))(x)
        inverse = wrap(lambda x: flow.inverse(flow(x)[0])[0])(x)
        return [loss, inverse, wrap(mixture.assign)(x), *model.get_weights()]

    graph = run(lambda f: tf.function(f, jit_compile=jit_compile))
    for got, want in zip(graph, run(lambda f: f), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


MODELS = {
    "flow": lambda: MaskedAutoregressiveFlow(3, 6, 2, False, name="a_flow"),
    "mixture": lambda: FlowGaussianMixture(
        4, 0.5, MaskedAutoregressiveFlow(1, 7), seed=5, name="a_mixture"
    ),
    "float64": lambda: FlowGaussianMixture(4, 0.5, dtype="float64"),
}
models = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


@models
def test_config(make):
    model = make()
    config = model.get_config()
    assert json.loads(json.dumps(config)) == config
    assert type(model).from_config(config).get_config() == config
    name = f"keras_lt>{type(model).__name__}"
    assert keras.saving.get_registered_name(type(model)) == name


@models
def test_saves_and_loads(make, tmp_path):
    model = make()
    x = features()
    model(x, training=True)
    randomize(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert json.dumps(loaded.get_config()) == json.dumps(model.get_config())
    for value, wanted in zip(
        loaded.get_weights(), model.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(value, wanted)
    for value, wanted in zip(
        tf.nest.flatten(loaded(x)), tf.nest.flatten(model(x)), strict=True
    ):
        assert value.dtype == wanted.dtype == model.dtype
        np.testing.assert_array_equal(value, wanted)


def test_mixture_exports(tmp_path):
    model = MODELS["mixture"]()
    x = features()
    model(x)
    randomize(model)
    model.export(tmp_path / "model", format="tf_saved_model", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "model")
    got = loaded.serve(x[:7])
    np.testing.assert_allclose(got, model(x[:7]), rtol=1e-5, atol=1e-6)


def test_flow_exports(tmp_path):
    model = MODELS["flow"]()
    x = features()
    want = model(x)
    model.export(tmp_path / "model", format="tf_saved_model", verbose=False)
    loaded = tf.saved_model.load(tmp_path / "model")
    got = loaded.serve(x[:7])
    for value, wanted in zip(got, want, strict=True):
        np.testing.assert_allclose(value, wanted[:7], rtol=1e-5, atol=1e-6)


def test_in_a_functional_model():
    inputs = keras.Input((5,))
    model = keras.Model(inputs, FlowGaussianMixture(4, 0.5)(inputs))
    assert model.output_shape == (None, 4)
    u, log_abs_det = MaskedAutoregressiveFlow()(inputs)
    assert u.shape == log_abs_det.shape == (None, 5)


def test_computes_in_float32_under_a_mixed_policy():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixture = FlowGaussianMixture(4, 0.5)
        x = tf.cast(features(), "bfloat16")
        outputs = mixture(x, training=True)
        inverse, _ = mixture.flow.inverse(mixture.flow(x)[0])
    finally:
        keras.config.set_dtype_policy(before)
    assert outputs.dtype == inverse.dtype == "float32"
    assert {weight.dtype for weight in mixture.weights} == {"float32"}
    np.testing.assert_allclose(inverse, tf.cast(x, "float32"), atol=1e-5)


def test_training_raises_the_likelihood_of_two_moons():
    x = make_moons(512, noise=0.05, random_state=0)[0].astype("float32")
    keras.utils.set_random_seed(0)
    flow = MaskedAutoregressiveFlow(4, hidden_units=32)
    mixture = FlowGaussianMixture(2, 1.0, flow)
    mixture.build(x.shape)
    optimizer = keras.optimizers.Adam(0.01)
    optimizer.build(mixture.trainable_weights)
    start = np.mean(mixture.log_likelihood(x))
    step = tf.function(lambda: step_to_likelihood(mixture, optimizer, x))
    for _ in range(100):
        step()
    trained = np.mean(mixture.log_likelihood(x))
    # The best single Gaussian, in nats.
    gaussian = -0.5 * np.linalg.slogdet(2 * np.pi * np.e * np.cov(x.T))[1]
    assert start < gaussian
    assert trained > gaussian + 0.5


# Bad input.


@pytest.mark.parametrize(
    "make",
    [
        lambda: MaskedAutoregressiveFlow(0),
        lambda: MaskedAutoregressiveFlow(1, hidden_units=0),
        lambda: MaskedAutoregressiveFlow(1, hidden_layers=-1),
        lambda: MaskedAutoregressiveFlow()(np.zeros((2, 3, 4))),
        lambda: FlowGaussianMixture(0, 1.0),
        lambda: FlowGaussianMixture(2, -1.0),
        lambda: FlowGaussianMixture(2, float("nan")),
        lambda: FlowGaussianMixture(2, 1.0)(np.zeros(4)),
    ],
)
def test_bad_arguments(make):
    with pytest.raises(ValueError, match=r"Expected (.|\n)* Received: "):
        make()
