"""Folders of images as people lay them out: splits, endings, what is left."""

import io
import sys

import inputs
import inspect_data
import numpy as np
import pytest
import recipe
from PIL import Image

from keras_lt import datasets

CLASSES = ("cat", "dog")


def encoded(level=0, kind="png"):
    file = io.BytesIO()
    Image.new("L", (16, 16), level).save(file, kind)
    return file.getvalue()


def write(root, *paths):
    """Writes pictures that are all different."""
    for number, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        kind = "jpeg" if ".j" in path or ".pj" in path else "png"
        (root / path).write_bytes(encoded(number % 256, kind))


def write_splits(root, **sizes):
    """Writes SPLIT/CLASS/NUMBER.png, so many of each class."""
    for split, size in sizes.items():
        for name in CLASSES:
            write(root, *(f"{split}/{name}/{i}.png" for i in range(size)))
    return root


def sizes(root, **arguments):
    """Images of each class, by split."""
    name = f"folder:{root}"
    return {
        split: len(datasets.load(name, split=split, image_size=8, **arguments))
        // len(CLASSES)
        for split in datasets.splits(name)
    }


@pytest.mark.parametrize("train", ["train", "Train", "TRAINING", "train_set"])
@pytest.mark.parametrize(
    "val", ["val", "Val", "valid", "Validation", "DEV", "valid-set"]
)
@pytest.mark.parametrize("test", ["test", "Testing", "TEST", "testset"])
def test_spellings_of_splits(train, val, test, tmp_path):
    for folder in (train, val, test):
        (tmp_path / folder / "cat").mkdir(parents=True)
    write(tmp_path, f"{train}/cat/0.png", f"{val}/cat/0.png")
    name = f"folder:{tmp_path}"
    assert datasets.splits(name) == ["train", "val", "test"]
    for split, folder in (("train", train), ("val", val)):
        data = datasets.load(name, split=split)
        assert data.name(0) == str(tmp_path / folder / "cat" / "0.png")
    assert datasets.left_out(name) == ([], [])


def test_validation_folders_are_held_out_by_the_recipe(tmp_path):
    root = write_splits(tmp_path, Training=10, valid=3)
    settings = inputs.DataSettings(f"folder:{root}")
    train, held_out, test = inputs.load_data(settings)
    # A test set of a fifth is cut, as there is none.
    assert [len(part) for part in (train, held_out, test)] == [16, 6, 4]
    write_splits(tmp_path, TESTING=2)
    assert sizes(root) == {"train": 10, "val": 3, "test": 2}


@pytest.mark.parametrize(
    "folders", [("val", "valid"), ("test", "Test"), ("train", "training")]
)
def test_two_spellings_of_a_split_are_refused(folders, tmp_path):
    write_splits(tmp_path, **{"train": 2, **dict.fromkeys(folders, 2)})
    first, second = sorted(folders)
    message = (
        rf"Expected one folder for '{folders[0]}'\. "
        rf"Received: '{first}' and '{second}' in "
    )
    for split in ("train", "test"):
        with pytest.raises(ValueError, match=message):
            datasets.load(f"folder:{tmp_path}", split=split)
    with pytest.raises(ValueError, match=message):
        datasets.left_out(f"folder:{tmp_path}")


@pytest.mark.parametrize("other", ["valid", "Testing"])
def test_a_split_needs_one_for_training(other, tmp_path):
    write_splits(tmp_path, **{other: 2, "cat": 1})
    message = rf"Expected a folder '.*/train' beside {other} .*Received: none"
    with pytest.raises(ValueError, match=message):
        datasets.load(f"folder:{tmp_path}", split="train")


def test_classes_may_be_called_as_splits(tmp_path):
    write(tmp_path, "train/valid/0.png", "train/test/0.png")
    data = datasets.load(f"folder:{tmp_path}", split="train", test_fraction=0)
    assert sorted(data.class_names) == ["test", "valid"]


@pytest.mark.parametrize(
    "spelling", ["valid", "validation", "dev", "Val", "VALID"]
)
def test_spellings_of_lists(spelling, tmp_path):
    write(tmp_path, *(f"{i}.png" for i in range(4)))
    for split, numbers in (("Train", (0, 1, 2)), (spelling, (3,))):
        lines = [f"{number}.png 0\n" for number in numbers]
        (tmp_path / f"my_{split}.txt").write_text("".join(lines))
    name = f"list:{tmp_path}/my_{{split}}.txt"
    assert datasets.splits(name) == ["train", "val"]
    data = datasets.load(name, split="val")
    assert [data.name(0)] == [str(tmp_path / "3.png")] and len(data) == 1
    other = "dev" if spelling != "dev" else "valid"
    (tmp_path / f"my_{other}.txt").write_text("0.png 0\n")
    with pytest.raises(ValueError, match=rf"one list for 'val'.*my_{other}"):
        datasets.splits(name)


def test_all_endings_of_the_kinds_are_read(tmp_path):
    endings = (
        "jpg jpeg JPE jfif JFI jif pjpeg pjp jpg_large mpo png apng bmp dib "
        "gif webp tif TIFF"
    ).split()
    write(tmp_path, *(f"cat/{i}.{each}" for i, each in enumerate(endings)))
    data = datasets.load(f"folder:{tmp_path}", split="train", test_fraction=0)
    assert len(data) == len(endings)
    assert data.images[:].shape == (len(endings), 224, 224, 3)


@pytest.fixture
def mixed(tmp_path):
    """Pictures of cats have another ending than those of dogs, most of all."""
    root = write_splits(tmp_path / "photos", train=4, test=2)
    write(
        root,
        *(f"train/cat/{i}.heic" for i in range(3)),
        "train/cat/4.AVIF",
        "train/dog/no ending",
        "train/dog/.hidden",
        "test/dog/9.heic",
        "train/loose.jpg",
        "old_train/cat/0.png",
        "more/0.jpg",
        "a/b/c/0.jpg",
        ".cache/cat/0.png",
        "cover.jpg",
    )
    (root / "train" / "README.md").write_text("")
    (root / "code").mkdir()
    (root / "code" / "train.py").write_text("")
    return root


def test_what_is_left_out(mixed):
    left_out = datasets.left_out(f"folder:{mixed}")
    paths = ("cover.jpg", "test/dog/9.heic", "train/cat/0.heic")
    paths += ("train/cat/1.heic", "train/cat/2.heic", "train/cat/4.AVIF")
    paths += ("train/dog/no ending", "train/loose.jpg")
    assert left_out.files == [str(mixed / path) for path in paths]
    assert left_out.folders == [
        str(mixed / path) for path in ("a", "more", "old_train")
    ]
    assert left_out.endings() == "8 (.heic 4, .jpg 2, .avif 1, none 1)"
    assert datasets.LeftOut([], []).endings() == "0"
    many = datasets.LeftOut([f"{i}.{i}" for i in range(1000)], [])
    assert many.endings() == "1,000 (.0 1, .1 1, .2 1, .3 1, .4 1, ...)"
    assert datasets.left_out("digits") == ([], [])


def test_what_is_left_out_where_classes_are_all_there_is(tmp_path):
    write(tmp_path, "cat/0.png", "dog/0.heic", "0.png")
    assert datasets.left_out(f"folder:{tmp_path}") == (
        [str(tmp_path / path) for path in ("0.png", "dog/0.heic")],
        [],
    )


def test_inspection_names_what_is_left_out(
    mixed, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["", "folder:photos"])
    inspect_data.main()
    lines = capsys.readouterr().out.splitlines()
    start = lines.index("Files left out: 8 (.heic 4, .jpg 2, .avif 1, none 1)")
    assert lines[start + 1 : start + 10] == [
        "  photos/train/cat: 4 (.heic 3, .avif 1)",
        "  photos: 1 (.jpg 1)",
        "  photos/test/dog: 1 (.heic 1)",
        "  photos/train/dog: 1 (none 1)",
        "  photos/train: 1 (.jpg 1)",
        "Folders with images left out: 3",
        "  photos/a",
        "  photos/more",
        "  photos/old_train",
    ]


def test_the_recipe_says_once_what_is_left_out(
    mixed, tmp_path, monkeypatch, capsys
):
    (mixed / "train" / "cat" / "bad.png").write_text("")  # it ends there
    arguments = (f"--dataset=folder:{mixed}", f"--workdir={tmp_path / 'run'}")
    assert recipe.run(monkeypatch, *arguments) == 1
    output, error = capsys.readouterr()
    assert "can be decoded" in error
    assert output.count("not read") == 2
    assert (
        "Files that are not read: 8 (.heic 4, .jpg 2, .avif 1, none 1), such "
        f"as {mixed}/cover.jpg\n"
        f"Folders with images that are not read: 3, such as {mixed}/a\n"
    ) in output


def test_pixels_of_files_are_limited(tmp_path, monkeypatch, capsys):
    write(tmp_path, *(f"cat/{i}.png" for i in range(3)), "dog/0.png")
    large = np.random.default_rng(0).integers(0, 256, (20, 20), "uint8")
    Image.fromarray(large).save(tmp_path / "cat" / "3.png")
    name = f"folder:{tmp_path}"
    limited = {"test_fraction": 0, "max_pixels": 399, "image_size": 16}
    data = datasets.load(name, split="train", **limited)
    message = r"3\.png \(20 x 20 pixels, more than max_pixels=399\)"
    with pytest.raises(ValueError, match=message):
        data.images[:]
    rather = {"on_bad_image": "replace", **limited}
    data = datasets.load(name, split="train", **rather)
    np.testing.assert_array_equal(data.images[3], data.images[0])
    assert [*data.replaced] == [str(tmp_path / "cat" / "3.png")]
    limited["max_pixels"] = 400
    assert datasets.load(name, split="train", **limited).images[3].any()
    limited["max_pixels"] = 0
    with pytest.raises(ValueError, match="Received: max_pixels=0"):
        datasets.load(name, split="train", **limited)
    arguments = (
        f"--dataset={name}",
        "--max_pixels=399",
        "--batch_size=4",
        f"--workdir={tmp_path / 'run'}",
    )
    assert recipe.run(monkeypatch, *arguments) == 1
    assert "more than max_pixels=399" in capsys.readouterr().err
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["", name, "--max_pixels=399"])
    with pytest.raises(ValueError, match="training would fail: 1 images"):
        inspect_data.main()
    assert "3.png: 20 x 20 pixels, more than" in capsys.readouterr().out
