"""The page of mistakes: what is planted is shown, and names do no harm."""

import base64
import io
import json
import re
import runpy
import shutil
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
import recipe
from PIL import Image
from sklearn.datasets import load_digits

from keras_lt import evaluation, report
from keras_lt.report import galleries

TOOL = recipe.REPO / "tools" / "mistakes.py"
HOSTILE = '"><img src=x onerror=alert(1)>&amp;.png'
# Digits of each class to train and to test on.
CLASSES = {"eight": (8, 60, 12), "<b>one $x$": (1, 25, 12)}
CLASSES |= {"nine": (9, 12, 12), "alone": (4, 1, 2), "untested": (0, 9, 0)}


class Page(HTMLParser):
    """Tags, texts and pictures of a page."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.texts, self.pictures = [], [], []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag == "img":
            self.pictures.append(dict(attributes))

    def handle_data(self, data):
        if data.strip():
            self.texts.append(" ".join(data.split()))


def pixels(picture):
    """What a picture of a page shows."""
    kind, text = picture["src"].split(";base64,")
    assert kind in ("data:image/png", "data:image/jpeg")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(text))))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Digits with a wrong label, a twin in both splits and a hostile name."""
    root = tmp_path_factory.mktemp("photos")
    images, labels = load_digits(return_X_y=True)
    images = (images.reshape(-1, 8, 8) * 15.9).astype(np.uint8)
    images = images.repeat(2, 1).repeat(2, 2)
    for name, (label, train, test) in CLASSES.items():
        own = images[labels == label]
        for split, chosen in (("train", own[:train]), ("test", own[-test:])):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number, image in enumerate(chosen if len(chosen) else ()):
                if split == "test" and not test:
                    continue
                Image.fromarray(image).save(folder / f"{number:02}.png")
    shutil.copy(root / "train/nine/03.png", root / "test/nine/twin.png")
    eight = root / "train" / "eight"
    Image.fromarray(images[labels == 9][50]).save(eight / HOSTILE)
    return root


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "run"
    with pytest.MonkeyPatch.context() as monkeypatch:
        code = recipe.run(
            monkeypatch,
            f"--dataset=folder:{photos}",
            f"--workdir={workdir}",
            "--image_size=16",
            "--backbone=cifar_resnet(8)",
            "--augment=pad_crop_flip(0)",
            "--loss=balanced_softmax",
            "--epochs=2",
            "--batch_size=16",
            "--seed=1",
        )
    assert code == 0
    return workdir


def run_tool(monkeypatch, *arguments, name="mistakes"):
    """Exit code of the tool, or its message."""
    path = str(TOOL.with_stem(name))
    monkeypatch.setattr(sys, "argv", [path, *map(str, arguments)])
    try:
        runpy.run_path(path, run_name="__main__")
    except SystemExit as end:
        return end.code
    return 0


@pytest.fixture(scope="module")
def page(run):
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert run_tool(monkeypatch, run) == 0
    return Page(run / "mistakes.html")


def test_page_shows_each_mistake_once_by_confidence(page, run):
    test = evaluation.read(run / "logits.npz").test
    names = report.Record.read(run / "result.json").classes.names
    errors = evaluation.confident_errors(test)
    start = page.texts.index("Of all classes") + 1
    shown = [text for text in page.texts[start:] if ", taken for " in text]
    expected = [
        f"{names[test.labels[i]]}, taken for {names[test.predicted[i]]}, "
        for i in errors[:24]
    ]
    assert len(expected) > 3
    for caption, text in zip(expected, shown, strict=False):
        assert text.startswith(caption)
    # The class with one training image, and none of the class without a test.
    assert any(text.startswith("alone: ") for text in page.texts)
    assert not any(text.startswith("untested: ") for text in page.texts)
    assert any("not judged" in text for text in page.texts)


def test_page_shows_the_planted_twin(page):
    heading = next(text for text in page.texts if "twin.png = " in text)
    assert heading.endswith("03.png")
    alts = [picture["alt"] for picture in page.pictures]
    place = next(
        place
        for place, alt in enumerate(alts)
        if alt.endswith("twin.png") and alts[place + 1].endswith("nine/03.png")
    )
    twin, trained = (pixels(page.pictures[place + i]) for i in (0, 1))
    np.testing.assert_array_equal(twin, trained)


def test_page_is_small_and_takes_names_for_text(page, run):
    assert not {"b", "script"} & {*page.tags}
    assert len(page.pictures) == page.tags.count("img")
    assert "$x$" in " ".join(page.texts)
    # All that the pages of this run hold is in them.
    content = (run / "mistakes.html").read_text()
    assert len(content) < 3_000_000
    assert not re.search(r"(src|href)=.(?!data:)", content)
    assert "onerror=alert(1)>" not in content


def test_hostile_names_stay_texts(tmp_path):
    image = np.zeros((8, 8, 1), np.uint8)
    picture = report.Picture(image, HOSTILE, HOSTILE)
    gallery = report.Gallery(HOSTILE, HOSTILE, {HOSTILE: [picture]})
    path = tmp_path / "page.html"
    report.write_galleries(path, [gallery], title=HOSTILE)
    page = Page(path)
    assert page.tags.count("img") == 1
    assert page.pictures[0]["alt"] == HOSTILE
    assert page.texts.count(" ".join(HOSTILE.split())) == 6


def test_pictures_fit_whatever_they_are(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (1, 300, 200, 3))
    pictures = [report.Picture(noise[0], "noise")] * 300
    gallery = report.Gallery("Noise", "Worst case.", {"All": pictures})
    path = tmp_path / "page.html"
    report.write_galleries(path, [gallery], title="noise")
    assert path.stat().st_size < 3_000_000
    shown = pixels(Page(path).pictures[0])
    assert shown.shape[0] in galleries._SIDES and shown.shape[2] == 3
    with pytest.raises(ValueError, match="Expected an image of shape"):
        report.write_galleries(
            path,
            [gallery._replace(rows={"": [report.Picture(noise, "")]})],
            title="noise",
        )


def test_a_run_without_its_images_is_said_so(
    run, photos, tmp_path, monkeypatch
):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "mistakes.html").unlink(missing_ok=True)
    hidden = photos.with_name("hidden")
    photos.rename(hidden)
    try:
        message = run_tool(monkeypatch, copy)
    finally:
        hidden.rename(photos)
    assert message.startswith("mistakes.py: error: ")
    assert str(photos) in message and "\n" not in message
    assert not (copy / "mistakes.html").exists()
    message = run_tool(monkeypatch, tmp_path / "none")
    assert "Expected the workdir of a finished run" in message


@pytest.fixture
def evaluated(run, monkeypatch, capsys):
    """What tools/evaluate.py tells of the run, or of another, with flags."""

    def start(*flags, of=run):
        flags = (of, "--draws=5", "--json", *flags)
        message = run_tool(monkeypatch, *flags, name="evaluate")
        output = capsys.readouterr().out
        return message if isinstance(message, str) else json.loads(output)

    return start


def test_a_run_is_scored_on_other_images(run, photos, evaluated, tmp_path):
    """Classes go by their names: their ids are others in the other folder."""
    names = report.Record.read(run / "result.json").classes.names
    trained = evaluated("--split=train")["per_class"]
    assert trained["images"] == trained["class_counts"]
    copied = ("nine", "<b>one $x$")
    for name in copied:
        shutil.copytree(photos / "train" / name, tmp_path / "new" / name)
    found = evaluated(f"--dataset=folder:{tmp_path / 'new'}")
    for name, size, *recalls in zip(
        names,
        found["per_class"]["images"],
        found["per_class"]["recall"],
        trained["recall"],
        strict=True,
    ):
        if name in copied:
            assert size == CLASSES[name][1]
            assert recalls[0] == recalls[1]
        else:
            assert size == 0 and recalls[0] is None
    message = evaluated(f"--dataset=folder:{photos / 'train' / 'nine'}")
    assert "evaluate.py: error: Expected" in message


def test_two_runs_are_compared(run, evaluated, tmp_path):
    """Also one of before runs kept the prior of their logits."""
    old = tmp_path / "old"
    shutil.copytree(run, old)
    with np.load(run / "logits.npz") as arrays:
        kept = dict(arrays)
    prior = kept.pop("logit_counts")
    assert np.ptp(prior) == 0  # of balanced softmax
    np.savez(old / "logits.npz", **kept)
    found, other = evaluated(f"--compare={old}"), evaluated(of=old)
    first, *verdict = found["comparison"]["verdict"]
    assert first == "The first is run, the second old."
    assert all("cannot be told apart" in each for each in verdict)
    assert found["comparison"]["mcnemar"]["p_value"] == 1
    for name, shares in found["shifted"].items():
        assert other["shifted"][name] == pytest.approx(shares, abs=1e-6)
    # Wrong is what is said where nobody knows the prior.
    shutil.rmtree(old / "saved_model")
    guessed = evaluated(of=old)
    assert guessed["shifted"] != found["shifted"]
    said = "taken to carry the class frequencies of the training images"
    assert [said in " ".join(each["notes"]) for each in (guessed, found)] == [
        True,
        False,
    ]
    (old / "logits.npz").write_bytes(b"PK")
    assert "Expected an .npz file" in evaluated(of=old)
