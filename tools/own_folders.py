"""Runs the one command on folders of images, as someone with no idea would.

    python tools/own_folders.py photos letters --backbone=ResNet50
    python tools/own_folders.py photos --json -- --on_bad_image=replace

Each folder is trained on from random weights and, with --backbone, on frozen
features of a pretrained network, by `recipes/cifar_lt.py --dataset=folder:PATH
--workdir=RUN` and nothing else, so that the run chooses everything itself.
Flags after `--` go to every run. The table, or JSON, has for each run balanced
accuracy beside that of guessing, its whole time, and what was chosen. A run
that is there already is read and not repeated.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import command_line

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "cifar_lt.py"
# The choices that a row of the table names; JSON has all.
SHOWN = ("image_size", "batch_size", "epochs")


def parse() -> tuple[argparse.Namespace, list[str]]:
    parser = command_line.parser(__doc__)
    parser.add_argument(
        "folders",
        nargs="+",
        type=Path,
        metavar="FOLDER",
        help="With train/CLASS/ and test/CLASS/.",
    )
    parser.add_argument(
        "--backbone", help="A pretrained network, as the recipes take it."
    )
    command_line.add_runs(parser, "runs/own_folders")
    parser.add_argument(
        "--json", action="store_true", help="Print JSON in place of a table."
    )
    return command_line.parse_with_flags(parser, sys.argv[1:])


if __name__ == "__main__":
    parse()  # --help and wrong options don't wait for the imports below

from keras_lt import files, report
from keras_lt.messages import one_line


def run(folder: Path, workdir: Path, flags: list[str]) -> float:
    """Seconds of the command, from the folder to the report.

    Raises:
        RuntimeError: If it fails; its output is in WORKDIR.log.
    """
    log = workdir.with_name(f"{workdir.name}.log")
    taken = workdir.with_name(f"{workdir.name}.seconds")
    if taken.exists():
        return float(taken.read_text())
    log.parent.mkdir(parents=True, exist_ok=True)
    begin = time.perf_counter()
    with log.open("w") as output:
        code = subprocess.run(
            [
                sys.executable,
                RECIPE,
                f"--dataset=folder:{folder}",
                f"--workdir={workdir}",
                *flags,
            ],
            stdout=output,
            stderr=subprocess.STDOUT,
        ).returncode
    if code:
        raise RuntimeError(
            f"Expected exit code 0 of {RECIPE.name} on {folder}. "
            f"Received: {code}, see {log}"
        )
    seconds = time.perf_counter() - begin
    taken.write_text(f"{seconds}")
    return seconds


def row(folder: Path, workdir: Path, seconds: float) -> dict:
    """What a run gave, and what it chose."""
    record = report.Record.read(workdir / "result.json")
    scores, counts = record.test["last"], record.classes.counts
    counts = counts[counts > 0]
    return {
        "folder": folder.name,
        "train_images": int(counts.sum()),
        "classes": len(counts),
        "most": int(counts.max()),
        "fewest": int(counts.min()),
        "test_images": record.data["num_test"],
        "backbone": record.flags["backbone"].split("(")[0],
        "balanced": scores["balanced"],
        "guessing": 1 / len(counts),
        "top1": scores["top1"],
        "minutes": seconds / 60,
        "chosen": {
            name: record.flags[name] for name in record.others["chosen"]
        },
    }


def table(rows: list[dict]) -> str:
    """Rows as Markdown."""
    header = ["folder", "training images", "classes", "most to fewest"]
    header += ["network", "balanced", "guessing", "top-1", "minutes"]
    lines = [f"| {' | '.join([*header, *SHOWN])} |"]
    lines.append("| --- " * (len(header) + len(SHOWN)) + "|")
    for each in rows:
        cells = [
            each["folder"],
            f"{each['train_images']:,}",
            each["classes"],
            f"{each['most']:,} to {each['fewest']:,}",
            f"`{each['backbone']}`",
            *(f"{100 * each[key]:.1f}" for key in ("balanced", "guessing")),
            f"{100 * each['top1']:.1f}",
            f"{each['minutes']:.1f}",
            *(each["chosen"].get(name, "given") for name in SHOWN),
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def main() -> None:
    files.escape_output()
    arguments, flags = parse()
    starts = {"scratch": []}
    if arguments.backbone:
        starts["pretrained"] = [f"--backbone={arguments.backbone}"]
    rows = []
    for folder in arguments.folders:
        for start, own in starts.items():
            workdir = arguments.runs / f"{folder.name}_{start}"
            seconds = run(folder, workdir, [*own, *flags])
            rows.append(row(folder, workdir, seconds))
    if arguments.json:
        found = {"environment": report.environment(), "runs": rows}
        print(json.dumps(found, indent=2))
    else:
        print(table(rows))


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError, RuntimeError) as error:
        sys.exit(f"own_folders.py: error: {one_line(error)}")
