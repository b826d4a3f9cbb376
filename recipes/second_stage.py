r"""Puts another classifier on the features of a finished run.

    python recipes/second_stage.py --stage=crt --from=runs/ce \
        --workdir=runs/crt

The run may be of any recipe: cRT on contrastive features, LWS on a dual branch.
Features of the training images are computed once and kept in the folder, which
receives what a run of cifar_lt.py has. A stage that learns takes seconds then.
"""

import command
import flag_groups

FLAGS = flag_groups.declare(
    "from", "data", "steps", "seed", "scores", "running"
)
FLAGS.set_default("epochs", 10)

_DEFINE = flag_groups.Definer(FLAGS, "Second stage")
_DEFINE.spec(
    "stage",
    "crt",
    "The new classifier: crt(l2) is trained anew, lws scales that of the run "
    "by class, mislas goes on with it and such scales, tau(tau) gives its "
    "weights more equal lengths, ncm(normalization,similarity) compares with "
    "the mean of each class, linear_probe(l2) is crt on contrastive features; "
    "or package.module:name.",
)
# These, and the group "steps", are for a stage that learns.
_DEFINE.spec("loss", "crossentropy", "Loss, as of cifar_lt.py.")
_DEFINE.spec(
    "sampling",
    "class_balanced",
    "How features are drawn, as --sampling of cifar_lt.py.",
)
_DEFINE.spec(
    "optimizer",
    "sgd(momentum=0.9,weight_decay=2e-4)",
    "Optimizer, as of cifar_lt.py.",
)
_DEFINE.spec(
    "learning_rate", "cosine(0.1)", "Learning rate, as of cifar_lt.py."
)
if __name__ == "__main__":  # before the imports below, which take seconds
    command.parse(FLAGS, __doc__)

import functools
import time
from typing import NamedTuple

import finished
import inputs
import keras
import numpy as np
import outcome
import run as runs
import training

from keras_lt import datasets, features, losses, report, sampling, trainable
from keras_lt.models import TwoStage, second_stages


class Learning(NamedTuple):
    """How a new classifier is trained, as the flags of these names say."""

    loss: str
    sampling: str
    optimizer: str
    learning_rate: str
    epochs: int
    batch_size: int
    steps_per_epoch: int | None


def fit_head(
    second: TwoStage,
    extracted: features.Features,
    train: datasets.Dataset,
    learning: Learning,
    seed: int,
) -> np.ndarray | None:
    """Trains a classifier on features.

    Returns:
        Images per class that its logits have as their prior, or shares; None
        where the sampler can't say what it draws.
    """
    steps = training.count_steps(
        len(train),
        epochs=learning.epochs,
        batch_size=learning.batch_size,
        steps_per_epoch=learning.steps_per_epoch,
    )
    loss = losses.get(learning.loss, class_counts=train.class_counts)
    sampler = sampling.get(
        learning.sampling,
        class_counts=train.class_counts,
        steps_per_epoch=steps.per_epoch,
        total_steps=steps.total,
    )
    head = second.head
    head.compile(
        training.make_optimizer(
            head,
            head,
            steps,
            rates=second.head_rates,
            optimizer=learning.optimizer,
            learning_rate=learning.learning_rate,
        ),
        loss,
    )
    trainable.build_optimizer(head)
    watch, averages = training.wrap_steps(head, learning.optimizer)
    batches = features.stream(
        extracted,
        train.num_classes,
        sampling=sampler,
        batch_size=learning.batch_size,
        seed=seed,
        name="stage2",
    )
    head.fit(
        batches,
        steps_per_epoch=steps.total,
        callbacks=[watch],
        shuffle=False,
        verbose=0,
    )
    if averages:
        averages.apply()
    return outcome.logit_counts(loss, sampler, train.class_counts)


def refuse_unused(stage: str) -> None:
    """Refuses flags of learning with a stage that has nothing to learn."""
    for name in Learning._fields:
        if FLAGS[name].present:
            raise ValueError(
                "Expected a --stage that learns, such as crt, with "
                f"--{name}. Received: --stage={stage} "
                f"--{name}={FLAGS[name].value}"
            )


def train_and_report(
    run: runs.Run,
    first: finished.Finished,
    stage: str,
    learning: Learning,
    seed: int,
) -> None:
    """Makes the new classifier and all that a finished run has."""
    environment = report.environment()

    # Data and the first stage
    settings = inputs.DataSettings(**flag_groups.of_group(FLAGS, "data"))
    data, classes = first.load_data(
        settings, flag_groups.of_group(FLAGS, "scores")
    )
    train, model = data.train, first.model()
    extract = functools.partial(first.features_of_images, run, model, train)

    # Rehearsal: what can't be done is refused before the features of a large
    # data set are computed.
    make = second_stages.get(stage)
    samples = finished.one_per_class(model, train.num_classes)
    tried = make(model, lambda: samples, train.num_classes)
    learns = isinstance(tried, TwoStage)
    if not learns:
        refuse_unused(stage)
    outcome.rehearse_export(run, tried, train, None, FLAGS.export_litert)

    # The new classifier
    extracted = extract() if learns else None
    # Random numbers start anew: weights do not hang on what came before.
    keras.utils.set_random_seed(seed)
    begin = time.perf_counter()
    second = make(model, extract, train.num_classes)
    if learns:
        prior = fit_head(second, extracted, train, learning, seed)
    else:  # classifiers in closed form take all classes as equally likely
        prior = (train.class_counts > 0).astype("float64")

    seconds = time.perf_counter() - begin

    # Score, export, report
    known = first.features_of_all(run, model, data) if learns else None
    first.finish(
        run,
        data,
        second,
        {"stage2_seconds": seconds},
        method=stage,
        logit_counts=prior,
        scored=known and (second.head, known),
        settings=settings,
        classes=classes,
        litert=FLAGS.export_litert,
        environment=environment,
    )


def main() -> None:
    first = finished.Finished(FLAGS["from"].value)
    first.pass_on(FLAGS)
    learning = Learning(*(FLAGS[name].value for name in Learning._fields))
    second_stages.get(FLAGS.stage)  # a wrong one is refused at once
    strategy = training.set_up(FLAGS)
    runs.complete(
        FLAGS,
        strategy,
        lambda run: train_and_report(
            run, first, FLAGS.stage, learning, FLAGS.seed
        ),
    )


if __name__ == "__main__":
    runs.run_app(main, FLAGS)
