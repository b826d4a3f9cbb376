"""Training of a flow on pairs of samples of different classes."""

import dataclasses
import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_lt.models.base import TrainingModel
from keras_lt.models.dlsa import terms
from keras_lt.models.dlsa.mixture import FlowGaussianMixture
from keras_lt.models.dlsa.settings import FlowSettings


class FlowTrainer(TrainingModel):
    """Trains a mixture on pairs of samples of different classes.

    Batches are ((features (B, D), labels (B,)), (features, labels)). The loss
    is the weighted likelihood of the first samples, the contrast of both, and
    the balance of the posterior of the first; see `keras_lt.models.dlsa.terms`.

    Args:
        mixture: The mixture to train.
        class_weights: Class weights of the likelihood (C,).
        settings: Factors of the terms, momentum of the mean posterior, and form
            of the contrast; None is `FlowSettings()`. `compile` and `fit` take
            the rest.

    Example:
        >>> trainer = keras_lt.models.dlsa.FlowTrainer(
        ...     keras_lt.models.FlowGaussianMixture(20, center_std=0.05),
        ...     class_weights=np.ones(10) / 10,
        ... )
        >>> trainer.compile(keras.optimizers.SGD(0.2), jit_compile=False)
        >>> pairs = keras_lt.features.pairs(
        ...     features, 10, batch_size=64, seed=0
        ... )
        >>> history = trainer.fit(pairs, steps_per_epoch=2, shuffle=False)
    """

    def __init__(
        self,
        mixture: FlowGaussianMixture,
        class_weights: np.ndarray,
        settings: FlowSettings | None = None,
    ):
        super().__init__()
        self.mixture = mixture
        self.class_weights = class_weights
        self.settings = settings or FlowSettings()
        self.posterior = self.add_weight(
            name="posterior",
            shape=(mixture.num_components,),
            initializer="zeros",
            trainable=False,
            dtype=mixture.compute_dtype,
        )
        self._trackers = [
            keras.metrics.Mean(name=name)
            for name in ("loss", "likelihood", "contrast", "balance")
        ]
        self.built = True

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        return self._trackers

    def train_step(self, data: Any) -> dict[str, Any]:
        (features, labels), (others, _) = data
        weights = ops.take(
            # float64 is slow on TPUs.
            ops.convert_to_tensor(self.class_weights, self.posterior.dtype),
            labels,
        )
        with tf.GradientTape() as tape:
            log_joint = self.mixture(features, training=True)
            other_log_joint = self.mixture(others, training=True)
            log_likelihood = ops.logsumexp(log_joint, axis=1) - math.log(
                self.mixture.num_components
            )
            posterior, buffer = terms.running_posterior(
                log_joint,
                self.posterior,
                self.optimizer.iterations + 1,
                self.settings.posterior_momentum,
            )
            values = [
                ops.mean(terms.weighted_likelihood(log_likelihood, weights)),
                ops.mean(
                    terms.cluster_contrast(
                        log_joint,
                        other_log_joint,
                        **dataclasses.asdict(self.settings.contrast),
                    )
                ),
                terms.cluster_balance(posterior),
            ]
            loss = sum(
                factor * value
                for factor, value in zip(
                    self.settings.factors, values, strict=True
                )
            )
        self.posterior.assign(buffer)
        self.minimize(loss, tape)
        for tracker, value in zip(self._trackers, [loss, *values], strict=True):
            tracker.update_state(value)
        return {tracker.name: tracker.result() for tracker in self._trackers}
