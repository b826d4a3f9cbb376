"""Numbers of every public door: NumPy's are taken, wrong ones are refused."""

import json

import numpy as np
import pytest
import tensorflow as tf

from keras_lt import (
    arguments,
    counts,
    datasets,
    dpp,
    losses,
    metrics,
    preprocessing,
    sampling,
    schedules,
    seeding,
    streams,
)
from keras_lt.callbacks import DeferredReweighting
from keras_lt.models import dlsa

NAN = float("nan")
IMAGES = np.zeros((2, 8, 8, 3), "uint8")
SEEDS = tf.constant([1, 2], tf.uint64)
DATASET = datasets.from_arrays(
    np.zeros((30, 4, 4, 1), "uint8"), np.arange(30) % 3, ["a", "b", "c"]
)
GIVEN = {"sampling": "random", "batch_size": 4, "seed": 0}


def switched(epoch, steps_per_epoch=1):
    return sampling.Switched(
        np.array([0.5, 0.25, 0.25]), "random", epoch, steps_per_epoch
    )


def stream(**changes):
    return streams.stream(DATASET, **{**GIVEN, **changes})


def mix(make, labels, others=(0, 1)):
    return make(IMAGES, np.array(labels), IMAGES, np.array(others), SEEDS)


@pytest.mark.parametrize(
    "value", [3, np.int8(3), np.uint64(3), np.array(3), tf.constant(3)]
)
def test_integers(value):
    got = arguments.integer("n", value, 1, 3)
    assert (got, type(got)) == (3, int)
    assert arguments.real("n", value) == 3


@pytest.mark.parametrize(
    "value, error",
    [
        (3.0, ValueError),
        (np.float32(3), ValueError),
        (NAN, ValueError),
        (0, ValueError),
        (5, ValueError),
        (True, TypeError),
        (np.bool_(True), TypeError),
        ("3", TypeError),
        (None, TypeError),
        ([3], TypeError),
    ],
)
def test_what_is_no_integer(value, error):
    with pytest.raises(error, match="Expected n to be an integer from 1 to 4"):
        arguments.integer("n", value, 1, 4)


@pytest.mark.parametrize("value", [True, "3", None, [3.0], 1j])
def test_what_is_no_number(value):
    with pytest.raises(TypeError, match=r"Expected n to be a number\. .*: n="):
        arguments.real("n", value)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: preprocessing.mixup(0), "num_classes=0"),
        (lambda: preprocessing.mixup(2.5), "num_classes=2.5"),
        (lambda: preprocessing.cutmix(True), "num_classes=True"),
        (lambda: preprocessing.cutmix(3, "1"), "alpha='1'"),
        (lambda: preprocessing.mixup(3, NAN), "alpha=nan"),
        (lambda: preprocessing.remix([2, 1], kappa=NAN), "kappa=nan"),
        (lambda: preprocessing.remix({1: 3}), r"\[1\]"),
        (lambda: mix(preprocessing.mixup(2), [0, 2]), "label 2"),
        (lambda: mix(preprocessing.cutmix(2), [0, -1]), "label -1"),
        (lambda: mix(preprocessing.remix([2, 1]), [0, 1], [1, 9]), "label 9"),
        (lambda: mix(preprocessing.mixup(2), [[0], [1]]), r"shape=\(2, 1\)"),
        (lambda: mix(preprocessing.mixup(2), [0.0, 1.0]), "dtype=float64"),
        (lambda: preprocessing.rand_augment(99), "num_operations=99"),
        (lambda: preprocessing.rand_augment(1.5), "num_operations=1.5"),
        (lambda: preprocessing.rand_augment(2, NAN), "magnitude=nan"),
        (lambda: preprocessing.cutout(0), "size=0"),
        (lambda: preprocessing.cutout(3.5), "size=3.5"),
        (lambda: preprocessing.pad_crop_flip(-1), "padding=-1"),
        (lambda: preprocessing.pad_crop_flip(1.5), "padding=1.5"),
        (lambda: preprocessing.simclr(NAN), "min_area=nan"),
        (lambda: preprocessing.simclr(jitter="a"), "jitter='a'"),
        (lambda: preprocessing.simclr(blur=2), "blur=2"),
        (lambda: preprocessing.chain(None), r"transforms\[0\]=None"),
        (lambda: preprocessing.two_views(3), "augment=3"),
        (lambda: preprocessing.resize_and_crop(IMAGES, (0, 4)), "height=0"),
        (
            lambda: preprocessing.resize_and_crop(IMAGES / 255, (4, 4)),
            "dtype=float64",
        ),
        (
            lambda: preprocessing.cutout(9)(IMAGES, None, None, SEEDS),
            r"size=9, images.shape=\(2, 8, 8, 3\)",
        ),
        (lambda: stream(batch_size=4.0), "batch_size=4.0"),
        (lambda: stream(batch_size=NAN), "batch_size=nan"),
        (lambda: stream(seed=1.5), "seed=1.5"),
        (lambda: stream(seed=None), "seed=None"),
        (lambda: stream(seed=1 << 70), "seed=1180"),
        (lambda: stream(start_step=0.5), "start_step=0.5"),
        (lambda: sampling.Progressive(0), "total_steps=0"),
        (lambda: stream(shard=(0.5, 1)), "shard=0.5"),
        (lambda: stream(shard=2), "shard=2"),
        (lambda: switched(-1), "epoch=-1"),
        (lambda: switched(NAN), "epoch=nan"),
        (lambda: switched(3, 0), "steps_per_epoch=0"),
        (lambda: sampling.Switched("random", "no", 3, 9), "Received: 'no'"),
        (lambda: sampling.Switched("random", None, 3, 9), "None"),
        (lambda: stream(name=""), "name=''"),
        (lambda: stream(transform=lambda x, y: (x, y)), r"transform\(x, y\)"),
        (lambda: stream(mix=preprocessing.mixup(2)), "num_classes=2"),
        (lambda: stream(mix=lambda x: x), r"mix\(x\)"),
        (lambda: stream(sampling={0: 0.5, 2: 0.5}), r"\[0, 2\]"),
        (lambda: streams.stream((IMAGES, [0, 1]), **GIVEN), "'tuple'"),
        (lambda: streams.pairs(DATASET, batch_size=2.0, seed=0), "size=2.0"),
        (lambda: streams.evaluation(DATASET, NAN), "batch_size=nan"),
        (lambda: streams.evaluation(DATASET, 2, shard=(2, 2)), r"\(2, 2\)"),
        (lambda: DeferredReweighting(-1), "start_epoch=-1"),
        (lambda: DeferredReweighting(NAN), "start_epoch=nan"),
        (lambda: schedules.WarmupStepDecay(np.inf), "learning_rate=inf"),
        (lambda: schedules.WarmupStepDecay(0.1, NAN), "warmup_steps=nan"),
        (lambda: schedules.WarmupStepDecay(0.1, 0, [-5], [1]), r"\[0\]=-5"),
        (lambda: schedules.WarmupStepDecay(0.1, 0, [5], [NAN]), "nan"),
        (lambda: schedules.WarmupStepDecay(0.1, 0, [5], [-1]), "-1"),
        (lambda: schedules.CumulativeDecay(np.inf, 3), "initial_value=inf"),
        (lambda: schedules.CumulativeDecay(1, NAN), "decay_steps=nan"),
        (lambda: dpp.balanced_subset([0, 0], NAN, seed=0), "k=nan"),
        (lambda: dpp.balanced_subset([0.5, 0], 1, seed=0), r"\[0.5, 0.0\]"),
        (lambda: dpp.sample([0.5] * 4, 2, seed=None), "seed=None"),
        (lambda: dpp.sample([0.5] * 4, 2, seed=[0, -1]), "seed=-1"),
        (lambda: dpp.sample([0.5] * 4, 1.5, seed=0), "k=1.5"),
        (lambda: dpp.log_probability([0.5], [0.5] * 3), r"subset=\[0.5\]"),
        (lambda: losses.Focal([2, 1], gamma="2"), "gamma='2'"),
        (lambda: losses.LDAM([2, 1], scale=NAN), "scale=nan"),
        (lambda: losses.NTXent(True), "temperature=True"),
        (lambda: dlsa.running_posterior([[0.0]], 0.0, 1, 1.0), "=1.0"),
        (lambda: dlsa.cluster_contrast([[0.0]], [[0.0]], kind="kl"), "kl"),
        (
            lambda: dlsa.cluster_contrast([[0.0]], [[0.0]], margin=1.0),
            "margin=1.0",
        ),
        (lambda: metrics.BalancedAccuracy(True), "num_classes=True"),
        (lambda: metrics.ExpectedCalibrationError(2.0), "num_bins=2.0"),
        (
            lambda: metrics.true_class_probabilities([[1.0, 2.0]], [-1]),
            "labels from -1",
        ),
        (lambda: counts.effective_number_weights([2, 1], "a"), "beta='a'"),
        (lambda: counts.shot_groups([2, 1], many=NAN), "many=nan"),
        (lambda: seeding.key_from_seed(0.5, "a"), "seed=0.5"),
    ],
)
def test_refuses(make, message):
    with pytest.raises((TypeError, ValueError), match=f"Expected .*{message}"):
        make()


def test_graphs_refuse_labels_that_are_mixed_to_less_than_1():
    mixed = tf.function(preprocessing.mixup(2))
    labels = tf.constant([0, 2])
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"from 0 to 1 \(num_classes\)"
    ):
        mixed(IMAGES, labels, IMAGES, labels, SEEDS)


def test_scalars_of_numpy():
    scalars = {
        "batch_size": np.int32(4),
        "seed": np.int64(3),
        "start_step": np.int64(1),
        "shard": (np.int64(0), np.int64(2)),
        "sampling": switched(np.int64(2), np.int64(1)),
    }
    plain = {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in scalars.items()
    }
    for first, second in zip(
        stream(**scalars).take(3), stream(**plain).take(3), strict=True
    ):
        np.testing.assert_array_equal(first[1], second[1])
    for loss in (
        losses.LDAM([5, 2], np.float32(0.5), np.int64(30), np.float32(0.5)),
        losses.Focal([5, 2], np.float32(2), class_weights=np.ones(2)),
        losses.LogitAdjusted([5, 2], np.float32(1), prior={1: 2.0, 0: 5.0}),
        losses.LabelAwareSmoothing([5, 2], np.float32(0.25)),
        losses.NTXent(np.float32(0.5)),
        schedules.WarmupStepDecay(
            np.float32(0.5), np.int64(2), np.array([5]), np.array([0.5])
        ),
        schedules.CumulativeDecay(np.float32(0.5), np.int64(2)),
        metrics.BalancedAccuracy(np.int64(2)),
        metrics.ShotAccuracy({1: 2, 0: 500}, "many", np.int64(100)),
        metrics.ExpectedCalibrationError(np.int64(5)),
    ):
        json.dumps(loss.get_config())
    np.testing.assert_array_equal(
        dpp.sample([0.5] * 9, np.int64(3), seed=np.int64(7)),
        dpp.sample([0.5] * 9, 3, seed=7),
    )
    assert seeding.key_from_seed(np.int64(3), "a") == seeding.key_from_seed(
        3, "a"
    )


def test_losses_take_counts_by_index():
    by_frequency = {2: 500, 0: 50, 1: 5}
    loss = losses.LDAM(by_frequency, class_weights={1: 3.0, 0: 2.0, 2: 1.0})
    assert loss.class_counts.tolist() == [50, 5, 500]
    assert loss.get_config()["class_weights"] == [2.0, 3.0, 1.0]
    metric = metrics.ShotAccuracy(by_frequency, "few")
    assert metric.get_config()["class_counts"] == [50, 5, 500]
