"""Training in rounds on drawn subsets."""

import functools
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from data import numbered

from keras_lt import callbacks, datasets, dpp, metrics, seeding, subsets
from keras_lt.models import classifier

COUNTS = [131, 93, 67, 48, 34, 24, 17, 12, 9, 6]
SIZE, BATCH = 30, 64
SIZES = [min(count, SIZE) for count in COUNTS]
CHOOSERS = {
    "ip_dpp": subsets.InformativeSubsets(SIZE, scale="n"),
    "random": subsets.RandomSubsets(SIZE),
    "all": subsets.AllImages(SIZE),
}


@pytest.fixture(scope="module")
def train():
    return datasets.long_tail(datasets.load("digits", split="train"), 20)


def make_model():
    keras.utils.set_random_seed(1)
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Rescaling(1 / 16)(inputs)
    backbone = keras.Model(inputs, keras.layers.Flatten()(x))
    model = classifier(backbone, 10)
    model.compile(
        keras.optimizers.SGD(0.1, 0.9),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def fit(folder, train, name="ip_dpp", others=(), **arguments):
    """Five epochs in rounds of two; model, rounds and checkpointing."""
    rounds = subsets.Rounds(
        CHOOSERS[name],
        folder / "draws",
        epochs=2,
        batch_size=BATCH,
        seed=3,
        **arguments,
    )
    checkpointing = callbacks.Checkpointing(folder / "checkpoints")
    model = make_model()
    rounds.fit(
        model, train, checkpointing, epochs=5, callbacks=others, verbose=0
    )
    return model, rounds, checkpointing


@pytest.fixture(scope="module")
def whole(train, tmp_path_factory):
    """A training that was not cut, and what it told of its draws."""
    folder, told = tmp_path_factory.mktemp("whole"), []
    found = fit(folder, train, on_draw=lambda *draw: told.append(draw))
    return folder, told, *found


class Cut(keras.callbacks.Callback):
    """Ends a training within an epoch, as a crash does."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch
        self.now = None

    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch

    def on_train_batch_end(self, batch, logs=None):
        if self.now == self.epoch and batch == 1:
            raise KeyboardInterrupt


def test_goes_on_after_a_cut(whole, train, tmp_path):
    _, _, model, rounds, _ = whole
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, train, others=[Cut(3)])
    assert len([*(tmp_path / "draws").iterdir()]) == 2
    again = []
    other, others_rounds, checkpointing = fit(
        tmp_path, train, on_draw=lambda number, draw: again.append(number)
    )
    assert again == [1, 2]  # the first round is over
    for one, two in zip(
        rounds.draws(train), others_rounds.draws(train), strict=True
    ):
        np.testing.assert_array_equal(one.indices, two.indices)
    assert len(checkpointing.history["loss"]) == 5
    for one, two in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-7)


def test_draws_are_of_the_model_before_the_round(whole, train, tmp_path):
    draws = whole[3].draws(train)
    assert [number for number, _ in whole[1]] == [0, 1, 2]
    scored = metrics.predict(
        make_model(), functools.partial(_evaluation, train)
    )
    p, complements = metrics.true_class_probabilities(*scored)
    np.testing.assert_allclose(draws[0].probabilities, p, rtol=1e-5)
    for number, draw in enumerate(draws):
        want = dpp.balanced_subset(
            train.labels,
            SIZE,
            seed=seeding.derived_seed(3, "rounds", number),
            scale="n",
            probabilities=draw.probabilities,
            complements=draw.complements,
        )
        np.testing.assert_array_equal(draw.indices, want)
    assert not np.allclose(draws[0].probabilities, draws[1].probabilities)
    np.testing.assert_allclose(complements, 1 - p, atol=1e-6)


def _evaluation(train, shard):
    del shard
    return tf.data.Dataset.from_tensor_slices(
        (train.images, train.labels)
    ).batch(100)


def test_figures(whole, train):
    draw = whole[3].draws(train)[2]
    figures = draw.figures(train.labels, 10)
    assert figures["class_sizes"] == SIZES
    means = []
    for label in range(5):  # those with more than 30 images
        members = np.flatnonzero(train.labels == label)
        left = np.setdiff1d(members, draw.indices)
        drawn = np.setdiff1d(members, left)
        means.append(
            (draw.probabilities[drawn].mean(), draw.probabilities[left].mean())
        )
    want = np.mean(means, axis=0)
    got = figures["mean_p_drawn"], figures["mean_p_left_out"]
    np.testing.assert_allclose(got, want, rtol=1e-6)
    assert figures["seconds"] == pytest.approx(draw.seconds)


@pytest.mark.parametrize(
    "name, sampling", [("random", "random"), ("all", "class_balanced")]
)
def test_others_have_as_many_steps(name, sampling, whole, train, tmp_path):
    model, rounds, _ = fit(tmp_path, train, name, sampling=sampling)
    steps = round(sum(SIZES) / BATCH)
    assert rounds.steps_per_epoch(train) == steps
    for fitted in (model, whole[2]):
        assert int(fitted.optimizer.iterations) == 5 * steps
    draws = rounds.draws(train)
    want = SIZES if name == "random" else COUNTS
    assert [
        draw.figures(train.labels, 10)["class_sizes"] for draw in draws
    ] == 3 * [want]
    assert rounds.subsets.class_counts(np.array(COUNTS)).tolist() == want
    assert all(draw.probabilities is None for draw in draws)


def test_ends_early(train, tmp_path):
    rounds = subsets.Rounds(
        CHOOSERS["random"], tmp_path / "draws", epochs=2, batch_size=BATCH
    )
    model = make_model()
    rounds.fit(
        model,
        train,
        callbacks.Checkpointing(tmp_path / "checkpoints"),
        epochs=5,
        last_step=5,
        verbose=0,
    )
    assert int(model.optimizer.iterations) == 5
    assert len(rounds.draws(train)) == 1


def test_scores_augmented_images(train, tmp_path):
    seen = []

    def transform(images, labels, indices, seeds):
        seen.append(images)
        return images, labels

    for augmented in (False, True):
        seen.clear()
        rounds = subsets.Rounds(
            subsets.InformativeSubsets(SIZE, augmented=augmented),
            tmp_path / str(augmented),
            transform=transform,
        )
        rounds._draw(make_model(), train, 0)
        assert bool(seen) == augmented


def test_refuses_draws_of_others(whole, train, tmp_path):
    shutil.copytree(whole[0] / "draws", tmp_path / "draws")
    other = numbered(COUNTS, (8, 8, 1))
    rounds = subsets.Rounds(CHOOSERS["ip_dpp"], tmp_path / "draws", seed=3)
    assert len(rounds.draws(train)) == 3
    with pytest.raises(ValueError, match=r"Expected a draw of .* Received: "):
        rounds.draws(other)
    rounds = subsets.Rounds(CHOOSERS["ip_dpp"], tmp_path / "draws", seed=4)
    with pytest.raises(ValueError, match=r'"seed": 4.* Received: .*"seed": 3'):
        rounds.draws(train)
    rounds = subsets.Rounds(CHOOSERS["ip_dpp"], tmp_path / "draws", seed=3)
    path = tmp_path / "draws" / "round-001.npz"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match=r"round-001.npz .* is drawn anew"):
        rounds.draws(train)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: subsets.RandomSubsets(0), "size"),
        (lambda: subsets.InformativeSubsets(scale="n3"), "scale='n3'"),
        (lambda: subsets.get("ipdpp"), "ip_dpp"),
        (lambda: subsets.get("random(scale='n')"), "no argument scale"),
        (lambda: subsets.Rounds(CHOOSERS["all"], "x", epochs=0), "epochs=0"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=f"Expected .*{message}"):
        make()


def test_specs():
    chooser = subsets.get("ip_dpp(200, scale='n', augmented=True)")
    assert chooser.get_config() == {
        "size": 200,
        "scale": "n",
        "augmented": True,
    }
    assert subsets.get(chooser) is chooser
