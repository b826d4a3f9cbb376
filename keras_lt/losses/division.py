"""Terms of DLSA's loss, from log-joint densities of a Gaussian mixture.

A flow with a mixture prior gives each sample log p_k(x) for K clusters; its
posterior over clusters is their softmax (Xu et al., ECCV 2022,
arXiv:2208.02567). A batch holds pairs of samples of different classes.
"""

import numpy as np
from keras import ops

from keras_lt.counts import validate_class_counts


def weighted_likelihood(log_likelihood, weights):
    """Minus the log-likelihood, weighted: -w_b log p(x_b).

    Args:
        log_likelihood: (B,).
        weights: (B,), such as `reversed_weights` gives by class.

    Returns:
        (B,), of the dtype of the log-likelihood.

    Example:
        >>> keras_lt.losses.weighted_likelihood(
        ...     tf.constant([-1.0, -3.0]), tf.constant([0.5, 2.0])
        ... ).numpy()
        array([0.5, 6. ], dtype=float32)
    """
    return -ops.cast(weights, log_likelihood.dtype) * log_likelihood


def cluster_contrast(log_joint, other_log_joint, freeze: bool = True):
    """Drives pairs of different classes into different clusters.

    sum_k P_k log Q_k, with the posteriors P of a sample and Q of its partner:
    minus their cross-entropy, which is to grow. It has no lower bound.

    Args:
        log_joint: log p_k of a sample each row (B, K).
        other_log_joint: log p_k of its partner (B, K).
        freeze: Whether no gradient goes into P, as published.

    Returns:
        (B,).

    Example:
        >>> log_joint = tf.math.log([[0.5, 0.5]])
        >>> other = tf.math.log([[0.25, 0.75]])
        >>> keras_lt.losses.cluster_contrast(log_joint, other).numpy().round(3)
        array([-0.837], dtype=float32)
    """
    posterior = ops.softmax(log_joint)
    if freeze:
        posterior = ops.stop_gradient(posterior)
    return ops.sum(posterior * ops.log_softmax(other_log_joint), axis=-1)


def cluster_balance(mean_posterior):
    """What the entropy of a mean posterior lacks to log K, its largest.

    Args:
        mean_posterior: (K,), positive, with sum 1 or nearly.

    Returns:
        A scalar.

    Example:
        >>> posterior = tf.constant([0.9, 0.1])
        >>> round(float(keras_lt.losses.cluster_balance(posterior)), 3)
        0.368
    """
    entropy = -ops.sum(mean_posterior * ops.log(mean_posterior))
    return np.log(mean_posterior.shape[-1]) - entropy


def running_posterior(log_joint, buffer, step, momentum: float | None):
    """The mean posterior that `cluster_balance` sees, over batches.

    With p the mean over the batch plus 1e-7, the buffer b becomes
    m b + (1 - m) p, and what is seen is b / (1 - m^t), which corrects its start
    from 0. No gradient goes into the old buffer.

    Args:
        log_joint: log p_k (B, K).
        buffer: b before this step (K,), 0 at first.
        step: t, from 1.
        momentum: m, in [0, 1); None for 0.

    Returns:
        The mean posterior (K,) and the new buffer (K,).

    Example:
        >>> log_joint = tf.math.log([[0.2, 0.8], [0.4, 0.6]])
        >>> posterior, buffer = keras_lt.losses.running_posterior(
        ...     log_joint, tf.zeros(2), step=1, momentum=0.7
        ... )
        >>> posterior.numpy().round(3)
        array([0.3, 0.7], dtype=float32)
    """
    current = ops.mean(ops.softmax(log_joint), axis=0) + 1e-7
    momentum = momentum or 0.0
    buffer = momentum * ops.stop_gradient(buffer) + (1.0 - momentum) * current
    dtype = buffer.dtype
    decay = ops.power(
        ops.convert_to_tensor(momentum, dtype), ops.cast(step, dtype)
    )
    return buffer / (1.0 - decay), ops.stop_gradient(buffer)


def reversed_weights(class_counts, power: float = 2.0) -> np.ndarray:
    """Weights of classes: (n_max / n_c)^q, with sum 1.

    Args:
        class_counts: Training samples a class, integers (C,).
        power: q, at least 0.

    Returns:
        float64 (C,); 0 for a class without samples.

    Raises:
        ValueError: If the power is negative.

    Example:
        >>> keras_lt.losses.reversed_weights([40, 20, 0], power=1).round(3)
        array([0.333, 0.667, 0.   ])
    """
    if not 0 <= power < np.inf:
        raise ValueError(f"Expected power >= 0. Received: power={power}")
    counts = validate_class_counts(class_counts)
    ratios = counts.max() / np.maximum(counts, 1)
    weights = np.where(counts > 0, ratios**power, 0.0)
    return weights / weights.sum()
