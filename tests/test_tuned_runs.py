"""Runs that tune parts of a backbone, from flags to what is exported."""

import signal

import keras
import numpy as np
import presets
import recipe
import tensorflow as tf

from keras_lt import datasets, evaluation, models, report

TINY = (
    "--dataset=digits",
    "--imbalance_factor=20",
    "--backbone=cifar_resnet(8)",
    "--head=cosine(scale=16,start='class_means',centered=True)",
    "--max_steps=2",
)


def test_a_run_goes_on_with_its_classifier(tmp_path, monkeypatch, capsys):
    """At step 0 nothing is lost; test scores and exports average two views."""
    first, second = tmp_path / "first", tmp_path / "second"
    assert not recipe.run(
        monkeypatch, *TINY, "--tune=head", f"--workdir={first}"
    )
    assert not recipe.run(
        monkeypatch,
        *TINY,
        f"--weights={first}",
        "--tune=lora(2,'stage3')",
        "--learning_rate=1e-30",
        "--tta=flip",
        f"--workdir={second}",
    )
    printed = capsys.readouterr().out
    assert f"The classifier starts as that of {first}" in printed
    images = datasets.load("digits", split="test").images
    plain = [
        models.load_model(folder / "model.keras").predict(images, verbose=0)
        for folder in (first, second)
    ]
    np.testing.assert_allclose(plain[1], plain[0], rtol=1e-5, atol=1e-5)

    model = models.load_model(second / "model.keras")
    mirrored = model.predict(images[:, :, ::-1], verbose=0)
    wanted = (plain[1] + mirrored) / 2
    kept = evaluation.read(second / "logits.npz").test.logits
    np.testing.assert_allclose(kept, wanted, atol=1e-4)
    served = tf.saved_model.load(second / "saved_model").signatures
    found = served["serving_default"](images=tf.constant(images[:5]))["logits"]
    np.testing.assert_allclose(found, wanted[:5], atol=1e-4)

    train = report.Record.read(second / "result.json").train
    # Convolutions of 3 x 3 from 32 and from 64 channels; the classifier.
    rank = 2 * (9 * 32 + 64) + 2 * (9 * 64 + 64)
    assert train["trained_parameters"]["all"][0] == rank + 64 * 10
    assert f"{rank + 640:,}" in printed


def test_adapters_in_a_killed_run(tmp_path, monkeypatch):
    """A preset at random weights: killed, resumed, and exported."""
    folder = presets.vit_preset(tmp_path / "vit")
    arguments = (
        "--dataset=digits",
        f"--backbone=kerashub('{folder}')",
        "--tune=adapters",
        "--steps_per_epoch=20",
        "--epochs=2",
        "--batch_size=16",
        "--learning_rate=0.01",
        "--checkpoint_steps=7",
        "--deterministic",
    )
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = recipe.start(
        *arguments,
        f"--workdir={killed}",
        before=recipe.ended_by("SIGKILL", step=10),
    )
    output, _ = process.communicate(timeout=600)
    assert process.returncode == -signal.SIGKILL, output
    assert not (killed / "result.json").exists()
    for workdir in (killed, whole):
        assert not recipe.run(monkeypatch, *arguments, f"--workdir={workdir}")

    found, wanted = (
        models.load_model(workdir / "model.keras")
        for workdir in (killed, whole)
    )
    for one, other in zip(found.weights, wanted.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    record = report.Record.read(killed / "result.json")
    assert record.train["resumed"] == 1
    # r = 2^floor(log2(10 / (2 * 2))) = 2, in two blocks; the classifier.
    blocks = 2 * (2 * 8 * 2 + 2 + 8 + 1)
    trained, every = record.train["trained_parameters"]["all"]
    assert trained == blocks + 8 * 10 + 10 < every

    images = datasets.load("digits", split="test").images[:50]
    logits = found.predict(images, verbose=0)
    served = tf.saved_model.load(killed / "saved_model").signatures
    exported = served["serving_default"](images=tf.constant(images))["logits"]
    np.testing.assert_allclose(exported, logits, atol=1e-5 * abs(logits).max())
    # Without adapters it gives something else: they are in the file.
    assert any("adapted" in weight.path for weight in found.weights)
    keras.backend.clear_session()
