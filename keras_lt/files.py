"""Files that are read if they are files, written at once or not at all."""

import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

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
