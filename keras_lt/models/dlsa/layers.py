"""A level of DLSA: which samples stay, and their classifier."""

import math
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_lt.layers import CosineClassifier
from keras_lt.models.dlsa import routing, terms
from keras_lt.models.dlsa.mixture import FlowGaussianMixture
from keras_lt.models.dlsa.samples import Samples, pairs
from keras_lt.models.dlsa.settings import FlowSettings
from keras_lt.models.dlsa.trainer import FlowTrainer

CLASSIFIERS = ("linear", "cosine")


class _ClusterAidedClassifier(keras.layers.Layer):
    """Logits f(x) + g(y) of features x and of what else is known of them, y.

    f and g are both linear, or both squashed cosine classifiers of scale 16
    (`keras_lt.layers.CosineClassifier`). DLSA gives as y the latent variable of
    the flow, and the class frequencies of the sample's cluster beside it (Xu et
    al., ECCV 2022, arXiv:2208.02567).
    """

    def __init__(
        self,
        num_classes: int,
        kind: str = "linear",
        dtype: Any = "float32",
        **kwargs: Any,
    ):
        super().__init__(dtype=dtype, **kwargs)
        if kind not in CLASSIFIERS:
            raise ValueError(
                f"Expected kind to be one of {CLASSIFIERS}. "
                f"Received: kind={kind!r}"
            )
        self.num_classes = num_classes
        self.kind = kind
        self.of_features, self.of_others = (
            self._part(name) for name in ("features", "others")
        )

    def _part(self, name: str) -> keras.layers.Layer:
        if self.kind == "linear":
            return keras.layers.Dense(
                self.num_classes, dtype=self.dtype_policy, name=name
            )
        return CosineClassifier(
            self.num_classes, 16.0, "squash", dtype=self.dtype_policy, name=name
        )

    def build(self, input_shape: list[tuple[int | None, ...]]) -> None:
        self.of_features.build(input_shape[0])
        self.of_others.build(input_shape[1])

    def call(self, inputs: list) -> Any:
        features, others = inputs
        return self.of_features(features) + self.of_others(others)


class _Purest(keras.callbacks.Callback):
    """Remembers the mixture of the epoch after which most clusters are pure."""

    def __init__(self, level: "_Level", part: Samples, num_classes: int):
        super().__init__()
        self._level = level
        self._part = part
        self._num_classes = num_classes
        self._most = -1
        self._weights = None

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        mixture = self._level.mixture
        found = routing.pure_clusters(
            self._level.inspect(self._part.features)["clusters"],
            self._part.labels,
            mixture.num_components,
            self._num_classes,
        )
        if found > self._most:
            self._most, self._weights = found, mixture.get_weights()

    def restore(self) -> None:
        self._level.mixture.set_weights(self._weights)


class _Level(keras.layers.Layer):
    """One level: which samples stay here, and what their logits are."""

    def __init__(
        self,
        mixture: FlowGaussianMixture,
        classifier: _ClusterAidedClassifier,
        z: str,
        components: int | None,
        **kwargs: Any,
    ):
        super().__init__(dtype="float32", **kwargs)
        self.mixture = mixture
        self.classifier = classifier
        self.z = z
        self.components = None
        if components is not None:
            self.components = keras.layers.Dense(
                components, trainable=False, dtype="float32", name="components"
            )

    def build(self, input_shape: Any) -> None:
        clusters = self.mixture.num_components
        classes = self.classifier.num_classes
        seen = input_shape
        if self.components is not None:
            self.components.build(input_shape)
            seen = self.components.compute_output_shape(input_shape)
        self.mixture.build(seen)
        # What the classifiers take beside the features.
        self.latent_shape = seen if self.z == "latent" else input_shape
        self.classifier.build(
            [input_shape, (input_shape[0], self.latent_shape[1] + classes)]
        )
        # Until its threshold is set a level keeps nothing.
        self.threshold = self.add_weight(
            name="threshold",
            shape=(),
            initializer=keras.initializers.Constant(math.inf),
            trainable=False,
        )
        self.frequencies = self.add_weight(
            name="frequencies",
            shape=(clusters, classes),
            initializer="zeros",
            trainable=False,
        )

    def _found(self, features: Any) -> tuple[Any, ...]:
        seen = features
        if self.components is not None:
            seen = self.components(features)
        latent, log_abs_det = self.mixture.flow(seen, training=False)
        log_joint = self.mixture.log_joint_of(latent, log_abs_det)
        # Keras' own takes care of -0 by ops that LiteRT lacks.
        clusters = tf.argmax(log_joint, axis=1, output_type="int32")
        log_likelihood = ops.logsumexp(log_joint, axis=1)
        log_likelihood -= math.log(self.mixture.num_components)
        return (
            latent if self.z == "latent" else features,
            log_likelihood,
            clusters,
            ops.take(self.frequencies, clusters, axis=0),
        )

    def call(self, features: Any) -> tuple[Any, Any, Any]:
        latent, log_likelihood, _, frequencies = self._found(features)
        others = ops.concatenate([latent, frequencies], axis=1)
        logits = self.classifier([features, others])
        return logits, log_likelihood >= self.threshold, latent

    def inspect(self, features: np.ndarray) -> dict[str, np.ndarray]:
        """Returns how the level sees many samples, in NumPy."""
        found = [
            [value.numpy() for value in self._found(tf.constant(chunk))]
            for chunk in np.array_split(
                features, max(1, math.ceil(len(features) / 4096))
            )
        ]
        latent, log_likelihood, clusters, frequencies = (
            np.concatenate(values) for values in zip(*found, strict=True)
        )
        return {
            "latent": latent,
            "log_likelihood": log_likelihood,
            "clusters": clusters,
            "keep": log_likelihood >= self.threshold.numpy(),
            "others": np.concatenate([latent, frequencies], axis=1),
        }

    def fit_flow(
        self,
        part: Samples,
        num_classes: int,
        settings: FlowSettings,
        seed: int,
        watch: dict[str, Any],
    ) -> None:
        seen = self._fit_components(part)
        counts = np.bincount(part.labels, minlength=num_classes)
        trainer = FlowTrainer(
            self.mixture,
            terms.reversed_weights(counts, settings.weight_power),
            settings,
        )
        trainer.compile(
            keras.optimizers.SGD(settings.learning_rate, settings.momentum),
            jit_compile=False,
        )
        size = min(settings.batch_size, len(part.labels))
        purest, watchers = None, [*watch.get("callbacks", ())]
        if settings.keep == "purest":
            purest = _Purest(self, part, num_classes)
            watchers.append(purest)
        trainer.fit(
            pairs(seen, num_classes, size, seed, self.name),
            epochs=settings.epochs,
            steps_per_epoch=max(1, round(len(part.labels) / size)),
            shuffle=False,
            **{**watch, "callbacks": watchers},
        )
        if purest is not None:
            purest.restore()

    def _fit_components(self, part: Samples) -> Samples:
        """The samples as their principal components, if there are any."""
        if self.components is None:
            return part
        # Here, so that importing keras_lt does not wait for scikit-learn.
        from sklearn.decomposition import PCA

        pca = PCA(self.components.units, svd_solver="covariance_eigh")
        seen = pca.fit_transform(part.features)
        axes = pca.components_.T
        self.components.set_weights([axes, -pca.mean_ @ axes])
        return part._replace(features=seen.astype(np.float32))

    def take_flow(self, other: "_Level") -> None:
        """Sees samples as another level does."""
        self.mixture.set_weights(other.mixture.get_weights())
        if self.components is not None:
            self.components.set_weights(other.components.get_weights())

    def divide(
        self, part: Samples, num_classes: int, llh_proportion: float
    ) -> str | None:
        """Sets threshold and class frequencies, or returns why not."""
        found = self.inspect(part.features)
        log_likelihood = found["log_likelihood"]
        if not np.isfinite(log_likelihood).all():
            return "its flow gives likelihoods that are not finite"
        threshold = routing.threshold(log_likelihood, llh_proportion)
        if (log_likelihood >= threshold).all():
            return "its likelihoods are all the same"
        frequencies, sizes = routing.class_frequencies(
            found["clusters"],
            part.labels,
            self.mixture.num_components,
            num_classes,
        )
        # A cluster without samples has the class frequencies of all of them.
        counts = np.bincount(part.labels, minlength=num_classes)
        frequencies[sizes == 0] = counts / counts.sum()
        self.frequencies.assign(frequencies)
        self.threshold.assign(threshold)
        return None
