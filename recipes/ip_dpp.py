r"""Trains the network of a finished run on subsets that it finds informative.

    python recipes/ip_dpp.py --from=runs/bns --workdir=runs/bns_ipdpp

The second stage of BNS + IP-DPP (Lin and Yuan, arXiv:2510.08836): rounds of
some epochs, each on a balanced subset of the training images that is drawn by
what the model then thinks of them. `keras_lt.subsets` says how. Subsets drawn
at random, or all images in as many steps, are what to compare it with.
"""

import command
import flag_groups

FLAGS = flag_groups.declare(
    "from",
    "data",
    "augmentation",
    "optimization",
    "steps",
    "seed",
    "scores",
    "curves",
    "running",
    "fitting",
    "devices",
)
FLAGS.set_default("optimizer", "adamw(weight_decay=0.05,beta_2=0.95)")
FLAGS.set_default("learning_rate", "cosine(0.00025,warmup=5)")
FLAGS.set_default("epochs", 100)
FLAGS.set_default("batch_size", 64)

_DEFINE = flag_groups.Definer(FLAGS, "Second stage")
_DEFINE.spec(
    "subsets",
    "ip_dpp(500)",
    "What a round is trained on: ip_dpp(size,scale,augmented) or random(size), "
    "so many images per class, all(size), all images in as many steps, or "
    "package.module:Name.",
)
_DEFINE.integer("epochs_per_round", 10, "Epochs from one draw to the next.")
_DEFINE.spec(
    "sampling",
    "random",
    "How images are drawn from a subset, as --sampling of cifar_lt.py.",
)
_DEFINE.spec("loss", "crossentropy", "Loss, as of cifar_lt.py.")
_DEFINE.boolean(
    "freeze_features", False, "Train the classifier alone, not the network."
)
_DEFINE.real(
    "l2",
    0.0,
    "Factor of the squared norm of the classifier's weights in the loss.",
)
if __name__ == "__main__":  # before the imports below, which take seconds
    command.parse(FLAGS, __doc__)

from typing import Any, NamedTuple

import finished
import inputs
import keras
import numpy as np
import outcome
import run as runs
import tensorflow as tf
import training

from keras_lt import datasets, losses, report, sampling, subsets
from keras_lt.models import TwoStage


class Settings(NamedTuple):
    """What the flags say, by groups.

    Attributes:
        data: Which images.
        optimization: {flag: value} of the group "optimization".
        length: {flag: value} of the group "steps", and `max_steps`.
        scores: {flag: value} of the groups "scores" and "curves".
        fitting: {flag: value} of the group "fitting".
        augment: Value of the flag of this name, as the ones that follow.
    """

    data: inputs.DataSettings
    optimization: dict[str, Any]
    length: dict[str, Any]
    scores: dict[str, Any]
    fitting: dict[str, Any]
    augment: str | None
    subsets: str
    epochs_per_round: int
    sampling: str
    loss: str
    freeze_features: bool
    l2: float
    seed: int
    jit_compile: bool
    export_litert: bool

    @property
    def on_features(self) -> bool:
        """Whether features of images as they are are all that is trained on."""
        return self.freeze_features and self.augment == inputs.AS_THEY_ARE


def make_rounds(
    run: runs.Run, settings: Settings, train: datasets.Dataset
) -> subsets.Rounds:
    """Returns the rounds of a training, whose draws are kept in the run."""
    augmentation = inputs.augmentation(
        settings.augment,
        train,
        num_classes=train.num_classes,
        class_counts=train.class_counts,
    )
    return subsets.Rounds(
        subsets.get(settings.subsets),
        run.path / "draws",
        epochs=settings.epochs_per_round,
        batch_size=settings.length["batch_size"],
        seed=settings.seed,
        sampling=settings.sampling,
        transform=augmentation.transform,
        random_resized_crop=augmentation.crops,
        on_draw=lambda number, draw: say_draw(
            run, train, number * settings.epochs_per_round, draw
        ),
    )


def say_draw(
    run: runs.Run, train: datasets.Dataset, epoch: int, draw: subsets.Draw
) -> None:
    """Prints what a draw before an epoch is like, and tells TensorBoard.

    Each start says it: one may have ended between the draw and its words.
    """
    if not run.is_chief:
        return
    run.check()
    figures = draw.figures(train.labels, train.num_classes)
    sizes = figures.pop("class_sizes")
    with tf.summary.create_file_writer(
        str(run.path / "tensorboard" / "draws")
    ).as_default(step=epoch):
        for name, value in figures.items():
            tf.summary.scalar(f"draws/{name}", value)
        tf.summary.histogram("draws/class_sizes", sizes)
    shown = ", ".join(f"{name} {value:.3f}" for name, value in figures.items())
    print(f"{sum(sizes):,} images drawn before epoch {epoch + 1}: {shown}")


def make_model(
    settings: Settings,
    first: keras.Model,
    train: datasets.Dataset,
    rounds: subsets.Rounds,
    steps: training.Steps,
) -> tuple[TwoStage, keras.Model]:
    """Returns a model with the network of the first one, and what is compiled.

    That is its classifier, where features are computed once, else all of it.
    """
    model = TwoStage.crt(
        first,
        train.num_classes,
        freeze=settings.freeze_features,
        l2=settings.l2,
    )
    counts = rounds.subsets.class_counts(train.class_counts)
    fitted = model.head if settings.on_features else model
    backbone = model.head if settings.on_features else model.features
    fitted.compile(
        training.make_optimizer(
            fitted, backbone, steps, **settings.optimization
        ),
        losses.get(settings.loss, class_counts=counts),
        metrics=training.accuracies(train.num_classes),
        jit_compile=settings.jit_compile,
    )
    return model, fitted


def load_first(
    run: runs.Run, first: finished.Finished, seed: int
) -> keras.Model:
    """Loads the model of the run before, and starts random numbers anew."""
    with run.strategy.scope():
        model = first.model()
    run.made_from("draws", {"model": runs.digest_of_model(model)})
    # Weights do not hang on what came before.
    keras.utils.set_random_seed(seed)
    return model


def logit_counts(
    settings: Settings, class_counts: np.ndarray, steps: training.Steps
) -> np.ndarray | None:
    """Images per class that the logits have as their prior, or shares."""
    counts = subsets.get(settings.subsets).class_counts(class_counts)
    sampler = sampling.get(
        settings.sampling,
        class_counts=counts,
        steps_per_epoch=steps.per_epoch,
        total_steps=steps.total,
    )
    loss = losses.get(settings.loss, class_counts=counts)
    return outcome.logit_counts(loss, sampler, counts)


def facts_of_draws(
    run: runs.Run,
    settings: Settings,
    train: datasets.Dataset,
    rounds: subsets.Rounds,
) -> list[dict[str, Any]]:
    """What a record says of the draws; writes the page of the last one."""
    draws = rounds.draws(train)
    last = draws[-1]
    if last.probabilities is not None:
        run.write(
            "selection.html",
            lambda path: report.write_selection(
                path,
                train.images,
                train.labels,
                last.probabilities,
                last.indices,
                train.class_names,
                title=f"Round {len(draws)} of {settings.subsets}",
            ),
        )
    return [
        {
            "epoch": number * settings.epochs_per_round,
            **draw.figures(train.labels, train.num_classes),
        }
        for number, draw in enumerate(draws)
    ]


def make_stage(
    first: finished.Finished,
    settings: Settings,
    model: keras.Model,
    facts: dict[str, Any],
    logit_counts: np.ndarray | None,
    watchers: training.Watchers,
    fitted: keras.Model,
    used: inputs.Data,
) -> outcome.Stage:
    """Returns the trained stage, with the curves of both stages."""
    part = {"fitted": fitted, "scored": used} if settings.on_features else {}
    curves = watchers.checkpointing.history
    epochs = len(curves["seconds"])
    return outcome.Stage(
        model,
        method=f"{first.record.method}, {settings.subsets}",
        epochs=epochs,
        history={
            **first.record.history,
            **{f"stage2_{name}": curve for name, curve in curves.items()},
        },
        facts={
            **facts,
            "num_parameters": model.count_params(),
            "stage2_epochs": epochs,
            "stage2_seconds": sum(curves["seconds"]),
        },
        logit_counts=logit_counts,
        watchers=watchers,
        from_run=first.name,
        **part,
    )


def train_and_report(
    run: runs.Run, first: finished.Finished, settings: Settings
) -> None:
    environment = report.environment()
    # Data, subsets
    data, classes = first.load_data(settings.data, settings.scores)
    train = data.train
    rounds = make_rounds(run, settings, train)
    per_epoch = rounds.steps_per_epoch(train)
    length = {**settings.length, "steps_per_epoch": per_epoch}
    steps = training.count_steps(len(train), **length)

    # Model
    before = load_first(run, first, settings.seed)
    with run.strategy.scope():
        model, fitted = make_model(settings, before, train, rounds, steps)
    prior = logit_counts(settings, train.class_counts, steps)
    outcome.rehearse_export(run, model, train, prior, settings.export_litert)

    # Training
    on_features = settings.on_features
    used = first.compute_features(run, before, data) if on_features else data
    watchers = training.make_watchers(
        run,
        data,
        fitted,
        scored=used,
        classes=classes,
        batch_size=finished.BATCH_SIZE,
        fitting=settings.fitting,
        optimizer=settings.optimization["optimizer"],
        test_curve=settings.scores["test_curve"],
    )
    rounds.fit(
        fitted,
        used.train,
        watchers.checkpointing,
        epochs=length["epochs"],
        last_step=steps.last,
        callbacks=watchers.others,
        verbose=training.verbosity(),
    )

    # Score, export, report
    draws = facts_of_draws(run, settings, train, rounds)
    facts = {**first.facts, "stage2_steps": steps.last, "draws": draws}
    outcome.finish(
        run,
        data,
        make_stage(
            first, settings, model, facts, prior, watchers, fitted, used
        ),
        settings=settings.data,
        classes=classes,
        batch_size=finished.BATCH_SIZE,
        seed=settings.seed,
        litert=settings.export_litert,
        random_resized_crop=bool(rounds.random_resized_crop),
        environment=environment,
    )


def read_settings() -> Settings:
    """What the flags ask for."""

    def group(*names: str) -> dict[str, Any]:
        return flag_groups.of_group(FLAGS, *names)

    if FLAGS["steps_per_epoch"].present:
        raise ValueError(
            "Expected the size of --subsets to set the steps per epoch. "
            f"Received: --steps_per_epoch={FLAGS.steps_per_epoch}"
        )
    return Settings(
        data=inputs.DataSettings(**group("data")),
        optimization=group("optimization"),
        length={**group("steps"), "max_steps": FLAGS.max_steps},
        scores=group("scores", "curves"),
        fitting=group("fitting"),
        augment=FLAGS.augment,
        subsets=FLAGS.subsets,
        epochs_per_round=FLAGS.epochs_per_round,
        sampling=FLAGS.sampling,
        loss=FLAGS.loss,
        freeze_features=FLAGS.freeze_features,
        l2=FLAGS.l2,
        seed=FLAGS.seed,
        jit_compile=FLAGS.jit_compile,
        export_litert=FLAGS.export_litert,
    )


def main() -> None:
    first = finished.Finished(FLAGS["from"].value)
    first.pass_on(FLAGS)
    settings = read_settings()
    strategy = training.set_up(FLAGS)
    runs.complete(
        FLAGS,
        strategy,
        lambda run: train_and_report(run, first, settings),
    )


if __name__ == "__main__":
    runs.run_app(main, FLAGS)
