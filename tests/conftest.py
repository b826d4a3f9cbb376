"""Session set-up: quiet backend, two logical CPUs, golden summary."""

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
