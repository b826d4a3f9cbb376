"""The one table of scores: what each is, how it reads, and how it is computed.

All that lists scores reads it: `evaluate`, TensorBoard, records, reports, model
cards, comparisons, `tools/results.py`, `tools/evaluate.py` and what recipes
print. A new score is one entry here.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from keras_lt.metrics.expected_calibration_error import calibration_error

GROUPS = ("many", "medium", "few", "unseen")
TOP = 5
LOWEST = 5


@dataclasses.dataclass(frozen=True)
class Tally:
    """Images by class and answer: of one scoring, or of many draws of it.

    Attributes:
        hits: Right answers by class, (..., C).
        given: Images by the class that they were given, (..., C + 1); the
            first column holds refused images.
        totals: Images of each class, (C,).
        groups: Masks (C,) of the shot groups (`keras_lt.counts.shot_groups`).

    Example:
        >>> tally = keras_lt.metrics.Tally(
        ...     hits=np.array([4, 1]),
        ...     given=np.array([0, 5, 1]),
        ...     totals=np.array([4, 2]),
        ...     groups=keras_lt.counts.shot_groups([500, 5]),
        ... )
        >>> tally.recalls
        array([1. , 0.5])
    """

    hits: np.ndarray
    given: np.ndarray
    totals: np.ndarray
    groups: Mapping[str, np.ndarray]

    @functools.cached_property
    def present(self) -> np.ndarray:
        """Whether a class has an image, (C,)."""
        return self.totals > 0

    @functools.cached_property
    def size(self) -> float:
        """Number of images."""
        return float(self.totals.sum())

    @functools.cached_property
    def recalls(self) -> np.ndarray:
        """Shares of right answers, (..., P) of the P classes with images."""
        return self.hits[..., self.present] / self.totals[self.present]

    @functools.cached_property
    def lowest(self) -> np.ndarray:
        """The lowest recalls in ascending order, followed by the others."""
        places = np.arange(min(LOWEST, self.recalls.shape[-1]))
        return np.partition(self.recalls, places)


@dataclasses.dataclass(frozen=True)
class Score:
    """One score: its name in records and JSON, and how it reads.

    Args:
        name: Key in records, JSON and TensorBoard.
        label: Heading of a column or a tile.
        meaning: Its definition in one phrase.
        unit: `"%"` for a fraction that is shown in percent, `""` for a number
            that is shown as it is.
        larger_is_better: Which way is up.
        is_headline: Whether `evaluate` computes it, which puts it into
            records, reports and tables of results.
        bounds: Least and largest value that it can have.
        of: Function of a `Tally`, which gives (...,) or None where no class is
            in question; None for a score that needs logits.
        of_logits: Function of logits (N, C) and labels (N,), for a headline
            score that needs them.

    Example:
        >>> score = keras_lt.metrics.Score(
        ...     "highest_recall",
        ...     "highest recall",
        ...     "accuracy on the class with the highest",
        ...     of=lambda tally: tally.recalls.max(-1),
        ... )
        >>> score.shown(0.7314), score.shown(None)
        ('73.1%', 'n/a')
    """

    name: str
    label: str
    meaning: str
    unit: str = "%"
    larger_is_better: bool = True
    is_headline: bool = False
    bounds: tuple[float, float] = (0, 1)
    of: Callable[[Tally], np.ndarray | None] | None = None
    of_logits: Callable[[np.ndarray, np.ndarray], float] | None = None

    def shown(self, value: float | None, unit: bool = True) -> str:
        """A value as a reader wants it; `unit=False` leaves the % sign out."""
        if value is None:
            return "n/a"
        if self.unit == "%":
            return f"{100 * value:.1f}{'%' if unit else ''}"
        return f"{value:.3f}"

    def between(self, ends: Sequence[float] | None) -> str:
        """The ends of an interval as a reader wants them; "" for None.

        Example:
            >>> keras_lt.metrics.SCORES["top1"].between([0.7, 0.75])
            '70.0 to 75.0'
        """
        if ends is None:
            return ""
        return " to ".join(self.shown(end, unit=False) for end in ends)


def _top1(tally: Tally) -> np.ndarray:
    return tally.hits.sum(-1) / tally.size


def _balanced(tally: Tally) -> np.ndarray:
    return tally.recalls.mean(-1)


def _geometric_mean(tally: Tally) -> np.ndarray:
    with np.errstate(divide="ignore"):  # recalls of 0
        return np.exp(np.log(tally.recalls).mean(-1))


def _harmonic_mean(tally: Tally) -> np.ndarray:
    with np.errstate(divide="ignore"):  # recalls of 0
        return 1 / (1 / tally.recalls).mean(-1)


def _macro_f1(tally: Tally) -> np.ndarray:
    sizes = (tally.totals + tally.given[..., 1:])[..., tally.present]
    return (2 * tally.hits[..., tally.present] / sizes).mean(-1)


def _matthews(tally: Tally) -> np.ndarray:
    # Fractions, whose squares are of one magnitude.
    given, totals = tally.given / tally.size, tally.totals / tally.size
    right = tally.hits.sum(-1) / tally.size
    both = right - (given[..., 1:] * totals).sum(-1)
    own = (1 - (given**2).sum(-1)) * (1 - (totals**2).sum())
    # It is 0 where one class has all images, as in scikit-learn.
    return np.where(own > 1e-15, both / np.sqrt(np.maximum(own, 1e-15)), 0.0)


def _group(group: str) -> Callable[[Tally], np.ndarray | None]:
    """Mean recall of the classes of a shot group that have an image."""

    def mean(tally: Tally) -> np.ndarray | None:
        mask = tally.groups[group][tally.present]
        return tally.recalls[..., mask].mean(-1) if mask.any() else None

    return mean


SCORES: dict[str, Score] = {
    score.name: score
    for score in (
        Score(
            "top1",
            "top-1",
            "fraction of test images whose class is predicted",
            is_headline=True,
            of=_top1,
        ),
        Score(
            "top5",
            "top-5",
            f"fraction of test images whose class is among the {TOP} with the "
            "highest logits",
        ),
        Score(
            "balanced",
            "balanced",
            "mean over classes",
            is_headline=True,
            of=_balanced,
        ),
        Score(
            "geometric_mean",
            "geometric mean",
            "geometric mean over classes of the accuracy on each",
            of=_geometric_mean,
        ),
        Score(
            "harmonic_mean",
            "harmonic mean",
            "harmonic mean over classes of the accuracy on each",
            is_headline=True,
            of=_harmonic_mean,
        ),
        Score(
            "lowest_recall",
            "lowest recall",
            "accuracy on the class with the lowest",
            is_headline=True,
            of=lambda tally: tally.lowest[..., 0],
        ),
        Score(
            f"lowest_{LOWEST}_recall",
            f"mean of the {LOWEST} lowest recalls",
            f"mean over the {LOWEST} classes with the lowest accuracy",
            of=lambda tally: tally.lowest[..., :LOWEST].mean(-1),
        ),
        Score(
            "macro_f1",
            "macro F1",
            "mean over classes of the F1 score",
            of=_macro_f1,
        ),
        Score(
            "matthews",
            "Matthews correlation",
            "correlation of labels and predicted classes, from -1 to 1",
            unit="",
            bounds=(-1, 1),
            of=_matthews,
        ),
        *(
            Score(
                group,
                group,
                f"mean over {classes}, null where there is none with an image",
                is_headline=True,
                of=_group(group),
            )
            for group, classes in (
                ("many", "many-shot classes"),
                ("medium", "medium-shot classes"),
                ("few", "few-shot classes"),
                ("unseen", "classes without training images"),
            )
        ),
        Score(
            "ece",
            "ECE",
            "expected calibration error, 15 bins",
            larger_is_better=False,
            is_headline=True,
            of_logits=calibration_error,
        ),
        Score(
            "ece_equal_mass",
            "ECE, bins of equal mass",
            "expected calibration error, 15 bins with equally many images",
            larger_is_better=False,
        ),
        Score(
            "classwise_ece",
            "class-wise ECE",
            "mean over classes of the calibration error of their probability",
            larger_is_better=False,
        ),
        Score(
            "brier",
            "Brier score",
            "squared error of the probabilities, summed over classes",
            unit="",
            larger_is_better=False,
            bounds=(0, 2),
        ),
        Score(
            "nll",
            "negative log-likelihood",
            "mean of the negative logarithm of the true class's probability",
            unit="",
            larger_is_better=False,
            bounds=(0, np.inf),
        ),
    )
}
"""All scores by name, in the order in which they are shown. An entry of your
own with `is_headline=True` is computed, stored, drawn and listed like ours."""


def headline_scores() -> list[Score]:
    """The scores that `evaluate` computes and records hold.

    Example:
        >>> [score.name for score in keras_lt.metrics.headline_scores()]
        ['top1', 'balanced', 'harmonic_mean', 'lowest_recall', 'many', 'medium',
         'few', 'unseen', 'ece']
    """
    return [score for score in SCORES.values() if score.is_headline]


def known_scores(results: Iterable[Mapping]) -> list[Score]:
    """The headline scores of which some result has a value.

    Results are what `evaluate` gave, or records hold, perhaps written before a
    score was known. The groups of many, medium and few are always listed,
    since an empty one is worth knowing.

    Example:
        >>> result = {"top1": 0.7, "unseen": None}
        >>> found = keras_lt.metrics.known_scores([result])
        >>> [score.name for score in found]
        ['top1', 'many', 'medium', 'few']
    """
    results = list(results)
    return [
        score
        for score in headline_scores()
        if score.name in GROUPS[:3]
        or any(result.get(score.name) is not None for result in results)
    ]


def summary(result: Mapping) -> str:
    """The headline scores of a result on one line, as fractions.

    Example:
        >>> keras_lt.metrics.summary({"top1": 0.75, "few": None})
        'top1 0.7500, few n/a'
    """
    return ", ".join(
        f"{score.name} "
        + ("n/a" if result[score.name] is None else f"{result[score.name]:.4f}")
        for score in headline_scores()
        if score.name in result
    )
