"""tools/two_moons.py, as README's picture was made."""

import re
import subprocess
import sys

import recipe

TOOL = recipe.REPO / "tools" / "two_moons.py"


def test_the_flow_parts_the_moons(tmp_path):
    path = tmp_path / "moons.png"
    done = subprocess.run(
        [sys.executable, TOOL, f"--output={path}"],
        capture_output=True,
        text=True,
        check=True,
    )
    share = float(re.match(r"([\d.]+)% in the cluster", done.stdout)[1])
    assert share > 95
    assert path.read_bytes().startswith(b"\x89PNG")
