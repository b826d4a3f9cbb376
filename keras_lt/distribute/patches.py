"""What is replaced in Keras and TensorFlow, for several devices alone.

`keras_lt.distribute.strategy` imports this module when it is asked for more
than one device. Each patch names the versions it was written for. One whose
original has another signature is refused: newer versions may need another patch
or none. setup.cfg allows no version beyond these; `tools/versions.sh newest`
tests with the newest ones there are, and tests/test_distribute.py fails for a
patch that is needed no more.
"""

import dataclasses
import importlib
import inspect
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Patch:
    """A function of another package, and what takes its place.

    Attributes:
        package: "keras" or "tensorflow".
        versions: The first version it is for, and the first one that it is not
            known to be for.
        module: The module of the original.
        name: Its name there, "Class.method" or "function".
        signature: The parameters of the original.
        replacement: Makes what takes its place of the original.

    Example:
        >>> from keras_lt.distribute import patches
        >>> patch = patches.PATCHES[0]
        >>> isinstance(patch, patches.Patch), patch.package
        (True, 'keras')
    """

    package: str
    versions: tuple[str, str]
    module: str
    name: str
    signature: str
    replacement: Callable[[Callable], Callable]

    def find(self) -> tuple[Any, str, Callable]:
        """Where the original stands: its owner, its name there, itself."""
        owner = importlib.import_module(self.module)
        *parents, name = self.name.split(".")
        for parent in parents:
            owner = getattr(owner, parent, None)
        return owner, name, getattr(owner, name, None)

    def apply(self) -> None:
        """Replaces the original, once.

        Raises:
            RuntimeError: If it is absent or has another signature.
        """
        owner, name, original = self.find()
        if getattr(original, "keras_lt_original", None) is not None:
            return
        found = "none"
        if original is not None:
            parameters = inspect.signature(original).parameters
            found = f"({', '.join(parameters)})"
        if found != self.signature:
            version = importlib.import_module(self.package).__version__
            first, beyond = self.versions
            raise RuntimeError(
                f"Expected {self.module}.{self.name}{self.signature} of "
                f"{self.package} from {first} to below {beyond}, which is "
                "replaced to train on several devices. "
                f"Received: {found}, of {self.package} {version}"
            )
        replacement = self.replacement(original)
        replacement.keras_lt_original = original
        setattr(owner, name, replacement)


def apply() -> None:
    """Applies all patches; does nothing a second time.

    Raises:
        RuntimeError: If an original is not the one that a patch was made for.

    Example:
        >>> from keras_lt.distribute import patches
        >>> patches.apply()
    """
    for patch in PATCHES:
        patch.apply()


def _building_of_one_batch(original: Callable) -> Callable:
    """`_maybe_symbolic_build` that does not average over processes.

    To build metrics Keras averages the batches of the replicas, which several
    processes can't (keras issue 20585). Shapes are all that it wants: one
    batch has them.
    """
    del original

    def _maybe_symbolic_build(self, iterator=None, data_batch=None) -> None:
        strategy = self._distribute_strategy
        if strategy is None:
            return
        if iterator is not None:
            for _, _, batches in iterator:
                data_batch = keras.tree.map_structure(
                    lambda part: strategy.experimental_local_results(part)[0],
                    next(batches),
                )
                break
        with strategy.scope():
            self._symbolic_build(data_batch=data_batch)

    return _maybe_symbolic_build


def _mean_over_processes(original: Callable) -> Callable:
    """`reduce_per_replica` that averages numbers, not their first axis.

    Keras averages what the processes log over its first axis, which numbers do
    not have, and which is that of the classes where one is logged for each
    class (keras issue 20585).
    """

    def reduce_per_replica(values, strategy, reduction):
        is_of_processes = isinstance(
            strategy, tf.distribute.MultiWorkerMirroredStrategy
        )
        if reduction == "auto" and is_of_processes:
            return keras.tree.map_structure(
                lambda value: strategy.reduce("MEAN", value, axis=None), values
            )
        return original(values, strategy, reduction)

    return reduce_per_replica


def _queue_without_tuning(original: Callable) -> Callable:
    """`_create_device_dataset` without tf.data's autotuning.

    TensorFlow has tf.data autotune the queue in front of each device, whatever
    the options of the data set. There is nothing to tune, and the end of the
    iterator, such as that of `fit`, waits for a thread that sleeps for as long
    as the iterator was used, a minute at most.
    """

    def _create_device_dataset(*arguments: Any) -> tf.data.Dataset:
        options = tf.data.Options()
        options.autotune.enabled = False
        return original(*arguments).with_options(options)

    return _create_device_dataset


PATCHES = (
    Patch(
        "keras",
        ("3.12", "3.16"),
        "keras.src.backend.tensorflow.trainer",
        "TensorFlowTrainer._maybe_symbolic_build",
        "(self, iterator, data_batch)",
        _building_of_one_batch,
    ),
    Patch(
        "keras",
        ("3.12", "3.16"),
        "keras.src.backend.tensorflow.trainer",
        "reduce_per_replica",
        "(values, strategy, reduction)",
        _mean_over_processes,
    ),
    Patch(
        "tensorflow",
        ("2.21", "2.22"),
        "tensorflow.python.data.ops.multi_device_iterator_ops",
        "_create_device_dataset",
        "(prototype_ds, incarnation_id, prefetch_buffer_size, "
        "experimental_slack)",
        _queue_without_tuning,
    ),
)
