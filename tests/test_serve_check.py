"""tools/serve_check.py on a real SavedModel, in a process of its own."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import recipe
import tensorflow as tf

from keras_lt import export

sys.path.insert(0, str(recipe.REPO / "tools"))

import serve_check

ALONE = """
import runpy
import sys

sys.argv = ["serve_check.py", *sys.argv[1:]]
tools = TOOLS
sys.path.insert(0, tools)
import tensorflow

before = set(sys.modules)  # TensorFlow imports some of Keras by itself
runpy.run_path(f"{tools}/serve_check.py", run_name="__main__")
late = {name.split(".")[0] for name in set(sys.modules) - before}
assert not {"keras", "keras_lt"} & late, late
""".replace("TOOLS", repr(str(recipe.REPO / "tools")), 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    inputs = keras.Input((8, 8, 1))
    outputs = keras.layers.Dense(3)(keras.layers.Flatten()(inputs))
    path = tmp_path_factory.mktemp("served") / "saved_model"
    export.save(keras.Model(inputs, outputs), path)
    return path


def check(*arguments):
    return subprocess.run(
        [sys.executable, "-c", ALONE, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_figures_by_tensorflow_alone(folder, tmp_path):
    done = check(
        folder,
        "--requests=41",
        "--threads=4",
        "--batch_sizes",
        "1",
        "3",
        "--seconds=0.1",
        f"--output={tmp_path / 'figures.json'}",
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["requests"] == 41 and figures["errors"] == 0
    for suffix in ("batch_1", "batch_3", "threads"):
        p50, p99 = (figures[f"milliseconds_p{p}_{suffix}"] for p in (50, 99))
        assert 0 < p50 <= p99
    assert figures["images_per_second_batch_3"] > 0
    assert figures["environment"]["image_shape"] == [8, 8, 1]
    assert "milliseconds_p99_threads" in done.stdout


@pytest.mark.parametrize("what", ["nothing", "another", "shape", "outputs"])
def test_refuses_what_is_no_model_of_ours(what, tmp_path):
    path = tmp_path / "saved_model"
    if what == "another":
        tf.saved_model.save(tf.Module(), path)
    if what in ("shape", "outputs"):
        shape = (None, 8) if what == "shape" else (None, 8, 8, 1)
        module = tf.Module()
        module.serve = tf.function(
            lambda images: {"scores": images},
            [tf.TensorSpec(shape, tf.float32, "images")],
        )
        names = ("serving_default", "serve_float")
        signatures = dict.fromkeys(names, module.serve)
        tf.saved_model.save(module, path, signatures)
    done = check(path)
    assert done.returncode == 1
    (line,) = (x for x in done.stderr.splitlines() if "error: " in x)
    assert line.startswith("serve_check.py: error: ") and str(path) in line


def images(count):
    return tf.fill((count, 8, 8, 1), tf.constant(3, tf.uint8))


@pytest.mark.parametrize("failing", ["raises", "differs"])
def test_wrong_answers_are_counted(failing):
    calls = []

    def serve(images):
        calls.append(1)
        late = len(calls) > serve_check.DISTINCT
        if late and len(calls) % 5 == 0 and failing == "raises":
            raise tf.errors.InternalError(None, None, "lost")
        wrong = late and len(calls) % 5 == 0
        return {"logits": tf.constant([[1.0, np.nan if wrong else 2.0]])}

    # Calls 17 to 46 are those of the threads: 20, 25, ... 45 go wrong.
    figures, wrong = serve_check.from_threads(serve, images, 30, 1)
    assert figures["errors"] == len(wrong) == 6
    assert wrong[0].startswith(
        "InternalError: lost" if failing == "raises" else "logits that differ"
    )
