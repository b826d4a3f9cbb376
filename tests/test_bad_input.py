"""What tests/bad_input.md says is run: commands, calls and their errors."""

import json
import os
import re
import runpy
import shlex
import shutil
import sys

import documents
import keras
import numpy as np
import pytest
import recipe
from pictures import write_folder

import keras_lt
from keras_lt import report

DOCUMENT = "tests/bad_input.md"
# Like the command of the table, with a network that is there at once.
SMALL = ("--dataset=digits", "--backbone=cifar_resnet(8)")


def matches(pattern: str, text: str) -> bool:
    parts = map(re.escape, pattern.strip("`").split("…"))
    return re.fullmatch(".*".join(parts), " ".join(text.split())) is not None


def write_logits(root):
    """Files of logits, each with something wrong."""
    labels, logits = np.array([0, 1, 0, 1]), np.eye(2)[[0, 1, 0, 0]]
    arrays = {"logits": logits, "labels": labels, "class_counts": [9, 9]}
    for name, wrong in (
        (
            "nans",
            {"logits": np.where(np.arange(4)[:, None] == 1, np.nan, logits)},
        ),
        ("unknown", {"labels": labels + 1}),
        ("narrow", {"logits": logits[:, :1]}),
        ("huge", {"logits": 1e300 * logits}),
        ("pair", {}),
        ("torn", {}),
    ):
        np.savez(root / f"{name}.npz", **{**arrays, **wrong})
    torn = root / "torn.npz"
    torn.write_bytes(torn.read_bytes()[:300])
    del arrays["labels"]
    np.savez(root / "lacking.npz", **arrays)
    (root / "text.csv").write_text("label,a,b\n0,1,x\n")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """What stands for the words in capitals of the table."""
    root = tmp_path_factory.mktemp("folders")
    (root / "other").mkdir()
    (root / "other" / "thesis.tex").write_text("years of work")
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert not recipe.run(
            monkeypatch,
            "--dataset=digits",
            "--backbone=cifar_resnet(8)",
            "--max_steps=1",
            f"--workdir={root / 'run'}",
        )
    shutil.copytree(root / "run", root / "damaged")
    (root / "damaged" / "result.json").unlink()
    for weights in (root / "damaged" / "checkpoints").glob("*.h5"):
        weights.write_bytes(weights.read_bytes()[:1000])
    photos = write_folder(root / "photos")
    stranger = root / "stranger"
    for split, name in (("train", "cat"), ("test", "lynx")):
        (stranger / split / name).mkdir(parents=True)
        picture = photos / "test" / "one" / "000.png"
        shutil.copy(picture, stranger / split / name)
    alone = root / "alone" / "train" / "cat"
    alone.mkdir(parents=True)
    for number in range(3):
        shutil.copy(picture, alone / f"{number}.png")
    twice, device = root / "twice", root / "device"
    for path in ("train/cat", "Val/cat", "valid/cat"):
        (twice / path).mkdir(parents=True)
    (device / "train" / "cat").mkdir(parents=True)
    os.mkfifo(device / "train" / "cat" / "fifo.jpg")
    (root / "leak.txt").write_text("../secret.png 0")
    (root / "stray.txt").write_text("a.png 0\nb.png 999999\n")
    (root / "twins.csv").write_text("path,label\na.png,1\nb.png,01\n")
    (root / "quote.csv").write_text('path,label\na.png,"cat\nb.png,cat\n')
    boxes = {
        "images": [{"id": 7, "file_name": "a.png"}],
        "annotations": [{"image_id": 7, "category_id": i} for i in (1, 2)],
        "categories": [{"id": i, "name": f"class {i}"} for i in (1, 2)],
    }
    (root / "boxes.json").write_text(json.dumps(boxes))
    (root / "broken" / "train" / "two\nlines").mkdir(parents=True)
    shutil.copytree(root / "run", root / "shuffled")
    record = report.Record.read(root / "run" / "result.json")
    record.data["class_names"] = [*"0723456189"]
    record.write(root / "shuffled" / "result.json")
    write_logits(root)
    inputs = keras.Input((8, 8, 1))
    layer = keras.layers.Lambda(lambda x: x, output_shape=(8, 8, 1))
    keras.Model(inputs, layer(inputs)).save(root / "lambda.keras")
    return {
        "PHOTOS": photos,
        "STRANGER": stranger,
        "ALONE": root / "alone",
        "TWICE": twice,
        "DEVICE": device,
        "LEAK": root / "leak.txt",
        "STRAY": root / "stray.txt",
        "TWINS": root / "twins.csv",
        "QUOTE": root / "quote.csv",
        "BOXES": root / "boxes.json",
        "BROKEN": root / "broken",
        "SHUFFLED": root / "shuffled",
        "LAMBDA": root / "lambda.keras",
        **{
            name.upper(): root / f"{name}.npz"
            for name in (
                *("nans", "unknown", "lacking", "narrow", "torn"),
                *("huge", "pair"),
            )
        },
        "TEXT": root / "text.csv",
        "NEW": root / "new",
        "RUN": root / "run",
        "OTHER": root / "other",
        "DAMAGED": root / "damaged",
    }


def content(folders) -> dict:
    return {
        path: path.read_bytes()
        for folder in folders.values()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def refused(folders, monkeypatch, capsys, tmp_path):
    """Checks that a recipe refuses a command by a message, and keeps all."""
    folders = {**folders, "NEW": tmp_path / "new"}

    def check(command: str, message: str, *before: str, name="cifar_lt"):
        arguments = [
            re.sub(r"(?<=[=:])[A-Z]+$", lambda found: str(folders[found[0]]), a)
            for a in shlex.split(command.strip("`"))
        ]
        files = content(folders)
        assert recipe.run(monkeypatch, *before, *arguments, name=name) == 1
        error = capsys.readouterr().err
        prefix = f"{name}.py: error: "
        assert matches(message, error.partition(prefix)[2]), error
        after = content(folders)
        assert {path: after[path] for path in files} == files

    return check


@pytest.mark.parametrize(
    "row",
    documents.table(DOCUMENT, "| wrong | command"),
    ids=lambda row: row[0],
)
def test_bad_input_of_the_recipe(row, refused):
    refused(*row[1:], *SMALL)


@pytest.mark.parametrize(
    "row",
    documents.table(DOCUMENT, "| wrong, of a stage"),
    ids=lambda row: row[0],
)
def test_bad_input_of_stages(row, refused):
    script, _, command = row[1].strip("`").partition(".py ")
    refused(command, row[2], name=script)


@pytest.mark.parametrize(
    "row",
    documents.table(DOCUMENT, "| wrong, of a tool"),
    ids=lambda row: row[0],
)
def test_bad_input_of_tools(row, folders, monkeypatch, capsys, tmp_path):
    name, *arguments = shlex.split(row[1].strip("`"))
    path = recipe.REPO / "tools" / name
    arguments = [
        re.sub(r"\b[A-Z]{3,}$", lambda found: str(folders[found[0]]), each)
        for each in arguments
    ]
    monkeypatch.setattr(sys, "argv", [str(path), *arguments])
    monkeypatch.chdir(tmp_path)
    files = content(folders)
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(path), run_name="__main__")
    assert matches(row[2], end.value.code.partition(f"{name}: error: ")[2]), (
        end.value.code
    )
    capsys.readouterr()
    assert content(folders) == files


@pytest.mark.parametrize(
    "row",
    documents.table(DOCUMENT, "| wrong, in Python"),
    ids=lambda row: row[0],
)
def test_bad_input_in_python(row):
    _, call, message = row
    with pytest.raises(ValueError) as error:
        eval(call.strip("`"), {"keras": keras, "keras_lt": keras_lt, "np": np})
    assert matches(message, str(error.value)), error.value
