"""Files and folders that are written at once or not at all."""

import contextlib
import os
import shutil
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
