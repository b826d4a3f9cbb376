"""How errors show values of any length: the first few, and their number."""

import itertools
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

_ITEMS = 10
_CHARACTERS = 300  # of a value
_ITEM_CHARACTERS = 60  # of one of several
_LINE = 1_000


def brief(value: Any) -> str:
    """Returns a value as `repr` shows it, cut where it is long.

    Args:
        value: What an error is about, such as a name, a row or class counts.

    Returns:
        One line. Of a collection of more than 10 items these and their number,
        of a long text its start and its length.

    Example:
        >>> keras_lt.messages.brief(range(1000))
        '[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, … (1,000 in all)]'
        >>> keras_lt.messages.brief([3, 4])
        '[3, 4]'
    """
    if isinstance(value, np.ndarray):
        value = value.ravel() if value.ndim else value.item()
    if isinstance(value, (str, bytes)) or not isinstance(value, Collection):
        return _cut(value, _CHARACTERS)
    if isinstance(value, Mapping):
        items = [
            f"{_cut(key, _ITEM_CHARACTERS)}: {_cut(each, _ITEM_CHARACTERS)}"
            for key, each in itertools.islice(value.items(), _ITEMS)
        ]
    else:
        items = [
            _cut(each, _ITEM_CHARACTERS)
            for each in itertools.islice(value, _ITEMS)
        ]
    if len(value) > _ITEMS:
        items.append(f"… ({len(value):,} in all)")
    start, end = "{}" if isinstance(value, Mapping) else "[]"
    return f"{start}{', '.join(items)}{end}"


def one_line(error: Exception | str) -> str:
    """Returns the message of an error as one line, cut where it is long."""
    message = " ".join(str(error).split())
    if len(message) <= _LINE:
        return message
    return f"{message[:_LINE]}… ({len(message):,} characters)"


def _cut(value: Any, characters: int) -> str:
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (str, bytes)):
        # Of a long one `repr` takes its time, and the limit is for what it
        # shows: a control character has four.
        shown = repr(value[:characters])
        if len(value) <= characters:
            return shown
        return f"{shown}… ({len(value):,} characters)"
    shown = " ".join(repr(value).split())
    return shown if len(shown) <= characters else f"{shown[:characters]}…"
