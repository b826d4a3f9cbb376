"""Scores how well features part head and tail, as DLSA's paper does.

    python tools/evaluate_features.py ce/features.npz ldam/features.npz
    python tools/evaluate_features.py ce.npz ldam.npz --test ce_t.npz ldam_t.npz

FEATURES are files of `keras_lt.features.save`, such as the features.npz of a
run of recipes/dlsa.py, all of one training set. A DLSA is trained on each, and
the features of --test are scored; without them a stratified part is held out
of FEATURES (those of images that the backbone was trained on part too well).
Head are the many-shot classes, tail the others.

Columns, accuracies as means over classes:
  purity         share of the largest class in a cluster, mean over samples
  head, tail     share of the head's and of the tail's samples that the level
                 keeps, of what it was trained on -> of what is scored
  kept           accuracy of the scored samples that the level keeps
  DLSA           accuracy of all
  plain          of a linear classifier, trained with balanced softmax
  oracle         of the same one, told whether a sample is of head or tail:
                 what a perfect first division would give
"""

import argparse
from pathlib import Path

import command_line


def parse() -> argparse.Namespace:
    parser = command_line.parser(__doc__)
    parser.add_argument(
        "features",
        nargs="+",
        type=Path,
        metavar="FEATURES",
        help="Features to train on, files of one training set.",
    )
    parser.add_argument(
        "--test",
        nargs="+",
        type=Path,
        default=[],
        metavar="FEATURES",
        help="Features to score, a file for each of those to train on.",
    )
    parser.add_argument(
        "--holdout",
        type=float,
        default=0.2,
        help="Fraction of FEATURES to hold out and score where there are no "
        "--test files (default: %(default)s).",
    )
    parser.add_argument(
        "--components",
        type=command_line.positive,
        help="Principal components that the flows see (default: the features "
        "as they are).",
    )
    parser.add_argument(
        "--depth",
        type=command_line.positive,
        default=1,
        help="Levels of the division (default: %(default)s).",
    )
    parser.add_argument(
        "--num_clusters",
        type=command_line.positive,
        default=100,
        help="Clusters per level (default: %(default)s).",
    )
    parser.add_argument(
        "--llh_proportion",
        type=float,
        default=0.3,
        help="Part of its samples that a level keeps (default: %(default)s).",
    )
    command_line.add_scores(parser)
    command_line.add_seed(parser, "training and of the hold-out")
    return parser.parse_args()


if __name__ == "__main__":
    parse()  # --help and wrong options don't wait for the imports below

import sys
import warnings

import keras
import numpy as np
from sklearn.metrics import recall_score
from sklearn.model_selection import train_test_split

from keras_lt import (
    classes,
    counts,
    features,
    files,
    losses,
    models,
    report,
)
from keras_lt.features import Features
from keras_lt.messages import one_line


def balanced(labels: np.ndarray, predicted: np.ndarray) -> float:
    """Mean of the accuracies of the classes that are there."""
    present = np.unique(labels)
    return recall_score(labels, predicted, labels=present, average="macro")


def plain_logits(
    train: Features, scored: Features, class_counts: np.ndarray, seed: int
) -> np.ndarray:
    keras.utils.set_random_seed(seed)
    inputs = keras.Input(train.features.shape[1:])
    head = models.linear_head(len(class_counts))
    model = keras.Model(inputs, head(inputs))
    model.compile(
        keras.optimizers.SGD(0.01, 0.9), losses.BalancedSoftmax(class_counts)
    )
    size = min(128, len(train.labels))
    model.fit(
        features.stream(
            train,
            len(class_counts),
            sampling="random",
            batch_size=size,
            seed=seed,
        ),
        steps_per_epoch=30 * max(1, round(len(train.labels) / size)),
        shuffle=False,
        verbose=0,
    )
    return model.predict(scored.features, verbose=0)


def scores(
    train: Features, scored: Features, arguments: argparse.Namespace
) -> tuple[list[dict], dict]:
    """Of each level that divides, and of all samples."""
    num_classes = int(max(train.labels.max(), scored.labels.max())) + 1
    class_counts = np.bincount(train.labels, minlength=num_classes)
    keras.utils.set_random_seed(arguments.seed)
    dlsa = models.DLSA(
        num_classes,
        train.features.shape[1],
        depth=arguments.depth,
        num_clusters=arguments.num_clusters,
        llh_proportion=arguments.llh_proportion,
        components=arguments.components,
        seed=arguments.seed,
    )
    facts = dlsa.fit_features(
        *train,
        flow=models.dlsa.FlowSettings(weight_power=2.0),  # as published
        verbose=0,
    )
    predicted = dlsa.predict(scored.features, verbose=0).argmax(1)
    found = dlsa.inspect(scored.features)
    routes = models.dlsa.route(found, len(scored.labels))
    head = counts.shot_groups(
        class_counts, arguments.many_shot, arguments.few_shot
    )["many"]
    levels = []
    for number, (fact, now) in enumerate(
        zip(
            facts,
            models.dlsa.describe(found, scored.labels, num_classes),
            strict=True,
        )
    ):
        kept = routes == number
        level = {
            "purity": np.average(fact["purity"], weights=fact["cluster_sizes"]),
            "accuracy": balanced(scored.labels[kept], predicted[kept])
            if kept.any()
            else np.nan,
        }
        for name, group in (("head", head), ("tail", ~head)):
            level[name] = [
                np.sum(np.asarray(part["kept_by_class"])[group])
                / np.bincount(labels, minlength=num_classes)[group].sum()
                for part, labels in ((fact, train.labels), (now, scored.labels))
            ]
        levels.append(level)
    logits = plain_logits(train, scored, class_counts, arguments.seed)
    other = head[None] != head[scored.labels][:, None]
    return levels, {
        "DLSA": balanced(scored.labels, predicted),
        "plain": balanced(scored.labels, logits.argmax(1)),
        "oracle": balanced(
            scored.labels, np.where(other, -np.inf, logits).argmax(1)
        ),
    }


def row(name: str, levels: list[dict], total: dict, depth: int) -> str:
    cells = [name]
    for level in levels:
        cells.append(f"{level['purity']:.3f}")
        cells += [
            " -> ".join(f"{share:.1%}" for share in level[group])
            for group in ("head", "tail")
        ]
        cells.append(f"{100 * level['accuracy']:.1f}")
    cells += ["-"] * (4 * (depth - len(levels)))
    cells += [f"{100 * value:.1f}" for value in total.values()]
    return f"| {' | '.join(cells)} |"


def refuse_other_classes(paths: list[Path]) -> None:
    """Refuses features of runs whose labels stand for other classes."""
    known = {path: report.class_names_of(path) for path in paths}
    known = {path: names for path, names in known.items() if names}
    for path, names in known.items():
        first = next(iter(known))
        found = classes.difference(names, known[first])
        if found:
            raise ValueError(
                f"Expected the classes of {first}, by label id. "
                f"Received: {path}: {found}"
            )


def main() -> None:
    files.escape_output()
    arguments = parse()
    if arguments.test and len(arguments.test) != len(arguments.features):
        raise ValueError(
            f"Expected as many --test files as FEATURES, "
            f"{len(arguments.features)}. Received: {len(arguments.test)}"
        )
    refuse_other_classes([*arguments.features, *arguments.test])
    pairs = []
    for path in arguments.features:
        train = features.load(path)
        if arguments.test:
            test = features.load(arguments.test[len(pairs)])
        else:
            parts = train_test_split(
                *train,
                test_size=arguments.holdout,
                stratify=train.labels,
                random_state=arguments.seed,
            )
            train, test = Features(*parts[::2]), Features(*parts[1::2])
        if train.features.shape[1] != test.features.shape[1]:
            raise ValueError(
                "Expected test features of the same dimension. Received: "
                f"{train.features.shape[1]} and {test.features.shape[1]} "
                f"for {path}"
            )
        pairs.append((train, test))
    columns = ["features"]
    for level in range(1, arguments.depth + 1):
        columns += [
            f"{what} {level}" for what in ("purity", "head", "tail", "kept")
        ]
    columns += ["DLSA", "plain", "oracle"]
    print(f"| {' | '.join(columns)} |")
    print("|---" * len(columns) + "|")
    for path, (train, test) in zip(arguments.features, pairs, strict=True):
        with warnings.catch_warnings(record=True) as warned:
            levels, total = scores(train, test, arguments)
        print(row(str(path), levels, total, arguments.depth), flush=True)
        for warning in warned:
            if "left out" in str(warning.message):
                print(f"{path}: {warning.message}", file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError, MemoryError) as error:
        sys.exit(f"evaluate_features.py: error: {one_line(error)}")
