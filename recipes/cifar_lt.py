r"""Trains a classifier on long-tailed images, with one branch or two.

    python recipes/cifar_lt.py --workdir=runs/quickstart \
        --flagfile=recipes/flags/quickstart.cfg

The folder receives the flags in effect (flags.cfg), TensorBoard events,
checkpoints, model.keras, a SavedModel with its model card, result.json and
report.html. The same command goes on where a run was cut, and leaves a finished
run as it is.

With --auxiliary there is a second branch ("To Balance or Not to Balance", Zhang
et al., arXiv:1912.04486): the classifier learns from images that are drawn by
--sampling, an auxiliary task on the same backbone from others.
"""

import command
import flag_groups

FLAGS = flag_groups.declare(
    "data",
    "augmentation",
    "mixing",
    "model",
    "loss",
    "auxiliary",
    "optimization",
    "steps",
    "seed",
    "scores",
    "curves",
    "running",
    "fitting",
    "devices",
    "evaluation",
)
if __name__ == "__main__":  # before the imports below, which take seconds
    command.parse(FLAGS, __doc__)

import functools
import os
from typing import Any, NamedTuple

import frozen
import inputs
import keras
import numpy as np
import outcome
import own_images
import run as runs
import tensorflow as tf
import training

from keras_lt import (
    callbacks,
    datasets,
    features,
    losses,
    metrics,
    preprocessing,
    report,
    specs,
    streams,
)
from keras_lt.models import (
    DualBranch,
    auxiliary,
    backbones,
    classifier,
    heads,
    load_model,
    load_weights,
    tuning,
)

# --- What the flags ask for --------------------------------------------------


class Method(NamedTuple):
    """A way to train; each attribute is the flag of its name."""

    loss: str
    head: str
    sampling: str
    drw_epoch: int | None
    mix: str | None
    auxiliary: str | None
    auxiliary_sampling: str | None
    auxiliary_augment: str | None
    joint_forward: bool

    @property
    def name(self) -> str:
        return "dual_branch" if self.auxiliary else "single"

    def check(self) -> None:
        """Refuses flags that nothing would use, before anything is loaded."""
        for name in (
            "auxiliary_sampling",
            "auxiliary_augment",
            "joint_forward",
        ):
            if self.auxiliary is None and getattr(self, name):
                raise ValueError(
                    f"Expected --auxiliary with --{name}. "
                    f"Received: --{name}={getattr(self, name)}"
                )
        if self.auxiliary is not None and self.mix is not None:
            raise ValueError(
                "Expected --mix without --auxiliary, whose tasks take images "
                f"as they are. Received: --mix={self.mix} "
                f"--auxiliary={self.auxiliary}"
            )

    def check_frozen(self, settings: "Settings", views: int) -> None:
        """Refuses flags that need images, where these are seen but once."""
        tune = settings.network["tune"]
        tasks = specs.parse_chain(self.auxiliary) if self.auxiliary else ()
        see = [task.name for task in tasks if task.name != "classifier"]
        if self.mix is not None or see:
            raise ValueError(
                "Expected neither --mix nor an --auxiliary other than "
                "classifier: the images are gone once their features are "
                f"computed. Received: --mix={self.mix} "
                f"--auxiliary={self.auxiliary} --tune={tune}"
            )
        if self.auxiliary_augment is not None:
            raise ValueError(
                "Expected no --auxiliary_augment: both branches take the same "
                "features, which are computed once. Received: "
                f"--auxiliary_augment={self.auxiliary_augment} --tune={tune}"
            )
        augments = settings.augment not in (None, inputs.AS_THEY_ARE)
        if augments and not views:
            raise ValueError(
                "Expected --tune=head(views=4) or the like with --augment, of "
                "features that are computed once. Received: "
                f"--augment={settings.augment} --tune={tune}"
            )


class Settings(NamedTuple):
    """What the flags ask for; a dictionary is {flag: value} of a group."""

    method: Method
    data: inputs.DataSettings
    augment: str | None
    network: dict[str, Any]
    optimization: dict[str, Any]
    length: dict[str, int | None]  # what `training.count_steps` takes
    scores: dict[str, Any]
    test_curve: bool
    fitting: dict[str, Any]
    seed: int
    jit_compile: bool
    export_litert: bool
    tta: str

    @property
    def views(self) -> int | None:
        """Views of each image whose features are computed once, if any are."""
        return getattr(tuning.get(self.network["tune"]), "views", None)


# --- Loss --------------------------------------------------------------------


def make_loss(method: Method, class_counts: np.ndarray) -> Any:
    """Returns the loss of the classifier."""
    loss = losses.get(
        method.loss,
        class_counts=class_counts,
        soft_labels=method.mix is not None,
    )
    weighs = getattr(loss, "beta", None) or getattr(loss, "class_weights", None)
    if method.drw_epoch is not None and weighs is None:
        raise ValueError(
            "Expected a loss with class weights for --drw_epoch, such as "
            "class_balanced or ldam(beta=0.9999). Received: "
            f"--loss={method.loss}"
        )
    return loss


# --- Model -------------------------------------------------------------------


class Network(NamedTuple):
    """What is made of the flags.

    Attributes:
        model: From images to logits.
        fitted: What is compiled and trained: the model, or what is not frozen.
        parts: The frozen and the trained part of the backbone, where what the
            first one gives is computed once; else None.
        layer: The head.
        head: What made it, see `keras_lt.models.heads`.
        continued: Whether the head starts as that of the run that --weights
            names.
    """

    model: keras.Model
    fitted: keras.Model
    parts: tuple[keras.Model, keras.Model] | None
    layer: keras.layers.Layer
    head: Any
    continued: bool


def make_model(
    settings: Settings, train: datasets.Dataset, steps: training.Steps
) -> Network:
    """Returns a compiled model."""
    method, l2 = settings.method, settings.network["l2"]
    # Layers draw their seeds when they are made: this order is a part of what
    # the seed of a run means.
    backbone = training.make_backbone(train=train, **settings.network)
    chosen = heads.get(method.head, num_classes=train.num_classes)
    head, loss = chosen(
        make_loss(method, train.class_counts),
        train.num_classes,
        l2=l2,
        name="logits",
    )
    continued = training.continue_head(
        head,
        backbone,
        train.class_names,
        weights=settings.network["weights"],
        tune=settings.network["tune"],
    )
    if settings.views is None:
        parts = None
        model = fitted = join(settings, backbone, head, train, steps)
    else:
        parts = backbones.split_frozen(backbone)
        model = classifier(backbone, train.num_classes, head=head)
        fitted = join(settings, parts[1], head, train, steps)
    if getattr(chosen, "start", "random") == "text" and not continued:
        spec = settings.network["backbone"]
        training.begin_at_texts(chosen, head, spec, train.class_names)
    fitted.compile(
        training.make_optimizer(
            fitted, backbone, steps, **settings.optimization
        ),
        loss,
        metrics=training.accuracies(train.num_classes),
        jit_compile=settings.jit_compile,
    )
    training.say_what_is_trained(model)
    return Network(model, fitted, parts, head, chosen, continued)


def join(
    settings: Settings,
    backbone: keras.Model,
    head: keras.layers.Layer,
    train: datasets.Dataset,
    steps: training.Steps,
) -> keras.Model:
    """Returns a model of a backbone, a head and, if asked, another branch."""
    method, l2 = settings.method, settings.network["l2"]
    if method.auxiliary is None:
        return classifier(backbone, train.num_classes, head=head)
    tasks, weights = auxiliary.get(
        method.auxiliary,
        num_classes=train.num_classes,
        class_counts=train.class_counts,
        image_shape=train.image_shape,
        l2=l2,
        steps_per_epoch=steps.per_epoch,
        total_steps=steps.total,
    )
    return DualBranch(
        backbone,
        train.num_classes,
        auxiliary=tasks,
        auxiliary_weight=weights,
        head=head,
        joint_forward=method.joint_forward,
        l2=l2,
        seed=settings.seed,
    )


# --- Stream ------------------------------------------------------------------


def make_stream(
    settings: Settings,
    train: datasets.Dataset | features.Examples,
    steps: training.Steps,
) -> inputs.Stream:
    """Returns what training batches are drawn from, images or features."""
    method = settings.method
    context = {
        "num_classes": train.num_classes,
        "class_counts": train.class_counts,
    }
    augment, auxiliary_augment = settings.augment, method.auxiliary_augment
    if isinstance(train, features.Examples):
        augment = inputs.AS_THEY_ARE
    return inputs.Stream(
        train,
        inputs.augmentation(augment, train, **context),
        batch_size=settings.length["batch_size"],
        seed=settings.seed,
        steps_per_epoch=steps.per_epoch,
        total_steps=steps.total,
        mix=preprocessing.get_mix(method.mix, **context),
        auxiliary_augmentation=auxiliary_augment
        and inputs.augmentation(auxiliary_augment, train, **context),
    )


def make_batches(
    stream: inputs.Stream,
    method: Method,
    start_step: int,
    shard: tuple[int, int] = (0, 1),
) -> tf.data.Dataset:
    """Returns slices of the training batches, from a step on."""
    if method.auxiliary is None:
        return stream.batches(method.sampling, start_step, shard)
    branches = {
        "balanced": (stream, method.sampling),
        "random": (stream.auxiliary, method.auxiliary_sampling or "random"),
    }
    return streams.zipped(
        {
            # By its name each branch has random numbers of its own.
            name: branch.batches(sampling, start_step, shard, name)
            for name, (branch, sampling) in branches.items()
        }
    )


# --- Features ----------------------------------------------------------------


def make_features(
    run: runs.Run,
    settings: Settings,
    network: Network,
    data: inputs.Data,
) -> inputs.Data:
    """Returns what the network is trained and scored on, images or features.

    A head that starts from features gets its weights.
    """
    views = {}
    if settings.views:
        views = {
            "views": settings.views,
            "spec": settings.augment,
            "augmentation": inputs.augmentation(
                settings.augment,
                data.train,
                num_classes=data.train.num_classes,
                class_counts=data.train.class_counts,
            ),
            "seed": settings.data.split_seed,
        }
    if network.parts:
        part = network.parts[0]
        data = frozen.of_all(run, part, data, part.layers[-1].name, **views)
    start = getattr(network.head, "start", "random")
    if start == "class_means" and not network.continued:
        found = data.train
        if not network.parts:
            kept = frozen.kept(run, network.model, found)
            found = features.Examples(kept, found.num_classes)
        elif network.parts[1].weights:
            found = frozen.through(network.parts[1], found)
        network.head.begin(network.layer, found.features, found.labels)
    return data


# --- From data to report -----------------------------------------------------


def train_and_report(
    run: runs.Run, settings: Settings, data: inputs.Data | None = None
) -> None:
    environment = report.environment()
    method = settings.method

    # Data, model and stream
    data = data or inputs.load_data(settings.data)
    classes = inputs.classes_of(data.train, settings.scores)
    inputs.say_what_is_read(data, settings.data.dataset, classes)
    steps = training.count_steps(len(data.train), **settings.length)
    with run.strategy.scope():
        network = make_model(settings, data.train, steps)
    model, fitted = network.model, network.fitted
    sampler = make_stream(settings, data.train, steps).sampler(method.sampling)

    # What can't be exported is refused now, and not after hours of training.
    prior = outcome.logit_counts(fitted.loss, sampler, data.train.class_counts)
    outcome.rehearse_export(
        run, model, data.train, prior, settings.export_litert, settings.tta
    )

    # Features, callbacks
    used = make_features(run, settings, network, data)
    stream = make_stream(settings, used.train, steps)
    watchers = training.make_watchers(
        run,
        data,
        fitted,
        scored=used,
        classes=classes,
        batch_size=stream.batch_size,
        fitting=settings.fitting,
        optimizer=settings.optimization["optimizer"],
        test_curve=settings.test_curve,
    )
    if method.drw_epoch is not None:
        watchers.others.append(callbacks.DeferredReweighting(method.drw_epoch))

    # Fit
    batches = functools.partial(make_batches, stream, method)
    training.fit(fitted, batches, watchers, steps)

    # Score, export, report
    branches = 1 if method.auxiliary is None else 2
    facts = training.facts(
        model, watchers.checkpointing, steps, stream.batch_size, branches
    )
    outcome.finish(
        run,
        data,
        outcome.Stage(
            model,
            method=method.name,
            epochs=facts["epochs"],
            history=watchers.checkpointing.history,
            facts=facts,
            logit_counts=prior,
            watchers=watchers,
            views=settings.tta,
            fitted=fitted,
            scored=used,
        ),
        settings=settings.data,
        classes=classes,
        batch_size=stream.batch_size,
        seed=settings.seed,
        litert=settings.export_litert,
        random_resized_crop=bool(stream.augmentation.crops),
        environment=environment,
    )


def evaluate_only(
    settings: Settings, checkpoint: str | None, workdir: str | None
) -> None:
    """Scores a saved model on the test set, and writes nothing."""
    if checkpoint is None and workdir is None:
        raise ValueError(
            "Expected --checkpoint or --workdir with --eval_only. "
            "Received: neither"
        )
    path = checkpoint or os.path.join(workdir, "model.keras")
    if not os.path.isfile(path):
        raise FileNotFoundError(
            "Expected a model.keras or .weights.h5 file. "
            f"Received: --checkpoint={path}, which does not exist"
        )
    split = runs.flag_of_run(os.path.dirname(path), "test_split")
    if settings.data.test_split == inputs.LEFT_OUT != split:
        raise ValueError(
            f"Expected a run trained with --test_split={inputs.LEFT_OUT}, as "
            "others may have seen these images. Received: "
            f"--checkpoint={path}"
        )
    train, _, test = inputs.load_data(settings.data)
    class_names = report.class_names_of(path)
    if class_names is not None:
        outcome.refuse_other_names("checkpoint", path, class_names, train)
    if path.endswith(".weights.h5"):
        steps = training.count_steps(len(train), **settings.length)
        model = make_model(settings, train, steps).model
        load_weights(model, path)
    else:
        model = load_model(path)
    scores = outcome.score(
        outcome.averaged(model, settings.tta, model.distribute_strategy),
        test,
        inputs.classes_of(train, settings.scores),
        settings.length["batch_size"],
    )
    print(f"test, {path}: {metrics.summary(scores)}")


def read_settings() -> Settings:
    """What the flags ask for: nothing else reads those of the method."""

    def group(*names: str) -> dict[str, Any]:
        return flag_groups.of_group(FLAGS, *names)

    return Settings(
        method=Method(**group("loss", "mixing", "auxiliary")),
        data=inputs.DataSettings(**group("data")),
        augment=FLAGS.augment,
        network=group("model"),
        optimization=group("optimization"),
        length={**group("steps"), "max_steps": FLAGS.max_steps},
        scores=group("scores"),
        test_curve=FLAGS.test_curve,
        fitting=group("fitting"),
        seed=FLAGS.seed,
        jit_compile=FLAGS.jit_compile,
        export_litert=FLAGS.export_litert,
        tta=FLAGS.tta,
    )


def main() -> None:
    read_settings().method.check()
    heads.get(FLAGS.head)  # a wrong one is refused at once
    if FLAGS.checkpoint is not None and not FLAGS.eval_only:
        raise ValueError(
            "Expected --eval_only with --checkpoint. "
            f"Received: --checkpoint={FLAGS.checkpoint}"
        )
    strategy = training.set_up(FLAGS)
    chosen, data = {}, None
    if FLAGS.dataset.startswith(own_images.KINDS):
        chosen, data = own_images.complete(FLAGS, strategy)
    settings = read_settings()
    if settings.views is not None:
        settings.method.check_frozen(settings, settings.views)
    if FLAGS.eval_only:
        evaluate_only(settings, FLAGS.checkpoint, FLAGS.workdir)
        return
    runs.complete(
        FLAGS,
        strategy,
        lambda run: train_and_report(run, settings, data),
        chosen,
    )


if __name__ == "__main__":
    runs.run_app(main, FLAGS)
