"""Checks what `RecallCurve` promises of more images against what they give.

    python tools/check_gains.py train.npz test.npz

TRAIN and TEST are files of `keras_lt.features.save`. A part of the training
images of each class is laid aside. A classifier on the features of the others
(normal classes with one covariance, all equally frequent) is scored on the
test images, and the curve says what --more images of each class would give.
Then they are added, to some classes at a time, and the recall of these is
measured. Gains are in points of the recall of a class, means over classes.

Columns:
  classes        classes that can be given --more images, by how many they had
  promised       mean gain that the curve expects
  measured       mean gain that was found, and its standard error
  first third    measured gain of the third of the classes promised most
  others         measured gain of the other classes
"""

import argparse
from pathlib import Path

import command_line

GROUPS = 8  # of classes: those of one are given more images at a time


def parse() -> argparse.Namespace:
    parser = command_line.parser(__doc__)
    parser.add_argument(
        "train", type=Path, metavar="TRAIN", help="Features to train on."
    )
    parser.add_argument(
        "test", type=Path, metavar="TEST", help="Features to score."
    )
    parser.add_argument(
        "--more",
        type=command_line.positive,
        default=10,
        help="Images to add to a class (default: %(default)s).",
    )
    parser.add_argument(
        "--draws",
        type=command_line.positive,
        default=5,
        help="Repetitions with other images laid aside (default: %(default)s).",
    )
    command_line.add_scores(parser)
    command_line.add_seed(parser, "images that are laid aside")
    return parser.parse_args()


if __name__ == "__main__":
    parse()  # --help and wrong options don't wait for the imports below

import sys

import numpy as np

from keras_lt import counts, evaluation, features, files
from keras_lt.messages import one_line


def kept_at_first(size: int, more: int) -> int:
    """Images of a class that are trained on before some are added."""
    return max(1, min(size, max(size // 2, size - more)))


def recalls(
    sums: np.ndarray, sizes: np.ndarray, test: features.Features
) -> np.ndarray:
    """Correct test images by class, of the nearest mean (whitened features)."""
    means = sums / np.maximum(sizes, 1)[:, None]
    scores = test.features @ means.T - 0.5 * (means**2).sum(1)
    scores[:, sizes == 0] = -np.inf
    right = test.labels[scores.argmax(1) == test.labels]
    return np.bincount(right, minlength=len(sizes))


def one_draw(
    train: features.Features,
    test: features.Features,
    more: int,
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Counts at first (C,), promised and measured gains of recall (C,).

    Gains are NaN for classes that have too few images or no test image.
    """
    num_classes = int(max(train.labels.max(), test.labels.max())) + 1
    totals = np.bincount(test.labels, minlength=num_classes)
    first, added = [], {}
    for label in range(num_classes):
        members = generator.permutation(np.flatnonzero(train.labels == label))
        kept = kept_at_first(len(members), more) if len(members) else 0
        first.append(members[:kept])
        if len(members) - kept >= more and totals[label]:
            added[label] = members[kept : kept + more]
    base = np.concatenate(first)
    gaussians = evaluation.fit_gaussians(
        train.features[base], train.labels[base], num_classes
    )
    white = train.features @ gaussians.whitening
    scored = test._replace(features=test.features @ gaussians.whitening)
    sizes = np.array([len(each) for each in first])
    sums = np.stack([white[each].sum(0) for each in first])
    hits = recalls(sums, sizes, scored)
    promised = evaluation.RecallCurve(hits, totals, sizes).gains(more).recall
    measured = np.full(num_classes, np.nan)
    labels = generator.permutation([*added])
    for group in range(GROUPS):
        own = labels[group::GROUPS]
        more_sums, more_sizes = sums.copy(), sizes.copy()
        for label in own:
            more_sums[label] += white[added[label]].sum(0)
            more_sizes[label] += more
        gained = recalls(more_sums, more_sizes, scored) - hits
        measured[own] = gained[own] / totals[own]
    promised[np.isnan(measured)] = np.nan
    return sizes, promised, measured


def rows(
    sizes: np.ndarray, promised: np.ndarray, measured: np.ndarray, many, few
) -> list[list[str]]:
    """A row for each shot group that has classes, and one for all."""
    known = ~np.isnan(promised)
    masks = counts.shot_groups(sizes, many, few)
    groups = {
        f"{name} ({(mask & known).sum()})": mask & known
        for name, mask in {**masks, "all": np.ones_like(known)}.items()
        if (mask & known).any()
    }
    found = []
    for name, mask in groups.items():
        own, real = promised[mask], measured[mask]
        order = np.argsort(-own, kind="stable")
        third = max(1, len(order) // 3)
        cells = [own.mean(), real.mean(), real[order[:third]].mean()]
        cells = [f"{100 * value:.2f}" for value in cells]
        others = real[order[third:]]
        error = real.std(ddof=1) / len(real) ** 0.5 if len(real) > 1 else np.nan
        cells[1] += f" ± {100 * error:.2f}"
        cells.append(f"{100 * others.mean():.2f}" if len(others) else "n/a")
        found.append([name, *cells])
    return found


def main() -> None:
    files.escape_output()
    arguments = parse()
    train, test = map(features.load, (arguments.train, arguments.test))
    if train.features.shape[1] != test.features.shape[1]:
        raise ValueError(
            "Expected features of one dimension. Received: "
            f"{train.features.shape[1]} and {test.features.shape[1]}"
        )
    largest = int(np.bincount(train.labels).max())
    if largest - kept_at_first(largest, arguments.more) < arguments.more:
        raise ValueError(
            f"Expected classes of more than {arguments.more} images. "
            f"Received: --more={arguments.more}, counts up to {largest}"
        )
    generator = np.random.default_rng(arguments.seed)
    drawn = [
        one_draw(train, test, arguments.more, generator)
        for _ in range(arguments.draws)
    ]
    sizes = drawn[0][0]
    promised, measured = (
        np.mean([draw[part] for draw in drawn], axis=0) for part in (1, 2)
    )
    header = ["classes", "promised", "measured", "first third", "others"]
    print(f"| {' | '.join(header)} |")
    print("|---" * len(header) + "|")
    for row in rows(
        sizes, promised, measured, arguments.many_shot, arguments.few_shot
    ):
        print(f"| {' | '.join(row)} |")
    known = ~np.isnan(promised)
    if known.sum() > 2:
        found = np.corrcoef(promised[known], measured[known])[0, 1]
        print(f"Correlation over classes: {found:.2f}")


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError, MemoryError) as error:
        sys.exit(f"check_gains.py: error: {one_line(error)}")
