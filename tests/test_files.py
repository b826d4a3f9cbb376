import errno
import os
import signal
import subprocess
import sys

import pytest

from keras_lt import files


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_is_there_in_the_end(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with files.replacing(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"
        assert part.parent == tmp_path
    assert path.read_text() == "new"
    assert names(tmp_path) == ["a.txt"]


def test_a_folder(tmp_path):
    with files.replacing(tmp_path / "a") as part:
        part.mkdir()
        (part / "b.txt").write_text("text")
    assert (tmp_path / "a" / "b.txt").read_text() == "text"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("folder", [False, True])
def test_failure_leaves_what_was(folder, tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), files.replacing(path) as part:
        if folder:
            part.mkdir()
        else:
            part.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a"]


def test_kill_leaves_what_was(tmp_path):
    path = tmp_path / "a"
    path.write_text("old")
    code = (
        "import os, sys; from keras_lt import files\n"
        "with files.replacing(sys.argv[1]) as part:\n"
        "    part.mkdir(); (part / 'half').write_text('new')\n"
        f"    os.kill(os.getpid(), {int(signal.SIGKILL)})"
    )
    process = subprocess.run([sys.executable, "-c", code, path])
    assert process.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    left, _ = names(tmp_path)
    assert left.startswith(files.PART) and left.endswith("-a")
    with files.replacing(path) as part:
        part.write_text("new")
    assert path.read_text() == "new"
    assert names(tmp_path) == [left, "a"]  # it may be another writer's
    files.delete_parts(tmp_path)
    assert names(tmp_path) == ["a"]


def test_only_what_was_written_is_deleted(tmp_path):
    """Names such as Spark's, of others, and of killed processes of ours."""
    (tmp_path / "part-a").write_text("mine")
    (tmp_path / f"{files.PART}mine").write_text("mine")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "part-a").mkdir()
    left = tmp_path / "b" / f"{files.PART}{'0f' * 8}-model.keras"
    left.write_text("half")
    with files.replacing(tmp_path / "a") as part:
        part.write_text("new")
    with pytest.raises(ZeroDivisionError), files.replacing(tmp_path / "a"):
        raise ZeroDivisionError
    before = names(tmp_path)
    assert before == [f"{files.PART}mine", "a", "b", "part-a"]
    assert (tmp_path / "part-a").read_text() == "mine"
    files.delete_parts(tmp_path)
    assert names(tmp_path) == before
    assert names(tmp_path / "b") == ["part-a"]


def test_two_writers_of_one_path(tmp_path):
    path = tmp_path / "a"
    with files.replacing(path) as first:
        first.write_text("first")
        with files.replacing(path) as second:
            second.write_text("second, ")
            assert first.read_text() == "first"
        assert path.read_text() == "second, "
        first.write_text("first, whole")
    assert path.read_text() == "first, whole"
    with pytest.raises(ZeroDivisionError), files.replacing(path) as second:
        with files.replacing(path) as first:
            first.write_text("first, again")
        raise ZeroDivisionError
    assert path.read_text() == "first, again"
    assert names(tmp_path) == ["a"]


def test_a_link_is_replaced_and_not_what_it_leads_to(tmp_path):
    (tmp_path / "target").write_text("mine")
    (tmp_path / "a").symlink_to(tmp_path / "target")
    with files.replacing(tmp_path / "a") as part:
        part.write_text("new")
    assert (tmp_path / "target").read_text() == "mine"
    assert (tmp_path / "a").read_text() == "new"
    assert not (tmp_path / "a").is_symlink()


@pytest.mark.parametrize(
    "raised, reason",
    [
        (OSError(errno.ENOSPC, "full"), "No space left on device"),
        (RuntimeError("errno = 28, No space left on device"), "No space left"),
    ],
)
def test_a_full_disk_names_the_file(raised, reason, tmp_path):
    path = tmp_path / "model.keras"
    with pytest.raises(OSError, match=rf"{path} \({reason}") as error:
        with files.replacing(path) as part:
            part.write_text("half")
            raise raised
    assert error.value.errno == errno.ENOSPC
    assert names(tmp_path) == []


def test_errors_about_other_files_stay_theirs(tmp_path):
    with pytest.raises(FileNotFoundError, match="other"):
        with files.replacing(tmp_path / "a"):
            (tmp_path / "other").read_text()
    with pytest.raises(OSError, match=r"none/a \(No such file"):
        with files.replacing(tmp_path / "none" / "a") as part:
            part.write_text("new")


def test_long_names(tmp_path):
    path = tmp_path / ("ä" * 120 + ".weights.h5")
    with files.replacing(path) as part:
        assert part.name.endswith(".weights.h5")
        part.write_text("new")
    assert path.read_text() == "new"


def test_has_the_mode_of_any_file(tmp_path):
    with files.replacing(tmp_path / "a") as part:
        part.write_text("text")
    (tmp_path / "b").write_text("text")
    modes = [os.stat(tmp_path / name).st_mode for name in "ab"]
    assert modes[0] == modes[1]
