"""Files that are read if they are files, written at once or not at all."""

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Gives a path to write to; in the end what is there replaces `path`.

    It is beside `path`, its name the same with "part-" before it. If the block
    raises, it is deleted; if the process is killed, the next one that writes
    `path` deletes it. Until the end `path` is what it was.

    Args:
        path: A file, or a folder that does not exist.

    Raises:
        OSError: If `path` can't be replaced.

    Example:
        >>> with keras_lt.files.replacing("result.json") as part:
        ...     characters = part.write_text("{}")
        >>> Path("result.json").read_text()
        '{}'
    """
    path = Path(path)
    part = path.with_name(f"part-{path.name}")
    _delete(part)
    try:
        yield part
        if part.is_file():
            with open(part, "rb") as file:
                os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        _delete(part)
        raise


def _delete(path: Path) -> None:
    if path.is_dir():
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
