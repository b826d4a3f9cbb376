r"""Trains a classifier on long-tailed images, from a flag file to a report.

    python recipes/cifar_lt.py --flagfile=recipes/flags/quickstart.cfg \
        --workdir=runs/quickstart

The workdir receives the flags in effect (flags.cfg), TensorBoard events,
checkpoints, model.keras, a SavedModel, result.json and report.html. The same
command goes on where a run was cut, and leaves a finished run as it is.
"""

import os
import re
import sys
import time
import warnings
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import rounds
import workdir as workdirs
from absl import flags

from keras_lt import (
    callbacks,
    counts,
    datasets,
    division,
    dpp,
    export,
    features,
    layers,
    losses,
    metrics,
    preprocessing,
    report,
    schedules,
    streams,
)
from keras_lt.models import (
    DLSA,
    ContrastivePretrainer,
    DualBranch,
    TwoStage,
    backbones,
    classifier,
    dual_branch,
    linear_head,
    nearest_class_mean,
    stack,
    tau_normalize,
)

LOSSES = {
    "crossentropy": None,
    "class_balanced": losses.ClassBalancedCrossentropy,
    "class_balanced_sigmoid": losses.ClassBalancedSigmoid,
    "class_balanced_focal": losses.ClassBalancedFocal,
    "focal": losses.Focal,
    "ldam": losses.LDAM,
    "balanced_softmax": losses.BalancedSoftmax,
    "logit_adjusted": losses.LogitAdjusted,
    "label_aware_smoothing": losses.LabelAwareSmoothing,
}
# Flags that are arguments of a loss, by its name.
LOSS_ARGUMENTS = {
    "class_balanced_focal": ("gamma",),
    "focal": ("gamma",),
    "logit_adjusted": ("tau",),
    "label_aware_smoothing": ("head", "tail"),
}
# First stages that compare views of images, and their losses.
CONTRASTIVE = {
    "bns": losses.BalancedNegativeSampling,
    "simclr": losses.NTXent,
    "supcon": losses.SupervisedContrastive,
}
# The second stages that a method can have.
CLASSIFIER_STAGES = ("none", "crt", "lws", "tau", "ncm")
STAGES = {
    "single": CLASSIFIER_STAGES,
    "dual_branch": CLASSIFIER_STAGES,
    "bns_ipdpp": rounds.KINDS,
    "linear_probe": ("none",),
    "dlsa": ("none",),
}
DEPTHS = {f"cifar_resnet{depth}": depth for depth in (20, 32, 44, 56)}
BACKBONES = (*DEPTHS, "cifar_resnet18")
AUXILIARY_SCHEDULES = {
    "constant": lambda weight, steps: weight,
    "linear": lambda weight, steps: keras.optimizers.schedules.PolynomialDecay(
        weight, steps, end_learning_rate=0.0
    ),
    "cumulative": schedules.CumulativeDecay,
}
PRECISIONS = {
    "none": "float32",
    "bfloat16": "mixed_bfloat16",
    "float16": "mixed_float16",
}

# Data
flags.DEFINE_string(
    "dataset", "cifar10", "digits, or the name of a TFDS data set."
)
flags.DEFINE_string(
    "data_dir", None, "Folder of prepared TFDS data sets (default: TFDS' own)."
)
flags.DEFINE_float(
    "imbalance_factor",
    None,
    "Cut the training set so that its largest class has this many times the "
    "images of its smallest (default: leave it as it is).",
    lower_bound=1.0,
)
flags.DEFINE_enum(
    "profile",
    "exp",
    list(counts.PROFILES),
    "How class counts fall from head to tail.",
)
flags.DEFINE_enum(
    "selection",
    "nested",
    ["nested", "ldam"],
    "Which images stay: ours, or those of the LDAM-DRW code.",
)
flags.DEFINE_integer(
    "split_seed", 0, "Chooses the images of the cut and of the hold-out."
)
flags.DEFINE_float(
    "holdout",
    0.0,
    "Fraction of the training set to hold out, for curves and the best epoch.",
    lower_bound=0.0,
    upper_bound=0.9,
)
flags.DEFINE_bool(
    "test_curve",
    False,
    "Score the test set after each epoch too, to draw its curve. Nothing is "
    "chosen by it.",
)
flags.DEFINE_integer(
    "many_shot", 100, "Classes with more training images are many-shot."
)
flags.DEFINE_integer(
    "few_shot", 20, "Classes with fewer training images are few-shot."
)
flags.DEFINE_integer(
    "padding", 4, "Pixels of padding for random crops.", lower_bound=0
)
flags.DEFINE_bool("flip", True, "Mirror images at random.")
flags.DEFINE_enum(
    "augment",
    "standard",
    ["standard", "strong"],
    "standard: random crops and mirror images; strong: these, then RandAugment "
    "and a black square of half the side (cutout).",
)
flags.DEFINE_enum(
    "mix",
    "none",
    ["none", "mixup", "remix", "cutmix"],
    "How each training image is mixed with another one.",
)
flags.DEFINE_float("mix_alpha", 1.0, "Of the Beta distribution of shares.")

# Method
flags.DEFINE_enum(
    "method",
    "single",
    list(STAGES),
    "How to train. bns_ipdpp: --stage1, then --stage2 on all weights; "
    "linear_probe: --stage1, then a linear classifier on its features; dlsa: a "
    "division of the features of --features_from.",
)
flags.DEFINE_enum(
    "auxiliary",
    "classifier",
    [*dual_branch.AUXILIARIES, "none"],
    "What dual_branch learns from randomly drawn images.",
)
flags.DEFINE_float(
    "auxiliary_weight", 1.0, "Of the auxiliary loss.", lower_bound=0.0
)
flags.DEFINE_enum(
    "auxiliary_schedule",
    "constant",
    list(AUXILIARY_SCHEDULES),
    "How --auxiliary_weight falls to 0 over the run: not at all, by 1 - t/T, "
    "or by 1 - (t/T)^2 as in BBN.",
)
flags.DEFINE_bool(
    "joint_forward",
    False,
    "Whether both branches of dual_branch are one batch for the backbone.",
)
flags.DEFINE_enum("loss", "crossentropy", list(LOSSES), "Loss function.")
flags.DEFINE_float(
    "beta",
    0.9999,
    "Of the effective number (1 - beta^n) / (1 - beta) that class_balanced* "
    "losses weigh classes by, and the others with --drw_epoch; in [0, 1).",
)
flags.DEFINE_float(
    "gamma",
    1.0,
    "Focusing parameter of class_balanced_focal and focal.",
    lower_bound=0.0,
)
flags.DEFINE_float("max_margin", 0.5, "Of ldam, in cosines.", lower_bound=0.0)
flags.DEFINE_float("scale", 30.0, "Of ldam's cosines.", lower_bound=0.0)
flags.DEFINE_float(
    "tau", 1.0, "Strength of the prior in logit_adjusted.", lower_bound=0.0
)
flags.DEFINE_float(
    "head", 0.3, "Smoothing of the largest class by label_aware_smoothing."
)
flags.DEFINE_float("tail", 0.0, "Smoothing of the smallest class.")
flags.DEFINE_enum(
    "normalizer",
    None,
    list(losses.NORMALIZERS),
    "What a sum of weighted losses is divided by (default: the loss's own).",
)
flags.DEFINE_enum(
    "sampling", "random", list(streams.SAMPLINGS), "How images are drawn."
)
flags.DEFINE_enum(
    "balanced_sampling",
    "class_balanced",
    list(streams.SAMPLINGS),
    "How those of the main branch of dual_branch are; --sampling is how those "
    "of the auxiliary one are.",
)
flags.DEFINE_integer(
    "drw_epoch",
    None,
    "First epoch with class weights (deferred re-weighting; default: all).",
    lower_bound=0,
)

flags.DEFINE_integer(
    "drs_epoch",
    None,
    "First epoch with class-balanced sampling in place of --sampling (deferred "
    "re-sampling; default: none).",
    lower_bound=0,
)

# Second stage
flags.DEFINE_enum(
    "stage2",
    "none",
    [*CLASSIFIER_STAGES, *rounds.KINDS],
    "crt, lws, tau, ncm: another classifier on the trained features, which "
    "stay as they are: re-trained, scaled by class, tau-normalised, or the "
    "nearest class mean. Of --method=bns_ipdpp what the network trains on: "
    "subsets by IP-DPP or at random, or all images, class-balanced or not.",
)
flags.DEFINE_enum(
    "stage1",
    "bns",
    [*CONTRASTIVE, "ce"],
    "How the features of bns_ipdpp and linear_probe are learned: by a "
    "contrastive loss or as a classifier.",
)
flags.DEFINE_string(
    "stage1_workdir",
    None,
    "Workdir of a finished run to take the first stage from (default: train "
    "it first).",
)
flags.DEFINE_float(
    "temperature",
    None,
    "Of the contrastive loss (default: the loss's own).",
    lower_bound=0.0,
)
flags.DEFINE_integer(
    "projection_dim", 128, "Where views are compared.", lower_bound=1
)
flags.DEFINE_float("min_area", 0.2, "Smallest crop of a view.", lower_bound=0.0)
flags.DEFINE_float("jitter", 0.5, "Strength of other colours in a view.")
flags.DEFINE_float("blur", 0.0, "Part of the views that are blurred.")
flags.DEFINE_float(
    "stage2_epochs",
    10,
    "Epochs of a second stage that learns; whole ones for bns_ipdpp.",
    lower_bound=0.0,
)
flags.DEFINE_float(
    "stage2_learning_rate",
    0.1,
    "Of a second stage that learns; falls to 0 as a cosine.",
)
flags.DEFINE_float(
    "stage2_warmup_epochs", 0, "Of bns_ipdpp's second.", lower_bound=0.0
)
flags.DEFINE_integer(
    "stage2_batch_size", 64, "Of bns_ipdpp's second.", lower_bound=1
)
flags.DEFINE_bool(
    "stage2_freeze", False, "Whether bns_ipdpp's trains its classifier alone."
)
flags.DEFINE_integer(
    "subset_size", 500, "Images a class that are drawn.", lower_bound=1
)
flags.DEFINE_integer(
    "resample_epochs", 10, "Epochs from one draw to the next.", lower_bound=1
)
flags.DEFINE_enum(
    "dpp_scale", "n2", list(dpp.SCALES), "Of IP-DPP: n2 as published, or n."
)
flags.DEFINE_bool(
    "score_augmented",
    False,
    "Whether IP-DPP scores augmented images, as the authors' code does.",
)
flags.DEFINE_enum(
    "stage2_sampling",
    "class_balanced",
    list(streams.SAMPLINGS),
    "How crt and lws draw features.",
)
flags.DEFINE_enum(
    "stage2_loss",
    "crossentropy",
    ["crossentropy", "balanced_softmax"],
    "Of crt and lws.",
)
flags.DEFINE_float(
    "stage2_tau", 1.0, "Exponent of the tau-normalisation.", lower_bound=0.0
)

# DLSA
flags.DEFINE_string(
    "features_from",
    None,
    "Workdir of the finished run whose features dlsa divides.",
)
flags.DEFINE_integer("dlsa_depth", 1, "Levels.", lower_bound=1)
flags.DEFINE_integer("dlsa_clusters", 100, "Clusters a level.", lower_bound=2)
flags.DEFINE_float(
    "llh_proportion", 0.1, "Part of its samples that a level keeps."
)
flags.DEFINE_enum(
    "dlsa_classifier", "linear", ["linear", "cosine"], "Of each level."
)
flags.DEFINE_enum(
    "dlsa_loss",
    "balanced_softmax",
    ["balanced_softmax", "crossentropy"],
    "Of the classifiers.",
)
flags.DEFINE_enum(
    "dlsa_z",
    "latent",
    ["latent", "features"],
    "What classifiers take beside the features: the flow's latent variable, or "
    "the features again, as the authors' code has it in fact.",
)
flags.DEFINE_float(
    "dlsa_center_std",
    0.05,
    "Standard deviation of the cluster centres.",
    lower_bound=0.0,
)
flags.DEFINE_integer("dlsa_flow_epochs", 50, "Epochs of a flow.", lower_bound=1)
flags.DEFINE_float("dlsa_flow_learning_rate", 0.2, "Of SGD.", lower_bound=0.0)
flags.DEFINE_float(
    "dlsa_weight_power",
    0.0,
    "q of the likelihood's weights, (n_max / n_c)^q.",
    lower_bound=0.0,
)
flags.DEFINE_float(
    "dlsa_likelihood_factor", 2.0, "Of a flow's loss.", lower_bound=0.0
)
flags.DEFINE_float(
    "dlsa_contrast_factor", 0.02, "Of a flow's loss.", lower_bound=0.0
)
flags.DEFINE_float(
    "dlsa_balance_factor", 1.0, "Of a flow's loss.", lower_bound=0.0
)
flags.DEFINE_float(
    "dlsa_posterior_momentum", 0.7, "Of a flow's mean posterior."
)
flags.DEFINE_integer(
    "dlsa_classifier_epochs", 150, "Epochs of a classifier.", lower_bound=1
)
flags.DEFINE_float(
    "dlsa_classifier_learning_rate", 0.01, "Of SGD.", lower_bound=0.0
)

# Model and optimisation
flags.DEFINE_enum("backbone", "cifar_resnet32", BACKBONES, "Network.")
flags.DEFINE_integer(
    "width",
    1,
    "Multiplies the channels of cifar_resnet20 to 56.",
    lower_bound=1,
)
flags.DEFINE_integer("epochs", 200, "Epochs.", lower_bound=1)
flags.DEFINE_integer(
    "batch_size",
    128,
    "Images a step; dual_branch takes as many again for its second branch.",
    lower_bound=1,
)
flags.DEFINE_integer(
    "steps_per_epoch",
    None,
    "Steps of an epoch (default: the training images over --batch_size).",
    lower_bound=1,
)
flags.DEFINE_float("learning_rate", 0.1, "Rate after the warm-up.")
flags.DEFINE_enum("optimizer", "sgd", ["sgd", "adamw"], "Optimizer.")
flags.DEFINE_float("momentum", 0.9, "Of SGD.", lower_bound=0.0)
flags.DEFINE_float(
    "weight_decay",
    0.05,
    "Of AdamW; not of biases and normalisations.",
    lower_bound=0.0,
)
flags.DEFINE_float(
    "l2",
    1e-4,
    "Factor of the squared norm of all weights in the loss; PyTorch's "
    "weight_decay=2e-4 is --l2=1e-4.",
    lower_bound=0.0,
)
flags.DEFINE_float(
    "warmup_epochs", 5, "Epochs of linear warm-up.", lower_bound=0.0
)
flags.DEFINE_enum(
    "decay", "step", ["step", "cosine"], "How the learning rate falls."
)
flags.DEFINE_list(
    "decay_epochs", ["160", "180"], "Epochs at which --decay=step steps."
)
flags.DEFINE_list(
    "decay_factors",
    ["0.01", "0.0001"],
    "Factors of --learning_rate after each of --decay_epochs.",
)
for name in ("decay_epochs", "decay_factors"):
    flags.register_validator(
        name,
        lambda values: all(
            re.fullmatch(r"\d+(\.\d*)?(e-?\d+)?", value) for value in values
        ),
        "Expected numbers, separated by commas",
    )
flags.DEFINE_integer("seed", 0, "Seed of weights, sampling and augmentation.")

# Running
flags.DEFINE_enum(
    "mixed_precision", "none", list(PRECISIONS), "16-bit type to compute in."
)
flags.DEFINE_bool("jit_compile", False, "Compile steps by XLA.")
flags.DEFINE_integer(
    "max_steps", None, "Stop after so many steps (a smoke run).", lower_bound=1
)
flags.DEFINE_string("workdir", None, "Folder of the run.")
flags.DEFINE_bool(
    "overwrite", False, "Start anew, deleting the run in --workdir."
)
flags.DEFINE_bool(
    "eval_only", False, "Score --checkpoint on the test set; write nothing."
)
flags.DEFINE_string(
    "checkpoint",
    None,
    "For --eval_only: a model.keras or .weights.h5 file (default: the "
    "model.keras of --workdir).",
)

FLAGS = flags.FLAGS
# Arguments of `DLSA.fit_features` that are flags, with dlsa_ before the name.
FIT_DLSA = (
    "loss",
    "flow_epochs",
    "flow_learning_rate",
    "classifier_epochs",
    "classifier_learning_rate",
    "weight_power",
    "likelihood_factor",
    "contrast_factor",
    "balance_factor",
    "posterior_momentum",
)
# Flags that say nothing of a first stage.
SECOND_STAGE = (
    "subset_size",
    "resample_epochs",
    "dpp_scale",
    "score_augmented",
)
# Flags that a run may change between its starts.
NOT_COMPARED = (
    "data_dir",
    "workdir",
    "stage1_workdir",
    "features_from",
    "overwrite",
    "eval_only",
    "checkpoint",
)


class Data(NamedTuple):
    """The data sets of a run; `held_out` is None without --holdout."""

    train: datasets.Dataset
    held_out: datasets.Dataset | None
    test: datasets.Dataset


def load_data() -> Data:
    train = datasets.load(FLAGS.dataset, split="train", data_dir=FLAGS.data_dir)
    test = datasets.load(FLAGS.dataset, split="test", data_dir=FLAGS.data_dir)
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
    return Data(train, held_out, test)


def check_stages() -> None:
    allowed = STAGES[FLAGS.method]
    if FLAGS.stage2 not in allowed:
        raise ValueError(
            f"Expected --stage2 to be one of {', '.join(allowed)} with "
            f"--method={FLAGS.method}. Received: --stage2={FLAGS.stage2}"
        )
    if FLAGS.stage1_workdir is not None and second_stage_name() == "none":
        raise ValueError(
            "Expected a --stage2 with --stage1_workdir. Received: --stage2=none"
        )


def second_stage_name() -> str:
    return "linear_probe" if FLAGS.method == "linear_probe" else FLAGS.stage2


def first_stage_name(values=None) -> str:
    """What the first stage is, by the flags in effect or those given."""
    method = values["method"] if values else FLAGS.method
    if method in ("single", "dual_branch", "dlsa"):
        return method
    stage1 = values["stage1"] if values else FLAGS.stage1
    return "single" if stage1 == "ce" else stage1


def steps_per_epoch(train) -> int:
    return FLAGS.steps_per_epoch or max(1, round(len(train) / FLAGS.batch_size))


def make_loss(class_counts):
    if FLAGS.loss == "crossentropy":
        if FLAGS.drw_epoch is not None:
            raise ValueError(
                "Expected a loss with class weights for --drw_epoch, such as "
                f"class_balanced. Received: --loss={FLAGS.loss}"
            )
        if FLAGS.mix != "none":  # labels are soft
            return keras.losses.CategoricalCrossentropy(from_logits=True)
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    arguments = {
        name: FLAGS[name].value for name in LOSS_ARGUMENTS.get(FLAGS.loss, ())
    }
    if FLAGS.loss == "ldam":  # the classifier scales its cosines itself
        arguments["max_margin"] = FLAGS.max_margin * FLAGS.scale
        arguments["scale"] = 1.0
    if FLAGS.loss.startswith("class_balanced") or FLAGS.drw_epoch is not None:
        arguments["beta"] = FLAGS.beta
    if FLAGS.normalizer is not None:
        arguments["normalizer"] = FLAGS.normalizer
    return LOSSES[FLAGS.loss](class_counts, **arguments)


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


def make_optimizer(learning_rate):
    if FLAGS.optimizer == "sgd":
        return keras.optimizers.SGD(learning_rate, FLAGS.momentum)
    optimizer = keras.optimizers.AdamW(
        learning_rate, FLAGS.weight_decay, beta_1=0.9, beta_2=0.95
    )
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def make_backbone(train):
    mean, variance = train.channel_statistics()
    arguments = {
        "input_shape": train.image_shape,
        "mean": mean,
        "variance": variance,
        "l2": FLAGS.l2,
    }
    if FLAGS.backbone in DEPTHS:
        return backbones.cifar_resnet(
            DEPTHS[FLAGS.backbone], FLAGS.width, **arguments
        )
    if FLAGS.width != 1:
        raise ValueError(
            f"Expected --width=1 with --backbone={FLAGS.backbone}. "
            f"Received: --width={FLAGS.width}"
        )
    return backbones.cifar_resnet18(**arguments)


def make_pretrainer(train):
    """Returns a compiled first stage that compares views."""
    model = ContrastivePretrainer(
        make_backbone(train), FLAGS.projection_dim, l2=FLAGS.l2
    )
    arguments = {}
    if FLAGS.temperature is not None:
        arguments["temperature"] = FLAGS.temperature
    model.compile(
        make_optimizer(make_learning_rate(steps_per_epoch(train))),
        CONTRASTIVE[FLAGS.stage1](**arguments),
        jit_compile=FLAGS.jit_compile,
    )
    return model


def make_model(train):
    """Returns a compiled model, or the first stage of one."""
    if first_stage_name() in CONTRASTIVE:
        return make_pretrainer(train)
    backbone = make_backbone(train)
    head = make_head(train.num_classes)
    if FLAGS.method == "dual_branch":
        model = DualBranch(
            backbone,
            train.num_classes,
            auxiliary=None if FLAGS.auxiliary == "none" else FLAGS.auxiliary,
            auxiliary_weight=AUXILIARY_SCHEDULES[FLAGS.auxiliary_schedule](
                FLAGS.auxiliary_weight, FLAGS.epochs * steps_per_epoch(train)
            ),
            head=head,
            joint_forward=FLAGS.joint_forward,
            l2=FLAGS.l2,
            seed=FLAGS.seed,
        )
    else:
        model = classifier(backbone, train.num_classes, head=head)
    model.compile(
        make_optimizer(make_learning_rate(steps_per_epoch(train))),
        make_loss(train.class_counts),
        # Mixed labels have no accuracy.
        metrics=None if FLAGS.mix != "none" else accuracies(train.num_classes),
        jit_compile=FLAGS.jit_compile,
    )
    return model


def accuracies(num_classes: int) -> list[keras.metrics.Metric]:
    return [
        keras.metrics.SparseCategoricalAccuracy("top1"),
        metrics.BalancedAccuracy(num_classes),
    ]


def make_transform(image_shape):
    transform = preprocessing.pad_crop_flip(FLAGS.padding, FLAGS.flip)
    if FLAGS.augment == "standard":
        return transform
    return preprocessing.chain(
        transform,
        preprocessing.rand_augment(),
        preprocessing.cutout(min(image_shape[:2]) // 2),
    )


def make_mix(train):
    if FLAGS.mix == "none":
        return None
    if FLAGS.mix == "remix":
        return preprocessing.remix(train.class_counts, FLAGS.mix_alpha)
    mixes = {"mixup": preprocessing.mixup, "cutmix": preprocessing.cutmix}
    return mixes[FLAGS.mix](train.num_classes, FLAGS.mix_alpha)


def make_stream(train, start_step: int):
    """Returns the training batches from a step on."""
    if first_stage_name() in CONTRASTIVE:
        transform = preprocessing.two_views(
            preprocessing.simclr(FLAGS.min_area, FLAGS.jitter, FLAGS.blur)
        )
    else:
        transform = make_transform(train.image_shape)

    def stream(sampling, name=None, switch=None):
        return streams.stream(
            train,
            sampling=sampling,
            batch_size=FLAGS.batch_size,
            seed=FLAGS.seed,
            transform=transform,
            mix=make_mix(train),
            start_step=start_step,
            total_steps=FLAGS.epochs * steps_per_epoch(train),
            switch=switch,
            name=name,
        )

    if FLAGS.method != "dual_branch":
        switch = None
        if FLAGS.drs_epoch is not None:
            step = FLAGS.drs_epoch * steps_per_epoch(train)
            switch = (step, "class_balanced")
        return stream(FLAGS.sampling, switch=switch)
    if FLAGS.drs_epoch is not None or FLAGS.mix != "none":
        raise ValueError(
            "Expected --method=single with --drs_epoch or --mix. "
            f"Received: --method={FLAGS.method}"
        )
    branches = {"balanced": stream(FLAGS.balanced_sampling, "balanced")}
    if FLAGS.auxiliary != "none":
        branches["random"] = stream(FLAGS.sampling, "random")
    return streams.interleave(branches)


def fit(model, train, checkpointing, other_callbacks) -> int:
    """Trains to the end, from the latest checkpoint; returns the steps."""
    epoch_steps = steps_per_epoch(train)
    total_steps = FLAGS.epochs * epoch_steps
    last_step = min(total_steps, FLAGS.max_steps or total_steps)
    epoch = checkpointing.restore(model)
    while (step := epoch * epoch_steps) < last_step:
        # Whole epochs, then what is left of --max_steps.
        whole = last_step // epoch_steps
        until = whole if epoch < whole else epoch + 1
        model.fit(
            make_stream(train, step),
            initial_epoch=epoch,
            epochs=until,
            steps_per_epoch=min(epoch_steps, last_step - step),
            callbacks=[*other_callbacks, checkpointing],
            shuffle=False,
            verbose=verbosity(),
        )
        epoch = until
    return last_step


def verbosity() -> int:
    return 1 if sys.stdout.isatty() else 2


def score(model, test, class_counts) -> dict:
    logits, labels = metrics.predict(
        model, streams.evaluation(test, FLAGS.batch_size)
    )
    return metrics.evaluate(
        logits,
        labels,
        class_counts,
        many=FLAGS.many_shot,
        few=FLAGS.few_shot,
    )


def summary(scores: dict) -> str:
    names = ("top1", "balanced", "many", "medium", "few", "unseen", "ece")
    return ", ".join(
        f"{name} {'n/a' if scores[name] is None else f'{scores[name]:.4f}'}"
        for name in names
    )


def training_facts(model, train, steps: int, checkpointing) -> dict:
    dual = FLAGS.method == "dual_branch" and FLAGS.auxiliary != "none"
    branches = 2 if dual or first_stage_name() in CONTRASTIVE else 1
    images = steps * FLAGS.batch_size * branches
    seconds = sum(checkpointing.history["seconds"])
    return {
        "epochs": len(checkpointing.history["seconds"]),
        "steps": steps,
        "steps_per_epoch": steps_per_epoch(train),
        "batch_size": FLAGS.batch_size,
        "images": images,
        "wall_time_seconds": seconds,
        "images_per_second": images / seconds,
        "precision": keras.config.dtype_policy().name,
        "num_parameters": model.count_params(),
        "resumed": checkpointing.starts - 1,
    }


def read_stage1(run: workdirs.Workdir, class_counts) -> tuple:
    """Model and record of --stage1_workdir, if it is this run's first stage."""
    folder = Path(FLAGS.stage1_workdir)
    record = report.read_record(folder / "result.json")
    found = {name: FLAGS[name].default for name in run.flags}
    found |= record["flags"]
    for name, value in run.flags.items():
        other = name.startswith("stage2") or name in SECOND_STAGE
        if name in ("method", "stage1") or other:
            continue
        if found[name] != value:
            raise ValueError(
                "Expected a --stage1_workdir with the flags of this run. "
                f"Received: --{name}={value} where {folder} has "
                f"--{name}={found[name]}"
            )
    if first_stage_name(found) != first_stage_name():
        raise ValueError(
            f"Expected a --stage1_workdir with {first_stage_name()} as first "
            f"stage. Received: {folder} with {first_stage_name(found)}"
        )
    if record["class_counts"] != class_counts.tolist():
        raise ValueError(
            "Expected a --stage1_workdir that was trained on as many images a "
            f"class. Received: {folder} with {record['class_counts']}"
        )
    # A run with one stage keeps it as its model.
    path = folder / "stage1.keras"
    path = path if path.exists() else folder / "model.keras"
    return keras.saving.load_model(path), record


def other_classifier(model, train) -> keras.Model:
    """Returns a model with another classifier, on features computed once."""
    num_classes = train.num_classes
    if FLAGS.stage2 == "tau":
        return tau_normalize(model, FLAGS.stage2_tau)
    extracted = features.extract(model, train)
    if FLAGS.stage2 == "ncm":
        return nearest_class_mean(model, extracted, num_classes)
    if FLAGS.stage2 != "lws":
        second = TwoStage.crt(model, num_classes, l2=FLAGS.l2)
    else:
        second = TwoStage.lws(model)
    steps = max(1, round(FLAGS.stage2_epochs * steps_per_epoch(train)))
    if FLAGS.max_steps:
        steps = min(steps, FLAGS.max_steps)
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
            sampling=FLAGS.stage2_sampling,
            batch_size=FLAGS.batch_size,
            seed=FLAGS.seed,
            total_steps=steps,
            name="stage2",
        ),
        steps_per_epoch=steps,
        callbacks=[callbacks.StopOnNonFinite()],
        shuffle=False,
        verbose=0,
    )
    return second


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
    return (
        callbacks.Checkpointing(
            run.path / "checkpoints" / stage,
            monitor="val_balanced" if monitored else None,
        ),
        callbacks.LongTailTensorBoard(
            run.path / "tensorboard" / stage,
            train.class_counts,
            evaluations={
                name: streams.evaluation(dataset, FLAGS.batch_size)
                for name, dataset in scored.items()
                if dataset and classifies
            },
            class_names=train.class_names,
            many=FLAGS.many_shot,
            few=FLAGS.few_shot,
            flags=run.flags,
            hparams=run.flags,
        ),
    )


def first_stage(run, data) -> Stage:
    checkpointing, tensorboard = make_callbacks(
        run, data, classifies=first_stage_name() not in CONTRASTIVE
    )
    if FLAGS.stage1_workdir is not None:
        model, record = read_stage1(run, data.train.class_counts)
        history, facts = record["history"], record["train"]
    else:
        model = make_model(data.train)
        others = [callbacks.StopOnNonFinite(), tensorboard]
        if FLAGS.drw_epoch is not None:
            others.append(callbacks.DeferredReweighting(FLAGS.drw_epoch))
        steps = fit(model, data.train, checkpointing, others)
        history = checkpointing.history
        facts = training_facts(model, data.train, steps, checkpointing)
        if second_stage_name() != "none":
            run.write("stage1.keras", model.save)
    return Stage(
        model, facts["epochs"], history, facts, checkpointing, tensorboard
    )


def second_stage(first: Stage, run, data) -> Stage:
    # The same start whether the first stage was trained in this process.
    keras.utils.set_random_seed(FLAGS.seed)
    if FLAGS.method == "bns_ipdpp":
        return subset_stage(first, run, data)
    begin = time.perf_counter()
    model = other_classifier(first.model, data.train)
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
    if FLAGS.features_from is None:
        raise ValueError(
            "Expected --features_from=WORKDIR with --method=dlsa. "
            "Received: none"
        )
    folder, train = Path(FLAGS.features_from), data.train
    record = report.read_record(folder / "result.json")
    if record["class_counts"] != train.class_counts.tolist():
        raise ValueError(
            "Expected a --features_from that was trained on as many images a "
            f"class. Received: {folder} with {record['class_counts']}"
        )
    model = keras.saving.load_model(folder / "model.keras")
    cached = run.path / "features.npz"
    if not cached.exists():
        features.write(cached, features.extract(model, train))
    extracted = features.read(cached)
    keras.utils.set_random_seed(FLAGS.seed)
    begin = time.perf_counter()
    dlsa = DLSA(
        train.num_classes,
        extracted.features.shape[1],
        depth=FLAGS.dlsa_depth,
        num_clusters=FLAGS.dlsa_clusters,
        llh_proportion=FLAGS.llh_proportion,
        center_std=FLAGS.dlsa_center_std,
        classifier=FLAGS.dlsa_classifier,
        z=FLAGS.dlsa_z,
        seed=FLAGS.seed,
    )
    with warnings.catch_warnings(record=True) as warned:
        levels = dlsa.fit_features(
            *extracted,
            **{name: FLAGS[f"dlsa_{name}"].value for name in FIT_DLSA},
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
            train.class_counts,
            train.class_names,
            many=FLAGS.many_shot,
            few=FLAGS.few_shot,
            title=f"DLSA on {folder.name}, {what} images",
        )
    divided = stack(model, dlsa)
    return Stage(
        divided,
        record["train"]["epochs"],
        record["history"],
        {
            **record["train"],
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
    if FLAGS.stage2_epochs != int(FLAGS.stage2_epochs):
        raise ValueError(
            f"Expected whole --stage2_epochs with --method={FLAGS.method}. "
            f"Received: --stage2_epochs={FLAGS.stage2_epochs}"
        )
    train = data.train
    plan = rounds.Rounds(
        kind=FLAGS.stage2,
        subset_size=FLAGS.subset_size,
        scale=FLAGS.dpp_scale,
        resample_epochs=FLAGS.resample_epochs,
        epochs=int(FLAGS.stage2_epochs),
        batch_size=FLAGS.stage2_batch_size,
        seed=FLAGS.seed,
        transform=make_transform(train.image_shape),
        score_augmented=FLAGS.score_augmented,
        max_steps=FLAGS.max_steps,
    )
    steps = plan.steps_per_epoch(train.class_counts)
    model = TwoStage.crt(
        first.model, train.num_classes, freeze=FLAGS.stage2_freeze, l2=FLAGS.l2
    )
    model.compile(
        make_optimizer(
            cosine_decay(
                FLAGS.stage2_learning_rate,
                round(FLAGS.stage2_warmup_epochs * steps),
                plan.epochs * steps,
            )
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=accuracies(train.num_classes),
        jit_compile=FLAGS.jit_compile,
    )
    checkpointing, tensorboard = make_callbacks(run, data, "stage2")
    others = [callbacks.StopOnNonFinite(), tensorboard]
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


def train_and_report(run: workdirs.Workdir) -> None:
    environment = report.environment()
    data = load_data()
    train, _, test = data
    class_counts = train.class_counts
    print(f"{len(train)} training images, by class: {class_counts.tolist()}")
    groups = counts.shot_groups(class_counts, FLAGS.many_shot, FLAGS.few_shot)
    sizes = (f"{group} {mask.sum()}" for group, mask in groups.items())
    print(f"Classes by shot group: {', '.join(sizes)}")
    divides = FLAGS.method == "dlsa"
    stage = divide(run, data) if divides else first_stage(run, data)
    method = first_stage_name()
    if second_stage_name() != "none":
        stage = second_stage(stage, run, data)
        method += f", {second_stage_name()}"

    model = stage.model
    results = {
        "last": {**score(model, test, class_counts), "epoch": stage.epochs}
    }
    run.discard_results()
    export.save(model, run.path / "saved_model", test.images[:16])
    run.write("model.keras", model.save)
    if stage.checkpointing and (best := stage.checkpointing.best):
        model.load_weights(best["path"])
        results["best"] = {
            **score(model, test, class_counts),
            "epoch": best["epoch"],
            "chosen_by": stage.checkpointing.monitor,
        }
    record = report.record(
        name=run.name,
        dataset=FLAGS.dataset,
        data={
            "imbalance_factor": FLAGS.imbalance_factor,
            "profile": FLAGS.profile,
            "selection": FLAGS.selection,
            "split_seed": FLAGS.split_seed,
            "holdout": FLAGS.holdout,
            "num_train": len(train),
            "num_test": len(test),
            "num_classes": train.num_classes,
            "class_names": train.class_names,
            "image_shape": train.image_shape,
        },
        class_counts=class_counts,
        shot_thresholds={"many": FLAGS.many_shot, "few": FLAGS.few_shot},
        method=method,
        flags=run.flags,
        seed=FLAGS.seed,
        environment=environment,
        train=stage.facts,
        history=stage.history,
        test=results,
    )
    for which, scores in results.items():
        stage.tensorboard.write_test(scores, f"test_{which}", stage.epochs)
        print(f"test, {which} epoch ({scores['epoch']}): {summary(scores)}")
    report.write_html(run.path / "report.html", record)
    report.write_record(run.path / "result.json", record)


def evaluate_only() -> None:
    if FLAGS.checkpoint is None and FLAGS.workdir is None:
        raise ValueError(
            "Expected --checkpoint or --workdir with --eval_only. "
            "Received: neither"
        )
    path = FLAGS.checkpoint or os.path.join(FLAGS.workdir, "model.keras")
    if not os.path.isfile(path):
        raise FileNotFoundError(
            "Expected a model.keras or .weights.h5 file. "
            f"Received: --checkpoint={path}, which does not exist"
        )
    train, _, test = load_data()
    if path.endswith(".weights.h5"):
        model = make_model(train)
        model.load_weights(path)
    else:
        model = keras.saving.load_model(path)
    print(f"test, {path}: {summary(score(model, test, train.class_counts))}")


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise ValueError(f"Expected flags only. Received: {argv[1:]}")
    check_stages()
    keras.config.set_dtype_policy(PRECISIONS[FLAGS.mixed_precision])
    keras.utils.set_random_seed(FLAGS.seed)
    if FLAGS.eval_only:
        evaluate_only()
        return
    if FLAGS.workdir is None:
        raise ValueError("Expected --workdir=FOLDER. Received: none")
    compared = [
        flag
        for flag in FLAGS.get_key_flags_for_module(sys.modules[__name__])
        if flag.name not in NOT_COMPARED
    ]
    with workdirs.Workdir(FLAGS.workdir, compared, FLAGS.overwrite) as run:
        if run.finished:
            print(f"Finished before; nothing is changed in {run.path}.")
        else:
            train_and_report(run)
        run.say_where()


if __name__ == "__main__":
    workdirs.run_app(main)
