"""The class prior that trained logits carry."""

from typing import Any

import numpy as np

from keras_lt.counts import by_label
from keras_lt.messages import brief


def logit_prior(loss: Any, class_counts) -> np.ndarray:
    """Returns the class prior of logits that were trained with a loss.

    Cross-entropy makes logits that carry the class frequencies of the training
    images. Class weights multiply these frequencies, and the logit-adjusted
    losses take them out of the logits. A method `logit_prior(class_counts)` of
    the loss, as all losses of `keras_lt` for classes have, takes precedence; a
    loss without one leaves the frequencies as they are.

    Args:
        loss: A `keras.losses.Loss` or a function of labels and logits.
        class_counts: `(C,)` images per class that training drew, such as the
            sampler's expected counts; fractions are fine.

    Returns:
        float64 array, shape `(C,)`: relative frequencies, 1 for the rarest
        class and 0 for a class that was not drawn or has weight 0.
        `keras_lt.layers.LogitAdjustment` takes it.

    Raises:
        ValueError: If the counts are not valid, or the loss leaves a class
            without a prior, as a large `tau` can.

    Example:
        >>> drawn = [300, 100]
        >>> loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        >>> keras_lt.losses.logit_prior(loss, drawn)
        array([3., 1.])
        >>> loss = keras_lt.losses.BalancedSoftmax(drawn)
        >>> keras_lt.losses.logit_prior(loss, drawn)
        array([1., 1.])
    """
    own = getattr(loss, "logit_prior", None)
    return relative(class_counts) if own is None else own(class_counts)


def relative(class_counts) -> np.ndarray:
    """Returns class frequencies as multiples of the smallest positive one.

    Raises:
        ValueError: If they are no such numbers, or all are zero.
    """
    counts = by_label("class_counts", class_counts, np.float64)
    if (
        counts.ndim != 1
        or not (np.isfinite(counts) & (counts >= 0)).all()
        or not counts.any()
    ):
        raise ValueError(
            "Expected class_counts to be finite numbers of at least 0, not all "
            f"zero, of shape (C,). Received: class_counts={brief(counts)}"
        )
    return counts / counts[counts > 0].min()
