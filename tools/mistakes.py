"""Shows the mistakes of a finished run, and what may be wrong with its images.

    python tools/mistakes.py runs/photos

RUN is the workdir of a finished run, whose images must still be there. Writes
RUN/mistakes.html, one page with pictures: the mistakes that the model is surest
of; of the classes with the fewest training images those that are lost, and the
training images that pull them away; pairs of classes that are confused; labels
of training images that are likely wrong, by a classifier that has not seen
them; and test images that are nearly the same as training images. Features of
all images are computed, which takes as long as to score them.
"""

import argparse
from pathlib import Path

import command_line


def parse() -> argparse.Namespace:
    parser = command_line.parser(__doc__)
    parser.add_argument(
        "run", type=Path, metavar="RUN", help="Finished run to look at."
    )
    command_line.add_places(parser)
    command_line.add_output(
        parser, "HTML page to write (default: mistakes.html in RUN)."
    )
    parser.add_argument(
        "--folds",
        type=command_line.positive,
        default=5,
        help="Parts of the training images; of each part the labels are judged "
        "by a classifier on the features of the others (default: %(default)s).",
    )
    parser.add_argument(
        "--most",
        type=command_line.positive,
        default=24,
        help="Pictures of a row, and rows of a section at most "
        "(default: %(default)s).",
    )
    command_line.add_seed(parser, "folds")
    return parser.parse_args()


if __name__ == "__main__":
    parse()  # --help and wrong options don't wait for the imports below

import sys
from collections.abc import Iterable

import numpy as np

from keras_lt import datasets, evaluation, features, files, report
from keras_lt.messages import one_line
from keras_lt.report import Gallery, Part, Picture

sys.path.append(str(Path(__file__).resolve().parents[1] / "recipes"))

import scored

OF_A_PAIR = 4  # pictures each way
LISTED = 200  # names of images with likely wrong labels


class Images:
    """Pictures of a data set's images, with where they are from."""

    def __init__(self, dataset: datasets.Dataset, split: str):
        self.dataset, self._split = dataset, split

    def name(self, index: int) -> str:
        if isinstance(self.dataset, datasets.FileDataset):
            return self.dataset.name(index)
        return f"{self._split}[{index}]"

    def picture(self, index: int, caption: str) -> Picture:
        index = int(index)
        image = self.dataset.images[index : index + 1][0]
        return Picture(image, caption, self.name(index))


class Mistakes:
    """The mistakes of a run on its test images, as sections of a page."""

    def __init__(self, run: scored.ScoredRun, most: int):
        self.found = run.scored.test
        self.names = run.classes.names
        self.train = Images(run.data.train, "train")
        self.test = Images(run.data.test, "test")
        self._most = most
        self._counts = run.classes.counts
        scaling = evaluation.Scaling()
        if run.scored.holdout is not None:
            temperature = evaluation.fit_temperature(run.scored.holdout)
            scaling = evaluation.Scaling(1 / temperature)
        self._sure = evaluation.confidences(self.found, scaling)
        self.errors = evaluation.confident_errors(self.found, scaling)

    def mistaken(self, index: int) -> Picture:
        label, taken = self.found.labels[index], self.found.predicted[index]
        return self.test.picture(
            index,
            f"{self.names[label]}, taken for {self.names[taken]}, "
            f"{self._sure[index]:.0%}",
        )

    def confident(self) -> Gallery:
        rows = {}
        first = self.errors[: self._most]
        if len(first):
            rows["Of all classes"] = [*map(self.mistaken, first)]
        labels = self.found.labels[self.errors]
        _, where = np.unique(labels, return_index=True)
        by_class = self.errors[np.sort(where)][: self._most]
        if len(by_class):
            rows["The surest one of each class"] = [
                *map(self.mistaken, by_class)
            ]
        return Gallery(
            "Mistakes that the model is surest of",
            "Test images with their class, what they are taken for, and the "
            "probability that the model gives to that: wrong labels, images "
            "that show two things, and what the model has not understood.",
            rows,
            "No test image is mistaken.",
        )

    def pulled(self, train: features.Features, test: features.Features):
        """Lost images of the smallest classes beside what they resemble."""
        lost = np.bincount(
            self.found.labels[self.errors], minlength=len(self.names)
        )
        smallest = [
            label
            for label in np.argsort(self._counts, kind="stable")
            if lost[label]
        ][: min(self._most, 12)]
        rows = {}
        for label in smallest:
            own = self.errors[self.found.labels[self.errors] == label]
            own = own[: max(1, self._most // 4)]
            taken = self.found.predicted[own]
            near = evaluation.nearest(
                test.features[own], train.features, train.labels, taken
            ).indices
            heading = (
                f"{self.names[label]}: {lost[label]:,} of "
                f"{self.found.totals[label]:,} lost, "
                f"{self._counts[label]:,} training images"
            )
            rows[heading] = [
                picture
                for place, index in enumerate(own)
                for picture in self._with_what_pulls(index, near[place])
            ]
        return Gallery(
            "What pulls the smallest classes away",
            "Each lost test image is followed by the training image of the "
            "wrong class that it resembles most, for the network.",
            rows,
            "No test image of a small class is mistaken.",
        )

    def _with_what_pulls(self, index: int, near: int) -> Iterable[Picture]:
        yield self.mistaken(index)
        if near >= 0:
            label = self.train.dataset.labels[near]
            yield self.train.picture(near, f"{self.names[label]}, in training")

    def pairs(self) -> Gallery:
        rows = {}
        for pair in evaluation.confused_pairs(self.found)[: self._most]:
            (i, j), (there, back) = pair.classes, pair.missed
            names = self.names[i], self.names[j]
            totals = self.found.totals[i], self.found.totals[j]
            heading = (
                f"{names[0]} taken for {names[1]}: {there:,} of {totals[0]:,}; "
                f"the other way: {back:,} of {totals[1]:,}; "
                f"{100 * pair.lost:.2f} points of balanced accuracy"
            )
            rows[heading] = [
                self.mistaken(index)
                for one, other in ((i, j), (j, i))
                for index in self._of(one, other)[:OF_A_PAIR]
            ]
        return Gallery(
            "Classes that are confused",
            "Pairs by what their mistakes take from balanced accuracy, where a "
            "small class counts as much as a large one.",
            rows,
            "No two classes are confused.",
        )

    def _of(self, label: int, taken: int) -> np.ndarray:
        labels, predicted = self.found.labels, self.found.predicted
        own = labels[self.errors] == label
        return self.errors[own & (predicted[self.errors] == taken)]

    def duplicates(self, train: features.Features, test: features.Features):
        near = evaluation.nearest(test.features, train.features)
        found = evaluation.near_duplicates(
            near, self.test.dataset.images, self.train.dataset.images
        )
        rows = {}
        for index in found[: self._most]:
            other = near.indices[index]
            names = self.test.name(int(index)), self.train.name(int(other))
            label, trained = (
                self.names[images.dataset.labels[place]]
                for images, place in ((self.test, index), (self.train, other))
            )
            rows[f"{names[0]} = {names[1]}"] = [
                self.test.picture(index, f"{label}, test"),
                self.train.picture(other, f"{trained}, training"),
            ]
        return Gallery(
            f"Test images that are nearly training images: {len(found):,}",
            "Pairs that are alike for the network and in their pixels; scores "
            "on them say what was remembered and not what was learned.",
            rows,
        )


def label_errors(
    mistakes: Mistakes,
    train: features.Features,
    counts: np.ndarray,
    arguments: argparse.Namespace,
) -> tuple[Gallery, Part]:
    """Training images whose labels are likely wrong: pictures, and a list."""
    logits = evaluation.out_of_fold_logits(
        train.features,
        train.labels,
        len(counts),
        arguments.folds,
        arguments.seed,
    )
    found = evaluation.label_errors(logits, train.labels, counts)
    names, images = mistakes.names, mistakes.train
    shown = [
        (int(index), names[train.labels[index]], names[suggested], odds)
        for index, suggested, odds in zip(
            *(part[:LISTED] for part in found[:3]), strict=True
        )
    ]
    rows = {}
    if shown:
        rows["The likeliest first"] = [
            images.picture(index, f"{own}, looks like {other}")
            for index, own, other, _ in shown[: 2 * arguments.most]
        ]
    title = f"Labels of training images to check: {len(found.indices):,}"
    unjudged = int((~found.judged).sum())
    meaning = (
        "A classifier on the features of the other images is surer of another "
        "class than of the label; a network that has learned a wrong label by "
        "heart hides it"
    )
    if unjudged:
        meaning += f" ({unjudged:,} images, alone in their class, not judged)"
    table = (
        ["image", "label", "looks like", "log-odds of the label"],
        [
            [
                files.printable(images.name(int(index))),
                own,
                other,
                f"{odds:.1f}",
            ]
            for index, own, other, odds in shown
        ],
    )
    return (
        Gallery(title, f"{meaning}.", rows),
        Part(
            f"The first {len(shown):,} of them by name",
            "At log-odds of -2.3 the label is right once in ten times, at -4.6 "
            "once in a hundred.",
            table=table,
            folded=True,
        ),
    )


def write(arguments: argparse.Namespace) -> Path:
    places = {name: getattr(arguments, name) for name in scored.PLACES}
    run = scored.ScoredRun(arguments.run, places)
    mistakes = Mistakes(run, arguments.most)
    train = run.train_features
    test = features.extract(run.model, run.data.test)
    wrong, listed = label_errors(mistakes, train, run.classes.counts, arguments)
    path = arguments.output or run.path / "mistakes.html"
    errors, images = len(mistakes.errors), len(mistakes.found)
    report.write_galleries(
        path,
        [
            mistakes.confident(),
            mistakes.pulled(train, test),
            mistakes.pairs(),
            wrong,
            mistakes.duplicates(train, test),
        ],
        title=f"Mistakes of {run.path.resolve().name}",
        facts=[
            run.record.dataset,
            f"{errors:,} of {images:,} test images are mistaken",
        ],
        parts=[listed] if listed.table[1] else [],
    )
    return path


def main() -> None:
    files.escape_output()
    print(write(parse()))


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError, MemoryError) as error:
        sys.exit(f"mistakes.py: error: {one_line(error)}")
