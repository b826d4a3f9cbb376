"""Flags that can't be together are refused before anything is computed."""

import keras
import numpy as np
import pytest
import recipe
import stages
import tensorflow as tf

from keras_lt import features

DIGITS = ("--dataset=digits", "--backbone=cifar_resnet20", "--batch_size=16")


@pytest.mark.parametrize(
    "flags, message",
    [
        (
            ["--loss=ldam", "--stage2=tau"],
            "a --loss with a linear classifier for --stage2=tau. "
            "Received: --loss=ldam",
        ),
        (
            ["--export_litert", "--mixed_precision=bfloat16"],
            "--mixed_precision=none with --export_litert, which takes models "
            "that compute in float32. Received: --mixed_precision=bfloat16",
        ),
        (
            ["--method=linear_probe", "--mix=mixup"],
            "--mix=none where the first stage compares views of images. "
            "Received: --mix=mixup --stage1=bns",
        ),
        (
            ["--method=bns_ipdpp", "--stage2=ip_dpp", "--mix=cutmix"],
            "--mix=none where",
        ),
        (
            ["--method=bns_ipdpp", "--stage2=ip_dpp", "--stage2_epochs=1.5"],
            "whole --stage2_epochs, at least 1, with --method=bns_ipdpp. "
            "Received: --stage2_epochs=1.5",
        ),
        (
            ["--method=bns_ipdpp", "--stage2=instance", "--stage2_epochs=0"],
            "whole --stage2_epochs, at least 1",
        ),
        (
            ["--method=linear_probe", "--drw_epoch=3", "--loss=class_balanced"],
            "a first stage with class weights for --drw_epoch",
        ),
        (["--method=dlsa"], "--features_from=WORKDIR with --method=dlsa."),
        (
            ["--method=dlsa", "--features_from=x", "--llh_proportion=1"],
            "--llh_proportion between 0 and 1. Received: --llh_proportion=1.0",
        ),
        (
            [
                *("--method=dlsa", "--features_from=x"),
                "--dlsa_posterior_momentum=1",
            ],
            "--dlsa_posterior_momentum of at least 0 and below 1",
        ),
        (["--stage2_learning_rate=nan"], "a finite number. Received: --stage2"),
        (["--weight_decay=inf"], "a finite number. Received: --weight_decay"),
    ],
)
def test_refused_together(flags, message, tmp_path, monkeypatch, capsys):
    loaded = []
    monkeypatch.setattr(recipe.parts, "load_data", lambda: loaded.append(1))
    folder = tmp_path / "run"
    assert recipe.run(monkeypatch, *flags, f"--workdir={folder}") == 1
    assert f"error: Expected {message}" in capsys.readouterr().err
    assert not loaded and not folder.exists()


@pytest.mark.parametrize(
    "flags",
    [
        ["--method=single", "--stage2=crt", "--loss=ldam"],
        ["--method=bns_ipdpp", "--stage2=ip_dpp", "--stage1=ce", "--mix=mixup"],
        ["--method=dlsa", "--features_from=x", "--drw_epoch=3"],
        ["--stage2=tau", "--loss=balanced_softmax"],
    ],
)
def test_allowed_together(flags):
    with recipe.flags(*flags):
        recipe.options.check()


class Run:
    """What a rehearsal asks of a run."""

    is_chief = True

    def __init__(self, strategy=None):
        self.strategy = strategy or tf.distribute.get_strategy()


def rehearse(*flags, strategy=None):
    with recipe.flags(*DIGITS, *flags):
        recipe.options.check()
        data = recipe.parts.load_data()
        run = Run(strategy)
        keras.utils.set_random_seed(0)
        with run.strategy.scope():
            model = recipe.parts.make_model(data.train)
        before = [np.array(value) for value in model.get_weights()]
        trainable = len(model.trainable_variables)
        stages.rehearse(model, run, data)
        # The model that will be trained is as it was.
        assert len(model.trainable_variables) == trainable
        for value, want in zip(model.get_weights(), before, strict=True):
            np.testing.assert_array_equal(value, want)


@pytest.mark.parametrize(
    "flags",
    [
        ["--stage2=lws"],
        ["--stage2=ncm", "--method=dual_branch"],
        [
            *("--method=bns_ipdpp", "--stage2=ip_dpp", "--subset_size=4"),
            "--stage2_freeze",
        ],
    ],
)
def test_rehearsal_leaves_no_trace(flags):
    rehearse(*flags)


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--loss=logit_adjusted", "--tau=1000"], "leaves each class a prior"),
        (["--stage2=crt", "--stage2_sampling=your_own"], "your_own"),
    ],
)
def test_what_comes_after_training_is_refused_before(flags, message):
    with pytest.raises((ValueError, recipe.options.flags.Error), match=message):
        rehearse(*flags)


def test_replicas_that_do_not_divide_the_second_stage(two_replicas):
    with pytest.raises(ValueError, match=r"2 replicas divide\. Received: 7"):
        rehearse(
            "--method=bns_ipdpp",
            "--stage2=random_balanced",
            "--stage2_batch_size=7",
            strategy=two_replicas,
        )


def test_litert_is_tried_before_training(monkeypatch):
    def refuse(model, path, images=None):
        assert not path.endswith(".keras") and images is None
        raise ValueError("LiteRT can't")

    monkeypatch.setattr(stages.export, "save_litert", refuse)
    with pytest.raises(ValueError, match="LiteRT can't"):
        rehearse("--export_litert")


def test_damaged_features_are_one_error(tmp_path):
    path = tmp_path / "features.npz"
    points = features.Features(np.ones((5, 3), "float32"), np.arange(5))
    features.write(path, points)
    content = path.read_bytes()
    for place in range(0, len(content), 3):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        path.write_bytes(damaged)
        try:
            features.read(path)
        except (ValueError, OSError) as error:
            assert str(path) in str(error)


@pytest.mark.parametrize(
    "values, labels",
    [
        (np.ones((2, 3), "U1"), [0, 1]),
        (np.ones((2, 3), "float32"), [0.5, 1.0]),
        (np.ones((2, 3), "float32"), [0, -1]),
        (np.ones((2, 3), "complex64"), [0, 1]),
    ],
)
def test_features_of_other_kinds(values, labels, tmp_path):
    np.savez(tmp_path / "f.npz", features=values, labels=np.array(labels))
    with pytest.raises(ValueError, match=r"floats, and labels \(N,\)"):
        features.read(tmp_path / "f.npz")
