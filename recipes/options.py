"""The flags of the recipes, and what they may be."""

import math
import re
from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
import rounds
from absl import flags

from keras_lt import (
    counts,
    datasets,
    distribute,
    dpp,
    hardware,
    losses,
    schedules,
)
from keras_lt import sampling as samplers
from keras_lt.models import backbones, dual_branch

# --drs_epoch makes a switched one.
SAMPLINGS = [name for name in samplers.SAMPLERS.table if name != "switched"]
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
NETWORKS = {
    "cifar_resnet18": backbones.cifar_resnet18,
    "resnet10": backbones.resnet10,
    "resnext50": backbones.resnext50,
}
KERASHUB = "kerashub:"
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
    "dataset",
    "cifar10",
    "digits, folder:PATH (of PATH/train/CLASS/*.jpg and the like), list:FILE "
    "(of paths and labels), or the name of a TFDS data set.",
)
flags.DEFINE_string(
    "data_dir", None, "Folder of prepared TFDS data sets (default: TFDS' own)."
)
flags.DEFINE_string(
    "image_root",
    None,
    "Folder that the paths of list:FILE start from (default: that of FILE).",
)
flags.DEFINE_integer(
    "image_size",
    None,
    "Side of the images that are decoded from files (default: 224).",
    lower_bound=1,
)
flags.DEFINE_bool(
    "random_resized_crop",
    None,
    "Crop images at random before they are resized, in place of --padding "
    "(default: those that are decoded from files).",
)
flags.DEFINE_enum(
    "on_bad_image",
    "fail",
    list(datasets.ON_BAD_IMAGE),
    "What becomes of a file that can't be decoded: fail names it, replace "
    "takes the next image of its class and counts it.",
)
flags.DEFINE_integer(
    "max_pixels",
    datasets.MAX_PIXELS,
    "An image of more pixels counts as a file that can't be decoded.",
    lower_bound=1,
)
flags.DEFINE_bool(
    "allow_outside_root",
    False,
    "Whether symbolic links and the paths of list:FILE may lead out of the "
    "folder of the images.",
)
flags.DEFINE_string(
    "test_split", None, "Split of the data set to test on (default: test)."
)
flags.DEFINE_float(
    "test_fraction",
    None,
    "Part of the training images of each class to test on where folder: or "
    "list: has no test split (default: 0.2).",
    lower_bound=0.0,
    upper_bound=0.9,
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
    "split_seed",
    0,
    "Chooses the images of the cut, of the hold-out and of a test set that "
    "folder: or list: does not have.",
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
flags.DEFINE_enum("sampling", "random", SAMPLINGS, "How images are drawn.")
flags.DEFINE_enum(
    "balanced_sampling",
    "class_balanced",
    SAMPLINGS,
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
    lower_bound=0.0,
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
    SAMPLINGS,
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
flags.DEFINE_string(
    "backbone",
    "cifar_resnet32",
    f"Network: {', '.join((*DEPTHS, *NETWORKS))}, the name of a model in "
    "keras.applications such as ResNet50, or kerashub:FOLDER, a preset.",
)
flags.register_validator(
    "backbone",
    lambda name: (
        name in (*DEPTHS, *NETWORKS, *backbones.application_names())
        or name.startswith(KERASHUB)
    ),
    f"Expected {', '.join((*DEPTHS, *NETWORKS))}, the name of a model in "
    "keras.applications, or kerashub:FOLDER",
)
flags.DEFINE_string(
    "weights",
    None,
    "Where the backbone's weights start: imagenet (keras.applications; "
    "downloaded), the workdir of a finished run with the same backbone, a "
    ".keras file, or a .weights.h5 file of the backbone (default: at random).",
)
flags.DEFINE_string(
    "freeze",
    "none",
    "What the first stage does not train: none, backbone, or the start of a "
    "layer's name: all up to the last such layer, as stage2 of our ResNets or "
    "conv3 of keras.applications'. Batch statistics stay too.",
)
flags.DEFINE_float(
    "backbone_learning_rate_factor",
    1.0,
    "The backbone's learning rate is this times that of what is on it.",
    lower_bound=0.0,
)
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
flags.DEFINE_float(
    "learning_rate", 0.1, "Rate after the warm-up.", lower_bound=0.0
)
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
    "mixed_precision",
    "auto",
    ["auto", *PRECISIONS],
    "16-bit type to compute in. auto takes what is fast on this machine: "
    "bfloat16 or float16 where the processor has it in hardware, none "
    "elsewhere and with --export_litert. A run that goes on keeps its own.",
)
flags.DEFINE_enum(
    "strategy",
    "none",
    list(distribute.STRATEGIES),
    "Devices to train on: one; the GPUs of this machine (mirrored); those of "
    "several machines, by TF_CONFIG or Slurm (multi_worker); a TPU; or what "
    "there is (auto).",
)
flags.DEFINE_integer(
    "devices",
    None,
    "Devices of this machine that take part (default: all GPUs). Without GPUs "
    "the CPU counts as so many.",
    lower_bound=1,
)
flags.DEFINE_bool(
    "sync_batch_norm",
    False,
    "Normalise by the statistics of the global batch and not of a device's "
    "part of it.",
)
flags.DEFINE_bool("jit_compile", False, "Compile steps by XLA.")
flags.DEFINE_integer(
    "max_steps", None, "Stop after so many steps (a smoke run).", lower_bound=1
)
flags.DEFINE_bool(
    "deterministic",
    False,
    "Refuse ops whose results differ from run to run.",
)
flags.DEFINE_integer(
    "skip_nonfinite",
    None,
    "Skip up to so many steps whose loss or gradients are NaN or infinite "
    "(default: stop at the first one).",
    lower_bound=1,
)
flags.DEFINE_bool("export_litert", False, "Write model.tflite too, for LiteRT.")
flags.DEFINE_string("workdir", None, "Folder of the run.")
flags.DEFINE_integer(
    "checkpoint_epochs", 1, "From one checkpoint to the next.", lower_bound=1
)
flags.DEFINE_integer(
    "checkpoint_steps",
    None,
    "From one checkpoint to the next within an epoch.",
    lower_bound=1,
)
flags.DEFINE_float(
    "checkpoint_minutes",
    10.0,
    "From one checkpoint to the next within an epoch.",
)
flags.DEFINE_integer("keep_checkpoints", 2, "How many are kept.", lower_bound=1)
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
# Flags that say which images of a data set are for training, and how large.
DATA = (
    "image_size",
    "imbalance_factor",
    "profile",
    "selection",
    "split_seed",
    "holdout",
    "test_split",
    "test_fraction",
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
    "image_root",
    "on_bad_image",
    "max_pixels",
    "allow_outside_root",
    "strategy",
    "devices",
    "workdir",
    "stage1_workdir",
    "features_from",
    "overwrite",
    "eval_only",
    "export_litert",
    "checkpoint",
    "checkpoint_epochs",
    "checkpoint_steps",
    "checkpoint_minutes",
    "keep_checkpoints",
    "skip_nonfinite",
)


def fast_precision() -> str:
    """Returns what --mixed_precision=auto means on this machine."""
    policy = "float32" if FLAGS.export_litert else hardware.precision()
    return {policy: name for name, policy in PRECISIONS.items()}[policy]


class Rule(NamedTuple):
    """What flags may not be together.

    Attributes:
        expected: What is expected, in words.
        received: Names of the flags that are to blame.
        broken: Whether they are together.
    """

    expected: str | Callable[[], str]
    received: tuple[str, ...]
    broken: Callable[[], bool]


def _trains_classifier() -> bool:
    """Whether the first stage learns from --loss."""
    return FLAGS.method != "dlsa" and first_stage_name() not in CONTRASTIVE


RULES = (
    Rule(
        lambda: (
            f"--stage2 to be one of {', '.join(STAGES[FLAGS.method])} with "
            f"--method={FLAGS.method}"
        ),
        ("stage2",),
        lambda: FLAGS.stage2 not in STAGES[FLAGS.method],
    ),
    Rule(
        "a --stage2 with --stage1_workdir",
        ("stage2",),
        lambda: (
            FLAGS.stage1_workdir is not None and second_stage_name() == "none"
        ),
    ),
    Rule(
        "--features_from=WORKDIR with --method=dlsa",
        ("features_from",),
        lambda: FLAGS.method == "dlsa" and FLAGS.features_from is None,
    ),
    Rule(
        "--llh_proportion between 0 and 1",
        ("llh_proportion",),
        lambda: FLAGS.method == "dlsa" and not 0 < FLAGS.llh_proportion < 1,
    ),
    Rule(
        "--dlsa_posterior_momentum of at least 0 and below 1",
        ("dlsa_posterior_momentum",),
        lambda: (
            FLAGS.method == "dlsa"
            and not 0 <= FLAGS.dlsa_posterior_momentum < 1
        ),
    ),
    Rule(
        "a loss with class weights for --drw_epoch, such as class_balanced",
        ("loss",),
        lambda: (
            FLAGS.drw_epoch is not None
            and _trains_classifier()
            and FLAGS.loss == "crossentropy"
        ),
    ),
    Rule(
        "a first stage with class weights for --drw_epoch, such as --stage1=ce",
        ("method", "stage1"),
        lambda: (
            FLAGS.drw_epoch is not None and first_stage_name() in CONTRASTIVE
        ),
    ),
    Rule(
        "--method=single with --drs_epoch or --mix",
        ("method",),
        lambda: (
            FLAGS.method == "dual_branch"
            and (FLAGS.drs_epoch is not None or FLAGS.mix != "none")
        ),
    ),
    Rule(
        "--mix=none where the first stage compares views of images",
        ("mix", "stage1"),
        lambda: FLAGS.mix != "none" and first_stage_name() in CONTRASTIVE,
    ),
    Rule(
        "a --loss with a linear classifier for --stage2=tau",
        ("loss",),
        lambda: FLAGS.stage2 == "tau" and FLAGS.loss == "ldam",
    ),
    Rule(
        lambda: (
            f"whole --stage2_epochs, at least 1, with --method={FLAGS.method}"
        ),
        ("stage2_epochs",),
        lambda: (
            FLAGS.method == "bns_ipdpp"
            and (FLAGS.stage2_epochs < 1 or FLAGS.stage2_epochs % 1 != 0)
        ),
    ),
    Rule(
        "--mixed_precision=none with --export_litert, which takes models that "
        "compute in float32",
        ("mixed_precision",),
        lambda: (
            FLAGS.export_litert
            and FLAGS.mixed_precision not in ("none", "auto")
        ),
    ),
    Rule(
        lambda: f"--width=1 with --backbone={FLAGS.backbone}",
        ("width",),
        lambda: FLAGS.width != 1 and FLAGS.backbone not in DEPTHS,
    ),
    Rule(
        "a backbone of keras_lt with --sync_batch_norm",
        ("backbone",),
        lambda: (
            FLAGS.sync_batch_norm and FLAGS.backbone not in (*DEPTHS, *NETWORKS)
        ),
    ),
    Rule(
        "a --backbone of keras.applications, such as ResNet50, with "
        "--weights=imagenet",
        ("backbone",),
        lambda: (
            FLAGS.weights == "imagenet"
            and FLAGS.backbone not in backbones.application_names()
        ),
    ),
    Rule(
        "--l2=0 with a KerasHub backbone, whose weights have no regularizers "
        "(--optimizer=adamw --weight_decay decays them)",
        ("l2",),
        lambda: FLAGS.l2 and FLAGS.backbone.startswith(KERASHUB),
    ),
)


def check() -> None:
    """Refuses flags that can't be together, before anything is computed.

    What depends on the data or on a model is left to `stages.rehearse`.

    Raises:
        ValueError: Naming them.
    """
    for flag in FLAGS.get_key_flags_for_module(__name__):
        if isinstance(flag.value, float) and not math.isfinite(flag.value):
            raise ValueError(
                f"Expected a finite number. Received: --{flag.name}="
                f"{flag.value}"
            )
    for rule in RULES:
        if not rule.broken():
            continue
        expected = rule.expected
        received = " ".join(
            f"--{name}={FLAGS[name].value}"
            for name in rule.received
            if FLAGS[name].value is not None
        )
        raise ValueError(
            f"Expected {expected if isinstance(expected, str) else expected()}."
            f" Received: {received or 'none'}"
        )


def second_stage_name() -> str:
    return "linear_probe" if FLAGS.method == "linear_probe" else FLAGS.stage2


def ends_on_features() -> bool:
    """Whether the last stage takes features, computed once: seconds, alone."""
    return FLAGS.method in ("dlsa", "linear_probe") or (
        FLAGS.method != "bns_ipdpp" and FLAGS.stage2 != "none"
    )


def first_stage_name(values=None) -> str:
    """What the first stage is, by the flags in effect or those given."""
    method = values["method"] if values else FLAGS.method
    if method in ("single", "dual_branch", "dlsa"):
        return method
    stage1 = values["stage1"] if values else FLAGS.stage1
    return "single" if stage1 == "ce" else stage1


def logit_counts(class_counts: np.ndarray) -> np.ndarray | None:
    """Images a class that the trained logits have as their prior, or shares.

    Those that the last stage drew, times the weights of its loss, with what
    the loss takes out of the logits already left out. None where the sampler
    can't say what it draws.
    """
    seen = class_counts > 0
    images = np.maximum(class_counts, 1)
    stage2 = second_stage_name()
    loss, sampling = FLAGS.loss, FLAGS.sampling
    weighted = loss.startswith("class_balanced") or FLAGS.drw_epoch is not None
    if FLAGS.drs_epoch is not None:
        sampling = "class_balanced"
    if FLAGS.method == "dual_branch":
        sampling = FLAGS.balanced_sampling
    if FLAGS.method == "dlsa":
        loss, sampling, weighted = FLAGS.dlsa_loss, "random", False
    elif stage2 in ("crt", "lws", "linear_probe"):
        loss, sampling = FLAGS.stage2_loss, FLAGS.stage2_sampling
        weighted = False
    elif stage2 != "none":
        loss, weighted = "crossentropy", False
        sampling = "random" if stage2 == "instance" else "class_balanced"
    if stage2 in ("ip_dpp", "random_balanced"):
        drawn = np.minimum(images, FLAGS.subset_size)
    else:
        sampler = samplers.get(sampling, total_steps=FLAGS.epochs)
        drawn = sampler.expected_counts(class_counts)
        if drawn is None:
            return None
        drawn = np.where(seen, drawn, 1)
    if weighted:
        drawn = drawn * counts.effective_number_weights(images, FLAGS.beta)
    with np.errstate(over="ignore", under="ignore"):
        if loss == "balanced_softmax":
            drawn = drawn / images
        elif loss == "logit_adjusted":
            drawn = drawn / images**FLAGS.tau
    if not (np.isfinite(drawn).all() and drawn[seen].all()):
        raise ValueError(
            "Expected a --tau that leaves each class a prior. "
            f"Received: --loss={loss} --tau={FLAGS.tau}"
        )
    return np.where(seen, drawn / drawn[seen].min(), 0.0)
