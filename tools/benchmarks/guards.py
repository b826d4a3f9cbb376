"""What --deterministic and --skip_nonfinite cost a step of ResNet-32."""

import statistics
from collections.abc import Callable

from benchmarks.steps import keras_steps, random_batch, resnet32
from benchmarks.turns import BATCH, Variant, ratio, take_turns


def guarded_step(guard: str) -> Callable[[int], None]:
    import tensorflow as tf

    from keras_lt import callbacks
    from keras_lt.models import classifier

    if guard == "deterministic":
        tf.config.experimental.enable_op_determinism()
    model = classifier(resnet32("float32"), 10, l2=1e-4)
    run = keras_steps(model, random_batch())
    if guard != "skip_nonfinite":
        return run
    skip = callbacks.SkipNonFinite(model, 1)
    return lambda steps: run(steps, callbacks=[skip])


def measure(rounds: int) -> dict:
    names = ("plain", "deterministic", "skip_nonfinite")
    variants = {name: Variant(guarded_step, name) for name in names}
    speeds = take_turns(variants, rounds, steps=10)
    return {
        **{
            f"milliseconds_{name}": 1e3 * BATCH / statistics.median(values)
            for name, values in speeds.items()
        },
        **{
            f"ratio_{name}_over_plain": ratio(speeds, "plain", name)
            for name in names[1:]
        },
    }
