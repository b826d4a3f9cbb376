"""tools/predict.py on a real SavedModel and files of many kinds."""

import csv
import json
import os
import runpy
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import recipe
import tensorflow as tf
from PIL import Image

from keras_lt import export

TOOL = recipe.REPO / "tools" / "predict.py"
NAMES = ["dark", "mid, gray", "bright"]
COUNTS = [6, 3, 1]


def brightness(channels):
    """Logits (B, 3) of the mean pixel m: -m / 8, 0 and m / 8 - 24."""
    inputs = keras.Input((8, 8, channels))
    mean = keras.layers.GlobalAveragePooling2D()(inputs)
    dense = keras.layers.Dense(3)
    model = keras.Model(inputs, dense(mean))
    kernel = np.array([[-1 / 8, 0, 1 / 8]], "float32") / channels
    dense.set_weights([kernel.repeat(channels, 0), np.array([8.0, 0, -24])])
    return model


def save(path, channels=3, **arguments):
    export.save(brightness(channels), path, class_names=NAMES, **arguments)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A workdir with a model, and pictures, two of which are none."""
    folder = tmp_path_factory.mktemp("predict")
    (folder / "run").mkdir()
    save(folder / "run" / "saved_model", class_counts=COUNTS)
    save(folder / "gray", channels=1)
    pictures = folder / "pictures"
    (pictures / "inner").mkdir(parents=True)
    dark = np.full((8, 8, 3), 10, "uint8")
    Image.fromarray(dark).save(pictures / "a dark.png")
    Image.fromarray(dark[:, :, 0]).resize((30, 20)).save(
        pictures / "b gray.JPG"
    )
    bright = Image.new("RGB", (20, 9), (250, 250, 250))
    bright.convert("CMYK").save(pictures / "c cmyk.jpg", quality=100)
    transparent = Image.new("RGBA", (8, 8), (250, 250, 250, 0))
    transparent.save(pictures / "d rgba.png")
    deep = np.full((8, 8), 250 * 256, "uint16")
    Image.fromarray(deep).save(pictures / "e 16 bits.png")
    Image.new("P", (8, 8)).save(pictures / "f palette.gif")
    turned = np.zeros((16, 8), "uint8")
    turned[:8] = 255  # orientation 3: the lower half is the bright one
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(turned).save(pictures / "inner" / "g.png", exif=exif)
    whole = (pictures / "d rgba.png").read_bytes()
    (pictures / "x cut.png").write_bytes(whole[: len(whole) // 2])
    (pictures / "y empty.webp").write_bytes(b"")
    (pictures / "notes.txt").write_text("no image")
    (pictures / "._a dark.png").write_bytes(b"what macOS leaves on sticks")
    return folder


@pytest.fixture
def predict(monkeypatch, capsys):
    """Runs the tool in here: its exit code, output and standard error."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, arguments)])
        code = 0
        try:
            runpy.run_path(str(TOOL), run_name="__main__")
        except SystemExit as end:  # with a message it is printed, and 1
            code = end.code
        output, error = capsys.readouterr()
        if isinstance(code, str):
            return 1, output, f"{error}{code}"
        return code, output, error

    return run


def test_files_of_many_kinds_as_csv(folder, predict, tmp_path):
    output = tmp_path / "classes.csv"
    pictures = folder / "pictures"
    arguments = (folder / "run", pictures, tmp_path / "none.png")
    more = ("--batch_size=4", "--top_k=2", f"--output={output}")
    done = subprocess.run(
        [sys.executable, TOOL, *arguments, *more],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "" and "10/10" not in done.stderr  # no terminal
    with open(output, newline="") as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    assert list(rows)[-1] == str(tmp_path / "none.png")
    found = {
        path.removeprefix(f"{pictures}/"): row["class_1"]
        for path, row in rows.items()
        if not row["error"]
    }
    assert found == {
        "a dark.png": "dark",
        "b gray.JPG": "dark",
        "c cmyk.jpg": "bright",
        "d rgba.png": "bright",
        "e 16 bits.png": "bright",
        "f palette.gif": "dark",
        "inner/g.png": "mid, gray",
    }
    # m = 10: logits 8 - 1.25, 0 and 1.25 - 24.
    row = rows[str(pictures / "a dark.png")]
    want = np.exp([6.75, 0]) / np.exp([6.75, 0, -22.75]).sum()
    got = float(row["probability_1"]), float(row["probability_2"])
    np.testing.assert_allclose(got, want, rtol=1e-4)
    errors = {name: row["error"] for name, row in rows.items() if row["error"]}
    assert len(errors) == 3
    assert errors[str(tmp_path / "none.png")] == "No such file or directory"
    none = "no known kind of image file"
    assert errors[str(pictures / "y empty.webp")] == none
    assert rows[str(pictures / "x cut.png")]["class_1"] == ""
    assert [p.name for p in tmp_path.iterdir()] == ["classes.csv"]
    before = output.read_text()
    code, _, error = predict(*arguments, *more)
    assert code == 2 and "--overwrite" in error
    assert output.read_text() == before
    output.write_text("old")
    assert predict(*arguments, *more, "--overwrite")[0] == 0
    assert output.read_text() == before


def test_what_is_no_image_is_a_row_and_starts_nothing(
    folder, predict, tmp_path
):
    """A FIFO that nobody writes, a link to nothing, a PostScript program."""
    pictures = tmp_path / "pictures"
    (pictures / "album.jpg").mkdir(parents=True)
    os.mkfifo(pictures / "fifo.jpg")
    (pictures / "link.jpg").symlink_to("nothing.jpg")
    Image.new("L", (8, 8)).save(pictures / "program.jpg", "eps")
    Image.new("L", (30, 20), 10).save(pictures / "album.jpg" / "a.jfif", "jpeg")
    output = tmp_path / "out.jsonl"
    odd = os.fsdecode(b"caf\xe9.jpg")
    code, _, error = predict(
        folder / "run",
        pictures,
        pictures / "fifo.jpg",
        odd,
        f"--output={output}",
    )
    assert code == 0, error
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    found = [row.get("error") or row["classes"][0] for row in rows]
    fifo, missing = "no regular file", "No such file or directory"
    unknown = "no known kind of image file"
    assert found == ["dark", fifo, missing, unknown, fifo, missing]
    assert rows[-1]["image"] == r"caf\xe9.jpg"
    code, output, error = predict(folder / "run", pictures / "album.jpg", odd)
    assert code == 0, error
    assert output.splitlines()[-1].startswith(r"caf\xe9.jpg,,")
    code, _, error = predict(
        folder / "run", pictures / "album.jpg", "--max_pixels=599"
    )
    assert code == 1 and "none of which can be" in error


def test_prior_and_json_lines(folder, predict, tmp_path):
    image = folder / "pictures" / "a dark.png"
    prior = tmp_path / "prior.txt"
    prior.write_text("0 1\n3\n")
    for given in (f"--prior={prior}", "--prior=0,1,3"):
        output = tmp_path / "classes.jsonl"
        output.unlink(missing_ok=True)
        code, _, error = predict(
            folder / "run", image, given, f"--output={output}"
        )
        assert code == 0, error
        (row,) = map(json.loads, output.read_text().splitlines())
        # 0 + log(1/4) - log 3 against -22.75 + log(3/4) - log 1.
        difference = 22.75 - np.log(9)
        assert row["classes"] == ["mid, gray", "bright", "dark"]
        np.testing.assert_allclose(
            row["probabilities"], [1, np.exp(-difference), 0], 1e-3, 1e-30
        )
        assert row["image"] == str(image) and "error" not in row


def test_gray_model_writes_to_stdout(folder, predict):
    pictures = folder / "pictures"
    code, output, error = predict(
        folder / "gray", pictures / "d rgba.png", pictures / "y empty.webp"
    )
    assert code == 0, error
    header, good, bad = csv.reader(output.splitlines())
    assert header[:3] == ["image", "class_1", "probability_1"]
    assert good[1] == "bright" and good[-1] == ""
    assert bad[1] == "" and bad[-1] == "no known kind of image file"


def test_nothing_that_can_be_read(folder, predict, tmp_path):
    bad = folder / "pictures" / "y empty.webp"
    output = f"--output={tmp_path / 'out.csv'}"
    code, _, error = predict(folder / "run", bad, output)
    assert code == 1
    assert "predict.py: error: Expected images that can be" in error
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    "model, arguments, message",
    [
        ("none", ["x.png"], "Expected a SavedModel of keras_lt.export.save"),
        ("run", ["."], "Expected images. Received: . with no"),
        ("run", ["x.png", "--prior=1,2"], "Expected prior of 3 classes"),
        ("run", ["x.png", "--prior=1,a,2"], "Expected --prior to be a file"),
        ("gray", ["x.png", "--prior=1,1,2"], "exported with class_counts"),
        ("run", ["x.png", "--output=x.txt"], "must end in .csv or .jsonl"),
        (
            "run",
            ["x.png", "--top_k=0"],
            "--top_k: Expected at least 1. Received: 0",
        ),
    ],
)
def test_bad_input(
    folder, predict, tmp_path, monkeypatch, model, arguments, message
):
    monkeypatch.chdir(tmp_path)
    code, _, error = predict(folder / model, *arguments)
    assert code in (1, 2) and message in error
    assert not list(tmp_path.iterdir())


def test_formulas_are_cells_of_text(folder, tmp_path, monkeypatch, capsys):
    """In CSV alone: spreadsheets don't open JSON lines."""
    monkeypatch.syspath_prepend(str(TOOL.parent))
    import predict

    names = ["=1+1", "+1", "-1", "@sum", "\tx", "\rx", "plain", "a=b", ""]
    answer = predict.Answer(np.array([0.75, 0.25]))
    rows = [(name, answer) for name in names]
    rows.append(("=bad.jpg", "=HYPERLINK()"))
    classes = ["=cmd|calc", "-dash"]
    for json_lines in (False, True):
        path = tmp_path / f"out{json_lines}"
        with open(path, "w", newline="") as file:
            predict.write_rows(file, json_lines, iter(rows), classes, 2)
    with open(tmp_path / "outFalse", newline="") as file:
        found = [*csv.reader(file)][1:]
    assert (
        [row[0] for row in found[:-1]]
        == [
            *(f"'{name}" for name in names[:4]),
            *(r"\tx", r"\rx"),  # as all names with control characters
            *names[6:],
        ]
    )
    assert found[0][1:] == ["'=cmd|calc", "0.75", "'-dash", "0.25", ""]
    assert found[-1] == ["'=bad.jpg", "", "", "", "", "'=HYPERLINK()"]
    lines = (tmp_path / "outTrue").read_text().splitlines()
    assert json.loads(lines[0])["classes"] == classes
    assert json.loads(lines[0])["image"] == "=1+1"


def test_help_says_what_a_saved_model_can_do():
    done = subprocess.run(
        [sys.executable, TOOL, "--help"], capture_output=True, text=True
    )
    assert "it can read and write files" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    "labels, message",
    [
        (b"dark\n", "with 1, 1 of them different"),
        (b"a\nb\nc\nd\n", "with 4, 4 of them different"),
        (b"a\nb\na\n", "with 3, 2 of them different"),
        (b"a\n\nb\n", "with 3, 2 of them different"),
        (b"", "with 0, 0 of them different"),
        (b"a\nb\n\xff\n", "Expected names of classes in UTF-8"),
    ],
)
def test_labels_of_another_model(folder, predict, tmp_path, labels, message):
    model = tmp_path / "model"
    shutil.copytree(folder / "gray", model)
    (model / "labels.txt").write_bytes(labels)
    code, output, error = predict(model, folder / "pictures" / "a dark.png")
    assert (code, output) == (1, "")
    assert message in error and f"{model / 'labels.txt'}" in error


class Served(tf.Module):
    @tf.function
    def __call__(self, images):
        return {"probabilities": tf.ones((2, 3))}


@pytest.mark.parametrize("kind", ["none", "one", "other types", "any size"])
def test_other_saved_models(folder, predict, tmp_path, kind):
    module, model = Served(), tmp_path / "model"
    spec = tf.TensorSpec(
        (None, None, None, 3),
        tf.float32 if kind == "other types" else tf.uint8,
        "images",
    )
    served = module.__call__.get_concrete_function(spec)
    signatures = {}
    if kind != "none":
        signatures["serving_default"] = served
    if kind in ("other types", "any size"):
        signatures["serve_float"] = served
    tf.saved_model.save(module, model, signatures)
    (model / "labels.txt").write_text("a\nb\nc\n")
    code, output, error = predict(model, folder / "pictures" / "a dark.png")
    assert (code, output) == (1, "")
    assert "Expected a SavedModel of keras_lt.export.save, with its" in error
