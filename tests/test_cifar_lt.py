"""cifar_lt.py as users run it: runs that finish, are cut, and are refused."""

import json
import re
import shutil
import subprocess
import sys
import time

import cifar_lt
import inputs
import keras
import numpy as np
import outcome
import presets
import pytest
import recipe
import run as runs
import tensorflow as tf
import training
from data import tfds_dir
from tensorboard.backend.event_processing.event_accumulator import (
    EventAccumulator,
)

from keras_lt import (
    callbacks,
    datasets,
    export,
    files,
    hardware,
    report,
)
from keras_lt.models import backbones, load_model

FLAG_FILES = recipe.REPO / "recipes" / "flags"
QUICKSTART = (
    f"--flagfile={FLAG_FILES / 'quickstart.cfg'}",
    "--backbone=cifar_resnet(8)",
    "--epochs=4",
    "--learning_rate=cosine(0.05,warmup=1)",
)
TINY = (
    "--dataset=digits",
    "--imbalance_factor=20",
    "--backbone=cifar_resnet(8)",
    "--max_steps=2",
)


def settings_of(*arguments):
    """What `main` makes of flags."""
    with recipe.flags(*arguments):
        return cifar_lt.read_settings()


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Workdir of a run that was told to end once, and its output."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    arguments = (*QUICKSTART, f"--workdir={folder}")
    in_epoch_2 = recipe.ended_by("SIGTERM", step=15)
    process = recipe.start(*arguments, before=in_epoch_2)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 143, output
    assert not (folder / "result.json").exists()
    process = recipe.start(*arguments)
    output, _ = process.communicate(timeout=600)
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


def test_finished_run_is_left_alone(finished, monkeypatch, capsys):
    folder, _ = finished

    def state():
        return {
            path: (path.stat().st_mtime_ns, path.stat().st_size)
            for path in folder.rglob("*")
            if path.name != ".lock"
        }

    before = state()
    assert not recipe.run(monkeypatch, *QUICKSTART, f"--workdir={folder}")
    assert "Finished before" in capsys.readouterr().out
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


def test_images_that_a_model_may_have_seen(tmp_path, monkeypatch, capsys):
    (tmp_path / "model.keras").touch()
    (tmp_path / "flags.cfg").write_text("--imbalance_factor=20\n")
    given = (*TINY, f"--workdir={tmp_path}", "--eval_only")
    assert recipe.run(monkeypatch, *given, "--test_split=left_out") == 1
    assert "trained with --test_split=left_out" in capsys.readouterr().err


def test_card_and_labels_beside_the_saved_model(finished, monkeypatch, capsys):
    folder, _ = finished
    record = report.Record.read(folder / "result.json")
    labels = (folder / "saved_model" / "labels.txt").read_text().splitlines()
    assert labels == record.data["class_names"]
    card = (folder / "saved_model" / "MODEL_CARD.md").read_text()
    assert (folder / "saved_model" / "README.md").read_text() == card
    (snippet,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    monkeypatch.chdir(folder)
    exec(snippet, {})
    assert "[b'" in capsys.readouterr().out
    signatures = tf.saved_model.load(folder / "saved_model").signatures
    assert set(re.findall(r"`(serve_\w+)`", card)) <= set(signatures)
    assert "that the model's own are equal." in card  # the balanced branch


@pytest.mark.parametrize(
    "given, wanted",
    [
        ([], [80, 20, 1, 0]),
        (["--loss=focal"], [80, 20, 1, 0]),
        (["--loss=balanced_softmax"], [1, 1, 1, 0]),
        (["--loss=logit_adjusted(tau=0.5)"], [80**0.5, 20**0.5, 1, 0]),
        # Weights 1 / n at beta = 1 and the same for all at beta = 0.
        (["--loss=class_balanced(beta=0.0)"], [80, 20, 1, 0]),
        (["--loss=ldam(beta=0.999999999)"], [1, 1, 1, 0]),
        # (1 - 0.5^n) / 0.5 is 2 but at n = 1, where it is 1.
        (["--loss=class_balanced(beta=0.5)"], [40, 10, 1, 0]),
        (["--sampling=switched(random,class_balanced,3)"], [1, 1, 1, 0]),
        (["--sampling=class_balanced"], [1, 1, 1, 0]),
        (["--sampling=square_root"], [80**0.5, 20**0.5, 1, 0]),
        (["--sampling=progressive"], None),
        (["--auxiliary=rotation", "--sampling=class_balanced"], [1, 1, 1, 0]),
        (["--auxiliary=rotation"], [80, 20, 1, 0]),
    ],
    ids=str,
)
def test_prior_that_logits_have(given, wanted):
    labels = np.repeat(np.arange(4), [80, 20, 1, 0])
    images = np.zeros((101, 8, 8, 1), "uint8")
    train = datasets.from_arrays(images, labels, [*"abcd"])
    settings = settings_of(*given)
    steps = training.count_steps(len(train), **settings.length)
    stream = cifar_lt.make_stream(settings, train, steps)
    got = outcome.logit_counts(
        cifar_lt.make_loss(settings.method, train.class_counts),
        stream.sampler(settings.method.sampling),
        train.class_counts,
    )
    if wanted is None:
        assert got is None
    else:
        np.testing.assert_allclose(got / got[2], wanted, rtol=1e-6)


def test_litert_and_unsafe_models(tmp_path, monkeypatch, capsys):
    run = (*TINY, f"--workdir={tmp_path / 'run'}", "--export_litert")
    assert not recipe.run(monkeypatch, *run)
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


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Workdir of a finished run of TINY, which tests copy."""
    folder = tmp_path_factory.mktemp("tiny") / "run"
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert not recipe.run(monkeypatch, *TINY, f"--workdir={folder}")
    return folder


def test_overwrite_starts_anew(tiny, tmp_path, monkeypatch):
    recipe.leave_out_pages(monkeypatch)
    shutil.copytree(tiny, tmp_path / "run")
    arguments = (*TINY, f"--workdir={tmp_path / 'run'}", "--max_steps=1")
    (tmp_path / "run" / "notes.txt").write_text("mine")
    assert recipe.run(monkeypatch, *arguments) == 1
    assert not recipe.run(monkeypatch, *arguments, "--overwrite")
    record = report.Record.read(tmp_path / "run" / "result.json")
    assert record.train["steps"] == 1
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"


def test_two_processes_cannot_share_a_workdir(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"
    arguments = ("--dataset=digits", f"--workdir={folder}")
    with recipe.flags() as values:
        holder = runs.Run(str(folder), values, tf.distribute.get_strategy())
        with holder:
            assert recipe.run(monkeypatch, *arguments)
    assert "no other process is using" in capsys.readouterr().err


def test_checkpoints_of_other_classes(tiny, tmp_path, monkeypatch, capsys):
    """The same flags, but other data under the same name."""
    arguments = (*TINY, f"--workdir={tmp_path / 'run'}")
    shutil.copytree(tiny, tmp_path / "run")
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


def test_pipeline_of_an_optimizer(tmp_path, monkeypatch):
    """Two passes a step, averages; what a kill leaves on disk goes on."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"

    class Copy(callbacks.StopOnNonFinite):
        copied = False

        def on_train_batch_begin(self, batch, logs=None):
            index = whole / "checkpoints" / "checkpoint.json"
            if not Copy.copied and self.model.optimizer.iterations == 5:
                while '"step": 1' not in index.read_text():
                    time.sleep(0.01)  # it is written by a thread
                shutil.copytree(whole, cut)
                Copy.copied = True

    monkeypatch.setattr(callbacks, "StopOnNonFinite", Copy)
    arguments = (
        *TINY[:-1],
        "--holdout=0.15",
        "--auxiliary=classifier",
        "--optimizer=sgd(momentum=0.9)|sharpness_aware(0.5)|averaged(0.9)",
        "--learning_rate=0.1",
        "--batch_size=16",
        "--epochs=2",
        "--steps_per_epoch=3",
        "--checkpoint_steps=1",
    )
    for folder in (whole, cut):
        assert not recipe.run(monkeypatch, *arguments, f"--workdir={folder}")
    records = [report.Record.read(f / "result.json") for f in (whole, cut)]
    assert [record.train["resumed"] for record in records] == [0, 1]
    assert records[0].test == records[1].test
    models = [load_model(folder / "model.keras") for folder in (whole, cut)]
    weights = [model.get_weights() for model in models]
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)
    # The averages are the last weights, also for the curves and the best epoch.
    test, history = records[0].test, records[0].history
    assert test["last"]["ece"] != test["trained"]["ece"]
    kept = np.load(whole / "logits.npz")["logits"][:50]
    digits = datasets.load("digits", split="test").images[:50]
    logits = models[0].predict(digits, verbose=0)
    np.testing.assert_allclose(logits, kept, atol=1e-4)
    assert history["val_ece"] != history["val_trained_ece"]
    assert test["best"]["chosen_by"] == "val_balanced"


def test_weight_decay_is_on_all_but_the_bias_of_a_prior():
    """As PyTorch and the class-balanced code have it, auxiliary heads too."""
    settings = settings_of(
        *TINY,
        "--loss=class_balanced_focal",
        "--auxiliary=classifier|rotation",
        "--optimizer=sgd(momentum=0.9,weight_decay=0.1)",
        "--learning_rate=0.5",
    )
    train = inputs.load_data(settings.data).train
    model = cifar_lt.make_model(settings, train, training.Steps(1, 1, 1)).model
    weights = model.trainable_variables
    for weight in weights:
        weight.assign(np.ones(weight.shape))
    model.optimizer.apply([tf.zeros(w.shape) for w in weights], weights)
    after = {weight.path: np.unique(weight) for weight in weights}
    assert after.pop("logits/bias") == 1
    assert any("gamma" in path for path in after)
    assert any(path.startswith("rotation/head") for path in after)
    for values in after.values():
        np.testing.assert_allclose(values, 1 - 0.5 * 0.1, rtol=1e-6)


def test_fine_tuning(tiny, tmp_path, monkeypatch):
    """Of a finished run: frozen stages stay, the others learn slowly."""
    recipe.leave_out_pages(monkeypatch)
    workdir = tmp_path / "run"
    assert not recipe.run(
        monkeypatch,
        *TINY,
        f"--weights={tiny}",
        "--tune=after('stage2')",
        "--backbone_learning_rate_factor=0.1",
        "--optimizer=adamw(weight_decay=0.05,beta_2=0.95)",
        "--l2=0",
        f"--workdir={workdir}",
    )
    before, after = (
        keras.saving.load_model(folder / "model.keras")
        for folder in (tiny, workdir)
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


def test_backbone_of_keras_applications(tmp_path):
    """Its own kind of weights file, on images of 32 pixels."""
    network = keras.applications.MobileNetV3Small(
        include_top=False, weights=None, input_shape=(32, 32, 3)
    )
    network.save_weights(tmp_path / "w.weights.h5")
    settings = settings_of(
        "--backbone=MobileNetV3Small",
        f"--weights={tmp_path / 'w.weights.h5'}",
        "--tune=after('expanded_conv_3')",
    )
    images = np.zeros((2, 32, 32, 3), "uint8")
    train = datasets.from_arrays(images, np.arange(2), ["a", "b"])
    model = cifar_lt.make_model(settings, train, training.Steps(1, 1, 1)).model
    np.testing.assert_array_equal(
        model.get_layer("expanded_conv_1_expand").get_weights()[0],
        network.get_layer("expanded_conv_1_expand").get_weights()[0],
    )
    trained = [weight.path for weight in model.trainable_weights]
    frozen = (
        "conv/",
        "expanded_conv/",
        *(f"expanded_conv_{i}_" for i in "123"),
    )
    assert trained and not [p for p in trained if p.startswith(frozen)]
    assert np.isfinite(model(images)).all()


def test_head_from_texts(tmp_path, monkeypatch):
    folder = presets.clip_preset(tmp_path / "clip")
    arguments = (
        *TINY,
        f"--backbone=kerashub('{folder}')",
        "--head=cosine(start='text',prompt='the digit {}.')",
        "--tune=head",
        "--learning_rate=1e-6",
        "--optimizer=sgd(momentum=0.0)",
    )
    run = tmp_path / "run"
    assert not recipe.run(monkeypatch, *arguments, f"--workdir={run}")
    texts = [f"the digit {i}." for i in range(10)]
    want = backbones.text_features(folder, texts)
    want /= np.linalg.norm(want, axis=1, keepdims=True)
    head = keras.saving.load_model(run / "model.keras").layers[-1]
    np.testing.assert_allclose(head.kernel, want.T, atol=1e-4)


def test_backbone_of_kerashub(tmp_path, monkeypatch, capsys):
    folder = presets.vit_preset(tmp_path / "vit", num_layers=1)
    arguments = (
        *TINY,
        f"--backbone=kerashub('{folder}')",
        "--optimizer=adamw(weight_decay=0.05)",
        f"--workdir={tmp_path / 'run'}",
    )
    assert recipe.run(monkeypatch, *arguments, "--l2=1e-4")
    assert "Expected --l2=0 with a KerasHub" in capsys.readouterr().err
    assert not recipe.run(monkeypatch, *arguments, "--overwrite")


def test_mixed_training(tmp_path, monkeypatch):
    recipe.leave_out_pages(monkeypatch)
    arguments = (
        *TINY,
        "--mix=remix(1.0)",
        "--loss=class_balanced",
        "--augment=pad_crop_flip(1)|rand_augment|cutout(4)",
    )
    workdir = tmp_path / "run"
    assert not recipe.run(monkeypatch, *arguments, f"--workdir={workdir}")
    record = report.Record.read(workdir / "result.json")
    assert np.isfinite(record.history["loss"]).all()
    assert record.flags["mix"] == "remix(1.0)"
    assert {"top1", "balanced"} <= record.history.keys()


@pytest.mark.parametrize("mix", ["mixup", "remix", "cutmix"])
def test_labels_of_mixed_images(mix):
    settings = settings_of(f"--mix={mix}(1.0)", "--loss=class_balanced")
    labels = np.repeat(np.arange(4), [80, 20, 1, 0])
    images = np.random.default_rng(0).integers(0, 256, (101, 8, 8, 1))
    train = datasets.from_arrays(images.astype("uint8"), labels, [*"abcd"])
    steps = training.count_steps(len(train), **settings.length)
    batches = cifar_lt.make_batches(
        cifar_lt.make_stream(settings, train, steps), settings.method, 0
    )
    _, mixed = next(iter(batches))
    np.testing.assert_allclose(np.sum(mixed, 1), 1, rtol=1e-6)
    assert np.any((mixed > 0) & (mixed < 1))
    loss = cifar_lt.make_loss(settings.method, train.class_counts)
    assert np.isfinite(loss(mixed, tf.zeros_like(mixed)))


def test_augmentation_of_the_auxiliary_branch():
    """Random images are as they are, balanced ones as without the flag."""
    given = "--auxiliary=classifier", "--augment=pad_crop_flip(2)"
    labels = np.repeat(np.arange(4), [80, 20, 1, 0])
    images = np.random.default_rng(0).integers(0, 256, (101, 8, 8, 1), "uint8")
    train = datasets.from_arrays(images, labels, [*"abcd"])
    steps = training.count_steps(len(train), **settings_of(*given).length)

    def first(*flags):
        settings = settings_of(*given, *flags)
        stream = cifar_lt.make_stream(settings, train, steps)
        return next(iter(cifar_lt.make_batches(stream, settings.method, 0)))

    usual, found = first(), first("--auxiliary_augment=none")
    known = {image.tobytes() for image in images}

    def number_known(images):
        return sum(each.tobytes() in known for each in images.numpy())

    np.testing.assert_array_equal(found["balanced"][0], usual["balanced"][0])
    np.testing.assert_array_equal(found["random"][1], usual["random"][1])
    assert number_known(found["random"][0]) == len(found["random"][0])
    assert number_known(usual["random"][0]) < len(usual["random"][0]) / 2
    assert number_known(found["balanced"][0]) < len(usual["balanced"][0]) / 2


def test_real_cifar_smoke(tmp_path, monkeypatch):
    recipe.leave_out_pages(monkeypatch)
    assert not recipe.run(
        monkeypatch,
        f"--flagfile={FLAG_FILES / 'cifar10_lt100_cb_focal.cfg'}",
        f"--flagfile={FLAG_FILES / 'c30.cfg'}",
        f"--data_dir={tfds_dir()}",
        f"--workdir={tmp_path / 'run'}",
        "--backbone=cifar_resnet(8)",
        "--mixed_precision=auto",
        "--max_steps=2",
    )
    record = report.Record.read(tmp_path / "run" / "result.json")
    assert record.class_counts[0] == 5000
    assert record.class_counts[-1] == 50
    assert record.test["last"]["num_images"] == 10_000
    assert record.train["precision"] == hardware.precision()
    bias = keras.saving.load_model(tmp_path / "run" / "model.keras").layers[-1]
    # Two steps of a rate of 0.1 / 485 do not move it far from the prior.
    np.testing.assert_allclose(bias.bias, -np.log(9), atol=0.01)


def test_a_training_whose_folder_is_deleted(tmp_path, monkeypatch, capsys):
    """It does not make it anew, without flags and lock."""
    folder = tmp_path / "run"

    class Delete(callbacks.StopOnNonFinite):
        def on_train_batch_end(self, batch, logs=None):
            super().on_train_batch_end(batch, logs)
            if batch == 1:
                shutil.rmtree(folder)

    monkeypatch.setattr(callbacks, "StopOnNonFinite", Delete)
    arguments = (
        *TINY,
        "--max_steps=9",
        "--batch_size=16",
        f"--workdir={folder}",
    )
    assert recipe.run(monkeypatch, *arguments) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(
        "cifar_lt.py: error: Expected the --workdir to stay"
    )
    assert not folder.exists()


def test_sigint_of_a_training(tmp_path):
    """A checkpoint, one line and the status 130."""
    folder = tmp_path / "run"
    arguments = (*TINY, "--max_steps=5", "--checkpoint_steps=2")
    process = recipe.start(
        *arguments,
        f"--workdir={folder}",
        before=recipe.ended_by("SIGINT", step=3),
    )
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 130, output
    lines = output.splitlines()
    assert lines[-1].startswith(
        "cifar_lt.py: ended by SIGINT; the same command"
    )
    assert "Traceback" not in output
    assert not list(folder.rglob(f"{files.PART}*"))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ["--auxiliary_sampling=random"],
            "--auxiliary with --auxiliary_sampling. Received: --auxiliary_sam",
        ),
        (
            ["--auxiliary_augment=none"],
            "--auxiliary with --auxiliary_augment. Received: --auxiliary_aug",
        ),
        (["--joint_forward"], "--auxiliary with --joint_forward. Received: "),
        (
            ["--auxiliary=rotation", "--mix=mixup(1.0)"],
            "--mix without --auxiliary, whose tasks take images as they are. "
            "Received: --mix=mixup(1.0) --auxiliary=rotation",
        ),
        (["--checkpoint=a.keras"], "--eval_only with --checkpoint. Received: "),
        (
            ["--export_litert", "--mixed_precision=bfloat16"],
            "--mixed_precision=none with --export_litert, which takes models "
            "that compute in float32. Received: --mixed_precision=bfloat16",
        ),
        (["--l2=inf"], "a finite number. Received: --l2=inf"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_flags_that_nothing_uses_are_refused(
    arguments, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(datasets, "load", None)
    folder = tmp_path / "run"
    assert recipe.run(monkeypatch, *arguments, f"--workdir={folder}") == 1
    assert f"error: Expected {message}" in capsys.readouterr().err
    assert not folder.exists()


@pytest.mark.parametrize(
    "argument, message",
    [
        ("--loss=focus", "Expected a loss: one of crossentropy, "),
        ("--loss=focal(gama=2)", "no argument gama: the loss focal takes"),
        ("--loss=logit_adjusted(tau=1000)", "leaves each class a prior"),
        ("--drw_epoch=3", "a loss with class weights for --drw_epoch"),
        ("--augment=pad_crop", "Did you mean pad_crop_flip?"),
        ("--mix=mixap(1)", "Did you mean mixup?"),
        ("--sampling=balanced", "Expected a sampler: one of random, "),
        ("--auxiliary=jigsaw", "Expected an auxiliary task: one of classifier"),
        ("--optimizer=sgdd", "Expected an optimizer: one of "),
        ("--learning_rate=cosin(0.1)", "Did you mean cosine?"),
        ("--backbone=cifar_resnet(33)", "a depth of 6n + 2"),
        ("--l2=1e-4 --backbone=kerashub('x')", "--l2=0 with a KerasHub"),
        ("--head=linear(start='text')", "such as CLIP, with --head=...(start"),
    ],
)
def test_wrong_specs_are_refused_before_training(
    argument, message, tmp_path, monkeypatch, capsys
):
    """The corrected command starts in the same folder."""
    folder = f"--workdir={tmp_path / 'run'}"
    assert recipe.run(monkeypatch, *TINY, *argument.split(), folder) == 1
    (error,) = capsys.readouterr().err.splitlines()
    assert message in error
    assert not (tmp_path / "run" / "flags.cfg").exists()


def test_litert_is_tried_before_training(tmp_path, monkeypatch, capsys):
    def refuse(model, path, images=None):
        assert not path.endswith(".keras") and images is None
        raise ValueError("LiteRT can't")

    monkeypatch.setattr(export, "save_litert", refuse)
    folder = f"--workdir={tmp_path / 'run'}"
    assert recipe.run(monkeypatch, *TINY, "--export_litert", folder) == 1
    assert "LiteRT can't" in capsys.readouterr().err
    assert not (tmp_path / "run" / "flags.cfg").exists()


# What a user has in a file outside of this checkout.
OWN = """
import keras
import keras_lt
import tensorflow as tf


@keras.saving.register_keras_serializable("own")
class Brier(keras.losses.Loss):
    def __init__(self, power=2.0, name="brier", **kwargs):
        super().__init__(name=name, **kwargs)
        self.power = power

    def call(self, labels, logits):
        labels = keras.ops.one_hot(labels, logits.shape[-1])
        error = keras.ops.abs(labels - keras.ops.softmax(logits))
        return keras.ops.sum(error**self.power, axis=-1)

    def get_config(self):
        return {**super().get_config(), "power": self.power}


def network(width=4, *, input_shape):
    images = keras.Input(input_shape, dtype="uint8")
    x = keras.layers.Rescaling(1 / 255)(images)
    x = keras.layers.Conv2D(width, 3, activation="relu")(x)
    return keras.Model(images, keras.layers.GlobalAveragePooling2D()(x))


def invert(top=255):
    def transform(images, labels, indices, seeds):
        return top - images, labels

    return transform


@keras.saving.register_keras_serializable("own")
class Brightness(keras_lt.models.AuxiliaryTask):
    def __init__(self, loss="MeanSquaredError", name="brightness", **kwargs):
        super().__init__(loss=loss, name=name, **kwargs)
        self.head = keras.layers.Dense(1, dtype="float32")

    def examples(self, images, labels, seeds):
        pixels = keras.ops.cast(images, "float32") / 255.0
        return images, keras.ops.mean(pixels, axis=(1, 2))

    def build(self, features_shape):
        self.head.build(features_shape)

    def call(self, features):
        return self.head(features)


def tail(class_counts):
    weights = 1.0 / class_counts
    return weights / weights.sum()


@keras.saving.register_keras_serializable("own")
class Plain(keras.optimizers.SGD):
    pass


def rate(value, total_steps):
    return keras.optimizers.schedules.CosineDecay(value, total_steps)
"""


def test_bring_your_own(tmp_path, monkeypatch):
    """A loss, a network, an augmentation, a task, samplers, an optimizer."""
    (tmp_path / "my_parts.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    own = {
        "loss": "my_parts:Brier(power=2.0)",
        "backbone": "my_parts:network(width=3)",
        "augment": "my_parts:invert()|pad_crop_flip(1)",
        "auxiliary": "my_parts:Brightness(weight=linear(0.5))|rotation",
        "sampling": "my_parts:tail()",
        "auxiliary_sampling": "my_parts:tail()",
        "optimizer": "my_parts:Plain(momentum=0.5)",
        "learning_rate": "my_parts:rate(0.01)",
    }
    arguments = [f"--{name}={value}" for name, value in own.items()]
    more = ("--batch_size=16", "--workdir=run")
    assert not recipe.run(monkeypatch, *TINY, *arguments, *more)
    record = report.Record.read(tmp_path / "run" / "result.json")
    assert {name: record.flags[name] for name in own} == own
    assert {"brightness_loss", "rotation_accuracy"} <= {*record.history}
    model = keras.saving.load_model(tmp_path / "run" / "model.keras")
    assert type(model.optimizer).__name__ == "Plain"
    assert model.loss.power == 2.0
    assert [task.name for task in model.tasks] == ["brightness", "rotation"]
