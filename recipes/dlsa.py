r"""Divides the features of a finished run, and classifies each part (DLSA).

    python recipes/dlsa.py --from=runs/ce --workdir=runs/dlsa_on_ce

"Constructing Balance from Imbalance" (Xu et al., ECCV 2022, arXiv:2208.02567);
`keras_lt.models.DLSA` says what it does. The run may be of any recipe. Beside
report.html two pages show the division: division.html of the training images,
division_test.html of the test images.
"""

import command
import flag_groups

FLAGS = flag_groups.declare("from", "data", "seed", "scores", "running")

_DEFINE = flag_groups.Definer(FLAGS, "Division")
_DEFINE.spec(
    "dlsa",
    "dlsa",
    "The levels: dlsa(depth,num_clusters,llh_proportion,components,...), "
    "arguments of keras_lt.models.DLSA.",
)
_DEFINE.spec(
    "flow",
    "flow",
    "How the flow of a level is trained: flow(epochs,learning_rate,"
    "weight_power,...), arguments of keras_lt.models.dlsa.FlowSettings.",
)
_DEFINE.spec(
    "classifier",
    "classifier",
    "How the classifier of a level is trained: classifier(epochs,"
    "learning_rate,loss,...), arguments of "
    "keras_lt.models.dlsa.ClassifierSettings.",
)
if __name__ == "__main__":  # before the imports below, which take seconds
    command.parse(FLAGS, __doc__)

import time
import warnings
from typing import Any

import finished
import inputs
import keras
import outcome
import run as runs
import training

from keras_lt import counts, datasets, features, losses, models, report
from keras_lt.models import dlsa as dlsa_lib
from keras_lt.specs import Registry

LEVELS = Registry("division", {"dlsa": dlsa_lib.DLSA}, makes=dlsa_lib.DLSA)
CONTRASTS = Registry("contrast", {"contrast": dlsa_lib.Contrast})
FLOWS = Registry(
    "training of flows",
    {"flow": dlsa_lib.FlowSettings},
    makes=dlsa_lib.FlowSettings,
    nested={"contrast": CONTRASTS.get},
)
CLASSIFIERS = Registry(
    "training of classifiers",
    {"classifier": dlsa_lib.ClassifierSettings},
    makes=dlsa_lib.ClassifierSettings,
)


def make_levels(
    model: keras.Model, train: datasets.Dataset, seed: int
) -> dlsa_lib.DLSA:
    """Returns untrained levels for the features of a model."""
    return LEVELS.get(
        FLAGS.dlsa,
        given={"features_dim": models.feature_model(model).output.shape[-1]},
        num_classes=train.num_classes,
        seed=seed,
    )


def divide(
    run: runs.Run,
    levels: dlsa_lib.DLSA,
    extracted: features.Features,
    flow: dlsa_lib.FlowSettings,
    classifier: dlsa_lib.ClassifierSettings,
) -> list[dict[str, Any]]:
    """Trains the levels, from the last one that an earlier start has kept."""
    with warnings.catch_warnings(record=True) as warned:
        found = levels.fit_features(
            *extracted,
            flow=flow,
            classifier=classifier,
            directory=run.path / "checkpoints",
        )
    for warning in warned:  # why levels were left out
        if issubclass(warning.category, UserWarning):
            print(warning.message)
    for number, level in enumerate(found, 1):
        print(f"Level {number} keeps {level['kept']} of {level['samples']}")
    return found


def write_pages(
    run: runs.Run,
    levels: dlsa_lib.DLSA,
    classes: counts.Classes,
    by_images: dict[str, features.Features],
    name: str,
) -> None:
    """Shows where the images of each set went, in a page each."""
    names = {"training": "division.html", "test": "division_test.html"}
    for which, (points, labels) in by_images.items():
        found = levels.inspect(points)

        def write(path, found=found, labels=labels, which=which):
            report.write_division(
                path,
                found,
                labels,
                classes,
                title=f"DLSA on {name}, {which} images",
            )

        run.write(names[which], write)


def train_and_report(
    run: runs.Run,
    first: finished.Finished,
    flow: dlsa_lib.FlowSettings,
    classifier: dlsa_lib.ClassifierSettings,
    seed: int,
) -> None:
    """Trains the division, and makes all that a finished run has."""
    environment = report.environment()

    # Data and features
    settings = inputs.DataSettings(**flag_groups.of_group(FLAGS, "data"))
    data, classes = first.load_data(
        settings, flag_groups.of_group(FLAGS, "scores")
    )
    train, model = data.train, first.model()

    # What the logits carry: flows and classifiers see the images as they are.
    loss = losses.get(classifier.loss, class_counts=train.class_counts)
    prior = losses.logit_prior(loss, train.class_counts)
    # What can't be done is refused before the features of a large data set are
    # computed.
    tried = dlsa_lib.stack(model, make_levels(model, train, seed))
    outcome.rehearse_export(run, tried, train, prior, FLAGS.export_litert)
    extracted = first.features_of_images(run, model, train)

    # Levels; random numbers start anew, so that weights do not hang on what
    # came before
    keras.utils.set_random_seed(seed)
    begin = time.perf_counter()
    levels = make_levels(model, train, seed)
    found = divide(run, levels, extracted, flow, classifier)
    seconds = time.perf_counter() - begin
    known = first.features_of_all(run, model, data)
    test = known.test if known else features.extract(model, data.test)
    test = features.Features(test.features, test.labels)
    by_images = {"training": extracted, "test": test}
    write_pages(run, levels, classes, by_images, first.path.name)

    # Score, export, report
    found_in_test = levels.inspect(test.features)
    first.finish(
        run,
        data,
        dlsa_lib.stack(model, levels),
        {
            "stage2_seconds": seconds,
            "levels": found,
            "test_levels": dlsa_lib.describe(
                found_in_test, test.labels, train.num_classes
            ),
        },
        method=FLAGS.dlsa,
        logit_counts=prior,
        scored=known and (levels, known),
        settings=settings,
        classes=classes,
        litert=FLAGS.export_litert,
        environment=environment,
    )


def main() -> None:
    first = finished.Finished(FLAGS["from"].value)
    first.pass_on(FLAGS)
    flow = FLOWS.get(FLAGS.flow)  # wrong ones are refused at once
    classifier = CLASSIFIERS.get(FLAGS.classifier)
    strategy = training.set_up(FLAGS)
    runs.complete(
        FLAGS,
        strategy,
        lambda run: train_and_report(run, first, flow, classifier, FLAGS.seed),
    )


if __name__ == "__main__":
    runs.run_app(main, FLAGS)
