"""What the documents say is run: snippets, commands, links, results."""

import csv
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import documents
import pytest
import recipe
from data import write_cifar10
from pictures import COUNTS, write_folder
from PIL import Image

import keras_lt


def test_python_snippets_run(tmp_path, monkeypatch):
    """Snippets of a document continue one another."""
    monkeypatch.chdir(tmp_path)
    for text in documents.TEXTS.values():
        namespace = {}
        for snippet in documents.blocks_of(text, "python"):
            exec(snippet, namespace)
    assert (tmp_path / "saved_model").is_dir()


# What makes a command short, and changes nothing else of it.
SHORT = {
    "cifar_lt": ["--backbone=cifar_resnet(8)", "--max_steps=2"],
    "pretrain": ["--backbone=cifar_resnet(8)", "--max_steps=2"],
    "ip_dpp": ["--max_steps=2"],
    "second_stage": ["--epochs=1"],
    "dlsa": [
        "--dlsa=dlsa(num_clusters=4)",
        "--flow=flow(epochs=1)",
        "--classifier=classifier(epochs=1)",
    ],
    "launch_local": ["--max_steps=1"],  # of the recipe that it launches
    "serve_check": ["--requests=20", "--seconds=0.01"],
}


def test_commands_run(tmp_path, monkeypatch):
    """Commands in their order, of the recipes with a small network."""
    monkeypatch.chdir(tmp_path)
    for folder in ("recipes", "tools"):
        (tmp_path / folder).symlink_to(recipe.REPO / folder)
    write_folder(tmp_path / "photos")
    (tmp_path / "more_photos").mkdir()
    Image.new("L", (90, 60)).save(tmp_path / "more_photos" / "gray.jpg")
    # The commands are for an environment that is active.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    active = {**os.environ, "PATH": path}
    data = f"--data_dir={write_cifar10(tmp_path / 'tfds')}"
    for command in documents.commands():
        subprocess.run(["bash", "-n", "-c", command], check=True)  # its syntax
        _, script, *arguments = shlex.split(command)
        name = Path(script).stem
        arguments += SHORT.get(name, [])
        if name == "launch_local":  # TensorFlow joins a cluster once
            subprocess.run(
                [sys.executable, script, *arguments], env=active, check=True
            )
        elif script.startswith("tools/"):
            assert not recipe.tool(monkeypatch, name, *arguments), command
        else:
            arguments.append(data)
            assert not recipe.run(monkeypatch, *arguments, name=name), command
    assert "more_photos/gray.jpg" in (tmp_path / "classes.csv").read_text()
    check_predictions(tmp_path)


def shown(start: str) -> list[str]:
    """The command that starts so, and the lines that it is said to print."""
    (found,) = (b for b in documents.blocks("text") if b.startswith(start))
    return found.removeprefix("$ ").splitlines()


def check_predictions(folder):
    """Compares all but probabilities, and which class has the largest one."""
    command, *lines = shown("$ grep ")
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


def test_inspection_prints_what_is_shown(tmp_path, monkeypatch, capsys):
    command, *lines = shown("$ python tools/inspect_data.py ")
    write_folder(tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    error = recipe.tool(monkeypatch, "inspect_data", *shlex.split(command)[2:])
    assert [*capsys.readouterr().out.splitlines(), error] == lines


@pytest.mark.parametrize("document", documents.TEXTS)
def test_files_that_are_named_are_there(document):
    names = r"(?:tools|recipes|tests)/[\w/]+\.(?:py|sh|cfg)"
    for name in re.findall(names, documents.TEXTS[document]):
        assert (recipe.REPO / name).is_file(), name


@pytest.mark.parametrize("document", documents.TEXTS)
def test_links_lead_somewhere(document):
    prose = documents.prose(documents.TEXTS[document])
    for link in re.findall(r"\]\(([^)]+)\)", prose):
        name, _, fragment = link.partition("#")
        path = (recipe.REPO / document).parent / name if name else None
        path = path or recipe.REPO / document
        assert path.exists(), link
        if fragment:
            assert fragment in documents.anchors(path.read_text()), link


def test_every_document_can_be_reached_from_readme():
    reached, new = set(), {"README.md"}
    while new:
        document = new.pop()
        reached.add(document)
        prose = documents.prose(documents.TEXTS[document])
        folder = (recipe.REPO / document).parent
        for name in re.findall(r"\]\(([^)#]+\.md)", prose):
            path = (folder / name).resolve().relative_to(recipe.REPO)
            new |= {path.as_posix()} - reached
    assert reached == set(documents.TEXTS)


def test_readme_is_short_and_soon_shows_python():
    lines = documents.TEXTS["README.md"].splitlines()
    assert len(lines) <= 250
    assert lines.index("```python") < 60


@pytest.mark.parametrize("document", documents.TEXTS)
def test_public_names_that_are_given_exist(document):
    names = re.findall(r"keras_lt\.[\w.]+\w", documents.TEXTS[document])
    for name in set(names):
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


def test_each_fault_is_proved_by_a_test():
    sources = [path.read_text() for path in recipe.REPO.glob("tests/*.py")]
    for row in documents.table("tests/faults.md", "| fault"):
        for name in re.findall(r"\w+", row[-1]):
            assert any(f"def {name}(" in source for source in sources), row


def test_rooms_of_the_table_are_those_of_the_library():
    rows = documents.table("keras_lt/README.md", "| room")
    found = [name for row in rows for name in re.findall(r"\w+", row[0])]
    library = recipe.REPO / "keras_lt"
    rooms = {path.stem for path in library.glob("*.py")} - {"__init__"}
    rooms |= {path.parent.name for path in library.glob("*/__init__.py")}
    assert sorted(found) == sorted(rooms)
