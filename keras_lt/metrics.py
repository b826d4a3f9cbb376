"""Long-tail metrics as `keras.metrics.Metric`, and `evaluate` of a test set.

Metrics take labels in every form that `keras_lt.labels` describes, so that one
metric serves training on mixed labels and validation on label ids. They know
their direction: `EarlyStopping(monitor="val_balanced")` needs no `mode`.
"""

from collections.abc import Callable, Iterable, Sequence

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_lt import distribute
from keras_lt.arguments import integer, real
from keras_lt.counts import shot_groups, validate_class_counts
from keras_lt.labels import IGNORED, class_ids

GROUPS = ("many", "medium", "few", "unseen")
MAX_CONFUSION_CLASSES = 1000
_CHUNK = 4096


def _check_rank(y_pred):
    y_pred = ops.convert_to_tensor(y_pred)
    if len(y_pred.shape) != 2 or y_pred.shape[-1] == 1:
        raise ValueError(
            "Expected `y_pred` of shape (batch, num_classes), 2 classes at "
            f"least. Received: y_pred.shape={tuple(y_pred.shape)}"
        )
    return y_pred


def _check_scores(y_pred, num_classes: int):
    y_pred = ops.convert_to_tensor(y_pred)
    if len(y_pred.shape) != 2 or y_pred.shape[-1] != num_classes:
        raise ValueError(
            f"Expected `y_pred` of shape (batch, {num_classes}). "
            f"Received: y_pred.shape={tuple(y_pred.shape)}"
        )
    return y_pred


def _weights(sample_weight, labels, dtype):
    """Weights (B,), 0 for ignored labels."""
    known = labels != IGNORED
    if sample_weight is None:
        return ops.cast(known, dtype)
    weights = ops.reshape(ops.cast(sample_weight, dtype), (-1,))
    return ops.where(known, weights, ops.zeros_like(weights))


def _predicted(y_pred):
    return ops.cast(ops.argmax(y_pred, axis=-1), "int32")


def _divide_or_nan(numerator, denominator):
    safe = ops.where(denominator > 0, denominator, 1)
    nan = ops.cast(float("nan"), numerator.dtype)
    return ops.where(denominator > 0, numerator / safe, nan)


class _PerClass(keras.metrics.Metric):
    """Sums of hits and of images a class, 2 C numbers of state."""

    _direction = "up"

    def __init__(self, num_classes, name=None, dtype=None):
        num_classes = integer("num_classes", num_classes, 1)
        super().__init__(name=name, dtype=dtype)
        self.num_classes = num_classes
        self.correct, self.total = (
            self.add_weight(
                shape=(num_classes,),
                initializer="zeros",
                dtype=self.dtype,
                name=part,
            )
            for part in ("correct", "total")
        )

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_pred = _check_scores(y_pred, self.num_classes)
        labels = class_ids(y_true, self.num_classes)
        weights = _weights(sample_weight, labels, self.dtype)
        hits = ops.cast(_predicted(y_pred) == labels, self.dtype) * weights
        labels = ops.maximum(labels, 0)
        self.correct.assign_add(
            ops.segment_sum(hits, labels, num_segments=self.num_classes)
        )
        self.total.assign_add(
            ops.segment_sum(weights, labels, num_segments=self.num_classes)
        )

    def _macro(self, mask=None):
        """Mean accuracy over the classes of `mask` that have images."""
        present = ops.cast(self.total > 0, self.dtype)
        if mask is not None:
            present = present * ops.cast(mask, self.dtype)
        safe = ops.where(self.total > 0, self.total, 1)
        return _divide_or_nan(
            ops.sum(present * self.correct / safe), ops.sum(present)
        )


@keras.saving.register_keras_serializable(package="keras_lt")
class Top1Accuracy(keras.metrics.Metric):
    """Share of the images whose class has the highest score.

    It takes label ids and rows of shares in turn; of a row, as mixing makes
    it, the class of the largest share counts. Keras' `metrics=["accuracy"]`
    settles for the form that it sees first: trained on mixed labels it scores
    label ids of a hold-out 0. NaN before any image.

    Args:
        name: Name of the metric.
        dtype: Dtype of state and result.

    Raises:
        ValueError: If scores are not of rank 2, or labels are neither ids nor
            rows of as many.

    Example:

    >>> metric = keras_lt.metrics.Top1Accuracy()
    >>> scores = [[2.0, 0.0], [2.0, 0.0]]
    >>> float(metric([0, 1], scores)), float(metric([[0.7, 0.3]], scores[:1]))
    (0.5, 0.6666666865348816)
    """

    _direction = "up"

    def __init__(self, name: str = "top1", dtype: str | None = None):
        super().__init__(name=name, dtype=dtype)
        self.correct, self.total = (
            self.add_weight(
                shape=(), initializer="zeros", dtype=self.dtype, name=part
            )
            for part in ("correct", "total")
        )

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_pred = _check_rank(y_pred)
        labels = class_ids(y_true, y_pred.shape[-1])
        weights = _weights(sample_weight, labels, self.dtype)
        hits = ops.cast(_predicted(y_pred) == labels, self.dtype)
        self.correct.assign_add(ops.sum(hits * weights))
        self.total.assign_add(ops.sum(weights))

    def result(self):
        return _divide_or_nan(
            ops.convert_to_tensor(self.correct),
            ops.convert_to_tensor(self.total),
        )


@keras.saving.register_keras_serializable(package="keras_lt")
class BalancedAccuracy(_PerClass):
    """Mean over classes of the accuracy on each class' images.

    `(1 / P) sum_c correct_c / total_c` over the P classes that occur in
    the labels (macro recall; Brodersen et al., ICPR 2010). On a test set with
    equally many images a class it equals top-1. NaN before any image.

    Args:
        num_classes: C.
        name: Name of the metric.
        dtype: Dtype of state and result.

    Raises:
        ValueError: If `num_classes` is not a positive integer, or scores are
            not of shape (batch, C).

    Example:
        >>> metric = keras_lt.metrics.BalancedAccuracy(num_classes=2)
        >>> logits = [[2.0, 0.0], [0.0, 2.0], [2.0, 0.0], [2.0, 0.0]]
        >>> round(float(metric([0, 0, 0, 1], logits)), 3)
        0.333
    """

    def __init__(
        self,
        num_classes: int,
        name: str = "balanced",
        dtype: str | None = None,
    ):
        super().__init__(num_classes, name=name, dtype=dtype)

    def result(self):
        return self._macro()

    def get_config(self):
        return {**super().get_config(), "num_classes": self.num_classes}


@keras.saving.register_keras_serializable(package="keras_lt")
class PerClassAccuracy(_PerClass):
    """Accuracy on each class' images, a vector (C,) by label id.

    A class with no image is NaN. The vector reaches `history` and callbacks
    as it is; Keras' progress bar prints its mean. Before Keras 3.13, which
    needs Python 3.11, the bar fails on it: `verbose=0` leaves it out.

    Args:
        num_classes: C.
        name: Name of the metric.
        dtype: Dtype of state and result.

    Raises:
        ValueError: As in `BalancedAccuracy`.

    Example:
        >>> metric = keras_lt.metrics.PerClassAccuracy(num_classes=3)
        >>> metric([0, 0, 1], [[2.0, 0, 0], [0, 2.0, 0], [0, 2.0, 0]]).numpy()
        array([0.5, 1. , nan], dtype=float32)
    """

    def __init__(
        self,
        num_classes: int,
        name: str = "per_class",
        dtype: str | None = None,
    ):
        super().__init__(num_classes, name=name, dtype=dtype)

    def result(self):
        return _divide_or_nan(
            ops.convert_to_tensor(self.correct),
            ops.convert_to_tensor(self.total),
        )

    def get_config(self):
        return {**super().get_config(), "num_classes": self.num_classes}


@keras.saving.register_keras_serializable(package="keras_lt")
class ShotAccuracy(_PerClass):
    """Accuracy on the many-, medium-, few-shot or unseen classes.

    Groups are those of `keras_lt.counts.shot_groups`: more than `many`
    training images, `few` to `many`, 1 to fewer than `few`, and none (Liu et
    al., CVPR 2019; their code and DLSA's count the unseen as few-shot). With
    `average="macro"` the value is the mean over the group's classes of the
    accuracy on each class' images, classes without an image left out; with
    `"pooled"` it is the accuracy over the group's images, as in the BNS code.
    A group that is empty, or has no image, is NaN.

    Args:
        class_counts: Training images a class, integers (C,).
        group: `"many"`, `"medium"`, `"few"` or `"unseen"`.
        many: A class with more training images is many-shot.
        few: A class with fewer training images is few-shot.
        average: `"macro"` or `"pooled"`.
        name: Name of the metric, `group` by default.
        dtype: Dtype of state and result.

    Raises:
        ValueError: If an argument is none of the above, or scores are not of
            shape (batch, C).

    Example:
        >>> metric = keras_lt.metrics.ShotAccuracy([500, 50, 5], group="few")
        >>> float(metric([2, 2, 0], [[0, 0, 9.0], [9.0, 0, 0], [9.0, 0, 0]]))
        0.5
    """

    def __init__(
        self,
        class_counts: Sequence[int],
        group: str,
        many: int = 100,
        few: int = 20,
        average: str = "macro",
        name: str | None = None,
        dtype: str | None = None,
    ):
        if group not in GROUPS:
            raise ValueError(
                f"Expected `group` to be one of {GROUPS}. "
                f"Received: group={group!r}"
            )
        if average not in ("macro", "pooled"):
            raise ValueError(
                "Expected `average` to be 'macro' or 'pooled'. "
                f"Received: average={average!r}"
            )
        class_counts = validate_class_counts(class_counts)
        mask = shot_groups(class_counts, many=many, few=few)[group]
        super().__init__(len(mask), name=name or group, dtype=dtype)
        self.class_counts = class_counts.tolist()
        self.group = group
        self.many = real("many", many)
        self.few = real("few", few)
        self.average = average
        self._mask = mask

    def result(self):
        if self.average == "macro":
            return self._macro(self._mask)
        mask = ops.cast(self._mask, self.dtype)
        return _divide_or_nan(
            ops.sum(mask * self.correct), ops.sum(mask * self.total)
        )

    def get_config(self):
        return {
            **super().get_config(),
            "class_counts": self.class_counts,
            "group": self.group,
            "many": self.many,
            "few": self.few,
            "average": self.average,
        }


@keras.saving.register_keras_serializable(package="keras_lt")
class ConfusionMatrix(keras.metrics.Metric):
    """Number of images by true class (row) and predicted class (column).

    It counts images: an image of `sample_weight` 0 is left out, any other
    counts once. Before Keras 3.13 it needs `verbose=0`, as `PerClassAccuracy`
    does.

    Args:
        num_classes: C. The state holds C x C integers.
        name: Name of the metric.
        dtype: Ignored by the result, which is int32.

    Raises:
        ValueError: As in `BalancedAccuracy`.

    Example:
        >>> metric = keras_lt.metrics.ConfusionMatrix(num_classes=2)
        >>> metric([0, 0, 1], [[2.0, 0], [0, 2.0], [0, 2.0]]).numpy()
        array([[1, 1],
               [0, 1]], dtype=int32)
    """

    def __init__(
        self,
        num_classes: int,
        name: str = "confusion",
        dtype: str | None = None,
    ):
        num_classes = integer("num_classes", num_classes, 1)
        super().__init__(name=name, dtype=dtype)
        self.num_classes = num_classes
        self.counts = self.add_weight(
            shape=(num_classes, num_classes),
            initializer="zeros",
            dtype="int32",
            name="counts",
        )

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_pred = _check_scores(y_pred, self.num_classes)
        labels = class_ids(y_true, self.num_classes)
        kept = _weights(sample_weight, labels, "float32") != 0
        labels = ops.maximum(labels, 0)
        cells = ops.segment_sum(
            ops.cast(kept, "int32"),
            labels * self.num_classes + _predicted(y_pred),
            num_segments=self.num_classes**2,
        )
        self.counts.assign_add(
            ops.reshape(cells, (self.num_classes, self.num_classes))
        )

    def result(self):
        return ops.convert_to_tensor(self.counts)

    def get_config(self):
        return {**super().get_config(), "num_classes": self.num_classes}


@keras.saving.register_keras_serializable(package="keras_lt")
class ExpectedCalibrationError(keras.metrics.Metric):
    """Expected calibration error of the predicted class' probability.

    `sum_m |B_m| / n * |acc(B_m) - conf(B_m)|` over `num_bins` equally wide
    bins ((m-1)/M, m/M] of confidence (Guo et al., ICML 2017, eq. 3). NaN
    before any image.

    Args:
        num_bins: M.
        from_logits: Whether scores are logits (softmax is applied) or
            probabilities.
        name: Name of the metric.
        dtype: Dtype of state and result.

    Raises:
        ValueError: If `num_bins` is not a positive integer, or scores are
            not of rank 2.

    Example:
        >>> metric = keras_lt.metrics.ExpectedCalibrationError(
        ...     num_bins=2, from_logits=False
        ... )
        >>> float(metric([0, 1], [[0.75, 0.25], [0.75, 0.25]]))
        0.25
    """

    _direction = "down"

    def __init__(
        self,
        num_bins: int = 15,
        from_logits: bool = True,
        name: str = "ece",
        dtype: str | None = None,
    ):
        num_bins = integer("num_bins", num_bins, 1)
        super().__init__(name=name, dtype=dtype)
        self.num_bins = num_bins
        self.from_logits = from_logits
        self.excess = self.add_weight(
            shape=(num_bins,),
            initializer="zeros",
            dtype=self.dtype,
            name="excess",
        )
        self.total = self.add_weight(
            shape=(), initializer="zeros", dtype=self.dtype, name="total"
        )

    def update_state(self, y_true, y_pred, sample_weight=None):
        y_pred = ops.cast(_check_rank(y_pred), self.dtype)
        if self.from_logits:
            y_pred = ops.softmax(y_pred, axis=-1)
        labels = class_ids(y_true, y_pred.shape[-1])
        weights = _weights(sample_weight, labels, self.dtype)
        confidence = ops.max(y_pred, axis=-1)
        hits = _predicted(y_pred) == labels
        bins = ops.cast(ops.ceil(confidence * self.num_bins), "int32") - 1
        self.excess.assign_add(
            ops.segment_sum(
                (ops.cast(hits, self.dtype) - confidence) * weights,
                ops.clip(bins, 0, self.num_bins - 1),
                num_segments=self.num_bins,
            )
        )
        self.total.assign_add(ops.sum(weights))

    def result(self):
        return _divide_or_nan(
            ops.sum(ops.abs(self.excess)),
            ops.convert_to_tensor(self.total),
        )

    def get_config(self):
        return {
            **super().get_config(),
            "num_bins": self.num_bins,
            "from_logits": self.from_logits,
        }


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
        step: What `prediction_step(model)` gave, so that many calls trace
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


def true_class_probabilities(logits, labels) -> tuple[np.ndarray, np.ndarray]:
    """Softmax probabilities of the true classes, and what they lack to 1.

    Args:
        logits: float (N, C).
        labels: Label ids, integers (N,).

    Returns:
        p and 1 - p, both float64 (N,) and exact where the other is close to 1.

    Raises:
        ValueError: On labels of another number or out of range.

    Example:
        >>> p, complements = keras_lt.metrics.true_class_probabilities(
        ...     [[0.0, 40.0]], [1]
        ... )
        >>> float(p[0]), float(complements[0])
        (1.0, 4.248354255291589e-18)
    """
    logits, labels = np.asarray(logits, np.float64), np.asarray(labels)
    _check_labels(labels, len(logits), logits.shape[-1])
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    rows = np.arange(len(logits))
    true = shares[rows, labels]
    shares[rows, labels] = 0.0
    others = shares.sum(axis=1)
    return true / (true + others), others / (true + others)


def evaluate(
    logits: np.ndarray,
    labels: np.ndarray,
    class_counts: Sequence[int],
    *,
    many: int = 100,
    few: int = 20,
) -> dict:
    """All figures of one scoring of a data set, ready for JSON.

    Args:
        logits: Scores (N, C), or predicted class ids, integers (N,), with -1
            for none: a miss, in no column of the confusion matrix.
        labels: Class ids (N,) or (N, 1).
        class_counts: Training images a class, integers (C,).
        many: A class with more training images is many-shot.
        few: A class with fewer training images is few-shot.

    Returns:
        `top1`, `balanced`, `many`, `medium`, `few`, `unseen` and `ece` as
        fractions (None for a group without an image), `per_class` (C
        fractions by label id, None for a class without an image),
        `confusion` (C x C integers, rows are true classes; None above
        1,000 classes) and `num_images`. Predicted ids have no confidence:
        `ece` is None.

    Raises:
        ValueError: On logits that are not finite, shapes that do not agree,
            or labels out of range.

    Example:
        >>> scores = keras_lt.metrics.evaluate(
        ...     [[2.0, 0.0], [2.0, 0.0]], [0, 1], class_counts=[500, 5]
        ... )
        >>> scores["few"]
        0.0
    """
    class_counts = validate_class_counts(class_counts)
    groups = shot_groups(class_counts, many=many, few=few)
    num_classes = len(class_counts)
    logits = np.asarray(logits)
    predicted, labels = check_scored(logits, labels, num_classes)
    ece = None
    if logits.ndim == 2:
        ece = _calibration_error(logits, labels)
    totals = np.bincount(labels, minlength=num_classes)
    hits = np.bincount(labels[predicted == labels], minlength=num_classes)
    present = totals > 0
    per_class = hits / np.maximum(totals, 1)

    def mean(mask):
        chosen = per_class[mask & present]
        return float(chosen.mean()) if chosen.size else None

    confusion = None
    if num_classes <= MAX_CONFUSION_CLASSES:
        seen = predicted >= 0
        confusion = np.zeros((num_classes, num_classes), np.int64)
        np.add.at(confusion, (labels[seen], predicted[seen]), 1)
        confusion = confusion.tolist()
    return {
        "top1": float(hits.sum() / totals.sum()),
        "balanced": mean(present),
        "ece": ece,
        **{group: mean(groups[group]) for group in GROUPS},
        "per_class": [
            float(value) if known else None
            for value, known in zip(per_class, present, strict=True)
        ],
        "confusion": confusion,
        "num_images": len(labels),
    }


def check_scored(
    logits: np.ndarray, labels: np.ndarray, num_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Checks what a model gave for labelled images.

    Args:
        logits: As `evaluate` takes them.
        labels: As `evaluate` takes them.
        num_classes: C.

    Returns:
        Predicted class ids, -1 for none, and labels, int64 (N,) both.

    Raises:
        ValueError: As `evaluate`.

    Example:
        >>> keras_lt.metrics.check_scored([[2.0, 0.0], [0.0, 2.0]], [1, 1], 2)
        (array([0, 1]), array([1, 1]))
    """
    logits, labels = np.asarray(logits), np.asarray(labels)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    predicted = logits
    if logits.ndim == 1 and logits.dtype.kind in "iu":
        _check_predicted(predicted, num_classes)
    else:
        _check_logits(logits, num_classes)
        predicted = logits.argmax(axis=1)
    _check_labels(labels, len(logits), num_classes)
    return predicted.astype(np.int64), labels.astype(np.int64)


def _check_logits(logits: np.ndarray, num_classes: int) -> None:
    if logits.ndim != 2 or logits.shape[1] != num_classes or not len(logits):
        raise ValueError(
            f"Expected `logits` of shape (N, {num_classes}), N > 0, for "
            f"{num_classes} class counts. "
            f"Received: logits.shape={logits.shape}"
        )
    finite = np.isfinite(logits).all(axis=1)
    if not finite.all():
        raise ValueError(
            "Expected finite `logits`. Received: NaN or infinity for "
            f"{(~finite).sum()} of {len(logits)} images"
        )


def _check_predicted(predicted: np.ndarray, num_classes: int) -> None:
    if not len(predicted) or not (
        -1 <= predicted.min() and predicted.max() < num_classes
    ):
        shown = "none"
        if len(predicted):
            shown = f"ids from {predicted.min()} to {predicted.max()}"
        raise ValueError(
            f"Expected predicted class ids from 0 to {num_classes - 1}, or -1 "
            f"for none, of at least one image. Received: {shown}"
        )


def _check_labels(labels: np.ndarray, size: int, num_classes: int) -> None:
    if labels.shape != (size,) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"Expected integer `labels` of shape ({size},). Received: "
            f"labels.shape={labels.shape}, labels.dtype={labels.dtype}"
        )
    if size and not 0 <= labels.min() <= labels.max() < num_classes:
        raise ValueError(
            f"Expected `labels` from 0 to {num_classes - 1}. Received: "
            f"labels from {labels.min()} to {labels.max()}"
        )


def _calibration_error(logits: np.ndarray, labels: np.ndarray) -> float:
    metric = ExpectedCalibrationError(dtype="float64")
    for start in range(0, len(logits), _CHUNK):
        part = slice(start, start + _CHUNK)
        metric.update_state(labels[part], logits[part])
    return float(metric.result())
