"""Golden vectors: where they are, their cases, and how many were visited."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# The kinds of cases in a file, each with a test of its own.
KINDS = {"dlsa_losses": ("table", "e2e", "divide")}

_visited, _left_out = {}, {}


def golden_dir() -> Path:
    """`KERAS_LT_GOLDEN_DIR`, or `../shared/golden` next to the repository."""
    default = Path(__file__).resolve().parents[2] / "shared" / "golden"
    return Path(os.environ.get("KERAS_LT_GOLDEN_DIR") or default)


def load_cases(
    name: str, kind: str | None = None
) -> list[tuple[str, dict[str, np.ndarray]]]:
    """Every case that `name`.npz lists, as (case name, arrays by name).

    Of a file with several kinds of cases those of a kind.
    """
    path = golden_dir() / f"{name}.npz"
    if not path.is_file():
        pytest.skip(f"golden vectors not found: {path} (KERAS_LT_GOLDEN_DIR)")
    with np.load(path, allow_pickle=False) as archive:
        arrays = {key: archive[key] for key in archive.files}
    cases = {str(case): {} for case in arrays.pop("cases")}
    for key, value in arrays.items():
        case, _, array = key.partition("/")
        cases[case][array] = value
    return [
        (case, arrays)
        for case, arrays in cases.items()
        if kind is None or str(arrays["kind"]) == kind
    ]


def report_cases(name: str, cases: Iterable[tuple[str, Any]]) -> None:
    """Notes for the session's summary that these cases were visited."""
    _visited.setdefault(name, set()).update(case for case, _ in cases)


def leave_out(name: str, case: str, reason: str) -> None:
    """Notes for the session's summary that a case can't be visited, and why."""
    _left_out[f"{name}/{case}"] = reason


def state() -> dict[str, Any]:
    """What a process of pytest-xdist has noted, to be taken up by `add`."""
    visited = {name: sorted(cases) for name, cases in _visited.items()}
    return {"visited": visited, "left_out": _left_out}


def add(noted: dict[str, Any]) -> None:
    for name, cases in noted.get("visited", {}).items():
        _visited.setdefault(name, set()).update(cases)
    _left_out.update(noted.get("left_out", {}))


def summary_lines() -> list[str]:
    """One line for each golden file visited in this session."""
    lines = []
    for name, visited in sorted(_visited.items()):
        with np.load(golden_dir() / f"{name}.npz") as archive:
            cases = {str(case) for case in archive["cases"]}
        visited &= cases  # tests make others of their own
        if not visited:
            continue
        line = f"golden: {name} {len(visited)} cases of {len(cases)}"
        if missing := cases - visited:
            line += f", without {', '.join(sorted(missing))}"
        lines.append(line)
    for case, reason in sorted(_left_out.items()):
        lines.append(f"golden: {case} left out: {reason}")
    return lines
