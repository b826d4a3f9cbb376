"""Stages: each takes a finished run, and leaves a finished run."""

import os
import re
import shutil

import keras
import numpy as np
import pytest
import recipe

from keras_lt import dpp, features, models, report, seeding

DATA = (
    "--dataset=digits",
    "--imbalance_factor=20",
    "--many_shot=60",
    "--few_shot=20",
    "--seed=3",
)
SMALL = ("--backbone=cifar_resnet(8)", "--batch_size=64", "--max_steps=6")
COUNTS = [131, 93, 67, 48, 34, 24, 17, 12, 9, 6]
SIZES = [min(count, 30) for count in COUNTS]
DIVISION = (
    "--dlsa=dlsa(num_clusters=4,center_std=0.2)",
    "--flow=flow(epochs=1)",
    "--classifier=classifier(epochs=2)",
)


@pytest.fixture(scope="module")
def patch():
    with pytest.MonkeyPatch.context() as context:
        recipe.leave_out_pages(context)
        yield context


@pytest.fixture(autouse=True)
def short(patch):
    """All runs here leave their pages out."""


@pytest.fixture(scope="module")
def ce(tmp_path_factory, patch):
    folder = tmp_path_factory.mktemp("runs") / "ce"
    arguments = (*DATA, *SMALL, "--epochs=1", f"--workdir={folder}")
    assert not recipe.run(patch, *arguments)
    return folder


@pytest.fixture(scope="module")
def bns(tmp_path_factory, patch):
    folder = tmp_path_factory.mktemp("runs") / "bns"
    arguments = (*DATA, *SMALL, "--epochs=1", "--l2=0", f"--workdir={folder}")
    assert not recipe.run(patch, *arguments, name="pretrain")
    return folder


def record_of(folder):
    return report.Record.read(folder / "result.json")


def load(folder):
    return keras.saving.load_model(folder / "model.keras")


@pytest.fixture(scope="module")
def data():
    inputs = recipe.script("inputs")
    return inputs.load_data(
        inputs.DataSettings("digits", imbalance_factor=20.0)
    )


def second(monkeypatch, name, first, folder, *arguments):
    return recipe.run(
        monkeypatch,
        *arguments,
        f"--from={first}",
        f"--workdir={folder}",
        name=name,
    )


def test_pretraining_is_scored_by_class_means(bns, data):
    record = record_of(bns)
    assert record.method == "bns" and record.from_run is None
    assert record.class_counts == COUNTS and record.seed == 3
    assert record.train["images"] == 6 * 64 * 2
    assert record.train["classifier"] == "nearest class mean"
    assert len(record.history["loss"]) == 1
    assert "best" not in record.test
    model = load(bns)
    wanted = models.nearest_class_mean(
        model, features.extract(model, data.train), 10
    )
    np.testing.assert_allclose(
        model.predict(data.test.images, verbose=0),
        wanted.predict(data.test.images, verbose=0),
        rtol=1e-4,
        atol=1e-4,
    )
    for name in ("report.html", "saved_model/MODEL_CARD.md", "flags.cfg"):
        assert (bns / name).is_file()


@pytest.mark.parametrize("loss", ["nt_xent(0.3)", "supcon", "bns(0.3)"])
def test_losses_of_pretraining(loss, data):
    pretrain = recipe.script("pretrain")
    with recipe.flags(*SMALL, f"--loss={loss}", name="pretrain"):
        settings = pretrain.read_settings()
    steps = recipe.script("training").Steps(1, 1, 1)
    model = pretrain.make_model(settings, data.train, steps)
    temperature = 0.3 if "0.3" in loss else type(model.loss)().temperature
    assert model.loss.temperature == temperature
    assert isinstance(model.optimizer, keras.optimizers.AdamW)


@pytest.mark.parametrize(
    "stage, on", [("crt", "bns"), ("lws", "ce"), ("tau(0.5)", "ce")]
)
def test_second_stage(stage, on, bns, ce, data, tmp_path, monkeypatch):
    first, folder = {"bns": bns, "ce": ce}[on], tmp_path / "run"
    learns = stage != "tau(0.5)"
    arguments = [f"--stage={stage}"] + ["--epochs=2"] * learns
    assert not second(monkeypatch, "second_stage", first, folder, *arguments)
    before, record = record_of(first), record_of(folder)
    assert record.method == f"{before.method}, {stage}"
    assert record.from_run == f"{on}, seed 3"
    assert record.seed == 3 and record.class_counts == COUNTS
    assert record.shot_thresholds == {"many": 60, "few": 20}
    assert record.history == before.history
    assert record.train["steps"] == before.train["steps"]
    assert record.train["from_flags"]["backbone"] == "cifar_resnet(8)"
    found, wanted = (
        features.extract(load(path), data.test).features
        for path in (folder, first)
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    logits = load(folder).predict(data.test.images, verbose=0)
    top1 = (logits.argmax(axis=1) == data.test.labels).mean()
    assert top1 == pytest.approx(record.test["last"]["top1"])


def test_stage_on_a_stage(bns, tmp_path, monkeypatch):
    """LWS scales the class means that pre-training leaves, then NCM."""
    one, two = tmp_path / "lws", tmp_path / "ncm"
    lws = ("--stage=lws", "--epochs=1", "--sampling=random", "--loss=focal")
    assert not second(monkeypatch, "second_stage", bns, one, *lws)
    assert not second(monkeypatch, "second_stage", one, two, "--stage=ncm")
    record = record_of(two)
    assert record.method == "bns, lws, ncm"
    assert record.from_run == "lws, seed 3, from bns, seed 3"
    # Features stay, and so do their class means.
    top1 = record_of(bns).test["last"]["top1"]
    assert record.test["last"]["top1"] == pytest.approx(top1)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--split_seed=4",), "--split_seed=4 where .* has --split_seed=0"),
        (("--imbalance_factor=9",), "where .* has --imbalance_factor=20.0"),
        (("--stage=ncm", "--epochs=3"), "--stage=ncm --epochs=3"),
        (("--stage=tau", "--loss=focal"), "a --stage that learns.*--loss"),
        (("--stage=ctr",), "one of crt, lws, .*Did you mean crt"),
        (("--stage=crt(tau=1)",), "no argument tau"),
        (("--from=@some_run",), r"--from=@some_run.* tools/sweep.py"),
        (("--from=no_such_run",), "no_such_run"),
    ],
)
def test_second_stage_refuses(
    arguments, message, ce, tmp_path, monkeypatch, capfd
):
    folder = tmp_path / "run"
    given = [f"--from={ce}", *arguments, f"--workdir={folder}"]
    assert recipe.run(monkeypatch, *given, name="second_stage") == 1
    error = capfd.readouterr().err.splitlines()[-1]
    assert error.startswith("second_stage.py: error: ")
    assert re.search(message, error), error
    assert not (folder / "flags.cfg").exists()


@pytest.mark.parametrize("name", ["second_stage", "ip_dpp", "dlsa"])
def test_stages_need_a_run(name, tmp_path, monkeypatch, capfd):
    assert recipe.run(monkeypatch, f"--workdir={tmp_path}", name=name) == 1
    assert "Expected --from=RUN, the workdir" in capfd.readouterr().err


def test_other_classes_are_refused(ce, tmp_path, monkeypatch, capfd):
    """Records are text: one may be of another data set by now."""
    first = tmp_path / "first"
    shutil.copytree(ce, first)
    record = record_of(first)
    record.class_counts = COUNTS[::-1]
    record.write(first / "result.json")
    assert second(monkeypatch, "second_stage", first, tmp_path / "run") == 1
    error = capfd.readouterr().err
    assert "as many images per class" in error and "131" in error


# --- Subsets -------------------------------------------------------------

ROUNDS = (
    "--subsets=ip_dpp(30,scale='n')",
    "--epochs=3",
    "--epochs_per_round=2",
    "--augment=pad_crop_flip(1,flip=False)",
)


@pytest.fixture(scope="module")
def drawn(bns, tmp_path_factory, patch):
    """A run that was cut after its second draw, and then went on."""
    folder = tmp_path_factory.mktemp("runs") / "ip_dpp"
    script, say = recipe.script("ip_dpp"), []

    def cut(run, train, epoch, draw):
        say.append(epoch)
        if epoch == 2 and say.count(2) == 1:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as context:
        context.setattr(script, "say_draw", cut)
        with pytest.raises(KeyboardInterrupt):
            second(patch, "ip_dpp", bns, folder, *ROUNDS)
        before = sorted((folder / "draws").iterdir())
        times = [path.stat().st_mtime_ns for path in before]
        assert not second(patch, "ip_dpp", bns, folder, *ROUNDS)
    assert say == [0, 2, 2]
    assert [path.stat().st_mtime_ns for path in before] == times
    return folder


def test_subsets(drawn, bns, data):
    record, before = record_of(drawn), record_of(bns)
    assert record.method == "bns, ip_dpp(30,scale='n')"
    assert record.from_run == "bns, seed 3"
    train = record.train
    assert train["steps"] == before.train["steps"]
    assert train["stage2_epochs"] == 3
    assert train["stage2_steps"] == 3 * round(sum(SIZES) / 64)
    assert [draw["epoch"] for draw in train["draws"]] == [0, 2]
    assert all(draw["class_sizes"] == SIZES for draw in train["draws"])
    assert record.history["loss"] == before.history["loss"]
    assert len(record.history["stage2_top1"]) == 3
    assert record.test["last"]["epoch"] == 3
    assert "Round 2 of ip_dpp" in (drawn / "selection.html").read_text()
    with np.load(drawn / "draws" / "round-000.npz") as arrays:
        wanted = dpp.balanced_subset(
            data.train.labels,
            30,
            seed=seeding.derived_seed(3, "rounds", 0),
            scale="n",
            probabilities=arrays["probabilities"],
            complements=arrays["complements"],
        )
        np.testing.assert_array_equal(arrays["indices"], wanted)


def test_all_images_with_frozen_features(ce, data, tmp_path, monkeypatch):
    folder = tmp_path / "run"
    assert not second(
        monkeypatch,
        "ip_dpp",
        ce,
        folder,
        "--subsets=all(30)",
        "--sampling=class_balanced",
        "--freeze_features",
        "--epochs=1",
        "--max_steps=2",
    )
    record = record_of(folder)
    assert record.train["stage2_steps"] == 2
    assert record.train["draws"][0]["class_sizes"] == COUNTS
    found, wanted = (
        features.extract(load(path), data.test).features
        for path in (folder, ce)
    )
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_stages_on_features_of_all_images(ce, data, tmp_path, monkeypatch):
    """A classifier sees features alone, and the next stage takes them over."""
    recipe.leave_out_pages(monkeypatch)
    folders = tmp_path / "subsets", tmp_path / "crt"
    assert not second(
        monkeypatch,
        "ip_dpp",
        ce,
        folders[0],
        "--subsets=ip_dpp(30)",
        "--freeze_features",
        "--augment=none",
        "--epochs=2",
        "--epochs_per_round=1",
    )
    assert not second(
        monkeypatch, "second_stage", folders[0], folders[1], "--epochs=2"
    )
    assert record_of(folders[0]).train["draws"][1]["mean_p_drawn"] > 0
    kept = [sorted((each / "features").glob("*.npy")) for each in folders]
    assert len(kept[0]) == 2  # of training images and of test images
    assert [os.path.samefile(*pair) for pair in zip(*kept, strict=True)]
    for folder in folders:
        top1 = load(folder).predict(data.test.images, verbose=0).argmax(-1)
        wanted = record_of(folder).test["last"]["top1"]
        assert (top1 == data.test.labels).mean() == pytest.approx(wanted)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--steps_per_epoch=3",), "size of --subsets.*--steps_per_epoch=3"),
        (("--subsets=ipdpp",), "Did you mean ip_dpp"),
    ],
)
def test_subsets_refuse(arguments, message, ce, tmp_path, monkeypatch, capfd):
    folder = tmp_path / "run"
    assert second(monkeypatch, "ip_dpp", ce, folder, *arguments) == 1
    assert re.search(message, capfd.readouterr().err)


@pytest.mark.parametrize(
    "subsets, sampling, loss, wanted",
    [
        ("ip_dpp(30)", "random", "crossentropy", [30, 30, 10, 0]),
        ("random(30)", "class_balanced", "crossentropy", [1, 1, 1, 0]),
        ("all(30)", "random", "crossentropy", [80, 40, 10, 0]),
        ("ip_dpp(30)", "random", "balanced_softmax", [1, 1, 1, 0]),
    ],
)
def test_prior_after_subsets(subsets, sampling, loss, wanted):
    script, training = recipe.script("ip_dpp"), recipe.script("training")
    counts = np.array([80, 40, 10, 0])
    given = (f"--subsets={subsets}", f"--sampling={sampling}", f"--loss={loss}")
    with recipe.flags(*given, name="ip_dpp"):
        settings = script.read_settings()
    found = script.logit_counts(settings, counts, training.Steps(1, 1, 1))
    np.testing.assert_allclose(found / found[2], np.divide(wanted, wanted[2]))


# --- DLSA ----------------------------------------------------------------


def test_division(ce, data, tmp_path, monkeypatch, capfd):
    folder = tmp_path / "run"
    script = recipe.script("dlsa")
    with pytest.MonkeyPatch.context() as context:

        def cut(*arguments):
            raise KeyboardInterrupt

        context.setattr(script, "write_pages", cut)
        with pytest.raises(KeyboardInterrupt):
            second(monkeypatch, "dlsa", ce, folder, *DIVISION)
    (rows,) = (folder / "features").glob("*.npy")
    kept = [rows, folder / "checkpoints" / "levels.json"]
    times = [path.stat().st_mtime_ns for path in kept]
    assert not second(monkeypatch, "dlsa", ce, folder, *DIVISION)
    assert [path.stat().st_mtime_ns for path in kept] == times
    record = record_of(folder)
    spec = "dlsa(num_clusters=4,center_std=0.2)"
    assert record.method == f"single, {spec}" and record.from_run
    (level,) = record.train["levels"]
    assert level["samples"] == sum(COUNTS)
    assert record.train["test_levels"][0]["samples"] == len(data.test)
    for name in ("division.html", "division_test.html"):
        assert f"DLSA on {ce.name}" in (folder / name).read_text()
    logits = load(folder).predict(data.test.images, verbose=0)
    top1 = (logits.argmax(axis=1) == data.test.labels).mean()
    assert top1 == pytest.approx(record.test["last"]["top1"])


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--dlsa=dlsa(clusters=4)",), "no argument clusters"),
        (("--flow=flow(epochs=0)",), "epochs=0"),
        (("--classifier=classifier(loss='mse')",), "loss='mse'"),
        (("--flow=mlp",), "one of flow"),
        (("--epochs=3",), "Unknown command line flag 'epochs'"),
    ],
)
def test_division_refuses(arguments, message, ce, tmp_path, monkeypatch, capfd):
    folder = tmp_path / "run"
    assert second(monkeypatch, "dlsa", ce, folder, *arguments) == 1
    error = capfd.readouterr().err.splitlines()[-1]
    assert re.search(message, error), error
