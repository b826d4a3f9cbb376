"""Runs of two stages: contrastive features, then training on drawn subsets."""

import re
import signal
import time

import keras
import numpy as np
import pytest
import recipe
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import (
    EventAccumulator,
)

from keras_lt import datasets, dpp, report, seeding

TINY = (
    "--dataset=digits",
    "--imbalance_factor=20",
    "--many_shot=60",
    "--few_shot=20",
    "--noflip",
    "--padding=1",
    "--backbone=cifar_resnet20",
    "--method=bns_ipdpp",
    "--stage1=bns",
    "--optimizer=adamw",
    "--l2=0",
    "--decay=cosine",
    "--warmup_epochs=1",
    "--epochs=2",
    "--batch_size=64",
    "--learning_rate=1e-3",
    "--stage2_epochs=5",
    "--resample_epochs=2",
    "--subset_size=30",
    "--stage2_learning_rate=1e-3",
)
COUNTS = [131, 93, 67, 48, 34, 24, 17, 12, 9, 6]
SIZES = [min(count, 30) for count in COUNTS]


def run(monkeypatch, workdir, *arguments):
    return recipe.run(monkeypatch, *TINY, *arguments, f"--workdir={workdir}")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Workdir of a run that was killed in its second round, and the output."""
    folder = tmp_path_factory.mktemp("rounds") / "run"
    arguments = (*TINY, "--stage2=ip_dpp", "--dpp_scale=n")
    process = recipe.start(*arguments, f"--workdir={folder}")
    deadline = time.time() + 300
    while not (folder / "draws" / "round-001.npz").exists():
        assert process.poll() is None, process.stdout.read()
        assert time.time() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = drawn(folder)
    process = recipe.start(*arguments, f"--workdir={folder}")
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return folder, output, before


def drawn(folder):
    found = {}
    for path in sorted((folder / "draws").glob("round-*.npz")):
        with np.load(path) as arrays:
            found[path.stem] = dict(arrays)
    return found


def test_killed_run_goes_on(finished):
    folder, output, before = finished
    # The first stage and the first round are not repeated.
    assert "before epoch 1:" not in output and "before epoch 5:" in output
    after = drawn(folder)
    assert list(after) == ["round-000", "round-001", "round-002"]
    for name, arrays in before.items():
        np.testing.assert_array_equal(after[name]["indices"], arrays["indices"])
    record = report.Record.read(folder / "result.json")
    assert len(record.history["loss"]) == 2
    assert len(record.history["stage2_top1"]) == 5


def test_record(finished):
    folder = finished[0]
    record = report.Record.read(folder / "result.json")
    assert record.class_counts == COUNTS
    assert record.method == "bns, ip_dpp"
    train = record.train
    assert train["steps"] == 2 * 7 and train["images"] == 14 * 64 * 2
    assert train["stage2_epochs"] == 5
    assert train["stage2_steps"] == 5 * round(sum(SIZES) / 64)
    assert [draw["epoch"] for draw in train["draws"]] == [0, 2, 4]
    for draw in train["draws"]:
        assert draw["class_sizes"] == SIZES
        assert 0 < draw["mean_p_drawn"] < 1 and draw["seconds"] > 0
    assert record.test["last"]["epoch"] == 5
    model = keras.saving.load_model(folder / "model.keras")
    test = datasets.load("digits", split="test")
    top1 = model.predict(test.images, verbose=0).argmax(1) == test.labels
    assert top1.mean() == pytest.approx(record.test["last"]["top1"])
    assert "Round 3 of IP-DPP" in (folder / "selection.html").read_text()


def test_figures_of_draws(finished):
    folder = finished[0]
    facts = report.Record.read(folder / "result.json").train["draws"]
    last = drawn(folder)["round-002"]
    train = datasets.long_tail(datasets.load("digits", split="train"), 20)
    p, means = last["probabilities"], []
    for label in range(5):  # larger than 30
        members = np.flatnonzero(train.labels == label)
        left = np.setdiff1d(members, last["indices"])
        means.append((p[np.setdiff1d(members, left)].mean(), p[left].mean()))
    want = np.mean(means, axis=0)
    got = [facts[2]["mean_p_drawn"], facts[2]["mean_p_left_out"]]
    np.testing.assert_allclose(got, want)
    events = EventAccumulator(str(folder / "tensorboard" / "draws"))
    events.Reload()
    logged = {
        event.step: float(tf.make_ndarray(event.tensor_proto))
        for event in events.Tensors("draws/mean_p_drawn")
    }
    assert sorted(logged) == [0, 2, 4]
    np.testing.assert_allclose(logged[4], want[0], rtol=1e-6)
    assert "draws/class_sizes" in events.Tags()["tensors"]


def test_first_draw_is_of_the_first_stage(finished):
    folder = finished[0]
    train = datasets.long_tail(datasets.load("digits", split="train"), 20)
    first = drawn(folder)["round-000"]
    want = dpp.balanced_subset(
        train.labels,
        30,
        seed=seeding.derived_seed(0, "rounds", 0),
        scale="n",
        probabilities=first["probabilities"],
        complements=first["complements"],
    )
    np.testing.assert_array_equal(first["indices"], want)
    # Not the draw of another round.
    assert (drawn(folder)["round-001"]["indices"] != want).any()


@pytest.mark.parametrize(
    "stage2", ["random_balanced", "class_balanced", "instance"]
)
def test_other_second_stages(stage2, finished, tmp_path, monkeypatch):
    workdir = tmp_path / "run"
    assert not run(
        monkeypatch,
        workdir,
        f"--stage2={stage2}",
        f"--stage1_workdir={finished[0]}",
        "--stage2_freeze",
    )
    record = report.Record.read(workdir / "result.json")
    first = report.Record.read(finished[0] / "result.json")
    assert record.method == f"bns, {stage2}"
    assert record.history["loss"] == first.history["loss"]
    assert record.train["stage2_steps"] == first.train["stage2_steps"]
    draws = record.train["draws"]
    balanced = stage2 == "random_balanced"
    assert [draw["class_sizes"] for draw in draws] == [SIZES] * 3 * balanced
    assert not any("mean_p_drawn" in draw for draw in draws)
    # Frozen, the features are those of the first stage.
    images = datasets.load("digits", split="test").images[:9]
    features = [
        keras.saving.load_model(path).features(images)
        for path in (workdir / "model.keras", finished[0] / "stage1.keras")
    ]
    np.testing.assert_allclose(*features, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("stage1", ["simclr", "supcon", "ce"])
def test_linear_probe(stage1, tmp_path, monkeypatch):
    workdir = tmp_path / "run"
    assert not run(
        monkeypatch,
        workdir,
        "--method=linear_probe",
        f"--stage1={stage1}",
        "--holdout=0.1",
        "--temperature=0.3",
    )
    record = report.Record.read(workdir / "result.json")
    first = "single" if stage1 == "ce" else stage1
    assert record.method == f"{first}, linear_probe"
    assert ("val_balanced" in record.history) == (stage1 == "ce")
    assert "best" not in record.test
    # Its features serve another second stage.
    other = tmp_path / "other"
    assert not run(
        monkeypatch,
        other,
        f"--stage1={stage1}",
        f"--stage1_workdir={workdir}",
        "--stage2=ip_dpp",
        "--score_augmented",
        "--holdout=0.1",
        "--temperature=0.3",
    )
    best = report.Record.read(other / "result.json").test["best"]
    assert best["chosen_by"] == "val_balanced"


@pytest.mark.parametrize(
    "arguments, message",
    [
        ((), "Expected --stage2 to be one of ip_dpp, .*--stage2=none"),
        (("--stage2=crt",), "with --method=bns_ipdpp.*--stage2=crt"),
        (
            ("--method=linear_probe", "--stage2=ip_dpp"),
            "--method=linear_probe.*--stage2=ip_dpp",
        ),
        (
            ("--method=single", "--stage2=ip_dpp"),
            "one of none, crt, .*--stage2=ip_dpp",
        ),
        (
            ("--stage2=ip_dpp", "--stage2_epochs=1.5", "--max_steps=1"),
            "whole --stage2_epochs.*1.5",
        ),
        (
            ("--stage2=ip_dpp", "--backbone=cifar_resnet18", "--width=2"),
            "--width=1 with --backbone=cifar_resnet18.*--width=2",
        ),
    ],
)
def test_errors(arguments, message, tmp_path, monkeypatch, capfd):
    assert run(monkeypatch, tmp_path / "run", *arguments) == 1
    error = capfd.readouterr().err.splitlines()[-1]
    assert error.startswith("cifar_lt.py: error: Expected ")
    assert re.search(message, error), error


def test_first_stage_of_another_kind(finished, tmp_path, monkeypatch, capfd):
    assert run(
        monkeypatch,
        tmp_path / "run",
        "--stage1=simclr",
        "--stage2=ip_dpp",
        f"--stage1_workdir={finished[0]}",
    )
    assert "with simclr as first stage. Received: " in capfd.readouterr().err
