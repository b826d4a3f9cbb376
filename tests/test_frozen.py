"""--tune=head: a classifier on features that are computed once."""

import keras
import numpy as np
import pytest
import recipe

from keras_lt import evaluation, features, models, report

FROZEN = (
    "--dataset=digits",
    "--imbalance_factor=10",
    "--holdout=0.2",
    "--backbone=cifar_resnet(8)",
    "--loss=balanced_softmax",
    "--head=cosine(scale=16,centered=True)",
    "--learning_rate=cosine(0.5)",
    "--epochs=2",
)


def train(folder, *arguments):
    with pytest.MonkeyPatch.context() as monkeypatch:
        return recipe.run(
            monkeypatch, *FROZEN, *arguments, f"--workdir={folder}"
        )


def images():
    """What the runs are trained and scored on."""
    with recipe.flags(*FROZEN, "--workdir=none"):
        import cifar_lt
        import inputs

        return inputs.load_data(cifar_lt.read_settings().data)


@pytest.fixture(scope="module")
def frozen_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("frozen") / "first"
    assert not train(folder, "--tune=head")
    return folder


def test_model_takes_images(frozen_run):
    """What was scored on features, the model says of images."""
    record = report.Record.read(frozen_run / "result.json")
    assert record.test["last"]["balanced"] > 0.5
    assert len(record.history["val_balanced"]) == 2
    model = keras.saving.load_model(frozen_run / "model.keras")
    assert [w.name for w in model.trainable_weights] == ["kernel"]
    kept = evaluation.read(frozen_run / "logits.npz").test
    np.testing.assert_allclose(
        model.predict(images().test.images, verbose=0), kept.logits, atol=1e-3
    )
    rows = sorted(len(np.load(each)) for each in files_of(frozen_run))
    assert rows == sorted(map(len, images()))


def files_of(folder):
    return sorted((folder / "features").glob("*.npy"))


def test_runs_beside_share_features(frozen_run, monkeypatch, capsys):
    """Also the stages on it: nothing is computed again."""

    def fail(*arguments):
        raise RuntimeError("features are computed")

    monkeypatch.setattr(features.extraction._Extraction, "run", fail)
    other = frozen_run.with_name("other")
    assert not train(other, "--tune=head", "--head=linear", "--max_steps=1")
    assert f"Features are those of {frozen_run}." in capsys.readouterr().out
    for one, same in zip(files_of(frozen_run), files_of(other), strict=True):
        assert one.samefile(same)
    assert not recipe.run(
        monkeypatch,
        "--stage=crt",
        "--epochs=1",
        f"--from={frozen_run}",
        f"--workdir={frozen_run.with_name('crt')}",
        name="second_stage",
    )


def test_other_networks_with_the_same_weights(frozen_run, tmp_path):
    """Features that the network does not give are computed anew."""
    other = tmp_path / "other"
    (other / "features").mkdir(parents=True)
    for each in files_of(frozen_run):
        wrong = np.load(each) + 1.0
        np.save(other / "features" / each.name, wrong)
    assert not train(tmp_path / "run", "--tune=head", "--max_steps=1")
    for one, anew in zip(
        files_of(frozen_run), files_of(tmp_path / "run"), strict=True
    ):
        np.testing.assert_allclose(np.load(one), np.load(anew), atol=1e-4)


def test_views(tmp_path):
    folder = tmp_path / "views"
    assert not train(
        folder,
        "--tune=head(views=2)",
        "--augment=pad_crop_flip(1,flip=False)",
        "--head=linear(start='class_means')",
        "--max_steps=1",
    )
    record = report.Record.read(folder / "result.json")
    rows = [len(np.load(each)) for each in files_of(folder)]
    assert max(rows) in (2 * record.data["num_train"], record.data["num_test"])
    assert 2 * record.data["num_train"] in rows


def test_another_branch_on_what_is_kept(tmp_path):
    """The last stage is trained, what is in front of it has run once."""
    folder = tmp_path / "dual_branch"
    assert not train(
        folder,
        "--tune=after('stage2',views=2)",
        "--augment=pad_crop_flip(1,flip=False)",
        "--auxiliary=classifier",
        "--max_steps=2",
    )
    record = report.Record.read(folder / "result.json")
    assert record.method == "dual_branch"
    assert "auxiliary_loss" in record.history
    # Convolutions from 32 and 64 channels to 64, two normalizations, a shortcut
    # without weights, and the head; that of the other branch is not kept.
    trained, _ = record.train["trained_parameters"]["all"]
    assert trained == 9 * (32 + 64) * 64 + 2 * 2 * 64 + 10 * 64
    shapes = {np.load(each, mmap_mode="r").shape for each in files_of(folder)}
    maps = 4 * 4 * 32  # of digits of 8 x 8 pixels after a stride of 2
    assert (2 * record.data["num_train"], maps) in shapes
    model = models.load_model(folder / "model.keras")
    np.testing.assert_allclose(
        model.predict(images().test.images, verbose=0),
        evaluation.read(folder / "logits.npz").test.logits,
        atol=1e-3,
    )
