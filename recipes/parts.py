"""Data, models, losses and streams, as the flags ask for them."""

import contextlib
import functools
import os
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import keras
import options
from options import FLAGS

from keras_lt import (
    datasets,
    filenames,
    layers,
    metrics,
    optimizers,
    preprocessing,
    sampling,
    schedules,
    streams,
)
from keras_lt.models import (
    ContrastivePretrainer,
    DualBranch,
    backbones,
    classifier,
    linear_head,
)


class Data(NamedTuple):
    """The data sets of a run.

    `held_out` is a part of the training images by --holdout, else the split for
    validation that the data set has, else None.
    """

    train: datasets.Dataset
    held_out: datasets.Dataset | None
    test: datasets.Dataset


def load_data() -> Data:
    test_split = FLAGS.test_split or "test"
    arguments = {
        name: FLAGS[name].value
        for name in ("image_size", "test_fraction")
        if FLAGS[name].value is not None
    }
    if test_split != "test":
        arguments["test_fraction"] = 0.0

    def load(split):
        return datasets.load(
            FLAGS.dataset,
            split=split,
            data_dir=FLAGS.data_dir,
            image_root=FLAGS.image_root,
            on_bad_image=FLAGS.on_bad_image,
            max_pixels=FLAGS.max_pixels,
            allow_outside_root=FLAGS.allow_outside_root,
            split_seed=FLAGS.split_seed,
            **arguments,
        )

    train, test = load("train"), load(test_split)
    if FLAGS.imbalance_factor is not None:
        train = datasets.long_tail(
            train,
            FLAGS.imbalance_factor,
            profile=FLAGS.profile,
            seed=FLAGS.split_seed,
            selection=FLAGS.selection,
        )
    held_out = None
    if FLAGS.holdout:
        train, held_out = datasets.holdout(
            train, FLAGS.holdout, FLAGS.split_seed
        )
    else:
        known = {*datasets.splits(FLAGS.dataset, FLAGS.data_dir)} - {test_split}
        for split in known & {"val", "validation"}:
            held_out = load(split)
    return Data(train, held_out, test)


def say_left_out() -> None:
    """Prints what of a folder of images is not read, if there is any."""
    left_out = datasets.left_out(FLAGS.dataset)
    if left_out.files:
        print(
            f"Files that are not read: {left_out.endings()}, such as "
            f"{filenames.printable(left_out.files[0])}"
        )
    if left_out.folders:
        print(
            f"Folders with images that are not read: {len(left_out.folders):,},"
            f" such as {filenames.printable(left_out.folders[0])}"
        )


def load_model(path: str | os.PathLike) -> keras.Model:
    """Reads a .keras file, which may be damaged or no model at all."""
    try:
        with _whole():
            return keras.saving.load_model(path)
    except MemoryError:
        raise
    except Exception as error:  # Keras, HDF5 and zip files raise all kinds
        raise ValueError(
            "Expected a .keras file with a model that Keras can load. "
            f"Received: {path} ({error})"
        ) from error


def load_weights(model, path: str | os.PathLike) -> None:
    """Reads a .weights.h5 file, which may be damaged or of another model."""
    try:
        with _whole():
            model.load_weights(path)
    except MemoryError:
        raise
    except Exception as error:  # HDF5 and Keras raise all kinds
        raise ValueError(
            "Expected a .weights.h5 file of this model. "
            f"Received: {path} ({error})"
        ) from error


@contextlib.contextmanager
def _whole() -> Iterator[None]:
    """Where a file lacks weights, Keras warns, and leaves them as they were."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Skipping nested container")
        yield


def crops_at_random(train) -> bool:
    """Whether training sees random crops of files, resized."""
    if FLAGS.random_resized_crop is None:
        return isinstance(train, datasets.FileDataset)
    return FLAGS.random_resized_crop


def bad_images(data: Data) -> list[str]:
    """Names of the images for which others were taken so far."""
    files = (d for d in data if isinstance(d, datasets.FileDataset))
    return sorted({name for dataset in files for name in dataset.replaced})


def steps_per_epoch(train) -> int:
    return FLAGS.steps_per_epoch or max(1, round(len(train) / FLAGS.batch_size))


def make_loss(class_counts):
    if FLAGS.loss == "crossentropy":
        if FLAGS.mix != "none":  # labels are soft
            return keras.losses.CategoricalCrossentropy(from_logits=True)
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    arguments = {
        name: FLAGS[name].value
        for name in options.LOSS_ARGUMENTS.get(FLAGS.loss, ())
    }
    if FLAGS.loss == "ldam":  # the classifier scales its cosines itself
        arguments["max_margin"] = FLAGS.max_margin * FLAGS.scale
        arguments["scale"] = 1.0
    if FLAGS.loss.startswith("class_balanced") or FLAGS.drw_epoch is not None:
        arguments["beta"] = FLAGS.beta
    if FLAGS.normalizer is not None:
        arguments["normalizer"] = FLAGS.normalizer
    return options.LOSSES[FLAGS.loss](class_counts, **arguments)


def make_head(num_classes: int):
    """Returns the classifier on the features that the loss wants."""
    if FLAGS.loss == "ldam":
        return layers.CosineClassifier(
            num_classes,
            scale=FLAGS.scale,
            kernel_regularizer=keras.regularizers.L2(FLAGS.l2),
            name="logits",
        )
    # Every class is taken for improbable at first, and the bias that says so
    # is not pulled back to 0 (as in the class-balanced code).
    sigmoid = FLAGS.loss in ("class_balanced_sigmoid", "class_balanced_focal")
    return linear_head(
        num_classes,
        bias_initializer=layers.PriorBias() if sigmoid else "zeros",
        l2=FLAGS.l2,
        l2_bias=0.0 if sigmoid else FLAGS.l2,
        name="logits",
    )


def make_learning_rate(epoch_steps: int):
    def steps(epochs):
        return round(float(epochs) * epoch_steps)

    if FLAGS.decay == "cosine":
        return cosine_decay(
            FLAGS.learning_rate,
            steps(FLAGS.warmup_epochs),
            steps(FLAGS.epochs),
        )
    return schedules.WarmupStepDecay(
        FLAGS.learning_rate,
        steps(FLAGS.warmup_epochs),
        [steps(epoch) for epoch in FLAGS.decay_epochs],
        [float(factor) for factor in FLAGS.decay_factors],
    )


def cosine_decay(learning_rate: float, warmup_steps: int, steps: int):
    """Rises to the rate, then falls to 0 at the end of all steps."""
    return keras.optimizers.schedules.CosineDecay(
        learning_rate / max(warmup_steps, 1),
        decay_steps=max(1, steps - warmup_steps),
        warmup_target=learning_rate if warmup_steps else None,
        warmup_steps=warmup_steps,
    )


def make_optimizer(learning_rate, model, backbone):
    """Returns an optimizer for a model with this backbone."""
    sgd, adamw = keras.optimizers.SGD, keras.optimizers.AdamW
    arguments = {}
    if FLAGS.backbone_learning_rate_factor != 1:
        sgd, adamw = optimizers.FineTuningSGD, optimizers.FineTuningAdamW
        arguments["rate_factors"] = optimizers.rate_factors(
            model, backbone, FLAGS.backbone_learning_rate_factor
        )
    if FLAGS.optimizer == "sgd":
        return sgd(learning_rate, FLAGS.momentum, **arguments)
    optimizer = adamw(
        learning_rate,
        FLAGS.weight_decay,
        beta_1=0.9,
        beta_2=0.95,
        **arguments,
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def make_backbone(train):
    """Returns the backbone, as trained and as frozen as the flags say."""
    if FLAGS.backbone in backbones.application_names():
        backbone = backbones.application(
            FLAGS.backbone, train.image_shape, FLAGS.weights, l2=FLAGS.l2
        )
    else:
        backbone = other_backbone(train)
        if FLAGS.weights is not None:
            backbones.load_weights(backbone, FLAGS.weights)
    if FLAGS.freeze != "none":
        whole = FLAGS.freeze == "backbone"
        backbones.freeze(backbone, None if whole else FLAGS.freeze)
    return backbone


def other_backbone(train):
    """Returns a backbone of ours or of KerasHub."""
    if FLAGS.backbone.startswith(options.KERASHUB):
        path = FLAGS.backbone.removeprefix(options.KERASHUB)
        return backbones.kerashub(path, train.image_shape)
    arguments = {
        "input_shape": train.image_shape,
        "l2": FLAGS.l2,
        "batch_normalization": functools.partial(
            layers.FusedBatchNormalization, synchronized=FLAGS.sync_batch_norm
        ),
    }
    # Others are for large images, and have the statistics of ImageNet's.
    if FLAGS.backbone.startswith("cifar") or train.image_shape[-1] != 3:
        mean, variance = train.channel_statistics()
        arguments |= {"mean": mean, "variance": variance}
    if FLAGS.backbone in options.DEPTHS:
        return backbones.cifar_resnet(
            options.DEPTHS[FLAGS.backbone], FLAGS.width, **arguments
        )
    return options.NETWORKS[FLAGS.backbone](**arguments)


def evaluation(dataset):
    """What `metrics.predict` takes to score a data set."""
    return functools.partial(streams.evaluation, dataset, FLAGS.batch_size)


def make_pretrainer(train):
    """Returns a compiled first stage that compares views."""
    model = ContrastivePretrainer(
        make_backbone(train), FLAGS.projection_dim, l2=FLAGS.l2
    )
    arguments = {}
    if FLAGS.temperature is not None:
        arguments["temperature"] = FLAGS.temperature
    model.compile(
        make_optimizer(
            make_learning_rate(steps_per_epoch(train)), model, model.backbone
        ),
        options.CONTRASTIVE[FLAGS.stage1](**arguments),
        jit_compile=FLAGS.jit_compile,
    )
    return model


def make_model(train):
    """Returns a compiled model, or the first stage of one."""
    if options.first_stage_name() in options.CONTRASTIVE:
        return make_pretrainer(train)
    backbone = make_backbone(train)
    head = make_head(train.num_classes)
    if FLAGS.method == "dual_branch":
        model = DualBranch(
            backbone,
            train.num_classes,
            auxiliary=None if FLAGS.auxiliary == "none" else FLAGS.auxiliary,
            auxiliary_weight=options.AUXILIARY_SCHEDULES[
                FLAGS.auxiliary_schedule
            ](FLAGS.auxiliary_weight, FLAGS.epochs * steps_per_epoch(train)),
            head=head,
            joint_forward=FLAGS.joint_forward,
            l2=FLAGS.l2,
            seed=FLAGS.seed,
        )
    else:
        model = classifier(backbone, train.num_classes, head=head)
    model.compile(
        make_optimizer(
            make_learning_rate(steps_per_epoch(train)), model, backbone
        ),
        make_loss(train.class_counts),
        metrics=accuracies(train.num_classes),
        jit_compile=FLAGS.jit_compile,
    )
    return model


def accuracies(num_classes: int) -> list[keras.metrics.Metric]:
    return [
        metrics.Top1Accuracy(name="top1"),
        metrics.BalancedAccuracy(num_classes, name="balanced"),
    ]


def make_transform(train):
    padding = 0 if crops_at_random(train) else FLAGS.padding
    transform = preprocessing.pad_crop_flip(padding, FLAGS.flip)
    if FLAGS.augment == "standard":
        return transform
    return preprocessing.chain(
        transform,
        preprocessing.rand_augment(),
        preprocessing.cutout(min(train.image_shape[:2]) // 2),
    )


def make_mix(train):
    if FLAGS.mix == "none":
        return None
    if FLAGS.mix == "remix":
        return preprocessing.remix(train.class_counts, FLAGS.mix_alpha)
    mixes = {"mixup": preprocessing.mixup, "cutmix": preprocessing.cutmix}
    return mixes[FLAGS.mix](train.num_classes, FLAGS.mix_alpha)


def make_views(train):
    """Returns the transform to two views, those of files cut from the file."""
    read, min_area = None, FLAGS.min_area
    if crops_at_random(train):
        read, min_area = train.batch_reader(True, min_area), None
    return preprocessing.two_views(
        preprocessing.simclr(min_area, FLAGS.jitter, FLAGS.blur), read
    )


def make_stream(train, start_step: int, shard: tuple[int, int]):
    """Returns slices of the training batches from a step on."""
    if options.first_stage_name() in options.CONTRASTIVE:
        transform, crops = make_views(train), False  # they crop by themselves
    else:
        transform, crops = make_transform(train), crops_at_random(train)

    def stream(name, sampler, switch_epoch=None):
        drawn = sampling.get(
            sampler,
            class_counts=train.class_counts,
            total_steps=FLAGS.epochs * steps_per_epoch(train),
        )
        if switch_epoch is not None:
            drawn = sampling.Switched(
                drawn, "class_balanced", switch_epoch, steps_per_epoch(train)
            )
        return streams.stream(
            train,
            sampling=drawn,
            batch_size=FLAGS.batch_size,
            seed=FLAGS.seed,
            transform=transform,
            mix=make_mix(train),
            random_resized_crop=crops,
            start_step=start_step,
            shard=shard,
            name=name,
        )

    if FLAGS.method != "dual_branch":
        return stream(None, FLAGS.sampling, FLAGS.drs_epoch)
    branches = {"balanced": stream("balanced", FLAGS.balanced_sampling)}
    if FLAGS.auxiliary != "none":
        branches["random"] = stream("random", FLAGS.sampling)
    return streams.zipped(branches)
