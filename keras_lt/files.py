"""Files: their names as text, reading, writing them at once or not at all."""

import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# What is being written has a name that starts so.
PART = ".keras_lt-part-"
_NAME = re.compile(re.escape(PART) + "[0-9a-f]{16}-")
# Errors that say that a folder can't be written, not that a program is wrong.
_UNWRITABLE = (
    errno.EACCES,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EIO,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.ENOTEMPTY,
    errno.EPERM,
    errno.EROFS,
)
# HDF5 and TensorFlow give no number, and in their text the reason.
_REASONS = {
    os.strerror(number): number
    for number in (errno.EDQUOT, errno.EFBIG, errno.ENOSPC, errno.EROFS)
}


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Gives a path to write to; in the end what is there replaces `path`.

    It is beside `path`, under a name that nobody else uses: `PART`, a random
    number and the end of the name of `path`. If the block raises, it is
    deleted; a process that is killed leaves it behind, and `delete_parts`
    deletes those of a folder that has one writer. Until the end `path` is what
    it was, and of several writers the last one's content is there, whole.

    Args:
        path: A file, or a folder that does not exist.

    Raises:
        OSError: If `path` can't be written or replaced; the message names it.

    Example:
        >>> with keras_lt.files.replacing("result.json") as part:
        ...     characters = part.write_text("{}")
        >>> Path("result.json").read_text()
        '{}'
    """
    path = Path(path)
    part = path.with_name(f"{PART}{secrets.token_hex(8)}-{path.name[-40:]}")
    try:
        yield part
        if part.is_file():
            with open(part, "rb") as file:
                os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException as error:
        _delete(part)
        number = _unwritable(error, part)
        if number is None:
            raise
        raised = OSError(
            "Expected a folder with room that can be written. "
            f"Received: {path} ({os.strerror(number)})"
        )
        raised.errno = number
        raise raised from error


def _unwritable(error: BaseException, part: Path) -> int | None:
    """The number of the reason why a folder can't be written, if it is one."""
    if isinstance(error, OSError) and error.errno in _UNWRITABLE:
        # The block may read other files, whose names are in its errors.
        name = error.filename
        is_ours = name is None or str(part) in str(name)
        return error.errno if is_ours else None
    text = str(error)
    return next((n for reason, n in _REASONS.items() if reason in text), None)


def delete_parts(folder: str | os.PathLike) -> None:
    """Deletes what killed writers left in a folder and in those inside.

    Nobody else may be writing there.

    Args:
        folder: A folder, such as the workdir of a run that is held.
    """
    for path in [*Path(folder).rglob(f"{PART}*")]:
        if _NAME.match(path.name):
            _delete(path)


def _delete(path: Path) -> None:
    with contextlib.suppress(OSError):  # nothing is lost by what is left
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def read(path: str | os.PathLike) -> bytes:
    """Returns the content of a file.

    A FIFO, a socket or a device, which may have no end or never begin, is
    refused without waiting for it.

    Args:
        path: The file.

    Raises:
        OSError: If it can't be read or is no regular file.

    Example:
        >>> content = keras_lt.files.read("cat.jpg")
    """
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "no regular file", os.fspath(path))
        return file.read()


def write_arrays(path: str | os.PathLike, **arrays: np.ndarray) -> None:
    """Writes arrays as .npz, to a file of any name.

    Args:
        path: File to write, such as the one that `replacing` gives.
        **arrays: The arrays by name.

    Raises:
        OSError: If `path` can't be written.

    Example:
        >>> keras_lt.files.write_arrays("counts.npz", counts=np.array([5, 3]))
        >>> keras_lt.files.read_arrays("counts.npz")["counts"]
        array([5, 3])
    """
    with open(path, "wb") as file:  # np.savez adds .npz to a name
        np.savez(file, **arrays)


def read_arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Returns all arrays of an .npz file, without unpickling anything.

    A damaged file raises what zip files and NumPy raise, which is of all kinds.

    Args:
        path: The file.

    Raises:
        OSError: If it can't be opened.

    Example:
        >>> keras_lt.files.write_arrays("counts.npz", counts=np.array([5, 3]))
        >>> list(keras_lt.files.read_arrays("counts.npz"))
        ['counts']
    """
    with np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


@contextlib.contextmanager
def opened_arrays(
    path: str | os.PathLike, expected: str = "an .npz file of numpy.savez"
) -> Iterator[np.lib.npyio.NpzFile]:
    """Opens an .npz file whose arrays are read in a `with` block.

    Args:
        path: The file.
        expected: What it should be, for the error.

    Raises:
        OSError: If it can't be opened.
        ValueError: If it is something else, or damaged: also where this comes
            out only when an array is read.

    Example:
        >>> keras_lt.files.write_arrays("counts.npz", counts=np.array([5, 3]))
        >>> with keras_lt.files.opened_arrays("counts.npz") as arrays:
        ...     arrays["counts"]
        array([5, 3])
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            if not isinstance(arrays, np.lib.npyio.NpzFile):
                raise ValueError("it holds one array")
            yield arrays
    except MemoryError:
        raise
    except Exception as error:  # zip files and NumPy raise all kinds
        if getattr(error, "filename", None) is not None:  # can't be opened
            raise
        raise ValueError(
            f"Expected {expected}. Received: {path} ({error})"
        ) from error


def printable(name: str | os.PathLike) -> str:
    r"""Returns a name with what can't be shown escaped.

    File systems store bytes. Those that are no UTF-8 come out as `\xe9`, and
    so do control characters, such as a line break as `\n`.

    Args:
        name: A path, or another text with such names in it.

    Example:
        >>> keras_lt.files.printable("caf\udce9.png")
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
