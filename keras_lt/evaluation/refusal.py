"""Scores that tell images of known classes from others, "none of these"."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from keras_lt.evaluation.conformal import lowest
from keras_lt.evaluation.intervals import check_level
from keras_lt.evaluation.predictions import Predictions, over_chunks
from keras_lt.messages import brief
from keras_lt.metrics import GROUPS

KNOWN_SCORES = ("energy", "max_logit", "mahalanobis")


class Gaussians(NamedTuple):
    """Where the features of each class are: means, and one covariance.

    Args:
        means: (C, D), NaN for a class without an image.
        whitening: W (D, D): `W W^T` is the inverse of the covariance.

    Example:
        >>> gaussians = keras_lt.evaluation.Gaussians(np.eye(2), np.eye(2))
        >>> gaussians.score(np.array([[1.0, 1.0], [3.0, 0.0]]))
        array([-1., -4.])
    """

    means: np.ndarray
    whitening: np.ndarray

    def score(self, features: np.ndarray) -> np.ndarray:
        """Minus the squared Mahalanobis distance to the nearest mean (N,)."""
        present = ~np.isnan(self.means).any(1)
        centers = self.means[present] @ self.whitening
        own = (centers**2).sum(1)

        def work(features):
            white = features.astype(np.float64) @ self.whitening
            near = (own - 2 * white @ centers.T).min(1)
            return -np.maximum(near + (white**2).sum(1), 0)

        return np.concatenate([*over_chunks(work, features)])


def fit_gaussians(
    features: np.ndarray, labels: Sequence[int], num_classes: int
) -> Gaussians:
    """The mean of each class, and the covariance that all share.

    Features of a class are taken for normal, with the covariance of the
    differences from the means, over all images (Lee et al., NeurIPS 2018,
    equation 1), shrunk as Ledoit and Wolf (2004) do, so that it has an inverse
    where there are fewer images than features. A class of few images lends it
    from the others.

    Args:
        features: (N, D), of the training images or of others.
        labels: Class ids (N,).
        num_classes: C.

    Returns:
        Means and covariance.

    Raises:
        ValueError: If features are not finite (N, D), or labels not N class
            ids.

    Example:
        >>> features = np.random.default_rng(0).normal(size=(40, 3))
        >>> gaussians = keras_lt.evaluation.fit_gaussians(
        ...     features, np.arange(40) % 2, num_classes=2
        ... )
        >>> gaussians.score(features).shape
        (40,)
    """
    # Here, so that importing keras_lt does not wait for scikit-learn.
    from sklearn.covariance import ledoit_wolf

    features, labels = np.asarray(features), np.asarray(labels)
    if (
        features.ndim != 2
        or not len(features)
        or not np.isfinite(features).all()
    ):
        raise ValueError(
            "Expected finite features of shape (N, D), N > 0. Received: "
            f"features.shape={features.shape}, "
            f"{(~np.isfinite(features)).sum()} of them NaN or infinite"
        )
    if (
        labels.shape != features.shape[:1]
        or labels.dtype.kind not in "iu"
        or not 0 <= labels.min() <= labels.max() < num_classes
    ):
        raise ValueError(
            f"Expected {len(features)} class ids from 0 to {num_classes - 1}, "
            f"one per row of features. Received: labels={brief(labels)}"
        )
    features = features.astype(np.float64)
    totals = np.bincount(labels, minlength=num_classes)
    sums = np.zeros((num_classes, features.shape[1]))
    np.add.at(sums, labels, features)
    with np.errstate(invalid="ignore"):  # of classes without images
        means = sums / totals[:, None]
    covariance, _ = ledoit_wolf(features - means[labels], assume_centered=True)
    # Features that never change stand for nothing, and have no inverse.
    covariance += np.eye(len(covariance)) * max(
        1e-6 * np.trace(covariance) / len(covariance), 1e-12
    )
    return Gaussians(means, np.linalg.cholesky(np.linalg.inv(covariance)))


def known_score(
    name: str,
    logits: np.ndarray | None = None,
    features: np.ndarray | None = None,
    gaussians: Gaussians | None = None,
) -> np.ndarray:
    """A score that is higher for images of the known classes.

    - `"energy"`: `log sum_c exp(x_c)`, minus the energy (Liu et al., NeurIPS
      2020, equation 4);
    - `"max_logit"`: the largest logit (Hendrycks et al., ICML 2022);
    - `"mahalanobis"`: minus the squared distance of the features to the nearest
      class mean (Lee et al., NeurIPS 2018).

    Args:
        name: One of the three.
        logits: x (N, C), as the model gives them, for the first two.
        features: (N, D), for the third.
        gaussians: Of the third, from `fit_gaussians`.

    Returns:
        float64 (N,).

    Raises:
        ValueError: If there is no such score, or what it is made of is missing
            or not finite.

    Example:
        >>> keras_lt.evaluation.known_score("max_logit", [[4.0, 1.0]])
        array([4.])
    """
    if name not in KNOWN_SCORES:
        raise ValueError(
            f"Expected the name of a score to be one of {KNOWN_SCORES}. "
            f"Received: name={name!r}"
        )
    wanted = "features" if name == "mahalanobis" else "logits"
    given = features if wanted == "features" else logits
    values = np.asarray(np.zeros(0) if given is None else given)
    if values.ndim != 2 or not len(values) or not np.isfinite(values).all():
        raise ValueError(
            f"Expected finite {wanted} of shape (N, ...), N > 0, for {name}. "
            f"Received: {wanted}={'None' if given is None else brief(values)}"
        )
    if name == "max_logit":
        return values.max(1).astype(np.float64)
    if name == "energy":
        return np.concatenate([*over_chunks(_log_sum, values)])
    if gaussians is None or gaussians.means.shape[1] != values.shape[1]:
        found = "None" if gaussians is None else gaussians.means.shape[1]
        raise ValueError(
            f"Expected gaussians of {values.shape[1]} features, of "
            f"fit_gaussians. Received: {found}"
        )
    return gaussians.score(values)


def _log_sum(logits: np.ndarray) -> np.ndarray:
    top = logits.max(1, keepdims=True).astype(np.float64)
    return np.log(np.exp(logits - top).sum(1)) + top[:, 0]


def separation(known: np.ndarray, unknown: np.ndarray) -> dict[str, float]:
    """How well a score tells known images from others.

    Args:
        known: Scores of images of known classes (N,), higher for known ones.
        unknown: Scores of other images (M,).

    Returns:
        `auroc`, the probability that a known image has the higher score, ties
        by half; `fpr95`, the share of the others that pass where 95 % of the
        known images do.

    Raises:
        ValueError: If one of them is empty or not finite.

    Example:
        >>> keras_lt.evaluation.separation([3.0, 4.0, 5.0, 6.0], [1.0, 3.5])
        {'auroc': 0.875, 'fpr95': 0.5}
    """
    known, unknown = (np.asarray(scores, float) for scores in (known, unknown))
    for name, scores in (("known", known), ("unknown", unknown)):
        if scores.ndim != 1 or not len(scores) or not np.isfinite(scores).all():
            raise ValueError(
                f"Expected finite scores (N,) of {name} images, N > 0. "
                f"Received: {name}={brief(scores)}"
            )
    above = stats.mannwhitneyu(known, unknown).statistic
    kept = np.sort(known)[len(known) // 20]
    return {
        "auroc": float(above / (len(known) * len(unknown))),
        "fpr95": float((unknown >= kept).mean()),
    }


class Refusal(NamedTuple):
    """A rule by which a model answers "none of these".

    An image is known if its score is at least `threshold`.

    Args:
        score: Name of the score, as `known_score` takes it.
        threshold: Least score of an image that is known.
        share: Share of the known images that are kept.
        gaussians: Those of the Mahalanobis distance, else None.

    Example:
        >>> refusal = keras_lt.evaluation.Refusal("max_logit", 2.0, 0.95)
        >>> refusal.known([[4.0, 1.0], [0.5, 0.5]])
        array([ True, False])
    """

    score: str
    threshold: float
    share: float
    gaussians: Gaussians | None = None

    def known(self, logits: Any = None, features: Any = None) -> np.ndarray:
        """Whether images are known (N,), by their logits or features."""
        scores = known_score(self.score, logits, features, self.gaussians)
        return scores >= self.threshold


def fit_refusal(
    score: str,
    scores: np.ndarray,
    share: float = 0.95,
    gaussians: Gaussians | None = None,
) -> Refusal:
    """The threshold that keeps a share of the known images.

    As `conformal_thresholds`, on average over hold-outs: with few images it is
    minus infinity, and every image is known.

    Args:
        score: Name of the score.
        scores: Of hold-out images (N,), by `known_score`.
        share: Share of images such as these that are kept, at least.
        gaussians: Those that the scores are of, for the Mahalanobis distance.

    Returns:
        The rule.

    Raises:
        ValueError: If `share` is not between 0 and 1.

    Example:
        >>> keras_lt.evaluation.fit_refusal(
        ...     "max_logit", np.arange(99.0), share=0.9
        ... ).threshold
        9.0
    """
    check_level(share, "share")
    threshold = lowest(np.asarray(scores), share, -np.inf)
    return Refusal(score, threshold, share, gaussians)


def kept_by_group(
    known: np.ndarray, predictions: Predictions
) -> dict[str, float | None]:
    """Share of the images that are known, of all and of each shot group.

    Args:
        known: Whether images are known (N,).
        predictions: Their labels and classes.

    Returns:
        The shares by name; a group's is over the images of its classes, None
        where there are none.

    Example:
        >>> predictions = keras_lt.evaluation.Predictions(
        ...     [[2.0, 0.0], [2.0, 0.0]], labels=[0, 1], classes=[500, 5]
        ... )
        >>> keras_lt.evaluation.kept_by_group([True, False], predictions)
        {'all': 0.5, 'many': 1.0, 'medium': None, 'few': 0.0, 'unseen': None}
    """
    known = np.asarray(known)
    masks = {
        name: predictions.groups[name][predictions.labels] for name in GROUPS
    }
    return {"all": float(known.mean())} | {
        name: float(known[mask].mean()) if mask.any() else None
        for name, mask in masks.items()
    }
