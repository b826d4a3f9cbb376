"""Pairs of runs on the same test images, from what their records keep."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from keras_lt import evaluation
from keras_lt.metrics import SCORES
from keras_lt.report.record import Record

COMPARED = ("top1", "balanced", "lowest_recall")
_ALIKE = "cannot be told apart"


class Pair(NamedTuple):
    """A run compared with the one of the same seed of another method.

    Args:
        method: Label of its method.
        other: Label of the other method.
        seed: The seed of both.
        found: What `keras_lt.evaluation.compare` gave.

    Example:
        >>> keras_lt.report.Pair("ce", "cb", 0, {"verdict": []}).seed
        0
    """

    method: str
    other: str
    seed: int
    found: dict

    @property
    def cells(self) -> list[str]:
        """What the difference is in each of `COMPARED`, in words.

        Example:
            >>> found = {
            ...     "differences": {
            ...         "top1": [0.02, 0.01, 0.03],
            ...         "balanced": [0.01, -0.01, 0.03],
            ...         "lowest_recall": [-0.1, -0.2, -0.05],
            ...     },
            ...     "mcnemar": {"p_value": 0.001},
            ... }
            >>> keras_lt.report.Pair("a", "b", 0, found).cells[0]
            'better: +2.0 (+1.0 to +3.0)'
        """
        return [
            self._in_words(name, *self.found["differences"][name])
            for name in COMPARED
        ]

    def _in_words(self, name: str, *ends: float) -> str:
        difference, low, high = (100 * value for value in ends)
        is_alike = low <= 0 <= high
        if name == "top1":
            is_alike = self.found["mcnemar"]["p_value"] >= 0.05
        if is_alike:
            return f"{_ALIKE} ({low:+.1f} to {high:+.1f})"
        word = "better" if difference > 0 else "worse"
        return f"{word}: {difference:+.1f} ({low:+.1f} to {high:+.1f})"

    def __str__(self) -> str:
        words = (
            f"{SCORES[name].label} {cell}"
            for name, cell in zip(COMPARED, self.cells, strict=True)
        )
        text = (
            f"{self.method} against {self.other}, seed {self.seed}: "
            f"{'; '.join(words)}."
        )
        return text.replace("\N{NO-BREAK SPACE}", " ")


def pairs(methods: Mapping[str, Sequence[Record]]) -> list[Pair]:
    """Compares each method with the best one, seed by seed.

    The best one has the highest mean balanced accuracy of those that a pair can
    be made of: records that say which test images were answered rightly, which
    those of the first schema version do not.

    Args:
        methods: {label: records, one for each seed}.

    Returns:
        A pair for each run of another method of which the best one has the
        seed, on as many test images of each class.

    Example:
        >>> keras_lt.report.pairs({"ce": [record]})
        []
    """
    answers, means = {}, {}
    for label, records in methods.items():
        found = {
            record.seed: evaluation.answers_of(
                record.test["last"], record.classes
            )
            for record in records
        }
        known = {seed: each for seed, each in found.items() if each is not None}
        if known:
            answers[label] = known
            values = [record.test["last"]["balanced"] for record in records]
            means[label] = sum(values) / len(values)
    if len(answers) < 2:
        return []
    best = max(means, key=means.get)
    return [
        Pair(label, best, seed, evaluation.compare(own, answers[best][seed]))
        for label, runs in answers.items()
        if label != best
        for seed, own in runs.items()
        if seed in answers[best]
        and (own.totals == answers[best][seed].totals).all()
    ]
