"""Every train step compiles, and has nothing in it that TPUs lack.

There is no TPU here. What can be checked without one is checked of the train
step of each method, losses, metrics and optimizer included:

- XLA compiles all of it (`jit_compile=True`, on CPU; what XLA can't compile is
  an error, nothing falls back), with the losses and weights of the plain step.
- All shapes are known before it runs. The exceptions have no bytes on a device:
  the scratch space of `FusedBatchNormV3` that only cuDNN fills, its gradient,
  and `BroadcastGradientArgs`, whose result is a constant of the compiler.
- TPUs have its ops. The wheel does not hold the TPU compiler, but its kernels
  are those of `tensorflow/compiler/tf2xla`, which XLA takes for every device:
  `tensorflow/core/tpu/tpu_compilation_device.cc` registers the TPU with all of
  them, for the dtypes of `kTpuAllTypes` in `tpu_defs.h`, without a filter but
  that of strings. So an op passes if this TensorFlow has its kernel for both
  XLA_CPU_JIT and XLA_GPU_JIT: one that is not bound to a device.
- Its dtypes are among those, without float64, which TPUs emulate.

What this cannot show: memory, speed, and kernels that were bound to the CPU and
the GPU by name.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
import test_common
from tensorflow.python.framework import kernels

from keras_lt import (
    callbacks,
    datasets,
    features,
    layers,
    losses,
    metrics,
    models,
    optimizers,
    preprocessing,
    streams,
)
from keras_lt.models import backbones, dlsa
from keras_lt.models.dlsa import layers as dlsa_layers

COUNTS = [12, 8, 4]
RNG = np.random.default_rng(0)
DATA = datasets.from_arrays(
    RNG.integers(0, 256, (24, 8, 8, 3), "uint8"),
    np.repeat(np.arange(3), COUNTS),
    ["a", "b", "c"],
)
FEATURES = features.Features(
    RNG.normal(size=(24, 6)).astype("float32"), DATA.labels
)
STEPS = 3
# A sum of n numbers in another order differs by at most n units of rounding,
# 2^-24 in float32. The longest ones here are means over 8 x 8 x 8 pixels.
FLOAT32 = 512 * 2.0**-24
# In bfloat16 the unit is 2^-9, and XLA leaves out roundings between ops that it
# fuses: about a dozen follow each other in a step below.
BFLOAT16 = 12 * 2.0**-9

# `kTpuAllTypes` without float64, and handles of variables.
DTYPES = {
    *("int32", "uint32", "float8_e4m3fn", "float8_e5m2", "float16"),
    *("bfloat16", "float32", "bool", "complex64", "int64", "uint64", "qint8"),
    *("quint8", "qint32", "int8", "uint8", "int16", "uint16", "resource"),
}


def stream(sampling="random", **kwargs):
    return streams.stream(
        DATA, sampling=sampling, batch_size=8, seed=0, **kwargs
    )


def small_backbone():
    """Each layer of the backbones once: compiling takes time."""
    images = keras.Input((8, 8, 3), dtype="uint8")
    x = layers.ImageNormalization([120.0] * 3, [3600.0] * 3)(images)
    x = keras.layers.Conv2D(4, 3, padding="same", use_bias=False)(x)
    x = keras.layers.ReLU()(layers.FusedBatchNormalization()(x))
    return keras.Model(images, layers.PaddedShortcut(6, 2)(x))


def compiled(model, loss=None, optimizer=None, **kwargs):
    model.compile(
        optimizer or keras.optimizers.SGD(0.05, momentum=0.9),
        loss or losses.BalancedSoftmax(COUNTS),
        **kwargs,
    )
    return model


def single(head=None, **kwargs):
    model = models.classifier(small_backbone(), 3, head=head, l2=1e-4)
    return compiled(model, **kwargs)


def resnet():
    backbone = backbones.cifar_resnet(8, input_shape=(8, 8, 3), l2=1e-4)
    return compiled(models.classifier(backbone, 3)), stream()


def with_all_metrics():
    found = [
        type_(**{**case.config, **change})
        for type_, case in test_common.TABLE.items()
        if issubclass(type_, keras.metrics.Metric)
        for change in [
            {"num_classes": 3} if "num_classes" in case.config else {}
        ]
        if type_ is not metrics.ShotAccuracy
    ]
    found.append(metrics.ShotAccuracy(COUNTS, "medium", many=10, few=5))
    found.append(keras.metrics.SparseCategoricalAccuracy())
    return single(layers.CosineClassifier(3), metrics=found), stream()


def dual(auxiliary, **kwargs):
    def make():
        model = models.DualBranch(
            small_backbone(), 3, auxiliary=auxiliary, l2=1e-4, **kwargs
        )
        batches = {"balanced": stream("class_balanced"), "random": stream()}
        return compiled(model), streams.zipped(batches)

    return make


def pretrainer():
    views = preprocessing.two_views(preprocessing.simclr())
    return compiled(
        models.ContrastivePretrainer(small_backbone(), 5),
        losses.BalancedNegativeSampling(),
        keras.optimizers.AdamW(0.01, weight_decay=0.1),
    ), stream(transform=views)


def second_stage(make, part=None):
    def build():
        model = make(single())
        if part is None:
            return compiled(model), stream("class_balanced")
        extracted = features.extract(model, DATA)
        return compiled(model.head), features.stream(
            extracted, 3, sampling="class_balanced", batch_size=8, seed=0
        )

    return build


def crt(model):
    return models.TwoStage.crt(model, 3)


def flow():
    mixture = models.FlowGaussianMixture(4, 0.05)
    mixture.build((None, 6))
    trainer = dlsa.FlowTrainer(
        mixture, dlsa.reversed_weights(COUNTS), dlsa.FlowSettings()
    )
    trainer.compile(keras.optimizers.SGD(0.05))
    return trainer, features.pairs(FEATURES, 3, batch_size=8, seed=0)


def cluster_aided(kind):
    def make():
        inputs = keras.Input((6,))
        head = dlsa_layers._ClusterAidedClassifier(3, kind)
        model = keras.Model(inputs, head([inputs[:, :4], inputs[:, 4:]]))
        return compiled(model), features.stream(
            FEATURES, 3, sampling="random", batch_size=8, seed=0
        )

    return make


def sharpness_aware():
    model = single()
    optimizers.sharpness_aware(model, 0.05)
    return model, stream()


def averaged():
    model = single()
    callbacks.AveragedWeights(model)
    return model, stream()


METHODS = {
    "resnet": resnet,
    "sgd": lambda: (
        single(
            optimizer=optimizers.SGD(
                0.05, momentum=0.9, nesterov=True, weight_decay=0.01
            )
        ),
        stream(),
    ),
    "sharpness_aware": sharpness_aware,
    "averaged": averaged,
    "metrics": with_all_metrics,
    "mixup": lambda: (single(), stream(mix=preprocessing.mixup(3))),
    "dual_classifier": dual("classifier"),
    "dual_joint": dual("classifier", joint_forward=True),
    "dual_rotation": dual("rotation"),
    "dual_contrastive": dual("contrastive"),
    "contrastive": pretrainer,
    "crt": second_stage(crt),
    "crt_head": second_stage(crt, "head"),
    "lws": second_stage(models.TwoStage.lws),
    "lws_head": second_stage(models.TwoStage.lws, "head"),
    "dlsa_flow": flow,
    "dlsa_linear": cluster_aided("linear"),
    "dlsa_cosine": cluster_aided("cosine"),
}
LOSSES = [
    loss
    for loss in test_common.TABLE
    if issubclass(loss, losses.base.Float32Loss)
]


def with_loss(loss):
    """A linear model with that loss, of classes or of two views."""
    config = test_common.TABLE[loss].config
    made = loss(**config)
    model = keras.Sequential([keras.Input((6,))])
    classes = 3
    if issubclass(loss, losses.ContrastiveLoss):
        model.add(keras.layers.Dense(8))
        model.add(keras.layers.Reshape((2, 4)))
    else:
        classes = len(config["class_counts"])
        model.add(models.linear_head(classes))
        made.reweighting.assign(0.5)  # as deferred re-weighting does
    return compiled(model, made), features.stream(
        FEATURES, classes, sampling="random", batch_size=8, seed=0
    )


def trained(make, jit_compile):
    """Losses of some steps from the same start, the model, and its batches."""
    keras.utils.set_random_seed(0)
    model, batches = make()
    model.jit_compile = jit_compile
    found = model.fit(
        batches, epochs=STEPS, steps_per_epoch=1, verbose=0, shuffle=False
    )
    return found.history["loss"], model, batches


@pytest.fixture(scope="module")
def tpu_ops():
    tf.function(lambda: tf.zeros(1) + 1, jit_compile=True)()  # registers them
    found = {"XLA_CPU_JIT": set(), "XLA_GPU_JIT": set()}
    for kernel in kernels.get_all_registered_kernels().kernel:
        found.get(kernel.device_type, set()).add(kernel.op)
    return set.intersection(*found.values())


def findings(step, spec, ops):
    """What TPUs would not take in a step on such batches."""
    graph = tf.function(step).get_concrete_function(spec).graph
    found = [
        f"function {function.signature.name}"
        for function in graph.as_graph_def().library.function
    ]
    for op in graph.get_operations():
        if op.type not in ops | {"Placeholder"}:
            found.append(f"op {op.type} {op.name}")
        for value in op.outputs:
            if value.dtype.name not in DTYPES:
                found.append(f"{value.dtype.name} {value.name}")
            if not value.shape.is_fully_defined() and not _is_exempt(value):
                found.append(f"shape {value.shape} {value.name}")
    return found


def _is_exempt(value):
    if value.op.type == "ZerosLike":
        value = value.op.inputs[0]
    return value.op.type == "BroadcastGradientArgs" or (
        value.op.type == "FusedBatchNormV3" and value.value_index == 5
    )


def check(make, tolerance, ops):
    expected, plain, batches = trained(make, False)
    found, model, _ = trained(make, True)
    assert np.ptp(expected) > 2 * tolerance  # it trains
    np.testing.assert_allclose(found, expected, rtol=tolerance)
    for variable, other in zip(model.weights, plain.weights, strict=True):
        np.testing.assert_allclose(
            variable.numpy(),
            other.numpy(),
            rtol=tolerance,
            atol=tolerance,
            err_msg=other.path,
        )
    for spec in tf.nest.flatten(batches.element_spec):
        assert spec.shape.is_fully_defined()
    assert findings(plain.train_step, batches.element_spec, ops) == []


@pytest.mark.parametrize("name", METHODS)
def test_method(name, tpu_ops):
    check(METHODS[name], FLOAT32, tpu_ops)


@pytest.mark.parametrize("loss", LOSSES)
def test_loss(loss, tpu_ops):
    check(lambda: with_loss(loss), FLOAT32, tpu_ops)


@pytest.fixture
def mixed_bfloat16():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy(policy)


@pytest.mark.parametrize(
    "make",
    [lambda: (single(), stream()), dual("rotation")],
    ids=["single", "dual"],
)
def test_mixed_bfloat16(make, mixed_bfloat16, tpu_ops):
    check(make, BFLOAT16, tpu_ops)


@pytest.mark.parametrize(
    "step, finding",
    [
        (lambda x: tf.py_function(lambda y: y, [x], tf.float32), "op EagerPy"),
        (lambda x: tf.strings.as_string(x), "string"),
        (lambda x: tf.cast(x, tf.float64), "float64"),
        (lambda x: tf.unique(x)[0], "shape (None,)"),
        (lambda x: tf.boolean_mask(x, x > 0.0), "shape (None,)"),
        (lambda x: tf.function(tf.unique)(x)[0], "function"),
    ],
)
def test_what_tpus_lack_is_found(step, finding, tpu_ops):
    found = findings(step, tf.TensorSpec((4,)), tpu_ops)
    assert any(finding in line for line in found)
    assert findings(lambda x: x * 2.0, tf.TensorSpec((4,)), tpu_ops) == []
