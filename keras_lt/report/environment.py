"""Software and machine of this process."""

import importlib
import platform
import subprocess
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_lt import hardware


def environment() -> dict:
    """Software and machine of this process.

    Returns:
        `python`, `tensorflow`, `keras`, `numpy`, `keras_lt` (versions),
        `platform`, what `keras_lt.hardware.summary()` gives, `devices`
        (names), `git_commit` of the checkout that holds keras_lt and
        `git_dirty` (both None outside git).

    Example:
        >>> environment = keras_lt.report.environment()
        >>> environment["keras_lt"] == keras_lt.__version__
        True
    """
    return {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "keras_lt": importlib.import_module("keras_lt").__version__,
        "platform": platform.platform(),
        **hardware.summary(),
        "devices": [_device_name(d) for d in tf.config.list_physical_devices()],
        **_git(),
    }


def _device_name(device) -> str:
    details = tf.config.experimental.get_device_details(device)
    name = details.get("device_name")
    kind = ":".join(device.name.split(":")[-2:])
    return f"{kind} ({name})" if name else kind


def _git() -> dict:
    folder = Path(__file__).resolve().parent

    def git(*arguments):
        return subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        ).stdout.strip()

    try:
        # An installed copy inside somebody's checkout is not that checkout's.
        git("ls-files", "--error-unmatch", "__init__.py")
        return {
            "git_commit": git("rev-parse", "HEAD"),
            "git_dirty": bool(git("status", "--porcelain")),
        }
    except (OSError, subprocess.SubprocessError):
        return {"git_commit": None, "git_dirty": None}
