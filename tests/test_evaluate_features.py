"""tools/evaluate_features.py, on features that part and on some that don't."""

import runpy
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from keras_lt import features

TOOL = Path(__file__).parents[1] / "tools" / "evaluate_features.py"


def sample(counts, spread, seed):
    """Points around a corner of a cube for each class."""
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    centers = 4.0 * np.eye(len(counts), 6)
    points = centers[labels] + spread * rng.normal(size=(len(labels), 6))
    return features.Features(points.astype("float32"), labels)


class Ended(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def tool(tmp_path, monkeypatch, capsys):
    """Runs the tool in this process, with its files in `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(TOOL.parent))

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", [str(TOOL), *arguments])
        try:
            runpy.run_path(str(TOOL), run_name="__main__")
            code = 0
        except SystemExit as end:
            code = end.code or 0
        output, error = capsys.readouterr()
        if isinstance(code, str):  # Python prints it, and ends with 1
            code, error = 1, f"{error}{code}"
        return Ended(code, output, error)

    return run


def test_table(tmp_path, tool):
    counts = [200, 120, 40, 20]
    for name, spread in (("near", 8.0), ("far", 0.5)):
        for part, sizes in (("train", counts), ("test", [50] * 4)):
            features.save(
                tmp_path / f"{name}_{part}.npz",
                sample(sizes, spread, len(part)),
            )
    process = tool(
        *("near_train.npz", "far_train.npz", "--num_clusters=8"),
        *("--test", "near_test.npz", "far_test.npz"),
    )
    assert process.returncode == 0, process.stderr
    header, _, *rows = process.stdout.splitlines()
    names = [name.strip() for name in header.strip("|").split("|")]
    found = {}
    for line in rows:
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        found[cells[0]] = dict(zip(names[1:], cells[1:], strict=True))
    near, far = found["near_train.npz"], found["far_train.npz"]
    assert float(far["purity 1"]) > float(near["purity 1"])
    assert float(far["plain"]) > 95 > 70 > float(near["plain"])
    assert float(far["DLSA"]) > float(near["DLSA"]) + 20
    assert 100 >= float(near["oracle"]) > float(near["plain"]) + 5
    # Of 380 training samples the level keeps 380 - int(380 * 0.7) = 114.
    head, tail = (
        float(near[name].split("%")[0]) / 100 for name in ("head 1", "tail 1")
    )
    assert head * 320 + tail * 60 == pytest.approx(114, abs=0.3)


def test_holds_out_without_test(tmp_path, tool):
    features.save(tmp_path / "a.npz", sample([60, 30, 10], 0.5, 0))
    process = tool(
        *("a.npz", "--num_clusters=4", "--depth=2"),
        *("--many_shot=40", "--few_shot=15"),
    )
    assert process.returncode == 0, process.stderr
    assert "| a.npz | " in process.stdout and "kept 2" in process.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.npz"], "none.npz"),
        (["a.npz", "--test", "a.npz", "a.npz"], "as many --test files"),
        (["a.npz", "--test", "b.npz"], "same dimension. Received: 6 and 5"),
        (["text.npz"], "Expected a file that keras_lt.features.save wrote"),
    ],
)
def test_errors(arguments, message, tmp_path, tool):
    some = sample([30, 10], 1.0, 0)
    features.save(tmp_path / "a.npz", some)
    less = features.Features(some.features[:, :5], some.labels)
    features.save(tmp_path / "b.npz", less)
    (tmp_path / "text.npz").write_text("text")
    process = tool(*arguments)
    assert process.returncode == 1 and process.stdout == ""
    assert process.stderr.splitlines()[-1].startswith(
        "evaluate_features.py: error: "
    )
    assert message in process.stderr


def test_principal_components_keep_what_parts(tmp_path, tool):
    # 20 directions of small noise beside those that part the classes.
    far = sample([200, 120, 40, 20], 0.5, 0)
    noise = np.random.default_rng(0).normal(0, 0.01, (len(far.labels), 20))
    wide = np.concatenate([far.features, noise], 1).astype("float32")
    features.save(tmp_path / "wide.npz", far._replace(features=wide))
    process = tool("wide.npz", "--num_clusters=8", "--components=4")
    assert process.returncode == 0, process.stderr
    *_, dlsa, plain, _ = process.stdout.splitlines()[-1].split(" | ")
    assert float(dlsa) > 90 and float(plain) > 95
    process = tool("wide.npz", "--components=27")
    assert process.returncode == 1
    assert "components from 1 to 26" in process.stderr
