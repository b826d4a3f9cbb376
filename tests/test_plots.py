"""Pictures hold the numbers they are given, in the order they promise."""

import xml.etree.ElementTree as ElementTree

import matplotlib
import numpy as np
import pytest
import tensorflow as tf
from matplotlib.text import Text

from keras_lt import plots
from keras_lt.counts import Classes

COUNTS = [5, 900, 0, 50]
NAMES = ["rare", "common", "never", "middle & <b>"]
ORDERED = ["common", "middle & <b>", "rare", "never"]
CLASSES = Classes(COUNTS, NAMES)


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
    figure = plots.class_distribution(CLASSES)
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
        [0.25, 0.5, None, 0.75], Classes(COUNTS, NAMES, many=40, few=10)
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
    figure = plots.confusion_matrix(confusion, CLASSES)
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


def test_grouped_bars():
    figure = plots.grouped_bars(
        {
            "1. a": {"many": (0.8, 0.1), "medium": None, "few": (0.0, None)},
            "2. b": {"many": (0.5, None), "medium": None, "few": (0.25, 0.05)},
        }
    )
    axes = figure.axes[0]
    assert tick_labels(axes.yaxis) == ["1. a", "2. b"]
    assert axes.yaxis_inverted()
    bars = {patch.get_y(): patch.get_width() for patch in axes.patches}
    # From top to bottom; an empty group has no bar.
    assert [bars[place] for place in sorted(bars)] == [0.8, 0, 0.5, 0.25]
    errors = [
        tuple(segment[:, 0])
        for lines in axes.collections
        for segment in lines.get_segments()
    ]
    np.testing.assert_allclose(errors, [(0.7, 0.9), (0.2, 0.3)])
    shown = [text.get_text() for text in axes.texts]
    assert shown == ["80.0", "n/a", "0.0", "50.0", "n/a", "25.0"]
    assert legend(figure) == ["many", "medium", "few"]


def test_compare_per_class():
    figure = plots.compare_per_class(
        {"a": [0.25, 0.5, None, 0.75], "b": [0, 1, 0.1, 0.2]},
        Classes(COUNTS, NAMES, many=40, few=10),
    )
    axes = figure.axes[0]
    assert tick_labels(axes.xaxis) == ORDERED
    drawn = [line.get_ydata() for line in axes.lines]
    np.testing.assert_array_equal(
        drawn, [[0.5, 0.75, 0.25, np.nan], [1, 0.2, 0, 0.1]]
    )
    assert legend(figure) == ["a", "b"]
    assert axes.get_ylabel() == "accuracy"
    svg = plots.to_svg(figure)
    for label in ("many (2)", "few (1)", "unseen (1)"):
        assert label in svg


def test_compare_per_class_of_many_classes():
    # Mean over 3 neighbors from 40 classes on, less at the ends, of those
    # that are known.
    values = np.zeros(40)
    values[[0, 2, 10]] = [0.6, 0.9, np.nan]
    values[11] = 0.4
    figure = plots.compare_per_class({"a": values}, np.arange(40, 0, -1))
    (line,) = figure.axes[0].lines
    expected = np.zeros(40)
    expected[:4] = [0.3, 0.5, 0.3, 0.3]
    expected[10:13] = [np.nan, 0.2, 0.4 / 3]
    np.testing.assert_allclose(line.get_ydata(), expected, atol=1e-12)
    assert figure.axes[0].get_ylabel() == "accuracy, mean over 3 classes"


def test_trade_off():
    figure = plots.trade_off(
        {"a": [(0.8, 0.4), (0.9, 0.2)], "b": [(0.5, 0.6)]}, y_label="tail"
    )
    axes = figure.axes[0]
    means = [line.get_xydata()[0] for line in axes.lines if len(line._x) == 1]
    np.testing.assert_allclose(means, [(0.85, 0.3), (0.5, 0.6)])
    seeds = [line.get_xydata()[1] for line in axes.lines if len(line._x) == 2]
    np.testing.assert_allclose(seeds, [(0.8, 0.4), (0.9, 0.2), (0.5, 0.6)])
    assert [text.get_text() for text in axes.texts] == ["1", "2"]
    assert legend(figure) == ["a", "b"]
    assert axes.get_ylabel() == "tail"


def test_numbers_of_close_means_do_not_overlap():
    points = np.random.default_rng(0).random((11, 2)) * 0.12 + (0.6, 0.4)
    methods = {f"{'long ' * 20}{i}": [p] for i, p in enumerate(points)}
    methods["far"] = [(0.1, 0.9)]
    figure = plots.trade_off(methods)
    figure.draw_without_rendering()
    # An annotation's own extent holds its leader too.
    numbers = [Text.get_window_extent(t) for t in figure.axes[0].texts]
    assert len(numbers) == 12
    for i, box in enumerate(numbers):
        assert not any(box.overlaps(other) for other in numbers[:i])
    # A name is cut in the middle, since its end may be what tells it apart.
    assert len(set(legend(figure))) == 12
    assert max(map(len, legend(figure))) == 44


def test_contact_sheets():
    images = np.zeros((12, 2, 4, 3), "uint8")
    images[..., 0] = np.arange(12).reshape(-1, 1, 1)
    p = np.arange(12) / 16
    sheets = {"drawn": (images, p), "none": (images[:0], [])}
    first, second = plots.contact_sheets(sheets).axes
    assert first.get_title(loc="left") == "drawn"
    assert second.get_title(loc="left") == "none"
    assert not second.images and not second.texts
    # Ten a row, of the images' own proportion, upright.
    lefts, rights, bottoms, tops = np.transpose(
        [image.get_extent() for image in first.images]
    )
    np.testing.assert_allclose(rights - lefts, 1)
    np.testing.assert_allclose(bottoms - tops, 0.5)
    np.testing.assert_allclose(lefts, 1.1 * np.array([*range(10), 0, 1]))
    assert len(set(tops[:10])) == 1 and tops[10] == tops[11] > bottoms[0]
    assert first.yaxis_inverted()
    reds = [image.get_array()[0, 0, 0] for image in first.images]
    assert reds == list(range(12))
    shown = [text.get_text() for text in first.texts]
    assert shown[:3] == ["0.000", "0.062", "0.125"] and len(shown) == 12
    # A number stands under its image and above the next row.
    places = np.array([text.get_position() for text in first.texts])
    np.testing.assert_allclose(places[:, 0], lefts + 0.5)
    assert (bottoms < places[:, 1]).all() and places[0, 1] < tops[10]


def test_contact_sheets_are_upright():
    image = np.zeros((1, 8, 8, 3), "uint8")
    image[:, :4, :, 0] = image[:, 4:, :, 2] = 255
    figure = plots.contact_sheets({"red over blue": (image, [1])})
    pixels = tf.io.decode_png(plots.to_png(figure), channels=3).numpy()
    red = np.argwhere((pixels == [255, 0, 0]).all(-1))
    blue = np.argwhere((pixels == [0, 0, 255]).all(-1))
    assert len(red) > 100 and red[:, 0].max() < blue[:, 0].min()


def test_thumbnails_of_large_images():
    # Means over 3 x 3 pixels, at the edge over those that there are.
    image = np.zeros((1, 200, 100, 1))
    image += 1.25 * np.arange(200).reshape(1, -1, 1, 1)
    figure = plots.contact_sheets({"a": (image, [0.5])})
    (shown,) = (image.get_array() for image in figure.axes[0].images)
    assert shown.dtype == np.uint8
    expected = np.rint(1.25 * np.array([*range(1, 198, 3), 198.5]))
    np.testing.assert_array_equal(
        shown, np.broadcast_to(expected[:, None, None], (67, 34, 3))
    )


def test_share_histogram():
    figure = plots.share_histogram(
        {"a": [0, 0.24, 0.25, 1], "b": [0.5, 0.6], "none": []}, "p", bins=4
    )
    axes = figure.axes[0]
    shares = [patch.get_data().values for patch in axes.patches[1::2]]
    np.testing.assert_array_equal(
        shares, [[0.5, 0.25, 0, 0.25], [0, 0, 1, 0], [0, 0, 0, 0]]
    )
    edges = axes.patches[0].get_data().edges
    np.testing.assert_array_equal(edges, [0, 0.25, 0.5, 0.75, 1])
    assert legend(figure) == ["a", "b", "none"]
    assert axes.get_xlabel() == "p"
    twenty = plots.share_histogram({"a": [0.949, 0.951]}, "p").axes[0]
    expected = [*[0] * 18, 0.5, 0.5]
    np.testing.assert_array_equal(twenty.patches[0].get_data().values, expected)
    assert not twenty.lines


def test_share_histogram_of_other_limits():
    figure = plots.share_histogram(
        {"a": [-4, 0, 3.9], "b": [4]},
        "x",
        bins=4,
        limits=(-4, 4),
        colors=["#112233", "#445566"],
        threshold=1.5,
    )
    axes = figure.axes[0]
    for patch, shares, color in zip(
        axes.patches[1::2],
        ([1 / 3, 0, 1 / 3, 1 / 3], [0, 0, 0, 1]),
        ("#112233", "#445566"),
        strict=True,
    ):
        np.testing.assert_allclose(patch.get_data().values, shares)
        np.testing.assert_array_equal(patch.get_data().edges, [-4, -2, 0, 2, 4])
        assert matplotlib.colors.to_hex(patch.get_edgecolor()) == color
    (line,) = axes.lines
    assert list(line.get_xdata()) == [1.5, 1.5]
    assert legend(figure) == ["a", "b", "threshold"]
    # All of one value: a range around it.
    same = plots.share_histogram({"a": [7, 7]}, "x", 1, limits=(7, 7)).axes[0]
    np.testing.assert_array_equal(same.patches[0].get_data().edges, [6.5, 7.5])
    assert same.get_xlim()[0] < 6.5 and same.get_xlim()[1] > 7.5


def test_level_shares():
    figure = plots.level_shares(
        {"1": [1, 30, 0, 9], "2": [1, 60, 0, 0], "left": [2, 10, 0, 3]},
        CLASSES,
    )
    axes = figure.axes[0]
    assert tick_labels(axes.xaxis) == ORDERED
    # Of common 100, of middle 12, of rare 4. The sums are drawn, the lesser
    # ones over the greater ones.
    colors = []
    for patch, sums in zip(
        axes.patches[2::-1],
        ([0.3, 0.75, 0.25, 0], [0.9, 0.75, 0.5, 0], [1, 1, 1, 0]),
        strict=True,
    ):
        values, edges, baseline = patch.get_data()
        np.testing.assert_allclose(values[::2], sums)
        np.testing.assert_allclose((edges[::2] + edges[1::2]) / 2, range(4))
        assert baseline == 0 and not values[1::2].any()
        colors.append(patch.get_facecolor())
    handles = axes.get_legend().get_patches()
    assert [patch.get_facecolor() for patch in handles] == colors
    assert len(set(colors)) == 3
    assert legend(figure) == ["1", "2", "left"]
    assert [t.get_text() for t in axes.texts] == ["", "", "", "n/a"]
    svg = plots.to_svg(figure)
    for label in ("many (1)", "medium (1)", "few (1)", "unseen (1)"):
        assert label in svg
    # Without labels a cross stands for n/a.
    counts = np.arange(20, 0, -1)
    figure = plots.level_shares({"1": [5, 0] * 10}, counts)
    (crosses,) = figure.axes[0].lines
    np.testing.assert_array_equal(crosses.get_xdata(), np.arange(1, 20, 2))


def test_cluster_purity():
    frequencies = np.array(
        [
            [0.1, 0.9, 0, 0],
            [0.5, 0.25, 0, 0.25],
            [0, 0, 0, 0],
            [0.4, 0.6, 0, 0],
            [0, 0, 0, 1],
        ]
    )
    sizes = [100, 8, 0, 10, 2]
    figure = plots.cluster_purity(frequencies, sizes, COUNTS)
    axes = figure.axes[0]
    *groups, line = axes.lines
    shown = {
        matplotlib.colors.to_hex(dots.get_color()): dots.get_xydata().tolist()
        for dots in groups
    }
    assert shown == {
        plots.COLORS["many"]: [[100, 0.9], [10, 0.6]],
        plots.COLORS["medium"]: [[2, 1]],
        plots.COLORS["few"]: [[8, 0.5]],
    }
    assert legend(figure) == ["many (2)", "medium (1)", "few (1)"]
    # Of class 1 there are 90 + 2 + 6 samples of 120.
    np.testing.assert_allclose(line.get_ydata(), 98 / 120)
    assert axes.get_xscale() == "log"


@pytest.mark.parametrize("size", [1, 3, 7, 30, 450, 1000, 33000])
def test_cluster_purity_has_a_tick_at_any_size(size):
    figure = plots.cluster_purity([[1.0]], [size], [500])
    axes = figure.axes[0]
    low, high = axes.get_xlim()
    ticks = axes.xaxis.get_majorticklocs()
    assert any(low <= tick <= high for tick in ticks)


@pytest.mark.parametrize("num_classes", [1, 10, 100, 2000])
def test_files_of_any_number_of_classes(num_classes):
    counts = np.arange(num_classes) + 1
    names = [f"class & <{i}> $x$ {'long ' * 9}" for i in range(num_classes)]
    classes = Classes(counts, names)
    figures = [
        plots.class_distribution(classes),
        plots.per_class_accuracy(
            np.linspace(0, 1, num_classes),
            classes,
        ),
        plots.compare_per_class(
            {name: np.linspace(0, 1, num_classes) for name in ("$a", "b")},
            classes,
        ),
        plots.level_shares(
            {"$a": np.arange(num_classes), "b": counts % 7},
            classes,
        ),
    ]
    if num_classes <= 100:
        figures.append(
            plots.confusion_matrix(
                np.eye(num_classes, dtype=int),
                classes,
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
            lambda: plots.class_distribution(Classes([5, 1], ["a"])),
            "of 1 classes, as class_names",
        ),
        (lambda: plots.per_class_accuracy([0.5], [5, 1]), "2 values"),
        (lambda: plots.confusion_matrix([[1]], [5, 1]), r"\(2, 2\)"),
        (lambda: plots.compare_per_class({"a": [0.5]}, [5, 1]), "2 values"),
        (lambda: plots.compare_per_class({}, [5, 1]), "one method"),
        (lambda: plots.grouped_bars({}), "one method"),
        (lambda: plots.trade_off({}), "one method"),
        (lambda: plots.trade_off({"a": []}), "'a' without"),
        (lambda: plots.contact_sheets({}), "one sheet"),
        (
            lambda: plots.contact_sheets({"a": (np.zeros((1, 2, 2, 4)), [1])}),
            r"shape \(1, 2, 2, 4\) in 'a'",
        ),
        (
            lambda: plots.contact_sheets({"a": (np.zeros((2, 2, 2, 3)), [1])}),
            "of 2 images. Received: 1 in 'a'",
        ),
        (
            lambda: plots.contact_sheets(
                {"a": (np.full((1, 2, 2, 3), np.nan), [1])}
            ),
            "from 0 to 255. Received: values from nan",
        ),
        (
            lambda: plots.contact_sheets(
                {
                    "a": (np.zeros((1, 2, 2, 3)), [1]),
                    "b": (np.zeros((1, 2, 3, 3)), [1]),
                }
            ),
            "one height and width",
        ),
        (lambda: plots.share_histogram({}, "p"), "one set"),
        (lambda: plots.share_histogram({"a": [0.5, 1.5]}, "p"), "0 to 1.*a="),
        (lambda: plots.share_histogram({"a": [np.nan]}, "p"), "0 to 1.*a="),
        (
            lambda: plots.share_histogram({"a": [3]}, "x", limits=(-1.5, 2)),
            "from -1.5 to 2.*a=",
        ),
        (lambda: plots.level_shares({}, [5, 1]), "one level"),
        (
            lambda: plots.level_shares({"a": [1, 2], "b": [1]}, [5, 1]),
            r"2 classes. Received: shape \(1,\) in 'b'",
        ),
        (
            lambda: plots.cluster_purity([[1.0, 0.0]], [3, 3], [5, 1]),
            r"\(K, 2\) .*shapes \(1, 2\), \(2,\)",
        ),
        (
            lambda: plots.cluster_purity([[1.0]], [3], [5, 1]),
            r"\(K, 2\) .*shapes \(1, 1\), \(1,\)",
        ),
        (
            lambda: plots.cluster_purity([[0.0, 0.0]], [0], [5, 1]),
            "with samples",
        ),
    ],
)
def test_rejects(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()
