"""The records that are kept: a row of a table is of one optimizer."""

import pytest
import recipe
import results
from test_report import make_record

OLD = {"optimizer": "sgd", "momentum": 0.9, "l2": 1e-4}
NEW = {"optimizer": "sgd(momentum=0.9,weight_decay=2e-4)", "l2": 0.0}


def write(folder, flags, seed=0, **train):
    folder.mkdir(parents=True)
    record = make_record(name="method", seed=seed)
    record.flags = {**flags, "seed": seed}
    record.train.update(train)
    record.write(folder / "result.json")
    return record


@pytest.mark.parametrize(
    "flags, train, name",
    [
        (OLD, {}, "keras_sgd"),
        ({"momentum": 0.9}, {}, "keras_sgd"),  # before there were others
        ({"optimizer": "keras_sgd(momentum=0.9)"}, {}, "keras_sgd"),
        (NEW, {}, "sgd"),
        ({"optimizer": "adamw", "momentum": 0.9}, {}, "adamw"),
        (NEW, {"from_flags": OLD}, "keras_sgd"),  # a head on older features
    ],
)
def test_form_of_the_optimizer(tmp_path, flags, train, name):
    record = write(tmp_path / "run", flags, **train)
    assert results.optimizer_of(record) == name


def test_a_new_form_takes_the_place_of_all_old_records(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "RECORDS", tmp_path / "results")
    monkeypatch.setattr(results, "REPO", tmp_path)
    for seed in (0, 1):
        write(tmp_path / f"old_{seed}", OLD, seed)
        results.add(tmp_path / f"old_{seed}")
    assert "optimizer `keras_sgd`" in results.tables(results.read())
    write(tmp_path / "new", NEW, 1)
    results.add(tmp_path / "new")
    (record,) = results.read()["method"]
    assert (record.seed, record.flags["optimizer"]) == (1, NEW["optimizer"])
    assert "optimizer `sgd`" in results.tables(results.read())


def test_two_forms_in_one_row_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(results, "RECORDS", tmp_path)
    for seed, flags in enumerate((OLD, NEW)):
        record = write(tmp_path / f"run_{seed}", flags, seed)
        (tmp_path / "method").mkdir(exist_ok=True)
        record.write(tmp_path / "method" / f"seed{seed}.json")
    with pytest.raises(ValueError, match=r"one optimizer .*keras_sgd, sgd"):
        results.read()


def test_rows_of_the_old_form_say_so():
    records = results.read()
    path = recipe.REPO / "recipes" / "flags" / "cifar10_lt100_ce.cfg"
    for line in results.result_lines(path, records).splitlines():
        old = "keras_sgd" in line
        names = [
            name
            for name, runs in records.items()
            if name.startswith("cifar10_lt100_ce_c")
            and (results.optimizer_of(runs[0]) == "keras_sgd") == old
        ]
        assert any(name.rpartition("_")[2] in line for name in names)
