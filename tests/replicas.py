"""Trains small models under a strategy, and prints what they logged.

    python tests/replicas.py STRATEGY DEVICES STEPS FOLDER

A process of its own: TensorFlow's devices and collectives are those that it
starts with.
"""

import functools
import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf
from keras.src.backend.tensorflow import trainer

import keras_lt
from keras_lt import distribute, layers, losses, models, streams

BATCH_SIZE = 16
# Before a strategy mends them.
KERAS_BUILD = trainer.TensorFlowTrainer._maybe_symbolic_build
KERAS_REDUCE = trainer.reduce_per_replica


def backbone():
    """Two convolutions: enough to synchronize, and traced in a second."""
    images = keras.Input((8, 8, 1))
    maps = layers.ImageNormalization([80.0], [80.0**2])(images)
    for width in (8, 16):
        maps = keras.layers.Conv2D(
            width, 3, 2, use_bias=False, kernel_regularizer="l2"
        )(maps)
        maps = layers.FusedBatchNormalization(synchronized=True)(maps)
        maps = keras.layers.ReLU()(maps)
    return keras.Model(
        images, keras.layers.GlobalAveragePooling2D()(maps), name="backbone"
    )


def single(counts):
    model = models.classifier(backbone(), len(counts), l2=1e-4)
    # The weights of a global batch sum to one over all replicas.
    loss = losses.ClassBalancedCrossentropy(counts, normalizer="weight_sum")
    return model, loss


def dual_branch(counts, tune="all"):
    model = models.DualBranch(
        models.tuning.get(tune)(backbone()),
        len(counts),
        auxiliary=["classifier", "rotation"],
        l2=1e-4,
    )
    return model, losses.BalancedSoftmax(counts)


def tuned(counts):
    # A low-rank change is float32 in Keras, whatever floatx is.
    return dual_branch(counts, "norm_and_bias")


def contrastive(counts):
    model = models.ContrastivePretrainer(backbone(), 16, l2=1e-4)
    return model, losses.BalancedNegativeSampling()


def batches(name, data, shard):
    stream = functools.partial(
        streams.stream, data, batch_size=BATCH_SIZE, seed=0, shard=shard
    )
    if name == "single":
        return stream(sampling="random")
    if name in ("dual_branch", "tuned"):
        return streams.zipped(
            {
                "balanced": stream(sampling="class_balanced"),
                "random": stream(sampling="random"),
            }
        )
    views = keras_lt.preprocessing.two_views(keras_lt.preprocessing.simclr())
    return stream(sampling="random", transform=views)


def defects(strategy, model, make) -> list[str]:
    """Which of Keras' own functions fail under several processes."""
    data = iter(distribute.dataset(strategy, make))
    attempts = {
        "build": lambda: KERAS_BUILD(model, iterator=[(0, 1, data)]),
        "reduce": lambda: KERAS_REDUCE(tf.constant(1.0), strategy, "auto"),
    }
    found = []
    for what, attempt in attempts.items():
        try:
            attempt()
        except (TypeError, ValueError, tf.errors.OpError):
            found.append(what)
    return found


def features_of(model, data, folder) -> list[list[float]]:
    """Some of the features, of which each process computes a share."""
    keras_lt.features.extraction.PART_ROWS = 100
    path = os.path.join(folder, "features.npy")
    kept = keras_lt.features.extract_to(path, model, data)
    assert os.listdir(folder) == ["features.npy"]
    return kept.features[::17].tolist()


def main(name: str, devices: str, steps: str, folder: str) -> None:
    # In float32 the sides of ReLUs on which rounding puts a few activations
    # differ, and the runs part at 1e-5 after 10 to 50 steps.
    keras.config.set_floatx("float64")
    strategy = distribute.strategy(name, int(devices) or None)
    data = keras_lt.datasets.load("digits", split="train")
    data = keras_lt.datasets.long_tail(data, 20)
    found = {"shard": distribute.shard(strategy)}
    for make in (single, dual_branch, tuned, contrastive):
        keras.utils.set_random_seed(0)
        with strategy.scope():
            model, loss = make(data.class_counts)
            metrics = [
                keras_lt.metrics.BalancedAccuracy(10, name="balanced"),
                keras_lt.metrics.PerClassAccuracy(10),
            ]
            model.compile(
                keras.optimizers.SGD(0.05, momentum=0.9),
                loss,
                metrics=None if make is contrastive else metrics,
            )
        kind = make.__name__
        data_of = functools.partial(batches, kind, data)
        if name == "multi_worker" and make is single:
            found["defects"] = defects(strategy, model, data_of)
        curve = []

        class Curve(keras.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None, curve=curve):
                curve.append(float(logs["loss"]))

        history = model.fit(
            distribute.dataset(strategy, data_of),
            steps_per_epoch=1,
            epochs=int(steps),
            callbacks=[Curve()],
            shuffle=False,
            verbose=0,
        ).history
        found[kind] = {
            "loss": curve,
            "logs": {k: np.asarray(v[-1]).tolist() for k, v in history.items()},
        }
        if make is single:
            evaluation = functools.partial(streams.evaluation, data, 50)
            scores, labels = keras_lt.metrics.predict(model, evaluation)
            found["scores"] = scores[::7].tolist()
            found["labels"] = labels.tolist()
            found["features"] = features_of(model, data, folder)
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
