"""DLSA: features are divided level by level, each part with its classifier."""

import hashlib
import json
import math
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from keras_lt import division, files, losses, seeding
from keras_lt import features as features_lib
from keras_lt.arguments import integer, real
from keras_lt.features import Features
from keras_lt.layers import CosineClassifier
from keras_lt.messages import brief
from keras_lt.models.base import TrainingModel, refuse_fit
from keras_lt.models.flows import (
    FlowGaussianMixture,
    MaskedAutoregressiveFlow,
)

LATENTS = ("latent", "features")
CLASSIFIERS = ("linear", "cosine")


@keras.saving.register_keras_serializable(package="keras_lt")
class DLSA(keras.Model):
    """Divides the label space of features by flows, and classifies each part.

    "Constructing Balance from Imbalance for Long-tailed Image Recognition" (Xu
    et al., ECCV 2022, arXiv:2208.02567). Level by level a flow with a Gaussian
    mixture as prior learns clusters of one class each. The training samples of
    the highest likelihood go to this level's classifier, which knows the class
    frequencies of their cluster; the others go down to the next level, and from
    the last one to a classifier of what is left.

    `fit_features` trains it; `fit` refuses to. What results is one Keras model
    from features (B, D) to logits (B, C): flows, thresholds, class frequencies
    of clusters and classifiers are its weights, and samples find their way
    without a loop. `keras_lt.models.stack` puts it on a backbone.

    Args:
        num_classes: C, at least 2.
        features_dim: D.
        depth: Levels, at least 1.
        num_clusters: K of each level's mixture.
        llh_proportion: Part of the training samples that a level keeps, in
            (0, 1).
        center_std: Standard deviation of the cluster centres.
        num_blocks: MADE blocks of a flow.
        hidden_units: Of a MADE; None for D.
        hidden_layers: Of a MADE.
        classifier: "linear" or "cosine": what f and g are in the logits
            f(x) + g([z, frequencies]).
        z: What classifiers take beside the features: the flow's "latent"
            variable as in the paper, or the "features" again, as the authors'
            code has it in fact.
        seed: Of cluster centres and the order of samples; other weights start
            by `keras.utils.set_random_seed`.
        name: Name of the model.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> features = keras_lt.features.extract(stage1, train)
        >>> dlsa = keras_lt.models.DLSA(10, features_dim=8, num_clusters=20)
        >>> levels = dlsa.fit_features(
        ...     *features, flow_epochs=1, classifier_epochs=1
        ... )
        >>> model = keras_lt.models.stack(stage1, dlsa)
        >>> model.output_shape
        (None, 10)
    """

    def __init__(
        self,
        num_classes: int,
        features_dim: int,
        *,
        depth: int = 1,
        num_clusters: int = 100,
        llh_proportion: float = 0.3,
        center_std: float = 0.05,
        num_blocks: int = 2,
        hidden_units: int | None = None,
        hidden_layers: int = 1,
        classifier: str = "linear",
        z: str = "latent",
        seed: int = 0,
        name: str = "dlsa",
    ):
        super().__init__(name=name)
        num_classes = integer("num_classes", num_classes, 2)
        features_dim = integer("features_dim", features_dim, 1)
        depth = integer("depth", depth)
        num_clusters = integer("num_clusters", num_clusters)
        llh_proportion = real("llh_proportion", llh_proportion)
        center_std = real("center_std", center_std)
        num_blocks = integer("num_blocks", num_blocks)
        hidden_layers = integer("hidden_layers", hidden_layers)
        if hidden_units is not None:
            hidden_units = integer("hidden_units", hidden_units)
        seed = integer("seed", seed)
        if depth < 1 or num_clusters < 2 or not 0 < llh_proportion < 1:
            raise ValueError(
                "Expected depth >= 1, num_clusters >= 2 and llh_proportion in "
                f"(0, 1). Received: depth={depth}, num_clusters={num_clusters},"
                f" llh_proportion={llh_proportion}"
            )
        if z not in LATENTS:
            raise ValueError(
                f"Expected z to be one of {LATENTS}. Received: z={z!r}"
            )
        self._config = {
            "num_classes": num_classes,
            "features_dim": features_dim,
            "depth": depth,
            "num_clusters": num_clusters,
            "llh_proportion": llh_proportion,
            "center_std": center_std,
            "num_blocks": num_blocks,
            "hidden_units": hidden_units,
            "hidden_layers": hidden_layers,
            "classifier": classifier,
            "z": z,
            "seed": seed,
            "name": name,
        }
        self.num_classes = num_classes
        self.num_clusters = num_clusters
        self.llh_proportion = llh_proportion
        self.z = z
        self.seed = seed
        self.levels = [
            _Level(
                FlowGaussianMixture(
                    num_clusters,
                    center_std,
                    MaskedAutoregressiveFlow(
                        num_blocks, hidden_units, hidden_layers
                    ),
                    seed=seeding.derived_seed(seed, "levels", level),
                ),
                _ClusterAidedClassifier(
                    num_classes, classifier, name=f"classifier_{level}"
                ),
                z,
                name=f"level_{level}",
            )
            for level in range(depth)
        ]
        self.last = _ClusterAidedClassifier(
            num_classes, classifier, name="last_classifier"
        )
        self.build((None, features_dim))

    def build(self, input_shape: Any) -> None:
        if self.built:
            return
        for level in self.levels:
            level.build(input_shape)
        self.last.build([input_shape, input_shape])
        self.built = True

    def call(self, features: Any, training: bool | None = None) -> Any:
        del training  # batch statistics are those of `fit_features`
        found = [level(features) for level in self.levels]
        latent = found[-1][2]
        logits = self.last([features, latent])
        # The deepest first: a level keeps what those above it let down.
        for here, keep, _ in reversed(found):
            logits = ops.where(keep[:, None], here, logits)
        return logits

    def inspect(self, features: np.ndarray) -> list[division.Level]:
        """How the levels that divide see samples, from the top down.

        Args:
            features: (N, D).

        Returns:
            A `keras_lt.division.Level` each. Where samples are so far off that
            a likelihood is not finite, it is the lowest number.
        """
        lowest = float(np.finfo("float32").min)
        levels = []
        for level in self.levels:
            threshold = float(level.threshold.numpy())
            if math.isfinite(threshold):
                found = level.inspect(features)
                levels.append(
                    division.Level(
                        np.nan_to_num(
                            found["log_likelihood"], nan=lowest, neginf=lowest
                        ),
                        found["clusters"],
                        self.num_clusters,
                        threshold,
                    )
                )
        return levels

    def fit_features(
        self,
        features: np.ndarray,
        labels: np.ndarray,
        *,
        loss: str = "balanced_softmax",
        flow_epochs: int = 50,
        flow_batch_size: int = 1024,
        flow_learning_rate: float = 0.2,
        classifier_epochs: int = 150,
        classifier_batch_size: int = 128,
        classifier_learning_rate: float = 0.01,
        weight_power: float = 2.0,
        likelihood_factor: float = 2.0,
        contrast_factor: float = 0.02,
        balance_factor: float = 1.0,
        posterior_momentum: float | None = 0.7,
        flow_momentum: float = 0.0,
        contrast: str = "soft_ce",
        contrast_margin: float | None = None,
        contrast_freeze: bool = True,
        directory: str | os.PathLike | None = None,
        verbose: int | str = "auto",
    ) -> list[dict[str, Any]]:
        """Trains all levels, one after the other. Defaults are the authors'.

        A level that can't divide its samples is left out with those below it,
        with a warning that says why: fewer samples than clusters, one class
        alone, or likelihoods that part nothing.

        Args:
            features: (N, D).
            labels: Label ids, integers (N,).
            loss: "balanced_softmax" of each classifier's own samples, or
                "crossentropy".
            flow_epochs: Epochs of a flow, each of as many pairs as samples.
            flow_batch_size: Pairs a step.
            flow_learning_rate: Of SGD.
            classifier_epochs: Epochs of a classifier.
            classifier_batch_size: Samples a step.
            classifier_learning_rate: Of SGD.
            weight_power: q of the likelihood's weights; see
                `keras_lt.losses.reversed_weights`.
            likelihood_factor: Of the weighted likelihood in the flow's loss.
            contrast_factor: Of `keras_lt.losses.cluster_contrast`.
            balance_factor: Of `keras_lt.losses.cluster_balance`.
            posterior_momentum: Of `keras_lt.losses.running_posterior`.
            flow_momentum: Momentum of the flow's SGD.
            contrast: Kind of `keras_lt.losses.cluster_contrast`.
            contrast_margin: Margin of the contrast.
            contrast_freeze: Whether no gradient goes into the posterior of
                the first of a pair, as published.
            directory: Where levels are kept once they are trained, so that
                the same call goes on after a kill; None keeps nothing.
            verbose: As in `keras.Model.fit`.

        Returns:
            What `keras_lt.division.describe` says of each level that divides.

        Raises:
            ValueError: If an argument is out of its range, shapes do not fit,
                features are not finite, there is one class only, or
                `directory` holds another training.
        """
        samples = self._checked(features, labels)
        if loss not in ("balanced_softmax", "crossentropy"):
            raise ValueError(
                'Expected loss to be "balanced_softmax" or "crossentropy". '
                f"Received: loss={loss!r}"
            )
        arguments = {
            "epochs": classifier_epochs,
            "batch_size": classifier_batch_size,
            "learning_rate": classifier_learning_rate,
            "loss": loss,
        }
        kept = _Kept(
            directory,
            self,
            {
                **self.get_config(),
                "samples": _digest(samples),
                "class_counts": np.bincount(
                    samples.labels, minlength=self.num_classes
                ).tolist(),
                "arguments": [
                    *arguments.values(),
                    flow_epochs,
                    flow_batch_size,
                    flow_learning_rate,
                    weight_power,
                    likelihood_factor,
                    contrast_factor,
                    balance_factor,
                    posterior_momentum,
                    flow_momentum,
                    contrast,
                    contrast_margin,
                    contrast_freeze,
                ],
            },
        )
        left = np.ones(len(samples.labels), bool)
        for number, level in enumerate(self.levels):
            part = Features(samples.features[left], samples.labels[left])
            if number >= kept.levels:
                reason = self._indivisible(part)
                start = level.get_weights()
                if reason is None:
                    level.fit_flow(
                        part,
                        self.num_classes,
                        epochs=flow_epochs,
                        batch_size=flow_batch_size,
                        learning_rate=flow_learning_rate,
                        momentum=flow_momentum,
                        weight_power=weight_power,
                        factors=(
                            likelihood_factor,
                            contrast_factor,
                            balance_factor,
                        ),
                        posterior_momentum=posterior_momentum,
                        contrast={
                            "kind": contrast,
                            "margin": contrast_margin,
                            "freeze": contrast_freeze,
                        },
                        seed=self.seed,
                        verbose=verbose,
                    )
                    reason = level.divide(
                        part, self.num_classes, self.llh_proportion
                    )
                if reason is not None:
                    # The last classifier sees the z of the last level.
                    level.set_weights(start)
                    for lower in self.levels[number:] if number else ():
                        lower.mixture.set_weights(
                            self.levels[number - 1].mixture.get_weights()
                        )
                    warnings.warn(
                        f"Level {number + 1} of {len(self.levels)} is left "
                        f"out, with those below it: {reason}.",
                        stacklevel=2,
                    )
                    break
                found = level.inspect(part.features)
                keep = found["keep"]
                self._fit_classifier(
                    level.classifier,
                    Features(part.features[keep], part.labels[keep]),
                    found["others"][keep],
                    verbose=verbose,
                    **arguments,
                )
                kept.add()
            left[left] = ~level.inspect(part.features)["keep"]
        part = Features(samples.features[left], samples.labels[left])
        self._fit_classifier(
            self.last,
            part,
            self.levels[-1].inspect(part.features)["latent"],
            verbose=verbose,
            **arguments,
        )
        return division.describe(
            self.inspect(samples.features), samples.labels, self.num_classes
        )

    def _checked(self, features: Any, labels: Any) -> Features:
        features, labels = np.asarray(features, np.float32), np.asarray(labels)
        dim = self._config["features_dim"]
        if features.ndim != 2 or features.shape[1] != dim:
            raise ValueError(
                f"Expected features of shape (N, {dim}). "
                f"Received: features.shape={features.shape}"
            )
        if not np.isfinite(features).all():
            raise ValueError(
                "Expected finite features. Received: "
                f"{np.count_nonzero(~np.isfinite(features))} NaN or infinite "
                "values"
            )
        if labels.shape != features.shape[:1] or not np.issubdtype(
            labels.dtype, np.integer
        ):
            raise ValueError(
                f"Expected {len(features)} integer labels. Received: "
                f"labels.shape={labels.shape}, labels.dtype={labels.dtype}"
            )
        if len(labels) and not (
            0 <= labels.min() and labels.max() < self.num_classes
        ):
            raise ValueError(
                f"Expected labels from 0 to {self.num_classes - 1}. Received: "
                f"labels from {labels.min()} to {labels.max()}"
            )
        if len(np.unique(labels)) < 2:
            raise ValueError(
                "Expected samples of two classes or more. "
                f"Received: labels {brief(np.unique(labels))}"
            )
        return Features(features, labels.astype(np.int64))

    def _indivisible(self, part: Features) -> str | None:
        size, classes = len(part.labels), len(np.unique(part.labels))
        if size < self.num_clusters:
            return f"{size} samples for {self.num_clusters} clusters"
        return "all samples are of one class" if classes < 2 else None

    def _fit_classifier(
        self,
        classifier: keras.layers.Layer,
        part: Features,
        others: np.ndarray,
        *,
        epochs: int,
        batch_size: int,
        learning_rate: float,
        loss: str,
        verbose: int | str,
    ) -> None:
        """Trains a classifier on samples and what else it takes of them."""
        x, labels = part
        dim = x.shape[1]
        inputs = keras.Input((dim + others.shape[1],))
        model = keras.Model(
            inputs, classifier([inputs[:, :dim], inputs[:, dim:]])
        )
        counts = np.bincount(labels, minlength=self.num_classes)
        model.compile(
            keras.optimizers.SGD(learning_rate),
            losses.BalancedSoftmax(counts)
            if loss == "balanced_softmax"
            else keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        size = min(batch_size, len(labels))
        model.fit(
            features_lib.stream(
                Features(np.concatenate([x, others], axis=1), labels),
                self.num_classes,
                sampling="random",
                batch_size=size,
                seed=self.seed,
                name=classifier.name,
            ),
            epochs=epochs,
            steps_per_epoch=max(1, round(len(labels) / size)),
            shuffle=False,
            verbose=verbose,
        )

    def get_config(self) -> dict[str, Any]:
        return dict(self._config)

    train_step = refuse_fit("fit_features(features, labels)")


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


class _Level(keras.layers.Layer):
    """One division: which samples stay here, and what their logits are."""

    def __init__(
        self,
        mixture: FlowGaussianMixture,
        classifier: _ClusterAidedClassifier,
        z: str,
        **kwargs: Any,
    ):
        super().__init__(dtype="float32", **kwargs)
        self.mixture = mixture
        self.classifier = classifier
        self.z = z

    def build(self, input_shape: Any) -> None:
        clusters = self.mixture.num_components
        classes = self.classifier.num_classes
        self.mixture.build(input_shape)
        self.classifier.build(
            [input_shape, (input_shape[0], input_shape[1] + classes)]
        )
        # Until it is divided a level keeps nothing.
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
        latent, log_abs_det = self.mixture.flow(features, training=False)
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
        """What the level makes of many samples, in NumPy."""
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
        part: Features,
        num_classes: int,
        *,
        epochs: int,
        batch_size: int,
        learning_rate: float,
        momentum: float,
        weight_power: float,
        factors: tuple[float, float, float],
        posterior_momentum: float | None,
        contrast: dict[str, Any],
        seed: int,
        verbose: int | str,
    ) -> None:
        counts = np.bincount(part.labels, minlength=num_classes)
        trainer = FlowTrainer(
            self.mixture,
            losses.reversed_weights(counts, weight_power),
            factors,
            posterior_momentum,
            contrast,
        )
        trainer.compile(
            keras.optimizers.SGD(learning_rate, momentum), jit_compile=False
        )
        size = min(batch_size, len(part.labels))
        trainer.fit(
            features_lib.pairs(
                part, num_classes, batch_size=size, seed=seed, name=self.name
            ),
            epochs=epochs,
            steps_per_epoch=max(1, round(len(part.labels) / size)),
            shuffle=False,
            verbose=verbose,
        )

    def divide(
        self, part: Features, num_classes: int, llh_proportion: float
    ) -> str | None:
        """Sets threshold and class frequencies, or returns why not."""
        found = self.inspect(part.features)
        log_likelihood = found["log_likelihood"]
        if not np.isfinite(log_likelihood).all():
            return "its flow gives likelihoods that are not finite"
        threshold = division.threshold(log_likelihood, llh_proportion)
        if (log_likelihood >= threshold).all():
            return "its likelihoods are all the same"
        frequencies, sizes = division.class_frequencies(
            found["clusters"],
            part.labels,
            self.mixture.num_components,
            num_classes,
        )
        # Of a cluster without samples we know what we know of all.
        counts = np.bincount(part.labels, minlength=num_classes)
        frequencies[sizes == 0] = counts / counts.sum()
        self.frequencies.assign(frequencies)
        self.threshold.assign(threshold)
        return None


class FlowTrainer(TrainingModel):
    """Trains a mixture on pairs of samples of different classes.

    Batches are ((features (B, D), labels (B,)), (features, labels)). The loss
    is the weighted likelihood of the first ones, the contrast of both, and the
    balance of the first ones' posterior; see `keras_lt.losses`.

    Args:
        mixture: What is trained.
        class_weights: Of the likelihood (C,).
        factors: Of the three terms.
        momentum: Of the mean posterior.
        contrast: Further arguments of `keras_lt.losses.cluster_contrast`.
    """

    def __init__(
        self,
        mixture: FlowGaussianMixture,
        class_weights: np.ndarray,
        factors: tuple[float, float, float],
        momentum: float | None,
        contrast: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        self.mixture = mixture
        self.class_weights = class_weights
        self.factors = factors
        self.momentum = momentum
        self.contrast = dict(contrast or {})
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
            posterior, buffer = losses.running_posterior(
                log_joint,
                self.posterior,
                self.optimizer.iterations + 1,
                self.momentum,
            )
            terms = [
                ops.mean(losses.weighted_likelihood(log_likelihood, weights)),
                ops.mean(
                    losses.cluster_contrast(
                        log_joint, other_log_joint, **self.contrast
                    )
                ),
                losses.cluster_balance(posterior),
            ]
            loss = sum(f * t for f, t in zip(self.factors, terms, strict=True))
        self.posterior.assign(buffer)
        self.minimize(loss, tape)
        for tracker, value in zip(self._trackers, [loss, *terms], strict=True):
            tracker.update_state(value)
        return {tracker.name: tracker.result() for tracker in self._trackers}


def _digest(samples: Features) -> str:
    """Tells samples from others of the same number."""
    digest = hashlib.sha256(repr(samples.features.shape).encode())
    for array in samples:
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


class _Kept:
    """The levels that are trained, in a folder that the next start reads."""

    def __init__(
        self,
        directory: str | os.PathLike | None,
        model: DLSA,
        settings: dict[str, Any],
    ):
        self._model = model
        self._settings = json.loads(json.dumps(settings))
        self.levels = 0
        self._path = None
        if directory is None:
            return
        self._path = Path(directory)
        self._path.mkdir(parents=True, exist_ok=True)
        index = self._path / "levels.json"
        if not index.exists():
            return
        try:
            found = json.loads(index.read_text())
            is_same = found["settings"] == self._settings
            if is_same:
                self.levels, file = self._checked(found)
                model.load_weights(self._path / file)
        except MemoryError:
            raise
        except Exception as error:  # JSON, HDF5 and Keras raise all kinds
            raise ValueError(
                "Expected the levels of a training that was cut. Received: "
                f"{index}, which can't be restored: {error}"
            ) from error
        if not is_same:
            raise ValueError(
                "Expected a directory of the same training. Received: "
                f"directory={str(directory)!r}, which holds another one"
            )

    def _checked(self, found: dict[str, Any]) -> tuple[int, str]:
        levels, file = found["levels"], found["file"]
        if levels not in range(1, len(self._model.levels) + 1) or (
            file != _level_file(levels)
        ):
            raise ValueError(f"levels={levels!r:.80}, file={file!r:.80}")
        return levels, file

    def add(self) -> None:
        self.levels += 1
        if self._path is None:
            return
        file = _level_file(self.levels)
        with files.replacing(self._path / file) as part:
            self._model.save_weights(part, overwrite=True)
        index = {
            "settings": self._settings,
            "levels": self.levels,
            "file": file,
        }
        with files.replacing(self._path / "levels.json") as part:
            part.write_text(json.dumps(index))


def _level_file(levels: int) -> str:
    return f"level-{levels}.weights.h5"


@keras.saving.register_keras_serializable(package="keras_lt")
class DividedModel(keras.Model):
    """What `stack` makes: a functional model that `fit` refuses to train.

    Its gradient knows nothing of how samples are divided.
    """

    train_step = refuse_fit("DLSA.fit_features, on features,")


def stack(
    model: keras.Model, dlsa: DLSA, layer: str | None = None
) -> keras.Model:
    """Puts a DLSA on the features of a trained model: from images to logits.

    Args:
        model: As `keras_lt.features.feature_model` takes it.
        dlsa: Trained on features of that model.
        layer: Name of the layer whose outputs they are; None for what the last
            layer takes.

    Returns:
        A functional model that shares the layers.

    Raises:
        ValueError: If the features have another dimension.

    Example:
        >>> model = keras_lt.models.stack(stage1, dlsa)
        >>> model(test.images[:16]).shape
        TensorShape([16, 10])
    """
    extractor = features_lib.feature_model(model, layer)
    dim = dlsa.get_config()["features_dim"]
    if extractor.output.shape[-1] != dim:
        raise ValueError(
            f"Expected a model with {dim} features, as dlsa takes them. "
            f"Received: {extractor.output.shape[-1]}"
        )
    logits = dlsa(extractor.output)
    return DividedModel(extractor.input, logits, name="divided")
