"""What a recipe leaves: a scored model, its exports, its record and report."""

import dataclasses
import tempfile
from collections.abc import Mapping
from typing import Any

import inputs
import keras
import learning
import numpy as np
import run as runs
import tensorflow as tf
import training

from keras_lt import (
    counts,
    datasets,
    evaluation,
    export,
    losses,
    metrics,
    report,
    sampling,
    trainable,
)
from keras_lt.classes import difference
from keras_lt.models import AveragedViews, load_model, lora


@dataclasses.dataclass
class Stage:
    """A trained model, and what there is to say of its training.

    Attributes:
        model: The model.
        method: Its name in records, such as "single".
        epochs: Epochs of the stage that was trained last.
        history: {name: one value per epoch}.
        facts: What the record's `train` says; `training.facts` gives it.
        logit_counts: Images per class that the logits have as their prior, or
            shares of them; None where they are not known.
        watchers: The callbacks of the training.
        from_run: Name of the run that it started from.
        views: Views of an image whose logits are averaged, where it is scored
            and exported.
        fitted: What was trained of the model where that is its head alone, on
            features.
        scored: The features of the images, which that is scored on.
    """

    model: keras.Model
    method: str
    epochs: int
    history: Mapping[str, list]
    facts: Mapping[str, Any]
    logit_counts: np.ndarray | None
    watchers: training.Watchers
    from_run: str | None = None
    views: str = "none"
    fitted: keras.Model | None = None
    scored: inputs.Data | None = None


def logit_counts(
    loss: Any, sampler: sampling.Sampler, class_counts: np.ndarray
) -> np.ndarray | None:
    """Images per class that logits have as their prior, or shares.

    Those that are drawn, times the weights of the loss, without what the loss
    takes out of the logits; None where the sampler can't say what it draws.

    Args:
        loss: The loss.
        sampler: What draws the images.
        class_counts: Images per class that there are to draw from.
    """
    drawn = sampler.expected_counts(class_counts)
    return None if drawn is None else losses.logit_prior(loss, drawn)


def averaged(
    model: keras.Model, views: str, strategy: tf.distribute.Strategy
) -> keras.Model:
    """Returns a model that averages over views, on the weights of a model.

    Args:
        model: The model.
        views: What --tta says.
        strategy: Of the model.
    """
    if views == "none":
        return model
    with strategy.scope():
        return AveragedViews(model, views)


def answers(
    model: keras.Model,
    dataset: datasets.Dataset,
    classes: counts.Classes,
    batch_size: int,
) -> evaluation.Predictions:
    """Returns the logits of a model for a data set, with its labels.

    Args:
        model: The model.
        dataset: The images.
        classes: The classes of the training images.
        batch_size: Images at a time.
    """
    batches = inputs.evaluation(dataset, batch_size)
    return evaluation.Predictions(*metrics.predict(model, batches), classes)


def score(
    model: keras.Model,
    test: datasets.Dataset,
    classes: counts.Classes,
    batch_size: int,
) -> dict[str, Any]:
    """Returns the scores of a model on a data set.

    Args:
        model: The model.
        test: The images.
        classes: The classes of the training images.
        batch_size: Images at a time.
    """
    found = answers(model, test, classes, batch_size)
    return metrics.evaluate(found.logits, found.labels, classes)


def rehearse_export(
    run: runs.Run,
    model: keras.Model,
    train: Any,
    logit_counts: np.ndarray | None,
    litert: bool,
    views: str = "none",
) -> None:
    """Raises what exporting the trained model would raise.

    What can't be done is refused before hours of training, and not after. The
    model is left as it is.
    """
    if not run.is_chief:
        return
    model = averaged(model, views, run.strategy)
    export.check(model, train.class_names, logit_counts)
    is_bound = model.distribute_strategy.num_replicas_in_sync > 1
    if litert and not is_bound:
        copy = type(model).from_config(model.get_config())
        with tempfile.TemporaryDirectory() as folder:
            export.save_litert(copy, f"{folder}/model.tflite")


def finish(
    run: runs.Run,
    data: inputs.Data,
    stage: Stage,
    *,
    settings: inputs.DataSettings,
    classes: counts.Classes,
    batch_size: int,
    seed: int,
    litert: bool = False,
    random_resized_crop: bool = False,
    environment: Mapping[str, Any] | None = None,
) -> None:
    """Scores a trained model, exports it, and writes record and report.

    The result.json comes last: a run that has one is finished.

    Args:
        run: The run.
        data: Its images.
        stage: The trained model.
        settings: Which images these are.
        classes: Their classes.
        batch_size: Images at a time where images are scored.
        seed: Seed of the run.
        litert: Whether model.tflite is written too.
        random_resized_crop: Whether training cut images from files at random.
        environment: `report.environment()` as the run began.
    """
    warnings = _warnings(run, stage, data, classes, batch_size)
    results = _results(stage, data, classes, batch_size, run, litert)
    if not run.is_chief:
        return
    record = report.Record(
        name=run.name,
        dataset=settings.dataset,
        data=_about_data(data, settings, random_resized_crop),
        class_counts=data.train.class_counts,
        shot_thresholds={"many": classes.many, "few": classes.few},
        method=stage.method,
        flags=run.flags,
        seed=seed,
        environment=environment or report.environment(),
        train=stage.facts,
        history=stage.history,
        test=results,
        from_run=stage.from_run,
        others={
            name: told
            for name, told in (("chosen", run.chosen), ("warnings", warnings))
            if told
        },
    )
    inputs.say_bad_images(data)
    for which, scored in results.items():
        stage.watchers.tensorboard.write_test(
            scored, f"test_{which}", stage.epochs
        )
        found = metrics.summary(scored)
        of = "weights, epoch" if which == "trained" else "epoch"
        print(f"test, {which} {of} ({scored['epoch']}): {found}")
    for warning in warnings:
        print(f"Warning: {warning}")
    for name in ("MODEL_CARD.md", "README.md"):  # where people and the Hub look
        card = run.path / "saved_model" / name
        report.write_model_card(card, record, stage.logit_counts)
    report.write_html(run.path / "report.html", record)
    record.write(run.path / "result.json")


def _warnings(
    run: runs.Run,
    stage: Stage,
    data: inputs.Data,
    classes: counts.Classes,
    batch_size: int,
) -> list[str]:
    """What is wrong with a training, by what it makes of its own images."""
    model, given = stage.model, data
    if stage.scored:  # whose features are there
        model, given = stage.fitted, stage.scored
    some = given.train.subset(learning.sample(given.train.labels))
    found = answers(model, some, classes, batch_size)
    warning = learning.warning(
        found.labels,
        found.logits.argmax(-1),
        len(classes.counts),
        steps=stage.facts["steps"],
        history=stage.history,
        flags=run.flags,
    )
    return [] if warning is None else [warning]


def _results(
    stage: Stage,
    data: inputs.Data,
    classes: counts.Classes,
    batch_size: int,
    run: runs.Run,
    litert: bool,
) -> dict[str, dict[str, Any]]:
    """Scores the last weights and the best ones, and exports the last.

    Where weights were averaged, the averages are the last ones; the `trained`
    weights that they are of are scored too.
    """
    model, given = averaged(stage.model, stage.views, run.strategy), data
    if stage.scored and stage.views == "none":
        model, given = stage.fitted, stage.scored

    def answered(dataset: Any) -> evaluation.Predictions:
        return answers(model, dataset, classes, batch_size)

    def scored(found: evaluation.Predictions, epoch: int) -> dict[str, Any]:
        scores = evaluation.recorded(found, stage.logit_counts)
        return {**scores, "epoch": epoch}

    results, averages = {}, stage.watchers.averages
    if averages:
        results["trained"] = scored(answered(given.test), stage.epochs)
        averages.apply()
    last = evaluation.Scored(
        answered(given.test),
        answered(given.held_out) if given.held_out else None,
        stage.logit_counts,
    )
    results = {"last": scored(last.test, stage.epochs), **results}
    _export(run, data, stage, litert)
    run.write("logits.npz", lambda part: evaluation.write(part, last))
    checkpointing = stage.watchers.checkpointing
    if checkpointing and (best := checkpointing.best):
        checkpointing.load_best(stage.fitted or stage.model)
        results["best"] = {
            **scored(answered(given.test), best["epoch"]),
            "chosen_by": checkpointing.monitor,
        }
    return results


def _export(
    run: runs.Run, data: inputs.Data, stage: Stage, litert: bool
) -> None:
    if not run.is_chief:
        return
    run.discard_results()
    exported = _written(run, stage.model)
    images = data.test.images[:16]
    if stage.views != "none":
        exported = AveragedViews(exported, stage.views)
    export.save(
        exported,
        run.path / "saved_model",
        images,
        class_names=data.train.class_names,
        class_counts=stage.logit_counts,
        framing=data.test.framing,
    )
    if litert:
        export.save_litert(exported, run.path / "model.tflite", images)


def _written(run: runs.Run, model: keras.Model) -> keras.Model:
    """Writes model.keras, and returns a model to export."""
    path = run.path / "model.keras"
    with lora.merged(model) as is_merged:
        run.write(path.name, model.save)
    if is_merged or trainable.has_frozen_parts(model):
        # The file does not say which weights of a layer are frozen, and so its
        # optimizer would not fit.
        plain = load_model(path, compile=False)
        run.write(path.name, plain.save)
        return plain
    # A model on several devices is bound to them.
    is_bound = run.strategy.num_replicas_in_sync > 1
    return load_model(path) if is_bound else model


def _about_data(
    data: inputs.Data, settings: inputs.DataSettings, random_resized_crop: bool
) -> dict[str, Any]:
    return {
        "imbalance_factor": settings.imbalance_factor,
        "profile": settings.profile,
        "selection": settings.selection,
        "split_seed": settings.split_seed,
        "holdout": settings.holdout,
        "num_train": len(data.train),
        "num_test": len(data.test),
        "num_held_out": len(data.held_out) if data.held_out else 0,
        "test_split": settings.test_split or "test",
        "bad_images": inputs.bad_images(data),
        "num_classes": data.train.num_classes,
        "class_names": data.train.class_names,
        "image_shape": data.train.image_shape,
        "random_resized_crop": random_resized_crop,
    }


def refuse_other_names(flag: str, path: Any, class_names: Any, train: Any):
    """Refuses outputs for other classes than those of --dataset."""
    found = difference(class_names, train.class_names)
    if found:
        raise ValueError(
            f"Expected a --{flag} with the classes of --dataset, by label id. "
            f"Received: {path}: {found}"
        )
