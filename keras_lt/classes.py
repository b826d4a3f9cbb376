"""Names of classes: what they may be, their order, whether two sets agree."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from keras_lt.messages import brief

MAX_LENGTH = 255  # what file systems allow the name of a folder
SPACES = "\t" + "".join(
    character
    for character in map(chr, range(0x3001))
    if unicodedata.category(character) == "Zs"
)
"""White space around a name that is none of it. Line breaks are not in it."""

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d{1,3})?", re.IGNORECASE)
# Control characters, line and paragraph separators, and surrogates, which
# stand for bytes that are not UTF-8.
_NOT_TEXT = {"Cc", "Zl", "Zp", "Cs"}
_ALIKE = "only white space, zeros or the Unicode form differ"


def clean(name: Any, where: str) -> str:
    """Returns the name of a class without white space around it.

    Args:
        name: Text, or a number.
        where: What errors say before the name: a file and line, a folder.

    Raises:
        TypeError: If it is None or bytes.
        ValueError: If it is empty, NaN, longer than 255 characters, no UTF-8,
            or has control characters such as line breaks in it: the
            `labels.txt` of a SavedModel has one line for each class.

    Example:
        >>> keras_lt.classes.clean(" cat ", "photos.csv, line 2")
        'cat'
    """
    if name is None or isinstance(name, bytes):
        raise TypeError(
            "Expected names of classes that are text. "
            f"Received: {where}: {brief(name)}"
        )
    text = str(name).strip(SPACES)
    found = {unicodedata.category(character) for character in text}
    is_seen = found - {"Cf", "Zs"}
    is_nan = name != name
    if is_nan or not is_seen or found & _NOT_TEXT or len(text) > MAX_LENGTH:
        raise ValueError(
            f"Expected names of classes of 1 to {MAX_LENGTH} characters in "
            "UTF-8, without line breaks and other control characters. "
            f"Received: {where}: {brief(str(name))}"
        )
    return text


def checked(class_names: Sequence[Any], where: str) -> tuple[str, ...]:
    """Returns the names of a data set's classes, each as `clean` gives it.

    Args:
        class_names: One name per class, by label id.
        where: What errors say before a name.

    Raises:
        TypeError: If they have no order, or as `clean`.
        ValueError: As `clean`; or if two are the same, or differ only by white
            space, invisible characters or Unicode form or, where all are
            numbers, not by value.

    Example:
        >>> keras_lt.classes.checked(["cat", "dog "], "class_names")
        ('cat', 'dog')
    """
    if isinstance(class_names, (Mapping, set, frozenset)):
        raise TypeError(
            "Expected a list of class names, by label id. "
            f"Received: {where}: {brief(class_names)}"
        )
    names = tuple(
        clean(name, f"{where}[{label}]")
        for label, name in enumerate(class_names)
    )
    _refuse_twins(names, where)
    return names


def in_order(class_names: Iterable[Any], where: str) -> list[str]:
    """Returns names of classes in the order that their label ids have.

    It is the same wherever they come from: by value if all are numbers, else
    by name.

    Args:
        class_names: Names, in any order.
        where: What errors say before a name.

    Raises:
        TypeError: As `clean`.
        ValueError: As `checked`.

    Example:
        >>> keras_lt.classes.in_order(["10", "2", "-1"], "photos.csv")
        ['-1', '2', '10']
    """
    names = [clean(name, where) for name in class_names]
    _refuse_twins(names, where)
    return sorted(names, key=Decimal if _are_numbers(names) else str)


def of_ids(labels: Any, where: str) -> list[str]:
    """Returns the names "0" to the largest of labels that are ids.

    Args:
        labels: Integers of at least 0.
        where: What errors say before the largest label.

    Raises:
        ValueError: If most classes would be without images: then a label is
            wrong, or labels are no ids from 0.

    Example:
        >>> keras_lt.classes.of_ids([0, 2, 2], "photos.txt")
        ['0', '1', '2']
    """
    present = np.unique(labels)
    largest = int(present[-1]) if len(present) else -1
    if largest + 1 > 2 * len(present):
        raise ValueError(
            "Expected label ids from 0, with images in at least half of the "
            "classes (or names of classes: those of a CSV list or of "
            f"class_names). Received: {where}: label {largest}, of "
            f"{len(present):,} different ones"
        )
    return [str(label) for label in range(largest + 1)]


def difference(class_names: Sequence[str], known: Sequence[str]) -> str | None:
    """Returns what parts class names from known ones; None if nothing does.

    Args:
        class_names: One name per class, by label id.
        known: Those that they should be.

    Example:
        >>> keras_lt.classes.difference(["1", "10", "2"], ["1", "2", "10"])
        "class 1 is '10', not '2' (the same names in another order)"
    """
    names, known = [*map(str, class_names)], [*map(str, known)]
    if names == known:
        return None
    if len(names) != len(known):
        return f"{len(names):,} classes, not {len(known):,}"
    label = next(i for i, name in enumerate(names) if name != known[i])
    text = f"class {label} is {brief(names[label])}, not {brief(known[label])}"
    if sorted(names) == sorted(known):
        return f"{text} (the same names in another order)"
    if _keys(names) == _keys(known):
        return f"{text} ({_ALIKE})"
    return text


def alike(name: str, class_names: Sequence[str]) -> str | None:
    """Returns the one of some names that another one was likely meant to be."""
    keys = _keys([name, *class_names])
    if keys[0] not in keys[1:]:
        return None
    return class_names[keys.index(keys[0], 1) - 1]


def _are_numbers(names: Sequence[str]) -> bool:
    return all(_NUMBER.fullmatch(name) for name in names)


def _keys(names: Sequence[str]) -> list[Any]:
    """What names have in common that differ as nobody means them to."""
    if _are_numbers(names):
        return [Decimal(name) for name in names]
    return [
        "".join(
            character
            for character in " ".join(
                unicodedata.normalize("NFC", name).split()
            )
            if unicodedata.category(character) != "Cf"
        )
        for name in names
    ]


def _refuse_twins(names: Sequence[str], where: str) -> None:
    seen, twins = {}, []
    for name, key in zip(names, _keys(names), strict=True):
        if key in seen:
            twins.append((seen[key], name))
        seen[key] = name
    if twins:
        first, second = twins[0]
        example = repr(first)
        if first != second:
            # Escaped, for they may look the same.
            example = f"{first!a} and {second!a} ({_ALIKE})"
        raise ValueError(
            "Expected class names without repetition. Received: "
            f"{where}: {len(twins):,} repeated, such as {example}"
        )
