"""How much of what known class frequencies gain, estimated ones recover.

    python tools/priors.py runs/balanced_softmax_0 --balanced_training
    python tools/priors.py ce.npz --json --output=recipes/results/priors.json

RUN is a finished run, or a file of logits as tools/evaluate.py takes it. Half
of the test images of each class are held out, for a temperature and for the
rates of black-box shift estimation. From the other half test sets are drawn
whose classes have other frequencies: long tails of the factors 2 to 50 in the
order of the training set (forward) and reversed (backward). On each:

  plain      top-1 of the logits as they are
  oracle     of logits with vector scaling, adjusted to the true frequencies
  EM vector  adjusted to estimates of Saerens et al. (2002) from these logits
  EM temp.   the same with a temperature alone
  EM raw     the same without calibration
  BBSE       vector scaling, estimates of Lipton et al. (2018)

and the share of the oracle's gain over plain that each recovers, over all
draws together.
"""

import argparse
from pathlib import Path

import command_line


def parse() -> argparse.Namespace:
    parser = command_line.parser(__doc__)
    parser.add_argument(
        "run",
        type=Path,
        metavar="RUN|FILE",
        help="Finished run, or file of logits and labels, to measure on.",
    )
    parser.add_argument(
        "--balanced_training",
        action="store_true",
        help="A loss or a sampler balanced the classes in training.",
    )
    parser.add_argument(
        "--draws",
        type=command_line.positive,
        default=20,
        help="Test sets of each kind (default: %(default)s).",
    )
    parser.add_argument(
        "--data_dir",
        metavar="FOLDER",
        help="Folder of prepared TFDS data sets, for RUN.",
    )
    command_line.add_seed(parser, "the halves and the draws")
    parser.add_argument(
        "--json", action="store_true", help="Print JSON in place of a table."
    )
    command_line.add_output(parser, "JSON file to write.")
    return parser.parse_args()


if __name__ == "__main__":
    parse()  # --help and wrong options don't wait for the imports below

import json
import sys

import numpy as np

from keras_lt import evaluation, files, report
from keras_lt.messages import one_line

sys.path.append(str(Path(__file__).resolve().parents[1] / "recipes"))

import scored

FACTORS = (2, 5, 10, 25, 50)
ESTIMATES = ("EM vector", "EM temp.", "EM raw", "BBSE")


def halves(
    test: evaluation.Predictions, generator: np.random.Generator
) -> tuple[evaluation.Predictions, evaluation.Predictions]:
    """Two parts with as many images of each class."""
    order = generator.permutation(len(test))
    order = order[np.argsort(test.labels[order], kind="stable")]
    parts = order[::2], order[1::2]
    first, second = (
        evaluation.Predictions(
            test.logits[part], test.labels[part], test.class_counts
        )
        for part in parts
    )
    if not (first.totals.all() and second.totals.all()):
        raise ValueError(
            "Expected two test images of each class, at least. "
            f"Received: {int(test.totals.min())} of one"
        )
    return first, second


def resampled(
    test: evaluation.Predictions,
    shares: np.ndarray,
    generator: np.random.Generator,
) -> np.ndarray:
    """Places of images, as many of each class as there can be."""
    sizes = np.floor(shares * (test.totals / shares).min()).astype(int)
    sizes = np.maximum(sizes, 1)
    return np.concatenate(
        [
            generator.choice(np.flatnonzero(test.labels == label), size, False)
            for label, size in enumerate(sizes)
        ]
    )


def measure(
    logits: np.ndarray,
    labels: np.ndarray,
    source: np.ndarray,
    scalings: dict[str, evaluation.Scaling],
    holdout: evaluation.Predictions,
) -> dict[str, float]:
    """Top-1 of one test set by every way, and how far estimates are off."""
    truth = np.bincount(labels, minlength=len(source)) / len(labels)
    scaled = {name: scaling(logits) for name, scaling in scalings.items()}

    def top1(prior, name="EM vector"):
        added = evaluation.adjustment(prior, source)
        return float(((scaled[name] + added).argmax(1) == labels).mean())

    predicted = logits.argmax(1)
    estimates = {
        name: evaluation.estimate_prior_em(each, source, draws=0)
        for name, each in scaled.items()
    }
    estimates["BBSE"] = evaluation.estimate_prior_bbse(
        predicted, holdout, draws=0
    )
    found = {"plain": float((predicted == labels).mean())}
    found["oracle"] = top1(truth)
    for name, prior in estimates.items():
        found[name] = top1(
            prior.shares, name if name in scaled else "EM vector"
        )
        off = np.abs(prior.shares - truth).sum() / 2
        found[f"{name}, off by"] = float(off)
    test = evaluation.likelihood_ratio_test(scaled["EM vector"], source)
    found["told apart"] = float(test["p_value"] < 0.05)
    return found


def recovered(test: evaluation.Predictions, arguments) -> dict:
    """All that is measured, ready for JSON."""
    generator = np.random.default_rng(arguments.seed)
    holdout, rest = halves(test, generator)
    source = arguments.source
    temperature = evaluation.fit_temperature(holdout, source)
    scalings = {
        "EM vector": evaluation.fit_vector_scaling(holdout, source=source),
        "EM temp.": evaluation.Scaling(1 / temperature),
        "EM raw": evaluation.Scaling(),
    }
    shifts = {}
    for way in ("forward", "backward"):
        for factor in FACTORS:
            shares = evaluation.tail_frequencies(
                test.class_counts, factor, way == "backward"
            )
            draws = []
            for _ in range(arguments.draws):
                places = resampled(rest, shares, generator)
                draws.append(
                    measure(
                        rest.logits[places],
                        rest.labels[places],
                        source,
                        scalings,
                        holdout,
                    )
                )
            means = {
                name: float(np.mean([draw[name] for draw in draws]))
                for name in draws[0]
            }
            gain = means["oracle"] - means["plain"]
            means |= {
                f"{name}, share of the gain": (means[name] - means["plain"])
                / gain
                if gain > 0
                else None
                for name in ESTIMATES
            }
            shifts[f"{way}_{factor}"] = {"images": len(places), **means}
    return {
        "temperature": temperature,
        "held_out": len(holdout),
        "draws": arguments.draws,
        "seed": arguments.seed,
        "shifts": shifts,
    }


def print_table(found: dict) -> None:
    names = ["plain", "oracle", *ESTIMATES]
    names += [f"{name}, share of the gain" for name in ESTIMATES]
    print(f"Temperature {found['temperature']:.3g}. In percent:")
    print(f"| frequencies | {' | '.join(names)} |")
    print("|---" * (len(names) + 1) + "|")
    for shift, one in found["shifts"].items():
        cells = [
            "n/a" if one[name] is None else f"{100 * one[name]:.1f}"
            for name in names
        ]
        print(f"| {shift.replace('_', ' ')} | {' | '.join(cells)} |")


def main() -> None:
    files.escape_output()
    arguments = parse()
    if arguments.run.is_dir():
        places = {"data_dir": arguments.data_dir}
        answers = scored.ScoredRun(arguments.run, places).scored
    else:
        answers = evaluation.read(arguments.run)
    test, _, counts = answers
    if test.logits is None:
        raise ValueError(
            f"Expected logits. Received: {arguments.run} with predicted classes"
        )
    if counts is None:
        counts = test.class_counts
    if arguments.balanced_training:
        counts = np.ones(test.num_classes)
    arguments.source = np.asarray(counts, float)
    found = recovered(test, arguments)
    found["run"] = arguments.run.name
    if arguments.output:
        text = json.dumps(
            {**found, "environment": report.environment()}, indent=1
        )
        arguments.output.write_text(f"{text}\n")
    if arguments.json:
        print(json.dumps(found))
    else:
        print_table(found)


if __name__ == "__main__":
    try:
        main()
    except (OSError, TypeError, ValueError, MemoryError) as error:
        sys.exit(f"priors.py: error: {one_line(error)}")
