"""What the Evaluation callback scores, and where it writes it."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_tensorboard import COUNTS, IMAGES, LABELS, make_model

from keras_lt import counts
from keras_lt.callbacks import Evaluation
from keras_lt.metrics import evaluate


def make_evaluation(classes=COUNTS):
    dataset = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(4)
    return Evaluation({"holdout": dataset}, classes)


def fit(evaluation, *others, model=None, **arguments):
    return (model or make_model()).fit(
        IMAGES, LABELS, callbacks=[evaluation, *others], verbose=0, **arguments
    )


def test_scores_enter_the_logs():
    seen = []
    monitor = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(logs["holdout_balanced"])
    )
    evaluation = make_evaluation()
    history = fit(evaluation, monitor, epochs=2).history
    expected = evaluate(IMAGES, LABELS, COUNTS)
    assert seen == history["holdout_balanced"] == [expected["balanced"]] * 2
    assert "holdout_unseen" not in history  # no class is
    assert evaluation.results["holdout"] == {
        **expected,
        "ece": pytest.approx(expected["ece"]),
    }


def test_shot_thresholds_are_those_of_the_classes():
    classes = counts.Classes(COUNTS, many=1000, few=2)
    history = fit(make_evaluation(classes)).history
    assert {"holdout_many", "holdout_few"}.isdisjoint(history)
    assert history["holdout_medium"] == history["holdout_balanced"]


def test_another_model_is_predicted_anew():
    evaluation = make_evaluation()
    fit(evaluation)
    assert evaluation.results["holdout"]["many"] == 1
    other = make_model()
    other.layers[0].set_weights([np.eye(3)[[2, 2, 2]], np.zeros(3)])
    fit(evaluation, model=other)
    assert evaluation.results["holdout"]["many"] == 0


def test_classes_are_checked():
    with pytest.raises(ValueError, match="-1"):
        make_evaluation([3, -1])
