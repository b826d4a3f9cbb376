"""Answers of a model for labeled images, checked once, scored many times."""

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

from keras_lt.counts import Classes
from keras_lt.metrics import check_scored

_ELEMENTS = 1 << 19  # logits in a chunk: what is made of them stays in caches


class Predictions:
    """Logits or predicted classes of labeled images, checked.

    Args:
        outputs: Logits (N, C), kept as they are, or predicted class ids,
            integers (N,), with -1 where a model refused to answer: a miss.
        labels: Class ids (N,) or (N, 1).
        classes: `keras_lt.counts.Classes`, or training images per class,
            integers (C,).

    Attributes:
        logits: (N, C), None where there are only predicted classes.
        predicted: Predicted class ids, int64 (N,).
        labels: int64 (N,).
        classes: `keras_lt.counts.Classes`.
        class_counts: int64 (C,).
        totals: Images of each class among these, int64 (C,).
        groups: Masks (C,) of the shot groups (`keras_lt.counts.shot_groups`).

    Raises:
        TypeError: As `keras_lt.counts.validate_class_counts`.
        ValueError: On logits that are not finite, shapes that do not agree,
            labels or predicted ids out of range, or bad class counts.

    Example:
        >>> predictions = keras_lt.evaluation.Predictions(
        ...     [[2.0, 0.0], [2.0, 0.0]], labels=[0, 1], classes=[500, 5]
        ... )
        >>> predictions.predicted
        array([0, 0])
    """

    def __init__(
        self,
        outputs: np.ndarray,
        labels: np.ndarray,
        classes: Classes | Sequence[int],
    ):
        outputs = np.asarray(outputs)
        classes = Classes.of(classes)
        self.classes = classes
        self.class_counts = classes.counts
        self.groups = classes.groups
        self.predicted, self.labels = check_scored(
            outputs, labels, self.num_classes
        )
        self.logits = outputs if outputs.ndim == 2 else None
        self.totals = np.bincount(self.labels, minlength=self.num_classes)

    @property
    def num_classes(self) -> int:
        return len(self.class_counts)

    def __len__(self) -> int:
        return len(self.labels)


def need_logits(predictions: Predictions, what: str) -> np.ndarray:
    """The logits, or an error that says what they are needed for.

    Raises:
        ValueError: If there are only predicted classes.
    """
    if predictions.logits is None:
        raise ValueError(
            f"Expected logits (N, C) for {what}. Received: predicted classes"
        )
    return predictions.logits


def over_chunks(
    function: Callable, logits: np.ndarray, *arrays: np.ndarray, rows: int = 1
) -> Iterator[Any]:
    """Gives what `function` makes of each chunk of rows, in their order.

    Chunks are worked on by as many threads as there are processors (NumPy
    works without Python's lock): 50,000 images of 8,142 classes are never
    copied as a whole.

    Args:
        function: Takes some rows of `logits` and of each of `arrays`.
        logits: (N, C).
        *arrays: Others of N rows.
        rows: Rows of a chunk at least, where what is made of one is large.
    """
    size = max(rows, _ELEMENTS // logits.shape[1])
    parts = [slice(i, i + size) for i in range(0, len(logits), size)]

    def work(part):
        return function(logits[part], *(array[part] for array in arrays))

    # Each thread multiplies matrices by itself: threads of theirs would wait
    # for each other.
    with _blas().limit(limits=1, user_api="blas"):
        if len(parts) == 1:
            yield work(parts[0])
            return
        with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
            yield from pool.map(work, parts)


@functools.cache  # it looks through all libraries of the process
def _blas() -> ThreadpoolController:
    return ThreadpoolController()
