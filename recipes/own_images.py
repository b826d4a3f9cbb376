"""Settings for images of one's own, chosen where no flag gives them.

Published settings are for 50,000 images. What suits a folder of a thousand is
chosen here: from the number of images and classes, their sizes, whether the
backbone is pretrained, and how fast this machine is. What a user gives, on the
command line or in a flag file, always wins.
"""

import contextlib
import math
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flag_groups
import inputs
import keras
import numpy as np
import run as runs
import tensorflow as tf
from absl import flags

from keras_lt import classes, datasets, report, specs
from keras_lt.models import backbones, tuning

KINDS = ("folder:", "list:")  # values of --dataset that start so
# A ResNet of 310,000 parameters: 180 images/s of 64 pixels on two AVX2 cores.
SMALL_NETWORK = "resnet([(16,1),(32,1),(64,1),(128,1)])"
_LOOKED_AT = 64  # images whose sizes are read
_TIMED = 32  # images that are decoded to see how fast that is
_SECONDS = 240  # of a first training
_FEATURE_SECONDS = 120  # of one pass through a frozen backbone
_STEPS = (800, 3_000)  # fewest and most of a training from scratch
_HEAD = "cosine(scale=25,start='class_means',centered=True)"
_HEAD_STEPS = 600  # on features that are computed once: seconds
_HEAD_BATCH = 128
_SHORT_EPOCH = 25  # steps
_PATIENCE = 20  # seconds that a download of weights may be silent
_BALANCING = {"sampling", "drw_epoch", "auxiliary"}
_STEPPING = {"optimizer", "learning_rate"}
_OF_FIRST = ("image_size", "head", "loss")  # what goes on with a classifier
_BACKWARD = 4  # a training step over a forward pass, at most
_LAST_STAGES = 0.5  # the same, of last stages on what the others give


class Seen(NamedTuple):
    """What is known of the training images.

    Attributes:
        class_counts: Images per class.
        class_names: Names of the classes.
        side: Median of the shorter sides in pixels.
        gray: Share of the images that are gray.
        transparent: Share of the images that have transparent pixels.
        per_second: Images that this machine decodes per second.
    """

    class_counts: np.ndarray
    class_names: tuple[str, ...]
    side: float
    gray: float = 0.0
    transparent: float = 0.0
    per_second: float = math.inf

    @property
    def size(self) -> int:
        return int(np.sum(self.class_counts))


class Network(NamedTuple):
    """What is known of the backbone.

    Attributes:
        pretrained: Whether its weights were trained before.
        per_second: Images of `side` pixels through it per second.
        side: See there.
        weights: What --weights is to be, where that is to be chosen.
        why: How that is known.
        first: Flags of the run that --weights names, where it names one of the
            same classes on such images.
    """

    pretrained: bool
    per_second: float
    side: int
    weights: str | None = None
    why: str = ""
    first: Mapping[str, Any] = {}


class Choice(NamedTuple):
    """A flag that the user did not give, its value, and the reason for it."""

    flag: str
    value: Any
    reason: str


# --- The decisions: functions of what is known alone -------------------------


def choose(
    seen: Seen, network: Network, given: Mapping[str, Any]
) -> list[Choice]:
    """Returns the flags that suit these images, without those that are given.

    Args:
        seen: The training images.
        network: The backbone.
        given: {flag: value} of what the user gave.

    Returns:
        Choices, in the order in which they are told.
    """
    # A second branch and mixed images are for a backbone that is trained.
    is_trained = (
        not network.pretrained or "auxiliary" in given or "mix" in given
    )
    views = "head(views=4)" if "augment" in given else "head"
    tune = given.get("tune", "all" if is_trained else views)
    frozen = network.pretrained and _name(tune) == "head"
    # Views that the network, or its first stages, see once; None without.
    seen_once = getattr(tuning.get(tune), "views", None)
    found = []
    if network.weights is not None:
        found.append(Choice("weights", network.weights, network.why))
    if not network.pretrained:
        found.append(
            Choice(
                "backbone",
                SMALL_NETWORK,
                "no backbone was given: a small network learns from few images",
            )
        )
    elif frozen:
        found.append(
            Choice(
                "tune",
                tune,
                f"{network.why}: its features as they are give a first result "
                "in minutes",
            )
        )
    goes_on = bool(network.first) and _name(tune) not in ("all", "head")
    if goes_on:
        found += _as_first(network.first, given)
    else:
        found.append(_image_size(seen, network, frozen))
        found += _loss(seen, given)
    if seen_once != 0:  # images are seen more often
        found.append(_augment(seen))
    if frozen and "loss" not in given:
        found.append(
            Choice(
                "head",
                _HEAD,
                "starts from the mean features of each class, which are good "
                "where there are few images",
            )
        )
    if goes_on and _name(tune) == "after" and not _STEPPING & given.keys():
        found += _small_steps()
    else:
        found += _optimization(network, frozen, given)
    kept = seen_once is not None
    found += _length(seen, network, frozen, kept, given, found)
    found += _shots(seen.class_counts, given)
    return [choice for choice in found if choice.flag not in given]


def _as_first(
    first: Mapping[str, Any], given: Mapping[str, Any]
) -> list[Choice]:
    """What a run shares with the one whose classifier it goes on with."""
    reason = "as in the run of --weights, whose classifier goes on"
    return [
        Choice(name, first[name], reason)
        for name in _OF_FIRST
        if name != "loss" or not _BALANCING & given.keys()
    ]


def _small_steps() -> list[Choice]:
    """Chosen on a hold-out of 123 classes of fashion products."""
    return [
        Choice("optimizer", "sgd(momentum=0.9)", "goes on with what is good"),
        Choice("learning_rate", "cosine(0.05)", "falls to 0"),
        Choice(
            "backbone_learning_rate_factor",
            0.2,
            "so that pretrained weights stay useful",
        ),
    ]


def _name(spec: str) -> str:
    return next(iter(specs.parse_chain(spec))).name


def _image_size(seen: Seen, network: Network, frozen: bool) -> Choice:
    median = (
        "whole, since what is to be seen may be at a border; the median "
        f"shorter side is {seen.side:g} pixels"
    )
    if not network.pretrained:
        size = 64 if seen.side > 48 else 32
        return Choice("image_size", f"whole({size})", median)
    # Pretrained networks know objects of some size: small images are enlarged.
    enough = 128 if seen.side <= 128 else 224
    sizes = [size for size in (224, 192, 160, 128) if size <= enough]
    allowed = [
        size
        for size in sizes
        if seen.size / _speed(network, size) <= _FEATURE_SECONDS
    ]
    size = allowed[0] if allowed else sizes[-1]
    return Choice(
        "image_size",
        f"whole({size})",
        f"{median}, and this machine computes the features of "
        f"{_speed(network, size):,.0f} such images per second",
    )


def _speed(network: Network, side: int) -> float:
    return network.per_second * (network.side / side) ** 2


def _loss(seen: Seen, given: Mapping[str, Any]) -> list[Choice]:
    counts = seen.class_counts[seen.class_counts > 0]
    if _BALANCING & given.keys() or np.ptp(counts) == 0:
        return []
    return [
        Choice(
            "loss",
            "balanced_softmax",
            f"classes have from {counts.max():,} to {counts.min():,} images",
        )
    ]


def _augment(seen: Seen) -> Choice:
    crop = "random_resized_crop(0.5)"
    if all(len(name) == 1 for name in seen.class_names):
        return Choice(
            "augment",
            crop,
            "crops of half of the image at least; no flips, since the names "
            "of the classes are single characters, which have a direction",
        )
    return Choice(
        "augment",
        f"{crop}|pad_crop_flip(0)",
        "crops of half of the image at least, so that what is to be seen "
        "stays, and flips",
    )


def _optimization(
    network: Network, frozen: bool, given: Mapping[str, Any]
) -> list[Choice]:
    """An optimizer and its rate, which belong together."""
    if frozen:
        return _optimization_of_head(given)
    rate, reason = 0.002, "rises first, then falls to 0"
    if network.pretrained:
        rate, reason = 0.0002, "small, so that pretrained weights stay useful"
    if "sgd" in _name(given.get("optimizer", "adamw")):
        rate *= 10
    schedule = Choice("learning_rate", f"cosine({rate:g},warmup=2)", reason)
    if "learning_rate" in given:
        return []  # it is for the optimizer that the recipe has by default
    adamw = Choice(
        "optimizer",
        "adamw(weight_decay=0.05)",
        "learns at about the same rate whatever the network",
    )
    return [adamw, schedule]


def _optimization_of_head(given: Mapping[str, Any]) -> list[Choice]:
    if "learning_rate" in given:
        return []
    is_sgd = "sgd" in _name(given.get("optimizer", "sgd"))
    rate = "cosine(0.2)" if is_sgd else "cosine(0.002)"
    return [
        Choice("optimizer", "sgd(momentum=0.9)", "suits one layer"),
        Choice("learning_rate", rate, "falls to 0"),
    ]


def _length(
    seen: Seen,
    network: Network,
    frozen: bool,
    kept: bool,
    given: Mapping[str, Any],
    found: list[Choice],
) -> list[Choice]:
    """Steps count, not epochs: enough to learn, in minutes if possible."""
    batch = given.get("batch_size") or (
        _HEAD_BATCH if frozen else _batch_size(seen.size)
    )
    chosen = {choice.flag: choice.value for choice in found}
    image_size = given.get("image_size") or chosen["image_size"]
    side = inputs.size_of(image_size).side
    # Seconds of an image: once for what is kept of it, and at each step.
    decode, forward = 1 / seen.per_second, 1 / _speed(network, side)
    if frozen:
        once, each, steps = decode + forward, 0.0, _HEAD_STEPS
    elif kept:
        once, each, steps = decode + forward, _LAST_STAGES * forward, _STEPS[0]
    else:
        once, each = 0.0, decode + _BACKWARD * forward
        steps = min(max(_SECONDS / (each * batch), _STEPS[0]), _STEPS[1])
    per_epoch = max(1, round(seen.size / batch))
    choices = [
        Choice("batch_size", batch, f"{seen.size:,} training images"),
    ]
    if given.get("steps_per_epoch"):
        per_epoch = given["steps_per_epoch"]
    elif "epochs" not in given and per_epoch < _SHORT_EPOCH:
        choices.append(
            Choice(
                "steps_per_epoch",
                _SHORT_EPOCH,
                f"once through the images takes {per_epoch} steps",
            )
        )
        per_epoch = _SHORT_EPOCH
    # Of many images a few passes are enough, however long they take.
    epochs = max(math.ceil(steps / per_epoch), 5)
    minutes = (seen.size * once + epochs * per_epoch * batch * each) / 60
    choices.append(
        Choice(
            "epochs",
            epochs,
            f"{epochs * per_epoch:,} steps, which take about "
            f"{max(minutes, 1):.0f} min on this machine",
        )
    )
    return choices


def _batch_size(images: int) -> int:
    return 32 if images < 10_000 else 64 if images < 50_000 else 128


def _shots(counts: np.ndarray, given: Mapping[str, Any]) -> list[Choice]:
    """Thresholds that leave no shot group empty, where the usual ones would."""
    counts = np.sort(counts[counts > 0])
    usual = counts[-1] > 100 and counts[0] < 20
    is_given = "many_shot" in given or "few_shot" in given
    if usual or is_given or counts[-1] - counts[0] < 2:
        return []
    low, high = np.quantile(counts, [1 / 3, 2 / 3], method="nearest")
    few = max(int(low), int(counts[0]) + 1)
    many = max(min(int(high), int(counts[-1]) - 1), few)
    reason = "about a third of the classes in each shot group"
    return [
        Choice("many_shot", many, reason),
        Choice("few_shot", few, reason),
    ]


# --- What is known -----------------------------------------------------------


def look_at(train: datasets.FileDataset) -> Seen:
    """Reads the sizes of some images, and decodes a few."""
    generator = np.random.default_rng(0)
    chosen = generator.permutation(len(train))[:_LOOKED_AT]
    sizes, gray, transparent = [], 0, 0
    for index in chosen:
        try:
            image = datasets.read_image(
                train.read(index), channels=4, max_pixels=train.max_pixels
            )
        except (OSError, datasets.BadImageError):
            continue  # whoever trains on it says so
        sizes.append(min(image.shape[:2]))
        colors = image[..., :3]
        gray += bool((np.ptp(colors, axis=-1) == 0).all())
        transparent += bool((image[..., 3] < 255).any())
    return Seen(
        train.class_counts,
        train.class_names,
        float(np.median(sizes)) if sizes else 224.0,
        gray / max(len(sizes), 1),
        transparent / max(len(sizes), 1),
        _decoded_per_second(train, chosen[:_TIMED]),
    )


def _decoded_per_second(
    train: datasets.FileDataset, indices: np.ndarray
) -> float:
    started = time.perf_counter()
    try:
        train.images[np.sort(indices)]
    except (OSError, ValueError):
        return math.inf
    return len(indices) / max(time.perf_counter() - started, 1e-6)


def look_at_network(
    values: flags.FlagValues, class_names: Sequence[str], measured: bool
) -> Network:
    """Makes the backbone that the flags ask for, and times it.

    Args:
        values: The flags of the recipe.
        class_names: Names of the classes, by label id.
        measured: Whether speed is measured; all processes of a training have
            to choose the same, so several of them take a usual speed.
    """
    given = values["backbone"].present
    spec = specs.parse(values.backbone if given else SMALL_NETWORK)
    is_application = spec.name in backbones.application_names()
    weights, why = values.weights, "--weights are given"
    side = 128 if is_application or ":" in spec.name else 64

    def make(weights: str | None) -> keras.Model:
        return backbones.BACKBONES.get(
            spec,
            given={"weights": weights} if weights and is_application else {},
            input_shape=(side, side, 3),
            mean=[127.5] * 3,
            variance=[127.5**2] * 3,
        )

    chosen = None
    if is_application and weights is None and "weights" not in spec.keywords:
        try:
            with _impatient():
                made, chosen = make("imagenet"), "imagenet"
            why = f"{spec.name} has weights that were trained on ImageNet"
        except OSError:
            made = make(None)
            print(
                f"{spec.name} starts from random weights: those of ImageNet "
                "are not in Keras' cache and can't be downloaded. With a "
                "network connection, or a file that --weights names, a few "
                "hundred images are enough for a good result; without them "
                "they are not."
            )
    else:
        made = make(weights)
    pretrained = bool(weights or chosen)
    if not pretrained and backbones.is_trained(made):
        pretrained, why = True, f"the weights of {spec.name} are trained"
    speed = _forward_per_second(made, side) if measured else 200.0
    first = _first_of(weights, class_names)
    return Network(pretrained, speed, side, chosen, why, first)


def _first_of(
    weights: str | None, class_names: Sequence[str]
) -> Mapping[str, Any]:
    """Flags of a run that one of these classes may go on with."""
    path = Path(weights or "") / "result.json"
    if not path.is_file():
        return {}
    record = report.Record.read(path)
    found = {name: record.flags.get(name) for name in _OF_FIRST}
    is_same = not classes.difference(record.classes.names, class_names)
    return found if is_same and all(found.values()) else {}


@contextlib.contextmanager
def _impatient() -> Iterator[None]:
    """A network that does not answer is as good as none."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_PATIENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _forward_per_second(backbone: keras.Model, side: int) -> float:
    images = tf.zeros((16, side, side, 3), tf.uint8)
    forward = tf.function(lambda images: backbone(images, training=False))
    forward(images)  # compiles it
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        forward(images)
        seconds.append(time.perf_counter() - started)
    return len(images) / max(min(seconds), 1e-6)


# --- Flags -------------------------------------------------------------------


def complete(
    values: flags.FlagValues, strategy: tf.distribute.Strategy
) -> tuple[dict[str, str], inputs.Data | None]:
    """Gives flags that suit own images to those that the user did not give.

    A run that goes on keeps what was chosen when it began.

    Args:
        values: The flags of the recipe, which are changed.
        strategy: Of the run.

    Returns:
        {flag: reason} of what was chosen, and the images, if they were looked
        at for that: a large folder is listed once.
    """
    kept = None if values.overwrite else _of_run(values)
    if kept is not None or values.eval_only:
        return kept or {}, None
    given = {
        name: values[name].value for name in values if values[name].present
    }
    data = inputs.load_data(
        inputs.DataSettings(**flag_groups.of_group(values, "data"))
    )
    train = data.train
    present = np.flatnonzero(train.class_counts)
    if len(present) < 2:
        raise ValueError(
            "Expected training images of two classes at least. Received: "
            f"{values.dataset}, all of class {train.class_names[present[0]]!r}"
        )
    seen = look_at(train)
    processes = getattr(strategy.extended, "_num_workers", 1)
    if processes > 1:
        seen = seen._replace(per_second=500.0)
    network = look_at_network(
        values, train.class_names, measured=processes == 1
    )
    keras.utils.set_random_seed(values.seed)  # as if nothing had been made
    choices = choose(seen, network, given)
    for choice in choices:
        flag = values[choice.flag]
        is_spec = isinstance(flag.parser, flag_groups.SpecParser)
        flag.value = (
            str(specs.parse_chain(choice.value)) if is_spec else choice.value
        )
    _say(seen, choices)
    reasons = {choice.flag: choice.reason for choice in choices}
    return reasons, inputs.at_size(data, inputs.size_of(values.image_size))


def _of_run(values: flags.FlagValues) -> dict[str, str] | None:
    """Takes what an earlier start chose, if there was one."""
    path = values.workdir
    if path is None and values.checkpoint:
        path = Path(values.checkpoint).parent
    if path is None or not (Path(path) / "flags.cfg").is_file():
        return None
    chosen = runs.chosen_of_run(path)
    for name in chosen:
        if name in values and not values[name].present:
            values[name].value = values[name].parser.parse(
                runs.flag_of_run(path, name)
            )
    return chosen


def _say(seen: Seen, choices: list[Choice]) -> None:
    kinds = {"gray": seen.gray, "transparent": seen.transparent}
    for kind, share in kinds.items():
        if share:
            told = ", and lose what shines through" * (kind == "transparent")
            print(f"{share:.0%} of the images are {kind}{told}.")
    if choices:
        print("Chosen, where no flag says otherwise:")
    for choice in choices:
        print(f"  --{choice.flag}={choice.value}: {choice.reason}")
