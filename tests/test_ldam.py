"""LDAM by the authors' code."""

import numpy as np
import pytest
from golden import load_cases, report_cases
from loss_helpers import assert_golden

from keras_lt.losses import LDAM


@pytest.mark.golden
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_golden_ldam(dtype):
    cases = load_cases("ldam")
    for name, case in cases:
        arguments = {
            "class_counts": case["class_counts"],
            "max_margin": float(case["max_m"]),
            "scale": float(case["s"]),
            "dtype": dtype,
        }
        loss = LDAM(**arguments)
        np.testing.assert_allclose(loss.margins, case["margins"], rtol=1e-9)
        assert_golden(name, loss, case, "")
        weighted = LDAM(class_weights=case["class_weights"], **arguments)
        case["weighted_loss"] = case["loss_weighted"]
        case["weighted_grad"] = case["grad_weighted"]
        assert_golden(name, weighted, case, "weighted_")
    if dtype == "float64":
        report_cases("ldam", cases)
