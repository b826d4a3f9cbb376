"""The record survives the disk, and damage to it is named."""

import html.parser
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from keras_lt import evaluation, metrics, report

NAMES = ["cat", "dog & <b>", "eel", "fly"]
COUNTS = np.array([900, 50, 5, 0])


def make_record(**changes):
    labels = np.repeat([0, 1, 3], 4)
    logits = np.eye(4)[[0, 0, 0, 0, 1, 1, 0, 0, 3, 0, 0, 0]]
    scores = evaluation.recorded(evaluation.Predictions(logits, labels, COUNTS))
    arguments = {
        "name": "toy",
        "dataset": "digits",
        "data": {
            "imbalance_factor": np.float32(180),
            "profile": "exp",
            "selection": "keras_lt",
            "split_seed": 0,
            "holdout": 0.1,
            "num_train": np.int64(955),
            "num_test": 12,
            "num_classes": 4,
            "class_names": NAMES,
            "image_shape": (8, 8, 1),
        },
        "class_counts": COUNTS,
        "shot_thresholds": {"many": 100, "few": 20},
        "method": "single",
        "flags": {"beta": 0.99, "note": "<script>", "path": None, "d": [1, 2]},
        "seed": 3,
        "environment": report.environment(),
        "train": {
            "epochs": 2,
            "steps": 8,
            "steps_per_epoch": 4,
            "batch_size": 128,
            "images": 1024,
            "wall_time_seconds": 1.5,
            "images_per_second": 682.7,
            "precision": "float32",
            "num_parameters": 1234,
            "resumed": 0,
        },
        "history": {"loss": [2.0, float("nan")], "val_few": [0.1, 0.2]},
        "test": {"last": {**scores, "epoch": 2}},
    }
    return report.Record(**{**arguments, **changes})


def test_record_round_trip(tmp_path):
    record = make_record()
    path = tmp_path / "result.json"
    record.write(path)
    assert report.Record.read(path) == record
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]

    def refuse(name):
        raise AssertionError(name)

    stored = json.loads(path.read_text(), parse_constant=refuse)
    assert stored["schema_version"] == report.SCHEMA_VERSION == 2
    assert stored["class_counts"] == [900, 50, 5, 0]
    assert stored["data"]["image_shape"] == [8, 8, 1]
    assert stored["history"]["loss"] == [2.0, None]
    last = stored["test"]["last"]
    assert last["top1"] == 7 / 12
    assert last["per_class"] == [1.0, 0.5, None, 0.25]
    assert (last["many"], last["medium"], last["few"]) == (1.0, 0.5, None)
    assert last["unseen"] == 0.25
    assert '"per_class": [1.0, 0.5, null, 0.25],' in path.read_text()


def test_write_is_atomic(tmp_path, monkeypatch):
    path = tmp_path / "result.json"
    make_record().write(path)
    before = path.read_text()

    def fail(*_):
        raise OSError("disk is full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="full"):
        make_record(seed=4).write(path)
    assert path.read_text() == before
    assert [p.name for p in tmp_path.iterdir()] == ["result.json"]


def delete(*keys):
    def damage(record):
        for key in keys[:-1]:
            record = record[key]
        del record[keys[-1]]

    return damage


@pytest.mark.parametrize(
    "damage, message",
    [
        (delete("train", "steps"), "without train.steps"),
        (delete("test", "last", "ece"), "without test.last.ece"),
        (delete("test", "last", "intervals"), "without test.last.inter"),
        (delete("test"), "without test$"),
        (delete("schema_version"), "schema_version=None"),
        (lambda r: r.update(schema_version=3), "schema_version=3"),
        (lambda r: r.update(test=None), "without test.last"),
        (lambda r: r.update(test=[]), "without test.last"),
        (lambda r: r.update(from_run=3), "from_run is text or null"),
        (lambda r: r["class_counts"].pop(), "4 values.*class_counts"),
        (
            lambda r: r["test"].update(best={**r["test"]["last"]}),
            "without test.best.chosen_by",
        ),
    ],
)
def test_damaged_record_is_named(tmp_path, damage, message):
    record = make_record().to_dict()
    damage(record)
    path = tmp_path / "result.json"
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=message) as error:
        report.Record.read(path)
    assert str(path) in str(error.value)
    with pytest.raises(ValueError, match=message):
        report.Record.from_dict(record)


def put(value, *keys):
    def damage(record):
        for key in keys[:-1]:
            record = record[key]
        record[keys[-1]] = value

    damage.__name__ = f"{'.'.join(map(str, keys))}={value!r:.20}"
    return damage


@pytest.mark.parametrize(
    "damage, message",
    [
        (put("many", "train", "steps"), "train.steps is a count above 0.*'ma"),
        (put(0, "train", "steps"), "train.steps is a count above 0"),
        (put(True, "train", "epochs"), "train.epochs is a count.*=True"),
        (put(10**40, "train", "images"), "train.images is a count"),
        (put(None, "train", "wall_time_seconds"), "is a number.*=None"),
        (put("3", "seed"), "seed is an integer.*seed='3'"),
        (put(3, "name"), "name is text or null"),
        (put([], "dataset"), "dataset is text"),
        (put("abcd", "class_counts"), "class_counts is a list of counts"),
        (put([1, 2, 3, -4], "class_counts"), "class_counts is a list of c"),
        (put([1, 2, 3, 4], "data", "class_names"), "a list of texts"),
        (put([8, 8], "data", "image_shape"), "3 counts above 0"),
        (put("100", "shot_thresholds", "many"), "many is a number"),
        (put(7, "shot_thresholds", "rare"), "shot_thresholds are many and"),
        (put(1000, "shot_thresholds", "few"), "shot_thresholds are many and"),
        (put([], "environment"), "without environment.python"),
        (put(8, "environment", "git_commit"), "git_commit is text or null"),
        (put({"a": {}}, "flags"), "flags is values by flag"),
        (put({"loss": [0.1, "x"]}, "history"), "lists of numbers by metric"),
        (put({"loss": 0.1}, "history"), "lists of numbers by metric"),
        (put(1.5, "test", "last", "top1"), "from 0 to 1"),
        (put("0.5", "test", "last", "few"), "from 0 to 1"),
        (put([1.0], "test", "last", "per_class"), "4 values.*per_class"),
        (put([[1, 2]], "test", "last", "confusion"), "a square matrix"),
        (put("3", "test", "last", "num_images"), "num_images is a count"),
        (put([0.1], "test", "last", "intervals"), "intervals by score"),
        (put({"top1": 1}, "test", "last", "intervals"), "intervals by score"),
        (put({"a": 0.5}, "test", "last", "shifted"), "by class frequencies"),
        (put([3], "test", "last", "images_by_class"), "4 values.*images_by"),
        (put("low", "test", "last", "nll"), "a number or null"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_values_of_another_kind_are_named(tmp_path, damage, message):
    record = make_record().to_dict()
    damage(record)
    path = tmp_path / "result.json"
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match=message) as error:
        report.Record.read(path)
    assert str(path) in str(error.value) and len(str(error.value)) < 700


def old(record):
    """A record as the first version of the schema has it."""
    values = record.to_dict() | {"schema_version": 1}
    first = {*metrics.evaluate(np.eye(2), [0, 1], [1, 1])}
    first -= {"harmonic_mean", "lowest_recall"}
    values["test"] = {
        which: {k: v for k, v in scores.items() if k in {*first, "epoch"}}
        for which, scores in values["test"].items()
    }
    return values


def test_records_of_the_first_version(tmp_path):
    """What came later is made from the confusion matrix, where it says it."""
    record = make_record()
    path = tmp_path / "result.json"
    path.write_text(json.dumps(old(record)))
    assert "intervals" not in path.read_text()
    found = report.Record.read(path)
    last, expected = found.test["last"], record.test["last"]
    # Recalls 1, 1/2 and 1/4 of four images each.
    assert last["harmonic_mean"] == pytest.approx(3 / (1 + 2 + 4))
    assert last["lowest_recall"] == 0.25
    assert last["images_by_class"] == [4, 4, 0, 4]
    # The same draws of the same counts.
    for name in ("top1", "balanced", "lowest_recall", "macro_f1", "matthews"):
        assert last["intervals"][name] == expected["intervals"][name]
    assert last["right"] is last["brier"] is last["top5"] is None
    assert last["ece"] == expected["ece"] and "ece" not in last["intervals"]
    found.write(path)
    assert report.Record.read(path) == found
    # Where there is no matrix nothing is made up.
    values = old(record)
    values["test"]["last"]["confusion"] = None
    found = report.Record.from_dict(values).test["last"]
    assert (found["intervals"], found["lowest_recall"]) == ({}, None)
    report.write_html(
        path.with_suffix(".html"), report.Record.from_dict(values)
    )


def test_records_keep_which_answers_are_right():
    record = make_record()
    answers = evaluation.answers_of(record.test["last"], record.classes)
    assert answers.labels.tolist() == [0] * 4 + [1] * 4 + [3] * 4
    right = [*[True] * 6, False, False, True, False, False, False]
    assert (answers.predicted == answers.labels).tolist() == right
    kept = record.test["last"] | {"right": "AA"}
    with pytest.raises(ValueError, match="right answers of 12 test images"):
        evaluation.answers_of(kept, record.classes)


def test_a_confusion_of_other_classes(tmp_path):
    record = make_record()
    record.test["last"]["confusion"] = [[1]]
    with pytest.raises(ValueError, match=r"Expected 4 rows .* with 1$"):
        report.write_html(tmp_path / "report.html", record)


def test_deep_records_are_refused(tmp_path):
    path = tmp_path / "result.json"
    path.write_text("[" * 10**5)
    with pytest.raises(ValueError, match="Expected a JSON record"):
        report.Record.read(path)
    record, inner = make_record(), []
    for _ in range(100):
        inner = [inner]
    record = record.to_dict()
    record["data"]["other"] = inner
    path.write_text(json.dumps(record))
    with pytest.raises(ValueError, match="at most 32 levels deep"):
        report.Record.read(path)


def test_kinds_of_the_schema_are_those_that_are_known():
    def fields(schema):
        for inner in schema.values():
            if isinstance(inner, dict):
                yield from fields(inner)
            else:
                yield inner

    assert {field.kind for field in fields(report.SCHEMA)} <= {*report.KINDS}


def test_foreign_names_are_no_markdown(tmp_path):
    """Every text of a record is shown as it is, and none ends its place."""
    evil = "[x](http://evil)<img src=x>\n# Heading\n```\n| a | &lt;b&gt;"
    record = make_record(name=evil, dataset=evil, method=evil)
    names = [f"{number} {evil}".replace("\n", " ") for number in range(4)]
    record.data["class_names"] = names
    record.environment = {
        **record.environment,
        **dict.fromkeys(("python", "keras_lt", "git_commit"), evil),
    }
    record.train["precision"] = evil
    record.flags = {"note": evil, evil: "````"}
    path = tmp_path / "MODEL_CARD.md"
    report.write_model_card(path, record)
    _, _, text = path.read_text().split("---\n", 2)
    text, _, flags = text.partition("## Settings")
    settings, _, flags = flags.partition("`````")
    for part in (text.replace("```python", "").replace("```", ""), settings):
        assert "<img" not in part.replace("\\<img", "")
        assert "http://" not in part and "[x]" not in part
        assert not re.search(r"(?<!\\)&lt;", part)
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert len(headings) == 6  # of the card itself, but for its settings
    assert flags.count("`````") == 1 and flags.rstrip().endswith("`````")
    report.write_html(tmp_path / "report.html", record)
    page = read_page(tmp_path / "report.html")
    assert "img" not in page.tags


@pytest.mark.parametrize("text", ["", '{"schema_version": 1', "[1]"])
def test_other_files_are_refused(tmp_path, text):
    path = tmp_path / "result.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"result\.json"):
        report.Record.read(path)


def test_record_rejects_what_json_cannot_hold():
    with pytest.raises(TypeError, match=r"record.flags.f of type function"):
        make_record(flags={"f": delete})


def test_environment(tmp_path, monkeypatch):
    module = sys.modules[report.environment.__module__]
    found = report.environment()
    assert set(found) >= {
        "python",
        "tensorflow",
        "keras",
        "numpy",
        "keras_lt",
        "platform",
        "cpu_count",
        "devices",
        "git_commit",
        "git_dirty",
    }
    assert found["devices"] and json.dumps(found)
    # A checkout of its own: clean, then changed.
    package = tmp_path / "keras_lt"
    package.mkdir()
    (package / "__init__.py").write_text("")
    monkeypatch.setattr(module, "__file__", str(package / "environment.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert report.environment()["git_commit"] is None

    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        return subprocess.run(
            ["git", *identity, *arguments],
            cwd=tmp_path,
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()

    git("init")
    # The package lies in somebody's checkout that does not track it.
    assert report.environment()["git_commit"] is None
    git("add", ".")
    git("commit", "-m", "first")
    found = report.environment()
    assert found["git_commit"] == git("rev-parse", "HEAD")
    assert found["git_dirty"] is False
    (package / "__init__.py").write_text("changed = 1\n")
    assert report.environment()["git_dirty"] is True


class Reader(html.parser.HTMLParser):
    """Collects text and tags, and checks that tags close."""

    def __init__(self):
        super().__init__()
        self.text, self.tags, self.open, self.links = [], [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [v for k, v in attributes if k in ("src", "href")]
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        if self.open.pop() != tag:
            raise AssertionError(f"{tag} is not the innermost open tag")

    def handle_data(self, data):
        self.text.append(data.strip())


def read_page(path):
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    assert not reader.open
    return reader


def test_page(tmp_path):
    path = tmp_path / "report.html"
    record = make_record()
    best = {**record.test["last"], "epoch": 1, "chosen_by": "val_few"}
    record.test["best"] = best
    report.write_html(path, record)
    page = read_page(path)
    assert page.tags.count("svg") == 4
    assert "script" not in page.tags and "b" not in page.tags
    assert not [link for link in page.links if not link.startswith("#")]
    assert not re.search(r"url\((?!#)|@import", path.read_text())
    for text in (
        "toy",
        "58.3%",
        "100.0%",
        "50.0%",
        "n/a",
        "25.0%",
        "last (epoch 2)",
        "best (epoch 1, chosen by val_few)",
        "dog & <b>",
        "<script>",
        "cat (2)",
        "1, 2",
        record.environment["tensorflow"],
    ):
        assert text in page.text, text


def test_page_without_history_name_or_confusion(tmp_path):
    record = make_record(name=None, history={})
    record.test["last"]["confusion"] = None
    path = tmp_path / "report.html"
    report.write_html(path, record)
    page = read_page(path)
    assert page.tags.count("svg") == 2
    assert "single on digits" in page.text
    del record.train["steps"]  # dictionaries may be changed
    with pytest.raises(ValueError, match=r"without train\.steps"):
        report.write_html(path, record)


def card(tmp_path, *logit_counts, **changes):
    path = tmp_path / "MODEL_CARD.md"
    report.write_model_card(path, make_record(**changes), *logit_counts)
    return path.read_text(encoding="utf-8")


def test_model_card(tmp_path):
    text = card(tmp_path, COUNTS)
    lines = text.splitlines()
    # 8 of 12 test images are right, of classes 4 / 4, 2 / 4 and 1 / 4.
    header = lines.index(
        "|  | top-1 | balanced | harmonic mean | lowest recall | many | "
        "medium | few | unseen | ECE |"
    )
    cells, ends = (
        [cell.strip() for cell in lines[header + row].split("|")[1:-1]]
        for row in (2, 3)
    )
    assert cells[:6] == ["score", "58.3%", "58.3%", "42.9%", "25.0%", "100.0%"]
    assert cells[6:9] == ["50.0%", "n/a", "25.0%"]
    low, high = make_record().test["last"]["intervals"]["balanced"]
    assert ends[2] == f"{100 * low:.1f} to {100 * high:.1f}"
    assert (ends[0], ends[7]) == ("95 % interval", "n/a")
    classes = lines.index("| class | group | training images | accuracy |")
    assert lines[classes + 2 : classes + 6] == [
        "| cat | many | 900 | 100.0% |",
        "| dog & \\<b\\> | medium | 50 | 50.0% |",
        "| eel | few | 5 | n/a |",
        "| fly | unseen | 0 | 25.0% |",
    ]
    assert "Classes with few training images: eel." in text
    assert "Classes with no training image: fly." in text
    assert "lowest accuracies: fly (25.0%), dog & \\<b\\> (50.0%)," in text
    assert "--beta=0.99" in lines and "--d=1,2" in lines
    assert "from 0 to 900 training images." in text
    assert os.listdir(tmp_path) == ["MODEL_CARD.md"]


@pytest.mark.parametrize(
    "logit_counts, words",
    [
        (None, "There is no `serve_prior`"),
        (COUNTS / 955, "own are those of the training images."),
        ([1, 1, 1, 0], "own are equal."),
        ([4, 2, 1, 0], "own are those that the sampler and the loss"),
    ],
)
def test_model_card_says_what_the_prior_is(tmp_path, logit_counts, words):
    assert words in card(tmp_path, logit_counts)


def header(text):
    """The metadata that the Hugging Face Hub reads, as YAML."""
    yaml = pytest.importorskip("yaml")
    _, metadata, body = text.split("---\n", 2)
    assert text.startswith("---\n") and body.startswith("\n# ")
    return yaml.safe_load(metadata)


def test_model_card_opens_with_metadata_of_the_hub(tmp_path):
    found = header(card(tmp_path, dataset="folder:/home/me/my photos/"))
    assert found["license"] == "unknown"
    assert found["library_name"] == "keras_lt"
    assert found["pipeline_tag"] == "image-classification"
    assert "long-tailed-recognition" in found["tags"]
    assert found["metrics"] == ["accuracy"]
    (index,) = found["model-index"]
    assert index["name"] == "toy"
    (result,) = index["results"]
    assert result["task"] == {"type": "image-classification"}
    assert result["dataset"] == {
        "type": "folder",
        "name": "my photos",
        "split": "test",
    }
    values = {each["type"]: each["value"] for each in result["metrics"]}
    # 7 of 12; recalls of 1, 1/2 and 1/4; there is no few-shot image.
    assert values.pop("ece") == pytest.approx(
        make_record().test["last"]["ece"], abs=1e-6
    )
    assert values == pytest.approx(
        {
            "accuracy": 7 / 12,
            "balanced_accuracy": 1.75 / 3,
            "harmonic_mean": 3 / 7,
            "lowest_recall": 0.25,
            "many": 1.0,
            "medium": 0.5,
            "unseen": 0.25,
        },
        abs=1e-6,
    )


@pytest.mark.parametrize(
    "evil, shown",
    [
        ('": [ {', '": [ {'),
        ("\\U0001f600 \\", "\\U0001f600 \\"),
        ("no", "no"),
        ("- a: &b *c !d # e % @ `", "- a: &b *c !d # e % @ `"),
        ("\n---\n# Heading", "\\n---\\n# Heading"),
        ("猫 \U0001f408", "猫 \U0001f408"),
        ("\u2028\x85\ufeff\ufffe", None),
        ("caf\udce9\ud800", "caf\\udce9\\ud800"),
        ("\x00\x1b\x7f", None),
    ],
)
def test_metadata_of_hostile_names(evil, shown, tmp_path):
    record = make_record(name=evil, dataset=evil)
    names = ["---", '"', "- a: b", "{"]  # hostile, as far as names may be
    record.data |= {"class_names": names, "test_split": evil}
    path = tmp_path / "MODEL_CARD.md"
    report.write_model_card(path, record)
    found = header(path.read_text(encoding="utf-8"))
    (index,) = found["model-index"]
    dataset = index["results"][0]["dataset"]
    if shown is not None:
        assert index["name"] == shown
        assert dataset["split"] == shown
    assert re.fullmatch("[a-z0-9._-]+", dataset["type"])


@pytest.mark.parametrize(
    "flags, data, regime",
    [
        ({}, {}, "standard"),
        ({"augment": None}, {}, "standard"),
        ({"augment": "pad_crop_flip(4)"}, {}, "standard"),
        ({"augment": "pad_crop_flip(2)"}, {}, "pad_crop_flip(2)"),
        (
            {"augment": "random_resized_crop|pad_crop_flip(0)"},
            {"random_resized_crop": True},
            "standard with random resized crops",
        ),
        (
            {"augment": "random_resized_crop"},
            {"random_resized_crop": True},
            "random_resized_crop",
        ),
        (
            {"augment": "random_resized_crop(0.5)|pad_crop_flip(0)"},
            {"random_resized_crop": True},
            "random_resized_crop(0.5)|pad_crop_flip(0)",
        ),
        ({"augment": "strong"}, {"random_resized_crop": False}, "strong"),
        (
            {"augment": "strong", "random_resized_crop": None},
            {"random_resized_crop": True},
            "strong with random resized crops",
        ),
    ],
)
def test_augmentation_regimes(flags, data, regime):
    record = make_record(flags=flags)
    record.data.update(data)
    assert record.augmentation == regime


def test_model_card_of_an_incomplete_record(tmp_path):
    broken = make_record()
    del broken.test["last"]["ece"]
    with pytest.raises(ValueError, match=r"without test\.last\.ece"):
        report.write_model_card(tmp_path / "card.md", broken)
    assert not list(tmp_path.iterdir())


def test_run_without_a_classifier(tmp_path):
    record = make_record(test={}, method="bns")
    record.write(tmp_path / "result.json")
    assert report.Record.read(tmp_path / "result.json") == record
    report.write_html(tmp_path / "report.html", record)
    page = read_page(tmp_path / "report.html")
    assert page.tags.count("svg") == 2  # training images, and curves
    assert any("without a classifier" in text for text in page.text)
    assert "accuracy" not in page.text and "900" in page.text
    with pytest.raises(ValueError, match=r"with a classifier.*'toy'"):
        report.write_model_card(tmp_path / "card.md", record)
    with pytest.raises(ValueError, match="'toy' seed 3 without"):
        report.write_comparison(tmp_path / "compare.html", [record])


def test_a_stage_names_the_run_it_started_from(tmp_path):
    record = make_record(from_run="ce <b> seed 0")
    record.write(tmp_path / "result.json")
    assert report.Record.read(tmp_path / "result.json") == record
    report.write_html(tmp_path / "report.html", record)
    assert "ce <b> seed 0" in read_page(tmp_path / "report.html").text
    assert "from ce \\<b\\> seed 0" in card(tmp_path, from_run=record.from_run)
    # Records of before say nothing.
    before = record.to_dict()
    del before["from_run"]
    assert report.Record.from_dict(before).from_run is None


def test_a_score_of_ones_own_is_listed_everywhere(tmp_path, monkeypatch):
    """One entry in the table: what is stored and shown reads it."""
    old = make_record()
    score = metrics.Score(
        "highest",
        "highest <i>",
        "accuracy on the class with the highest",
        unit="",
        is_headline=True,
        of=lambda tally: tally.recalls.max(-1),
    )
    monkeypatch.setitem(metrics.SCORES, "highest", score)
    record = make_record(name="new")
    assert record.test["last"]["highest"] == 1.0
    assert metrics.summary(record.test["last"]).endswith(", highest 1.0000")
    record.write(tmp_path / "result.json")
    assert report.Record.read(tmp_path / "result.json") == record
    report.write_html(tmp_path / "report.html", record)
    assert {"highest <i>", "1.000"} <= {
        *read_page(tmp_path / "report.html").text
    }
    assert "| ECE | highest \\<i\\> |" in card(tmp_path)
    # Records from before the score have none.
    report.write_comparison(tmp_path / "compare.html", [record, old])
    shown = read_page(tmp_path / "compare.html").text
    assert "highest <i>" in shown and shown.count("n/a") >= 1
    damaged = record.to_dict()
    damaged["test"]["last"]["highest"] = "high"
    with pytest.raises(ValueError, match=r"test\.last\.highest is a number"):
        report.Record.from_dict(damaged)
