"""Progress of what takes more than seconds, with the time left."""

import sys
from typing import TextIO

import tqdm


def bar(
    what: str,
    total: int,
    unit: str = "",
    done: int = 0,
    file: TextIO | None = None,
) -> tqdm.tqdm:
    """Returns a progress bar on standard output, or on another file.

    It shows what is done, the rate and the time left, from the second second
    on, and is quiet where the file is no terminal, as in a log or in a process
    that is not the chief's.

    Args:
        what: What is going on, such as "Features".
        total: How many there are.
        unit: What they are, such as "images".
        done: How many were done before, by a start that was cut.
        file: Where to, None for standard output.

    Example:
        >>> with keras_lt.progress.bar("Features", 100, "images") as bar:
        ...     for size in (64, 36):
        ...         shown = bar.update(size)
        >>> bar.total
        100
    """
    file = file or sys.stdout
    return tqdm.tqdm(
        desc=what,
        total=total,
        initial=done,
        unit=f" {unit}" if unit else "it",
        file=file,
        disable=not file.isatty(),
        dynamic_ncols=True,
        mininterval=0.5,
        delay=1,
    )
