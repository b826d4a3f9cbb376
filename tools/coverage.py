"""Checks by simulation that intervals and sets hold the share they promise.

    python tools/coverage.py --draws=10000
    python tools/coverage.py --draws=10000 --json

Intervals: each draw makes a test set of classes whose recalls are known, and
counts whether the 95 % intervals of tools/evaluate.py hold the scores that all
images together would give. Those that the lowest recalls rule may hold more
often; others must be within a point of 95 %. Intervals of a single recall
(Wilson) hold 95 % on average over recalls, here drawn from 5 to 95 %.

Sets: each draw makes a hold-out and new images of a model with three classes,
of 40, 30 and 4 images, and thresholds for sets that hold 90 %. With n images
and the k-th lowest score as threshold, k = (n + 1) / 10 rounded down, sets hold
the class of a new image in 1 - k / (n + 1) of the draws.

Exit code 1 if one is more than a point away.
"""

import argparse

import command_line


def parse() -> argparse.Namespace:
    parser = command_line.parser(__doc__)
    parser.add_argument(
        "--draws",
        type=command_line.positive,
        default=1000,
        help="Number of test sets and of hold-outs (default: %(default)s).",
    )
    parser.add_argument(
        "--json", action="store_true", help="Print JSON in place of text."
    )
    command_line.add_seed(parser, "the draws")
    return parser.parse_args()


if __name__ == "__main__":
    parse()  # --help and wrong options don't wait for the imports below

import json
import sys

import numpy as np

from keras_lt import evaluation, report
from keras_lt.messages import one_line
from keras_lt.metrics import SCORES, Tally

COUNTS = np.array([40, 30, 4])
COVERAGE = 0.9
LEVEL = 0.95
SPREAD = np.array([0.9, 0.7, 0.6, 0.5, 0.3, 0.4])
# Recalls of six classes, and images of each.
SETTINGS = {
    "spread, 100 images per class": (SPREAD, 100),
    "spread, 20 images per class": (SPREAD, 20),
    "spread, 6 images per class": (SPREAD, 6),
    "one low, 20 images per class": (
        np.array([0.95, 0.9, 0.85, 0.8, 0.5, 0.1]),
        20,
    ),
    "equal, 20 images per class": (np.full(6, 0.6), 20),
}
BOOTSTRAP = 200  # draws of each interval
# Scores that the lowest recalls rule: their intervals may hold more often.
AT_LEAST = (
    "geometric_mean",
    "harmonic_mean",
    "lowest_recall",
    "lowest_5_recall",
)
EXACT = ("top1", "balanced", "macro_f1", "matthews")


def truths(recalls: np.ndarray, images: int) -> dict[str, float]:
    """Scores of all images together: a class's mistakes are the next one."""
    size = len(recalls)
    given = np.append(0, recalls + np.roll(1 - recalls, 1))
    groups = evaluation.Predictions([0], [0], [9] * size).groups
    tally = Tally(
        images * recalls, images * given, np.full(size, images), groups
    )
    names = (*EXACT, *AT_LEAST)
    return {name: float(SCORES[name].of(tally)) for name in names}


def held_by_intervals(
    recalls: np.ndarray, images: int, draws: int, seed: int
) -> dict[str, float]:
    """Shares of the intervals that hold the true score."""
    generator = np.random.default_rng(seed)
    size = len(recalls)
    labels = np.arange(size).repeat(images)
    truth = truths(recalls, images)
    held = dict.fromkeys(truth, 0)
    for draw in range(draws):
        right = generator.random(len(labels)) < recalls[labels]
        answers = evaluation.Predictions(
            np.where(right, labels, (labels + 1) % size), labels, [9] * size
        )
        found = evaluation.bootstrap(answers, BOOTSTRAP, LEVEL, seed=draw)
        for name, value in truth.items():
            low, high = found[name]
            held[name] += low - 1e-9 <= value <= high + 1e-9
    return {name: number / draws for name, number in held.items()}


def held_by_wilson(images: int, draws: int, seed: int) -> float:
    """Share of the intervals of single recalls that hold them."""
    generator = np.random.default_rng(seed)
    recalls = generator.uniform(0.05, 0.95, draws)
    hits = generator.binomial(images, recalls)
    low, high = evaluation.wilson(hits, np.full(draws, images), LEVEL)
    return float(((low <= recalls) & (recalls <= high)).mean())


def images(
    labels: np.ndarray, generator: np.random.Generator
) -> evaluation.Predictions:
    """Too sure answers, for images of these classes."""
    logits = 2 * generator.normal(size=(len(labels), 3))
    logits[np.arange(len(labels)), labels] += 2
    return evaluation.Predictions(logits, labels, COUNTS)


def promised(total: int) -> float:
    """Share that a threshold from so many images holds."""
    return 1 - np.floor((total + 1) * (1 - COVERAGE) + 1e-9) / (total + 1)


def held_by_sets(draws: int, seed: int) -> dict[str, np.ndarray]:
    """Share held of each class and of all, by method, (4,)."""
    generator = np.random.default_rng(seed)
    own = np.repeat(np.arange(3), COUNTS)
    shares = COUNTS / COUNTS.sum()
    held = {name: np.zeros((draws, 4)) for name in evaluation.SET_METHODS}
    for draw in range(draws):
        drawn = generator.choice(3, len(own), p=shares)
        new = images(np.arange(3).repeat(20), generator)
        for name, values in held.items():
            # Marginal shares hold for images that are drawn alike.
            by_class = name in ("class_conditional", "pooled_tail")
            holdout = images(own if by_class else drawn, generator)
            thresholds = evaluation.conformal_thresholds(
                holdout, name, COVERAGE
            )
            sets = evaluation.conformal_sets(new.logits, thresholds)
            hits = sets[np.arange(len(sets)), new.labels].reshape(3, 20)
            values[draw, :3] = hits.mean(1)
            values[draw, 3] = shares @ values[draw, :3]
    return {name: values.mean(0) for name, values in held.items()}


def of_intervals(draws: int, seed: int) -> dict[str, list[dict]]:
    """What was held and what was promised, by setting."""
    found = {}
    for title, (recalls, images) in SETTINGS.items():
        held = held_by_intervals(recalls, images, draws, seed)
        found[title] = [
            {
                "of": name,
                "held": share,
                "promised": LEVEL,
                "at_least": name in AT_LEAST,
            }
            for name, share in held.items()
        ]
    found["single recalls"] = [
        {
            "of": f"{images} images",
            "held": held_by_wilson(images, draws, seed),
            "promised": LEVEL,
            "at_least": False,
        }
        for images in (6, 20, 100)
    ]
    return found


def of_sets(draws: int, seed: int) -> dict[str, list[dict]]:
    """What was held and what was promised, by method."""
    found = {}
    for name, held in held_by_sets(draws, seed).items():
        # The class of 4 images has no threshold of its own: it is in each
        # set, and alone in the pool too.
        wanted = [None] * 3 + [promised(COUNTS.sum())]
        if name in ("class_conditional", "pooled_tail"):
            wanted = [*map(promised, COUNTS), None]
        places = [f"class of {count}" for count in COUNTS] + ["all"]
        found[f"{name.replace('_', '-')} sets"] = [
            {
                "of": place,
                "held": float(share),
                "promised": want and float(want),
                "at_least": False,
            }
            for place, share, want in zip(places, held, wanted, strict=True)
        ]
    return found


def difference(row: dict) -> float:
    """How far a share is from what was promised, or below it."""
    if row["promised"] is None:
        return 0.0
    off = row["held"] - row["promised"]
    return max(-off, 0.0) if row["at_least"] else abs(off)


def show(found: dict[str, list[dict]]) -> None:
    for title, rows in found.items():
        print(title)
        for row in rows:
            shown = ""
            if row["promised"] is not None:
                least = " at least" if row["at_least"] else ""
                shown = f", promised{least} {100 * row['promised']:.2f}"
            print(f"  {row['of']:16} held {100 * row['held']:6.2f}%{shown}")


def main() -> None:
    arguments = parse()
    parts = (
        of_intervals(arguments.draws, arguments.seed),
        of_sets(arguments.draws, arguments.seed),
    )
    off = max(
        difference(row)
        for found in parts
        for rows in found.values()
        for row in rows
    )
    if arguments.json:
        record = {
            "draws": arguments.draws,
            "seed": arguments.seed,
            "largest_difference": off,
            "intervals": parts[0],
            "sets": parts[1],
            "environment": report.environment(),
        }
        print(json.dumps(record, indent=1))
    else:
        for found in parts:
            show(found)
        print(f"largest difference: {100 * off:.2f} points")
    if off > 0.01:
        raise ValueError(
            "Expected shares within a point of those promised. "
            f"Received: {100 * off:.2f} points"
        )


if __name__ == "__main__":
    try:
        main()
    except (TypeError, ValueError, MemoryError) as error:
        sys.exit(f"coverage.py: error: {one_line(error)}")
