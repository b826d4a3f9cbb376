"""Checks by simulation that sets of classes hold the share they promise.

    python tools/coverage.py --draws=10000

Each draw makes a hold-out and new images of a model with three classes, of 40,
30 and 4 images, and thresholds for sets that hold 90 %. With n images and the
k-th lowest score as threshold, k = (n + 1) / 10 rounded down, sets hold the
class of a new image in 1 - k / (n + 1) of the draws. Exit code 1 if one is more
than a point away.
"""

import argparse

import command_line


def parse() -> argparse.Namespace:
    parser = command_line.parser(__doc__)
    parser.add_argument(
        "--draws",
        type=command_line.positive,
        default=1000,
        help="Number of hold-outs (default: %(default)s).",
    )
    command_line.add_seed(parser, "the draws")
    return parser.parse_args()


if __name__ == "__main__":
    parse()  # --help and wrong options don't wait for the imports below

import sys

import numpy as np

from keras_lt import evaluation
from keras_lt.messages import one_line

COUNTS = np.array([40, 30, 4])
COVERAGE = 0.9


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


def simulate(draws: int, seed: int) -> dict[str, np.ndarray]:
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


def main() -> None:
    arguments = parse()
    all_images = promised(COUNTS.sum())
    alone = [*map(promised, COUNTS)]
    # The class of 4 images has no threshold of its own: it is in each set, and
    # alone in the pool too.
    wanted = {
        name: [None] * 3 + [all_images] for name in evaluation.SET_METHODS
    }
    for name in ("class_conditional", "pooled_tail"):
        wanted[name] = [*alone, None]
    off = 0.0
    for name, found in simulate(arguments.draws, arguments.seed).items():
        print(name.replace("_", "-"))
        places = [f"class of {count}" for count in COUNTS] + ["all"]
        for place, share, want in zip(places, found, wanted[name], strict=True):
            shown = "" if want is None else f", promised {100 * want:.2f}"
            print(f"  {place:12} held {100 * share:6.2f}%{shown}")
            off = max(off, 0 if want is None else abs(share - want))
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
