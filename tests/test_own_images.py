"""Own images as users bring them: inspected, trained on, predicted."""

import csv
import dataclasses
import subprocess
import sys
from pathlib import Path

import inputs
import inspect_data
import keras
import numpy as np
import pytest
import recipe
from pictures import BAD, write_folder
from PIL import Image

from keras_lt import datasets, report

TINY = (
    "--image_size=12",
    "--backbone=cifar_resnet(8)",
    "--batch_size=16",
    "--epochs=2",
    "--steps_per_epoch=2",
    "--learning_rate=0.1",
    "--many_shot=30",
    "--few_shot=8",
    "--max_steps=3",
)
RATHER = "--on_bad_image=replace"


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("own") / "photos")


def train(monkeypatch, photos, workdir, *arguments):
    return recipe.run(
        monkeypatch,
        f"--dataset=folder:{photos}",
        *TINY,
        *arguments,
        f"--workdir={workdir}",
    )


def test_a_bad_image_is_named_and_can_be_replaced(
    photos, tmp_path, monkeypatch, capsys
):
    # Where the statistics do not see it, a stream does.
    monkeypatch.setattr(datasets.files, "_STATISTICS_IMAGES", 3)
    workdir = tmp_path / "run"
    whole = ("--batch_size=74",)
    assert train(monkeypatch, photos, workdir, *whole) == 1
    error = capsys.readouterr().err.strip()
    assert "\n" not in error and any(bad in error for bad in BAD)
    assert error.startswith(
        "cifar_lt.py: error: Expected an image that can be decoded. Received: "
    )
    # The same run goes on when bad images may be replaced.
    assert train(monkeypatch, photos, workdir, *whole, RATHER) == 0
    output = capsys.readouterr().out
    assert "Bad images, for which the next of their class are taken: 3" in (
        output
    )
    record = report.Record.read(workdir / "result.json")
    assert record.class_counts == [0, 5, 40, 9, 20]
    assert record.data["num_test"] == 17
    assert record.data["image_shape"] == [12, 12, 3]
    names = [f"{photos}/train/{bad}" for bad in BAD]
    assert record.data["bad_images"] == names
    assert record.test["last"]["num_images"] == 17
    regime = "random_resized_crop(0.5)|pad_crop_flip(0)"
    assert record.augmentation == regime


def test_two_branches_take_files(photos, tmp_path, monkeypatch):
    workdir = tmp_path / "run"
    more = ("--auxiliary=rotation", "--deterministic", RATHER)
    assert train(monkeypatch, photos, workdir, *more) == 0
    record = report.Record.read(workdir / "result.json")
    assert record.data["num_train"] + record.data["num_held_out"] == 74
    assert record.data["random_resized_crop"]


def test_splits_of_the_recipe(photos, tmp_path):
    def sizes(root=photos, **settings):
        data = inputs.load_data(
            inputs.DataSettings(f"folder:{root}", **settings)
        )
        return [None if part is None else len(part) for part in data]

    assert sizes() == [74, None, 17]
    assert sizes(holdout=0.2)[2] == 17
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "train").symlink_to(photos / "train")
    (alone / "val").symlink_to(photos / "test")
    outside = {"root": alone, "allow_outside_root": True}
    # A test set of 1 + 8 + 2 + 4 is cut; val is held out.
    assert sizes(**outside) == [59, 17, 15]
    assert sizes(**outside, test_fraction=0.5)[2] == 38
    # All train, and val is the test set.
    assert sizes(**outside, test_split="val") == [74, None, 17]


def test_a_run_without_its_test_set():
    """What a cut leaves out takes its place, and no image is in both."""
    settings = inputs.DataSettings("digits", imbalance_factor=20, holdout=0.1)
    whole = inputs.load_data(settings)
    settings = dataclasses.replace(settings, test_split="left_out")
    data = inputs.load_data(settings)
    assert set(data.test.class_counts.tolist()) == {13}
    assert data.train.class_counts[-1] == whole.train.class_counts[-1]
    images = [{image.tobytes() for image in part.images} for part in data]
    of_test = {image.tobytes() for image in whole.test.images}
    assert not images[2] & (images[0] | images[1] | of_test)
    with pytest.raises(ValueError, match="--imbalance_factor with --test_spl"):
        inputs.load_data(dataclasses.replace(settings, imbalance_factor=None))


def test_augmentation_of_the_recipe(photos):
    pictures = datasets.load("digits", split="train")
    files = datasets.load(f"folder:{photos}", split="train")
    assert inputs.augmentation(None, files).crops
    assert not inputs.augmentation(None, pictures).crops
    whole = inputs.augmentation("random_resized_crop", files)
    assert whole.crops and whole.transform is None
    for spec in ("pad_crop_flip(0)", "pad_crop_flip(0)|cutout(4)"):
        assert not inputs.augmentation(spec, files).crops
    with pytest.raises(ValueError, match="images from files for --augment"):
        inputs.augmentation("random_resized_crop|cutout(4)", pictures)
    least = inputs.augmentation("random_resized_crop(0.2)|cutout(4)", files)
    assert least.crops == 0.2 and least.transform is not None
    assert inputs.augmentation("random_resized_crop()", files).crops is True
    assert inputs.augmentation("none", files) == (False, None)
    with pytest.raises(ValueError, match=r"Expected min_area in \(0, 1\]"):
        inputs.augmentation("random_resized_crop(0)|cutout(4)", files)


def command(folder, script, *arguments):
    done = subprocess.run(
        [sys.executable, recipe.REPO / script, *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr.splitlines()


def inspect(folder, *arguments):
    return command(folder, "tools/inspect_data.py", *arguments)


def test_from_a_folder_to_predictions(photos, tmp_path):
    (tmp_path / "photos").symlink_to(photos)
    code, output, errors = inspect(tmp_path, "folder:photos")
    assert code == 1 and "training would fail" in errors[-1]
    assert all(f"  photos/train/{bad}: " in output for bad in BAD)
    assert inspect(tmp_path, "folder:photos", RATHER)[0] == 0
    code, _, errors = command(
        tmp_path,
        "recipes/cifar_lt.py",
        "--dataset=folder:photos",
        *TINY,
        "--image_size=24",  # some have it
        "--learning_rate=0.001",
        RATHER,
        "--workdir=run",
    )
    assert code == 0, errors
    assert (tmp_path / "run" / "report.html").is_file()
    code, _, errors = command(
        tmp_path,
        "tools/predict.py",
        "run",
        "photos/train",
        "photos/test",
        "--output=out.csv",
    )
    assert code == 0, errors
    with open(tmp_path / "out.csv", newline="") as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    assert len(rows) == 74 + 17
    bad = {name for name, row in rows.items() if row["error"]}
    assert bad == {f"photos/train/{name}" for name in BAD}
    record = report.Record.read(tmp_path / "run" / "result.json")
    names = record.data["class_names"]
    assert names == ["five", "four", "one", "three", "two"]
    assert {rows[name]["class_1"] for name in rows.keys() - bad} <= {*names}
    # The model sees the test images as it did when it was scored.
    test = datasets.load(f"folder:{photos}", split="test", image_size=24)
    model = keras.saving.load_model(tmp_path / "run" / "model.keras")
    wanted = keras.ops.softmax(model(test.images[:], training=False)).numpy()
    for index, probabilities in enumerate(wanted):
        path = Path(test.name(index))
        row = rows[str("photos" / path.relative_to(photos))]
        got = [float(row[f"probability_{rank}"]) for rank in range(1, 6)]
        with Image.open(path) as image:
            bound = 1e-5 if image.size == (24, 24) else 0.01
        ranked = np.sort(probabilities)[::-1]
        assert abs(got - ranked).max() < bound
        if ranked[0] - ranked[1] > 2 * bound:  # else either may be the first
            assert row["class_1"] == names[probabilities.argmax()]


def test_inspection_finds_what_is_wrong(photos):
    strip = photos / "test" / "one" / "strip.png"
    copies = [photos / "test" / "two" / name for name in ("a.png", "b.png")]
    Image.new("L", (100, 20), 77).save(strip)
    for number, copy in enumerate(copies):
        Image.new("RGB", (20, 20 + number)).save(copy)
    twin = photos / "test" / "one" / "twin.png"
    twin.write_bytes(copies[0].read_bytes())
    try:
        code, output, errors = inspect(photos.parent, "folder:photos")
    finally:
        for path in (strip, twin, *copies):
            path.unlink()
    assert code == 1
    assert errors[-1] == (
        "inspect_data.py: error: training would fail: 3 images of train can't "
        "be decoded (--on_bad_image=replace takes others for them)"
    )
    lines = output.splitlines()
    for line in (
        "train: 74 images",
        "test: 21 images",
        "Classes: 5, 4 with images",
        "Imbalance factor: 8 (40 to 5 images per class)",
        "Classes by shot group: many 0, medium 2, few 2, unseen 1",
        "  one: 40 train, 6 test",
        "  five: 0 train, 0 test",
        "Images in several splits: 1",
        "  photos/train/four/000.png = photos/test/four/twin.png",
        "Images in several classes: 1",
        "  photos/test/one/twin.png = photos/test/two/a.png",
        "Images that repeat others: 2",
        "Odd sizes (under 16 pixels, or 4 to 1): 1",
        "  photos/test/one/strip.png: 100 x 20",
        "Width: 20 to 100, median 27; height: 20 to 29, median 24",
        "Unreadable files: 3",
        *(f"  photos/train/{bad}: " for bad in BAD),
    ):
        assert any(each.startswith(line) for each in lines), (line, output)
    with Image.open(photos.parent / "class_distribution.png") as picture:
        assert np.asarray(picture).std() > 10


def look(monkeypatch, *arguments):
    """The same in this process."""
    monkeypatch.setattr(sys, "argv", ["", *map(str, arguments)])
    inspect_data.main()


def test_inspection_of_what_can_be_trained_on(photos, tmp_path):
    code, output, _ = inspect(
        tmp_path, f"folder:{photos}", RATHER, "--output=a.png"
    )
    assert code == 0 and "Unreadable files: 3" in output
    assert (tmp_path / "a.png").is_file()


def test_inspection_of_images_in_memory(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    look(monkeypatch, "digits", "--many_shot=135", "--few_shot=132")
    output = capsys.readouterr().out
    assert "many 5, medium 4, few 1, unseen 0" in output
    assert "Width, height: 8, 8" in output


def test_inspection_names_what_can_not_be_loaded(photos, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="Expected a folder of images"):
        look(monkeypatch, "folder:nowhere")
    bad = photos / "train" / "two" / "003.jpg"
    (tmp_path / "train" / "one").mkdir(parents=True)
    (tmp_path / "train" / "two").mkdir()
    (tmp_path / "train" / "one" / "gone.png").symlink_to("nothing.png")
    (tmp_path / "train" / "two" / "bad.jpg").write_bytes(bad.read_bytes())
    arguments = (f"folder:{tmp_path}", RATHER, "--test_split=train")
    message = (
        "training would fail: 1 files of train can't be read; no image of "
        "class one in train can be decoded"
    )
    with pytest.raises(ValueError, match=message):
        look(monkeypatch, *arguments)
