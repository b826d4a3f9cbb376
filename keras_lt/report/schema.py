"""Kinds of values in a record, and checks that name a value of another."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from keras_lt.messages import brief

MAX_DEPTH = 32  # lists and objects within each other


class Field(NamedTuple):
    """One value of a record: which of `KINDS` it is, and what it says."""

    kind: str
    text: str


def _is_integer(value: Any, least: int) -> bool:
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    return is_integer and least <= value < 2**63


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and abs(value) < 1e300


def _is_share(value: Any) -> bool:
    return value is None or (_is_number(value) and 0 <= value <= 1)


def _is_flag_value(value: Any) -> bool:
    return value is None or isinstance(value, (bool, str)) or _is_number(value)


def _is_list(value: Any, holds: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and all(map(holds, value))


KINDS: dict[str, Callable[[Any], bool]] = {
    "text": lambda value: isinstance(value, str),
    "text or null": lambda value: value is None or isinstance(value, str),
    "an object": lambda value: isinstance(value, dict),
    "a boolean or null": lambda value: value is None or isinstance(value, bool),
    "an integer": lambda value: _is_integer(value, -(2**63)),
    "an integer or null": lambda value: (
        value is None or _is_integer(value, -(2**63))
    ),
    "a count": lambda value: _is_integer(value, 0),
    "a count above 0": lambda value: _is_integer(value, 1),
    "a number": _is_number,
    "a number or null": lambda value: value is None or _is_number(value),
    "a number of at least 0, or null": lambda value: (
        value is None or (_is_number(value) and value >= 0)
    ),
    "a number from 0 to 1, or null": _is_share,
    "a list of numbers from 0 to 1 or null": lambda value: _is_list(
        value, _is_share
    ),
    "a list of counts": lambda value: _is_list(
        value, lambda each: _is_integer(each, 0)
    ),
    "a list of 3 counts above 0": lambda value: (
        _is_list(value, lambda each: _is_integer(each, 1)) and len(value) == 3
    ),
    "a square matrix of counts, or null": lambda value: (
        value is None
        or _is_list(
            value,
            lambda row: (
                _is_list(row, lambda each: _is_integer(each, 0))
                and len(row) == len(value)
            ),
        )
    ),
    "intervals by score": lambda value: (
        isinstance(value, dict)
        and all(
            _is_list(ends, _is_number) and len(ends) == 2
            for ends in value.values()
        )
    ),
    "accuracies by class frequencies": lambda value: (
        isinstance(value, dict)
        and all(
            isinstance(found, dict)
            and all(each is None or _is_number(each) for each in found.values())
            for found in value.values()
        )
    ),
    "a list of texts": lambda value: _is_list(
        value, lambda each: isinstance(each, str)
    ),
    "values by flag": lambda value: (
        isinstance(value, dict)
        and all(
            _is_flag_value(each) or _is_list(each, _is_flag_value)
            for each in value.values()
        )
    ),
    "lists of numbers by metric": lambda value: (
        isinstance(value, dict)
        and all(
            _is_list(each, KINDS["a number or null"]) for each in value.values()
        )
    ),
}
"""Kinds of values in a record, by their name."""


def check_values(schema: dict, values: dict, where: str) -> None:
    """Raises a ValueError unless all keys are there, and of their kinds.

    Args:
        schema: `Field`s by key, or such dictionaries.
        values: Values to check.
        where: Name of the record, for errors.
    """
    missing = list(_missing(schema, values))
    if missing:
        raise ValueError(
            "Expected a record with all keys of its schema. "
            f"Received: {where} without {', '.join(missing)}"
        )
    for key, field, value in _values(schema, values):
        if not KINDS[field.kind](value):
            raise ValueError(
                f"Expected a record whose {key} is {field.kind}. "
                f"Received: {where} with {key}={brief(value)}"
            )


def is_deeper(value: Any, depth: int) -> bool:
    """Whether lists and objects are within each other deeper than that."""
    level = [value]
    for _ in range(depth):
        inner = []
        for each in level:
            if isinstance(each, dict):
                inner += each.values()
            elif isinstance(each, (list, tuple)):
                inner += each
        level = [
            each for each in inner if isinstance(each, (dict, list, tuple))
        ]
        if not level:
            return False
    return True


def _missing(schema: dict, result, prefix: str = ""):
    for key, inner in schema.items():
        if not isinstance(result, dict) or key not in result:
            yield prefix + key
        elif isinstance(inner, dict):
            yield from _missing(inner, result[key], f"{prefix}{key}.")


def _values(
    schema: dict, result: dict, prefix: str = ""
) -> Iterator[tuple[str, Field, Any]]:
    for key, inner in schema.items():
        if isinstance(inner, dict):
            yield from _values(inner, result[key], f"{prefix}{key}.")
        else:
            yield prefix + key, inner, result[key]
