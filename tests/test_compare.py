"""The page of several records: its numbers, its notes, what it refuses."""

import html
import json
import re
import runpy
import subprocess
import sys

import numpy as np
import pytest
import recipe
from test_report import COUNTS, make_record, read_page

from keras_lt import evaluation, plots, report

TOOL = recipe.REPO / "tools" / "compare.py"
RESULTS = recipe.REPO / "recipes" / "results"


def make_run(name="a", seed=0, scores=(), **changes):
    record = make_record(name=name, seed=seed, **changes)
    record.flags["seed"] = seed
    record.test["last"].update(dict(scores))
    return record


def rows(path):
    """Cells of each row of each table, emphasised ones in asterisks."""
    text = path.read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")
    found = []
    for row in re.findall(r"<tr>(.*?)</tr>", text):
        cells = re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row)
        cells = [re.sub("</?strong>", "*", cell) for cell in cells]
        found.append([html.unescape(cell) for cell in cells])
    return found


def notes(path):
    text = path.read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")
    found = re.findall('<p class="said wide">(.*?)</p>', text)
    return [html.unescape(note) for note in found]


def test_scores_and_their_best(tmp_path):
    path = tmp_path / "compare.html"
    first, second = (
        {"top1": 0.5, "balanced": 0.4, "many": 0.8, "few": 0.2, "ece": 0.1},
        {"top1": 0.7, "balanced": 0.4, "many": 0.9, "few": 0.4, "ece": 0.3},
    )
    other = {"top1": 0.60001, "balanced": 0.3, "many": 0.5, "few": 0.6}
    report.write_comparison(
        path,
        [
            make_run("a <i>", 1, second),
            make_run("b", 0, {**other, "ece": 0.05}),
            make_run("a <i>", 0, first),
        ],
    )
    # Sample deviations of two values are their distance over sqrt(2).
    header, *methods = (" | ".join(row) for row in rows(path)[:3])
    assert header == (
        "method | seeds | top-1 | balanced | harmonic mean | lowest recall | "
        "many | medium | few | unseen | ECE | epochs | steps | images/step | "
        "minutes"
    )
    assert methods == [
        "1. a <i> | 2 | *60.0 ± 14.1* | *40.0 ± 0.0* | *42.9 ± 0.0* | "
        "*25.0 ± 0.0* | *85.0 ± 7.1* | *50.0 ± 0.0* | 30.0 ± 14.1 | "
        "*25.0 ± 0.0* | 20.0 ± 14.1 | 2 | 8 | 128 | 0",
        "2. b | 1 | *60.0* | 30.0 | *42.9* | *25.0* | 50.0 | *50.0* | *60.0* | "
        "*25.0* | *5.0* | 2 | 8 | 128 | 0",
    ]
    seeds = [row[:3] for row in rows(path)[6:9]]
    assert seeds == [
        ["1. a <i>", "0", "50.0"],
        ["1. a <i>", "1", "70.0"],
        ["2. b", "0", "60.0"],
    ]
    assert notes(path) == []
    page = read_page(path)
    assert page.tags.count("svg") == 3
    assert "i" not in page.tags and "script" not in page.tags
    assert not [link for link in page.links if not link.startswith("#")]
    assert not re.search(r"url\((?!#)|@import", path.read_text())
    assert "few-shot accuracy" in page.text
    assert [p.name for p in tmp_path.iterdir()] == ["compare.html"]


def answering(name, wrong, seed=0):
    """A record of 100 images per class, of which some have wrong answers."""
    labels = np.repeat(np.arange(4), 100)
    predicted = labels.copy()
    predicted[wrong] = 0
    answers = evaluation.Predictions(predicted, labels, COUNTS)
    scores = evaluation.recorded(answers)
    return make_run(name, seed, {**scores, "ece": 0.1})


def test_pairs_on_the_same_images(tmp_path):
    """The best one has 20 errors, another 25 with 19 of them, the last 90."""
    records = [
        answering("other", np.r_[101:120, 200:206]),
        answering("best", np.r_[100:120]),
        answering("worst", np.r_[100:150, 250:290]),
        answering("of another seed", np.r_[100:150], seed=1),
    ]
    path = tmp_path / "compare.html"
    found = report.write_comparison(path, records)
    assert [(pair.method[3:], pair.seed) for pair in found] == [
        ("other", 0),
        ("worst", 0),
    ]
    other, worst = found
    # Of 7 images that one alone has right, 1 and 6: 2 * (1 + 7) / 2^7.
    assert other.found["mcnemar"]["p_value"] == pytest.approx(16 / 128)
    assert other.cells[0].startswith("cannot be told apart (")
    # 70 errors more of 400; of class 1, 30 more of 100.
    assert worst.found["mcnemar"]["only_first"] == 0
    assert worst.cells[0].startswith("worse: -17.5 (")
    assert worst.cells[2].startswith("worse: -30.0 (")
    assert "3. worst against 2. best, seed 0: top-1 worse" in str(worst)
    page = read_page(path)
    title = "Against 2.\N{NO-BREAK SPACE}best, on the same test images"
    assert title in page.text
    # A record that does not say which answers are right is in no pair.
    records[1].test["last"]["right"] = None
    pairs = report.write_comparison(path, records)
    assert [pair.other[3:] for pair in pairs] == ["other"]


def test_lines_are_means_over_seeds(tmp_path, monkeypatch):
    drawn = {}
    draw = report.comparison.plots.compare_per_class

    def spy(methods, *arguments, **options):
        drawn.update(methods)
        return draw(methods, *arguments, **options)

    monkeypatch.setattr(report.comparison.plots, "compare_per_class", spy)
    report.write_comparison(
        tmp_path / "compare.html",
        [
            make_run(seed=0, scores={"per_class": [0.5, 0.25, None, 1.0]}),
            make_run(seed=1, scores={"per_class": [1.0, 0.75, None, 0.0]}),
        ],
    )
    (values,) = drawn.values()
    assert [round(v, 6) for v in values[[0, 1, 3]]] == [0.75, 0.5, 0.5]
    assert values[2] != values[2]


def test_empty_groups_are_not_zero(tmp_path):
    path = tmp_path / "compare.html"
    # As in the record: no test image of the one few-shot class.
    report.write_comparison(path, [make_run("a"), make_run("b")])
    page = read_page(path)
    assert rows(path)[1][8] == rows(path)[2][8] == "n/a"
    assert page.tags.count("svg") == 2
    assert "n/a: a group is empty." in page.text
    # Without few-shot classes the tail is the medium-shot one.
    report.write_comparison(
        path, [make_run(shot_thresholds={"many": 100, "few": 0})]
    )
    page = read_page(path)
    assert page.tags.count("svg") == 3
    assert "medium-shot accuracy" in page.text


def test_what_differs_is_said(tmp_path):
    path = tmp_path / "compare.html"
    runs = [make_run("a", 0), make_run("b", 0), make_run("b", 1)]
    for run in runs[1:]:
        run.train.update(epochs=4, steps=16, images=16 * 256)
        run.data["holdout"] = 0.0
        del run.flags["note"]
    runs[2].flags["beta"] = 0.9
    runs[2].train["steps"] = 1600
    report.write_comparison(path, runs)
    assert notes(path) == [
        "Not the same in all methods: epochs 2 (1), 4 (2); "
        "steps 8 (1), 16 (2), 1600 (2); images per step 128 (1), 256 (2), "
        "2.56 (2); hold-out 0.1 (1), 0 (2).",
        "Seeds of 2. b differ in the flags beta: their mean is not that of "
        "one method.",
    ]
    assert rows(path)[2][-4:] == ["4", "16 / 1,600", "256 / 2.56", "0"]
    assert rows(path)[-2:] == [
        ["beta", "0.99", "0.99 / 0.9"],
        ["note", "<script>", "absent"],
    ]


def put(data=(), **changes):
    def change(record):
        record.data.update(data)
        for name, value in changes.items():
            setattr(record, name, value)

    return change


def renamed(record):
    record.data["class_names"] = ["cat", "dog", "eel", "fly"]


@pytest.mark.parametrize(
    "change, message",
    [
        (put(dataset="mnist"), "dataset='mnist' .*'digits'$"),
        (
            put(class_counts=[900, 50, 6, 0]),
            r"class_counts\[2\]=6 where .* has 5$",
        ),
        (
            put({"holdout": 0.0}, class_counts=[900, 50, 6, 0]),
            r"has 5 \(hold-outs of 0 and 0.1\)$",
        ),
        (renamed, r"class_names\[1\]='dog' where .* has 'dog & <b>'$"),
        (
            lambda r: r.shot_thresholds.update(few=10),
            "shot_thresholds.few=10 where .* has 20$",
        ),
        (
            lambda r: r.data.update(num_test=13),
            "data.num_test=13 where .* has 12$",
        ),
        (
            lambda r: (
                put(
                    {"num_classes": 2, "class_names": ["cat", "dog"]},
                    class_counts=[9, 1],
                )(r),
                r.test["last"].update(
                    per_class=[1.0, 0.0], images_by_class=[4, 8]
                ),
            ),
            "data.num_classes=2 where .* has 4$",
        ),
        (
            lambda r: r.flags.update(augment="strong"),
            "augmentation='strong' where .* has 'standard'$",
        ),
        (
            lambda r: r.data.update(random_resized_crop=True),
            "augmentation='standard with random resized crops' where .* has "
            "'standard'$",
        ),
        (put(name="a", seed=1), "two with name='a', seed=1$"),
        (
            lambda r: r.data.pop("profile"),
            r"records\[2\] without data.profile$",
        ),
    ],
)
def test_refuses_what_cannot_be_compared(tmp_path, change, message):
    runs = [make_run("a", 0), make_run("a", 1), make_run("odd", 5)]
    change(runs[2])
    with pytest.raises(ValueError, match=message) as error:
        report.write_comparison(tmp_path / "compare.html", runs)
    if " where " in str(error.value):
        assert "Received: 'odd' seed 5 with " in str(error.value)
        assert " where 'a' seed 0 has " in str(error.value)
    assert not list(tmp_path.iterdir())


def test_refuses_no_record(tmp_path):
    with pytest.raises(ValueError, match="at least one record"):
        report.write_comparison(tmp_path / "compare.html", [])


def compare(monkeypatch, *arguments):
    """What the tool, run in this process, says when it fails."""
    monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, arguments)])
    try:
        runpy.run_path(str(TOOL), run_name="__main__")
    except SystemExit as end:
        return end.code


def test_runs_of_any_kind(tmp_path, monkeypatch, capsys):
    workdir, folder = tmp_path / "workdir", tmp_path / "records"
    workdir.mkdir()
    folder.mkdir()
    make_run("a").write(workdir / "result.json")
    for seed in (0, 1, 10):
        make_run("b", seed).write(folder / f"seed{seed}.json")
    monkeypatch.chdir(tmp_path)
    single = tmp_path / "single.json"
    make_run("c").write(single)
    assert compare(monkeypatch, workdir, folder, single) is None
    *said, last = capsys.readouterr().out.splitlines()
    assert last == "compare.html"
    alike = "cannot be told apart (+0.0 to +0.0)"
    for line, method in zip(said, ("2. b", "3. c"), strict=True):
        assert line.startswith(
            f"{method} against 1. a, seed 0: top-1 {alike}; balanced {alike}; "
            "lowest recall cannot be told apart (-"
        )
    shown = [row[:2] for row in rows(tmp_path / "compare.html")[1:4]]
    assert shown == [["1. a", "1"], ["2. b", "3"], ["3. c", "1"]]
    # A page of ours is replaced, by write_html too, and one from before
    # templates.
    page = tmp_path / "compare.html"
    before = page.read_text()
    page.write_text(before.replace('class="eyebrow"', "class=eyebrow"))
    assert page.read_text() != before
    assert compare(monkeypatch, single) is None
    assert len(rows(tmp_path / "compare.html")[1:]) < 5
    report.write_html(tmp_path / "compare.html", make_run("c"))


def test_the_tool_refuses(tmp_path, monkeypatch):
    good, broken = tmp_path / "good.json", tmp_path / "broken.json"
    make_run().write(good)
    broken.write_text('{"schema_version":\n 1')
    thesis = tmp_path / "thesis.html"
    thesis.write_text("<!doctype html><p>years of work")
    (tmp_path / "empty").mkdir()
    before = {p: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    new = f"--output={tmp_path / 'new.html'}"
    for arguments, message in (
        ([new, tmp_path / "no.json"], "No such file.*no.json"),
        ([new, tmp_path / "empty"], r"result.json or seed\*.json.*/empty$"),
        ([new, good, broken], "JSON record.*broken.json"),
        ([new, good, good], "one record of each name and seed"),
        ([f"--output={thesis}", good], "page of keras_lt.*thesis.html"),
        ([f"--output={good}", good], "page of keras_lt.*good.json"),
        ([f"--output={tmp_path}", good], "page of keras_lt"),
        ([f"--output={tmp_path / 'no' / 'x.html'}", good], "folder that"),
    ):
        error = compare(monkeypatch, *arguments)
        assert error.startswith("compare.py: error: ")
        assert re.search(message, error) and "\n" not in error
    with pytest.raises(ValueError, match="page of keras_lt"):
        report.write_html(thesis, make_run())
    after = {p: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()}
    assert after == before


def test_the_tool_on_the_kept_records(tmp_path, monkeypatch):
    def is_comparable(path):
        record = report.Record.read(path)
        kind = record.dataset, record.augmentation
        left_out = record.flags.get("test_split") == "left_out"
        return kind == ("cifar10", "standard") and not left_out

    found = filter(is_comparable, RESULTS.glob("*/seed*.json"))
    folders = sorted({path.parent for path in found})
    folders = folders[::3]  # drawing all of them takes long
    path = tmp_path / "compare.html"
    command = [sys.executable, TOOL, f"--output={path}", *folders]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *paired, last = done.stdout.splitlines()
    assert last == str(path)
    assert all(" against " in line for line in paired)
    read_page(path)
    shown = rows(path)
    for number, folder in enumerate(folders, 1):
        records = [json.loads(p.read_text()) for p in folder.glob("seed*.json")]
        scores = [record["test"]["last"]["top1"] for record in records]
        mean = 100 * sum(scores) / len(scores)
        name, _, top1, *_ = shown[number]
        assert name == f"{number}. {records[0]['name']}"
        assert float(top1.strip("*").split(" ± ")[0]) == round(mean, 1)
    before = path.read_text()
    error = compare(monkeypatch, f"--output={path}", tmp_path / "none")
    assert error.startswith("compare.py: error: ")
    assert path.read_text() == before


@pytest.mark.parametrize(
    "edit",
    [
        lambda record: record.update(class_counts="many"),
        lambda record: record.update(seed=[1]),
        lambda record: record["train"].update(images=None),
        lambda record: record["environment"].clear(),
        lambda record: record["test"]["last"].update(top1="high"),
    ],
)
def test_edited_records_are_one_line(edit, tmp_path, monkeypatch):
    record = make_run().to_dict()
    edit(record)
    path = tmp_path / "result.json"
    path.write_text(json.dumps(record))
    page = tmp_path / "page.html"
    monkeypatch.setattr(
        sys, "argv", ["compare.py", f"--output={page}", str(path)]
    )
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(TOOL), run_name="__main__")
    assert str(end.value).startswith("compare.py: error: Expected ")
    assert str(path) in str(end.value) and "\n" not in str(end.value)
    assert not page.exists()


@pytest.mark.parametrize(
    "against, wanted", [("minutes", [1.0, 3.0]), ("steps", [50.0, 100.0])]
)
def test_accuracy_against_what_it_cost(tmp_path, monkeypatch, against, wanted):
    """Of runs with a curve, which may differ in augmentation."""
    drawn = {}
    draw = plots.progress

    def seen(methods, x_label, y_label):
        drawn.update(methods)
        return draw(methods, x_label, y_label)

    monkeypatch.setattr(plots, "progress", seen)
    records = [make_run("a"), make_run("b"), make_run("c"), make_run("d")]
    for record in records:
        record.train["steps"] = 100
        record.history = {"seconds": [60.0, 120.0], "val_top1": [0.4, 0.6]}
    records[1].flags["augment"] = "cutout(16)"
    del records[2].history["val_top1"]
    records[3].from_run = "a, seed 0"
    path = tmp_path / "compare.html"
    report.write_comparison(path, records, against)
    assert f"Accuracy against {against} of training" in path.read_text()
    assert any("augmentation" in note for note in notes(path))
    assert [*drawn] == ["1.\N{NO-BREAK SPACE}a", "2.\N{NO-BREAK SPACE}b"]
    for ((x, y),) in drawn.values():
        assert x.tolist() == wanted and y == [0.4, 0.6]
    with pytest.raises(ValueError, match="augmentation"):
        report.write_comparison(path, records)
    with pytest.raises(ValueError, match="with a curve of accuracy"):
        report.write_comparison(path, records[2:], against)
