"""Measures speed as ratios, by variants that take turns.

    python tools/benchmark.py train
    python tools/benchmark.py input --json

`--json` prints what recipes/results/benchmark_NAME.json holds: the figures and
the environment that they were measured in. With `ONEDNN_MAX_CPU_ISA=AVX2` in
front of a command, oneDNN's kernels are those of a processor without AVX-512.
"""

import argparse
import importlib
import json
import sys

import command_line

# Modules of the folder benchmarks/, in the order of --help.
NAMES = (
    "train",
    "train_dual_branch",
    "stage2",
    "bns",
    "dpp",
    "dlsa",
    "input",
    "files",
    "checkpoint",
    "evaluation",
    "fast",
    "frozen",
    "guards",
    "scaling",
)


def title(name: str) -> str:
    """The first line of what a benchmark says of itself."""
    return importlib.import_module(f"benchmarks.{name}").__doc__.splitlines()[0]


def parse() -> argparse.Namespace:
    listed = "\n".join(f"  {name:18} {title(name)}" for name in NAMES)
    parser = command_line.parser(f"{__doc__}\nBenchmarks:\n{listed}")
    parser.add_argument(
        "name", choices=NAMES, metavar="NAME", help="The benchmark to run."
    )
    parser.add_argument(
        "--json", action="store_true", help="Print JSON in place of text."
    )
    parser.add_argument(
        "--rounds",
        type=command_line.positive,
        default=7,
        help="Turns of each variant (default: %(default)s).",
    )
    return parser.parse_args()


def show(name: str, figures: dict) -> None:
    from keras_lt import hardware

    machine = hardware.summary()
    isa = machine["onednn_max_cpu_isa"] or ""
    print(title(name))
    print(
        f"{machine['cpu']}, {machine['cpu_count']} cores, "
        f"{' '.join(machine['cpu_features']) or 'no AVX2'}; oneDNN "
        f"{'on' if machine['onednn'] else 'off'}"
        f"{isa and f', which takes it for one with {isa}'}"
    )
    for figure, value in figures.items():
        shown = "not measured" if value is None else f"{value:12,.2f}"
        print(f"{figure:44}{shown:>12}")


def main() -> None:
    arguments = parse()
    benchmark = importlib.import_module(f"benchmarks.{arguments.name}")
    figures = benchmark.measure(arguments.rounds)
    if not arguments.json:
        show(arguments.name, figures)
        return
    from keras_lt import report

    figures["environment"] = report.environment()
    json.dump(figures, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
