"""Class weights for any loss, and deferred re-weighting with them."""

import keras
import numpy as np
import pytest
from loss_helpers import COUNTS, random_batch, small_model

from keras_lt import losses
from keras_lt.callbacks import DeferredReweighting
from keras_lt.counts import effective_number_weights
from keras_lt.losses import LDAM, ClassBalancedCrossentropy, Reweighted

KERAS_OWN = [
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    keras.losses.CategoricalCrossentropy(from_logits=True),
]


@pytest.mark.parametrize("normalizer", losses.NORMALIZERS)
@pytest.mark.parametrize("loss", KERAS_OWN, ids=lambda loss: loss.name)
def test_crossentropy_of_keras_is_class_balanced(loss, normalizer):
    labels, logits = random_batch()
    soft = 0.7 * np.eye(4)[labels] + 0.3 * np.eye(4)[(labels + 1) % 4]
    arguments = {"beta": 0.99, "normalizer": normalizer, "reduction": None}
    got = Reweighted(loss, COUNTS, **arguments)
    want = ClassBalancedCrossentropy(COUNTS, **arguments)
    for given in (labels, labels[:, None], soft, np.full(16, -1)):
        np.testing.assert_array_equal(got(given, logits), want(given, logits))


def test_own_loss_is_weighted_as_by_its_own_arguments():
    labels, logits = random_batch()
    arguments = {"beta": 0.99, "normalizer": "weight_sum"}
    np.testing.assert_array_equal(
        Reweighted(LDAM(COUNTS), COUNTS, **arguments)(labels, logits),
        LDAM(COUNTS, **arguments)(labels, logits),
    )


def test_another_loss_by_hand():
    labels, logits = random_batch()
    loss = losses.get(
        "reweighted(mean_squared_error,beta=0.99)", class_counts=COUNTS
    )
    errors = np.square(np.eye(4)[labels] - logits).mean(axis=1)
    weights = effective_number_weights(COUNTS, 0.99)[labels]
    np.testing.assert_allclose(
        loss(labels, logits), (weights * errors).mean(), rtol=1e-6
    )


def test_deferred_reweighting_of_a_loss_of_keras():
    labels, features = random_batch()
    model = small_model(Reweighted(KERAS_OWN[0], COUNTS, beta=0.99))
    model.optimizer.learning_rate = 0.0
    got = model.fit(
        features,
        labels,
        batch_size=16,
        epochs=2,
        callbacks=[DeferredReweighting(1)],
        verbose=0,
    ).history["loss"]
    values = keras.losses.sparse_categorical_crossentropy(
        labels, model.predict(features, verbose=0), from_logits=True
    ).numpy()
    weights = effective_number_weights(COUNTS, 0.99)[labels]
    want = [values.mean(), (weights * values).mean()]
    np.testing.assert_allclose(got, want, rtol=1e-5)


@pytest.mark.parametrize(
    "loss, error, message",
    [
        ("mse", TypeError, "keras.losses.Loss.* loss='mse'"),
        (
            keras.losses.SparseCategoricalCrossentropy(ignore_class=0),
            ValueError,
            "Received: ignore_class=0",
        ),
    ],
)
def test_bad_losses(loss, error, message):
    with pytest.raises(error, match=message):
        Reweighted(loss, COUNTS)
