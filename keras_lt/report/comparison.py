"""One self-contained page that compares the records of several methods."""

import itertools
import os
import statistics
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from keras_lt import plots
from keras_lt.messages import brief
from keras_lt.metrics import GROUPS, SCORES, Score, known_scores
from keras_lt.report.page import data_facts
from keras_lt.report.pairs import COMPARED, Pair, pairs
from keras_lt.report.record import Record
from keras_lt.report.rendering import counted, text, write_page


def _images_per_step(record: Record) -> float:
    return record.train["images"] / record.train["steps"]


# Values that may differ between compared records; the page names those that do.
_SAID = {
    "epochs": lambda record: record.train["epochs"],
    "steps": lambda record: record.train["steps"],
    "images per step": _images_per_step,
    "hold-out": lambda record: record.data["holdout"],
    "augmentation": lambda record: record.augmentation,
    "selection": lambda record: record.data["selection"],
    "split seed": lambda record: record.data["split_seed"],
    "precision": lambda record: record.train["precision"],
    "parameters": lambda record: record.train["num_parameters"],
    "CPU cores": lambda record: record.environment["cpu_count"],
    "devices": lambda record: record.environment["devices"],
}


AGAINST = ("minutes", "steps")
# Curves of accuracy that a record may have; the first one found is drawn.
_CURVES = {
    "test_curve_top1": "accuracy on the test set",
    "val_top1": "accuracy on the hold-out",
}


def write_comparison(
    path: str | os.PathLike,
    records: Sequence[Record],
    against: str | None = None,
) -> list[Pair]:
    """Write a page that compares records, in one file that needs no network.

    Records of the same `name` are the seeds of one method. Scores are those
    of `test["last"]`: mean ± sample standard deviation over seeds.

    Args:
        path: File to write, new or a page of keras_lt.
        records: Records of runs. Methods are shown in the order of their first
            record.
        against: "minutes" or "steps": the page has a figure of accuracy
            against them too, of the runs that have a curve. Methods may then
            differ in augmentation, which the page says.

    Returns:
        What `keras_lt.report.pairs` gave of them, which the page shows.

    Raises:
        ValueError: If there is no record, or none with a curve for `against`;
            if one lacks a required key; if one
            differs from the first in the data set, its classes, the training
            images per class, the shot thresholds, the number of test images or
            the `augmentation`; if a name comes twice with the same seed; or if
            `path` holds something else than a page of keras_lt.
        OSError: If `path` can't be written.

    Example:
        >>> pairs = keras_lt.report.write_comparison(
        ...     "compare.html",
        ...     [
        ...         keras_lt.report.Record.read(f"runs/{name}/result.json")
        ...         for name in ("ce_0", "ce_1", "ce_drw_0")
        ...     ],
        ... )
    """
    if not records:
        raise ValueError(
            f"Expected at least one record. Received: records={records!r}"
        )
    for number, record in enumerate(records):
        record.check(f"records[{number}]")
        if not record.test:
            raise ValueError(
                "Expected records with test scores. Received: "
                f"{_who(record)} without a classifier"
            )
        _refuse_incomparable(records[0], record, against is not None)
    methods = _methods(records)
    paired = pairs(methods)
    first = records[0]
    thresholds = first.shot_thresholds
    write_page(
        path,
        "comparison",
        f"{counted(len(methods), 'method')} on {first.dataset}",
        [
            *data_facts(first)[1:],
            f"{first.data['num_test']:,} test images",
            f"many-shot above {thresholds['many']:,} images",
            f"few-shot below {thresholds['few']:,}",
        ],
        pairs=_pairs(paired),
        **_shown(methods),
        progress=_progress(methods, against),
        against=against,
    )
    return paired


def _pairs(paired: Sequence[Pair]) -> tuple | None:
    """Header and rows of the table of pairs, and the best method."""
    if not paired:
        return None
    header = ["method", "seed", *(SCORES[name].label for name in COMPARED)]
    rows = [[pair.method, text(pair.seed), *pair.cells] for pair in paired]
    return header, rows, paired[0].other


def mean_and_deviation(
    values: Sequence[float | None],
) -> tuple[float, float | None] | None:
    """Mean and sample standard deviation, which is None of one value; None
    where a value is missing.
    """
    if None in values:
        return None
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return statistics.mean(values), deviation


def spread(records: Sequence[Record], score: str) -> str:
    """A score of `test["last"]` over the seeds: `72.7 ± 0.5`, in percent where
    its unit is.
    """
    found = mean_and_deviation(_last(records, score))
    if found is None:
        return "n/a"
    shown = [
        SCORES[score].shown(value, unit=False)
        for value in found
        if value is not None
    ]
    return " ± ".join(shown)


def minutes(records: Sequence[Record]) -> str:
    """Median wall time of the trainings."""
    times = [record.train["wall_time_seconds"] / 60 for record in records]
    return f"{statistics.median(times):.0f}"


def _last(records: Sequence[Record], score: str) -> list:
    return [record.test["last"].get(score) for record in records]


def _comparable(record: Record) -> dict:
    """Values that must agree between compared records."""
    data, counts = record.data, record.class_counts
    thresholds = record.shot_thresholds
    return {
        "dataset": record.dataset,
        "data.num_classes": data["num_classes"],
        **{
            f"data.class_names[{i}]": v
            for i, v in enumerate(data["class_names"])
        },
        **{f"class_counts[{i}]": v for i, v in enumerate(counts)},
        "shot_thresholds.many": thresholds["many"],
        "shot_thresholds.few": thresholds["few"],
        "data.num_test": data["num_test"],
        "augmentation": record.augmentation,
    }


def _refuse_incomparable(
    first: Record, record: Record, any_augmentation: bool
) -> None:
    found, expected = _comparable(record), _comparable(first)
    if any_augmentation:
        found["augmentation"] = expected["augmentation"]
    differing = [k for k in found if found[k] != expected.get(k)]
    if not differing:
        return
    names = [r.data["class_names"] for r in (record, first)]
    key = differing[0]
    holdouts = [r.data["holdout"] for r in (record, first)]
    # What is held out is missing in class_counts.
    reason = (
        " (hold-outs of {} and {})".format(*map(text, holdouts))
        if holdouts[0] != holdouts[1]
        else ""
    )
    if names[0] != names[1] and sorted(map(str, names[0])) == sorted(
        map(str, names[1])
    ):
        reason = " (the same names in another order)"
    raise ValueError(
        "Expected records of the same data set, classes, training images "
        "per class, shot thresholds, test images and augmentation. Received: "
        f"{_who(record)} with {key}={brief(found[key])} where {_who(first)} "
        f"has {brief(expected[key])}{reason}"
    )


def _who(record: Record) -> str:
    return f"{record.title!r} seed {record.seed}"


def _methods(records: Sequence[Record]) -> dict[str, list[Record]]:
    """Records by the label of their method, in order of seed."""
    methods = {}
    for record in records:
        methods.setdefault(record.title, []).append(record)
    for name, runs in methods.items():
        runs.sort(key=lambda record: record.seed)
        for before, after in itertools.pairwise(runs):
            if before.seed == after.seed:
                raise ValueError(
                    "Expected one record of each name and seed. Received: two "
                    f"with name={name!r}, seed={after.seed}"
                )
    return {
        f"{number}.\N{NO-BREAK SPACE}{name}": runs
        for number, (name, runs) in enumerate(methods.items(), 1)
    }


def _shown(methods: dict[str, list[Record]]) -> dict:
    """The values that the template shows."""
    first = next(iter(methods.values()))[0]
    groups = first.classes.groups
    shown = [g for g in GROUPS if g != "unseen" or groups[g].any()]
    columns = known_scores(
        record.test["last"] for runs in methods.values() for record in runs
    )
    tail = next((g for g in ("few", "medium") if groups[g].any()), "few")
    bars = {
        name: {g: mean_and_deviation(_last(runs, g)) for g in shown}
        for name, runs in methods.items()
    }
    per_class = {
        name: np.mean(np.array(_last(runs, "per_class"), float), axis=0)
        for name, runs in methods.items()
    }
    return {
        "notes": _notes(methods),
        "scores": _scores(methods, columns),
        "tail": tail,
        "figures": {
            "groups": plots.grouped_bars(bars),
            "trade_off": _trade_off(methods, tail),
            "per_class": plots.compare_per_class(per_class, first.classes),
        },
        "seeds": _seeds(methods, columns),
        "flags": _flags(methods),
    }


def _notes(methods: dict[str, list[Record]]) -> list[str]:
    notes = []
    for what, get in _SAID.items():
        by_value = {}
        for number, runs in enumerate(methods.values(), 1):
            for record in runs:
                numbers = by_value.setdefault(text(get(record)), {})
                numbers[str(number)] = None
        if len(by_value) > 1:
            values = ", ".join(
                f"{value} ({', '.join(numbers)})"
                for value, numbers in by_value.items()
            )
            notes.append(f"{what} {values}")
    said = []
    if notes:
        said.append(f"Not the same in all methods: {'; '.join(notes)}.")
    for name, runs in methods.items():
        if differing := _differing(runs):
            said.append(
                f"Seeds of {name} differ in the flags {', '.join(differing)}: "
                "their mean is not that of one method."
            )
    return said


def _scores(
    methods: dict[str, list[Record]], columns: Sequence[Score]
) -> tuple:
    """Header, rows and emphasized cells of the table of scores."""
    rows = [
        [
            name,
            str(len(runs)),
            *(spread(runs, score.name) for score in columns),
            _values(f"{record.train['epochs']:,}" for record in runs),
            _values(f"{record.train['steps']:,}" for record in runs),
            _values(f"{_images_per_step(record):.6g}" for record in runs),
            minutes(runs),
        ]
        for name, runs in methods.items()
    ]
    header = [
        "method",
        "seeds",
        *(score.label for score in columns),
        "epochs",
        "steps",
        "images/step",
        "minutes",
    ]
    strong = set()
    for column, score in enumerate(columns, 2):
        found = {}
        for row, runs in enumerate(methods.values()):
            mean = mean_and_deviation(_last(runs, score.name))
            if mean is not None:
                found[row] = mean[0]
        if len(found) > 1:
            best = (max if score.larger_is_better else min)(found.values())
            # What reads the same is as good.
            strong |= {
                (row, column)
                for row, mean in found.items()
                if score.shown(mean) == score.shown(best)
            }
    return header, rows, strong


def _values(shown: Iterable[str]) -> str:
    return " / ".join(dict.fromkeys(shown))


def _trade_off(methods: dict[str, list[Record]], tail: str):
    """The figure of many-shot against tail accuracy; None without both."""
    points = {
        name: list(zip(_last(runs, "many"), _last(runs, tail), strict=True))
        for name, runs in methods.items()
    }
    if any(None in pair for seeds in points.values() for pair in seeds):
        return None
    return plots.trade_off(points, y_label=f"{tail}-shot accuracy")


def _progress(methods: dict[str, list[Record]], against: str | None) -> Any:
    """The figure of accuracy against minutes or steps, and what it is of.

    Of a stage on another run's features the curve is that of the other run,
    which is not what the stage cost.
    """
    if against is None:
        return None
    if against not in AGAINST:
        raise ValueError(
            f"Expected one of {', '.join(AGAINST)}. "
            f"Received: against={against!r}"
        )
    for curve, label in _CURVES.items():
        drawn = {}
        for name, runs in methods.items():
            seeds = [
                (_cost(record, against), record.history[curve])
                for record in runs
                if record.from_run is None
                and {curve, "seconds"} <= {*record.history}
            ]
            if seeds:
                drawn[name] = seeds
        if drawn:
            return plots.progress(drawn, f"{against} of training", label)
    raise ValueError(
        "Expected runs with a curve of accuracy (--holdout or --test_curve) "
        f"for --against={against}. Received: none"
    )


def _cost(record: Record, against: str) -> np.ndarray:
    """Minutes or steps until the end of each epoch."""
    seconds = np.asarray(record.history["seconds"], float)
    if against == "minutes":
        return np.cumsum(seconds) / 60
    steps = record.train["steps"] / len(seconds)
    return steps * np.arange(1, len(seconds) + 1)


def _seeds(methods: dict[str, list[Record]], columns: Sequence[Score]) -> tuple:
    rows = [
        [
            name,
            text(record.seed),
            *(spread([record], score.name) for score in columns),
            minutes([record]),
            text(record.train["resumed"]),
            text(record.environment["git_commit"])[:9],
        ]
        for name, runs in methods.items()
        for record in runs
    ]
    header = ["method", "seed", *(score.label for score in columns)]
    header += ["minutes", "resumed", "commit"]
    return header, rows


def _differing(records: Sequence[Record]) -> list[str]:
    """Flags but the seed that are not the same in all records."""
    keys = dict.fromkeys(key for record in records for key in record.flags)
    return [
        key
        for key in keys
        if key != "seed" and len({_flag(record, key) for record in records}) > 1
    ]


def _flag(record: Record, key: str) -> str:
    return text(record.flags[key]) if key in record.flags else "absent"


def _flags(methods: dict[str, list[Record]]) -> tuple:
    numbers = map(str, range(1, len(methods) + 1))
    records = [record for runs in methods.values() for record in runs]
    rows = [
        [
            key,
            *(
                _values(_flag(record, key) for record in runs)
                for runs in methods.values()
            ),
        ]
        for key in _differing(records)
    ]
    return ["flag, by number of method", *numbers], rows
