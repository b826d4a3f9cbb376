"""Devices, networks, optimizers and callbacks: what a recipe trains with."""

import dataclasses
import functools
import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flag_groups
import inputs
import keras
import run as runs
import tensorflow as tf
from absl import flags

from keras_lt import (
    callbacks,
    counts,
    datasets,
    distribute,
    hardware,
    initializers,
    layers,
    metrics,
    models,
    optimizers,
    report,
    schedules,
    specs,
    structure,
    trainable,
)
from keras_lt.classes import difference
from keras_lt.models import backbones, heads, tuning


class Steps(NamedTuple):
    """How long a training is.

    Attributes:
        per_epoch: Steps per epoch.
        total: Steps of all epochs, which schedules go by.
        last: Steps after which a smoke test ends, else `total`.
    """

    per_epoch: int
    total: int
    last: int


def count_steps(
    images: int,
    *,
    epochs: int,
    batch_size: int,
    steps_per_epoch: int | None = None,
    max_steps: int | None = None,
) -> Steps:
    """Returns the steps of a training on so many images.

    Args:
        images: Number of training images.
        epochs: Epochs.
        batch_size: Images per step.
        steps_per_epoch: Steps per epoch; None is once through the images.
        max_steps: Where a smoke test ends.
    """
    per_epoch = steps_per_epoch or max(1, round(images / batch_size))
    total = epochs * per_epoch
    return Steps(per_epoch, total, min(total, max_steps or total))


def set_up(values: flags.FlagValues) -> tf.distribute.Strategy:
    """Sets up the process: its devices, random numbers, output and precision.

    --mixed_precision=auto becomes what it means for this run, so that the run
    keeps it.

    Args:
        values: The flags of the groups "seed", "running", and "devices" where
            the recipe has it.
    """
    if values.deterministic:
        tf.config.experimental.enable_op_determinism()
    if "strategy" in values:
        strategy = distribute.strategy(values.strategy, values.devices)
    else:
        strategy = distribute.strategy("none")
    if not distribute.is_chief(strategy):
        sys.stdout = open(os.devnull, "w")  # one of the processes prints
    keras.utils.set_random_seed(values.seed)
    values.mixed_precision = set_precision(
        values.mixed_precision,
        values.workdir,
        values.overwrite,
        values.export_litert,
    )
    return strategy


def set_precision(
    name: str, workdir: str | None, overwrite: bool, export_litert: bool
) -> str:
    """Sets the type to compute in, and says what will be slow on this CPU.

    Args:
        name: What --mixed_precision says.
        workdir: Of a run that may go on, with the precision that it has.
        overwrite: Whether it starts anew.
        export_litert: Whether LiteRT gets the model, which takes float32 alone.

    Returns:
        The precision: `name`, or what "auto" means for this run.
    """
    if export_litert and name not in ("none", "auto"):
        raise ValueError(
            "Expected --mixed_precision=none with --export_litert, which takes "
            "models that compute in float32. Received: "
            f"--mixed_precision={name}"
        )
    if name == "auto":
        before = None
        if workdir is not None and not overwrite:
            before = runs.flag_of_run(workdir, "mixed_precision")
        if before in flag_groups.PRECISIONS:
            name = before
        else:
            policy = "float32" if export_litert else hardware.precision()
            policies = flag_groups.PRECISIONS.items()
            name = {each: known for known, each in policies}[policy]
    keras.config.set_dtype_policy(flag_groups.PRECISIONS[name])
    if name == "bfloat16" and hardware.emulates_bfloat16():
        print(
            "This CPU emulates bfloat16: training takes 2 (AVX-512) to 20 "
            "times (AVX2) as long as with --mixed_precision=none."
        )
    if hardware.misses_onednn():
        print(
            "oneDNN is off: TF_ENABLE_ONEDNN_OPTS=1 makes training on this CPU "
            "about twice as fast."
        )
    return name


def make_backbone(
    train: datasets.Dataset,
    *,
    backbone: str,
    weights: str | None = None,
    tune: str = "all",
    l2: float = 0.0,
    sync_batch_norm: bool = False,
) -> keras.Model:
    """Returns a backbone for the images of a data set.

    Args:
        train: The training images.
        backbone: What the flag of this name says.
        weights: The same.
        tune: The same.
        l2: The same.
        sync_batch_norm: The same.
    """
    parsed = specs.parse(backbone)
    is_application = parsed.name in backbones.application_names()
    _refuse_for_backbone(parsed, is_application, weights, l2, sync_batch_norm)
    given = {}
    if is_application and weights is not None:
        given["weights"] = weights  # they have a format of their own
    made = backbones.BACKBONES.get(
        parsed,
        given=given,
        input_shape=train.image_shape,
        l2=l2,
        batch_normalization=functools.partial(
            layers.FusedBatchNormalization, synchronized=sync_batch_norm
        ),
        **_statistics(parsed.name, train),
    )
    if weights is not None and not is_application:
        backbones.load_weights(made, weights)
    return tuning.get(tune, num_classes=train.num_classes)(made)


def begin_at_texts(
    head: heads.Linear | heads.Cosine,
    layer: keras.layers.Layer,
    backbone: str,
    class_names: Sequence[str],
) -> None:
    """Gives a head's layer the text features of the classes' names.

    Args:
        head: What made the layer.
        layer: It, built.
        backbone: What --backbone says.
        class_names: The classes.

    Raises:
        ValueError: If the backbone takes no texts.
    """
    spec = specs.parse(backbone)
    if spec.name != "kerashub":
        raise ValueError(
            "Expected --backbone=kerashub('FOLDER') of a model for images and "
            "texts, such as CLIP, with --head=...(start='text'). Received: "
            f"--backbone={backbone}"
        )
    (path,) = (*spec.arguments, *spec.keywords.values())
    prompts = head.prompts(class_names)
    head.begin_at(layer, backbones.text_features(path, prompts))


def continue_head(
    head: keras.layers.Layer,
    backbone: keras.Model,
    class_names: Sequence[str],
    *,
    weights: str | None,
    tune: str,
) -> bool:
    """Gives a head the weights of that of the run which the backbone is from.

    So tuning goes on where a classifier on frozen features has ended. It is
    left as it is where all or nothing of the backbone is tuned, and where the
    run has other classes or another kind of head.

    Args:
        head: The head, not built.
        backbone: The backbone, with the weights of the run.
        class_names: Names of the classes, by label id.
        weights: What the flag of this name says.
        tune: The same.

    Returns:
        Whether it has them.
    """
    starts_anew = specs.parse(tune).name in ("all", "head")
    if starts_anew or weights is None or weights == "imagenet":
        return False
    path = Path(weights)
    path = path / "model.keras" if path.is_dir() else path
    names = report.class_names_of(path)
    if names is None or difference(names, class_names):
        return False
    model = models.load_model(path, compile=False)
    found = structure.head_of(
        structure.one_to_one(structure.classifier_of(model))
    ).layer
    _, features = structure.pooled_features(backbone)
    head.build(features.shape)
    shapes = [[w.shape for w in each.weights] for each in (head, found)]
    if type(found) is not type(head) or shapes[0] != shapes[1]:
        return False
    head.set_weights(found.get_weights())
    print(f"The classifier starts as that of {weights}.")
    return True


def _statistics(name: str, train: datasets.Dataset) -> dict[str, Any]:
    """Mean and variance of the images, for who doesn't have ImageNet's."""
    known = backbones.BACKBONES.table.get(name)
    if known is not None:
        default = inspect.signature(known).parameters.get("mean")
        if default is None:
            return {}
        if default.default is not None and train.image_shape[-1] == 3:
            return {}
    mean, variance = train.channel_statistics()
    return {"mean": mean, "variance": variance}


def _refuse_for_backbone(
    spec: specs.Spec,
    is_application: bool,
    weights: str | None,
    l2: float,
    sync_batch_norm: bool,
) -> None:
    """Refuses flags that this backbone would not use."""
    if sync_batch_norm and (is_application or spec.name == "kerashub"):
        raise ValueError(
            "Expected a backbone of keras_lt with --sync_batch_norm. Received: "
            f"--backbone={spec}"
        )
    if weights == "imagenet" and not is_application:
        raise ValueError(
            "Expected a --backbone of keras.applications, such as ResNet50, "
            f"with --weights=imagenet. Received: --backbone={spec}"
        )
    if l2 and spec.name == "kerashub":
        raise ValueError(
            "Expected --l2=0 with a KerasHub backbone, whose weights have no "
            "regularizers (--optimizer=adamw(weight_decay=0.05) decays them). "
            f"Received: --l2={l2}"
        )


def make_optimizer(
    model: keras.Model,
    backbone: keras.Model,
    steps: Steps,
    *,
    optimizer: str,
    learning_rate: str,
    backbone_learning_rate_factor: float = 1.0,
    rates: Sequence[float] | None = None,
) -> keras.optimizers.Optimizer:
    """Returns an optimizer for a model with a backbone.

    Args:
        model: The model, built.
        backbone: The part of it that learns at another rate.
        steps: Of the training; warm-ups and drops are in epochs.
        optimizer: What the flag of this name says.
        learning_rate: The same.
        backbone_learning_rate_factor: The same.
        rates: Factors of the learning rate of each variable, in place of that.
    """
    optimizer, factors = optimizers.pipeline(optimizer).optimizer, rates
    if backbone_learning_rate_factor != 1:
        if specs.parse(optimizer).name not in optimizers.FINE_TUNING.table:
            raise ValueError(
                "Expected --optimizer="
                f"{' or '.join(optimizers.FINE_TUNING.table)} with "
                "--backbone_learning_rate_factor. Received: "
                f"--optimizer={optimizer}"
            )
        if not backbone.trainable_variables:
            raise ValueError(
                "Expected a --tune that trains some of the backbone with "
                "--backbone_learning_rate_factor. Received: "
                "--backbone_learning_rate_factor="
                f"{backbone_learning_rate_factor}, and all of it is frozen"
            )
        factors = optimizers.rate_factors(
            model, backbone, backbone_learning_rate_factor
        )
    made = optimizers.get(
        optimizer,
        learning_rate=schedules.get(
            learning_rate,
            steps_per_epoch=steps.per_epoch,
            total_steps=steps.total,
        ),
        rate_factors=factors,
    )
    if isinstance(made, keras.optimizers.AdamW):
        # As is usual with AdamW: biases and normalization do not decay.
        made.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    else:  # PyTorch decays all variables
        made.exclude_from_weight_decay(_biases_of_priors(model))
    return made


def _biases_of_priors(model: keras.Model) -> list[keras.Variable]:
    """What the class-balanced code does not pull back to 0."""
    found = []
    for layer in model.layers:
        initializer = getattr(layer, "bias_initializer", None)
        if hasattr(layer, "layers"):
            found += _biases_of_priors(layer)
        elif isinstance(initializer, initializers.PriorBias):
            found.append(layer.bias)
    return found


def accuracies(num_classes: int) -> list[keras.metrics.Metric]:
    return [
        metrics.Top1Accuracy(name="top1"),
        metrics.BalancedAccuracy(num_classes, name="balanced"),
    ]


@dataclasses.dataclass
class Watchers:
    """The callbacks of a training.

    Attributes:
        tensorboard: Writes curves, and the final scores.
        checkpointing: Keeps the state; to be the last one. None where a stage
            is made anew at each start.
        averages: Of the weights, which the model is to be given in the end.
        others: What comes before it, in this order.
    """

    tensorboard: callbacks.LongTailTensorBoard
    checkpointing: callbacks.Checkpointing | None = None
    averages: callbacks.AveragedWeights | None = None
    others: list[keras.callbacks.Callback] = dataclasses.field(
        default_factory=list
    )

    def apply_averages(self) -> None:
        """Gives the model its averages, if there are any, for good."""
        if self.averages:
            self.averages.apply()
            self.averages = None


def make_tensorboard(
    run: runs.Run,
    classes: counts.Classes,
    evaluation: callbacks.Evaluation | None = None,
) -> callbacks.LongTailTensorBoard:
    """Returns what writes curves.

    Args:
        run: The run.
        classes: The classes of its images.
        evaluation: What scores images after each epoch, if anything does.
    """
    return callbacks.LongTailTensorBoard(
        run.path / "tensorboard",
        classes,
        evaluation=evaluation,
        flags=run.flags,
        hparams=run.flags,
    )


def make_watchers(
    run: runs.Run,
    data: inputs.Data,
    model: keras.Model,
    *,
    classes: counts.Classes,
    batch_size: int,
    fitting: Mapping[str, Any],
    optimizer: str,
    test_curve: bool = False,
    classifies: bool = True,
    scored: inputs.Data | None = None,
) -> Watchers:
    """Returns the callbacks of a training, and wraps the steps of its model.

    Args:
        run: The run.
        data: Its images.
        model: The compiled model.
        classes: The classes of its images.
        batch_size: Images at a time where images are scored.
        fitting: {flag: value} of the group "fitting".
        optimizer: What the flag of this name says.
        test_curve: Whether the test set is scored after each epoch too.
        classifies: Whether the model has classes, and so can be scored.
        scored: What the model takes where that is not the images, their
            features.
    """
    scored = scored or data
    scored = {
        "val": scored.held_out,
        "test_curve": scored.test if test_curve else None,
    }
    scored = {
        name: inputs.evaluation(dataset, batch_size)
        for name, dataset in scored.items()
        if dataset and classifies
    }
    checkpointing = callbacks.Checkpointing(
        run.path / "checkpoints",
        monitor="val_balanced" if "val" in scored else None,
        save_freq_epochs=fitting["checkpoint_epochs"],
        save_freq_steps=fitting["checkpoint_steps"],
        save_freq_minutes=fitting["checkpoint_minutes"],
        max_to_keep=fitting["keep_checkpoints"],
        settings={
            "class_counts": data.train.class_counts.tolist(),
            "class_names": data.train.class_names,
            "images_sha256": runs.digest_of_images(data.train),
        },
        exit_on_sigterm=True,
    )
    watch, averages = wrap_steps(
        model, optimizer, fitting["skip_nonfinite"], checkpointing
    )
    # Scores enter the logs, which TensorBoard and checkpoints read.
    evaluations = []
    if scored:
        evaluations += [callbacks.Evaluation(scored, classes, averages)]
    if scored and averages:
        trained = {f"{name}_trained": each for name, each in scored.items()}
        evaluations += [callbacks.Evaluation(trained, classes)]
    tensorboard = make_tensorboard(run, classes, *evaluations[:1])
    others = [
        run.callback(),  # the first: nothing is written to a folder of others
        watch,
        *([averages] if averages else []),
        *evaluations,
        tensorboard,
        inputs.reporting_bad_images(data),
    ]
    return Watchers(tensorboard, checkpointing, averages, others)


def wrap_steps(
    model: keras.Model,
    optimizer: str,
    skip_nonfinite: int | None = None,
    checkpointing: callbacks.Checkpointing | None = None,
) -> tuple[keras.callbacks.Callback, callbacks.AveragedWeights | None]:
    """Puts around the steps of a compiled model what --optimizer adds to them.

    Args:
        model: The model, before its checkpoint is restored.
        optimizer: What the flag of this name says.
        skip_nonfinite: The same.
        checkpointing: Of the training, if it is kept.

    Returns:
        What watches for losses that are not finite, and what averages weights.
    """
    around = optimizers.pipeline(optimizer)
    if around.rho is not None:
        optimizers.sharpness_aware(model, around.rho)
    if skip_nonfinite is None:
        watch = callbacks.StopOnNonFinite(checkpointing)
    else:
        watch = callbacks.SkipNonFinite(model, skip_nonfinite, checkpointing)
    averages = None
    if around.momentum is not None:
        averages = callbacks.AveragedWeights(
            model, around.momentum, checkpointing
        )
    return watch, averages


def fit(
    model: keras.Model,
    stream: Callable[[int, tuple[int, int]], tf.data.Dataset],
    watchers: Watchers,
    steps: Steps,
    more: Sequence[keras.callbacks.Callback] = (),
) -> None:
    """Trains to the end, from the latest checkpoint on.

    Args:
        model: The compiled model.
        stream: Batches, as a function of the first step and a shard.
        watchers: The callbacks.
        steps: Of the training.
        more: Callbacks of the method.
    """
    checkpointing = watchers.checkpointing
    checkpointing.restore(model)
    for step, span in checkpointing.spans(steps.per_epoch, steps.last):
        model.fit(
            distribute.dataset(
                model.distribute_strategy, functools.partial(stream, step)
            ),
            callbacks=[*watchers.others, *more, checkpointing],
            shuffle=False,
            verbose=verbosity(),
            **span,
        )


def verbosity() -> int:
    return 1 if sys.stdout.isatty() else 2


def facts(
    model: keras.Model,
    checkpointing: callbacks.Checkpointing,
    steps: Steps,
    batch_size: int,
    branches: int = 1,
) -> dict[str, Any]:
    """Returns what a record says of a training.

    Args:
        model: The trained model.
        checkpointing: Of the training.
        steps: Of the training.
        batch_size: Images per step and branch.
        branches: How many batches a step takes.
    """
    images = steps.last * batch_size * branches
    seconds = sum(checkpointing.history["seconds"])
    return {
        "epochs": len(checkpointing.history["seconds"]),
        "steps": steps.last,
        "steps_per_epoch": steps.per_epoch,
        "batch_size": batch_size,
        "images": images,
        "wall_time_seconds": seconds,
        "images_per_second": images / seconds,
        "precision": keras.config.dtype_policy().name,
        "num_parameters": model.count_params(),
        **trained_parameters(model),
        "resumed": checkpointing.starts - 1,
    }


def say_what_is_trained(model: keras.Model) -> None:
    """Prints how many parameters are trained, if it is not all of them."""
    if trainable.frozen_weights(model):
        print(trainable.table(model))


def trained_parameters(model: keras.Model) -> dict[str, Any]:
    """What a record says of a model of which not all is trained.

    `trained_parameters` are the trained ones and all, by the name of the
    layers, numbers left out.
    """
    if not trainable.frozen_weights(model):
        return {}
    return {"trained_parameters": dict(trainable.shares(model))}
