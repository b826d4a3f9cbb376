"""Class weights for any loss."""

import functools
from typing import Any

import keras
import numpy as np

from keras_lt.losses.class_weighted import ClassWeightedLoss
from keras_lt.losses.prior import logit_prior


@keras.saving.register_keras_serializable(package="keras_lt")
class Reweighted(ClassWeightedLoss):
    """Multiplies another loss by class weights, also one of Keras' own.

    The values of the other loss, one per example, take the place of l in
    `ClassWeightedLoss`: weights by the effective number of samples or given
    ones, normalizers, and deferred re-weighting by
    `keras_lt.callbacks.DeferredReweighting`.

    Args:
        loss: A `keras.losses.Loss` of logits, or what `keras.losses.get` makes
            one of. Labels reach it as rows `(B, C)`, and
            `SparseCategoricalCrossentropy` takes such rows here, soft ones too.
            Its reduction is not used.
        class_counts: `(C,)` training images per class.
        beta: in `[0, 1)`, of the class weights; `None` weighs all classes
            alike.
        class_weights: `(C,)` class weights in place of those of `beta`.
        normalizer: `"batch"`, `"weight_sum"` or `"nonzero"`.
        name: name of the loss.
        **kwargs: `reduction`, `dtype` of `ClassWeightedLoss`.

    Raises:
        TypeError: if `loss` is no `keras.losses.Loss`.
        ValueError: as in `ClassWeightedLoss`, which describes the call too.

    Example:
        >>> loss = keras_lt.losses.Reweighted(
        ...     keras.losses.CategoricalHinge(), [500, 50], beta=0.9
        ... )
        >>> model.compile("sgd", loss)
        >>> deferred = keras_lt.callbacks.DeferredReweighting(160)
    """

    def __init__(
        self,
        loss: keras.losses.Loss | str | dict,
        class_counts,
        beta: float | None = 0.9999,
        class_weights=None,
        normalizer: str = "batch",
        name: str | None = "reweighted",
        **kwargs,
    ):
        super().__init__(
            class_counts, beta, class_weights, normalizer, name=name, **kwargs
        )
        self.loss = keras.losses.get(loss)
        if not isinstance(self.loss, keras.losses.Loss):
            raise TypeError(
                "Expected a keras.losses.Loss, such as "
                "keras.losses.CategoricalCrossentropy(from_logits=True). "
                f"Received: loss={loss!r}"
            )
        self._values = self.loss.call
        if isinstance(self.loss, keras.losses.SparseCategoricalCrossentropy):
            if self.loss.ignore_class is not None:
                raise ValueError(
                    "Expected a loss without ignore_class: class_weights say "
                    "which class has no weight. Received: "
                    f"ignore_class={self.loss.ignore_class}"
                )
            self._values = functools.partial(
                keras.ops.categorical_crossentropy,
                from_logits=self.loss.from_logits,
            )

    def per_example(self, labels, logits):
        return self._values(labels, logits)

    def logit_prior(self, class_counts) -> np.ndarray:
        return super().logit_prior(logit_prior(self.loss, class_counts))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "loss": keras.losses.serialize(self.loss),
        }
