"""Flag files, the folder of a run, and how a recipe ends."""

import os
import shutil
import signal
import subprocess
import sys
import time

import keras
import pytest
import recipe
import tensorflow as tf
from absl import flags

from keras_lt import files

TINY = (
    "--dataset=digits",
    "--imbalance_factor=20",
    "--backbone=cifar_resnet20",
    "--batch_size=16",
)


def expand(path):
    return recipe.workdir.expand_flagfiles(["recipe", f"--flagfile={path}"])


def test_flag_files_that_include_others_twice(tmp_path):
    """22 deep, the files within would be read four million times."""
    for number in range(22):
        include = f"--flagfile={number + 1}.cfg\n"
        text = f"{include}--a={number}\n{include}--b={number}\n"
        (tmp_path / f"{number}.cfg").write_text(text)
    (tmp_path / "22.cfg").write_text("--a=last\n--b=last")
    begin = time.perf_counter()
    expanded = expand(tmp_path / "0.cfg")
    assert time.perf_counter() - begin < 5
    # Of all values the last one counts, as if each were read each time.
    values = dict(line.split("=") for line in expanded[1:])
    assert values == {"--a": "last", "--b": "0"}


def test_the_last_flag_counts_as_if_files_were_copied(tmp_path):
    (tmp_path / "base.cfg").write_text("--a=base\n--b=base\n--c=base")
    (tmp_path / "x.cfg").write_text("--flagfile=base.cfg\n--a=x")
    (tmp_path / "y.cfg").write_text("-flagfile=base.cfg\n--b=y")
    (tmp_path / "top.cfg").write_text("--flagfile=x.cfg\n--flagfile=y.cfg")
    # base, a=x, base, b=y.
    expanded = expand(tmp_path / "top.cfg")[1:]
    values = dict(line.split("=") for line in expanded)
    assert values == {"--a": "base", "--b": "y", "--c": "base"}


@pytest.mark.parametrize(
    "content, message",
    [
        (b"--seed=1\n\xff\xfe\x00", "text in UTF-8. Received: "),
        (b"\x7fELF\x02\x01", "lines that start with -- or #"),
        (b"--flagfile=a.cfg", "within itself"),
        (b"-flagfile=a.cfg", "within itself"),
        (b"--flagfile", "--flagfile without ="),
        (b"--flagfile=none.cfg", "none.cfg, which does not exist"),
        (b"--flagfile=fifo", "fifo, which does not exist"),
    ],
)
def test_other_flag_files_are_refused(
    content, message, tmp_path, monkeypatch, capsys
):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "a.cfg").write_bytes(content)
    assert recipe.run(monkeypatch, f"--flagfile={tmp_path / 'a.cfg'}") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert str(tmp_path) in line or "without =" in line


def test_flag_files_that_are_too_deep(tmp_path):
    for number in range(3000):
        include = f"--flagfile={number + 1}.cfg"
        (tmp_path / f"{number}.cfg").write_text(include)
    with pytest.raises(flags.Error, match="at most 100 deep"):
        expand(tmp_path / "0.cfg")


def raising(error):
    def main(argv):
        raise error

    return main


@pytest.mark.parametrize(
    "error, message",
    [
        (MemoryError(), "Expected more memory or a smaller --batch_size. "),
        (
            tf.errors.ResourceExhaustedError(
                None, None, "OOM when\nallocating"
            ),
            "smaller --batch_size. Received: OOM when allocating",
        ),
        (tf.errors.InternalError(None, None, "a\nb"), "InternalError: a b"),
        (ValueError("Expected a list. Received: " + "x, " * 10**6), "3,000,0"),
    ],
    ids=["memory", "of TensorFlow", "other of TensorFlow", "long"],
)
def test_errors_are_one_short_line(error, message, monkeypatch, capsys):
    monkeypatch.setattr(recipe.cifar_lt, "main", raising(error))
    assert recipe.run(monkeypatch) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("cifar_lt.py: error: Expected") or "Internal" in line
    assert message in line
    assert len(line) < 2200


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_signals_outside_of_training(name, tmp_path, monkeypatch, capsys):
    """What is being written is left as it was, and handlers too."""
    number = signal.Signals[name]
    before = [signal.getsignal(each) for each in (2, 15)]

    def main(argv):
        with files.replacing(tmp_path / "a") as part:
            part.write_text("half")
            os.kill(os.getpid(), number)
            time.sleep(10)

    monkeypatch.setattr(recipe.cifar_lt, "main", main)
    assert recipe.run(monkeypatch) == 128 + number
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"cifar_lt.py: ended by {name}; the same command")
    assert list(tmp_path.iterdir()) == []
    assert [signal.getsignal(each) for each in (2, 15)] == before


def enter(folder, overwrite=False):
    return recipe.workdir.Workdir(
        str(folder),
        [recipe.options.FLAGS["seed"]],
        overwrite,
        tf.distribute.get_strategy(),
    )


@pytest.fixture
def run_folder(tmp_path):
    flags.FLAGS.mark_as_parsed()
    with enter(tmp_path / "run"):
        pass
    return tmp_path / "run"


def snapshot(folder):
    return {
        path.relative_to(folder): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kind", ["other", "copied", "locked", "linked"])
def test_folders_of_others_are_left_alone(
    kind, overwrite, tmp_path, run_folder
):
    """A `flags.cfg` alone makes no run of a folder."""
    folder = tmp_path / "mine"
    (folder / "checkpoints").mkdir(parents=True)
    (folder / "checkpoints" / "years.h5").write_text("of work")
    (folder / "flags.cfg").write_text("verbose = true\n")
    if kind == "copied":
        shutil.copy(run_folder / "flags.cfg", folder)
    if kind == "locked":
        (folder / ".lock").write_text("pid 1")
    if kind == "linked":
        (folder / "flags.cfg").unlink()
        (folder / "flags.cfg").symlink_to(run_folder / "flags.cfg")
        (folder / ".lock").write_text("")
    before = snapshot(folder)
    with pytest.raises(ValueError, match="the folder of a run"):
        enter(folder, overwrite).__enter__()
    assert snapshot(folder) == before


def test_overwrite_deletes_what_runs_write_alone(run_folder):
    ours = (
        "result.json",
        "model.keras",
        "checkpoints/checkpoint.json",
        "checkpoints/epoch-0001.weights.h5",
        "checkpoints/stage2/epoch-0001-step-000002.metrics.npz",
        "tensorboard/draws/events.out.tfevents.1.vm.1.0.v2",
        "draws/round-000.npz",
        "division.html",
    )
    theirs = (
        "notes.txt",
        "part-00000.csv",
        "checkpoints/years.h5",
        "checkpoints/stage3/epoch-0001.weights.h5",
        "tensorboard/plugins/data.json",
        "draws/sketch.png",
    )
    for name in (*ours, *theirs):
        (run_folder / name).parent.mkdir(parents=True, exist_ok=True)
        (run_folder / name).write_text(name)
    with enter(run_folder, overwrite=True):
        pass
    found = {str(name) for name in snapshot(run_folder)}
    assert found == {*theirs, ".lock", "flags.cfg"}
    assert not (run_folder / "checkpoints" / "stage2").exists()


def test_what_would_be_in_the_way_of_results(run_folder):
    """Hours later it would end the run, at each start."""
    saved = run_folder / "saved_model"
    (saved / "variables").mkdir(parents=True)
    (saved / "saved_model.pb").write_text("cut")
    with enter(run_folder) as run:
        assert (saved / "saved_model.pb").exists()
        run.discard_results()
        assert not saved.exists()
    for mine in (saved / "mine.txt", run_folder / "model.keras" / "mine"):
        mine.parent.mkdir()
        mine.write_text("mine")
        wrong = mine if saved in mine.parents else mine.parent
        with pytest.raises(
            ValueError, match=rf"will write\. Received: {wrong}"
        ):
            enter(run_folder).__enter__()
        mine.unlink()
        mine.parent.rmdir()


def test_a_lock_that_is_a_link(tmp_path):
    flags.FLAGS.mark_as_parsed()
    target = tmp_path / "precious"
    target.write_text("mine")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".lock").symlink_to(target)
    with pytest.raises(ValueError, match=r"with \.lock in it"):
        enter(folder).__enter__()
    assert target.read_text() == "mine"


def test_what_is_in_a_lock_stays(run_folder):
    (run_folder / ".lock").write_text("mine")
    with enter(run_folder):
        pass
    assert (run_folder / ".lock").read_text() == "mine"


@pytest.mark.parametrize(
    "name",
    ["checkpoints", "tensorboard", "draws", "saved_model", "model.keras"],
)
def test_links_that_lead_out_are_refused(name, tmp_path, run_folder):
    target = tmp_path / "target"
    target.mkdir()
    (target / "events.out.tfevents.1").write_text("mine")
    (run_folder / name).symlink_to(target)
    for overwrite in (False, True):
        with pytest.raises(
            ValueError, match=f"{name}, which leads to {target}"
        ):
            enter(run_folder, overwrite).__enter__()
    assert snapshot(target)


def test_parts_of_a_killed_run_are_deleted(run_folder):
    left = run_folder / "checkpoints" / f"{files.PART}{'0' * 16}-epoch"
    left.parent.mkdir()
    left.write_text("half")
    (run_folder / "part-00000.csv").write_text("mine")
    with enter(run_folder):
        assert not left.exists()
    assert (run_folder / "part-00000.csv").read_text() == "mine"


@pytest.mark.parametrize("how", ["deleted", "made anew", "another run"])
def test_a_folder_that_is_gone_ends_the_run(how, run_folder):
    with enter(run_folder) as run:
        run.check()
        shutil.rmtree(run_folder)
        if how == "made anew":
            run_folder.mkdir()
        if how == "another run":
            other = enter(run_folder)
            other.__enter__()
        before = snapshot(run_folder) if run_folder.exists() else None
        held = run.callback()
        for step in (
            run.check,
            lambda: run.write("a", lambda path: path.write_text("new")),
            held.on_train_begin,
            lambda: held.on_train_batch_end(0),
            lambda: held.on_epoch_end(0),
        ):
            with pytest.raises(FileNotFoundError, match="deleted or replaced"):
                step()
        after = snapshot(run_folder) if run_folder.exists() else None
        assert after == before


def test_a_training_whose_folder_is_deleted(tmp_path, monkeypatch, capsys):
    """It does not make it anew, without flags and lock."""
    folder = tmp_path / "run"

    class Delete(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 1:
                shutil.rmtree(folder)

    watch = recipe.cifar_lt.stages.make_watch
    monkeypatch.setattr(
        recipe.cifar_lt.stages,
        "make_watch",
        lambda *args: keras.callbacks.CallbackList([Delete(), watch(*args)]),
    )
    arguments = (*TINY, "--max_steps=9", f"--workdir={folder}")
    assert recipe.run(monkeypatch, *arguments) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(
        "cifar_lt.py: error: Expected the --workdir to stay"
    )
    assert not folder.exists()


def test_sigint_of_a_training(tmp_path):
    """A checkpoint, one line, 130; and then it goes on."""
    folder = tmp_path / "run"
    arguments = (*TINY, "--epochs=500", f"--workdir={folder}")
    process = recipe.start(*arguments)
    index = folder / "checkpoints" / "checkpoint.json"
    deadline = time.time() + 300
    while not index.exists():
        assert process.poll() is None, process.stdout.read()
        assert time.time() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    lines = output.splitlines()
    assert lines[-1].startswith(
        "cifar_lt.py: ended by SIGINT; the same command"
    )
    assert "Traceback" not in output
    assert not list(folder.rglob(f"{files.PART}*"))


def test_a_second_sigint_ends_at_once():
    code = """
import sys, time
sys.path.insert(0, sys.argv[1])
import workdir
def main(argv):
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        print("told", flush=True)
        time.sleep(60)
sys.argv = ["recipe.py"]
workdir.run_app(main)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(recipe.RECIPE.parent)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    for said in ("ready", "told"):
        assert process.stdout.readline() == f"{said}\n"
        process.send_signal(signal.SIGINT)
    assert process.wait(timeout=10) == -signal.SIGINT
