"""How DLSA trains its flows and its classifiers."""

import dataclasses
import math

from keras_lt.arguments import integer, real
from keras_lt.models.dlsa.terms import check_contrast

LOSSES = ("balanced_softmax", "crossentropy")
KEEPS = ("last", "purest")


@dataclasses.dataclass(frozen=True)
class Contrast:
    """The form of the contrast between samples of different classes.

    The arguments are those of `keras_lt.models.dlsa.cluster_contrast`.

    Attributes:
        kind: "soft_ce" or "ce".
        margin: Lower bound of the posteriors of "soft_ce", in (0, 1); None is
            no bound.
        freeze: Whether no gradient goes into the posterior of the first sample
            of a pair, as published.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> contrast = keras_lt.models.dlsa.Contrast("ce", freeze=False)
        >>> settings = keras_lt.models.dlsa.FlowSettings(contrast=contrast)
    """

    kind: str = "soft_ce"
    margin: float | None = None
    freeze: bool = True

    def __post_init__(self):
        check_contrast(self.kind, self.margin)


@dataclasses.dataclass(frozen=True)
class FlowSettings:
    """How the flow of a level is trained.

    The loss is the sum of three terms with a factor each: the weighted
    likelihood, the contrast between classes, and the balance of the clusters
    (Xu et al., ECCV 2022, arXiv:2208.02567). Defaults are the authors', but for
    `weight_power`, where they have 2.

    Attributes:
        epochs: Epochs, each of as many pairs as there are samples.
        batch_size: Pairs per step.
        learning_rate: Learning rate of SGD.
        momentum: Momentum of SGD.
        weight_power: Exponent q of the class weights of the likelihood; see
            `keras_lt.models.dlsa.reversed_weights`. 0 weighs all classes alike.
        likelihood_factor: Factor of the weighted likelihood.
        contrast_factor: Factor of the contrast.
        balance_factor: Factor of the balance.
        posterior_momentum: Momentum of the mean posterior that the balance is
            computed from; see `keras_lt.models.dlsa.running_posterior`.
        contrast: Form of the contrast.
        keep: Whose weights the flow keeps: "last" is those of the last epoch,
            "purest", as the authors' code has it, those of the epoch after
            which most clusters are pure; see
            `keras_lt.models.dlsa.pure_clusters`. Of equal epochs it is the
            first.

    Raises:
        TypeError: If an argument has another type.
        ValueError: If an argument is out of its range.

    Example:
        >>> keras_lt.models.dlsa.FlowSettings(epochs=20).learning_rate
        0.2
    """

    epochs: int = 50
    batch_size: int = 1024
    learning_rate: float = 0.2
    momentum: float = 0.0
    weight_power: float = 0.0
    likelihood_factor: float = 2.0
    contrast_factor: float = 0.02
    balance_factor: float = 1.0
    posterior_momentum: float | None = 0.7
    contrast: Contrast = Contrast()
    keep: str = "last"

    def __post_init__(self):
        for name in ("epochs", "batch_size"):
            integer(name, getattr(self, name), 1)
        for name in (
            "learning_rate",
            "momentum",
            "weight_power",
            "likelihood_factor",
            "contrast_factor",
            "balance_factor",
        ):
            _at_least_0(name, getattr(self, name))
        momentum = self.posterior_momentum
        if momentum is not None and not (
            0 <= real("posterior_momentum", momentum) < 1
        ):
            raise ValueError(
                "Expected posterior_momentum in [0, 1), or None. "
                f"Received: posterior_momentum={momentum}"
            )
        if not isinstance(self.contrast, Contrast):
            raise TypeError(
                "Expected contrast to be a keras_lt.models.dlsa.Contrast. "
                f"Received: contrast={self.contrast!r}"
            )
        if self.keep not in KEEPS:
            raise ValueError(
                f"Expected keep to be one of {KEEPS}. "
                f"Received: keep={self.keep!r}"
            )

    @property
    def factors(self) -> tuple[float, float, float]:
        """The factors of likelihood, contrast and balance.

        Example:
            >>> keras_lt.models.dlsa.FlowSettings().factors
            (2.0, 0.02, 1.0)
        """
        return (
            self.likelihood_factor,
            self.contrast_factor,
            self.balance_factor,
        )


@dataclasses.dataclass(frozen=True)
class ClassifierSettings:
    """How the classifier of a level is trained, by SGD without momentum.

    Attributes:
        epochs: Epochs.
        batch_size: Samples per step.
        learning_rate: Learning rate of SGD.
        loss: "balanced_softmax" of each classifier's own samples, or
            "crossentropy".

    Raises:
        TypeError: If an argument has another type.
        ValueError: If an argument is out of its range.

    Example:
        >>> keras_lt.models.dlsa.ClassifierSettings(loss="crossentropy").epochs
        150
    """

    epochs: int = 150
    batch_size: int = 128
    learning_rate: float = 0.01
    loss: str = "balanced_softmax"

    def __post_init__(self):
        for name in ("epochs", "batch_size"):
            integer(name, getattr(self, name), 1)
        _at_least_0("learning_rate", self.learning_rate)
        if self.loss not in LOSSES:
            raise ValueError(
                f"Expected loss to be one of {LOSSES}. "
                f"Received: loss={self.loss!r}"
            )


def _at_least_0(name: str, value: float) -> None:
    if not 0 <= real(name, value) < math.inf:
        raise ValueError(f"Expected {name} >= 0. Received: {name}={value}")
