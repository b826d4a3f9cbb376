"""Losses of views: against their equations and the authors' code."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from golden import load_cases, report_cases

from keras_lt import losses

ALL = [
    losses.NTXent,
    losses.SupervisedContrastive,
    losses.BalancedNegativeSampling,
]
SIZE, DIM = 12, 5
# One image alone in its class.
LABELS = np.array([0, 0, 1, 2, 1, 0, 2, 2, 0, 3, 1, 0])


def unit_views(embeddings):
    """Views in order, (2 B, D), of length 1."""
    views = np.asarray(embeddings, np.float64).reshape(-1, embeddings.shape[-1])
    return views / np.linalg.norm(views, axis=1, keepdims=True)


def nt_xent_reference(embeddings, temperature):
    """Equation 1 of the SimCLR paper, anchor by anchor."""
    views = unit_views(embeddings)
    values = []
    for i, anchor in enumerate(views):
        scores = np.exp(views @ anchor / temperature)
        values.append(-np.log(scores[i ^ 1] / (scores.sum() - scores[i])))
    return np.reshape(values, (-1, 2)).mean(axis=1)


@pytest.mark.parametrize("temperature", [0.05, 0.5, 2.0])
@pytest.mark.parametrize("size", [1, 2, 7])
def test_nt_xent_is_the_equation(size, temperature):
    embeddings = np.random.default_rng(0).normal(size=(size, 2, 5))
    loss = losses.NTXent(temperature, reduction=None)
    got = loss(np.zeros(size), embeddings.astype("float32"))
    want = nt_xent_reference(embeddings, temperature)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    mean = losses.NTXent(temperature)(np.zeros(size), embeddings)
    assert float(mean) == pytest.approx(want.mean(), 1e-4, 1e-6)


def test_nt_xent_by_hand():
    # Two images whose views agree, at right angles: each anchor has one
    # positive at similarity 1 and two negatives at 0.
    same = np.eye(2)[:, None].repeat(2, axis=1)
    want = -np.log(np.e / (np.e + 2))
    np.testing.assert_allclose(
        losses.NTXent(1.0, reduction=None)(np.zeros(2), same), want, 1e-6
    )


def test_nt_xent_with_sample_weights():
    embeddings = np.random.default_rng(0).normal(size=(3, 2, 5))
    each = nt_xent_reference(embeddings, 0.5)
    weights = np.array([0.0, 1.0, 3.0])
    got = losses.NTXent()(np.zeros(3), embeddings, weights)
    assert float(got) == pytest.approx((each * weights).mean(), 1e-5)


def test_nt_xent_of_zeros_and_of_one_image_has_finite_gradients():
    for embeddings in (np.zeros((3, 2, 4)), np.ones((1, 2, 4))):
        z = tf.Variable(embeddings, dtype="float32")
        with tf.GradientTape() as tape:
            value = losses.NTXent(0.05)(np.zeros(len(embeddings)), z)
        assert np.isfinite(value)
        assert np.abs(tape.gradient(value, z)).max() < 100


def supervised_reference(embeddings, labels, temperature):
    """Equation 2 of the SupCon paper (L_out), anchor by anchor."""
    views, labels = unit_views(embeddings), np.repeat(labels, 2)
    values = []
    for i, anchor in enumerate(views):
        scores = np.exp(views @ anchor / temperature)
        positives = (labels == labels[i]) & (np.arange(len(labels)) != i)
        shares = scores[positives] / (scores.sum() - scores[i])
        values.append(-np.log(shares).mean())
    return np.reshape(values, (-1, 2)).mean(axis=1)


@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_supervised_contrastive_is_the_equation(temperature):
    embeddings = np.random.default_rng(0).normal(size=(SIZE, 2, DIM))
    loss = losses.SupervisedContrastive(temperature, reduction=None)
    np.testing.assert_allclose(
        loss(LABELS, embeddings),
        supervised_reference(embeddings, LABELS, temperature),
        rtol=1e-5,
    )
    # Of images that are all alone in their classes it is NT-Xent.
    np.testing.assert_allclose(
        loss(np.arange(SIZE), embeddings),
        nt_xent_reference(embeddings, temperature),
        rtol=1e-5,
    )


@pytest.mark.golden
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_golden_bns(dtype):
    cases = load_cases("bns_loss")
    for name, case in cases:
        labels = np.stack([case["labels_i"], case["labels_j"]], axis=1)
        embeddings = np.stack([case["emb_i"], case["emb_j"]], axis=1)
        norms = np.linalg.norm(embeddings, axis=-1, keepdims=True)
        embeddings = tf.constant(embeddings, dtype)
        loss = losses.BalancedNegativeSampling(
            float(case["temperature"]), dtype=dtype
        )
        with tf.GradientTape() as tape:
            tape.watch(embeddings)
            value = loss(labels[..., None], embeddings)
        if (labels[:, 0] == labels[:, 1]).all():
            assert loss(labels[:, 0], embeddings) == value
        got = tape.gradient(value, embeddings).numpy()
        assert value.dtype == got.dtype == dtype
        want = np.stack([case["grad_i"], case["grad_j"]], axis=1)
        double = dtype == "float64"
        np.testing.assert_allclose(
            value, case["loss"], rtol=1e-9 if double else 1e-5, err_msg=name
        )
        # A gradient is the larger, the shorter its row is.
        got, want = got * norms, want * norms
        largest = np.abs(want).max()
        atol = (1e-9 if double else 1e-5) * largest
        if largest < 1e-5:  # of a saturated batch: rounding alone
            atol = 1e-6
        np.testing.assert_allclose(
            got, want, rtol=1e-8 if double else 0, atol=atol, err_msg=name
        )
    report_cases("bns_loss", cases)


def test_bns_by_hand():
    # Views agree; image 2 is of another class, at right angles to both.
    embeddings = np.eye(3)[[0, 0, 1]][:, None].repeat(2, axis=1)
    labels = [0, 0, 1]
    softplus = lambda x: np.log1p(np.exp(x))  # noqa: E731
    attraction = softplus(-np.e)
    for negatives, divisors in (("batch", (6, 6, 6)), ("others", (2, 2, 4))):
        loss = losses.BalancedNegativeSampling(1.0, negatives, reduction=None)
        others = np.array([2, 2, 4]) / divisors
        np.testing.assert_allclose(
            loss(labels, embeddings), attraction + softplus(others), rtol=1e-6
        )
        # Without other classes the second term is log 2.
        np.testing.assert_allclose(
            loss([1, 1], embeddings[:2]), attraction + np.log(2), rtol=1e-6
        )


@pytest.mark.parametrize("loss_class", ALL)
def test_16_bit_embeddings_and_low_temperatures(loss_class):
    embeddings = np.random.default_rng(0).normal(size=(SIZE, 2, DIM))
    embeddings[1, 1] = embeddings[1, 0]  # similarity 1
    embeddings[2, 1] = -embeddings[2, 0]
    embeddings[3] = 0.0
    half = tf.Variable(tf.cast(embeddings, "bfloat16"))
    full = tf.Variable(tf.cast(half, "float32"))
    results = []
    for z in (half, full):
        with tf.GradientTape() as tape:
            value = loss_class(0.1)(LABELS, z)
        results.append((float(value), tape.gradient(value, z)))
    assert np.isfinite(results[1][1]).all()
    assert results[0][0] == results[1][0]
    np.testing.assert_allclose(
        tf.cast(results[0][1], "float32"),
        results[1][1],
        rtol=0.01,
        atol=1e-30,
    )
    lowest = loss_class(0.0125)(LABELS, full)
    assert np.isfinite(lowest)


@pytest.mark.parametrize("loss_class", ALL)
def test_two_replicas_equal_one_device(loss_class, two_replicas):
    generator = np.random.default_rng(0)
    features = generator.normal(size=(2 * SIZE, 2 * DIM)).astype("float32")
    labels = np.tile(LABELS, 2)

    def fit():
        model = keras.Sequential(
            [
                keras.Input((2 * DIM,)),
                keras.layers.Dense(
                    2 * DIM,
                    kernel_initializer=keras.initializers.GlorotUniform(1),
                ),
                keras.layers.Reshape((2, DIM)),
            ]
        )
        model.compile(keras.optimizers.SGD(0.5), loss_class(0.3))
        history = model.fit(
            features,
            labels,
            batch_size=SIZE,
            epochs=3,
            shuffle=False,
            verbose=0,
        ).history
        return history["loss"], model.get_weights()

    want_loss, want_weights = fit()
    with two_replicas.scope():
        got_loss, got_weights = fit()
    assert want_loss[-1] < want_loss[0]
    np.testing.assert_allclose(got_loss, want_loss, rtol=1e-5)
    for got, want in zip(got_weights, want_weights, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("loss_class", ALL)
@pytest.mark.parametrize("shape", [(4, 5), (4, 3, 5), (4, 2, 5, 1)])
def test_other_shapes(shape, loss_class):
    with pytest.raises(ValueError, match=r"Expected y_pred .* Received: "):
        loss_class()(np.zeros(4), np.zeros(shape))


@pytest.mark.parametrize("loss_class", ALL)
@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_temperature(temperature, loss_class):
    with pytest.raises(ValueError, match=r"Expected temperature .*Received"):
        loss_class(temperature)


def test_bns_arguments():
    with pytest.raises(ValueError, match=r"Expected temperature >= 0\.0125"):
        losses.BalancedNegativeSampling(0.01)
    with pytest.raises(ValueError, match=r"Expected negatives .*'all'"):
        losses.BalancedNegativeSampling(negatives="all")
