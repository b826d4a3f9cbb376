"""Specs: what the grammar takes, what is built of it, what is refused."""

import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_lt
from keras_lt import specs
from keras_lt.losses import LOSSES
from keras_lt.models import DualBranch, auxiliary, backbones, tuning
from keras_lt.optimizers import FINE_TUNING, OPTIMIZERS
from keras_lt.preprocessing import AUGMENTATIONS, MIXES
from keras_lt.sampling import SAMPLERS, ClassProbabilities, Sampler
from keras_lt.schedules import SCHEDULES

CONTEXT = {
    "class_counts": [90, 9, 1],
    "num_classes": 3,
    "input_shape": (32, 32, 3),
    "l2": 1e-4,
    "steps_per_epoch": 10,
    "total_steps": 100,
}


# The grammar


@pytest.mark.parametrize(
    "text, canonical",
    [
        ("focal", "focal"),
        ("focal()", "focal"),
        (" focal ( gamma = 2 ) ", "focal(gamma=2)"),
        (
            "class_balanced_focal(beta=0.9999,gamma=1)",
            "class_balanced_focal(beta=0.9999,gamma=1)",
        ),
        (
            "warmup_step(.1, [160,180], [1e-2, 1e-4])",
            "warmup_step(0.1,[160,180],[0.01,0.0001])",
        ),
        ("f(-1, +2, -0.5, 1e-07)", "f(-1,2,-0.5,1e-07)"),
        ("f(True, False, None)", "f(True,False,None)"),
        ("f((), (1,), (1, 2), [])", "f((),(1,),(1,2),[])"),
        ('f({"a": 1, 2: [None]}, {})', "f({'a':1,2:[None]},{})"),
        ("""f("it's", 'a|b:c(#)', "\\n")""", """f("it's",'a|b:c(#)','\\n')"""),
        ("f('a:b', \"c'd:e\", g:h)", "f('a:b',\"c'd:e\",g:h)"),
        (
            "rotation(weight=linear(1.0))",
            "rotation(weight=linear(1.0))",
        ),
        ("f(g, h(), [i(1)], {'a': j})", "f(g,h,[i(1)],{'a':j})"),
        ("my_package.my_module:MyLoss", "my_package.my_module:MyLoss"),
        ("my_module:MyLoss()", "my_module:MyLoss()"),
        (
            "a.b:C(alpha=2, loss=d:E(1), f={'k': g.h:I})",
            "a.b:C(alpha=2,loss=d:E(1),f={'k':g.h:I})",
        ),
        ("größe(maß='ü')", "größe(maß='ü')"),
    ],
)
def test_text_of_a_spec_reads_as_itself(text, canonical):
    spec = specs.parse(text)
    assert str(spec) == canonical
    assert specs.parse(canonical) == spec
    assert repr(specs.parse(canonical)) == repr(spec)


@pytest.mark.parametrize("seed", range(5))
def test_specs_of_any_values_round_trip(seed):
    random = np.random.default_rng(seed)

    def value(depth):
        kind = random.integers(0, 9 if depth else 5)
        if kind < 5:
            texts = ["'", '"', "\\", "a:b", "|(", "#", "é\t", ""]
            return [
                int(random.integers(-9, 9)),
                float(random.normal() * 10.0 ** random.integers(-20, 20)),
                bool(random.integers(2)),
                None,
                "".join(random.choice(texts, 3)),
            ][kind]
        size = random.integers(0, 4)
        if kind == 5:
            return [value(depth - 1) for _ in range(size)]
        if kind == 6:
            return tuple(value(depth - 1) for _ in range(size))
        if kind == 7:
            return {f"k{i}": value(depth - 1) for i in range(size)}
        return spec(depth - 1)

    def spec(depth):
        name = ["focal", "a.b:C"][random.integers(2)]
        return specs.Spec(
            name,
            tuple(value(depth) for _ in range(random.integers(0, 3))),
            {f"k{i}": value(depth) for i in range(random.integers(0, 3))},
        )

    for _ in range(50):
        chain = specs.Chain(spec(3) for _ in range(random.integers(1, 4)))
        assert repr(specs.parse_chain(str(chain))) == repr(chain)
        assert specs.parse_chain(str(chain)) == chain


def test_chain_reads_in_order():
    text = "pad_crop_flip(4)|rand_augment(2,10)|cutout(16)"
    chain = specs.parse_chain(text.replace("|", " | "))
    assert [spec.arguments for spec in chain] == [(4,), (2, 10), (16,)]
    assert str(chain) == text
    with pytest.raises(ValueError, match=r"one spec.*which has 3"):
        specs.parse(text)


@pytest.mark.parametrize(
    "text, place",
    [
        ("", "its end at character 1"),
        ("focal(gamma=2", r"'\(gamma=2' at character 6"),
        ("focal(2)|", "its end at character 10"),
        ("focal|(cutout", r"'\(cutout' at character 7"),
        ("f('ü', 1+1)", r"'1\+1\)' at character 8"),
        ("f(1)  # comment", "'# comment' at character 7"),
        ("f(1,\n2)", r"'\\n2\)' at character 5"),
        ("0.1", "'0.1' at character 1"),
        ("f(1, 2)(3)", r"'f\(1, 2\)\(3\)' at character 1"),
        ("f(a=1, a=2)", r"'a=2\)' at character 8"),
        ("f({1: 2, 1: 3})", "'{1: 2, 1: 3}"),
    ],
)
def test_error_shows_the_place(text, place):
    with pytest.raises(ValueError, match=place) as info:
        specs.parse_chain(text)
    assert "\n" not in str(info.value)


# What is no literal, and would do something if it were evaluated.
INJECTIONS = [
    "os.system('touch {mark}')",
    "__import__('os').system('touch {mark}')",
    "focal(gamma=__import__('os').system('touch {mark}'))",
    "focal(open('{mark}', 'w').close())",
    "focal(gamma=(lambda: open('{mark}', 'w'))())",
    "focal([open('{mark}', 'w') for _ in (1,)])",
    "focal({{open('{mark}', 'w') for _ in (1,)}})",
    "focal({{1: x for x in (1,)}})",
    "focal(x for x in (1,))",
    'focal(f\'{{open("{mark}", "w")}}\')',
    "focal(().__class__.__bases__[0].__subclasses__())",
    "focal(gamma=9**9**9)",
    "focal(gamma=2*3)",
    "focal('a' * 10**9)",
    "focal('a' % 1)",
    "focal(1 if True else 2)",
    "focal(1 < 2)",
    "focal(True and False)",
    "focal(not True)",
    "focal(~1)",
    "focal(--1)",
    "focal(gamma=(a:=1))",
    "focal(*[1])",
    "focal(**{{'gamma': 1}})",
    "focal([*a])",
    "focal({{**a}})",
    "focal({{1, 2}})",
    "focal(a[0])",
    "focal(a[0:1])",
    "focal(b'x')",
    "focal(1j)",
    "focal(...)",
    "focal(1e999)",
    "focal({nines})",
    "focal(await a)",
    "focal(yield)",
    "focal; import os",
    "import os",
    "focal\\\n(1)",
    "focal(\0)",
    "focal('\ud800')",
    "a:__init__()",
    "a:b.__class__()",
    "a:b.c(1)",
    "a.b(1)",
    "a:b:c",
    "(focal)(2) or 1",
    "[focal]",
    "'focal'",
    "None",
]


@pytest.mark.parametrize("text", INJECTIONS)
def test_nothing_is_evaluated(text, tmp_path):
    mark = tmp_path / "mark"
    text = text.format(mark=mark, nines="9" * 3_000)
    for get in (specs.parse_chain, keras_lt.losses.get):
        with pytest.raises(ValueError, match=r"^Expected"):
            get(text)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["__import__", "eval", "exec", "__class__"])
def test_names_of_python_are_no_names(name):
    with pytest.raises(ValueError, match="Expected a loss: one of crossentro"):
        keras_lt.losses.get(f"{name}('os')")


@pytest.mark.parametrize(
    "text",
    [
        "f(" * 11 + ")" * 11,
        "f(" + "[" * 1_900 + "]" * 1_900 + ")",
        "f(" + "-" * 3_900 + "1)",
        "f(" + "not " * 900 + "1)",
        "f(" + "9" * 5_000 + ")",
        "f('" + "x" * 5_000 + "')",
        "a." * 1_900 + "a",
    ],
)
def test_long_and_deep_specs_are_refused(text):
    with pytest.raises(ValueError, match=r"^Expected") as info:
        specs.parse_chain(text)
    assert len(str(info.value)) < 1_000


def test_specs_within_the_bounds_are_read():
    assert len(specs.parse_chain("|".join(["f"] * 1_900))) == 1_900
    nested = "f(" * 10 + ")" * 10
    assert str(specs.parse(nested)) == "f(" * 9 + "f" + ")" * 9


@pytest.mark.parametrize("value", [None, 3, b"focal", ["focal"]])
def test_what_is_no_text_is_refused(value):
    with pytest.raises(TypeError, match="Expected a text"):
        specs.parse(value)


# The registries

SHORTEST = {
    "reweighted": "reweighted(crossentropy)",
    "resnet": "resnet([(8,1),(16,1)])",
    "cutout": "cutout(16)",
    "two_views": "two_views(simclr)",
    "constant": "constant(0.1)",
    "warmup_step": "warmup_step(0.1)",
    "cosine": "cosine(0.1)",
    "linear": "linear(1.0)",
    "switched": "switched(random, progressive, 3)",
    "cumulative": "cumulative(1.0)",
    "after": "after('stage1')",
}
REGISTRIES = {
    "losses": (LOSSES, keras_lt.losses.get),
    "augmentations": (AUGMENTATIONS, keras_lt.preprocessing.get),
    "mixes": (MIXES, keras_lt.preprocessing.get_mix),
    "auxiliaries": (auxiliary.TASKS, auxiliary.get),
    "samplers": (SAMPLERS, keras_lt.sampling.get),
    "schedules": (SCHEDULES, keras_lt.schedules.get),
    "optimizers": (OPTIMIZERS, keras_lt.optimizers.get),
    "backbones": (backbones.BACKBONES, backbones.get),
    "tunings": (tuning.TUNINGS, tuning.get),
}
# Built elsewhere, or too large: of keras.applications one stands for all.
LEFT_OUT = {*backbones.application_names(), "kerashub"} - {"MobileNet"}


@pytest.mark.parametrize(
    "kind, name",
    [
        (kind, name)
        for kind, (registry, _) in REGISTRIES.items()
        for name in registry.table
        if name not in LEFT_OUT
    ],
)
def test_registered_name_is_built(kind, name):
    registry, get = REGISTRIES[kind]
    built = get(SHORTEST.get(name, name), **CONTEXT)
    if kind == "auxiliaries":
        (built,), weights = built
        assert weights == [1.0]
    assert isinstance(built, Sampler if kind == "samplers" else registry.makes)
    if hasattr(built, "get_config") and kind != "backbones":
        assert type(built).from_config(built.get_config())


def test_flags_of_the_recipes_are_names():
    assert {"class_balanced", "ldam", "focal", "bns"} <= {*LOSSES.table}
    assert {"class_balanced", "progressive"} <= {*SAMPLERS.table}
    assert {"sgd", "adamw", "adam", "rmsprop"} <= {*OPTIMIZERS.table}
    assert {"mean_squared_error", "kl_divergence"} <= {*LOSSES.table}
    assert "ResNet50" in backbones.BACKBONES.table


@pytest.mark.parametrize("kind", REGISTRIES)
def test_wrong_name_lists_the_right_ones(kind):
    registry, get = REGISTRIES[kind]
    name = next(iter(registry.table))
    wrong = name[:-1] if len(name) > 4 else f"{name}_"
    with pytest.raises(ValueError) as info:
        get(f"{wrong}(3)", **CONTEXT)
    message = str(info.value)
    assert registry.kind in message and "\n" not in message
    assert ", ".join(registry.table) in message
    assert message.endswith(f"'{wrong}(3)'. Did you mean {name}?")


@pytest.mark.parametrize("kind", REGISTRIES)
def test_wrong_argument_names_those_that_there_are(kind):
    registry, get = REGISTRIES[kind]
    name = next(iter(registry.table))
    with pytest.raises(ValueError) as info:
        get(f"{name}(nonsense=3)", **CONTEXT)
    message = str(info.value)
    assert f"no argument nonsense: the {registry.kind} {name}" in message
    assert f"'{name}(nonsense=3)'" in message


@pytest.mark.parametrize(
    "get, text, error, message",
    [
        ("losses", "focal(gama=2)", ValueError, r"takes .*gamma.* mean gamma"),
        ("losses", "focal(2, gamma=2)", ValueError, "gamma once"),
        ("losses", "focal(1, 'a', 2)", ValueError, "at most 2"),
        ("losses", "focal(gamma='2')", TypeError, "gamma to be a number"),
        ("losses", "focal(gamma=True)", TypeError, "gamma to be a number"),
        ("losses", "focal(gamma=[2])", TypeError, "gamma to be a number"),
        ("losses", "focal(gamma=None)", TypeError, "gamma to be a number"),
        ("losses", "focal(gamma=-1)", ValueError, r"gamma >= 0.*focal\("),
        ("losses", "focal(gamma=two)", ValueError, "gamma=two"),
        ("losses", "ldam(normalizer=batch)", ValueError, "quotation marks"),
        ("losses", "huber(delta='x')", TypeError, "delta to be a number"),
        ("losses", "balanced_softmax(tau=2)", TypeError, "no argument tau"),
        ("losses", "crossentropy(1)", ValueError, "at most 0"),
        ("augmentations", "cutout", ValueError, "argument size"),
        ("augmentations", "cutout('16')", TypeError, "size to be an integer"),
        ("augmentations", "cutout(16.5)", ValueError, "size to be an integer"),
        ("augmentations", "pad_crop_flip(4, flip=1)", TypeError, "True or"),
        ("augmentations", "cutout(16)|cutou(16)", ValueError, "mean cutout"),
        ("augmentations", "two_views(cutout(16))", ValueError, "a view"),
        ("mixes", "mixup(0)", ValueError, "alpha > 0"),
        ("mixes", "mixup|mixup", ValueError, "one spec"),
        ("backbones", "cifar_resnet(33)", ValueError, r"depth of 6n \+ 2"),
        ("backbones", "ResNet50(width=2)", ValueError, "takes input_shape"),
        ("backbones", "resnet50", ValueError, "ResNet50"),
        ("optimizers", "sgd(momentum='0.9')", TypeError, "momentum"),
        ("optimizers", "sgd(nesterov=1)", TypeError, "True or False"),
        ("optimizers", "sgd(learning_rate=focal)", ValueError, "a schedule"),
        ("schedules", "warmup_step(0.1, [9], [])", ValueError, "one factor"),
        ("schedules", "cosine(0.1, warmup=-1)", ValueError, "warmup >= 0"),
        ("schedules", "-0.1", ValueError, "value >= 0"),
        ("schedules", "nan", ValueError, "value >= 0"),
        ("auxiliaries", "rotation(weight=liner(1))", ValueError, "linear"),
        ("auxiliaries", "rotation(weight='x')", ValueError, "a schedule"),
        ("auxiliaries", "rotation(num_outputs=3)", ValueError, "no argument"),
        ("samplers", "class_balanced(2)", ValueError, "at most 0"),
        ("tunings", "head(views=-1)", ValueError, "at least 0"),
        ("tunings", "after", ValueError, "argument last"),
    ],
)
def test_wrong_arguments_are_refused(get, text, error, message):
    with pytest.raises(error, match=message) as info:
        REGISTRIES[get][1](text, **CONTEXT)
    assert "\n" not in str(info.value)


def test_context_is_filled_in():
    loss = keras_lt.losses.get("class_balanced_focal(0.999,gamma=1)", **CONTEXT)
    assert loss.class_counts.tolist() == [90, 9, 1]
    assert (loss.beta, loss.gamma) == (0.999, 1)
    assert keras_lt.preprocessing.get_mix("mixup(0.4)", **CONTEXT)
    (task,), _ = auxiliary.get("classifier", **CONTEXT)
    assert (task.num_classes, task.l2) == (3, 1e-4)
    # What a spec says goes before what is filled in.
    (task,), _ = auxiliary.get("rotation(l2=0.5)", **CONTEXT)
    assert task.l2 == 0.5
    backbone = backbones.get("cifar_resnet(8)", image_shape=(16, 16, 1))
    assert backbone.input_shape == (None, 16, 16, 1)
    soft = keras_lt.losses.get("crossentropy", soft_labels=True)
    assert isinstance(soft, keras.losses.CategoricalCrossentropy)


@pytest.mark.parametrize(
    "get, text, name",
    [
        ("losses", "balanced_softmax", "class_counts"),
        ("losses", "focal(beta=0.9)", "class_counts"),
        ("mixes", "mixup", "num_classes"),
        ("mixes", "remix", "class_counts"),
        ("schedules", "cosine(0.1)", "total_steps"),
        ("auxiliaries", "rotation(weight=linear(1.0))", "total_steps"),
        ("auxiliaries", "classifier", "num_classes"),
        ("backbones", "kerashub('folder')", "input_shape"),
    ],
)
def test_missing_context_is_named(get, text, name):
    for context in ({}, {name: None}):
        with pytest.raises(ValueError, match=f"Expected.* {name}"):
            REGISTRIES[get][1](text, **context)


def test_unknown_context_is_refused():
    with pytest.raises(TypeError, match="Did you mean class_counts"):
        keras_lt.losses.get("focal", class_count=[1, 2])


# As Keras' own `get`


def test_objects_pass_and_configurations_are_read():
    loss = keras_lt.losses.Focal([2, 1])
    assert keras_lt.losses.get(loss) is loss
    assert keras_lt.losses.get(None) is None
    config = keras.losses.serialize(loss)
    assert keras_lt.losses.get(config).get_config() == loss.get_config()
    optimizer = keras.optimizers.SGD(0.5)
    assert keras_lt.optimizers.get(optimizer) is optimizer
    config = keras.optimizers.serialize(optimizer)
    assert float(keras_lt.optimizers.get(config).learning_rate) == 0.5
    rate = keras_lt.schedules.CumulativeDecay(1.0, 10)
    assert keras_lt.schedules.get(rate) is rate
    config = keras.optimizers.schedules.serialize(rate)
    assert keras_lt.schedules.get(config).decay_steps == 10
    assert keras_lt.schedules.get(0.1) == keras_lt.schedules.get("0.1") == 0.1
    transform = keras_lt.preprocessing.cutout(4)
    assert keras_lt.preprocessing.get(transform) is transform
    assert keras_lt.preprocessing.get(None) is None
    assert keras_lt.preprocessing.get_mix(None) is None
    sampler = keras_lt.sampling.get([0.5, 0.5])
    assert isinstance(sampler, ClassProbabilities)
    assert keras_lt.sampling.get(sampler) is sampler
    backbone = backbones.cifar_resnet(8)
    assert backbones.get(backbone) is backbone
    task = keras_lt.models.RotationTask()
    assert auxiliary.get(task) == ([task], [1.0])


@pytest.mark.parametrize(
    "get",
    [
        keras_lt.optimizers.get,
        keras_lt.schedules.get,
        keras_lt.preprocessing.get,
        keras_lt.preprocessing.get_mix,
        backbones.get,
        tuning.get,
        auxiliary.get,
        keras_lt.sampling.get,
        keras_lt.losses.get,
    ],
)
def test_other_objects_are_refused(get):
    with pytest.raises((TypeError, ValueError)):
        get(object())


def test_focal_loss_needs_no_class_counts():
    loss = keras_lt.losses.get("focal(gamma=2)")
    counted = keras_lt.losses.Focal([5, 3, 1], gamma=2)
    logits = np.array([[1.0, 0.0, -1.0], [0.5, 2.0, 0.0]], np.float32)
    for labels in ([0, 2], np.eye(3, dtype=np.float32)[[0, 2]], [1, -1]):
        value = loss(np.array(labels), logits)
        np.testing.assert_array_equal(value, counted(np.array(labels), logits))
    again = keras_lt.losses.Focal.from_config(loss.get_config())
    assert again.class_counts is None and again.gamma == 2
    for arguments in ({"beta": 0.9}, {"class_weights": [1, 2]}):
        with pytest.raises(ValueError, match="Expected class_counts"):
            keras_lt.losses.Focal(**arguments)
    with pytest.raises(ValueError, match="Expected class_counts"):
        keras_lt.losses.BalancedSoftmax(None)
    for shape in ((2,), (2, 1)):
        with pytest.raises(ValueError, match="at least 2 classes"):
            loss(np.array([0, 0]), np.zeros(shape, np.float32))


def test_schedules_are_those_of_the_recipes():
    rate = keras_lt.schedules.get(
        "warmup_step(0.1,[160,180],[0.01,0.0001])", steps_per_epoch=87
    )
    same = keras_lt.schedules.WarmupStepDecay(
        0.1, 5 * 87, [160 * 87, 180 * 87], [0.01, 0.0001]
    )
    assert rate.get_config() == same.get_config()
    rate = keras_lt.schedules.get("cosine(0.1,warmup=2)", **CONTEXT)
    # A rise over 20 of 100 steps, then half a cosine over the 80 others.
    assert float(rate(20)) == pytest.approx(0.1)
    assert float(rate(60)) == pytest.approx(0.05)
    assert float(rate(100)) == pytest.approx(0.0, abs=1e-9)


def test_optimizer_takes_its_rate_from_one_place():
    get = keras_lt.optimizers.get
    optimizer = get("sgd(momentum=0.9)", learning_rate="0.2")
    assert optimizer.momentum == 0.9
    assert float(optimizer.learning_rate) == pytest.approx(0.2)
    optimizer = get("sgd(cosine(0.3),momentum=0.9)", **CONTEXT)
    assert float(optimizer.learning_rate) == pytest.approx(0.3)
    for text in ("sgd(0.1)", "sgd(learning_rate=0.1)"):
        with pytest.raises(ValueError, match="learning_rate once"):
            get(text, learning_rate=0.2)
    with pytest.raises(ValueError, match=r"spec such as sgd.*learning_rate"):
        get(keras.optimizers.SGD(), learning_rate=0.2)


def test_optimizer_takes_rate_factors():
    for name in FINE_TUNING.table:
        optimizer = keras_lt.optimizers.get(
            f"{name}(0.1, 0.9)", rate_factors=[1.0, 0.1]
        )
        assert 0.9 in (
            getattr(optimizer, "momentum", None),
            optimizer.weight_decay,
        )
        assert optimizer.rate_factors == [1.0, 0.1]
    with pytest.raises(ValueError, match="each variable: one of sgd, adamw"):
        keras_lt.optimizers.get("adam", rate_factors=[1.0])


def test_auxiliary_tasks_train_a_dual_branch():
    tasks, weights = auxiliary.get(
        "rotation(weight=linear(2.0))|contrastive(projection_dim=8,"
        "loss=nt_xent(0.2),weight=0.5)|classifier(loss=focal(2))",
        **CONTEXT,
    )
    assert [task.name for task in tasks] == [
        "rotation",
        "contrastive",
        "auxiliary",
    ]
    assert tasks[1].loss.temperature == 0.2
    assert isinstance(tasks[2].loss, keras_lt.losses.Focal)
    assert weights[1:] == [0.5, 1.0]
    assert [float(weights[0](step)) for step in (0, 50, 100)] == [2, 1, 0]
    model = DualBranch(
        backbones.get("cifar_resnet(8)", input_shape=(8, 8, 3)),
        3,
        auxiliary=tasks,
        auxiliary_weight=weights,
    )
    assert model.tasks == tasks


def test_augmentations_follow_one_another():
    images = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 3), "uint8")
    batch = (
        tf.constant(images),
        tf.zeros(4, tf.int64),
        tf.range(4, dtype=tf.int64),
        tf.cast(tf.range(4), tf.uint64),
    )
    preprocessing = keras_lt.preprocessing
    made = preprocessing.get("pad_crop_flip(2)|cutout(8)")(*batch)
    same = preprocessing.chain(
        preprocessing.pad_crop_flip(2), preprocessing.cutout(8)
    )(*batch)
    np.testing.assert_array_equal(made[0], same[0])
    views, _ = preprocessing.get("two_views(simclr(0.5,blur=0.5))")(*batch)
    assert [view.shape for view in views] == [images.shape] * 2


# A user's own

USERS = """
import keras
import keras_lt
from keras import ops


class MyLoss(keras.losses.Loss):
    def __init__(self, class_counts, alpha=1.0, **kwargs):
        super().__init__(**kwargs)
        self.class_counts, self.alpha = class_counts, alpha

    def call(self, y_true, y_pred):
        return self.alpha * ops.mean(ops.square(y_pred), axis=-1)


class Kin(keras_lt.losses.ClassWeightedLoss):
    def __init__(self, alpha=1.0, **kwargs):
        super().__init__(**kwargs)
        self.alpha = alpha


def plain(y_true, y_pred):
    return ops.mean(ops.square(y_pred), axis=-1)


def darker(factor, /, floor=0):
    def transform(images, labels, indices, seeds):
        return images // factor + floor, labels
    return transform


def as_it_is(images, labels, indices, seeds):
    return images, labels


def network(input_shape, width=4):
    images = keras.Input(input_shape)
    x = keras.layers.Conv2D(width, 3)(images)
    return keras.Model(images, keras.layers.GlobalAveragePooling2D()(x))


@keras.saving.register_keras_serializable("users")
class MeanColor(keras_lt.models.AuxiliaryTask):
    def __init__(self, units=3, loss="MeanSquaredError", name="color", **more):
        super().__init__(loss=loss, name=name, **more)
        self.head = keras.layers.Dense(units)

    def examples(self, images, labels, seeds):
        return images, ops.mean(ops.cast(images, "float32"), axis=(1, 2))

    def build(self, features_shape):
        self.head.build(features_shape)

    def call(self, features):
        return self.head(features)


def tempered(class_counts, power=0.5):
    return [count**power for count in class_counts]


class Halved(keras.optimizers.SGD):
    def __init__(self, learning_rate=0.01, **kwargs):
        super().__init__(learning_rate=learning_rate / 2, **kwargs)


def stairs(height, total_steps):
    return lambda step: height * (step < total_steps / 2)


RATE = 0.25
READY = keras.optimizers.SGD(momentum=0.5)


def fails(alpha=1):
    raise ValueError("no such alpha")
"""


@pytest.fixture
def users(tmp_path, monkeypatch):
    """A user's module in a package, in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    package = tmp_path / "users_package"
    package.mkdir()
    (package / "things.py").write_text(USERS)
    yield "users_package.things"
    for name in ("users_package.things", "users_package"):
        sys.modules.pop(name, None)


def test_users_own_stand_for_names(users):
    loss = keras_lt.losses.get(f"{users}:MyLoss(alpha=2)", **CONTEXT)
    assert (loss.class_counts, loss.alpha) == ([90, 9, 1], 2)
    kin = keras_lt.losses.get(
        f"{users}:Kin(alpha=2,normalizer='nonzero')", **CONTEXT
    )
    assert kin.class_counts.tolist() == [90, 9, 1]
    assert (kin.alpha, kin.normalizer) == (2, "nonzero")
    plain = keras_lt.losses.get(f"{users}:plain")
    assert plain([0], np.ones((1, 3))) == 1
    transform = keras_lt.preprocessing.get(
        f"{users}:darker(2,floor=1)|{users}:as_it_is"
    )
    images = tf.constant([[[[8]]]], tf.uint8)
    batch = (images, [0], [0], tf.zeros(1, tf.uint64))
    assert transform(*batch)[0].numpy().item() == 5
    backbone = backbones.get(f"{users}:network(8)", **CONTEXT)
    assert backbone.output_shape == (None, 8)
    backbone = backbones.get(f"{users}:network", **CONTEXT)  # no ()
    assert backbone.output_shape == (None, 4)
    (task, rotation), weights = auxiliary.get(
        f"{users}:MeanColor(weight=linear(1.0))|rotation", **CONTEXT
    )
    assert task.name == "color" and callable(weights[0])
    assert isinstance(rotation, keras_lt.models.RotationTask)
    sampler = keras_lt.sampling.get(f"{users}:tempered(power=1)", **CONTEXT)
    assert sampler.probabilities == [90, 9, 1]
    optimizer = keras_lt.optimizers.get(
        f"{users}:Halved(momentum=0.9)", learning_rate=1.0
    )
    assert float(optimizer.learning_rate) == 0.5
    assert keras_lt.optimizers.get(f"{users}:READY").momentum == 0.5
    with pytest.raises(ValueError, match=r"READY.* given learning_rate"):
        keras_lt.optimizers.get(f"{users}:READY", learning_rate=1.0)
    rate = keras_lt.schedules.get(f"{users}:stairs(0.1)", **CONTEXT)
    assert [rate(0), rate(99)] == [0.1, 0]
    assert keras_lt.schedules.get(f"{users}:RATE") == 0.25
    assert keras_lt.losses.get(f"{users}:MyLoss", **CONTEXT).alpha == 1
    nested = f"classifier(loss={users}:MyLoss(alpha=3))"
    ((task,), _) = auxiliary.get(nested, **CONTEXT)
    assert task.loss.alpha == 3


@pytest.mark.parametrize(
    "text, error, message",
    [
        ("{users}:MyLos()", ValueError, "things.py.*mean MyLoss"),
        ("{users}:MyLoss(alpa=2)", ValueError, "alpha, .*mean alpha"),
        ("{users}:MyLoss(alpha='x')", TypeError, "alpha to be a number"),
        ("{users}:MyLoss(2, 3)", ValueError, "at most 1"),
        ("{users}:fails(3)", ValueError, r"no such alpha \(in .*fails\(3\)"),
        ("{users}:RATE()", ValueError, "without parentheses"),
        ("{users}:RATE", TypeError, "which gives 0.25"),
        ("{users}_not:MyLoss", ValueError, "No module named"),
        ("{users}.sub:MyLoss", ValueError, "not a package"),
        ("no_such_package:MyLoss", ValueError, "ModuleNotFoundError"),
        ("wrong_syntax:MyLoss", ValueError, "SyntaxError.*line 1"),
        ("divides:MyLoss", ValueError, "ZeroDivisionError.*divides.py, line 2"),
        ("exits:MyLoss", ValueError, "SystemExit: 3.*exits.py, line 2"),
    ],
)
def test_errors_of_users_are_one_line(users, tmp_path, text, error, message):
    (tmp_path / "wrong_syntax.py").write_text("def (:\n")
    (tmp_path / "divides.py").write_text("\n1 / 0\n")
    (tmp_path / "exits.py").write_text("import sys\nsys.exit(3)\n")
    with pytest.raises(error, match=message) as info:
        keras_lt.losses.get(text.format(users=users), **CONTEXT)
    assert "\n" not in str(info.value)


def test_users_file_is_found_by_a_script_elsewhere(tmp_path):
    """As a recipe is run: `sys.path` has the script's folder, not this one."""
    (tmp_path / "mine.py").write_text("class Thing:\n    alpha = 7\n")
    script = tmp_path / "scripts" / "run.py"
    script.parent.mkdir()
    script.write_text(
        textwrap.dedent(
            """
            from keras_lt import specs

            things = specs.Registry("thing", {}, makes=object)
            print(things.get("mine:Thing()").alpha)
            """
        )
    )
    done = subprocess.run(
        [sys.executable, script],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "7\n"
