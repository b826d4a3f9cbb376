"""Batch normalization against Keras' own and by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_lt.layers import FusedBatchNormalization


def images(shape, mean=2.0, std=1.5, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(mean, std, shape).astype("float32")


def pair(shape, **kwargs):
    """Keras' layer and ours with the same, not trivial, weights."""
    layers = (
        keras.layers.BatchNormalization(**kwargs),
        FusedBatchNormalization(**kwargs),
    )
    rng = np.random.default_rng(1)
    for layer in layers:
        layer.build(shape)
    weights = [rng.uniform(0.5, 2.0, w.shape) for w in layers[0].weights]
    for layer in layers:
        layer.set_weights(weights)
    return layers


def step(layer, x, training, jit_compile=False, mask=None):
    """Outputs, gradients of input and parameters, moving statistics."""
    x = tf.constant(x)
    slopes = tf.cast(np.linspace(-1, 2, x.shape.num_elements()), x.dtype)

    @tf.function(jit_compile=jit_compile)
    def run():
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = layer(x, training=training, mask=mask)
            value = tf.reduce_sum(
                tf.reshape(outputs, [-1]) * tf.cast(slopes, outputs.dtype)
            )
        sources = [x, *(w.value for w in layer.trainable_variables)]
        return outputs, tape.gradient(value, sources)

    outputs, gradients = run()
    statistics = layer.moving_mean, layer.moving_variance
    return [np.asarray(v) for v in (outputs, *gradients, *statistics)]


def assert_close(ours, theirs, tolerance=1e-5):
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert np.isfinite(a.astype("float64")).all()
        np.testing.assert_allclose(
            a.astype("float64"),
            b.astype("float64"),
            rtol=tolerance,
            atol=tolerance * np.abs(b.astype("float64")).max(),
        )


@pytest.fixture
def kernel_calls(monkeypatch):
    """A list that grows by one at each call of the fused kernel."""
    calls = []
    fused = tf.compat.v1.nn.fused_batch_norm

    def counted(*args, **kwargs):
        calls.append(1)
        return fused(*args, **kwargs)

    monkeypatch.setattr(tf.compat.v1.nn, "fused_batch_norm", counted)
    return calls


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "shape",
    # The last is one number a channel: unbiased, its variance is 0 / 0.
    [(8, 4, 4, 3), (2, 5, 3, 1), (1, 4, 4, 2), (6, 1, 1, 3), (1, 1, 1, 3)],
)
def test_batch_normalization_equals_keras(shape, training, kernel_calls):
    theirs, ours = pair(shape)
    x = images(shape)
    want = step(theirs, x, training)
    assert not kernel_calls
    assert_close(step(ours, x, training), want)
    assert len(kernel_calls) == 1


@pytest.mark.parametrize(
    "kwargs",
    [
        {"center": False},
        {"scale": False},
        {"center": False, "scale": False},
        {"momentum": 0.3},
        {"momentum": 0.9, "epsilon": 1e-5},
        {"trainable": False},
        {"axis": 3},
    ],
    ids=str,
)
def test_batch_normalization_arguments(kwargs, kernel_calls):
    shape = (4, 3, 3, 2)
    theirs, ours = pair(shape, **kwargs)
    for seed in range(3):  # the moving statistics of a step enter the next
        x = images(shape, mean=seed, seed=seed)
        assert_close(step(ours, x, True), step(theirs, x, True))
    x = images(shape)
    assert_close(step(ours, x, False), step(theirs, x, False))
    assert len(kernel_calls) == 4
    if kwargs == {"trainable": False}:
        unchanged = pair(shape, **kwargs)[1]
        np.testing.assert_array_equal(ours.moving_mean, unchanged.moving_mean)


@pytest.mark.parametrize("epsilon", [1e-7, 1e-5, 1e-3])
@pytest.mark.parametrize("std", [1e-5, 1e-3])
def test_batch_normalization_epsilon_is_exact(std, epsilon):
    # Older fused kernels raise epsilon to 1.001e-5, which at the variances
    # here would change the outputs by up to an order.
    theirs, ours = pair((8, 4, 4, 3), epsilon=epsilon)
    x = images((8, 4, 4, 3), 0.0, std)
    assert_close(step(ours, x, True), step(theirs, x, True))


def test_batch_normalization_constant_input():
    _, ours = pair((4, 3, 3, 2))
    x = np.full((4, 3, 3, 2), 3.0, "float32")
    outputs, *_ = step(ours, x, True)
    beta = np.broadcast_to(ours.beta, x.shape)
    np.testing.assert_allclose(outputs, beta, rtol=1e-6)


def test_batch_normalization_statistics_by_hand():
    layer = FusedBatchNormalization(momentum=0.9)
    x = np.array([1.0, 3.0], "float32").reshape(2, 1, 1, 1)
    layer(x, training=True)
    # Mean 2, biased variance 1 (unbiased 2), from 0 and 1.
    assert float(layer.moving_mean[0]) == pytest.approx(0.2)
    assert float(layer.moving_variance[0]) == pytest.approx(1.0)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "policy",
    ["mixed_bfloat16", "mixed_float16", "bfloat16", "float16"],
)
def test_batch_normalization_16_bits(policy, training, kernel_calls):
    dtype = policy.removeprefix("mixed_")
    theirs, ours = pair((8, 4, 4, 3), dtype=policy)
    x = tf.cast(images((8, 4, 4, 3)), dtype)
    want, got = step(theirs, x, training), step(ours, x, training)
    assert kernel_calls
    assert got[0].dtype == want[0].dtype == tf.as_dtype(dtype).as_numpy_dtype
    variable = "float32" if policy.startswith("mixed") else dtype
    assert ours.moving_variance.dtype == ours.gamma.dtype == variable
    # Keras takes the variance through 16 bits too.
    assert_close(got, want, {"bfloat16": 2**-6, "float16": 2**-9}[dtype])


def test_batch_normalization_16_bit_statistics_are_float32():
    # 1 + 1/256 needs more than the 8 bits of bfloat16.
    layer = FusedBatchNormalization(momentum=0.0, dtype="mixed_bfloat16")
    x = np.array([1.0, 1.0 + 1 / 128], "float32").reshape(2, 1, 1, 1)
    layer(tf.cast(x, "bfloat16"), training=True)
    assert float(layer.moving_mean[0]) == 1 + 1 / 256


@pytest.mark.parametrize(
    ("shape", "kwargs"),
    [
        ((8, 3), {}),
        ((4, 5, 3), {}),
        ((2, 3, 3, 3, 2), {}),
        ((4, 3, 5, 5), {"axis": 1}),
        ((4, 3, 3, 2), {"synchronized": True}),
        pytest.param(
            (4, 3, 3, 2),
            {"renorm": True},
            marks=pytest.mark.skipif(
                not hasattr(keras.layers.BatchNormalization(), "renorm"),
                reason="this Keras has no renorm",
            ),
        ),
        ((4, 3, 3, 2), {"dtype": "float64"}),
    ],
    ids=str,
)
def test_batch_normalization_falls_back(shape, kwargs, kernel_calls):
    x = images(shape).astype(kwargs.get("dtype", "float32"))
    for training in (True, False):
        theirs, ours = pair(shape, **kwargs)
        assert_close(step(ours, x, training), step(theirs, x, training), 1e-6)
    assert not kernel_calls


def test_batch_normalization_mask_falls_back(kernel_calls):
    shape = (4, 3, 3, 2)
    theirs, ours = pair(shape)
    mask = tf.constant(np.arange(36).reshape(4, 3, 3) % 3 > 0)
    x = images(shape)
    want = step(theirs, x, True, mask=mask)
    assert_close(step(ours, x, True, mask=mask), want, 1e-6)
    assert not kernel_calls
    unmasked = step(pair(shape)[1], x, True)
    assert np.abs(unmasked[0] - want[0]).max() > 0.01


@pytest.mark.parametrize("training", [True, False])
def test_batch_normalization_xla(training, kernel_calls):
    theirs, ours = pair((8, 4, 4, 3))
    x = images((8, 4, 4, 3))
    got = step(ours, x, training, jit_compile=True)
    assert kernel_calls
    assert_close(got, step(theirs, x, training), 2e-5)


def normalized_model(layer_class):
    inputs = keras.Input((4, 4, 3))
    x = keras.layers.Conv2D(2, 3, name="conv")(inputs)
    x = layer_class(name="norm", momentum=0.5)(x)
    outputs = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, outputs)


class Normalized(keras.Model):
    """Its weight file names the layer by the attribute, not by its class."""

    def __init__(self, layer_class):
        super().__init__()
        self.a_layer = layer_class(momentum=0.5)

    def call(self, inputs, training=None):
        return self.a_layer(inputs, training=training)


@pytest.mark.parametrize("ours_first", [True, False])
def test_batch_normalization_exchanges_weights(tmp_path, ours_first):
    classes = [FusedBatchNormalization, keras.layers.BatchNormalization]
    source, target = map(Normalized, classes if ours_first else classes[::-1])
    x = images((8, 4, 4, 3))
    source(x, training=True)
    want = source(x)
    target(x)
    source.save_weights(tmp_path / "model.weights.h5")
    target.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_allclose(target(x), want, rtol=1e-5, atol=1e-6)


def test_batch_normalization_saves(tmp_path):
    model = normalized_model(FusedBatchNormalization)
    x = images((8, 4, 4, 3))
    model(x, training=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert type(loaded.get_layer("norm")) is FusedBatchNormalization
    np.testing.assert_array_equal(model(x), loaded(x))


@pytest.mark.parametrize("synchronized", [False, True])
def test_moving_statistics_are_those_of_all_replicas(
    two_replicas, synchronized
):
    parts = [images((4, 2, 2, 3), seed=0), images((4, 2, 2, 3), 5.0, seed=1)]
    with two_replicas.scope():
        layer = FusedBatchNormalization(momentum=0.5, synchronized=synchronized)
        layer.build((None, 2, 2, 3))
    values = two_replicas.experimental_distribute_values_from_function(
        lambda context: tf.constant(parts[context.replica_id_in_sync_group])
    )
    two_replicas.run(
        tf.function(lambda inputs: layer(inputs, training=True)), (values,)
    )
    variances = [part.var((0, 1, 2)) for part in parts]
    means = [part.mean((0, 1, 2)) for part in parts]
    variance = np.mean(variances, 0)
    if synchronized:
        variance += np.var(means, 0)
    for variable, start, expected in (
        (layer.moving_mean, 0.0, np.mean(means, 0)),
        (layer.moving_variance, 1.0, variance),
    ):
        copies = two_replicas.experimental_local_results(variable.value)
        assert len(copies) == 2
        for copy in copies:
            np.testing.assert_allclose(
                copy, (start + expected) / 2, rtol=1e-5, atol=1e-5
            )


def test_batch_normalization_trains_on_two_replicas(two_replicas):
    """Keras' layer and ours, each replica with the statistics of its half."""
    x, y = images((16, 4, 4, 3)), images((16, 2), seed=3)
    weights = []
    for layer_class in (
        keras.layers.BatchNormalization,
        FusedBatchNormalization,
    ):
        with two_replicas.scope():
            keras.utils.set_random_seed(0)
            model = normalized_model(layer_class)
            model.compile(keras.optimizers.SGD(0.1), "mse")
        batches = tf.data.Dataset.from_tensors((x, y)).repeat(3)
        losses = model.fit(batches, epochs=1, verbose=0).history["loss"]
        assert np.isfinite(losses).all()
        copies = [
            two_replicas.experimental_local_results(variable.value)
            for variable in model.weights
        ]
        # Keras' layer has other moving statistics on each.
        weights.append([np.mean(values, axis=0) for values in copies])
    assert np.abs(weights[1][-2]).min() > 1e-4  # the mean moved from 0
    # The bias before a normalization has no gradient but rounding errors.
    for ours, theirs in zip(weights[1], weights[0], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
