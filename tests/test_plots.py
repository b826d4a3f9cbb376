"""Pictures hold the numbers they are given, in the order they promise."""

import xml.etree.ElementTree as ElementTree

import matplotlib
import numpy as np
import pytest
import tensorflow as tf

from keras_lt import plots

COUNTS = [5, 900, 0, 50]
NAMES = ["rare", "common", "never", "middle & <b>"]
ORDERED = ["common", "middle & <b>", "rare", "never"]


def heights(figure):
    """Heights of all bars from left to right."""
    bars = {}
    for patch in figure.axes[0].patches:
        values, edges, _ = patch.get_data()
        for value, left, right in zip(
            values[::2], edges[::2], edges[1::2], strict=True
        ):
            bars[(left + right) / 2] = value
    return [bars[place] for place in sorted(bars)]


def tick_labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def legend(figure):
    return [t.get_text() for t in figure.axes[0].get_legend().get_texts()]


def test_class_distribution():
    figure = plots.class_distribution(COUNTS, class_names=NAMES)
    assert tick_labels(figure.axes[0].xaxis) == ORDERED
    # On the logarithmic axis a class without images lies on the floor.
    assert heights(figure) == [900, 50, 5, 0.5]
    assert figure.axes[0].get_yscale() == "log"
    assert legend(figure) == [
        "many (1)",
        "medium (1)",
        "few (1)",
        "unseen (1)",
    ]
    flat = plots.class_distribution([40, 20, 10])
    assert flat.axes[0].get_yscale() == "linear"
    assert tick_labels(flat.axes[0].xaxis) == ["0", "1", "2"]


def test_per_class_accuracy():
    figure = plots.per_class_accuracy(
        [0.25, 0.5, None, 0.75], COUNTS, class_names=NAMES, many=40, few=10
    )
    assert heights(figure) == [0.5, 0.75, 0.25, 0]
    assert legend(figure) == ["many (2)", "few (1)", "unseen (1)"]
    means = [
        line.get_segments()[0][0, 1] for line in figure.axes[0].collections
    ]
    assert means == [(0.5 + 0.75) / 2, 0.25]
    shown = [text.get_text() for text in figure.axes[0].texts]
    assert shown == ["50.0", "75.0", "25.0", "n/a"]


def test_confusion_matrix():
    confusion = np.array(
        [[1, 1, 0, 0], [0, 4, 0, 0], [0, 0, 0, 0], [0, 3, 0, 1]]
    )
    figure = plots.confusion_matrix(confusion, COUNTS, class_names=NAMES)
    axes = figure.axes[0]
    assert tick_labels(axes.xaxis) == tick_labels(axes.yaxis) == ORDERED
    cells = {
        (text.get_position()[1], text.get_position()[0]): text.get_text()
        for text in axes.texts
    }
    assert cells == {
        (0, 0): "100",
        (1, 0): "75",
        (1, 1): "25",
        (2, 0): "50",
        (2, 2): "50",
    }


def test_curves_share_panels():
    figure = plots.curves(
        {
            "loss": [2.0, 1.0],
            "val_loss": [3.0, None],
            "val_many": [0.1, 0.2],
            "val_few": [0.0, 0.1],
            "per_class": [[0.0, 1.0], [0.5, 0.5]],
        }
    )
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["loss", "shot groups"]
    drawn = [line.get_ydata() for line in figure.axes[0].lines]
    np.testing.assert_array_equal(drawn, [[2, 1], [3, np.nan]])
    np.testing.assert_array_equal(figure.axes[0].lines[0].get_xdata(), [1, 2])
    with pytest.raises(ValueError, match="per_class"):
        plots.curves({"per_class": [[0.0, 1.0]]})


@pytest.mark.parametrize("num_classes", [1, 10, 100, 2000])
def test_files_of_any_number_of_classes(num_classes):
    counts = np.arange(num_classes) + 1
    names = [f"class & <{i}> $x$ {'long ' * 9}" for i in range(num_classes)]
    figures = [
        plots.class_distribution(counts, class_names=names),
        plots.per_class_accuracy(
            np.linspace(0, 1, num_classes), counts, class_names=names
        ),
    ]
    if num_classes <= 100:
        figures.append(
            plots.confusion_matrix(
                np.eye(num_classes, dtype=int), counts, class_names=names
            )
        )
    before = dict(matplotlib.rcParams)
    for figure in figures:
        picture = tf.io.decode_png(plots.to_png(figure)).numpy()
        assert picture.shape[0] > 200 and picture.shape[1] > 400
        svg = plots.to_svg(figure)
        root = ElementTree.fromstring(svg)
        assert root.tag.endswith("svg") and root.get("viewBox")
        assert root.get("width") is None
        assert "currentColor" in svg
        assert len(svg) < 300_000
        if num_classes == 10:
            assert "class &amp; &lt;3&gt; $x$" in svg
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
    "draw, message",
    [
        (lambda: plots.class_distribution([5, -1]), "class_counts"),
        (
            lambda: plots.class_distribution([5, 1], class_names=["a"]),
            "2 class names",
        ),
        (lambda: plots.per_class_accuracy([0.5], [5, 1]), "2 values"),
        (lambda: plots.confusion_matrix([[1]], [5, 1]), r"\(2, 2\)"),
    ],
)
def test_rejects(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()
