r"""Learns features by comparing views of images, without a classifier.

    python recipes/pretrain.py --loss=bns --workdir=runs/bns \
        --dataset=cifar10 --imbalance_factor=100

BNS (Lin and Yuan, arXiv:2510.08836), SimCLR (--loss=nt_xent) and SupCon. What
the features are worth is scored by the nearest class mean, which needs no
training: that classifier is in model.keras, so that the run is a finished one
as any other. second_stage.py, ip_dpp.py and dlsa.py go on from it.
"""

import command
import flag_groups

FLAGS = flag_groups.declare(
    "data",
    "model",
    "optimization",
    "steps",
    "seed",
    "scores",
    "running",
    "fitting",
    "devices",
)
FLAGS.set_default("optimizer", "adamw(weight_decay=0.05,beta_2=0.95)")
FLAGS.set_default("learning_rate", "cosine(0.001,warmup=5)")

_DEFINE = flag_groups.Definer(FLAGS, "Views and their comparison")
_DEFINE.spec(
    "loss",
    "bns",
    "Loss of pairs of views: bns(temperature), nt_xent(temperature) (SimCLR), "
    "supcon(temperature) or package.module:Name.",
)
_DEFINE.spec(
    "views",
    None,
    "Augmentation of each view: simclr(min_area,jitter,blur) or "
    "package.module:name; random_resized_crop(min_area)| before it cuts views "
    "from files. By default simclr(0.2), and "
    "random_resized_crop(0.2)|simclr(min_area=None) for files.",
)
_DEFINE.spec(
    "sampling", "random", "How images are drawn, as --sampling of cifar_lt.py."
)
_DEFINE.integer(
    "projection_dim", 128, "Dimensions in which views are compared."
)
if __name__ == "__main__":  # before the imports below, which take seconds
    command.parse(FLAGS, __doc__)

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import finished
import inputs
import outcome
import run as runs
import training

from keras_lt import datasets, features, losses, preprocessing, report, specs
from keras_lt.models import (
    ContrastivePretrainer,
    nearest_class_mean,
    tuning,
)


class Settings(NamedTuple):
    """What the flags say, by groups.

    Attributes:
        data: Which images.
        network: {flag: value} of the group "model".
        optimization: {flag: value} of the group "optimization".
        length: {flag: value} of the group "steps", and `max_steps`.
        scores: {flag: value} of the group "scores".
        fitting: {flag: value} of the group "fitting".
        loss: Value of the flag of this name, as the ones that follow.
    """

    data: inputs.DataSettings
    network: dict[str, Any]
    optimization: dict[str, Any]
    length: dict[str, Any]
    scores: dict[str, Any]
    fitting: dict[str, Any]
    loss: str
    views: str | None
    sampling: str
    projection_dim: int
    seed: int
    jit_compile: bool
    export_litert: bool


def make_views(spec: str | None, train: datasets.Dataset) -> Callable:
    """Returns the transform to two views, as --views says."""
    is_of_files = isinstance(train, datasets.FileDataset)
    if spec is None:
        spec = "simclr(0.2)"
        if is_of_files:
            spec = "random_resized_crop(0.2)|simclr(min_area=None)"
    *crops, view = specs.parse_chain(spec)
    if len(crops) > 1 or (crops and not is_of_files):
        raise ValueError(
            "Expected one view, with random_resized_crop| before it for images "
            f"from files. Received: --views={spec}"
        )
    read = None
    if crops:  # each view has a crop of its own
        crop = functools.partial(train.batch_reader, True)
        table = {"random_resized_crop": lambda min_area=0.2: crop(min_area)}
        read = specs.Registry("crop of a file", table).get(*crops)
    return preprocessing.get(f"two_views({view})", read=read)


def make_model(
    settings: Settings, train: datasets.Dataset, steps: training.Steps
) -> ContrastivePretrainer:
    """Returns a compiled model of two views."""
    model = ContrastivePretrainer(
        training.make_backbone(train, **settings.network),
        settings.projection_dim,
        l2=settings.network["l2"],
    )
    model.compile(
        training.make_optimizer(
            model, model.backbone, steps, **settings.optimization
        ),
        losses.get(settings.loss, class_counts=train.class_counts),
        jit_compile=settings.jit_compile,
    )
    return model


def make_stream(
    settings: Settings, train: datasets.Dataset, steps: training.Steps
) -> inputs.Stream:
    """Returns what batches of views are drawn from."""
    return inputs.Stream(
        train,
        inputs.Augmentation(False, make_views(settings.views, train)),
        batch_size=settings.length["batch_size"],
        seed=settings.seed,
        steps_per_epoch=steps.per_epoch,
        total_steps=steps.total,
    )


def train_and_report(run: runs.Run, settings: Settings) -> None:
    environment = report.environment()

    # Data, views, model
    data = inputs.load_data(settings.data)
    classes = inputs.classes_of(data.train, settings.scores)
    inputs.say_what_is_read(data, settings.data.dataset, classes)
    train = data.train
    steps = training.count_steps(len(train), **settings.length)
    stream = make_stream(settings, train, steps)

    with run.strategy.scope():
        model = make_model(settings, train, steps)
    # The mean of each class is a classifier that takes all as equally likely.
    prior = (train.class_counts > 0).astype("float64")
    num_classes = train.num_classes
    samples = finished.one_per_class(model, num_classes)
    tried = nearest_class_mean(model, samples, num_classes)
    outcome.rehearse_export(run, tried, train, prior, settings.export_litert)

    # Training
    watchers = training.make_watchers(
        run,
        data,
        model,
        classes=classes,
        batch_size=stream.batch_size,
        fitting=settings.fitting,
        optimizer=settings.optimization["optimizer"],
        classifies=False,
    )
    batches = functools.partial(stream.batches, settings.sampling)
    training.fit(model, batches, watchers, steps)
    watchers.apply_averages()  # whose features are extracted
    if not run.is_chief:  # what follows takes no other process
        return

    # Score by the nearest class mean, export, report
    kept = watchers.checkpointing
    facts = training.facts(model, kept, steps, stream.batch_size, branches=2)
    extracted = features.extract(model, train)
    classifier = nearest_class_mean(model, extracted, num_classes)
    outcome.finish(
        run,
        data,
        outcome.Stage(
            classifier,
            method=settings.loss,
            epochs=facts["epochs"],
            history=kept.history,
            facts={**facts, "classifier": "nearest class mean"},
            logit_counts=prior,
            watchers=watchers,
        ),
        settings=settings.data,
        classes=classes,
        batch_size=stream.batch_size,
        seed=settings.seed,
        litert=settings.export_litert,
        random_resized_crop=isinstance(train, datasets.FileDataset),
        environment=environment,
    )


def read_settings() -> Settings:
    """What the flags ask for."""

    def group(*names: str) -> dict[str, Any]:
        return flag_groups.of_group(FLAGS, *names)

    return Settings(
        data=inputs.DataSettings(**group("data")),
        network=group("model"),
        optimization=group("optimization"),
        length={**group("steps"), "max_steps": FLAGS.max_steps},
        scores=group("scores"),
        fitting=group("fitting"),
        loss=FLAGS.loss,
        views=FLAGS.views,
        sampling=FLAGS.sampling,
        projection_dim=FLAGS.projection_dim,
        seed=FLAGS.seed,
        jit_compile=FLAGS.jit_compile,
        export_litert=FLAGS.export_litert,
    )


def refuse_features(tune: str) -> None:
    """Refuses a tuning that sees features which are computed once."""
    if getattr(tuning.get(tune), "views", None) is not None:
        raise ValueError(
            "Expected a --tune that trains a part of the backbone on new views "
            "of images, such as all or after('STAGE'). Received: "
            f"--tune={tune}"
        )


def main() -> None:
    settings = read_settings()
    refuse_features(settings.network["tune"])
    strategy = training.set_up(FLAGS)
    runs.complete(
        FLAGS,
        strategy,
        lambda run: train_and_report(run, settings),
    )


if __name__ == "__main__":
    runs.run_app(main, FLAGS)
