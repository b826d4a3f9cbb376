"""NumPy's scalars and arrays as arguments of models; others are refused."""

import json

import keras
import numpy as np
import pytest

from keras_lt import datasets, export, features, layers, optimizers
from keras_lt.models import (
    DLSA,
    ContrastivePretrainer,
    DualBranch,
    FlowGaussianMixture,
    MaskedAutoregressiveFlow,
    TwoStage,
    backbones,
    classifier,
    linear_head,
    nearest_class_mean,
    tau_normalize,
)

INT, F = np.int64, np.float32
SHAPE = (8, 8, 3)
IMAGES = np.random.default_rng(0).integers(0, 256, (6, *SHAPE), "uint8")
DATA = datasets.from_arrays(IMAGES, np.arange(6) % 3, "abc")


@pytest.fixture(scope="module")
def model():
    return classifier(backbones.cifar_resnet(8, input_shape=SHAPE), 3)


MAKE = {
    "backbone": lambda model: backbones.cifar_resnet(
        INT(8), INT(1), input_shape=np.array(SHAPE), l2=F(0.5)
    ),
    "mean": lambda model: backbones.cifar_resnet(
        8, input_shape=SHAPE, mean=np.ones(3, F), variance=np.ones(3, F)
    ),
    "head": lambda model: linear_head(INT(3), l2=F(0.5), l2_bias=F(0.25)),
    "classifier": lambda model: classifier(
        backbones.cifar_resnet(8, input_shape=SHAPE), INT(3), l2=F(0.5)
    ),
    "dual branch": lambda model: DualBranch(
        backbones.cifar_resnet(8, input_shape=SHAPE),
        INT(3),
        auxiliary=["classifier", "rotation"],
        auxiliary_weight=np.array([1, 0.5], F),
        l2=F(0.5),
        seed=INT(3),
        joint_forward=np.bool_(True),
    ),
    "pretrainer": lambda model: ContrastivePretrainer(
        backbones.cifar_resnet(8, input_shape=SHAPE), INT(4), l2=F(0.5)
    ),
    "crt": lambda model: TwoStage.crt(
        model, INT(3), freeze=np.bool_(True), l2=F(0.5)
    ),
    "tau": lambda model: tau_normalize(model, F(0.5)),
    "ncm": lambda model: nearest_class_mean(
        model, features.extract(model, DATA), INT(3)
    ),
    "dlsa": lambda model: DLSA(
        INT(3),
        INT(4),
        depth=INT(2),
        num_clusters=INT(2),
        llh_proportion=F(0.5),
        center_std=F(0.5),
        components=INT(2),
        seed=np.uint8(3),
    ),
    "flow": lambda model: MaskedAutoregressiveFlow(
        INT(1), INT(4), INT(1), np.bool_(True)
    ),
    "mixture": lambda model: FlowGaussianMixture(INT(2), F(0.5), seed=INT(3)),
    "sgd": lambda model: optimizers.SGD(
        F(0.5), F(0.5), np.bool_(True), weight_decay=F(0.5)
    ),
    "fine-tuning sgd": lambda model: optimizers.FineTuningSGD(
        F(0.5), rate_factors=np.array([0.5, 1], F)
    ),
}


@pytest.mark.parametrize("make", MAKE.values(), ids=MAKE)
def test_numbers_of_numpy(make, model):
    made = make(model)
    config = json.loads(json.dumps(made.get_config()))
    loaded = type(made).from_config(config)
    if isinstance(made, keras.Model) and made.built:
        shapes = [w.shape for w in made.weights]
        assert [w.shape for w in loaded.weights] == shapes


def test_the_numbers_are_used(model):
    dual = MAKE["dual branch"](model)
    assert dual.auxiliary_weight == [1.0, 0.5]
    assert (dual.num_classes, dual.seed, dual.l2) == (3, 3, 0.5)
    assert MAKE["head"](model).kernel_regularizer.l2 == 0.5
    factors = optimizers.rate_factors(model, model.layers[1], F(0.5))
    assert {*factors} == {0.5, 1.0} or {*factors} == {1.0}
    assert {type(factor) for factor in factors} == {float}


@pytest.mark.parametrize(
    "make, received",
    [
        (lambda model: linear_head(3.5), "num_classes=3.5"),
        (lambda model: linear_head("3"), "num_classes='3'"),
        (lambda model: linear_head(3, l2="much"), "l2='much'"),
        (lambda model: layers.MaskedDense([0.5], [1]), "input_degrees=0.5"),
        (lambda model: layers.CosineClassifier(3, None), "scale=None"),
        (lambda model: DLSA(3, 4, depth=1.5), "depth=1.5"),
        (lambda model: DLSA(1, 4), "num_classes=1"),
        (lambda model: DLSA(3, 4, seed=0.5), "seed=0.5"),
        (lambda model: tau_normalize(model, "1"), "tau='1'"),
        (lambda model: backbones.cifar_resnet(8.5), "depth=8.5"),
        (
            lambda model: backbones.cifar_resnet(8, input_shape=(8, 8)),
            r"input_shape=\(8, 8\)",
        ),
        (
            lambda model: optimizers.rate_factors(model, model, [1]),
            r"factor=\[1\]",
        ),
    ],
)
def test_what_is_no_such_number(make, received, model):
    with pytest.raises(
        (TypeError, ValueError), match=rf"Expected .*Received: .*{received}"
    ):
        make(model)


def test_counts_and_prior_of_an_export(model, tmp_path):
    counts = np.array([3, 2, 1])
    export.save(
        model,
        tmp_path / "model",
        class_counts=counts,
        prior=counts / counts.sum(),
        class_names=np.array(["a", "b", "c"]),
    )
    assert (tmp_path / "model" / "labels.txt").read_text() == "a\nb\nc\n"
