"""Scores, intervals, shifts, calibration, sets and priors, each checked.

The simulated model knows the class frequencies of its training and nothing
else wrong: Bayes' rule says what each part must find.
"""

import json
import runpy
import subprocess
import sys
import types

import numpy as np
import pytest
import recipe
from scipy import optimize, stats
from sklearn import metrics as sklearn_metrics

from keras_lt import evaluation, metrics
from keras_lt.counts import Classes
from keras_lt.evaluation import Predictions, Scaling
from keras_lt.evaluation import predictions as predictions_module
from keras_lt.evaluation.conformal import METHODS

TOOL = recipe.REPO / "tools" / "evaluate.py"
COUNTS = np.array([5000, 1500, 450, 140, 40, 12])
CLASSES = len(COUNTS)


def simulate(per_class, seed, counts=COUNTS, sharpness=1.0):
    """Logits of the exact posterior, times `sharpness`, and labels."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), per_class)
    x = generator.normal(size=(len(labels), len(counts)))
    x[np.arange(len(labels)), labels] += 1.5
    return sharpness * (1.5 * x + np.log(counts / counts.sum())), labels


def predictions(per_class=200, seed=0, **kwargs):
    return Predictions(*simulate(per_class, seed, **kwargs), COUNTS)


def softmax(z):
    z = np.exp(z - z.max(1, keepdims=True))
    return z / z.sum(1, keepdims=True)


@pytest.fixture(scope="module")
def test_set():
    return predictions(sharpness=2.0)


@pytest.fixture(scope="module")
def held_out():
    return predictions(seed=1, sharpness=2.0)


def test_scores_are_those_of_scikit_learn_and_scipy(test_set):
    found = evaluation.scores(test_set)
    labels, predicted = test_set.labels, test_set.predicted
    recalls = sklearn_metrics.recall_score(labels, predicted, average=None)
    expected = {
        "top1": sklearn_metrics.accuracy_score(labels, predicted),
        "top5": sklearn_metrics.top_k_accuracy_score(
            labels, test_set.logits, k=5
        ),
        "balanced": sklearn_metrics.balanced_accuracy_score(labels, predicted),
        "geometric_mean": stats.gmean(recalls),
        "harmonic_mean": stats.hmean(recalls),
        "lowest_recall": recalls.min(),
        "lowest_5_recall": np.sort(recalls)[:5].mean(),
        "macro_f1": sklearn_metrics.f1_score(
            labels, predicted, average="macro"
        ),
        "matthews": sklearn_metrics.matthews_corrcoef(labels, predicted),
        "many": recalls[:4].mean(),
        "medium": recalls[4],
        "few": recalls[5],
        "unseen": None,
    }
    assert found == pytest.approx(expected, abs=1e-12)
    known = metrics.evaluate(test_set.logits, labels, COUNTS)
    assert {name: known[name] for name in metrics.GROUPS} == pytest.approx(
        {name: found[name] for name in metrics.GROUPS}
    )


def test_refused_images_and_empty_classes():
    # Recalls 2/4, none, 1/2; class 1 is given once, and once there is none.
    given = Predictions(
        np.array([0, 0, 1, -1, 2, 0]), [0, 0, 0, 0, 2, 2], [500, 50, 5]
    )
    found = evaluation.scores(given)
    f1 = [2 * 2 / (4 + 3), 2 * 1 / (2 + 1)]
    assert found["top1"] == 0.5
    assert found["balanced"] == found["few"] == found["many"] == 0.5
    assert found["medium"] is found["top5"] is None
    assert found["macro_f1"] == pytest.approx(np.mean(f1))
    expected = sklearn_metrics.matthews_corrcoef(given.labels, given.predicted)
    assert found["matthews"] == pytest.approx(expected)


@pytest.mark.parametrize("predicted, value", [([1, 1], 0.0), ([0, 1], 1.0)])
def test_matthews_of_one_class(predicted, value):
    found = evaluation.scores(Predictions(np.array(predicted), [0, 1], [9, 9]))
    assert found["matthews"] == pytest.approx(value)
    assert found["geometric_mean"] == found["harmonic_mean"] == value


def test_calibration_is_that_of_scikit_learn_and_of_plain_loops(test_set):
    found = evaluation.calibration(test_set)
    p, labels = softmax(test_set.logits), test_set.labels
    truth = np.eye(CLASSES)[labels]

    def gaps(probability, hits, edges):
        bins = np.searchsorted(edges, probability)  # (low, high]
        return sum(
            abs((hits - probability)[bins == b].sum()) for b in range(15)
        ) / len(labels)

    edges = np.arange(1, 15) / 15
    order = np.argsort(p.max(1))
    parts = np.array_split(order, 15)
    expected = {
        "nll": sklearn_metrics.log_loss(labels, p),
        "brier": ((p - truth) ** 2).sum(1).mean(),
        "ece": gaps(p.max(1), p.argmax(1) == labels, edges),
        "ece_equal_mass": sum(
            abs((p.max(1) - (p.argmax(1) == labels))[part].sum())
            for part in parts
        )
        / len(labels),
        "classwise_ece": np.mean(
            [gaps(p[:, c], truth[:, c], edges) for c in range(CLASSES)]
        ),
    }
    assert len(labels) % 15 == 0  # bins of equal mass have one size
    assert found == pytest.approx(expected, abs=1e-9)
    known = metrics.evaluate(test_set.logits, labels, COUNTS)["ece"]
    assert found["ece"] == pytest.approx(known)


def test_chunks_and_float32_change_nothing(test_set, monkeypatch):
    whole = evaluation.evaluate(test_set, test_set, draws=20)
    monkeypatch.setattr(predictions_module, "_ELEMENTS", 1000)
    again = evaluation.evaluate(test_set, test_set, draws=20)
    logits = test_set.logits.astype("float32")
    narrow = Predictions(logits, test_set.labels, COUNTS)
    single = evaluation.evaluate(narrow, narrow, draws=20)
    for other, tolerance in ((again, 1e-9), (single, 1e-4)):
        assert other["shifted"]["forward_10"] == pytest.approx(
            whole["shifted"]["forward_10"], abs=tolerance
        )
        for name in ("nll", "classwise_ece", "temperature", "ece_calibrated"):
            assert other[name] == pytest.approx(whole[name], abs=tolerance)


def test_temperature_minimizes_the_loss(held_out, test_set):
    best = optimize.minimize_scalar(
        lambda t: sklearn_metrics.log_loss(
            held_out.labels, softmax(held_out.logits / t)
        ),
        bounds=(0.1, 10),
        method="bounded",
        options={"xatol": 1e-8},
    )
    found = evaluation.fit_temperature(held_out)
    assert found == pytest.approx(best.x, rel=1e-5)
    scaled = evaluation.calibration(test_set, Scaling(1 / found))
    assert scaled["ece"] < evaluation.calibration(test_set)["ece"]


@pytest.mark.parametrize("start", [2 * CLASSES, 200 * CLASSES])
def test_temperature_of_many_logits(held_out, monkeypatch, start):
    """Some say where to look, even 2 images that have no temperature."""
    expected = evaluation.fit_temperature(held_out)
    module = sys.modules[Scaling.__module__]
    looked_at = []
    slope = module._slope

    def counted(logits, *arguments):
        looked_at.append(len(logits))
        return slope(logits, *arguments)

    monkeypatch.setattr(module, "_slope", counted)
    monkeypatch.setattr(module, "_START_LOGITS", start)
    found = evaluation.fit_temperature(held_out)
    assert found == pytest.approx(expected, rel=1e-6)
    assert min(looked_at) == start // CLASSES
    # A start that is near is a few looks from the end.
    assert looked_at.count(len(held_out)) <= (5 if start > 1000 else 12)


def test_temperature_ends():
    labels = [0, 1]
    sure = Predictions(np.eye(2), labels, [9, 9])
    wrong = Predictions(1 - np.eye(2), labels, [9, 9])
    assert evaluation.fit_temperature(sure) == 0.01
    assert evaluation.fit_temperature(wrong) == 100
    notes = evaluation.evaluate(sure, sure)["notes"]
    assert any("end of its range" in note for note in notes)


def test_vector_scaling_finds_scale_and_bias():
    counts = np.array([100, 100, 100])
    logits, labels = simulate(3000, 0, counts)
    scale, bias = np.array([1.5, 0.7, 1.2]), np.array([0.5, -0.3, 0.0])
    changed = Predictions((logits - bias) / scale, labels, counts)
    found = evaluation.fit_vector_scaling(changed)
    np.testing.assert_allclose(found.scale, scale, atol=0.1)
    np.testing.assert_allclose(found.bias - found.bias[2], bias, atol=0.1)
    # A class that the hold-out lacks is left to the temperature.
    kept = labels != 2
    lacking = Predictions(changed.logits[kept], labels[kept], counts)
    found = evaluation.fit_vector_scaling(lacking)
    temperature = evaluation.fit_temperature(lacking)
    assert (found.scale[2], found.bias[2]) == (1 / temperature, 0)


def test_wilson_is_that_of_scipy():
    hits, totals = np.array([0, 3, 10, 0, 997]), np.array([7, 9, 10, 0, 1000])
    low, high = evaluation.wilson(hits, totals, level=0.9)
    for i, n in enumerate(totals):
        if n:
            expected = stats.binomtest(hits[i], n).proportion_ci(0.9, "wilson")
            assert (low[i], high[i]) == pytest.approx(tuple(expected))
    assert np.isnan([low[3], high[3]]).all()


def test_coverage_of_wilson():
    generator = np.random.default_rng(0)
    truth = generator.uniform(0.05, 0.95, 10_000)
    low, high = evaluation.wilson(
        generator.binomial(50, truth), np.full(10_000, 50)
    )
    assert ((low <= truth) & (truth <= high)).mean() == pytest.approx(
        0.95, abs=0.01
    )


def test_coverage_of_the_bootstrap():
    """Few images per class: all n of n drawn would cover 91 %."""
    generator = np.random.default_rng(0)
    truth = np.array([0.9, 0.7, 0.6, 0.5, 0.3, 0.4])
    labels = np.repeat(np.arange(CLASSES), 6)
    sets = 600  # a standard error of 0.9 % at 95 %
    right = generator.random((sets, len(labels))) < truth[labels]
    held = 0
    for seed, row in enumerate(right):
        predicted = np.where(row, labels, (labels + 1) % CLASSES)
        low, high = evaluation.bootstrap(
            Predictions(predicted, labels, COUNTS), draws=200, seed=seed
        )["balanced"]
        held += low <= truth.mean() <= high
    assert held / sets == pytest.approx(0.95, abs=0.025)


def test_intervals_of_lowest_recalls_are_from_bounds_of_all():
    """Of 8, 2 and 9 right of 10: the lowest is below all upper bounds."""
    hits = np.array([8, 2, 9])
    labels = np.repeat(np.arange(3), 10)
    right = np.arange(30) % 10 < hits[labels]
    given = Predictions(
        np.where(right, labels, (labels + 1) % 3), labels, [9] * 3
    )
    found = evaluation.bootstrap(given, draws=10, level=0.9)

    def exact(chance):
        """Clopper and Pearson's, wrong on either side with this chance."""
        return np.array(
            [
                stats.binomtest(h, 10).proportion_ci(1 - 2 * chance, "exact")
                for h in hits
            ]
        ).T

    low, (lows, highs) = exact(0.05)[0], exact(1 - 0.95 ** (1 / 3))
    assert found["lowest_recall"] == pytest.approx([low[1], highs[1]])
    assert found["lowest_5_recall"] == pytest.approx(
        [lows.mean(), highs.mean()]
    )
    assert found["harmonic_mean"] == pytest.approx(
        [stats.hmean(lows), stats.hmean(highs)]
    )
    # With 5 right answers of each class it is a bootstrap's.
    hits[1] = 5
    right = np.arange(30) % 10 < hits[labels]
    given = Predictions(
        np.where(right, labels, (labels + 1) % 3), labels, [9] * 3
    )
    lows, highs = exact(1 - 0.95 ** (1 / 3))
    found = evaluation.bootstrap(given, level=0.9)
    assert found["harmonic_mean"][0] > stats.hmean(lows)
    assert found["harmonic_mean"][1] < stats.hmean(highs)


def test_lowest_recalls_are_compared_by_bounds():
    """Those of each alone, at a level at which both hold as often as asked."""
    labels = np.repeat(np.arange(3), 40)
    given = [
        Predictions(
            np.where(np.arange(120) % 40 < right, labels, (labels + 1) % 3),
            labels,
            [9] * 3,
        )
        for right in (30, 12)
    ]
    found = evaluation.compare(*given, draws=10, level=0.9)
    one, other = (
        evaluation.bootstrap(each, draws=10, level=0.95)["lowest_recall"]
        for each in given
    )
    assert found["differences"]["lowest_recall"] == pytest.approx(
        [(30 - 12) / 40, one[0] - other[1], one[1] - other[0]]
    )
    assert found["verdict"][2].startswith("By lowest recall the first is")


def test_intervals_hold_as_often_as_the_tool_for_it_says(monkeypatch):
    """Where all recalls are equal a bootstrap holds the lowest at 60 %."""
    monkeypatch.syspath_prepend(TOOL.parent)
    path = TOOL.with_name("coverage.py")  # pytest may have another one
    coverage = types.SimpleNamespace(**runpy.run_path(str(path)))
    held = coverage.held_by_intervals(np.full(6, 0.6), 20, 150, 0)
    assert min(held[name] for name in coverage.AT_LEAST) > 0.9
    assert held["balanced"] == pytest.approx(0.95, abs=0.06)
    assert coverage.held_by_wilson(20, 10_000, 0) == pytest.approx(
        0.954, abs=0.01
    )
    sets = coverage.of_sets(100, 0)["class-conditional sets"]
    assert sets[0]["held"] == pytest.approx(1 - 4 / 41, abs=0.03)
    rows = [{"promised": 0.9, "held": held} for held in (0.93, 0.88)]
    for at_least, expected in ((False, [0.03, 0.02]), (True, [0.0, 0.02])):
        found = [coverage.difference(r | {"at_least": at_least}) for r in rows]
        assert found == pytest.approx(expected)


def test_bootstrap_is_that_of_drawn_images(test_set):
    """Counts are drawn, not images: the intervals are the same."""
    generator = np.random.default_rng(1)
    drawn = {"macro_f1": [], "matthews": [], "ece": [], "nll": []}
    for _ in range(250):
        places = np.concatenate(
            [
                generator.choice(np.flatnonzero(test_set.labels == c), 200)
                for c in range(CLASSES)
            ]
        )
        one = Predictions(
            test_set.logits[places], test_set.labels[places], COUNTS
        )
        found = {**evaluation.scores(one), **evaluation.calibration(one)}
        for name, values in drawn.items():
            values.append(found[name])
    intervals = evaluation.bootstrap(test_set)
    for name, values in drawn.items():
        low, high = intervals[name]
        assert high - low == pytest.approx(
            np.ptp(np.quantile(values, [0.025, 0.975])), rel=0.15
        )


def test_intervals_hold_their_scores(test_set):
    found = evaluation.evaluate(test_set, draws=100)
    numbers = {
        name
        for name, value in found.items()
        if isinstance(value, float) and name != "level"
    }
    assert {*found["intervals"]} == numbers
    for name, (low, high) in found["intervals"].items():
        assert low <= found[name] <= high, name
        assert low < high or found[name] == 0, name


def test_one_image_per_class():
    classes = Classes([500, 50, 5], ["cat", "dog", "owl"])
    found = evaluation.evaluate(
        Predictions(np.array([0, 1, 0]), [0, 1, 2], classes)
    )
    assert found["intervals"]["top1"] == [found["top1"]] * 2
    assert found["per_class"]["low"][0] > 0
    assert "image of 3 classes, ['cat', 'dog', 'owl']:" in found["notes"][0]


def test_tail_frequencies():
    counts = [5, 500, 50, 50]
    found = evaluation.tail_frequencies(counts, 8)
    np.testing.assert_allclose(found, np.array([1, 8, 4, 2]) / 15)
    found = evaluation.tail_frequencies(counts, 8, backward=True)
    np.testing.assert_allclose(found, np.array([8, 1, 2, 4]) / 15)
    assert evaluation.tail_frequencies([7], 8).tolist() == [1.0]


@pytest.mark.parametrize("name", ["forward_10", "backward_50", "training"])
def test_shifted_accuracy_is_that_of_resampled_test_sets(test_set, name):
    way, _, factor = name.partition("_")
    shares = COUNTS / COUNTS.sum()
    if factor:
        shares = evaluation.tail_frequencies(
            COUNTS, int(factor), way == "backward"
        )
    generator = np.random.default_rng(0)
    size = 200_000
    labels = generator.choice(CLASSES, size, p=shares)
    places = labels * 200 + generator.integers(200, size=size)
    assert (test_set.labels[places] == labels).all()
    logits = test_set.logits[places]
    adjusted = logits + np.log(shares) - np.log(COUNTS)
    found = evaluation.shifts(test_set, draws=1)[name]
    for how, scores in (("plain", logits), ("adjusted", adjusted)):
        drawn = (scores.argmax(1) == labels).mean()
        assert found[how] == pytest.approx(drawn, abs=3 * 0.5 / size**0.5)
    assert found == pytest.approx(
        evaluation.shifted(test_set, shares), abs=1e-12
    )


def test_shifts_of_uniform_and_drawn_frequencies(test_set):
    found = evaluation.shifts(test_set, given=COUNTS, draws=4000)
    balanced = evaluation.scores(test_set)["balanced"]
    assert found["uniform"]["plain"] == pytest.approx(balanced)
    assert found["given"] == found["training"]
    # A uniform Dirichlet distribution has the uniform mean.
    drawn = found["dirichlet"]
    assert drawn["plain"] == pytest.approx(balanced, abs=0.01)
    assert drawn["plain_p5"] < drawn["plain"] < drawn["adjusted"]
    # Logits that have no prior but a uniform one are best as they are.
    even = evaluation.shifts(test_set, source=np.ones(CLASSES), draws=1)
    assert even["uniform"]["adjusted"] == found["uniform"]["plain"]
    ids = Predictions(test_set.predicted, test_set.labels, COUNTS)
    assert evaluation.shifts(ids, draws=1)["forward_2"] == {
        "plain": found["forward_2"]["plain"],
        "adjusted": None,
    }


def test_shifts_leave_out_classes_without_images():
    given = Predictions(np.array([0, 1, 0]), [0, 1, 1], [4, 2, 1])
    found = evaluation.shifted(given, [0.2, 0.2, 0.6])
    assert found["plain"] == pytest.approx(0.75)
    assert evaluation.shifted(given, [0, 0, 1])["plain"] is None


@pytest.mark.parametrize("method", METHODS)
def test_coverage_of_sets(method):
    """With 49 images a set holds its class in 1 - 5 / 50 of the draws."""
    counts = np.array([90, 10])
    found = []
    for seed in range(250):
        held_out, test_set = (
            Predictions(*simulate([200, 200], 2 * seed + part, counts), counts)
            for part in (0, 1)
        )
        generator = np.random.default_rng(seed)
        # Marginal coverage holds for images drawn alike, of any frequencies.
        places = np.concatenate(
            [generator.choice(200, 49), 200 + generator.choice(200, 49)]
        )
        if method in ("marginal", "prior_adjusted"):
            places = generator.choice(400, 49)
        some = Predictions(
            held_out.logits[places], held_out.labels[places], counts
        )
        thresholds = evaluation.conformal_thresholds(some, method, 0.9)
        found.append(evaluation.score_sets(test_set, thresholds))
    coverage = np.mean([one["coverage"] for one in found])
    assert coverage == pytest.approx(0.9, abs=0.01)
    if method == "class_conditional":
        groups = [[*one["group_coverage"].values()] for one in found]
        by_group = np.array(groups, float)[:, 1:3]  # medium and few
        np.testing.assert_allclose(by_group.mean(0), 0.9, atol=0.015)


def test_sets_by_hand():
    p = np.array([[0.6, 0.3, 0.1], [0.2, 0.2, 0.6], [0.1, 0.1, 0.8]])
    given = Predictions(np.log(p), [1, 0, 2], [500, 50, 5])
    found = evaluation.score_sets(given, np.array([0.3, 0.25, 0.7]))
    # {0, 1}, {} and {2}
    assert found["coverage"] == pytest.approx(2 / 3)
    assert found["lowest_coverage"] == 0
    assert found["size"] == 1
    assert found["empty"] == pytest.approx(1 / 3)
    assert found["group_size"] == {
        "many": 0.0,
        "medium": 2.0,
        "few": 1.0,
        "unseen": None,
    }


def test_prior_adjusted_sets_hold_more_of_the_tail():
    """The hold-out is as long-tailed as training, as published."""
    held_out = predictions(COUNTS, seed=3)
    test_set = predictions(500, seed=4)
    scores = {
        method: evaluation.score_sets(
            test_set, evaluation.conformal_thresholds(held_out, method)
        )
        for method in METHODS
    }
    macro = {name: one["macro_coverage"] for name, one in scores.items()}
    assert macro["marginal"] + 0.2 < macro["prior_adjusted"]
    # Of 12 images 1 may be missed: coverage 1 - 1 / 13 on average.
    assert macro["class_conditional"] == pytest.approx(0.9, abs=0.05)


def test_class_without_enough_held_out_images_is_in_every_set():
    held_out = predictions([50, 50, 50, 50, 8, 0], seed=3)
    thresholds = evaluation.conformal_thresholds(held_out, "class_conditional")
    assert (thresholds[:4] > 0).all()
    assert thresholds[4:].tolist() == [0, 0]
    notes = evaluation.evaluate(predictions(), held_out)["notes"]
    assert any("no image of 1 class, ['5']" in note for note in notes)


def test_compare_tells_apart_what_differs():
    labels = np.repeat(np.arange(CLASSES), 100)
    generator = np.random.default_rng(0)

    def run(rate, seed=0):
        wrong = np.random.default_rng(seed).random(len(labels)) > rate
        return Predictions((labels + wrong) % CLASSES, labels, COUNTS)

    first, worse = run(0.8), run(0.7)  # of the same images, ten points less
    found = evaluation.compare(first, worse)
    only_first = (
        (first.predicted == labels) > (worse.predicted == labels)
    ).sum()
    assert found["mcnemar"] == {
        "only_first": only_first,
        "only_second": 0,
        "p_value": pytest.approx(2 * 0.5**only_first),
    }
    difference, low, high = found["differences"]["top1"]
    assert difference == pytest.approx(only_first / len(labels))
    assert 0 < low < difference < high
    # Paired: narrower than what two test sets would give.
    assert high - low < np.ptp(evaluation.bootstrap(first)["top1"])
    assert all("the first is better" in line for line in found["verdict"][:2])
    alike = evaluation.compare(first, run(0.8, seed=1))
    assert all("cannot be told apart" in line for line in alike["verdict"])
    same = evaluation.compare(first, first)
    assert same["differences"]["matthews"] == [0, 0, 0]
    assert same["mcnemar"]["p_value"] == 1
    order = generator.permutation(len(labels))
    with pytest.raises(ValueError, match=r"same order\..*with other labels"):
        evaluation.compare(
            first, Predictions(first.predicted, labels[order], COUNTS)
        )


@pytest.mark.parametrize("backward", [False, True])
def test_priors_are_estimated(held_out, backward):
    """EM gains what the oracle gains, and intervals hold the truth."""
    shares = evaluation.tail_frequencies(COUNTS, 50, backward)
    per_class = np.round(5000 * shares).astype(int)
    truth = per_class / per_class.sum()
    target = predictions(per_class, seed=7)

    def top1(prior):
        added = evaluation.adjustment(prior, COUNTS)
        return ((target.logits + added).argmax(1) == target.labels).mean()

    plain, oracle = (target.predicted == target.labels).mean(), top1(truth)
    prior = evaluation.estimate_prior_em(target.logits, COUNTS, draws=50)
    if backward:
        assert oracle > plain + 0.3
        assert top1(prior.shares) - plain >= 0.95 * (oracle - plain)
    np.testing.assert_allclose(prior.shares, truth, atol=0.03)
    held = (prior.low <= truth) & (truth <= prior.high)
    assert held.mean() >= 0.5  # chance is small with these seeds
    # Temperature changes no predicted class: sharper logits serve as well.
    bbse = evaluation.estimate_prior_bbse(target.predicted, held_out)
    assert ((bbse.low <= truth) & (truth <= bbse.high)).mean() >= 0.8
    found = evaluation.shift_test(target.predicted, held_out)
    assert not backward or found["p_value"] == 0.001


def test_shift_test_holds_its_level():
    """Images as frequent as in training, and a balanced hold-out."""
    counts = np.array([60, 30, 10])
    p_values = []
    for seed in range(200):
        held_out = Predictions(*simulate(100, 2 * seed, counts), counts)
        labels = np.random.default_rng(seed).choice(3, 300, p=counts / 100)
        per_class = np.bincount(labels, minlength=3)
        target, _ = simulate(per_class, 2 * seed + 1, counts)
        p_values.append(
            evaluation.shift_test(target.argmax(1), held_out, draws=99)[
                "p_value"
            ]
        )
    # 200 binomial draws at 10 % have a deviation of 2.1 %.
    assert np.mean(np.array(p_values) <= 0.1) == pytest.approx(0.1, abs=0.065)


def test_estimates_of_classes_that_nothing_speaks_for():
    logits = np.log(np.repeat([[0.98, 0.01, 0.01]], 50, 0))
    prior = evaluation.estimate_prior_em(logits, [1, 1, 1], draws=0)
    assert prior.shares[0] > 0.99
    assert np.isnan(prior.low).all()


def save(path, **changes):
    logits, labels = simulate(20, 0)
    arrays = {"logits": logits, "labels": labels, "class_counts": COUNTS}
    arrays |= changes
    arrays = {k: v for k, v in arrays.items() if v is not None}
    np.savez(path, **arrays)
    return path


def run_tool(monkeypatch, *arguments):
    """Exit code of the tool, or its message."""
    monkeypatch.setattr(sys, "argv", [str(TOOL), *map(str, arguments)])
    try:
        runpy.run_path(str(TOOL), run_name="__main__")
    except SystemExit as end:
        return end.code
    return 0


def test_tool_prints_json(tmp_path):
    logits, labels = simulate(20, 5)
    path = save(
        tmp_path / "a.npz", holdout_logits=logits, holdout_labels=labels
    )
    other = save(tmp_path / "b.npz", logits=-simulate(20, 0)[0])
    done = subprocess.run(
        [
            sys.executable,
            TOOL,
            f"--logits={path}",
            f"--compare={other}",
            "--prior=1,1,1,1,1,5",
            "--draws=50",
            "--json",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    test_set, held_out, _ = evaluation.read(path)
    assert found["top1"] == evaluation.scores(test_set)["top1"]
    assert found["temperature"] == evaluation.fit_temperature(held_out)
    assert found["ece_calibrated"] == pytest.approx(
        evaluation.calibration(test_set, Scaling(1 / found["temperature"]))[
            "ece"
        ]
    )
    assert found["shifted"]["given"] == pytest.approx(
        evaluation.shifted(test_set, [1, 1, 1, 1, 1, 5])
    )
    assert found["holdout"] == {"images": 120, "kind": "balanced"}
    names, verdict, *_ = found["comparison"]["verdict"]
    assert names == "The first is a.npz, the second b.npz."
    assert "the first is better" in verdict
    for name in ("top1", "ece", "classwise_ece", "brier", "nll", "matthews"):
        low, high = found["intervals"][name]
        assert low <= found[name] <= high


def test_tool_takes_csv_and_predictions(tmp_path, monkeypatch, capsys):
    logits, labels = simulate(20, 0)
    predicted = logits.argmax(1)
    predicted[:3] = -1
    header = ",".join(["label", *"abcdef"])
    np.savetxt(
        tmp_path / "logits.csv",
        np.column_stack([labels, logits]),
        header=header,
        comments="",
        delimiter=",",
        fmt=["%d", *["%.17g"] * CLASSES],
    )
    np.savetxt(
        tmp_path / "ids.csv",
        np.column_stack([predicted, labels]),
        header="prediction,label",
        comments="",
        delimiter=",",
        fmt="%d",
    )
    counts = "--class_counts=" + ",".join(map(str, COUNTS))
    found = {}
    for name in ("logits", "ids"):
        path = f"--logits={tmp_path / name}.csv"
        assert run_tool(monkeypatch, path, counts, "--json") == 0
        found[name] = json.loads(capsys.readouterr().out)
    direct = evaluation.evaluate(Predictions(logits, labels, COUNTS))
    assert found["logits"] == json.loads(json.dumps(direct))
    ids = found["ids"]
    assert ids["top1"] == (predicted == labels).mean()
    nothing = ("top5", "ece", "classwise_ece", "brier", "nll", "temperature")
    assert [ids[name] for name in nothing] == [None] * 6
    assert ids["ece_calibrated"] is None
    assert "Refused images, which count as wrong: 3." in ids["notes"]


def test_tool_prints_tables(tmp_path, monkeypatch, capsys):
    logits, labels = simulate(20, 5)
    path = save(
        tmp_path / "a.npz", holdout_logits=logits, holdout_labels=labels
    )
    compare = f"--compare={path}"
    assert run_tool(monkeypatch, f"--logits={path}", compare) == 0
    lines = capsys.readouterr().out.splitlines()
    test_set = evaluation.read(path).test
    top1 = f"{100 * evaluation.scores(test_set)['top1']:.1f}"
    assert lines[0].startswith("a.npz: 120 images of 6 classes, 5,000 to 12 ")
    assert next(line for line in lines if "top-1" in line).split()[1] == top1
    assert any(line.startswith("drawn, 5th percentile") for line in lines)
    assert any("adjust to them: +" in line for line in lines)
    assert "Fitted on a balanced hold-out of 120 images:" in lines
    assert "By top-1 the two cannot be told apart (p = 1)." in lines


LOGITS, LABELS = simulate(20, 0)
NAN = np.where(np.arange(120)[:, None] == 3, np.nan, LOGITS)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"logits": NAN}, "NaN or infinity for 1 of 120 images"),
        ({"labels": LABELS + 1}, "`labels` from 0 to 5. Received: labels from"),
        ({"labels": LABELS - 1}, "Received: labels from -1 to 4"),
        ({"labels": LABELS[1:]}, "integer `labels` of shape (120,)"),
        ({"labels": LABELS + 0.5}, "labels.dtype=float64"),
        ({"labels": None}, "Expected labels"),
        ({"logits": None}, "Expected either logits (N, C) or predictions"),
        ({"predictions": LABELS}, "Expected either logits (N, C) or pred"),
        ({"logits": LABELS}, "Expected logits of shape (N, C)"),
        ({"logits": LOGITS[:, 1:]}, "`logits` of shape (N, 6)"),
        ({"logits": LOGITS[:0], "labels": LABELS[:0]}, "N > 0"),
        ({"class_counts": -COUNTS}, "Received: class_counts[0]=-5000"),
        ({"class_counts": COUNTS * np.nan}, "Received: class_counts[0]=nan"),
        ({"class_counts": None}, "Expected class_counts"),
        ({"logits": None, "predictions": LABELS + 1}, "ids from 1 to 6"),
        ({"logits": None, "predictions": LABELS - 2}, "ids from -2 to 3"),
        ({"logits": None, "predictions": LABELS * 1.0}, "dtype=float64"),
        ({"holdout_logits": LOGITS}, "both of holdout_logits and holdout_l"),
        (
            {"holdout_logits": NAN, "holdout_labels": LABELS},
            "Of the hold-out: Expected finite",
        ),
        (
            {"holdout_logits": LOGITS, "holdout_labels": LABELS + 1},
            "Of the hold-out: Expected `labels` from 0 to 5",
        ),
        ({"labels": np.array([None] * 120)}, "numpy.savez"),
    ],
)
def test_bad_files(changes, message, tmp_path, monkeypatch):
    path = save(tmp_path / "bad.npz", **changes)
    error = run_tool(monkeypatch, f"--logits={path}", "--json")
    assert error.startswith(f"evaluate.py: error: {path}: ")
    assert message in error
    assert "\n" not in error


@pytest.mark.parametrize(
    "logits, message",
    [
        (softmax(LOGITS), "sum to 1, as probabilities do: of a softmax give"),
        (LOGITS * 1e4, "the softmax gives 1 to a class and 0 to the others"),
        (LOGITS * 1e300, "differ by 1e+100 at most. Received: a difference"),
    ],
)
def test_what_is_no_logits_is_said(logits, message, tmp_path, capsys):
    with pytest.MonkeyPatch.context() as monkeypatch:
        path = save(tmp_path / "a.npz", logits=logits)
        error = run_tool(monkeypatch, f"--logits={path}", "--draws=5")
    said = capsys.readouterr().err + str(error)
    assert message in said
    assert (error == 0) == ("1e+100" not in said)


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_arrays_of_any_layout_are_read(write, tmp_path):
    for logits in (np.asfortranarray(LOGITS), LOGITS.astype(">f4"), LOGITS):
        arrays = {"labels": LABELS.astype("uint8"), "class_counts": COUNTS}
        write(tmp_path / "a.npz", logits=logits, **arrays)
        test_set = evaluation.read(tmp_path / "a.npz").test
        np.testing.assert_array_equal(test_set.logits, logits)
        np.testing.assert_array_equal(test_set.labels, LABELS)
    damaged = bytearray((tmp_path / "a.npz").read_bytes())
    damaged[2000] ^= 1  # in the logits
    (tmp_path / "a.npz").write_bytes(damaged)
    with pytest.raises(ValueError, match=r"a.npz: Expected an \.npz file"):
        evaluation.read(tmp_path / "a.npz")


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("a.npz", "no zip", "numpy.savez"),
        ("a.txt", "1 2", "ends in .npz or .csv"),
        ("a.csv", "", "Expected a header with the column label"),
        ("a.csv", "label\n1\n", "or one column of logits per class"),
        ("a.csv", "label,prediction\n0,x\n", "line 2: ['0', 'x']"),
        ("a.csv", "label,a,b\n0,1,2\n0,1\n", "line 3: ['0', '1']"),
        ("a.csv", "label,a,b\n0,1,nan\n", "NaN or infinity for 1 of 1"),
        ("a.csv", "label,a,b\n", "N > 0"),
        ("a.csv", "label,prediction\n0,1\n", "Expected class_counts"),
    ],
)
def test_bad_text(name, text, message, tmp_path, monkeypatch):
    (tmp_path / name).write_text(text)
    arguments = [f"--logits={tmp_path / name}"]
    if "prediction" not in text or "x" in text:
        arguments.append("--class_counts=9,9")
    error = run_tool(monkeypatch, *arguments)
    assert message in error
    assert "\n" not in error


@pytest.mark.parametrize(
    "flag, message",
    [
        ("--class_counts=5,x", "Expected --class_counts to be a file or a"),
        ("--class_counts=5,5", "for 2 class counts"),
        ("--prior=1,2", "Expected shares of 6 classes"),
        ("--prior=1,1,1,1,1,-1", "at least 0, one of them above"),
        ("--level=1", "Expected level between 0 and 1"),
        ("--coverage=0", "Expected coverage between 0 and 1"),
        ("--draws=0", "Expected draws to be an integer, at least 1"),
        ("--many_shot=5", "Expected 0 <= few <= many"),
        ("--compare=lacking.npz", "lacking.npz, which does not exist"),
    ],
)
def test_bad_flags(flag, message, tmp_path, monkeypatch):
    path = save(
        tmp_path / "a.npz", holdout_logits=LOGITS, holdout_labels=LABELS
    )
    error = run_tool(monkeypatch, f"--logits={path}", flag)
    assert message in error
    assert "\n" not in error


def test_what_is_odd_is_said_and_scored(tmp_path, monkeypatch, capsys):
    """Classes without an image or with one, here, held out or in training."""
    logits, labels = simulate([20, 20, 1, 20, 20, 0], 0)
    held_out = simulate([9, 9, 9, 9, 0, 9], 1)
    path = save(
        tmp_path / "a.npz",
        logits=logits,
        labels=labels,
        holdout_logits=held_out[0],
        holdout_labels=held_out[1],
        class_counts=[5000, 1500, 450, 140, 0, 12],
    )
    assert run_tool(monkeypatch, f"--logits={path}", "--json") == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert found["per_class"]["recall"][5] is None
    assert found["temperature"] > 0
    assert "evaluate.py: note: Where logits are adjusted, they are taken" in err
    for line in (
        "test set has no image of 1 class, ['5']:",
        "test set has one image of 1 class, ['2']:",
        "training set has no image of 1 class, ['4']:",
        "hold-out has no image of 1 class, ['4']:",
    ):
        assert f"evaluate.py: note: The {line}" in err


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: evaluation.calibration(
                Predictions(np.array([0]), [0], [9, 9])
            ),
            "Expected logits",
        ),
        (lambda: evaluation.wilson([3], [2]), "Expected hits from 0 to"),
        (
            lambda: evaluation.tail_frequencies(COUNTS, 0.5),
            "Expected factor >= 1",
        ),
        (
            lambda: evaluation.conformal_thresholds(predictions(), "other"),
            "Expected method to be one of",
        ),
        (
            lambda: evaluation.estimate_prior_em([[0.0, np.nan]], [1, 1]),
            "1 of them NaN or infinite",
        ),
        (
            lambda: evaluation.estimate_prior_em([[0.0, 1.0]], [1, 1, 1]),
            r"logits.shape=\(1, 2\)",
        ),
        (
            lambda: evaluation.estimate_prior_bbse([7], predictions()),
            "from 0 to 5, or -1",
        ),
        (
            lambda: evaluation.shift_test([0], predictions([5, 5, 5, 5, 5, 0])),
            "images of every class.*labels \\[5\\]",
        ),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
