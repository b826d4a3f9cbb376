"""`DualBranch` and its auxiliary tasks."""

import json
import subprocess
import sys

import keras
import networks
import numpy as np
import pytest
import tensorflow as tf
from data import chi_square, chi_square_limit

from keras_lt import datasets, losses, schedules, seeding, streams
from keras_lt.models import (
    AuxiliaryTask,
    ClassifierTask,
    ContrastiveTask,
    DualBranch,
    RotationTask,
    classifier,
)

CLASSES = 3
RNG = np.random.default_rng(0)
DATA = datasets.from_arrays(
    RNG.integers(0, 256, (64, 8, 8, 3), "uint8"),
    np.repeat([0, 1, 2], [40, 16, 8]),
    "abc",
)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
L2 = 0.01


@keras.saving.register_keras_serializable("tests")
class MeanColor(AuxiliaryTask):
    """Regresses the mean of each channel."""

    def __init__(self, loss="MeanSquaredError", name="color", **kwargs):
        super().__init__(loss=loss, name=name, **kwargs)
        self.head = keras.layers.Dense(3, dtype="float32")

    def examples(self, images, labels, seeds):
        pixels = keras.ops.cast(images, "float32") / 255.0
        return images, keras.ops.mean(pixels, axis=(1, 2))

    def build(self, features_shape):
        self.head.build(features_shape)

    def call(self, features):
        return self.head(features)


def dense_backbone():
    """No normalization: examples don't see each other."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 3), dtype="uint8"),
            keras.layers.Rescaling(1 / 255),
            keras.layers.Flatten(),
            keras.layers.Dense(
                5, "tanh", kernel_regularizer=keras.regularizers.L2(L2)
            ),
        ]
    )


def convolutions():
    return networks.convolutional(l2=1e-4)


def make(backbone=dense_backbone, compile_args=None, **kwargs):
    keras.utils.set_random_seed(1)
    model = DualBranch(backbone(), CLASSES, **{"l2": L2, **kwargs})
    model.compile(
        keras.optimizers.SGD(0.1, 0.9),
        LOSS,
        metrics=[keras.metrics.SparseCategoricalAccuracy("top1")],
        **(compile_args or {}),
    )
    return model


def dual_stream(batch_size=8, **kwargs):
    return streams.zipped(
        {
            name: streams.stream(
                DATA, sampling=sampling, batch_size=batch_size, seed=0, **kwargs
            )
            for name, sampling in {
                "balanced": "class_balanced",
                "random": "random",
            }.items()
        }
    )


def fit(model, steps=4, **kwargs):
    arguments = {"epochs": 1, "shuffle": False, "verbose": 0, **kwargs}
    return model.fit(dual_stream(), steps_per_epoch=steps, **arguments).history


def assert_same_weights(model, other, tolerance=1e-5):
    for weight, want in zip(
        model.get_weights(), other.get_weights(), strict=True
    ):
        np.testing.assert_allclose(weight, want, tolerance, tolerance)


def l2_of(weights):
    return L2 * sum(float(tf.reduce_sum(weight**2)) for weight in weights)


EACH = ["classifier", "rotation", "contrastive"]


@pytest.mark.parametrize("weight", [1.0, 0.25, 0.0])
def test_one_step_by_hand(weight):
    model = make(auxiliary_weight=weight)
    model.optimizer.momentum = 0.0
    dense = model.backbone.layers[-1]
    weights = [
        tf.Variable(w)
        for layer in (dense, model._head, model.tasks[0].head)
        for w in layer.get_weights()
    ]
    (batch,) = dual_stream().take(1)

    def log_loss(images, labels, kernel, bias):
        x = tf.reshape(tf.cast(images, "float32") / 255, (8, -1))
        features = tf.tanh(x @ weights[0] + weights[1])
        return tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(
                labels, features @ kernel + bias
            )
        )

    with tf.GradientTape() as tape:
        main = log_loss(*batch["balanced"], *weights[2:4])
        auxiliary = log_loss(*batch["random"], *weights[4:])
        # The bias of the backbone has no regularizer.
        decayed = [weights[0], *weights[2:]]
        penalty = L2 * tf.add_n([tf.reduce_sum(w**2) for w in decayed])
        loss = main + weight * auxiliary + penalty
    for variable, gradient in zip(
        weights, tape.gradient(loss, weights), strict=True
    ):
        variable.assign_sub(0.1 * gradient)
    logs = model.train_on_batch(batch, return_dict=True)
    assert logs["loss"] == pytest.approx(float(loss), 1e-5)
    assert logs["main_loss"] == pytest.approx(float(main), 1e-5)
    assert logs["auxiliary_loss"] == pytest.approx(float(auxiliary), 1e-5)
    got = [
        w
        for layer in (dense, model._head, model.tasks[0].head)
        for w in layer.get_weights()
    ]
    for value, want in zip(got, weights, strict=True):
        np.testing.assert_allclose(value, want, 1e-5, 1e-6)


@pytest.mark.parametrize("auxiliary", [None, EACH], ids=str)
def test_joint_and_apart_agree_without_normalization(auxiliary):
    models = [make(auxiliary=auxiliary, joint_forward=j) for j in (True, False)]
    before = models[0].get_weights()
    histories = [fit(model) for model in models]
    assert_same_weights(*models)
    for name, value in histories[0].items():
        np.testing.assert_allclose(value, histories[1][name], 1e-5)
    assert any(
        (a != b).any()
        for a, b in zip(before, models[0].get_weights(), strict=True)
    )


def test_a_step_is_traced_once(monkeypatch):
    """Were the optimizer to make variables in it, TensorFlow would again."""
    traced = []
    step = DualBranch.train_step
    monkeypatch.setattr(
        DualBranch,
        "train_step",
        lambda model, data: traced.append(data) or step(model, data),
    )
    model = make()
    fit(model)
    assert len(traced) == 1
    assert int(model.optimizer.iterations) == 4


def test_batch_statistics():
    """Joint: those of both batches as one; apart: one update for each."""

    def backbone():
        return keras.Sequential(
            [
                keras.Input((8, 8, 3), dtype="uint8"),
                keras.layers.Rescaling(1 / 255),
                keras.layers.BatchNormalization(momentum=0.9),
                keras.layers.Flatten(),
            ]
        )

    (batch,) = dual_stream().take(1)
    means = [
        np.mean(batch[name][0] / 255, (0, 1, 2))
        for name in ("balanced", "random")
    ]
    joint, apart = (make(backbone, joint_forward=j) for j in (True, False))
    joint.train_on_batch(batch)
    apart.train_on_batch(batch)
    np.testing.assert_allclose(
        joint.backbone.layers[1].moving_mean, 0.1 * np.mean(means, 0), 1e-5
    )
    np.testing.assert_allclose(
        apart.backbone.layers[1].moving_mean,
        0.9 * 0.1 * means[0] + 0.1 * means[1],
        1e-5,
    )


def test_no_auxiliary_is_the_plain_classifier():
    model = make(auxiliary=None)
    keras.utils.set_random_seed(1)
    plain = classifier(dense_backbone(), CLASSES, l2=L2)
    plain.compile(keras.optimizers.SGD(0.1, 0.9), LOSS)
    fit(model)
    balanced = dual_stream().map(lambda batch: batch["balanced"])
    plain.fit(balanced, steps_per_epoch=4, shuffle=False, verbose=0)
    assert_same_weights(model, plain)


def test_l2_is_counted_once():
    model = make(auxiliary=["classifier", "rotation"])
    fit(model)
    decayed = [
        w for w in model.trainable_variables if w.regularizer is not None
    ]
    assert len(decayed) == 1 + 3 * 2
    assert float(sum(model.losses)) == pytest.approx(l2_of(decayed), 1e-5)


def test_logs():
    model = make(auxiliary=["classifier", "rotation"], auxiliary_weight=[2, 3])
    history = fit(
        model, steps=1, validation_data=(DATA.images[:9], DATA.labels[:9])
    )
    assert history.keys() == {
        "loss",
        "main_loss",
        "top1",
        "auxiliary_loss",
        "auxiliary_accuracy",
        "rotation_loss",
        "rotation_accuracy",
        "val_loss",
        "val_top1",
    }
    fresh = make(auxiliary=["classifier", "rotation"])
    (batch,) = dual_stream().take(1)
    images, labels = batch["random"]
    hits = np.argmax(fresh.tasks[0](fresh.features(images)), -1) == labels
    assert history["auxiliary_accuracy"] == [np.mean(hits)]
    total = history["main_loss"][0] + float(sum(fresh.losses))
    total += 2 * history["auxiliary_loss"][0] + 3 * history["rotation_loss"][0]
    assert history["loss"][0] == pytest.approx(total, 1e-5)


def test_evaluates_as_a_plain_classifier():
    model = make()
    fit(model)
    got = model.evaluate(
        streams.evaluation(DATA, 16), verbose=0, return_dict=True
    )
    logits = model.predict(DATA.images, verbose=0)
    np.testing.assert_allclose(
        logits, model.classifier(DATA.images), 1e-5, 1e-6
    )
    want = float(LOSS(DATA.labels, logits)) + float(sum(model.losses))
    assert got == {
        "loss": pytest.approx(want, 1e-5),
        "top1": pytest.approx(np.mean(np.argmax(logits, -1) == DATA.labels)),
    }


def test_auxiliary_weight_follows_its_schedule():
    model = make(auxiliary_weight=schedules.CumulativeDecay(4.0, 2))
    for batch, weight in zip(
        dual_stream().take(4), [4.0, 3.0, 0.0, 0.0], strict=True
    ):
        penalty = float(sum(model.losses))
        logs = model.train_on_batch(batch, return_dict=True)
        model.reset_metrics()
        assert logs["loss"] == pytest.approx(
            logs["main_loss"] + weight * logs["auxiliary_loss"] + penalty, 1e-5
        )


def test_class_weights_in_either_branch():
    weighted = losses.ClassBalancedCrossentropy([40, 16, 8], beta=0.9)
    model = make(auxiliary=ClassifierTask(CLASSES, loss=weighted))
    model.compile("sgd", weighted)
    (batch,) = dual_stream().take(1)
    want = {}
    for name, branch, head in (
        ("main_loss", "balanced", model._head),
        ("auxiliary_loss", "random", model.tasks[0].head),
    ):
        images, labels = batch[branch]
        logits = head(model.features(images))
        want[name] = pytest.approx(float(weighted(labels, logits)), 1e-5)
        assert want[name] != pytest.approx(float(LOSS(labels, logits)), 1e-3)
    logs = model.train_on_batch(batch, return_dict=True)
    assert {name: logs[name] for name in want} == want


def test_sample_weights():
    model = make()
    (batch,) = dual_stream().take(1)
    weights = np.arange(8, dtype="float32")
    want = {}
    for name, branch, head in (
        ("main_loss", "balanced", model._head),
        ("auxiliary_loss", "random", model.tasks[0].head),
    ):
        images, labels = batch[branch]
        logits = head(model.features(images))
        want[name] = pytest.approx(float(LOSS(labels, logits, weights)), 1e-5)
    logs = model.train_on_batch(
        {name: (*branch, weights) for name, branch in batch.items()},
        return_dict=True,
    )
    assert {name: logs[name] for name in want} == want


@pytest.fixture(scope="module")
def trained():
    model = make(auxiliary=EACH, compile_args={"jit_compile": False})
    fit(model)
    return model


@pytest.mark.parametrize(
    "compile_args",
    [{"run_eagerly": True}, {"jit_compile": True}, {"steps_per_execution": 2}],
    ids=str,
)
def test_ways_to_run(compile_args, trained):
    model = make(auxiliary=EACH, compile_args=compile_args)
    fit(model)
    assert int(model.optimizer.iterations) == 4
    assert_same_weights(model, trained, 1e-4)


@pytest.mark.parametrize("auxiliary", [None, EACH], ids=str)
def test_two_replicas_equal_one(auxiliary, two_replicas):
    with two_replicas.scope():
        model = make(auxiliary=auxiliary)
    one = make(auxiliary=auxiliary)
    model.set_weights(one.get_weights())
    got, want = fit(model), fit(one)
    assert_same_weights(model, one)
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, 1e-5, err_msg=name)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = make(convolutions, auxiliary=EACH)
        history = fit(model)
    finally:
        keras.config.set_dtype_policy(before)
    features = model.features(DATA.images[:4])
    assert features.dtype == policy.removeprefix("mixed_")
    assert model(DATA.images[:4]).dtype == tf.float32
    for task in model.tasks:
        assert task(features).dtype == tf.float32
    assert {weight.dtype for weight in model.weights} == {"float32"}
    assert all(np.isfinite(value).all() for value in history.values())


@pytest.mark.parametrize(
    "kwargs",
    [
        {"auxiliary": "contrastive"},
        {"auxiliary": None, "head": keras.layers.Dense(CLASSES)},
        {
            "auxiliary_weight": schedules.CumulativeDecay(1.0, 9),
            "auxiliary": ClassifierTask(
                CLASSES, loss=losses.ClassBalancedCrossentropy([40, 16, 8])
            ),
        },
        {
            "auxiliary": ["rotation", MeanColor()],
            "auxiliary_weight": [
                0.5,
                keras.optimizers.schedules.PolynomialDecay(1.0, 9, 0.0),
            ],
            "joint_forward": True,
            "seed": 3,
        },
    ],
    ids=["contrastive", "none", "classifier", "two tasks"],
)
def test_saves_and_goes_on(kwargs, tmp_path):
    model = make(convolutions, **kwargs)
    fit(model, steps=2)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    configs = [
        json.dumps(m.get_config(), sort_keys=True) for m in (model, loaded)
    ]
    assert configs[0] == configs[1]
    assert loaded.joint_forward == kwargs.get("joint_forward", False)
    assert_same_weights(loaded, model, 0)
    model.fit(dual_stream(start_step=2), steps_per_epoch=2, verbose=0)
    loaded.fit(dual_stream(start_step=2), steps_per_epoch=2, verbose=0)
    assert_same_weights(loaded, model, 1e-6)
    model.save_weights(tmp_path / "x.weights.h5")
    other = make(convolutions, **kwargs)
    other.load_weights(tmp_path / "x.weights.h5")
    assert_same_weights(other, model, 0)


def test_exports_the_classifier_alone(tmp_path):
    model = make(convolutions)
    fit(model)
    model.export(tmp_path / "saved_model", verbose=False)
    np.save(tmp_path / "images.npy", DATA.images)
    code = """
import sys
import numpy as np, tensorflow as tf
model = tf.saved_model.load(sys.argv[1] + "/saved_model")
assert "keras_lt" not in sys.modules
assert not any("auxiliary" in v.name for v in model.variables)
images = np.load(sys.argv[1] + "/images.npy")
np.save(sys.argv[1] + "/logits.npy", model.serve(images))
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    served = np.load(tmp_path / "logits.npy")
    np.testing.assert_allclose(served, model(DATA.images), 0, 1e-5)


def test_summary_and_size(capsys):
    model = make()
    sizes = [192 * 5 + 5, 5 * CLASSES + CLASSES, 5 * CLASSES + CLASSES]
    assert model.count_params() == sum(sizes)
    model.summary()
    assert "auxiliary" in capsys.readouterr().out


def seeds(count, step=0):
    keys = seeding.fold_in(seeding.key_from_seed(step, "test"), range(count))
    return tf.constant(keys)


def test_rotation_turns_by_its_target():
    task = RotationTask()
    images = np.repeat(DATA.images, 60, axis=0)
    turned, angles = task.examples(images, None, seeds(len(images)))
    for image, got, angle in zip(images, turned, angles, strict=True):
        np.testing.assert_array_equal(got, np.rot90(image, angle))
    drawn = np.bincount(angles, minlength=4)
    assert chi_square(drawn, len(images) / 4) < chi_square_limit(3)


def test_rotation_draws_anew_each_step_and_again_from_its_seed():
    recorded = []

    class Recorder(RotationTask):
        def examples(self, images, labels, seeds):
            recorded.append(seeds.numpy())
            return super().examples(images, labels, seeds)

    draws = {}
    for seed in (0, 0, 1):
        recorded.clear()
        model = make(
            auxiliary=Recorder(), seed=seed, compile_args={"run_eagerly": True}
        )
        fit(model, steps=3)
        draws.setdefault(seed, []).append(np.concatenate(recorded))
    np.testing.assert_array_equal(*draws[0])
    everything = np.concatenate([draws[0][0], draws[1][0]])
    assert len(np.unique(everything)) == 2 * 3 * 8


def test_contrastive_views():
    task = ContrastiveTask(4, augment=lambda images, seeds: images)
    task.build((None, 5))
    images, _ = task.examples(DATA.images[:6], None, seeds(6))
    np.testing.assert_array_equal(images, np.repeat(DATA.images[:6], 2, axis=0))
    assert task(np.ones((12, 5), "float32")).shape == (6, 2, 4)
    views, _ = ContrastiveTask().examples(DATA.images[:6], None, seeds(6))
    assert views.shape == (12, 8, 8, 3) and views.dtype == tf.uint8
    assert np.any(views[::2] != views[1::2], axis=(1, 2, 3)).all()


def test_contrastive_accuracy():
    task = ContrastiveTask(2)
    embeddings = np.array(
        [
            [[1, 0], [5, 1]],
            [[0, 1], [-1, 0]],  # nearest to the view of the third
            [[0, 1], [0, 9]],
        ],
        "float32",
    )
    task.update_metrics(0.0, np.zeros(3), embeddings)
    got = {metric.name: float(metric.result()) for metric in task.metrics}
    assert got["contrastive_accuracy"] == pytest.approx(2 / 3)


def test_soft_labels_in_the_auxiliary_branch():
    task = ClassifierTask(
        CLASSES,
        loss=keras.losses.CategoricalCrossentropy(from_logits=True),
        l2=L2,
    )
    model, other = make(), make(auxiliary=task)
    other.set_weights(model.get_weights())
    (batch,) = dual_stream().take(1)
    images, labels = batch["random"]
    hard = model.train_on_batch(batch, return_dict=True)
    batch["random"] = images, keras.ops.one_hot(labels, CLASSES)
    soft = other.train_on_batch(batch, return_dict=True)
    assert soft == {name: pytest.approx(v, 1e-5) for name, v in hard.items()}


def test_tasks_of_other_image_sizes_go_apart():
    class Crop(ClassifierTask):
        def examples(self, images, labels, seeds):
            return images[:, :4, :4], labels

    def backbone():
        inputs = keras.Input((None, None, 3), dtype="uint8")
        return keras.Model(inputs, keras.layers.Rescaling(1 / 255)(inputs))

    model = make(backbone, auxiliary=Crop(CLASSES))
    assert np.isfinite(fit(model)["loss"]).all()


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"auxiliary": "rotations"}, "'rotations'"),
        ({"auxiliary": ["rotation", 3]}, "Received: 3"),
        ({"auxiliary": ["rotation", "rotation"]}, "names of their own"),
        ({"auxiliary": MeanColor(name="main")}, "names of their own"),
        ({"auxiliary_weight": -1.0}, "auxiliary_weight=-1.0"),
        ({"auxiliary_weight": float("nan")}, "auxiliary_weight=nan"),
        ({"auxiliary_weight": [1.0, 1.0]}, "1 tasks"),
        ({"auxiliary": "rotation(weight=2)"}, "no argument weight"),
        ({"head": keras.layers.Dense(2)}, r"logits \(B, 3\)"),
        ({"num_classes": 1}, "num_classes=1"),
    ],
    ids=str,
)
def test_bad_arguments(kwargs, message):
    arguments = {"num_classes": CLASSES, **kwargs}
    with pytest.raises(
        (ValueError, TypeError), match=f"Expected (.|\n)*{message}"
    ):
        DualBranch(dense_backbone(), **arguments)


def test_backbone_without_input():
    class Subclassed(keras.Model):
        pass

    with pytest.raises(
        ValueError, match=r"Expected as backbone a functional .*Received"
    ):
        DualBranch(Subclassed(), CLASSES)


def test_a_loss_is_an_object():
    with pytest.raises(TypeError, match=r"Expected .* Received: loss='mse'"):
        MeanColor(loss="mse")


@pytest.mark.parametrize(
    "data",
    [
        (DATA.images, DATA.labels),
        {"balanced": (DATA.images, DATA.labels)},
    ],
    ids=["plain", "without random"],
)
def test_bad_batches(data):
    with pytest.raises(ValueError, match=r"Expected .*'random'.*Received"):
        make().fit(tf.data.Dataset.from_tensor_slices(data).batch(8), verbose=0)


def test_images_that_are_not_square():
    with pytest.raises(ValueError, match=r"Expected square images.*Received"):
        RotationTask().examples(np.zeros((2, 4, 6, 3)), None, seeds(2))


@pytest.mark.parametrize(
    "use, where",
    [
        (lambda model, data: model.evaluate(data, steps=1), "evaluate"),
        (lambda model, data: model.predict(data, steps=1), "predict"),
        (
            lambda model, data: model.fit(
                data,
                steps_per_epoch=1,
                validation_data=data,
                validation_steps=1,
            ),
            "validation_data",
        ),
    ],
)
def test_training_batches_are_for_training(use, where):
    model = make()
    before = model.get_weights()
    with pytest.raises(
        ValueError,
        match=rf"Expected batches \(images, labels\).* for {where}\. Received: "
        r"training batches with the names \['balanced', 'random'\]",
    ):
        use(model, dual_stream())
    for got, wanted in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_class_weights_belong_to_a_loss():
    with pytest.raises(ValueError, match=r"in the loss of a branch.* Received"):
        make().fit(
            dual_stream(), steps_per_epoch=1, class_weight={0: 1.0, 1: 2.0}
        )


def test_weights_of_tasks_as_an_array():
    tasks = ["classifier", "rotation"]
    for given in (np.array([1.0, 0.25]), (np.float32(1.0), 0.25)):
        model = make(auxiliary=tasks, auxiliary_weight=given)
        assert model.auxiliary_weight == [1.0, 0.25]
    for given in ("much", [[1.0], [2.0]], None):
        with pytest.raises(TypeError, match=r"auxiliary_weight to be a number"):
            make(auxiliary=tasks, auxiliary_weight=given)
