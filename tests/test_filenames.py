"""Names of files: shown whatever they are, in any locale."""

import io
import os
import socket
import subprocess
import sys

import numpy as np
import pytest
import recipe
from PIL import Image

from keras_lt import datasets, files, report

ODD = os.fsdecode(b"caf\xe9\xff.png")


@pytest.mark.parametrize(
    "name, shown",
    [
        ("cat.jpg", "cat.jpg"),
        ("Grüße 猫\u202f\u00a0.jpg", "Grüße 猫\u202f\u00a0.jpg"),
        (ODD, r"caf\xe9\xff.png"),
        ("a\nb\x1b[2J\u2028.png", r"a\nb\x1b[2J\u2028.png"),
        (os.fsdecode("ä".encode()) + "\udcc3\udca4", "ää"),
        ("\ud800ä\udce9", r"\ud800ä\udce9"),
    ],
)
def test_printable(name, shown):
    assert files.printable(name) == shown
    shown.encode()


def test_names_are_texts_in_utf_8_in_any_locale():
    assert files.decoded("ä") == files.encoded("ä") == "ä"
    assert files.decoded(ODD) == files.encoded(ODD) == ODD
    code = (
        "import os, runpy, sys, types\n"
        "files = types.SimpleNamespace(**runpy.run_path(sys.argv[1]))\n"
        "text = '\\u00e4'\n"
        "name = os.fsdecode(text.encode())\n"
        "assert sys.getfilesystemencoding() == 'ascii' and name != text\n"
        "assert files.decoded(name) == text\n"
        "assert files.encoded(text) == name\n"
        "files.escape_output()\n"
        "print(files.printable(name))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, files.__file__],
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0"},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "\\xe4\n", done.stderr


@pytest.fixture
def irregular(tmp_path):
    """A FIFO, a socket and a link to a device, called as images."""
    folder = tmp_path / "train" / "cat"
    folder.mkdir(parents=True)
    paths = [folder / f"{kind}.jpg" for kind in ("fifo", "socket", "device")]
    os.mkfifo(paths[0])
    with socket.socket(socket.AF_UNIX) as opened:
        place = os.getcwd()
        os.chdir(folder)  # names of sockets are short
        opened.bind("socket.jpg")
        os.chdir(place)
    paths[2].symlink_to("/dev/zero")
    return paths


def test_only_regular_files_are_read(irregular):
    source = datasets.Paths("", map(str, irregular))
    for index, path in enumerate(irregular):
        for read in (files.read, lambda p: source.read(irregular.index(p))):
            with pytest.raises(OSError) as error:
                read(path)
            assert path.name in str(error.value), index
    for path in irregular[1:]:
        path.unlink()
    message = r"Expected images in regular files\. .*fifo\.jpg', a FIFO"
    with pytest.raises(ValueError, match=message):
        datasets.load(
            f"folder:{irregular[0].parents[2]}", split="train", test_fraction=0
        )


def test_folders_refuse_each_kind(irregular):
    root = irregular[0].parents[2]
    for path in irregular:
        for other in irregular:
            other.rename(other.with_suffix("" if other != path else ".jpg"))
        with pytest.raises(ValueError, match=f"regular files.*{path.stem}"):
            datasets.load(
                f"folder:{root}",
                split="train",
                test_fraction=0,
                allow_outside_root=True,
            )
        for other in irregular:
            if other != path:
                other.with_suffix("").rename(other)


def write_images(folder, names):
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        pixels = np.full((16, 16, 3), 20 * number, "uint8")
        Image.fromarray(pixels).save(folder / name, "png")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder whose name, and that of a damaged file in it, is odd."""
    root = tmp_path_factory.mktemp("odd") / os.fsdecode(b"d\xe4ta")
    for name in ("ä c", "dog"):
        write_images(root / "train" / name, [f"{i}é.png" for i in range(8)])
        write_images(root / "test" / name, ["0.png"])
    (root / "train" / "dog" / ODD).write_bytes(b"no picture")
    return root


def test_names_of_messages_and_replacements(photos):
    data = datasets.load(
        f"folder:{photos}",
        split="train",
        image_size=8,
        on_bad_image="replace",
    )
    assert sorted(data.class_names) == ["dog", "ä c"]
    assert len(data.images[:]) == 17
    (name,) = data.replaced
    assert name.endswith(r"d\xe4ta/train/dog/caf\xe9\xff.png")
    data = datasets.load(f"folder:{photos}", split="train", image_size=8)
    with pytest.raises(ValueError, match=r"Received: .*caf\\xe9\\xff\.png"):
        data.images[:]


TINY = (
    "--image_size=12",
    "--backbone=cifar_resnet(8)",
    "--batch_size=17",
    "--epochs=2",
    "--steps_per_epoch=1",
    "--learning_rate=0.1",
    "--on_bad_image=replace",
)


def test_a_damaged_file_with_an_odd_name_ends_no_run(
    photos, tmp_path, monkeypatch
):
    # As a pipe or file in UTF-8, which has no place for such names.
    output = io.TextIOWrapper(io.BytesIO(), "utf-8")
    monkeypatch.setattr(sys, "stdout", output)
    run = tmp_path / "run"
    arguments = (f"--dataset=folder:{photos}", *TINY, f"--workdir={run}")
    assert recipe.run(monkeypatch, *arguments) == 0
    output.flush()
    said = output.buffer.getvalue().decode()
    assert said.count(r"dog/caf\xe9\xff.png") == 3  # two epochs, the end
    record = report.Record.read(run / "result.json")
    (name,) = record.data["bad_images"]
    assert name.endswith(r"d\xe4ta/train/dog/caf\xe9\xff.png")
    assert record.dataset.endswith(r"/d\xe4ta")
    assert r"d\xe4ta" in (run / "flags.cfg").read_text(encoding="utf-8")
    assert r"d\xe4ta" in (run / "report.html").read_text(encoding="utf-8")
    card = run / "saved_model" / "MODEL_CARD.md"
    assert r"d\xe4ta" in card.read_text(encoding="utf-8")
    assert recipe.run(monkeypatch, *arguments) == 0  # the same flags


@pytest.mark.parametrize("name", [os.fsdecode(b"w\xe9rk"), "work\n"])
def test_workdirs_have_names_that_tensorflow_takes(
    name, tmp_path, monkeypatch, capsys
):
    workdir = f"--workdir={tmp_path / name}"
    assert recipe.run(monkeypatch, "--dataset=digits", workdir) == 1
    error = capsys.readouterr().err
    assert "Expected a --workdir in UTF-8" in error
    assert files.printable(name) in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("script", ["inspect", "train"])
def test_a_locale_without_utf_8_ends_nothing(photos, tmp_path, script):
    scripts = {
        "inspect": ("tools/inspect_data.py", f"folder:{photos}", TINY[-1]),
        "train": (
            "recipes/cifar_lt.py",
            f"--dataset=folder:{photos}",
            *TINY,
            "--max_steps=1",
            "--workdir=run",
        ),
    }
    name, *arguments = scripts[script]
    done = subprocess.run(
        [sys.executable, recipe.REPO / name, *arguments],
        cwd=tmp_path,
        env={**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert r"dog/caf\xe9\xff.png" in done.stdout
    if script == "inspect":
        assert r"  \xe4 c: 8 train, 1 test" in done.stdout
    else:
        record = report.Record.read(tmp_path / "run" / "result.json")
        assert sorted(record.data["class_names"]) == ["dog", "ä c"]
