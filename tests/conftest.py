"""Session set-up: quiet backend, two logical CPUs, golden summary."""

import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
os.environ["KERAS_BACKEND"] = "tensorflow"

import golden
import keras
import pytest
import tensorflow as tf

# Devices are fixed once TensorFlow has run anything, so it happens here.
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0],
    [tf.config.LogicalDeviceConfiguration()] * 2,
)


# Objects of these libraries, a million, are not looked at again and again.
gc.freeze()


# Files that take half a minute and more on two cores, the longest first.
LONG = (
    *("readme", "distribute", "cifar_lt", "stages", "sweep", "own_images"),
    *("dual_branch", "dlsa", "docstrings", "frozen", "calibrated_run"),
    *("checkpoints", "export", "xla", "tuned_runs", "evaluate_features"),
    *("hardware", "nonfinite", "common", "own_choices", "one_batch"),
    *("filenames", "two_moons", "contrastive", "averaging", "compare"),
    *("lists", "mistakes_page", "notebook"),
)


def pytest_collection_modifyitems(items):
    places = {f"test_{name}": place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONG)))


@pytest.fixture(autouse=True)
def seeded():
    """No test depends on those that ran before it in its process."""
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def two_replicas():
    """The session's one strategy of two replicas.

    A second one in the same process would reuse the first one's collective
    keys (tensorflow issue 62790, "Shape mismatch in the collective instance").
    """
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])


def pytest_sessionfinish(session):
    """A process of pytest-xdist tells the first one what it has visited."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["golden"] = golden.state()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    golden.add(getattr(node, "workeroutput", {}).get("golden", {}))


def pytest_terminal_summary(terminalreporter):
    for line in golden.summary_lines():
        terminalreporter.write_line(line)
