"""The records that are kept: a row of a table is of one optimizer."""

import pytest
import recipe
import results
from test_report import make_record

from keras_lt import evaluation

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


def test_kept_records_name_the_run_of_their_weights(tmp_path, monkeypatch):
    """Its folder is one of the machine that made it."""
    monkeypatch.setattr(results, "RECORDS", tmp_path / "results")
    monkeypatch.setattr(results, "REPO", tmp_path)
    write(tmp_path / "first", NEW, 3)
    write(tmp_path / "tuned", {**NEW, "weights": str(tmp_path / "first")}, 0)
    write(tmp_path / "imagenet", {**NEW, "weights": "imagenet"}, 1)
    for name in ("tuned", "imagenet"):
        results.add(tmp_path / name)
    found = [record.flags["weights"] for record in results.read()["method"]]
    assert found == ["method, seed 3", "imagenet"]


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


def test_advice_is_what_the_answers_say():
    """README's numbers of the three runs whose answers are kept."""
    text = (recipe.REPO / "README.md").read_text()
    start = text.index("`tools/evaluate.py` says when")
    text = " ".join(text[start : text.index("[Recipes: results]")].split())
    folder = recipe.REPO / "recipes" / "results"
    answers = {
        path.stem: evaluation.read(path) for path in folder.glob("*.npz")
    }
    plain, softmax, dual = (
        answers[f"cifar10_lt100_{name}_c30_seed0"]
        for name in ("ce", "balanced_softmax", "dual_branch")
    )
    found = [
        evaluation.evaluate(each.test, source=each.logit_counts, draws=50)
        for each in (plain, softmax, dual)
    ]

    def percent(part, which="plain"):
        values = [100 * each["shifted"][part][which] for each in found]
        return [f"{value:.1f}" for value in values]

    top1, lowest, ece = (
        [100 * each[name] for each in found]
        for name in ("top1", "lowest_recall", "ece")
    )
    assert f"{top1[2] - top1[1]:.1f} points (95 % interval" in text
    assert f"{top1[2] - top1[0]:.1f} above cross-entropy" in text
    worst = (
        "{2:.1f} % of its worst class, where they find {1:.1f} % and {0:.1f}"
    )
    assert worst.format(*lowest) in text
    (as_is, *without), (_, *known) = (
        percent("training", which) for which in ("plain", "adjusted")
    )
    assert f"right as it is ({as_is})" in text
    assert f"{known[1]} and {known[0]}, and without it" in text
    assert f"without it {without[1]} and {without[0]}." in text
    known = percent("backward_50", "adjusted")
    assert known[0] == known[1] and f"reach {known[0]} each" in text
    assert f"second classifier {known[2]}; if" in text
    unknown = "{}, {} and {}: take".format(*percent("backward_50"))
    assert unknown in text
    assert f"ECE is {ece[2]:.1f}, that of balanced softmax {ece[1]:.1f}" in text
    between = evaluation.compare(dual.test, softmax.test, draws=2_000)
    low, high = (100 * x for x in between["differences"]["balanced"][1:])
    assert f"interval {low:.1f} to {high:.1f})" in text
