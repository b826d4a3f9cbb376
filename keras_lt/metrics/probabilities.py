"""Probabilities of the true classes, exact at either end."""

import numpy as np

from keras_lt.metrics.checks import check_labels


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
    check_labels(labels, len(logits), logits.shape[-1])
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    rows = np.arange(len(logits))
    true = shares[rows, labels]
    shares[rows, labels] = 0.0
    others = shares.sum(axis=1)
    return true / (true + others), others / (true + others)
