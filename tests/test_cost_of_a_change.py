"""What a change costs: each kind is added, from outside and to the library.

From outside: a user's file beside the checkout, whose objects are named by
`module:Name` in the flags of the recipes. To the library: a copy of it, of
which as few files are edited as the table in keras_lt/README.md says, where the
new objects go by names of their own.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import documents
import recipe

IMPORTS = """
import keras
import numpy as np
from keras import ops
"""
LOSS = '''
@keras.saving.register_keras_serializable(package="keras_lt")
class SquaredError(keras.losses.Loss):
    """Squared error of probabilities, times a factor.

    Example:
        >>> loss = keras_lt.losses.SquaredError(factor=2.0)
    """

    def __init__(self, factor=1.0, name="squared_error", **kwargs):
        super().__init__(name=name, **kwargs)
        self.factor = factor

    def call(self, y_true, y_pred):
        wanted = ops.one_hot(ops.cast(y_true, "int32"), y_pred.shape[-1])
        errors = ops.square(wanted - ops.softmax(y_pred))
        return self.factor * ops.sum(errors, axis=-1)

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}
'''
SAMPLER = '''
class CubeRoot(Sampler):
    """Class c with a probability proportional to the cube root of its images.

    Example:
        >>> keras_lt.sampling.CubeRoot().expected_counts([8, 1])
        array([6., 3.])
    """

    name = "cube_root"

    def class_weights(self, class_counts):
        return np.cbrt(class_counts)
'''
AUXILIARY = '''
@keras.saving.register_keras_serializable(package="keras_lt")
class Brightness(AuxiliaryTask):
    """Predicts the mean brightness of an image.

    Example:
        >>> task = keras_lt.models.auxiliary.Brightness()
    """

    def __init__(self, loss="MeanSquaredError", name="brightness", **kwargs):
        super().__init__(loss=loss, name=name, **kwargs)
        self.head = keras.layers.Dense(1, dtype="float32")

    def examples(self, images, labels, seeds):
        pixels = ops.cast(images, "float32") / 255.0
        return images, ops.mean(pixels, axis=(1, 2, 3))[:, None]

    def build(self, features_shape):
        self.head.build(features_shape)

    def call(self, features):
        return self.head(features)
'''
AUGMENTATION = '''
def invert(top=255):
    """Turns black into white.

    Example:
        >>> transform = keras_lt.preprocessing.invert()
    """

    def transform(images, labels, indices, seeds):
        return top - images, labels

    return transform
'''
BACKBONE = '''
def one_layer(filters, input_shape, mean=None, variance=None, l2=0.0):
    """Features of one convolution.

    Example:
        >>> keras_lt.models.backbones.one_layer(4, (8, 8, 1)).output_shape
        (None, 4)
    """
    images = keras.Input(input_shape)
    x = keras.layers.Rescaling(1 / 255)(images)
    x = keras.layers.Conv2D(filters, 3, activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(images, x, name="one_layer")
'''
SECOND_STAGE = '''
def equal_lengths():
    """Classifier weights of one length.

    Example:
        >>> stage = keras_lt.models.second_stages.equal_lengths()
    """
    return lambda model, extract, num_classes: tau_normalize(model, 1.0)
'''
DATA_SOURCE = '''
import numpy as np

from keras_lt.datasets.base import Dataset


def load(split):
    """Pictures with a stripe in every second or third row."""
    del split
    images = np.zeros((18, 8, 8, 1), np.uint8)
    images[:9, ::2] = images[9:, ::3] = 255
    return Dataset(images, np.arange(18) // 9, ["second", "third"])
'''
SCORE = """
        Score(
            "highest_recall",
            "highest recall",
            "accuracy on the class with the highest",
            is_headline=True,
            of=lambda tally: tally.recalls.max(-1),
        ),
"""
# What the copy is used for: each new object by its name.
USE = '''
"""The new objects by their names."""

import keras
import numpy as np

import keras_lt
from keras_lt.models import auxiliary, backbones, second_stages

train = keras_lt.datasets.load("stripes", split="train")
backbone = backbones.get("one_layer(4)", input_shape=train.image_shape)
tasks, weights = auxiliary.get("brightness(weight=0.5)")
model = keras_lt.models.DualBranch(
    backbone, 2, auxiliary=tasks, auxiliary_weight=weights
)
loss = keras_lt.losses.get("squared_error(factor=2.0)")
model.compile("sgd", loss)
transform = keras_lt.preprocessing.get("invert|pad_crop_flip(1)")
branches = {
    name: keras_lt.streams.stream(
        train,
        sampling="cube_root",
        batch_size=4,
        seed=0,
        name=name,
        transform=transform,
    )
    for name in ("balanced", "random")
}
model.fit(keras_lt.streams.zipped(branches), steps_per_epoch=1, verbose=0)
logits = model.predict(train.images, verbose=0)
scores = keras_lt.metrics.evaluate(logits, train.labels, train.class_counts)
assert 0 <= scores["highest_recall"] <= 1
assert "highest_recall" in keras_lt.metrics.summary(scores)
plain = keras_lt.models.classifier(backbone, 2)
second = second_stages.get("equal_lengths")(plain, None, 2)
assert second.predict(train.images, verbose=0).shape == (18, 2)
assert keras_lt.losses.SquaredError and keras_lt.preprocessing.invert
print(keras_lt.__file__)
'''


class Copy:
    """A copy of the library, and the files of it that are edited."""

    def __init__(self, root: Path):
        self.root = root
        self.edited = {}
        quiet = shutil.ignore_patterns("__pycache__")
        shutil.copytree(
            recipe.REPO / "keras_lt", root / "keras_lt", ignore=quiet
        )
        (root / "tests").mkdir()
        shutil.copy(recipe.REPO / "tests" / "test_layering.py", root / "tests")

    def new(
        self, kind: str, module: str, text: str, after: str | None = None
    ) -> None:
        """Adds a module, whose room is after that of another one.

        A package of one concept a file has a room for modules to come.
        """
        path = self.root / "keras_lt" / f"{module.replace('.', '/')}.py"
        assert not path.exists()
        path.write_text(f'"""{kind.capitalize()}, new."""\n{text}')
        self._count(kind, path)
        if after is None:
            return
        rooms = self.root / "tests" / "test_layering.py"
        place = f'    "keras_lt.{after}",\n'
        source = rooms.read_text()
        assert source.count(place) == 1
        room = f'    "keras_lt.{module}",\n'
        rooms.write_text(source.replace(place, place + room))

    def before(self, kind: str, path: Path, line: str, text: str) -> None:
        source = path.read_text()
        assert line in source, (path, line)
        path.write_text(source.replace(line, text + line, 1))
        self._count(kind, path)

    def register(self, kind: str, noun: str, entry: str, code: str) -> None:
        """Adds a name to the registry of a noun, and code in front of it."""
        pattern = rf'^\w+ = Registry\(\s+"{noun}",\s+\{{'
        for path in (self.root / "keras_lt").rglob("*.py"):
            found = re.search(pattern, path.read_text(), re.MULTILINE)
            if found:
                self.before(kind, path, found[0], f"{code}\n\n")
                source = path.read_text()
                path.write_text(source.replace(found[0], found[0] + entry))
                return
        raise LookupError(noun)

    def export(self, kind: str, package: str, module: str, name: str) -> None:
        path = self.root / "keras_lt" / package / "__init__.py"
        line = f"from keras_lt.{package}.{module} import {name}\n"
        self.before(kind, path, f"from keras_lt.{package}", line)
        self.before(kind, path, "]\n", f'    "{name}",\n')

    def _count(self, kind: str, path: Path) -> None:
        self.edited.setdefault(kind, set()).add(path)


def add_all(copy: Copy) -> None:
    library = copy.root / "keras_lt"
    copy.new("loss", "losses.squared_error", IMPORTS + LOSS)
    importing = "from keras_lt.losses.squared_error import SquaredError"
    entry = '"squared_error": SquaredError,'
    copy.register("loss", "loss", entry, importing)
    copy.export("loss", "losses", "squared_error", "SquaredError")

    copy.new("augmentation", "preprocessing.invert", AUGMENTATION)
    importing = "from keras_lt.preprocessing.invert import invert"
    entry = '"invert": invert,'
    copy.register("augmentation", "augmentation", entry, importing)
    copy.export("augmentation", "preprocessing", "invert", "invert")

    entry = '"cube_root": CubeRoot,'
    copy.register("sampler", "sampler", entry, SAMPLER)
    entry = '"brightness": Brightness,'
    copy.register("auxiliary task", "auxiliary task", entry, AUXILIARY)
    copy.register("backbone", "backbone", '"one_layer": one_layer,', BACKBONE)
    entry = '"equal_lengths": equal_lengths,'
    copy.register("second stage", "second stage", entry, SECOND_STAGE)

    copy.new("data source", "datasets.stripes", DATA_SOURCE, "datasets.base")
    loading = library / "datasets" / "loading.py"
    line = "from keras_lt.datasets.base import "
    importing = "from keras_lt.datasets import stripes\n"
    copy.before("data source", loading, line, importing)
    for line, text in (
        ("return _load_digits(split)", "return stripes.load(split)"),
        ('return ["train", "test"]', 'return ["train", "test"]'),
    ):
        copy.before(
            "data source",
            loading,
            f'    if name == "digits":\n        {line}',
            f'    if name == "stripes":\n        {text}\n',
        )
    scores = library / "metrics" / "scores.py"
    copy.before("score", scores, '        Score(\n            "top5"', SCORE)


def run_in(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
    )
    assert not done.returncode, done.stdout + done.stderr
    return done.stdout


def test_files_of_a_change(tmp_path):
    """As many as the table says, and no more than were allowed."""
    copy = Copy(tmp_path)
    add_all(copy)
    (tmp_path / "use.py").write_text(USE)
    assert str(tmp_path) in run_in(tmp_path, "use.py")
    layering = ("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests")
    run_in(tmp_path, *layering)

    rows = documents.table("keras_lt/README.md", "| change")
    allowed = {"second stage": 4, "data source": 4, "score": 2}
    assert [row[0] for row in rows] == sorted(copy.edited)
    for change, _, files, *_ in rows:
        assert len(copy.edited[change]) == int(files), copy.edited[change]
        assert int(files) <= allowed.get(change, 3)
