import warnings

import numpy as np
import pytest
from golden import load_cases, report_cases

from keras_lt import counts


@pytest.mark.golden
def test_golden_class_counts():
    cases = load_cases("class_counts")
    for name, case in cases:
        num_classes = int(case["num_classes"])
        profile = str(case["imb_type"])
        got = counts.long_tail_counts(
            num_classes,
            int(case["img_max"]),
            float(case["imbalance_ratio"]),
            profile,
        )
        assert got.dtype == np.int64
        want = case["counts_ldam"]  # one short for step and odd C
        np.testing.assert_array_equal(got[: len(want)], want, err_msg=name)
        assert len(got) == num_classes
        if case.get("counts_cb", np.empty(0)).size:
            np.testing.assert_array_equal(got, case["counts_cb"])
        if "selected_indices" in case:
            labels = case["all_targets"]
            selected = counts.ldam_selection(
                labels, want, int(case["rand_number"])
            )
            np.testing.assert_array_equal(
                selected, case["selected_indices"], err_msg=name
            )
            np.testing.assert_array_equal(
                labels[selected], case["selected_targets"], err_msg=name
            )
    report_cases("class_counts", cases)


@pytest.mark.golden
@pytest.mark.filterwarnings("ignore:beta=")
def test_golden_cb_weights():
    cases = load_cases("cb_weights")
    for name, case in cases:
        for row, beta in enumerate(case["betas"]):
            got = counts.effective_number_weights(case["counts"], beta)
            np.testing.assert_allclose(
                got, case["weights"][row], rtol=1e-9, err_msg=name
            )
            np.testing.assert_allclose(
                got.astype(np.float32),
                case["weights_f32"][row],
                rtol=2e-7,
                err_msg=name,
            )
    report_cases("cb_weights", cases)


@pytest.mark.parametrize(
    "num_classes, max_count, factor, total",
    [(10, 5000, 100, 12406), (10, 5000, 50, 13996), (100, 500, 100, 10847)],
)
def test_published_totals(num_classes, max_count, factor, total):
    assert counts.long_tail_counts(num_classes, max_count, factor).sum() == (
        total
    )


@pytest.mark.parametrize("profile", counts.PROFILES)
def test_long_tail_edges(profile):
    def tail(*args):
        return counts.long_tail_counts(*args, profile=profile).tolist()

    assert tail(1, 7, 100) == [7]
    assert tail(4, 7, 1) == [7, 7, 7, 7]
    assert tail(2, 7, 100) == [7, 0]


def test_step_profile_gives_the_odd_class_to_the_tail():
    got = counts.long_tail_counts(5, 100, 10, profile="step")
    assert got.tolist() == [100, 100, 10, 10, 10]


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"imbalance_factor": 0.5},
            r"Expected imbalance_factor >= 1 .* Received: imbalance_factor=0.5",
        ),
        ({"imbalance_factor": float("nan")}, "imbalance_factor=nan"),
        ({"imbalance_factor": float("inf")}, "imbalance_factor=inf"),
        ({"profile": "linear"}, r"\('exp', 'step'\).* profile='linear'"),
        ({"num_classes": 0}, "num_classes=0"),
        ({"num_classes": 2.5}, "num_classes=2.5"),
        ({"max_count": 0}, "max_count=0"),
    ],
)
def test_long_tail_errors(change, message):
    arguments = {"num_classes": 10, "max_count": 100, "imbalance_factor": 10}
    with pytest.raises(ValueError, match=message):
        counts.long_tail_counts(**(arguments | change))


def test_validate_class_counts():
    for given in ([3, 0, 2], (3.0, 0.0, 2.0), np.array([3, 0, 2], np.uint8)):
        got = counts.validate_class_counts(given)
        assert got.dtype == np.int64
        assert got.tolist() == [3, 0, 2]


@pytest.mark.parametrize(
    "given, error, message",
    [
        ([[1, 2]], ValueError, r"class_counts.shape=\(1, 2\)"),
        ([], ValueError, r"class_counts.shape=\(0,\)"),
        (5, ValueError, r"class_counts.shape=\(\)"),
        ([1, -2], ValueError, r"class_counts\[1\]=-2"),
        ([1.5, 2], ValueError, r"class_counts\[0\]=1.5"),
        ([1, float("nan")], ValueError, r"class_counts\[1\]=nan"),
        ([1, float("inf")], ValueError, r"class_counts\[1\]=inf"),
        ([0, 0], ValueError, r"at least one positive.*\[0, 0\]"),
        (["1", "2"], TypeError, "hold integers"),
        ([True, False], TypeError, "hold integers"),
    ],
)
def test_validate_class_counts_errors(given, error, message):
    with pytest.raises(error, match=message):
        counts.validate_class_counts(given)


def test_ldam_selection_needs_enough_images():
    message = "at least 2 images of class 1. Received: labels with 1"
    with pytest.raises(ValueError, match=message):
        counts.ldam_selection([0, 0, 1], [1, 2], seed=0)


def test_weights_by_hand():
    # 1 - beta^n = 0.5, 0.75, 0.875; inverses 2, 4/3, 8/7; sum 94/21.
    got = counts.effective_number_weights([1, 2, 3], 0.5)
    np.testing.assert_allclose(
        got, np.array([2, 4 / 3, 8 / 7]) * 3 * 21 / 94, rtol=1e-14
    )


@pytest.mark.parametrize("beta", [0.0, 0.5, 0.999])
def test_weights_of_empty_classes(beta):
    got = counts.effective_number_weights([40, 0, 4, 0], beta)
    without = counts.effective_number_weights([40, 4], beta)
    assert got[[1, 3]].tolist() == [0, 0]
    np.testing.assert_allclose(got.sum(), 4, rtol=1e-14)
    # Half the classes share twice their weight.
    np.testing.assert_allclose(got[[0, 2]], 2 * without, rtol=1e-14)


@pytest.mark.parametrize("gap", [1e-8, 1e-12, 2.0**-53])
def test_weights_are_exact_near_one(gap):
    # 1 - (1 - e)^n = n e - n (n-1) e^2 / 2 + O((n e)^3): no cancellation.
    beta = 1 - gap
    gap = 1 - beta  # as float64 has it, exactly
    n = np.array([1, 10, 1000])
    inverse = 1 / (n - n * (n - 1) * gap / 2)
    np.testing.assert_allclose(
        counts.effective_number_weights(n, beta),
        3 * inverse / inverse.sum(),
        rtol=1e-9 if gap == 1e-8 else 3e-10,
    )


@pytest.mark.parametrize("beta", [-0.1, 1.0, 1.5, float("nan")])
def test_weights_beta_errors(beta):
    with pytest.raises(ValueError, match=rf"\[0, 1\). Received: beta={beta}"):
        counts.effective_number_weights([10, 1], beta)


@pytest.mark.parametrize(
    "class_counts, beta",
    [
        ([5000, 500], 0.9),  # both effective numbers saturate at 10
        ([5000, 0, 500], 0.9),
        ([10, 1], 1e-3),
        ([1001, 1000], 0.9999999),  # inverse frequency, of nearly one count
    ],
)
def test_weights_warn_where_nothing_is_reweighted(class_counts, beta):
    with pytest.warns(UserWarning, match=f"beta={beta} .* within 1%"):
        counts.effective_number_weights(class_counts, beta)


@pytest.mark.parametrize(
    "class_counts, beta",
    [
        ([5000, 50], 0.9999),
        ([5000, 50], 0.0),  # asks for equal weights
        ([500, 500], 0.9),  # nothing to re-weight
        ([500, 0], 0.9),
    ],
)
def test_weights_do_not_warn(class_counts, beta):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        counts.effective_number_weights(class_counts, beta)


def test_shot_groups_at_the_thresholds():
    class_counts = [5000, 101, 100, 20, 19, 1, 0]
    groups = counts.shot_groups(class_counts)
    got = {name: np.flatnonzero(mask).tolist() for name, mask in groups.items()}
    assert got == {
        "many": [0, 1],
        "medium": [2, 3],
        "few": [4, 5],
        "unseen": [6],
    }
    assert all(mask.dtype == bool for mask in groups.values())


def test_shot_groups_other_thresholds():
    groups = counts.shot_groups([501, 500, 200, 199], many=500, few=200)
    assert groups["many"].tolist() == [True, False, False, False]
    assert groups["few"].tolist() == [False, False, False, True]
    # No class is few; an empty one is unseen all the same.
    groups = counts.shot_groups([1, 0], many=5, few=0)
    assert groups["medium"].tolist() == [True, False]
    assert groups["unseen"].tolist() == [False, True]


def test_shot_groups_error():
    with pytest.raises(ValueError, match="Received: many=20, few=100"):
        counts.shot_groups([10], many=20, few=100)


def test_log_prior():
    got = counts.log_prior([100, 1, 0])
    np.testing.assert_allclose(got, np.log([100, 1, 1e-6]), atol=1e-5)


@pytest.mark.parametrize("values", [[-1, 2], [float("nan")], [[1, 2]], 3])
def test_log_prior_errors(values):
    with pytest.raises(ValueError, match=r"Expected .* Received: "):
        counts.log_prior(values)


def test_gini():
    # Half the mean difference of two classes drawn at random, over the mean.
    for values in ([7], [5, 5, 5], [100, 10, 0], [5000, 300, 50, 50, 1]):
        array = np.array(values, float)
        want = abs(array[:, None] - array).mean() / 2 / array.mean()
        assert counts.gini(values) == pytest.approx(want, abs=1e-12)
    assert counts.gini([0] * 99 + [5]) == pytest.approx(0.99)


class Series:
    """What the counts need of a pandas Series: values and their index."""

    def __init__(self, counts):
        self.index = [*counts]
        self._values = [*counts.values()]

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self._values, dtype)


@pytest.mark.parametrize("make", [dict, Series])
@pytest.mark.parametrize(
    "given, want",
    [
        ({2: 500, 0: 50, 1: 5}, [50, 5, 500]),
        ({np.int64(1): 7, np.int64(0): 9.0}, [9, 7]),
        ({"dog": 500, "cat": 50}, [50, 500]),
        ({"10": 3, "9": 2, "-1": 1}, [1, 2, 3]),  # by value
    ],
)
def test_an_index_puts_counts_in_order(make, given, want):
    assert counts.validate_class_counts(make(given)).tolist() == want
    if all(isinstance(key, str) for key in given):
        names = [*reversed(given)]
        got = counts.validate_class_counts(make(given), class_names=names)
        assert got.tolist() == [given[name] for name in names]


def test_classes_that_names_know_have_no_images():
    got = counts.validate_class_counts({"c": 3}, class_names=["a", "b", "c"])
    assert got.tolist() == [0, 0, 3]
    got = counts.validate_class_counts(Series({1: 3}), class_names=["a", "b"])
    assert got.tolist() == [0, 3]


@pytest.mark.parametrize("make", [dict, Series])
@pytest.mark.parametrize(
    "given, names, error, message",
    [
        ({1: 3, 2: 4}, None, ValueError, r"ids 0 to 1, .*: \[1, 2\]"),
        ({0: 3, 2: 4}, None, ValueError, r"ids 0 to 1, .*: \[0, 2\]"),
        ({-1: 3, 0: 4}, None, ValueError, r"\[-1, 0\]"),
        ({0.0: 3, 1.0: 4}, None, TypeError, "label ids, which are .*: 0.0"),
        ({True: 3, False: 4}, None, TypeError, "label ids.*: True"),
        ({"a": 3, 1: 4}, None, TypeError, "or of class names"),
        ({"a": 3, "a ": 4}, None, ValueError, "without repetition"),
        ({"a": 3, "x": 4}, ["a", "b"], ValueError, "index .*: 'x'"),
        ({2: 4}, ["a", "b"], ValueError, r"ids 0 to 1, .*: \[2\]"),
        ({}, None, ValueError, r"shape=\(0,\)"),
    ],
)
def test_an_index_that_gives_no_order(make, given, names, error, message):
    with pytest.raises(error, match=message):
        counts.validate_class_counts(make(given), class_names=names)


def test_an_index_that_repeats_an_id():
    series = Series({0: 3, 1: 4})
    series.index = [0, 0]
    with pytest.raises(ValueError, match=r"each once\. .*: \[0, 0\]"):
        counts.validate_class_counts(series)
    with pytest.raises(ValueError, match="of 3 classes, as class_names"):
        counts.validate_class_counts([1, 2], class_names=["a", "b", "c"])


def test_counts_of_pandas():
    pandas = pytest.importorskip("pandas")
    labels = pandas.Series([2] * 9 + [0] * 5 + [1])
    for dtype in ("int64", "Int64", "category", "str", "string"):
        found = labels.astype("int64" if dtype == "str" else dtype)
        found = found.astype(str) if dtype == "str" else found
        got = counts.validate_class_counts(found.value_counts())
        assert got.tolist() == [5, 1, 9], dtype
    with pytest.raises(TypeError, match=r"index .*: 2\.0"):
        counts.validate_class_counts(labels.astype(float).value_counts())
    with pytest.raises(ValueError, match=r"shape=\(3, 1\)"):
        counts.validate_class_counts(labels.value_counts().to_frame())


@pytest.mark.parametrize(
    "given",
    [
        [1e30, 1],
        np.array([1 << 63, 1], np.uint64),
        [1 << 70, 1],
        [1 << 62, 1 << 62],
        np.array([3e38, 1], np.float32),
    ],
)
def test_counts_do_not_wrap(given):
    with pytest.raises(ValueError, match=r"sum below 2\^63\. .*class_counts="):
        counts.validate_class_counts(given)


def test_the_largest_counts():
    largest = (1 << 63) - 3
    given = np.array([largest, 2], np.uint64)
    assert counts.validate_class_counts(given).tolist() == [largest, 2]
    assert counts.gini([1 << 61] * 3 + [1]) == pytest.approx(0.25)
    with pytest.raises(TypeError, match=r"hold integers\. .*\[0\]=True"):
        counts.validate_class_counts([True, 5])


def test_classes_travel_as_one():
    classes = counts.Classes([30, 300, 0], ["a", "b", "c"], many=200, few=50)
    assert len(classes) == 3 and classes.names == ("a", "b", "c")
    for name, mask in counts.shot_groups([30, 300, 0], 200, 50).items():
        np.testing.assert_array_equal(classes.groups[name], mask)
    assert counts.Classes.of(classes) is classes
    plain = counts.Classes.of([30, 300])
    assert plain.names == ("0", "1")
    assert (plain.many, plain.few) == (100, 20)
    by_name = counts.Classes({"b": 3, "a": 2}, ["b", "a"])
    assert by_name.counts.tolist() == [3, 2]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (([3, 2], ["a"]), "class_counts of 1 classes"),
        (([3, 2], ["a", "a"]), "'a'"),
        (([3, 2], None, 10, 20), "many=10, few=20"),
        (([3, -2],), "-2"),
    ],
)
def test_classes_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        counts.Classes(*arguments)
