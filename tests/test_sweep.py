"""tools/sweep.py with real runs."""

import os
import signal
import subprocess
import sys

import pytest
import recipe

from keras_lt import report

TOOL = recipe.REPO / "tools" / "sweep.py"
SMALL = "--dataset=digits\n--backbone=cifar_resnet20\n--max_steps=2\n"


def start(folder, *arguments):
    return subprocess.Popen(
        [sys.executable, TOOL, f"--runs={folder / 'runs'}", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """Folder of a sweep that was cut after its first run, then finished."""
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "good.cfg").write_text(SMALL)
    (folder / "bad.cfg").write_text(SMALL + "--beta=2\n--loss=class_balanced\n")
    files = (folder / "good.cfg", folder / "bad.cfg", "--seeds", "0", "1")
    more = ("--", "--learning_rate=0.01")
    process = start(folder, *files, *more)
    first = process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    rest, _ = process.communicate(timeout=300)
    assert first == f"finished: {folder / 'runs' / 'good_0'}\n"
    assert process.returncode == 1
    assert "good_1" not in rest
    jobs = min(2, len(os.sched_getaffinity(0)))
    process = start(folder, *files, f"--jobs={jobs}", *more)
    output, _ = process.communicate(timeout=300)
    return folder, output, process.returncode


def test_goes_on_where_it_was_cut(swept):
    folder, output, status = swept
    lines = output.splitlines()
    assert lines[0] == (
        f"finished before: {folder / 'runs' / 'good_0' / 'result.json'}"
    )
    assert f"finished: {folder / 'runs' / 'good_1'}" in lines
    failed = [line for line in lines if line.startswith("failed: ")]
    assert [line.split(": ")[1] for line in sorted(failed)] == [
        str(folder / "runs" / f"bad_{seed}") for seed in range(2)
    ]
    for line in failed:
        assert "Expected beta in [0, 1)" in line
    assert status == 1


def test_records_and_table(swept):
    folder, output, _ = swept
    records = [
        report.Record.read(folder / "runs" / f"good_{seed}" / "result.json")
        for seed in range(2)
    ]
    assert [record.seed for record in records] == [0, 1]
    rates = [record.flags["learning_rate"] for record in records]
    assert rates == [0.01, 0.01]
    row = next(line for line in output.splitlines() if line.startswith("| [go"))
    top1 = [100 * record.test["last"]["top1"] for record in records]
    assert f"| 2 | {sum(top1) / 2:.1f} ± " in row
    assert "bad" not in output.splitlines()[-1]
    assert (folder / "runs" / "good_1.log").stat().st_size > 0


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("none.cfg",), "Expected a flag file. Received: none.cfg"),
        ((TOOL, "--jobs=0"), "Received: --jobs=0"),
        ((TOOL, "--jobs=99999"), "Received: --jobs=99999"),
    ],
)
def test_errors(arguments, message, tmp_path):
    process = start(tmp_path, *arguments)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 1
    assert error.splitlines()[-1].startswith("sweep.py: error: Expected ")
    assert message in error
    assert not (tmp_path / "runs").exists()
