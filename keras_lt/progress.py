"""Progress of what takes more than seconds, with the time left."""

import sys

import tqdm


def bar(what: str, total: int, unit: str = "", done: int = 0) -> tqdm.tqdm:
    """Returns a progress bar on standard output.

    It shows what is done, the rate and the time left, from the second second
    on, and is quiet where standard output is no terminal, as in a log or in a
    process that is not the chief's.

    Args:
        what: What is going on, such as "Features".
        total: How many there are.
        unit: What they are, such as "images".
        done: How many were done before, by a start that was cut.

    Example:
        >>> with keras_lt.progress.bar("Features", 100, "images") as bar:
        ...     for size in (64, 36):
        ...         shown = bar.update(size)
        >>> bar.total
        100
    """
    return tqdm.tqdm(
        desc=what,
        total=total,
        initial=done,
        unit=f" {unit}" if unit else "it",
        file=sys.stdout,
        disable=not sys.stdout.isatty(),
        dynamic_ncols=True,
        mininterval=0.5,
        delay=1,
    )
