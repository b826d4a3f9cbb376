"""What LongTailTensorBoard writes, read back from the event files."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import (
    EventAccumulator,
)

from keras_lt.callbacks import Evaluation, LongTailTensorBoard
from keras_lt.metrics import evaluate

COUNTS = [900, 50, 5]
IMAGES = np.eye(3, dtype="float32")[[0, 0, 1, 2, 0, 1]]
LABELS = np.array([0, 0, 1, 1, 2, 1])


def make_model():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    model.compile(
        keras.optimizers.SGD(0.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    model.layers[0].set_weights([np.eye(3), np.zeros(3)])
    return model


def make_callback(folder, **arguments):
    dataset = tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(4)
    evaluation = Evaluation({"holdout": dataset}, COUNTS)
    return LongTailTensorBoard(
        folder, COUNTS, **{"evaluation": evaluation, **arguments}
    )


def fit(model, callback, **arguments):
    scores = [callback.evaluation] if callback.evaluation else []
    model.fit(
        IMAGES,
        LABELS,
        validation_data=(IMAGES, LABELS),
        callbacks=[*scores, callback],
        verbose=0,
        **arguments,
    )


def read(folder):
    """{tag: [(step, value)]} of all event files, and {tag: plugin data}."""
    events = EventAccumulator(str(folder), {"tensors": 0})
    events.Reload()
    found = {
        tag: [
            (event.step, tf.make_ndarray(event.tensor_proto))
            for event in events.Tensors(tag)
        ]
        for tag in events.Tags()["tensors"]
    }
    metadata = {tag: events.SummaryMetadata(tag).plugin_data for tag in found}
    return found, metadata


def steps(events):
    return [step for step, _ in events]


def test_scalars_pictures_and_histogram(tmp_path):
    model = make_model()
    fit(model, make_callback(tmp_path, picture_freq=2), epochs=3)
    found, metadata = read(tmp_path)
    expected = evaluate(IMAGES, LABELS, COUNTS)
    # Class 0 is right on both its images, class 1 on 2 of 3, class 2 never.
    assert (expected["many"], expected["few"]) == (1.0, 0.0)
    for key in ("top1", "balanced", "many", "medium", "few", "ece"):
        assert steps(found[f"holdout/{key}"]) == [1, 2, 3]
        assert found[f"holdout/{key}"][-1][1] == pytest.approx(expected[key])
    assert "holdout/unseen" not in found
    for tag in ("train/loss", "train/accuracy", "val/loss", "val/accuracy"):
        assert steps(found[tag]) == [1, 2, 3]
    assert found["train/accuracy"][0][1] == pytest.approx(4 / 6)
    assert found["train/learning_rate"][0][1] == 0
    histogram = found["holdout/per_class_accuracy"]
    assert steps(histogram) == [1, 2, 3]
    assert histogram[0][1][:, 2].sum() == 3
    for tag in ("holdout/accuracy_by_class_count", "holdout/confusion"):
        # Every second epoch, and where fit ended.
        assert steps(found[tag]) == [2, 3]
        assert metadata[tag].plugin_name == "images"
        picture = tf.io.decode_png(found[tag][0][1][2]).numpy()
        assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 10
    assert steps(found["data/class_distribution"]) == [0]


def test_second_fit_and_resume_go_on(tmp_path):
    model, callback = make_model(), make_callback(tmp_path)
    fit(model, callback, epochs=2)
    fit(model, callback, epochs=3, initial_epoch=2)
    # A new process would start with a new callback in the same folder.
    fit(make_model(), make_callback(tmp_path), epochs=5, initial_epoch=3)
    found, _ = read(tmp_path)
    assert steps(found["holdout/top1"]) == [1, 2, 3, 4, 5]
    assert steps(found["train/loss"]) == [1, 2, 3, 4, 5]


def test_without_evaluation(tmp_path):
    fit(make_model(), make_callback(tmp_path, evaluation=None), epochs=1)
    found, _ = read(tmp_path)
    assert "train/loss" in found
    assert not [tag for tag in found if tag.startswith("holdout")]


def test_another_model_is_predicted_anew(tmp_path):
    callback = make_callback(tmp_path)
    fit(make_model(), callback, epochs=1)
    other = make_model()
    other.layers[0].set_weights([np.eye(3)[[2, 2, 2]], np.zeros(3)])
    fit(other, callback, epochs=2, initial_epoch=1)
    found, _ = read(tmp_path)
    assert [float(v) for _, v in found["holdout/many"]] == [1, 0]


def test_write_test(tmp_path):
    callback = make_callback(tmp_path)
    fit(make_model(), callback, epochs=2)
    callback.write_test(evaluate(np.eye(3), np.arange(3), COUNTS))
    found, _ = read(tmp_path)
    assert [(s, float(v)) for s, v in found["test/top1"]] == [(2, 1.0)]
    assert steps(found["test/confusion"]) == [2]
    # Also with no training at all.
    callback = make_callback(tmp_path / "scored")
    callback.write_test(evaluate(np.eye(3), np.arange(3), COUNTS))
    found, _ = read(tmp_path / "scored")
    assert steps(found["test/balanced"]) == [0]


def test_flags_and_hparams(tmp_path):
    from tensorboard.plugins.hparams import metadata as hparams_metadata

    values = {
        "beta": np.float32(0.5),
        "seed": 3,
        "drw": None,
        "loss": "a|b",
        "milestones": [0.8, 0.9],
        "mixed": True,
    }
    callback = make_callback(tmp_path, flags=values, hparams=values)
    fit(make_model(), callback, epochs=1)
    fit(make_model(), callback, epochs=2, initial_epoch=1)
    found, metadata = read(tmp_path)
    (text,) = found["flags"]
    lines = text[1].item().decode().splitlines()
    assert lines[:2] == ["| flag | value |", "| --- | --- |"]
    assert "| loss | a\\|b |" in lines and "| drw | None |" in lines
    content = metadata[hparams_metadata.SESSION_START_INFO_TAG].content
    stored = hparams_metadata.parse_session_start_info_plugin_data(content)
    hparams = stored.hparams
    assert hparams["beta"].number_value == 0.5
    assert hparams["seed"].number_value == 3
    assert hparams["drw"].string_value == "none"
    assert hparams["milestones"].string_value == "0.8,0.9"
    assert hparams["mixed"].bool_value is True


def test_two_replicas(tmp_path, two_replicas):
    with two_replicas.scope():
        model = make_model()
    fit(model, make_callback(tmp_path))
    found, _ = read(tmp_path)
    assert found["holdout/top1"][0][1] == pytest.approx(4 / 6)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"picture_freq": 0}, "picture_freq=0"),
    ],
)
def test_rejects(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_callback(tmp_path, **arguments)


def test_regularization_is_a_part_of_the_loss(tmp_path):
    dense = keras.layers.Dense(3, kernel_regularizer=keras.regularizers.L2(0.5))
    model = keras.Sequential([keras.Input((3,)), dense])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.0), loss)
    dense.set_weights([2 * np.eye(3), np.zeros(3)])
    fit(model, make_callback(tmp_path, evaluation=None), epochs=1)
    found, _ = read(tmp_path)
    # 0.5 * (3 * 2**2), and the loss holds it.
    assert found["train/regularization"][0][1] == pytest.approx(6.0)
    logits = 2 * IMAGES
    crossentropy = np.mean(
        np.log(np.exp(logits).sum(1)) - logits[range(6), LABELS]
    )
    assert found["train/loss"][0][1] == pytest.approx(6.0 + crossentropy)


def test_evaluation_comes_before(tmp_path):
    callback = make_callback(tmp_path)
    for others in ([], [callback.evaluation]):
        with pytest.raises(ValueError, match="Expected the Evaluation before"):
            make_model().fit(
                IMAGES, LABELS, callbacks=[callback, *others], verbose=0
            )
