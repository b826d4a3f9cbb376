"""Losses that compare views of images, from their embeddings."""

import keras
import numpy as np
from keras import ops

from keras_lt.arguments import real
from keras_lt.distribute import gather_over_replicas
from keras_lt.labels import IGNORED, class_ids
from keras_lt.losses.base import Float32Loss

# The mean of exp(1 / t) overflows in float32 below it.
_LOWEST_TEMPERATURE = 0.0125


class ContrastiveLoss(Float32Loss):
    """Base class of the losses that compare all views of a batch.

    Each of the 2 B views of a batch of B images is an anchor with a unit vector
    z. A subclass gives `per_anchor(similarities, left_out, positive, same)`,
    where the similarities z_a z_b / t are those of the anchors with all views
    of the global batch: under `tf.distribute` embeddings and labels are
    gathered over replicas, gradients included. The value of an image is the
    mean over its two anchors.

    A view with an ignored label (`keras_lt.labels`; an id below 0, since the
    number of classes is not known here) has the value 0 as an anchor, and the
    other anchors leave it out. A loss that needs no labels sets
    `uses_labels = False`, and ignores no view.

    Args:
        temperature: t, greater than 0.
        reduction: as in `keras.losses.Loss`.
        name: name of the loss.
        dtype: dtype of the computation; 16-bit ones become float32.

    Call arguments:
        y_true: label ids, `(B,)` or `(B, 1)`, or one-hot rows `(B, C)`; or, for
            a label of each view, ids `(B, 2, 1)`.
        y_pred: embeddings of two views of each image, `(B, 2, D)`; vectors of
            any length.

    Raises:
        ValueError: if the temperature is not positive or the embeddings or the
            labels have another shape.

    Example:
        >>> class Attraction(keras_lt.losses.contrastive.ContrastiveLoss):
        ...     uses_labels = False
        ...
        ...     def per_anchor(self, similarities, left_out, positive, same):
        ...         pairs = keras.ops.one_hot(positive, similarities.shape[1])
        ...         return -keras.ops.sum(pairs * similarities, axis=1)
        >>> views = keras.ops.ones((4, 2, 8))
        >>> round(float(Attraction(temperature=0.5)(labels[:4], views)), 4)
        -2.0
    """

    uses_labels = True

    def __init__(
        self,
        temperature: float = 0.5,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = None,
        dtype=None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        temperature = real("temperature", temperature)
        if not 0 < temperature < np.inf:
            raise ValueError(
                f"Expected temperature > 0. Received: temperature={temperature}"
            )
        self.temperature = temperature

    def per_anchor(self, similarities, left_out, positive, same):
        """Returns a value for each anchor.

        Args:
            similarities: float (A, K): similarities of A anchors with the K
                views of the global batch.
            left_out: bool (A, K): the anchor itself, and views whose label is
                ignored.
            positive: int (A,): index of the other view of the same image.
            same: bool (A, K): views of the anchor's class, itself among them.
        """
        raise NotImplementedError

    def call(self, y_true, y_pred):
        if len(y_pred.shape) != 3 or y_pred.shape[1] != 2:
            raise ValueError(
                "Expected y_pred of shape (batch, 2, dim), embeddings of two "
                f"views. Received: y_pred.shape={tuple(y_pred.shape)}"
            )
        embeddings = ops.cast(y_pred, self.dtype)
        norms = ops.sum(ops.square(embeddings), axis=-1, keepdims=True)
        # A dead projection gives zeros: they stay zeros, with finite gradients.
        norms = ops.where(norms > 1e-24, norms, 1.0)
        embeddings = embeddings * ops.rsqrt(norms)
        labels = self._view_labels(y_true, embeddings)  # (B, 2)
        all_labels, _ = gather_over_replicas(labels)
        everything, first = gather_over_replicas(embeddings)
        dim = embeddings.shape[-1]
        anchors = ops.reshape(embeddings, (-1, dim))  # (A, dim)
        everything = ops.reshape(everything, (-1, dim))  # (K, dim)
        similarities = anchors @ ops.transpose(everything) / self.temperature
        index = 2 * first + ops.arange(ops.shape(anchors)[0], dtype="int32")
        labels = ops.reshape(labels, (-1, 1))  # (A, 1)
        all_labels = ops.reshape(all_labels, (1, -1))  # (1, K)
        itself = ops.one_hot(index, ops.shape(everything)[0], dtype="bool")
        # An ignored anchor is multiplied by 0 below: it must only be finite.
        ignored = (all_labels == IGNORED) & (labels != IGNORED)
        values = self.per_anchor(
            similarities,
            itself | ignored,
            index + 1 - 2 * (index % 2),
            labels == all_labels,
        )
        values = values * ops.cast(labels[:, 0] != IGNORED, values.dtype)
        return ops.mean(ops.reshape(values, (-1, 2)), axis=1)

    def _view_labels(self, y_true, embeddings):
        """Label ids of views, (B, 2), `IGNORED` for an ignored one."""
        if not self.uses_labels:
            return ops.zeros(ops.shape(embeddings)[:2], "int32")
        y_true = ops.convert_to_tensor(y_true)
        if len(y_true.shape) == 3 and tuple(y_true.shape[1:]) == (2, 1):
            return ops.reshape(class_ids(ops.reshape(y_true, (-1,))), (-1, 2))
        return ops.repeat(class_ids(y_true)[:, None], 2, axis=1)

    def get_config(self):
        return {**super().get_config(), "temperature": self.temperature}


@keras.saving.register_keras_serializable(package="keras_lt")
class NTXent(ContrastiveLoss):
    """Normalized temperature-scaled cross-entropy between views (SimCLR).

    The other view of the same image is the anchor's positive (Chen et al., ICML
    2020, eq. 1):

        l_a = -log(exp(z_a z_p(a) / t) / sum_{b != a} exp(z_a z_b / t)).

    Args, call arguments and errors are those of `ContrastiveLoss`, but for
    labels, which can be anything.

    Example:
        >>> loss = keras_lt.losses.NTXent(temperature=0.1)
        >>> same = np.eye(4)[:, None].repeat(2, axis=1)  # views that agree
        >>> round(float(loss(np.zeros(4), same)), 4)
        0.0003
    """

    uses_labels = False

    def __init__(
        self,
        temperature: float = 0.5,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "nt_xent",
        dtype=None,
    ):
        super().__init__(temperature, reduction, name, dtype)

    def per_anchor(self, similarities, left_out, positive, same):
        del same
        others = ops.where(left_out, -np.inf, similarities)
        matches = ops.take_along_axis(similarities, positive[:, None], axis=1)
        return ops.logsumexp(others, axis=1) - matches[:, 0]


@keras.saving.register_keras_serializable(package="keras_lt")
class SupervisedContrastive(ContrastiveLoss):
    """SupCon: all views of the anchor's class are positives.

    With P(a) the views of the class of anchor a but itself (Khosla et al.,
    NeurIPS 2020, eq. 2, the sum outside of the logarithm; 0 where P(a) is
    empty, as it can be where views have labels of their own):

        l_a = -1/|P(a)| sum_{p in P(a)}
                  log(exp(z_a z_p / t) / sum_{b != a} exp(z_a z_b / t)).

    Args, call arguments and errors are those of `ContrastiveLoss`.

    Example:
        >>> loss = keras_lt.losses.SupervisedContrastive(temperature=0.1)
        >>> same = np.eye(2)[:, None].repeat(2, axis=1)
        >>> round(float(loss(np.array([0, 1]), same)), 4)
        0.0001
        >>> round(float(loss(np.array([0, 0]), same)), 4)
        6.6668
    """

    def __init__(
        self,
        temperature: float = 0.1,
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "supervised_contrastive",
        dtype=None,
    ):
        super().__init__(temperature, reduction, name, dtype)

    def per_anchor(self, similarities, left_out, positive, same):
        del positive
        positives = ops.cast(same & ~left_out, similarities.dtype)
        # Not minus infinity: an anchor may be the only view with a label.
        others = ops.where(left_out, -1e30, similarities)
        total = ops.logsumexp(others, axis=1, keepdims=True)
        matches = ops.sum(positives * (total - similarities), axis=1)
        return matches / ops.maximum(ops.sum(positives, axis=1), 1.0)


@keras.saving.register_keras_serializable(package="keras_lt")
class BalancedNegativeSampling(ContrastiveLoss):
    """BNS: every anchor weighs its class as much as all others together.

    With the views P(a) of the class of anchor a but itself and the views N(a)
    of other classes (Lin and Yuan, arXiv:2510.08836):

        P_a = mean over P(a) of exp(z_a z_p / t)
        Q_a = sum over N(a) of exp(z_a z_n / t) / M
        l_a = softplus(-P_a) + softplus(Q_a).

    M is the number of views in the global batch, 2 B, as in the authors' code,
    or that of N(a). Where P(a) is empty, as it can be where views have labels
    of their own, P_a is 0; so is Q_a where N(a) is. One matrix product gives
    all similarities.

    Args:
        temperature: t, at least 0.0125; below it exp(1 / t) is infinite.
        negatives: `"batch"` divides by 2 B, `"others"` by |N(a)|.
        reduction: as in `keras.losses.Loss`.
        name: name of the loss.
        dtype: dtype of the computation; 16-bit ones become float32.

    Call arguments:
        as those of `ContrastiveLoss`.

    Raises:
        ValueError: if an argument is out of its range or the embeddings have
            another shape.

    Example:
        >>> loss = keras_lt.losses.BalancedNegativeSampling()
        >>> same = np.eye(2)[:, None].repeat(2, axis=1)
        >>> round(float(loss(np.array([0, 1]), same)), 4)
        0.9747
    """

    def __init__(
        self,
        temperature: float = 0.5,
        negatives: str = "batch",
        reduction: str | None = "sum_over_batch_size",
        name: str | None = "balanced_negative_sampling",
        dtype=None,
    ):
        super().__init__(temperature, reduction, name, dtype)
        if temperature < _LOWEST_TEMPERATURE:
            raise ValueError(
                f"Expected temperature >= {_LOWEST_TEMPERATURE}. "
                f"Received: temperature={temperature}"
            )
        if negatives not in ("batch", "others"):
            raise ValueError(
                'Expected negatives to be "batch" or "others". '
                f"Received: negatives={negatives!r}"
            )
        self.negatives = negatives

    def per_anchor(self, similarities, left_out, positive, same):
        del positive
        exponentials = ops.exp(similarities)
        positives = ops.cast(same & ~left_out, exponentials.dtype)
        others = ops.cast(~same & ~left_out, exponentials.dtype)
        attraction = ops.sum(positives * exponentials, axis=1)
        repulsion = ops.sum(others * exponentials, axis=1)
        num_positives = ops.sum(positives, axis=1)
        num_others = ops.sum(others, axis=1)
        attraction = attraction / ops.maximum(num_positives, 1.0)
        if self.negatives == "batch":
            repulsion = repulsion / (1.0 + num_positives + num_others)
        else:
            repulsion = repulsion / ops.maximum(num_others, 1.0)
        return ops.softplus(-attraction) + ops.softplus(repulsion)

    def get_config(self):
        return {**super().get_config(), "negatives": self.negatives}
