"""The stages of a run: training, second classifiers, divisions, subsets."""

import functools
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import options
import origins
import parts
import rounds
import workdir as workdirs
from options import FLAGS

from keras_lt import (
    callbacks,
    classes,
    counts,
    distribute,
    division,
    export,
    features,
    losses,
    report,
    sampling,
)
from keras_lt.messages import brief
from keras_lt.models import (
    DLSA,
    TwoStage,
    nearest_class_mean,
    stack,
    tau_normalize,
)


class Stage(NamedTuple):
    """A trained model, and what there is to say of its training.

    Attributes:
        model: The model.
        epochs: Epochs of the stage that was trained last.
        history: Curves, of two stages the second's as `stage2_...`.
        facts: Of the record's `train`.
        checkpointing: Holds the best weights; None where there are none.
        tensorboard: For the final scores.
    """

    model: keras.Model
    epochs: int
    history: dict
    facts: dict
    checkpointing: callbacks.Checkpointing | None
    tensorboard: callbacks.LongTailTensorBoard


def first_stage(run, data) -> Stage:
    checkpointing, tensorboard = make_callbacks(
        run,
        data,
        classifies=options.first_stage_name() not in options.CONTRASTIVE,
    )
    if FLAGS.stage1_workdir is not None:
        model, record = read_stage1(run, data.train)
        history, facts = record.history, record.train
        rehearse(model, run, data)
    else:
        with run.strategy.scope():
            model = parts.make_model(data.train)
        rehearse(model, run, data)
        others = [
            run.callback(),
            make_watch(model, checkpointing),
            tensorboard.evaluation,
            tensorboard,
            reporting_bad_images(data),
        ]
        if FLAGS.drw_epoch is not None:
            others.append(callbacks.DeferredReweighting(FLAGS.drw_epoch))
        steps = fit(model, data.train, checkpointing, others)
        history = checkpointing.history
        facts = training_facts(model, data.train, steps, checkpointing)
        if options.second_stage_name() != "none":
            run.write("stage1.keras", model.save)
    return Stage(
        model, facts["epochs"], history, facts, checkpointing, tensorboard
    )


def rehearse(model, run, data) -> None:
    """Does on a copy of an untrained model what comes after its training.

    What can't be done with these flags is refused before hours of training,
    and not after.

    Raises:
        ValueError: As the second stage and the exports do.
    """
    train = data.train
    stage2 = options.second_stage_name()
    if stage2 != "none" or FLAGS.export_litert:
        with run.strategy.scope():
            model = type(model).from_config(model.get_config())
    if FLAGS.method == "bns_ipdpp":
        plan = make_rounds(train)
        model = make_subset_model(model, run, train, plan)
        batches = distribute.dataset(
            run.strategy, functools.partial(plan.stream, train, 0)
        )
        if run.strategy.num_replicas_in_sync == 1:
            next(iter(batches))
    elif stage2 != "none" and run.is_chief:
        dim = features.feature_model(model).output.shape[-1]
        one_a_class = features.Features(
            np.ones((train.num_classes, dim), "float32"),
            np.arange(train.num_classes),
        )
        model = other_classifier(model, train, one_a_class, steps=1)
    if run.is_chief:
        rehearse_export(model, train)


def rehearse_export(model, train) -> None:
    """Raises what exporting the model would raise."""
    logit_counts = options.logit_counts(train.class_counts)
    export.check(model, train.class_names, logit_counts)
    is_bound = model.distribute_strategy.num_replicas_in_sync > 1
    if FLAGS.export_litert and not is_bound:
        with tempfile.TemporaryDirectory() as folder:
            export.save_litert(model, f"{folder}/model.tflite")


def second_stage(first: Stage, run, data) -> Stage:
    # The same start whether the first stage was trained in this process.
    keras.utils.set_random_seed(FLAGS.seed)
    if FLAGS.method == "bns_ipdpp":
        return subset_stage(first, run, data)
    begin = time.perf_counter()
    train = data.train
    extracted = None
    if FLAGS.stage2 != "tau":
        extracted = features.extract(first.model, train)
    steps = max(1, round(FLAGS.stage2_epochs * parts.steps_per_epoch(train)))
    steps = min(steps, FLAGS.max_steps or steps)
    model = other_classifier(first.model, train, extracted, steps)
    return first._replace(
        model=model,
        facts={
            **first.facts,
            "num_parameters": model.count_params(),
            "stage2_seconds": time.perf_counter() - begin,
        },
        checkpointing=None,
    )


def divide(run, data) -> Stage:
    """Divides the features of a finished run."""
    folder, train = Path(FLAGS.features_from), data.train
    record = report.Record.read(folder / "result.json")
    refuse_other_classes("features_from", folder, record, train)
    refuse_other_flags("features_from", folder, record, options.DATA)
    model = parts.load_model(folder / "model.keras")
    dim = features.feature_model(model).output.shape[-1]
    rehearse_export(stack(model, make_dlsa(train.num_classes, dim)), train)
    goes_on = origins.hold(
        run,
        images=origins.of_images(train),
        features_from=origins.of_model(model),
    )
    cached = run.path / "features.npz"
    if not goes_on or not cached.exists():
        features.write(cached, features.extract(model, train))
    extracted = features.read(cached)
    keras.utils.set_random_seed(FLAGS.seed)
    begin = time.perf_counter()
    dlsa = make_dlsa(train.num_classes, extracted.features.shape[1])
    with warnings.catch_warnings(record=True) as warned:
        levels = dlsa.fit_features(
            *extracted,
            **{name: FLAGS[f"dlsa_{name}"].value for name in options.FIT_DLSA},
            directory=run.path / "checkpoints",
            verbose=1 if sys.stdout.isatty() else 0,
        )
    seconds = time.perf_counter() - begin
    for warning in warned:
        print(warning.message)
    for number, level in enumerate(levels, 1):
        print(f"Level {number} keeps {level['kept']} of {level['samples']}")
    found = {}
    for what, name, (points, labels) in (
        ("training", "division.html", extracted),
        ("test", "division_test.html", features.extract(model, data.test)),
    ):
        found[what] = dlsa.inspect(points), labels
        report.write_division(
            run.path / name,
            *found[what],
            counts.Classes(
                train.class_counts,
                train.class_names,
                FLAGS.many_shot,
                FLAGS.few_shot,
            ),
            title=f"DLSA on {folder.name}, {what} images",
        )
    divided = stack(model, dlsa)
    return Stage(
        divided,
        record.train["epochs"],
        record.history,
        {
            **record.train,
            "num_parameters": divided.count_params(),
            "stage2_seconds": seconds,
            "levels": levels,
            "test_levels": division.describe(*found["test"], train.num_classes),
            "features_from": {
                key: record[key] for key in ("name", "method", "seed")
            },
        },
        None,
        make_callbacks(run, data, classifies=False)[1],
    )


def subset_stage(first: Stage, run, data) -> Stage:
    """Trains on subsets, from the weights of the first stage on."""
    train = data.train
    origins.hold(
        run,
        images=origins.of_images(train),
        first_stage=origins.of_model(first.model),
    )
    plan = make_rounds(train)
    model = make_subset_model(first.model, run, train, plan)
    checkpointing, tensorboard = make_callbacks(run, data, "stage2")
    others = [
        run.callback(),
        make_watch(model, checkpointing),
        tensorboard.evaluation,
        tensorboard,
        reporting_bad_images(data),
    ]
    plan.fit(model, train, run, checkpointing, others, verbose=verbosity())
    curves = checkpointing.history
    epochs = len(curves["seconds"])
    return Stage(
        model,
        epochs,
        {**first.history, **{f"stage2_{k}": v for k, v in curves.items()}},
        {
            **first.facts,
            "num_parameters": model.count_params(),
            "stage2_epochs": epochs,
            "stage2_seconds": sum(curves["seconds"]),
            **plan.record(train, run),
        },
        checkpointing,
        tensorboard,
    )


def make_dlsa(num_classes: int, features_dim: int) -> DLSA:
    return DLSA(
        num_classes,
        features_dim,
        depth=FLAGS.dlsa_depth,
        num_clusters=FLAGS.dlsa_clusters,
        llh_proportion=FLAGS.llh_proportion,
        center_std=FLAGS.dlsa_center_std,
        classifier=FLAGS.dlsa_classifier,
        z=FLAGS.dlsa_z,
        seed=FLAGS.seed,
    )


def make_rounds(train) -> rounds.Rounds:
    return rounds.Rounds(
        kind=FLAGS.stage2,
        subset_size=FLAGS.subset_size,
        scale=FLAGS.dpp_scale,
        resample_epochs=FLAGS.resample_epochs,
        epochs=int(FLAGS.stage2_epochs),
        batch_size=FLAGS.stage2_batch_size,
        seed=FLAGS.seed,
        transform=parts.make_transform(train),
        random_resized_crop=parts.crops_at_random(train),
        score_augmented=FLAGS.score_augmented,
        max_steps=FLAGS.max_steps,
    )


def make_subset_model(first, run, train, plan: rounds.Rounds) -> TwoStage:
    """Returns a compiled second stage on the network of the first one."""
    steps = plan.steps_per_epoch(train.class_counts)
    rate = parts.cosine_decay(
        FLAGS.stage2_learning_rate,
        round(FLAGS.stage2_warmup_epochs * steps),
        plan.epochs * steps,
    )
    with run.strategy.scope():
        model = TwoStage.crt(
            first,
            train.num_classes,
            freeze=FLAGS.stage2_freeze,
            l2=FLAGS.l2,
        )
        model.compile(
            parts.make_optimizer(rate, model, model.features),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=parts.accuracies(train.num_classes),
            jit_compile=FLAGS.jit_compile,
        )
    return model


def fit(model, train, checkpointing, other_callbacks) -> int:
    """Trains to the end, from the latest checkpoint; returns the steps."""
    epoch_steps = parts.steps_per_epoch(train)
    total_steps = FLAGS.epochs * epoch_steps
    last_step = min(total_steps, FLAGS.max_steps or total_steps)
    checkpointing.restore(model)
    for step, span in checkpointing.spans(epoch_steps, last_step):
        model.fit(
            distribute.dataset(
                model.distribute_strategy,
                functools.partial(parts.make_stream, train, step),
            ),
            callbacks=[*other_callbacks, checkpointing],
            shuffle=False,
            verbose=verbosity(),
            **span,
        )
    return last_step


def verbosity() -> int:
    return 1 if sys.stdout.isatty() else 2


def reporting_bad_images(data) -> keras.callbacks.Callback:
    return keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: say_bad_images(data)
    )


def say_bad_images(data) -> None:
    names = parts.bad_images(data)
    if names:
        print(
            f"Bad images, for which the next of their class are taken: "
            f"{len(names):,}, such as {', '.join(names[:3])}"
        )


def make_callbacks(
    run, data, stage: str = "", classifies: bool = True
) -> tuple:
    """Checkpointing and TensorBoard of a stage."""
    train = data.train
    scored = {
        "val": data.held_out,
        "test_curve": FLAGS.test_curve and data.test,
    }
    monitored = data.held_out and classifies
    classes_ = counts.Classes(
        train.class_counts,
        train.class_names,
        many=FLAGS.many_shot,
        few=FLAGS.few_shot,
    )
    evaluation = callbacks.Evaluation(
        {
            name: parts.evaluation(dataset)
            for name, dataset in scored.items()
            if dataset and classifies
        },
        classes_,
    )
    return (
        callbacks.Checkpointing(
            run.path / "checkpoints" / stage,
            monitor="val_balanced" if monitored else None,
            save_freq_epochs=FLAGS.checkpoint_epochs,
            save_freq_steps=FLAGS.checkpoint_steps,
            save_freq_minutes=FLAGS.checkpoint_minutes,
            max_to_keep=FLAGS.keep_checkpoints,
            settings={
                "class_counts": train.class_counts.tolist(),
                "class_names": train.class_names,
                "images_sha256": origins.of_images(train),
            },
            exit_on_sigterm=True,
        ),
        callbacks.LongTailTensorBoard(
            run.path / "tensorboard" / stage,
            classes_,
            evaluation=evaluation,
            flags=run.flags,
            hparams=run.flags,
        ),
    )


def make_watch(model, checkpointing) -> keras.callbacks.Callback:
    """What is done about losses that are not finite."""
    if FLAGS.skip_nonfinite is None:
        return callbacks.StopOnNonFinite(checkpointing)
    return callbacks.SkipNonFinite(model, FLAGS.skip_nonfinite, checkpointing)


def training_facts(model, train, steps: int, checkpointing) -> dict:
    dual = FLAGS.method == "dual_branch" and FLAGS.auxiliary != "none"
    branches = (
        2 if dual or options.first_stage_name() in options.CONTRASTIVE else 1
    )
    images = steps * FLAGS.batch_size * branches
    seconds = sum(checkpointing.history["seconds"])
    return {
        "epochs": len(checkpointing.history["seconds"]),
        "steps": steps,
        "steps_per_epoch": parts.steps_per_epoch(train),
        "batch_size": FLAGS.batch_size,
        "images": images,
        "wall_time_seconds": seconds,
        "images_per_second": images / seconds,
        "precision": keras.config.dtype_policy().name,
        "num_parameters": model.count_params(),
        "resumed": checkpointing.starts - 1,
    }


def read_stage1(run: workdirs.Workdir, train) -> tuple:
    """Model and record of --stage1_workdir, if it is this run's first stage."""
    folder = Path(FLAGS.stage1_workdir)
    record = report.Record.read(folder / "result.json")
    found = refuse_other_flags(
        "stage1_workdir",
        folder,
        record,
        [
            name
            for name in run.flags
            if not name.startswith("stage2")
            and name not in (*options.SECOND_STAGE, "method", "stage1")
        ],
    )
    kinds = options.first_stage_name(), options.first_stage_name(found)
    if kinds[0] != kinds[1]:
        raise ValueError(
            f"Expected a --stage1_workdir with {kinds[0]} as first stage. "
            f"Received: {folder} with {kinds[1]}"
        )
    refuse_other_classes("stage1_workdir", folder, record, train)
    # A run with one stage keeps it as its model.
    path = folder / "stage1.keras"
    path = path if path.exists() else folder / "model.keras"
    return parts.load_model(path), record


def refuse_other_classes(flag: str, folder: Path, record: dict, train) -> None:
    """Refuses a run with other classes, or another number of their images."""
    refuse_other_names(flag, folder, record.data["class_names"], train)
    if record.class_counts != train.class_counts.tolist():
        raise ValueError(
            f"Expected a --{flag} that was trained on as many images per "
            f"class. Received: {folder} with {brief(record.class_counts)}"
        )


def refuse_other_names(flag: str, path, class_names, train) -> None:
    """Refuses outputs for other classes than those of --dataset."""
    found = classes.difference(class_names, train.class_names)
    if found:
        raise ValueError(
            f"Expected a --{flag} with the classes of --dataset, by label id. "
            f"Received: {path}: {found}"
        )


def refuse_other_flags(flag: str, folder: Path, record: dict, names) -> dict:
    """Refuses a run with other values of some flags; returns all it has."""
    found = {name: FLAGS[name].default for name in FLAGS} | record.flags
    for name in names:
        value = FLAGS[name].value
        if found[name] != value:
            raise ValueError(
                f"Expected a --{flag} with the flags of this run. "
                f"Received: --{name}={value} where {folder} has "
                f"--{name}={found[name]}"
            )
    return found


def other_classifier(model, train, extracted, steps: int) -> keras.Model:
    """Returns a model with another classifier, on features computed once.

    Of `extracted` tau-normalization needs none, and only those that learn take
    `steps`.
    """
    num_classes = train.num_classes
    if FLAGS.stage2 == "tau":
        return tau_normalize(model, FLAGS.stage2_tau)
    if FLAGS.stage2 == "ncm":
        return nearest_class_mean(model, extracted, num_classes)
    if FLAGS.stage2 != "lws":
        second = TwoStage.crt(model, num_classes, l2=FLAGS.l2)
    else:
        second = TwoStage.lws(model)
    rate = keras.optimizers.schedules.CosineDecay(
        FLAGS.stage2_learning_rate, steps
    )
    second.head.compile(
        keras.optimizers.SGD(rate, FLAGS.momentum),
        losses.BalancedSoftmax(train.class_counts)
        if FLAGS.stage2_loss == "balanced_softmax"
        else keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    second.head.fit(
        features.stream(
            extracted,
            num_classes,
            sampling=sampling.get(
                FLAGS.stage2_sampling,
                class_counts=train.class_counts,
                total_steps=steps,
            ),
            batch_size=FLAGS.batch_size,
            seed=FLAGS.seed,
            name="stage2",
        ),
        steps_per_epoch=steps,
        callbacks=[callbacks.StopOnNonFinite()],
        shuffle=False,
        verbose=0,
    )
    return second
