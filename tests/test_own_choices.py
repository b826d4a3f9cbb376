"""What is chosen for images of one's own, and what is said of a failure."""

import json

import inputs
import learning
import numpy as np
import own_images
import pictures
import predict
import pytest
import recipe
import tensorflow as tf
from own_images import Network, Seen
from PIL import Image

from keras_lt import counts, preprocessing, report
from keras_lt.datasets import sources
from keras_lt.models import backbones

GRAY = Seen(
    np.array([761, 92, 82, 68, 45, 25]),
    ("free", "hole", "crack", "fray", "break", "uneven"),
    side=250.0,
    per_second=500.0,
)
SLOW = Network(False, 500.0, 64)
TRAINED = Network(True, 150.0, 128, why="trained")


def chosen(seen=GRAY, network=SLOW, **given):
    choices = own_images.choose(seen, network, given)
    found = {choice.flag: choice.value for choice in choices}
    assert len(found) == len(choices) and not found.keys() & given.keys()
    assert all(choice.reason for choice in choices)
    return found


def test_from_scratch():
    found = chosen()
    assert found["backbone"] == own_images.SMALL_NETWORK
    assert found["image_size"] == "whole(64)" and found["batch_size"] == 32
    assert found["loss"] == "balanced_softmax"
    assert found["optimizer"].startswith("adamw")
    assert "tune" not in found and "weights" not in found
    # 1,073 images are 34 steps, of which 240 s allow as many as take
    # 32 / 500 + 32 * 4 / 500 s each: 750, below the 800 that learning takes.
    assert found["epochs"] == -(-800 // 34)
    assert chosen(image_size=32)["epochs"] > found["epochs"]


def test_steps_do_not_depend_on_the_number_of_images_alone():
    tiny = GRAY._replace(class_counts=np.array([20, 9, 4]))
    for network in (SLOW, SLOW._replace(per_second=5.0)):
        found = chosen(tiny, network)
        # 33 images are a step an epoch, so an epoch is made longer.
        assert found["steps_per_epoch"] == 25
        assert found["epochs"] * 25 >= 800
    fast = chosen(tiny, SLOW._replace(per_second=1e6), batch_size=4)
    assert fast["epochs"] * 25 >= 3_000
    assert "batch_size" not in fast
    assert "steps_per_epoch" not in chosen(tiny, epochs=2)  # of 2 passes
    large = GRAY._replace(class_counts=np.full(1_000, 1_000))
    assert chosen(large)["epochs"] == 5 and chosen(large)["batch_size"] == 128
    assert "loss" not in chosen(large)  # its classes are equal


def test_with_a_pretrained_backbone():
    given = {"backbone": "my:net"}
    found = chosen(network=TRAINED, **given)
    assert found["tune"] == "head"
    # 1,073 images of 224 pixels take 22 s at 150 * (128 / 224)^2 per second.
    assert found["image_size"] == "whole(224)"
    slow = TRAINED._replace(per_second=10.0)
    assert chosen(network=slow, **given)["image_size"] == "whole(128)"
    small = GRAY._replace(side=30.0)
    assert chosen(small, TRAINED, **given)["image_size"] == "whole(128)"
    # Features are computed once: without augmentation, or in several views.
    assert found["head"].startswith("cosine") and "augment" not in found
    views = chosen(network=TRAINED, augment="cutout(4)", **given)
    assert views["tune"] == "head(views=4)"
    assert "tune" not in chosen(network=TRAINED, mix="mixup(1.0)", **given)
    assert "head" not in chosen(network=TRAINED, loss="ldam", **given)
    # Weights that are trained further take small steps.
    whole = chosen(network=TRAINED, tune="all", **given)
    assert whole["learning_rate"] == "cosine(0.0002,warmup=2)"
    assert "tune" not in chosen(network=TRAINED, auxiliary="rotation", **given)
    imagenet = TRAINED._replace(weights="imagenet")
    assert chosen(network=imagenet, **given)["weights"] == "imagenet"


def test_tuning_goes_on_with_a_run():
    first = {
        "head": "cosine(scale=25)",
        "image_size": "whole(160)",
        "loss": "ldam",
        "optimizer": "sgd(momentum=0.9)",
    }
    network = TRAINED._replace(first=first)
    given = {"backbone": "my:net", "weights": "runs/first"}
    found = chosen(network=network, tune="after('b14',views=0)", **given)
    assert {found[name] for name in ("head", "image_size", "loss")} == {
        *("cosine(scale=25)", "whole(160)", "ldam")
    }
    assert found["learning_rate"] == "cosine(0.05)"
    assert found["backbone_learning_rate_factor"] == 0.2
    assert "augment" not in found  # what the kept layers give is there once
    # 34 steps per epoch. At 150 * (128 / 160)^2 images per second all images
    # take 1,073 / 96 s once and those of the steps half of that each time.
    assert found["epochs"] == 24
    (reason,) = (
        choice.reason
        for choice in own_images.choose(
            GRAY, network, {"tune": "after('b14',views=0)", **given}
        )
        if choice.flag == "epochs"
    )
    minutes = (1_073 * (1 / 96 + 1 / 500) + 24 * 34 * 32 * 0.5 / 96) / 60
    assert f"816 steps, which take about {minutes:.0f} min" in reason
    balanced = chosen(
        network=network, tune="after('b14')", auxiliary="classifier", **given
    )
    assert "loss" not in balanced and "augment" in balanced
    adam = chosen(
        network=network, tune="after('b14')", optimizer="adamw", **given
    )
    assert adam["learning_rate"] == "cosine(0.0002,warmup=2)"
    for tune in ("all", "head"):  # these start a classifier of their own
        anew = chosen(network=network, tune=tune, **given)
        assert anew.get("head") != "cosine(scale=25)"
    lora = chosen(network=network, tune="lora(2)", **given)
    assert lora["head"] == "cosine(scale=25)" and "augment" in lora
    assert "backbone_learning_rate_factor" not in lora


def test_what_is_given_changes_what_goes_with_it():
    assert "optimizer" not in chosen(learning_rate="0.1")
    sgd = chosen(optimizer="sgd(momentum=0.9)")
    assert sgd["learning_rate"] == "cosine(0.02,warmup=2)"
    for name in ("sampling", "auxiliary", "drw_epoch"):
        assert "loss" not in chosen(**{name: "class_balanced"})


def test_characters_are_not_flipped():
    assert "flip" in chosen()["augment"]
    letters = GRAY._replace(class_names=tuple("ABCDEF"))
    assert "flip" not in chosen(letters)["augment"]


@pytest.mark.parametrize(
    "images",
    [[900, 50, 3], [40, 20, 9, 5], [500, 400, 300], [12, 10], [9, 9, 8, 5, 1]],
)
def test_shot_groups_are_not_empty(images):
    class_counts = np.array(images)
    found = chosen(GRAY._replace(class_counts=class_counts))
    many, few = found.get("many_shot", 100), found.get("few_shot", 20)
    groups = counts.Classes(class_counts, many=many, few=few).groups
    assert groups["many"].any() and groups["few"].any()
    assert "many_shot" not in chosen(few_shot=3)


# --- A training that learned nothing -----------------------------------------


def said(labels, predicted, classes, steps=1_000, losses=(2.0, 1.9)):
    return learning.warning(
        np.asarray(labels),
        np.asarray(predicted),
        classes,
        steps=steps,
        history={"loss": losses},
        flags={"optimizer": "adamw"},
    )


@pytest.mark.parametrize("classes", [2, 6, 100, 1_000])
@pytest.mark.parametrize("each", [1, 20])
def test_guesses_are_told_from_learning(classes, each):
    generator = np.random.default_rng(classes)
    labels = np.repeat(np.arange(classes), each)
    told = sum(
        said(labels, generator.integers(0, classes, len(labels)), classes)
        is not None
        for _ in range(100)
    )
    assert told >= 80 or classes * each < 10
    constant = said(labels, np.zeros_like(labels), classes)
    assert f"guessing has {1 / classes:.1%}" in constant
    assert "the same class" in constant
    # Half of the way from chance to 1 is something.
    right = generator.permutation(len(labels)) < round(len(labels) * 0.75)
    half = np.where(right, labels, (labels + 1) % classes)
    if len(labels) > 4:
        assert said(labels, half, classes) is None
    assert said(labels, labels, classes) is None


def test_advice_goes_by_what_happened():
    labels = np.repeat([0, 1, 2], 30)
    constant = np.zeros_like(labels)
    assert "raise --epochs" in said(labels, constant, 3, steps=20)
    text = said(labels, constant, 3, losses=(1.5, 1.5, 1.1))
    assert "1.5 in the first epoch and 1.1" in text
    assert text.index("--learning_rate") < text.index("--backbone")
    assert said(labels[:9], constant[:9], 3) is None  # one class alone


def test_samples_hold_all_classes():
    labels = np.repeat([0, 1, 2], [5_000, 400, 3])
    chosen = labels[learning.sample(labels)]
    assert np.bincount(chosen).tolist() == [333, 333, 3]
    assert len(learning.sample(np.arange(9_000))) == 500


# --- The recipe --------------------------------------------------------------


def test_pretrained_weights_are_known_by_their_statistics():
    backbone = backbones.cifar_resnet(8)
    assert not backbones.is_trained(backbone)
    layer = next(x for x in backbone.layers if hasattr(x, "moving_mean"))
    layer.moving_mean.assign(np.arange(16.0))
    assert backbones.is_trained(backbone)


def test_tuning_after_one_command(tmp_path, monkeypatch, capsys):
    """The second one needs no other flag than what to tune, and of what."""
    recipe.leave_out_pages(monkeypatch)
    photos = pictures.write_folder(tmp_path / "photos")
    first, second, other = (tmp_path / name for name in "abc")

    def run(workdir, *flags):
        assert not recipe.run(
            monkeypatch,
            f"--dataset=folder:{photos}",
            "--on_bad_image=replace",
            "--backbone=cifar_resnet(8)",
            "--max_steps=2",
            f"--workdir={workdir}",
            *flags,
        )
        return report.Record.read(workdir / "result.json").flags

    head = "cosine(scale=16,start='class_means',centered=True)"
    began = run(first, "--tune=head", f"--head={head}", "--image_size=whole(8)")
    capsys.readouterr()
    tune = f"--weights={first}", "--tune=after('stage1',views=0)"
    went_on = run(second, *tune)
    assert f"starts as that of {first}" in capsys.readouterr().out
    for name in ("head", "image_size", "loss"):
        assert went_on[name] == began[name]
    # With other classes it is a classifier of its own.
    for split in ("train", "test"):
        (photos / split / "four").rename(photos / split / "vier")
    assert run(other, *tune)["head"] == "auto"
    assert "starts as that of" not in capsys.readouterr().out


def test_one_command(tmp_path, monkeypatch, capsys):
    photos = tmp_path / "photos"
    for name, count in (("left", 30), ("right", 9), ("top", 4)):
        for split, images in (("train", count), ("test", 2)):
            (photos / split / name).mkdir(parents=True)
            for number in range(images):  # all the same: nothing to learn
                path = photos / split / name / f"{number}.png"
                Image.new("L", (40, 30), 90).save(path)
    workdir = tmp_path / "run"
    listed, index_folder = [], sources.index_folder
    monkeypatch.setattr(
        sources,
        "index_folder",
        lambda root, split, *others: (
            listed.append(split) or index_folder(root, split, *others)
        ),
    )
    arguments = (
        f"--dataset=folder:{photos}",
        "--max_steps=2",
        f"--workdir={workdir}",
    )
    assert recipe.run(monkeypatch, *arguments) == 0
    assert listed == ["train", "test"]  # a large folder takes its time
    output = capsys.readouterr().out
    flags = (workdir / "flags.cfg").read_text()
    record = report.Record.read(workdir / "result.json")
    reasons = record.others["chosen"]
    assert {"backbone", "image_size", "epochs", "many_shot"} <= reasons.keys()
    for name, reason in reasons.items():
        line = f"--{name}={record.flags[name]}"
        assert f"{line}: {reason}" in output and line in flags
    page = (workdir / "report.html").read_text()
    assert "What was chosen, and why" in page
    (warning,) = record.others["warnings"]
    assert "has learned nothing" in warning and warning in output
    assert "has learned nothing" in page
    card = (workdir / "saved_model" / "MODEL_CARD.md").read_text()
    assert "has learned nothing" in card
    # What is served sees whole images, as the training did.
    framing = (workdir / "saved_model" / "images.json").read_text()
    assert json.loads(framing) == {"framing": "whole"}
    serve = tf.saved_model.load(workdir / "saved_model").signatures
    noise = np.random.default_rng(0).integers(0, 256, (1, 40, 30, 3), "uint8")
    size = inputs.size_of(record.flags["image_size"]).side
    whole = preprocessing.resize_and_crop(noise, (size, size), "whole")
    np.testing.assert_allclose(
        serve["serving_default"](images=noise)["logits"],
        serve["serve_float"](images=tf.cast(whole, tf.float32))["logits"],
        atol=1e-4,
    )
    path = tmp_path / "noise.png"
    Image.fromarray(noise[0]).save(path)
    read = predict.read(path, predict.load(workdir), max_pixels=10**6)
    np.testing.assert_array_equal(read, whole[0])
    # A run keeps what was chosen, however fast the machine is by then.
    (workdir / "result.json").unlink()
    monkeypatch.setattr(own_images, "_STEPS", (5_000, 9_000))
    assert recipe.run(monkeypatch, *arguments) == 0
    assert (workdir / "flags.cfg").read_text() == flags
    again = report.Record.read(workdir / "result.json")
    assert again.others["chosen"] == reasons
    assert recipe.run(monkeypatch, *arguments, "--epochs=7") == 1
    assert "--epochs=7 where the run has" in capsys.readouterr().err
