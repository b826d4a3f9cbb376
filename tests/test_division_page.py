"""The page of a division: its numbers, its pictures, what it refuses."""

import re

import numpy as np
import pytest
from test_compare import notes, rows
from test_report import read_page
from test_selection import pictures, texts

from keras_lt import plots, report
from keras_lt.counts import Classes
from keras_lt.models.dlsa import Level, describe

COUNTS = [5, 900, 0, 50]
NAMES = ["rare", "common & <b>", "never", "middle"]
CLASSES = Classes(COUNTS, NAMES)
LABELS = [1, 1, 1, 1, 1, 3, 3, 3, 0, 0]
# Level 1 keeps samples 0 to 3 and 5. Of the others, level 2 keeps 6, 8, 9.
LEVELS = [
    Level(
        np.array([5, 4, 3, 2, 1, 2.5, 1, 0, 1, 1.9], "float32"),
        np.array([0, 0, 0, 1, 1, 0, 1, 1, 1, 1]),
        3,
        2.0,
    ),
    Level(
        np.array([9, 9, -9, -9, -5, 9, 0, -2, 3, -1], "float32"),
        np.array([1, 1, 1, 1, 0, 1, 0, 0, 1, 1]),
        2,
        -1.0,
    ),
]


def joined(path):
    return [" | ".join(row) for row in rows(path)]


def test_page(tmp_path):
    path = tmp_path / "division.html"
    report.write_division(path, LEVELS, LABELS, CLASSES, title="<i>")
    page = read_page(path)
    assert "4 classes, 10 samples, 2 levels" in page.text
    assert "<i>" in page.text and "i" not in page.tags
    assert "b" not in page.tags
    # To level 1 all come: cluster 0 holds 3 common and 1 middle, cluster 1
    # holds 2 of each, cluster 2 is empty; purity (3 + 2) / 10. It keeps of
    # cluster 0 all, of cluster 1 one common: (3 + 1) / 5. To level 2 come
    # 1 common and 2 middle in cluster 0, 2 rare in cluster 1: (2 + 2) / 5.
    # It keeps 1 middle and 2 rare.
    assert joined(path) == [
        "level | samples | kept | many kept | medium kept | few kept | "
        "unseen kept | purity | purity, kept | largest class | "
        "empty clusters | threshold",
        "level 1 | 10 | 5 | 80.0% | 33.3% | 0.0% | n/a | 50.0% | 80.0% | "
        "50.0% | 1 of 3 | 2",
        "level 2 | 5 | 3 | 0.0% | 33.3% | 100.0% | n/a | 80.0% | 100.0% | "
        "40.0% | 0 of 2 | -1",
        "left | 2 | 2 | 20.0% | 33.3% | 0.0% | n/a |  |  |  |  | ",
        "class | group | training images | level 1 | level 2 | left",
        "common & <b> | many | 900 | 4 | 0 | 1",
        "middle | medium | 50 | 1 | 1 | 1",
        "rare | few | 5 | 0 | 2 | 0",
        "never | unseen | 0 | 0 | 0 | 0",
    ]
    shares, *of_levels = map(texts, pictures(path))
    assert len(of_levels) == 4
    for name in ("level 1", "level 2", "left", "common & <b>", "n/a"):
        assert name in shares
    # Cluster 1 of level 1 is of the first of its largest classes.
    assert {"many (1)", "few (1)"} <= set(of_levels[0])
    assert {"many (5)", "medium (3)", "few (2)", "threshold"} <= set(
        of_levels[1]
    )
    assert {"medium (1)", "few (1)"} <= set(of_levels[2])
    assert {"many (1)", "medium (2)", "few (2)"} <= set(of_levels[3])
    assert notes(path) == [] and "script" not in page.tags
    assert not [link for link in page.links if not link.startswith("#")]
    assert not re.search(r"url\((?!#)|@import", path.read_text())
    assert [p.name for p in tmp_path.iterdir()] == ["division.html"]


def test_agrees_with_describe(tmp_path):
    path = tmp_path / "division.html"
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 4, 500)
    levels = [
        Level(generator.normal(size=500), generator.integers(0, 9, 500), 9, 0.3)
        for _ in range(3)
    ]
    counts = np.bincount(labels)
    report.write_division(
        path, levels, labels, Classes(counts, NAMES, many=120)
    )
    shown = rows(path)
    assert "unseen kept" not in shown[0]
    by_class = {row[0]: row for row in shown[6:]}
    for number, facts in enumerate(describe(levels, labels, 4)):
        row = dict(zip(shown[0], shown[1 + number], strict=True))
        assert row["samples"] == f"{facts['samples']}"
        assert row["kept"] == f"{facts['kept']}"
        purity = np.average(facts["purity"], weights=facts["cluster_sizes"])
        assert row["purity"] == f"{100 * purity:.1f}%"
        assert row["threshold"] == "0.3"
        for label, kept in enumerate(facts["kept_by_class"]):
            assert by_class[NAMES[label]][3 + number] == str(kept)


def test_likelihoods_are_cut_at_their_percentiles(tmp_path, monkeypatch):
    found = {}
    draw = plots.share_histogram

    def spy(values, *arguments, **options):
        found.update(options, values=values)
        return draw(values, *arguments, **options)

    monkeypatch.setattr(plots, "share_histogram", spy)
    # Of 0, 1, ..., 200 the percentiles are at 1 and 199.
    likelihood = np.arange(201)
    labels = np.where(likelihood < 200, 0, 1)
    for threshold, limits in ((50, (1, 199)), (-3, (-3, 199)), (250, (1, 250))):
        level = Level(likelihood, np.zeros(201, int), 1, threshold)
        report.write_division(tmp_path / "a.html", [level], labels, [200, 1])
        assert found["limits"] == limits
        assert found["threshold"] == threshold
        values = found["values"]
        assert list(values) == ["many (200)", "few (1)"]
        np.testing.assert_array_equal(
            values["many (200)"], [1, *range(1, 199), 199]
        )
        assert values["few (1)"] == [199]
        assert found["colors"] == [plots.COLORS["many"], plots.COLORS["few"]]
    text = " ".join(read_page(tmp_path / "a.html").text)
    assert "beyond the 0.5th and the 99.5th percentile" in text


def test_nothing_was_divided(tmp_path):
    path = tmp_path / "division.html"
    report.write_division(path, [], LABELS, CLASSES)
    assert notes(path) == ["Nothing was divided."]
    assert "4 classes, 10 samples, 0 levels" in read_page(path).text
    assert read_page(path).tags.count("svg") == 0
    assert rows(path) == []


def test_levels_that_no_sample_comes_to(tmp_path):
    path = tmp_path / "division.html"
    levels = [LEVELS[0]._replace(threshold=0.0), LEVELS[1]]
    report.write_division(path, levels, LABELS, CLASSES)
    assert notes(path) == ["No sample came to level 2."]
    assert joined(path)[2] == (
        "level 2 | 0 | 0 | 0.0% | 0.0% | 0.0% | n/a | n/a | n/a | n/a | "
        "2 of 2 | -1"
    )
    assert read_page(path).tags.count("svg") == 3
    empty = [Level([], [], 2, 0.5)]
    report.write_division(path, empty, [], [7])
    assert notes(path) == ["No sample came to level 1."]
    assert joined(path)[1].startswith("level 1 | 0 | 0 | n/a")
    assert "1 class, 0 samples, 1 level" in read_page(path).text


def test_likelihoods_all_the_same(tmp_path):
    path = tmp_path / "division.html"
    level = LEVELS[0]._replace(log_likelihood=[2.0] * 10)
    report.write_division(path, [level], LABELS, CLASSES)
    assert joined(path)[2].startswith("left | 0 | 0 | 0.0% | 0.0%")


def test_many_classes_fold(tmp_path):
    path = tmp_path / "division.html"
    report.write_division(path, LEVELS, LABELS, [1] * 100)
    assert len(rows(path)) == 4 + 101
    assert read_page(path).tags.count("details") == 1


def test_only_pages_are_replaced(tmp_path):
    path = tmp_path / "division.html"
    path.write_text("mine")
    with pytest.raises(ValueError, match="neither"):
        report.write_division(path, LEVELS, LABELS, CLASSES)
    assert path.read_text() == "mine"
    path.unlink()
    report.write_division(path, LEVELS, LABELS, CLASSES)
    report.write_division(path, LEVELS[:1], LABELS, CLASSES)
    assert "4 classes, 10 samples, 1 level" in read_page(path).text


def changed(number, **fields):
    levels = list(LEVELS)
    levels[number] = levels[number]._replace(**fields)
    return {"levels": levels}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"labels": LABELS[:9]}, r"of 9 labels.*\(10,\), \(10,\) in levels\[0"),
        ({"labels": [*LABELS[:9], 4]}, r"from 0 to 3\. Received: labels="),
        ({"labels": [*LABELS[:9], -1]}, r"from 0 to 3\. Received: labels="),
        ({"labels": np.array(LABELS, float)}, "integers.*labels="),
        ({"labels": [LABELS]}, r"integers \(N,\).*labels="),
        ({"classes": [5, 900, -1, 50]}, r"class_counts\[2\]=-1"),
        (
            changed(1, log_likelihood=[0.0] * 11),
            r"of 10 labels.*\(11,\), \(10,\) in levels\[1\]",
        ),
        (changed(0, clusters=[0] * 9), r"\(10,\), \(9,\) in levels\[0\]"),
        (
            changed(1, log_likelihood=[0.0] * 3 + [np.nan] * 7),
            r"levels\[1\]\.log_likelihood\[3\]=nan",
        ),
        (
            changed(0, log_likelihood=[-np.inf] * 10),
            r"levels\[0\]\.log_likelihood\[0\]=-inf",
        ),
        (changed(1, threshold=np.nan), r"levels\[1\]\.threshold=nan"),
        (changed(0, clusters=[3] * 10), r"0 to 2.*levels\[0\]\.clusters=\[3"),
        (changed(0, clusters=[-1] * 10), r"levels\[0\]\.clusters=\[-1"),
        (changed(1, num_clusters=1), r"0 to 0\..*levels\[1\]\.clusters="),
    ],
)
@pytest.mark.parametrize("exists", [False, True])
def test_rejects(tmp_path, change, message, exists):
    path = tmp_path / "a.html"
    if exists:
        report.write_division(path, [], LABELS, CLASSES)
    before = path.read_text() if exists else None
    arguments = {
        "levels": LEVELS,
        "labels": LABELS,
        "classes": CLASSES,
    }
    with pytest.raises(ValueError, match="Expected") as error:
        report.write_division(path, **(arguments | change))
    assert re.search(message, str(error.value)), error.value
    assert "Received: " in str(error.value)
    assert (path.read_text() if path.exists() else None) == before
