"""Terms of DLSA's loss against the authors' code and by hand."""

import numpy as np
import pytest
import tensorflow as tf
from golden import load_cases, report_cases

from keras_lt.models.dlsa import terms

TERMS = ("lh", "purity", "balance")


def number_or_none(value):
    """Golden files write NaN for None."""
    return None if np.isnan(value) else float(value)


def contrast_of(case):
    """Arguments of `cluster_contrast`; "ce" has no use for its margin."""
    kind = str(case["contrast_type"])
    margin = number_or_none(case["contrast_margin"])
    return {
        "kind": kind,
        "margin": margin if kind == "soft_ce" else None,
        "freeze": bool(case["contrast_freeze"]),
    }


def losses_of_a_step(case, step, log_joint, other, buffer):
    """The three terms with their factors, and the new buffer."""
    momentum = number_or_none(case["posterior_momentum"])
    log_likelihood = tf.reduce_logsumexp(log_joint, axis=1)
    log_likelihood -= np.log(log_joint.shape[1])
    mean_posterior, buffer = terms.running_posterior(
        log_joint, buffer, step + 1, momentum
    )
    return {
        "lh": tf.reduce_mean(
            terms.weighted_likelihood(log_likelihood, case["rev_wgt"][step])
        ),
        "purity": tf.reduce_mean(
            terms.cluster_contrast(log_joint, other, **contrast_of(case))
        ),
        "balance": terms.cluster_balance(mean_posterior),
    }, buffer


@pytest.mark.golden
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_golden_losses(dtype):
    cases = load_cases("dlsa_losses", "table")
    double = dtype == "float64"
    rtol = 1e-8 if double else 1e-5
    for name, case in cases:
        buffer = tf.zeros(int(case["num_cluster"]), dtype)
        for step in range(len(case["rev_wgt"])):
            inputs = [
                tf.constant(case[f"log_p_{which}"][step], dtype)
                for which in ("pos", "neg")
            ]
            with tf.GradientTape(persistent=True) as tape:
                tape.watch(inputs)
                terms, buffer = losses_of_a_step(case, step, *inputs, buffer)
                terms = {
                    term: float(case[f"lambda_{term}"]) * value
                    for term, value in terms.items()
                }
                terms["total"] = sum(terms.values())
            for term, value in terms.items():
                np.testing.assert_allclose(
                    value,
                    case[f"loss_{term}"][step],
                    rtol=rtol,
                    atol=1e-13 if double else 1e-6,
                    err_msg=f"{name} {term}",
                )
                for which, tensor in zip(("pos", "neg"), inputs, strict=True):
                    want = case[f"grad_{term}_log_p_{which}"][step]
                    got = tape.gradient(
                        value, tensor, unconnected_gradients="zero"
                    )
                    np.testing.assert_allclose(
                        got,
                        want,
                        rtol=rtol if double else 0,
                        atol=1e-13
                        if double
                        else 1e-5 * np.abs(want).max() + 1e-8,
                        err_msg=f"{name} {term} {which}",
                    )
            np.testing.assert_allclose(
                buffer, case["posterior_buffer"][step], rtol=rtol
            )
    report_cases("dlsa_losses", cases)


@pytest.mark.golden
def test_golden_weights_of_classes():
    for _, case in load_cases("dlsa_losses", "table"):
        labels = case["train_labels"]
        weights = terms.reversed_weights(
            np.bincount(labels), float(case["weight_q"])
        )
        np.testing.assert_allclose(
            weights[labels[case["pos_index"]]], case["rev_wgt"], rtol=1e-12
        )


def test_balance_is_the_missing_entropy():
    for posterior in (
        [0.25] * 4,
        [0.7, 0.1, 0.1, 0.1],
        [1 - 3e-7] + [1e-7] * 3,
    ):
        want = np.log(4) + np.sum(posterior * np.log(posterior))
        got = terms.cluster_balance(tf.constant(posterior, "float64"))
        np.testing.assert_allclose(got, want, atol=1e-12)


def test_contrast_of_sure_posteriors_is_finite():
    log_joint = tf.constant([[-9000.0, 0.0], [0.0, -9000.0]])
    apart, together = (
        terms.cluster_contrast(log_joint, other)
        for other in (log_joint[::-1], log_joint)
    )
    np.testing.assert_array_equal(apart, [-9000.0, -9000.0])
    np.testing.assert_array_equal(together, [0.0, 0.0])


def test_reversed_weights():
    weights = terms.reversed_weights([40, 20, 0, 10], power=1.0)
    np.testing.assert_allclose(weights, [1 / 7, 2 / 7, 0, 4 / 7])
    even = terms.reversed_weights([40, 20, 10], power=0.0)
    np.testing.assert_allclose(even, 1 / 3)
    with pytest.raises(ValueError, match=r"Expected power >= 0\. .*=-1"):
        terms.reversed_weights([1, 2], power=-1)
