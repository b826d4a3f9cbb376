"""tools/sweep.py with real runs, and what it makes of flag files."""

import os
import re
import signal
import subprocess
import sys

import pytest
import recipe

from keras_lt import report

TOOL = recipe.REPO / "tools" / "sweep.py"
sys.path.insert(0, str(TOOL.parent))

import sweep  # noqa: E402

SMALL = (
    "--dataset=digits\n--backbone=cifar_resnet(8)\n--max_steps=2\n"
    "--mixed_precision=none\n"
)
STAGE = (
    "# Another classifier.\n#\n"
    "#   python recipes/second_stage.py --workdir=runs/x\n"
    "--from=@good_short\n--stage=ncm\n"
)


def start(folder, *arguments):
    return subprocess.Popen(
        [sys.executable, TOOL, f"--runs={folder / 'runs'}", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Folder of a sweep that was cut after its first run, then finished.

    Two stages start from good_short, which is asked for by nobody else, and one
    from a run that fails.
    """
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "good.cfg").write_text(SMALL)
    (folder / "short.cfg").write_text("--epochs=1\n")
    (folder / "bad.cfg").write_text(SMALL + "--loss=class_balanced(beta=2)\n")
    (folder / "ncm.cfg").write_text(STAGE)
    (folder / "tau.cfg").write_text("--flagfile=ncm.cfg\n--stage=tau(0.5)\n")
    (folder / "on_bad.cfg").write_text("--flagfile=ncm.cfg\n--from=@bad\n")
    files = [folder / f"{name}.cfg" for name in ("ncm", "on_bad", "tau")]
    process = start(folder, *files)
    first = process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=300)
    assert first == f"finished: {folder / 'runs' / 'good_short_0'}\n"
    assert process.returncode == 1
    assert "ncm_0" not in rest
    jobs = min(2, len(os.sched_getaffinity(0)))
    process = start(folder, *files, f"--jobs={jobs}")
    output, _ = process.communicate(timeout=300)
    return folder, output, process.returncode


def test_goes_on_where_it_was_cut(swept):
    folder, output, status = swept
    lines, runs = output.splitlines(), folder / "runs"
    assert sorted(line for line in lines if line.startswith("finished")) == [
        f"finished: {runs / name}" for name in ("ncm_0", "tau_0")
    ]
    failed = [line for line in lines if line.startswith("failed: ")]
    assert failed[0].startswith(f"failed: {runs / 'bad_0'}: ")
    assert "Expected beta in [0, 1)" in failed[0]
    assert failed[1] == f"failed: {runs / 'on_bad_0'}: bad failed"
    assert status == 1


def test_records_and_table(swept):
    folder, output, _ = swept
    records = [
        report.Record.read(folder / "runs" / f"{name}_0" / "result.json")
        for name in ("ncm", "tau")
    ]
    assert [record.from_run for record in records] == 2 * ["good_short, seed 0"]
    assert [record.name for record in records] == ["ncm", "tau"]
    lines = output.splitlines()
    (row,) = (line for line in lines if line.startswith("| tau |"))
    assert f"| {100 * records[1].test['last']['top1']:.1f} |" in row
    assert "bad" not in lines[-1]
    assert (folder / "runs" / "ncm_0.log").stat().st_size > 0


def test_finished_runs_are_left_alone(swept):
    folder = swept[0]
    planned = sweep.Sweep(folder / "runs", [])
    run = sweep.wanted(str(folder / "tau.cfg"), 0)
    assert run.needs.files == (folder / "good.cfg", folder / "short.cfg")
    assert planned.plan([run]) == []
    # Of another seed, the run that it starts from comes first, and once.
    runs = [sweep.wanted(str(folder / f"{n}.cfg"), 1) for n in ("tau", "ncm")]
    names = [run.name for run in planned.plan(runs)]
    assert names == ["good_short", "tau", "ncm"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("none.cfg",), "Expected a flag file. Received: none.cfg"),
        (("no_such_run",), "Expected the name of a run: .*: no_such_run"),
        (("quickstart", "--jobs=0"), "Received: --jobs=0"),
        (("quickstart", "--jobs=99999"), "Received: --jobs=99999"),
    ],
)
def test_errors(arguments, message, tmp_path):
    process = start(tmp_path, *arguments)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    last = error.splitlines()[-1]
    assert last.startswith("sweep.py: error: Expected ")
    assert re.search(message, last), last
    assert not (tmp_path / "runs").exists()


def test_runs_that_need_themselves(tmp_path):
    (tmp_path / "a.cfg").write_text("--from=@b\n")
    (tmp_path / "b.cfg").write_text("--from=@a\n")
    with pytest.raises(ValueError, match="Received: a from b from a"):
        sweep.wanted(str(tmp_path / "a.cfg"), 0)
