"""Flags by groups, of which each recipe declares those that it needs.

    FLAGS = flag_groups.declare("data", "scores", "training", "running")

Each recipe has flags of its own, so that absl refuses what it does not know.
Nothing here may import keras_lt, Keras or TensorFlow (see `command`): the
choices that flags list are compared with the library's in a test.
"""

import ast
import re
from collections.abc import Iterable
from typing import Any

from absl import flags

PRECISIONS = {
    "none": "float32",
    "bfloat16": "mixed_bfloat16",
    "float16": "mixed_float16",
}
MAX_PIXELS = 100_000_000
# A run may change these between its starts, and no other flag.
NOT_COMPARED = (
    "data_dir",
    "image_root",
    "on_bad_image",
    "max_pixels",
    "allow_outside_root",
    "strategy",
    "devices",
    "workdir",
    "from",
    "overwrite",
    "eval_only",
    "export_litert",
    "checkpoint",
    "checkpoint_epochs",
    "checkpoint_steps",
    "checkpoint_minutes",
    "keep_checkpoints",
    "skip_nonfinite",
    "traceback",
    "help",
)


class SizeParser(flags.ArgumentParser):
    """A side in pixels, N or whole(N)."""

    syntactic_help = "a positive integer N, or whole(N)"

    def parse(self, argument: int | str) -> int | str:
        found = re.fullmatch(
            r"(?P<whole>whole\()?\s*(?P<side>[0-9]{1,6})\s*(?(whole)\))",
            str(argument).strip(),
        )
        if not found or not int(found["side"]):
            raise ValueError(f"Expected {self.syntactic_help}")
        side = int(found["side"])
        return f"whole({side})" if found["whole"] else side


class SpecParser(flags.ArgumentParser):
    """Refuses what is no `name(argument, key=value)|...` by its syntax.

    Names and arguments are looked up when `keras_lt.specs` is imported.
    """

    syntactic_help = "name(argument, key=value)"

    def parse(self, argument: str) -> str:
        # For Python's syntax a module's name ends by a point.
        source = re.sub(r"(?<=\w):(?=\w)", ".", argument).strip()
        try:
            ast.parse(source, mode="eval")
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise ValueError(
                f"Expected {self.syntactic_help} ({error.args[0]})"
            ) from error
        return argument


class Definer:
    """Declares the flags of one group.

    Args:
        values: The flags of the recipe.
        title: Title of the group in --help.
    """

    def __init__(self, values: flags.FlagValues, title: str):
        self._where = {"flag_values": values, "module_name": title}

    def string(self, name: str, default: str | None, text: str) -> None:
        flags.DEFINE_string(name, default, text, **self._where)

    def spec(self, name: str, default: str | None, text: str) -> None:
        """A choice as text; see `keras_lt.specs`."""
        serializer = flags.ArgumentSerializer()
        parser = SpecParser()
        flags.DEFINE(
            parser, name, default, text, serializer=serializer, **self._where
        )

    def enum(
        self, name: str, default: str | None, choices: Iterable[str], text: str
    ) -> None:
        flags.DEFINE_enum(name, default, [*choices], text, **self._where)

    def boolean(self, name: str, default: bool | None, text: str) -> None:
        flags.DEFINE_bool(name, default, text, **self._where)

    def integer(
        self, name: str, default: int | None, text: str, least: int | None = 1
    ) -> None:
        flags.DEFINE_integer(
            name, default, text, lower_bound=least, **self._where
        )

    def size(self, name: str, default: int | None, text: str) -> None:
        serializer = flags.ArgumentSerializer()
        flags.DEFINE(
            SizeParser(),
            name,
            default,
            text,
            serializer=serializer,
            **self._where,
        )

    def real(
        self,
        name: str,
        default: float | None,
        text: str,
        least: float | None = 0.0,
        most: float | None = None,
    ) -> None:
        flags.DEFINE_float(name, default, text, least, most, **self._where)


def declare(*groups: str) -> flags.FlagValues:
    """Returns the flags of some groups, and --help.

    Args:
        *groups: Names of groups, in the order of --help.
    """
    values = flags.FlagValues()
    for group in groups:
        title, define = _GROUPS[group]
        define(Definer(values, title))
    Definer(values, "Help").boolean("help", False, "Show these flags.")
    return values


def of_group(values: flags.FlagValues, *groups: str) -> dict[str, Any]:
    """Returns {name: value} of the flags of some groups."""
    titles = [_GROUPS[group][0] for group in groups]
    return {
        flag.name: flag.value
        for title in titles
        for flag in values.flags_by_module_dict()[title]
    }


def compared(values: flags.FlagValues) -> list[flags.Flag]:
    """Returns the flags that a run must share with the one it goes on with."""
    return [values[name] for name in values if name not in NOT_COMPARED]


def specs(values: flags.FlagValues) -> list[flags.Flag]:
    """Returns the flags that are specs."""
    return [
        values[name]
        for name in values
        if isinstance(values[name].parser, SpecParser)
    ]


def _data(define: Definer) -> None:
    define.string(
        "dataset",
        "cifar10",
        "Images and labels: digits, folder:PATH (of PATH/train/CLASS/*.jpg and "
        "the like), list:FILE (of paths and labels), or the name of a TFDS "
        "data set.",
    )
    define.string(
        "data_dir",
        None,
        "Folder of prepared TFDS data sets; by default that of TFDS.",
    )
    define.string(
        "image_root",
        None,
        "Folder that the paths of list:FILE start from; by default that of "
        "FILE.",
    )
    define.size(
        "image_size",
        None,
        "Height and width of images; by default 224 of those that are decoded "
        "from files, and that of others. whole(224) squeezes images of another "
        "size into the square where 224 cuts out its center.",
    )
    define.enum(
        "on_bad_image",
        "fail",
        ("fail", "replace"),
        "What to do about a file that can't be decoded: fail, naming it, or "
        "replace it by the next image of its class and count it.",
    )
    define.integer(
        "max_pixels",
        MAX_PIXELS,
        "Images of more pixels count as files that can't be decoded.",
    )
    define.boolean(
        "allow_outside_root",
        False,
        "Allow symbolic links and paths of list:FILE that lead out of the "
        "folder of the images.",
    )
    define.string(
        "test_split",
        None,
        "Split of the data set to test on; test by default. left_out: a tenth "
        "of each class, of training images that --imbalance_factor leaves out "
        "(the largest classes lose some), to compare methods and choose "
        "settings without the test set.",
    )
    define.real(
        "test_fraction",
        None,
        "Fraction of each class to test on where folder: or list: has no test "
        "split; 0.2 by default.",
        most=0.9,
    )
    define.real(
        "imbalance_factor",
        None,
        "Cut the training set so that its largest class has this many times "
        "the images of its smallest; by default it is left as it is.",
        least=1.0,
    )
    define.enum(
        "profile",
        "exp",
        ("exp", "step"),
        "Shape of the fall of class counts from head to tail: exp falls "
        "exponentially, step in one step.",
    )
    define.enum(
        "selection",
        "nested",
        ("nested", "ldam"),
        "Which images of a class stay: ours, or those that the LDAM-DRW code "
        "selects.",
    )
    define.integer(
        "split_seed",
        0,
        "Seed that selects the images of the cut, of the hold-out and of a "
        "test set that folder: or list: does not have.",
        least=None,
    )
    define.real(
        "holdout",
        0.0,
        "Fraction of the training set to hold out, for curves and the best "
        "epoch.",
        most=0.9,
    )


def _scores(define: Definer) -> None:
    define.integer(
        "many_shot",
        100,
        "Classes with more training images are many-shot.",
        least=None,
    )
    define.integer(
        "few_shot",
        20,
        "Classes with fewer training images are few-shot.",
        least=None,
    )


def _curves(define: Definer) -> None:
    define.boolean(
        "test_curve",
        False,
        "Score the test set after each epoch too, to draw its curve. Nothing "
        "is chosen by it.",
    )


def _augmentation(define: Definer) -> None:
    define.spec(
        "augment",
        None,
        "Augmentation of training images: pad_crop_flip, rand_augment, "
        "auto_augment, cutout or package.module:name, joined by |, or none; "
        "random_resized_crop(min_area) as the first cuts images from files. By "
        "default pad_crop_flip(4); chosen for folder: and list:.",
    )


def _mixing(define: Definer) -> None:
    define.spec(
        "mix",
        None,
        "How each training image is mixed with another one: mixup(alpha), "
        "remix(alpha), cutmix(alpha) or package.module:name; by default not "
        "at all.",
    )


def _model(define: Definer) -> None:
    define.spec(
        "backbone",
        "cifar_resnet(32)",
        "Network: cifar_resnet(depth,width), cifar_cnn(widths), "
        "cifar_resnet18, resnet10, resnext50, the name of a model in "
        "keras.applications such as ResNet50, kerashub('FOLDER') or "
        "package.module:name.",
    )
    define.string(
        "weights",
        None,
        "Where the backbone's weights start: imagenet (keras.applications; "
        "downloaded), the workdir of a finished run with the same backbone, a "
        ".keras file, or a .weights.h5 file of the backbone; by default at "
        "random.",
    )
    define.spec(
        "tune",
        "all",
        "What is trained: all; head, the classifier on features of a frozen "
        "backbone, which are computed once (head(views=4): of four augmented "
        "views of each image); "
        "after('NAME'), all but the layers up to the last one whose name "
        "starts so, such as stage2 of our ResNets or conv3 of those of "
        "keras.applications (after('NAME', views=0): what these give is "
        "computed once too); norm_and_bias; lora(rank, layers); "
        "adapters(width) of KerasHub's transformers; or package.module:name. "
        "Frozen batch statistics stay too.",
    )
    define.real(
        "l2",
        0.0,
        "Factor of the squared norm of all weights in the loss, for optimizers "
        "without a weight decay: --l2=1e-4 is a weight decay of 2e-4.",
    )
    define.boolean(
        "sync_batch_norm",
        False,
        "Normalize by the statistics of the global batch, not by those of a "
        "device's part of it.",
    )


def _loss(define: Definer) -> None:
    define.spec(
        "loss",
        "crossentropy",
        "Loss: crossentropy, class_balanced(beta), class_balanced_sigmoid, "
        "class_balanced_focal(beta,gamma), focal(gamma), ldam(max_margin), "
        "balanced_softmax, logit_adjusted(tau), label_aware_smoothing, one of "
        "Keras or package.module:Name.",
    )
    define.spec(
        "head",
        "auto",
        "Classifier: auto suits the loss, linear(start,prompt), "
        "cosine(scale,learnable,start,centered,prompt) or package.module:Name. "
        "start='class_means' begins at the mean features of each class, "
        "'text' at those of prompt='a photo of a {}.' where the backbone takes "
        "texts (CLIP), 'random' at neither.",
    )
    define.spec(
        "sampling",
        "random",
        "How images are drawn: random, class_balanced, square_root, reversed, "
        "progressive, half_balanced, switched(before,after,epoch) or "
        "package.module:name.",
    )
    define.integer(
        "drw_epoch",
        None,
        "First epoch in which the class weights of --loss count (deferred "
        "re-weighting); by default all.",
        least=0,
    )


def _auxiliary(define: Definer) -> None:
    define.spec(
        "auxiliary",
        None,
        "What a second branch learns on the same backbone: classifier, "
        "rotation, contrastive or package.module:Name, joined by |; each takes "
        "a weight, such as rotation(weight=linear(1.0)). By default there is "
        "no second branch.",
    )
    define.spec(
        "auxiliary_sampling",
        None,
        "How images of the auxiliary branch are drawn, as --sampling; random "
        "by default.",
    )
    define.spec(
        "auxiliary_augment",
        None,
        "Augmentation of the images of the auxiliary branch, as --augment; "
        "that of --augment by default.",
    )
    define.boolean(
        "joint_forward",
        False,
        "Pass the images of both branches through the backbone as one batch.",
    )


def _optimization(define: Definer) -> None:
    define.spec(
        "optimizer",
        "sgd(momentum=0.9,weight_decay=2e-4)",
        "Optimizer: sgd (PyTorch's form), muon (orthogonal steps of "
        "convolutions), adamw, keras_sgd and keras_muon (Keras' own), another "
        "one of Keras, or package.module:Name; then, if wanted, "
        "|sharpness_aware(rho), with two passes per step, and "
        "|averaged(momentum) over the steps: the averaged weights are scored "
        "and saved.",
    )
    define.spec(
        "learning_rate",
        "warmup_step(0.1,[160,180],[0.01,0.0001])",
        "Learning rate: a number, warmup_step(rate,epochs,factors,warmup=5), "
        "cosine(rate,warmup=5), linear(rate) or package.module:name. Warm-up "
        "and steps are in epochs.",
    )
    define.real(
        "backbone_learning_rate_factor",
        1.0,
        "Factor of the backbone's learning rate, for --optimizer=sgd or adamw.",
    )


def _steps(define: Definer) -> None:
    define.integer("epochs", 200, "Epochs of the training.")
    define.integer(
        "batch_size",
        128,
        "Images per step, over all devices. A second branch takes as many "
        "again.",
    )
    define.integer(
        "steps_per_epoch",
        None,
        "Steps per epoch; by default the number of training images over "
        "--batch_size.",
    )


def _seed(define: Definer) -> None:
    define.integer(
        "seed",
        0,
        "Seed of initial weights, sampling and augmentation.",
        least=None,
    )


def _running(define: Definer) -> None:
    define.string(
        "workdir", None, "Folder of the run, which receives all it writes."
    )
    define.boolean(
        "overwrite", False, "Start anew, deleting the run in --workdir."
    )
    define.enum(
        "mixed_precision",
        "auto",
        ("auto", *PRECISIONS),
        "16-bit type to compute in. auto takes what is fast on this machine: "
        "bfloat16 or float16 where the processor has it in hardware, none "
        "elsewhere and with --export_litert. A run that goes on keeps its own.",
    )
    define.boolean("jit_compile", False, "Compile training steps by XLA.")
    define.boolean(
        "deterministic",
        False,
        "Refuse operations whose results differ from run to run.",
    )
    define.boolean(
        "export_litert", False, "Write model.tflite too, for LiteRT."
    )
    define.boolean("traceback", False, "Show where in the code an error arose.")


def _devices(define: Definer) -> None:
    define.enum(
        "strategy",
        "none",
        ("none", "mirrored", "multi_worker", "tpu", "auto"),
        "Devices to train on: one; the GPUs of this machine (mirrored); those "
        "of several machines, by TF_CONFIG or Slurm (multi_worker); a TPU; or "
        "what there is (auto).",
    )
    define.integer(
        "devices",
        None,
        "Devices of this machine that take part; by default all GPUs. Without "
        "GPUs the CPU counts as so many.",
    )


def _fitting(define: Definer) -> None:
    define.integer(
        "max_steps", None, "Stop after so many steps, as for a smoke test."
    )
    define.integer(
        "skip_nonfinite",
        None,
        "Skip up to so many steps whose loss or gradients are NaN or infinite; "
        "by default the first one ends the run.",
    )
    define.integer("checkpoint_epochs", 1, "Epochs between checkpoints.")
    define.integer(
        "checkpoint_steps", None, "Steps between checkpoints within an epoch."
    )
    define.real(
        "checkpoint_minutes",
        10.0,
        "Minutes between checkpoints within an epoch.",
        least=None,
    )
    define.integer(
        "keep_checkpoints", 2, "Number of checkpoints to keep, the best aside."
    )


def _from(define: Definer) -> None:
    define.string(
        "from",
        None,
        "Workdir of the finished run to start from. Settings of the data, shot "
        "thresholds and the seed are those of that run, where no flag says "
        "otherwise. In a flag file, @NAME is the run that tools/sweep.py makes "
        "first.",
    )


def _evaluation(define: Definer) -> None:
    define.spec(
        "tta",
        "none",
        "Views of an image whose logits are averaged, in test scores and in "
        "what is exported: none, flip, five_crop or package.module:name.",
    )
    define.boolean(
        "eval_only",
        False,
        "Score --checkpoint on the test set, and write nothing.",
    )
    define.string(
        "checkpoint",
        None,
        "File to score with --eval_only, model.keras or .weights.h5; by "
        "default the model.keras of --workdir.",
    )


_GROUPS = {
    "from": ("First stage", _from),
    "data": ("Data", _data),
    "scores": ("Scores", _scores),
    "curves": ("Curves", _curves),
    "augmentation": ("Augmentation", _augmentation),
    "mixing": ("Mixing", _mixing),
    "model": ("Model", _model),
    "loss": ("Loss and sampling", _loss),
    "auxiliary": ("Auxiliary branch", _auxiliary),
    "optimization": ("Optimization", _optimization),
    "steps": ("Steps", _steps),
    "seed": ("Seed", _seed),
    "running": ("Running", _running),
    "devices": ("Devices", _devices),
    "fitting": ("Checkpoints and steps", _fitting),
    "evaluation": ("Evaluation", _evaluation),
}
