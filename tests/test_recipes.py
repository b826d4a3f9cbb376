"""The recipe as users run it: runs that finish, are cut, and are refused."""

import inspect
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import recipe
import rounds
import tensorflow as tf
from absl import flags
from absl.testing import flagsaver
from data import tfds_dir
from tensorboard.backend.event_processing.event_accumulator import (
    EventAccumulator,
)

from keras_lt import datasets, features, hardware, losses, report
from keras_lt.models import DLSA

FLAG_FILES = recipe.REPO / "recipes" / "flags"
QUICKSTART = (
    f"--flagfile={FLAG_FILES / 'quickstart.cfg'}",
    "--epochs=4",
    "--warmup_epochs=1",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Workdir of a run that was told to end once, and its output."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    process = recipe.start(*QUICKSTART, f"--workdir={folder}")
    index = folder / "checkpoints" / "checkpoint.json"
    deadline = time.time() + 300
    while not index.exists():
        assert process.poll() is None, process.stdout.read()
        assert time.time() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143
    assert not (folder / "result.json").exists()
    process = recipe.start(*QUICKSTART, f"--workdir={folder}")
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    return folder, output


def test_run_goes_on(finished):
    folder, output = finished
    record = report.Record.read(folder / "result.json")
    assert record.train["resumed"] == 1
    assert record.train["epochs"] == 4
    assert len(record.history["loss"]) == 4
    assert "Epoch 1/4" not in output
    assert "Epoch 4/4" in output


def test_record(finished):
    record = report.Record.read(finished[0] / "result.json")
    train = datasets.long_tail(datasets.load("digits", split="train"), 20)
    held_out = record.data["num_train"] - len(train)
    counts = np.array(record.class_counts)
    # round(0.15 * n) of each class are held out.
    expected = train.class_counts - np.floor(0.15 * train.class_counts + 0.5)
    assert (counts == expected).all() and held_out == counts.sum() - len(train)
    assert record.name == "quickstart"
    assert record.dataset == "digits"
    assert record.flags["epochs"] == 4
    assert record.train["steps"] == 4 * round(counts.sum() / 32)
    assert record.shot_thresholds == {"many": 60, "few": 20}
    for which in ("last", "best"):
        scores = record.test[which]
        confusion = np.array(scores["confusion"])
        assert confusion.sum() == scores["num_images"] == 450
        per_class = np.diag(confusion) / confusion.sum(1)
        np.testing.assert_allclose(scores["per_class"], per_class)
        assert scores["top1"] == pytest.approx(np.trace(confusion) / 450)
        assert scores["many"] == pytest.approx(per_class[counts > 60].mean())
    best = record.history["val_balanced"]
    assert record.test["best"]["epoch"] == np.argmax(best) + 1
    assert record.test["best"]["chosen_by"] == "val_balanced"


def test_finished_run_is_left_alone(finished):
    folder, _ = finished

    def state():
        return {
            path: (path.stat().st_mtime_ns, path.stat().st_size)
            for path in folder.rglob("*")
            if path.name != ".lock"
        }

    before = state()
    process = recipe.start(*QUICKSTART, f"--workdir={folder}")
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0
    assert "Finished before" in output
    assert state() == before


def test_models_give_the_recorded_accuracy(finished, monkeypatch, capsys):
    folder, _ = finished
    record = report.Record.read(folder / "result.json")
    test = datasets.load("digits", split="test")
    code = """
import sys, numpy as np, tensorflow as tf
assert "keras_lt" not in sys.modules
images, labels = np.load(sys.argv[2])["images"], np.load(sys.argv[2])["labels"]
model = tf.saved_model.load(sys.argv[1])
serve = model.signatures["serving_default"]
print(float(np.mean(np.argmax(serve(images=images)["logits"], 1) == labels)))
print(serve.structured_input_signature)
"""
    np.savez(folder.parent / "x.npz", images=test.images, labels=test.labels)
    lines = subprocess.run(
        [
            sys.executable,
            "-c",
            code,
            folder / "saved_model",
            folder.parent / "x.npz",
        ],
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
    ).stdout.splitlines()
    top1 = record.test["last"]["top1"]
    assert float(lines[0]) == pytest.approx(top1)
    assert "uint8" in lines[1]
    model = keras.saving.load_model(folder / "model.keras")
    predicted = np.argmax(model.predict(test.images, verbose=0), 1)
    assert np.mean(predicted == test.labels) == pytest.approx(top1)
    assert not recipe.run(
        monkeypatch, *QUICKSTART, f"--workdir={folder}", "--eval_only"
    )
    assert f"top1 {top1:.4f}" in capsys.readouterr().out


def test_card_and_labels_beside_the_saved_model(finished, monkeypatch, capsys):
    folder, _ = finished
    record = report.Record.read(folder / "result.json")
    labels = (folder / "saved_model" / "labels.txt").read_text().splitlines()
    assert labels == record.data["class_names"]
    card = (folder / "saved_model" / "MODEL_CARD.md").read_text()
    (snippet,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    monkeypatch.chdir(folder)
    exec(snippet, {})
    assert "[b'" in capsys.readouterr().out
    signatures = tf.saved_model.load(folder / "saved_model").signatures
    assert set(re.findall(r"`(serve_\w+)`", card)) <= set(signatures)
    assert "model's own to be equal." in card  # of the balanced branch


@pytest.mark.parametrize(
    "given, wanted",
    [
        ({}, [80, 20, 1, 0]),
        ({"loss": "focal"}, [80, 20, 1, 0]),
        ({"loss": "balanced_softmax"}, [1, 1, 1, 0]),
        ({"loss": "logit_adjusted", "tau": 0.5}, [80**0.5, 20**0.5, 1, 0]),
        # Weights 1 / n at beta = 1 and the same for all at beta = 0.
        ({"loss": "class_balanced", "beta": 0.0}, [80, 20, 1, 0]),
        ({"loss": "ldam", "drw_epoch": 3, "beta": 1 - 1e-9}, [1, 1, 1, 0]),
        # (1 - 0.5^n) / 0.5 is 2 but at n = 1, where it is 1.
        ({"loss": "class_balanced", "beta": 0.5}, [40, 10, 1, 0]),
        ({"drs_epoch": 3}, [1, 1, 1, 0]),
        ({"sampling": "class_balanced"}, [1, 1, 1, 0]),
        ({"sampling": "square_root"}, [80**0.5, 20**0.5, 1, 0]),
        ({"sampling": "progressive"}, None),
        ({"method": "dual_branch"}, [1, 1, 1, 0]),
        ({"method": "dlsa"}, [1, 1, 1, 0]),
        ({"method": "dlsa", "dlsa_loss": "crossentropy"}, [80, 20, 1, 0]),
        ({"stage2": "crt"}, [1, 1, 1, 0]),
        ({"stage2": "crt", "stage2_sampling": "random"}, [80, 20, 1, 0]),
        ({"stage2": "tau"}, [1, 1, 1, 0]),
        ({"method": "linear_probe"}, [1, 1, 1, 0]),
        ({"method": "bns_ipdpp", "stage2": "instance"}, [80, 20, 1, 0]),
        (
            {"method": "bns_ipdpp", "stage2": "ip_dpp", "subset_size": 30},
            [30, 20, 1, 0],
        ),
    ],
    ids=str,
)
def test_prior_that_logits_have(given, wanted):
    flags.FLAGS.mark_as_parsed()
    with flagsaver.flagsaver(**given):
        got = recipe.options.logit_counts(np.array([80, 20, 1, 0]))
    if wanted is None:
        assert got is None
    else:
        np.testing.assert_allclose(got, wanted, rtol=1e-6)


def test_litert_and_unsafe_models(tmp_path, monkeypatch, capsys):
    run = ("--dataset=digits", "--max_steps=1", f"--workdir={tmp_path / 'run'}")
    assert not recipe.run(monkeypatch, *run, "--export_litert")
    model = keras.saving.load_model(tmp_path / "run" / "model.keras")
    interpreter = tf.lite.Interpreter(str(tmp_path / "run" / "model.tflite"))
    serve = interpreter.get_signature_runner("serving_default")
    images = datasets.load("digits", split="test").images[:4]
    np.testing.assert_allclose(
        serve(images=images)["logits"], model(images), rtol=1e-4, atol=1e-4
    )
    inputs = keras.Input((8, 8, 1))
    outputs = keras.layers.Lambda(lambda x: exec("raise SystemExit(9)"))
    monkeypatch.setattr(outputs, "call", lambda x: x)
    path = tmp_path / "lambda.keras"
    keras.Model(inputs, outputs(inputs)).save(path)
    before = list(tmp_path.iterdir())
    assert (
        recipe.run(
            monkeypatch,
            "--dataset=digits",
            "--eval_only",
            f"--checkpoint={path}",
        )
        == 1
    )
    error = capsys.readouterr().err
    assert "Lambda" in error and "safe_mode" in error
    assert list(tmp_path.iterdir()) == before


def test_tensorboard(finished):
    folder, _ = finished
    events = EventAccumulator(str(folder / "tensorboard"), {"tensors": 0})
    events.Reload()
    tags = set(events.Tags()["tensors"])
    assert {"train/loss", "val/balanced", "test_last/few"} <= tags
    assert "test_best/confusion" in tags
    losses_ = events.Tensors("train/loss")
    assert [event.step for event in losses_] == [1, 2, 3, 4]
    record = report.Record.read(folder / "result.json")
    np.testing.assert_allclose(
        [float(tf.make_ndarray(event.tensor_proto)) for event in losses_],
        record.history["loss"],
        rtol=1e-6,
    )


def test_overwrite_starts_anew(tmp_path, monkeypatch):
    arguments = ("--dataset=digits", f"--workdir={tmp_path / 'run'}")
    arguments += ("--max_steps=1", "--backbone=cifar_resnet20")
    assert not recipe.run(monkeypatch, *arguments)
    (tmp_path / "run" / "notes.txt").write_text("mine")
    assert recipe.run(monkeypatch, *arguments, "--seed=1") == 1
    assert not recipe.run(monkeypatch, *arguments, "--seed=1", "--overwrite")
    record = report.Record.read(tmp_path / "run" / "result.json")
    assert record.seed == 1 and record.train["steps"] == 1
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"


def test_two_processes_cannot_share_a_workdir(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    arguments = ("--dataset=digits", f"--workdir={folder}")
    compared = [recipe.options.FLAGS["seed"]]
    with recipe.workdir.Workdir(
        str(folder), compared, False, tf.distribute.get_strategy()
    ):
        assert recipe.run(monkeypatch, *arguments)
    assert "no other process is using" in capsys.readouterr().err


TINY = (
    "--dataset=digits",
    "--imbalance_factor=20",
    "--backbone=cifar_resnet20",
    "--max_steps=2",
)


@pytest.fixture(scope="module")
def stage1(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stage1") / "run"
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert not recipe.run(monkeypatch, *TINY, f"--workdir={folder}")
    return folder


def test_second_stage_with_balanced_softmax(stage1, tmp_path, monkeypatch):
    asked = []

    def compile_head(head, optimizer, loss):
        asked.append(loss)
        keras.Model.compile(head, optimizer, loss)

    monkeypatch.setattr(keras.Sequential, "compile", compile_head)
    assert not recipe.run(
        monkeypatch,
        *TINY,
        "--stage2=crt",
        "--stage2_loss=balanced_softmax",
        f"--stage1_workdir={stage1}",
        f"--workdir={tmp_path / 'run'}",
    )
    _, loss = asked  # the first one was of the rehearsal
    counts = report.Record.read(stage1 / "result.json").class_counts
    assert isinstance(loss, losses.BalancedSoftmax)
    np.testing.assert_array_equal(loss.class_counts, counts)


@pytest.mark.parametrize("stage2", ["crt", "lws", "tau", "ncm"])
def test_second_stage(stage2, stage1, tmp_path, monkeypatch):
    arguments = (*TINY, f"--stage2={stage2}")
    workdir = tmp_path / "apart"
    assert not recipe.run(
        monkeypatch,
        *arguments,
        f"--stage1_workdir={stage1}",
        f"--workdir={workdir}",
    )
    first = report.Record.read(stage1 / "result.json")
    record = report.Record.read(workdir / "result.json")
    assert record.method == f"single, {stage2}"
    assert record.history == first.history
    scores = record.test["last"]
    assert scores["confusion"] != first.test["last"]["confusion"]
    model = keras.saving.load_model(workdir / "model.keras")
    test = datasets.load("digits", split="test")
    predicted = np.argmax(model.predict(test.images, verbose=0), 1)
    top1 = np.mean(predicted == test.labels)
    assert top1 == pytest.approx(scores["top1"])
    if stage2 == "crt":  # both stages in one run: the same result
        workdir = tmp_path / "whole"
        assert not recipe.run(monkeypatch, *arguments, f"--workdir={workdir}")
        whole = report.Record.read(workdir / "result.json")
        assert whole.flags == record.flags
        assert whole.test == record.test


def test_checkpoints_of_other_classes(tmp_path, monkeypatch, capsys):
    """The same flags, but other data under the same name."""
    arguments = (*TINY, f"--workdir={tmp_path / 'run'}")
    assert not recipe.run(monkeypatch, *arguments)
    (tmp_path / "run" / "result.json").unlink()
    load = datasets.load

    def five_classes(*args, **kwargs):
        loaded = load(*args, **kwargs)
        of_five = loaded.labels < 5
        return datasets.from_arrays(
            loaded.images[of_five],
            loaded.labels[of_five],
            loaded.class_names[:5],
        )

    monkeypatch.setattr(datasets, "load", five_classes)
    assert recipe.run(monkeypatch, *arguments) == 1
    error = capsys.readouterr().err
    assert "checkpoint.json, which can't be restored: it is of " in error
    found = [
        json.loads(counts)
        for counts in re.findall(r"class_counts=(\[.*?\])", error)
    ]
    assert [len(counts) for counts in found] == [10, 5]


def test_first_stage_of_other_flags(stage1, tmp_path, monkeypatch, capsys):
    for more, message in (
        (["--stage2=crt", "--seed=1"], "--seed=1 where"),
        ([], "Expected a --stage2 with --stage1_workdir"),
    ):
        more += [f"--stage1_workdir={stage1}", f"--workdir={tmp_path / 'run'}"]
        assert recipe.run(monkeypatch, *TINY, *more, "--overwrite")
        assert message in capsys.readouterr().err


def test_division_of_features(stage1, tmp_path, monkeypatch, capsys):
    workdir = tmp_path / "run"
    arguments = (*TINY, "--method=dlsa", f"--workdir={workdir}")
    assert recipe.run(monkeypatch, *arguments)
    assert "Expected --features_from=WORKDIR" in capsys.readouterr().err
    arguments += (f"--features_from={stage1}",)
    assert recipe.run(
        monkeypatch, *arguments, "--imbalance_factor=30", "--overwrite"
    )
    assert "as many images per class" in capsys.readouterr().err
    assert not recipe.run(
        monkeypatch,
        *arguments,
        "--overwrite",
        "--dlsa_clusters=4",
        "--dlsa_flow_epochs=1",
        "--dlsa_classifier_epochs=2",
        "--dlsa_center_std=0.2",
    )
    first = report.Record.read(stage1 / "result.json")
    record = report.Record.read(workdir / "result.json")
    assert record.method == "dlsa"
    assert record.train["features_from"]["method"] == "single"
    (level,) = record.train["levels"]
    assert level["samples"] == sum(first.class_counts)
    assert sum(level["kept_by_class"]) == level["kept"]
    model = keras.saving.load_model(workdir / "model.keras")
    test = datasets.load("digits", split="test")
    predicted = np.argmax(model.predict(test.images, verbose=0), 1)
    top1 = np.mean(predicted == test.labels)
    assert top1 == pytest.approx(record.test["last"]["top1"])
    assert record.train["test_levels"][0]["samples"] == len(test)
    page = (workdir / "division.html").read_text()
    assert "DLSA on" in page and "training images" in page
    assert "test images" in (workdir / "division_test.html").read_text()
    cached = features.read(workdir / "features.npz")
    assert len(cached.labels) == level["samples"]


DIVISION = (
    "--method=dlsa",
    "--dlsa_clusters=4",
    "--dlsa_flow_epochs=1",
    "--dlsa_classifier_epochs=1",
)


@pytest.mark.parametrize("flag", ["--selection=ldam", "--split_seed=3"])
def test_division_of_features_of_other_images(
    flag, stage1, tmp_path, monkeypatch, capsys
):
    """As many images of each class, but not the same ones."""
    assert recipe.run(
        monkeypatch,
        *TINY,
        *DIVISION,
        flag,
        f"--features_from={stage1}",
        f"--workdir={tmp_path / 'run'}",
    )
    error = capsys.readouterr().err
    assert f"{flag} where {stage1} has --" in error
    assert not (tmp_path / "run" / "features.npz").exists()


def test_division_goes_on_with_its_own_features(
    stage1, tmp_path, monkeypatch, capsys
):
    """Of two models of the same images, one's features are not the other's."""
    other, workdir = tmp_path / "other", tmp_path / "run"
    shutil.copytree(stage1, other)
    model = keras.saving.load_model(other / "model.keras")
    model.set_weights([0.5 * weight for weight in model.get_weights()])
    model.save(other / "model.keras")
    arguments = (*TINY, *DIVISION, f"--workdir={workdir}")
    assert not recipe.run(monkeypatch, *arguments, f"--features_from={other}")
    first = features.read(workdir / "features.npz")
    (workdir / "result.json").unlink()  # as if it was cut before
    capsys.readouterr()
    assert recipe.run(monkeypatch, *arguments, f"--features_from={stage1}")
    error = capsys.readouterr().err
    assert "Received: other features_from" in error
    # The same model elsewhere is the same.
    other.rename(tmp_path / "moved")
    moved = f"--features_from={tmp_path / 'moved'}"
    assert not recipe.run(monkeypatch, *arguments, moved)
    (workdir / "result.json").unlink()
    # What an older version has left says nothing of what it is from.
    (workdir / "made_from.json").unlink()
    shutil.rmtree(workdir / "checkpoints")
    stage1_features = f"--features_from={stage1}"
    assert not recipe.run(monkeypatch, *arguments, stage1_features)
    second = features.read(workdir / "features.npz")
    assert np.abs(first.features - second.features).max() > 0
    arguments = (*arguments, "--overwrite")
    assert not recipe.run(monkeypatch, *arguments, moved)
    again = features.read(workdir / "features.npz")
    np.testing.assert_array_equal(again.features, first.features)


def test_published_settings_of_dlsa():
    with flagsaver.flagsaver():
        settings = FLAG_FILES / "dlsa_imagenet_lt.cfg"
        values = effective(
            "cifar10_lt100_dlsa_on_ce_c30", f"--flagfile={settings}"
        )
        assert (values.dlsa_clusters, values.llh_proportion) == (500, 0.3)
        defaults = inspect.signature(DLSA.fit_features).parameters
        for name in recipe.options.FIT_DLSA:
            value = values[f"dlsa_{name}"].value
            assert value == defaults[name].default, name


def effective(name: str, *more: str) -> flags.FlagValues:
    argv = [f"--flagfile={FLAG_FILES / name}.cfg", *more]
    flags.FLAGS(["recipe", *recipe.workdir.expand_flagfiles(argv)])
    return flags.FLAGS


NAMES = sorted(path.stem for path in FLAG_FILES.glob("cifar10*.cfg"))
# Those of contrastive pre-training have settings of their own.
PRETRAINED = [name for name in NAMES if "_bns" in name or name.endswith("_cpu")]


@pytest.mark.parametrize("name", sorted({*NAMES} - {*PRETRAINED}))
def test_flag_file(name):
    with flagsaver.flagsaver():
        values = effective(name)
        short = name.endswith("_c30")
        epochs = 30 if short else 200
        assert values.epochs == epochs
        assert [int(epoch) for epoch in values.decay_epochs] == (
            [24, 27] if short else [160, 180]
        )
        assert values.learning_rate == 0.1
        assert (values.imbalance_factor, values.warmup_epochs) == (100, 5)
        precision = "bfloat16" if name.endswith("_bf16") else "auto"
        assert values.mixed_precision == precision
        method = name.removeprefix("cifar10_lt100_")
        method = method.removesuffix("_c30").removesuffix("_bf16")
        second, _, features_of = method.rpartition("_on_")
        method = features_of or method
        wide = {"batch_size": 256, "steps_per_epoch": 97}
        different = {
            "ce_batch256": wide,
            "half_balanced_sampling": {**wide, "sampling": "half_balanced"},
            "class_balanced_sampling": {"sampling": "class_balanced"},
            **{name: {"stage2": name} for name in ("crt", "lws", "tau")},
            "mixup": {"mix": "mixup"},
            "dual_branch": {"method": "dual_branch"},
            "dual_branch_rotation": {
                "method": "dual_branch",
                "auxiliary": "rotation",
            },
        }.get(method, {})
        different = {
            **different,
            **{
                "dlsa": {"method": "dlsa"},
                "crt": {"stage2": "crt"},
                "balanced_softmax": {
                    "stage2": "crt",
                    "stage2_loss": "balanced_softmax",
                    "stage2_sampling": "random",
                },
            }.get(second, {}),
        }
        for flag, usual in {
            "batch_size": 128,
            "steps_per_epoch": None,
            "sampling": "random",
            "method": "single",
            "auxiliary": "classifier",
            "auxiliary_weight": 1.0,
            "auxiliary_schedule": "constant",
            "balanced_sampling": "class_balanced",
            "joint_forward": False,
            "drs_epoch": None,
            "augment": "standard",
            "optimizer": "sgd",
            "mix": "none",
            "mix_alpha": 1.0,
            "stage1": "bns",
            "stage1_workdir": None,
            "stage2": "none",
            "stage2_loss": "crossentropy",
            "stage2_sampling": "class_balanced",
            "stage2_tau": 1.0,
            "features_from": None,
            "dlsa_depth": 1,
            "dlsa_clusters": 100,
            "llh_proportion": 0.1,
        }.items():
            assert values[flag].value == different.get(flag, usual)
        loss = recipe.parts.make_loss([5000, 50])
        crossentropy = (
            keras.losses.CategoricalCrossentropy
            if method == "mixup"
            else keras.losses.SparseCategoricalCrossentropy
        )
        kind, normalizer, drw = {
            "cb": (losses.ClassBalancedCrossentropy, "nonzero", None),
            "ce_drw": (
                losses.ClassBalancedCrossentropy,
                "weight_sum",
                epochs * 4 // 5,
            ),
            "ldam_drw": (losses.LDAM, "weight_sum", epochs * 4 // 5),
            "balanced_softmax": (losses.BalancedSoftmax, "batch", None),
            "logit_adjusted": (losses.LogitAdjusted, "batch", None),
            "focal": (losses.Focal, "batch", None),
            "cb_focal": (losses.ClassBalancedFocal, "batch", None),
            "cb_focal_weight_sum": (
                losses.ClassBalancedFocal,
                "weight_sum",
                None,
            ),
        }.get(method, (crossentropy, None, None))
        assert type(loss) is kind
        assert getattr(loss, "normalizer", None) == normalizer
        weighted = drw is not None or method.startswith("cb")
        assert getattr(loss, "beta", None) == (0.9999 if weighted else None)
        assert values.drw_epoch == drw


@pytest.mark.parametrize("name", PRETRAINED)
def test_flag_file_of_pretraining(name):
    with flagsaver.flagsaver():
        values = effective(name)
        small = name.endswith("_cpu")
        wanted = {
            "backbone": "cifar_resnet32" if small else "cifar_resnet18",
            "optimizer": "adamw",
            "weight_decay": 0.05,
            "l2": 0.0,
            "epochs": 50 if small else 1000,
            "batch_size": 256 if small else 1024,
            "warmup_epochs": 5 if small else 20,
            "decay": "cosine",
            "temperature": None,
            "projection_dim": 128,
            "stage2_epochs": 40 if small else 100,
            "stage2_batch_size": 64,
            "stage2_learning_rate": 1e-3 * 64 / 256,
            "stage2_warmup_epochs": 2 if small else 5,
            "stage2_freeze": False,
            "subset_size": 500,
            "resample_epochs": 10,
            "score_augmented": False,
            "dpp_scale": "n" if "ipdpp_n" in name else "n2",
            "stage1": name.split("_")[2],
            "stage2": next(
                (kind for kind in rounds.KINDS if kind in name),
                "none" if "probe" in name else "ip_dpp",
            ),
            "method": "linear_probe" if "probe" in name else "bns_ipdpp",
        }
        assert {flag: values[flag].value for flag in wanted} == wanted
        assert values.learning_rate == 1e-3 * values.batch_size / 256
        recipe.options.check()


# Of the published configurations, PyTorch's weight decay and all.
PUBLISHED = {
    "imagenet_lt_ce_resnext50": ("resnext50", 90, 512, 0.2, 5e-4, "none", 0),
    "imagenet_lt_crt_resnext50": ("resnext50", 90, 512, 0.2, 5e-4, "crt", 10),
    "imagenet_lt_lws_resnext50": ("resnext50", 90, 512, 0.2, 5e-4, "lws", 5),
    "imagenet_lt_ce_resnet10": ("resnet10", 100, 512, 0.2, 1e-4, "none", 0),
    "places_lt_ce_resnet152": ("ResNet152", 30, 256, 0.1, 5e-4, "none", 0),
    "places_lt_crt_resnet152": ("ResNet152", 30, 256, 0.1, 5e-4, "crt", 10),
    "inaturalist2018_ce_resnet50": ("ResNet50", 90, 512, 0.2, 1e-4, "none", 0),
    "inaturalist2018_crt_resnet50": ("ResNet50", 90, 512, 0.2, 1e-4, "crt", 30),
}
LARGE = sorted(
    path.stem
    for kind in ("imagenet_lt", "places_lt", "inaturalist2018")
    for path in FLAG_FILES.glob(f"{kind}_*.cfg")
)


@pytest.mark.parametrize("name", LARGE)
def test_flag_file_of_large_images(name):
    backbone, epochs, batch_size, rate, decay, stage2, stage2_epochs = (
        PUBLISHED[name]
    )
    places = name.startswith("places")
    with flagsaver.flagsaver():
        values = effective(name)
        wanted = {
            "backbone": backbone,
            "weights": "imagenet" if places else None,
            "freeze": "conv4" if places else "none",
            "backbone_learning_rate_factor": 0.1 if places else 1.0,
            "epochs": epochs,
            "batch_size": batch_size,
            "learning_rate": rate,
            "momentum": 0.9,
            "l2": decay / 2,
            "warmup_epochs": 0.0,
            "decay": "step" if backbone == "resnet10" else "cosine",
            "loss": "crossentropy",
            "sampling": "random",
            "method": "single",
            "stage2": stage2,
            "stage2_sampling": "class_balanced",
        }
        if stage2 != "none":
            wanted |= {
                "stage2_epochs": stage2_epochs,
                "stage2_learning_rate": rate,
            }
        assert {flag: values[flag].value for flag in wanted} == wanted
        rates = recipe.parts.make_learning_rate(100)
        assert float(rates(0)) == pytest.approx(rate)
        if backbone == "resnet10":  # 0.1 of the rate from 60, 0.01 from 80
            found = [float(rates(100 * n)) / rate for n in (59, 60, 80)]
            assert found == pytest.approx([1, 0.1, 0.01])
        else:
            assert float(rates(50 * epochs)) == pytest.approx(rate / 2)


def test_fine_tuning(stage1, tmp_path, monkeypatch):
    """Of a finished run: frozen stages stay, the others learn slowly."""
    workdir = tmp_path / "run"
    assert not recipe.run(
        monkeypatch,
        *TINY,
        f"--weights={stage1}",
        "--freeze=stage2",
        "--backbone_learning_rate_factor=0.1",
        "--optimizer=adamw",
        "--l2=0",
        f"--workdir={workdir}",
    )
    before, after = (
        keras.saving.load_model(folder / "model.keras")
        for folder in (stage1, workdir)
    )
    for layer in after.layers:
        same = all(
            np.array_equal(old, new)
            for old, new in zip(
                before.get_layer(layer.name).get_weights(),
                layer.get_weights(),
                strict=True,
            )
        )
        if layer.weights:
            assert same == layer.name.startswith(("stem", "stage1", "stage2"))
    factors = after.optimizer.rate_factors
    assert factors == [0.1] * (len(factors) - 2) + [1.0, 1.0]


def test_backbone_of_keras_applications(tmp_path, monkeypatch):
    """Its own kind of weights file, on images of 32 pixels."""
    network = keras.applications.MobileNetV3Small(
        include_top=False, weights=None, input_shape=(32, 32, 3)
    )
    network.save_weights(tmp_path / "w.weights.h5")
    arguments = (
        "--dataset=cifar10",
        f"--data_dir={tfds_dir()}",
        "--imbalance_factor=1000",
        "--backbone=MobileNetV3Small",
        f"--weights={tmp_path / 'w.weights.h5'}",
        "--freeze=expanded_conv_3",
        "--batch_size=500",
        "--max_steps=1",
        f"--workdir={tmp_path / 'run'}",
    )
    assert not recipe.run(monkeypatch, *arguments)
    model = keras.saving.load_model(tmp_path / "run" / "model.keras")
    np.testing.assert_array_equal(
        model.get_layer("expanded_conv_1_expand").get_weights()[0],
        network.get_layer("expanded_conv_1_expand").get_weights()[0],
    )


def test_backbone_of_kerashub(tmp_path, monkeypatch, capsys):
    keras_hub = pytest.importorskip("keras_hub")
    folder = tmp_path / "vit"
    keras_hub.models.ViTBackbone(
        image_shape=(8, 8, 3),
        patch_size=4,
        num_layers=1,
        num_heads=2,
        hidden_dim=8,
        mlp_dim=8,
    ).save_to_preset(str(folder))
    keras_hub.layers.ViTImageConverter(
        image_size=(8, 8), scale=1 / 8, offset=-1.0
    ).save_to_preset(str(folder))
    arguments = (
        *TINY,
        f"--backbone=kerashub:{folder}",
        "--optimizer=adamw",
        f"--workdir={tmp_path / 'run'}",
    )
    assert recipe.run(monkeypatch, *arguments)
    assert "Expected --l2=0 with a KerasHub" in capsys.readouterr().err
    assert not recipe.run(monkeypatch, *arguments, "--l2=0", "--overwrite")


def test_ldam_of_the_recipe_is_that_of_cosines():
    with flagsaver.flagsaver(loss="ldam", l2=0.0, max_margin=0.4, scale=20.0):
        loss = recipe.parts.make_loss([90, 9, 1])
        head = recipe.parts.make_head(3)
    features = np.random.default_rng(0).normal(size=(8, 5)).astype("float32")
    logits, labels = head(features), np.arange(8) % 3
    want = losses.LDAM([90, 9, 1], max_margin=0.4, scale=20.0)
    np.testing.assert_allclose(
        loss(labels, logits), want(labels, logits / 20), rtol=1e-5
    )


@pytest.mark.parametrize("mix", ["mixup", "remix", "cutmix"])
def test_mixed_training(mix, tmp_path, monkeypatch):
    loss = "class_balanced" if mix == "remix" else "crossentropy"
    arguments = (*TINY, f"--mix={mix}", f"--loss={loss}", "--augment=strong")
    workdir = tmp_path / "run"
    assert not recipe.run(monkeypatch, *arguments, f"--workdir={workdir}")
    record = report.Record.read(workdir / "result.json")
    assert np.isfinite(record.history["loss"]).all()
    assert record.flags["mix"] == mix
    assert {"top1", "balanced"} <= record.history.keys()


def test_auxiliary_schedules():
    weights = {
        name: make(2.0, 10)
        for name, make in recipe.options.AUXILIARY_SCHEDULES.items()
    }
    assert weights.pop("constant") == 2.0
    halfway = {name: float(weight(5)) for name, weight in weights.items()}
    assert halfway == {"linear": 1.0, "cumulative": 1.5}


# Flags of older records that are no more, and what did nothing.
GONE = {"cutout": 0}
RECORDS = sorted((recipe.REPO / "recipes" / "results").glob("*/seed*.json"))


@pytest.mark.parametrize(
    "path", RECORDS, ids=lambda path: f"{path.parent.name}/{path.stem}"
)
def test_kept_record_is_of_its_flag_file(path):
    record = report.Record.read(path)
    assert record.name == path.parent.name
    assert path.stem == f"seed{record.seed}"
    assert record.environment["git_commit"]
    assert not record.environment["git_dirty"]
    assert record.train["epochs"] == record.flags["epochs"]
    with flagsaver.flagsaver():
        values = effective(record.name, f"--seed={record.seed}")
        for name, value in record.flags.items():
            # Of DLSA alone, and its default has changed since.
            if name == "llh_proportion" and values.method != "dlsa":
                continue
            found = GONE[name] if name in GONE else values[name].value
            if name == "mixed_precision" and found == "auto":
                found = value  # as the machine of the record had it
            assert found == value, name


def test_real_cifar_smoke(tmp_path, monkeypatch):
    assert not recipe.run(
        monkeypatch,
        f"--flagfile={FLAG_FILES / 'cifar10_lt100_cb_focal_c30.cfg'}",
        f"--data_dir={tfds_dir()}",
        f"--workdir={tmp_path / 'run'}",
        "--mixed_precision=auto",
        "--max_steps=2",
    )
    record = json.loads((tmp_path / "run" / "result.json").read_text())
    assert record.class_counts[0] == 5000
    assert record.class_counts[-1] == 50
    assert record.test["last"]["num_images"] == 10_000
    assert record.train["precision"] == hardware.precision()
    bias = keras.saving.load_model(tmp_path / "run" / "model.keras").layers[-1]
    # Two steps of a rate of 0.1 / 485 do not move it far from the prior.
    np.testing.assert_allclose(bias.bias, -np.log(9), atol=0.01)


def test_help_reads_well():
    process = recipe.start("--helpfull")
    output, _ = process.communicate(timeout=300)
    assert "--imbalance_factor: Cut the training set" in output
    assert "(a number in the range [1.0, inf])" not in output
    assert os.path.basename(str(recipe.RECIPE)) in output
