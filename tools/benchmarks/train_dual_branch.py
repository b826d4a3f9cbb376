"""Time of a dual-branch step of ResNet-32, batch 128 a branch."""

import statistics
from collections.abc import Callable

from benchmarks.steps import (
    fast_precisions,
    keras_steps,
    random_batch,
    resnet32,
    single_step,
)
from benchmarks.turns import BATCH, Variant, ratio, take_turns


def dual_step(
    precision: str, auxiliary: str, joint_forward: bool = False
) -> Callable[[int], None]:
    from keras_lt.models import DualBranch

    model = DualBranch(
        resnet32(precision),
        10,
        auxiliary=auxiliary,
        joint_forward=joint_forward,
        l2=1e-4,
    )
    batch = {"balanced": random_batch(), "random": random_batch()}
    return keras_steps(model, batch)


def measure(rounds: int) -> dict:
    figures = {}
    for precision in fast_precisions():
        variants = {
            "single": Variant(single_step, precision),
            "classifier": Variant(dual_step, precision, "classifier"),
            "rotation": Variant(dual_step, precision, "rotation"),
            "joint": Variant(dual_step, precision, "classifier", True),
        }
        speeds = take_turns(variants, rounds, steps=10)
        for name, values in speeds.items():
            figures[f"milliseconds_{name}_{precision}"] = (
                1e3 * BATCH / statistics.median(values)
            )
        # Speeds are of single batches: half of it is the cost of two steps.
        figures[f"ratio_classifier_over_two_single_{precision}"] = (
            ratio(speeds, "single", "classifier") / 2
        )
        figures[f"ratio_rotation_over_classifier_{precision}"] = ratio(
            speeds, "classifier", "rotation"
        )
        figures[f"ratio_joint_over_classifier_{precision}"] = ratio(
            speeds, "classifier", "joint"
        )
    return figures
