"""Names of files as they can be shown: printed, and written in UTF-8."""

import os
import re
import sys

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def printable(name: str | os.PathLike) -> str:
    r"""Returns a name with what can't be shown escaped.

    File systems store bytes. Those that are no UTF-8 come out as `\xe9`, and
    so do control characters, such as a line break as `\n`.

    Args:
        name: A path, or another text with such names in it.

    Example:
        >>> keras_lt.filenames.printable("caf\udce9.png")
        'caf\\xe9.png'
    """
    text = os.fspath(name)
    try:
        # Python keeps a byte that it can't decode as half a surrogate pair.
        stored = text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # another half of a pair, of no file
        stored = text.encode("utf-8", "backslashreplace")
    return _CONTROL.sub(
        lambda match: match[0].encode("unicode_escape").decode(),
        stored.decode("utf-8", "backslashreplace"),
    )


def decoded(name: str) -> str:
    """Returns the text that a name of a file is in UTF-8, whatever the locale.

    Bytes that are no UTF-8 stay as Python has them.
    """
    return os.fsencode(name).decode("utf-8", "surrogateescape")


def encoded(text: str) -> str:
    """Returns what Python calls the file whose name is a text in UTF-8.

    It is the text itself where the locale is one of UTF-8.
    """
    return os.fsdecode(text.encode("utf-8", "surrogateescape"))


def escape_output() -> None:
    """Makes `print` escape what standard output can't encode.

    In a locale without UTF-8 a name would end the program. For programs: it
    changes `sys.stdout`.
    """
    if hasattr(sys.stdout, "reconfigure"):  # not where it is captured
        sys.stdout.reconfigure(errors="backslashreplace")
