"""Images per second of exported models, divided and not."""

import statistics
import tempfile
from collections.abc import Callable

from benchmarks.steps import random_batch, resnet32
from benchmarks.turns import Variant, ratio, take_turns


def exported(depth: int) -> Callable[[int], None]:
    """Predictions of a SavedModel: a classifier, or a DLSA of that depth."""
    import tensorflow as tf

    from keras_lt import export
    from keras_lt.models import DLSA, classifier, stack

    model = classifier(resnet32("float32"), 10)
    if depth:
        model = stack(model, DLSA(10, 64, depth=depth))
    with tempfile.TemporaryDirectory() as folder:
        export.save(model, f"{folder}/model")
        loaded = tf.saved_model.load(f"{folder}/model")
    images = tf.constant(random_batch()[0])

    def run(steps: int) -> None:
        for _ in range(steps):
            loaded.serving_default(images)

    return run


def measure(rounds: int) -> dict:
    variants = {
        "backbone": Variant(exported, 0),
        "depth_1": Variant(exported, 1),
        "depth_3": Variant(exported, 3),
    }
    speeds = take_turns(variants, rounds, 20)
    return {
        f"images_per_second_{name}": statistics.median(values)
        for name, values in speeds.items()
    } | {
        f"ratio_{name}_over_backbone": ratio(speeds, name, "backbone")
        for name in ("depth_1", "depth_3")
    }
