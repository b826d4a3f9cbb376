"""Terms of DLSA's loss, from log-joint densities of a Gaussian mixture.

A flow with a mixture prior gives each sample log p_k(x) for K clusters; its
posterior over clusters is their softmax (Xu et al., ECCV 2022,
arXiv:2208.02567). A batch holds pairs of samples of different classes.
"""

import math

import numpy as np
from keras import ops

from keras_lt.arguments import real
from keras_lt.counts import validate_class_counts

CONTRASTS = ("soft_ce", "ce")


def weighted_likelihood(log_likelihood, weights):
    """Returns the weighted negative log-likelihood: -w_b log p(x_b).

    Args:
        log_likelihood: (B,).
        weights: (B,), such as those of `reversed_weights` by label.

    Returns:
        (B,), of the dtype of the log-likelihood.

    Example:
        >>> keras_lt.models.dlsa.weighted_likelihood(
        ...     tf.constant([-1.0, -3.0]), tf.constant([0.5, 2.0])
        ... ).numpy()
        array([0.5, 6. ], dtype=float32)
    """
    return -ops.cast(weights, log_likelihood.dtype) * log_likelihood


def cluster_contrast(
    log_joint,
    other_log_joint,
    freeze: bool = True,
    kind: str = "soft_ce",
    margin: float | None = None,
):
    """Drives pairs of different classes into different clusters.

    With the posteriors P of a sample and Q of its partner, it is the negative
    cross-entropy of the two, to be minimized:

    - `"soft_ce"`: sum_k P_k log Q_k, as published. It has no lower bound unless
      a margin m puts log(max(Q_k, m)) in place of log Q_k.
    - `"ce"`: log Q_k at the k where P_k is largest. P gets no gradient.

    Args:
        log_joint: log p_k of the samples (B, K).
        other_log_joint: log p_k of their partners (B, K).
        freeze: Whether no gradient goes into P, as published.
        kind: "soft_ce" or "ce".
        margin: m of "soft_ce", in (0, 1); None is no margin.

    Returns:
        (B,).

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> log_joint = np.log([[0.9, 0.1], [0.2, 0.8]])
        >>> contrast = keras_lt.models.dlsa.cluster_contrast(
        ...     log_joint, log_joint[::-1], kind="ce"
        ... )
        >>> contrast.numpy().round(2)
        array([-1.61, -2.3 ])
    """
    check_contrast(kind, margin)
    log_q = ops.log_softmax(other_log_joint)
    if kind == "ce":
        sure = ops.one_hot(
            ops.argmax(log_joint, axis=-1), log_q.shape[-1], dtype=log_q.dtype
        )
        return ops.sum(sure * log_q, axis=-1)
    posterior = ops.softmax(log_joint)
    if freeze:
        posterior = ops.stop_gradient(posterior)
    if margin is not None:
        log_q = ops.maximum(log_q, math.log(margin))
    return ops.sum(posterior * log_q, axis=-1)


def check_contrast(kind: str, margin: float | None) -> None:
    """Refuses what `cluster_contrast` can't take."""
    if kind not in CONTRASTS:
        raise ValueError(
            f"Expected kind to be one of {CONTRASTS}. Received: kind={kind!r}"
        )
    if margin is None:
        return
    if kind != "soft_ce" or not 0 < real("margin", margin) < 1:
        raise ValueError(
            'Expected a margin in (0, 1), of kind "soft_ce", or None. '
            f"Received: margin={margin}, kind={kind!r}"
        )


def cluster_balance(mean_posterior):
    """Returns how far the entropy of a mean posterior is below log K.

    Args:
        mean_posterior: (K,), positive, with sum 1 or nearly.

    Returns:
        A scalar.

    Example:
        >>> posterior = tf.constant([0.9, 0.1])
        >>> round(float(keras_lt.models.dlsa.cluster_balance(posterior)), 3)
        0.368
    """
    entropy = -ops.sum(mean_posterior * ops.log(mean_posterior))
    return np.log(mean_posterior.shape[-1]) - entropy


def running_posterior(log_joint, buffer, step, momentum: float | None):
    """Returns the mean posterior over batches, for `cluster_balance`.

    With p the mean over the batch plus 1e-7, the buffer b becomes
    m b + (1 - m) p, and the mean posterior is b / (1 - m^t), which corrects for
    the start from 0. No gradient goes into the old buffer.

    Args:
        log_joint: log p_k (B, K).
        buffer: b before this step (K,), 0 at first.
        step: t, from 1.
        momentum: m, in [0, 1); None for 0.

    Returns:
        The mean posterior (K,) and the new buffer (K,).

    Raises:
        ValueError: If the momentum is out of its range.

    Example:
        >>> mean, buffer = keras_lt.models.dlsa.running_posterior(
        ...     np.log([[0.9, 0.1], [0.2, 0.8]]), np.zeros(2), 1, momentum=0.7
        ... )
        >>> mean.numpy().round(2)
        array([0.55, 0.45])
    """
    momentum = 0.0 if momentum is None else float(real("momentum", momentum))
    if not 0 <= momentum < 1:
        raise ValueError(
            "Expected momentum in [0, 1), or None. "
            f"Received: momentum={momentum}"
        )
    current = ops.mean(ops.softmax(log_joint), axis=0) + 1e-7
    buffer = momentum * ops.stop_gradient(buffer) + (1.0 - momentum) * current
    dtype = buffer.dtype
    decay = ops.power(
        ops.convert_to_tensor(momentum, dtype), ops.cast(step, dtype)
    )
    return buffer / (1.0 - decay), ops.stop_gradient(buffer)


def reversed_weights(class_counts, power: float = 2.0) -> np.ndarray:
    """Returns class weights (n_max / n_c)^q, scaled to a sum of 1.

    Args:
        class_counts: Training samples per class, integers (C,).
        power: q, at least 0.

    Returns:
        float64 (C,); 0 for a class without samples.

    Raises:
        ValueError: If the power is negative.

    Example:
        >>> keras_lt.models.dlsa.reversed_weights([40, 20, 0], power=1).round(3)
        array([0.333, 0.667, 0.   ])
    """
    power = real("power", power)
    if not 0 <= power < np.inf:
        raise ValueError(f"Expected power >= 0. Received: power={power}")
    counts = validate_class_counts(class_counts)
    ratios = counts.max() / np.maximum(counts, 1)
    weights = np.where(counts > 0, ratios**power, 0.0)
    return weights / weights.sum()
