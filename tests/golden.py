"""Golden vectors: where they are, their cases, and how many were visited."""

import os
from pathlib import Path

import numpy as np
import pytest

_visited = {}


def golden_dir() -> Path:
    """`KERAS_LT_GOLDEN_DIR`, or `../shared/golden` next to the repository."""
    default = Path(__file__).resolve().parents[2] / "shared" / "golden"
    return Path(os.environ.get("KERAS_LT_GOLDEN_DIR") or default)


def load_cases(name: str) -> list[tuple[str, dict[str, np.ndarray]]]:
    """Every case that `name`.npz lists, as (case name, arrays by name)."""
    path = golden_dir() / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"golden vectors not found: {path} (KERAS_LT_GOLDEN_DIR)")
    with np.load(path, allow_pickle=False) as archive:
        arrays = {key: archive[key] for key in archive.files}
    cases = {str(case): {} for case in arrays.pop("cases")}
    for key, value in arrays.items():
        case, _, array = key.partition("/")
        cases[case][array] = value
    return list(cases.items())


def report_cases(name: str, count: int) -> None:
    """Notes for the session's summary that `count` cases were visited."""
    _visited[name] = max(_visited.get(name, 0), count)


def visited() -> dict[str, int]:
    return dict(_visited)


def summary_lines() -> list[str]:
    """One line for each golden file visited in this session."""
    return [
        f"golden: {name} {count} cases"
        for name, count in sorted(_visited.items())
    ]
