"""The examples in docstrings are run, and whatever is public has one."""

import ast
import doctest
import functools
import inspect
import re
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from recipe import REPO
from test_report import make_record

import keras_lt

# Examples that can't be run here, and why.
SKIPPED = {
    "keras_lt.models.backbones.hub.kerashub": "needs a download",
    "keras_lt.models.backbones.hub.text_features": "needs a download",
    "keras_lt.models.adapters.WithAdapters": "needs a preset of KerasHub",
    "keras_lt.models.adapters.adapters": "needs a preset of KerasHub",
}
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def find_examples() -> dict[str, doctest.DocTest]:
    """The examples of each docstring that has some, by its object's name."""
    found = {}

    def visit(node, name, file):
        text = ast.get_docstring(node) or ""
        if ">>>" in text:
            line = node.body[0].lineno - 1
            found[name] = doctest.DocTestParser().get_doctest(
                text, {}, name, str(file), line
            )
        for child in node.body:
            if isinstance(child, ast.ClassDef | ast.FunctionDef):
                visit(child, f"{name}.{child.name}", file)

    for room in ("keras_lt", "recipes", "tools"):
        for file in sorted((REPO / room).rglob("*.py")):
            parts = file.relative_to(REPO).with_suffix("").parts
            name = ".".join(parts).removesuffix(".__init__")
            visit(ast.parse(file.read_text()), name, file)
    return found


EXAMPLES = find_examples()


def public_objects() -> dict:
    """The public functions and classes, by where they are defined."""
    found = {}
    modules = [getattr(keras_lt, name) for name in keras_lt.__all__[1:]]
    models = keras_lt.models
    modules += [models.auxiliary, models.backbones, models.dlsa]
    modules += [models.second_stages, models.tuning, models.heads]
    for module in modules:
        for name in getattr(module, "__all__", vars(module)):
            value = inspect.unwrap(getattr(module, name))
            if name.startswith("_") or not (
                inspect.isfunction(value) or inspect.isclass(value)
            ):
                continue
            if hasattr(module, "__all__") or (
                value.__module__ == module.__name__
            ):
                found[f"{value.__module__}.{value.__qualname__}"] = value
    return found


def make_models() -> dict:
    """Models that examples train and change: each example gets its own."""
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Rescaling(1 / 16)(inputs)
    x = keras.layers.Conv2D(8, 3, activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    backbone = keras.Model(inputs, x, name="backbone")
    model = keras_lt.models.classifier(backbone, 10)
    model.compile(
        "sgd",
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return {"backbone": backbone, "model": model, "stage1": model}


@pytest.fixture(scope="module")
def namespace() -> dict:
    """What examples take for granted: imports, and small data."""
    load = keras_lt.datasets.load
    train = keras_lt.datasets.long_tail(load("digits", split="train"), 10)
    test = load("digits", split="test")
    stage1 = make_models()["stage1"]
    features = keras_lt.features.extract(stage1, train)
    dlsa = keras_lt.models.DLSA(10, features_dim=8, num_clusters=20)
    dlsa.fit_features(
        *features,
        flow=keras_lt.models.dlsa.FlowSettings(epochs=1),
        classifier=keras_lt.models.dlsa.ClassifierSettings(epochs=1),
        verbose=0,
    )
    return {
        "__name__": "__main__",
        "Path": Path,
        "functools": functools,
        "keras": keras,
        "keras_lt": keras_lt,
        "np": np,
        "tf": tf,
        "train": train,
        "held_out": test,
        "test": test,
        "images": train.images,
        "labels": train.labels,
        "class_names": train.class_names,
        "class_counts": train.class_counts,
        "photos": np.zeros((8, 240, 320, 3), np.uint8),
        "batches": keras_lt.streams.stream(
            train, sampling="random", batch_size=32, seed=0
        ),
        "p": np.random.default_rng(0).uniform(size=len(train)),
        "features": features,
        "dlsa": dlsa,
        "levels": dlsa.inspect(features.features),
        "record": make_record(),
        "strategy": keras_lt.distribute.strategy("none"),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The files that examples read."""
    root = tmp_path_factory.mktemp("folder")
    names = ["cat.jpg", "photos/b/2.png"]
    names += [f"photos/{c}/{i}.jpg" for c in "ab" for i in (1, 3, 4, 5)]
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / name)
    for run, seed in (("ce_0", 0), ("ce_1", 1), ("ce_drw_0", 0)):
        (root / "runs" / run).mkdir(parents=True)
        record = make_record(name=run[:-2], seed=seed)
        record.write(root / "runs" / run / "result.json")
    (root / "runs" / "simclr").mkdir()
    make_models()["model"].save(root / "runs" / "simclr" / "model.keras")
    return root


@pytest.mark.parametrize("name", EXAMPLES)
def test_example_runs(name, namespace, folder, tmp_path, monkeypatch):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    test = EXAMPLES[name]
    test.globs = dict(namespace)
    if re.search(r"\b(backbone|model|stage1)\b", test.docstring):
        test.globs |= make_models()
    output = []
    keras.config.disable_interactive_logging()
    try:
        result = doctest.DocTestRunner(optionflags=FLAGS).run(
            test, out=output.append
        )
    finally:
        keras.config.enable_interactive_logging()
    assert not result.failed, "".join(output)


def code(names) -> str:
    """What the examples of these names run, and what they give."""
    lines = [line for name in names for line in EXAMPLES[name].examples]
    return "".join(
        line.source + line.want
        for line in lines
        if doctest.SKIP not in line.options
    )


def test_public_objects_have_examples_that_show_them():
    missing = [
        name
        for name in public_objects()
        if name not in SKIPPED
        and not re.search(
            rf"\b{name.rpartition('.')[2]}\b", code({name} & set(EXAMPLES))
        )
    ]
    assert not missing


def test_documented_methods_are_shown():
    shown = code(EXAMPLES)
    missing = []
    for name, value in public_objects().items():
        for method, what in vars(value).items():
            what = getattr(what, "fget", getattr(what, "__func__", what))
            if (
                inspect.isclass(value)
                and inspect.isfunction(what)
                and what.__doc__
                and not method.startswith("_")
                and not re.search(rf"(\.|def ){method}\b", shown)
            ):
                missing.append(f"{name}.{method}")
    assert not missing


def test_only_named_examples_are_skipped():
    skipped = {
        name
        for name, test in EXAMPLES.items()
        if any(doctest.SKIP in line.options for line in test.examples)
    }
    assert skipped == set(SKIPPED)
