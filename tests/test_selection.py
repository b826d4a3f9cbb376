"""The page of a selection: its images in order of p, and its numbers."""

import base64
import io
import re
from xml.etree import ElementTree

import matplotlib.image
import numpy as np
import pytest
from test_compare import notes, rows
from test_report import read_page

from keras_lt import report

# Class 1 is the largest; of class 2 there is no image.
LABELS = [0, 1, 1, 1, 1, 1, 0, 1, 0]
P = [0.5, 0.9, 0.2, 0.7, 0.1, 0.3, 1.0, 0.8, 0.0]
DRAWN = [7, 0, 2, 1, 8, 6]
NAMES = ["cat", "dog & <b>", "eel"]


def make_images(size=9, channels=3, dtype="uint8"):
    """Image i is of the one value 10 * i."""
    values = 10 * np.arange(size).reshape(-1, 1, 1, 1)
    return np.broadcast_to(values, (size, 4, 5, channels)).astype(dtype)


def pictures(path):
    """The page's `<svg>` elements."""
    page = path.read_text(encoding="utf-8")
    found = re.findall("<svg.*?</svg>", page, flags=re.DOTALL)
    return [ElementTree.fromstring(svg) for svg in found]


def texts(picture):
    return [t.text for t in picture.iter() if t.tag.endswith("}text")]


def shown(path):
    """(i, p) of each image on the sheets, in order."""
    sheets = pictures(path)[0]
    found = []
    for element in sheets.iter():
        if not element.tag.endswith("}image"):
            continue
        link = element.get("{http://www.w3.org/1999/xlink}href")
        kind, _, content = link.partition(",")
        assert kind == "data:image/png;base64"
        pixels = matplotlib.image.imread(
            io.BytesIO(base64.b64decode(content)), format="png"
        )
        (value,) = np.unique(np.rint(255 * pixels[..., :3]))
        found.append(int(value) // 10)
    numbers = [t for t in texts(sheets) if re.fullmatch(r"\d\.\d{3}", t)]
    return list(zip(found, numbers, strict=True))


@pytest.mark.parametrize(
    "channels, dtype", [(3, "uint8"), (1, "uint8"), (3, "float32")]
)
def test_page(tmp_path, channels, dtype):
    path = tmp_path / "selection.html"
    report.write_selection(
        path,
        make_images(channels=channels, dtype=dtype),
        LABELS,
        P,
        DRAWN,
        NAMES,
        title="<i>",
    )
    page = read_page(path)
    assert "3 classes, 9 training images, 6 drawn" in page.text
    assert "<i>" in page.text and "i" not in page.tags
    assert "Images of dog & <b>" in page.text and "b" not in page.tags
    # Class 1: 7, 2, 1 drawn with p of 0.8, 0.2, 0.9; 3, 4, 5 left out with
    # 0.7, 0.1, 0.3. Means are 1.9 / 3 and 1.1 / 3; (0.5 + 1 + 0) / 3 is 0.5.
    assert shown(path) == [
        *((2, "0.200"), (7, "0.800"), (1, "0.900")),
        *((4, "0.100"), (5, "0.300"), (3, "0.700")),
    ]
    assert [" | ".join(row) for row in rows(path)] == [
        "class | images | drawn | mean p, drawn | mean p, left out",
        "dog & <b> | 6 | 3 | 0.633 | 0.367",
        "cat | 3 | 3 | 0.500 | n/a",
        "eel | 0 | 0 | n/a | n/a",
    ]
    sheets, histogram = map(texts, pictures(path))
    for name in ("drawn (3)", "left out (3)"):
        assert name in sheets and name in histogram
    assert notes(path) == [] and "script" not in page.tags
    assert not [link for link in page.links if not link.startswith("#")]
    assert not re.search(r"url\((?!#)|@import", path.read_text())
    assert [p.name for p in tmp_path.iterdir()] == ["selection.html"]


def test_ranks_are_evenly_spaced(tmp_path):
    path = tmp_path / "selection.html"
    # Drawn are images 0 to 12, image i of rank 12 - i; left out 13 and 14.
    p = [*np.linspace(1, 0.4, 13), 0.6, 0.5]
    report.write_selection(
        path, make_images(15), [0] * 15, p, range(13), ["a"], most=4
    )
    assert [item for item, _ in shown(path)] == [12, 8, 4, 0, 14, 13]
    sheets, histogram = map(texts, pictures(path))
    assert "drawn (4 of 13)" in sheets and "left out (2)" in sheets
    assert "drawn (13)" in histogram
    assert "1 class, 15 training images, 13 drawn" in read_page(path).text


def test_the_class_is_the_largest_with_images_left_out(tmp_path):
    path = tmp_path / "selection.html"
    head = np.flatnonzero(np.array(LABELS) == 1)
    report.write_selection(path, make_images(), LABELS, P, head, NAMES)
    # Nothing of class 0 is drawn: an empty sheet, no mean.
    assert shown(path) == [(8, "0.000"), (0, "0.500"), (6, "1.000")]
    assert "drawn (0)" in texts(pictures(path)[0])
    assert rows(path)[2] == ["cat", "3", "0", "n/a", "0.500"]


def test_nothing_left_out_or_drawn(tmp_path):
    path = tmp_path / "selection.html"
    everything = np.arange(9)
    report.write_selection(path, make_images(), LABELS, P, everything, NAMES)
    assert notes(path) == ["No image was left out."]
    assert read_page(path).tags.count("svg") == 0
    assert rows(path)[1] == ["dog & <b>", "6", "6", "0.500", "n/a"]
    report.write_selection(path, make_images(), LABELS, P, [], NAMES)
    assert len(shown(path)) == 6
    assert rows(path)[1] == ["dog & <b>", "6", "0", "n/a", "0.500"]


def test_many_classes_fold(tmp_path):
    path = tmp_path / "selection.html"
    names = [f"class {i}" for i in range(100)]
    report.write_selection(path, make_images(), LABELS, P, DRAWN, names)
    assert len(rows(path)) == 101
    assert read_page(path).tags.count("details") == 1


def test_size_of_a_page(tmp_path):
    path = tmp_path / "selection.html"
    images = np.random.default_rng(0).integers(0, 256, (150, 32, 32, 3))
    p = np.linspace(0, 1, 150)
    report.write_selection(path, images, [0] * 150, p, range(0, 150, 2), ["a"])
    # Noise, which is the hardest to compress.
    elements = pictures(path)[0].iter()
    assert sum(e.tag.endswith("}image") for e in elements) == 120
    assert path.stat().st_size < 1_000_000


@pytest.mark.parametrize(
    "change, message",
    [
        ({"images": make_images(8)}, r"one length.*\(8, 4, 5, 3\), \(9,\)"),
        ({"images": make_images()[..., 0]}, r"shape \(3, 4, 5\) in 'drawn"),
        ({"images": make_images(dtype=int) - 50}, r"from 0 to 255.*-40"),
        ({"labels": [*LABELS[:8], 3]}, "integers .* 0 to 2.*labels="),
        ({"labels": [*LABELS[:8], -1]}, "integers .* 0 to 2.*labels="),
        ({"labels": np.array(LABELS, float)}, "integers .* 0 to 2.*labels="),
        ({"probabilities": P[:8]}, r"one length.*\(8,\)$"),
        ({"probabilities": [*P[:8], 1.01]}, r"probabilities\[8\]=1.01"),
        ({"probabilities": [np.nan, *P[1:]]}, r"probabilities\[0\]=nan"),
        ({"drawn": [0, 9]}, r"from 0 to 8\. .*drawn=\[0, 9\]"),
        ({"drawn": [-1]}, r"drawn=\[-1\]"),
        ({"drawn": [2, 1, 2]}, r"distinct .*drawn=\[2, 1, 2\]"),
        ({"drawn": np.ones(9, bool)}, "integer indices"),
        ({"most": 0}, "most=0"),
    ],
)
def test_rejects(tmp_path, change, message):
    arguments = {
        "images": make_images(),
        "labels": LABELS,
        "probabilities": P,
        "drawn": DRAWN,
        "class_names": NAMES,
    }
    with pytest.raises(ValueError, match="Expected") as error:
        report.write_selection(tmp_path / "a.html", **(arguments | change))
    assert re.search(message, str(error.value)), error.value
    assert "Received: " in str(error.value)
    assert not list(tmp_path.iterdir())
