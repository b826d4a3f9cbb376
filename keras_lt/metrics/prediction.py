"""Scores of a whole data set, on one or several devices."""

from collections.abc import Callable, Iterable

import keras
import numpy as np
import tensorflow as tf

from keras_lt import distribute


def prediction_step(model: keras.Model) -> Callable:
    """`model(images, training=False)` as a traced function.

    Under a strategy of several devices each of this process's has a part of
    the images, whose number they divide.

    Example:
        >>> step = keras_lt.metrics.prediction_step(model)
        >>> batches = keras_lt.streams.evaluation(test, 100)
        >>> logits, labels = keras_lt.metrics.predict(model, batches, step)
    """
    strategy = model.distribute_strategy
    replicas = distribute.local_replicas(strategy)

    def score(images):
        return tf.cast(model(images, training=False), "float32")

    if replicas == 1:
        return tf.function(score, reduce_retracing=True)

    def score_part(images):
        context = tf.distribute.get_replica_context()
        part = context.replica_id_in_sync_group % replicas
        size = images.shape[0] // replicas
        parts = tf.reshape(images, [replicas, size, *images.shape[1:]])
        return score(parts[part])

    @tf.function
    def step(images):
        parts = strategy.run(score_part, (images,))
        return tf.concat(strategy.experimental_local_results(parts), 0)

    return step


def predict(
    model: keras.Model,
    dataset: Iterable | Callable,
    step: Callable | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Scores and labels of a whole data set, in its order.

    Args:
        model: Maps images (B, ...) to scores (B, C).
        dataset: Finite `tf.data.Dataset` of batches (images, labels), such as
            `keras_lt.streams.evaluation` gives, whose weights, as a third,
            have no part in scores; or a function with an
            argument `shard`, (i, n), that gives the i-th of n parts of one,
            such as a `functools.partial` of it. Each process of the model's
            strategy then scores its part, and all have all scores.
        step: Result of `prediction_step(model)`, so that many calls trace
            once.

    Returns:
        Scores, float32 (N, C), and labels (N,).

    Raises:
        ValueError: If `dataset` is empty or infinite, or gives something else
            than batches of as many images as labels.

    Example:
        >>> logits, labels = keras_lt.metrics.predict(
        ...     model, keras_lt.streams.evaluation(test, 100)
        ... )
        >>> logits.shape
        (450, 10)
    """
    strategy = model.distribute_strategy
    is_sharded = callable(dataset)
    if is_sharded:
        dataset = dataset(shard=distribute.shard(strategy))
    if getattr(dataset, "cardinality", lambda: None)() == -1:
        raise ValueError(
            "Expected a finite `dataset`. Received: an infinite one"
        )
    step = step or prediction_step(model)
    replicas = distribute.local_replicas(strategy)
    batches, size = [], 0
    for images, own in map(_images_and_labels, dataset):
        rows = len(own)
        if replicas > 1:  # all batches as large as the first one
            size = max(size, -(-rows // replicas) * replicas)
            others = [[0, 0]] * (len(images.shape) - 1)
            images = tf.pad(images, [[0, size - rows], *others])
        batches.append((step(images).numpy()[:rows], np.asarray(own)))
    if not batches:
        raise ValueError(
            "Expected `dataset` to have at least one batch. Received: none"
        )
    scores, labels = (
        np.concatenate(part) for part in zip(*batches, strict=True)
    )
    if is_sharded:
        scores = distribute.gather(strategy, scores)
        labels = distribute.gather(strategy, labels)
    return scores, labels


def _images_and_labels(batch) -> tuple[tf.Tensor, tf.Tensor]:
    """Those of a batch, weights left out."""
    is_plain = isinstance(batch, (tuple, list)) and all(
        hasattr(part, "shape") for part in batch
    )
    shapes = [tuple(part.shape) for part in batch] if is_plain else []
    if not (
        2 <= len(shapes) <= 3
        and len(shapes[0]) >= 2
        and shapes[1]
        and shapes[0][0] == shapes[1][0]
    ):
        received = f"shapes {shapes}" if shapes else type(batch).__name__
        raise ValueError(
            "Expected `dataset` to give batches (images (B, ...), labels "
            f"(B,)), such as tf.data.Dataset.batch makes. Received: {received}"
        )
    return batch[0], batch[1]
