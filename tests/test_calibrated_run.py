"""From a run to a calibrated SavedModel, and what tools/predict.py makes of it.

One run of the embedded digits, whose hold-out is long-tailed, and the tools.
"""

import csv
import json
import runpy
import sys

import numpy as np
import pytest
import recipe
import tensorflow as tf
from PIL import Image

from keras_lt import datasets, evaluation

TOOLS = recipe.REPO / "tools"
FLAGS = (
    *("--dataset=digits", "--imbalance_factor=10", "--holdout=0.2"),
    *("--backbone=cifar_resnet(8)", "--max_steps=12", "--batch_size=64"),
    *("--learning_rate=0.1", "--loss=balanced_softmax"),
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run, and a folder of digits of which most are a 9."""
    folder = tmp_path_factory.mktemp("calibrated")
    with pytest.MonkeyPatch.context() as patch:
        assert recipe.run(patch, *FLAGS, f"--workdir={folder / 'run'}") == 0
    test = datasets.load("digits", split="test")
    (folder / "photos").mkdir()
    nines, others = (
        np.flatnonzero(mask)[:size]
        for mask, size in ((test.labels == 9, 40), (test.labels == 0, 4))
    )
    for number, image in enumerate(test.images[[*nines, *others]]):
        Image.fromarray(image[..., 0]).save(folder / "photos" / f"{number}.png")
    return folder / "run"


@pytest.fixture
def tool(monkeypatch, capsys):
    """Runs a tool in here: its output, and its standard error or message."""

    def start(name, *arguments):
        path = TOOLS / f"{name}.py"
        monkeypatch.setattr(sys, "argv", [str(path), *map(str, arguments)])
        message = ""
        try:
            runpy.run_path(str(path), run_name="__main__")
        except SystemExit as end:
            message = end.code if isinstance(end.code, str) else ""
        output, error = capsys.readouterr()
        return output, error + message

    return start


@pytest.fixture(scope="module")
def kept(run):
    return {
        path.name: path.read_bytes()
        for path in (run / "result.json", run / "model.keras")
    }


@pytest.fixture
def calibrated(run, kept, tool):
    """What the tool told, once in this module."""
    told = run / "told.json"
    if not told.exists():
        output, error = tool(
            "evaluate",
            run,
            "--calibrate",
            "--unknown=digits",
            "--json",
            "--draws=20",
        )
        assert "error" not in error, error
        told.write_text(output)
    return json.loads(told.read_text())


def test_what_is_served_is_calibrated(run, kept, calibrated):
    answers = evaluation.read(run / "logits.npz")
    uniform = np.ones(10)  # the prior of logits of balanced softmax
    assert np.ptp(answers.logit_counts) < 1e-9
    about = calibrated["calibrated"]
    temperature = evaluation.fit_temperature(answers.holdout, uniform)
    assert about["temperature"] == pytest.approx(temperature)
    assert about["holdout"]["kind"] == "long-tailed"
    folder = run / "saved_model_calibrated"
    assert json.loads((folder / "fitted.json").read_text()) == about
    loaded = tf.saved_model.load(folder).signatures
    images = datasets.load("digits", split="test").images
    served = loaded["serving_default"](images=images)
    scaled = answers.test.logits / temperature
    np.testing.assert_allclose(served["logits"], scaled, rtol=1e-3, atol=1e-3)
    nll = evaluation.calibration(
        answers.test, evaluation.Scaling(1 / temperature)
    )["nll"]
    own = served["probabilities"].numpy()[
        np.arange(len(images)), answers.test.labels
    ]
    assert -np.log(own).mean() == pytest.approx(nll, rel=1e-3)
    # A prior of a request is taken out and put in after the temperature.
    prior = np.arange(1, 11, dtype="float32") / 55
    asked = loaded["serve_prior"](images=images[:9], prior=prior)["logits"]
    difference = asked - (scaled[:9] + np.log(prior))
    assert np.ptp(difference, axis=1).max() < 1e-3
    # What the run is about stays as it is.
    for name, content in kept.items():
        assert (run / name).read_bytes() == content
    old = tf.saved_model.load(run / "saved_model").signatures
    assert "serve_sets" not in old
    np.testing.assert_allclose(
        old["serving_default"](images=images[:9])["logits"],
        answers.test.logits[:9],
        rtol=1e-3,
        atol=1e-3,
    )


def test_sets_and_refusal_hold_their_shares(run, calibrated):
    """Of about 100 images held out: within what so few allow."""
    loaded = tf.saved_model.load(run / "saved_model_calibrated").signatures
    test = datasets.load("digits", split="test")
    served = loaded["serve_sets"](images=test.images, coverage=np.float32(0.9))
    own = served["sets"].numpy()[np.arange(len(test)), test.labels]
    assert 0.8 < own.mean() <= 1
    known = loaded["serve_known"](images=test.images)["known"].numpy()
    assert known.mean() > 0.8
    # The same images as known and as unknown ones can't be told apart.
    for name in evaluation.KNOWN_SCORES:
        found = calibrated["unknown"][name]
        assert found["auroc"] == pytest.approx(0.5, abs=1e-6)
        assert found["kept"]["all"] == pytest.approx(0.95, abs=0.01)
        assert found["fpr95"] == pytest.approx(found["kept"]["all"])


def test_page_and_card_tell_of_it(run, calibrated):
    page = (run / "evaluation.html").read_text()
    for title in (
        "Do probabilities hold?",
        "Sets in place of single answers",
        "Images of none of the classes",
    ):
        assert title in page
    card = (run / "saved_model_calibrated" / "MODEL_CARD.md").read_text()
    assert f"temperature {calibrated['temperature']:.3g}" not in card  # naive
    temperature = calibrated["calibrated"]["temperature"]
    assert f"temperature {temperature:.3g}." in card
    assert 'signatures["serve_sets"]' in card
    before = (run / "saved_model" / "MODEL_CARD.md").read_text()
    assert "serve_sets" not in before
    blocks = card.split("```python\n")[1:]
    code = "\n".join(block.split("```")[0] for block in blocks)
    where = {}
    code = code.replace(
        '"saved_model"', repr(str(run / "saved_model_calibrated"))
    )
    exec(code, where)
    assert where["served"]["sets"].shape == (2, 10)


def test_prediction_with_sets_refusal_and_estimated_prior(
    run, calibrated, tool, tmp_path
):
    photos = run.parent / "photos"
    output = tmp_path / "found.jsonl"
    _, error = tool(
        "predict",
        *(run, photos, "--sets=0.85", "--refuse", "--prior=estimate"),
        *("--top_k=1", f"--output={output}"),
    )
    assert "44 images: class frequencies differ from those that" in error
    assert "not calibrated" not in error
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert len(rows) == 44
    loaded = tf.saved_model.load(run / "saved_model_calibrated").signatures
    for row in rows[:5]:
        with Image.open(row["image"]) as image:
            pixels = np.asarray(image)[None, ..., None]
        served = loaded["serve_sets"](images=pixels, coverage=np.float32(0.85))
        (labels,) = np.nonzero(served["sets"].numpy()[0])
        assert {*row["set"]} == {*map(str, labels)}
        (known,) = loaded["serve_known"](images=pixels)["known"].numpy()
        assert row["answer"] == (
            row["classes"][0] if known else "none of these"
        )
    adjusted = np.mean([row["classes"] == ["9"] for row in rows])
    plain, _ = tool("predict", run, photos, "--top_k=1")
    plain = [row["class_1"] == "9" for row in csv.DictReader(plain.split("\n"))]
    assert adjusted >= np.mean(plain)
    table, error = tool("predict", run / "saved_model", photos, "--sets=0.9")
    assert table == ""
    assert "Expected a model that was exported by tools/evaluate.py" in error
    _, error = tool(
        "predict", run / "saved_model", photos, "--prior=estimate", "--top_k=1"
    )
    assert "note: the model is not calibrated" in error
    _, error = tool("predict", run, photos, "--sets=0.999")
    assert "Expected --sets of up to 0.99" in error


def test_again_with_vector_scaling_and_marginal_sets(run, calibrated, tool):
    """The folder is replaced whole, and nothing else is left."""
    before = sorted(path.name for path in run.iterdir())
    output, error = tool(
        "evaluate",
        *(run, "--calibrate=vector", "--set_method=marginal", "--draws=20"),
        *("--refuse_by=mahalanobis", "--keep=0.8", "--fit_on=digits"),
    )
    assert "Fitted on a balanced hold-out of 450 images" in output, error
    assert sorted(path.name for path in run.iterdir()) == before
    folder = run / "saved_model_calibrated"
    about = json.loads((folder / "fitted.json").read_text())
    assert about["calibration"] == "vector" and about["temperature"] is None
    assert about["known"] == {"score": "mahalanobis", "share": 0.8}
    loaded = tf.saved_model.load(folder).signatures
    images = datasets.load("digits", split="test").images
    known = loaded["serve_known"](images=images)["known"].numpy()
    # Fitted on these very images: 80 of 100 are kept.
    assert known.mean() == pytest.approx(0.8, abs=0.01)
    photos = run.parent / "photos"
    _, error = tool("predict", run, photos, "--sets=0.9", "--prior=estimate")
    assert "note: marginal sets hold their share with the class" in error


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--keep=1", "--calibrate"], "Expected share between 0 and 1"),
        (
            ["--unknown=folder:missing"],
            "Expected a folder after folder:. Received",
        ),
        (["--fit_on=folder:missing"], "'missing', which is no folder"),
        (["--unknown=cifar11"], "Expected"),
    ],
)
def test_bad_input(run, tool, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    before = (run / "evaluation.html").stat().st_mtime_ns
    output, error = tool("evaluate", run, "--draws=5", *arguments)
    assert message in error and not output
    assert (run / "evaluation.html").stat().st_mtime_ns == before


def test_unknown_images_of_a_folder_need_the_model_s_shape(run, tool):
    """Files are decoded in color; the digits have one channel."""
    photos = run.parent / "photos"
    _, error = tool("evaluate", run, "--draws=5", f"--unknown=folder:{photos}")
    assert "Expected images of shape (8, 8, 1)" in error
