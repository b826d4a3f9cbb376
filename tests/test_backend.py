"""Keras on another backend is said at once, in a process of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]


def imported(module, **environment):
    return subprocess.run(
        [sys.executable, "-c", f"import {module}"],
        env={**os.environ, "PYTHONPATH": str(REPO), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.parametrize("backend", ["jax", "torch", "none such"])
@pytest.mark.parametrize("how", ["KERAS_BACKEND", "keras.json"])
def test_another_backend(backend, how, tmp_path):
    environment = {"KERAS_HOME": str(tmp_path)}
    if how == "KERAS_BACKEND":
        environment[how] = backend
    else:
        os.environ.pop("KERAS_BACKEND", None)
        settings = {
            "backend": backend,
            "floatx": "float32",
            "epsilon": 1e-7,
            "image_data_format": "channels_last",
        }
        (tmp_path / how).write_text(json.dumps(settings))
    done = imported("keras_lt.losses", **environment)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("ImportError: Expected Keras on TensorFlow")
    assert f"Received: Keras on {'none' if ' ' in backend else backend}" in last
    assert "tensorflow/python" not in done.stderr
