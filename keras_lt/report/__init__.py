"""What runs leave behind: records, cards, pages of runs and what they did."""

from keras_lt.report.card import write_model_card
from keras_lt.report.comparison import write_comparison
from keras_lt.report.division import write_division
from keras_lt.report.page import write_html
from keras_lt.report.result import (
    KINDS,
    SCHEMA,
    SCHEMA_VERSION,
    augmentation,
    class_names_of,
    environment,
    read_record,
    record,
    write_record,
)
from keras_lt.report.selection import write_selection

__all__ = [
    "KINDS",
    "SCHEMA",
    "SCHEMA_VERSION",
    "augmentation",
    "class_names_of",
    "environment",
    "read_record",
    "record",
    "write_comparison",
    "write_division",
    "write_html",
    "write_model_card",
    "write_record",
    "write_selection",
]
