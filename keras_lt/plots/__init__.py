"""Figures of runs (matplotlib), for TensorBoard and the report.

Classes are ordered from most to fewest training images. What takes `classes`
takes `keras_lt.counts.Classes`, or training images per class alone.
"""

from keras_lt.plots.accuracy import per_class_accuracy
from keras_lt.plots.class_axes import MAX_NAMED
from keras_lt.plots.comparison import (
    compare_per_class,
    grouped_bars,
    progress,
    trade_off,
)
from keras_lt.plots.confusion import confusion_matrix
from keras_lt.plots.distribution import class_distribution
from keras_lt.plots.division import cluster_purity, level_shares
from keras_lt.plots.files import to_png, to_svg
from keras_lt.plots.histogram import share_histogram
from keras_lt.plots.images import contact_sheets
from keras_lt.plots.recall_curve import recall_by_count
from keras_lt.plots.reliability import reliability
from keras_lt.plots.shifts import shifted_accuracy
from keras_lt.plots.style import COLORS
from keras_lt.plots.training import curves

__all__ = [
    "COLORS",
    "MAX_NAMED",
    "class_distribution",
    "cluster_purity",
    "compare_per_class",
    "confusion_matrix",
    "contact_sheets",
    "curves",
    "grouped_bars",
    "level_shares",
    "per_class_accuracy",
    "progress",
    "recall_by_count",
    "reliability",
    "share_histogram",
    "shifted_accuracy",
    "to_png",
    "to_svg",
    "trade_off",
]
