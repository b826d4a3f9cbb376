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
    assert names(tmp_path) == ["a", "part-a"]
    with files.replacing(path) as part:  # a file where the folder was left
        part.write_text("new")
    assert path.read_text() == "new"
    assert names(tmp_path) == ["a"]


def test_has_the_mode_of_any_file(tmp_path):
    with files.replacing(tmp_path / "a") as part:
        part.write_text("text")
    (tmp_path / "b").write_text("text")
    modes = [os.stat(tmp_path / name).st_mode for name in "ab"]
    assert modes[0] == modes[1]
