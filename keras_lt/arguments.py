"""Numbers that arguments hold: NumPy's scalars are taken as Python's."""

import operator
from collections.abc import Iterable
from typing import Any

import numpy as np

FRAMINGS = ("center", "whole")


def integer(
    name: str, value: Any, least: int | None = None, most: int | None = None
) -> int:
    """Returns an argument that is to be an integer.

    Args:
        name: Name of the argument, for errors.
        value: What it is: an `int`, or a scalar of NumPy or a tensor that
            holds an integer.
        least: The lowest value allowed, or None.
        most: The highest value allowed, or None.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is no integer (2.0 is none), or out of its range.

    Example:
        >>> keras_lt.arguments.integer("batch_size", np.int64(128), 1)
        128
    """
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        error = ValueError if isinstance(value, (float, np.floating)) else None
        raise (error or TypeError)(
            f"Expected {name} to be an integer{_range(least, most)}. "
            f"Received: {name}={value!r}"
        ) from None
    if (least is not None and number < least) or (
        most is not None and number > most
    ):
        raise ValueError(
            f"Expected {name} to be an integer{_range(least, most)}. "
            f"Received: {name}={value}"
        )
    return number


def integers(
    name: str, values: Any, least: int | None = None, count: int | None = None
) -> list[int]:
    """Returns a list of integers, or says what was received instead.

    Args:
        name: Name of the argument.
        values: Integers, in a list or the like.
        least: Smallest value that each may have.
        count: How many there are; None is one or more.

    Raises:
        TypeError: If it is no list of integers.
        ValueError: If it has another length, or one of them is out of range.

    Example:
        >>> keras_lt.arguments.integers("widths", (32, np.int64(128)), 1)
        [32, 128]
    """
    if isinstance(values, str) or not isinstance(values, Iterable):
        raise TypeError(
            f"Expected {name} to be a list of integers. "
            f"Received: {name}={values!r}"
        )
    found = [integer(name, value, least) for value in values]
    if not found or count not in (None, len(found)):
        raise ValueError(
            f"Expected {count or 'one or more'} integers as {name}. "
            f"Received: {name}={values!r}"
        )
    return found


def real(name: str, value: Any) -> int | float:
    """Returns an argument that is to be a number, for its range to be checked.

    Args:
        name: Name of the argument, for errors.
        value: What it is: a number, or a scalar of NumPy or a tensor.

    Raises:
        TypeError: If it is no number.

    Example:
        >>> keras_lt.arguments.real("beta", np.float64(0.999))
        0.999
    """
    try:
        if isinstance(value, (bool, np.bool_, str, bytes)) or np.ndim(value):
            raise TypeError
        try:
            return operator.index(value)  # errors show 20 and not 20.0
        except TypeError:
            return float(value)
    except (TypeError, ValueError):
        raise TypeError(
            f"Expected {name} to be a number. Received: {name}={value!r}"
        ) from None


def function(name: str, value: Any) -> Any:
    """Returns an argument that is to be a function.

    Raises:
        TypeError: If it can't be called.

    Example:
        >>> keras_lt.arguments.function("transform", abs)
        <built-in function abs>
    """
    if not callable(value):
        raise TypeError(
            f"Expected {name} to be a function. Received: {name}={value!r}"
        )
    return value


def framing(value: str) -> str:
    """Returns how squares are made of images, checked.

    Args:
        value: "center", which cuts the center out, or "whole".

    Raises:
        ValueError: If it is something else.

    Example:
        >>> keras_lt.arguments.framing("whole")
        'whole'
    """
    if value not in FRAMINGS:
        raise ValueError(
            f"Expected framing to be one of {FRAMINGS}. "
            f"Received: framing={value!r}"
        )
    return value


def _range(least: int | None, most: int | None) -> str:
    if most is not None:
        return f" from {least} to {most}"
    return "" if least is None else f", at least {least}"
