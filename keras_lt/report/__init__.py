"""What runs leave behind: a record and a page of each, a page of several."""

from keras_lt.report.comparison import write_comparison
from keras_lt.report.page import write_html
from keras_lt.report.result import (
    SCHEMA,
    SCHEMA_VERSION,
    augmentation,
    environment,
    read_record,
    record,
    write_record,
)

__all__ = [
    "SCHEMA",
    "SCHEMA_VERSION",
    "augmentation",
    "environment",
    "read_record",
    "record",
    "write_comparison",
    "write_html",
    "write_record",
]
