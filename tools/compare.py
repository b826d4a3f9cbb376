"""Compares runs on one HTML page: tables and pictures, mean over seeds.

    python tools/compare.py runs/ce_0 runs/ce_1 runs/ce_drw_0
    python tools/compare.py recipes/results/*/ --output=compare.html
    python tools/compare.py runs/fast_0 runs/ldam_drw_0 --against=minutes

A RUN is a workdir, a result.json, or a folder of seed*.json records. Records
of the same flag file are the seeds of one method. Runs of the same seed are
compared with the best method on the same test images: where the difference is
within what other test images would make of it, they cannot be told apart.
"""

import argparse
from pathlib import Path

import command_line


def parse() -> argparse.Namespace:
    parser = command_line.parser(__doc__)
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="Runs to compare."
    )
    parser.add_argument(
        "--against",
        choices=("minutes", "steps"),
        help="Draw the curves of accuracy against minutes or steps of "
        "training too; then runs may differ in augmentation.",
    )
    command_line.add_output(parser, "HTML page to write.", "compare.html")
    return parser.parse_args()


if __name__ == "__main__":
    parse()  # --help and wrong options don't wait for the imports below

import sys

from keras_lt import files, report
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
    files.escape_output()
    arguments = parse()
    records = [
        report.Record.read(path)
        for run in arguments.runs
        for path in paths(run)
    ]
    found = report.write_comparison(
        arguments.output, records, arguments.against
    )
    for pair in found:
        print(pair)
    print(arguments.output)


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError, MemoryError) as error:
        sys.exit(f"compare.py: error: {one_line(error)}")
