"""The page of an evaluation: what a model will do out there."""

import os
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from keras_lt import plots
from keras_lt.counts import Classes
from keras_lt.evaluation import KNOWN_SCORES, RecallCurve
from keras_lt.metrics import GROUPS, SCORES
from keras_lt.report.card import about_fitted
from keras_lt.report.page import group_of
from keras_lt.report.rendering import percent, write_page

_WORST = 5
_WORTH = 12  # classes to collect images of
_MORE, _GAIN_LEVEL = 10, 0.9
# Class frequencies in the order of the figure, from the head's to the tail's.
_FACTORS = (50, 25, 10, 5, 2)
_WAYS = (
    *(f"forward_{factor}" for factor in _FACTORS),
    "uniform",
    *(f"backward_{factor}" for factor in reversed(_FACTORS)),
)


class Part(NamedTuple):
    """A section of the page.

    Args:
        title: Its heading.
        meaning: What the figure or table means, in one sentence.
        figure: A `matplotlib.figure.Figure`, or None.
        table: Header and rows of texts, or None.
        said: Sentences, each a paragraph.
        folded: Whether a reader opens it first.

    Example:
        >>> keras_lt.report.Part("Sets", "Fewer classes are better.").folded
        False
    """

    title: str
    meaning: str
    figure: Any = None
    table: tuple[Sequence[str], Sequence[Sequence[str]]] | None = None
    said: Sequence[str] = ()
    folded: bool = False


def write_evaluation(
    path: str | os.PathLike,
    found: dict,
    classes: Classes,
    *,
    title: str,
    facts: Sequence[str] = (),
    parts: Sequence[Part] = (),
) -> None:
    """Write the page of an evaluation, in one file that needs no network.

    Args:
        path: File to write, new or a page of keras_lt.
        found: What `keras_lt.evaluation.evaluate` gave; with `comparison`, what
            `keras_lt.evaluation.compare` gave, it is shown too, as is what
            tools/evaluate.py adds as `unknown` and `calibrated`.
        classes: Names, counts and shot thresholds of the classes.
        title: Heading.
        facts: Phrases below the heading.
        parts: More sections, after ours.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If `path` holds something else than a page of keras_lt.

    Example:
        >>> predictions = keras_lt.evaluation.Predictions(
        ...     [[2.0, 0.0], [2.0, 0.0]], [0, 1], classes=[500, 5]
        ... )
        >>> keras_lt.report.write_evaluation(
        ...     "evaluation.html",
        ...     keras_lt.evaluation.evaluate(predictions),
        ...     keras_lt.counts.Classes([500, 5], ["cat", "lynx"]),
        ...     title="balanced softmax",
        ... )
    """
    own = [part for make in _PARTS for part in make(found, classes)]
    write_page(
        path,
        "evaluation",
        title,
        facts,
        notes=found["notes"],
        parts_shown=[*own, *parts],
    )


def _scores(found: dict, classes: Classes) -> list[Part]:
    header = ["score", "value", _interval(found), "what it is"]
    rows = []
    for score in SCORES.values():
        ends = found["intervals"].get(score.name)
        if ends:
            value = score.shown(found[score.name])
            between = score.between(ends)
            rows.append([score.label, value, between, score.meaning])
    return [
        Part(
            "Scores",
            "With other test images of the same source and as many per class, "
            f"{100 * found['level']:g} of 100 intervals hold the score that "
            "all images together would give (bootstrap, class by class); "
            "those of the lowest recalls hold it more often.",
            table=(header, rows),
        )
    ]


def _classes(found: dict, classes: Classes) -> list[Part]:
    columns = found["per_class"]
    recall = columns["recall"]
    known = [label for label, value in enumerate(recall) if value is not None]
    worst = sorted(known, key=lambda label: recall[label])[:_WORST]
    by_count = np.argsort(-classes.counts, kind="stable")

    def rows(labels):
        return [
            [
                classes.names[label],
                group_of(classes.groups, label),
                f"{classes.counts[label]:,}",
                f"{columns['images'][label]:,}",
                percent(recall[label]),
                _between(columns["low"][label], columns["high"][label]),
            ]
            for label in labels
        ]

    header = ["class", "group", "training images", "test images", "recall"]
    header.append(_interval(found))
    return [
        Part(
            "Recall of each class",
            "The bars are the shares of right answers, the lines the intervals "
            "(Wilson) that the number of test images allows.",
            figure=plots.per_class_accuracy(
                recall, classes, (columns["low"], columns["high"])
            ),
        ),
        Part(
            "The worst classes",
            "A class whose interval is wide has too few test images to say "
            "that it is bad.",
            table=(header, rows(worst)),
        ),
        Part(
            "Every class",
            "Classes from most to fewest training images.",
            table=(header, rows(by_count)),
            folded=True,
        ),
    ]


def _collecting(found: dict, classes: Classes) -> list[Part]:
    images = np.array(found["per_class"]["images"])
    recall = found["per_class"]["recall"]
    hits = np.rint([n * (r or 0) for n, r in zip(images, recall, strict=True)])
    curve = RecallCurve(hits.astype(int), images, classes.counts)
    gains = curve.gains(_MORE, level=_GAIN_LEVEL)
    order = np.argsort(-gains.balanced, kind="stable")[:_WORTH]
    rows = [
        [
            classes.names[label],
            f"{classes.counts[label]:,}",
            percent(recall[label]),
            f"{100 * gains.recall[label]:+.1f}",
            f"{100 * gains.balanced[label]:+.2f}",
            f"{100 * gains.low[label]:.2f} to {100 * gains.high[label]:.2f}",
        ]
        for label in order
    ]
    header = ["class", "training images", "recall", "recall gains"]
    header += ["balanced gains", f"{100 * _GAIN_LEVEL:g}% interval"]
    low, high = (
        curve.slope + way * 1.645 * curve.slope_error for way in (-1, 1)
    )
    return [
        Part(
            "Recall by the number of training images",
            "Each dot is a class; the curve is the recall of a class like most "
            "others, so that one far below it is hard and not only rare.",
            figure=plots.recall_by_count(recall, classes, curve.recall),
        ),
        Part(
            "What to collect next",
            f"Points that {_MORE} more training images of one class are "
            "expected to give its recall and the balanced accuracy, if a "
            "class moves along the curve as classes differ along it, which "
            "was not tried out on these images. A recall of few test images, "
            "such as 100% of one, counts less than the curve.",
            table=(header, rows),
            said=[
                "Ten times as many images multiply the odds of a right answer "
                f"by {10**curve.slope:.1f} ({10**low:.1f} to {10**high:.1f})."
            ],
        ),
    ]


def _shifts(found: dict, classes: Classes) -> list[Part]:
    shifted = found["shifted"]
    lines = {
        label: [shifted[name][key] for name in _WAYS]
        for key, label in (("plain", "as it is"), ("adjusted", "adjusted"))
    }
    if None in lines["adjusted"]:
        del lines["adjusted"]
    return [
        Part(
            "Accuracy under other class frequencies",
            "What share of answers is right where the head is 50 times as "
            "frequent as the tail (left) or the tail as the head (right): with "
            "the model as it is, and adjusted to frequencies that are known.",
            figure=plots.shifted_accuracy(
                lines, [name.replace("_", " ") for name in _WAYS]
            ),
        ),
        Part(
            "The same in numbers",
            "Expected accuracy, exact for the recalls above; drawn frequencies "
            "are uniform over all that are possible.",
            table=table_of_shifts(shifted),
            folded=True,
        ),
    ]


def table_of_shifts(shifted: dict) -> tuple[list[str], list[list[str]]]:
    """Header and rows about accuracy under other class frequencies.

    Args:
        shifted: What `keras_lt.evaluation.shifts` gave.

    Example:
        >>> predictions = keras_lt.evaluation.Predictions(
        ...     [[2.0, 0.0], [1.0, 0.0]], [0, 1], [500, 5]
        ... )
        >>> shifted = keras_lt.evaluation.shifts(predictions)
        >>> header, rows = keras_lt.report.table_of_shifts(shifted)
        >>> rows[2][:2]
        ['forward 10', '90.9%']
    """
    rows = [
        [
            name.replace("_", " "),
            percent(one["plain"]),
            percent(one["adjusted"]),
        ]
        for name, one in shifted.items()
    ]
    drawn = shifted["dirichlet"]
    rows[-1][0] = f"drawn {drawn['draws']:,} times, mean"
    rows.append(
        [
            "drawn, 5th percentile",
            percent(drawn["plain_p5"]),
            percent(drawn["adjusted_p5"]),
        ]
    )
    return ["class frequencies", "as it is", "adjusted"], rows


def _calibration(found: dict, classes: Classes) -> list[Part]:
    groups = found["reliability"]
    if groups is None:
        return []
    said = about_fitted(found["calibrated"]) if "calibrated" in found else []
    table = None
    if found["holdout"]:
        kind = found["holdout"]["kind"]
        header = [f"fitted on a {kind} hold-out", "ECE", "NLL"]
        rows = [
            ["nothing", found["ece"], found["nll"]],
            [
                f"temperature {found['temperature']:.3g}",
                found["ece_calibrated"],
                found["nll_calibrated"],
            ],
        ]
        vector = found["vector_scaling"]
        if vector:
            rows.append(["vector scaling", vector["ece"], vector["nll"]])
        table = (
            header,
            [[name, percent(ece), f"{nll:.3f}"] for name, ece, nll in rows],
        )
    return [
        Part(
            "Do probabilities hold?",
            "Where a line is below the dashed one, the model is too sure of "
            "the classes of this shot group; larger markers stand for more "
            "images.",
            figure=plots.reliability(groups),
            table=table,
            said=said,
        )
    ]


def _sets(found: dict, classes: Classes) -> list[Part]:
    if not found["sets"]:
        return []
    methods = {
        name: one for name, one in found["sets"].items() if name != "asked"
    }
    header = ["sets", "coverage", "mean of classes", "lowest", "classes in one"]
    header += [f"of {name}-shot" for name in GROUPS]
    rows = [
        [
            name.replace("_", " "),
            *(
                percent(one[key])
                for key in ("coverage", "macro_coverage", "lowest_coverage")
            ),
            f"{one['size']:.2f}",
            *(
                "n/a"
                if one["group_size"][group] is None
                else f"{one['group_size'][group]:.2f}"
                for group in GROUPS
            ),
        ]
        for name, one in methods.items()
    ]
    return [
        Part(
            "Sets in place of single answers",
            "Share of the sets that hold the class of the image, of all test "
            "images, as the mean over classes and of the worst class, where "
            f"{100 * found['sets']['asked']:g}% was asked for; and how many "
            "classes are in a set, on images of each shot group.",
            table=(header, rows),
        )
    ]


def table_of_unknown(found: dict) -> tuple[list[str], list[list[str]]]:
    """Header and rows about how scores tell images of no class apart.

    Args:
        found: For each of `keras_lt.evaluation.KNOWN_SCORES` `auroc`, `fpr95`
            and `kept`, what `keras_lt.evaluation.kept_by_group` gives.

    Example:
        >>> one = {"auroc": 0.9, "fpr95": 0.4, "kept": {"few": 0.8}}
        >>> header, rows = keras_lt.report.table_of_unknown({"energy": one})
        >>> rows[0][:3]
        ['energy', '90.0%', '40.0%']
    """
    header = ["score", "AUROC", "unknown that pass"]
    header += [f"{name}-shot kept" for name in GROUPS]
    return header, [
        [
            name.replace("_", " "),
            percent(found[name]["auroc"]),
            percent(found[name]["fpr95"]),
            *(percent(found[name]["kept"].get(group)) for group in GROUPS),
        ]
        for name in KNOWN_SCORES
        if name in found
    ]


def _unknown(found: dict, classes: Classes) -> list[Part]:
    if "unknown" not in found:
        return []
    return [
        Part(
            "Images of none of the classes",
            f"Of {found['unknown']['images']:,} images of no class, the share "
            "that passes for one where 95% of the test images are kept, and "
            "how many of each shot group those are; AUROC is the probability "
            "that a test image has the higher score.",
            table=table_of_unknown(found["unknown"]),
        )
    ]


def _comparison(found: dict, classes: Classes) -> list[Part]:
    compared = found.get("comparison")
    if compared is None:
        return []
    test = compared["mcnemar"]
    return [
        Part(
            "Compared with a second model",
            "Differences in points, first less second, on the same images "
            f"(paired bootstrap); {test['only_first']:,} images have only the "
            f"first right, {test['only_second']:,} only the second (McNemar's "
            f"test: p = {test['p_value']:.2g}).",
            table=table_of_differences(compared),
            said=compared["verdict"],
        )
    ]


def table_of_differences(compared: dict) -> tuple[list[str], list[list[str]]]:
    """Header and rows about how scores of two models differ.

    Args:
        compared: What `keras_lt.evaluation.compare` gave.

    Example:
        >>> found = {"differences": {"top1": [0.021, 0.012, 0.03]}}
        >>> header, rows = keras_lt.report.table_of_differences(found)
        >>> rows
        [['top-1', '+2.1', '+1.2 to +3.0', 'yes']]
    """
    rows = [
        [
            SCORES[name].label,
            f"{100 * value:+.1f}",
            f"{100 * low:+.1f} to {100 * high:+.1f}",
            "no" if low <= 0 <= high else "yes",
        ]
        for name, (value, low, high) in compared["differences"].items()
    ]
    return ["score", "difference", "interval", "told apart"], rows


def _interval(found: dict) -> str:
    return f"{100 * found['level']:g}% interval"


def _between(low: float | None, high: float | None) -> str:
    if low is None:
        return "n/a"
    return f"{100 * low:.1f} to {100 * high:.1f}"


# What makes sections of an evaluation, in the order of the page. A section more
# is one function more here: it gives no part where it has nothing to show.
_PARTS: tuple[Callable[[dict, Classes], list[Part]], ...] = (
    _comparison,
    _scores,
    _classes,
    _collecting,
    _shifts,
    _calibration,
    _sets,
    _unknown,
)
