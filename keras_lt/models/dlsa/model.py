"""The model: levels of flows, and a classifier for each."""

import dataclasses
import math
import os
import warnings
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_lt import losses, progress, seeding, trainable
from keras_lt.arguments import integer, real
from keras_lt.models.base import refuse_fit
from keras_lt.models.dlsa import routing
from keras_lt.models.dlsa.kept import Kept
from keras_lt.models.dlsa.layers import _ClusterAidedClassifier, _Level
from keras_lt.models.dlsa.mixture import FlowGaussianMixture
from keras_lt.models.dlsa.samples import Samples, checked, stream
from keras_lt.models.dlsa.settings import ClassifierSettings, FlowSettings

LATENTS = ("latent", "features")


class _Advance(keras.callbacks.Callback):
    """Moves a bar on by each epoch."""

    def __init__(self, bar: Any):
        super().__init__()
        self._bar = bar

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._bar.update()


@keras.saving.register_keras_serializable(package="keras_lt")
class DLSA(keras.Model):
    """Divides the label space of features by flows, and classifies each part.

    "Constructing Balance from Imbalance for Long-tailed Image Recognition" (Xu
    et al., ECCV 2022, arXiv:2208.02567). Level by level a flow (a
    `MaskedAutoregressiveFlow` of two blocks) with a Gaussian mixture as prior
    learns clusters of one class each. The training samples of the highest
    likelihood go to this level's classifier, which knows the class frequencies
    of their cluster; the others go down to the next level, and from the last
    one to a classifier of what is left.

    `fit_features` trains it; `fit` refuses to. The result is one Keras model
    from features (B, D) to logits (B, C): flows, thresholds, class frequencies
    of clusters and classifiers are its weights, and samples find their way
    without a loop. `keras_lt.models.stack` puts it on a backbone.

    Args:
        num_classes: C, at least 2.
        features_dim: D.
        depth: Number of levels, at least 1.
        num_clusters: K, components of each level's mixture.
        llh_proportion: Fraction of its training samples that a level keeps, in
            (0, 1). The authors have 0.3; a tenth did better on CIFAR-10-LT.
        center_std: Standard deviation of the cluster centers.
        components: Principal components of its samples that the flow of a
            level sees, at most D; None is the features as they are. The time
            of a flow grows as their number squared: take some 128 where D is
            1,000 or more. Classifiers see the features.
        classifier: "linear" or "cosine": what f and g are in the logits
            f(x) + g([z, frequencies]).
        z: What classifiers take beside the features: the flow's "latent"
            variable as in the paper, or the "features" again, as the authors'
            code in fact does.
        seed: Seed of cluster centers and of the order of samples; other weights
            start by `keras.utils.set_random_seed`.
        **kwargs: Arguments of `keras.Model`, such as `name`.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> features = keras_lt.features.extract(stage1, train)
        >>> dlsa = keras_lt.models.DLSA(10, features_dim=8, num_clusters=20)
        >>> levels = dlsa.fit_features(
        ...     *features,
        ...     flow=keras_lt.models.dlsa.FlowSettings(epochs=1),
        ...     classifier=keras_lt.models.dlsa.ClassifierSettings(epochs=1),
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
        llh_proportion: float = 0.1,
        center_std: float = 0.05,
        components: int | None = None,
        classifier: str = "linear",
        z: str = "latent",
        seed: int = 0,
        **kwargs: Any,
    ):
        super().__init__(**{"name": "dlsa", **kwargs})
        self.num_classes = integer("num_classes", num_classes, 2)
        self.features_dim = integer("features_dim", features_dim, 1)
        self.num_clusters = integer("num_clusters", num_clusters)
        self.llh_proportion = real("llh_proportion", llh_proportion)
        self.center_std = real("center_std", center_std)
        self.depth = integer("depth", depth)
        self.seed = integer("seed", seed)
        if depth < 1 or num_clusters < 2 or not 0 < llh_proportion < 1:
            raise ValueError(
                "Expected depth >= 1, num_clusters >= 2 and llh_proportion in "
                f"(0, 1). Received: depth={depth}, num_clusters={num_clusters},"
                f" llh_proportion={llh_proportion}"
            )
        self.components = components
        if components is not None:
            self.components = integer("components", components)
            if not 1 <= components <= features_dim:
                raise ValueError(
                    f"Expected components from 1 to {features_dim}, the "
                    f"features. Received: components={components}"
                )
        if z not in LATENTS:
            raise ValueError(
                f"Expected z to be one of {LATENTS}. Received: z={z!r}"
            )
        self.classifier = classifier
        self.z = z
        self.levels = [
            _Level(
                FlowGaussianMixture(
                    self.num_clusters,
                    self.center_std,
                    seed=seeding.derived_seed(self.seed, "levels", level),
                ),
                _ClusterAidedClassifier(
                    self.num_classes, classifier, name=f"classifier_{level}"
                ),
                z,
                self.components,
                name=f"level_{level}",
            )
            for level in range(depth)
        ]
        self.last = _ClusterAidedClassifier(
            self.num_classes, classifier, name="last_classifier"
        )
        self.build((None, features_dim))

    def build(self, input_shape: Any) -> None:
        if self.built:
            return
        for level in self.levels:
            level.build(input_shape)
        self.last.build([input_shape, self.levels[-1].latent_shape])
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

    def inspect(self, features: np.ndarray) -> list[routing.Level]:
        """Returns how the levels that divide see samples, from the top down.

        Args:
            features: (N, D).

        Returns:
            A `keras_lt.models.dlsa.Level` for each. Where a sample is so far
            off that its likelihood is not finite, the lowest number stands for
            it.
        """
        lowest = float(np.finfo("float32").min)
        levels = []
        for level in self.levels:
            threshold = float(level.threshold.numpy())
            if math.isfinite(threshold):
                found = level.inspect(features)
                levels.append(
                    routing.Level(
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
        flow: FlowSettings | None = None,
        classifier: ClassifierSettings | None = None,
        directory: str | os.PathLike | None = None,
        verbose: int | str = "auto",
    ) -> list[dict[str, Any]]:
        """Trains all levels, one after the other.

        A level that can't divide its samples is left out with those below it,
        with a warning that says why: fewer samples than clusters or components,
        one class alone, or likelihoods that part nothing.

        Args:
            features: (N, D).
            labels: Label ids, integers (N,).
            flow: How flows are trained; None is `FlowSettings()`.
            classifier: How classifiers are trained; None is
                `ClassifierSettings()`.
            directory: Folder that keeps each level once it is trained, so that
                the same call goes on after a kill; None keeps nothing.
            verbose: "auto" or 1 is one bar of all epochs with the time left,
                on a terminal; 2 is a line per epoch, 0 is silence.

        Returns:
            The facts of `keras_lt.models.dlsa.describe` about each level that
            divides.

        Raises:
            ValueError: If shapes do not fit, features are not finite, there is
                one class only, or `directory` holds another training.
        """
        samples = checked(features, labels, self.features_dim, self.num_classes)
        flow = flow or FlowSettings()
        classifier = classifier or ClassifierSettings()
        kept = Kept(
            directory,
            self,
            {
                **self.get_config(),
                "samples": samples.digest(),
                "class_counts": self._counts(samples).tolist(),
                "flow_settings": dataclasses.asdict(flow),
                "classifier_settings": dataclasses.asdict(classifier),
            },
        )
        of_level = flow.epochs + classifier.epochs
        with progress.bar(
            f"{len(self.levels)} levels",
            len(self.levels) * of_level + classifier.epochs,
            "epochs",
            kept.levels * of_level,
        ) as bar:
            watch = {"verbose": 0 if verbose in ("auto", 1) else verbose}
            if verbose in ("auto", 1):
                watch["callbacks"] = [_Advance(bar)]
            self._fit_levels(samples, kept, flow, classifier, watch)
        return routing.describe(
            self.inspect(samples.features), samples.labels, self.num_classes
        )

    def _fit_levels(
        self,
        samples: Samples,
        kept: Kept,
        flow: FlowSettings,
        classifier: ClassifierSettings,
        watch: dict[str, Any],
    ) -> None:
        left = np.ones(len(samples.labels), bool)
        for number, level in enumerate(self.levels):
            part = samples.where(left)
            if number >= kept.levels:
                reason = self._fit_level(level, part, flow, classifier, watch)
                if reason is not None:
                    self._leave_out(number, reason)
                    break
                kept.add()
            left[left] = ~level.inspect(part.features)["keep"]
        part = samples.where(left)
        latent = self.levels[-1].inspect(part.features)["latent"]
        self._fit_classifier(self.last, part, latent, classifier, watch)

    def _counts(self, samples: Samples) -> np.ndarray:
        return np.bincount(samples.labels, minlength=self.num_classes)

    def _fit_level(
        self,
        level: _Level,
        part: Samples,
        flow: FlowSettings,
        classifier: ClassifierSettings,
        watch: dict[str, Any],
    ) -> str | None:
        """Trains a level, or says why it can't and leaves it as it was."""
        size, classes = len(part.labels), len(np.unique(part.labels))
        if size < self.num_clusters:
            return f"{size} samples for {self.num_clusters} clusters"
        if size < (self.components or 0):
            return f"{size} samples for {self.components} components"
        if classes < 2:
            return "all samples are of one class"
        start = level.get_weights()
        level.fit_flow(part, self.num_classes, flow, self.seed, watch)
        reason = level.divide(part, self.num_classes, self.llh_proportion)
        if reason is not None:
            level.set_weights(start)
            return reason
        found = level.inspect(part.features)
        keep = found["keep"]
        self._fit_classifier(
            level.classifier,
            part.where(keep),
            found["others"][keep],
            classifier,
            watch,
        )
        return None

    def _leave_out(self, number: int, reason: str) -> None:
        """Makes nothing of a level and those below it, and warns."""
        if number:
            # The last classifier sees the z of the last level.
            for lower in self.levels[number:]:
                lower.take_flow(self.levels[number - 1])
        warnings.warn(
            f"Level {number + 1} of {len(self.levels)} is left out, with those "
            f"below it: {reason}.",
            stacklevel=4,
        )

    def _fit_classifier(
        self,
        classifier: keras.layers.Layer,
        part: Samples,
        others: np.ndarray,
        settings: ClassifierSettings,
        watch: dict[str, Any],
    ) -> None:
        """Trains a classifier on samples and what else is known of them."""
        dim = self.features_dim
        inputs = keras.Input((dim + others.shape[1],))
        model = keras.Model(
            inputs, classifier([inputs[:, :dim], inputs[:, dim:]])
        )
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        if settings.loss == "balanced_softmax":
            loss = losses.BalancedSoftmax(self._counts(part))
        model.compile(keras.optimizers.SGD(settings.learning_rate), loss)
        trainable.build_optimizer(model)
        joined = np.concatenate([part.features, others], axis=1)
        size = min(settings.batch_size, len(part.labels))
        model.fit(
            stream(
                Samples(joined, part.labels),
                self.num_classes,
                size,
                self.seed,
                classifier.name,
            ),
            epochs=settings.epochs,
            steps_per_epoch=max(1, round(len(part.labels) / size)),
            shuffle=False,
            **watch,
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "features_dim": self.features_dim,
            "depth": self.depth,
            "num_clusters": self.num_clusters,
            "llh_proportion": self.llh_proportion,
            "center_std": self.center_std,
            "components": self.components,
            "classifier": self.classifier,
            "z": self.z,
            "seed": self.seed,
        }

    train_step = refuse_fit("fit_features(features, labels)")
