"""The folder of a run, what it keeps, and how a recipe ends."""

import os
import shutil
import signal
import subprocess
import sys
import time

import flag_groups
import pytest
import recipe
import run as runs
import tensorflow as tf

from keras_lt import files

FLAGS = flag_groups.declare("seed", "running")


@pytest.fixture(autouse=True)
def parsed(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["recipe.py"])
    FLAGS(["recipe.py"])


def end_of(main) -> int:
    with pytest.raises(SystemExit) as end:
        runs.run_app(main, FLAGS)
    return end.value.code


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
def test_errors_are_one_short_line(error, message, capsys):
    def main():
        raise error

    assert end_of(main) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("recipe.py: error: Expected") or "Internal" in line
    assert message in line
    assert len(line) < 2200


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_signals_outside_of_training(name, tmp_path, capsys):
    """What is being written is left as it was, and handlers too."""
    number = signal.Signals[name]
    before = [signal.getsignal(each) for each in (2, 15)]

    def main():
        with files.replacing(tmp_path / "a") as part:
            part.write_text("half")
            os.kill(os.getpid(), number)
            time.sleep(10)

    assert end_of(main) == 128 + number
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"recipe.py: ended by {name}; the same command")
    assert list(tmp_path.iterdir()) == []
    assert [signal.getsignal(each) for each in (2, 15)] == before


def test_a_spec_has_one_form():
    """So that the same choice is the same run."""
    values = flag_groups.declare("augmentation", "optimization", "running")
    values(["", "--augment=cutout( size = 16 ) | m:f()", "--learning_rate=.1"])
    runs.run_app(lambda: None, values)
    assert values.augment == "cutout(size=16)|m:f()"
    assert values.learning_rate == ".1"


def enter(folder, overwrite=False):
    strategy = tf.distribute.get_strategy()
    return runs.Run(str(folder), FLAGS, strategy, overwrite)


@pytest.fixture
def run_folder(tmp_path):
    with enter(tmp_path / "run") as run:
        run.check()
    return tmp_path / "run"


def test_a_start_that_is_refused_leaves_no_run(tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(ValueError, match="no such loss"):
        with enter(folder):
            raise ValueError("no such loss")
    assert [path.name for path in folder.iterdir()] == [".lock"]
    FLAGS(["recipe.py", "--seed=1"])
    with enter(folder) as run:
        run.write("result.json", lambda path: path.write_text("{}"))
    lines = (folder / "flags.cfg").read_text().splitlines()
    assert lines[0] == "# The flags of a run of recipes/recipe.py"
    assert "--seed=1" in lines
    assert runs.flag_of_run(folder, "seed") == "1"
    assert runs.flag_of_run(folder, "epochs") is None
    # The file is a flag file, and of other flags or scripts there is no run.
    FLAGS(["recipe.py", *lines[1:]])
    with enter(folder) as run:
        assert run.finished
    FLAGS(["recipe.py", "--seed=2"])
    with pytest.raises(ValueError, match="--seed=2 where the run has --seed=1"):
        enter(folder).__enter__()
    sys.argv = ["other.py"]
    FLAGS(["other.py", "--seed=1"])
    with pytest.raises(ValueError, match=r"recipes/other\.py where"):
        enter(folder).__enter__()


def test_artifacts_are_made_once(run_folder):
    with enter(run_folder) as run:

        def make(key):
            if run.made_from("draws", {"images": key}):
                return False
            (run.path / "draws").mkdir(exist_ok=True)
            return True

        assert [make("a"), make("a")] == [True, False]
        with pytest.raises(ValueError, match="Received: other images"):
            make("b")
        # Without the folder nothing is left of what it was made from.
        (run.path / "draws").rmdir()
        assert [make("b"), make("b")] == [True, False]
        # What says nothing of its origin is made anew.
        (run.path / "made_from.json").unlink()
        assert make("a")
        (run.path / "made_from.json").write_text("[1]")
        with pytest.raises(ValueError, match="keeps of its origins"):
            make("a")


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
        "checkpoints/epoch-0001-step-000002.metrics.npz",
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
    assert not (run_folder / "model.keras").exists()


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


def test_a_second_sigint_ends_at_once():
    code = """
import sys, time
sys.path.insert(0, sys.argv[1])
import flag_groups, run
def main():
    try:
        print("ready", flush=True)
        time.sleep(600)
    finally:
        print("told", flush=True)
        time.sleep(600)
sys.argv = ["recipe.py"]
values = flag_groups.declare("running")
values(sys.argv)
run.run_app(main, values)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(recipe.path().parent)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    for said in ("ready", "told"):
        assert process.stdout.readline() == f"{said}\n"
        process.send_signal(signal.SIGINT)
    assert process.wait(timeout=300) == -signal.SIGINT
