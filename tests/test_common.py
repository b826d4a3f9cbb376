"""One battery for every public Keras object of the library.

The table says how to make each and what to call it on. A class that is
registered with Keras and not in the table fails the first test.
"""

import importlib
import inspect
import json
import math
import pkgutil
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_lt
from keras_lt import initializers, layers, losses, metrics, models, schedules
from keras_lt.models import auxiliary

COUNTS = [60, 20, 5, 0]
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 4, 4, 3), "uint8")
MAPS = RNG.normal(size=(6, 4, 4, 4)).astype("float32")
LABELS = np.array([0, 1, 2, 2, 0, 1])
LOGITS = RNG.normal(size=(6, 4)).astype("float32")
FEATURES = RNG.normal(size=(6, 8)).astype("float32")
VIEWS = RNG.normal(size=(6, 2, 4)).astype("float32")


class Case(NamedTuple):
    """How to make an object, what to call it on, and one bad use of it."""

    config: dict[str, Any]
    inputs: tuple
    bad: Callable[[], Any]


def loss_case(loss_class, **kwargs):
    return Case(
        {"class_counts": COUNTS, "beta": 0.9, **kwargs},
        (LABELS, LOGITS),
        lambda: loss_class(COUNTS, normalizer="mean"),
    )


def metric_case(metric_class, **kwargs):
    return Case(
        kwargs,
        (LABELS, LOGITS),
        lambda: metric_class(**kwargs)(LABELS, LOGITS[0]),
    )


def normalization_of_3_channels():
    layer = layers.FusedBatchNormalization()
    layer.build((None, 4, 4, 3))
    return layer


TABLE = {
    layers.ImageNormalization: Case(
        {"mean": [120.0, 118.0, 110.0], "variance": [900.0, 1600.0, 0.0]},
        (IMAGES,),
        lambda: layers.ImageNormalization([1.0], [-1.0]),
    ),
    layers.FusedBatchNormalization: Case(
        {"momentum": 0.9, "epsilon": 1e-5},
        (MAPS,),
        lambda: normalization_of_3_channels()(MAPS),
    ),
    initializers.PriorBias: Case(
        {"prior": 0.1}, ((4,), "float32"), lambda: initializers.PriorBias(2.0)
    ),
    layers.CosineClassifier: Case(
        {"num_classes": 4, "scale": 16.0, "feature_norm": "squash"},
        (FEATURES,),
        lambda: layers.CosineClassifier(4, feature_norm="l1"),
    ),
    layers.LearnableWeightScaling: Case(
        {}, (LOGITS,), lambda: layers.LearnableWeightScaling()(MAPS)
    ),
    layers.NearestClassMean: Case(
        {"num_classes": 4, "normalization": "l2", "similarity": "dot"},
        (FEATURES,),
        lambda: layers.NearestClassMean(4, similarity="cosine"),
    ),
    layers.LogitAdjustment: Case(
        {"class_counts": COUNTS, "tau": 0.5},
        (LOGITS,),
        lambda: layers.LogitAdjustment([1, 2])(LOGITS),
    ),
    layers.MaskedDense: Case(
        {"input_degrees": [*range(8)], "output_degrees": [0, 3, 7, -1]},
        (FEATURES,),
        lambda: layers.MaskedDense([0, 1], [0])(FEATURES),
    ),
    layers.PaddedShortcut: Case(
        {"filters": 8, "strides": 2},
        (MAPS,),
        lambda: layers.PaddedShortcut(2, 2)(MAPS),
    ),
    layers.PatchWhitening: Case(
        {}, (MAPS,), lambda: layers.PatchWhitening()(FEATURES)
    ),
    schedules.WarmupStepDecay: Case(
        {
            "learning_rate": 0.1,
            "warmup_steps": 5,
            "boundaries": [20],
            "factors": [0.01],
        },
        (np.int64(3),),
        lambda: schedules.WarmupStepDecay(0.1, -1),
    ),
    schedules.CumulativeDecay: Case(
        {"initial_value": 2.0, "decay_steps": 5},
        (np.int64(3),),
        lambda: schedules.CumulativeDecay(1.0, 0),
    ),
    models.ClassifierTask: Case(
        {"num_classes": 4, "l2": 0.1},
        (FEATURES,),
        lambda: models.ClassifierTask(1),
    ),
    models.RotationTask: Case(
        {"l2": 0.1}, (FEATURES,), lambda: models.RotationTask(loss="mse")
    ),
    models.ContrastiveTask: Case(
        {"projection_dim": 3, "l2": 0.1},
        (FEATURES,),
        lambda: models.ContrastiveTask(0),
    ),
    losses.ClassBalancedCrossentropy: loss_case(
        losses.ClassBalancedCrossentropy, normalizer="weight_sum"
    ),
    losses.ClassBalancedFocal: loss_case(losses.ClassBalancedFocal, gamma=2.0),
    losses.Focal: loss_case(losses.Focal, gamma=3.0),
    losses.LDAM: loss_case(losses.LDAM, max_margin=0.3, scale=10.0),
    losses.LogitAdjusted: loss_case(
        losses.LogitAdjusted,
        tau=2.0,
        label_smoothing=0.1,
        prior_smoothing=0.2,
        prior=[0.5, 0.5, 1.0, 0.0],
    ),
    losses.LabelAwareSmoothing: loss_case(
        losses.LabelAwareSmoothing, head=0.4, tail=0.1
    ),
    losses.Reweighted: Case(
        {
            "loss": keras.losses.serialize(
                keras.losses.CategoricalCrossentropy(from_logits=True)
            ),
            "class_counts": COUNTS,
            "beta": 0.9,
        },
        (LABELS, LOGITS),
        lambda: losses.Reweighted("mse", COUNTS),
    ),
    losses.NTXent: Case(
        {"temperature": 0.2}, (LABELS, VIEWS), lambda: losses.NTXent(0.0)
    ),
    losses.SupervisedContrastive: Case(
        {"temperature": 0.2},
        (LABELS, VIEWS),
        lambda: losses.SupervisedContrastive(-1.0),
    ),
    losses.BalancedNegativeSampling: Case(
        {"temperature": 0.2, "negatives": "others"},
        (LABELS, VIEWS),
        lambda: losses.BalancedNegativeSampling(negatives="all"),
    ),
    metrics.Top1Accuracy: metric_case(metrics.Top1Accuracy),
    metrics.BalancedAccuracy: metric_case(
        metrics.BalancedAccuracy, num_classes=4
    ),
    metrics.PerClassAccuracy: metric_case(
        metrics.PerClassAccuracy, num_classes=4
    ),
    metrics.ShotAccuracy: metric_case(
        metrics.ShotAccuracy,
        class_counts=COUNTS,
        group="medium",
        many=50,
        average="pooled",
    ),
    metrics.ConfusionMatrix: metric_case(
        metrics.ConfusionMatrix, num_classes=4
    ),
    metrics.ExpectedCalibrationError: metric_case(
        metrics.ExpectedCalibrationError, num_bins=5
    ),
}
# A loss with class weights or an auxiliary task needs no line here unless it
# has arguments of its own that are to be tried.
for loss in losses.LOSSES.table.values():
    if inspect.isclass(loss) and issubclass(loss, losses.ClassWeightedLoss):
        TABLE.setdefault(loss, loss_case(loss))
for task in auxiliary.TASKS.table.values():
    TABLE.setdefault(
        task, Case({}, (FEATURES,), lambda task=task: task(loss="mse"))
    )

KINDS = {
    "task": models.AuxiliaryTask,
    "layer": keras.layers.Layer,
    "loss": keras.losses.Loss,
    "metric": keras.metrics.Metric,
    "initializer": keras.initializers.Initializer,
    "schedule": keras.optimizers.schedules.LearningRateSchedule,
}


BASES = (
    losses.ClassWeightedLoss,
    losses.ContrastiveLoss,
    losses.base.Float32Loss,
    metrics.base.ClassTallies,
    models.AuxiliaryTask,
)
# Made of other layers, or for images as they are.
WITH_OWN_TESTS = (
    models.adapters.AdaptFormer,
    models.adapters.WithAdapters,
    models.averaged_views.ImageView,
)


def public_objects():
    """Concrete public classes of these kinds in all modules of the library."""
    found = set()
    for info in pkgutil.walk_packages(keras_lt.__path__, "keras_lt."):
        module = importlib.import_module(info.name)
        for name, value in vars(module).items():
            if (
                inspect.isclass(value)
                and value.__module__ == info.name
                and issubclass(value, tuple(KINDS.values()))
                and not name.startswith("_")
                and value not in (*BASES, *WITH_OWN_TESTS)
                and not issubclass(value, keras.Model)  # with tests of its own
            ):
                found.add(value)
    return found


def kind_of(cls):
    return next(kind for kind, base in KINDS.items() if issubclass(cls, base))


def cases(*kinds):
    return pytest.mark.parametrize(
        "cls",
        [cls for cls in TABLE if kind_of(cls) in (kinds or KINDS)],
        ids=lambda cls: cls.__name__,
    )


def make(cls, **kwargs):
    return cls(**TABLE[cls].config, **kwargs)


def assert_equal(value, want, tolerance=0.0):
    np.testing.assert_allclose(
        np.asarray(value, "float64"),
        np.asarray(want, "float64"),
        rtol=tolerance,
        atol=tolerance,
    )


def test_the_table_is_complete():
    assert public_objects() == set(TABLE)


@cases()
def test_is_registered(cls):
    name = f"keras_lt>{cls.__name__}"
    assert keras.saving.get_registered_name(cls) == name
    assert keras.saving.get_registered_object(name) is cls


@cases()
def test_docstring(cls):
    doc = inspect.getdoc(cls)
    assert cls.__doc__
    assert "Example:\n" in doc
    assert ">>> " in doc
    for argument in TABLE[cls].config:
        assert argument in doc or issubclass(
            cls, keras.layers.BatchNormalization
        )


@cases()
def test_config(cls):
    instance = make(cls)
    config = instance.get_config()
    assert json.loads(json.dumps(config)) == config
    for name, value in TABLE[cls].config.items():
        assert config[name] == value
    assert cls.from_config(config).get_config() == config


def configured_classes():
    """Every class of the library, public or not, with a `get_config`."""
    found = set()
    for info in pkgutil.walk_packages(keras_lt.__path__, "keras_lt."):
        module = importlib.import_module(info.name)
        found |= {
            value
            for value in vars(module).values()
            if inspect.isclass(value)
            and value.__module__ == info.name
            and "get_config" in vars(value)
        }
    return sorted(found, key=lambda cls: cls.__name__)


@pytest.mark.parametrize("cls", configured_classes(), ids=lambda c: c.__name__)
def test_config_chains_to_the_parent(cls):
    parent = super(cls, cls)
    if not hasattr(parent, "get_config") or issubclass(
        cls, keras.optimizers.schedules.LearningRateSchedule
    ):
        return  # of a schedule the parent's raises NotImplementedError
    assert "super().get_config()" in inspect.getsource(cls.get_config)


def as_numpy(value):
    if isinstance(value, list):
        return np.array(value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return np.array(value)[()]
    return value


@cases("task", "layer", "initializer")
def test_numbers_of_numpy(cls):
    config = make(cls).get_config()
    given = {name: as_numpy(v) for name, v in TABLE[cls].config.items()}
    got = cls(**given).get_config()
    got["name"] = config.get("name")  # Keras numbers those of layers
    assert json.loads(json.dumps(got)) == {"name": None, **config}


@cases()
def test_serialization(cls):
    instance = make(cls)
    data = json.loads(json.dumps(keras.saving.serialize_keras_object(instance)))
    loaded = keras.saving.deserialize_keras_object(data)
    assert type(loaded) is cls
    assert loaded.get_config() == instance.get_config()
    inputs = TABLE[cls].inputs
    want = instance(*inputs)
    if isinstance(instance, keras.layers.Layer):
        loaded(*inputs)  # a layer makes its variables here
        loaded.set_weights(instance.get_weights())
    assert_equal(loaded(*inputs), want)


@cases("task", "layer", "loss", "initializer", "schedule")
def test_eager_equals_graph(cls):
    instance = make(cls)
    inputs = TABLE[cls].inputs
    if isinstance(instance, keras.initializers.Initializer):
        graph = tf.function(lambda: instance(*inputs))()
    else:
        instance(*inputs)  # a layer makes its variables here
        graph = tf.function(instance)(*map(tf.constant, inputs))
    assert_equal(graph, instance(*inputs), 1e-6)


@cases("metric")
def test_metric_eager_equals_graph(cls):
    eager, graph = make(cls), make(cls)
    update = tf.function(graph.update_state)
    for _ in range(2):
        eager.update_state(LABELS, LOGITS)
        update(tf.constant(LABELS), tf.constant(LOGITS))
    assert_equal(tf.function(graph.result)(), eager.result(), 1e-6)
    graph.reset_state()
    eager.reset_state()
    eager.update_state(LABELS, LOGITS)
    update(tf.constant(LABELS), tf.constant(LOGITS))
    assert_equal(graph.result(), eager.result(), 1e-6)


@cases("layer")
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_layer_in_mixed_precision(cls, dtype):
    (inputs,) = TABLE[cls].inputs
    layer = make(cls, dtype=f"mixed_{dtype}")
    outputs = layer(inputs)
    assert outputs.dtype == dtype
    assert layer(keras.Input(inputs.shape[1:])).dtype == dtype
    assert {w.dtype for w in layer.weights} <= {"float32"}
    full = make(cls)
    full(inputs)  # makes its variables
    full.set_weights(layer.get_weights())
    # Sums of rounded terms err by a share of the terms and not of the sums.
    largest = np.abs(full(inputs)).max()
    outputs = tf.cast(outputs, "float32") / largest
    assert_equal(outputs, full(inputs) / largest, 2e-2)


@cases("loss", "metric")
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_scores_of_16_bits(cls, dtype):
    """The result is the float32 one of the same rounded scores."""
    labels, scores = TABLE[cls].inputs
    rounded = tf.cast(scores, dtype)
    want = make(cls)(labels, tf.cast(rounded, "float32"))
    assert_equal(make(cls)(labels, rounded), want, 1e-6)


@cases("loss", "metric")
def test_under_a_mixed_policy(cls):
    inputs = TABLE[cls].inputs
    want = make(cls)(*inputs)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        assert_equal(make(cls)(*inputs), want, 1e-6)
    finally:
        keras.config.set_dtype_policy(before)


def compiled_model(cls):
    """A model that uses the class where its kind is used."""
    instance = make(cls)
    inputs = keras.Input(IMAGES.shape[1:])
    x = keras.layers.Rescaling(1 / 255)(inputs)
    compile_args = {"optimizer": "sgd", "loss": "mse"}
    initializer = "glorot_uniform"
    labels = outputs_like = LOGITS
    kind = kind_of(cls)
    if kind == "layer" and TABLE[cls].inputs[0].ndim == 2:
        x = keras.layers.GlobalAveragePooling2D()(x)
        x = keras.layers.Dense(TABLE[cls].inputs[0].shape[1])(x)
        x = keras.layers.Reshape((1, 1, -1))(instance(x))
    elif kind == "layer":
        x = instance(inputs if cls is layers.ImageNormalization else x)
    elif kind == "initializer":
        initializer = instance
    elif kind == "schedule":
        compile_args["optimizer"] = keras.optimizers.SGD(instance)
    elif kind == "loss":
        compile_args["loss"] = instance
        labels, outputs_like = TABLE[cls].inputs
    else:
        compile_args["loss"] = keras.losses.SparseCategoricalCrossentropy(True)
        compile_args["metrics"], labels = [instance], LABELS
    x = keras.layers.GlobalAveragePooling2D()(x)
    shape = outputs_like.shape[1:]
    outputs = keras.layers.Dense(
        math.prod(shape), bias_initializer=initializer
    )(x)
    outputs = keras.layers.Reshape(shape)(outputs)
    model = keras.Model(inputs, outputs)
    model.compile(**compile_args)
    return model, labels


@cases(*(KINDS.keys() - {"task"}))  # test_dual_branch.py does it for tasks
def test_trains_saves_and_loads(cls, tmp_path):
    model, labels = compiled_model(cls)
    images = IMAGES.astype("float32")
    model.train_on_batch(images, labels)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert_equal(loaded(images), model(images))
    model.reset_metrics()  # Keras 3.12 averages the loss over calls
    want = model.train_on_batch(images, labels, return_dict=True)
    model_state = model.get_weights()
    got = loaded.train_on_batch(images, labels, return_dict=True)
    assert_equal(got["loss"], want["loss"], 1e-6)
    for value, wanted in zip(loaded.get_weights(), model_state, strict=True):
        assert_equal(value, wanted, 1e-6)
    if kind_of(cls) == "metric":
        assert type(loaded.metrics[1].metrics[0]) is cls


@cases()
def test_bad_input(cls):
    with pytest.raises(
        # Small letters are the parent's, where a layer has one in Keras.
        (ValueError, TypeError),
        match=r"[Ee]xpected (.|\n)*[Rr]eceived",
    ):
        TABLE[cls].bad()
