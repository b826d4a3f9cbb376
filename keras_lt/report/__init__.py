"""Records, model cards and pages of runs."""

from keras_lt.report.card import about_fitted, write_model_card
from keras_lt.report.class_names import class_names_of
from keras_lt.report.comparison import write_comparison
from keras_lt.report.division import write_division
from keras_lt.report.environment import environment
from keras_lt.report.evaluation import (
    Part,
    table_of_differences,
    table_of_shifts,
    table_of_unknown,
    write_evaluation,
)
from keras_lt.report.galleries import Gallery, Picture, write_galleries
from keras_lt.report.page import write_html
from keras_lt.report.pairs import Pair, pairs
from keras_lt.report.record import SCHEMA, SCHEMA_VERSION, Record
from keras_lt.report.schema import KINDS
from keras_lt.report.selection import write_selection

__all__ = [
    "KINDS",
    "SCHEMA",
    "SCHEMA_VERSION",
    "Gallery",
    "Pair",
    "Part",
    "Picture",
    "Record",
    "about_fitted",
    "class_names_of",
    "environment",
    "pairs",
    "table_of_differences",
    "table_of_shifts",
    "table_of_unknown",
    "write_comparison",
    "write_division",
    "write_evaluation",
    "write_galleries",
    "write_html",
    "write_model_card",
    "write_selection",
]
