"""What the processors of this machine compute fast, and in which precision."""

import functools
import os
import platform
import re
from pathlib import Path

import tensorflow as tf
from tensorflow.python.util import _pywrap_util_port

_CPUINFO = Path("/proc/cpuinfo")
# Extensions of x86 that multiply in bfloat16. TensorFlow has kernels that use
# bfloat16 units on x86 alone: on ARM it converts to float32 and back.
_BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16"})
# Extensions that decide how fast a network trains, for records.
_VECTOR = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16")


@functools.cache
def cpu_name() -> str:
    """Returns the processor's name, as its maker has it, or its kind.

    Example:
        >>> name = keras_lt.hardware.cpu_name()  # such as "AMD EPYC 9754"
    """
    match = re.search(r"^model name\s*: (.+)$", _cpuinfo(), re.MULTILINE)
    return match[1] if match else platform.processor() or platform.machine()


@functools.cache
def cpu_features() -> tuple[str, ...]:
    """Returns the extensions of x86 that matter to the speed of a training.

    They are named as Linux names them, of `avx2`, `avx512f`, `avx512_vnni`,
    `avx512_bf16` and `amx_bf16`. It is empty on other processors, and where
    there is no `/proc/cpuinfo`.

    Example:
        >>> fast_in_bfloat16 = "amx_bf16" in keras_lt.hardware.cpu_features()
    """
    match = re.search(r"^flags\s*: (.+)$", _cpuinfo(), re.MULTILINE)
    flags = match[1].split() if match else ()
    return tuple(feature for feature in _VECTOR if feature in flags)


def emulates_bfloat16() -> bool:
    """Says whether training in bfloat16 on this machine is emulated.

    So it is on a CPU without `avx512_bf16` or `amx_bf16` that trains alone, as
    most laptops do: TensorFlow then computes in float32 and rounds, which takes
    2 to 20 times as long as float32 by itself (`tools/benchmark.py train`).

    Example:
        >>> if keras_lt.hardware.emulates_bfloat16():
        ...     keras.config.set_dtype_policy("float32")
    """
    return not (_accelerators() or _BFLOAT16.intersection(cpu_features()))


def precision() -> str:
    """Returns the dtype policy that trains fast on this machine.

    - TPUs: `"mixed_bfloat16"`;
    - GPUs: `"mixed_bfloat16"` from compute capability 8.0 (Ampere) on,
      `"mixed_float16"` from 7.0 (Volta) on, else `"float32"`; of several GPUs
      the oldest decides, and one that does not say counts as old;
    - CPUs: `"mixed_bfloat16"` with `avx512_bf16` or `amx_bf16`, else
      `"float32"`.

    Example:
        >>> keras.config.set_dtype_policy(keras_lt.hardware.precision())
    """
    accelerators = _accelerators()
    if accelerators and accelerators[0].device_type == "GPU":
        details = map(tf.config.experimental.get_device_details, accelerators)
        oldest = min(d.get("compute_capability", (0, 0)) for d in details)
        if oldest < (7, 0):
            return "float32"
        return "mixed_bfloat16" if oldest >= (8, 0) else "mixed_float16"
    return "float32" if emulates_bfloat16() else "mixed_bfloat16"


def has_onednn() -> bool:
    """Says whether TensorFlow computes by oneDNN on this machine's CPU.

    TensorFlow leaves oneDNN off on CPUs without AVX-512, where a training step
    then takes about twice as long. The environment variable
    `TF_ENABLE_ONEDNN_OPTS=1`, set before TensorFlow is imported, turns it on;
    the recipes and tools set it, `import keras_lt` does not.

    Example:
        >>> onednn = keras_lt.hardware.has_onednn()
    """
    return bool(_pywrap_util_port.IsMklEnabled())


def misses_onednn() -> bool:
    """Says whether oneDNN is off where it would make a training faster.

    Example:
        >>> if keras_lt.hardware.misses_onednn():
        ...     print("Set TF_ENABLE_ONEDNN_OPTS=1 for faster training.")
    """
    is_x86 = platform.machine().lower() in ("x86_64", "amd64")
    return is_x86 and not _accelerators() and not has_onednn()


def summary() -> dict:
    """Returns what a record says of this machine's processors.

    Returns:
        `cpu` (name), `cpu_count`, `cpu_features`, `onednn` (bool) and
        `onednn_max_cpu_isa` (the environment variable that makes oneDNN take a
        CPU for a smaller one, or None).

    Example:
        >>> cores = keras_lt.hardware.summary()["cpu_count"]
    """
    return {
        "cpu": cpu_name(),
        "cpu_count": os.cpu_count(),
        "cpu_features": list(cpu_features()),
        "onednn": has_onednn(),
        "onednn_max_cpu_isa": os.environ.get("ONEDNN_MAX_CPU_ISA"),
    }


def _cpuinfo() -> str:
    try:
        return _CPUINFO.read_text()
    except OSError:  # no Linux
        return ""


def _accelerators() -> list:
    """The TPU cores that are connected, else the GPUs."""
    return tf.config.list_logical_devices(
        "TPU"
    ) or tf.config.list_physical_devices("GPU")
