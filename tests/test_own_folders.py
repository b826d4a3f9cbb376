"""tools/own_folders.py, on a small folder."""

import json

import own_folders
import pictures
import pytest
import recipe

from keras_lt import report

FLAGS = ("--on_bad_image=replace", "--max_steps=2")


def test_a_run_is_made_once_and_read_again(tmp_path, monkeypatch, capsys):
    photos = pictures.write_folder(tmp_path / "photos")
    runs = tmp_path / "runs"

    def show(*options):
        code = recipe.tool(
            *(monkeypatch, "own_folders", photos, f"--runs={runs}", *options),
            *("--", *FLAGS),
        )
        assert not code, code
        return capsys.readouterr().out

    (row,) = json.loads(show("--json"))["runs"]
    record = report.Record.read(runs / "photos_scratch" / "result.json")
    counts = pictures.COUNTS.values()
    assert (row["train_images"], row["classes"]) == (sum(counts), len(counts))
    assert (row["most"], row["fewest"]) == (max(counts), min(counts))
    assert row["balanced"] == record.test["last"]["balanced"]
    assert row["guessing"] == 1 / len(counts)
    assert row["minutes"] * 60 > record.train["wall_time_seconds"]
    assert row["chosen"]["batch_size"] == record.flags["batch_size"]
    assert "on_bad_image" not in row["chosen"]

    monkeypatch.setattr(own_folders.subprocess, "run", None)  # nothing is run
    *_, line = show().splitlines()
    cells = [cell.strip() for cell in line.strip("|").split("|")]
    assert cells[:4] == ["photos", "74", "4", "40 to 5"]
    assert cells[5] == f"{100 * row['balanced']:.1f}"


def test_a_run_that_fails_is_named(tmp_path, monkeypatch):
    with pytest.raises(RuntimeError, match=r"exit code 0 .*none_scratch\.log"):
        own_folders.run(tmp_path / "none", tmp_path / "none_scratch", [])
