"""What README says is run: snippets, commands, errors, quoted results."""

import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import recipe
from data import tfds_dir
from pictures import COUNTS, write_folder
from PIL import Image

import keras_lt
from keras_lt import report

README = (recipe.REPO / "README.md").read_text()


def table(first_header: str) -> list[list[str]]:
    """Cells of the rows of the table that starts with a header cell."""
    lines = README.splitlines()
    start = next(
        i for i, line in enumerate(lines) if line.startswith(first_header)
    )
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        cells = re.split(r"(?<!\\)\|", line)[1:-1]
        rows.append([cell.strip().replace(r"\|", "|") for cell in cells])
    return rows


def matches(pattern: str, text: str) -> bool:
    parts = map(re.escape, pattern.strip("`").split("…"))
    return re.fullmatch(".*".join(parts), " ".join(text.split())) is not None


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
    record = report.read_record(root / "run" / "result.json")
    record["data"]["class_names"] = [*"0723456189"]
    report.write_record(root / "shuffled" / "result.json", record)
    inputs = keras.Input((8, 8, 1))
    layer = keras.layers.Lambda(lambda x: x, output_shape=(8, 8, 1))
    keras.Model(inputs, layer(inputs)).save(root / "lambda.keras")
    return {
        "PHOTOS": photos,
        "STRANGER": stranger,
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


@pytest.mark.parametrize(
    "row", table("| wrong | command"), ids=lambda row: row[0]
)
def test_bad_input_of_the_recipe(row, folders, monkeypatch, capsys, tmp_path):
    _, command, message = row
    folders = {**folders, "NEW": tmp_path / "new"}
    before = content(folders)
    arguments = [
        re.sub(
            r"(?<=[=:])[A-Z]+$", lambda match: str(folders[match[0]]), argument
        )
        for argument in shlex.split(command.strip("`"))
    ]
    assert recipe.run(monkeypatch, "--dataset=digits", *arguments) == 1
    error = capsys.readouterr().err
    prefix = "cifar_lt.py: error: "
    assert matches(message, error.partition(prefix)[2]), error
    after = content(folders)
    assert {path: after[path] for path in before} == before


@pytest.mark.parametrize(
    "row", table("| wrong, in Python"), ids=lambda row: row[0]
)
def test_bad_input_in_python(row):
    _, call, message = row
    with pytest.raises(ValueError) as error:
        eval(call.strip("`"), {"keras": keras, "keras_lt": keras_lt, "np": np})
    assert matches(message, str(error.value)), error.value


def test_python_snippets_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    snippets = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert snippets
    for snippet in snippets:
        exec(snippet, {})
    assert (tmp_path / "saved_model").is_dir()


def test_commands_run(tmp_path, monkeypatch):
    """Commands in their order, those of the recipe with two steps."""
    commands = [
        line
        for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL)
        for line in block.splitlines()
        if line.startswith(("python recipes/", "python tools/"))
    ]
    assert len(commands) >= 4
    monkeypatch.chdir(tmp_path)
    for folder in ("recipes", "tools"):
        (tmp_path / folder).symlink_to(recipe.REPO / folder)
    write_folder(tmp_path / "photos")
    (tmp_path / "more_photos").mkdir()
    Image.new("L", (90, 60)).save(tmp_path / "more_photos" / "grey.jpg")
    # README's commands are for an environment that is active.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    active = {**os.environ, "PATH": path}
    for command in commands:
        _, script, *arguments = shlex.split(command)
        if script.startswith("tools/"):
            subprocess.run(
                [sys.executable, script, *arguments], env=active, check=True
            )
            continue
        assert not recipe.run(
            monkeypatch, *arguments, f"--data_dir={tfds_dir()}", "--max_steps=2"
        )
    assert "more_photos/grey.jpg" in (tmp_path / "classes.csv").read_text()
    check_predictions(tmp_path)


def check_predictions(folder):
    """Compares all but probabilities, and which class has the largest one."""
    (shown,) = re.findall(r"```text\n\$ (grep .*?)```", README, re.DOTALL)
    command, *lines = shown.splitlines()
    done = subprocess.run(
        shlex.split(command), cwd=folder, capture_output=True, text=True
    )
    found = list(csv.DictReader(done.stdout.splitlines()))
    expected = list(csv.DictReader(lines))
    assert len(found) == len(expected) == 4
    for row, wanted in zip(found, expected, strict=True):
        assert row.keys() == wanted.keys()
        assert (row["image"], row["error"]) == (
            wanted["image"],
            wanted["error"],
        )
        names = {""} if row["error"] else {*COUNTS, "five"}
        assert {row["class_1"], wanted["class_1"]} <= names
        assert bool(row["error"]) == (row["probability_1"] == "")


def test_inspection_prints_what_readme_shows(tmp_path):
    (shown,) = re.findall(
        r"```text\n\$ python (tools/inspect_data.py .*?)```", README, re.DOTALL
    )
    command, *lines = shown.splitlines()
    write_folder(tmp_path / "photos")
    script, *arguments = shlex.split(command)
    done = subprocess.run(
        [sys.executable, recipe.REPO / script, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    found = [*done.stdout.splitlines(), done.stderr.splitlines()[-1]]
    assert found == lines


def test_files_that_readme_names_are_there():
    for name in re.findall(
        r"(?:tools|recipes|tests)/[\w/]+\.(?:py|sh|cfg)", README
    ):
        assert (recipe.REPO / name).is_file(), name


def test_public_names_that_readme_gives_exist():
    for name in set(re.findall(r"keras_lt\.[\w.]+\w", README)):
        found = keras_lt
        for part in name.split(".")[1:]:
            if not hasattr(found, part):
                assert any(n.startswith(part) for n in dir(found)), name
                break
            found = getattr(found, part)


def test_quoted_results_are_those_of_the_records():
    subprocess.run(
        [sys.executable, recipe.REPO / "tools" / "results.py", "--check"],
        check=True,
    )
