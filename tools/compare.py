"""Compares runs on one HTML page: tables and pictures, mean over seeds.

    python tools/compare.py runs/ce_0 runs/ce_1 runs/ce_drw_0
    python tools/compare.py recipes/results/*/ --output=compare.html

A RUN is a workdir, a result.json, or a folder of seed*.json records. Records
of the same flag file are the seeds of one method.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import argparse
import sys
from pathlib import Path

from keras_lt import filenames, report
from keras_lt.messages import one_line


def paths(run: Path) -> list[Path]:
    """Files of the records that `run` stands for."""
    if not run.is_dir():
        return [run]
    result = run / "result.json"
    found = [result] if result.exists() else sorted(run.glob("seed*.json"))
    if not found:
        raise FileNotFoundError(
            f"Expected a folder with result.json or seed*.json. Received: {run}"
        )
    return found


def main() -> None:
    filenames.escape_output()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--output", type=Path, default=Path("compare.html"))
    arguments = parser.parse_args()
    records = [
        report.Record.read(path)
        for run in arguments.runs
        for path in paths(run)
    ]
    report.write_comparison(arguments.output, records)
    print(arguments.output)


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError, MemoryError) as error:
        sys.exit(f"compare.py: error: {one_line(error)}")
