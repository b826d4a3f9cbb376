"""Time of an epoch of CIFAR-10-LT after a checkpoint, over one without.

ResNet-32, 97 steps of 128 images, in one `fit` that writes a
checkpoint every second epoch. The training waits for a copy of the state,
and shares the processor with its writing in the epoch that follows.
"""

import statistics
import tempfile
import time

import numpy as np

from benchmarks.steps import (
    fast_precisions,
    keras_steps,
    random_batch,
    resnet32,
)
from benchmarks.turns import WARM_UP


def measure(rounds: int) -> dict:
    import keras

    from keras_lt import callbacks
    from keras_lt.models import classifier

    run = keras_steps(
        classifier(resnet32(fast_precisions()[-1]), 10, l2=1e-4), random_batch()
    )
    run(WARM_UP)
    ends, waits = [], []

    class Timed(callbacks.Checkpointing):
        def _save(self) -> None:
            begin = time.perf_counter()
            super()._save()
            waits.append(time.perf_counter() - begin)

    clock = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: ends.append(time.perf_counter())
    )
    with tempfile.TemporaryDirectory() as folder:
        timed = Timed(folder, save_freq_epochs=2, save_freq_minutes=10)
        run(97, epochs=2 * rounds + 2, callbacks=[clock, timed])
    # The epochs from the third on; the first checkpoint is after the second.
    seconds = np.diff(ends)[1:].reshape(rounds, 2)
    with_one, without = seconds.T
    return {
        "seconds_epoch": statistics.median(without),
        "seconds_epoch_with_checkpoint": statistics.median(with_one),
        "milliseconds_wait": 1e3 * statistics.median(waits),
        "ratio_with_over_without": statistics.median(with_one / without),
    }
