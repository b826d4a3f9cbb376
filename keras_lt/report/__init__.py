"""What a run leaves behind: its record and a page about it."""

from keras_lt.report.page import write_html
from keras_lt.report.result import (
    SCHEMA,
    SCHEMA_VERSION,
    environment,
    read_record,
    record,
    write_record,
)

__all__ = [
    "SCHEMA",
    "SCHEMA_VERSION",
    "environment",
    "read_record",
    "record",
    "write_html",
    "write_record",
]
