"""Keeps the measured results: records, and the places that quote them.

    python tools/results.py                  # prints the table
    python tools/results.py --add runs/ce_0  # keeps the record of a run
    python tools/results.py --write          # writes documents and flag files
    python tools/results.py --check          # fails if they are not up to date

Records are recipes/results/FLAGFILE/seedN.json, the result.json of the run. A
row is of one optimizer: a record that comes with another one takes the place of
all that are there, such as those of Keras' form of SGD, which flag files had
until they had the published one. Beside them,
recipes/results/benchmark_NAME.json, what `tools/benchmark.py NAME --json`
printed (of serve_check what `tools/serve_check.py --output` wrote), and
own_folders.json, what `tools/own_folders.py --json` printed.
"""

import argparse
from pathlib import Path

import command_line


def parse() -> argparse.Namespace:
    parser = command_line.parser(__doc__)
    parser.add_argument(
        "--add",
        nargs="+",
        type=Path,
        metavar="WORKDIR",
        help="Finished runs whose records to keep.",
    )
    parser.add_argument(
        "--write",
        action="store_true",
        help="Write the places that quote results.",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="Fail if a place that quotes results is not up to date.",
    )
    return parser.parse_args()


if __name__ == "__main__":
    parse()  # --help and wrong options don't wait for the imports below

import json
import re
import sys
from collections.abc import Sequence

import flag_files
import own_folders

from keras_lt import files, metrics, report
from keras_lt.report.comparison import minutes, spread

REPO = Path(__file__).resolve().parents[1]
RECORDS = REPO / "recipes" / "results"
FLAGS = REPO / "recipes" / "flags"
RECIPES = RECORDS.parent / "README.md"
# Scores of the tables that compare methods.
SHOWN = ("top1", "many", "medium", "few", "ece")
# Scores of which the tables have the interval too.
WITH_INTERVALS = ("balanced", "lowest_recall")
# The rows of README's short table: flag file, and what it is called there.
GLANCE = {
    "cifar10_lt100_ce_c30": "cross-entropy",
    "cifar10_lt100_cb_focal_c30": "class-balanced focal loss",
    "cifar10_lt100_class_balanced_sampling_c30": "class-balanced sampling",
    "cifar10_lt100_ce_drw_c30": "deferred re-weighting",
    "cifar10_lt100_ldam_drw_c30": "LDAM-DRW",
    "cifar10_lt100_balanced_softmax_c30": "balanced softmax",
    "cifar10_lt100_crt_c30": "cRT on cross-entropy",
    "cifar10_lt100_dlsa_on_ce_c30": "DLSA on cross-entropy",
    "cifar10_lt100_dual_branch_rotation_c30": "dual branch, rotation",
    "cifar10_lt100_dual_branch_c30": "dual branch, second classifier",
    "cifar10_lt100_best_c30": "balanced softmax, orthogonal steps (Muon)",
    "cifar10_lt100_best_c60": "the same in 60 epochs, AutoAugment, Cutout",
    "cifar10_lt100_fast": "orthogonal steps on a small wide network, 10 epochs",
    "cifar10_lt100_fast_c100": "the same in 100 epochs, AutoAugment, Cutout",
    "cifar10_lt100_lite0_cosine_means": "balanced softmax on frozen features "
    "of a network pretrained on ImageNet",
}
# The rows of the table of recipes/README.md on real long-tailed images.
SYSTEMS = {
    "fashion_lite0_linear": "balanced softmax",
    "fashion_lite0_cosine_means": "balanced softmax, cosine from class means",
    "fashion_lite0_ce": "cross-entropy",
    "fashion_lite0_cb": "class-balanced loss",
    "fashion_lite0_ce_drw": "deferred re-weighting",
    "fashion_lite0_class_balanced_sampling": "class-balanced sampling, which a "
    "dual branch is here",
    "fashion_lite0_ldam_drw": "LDAM-DRW",
    "fashion_lite0_crt": "cRT",
    "fashion_lite0_dlsa": "DLSA",
    "fashion_lite0_ipdpp": "IP-DPP, 20 images per class",
    "fashion_lite0_random_balanced": "random subsets of as many",
    "fashion_lite0_all_balanced": "all images, class-balanced, as many steps",
    "fashion_lite0_tuned": "last block tuned: balanced softmax, cosine",
    "fashion_lite0_tuned_ce_drw": "last block tuned: deferred re-weighting",
    "fashion_lite0_tuned_cb": "last block tuned: class-balanced loss",
    "fashion_lite0_tuned_dual_branch": "last block tuned: dual branch, half "
    "as many steps",
}
# What each ingredient buys, on training images that the subset leaves out.
INGREDIENTS = {
    "cifar10_lt100_fast_left_out": "`fast`: balanced softmax, Muon",
    "cifar10_lt100_fast_sgd_left_out": "SGD in place of Muon",
    "cifar10_lt100_fast_ce_left_out": "cross-entropy",
    "cifar10_lt100_fast_augmented_left_out": "AutoAugment and Cutout",
    "cifar10_lt100_fast_averaged_left_out": "averages of the weights",
    "cifar10_lt100_fast_mixup_left_out": "mixup",
    "cifar10_lt100_fast_sam_left_out": "sharpness-aware, half as many steps",
    "cifar10_lt100_fast_dual_branch_left_out": "two branches, second "
    "classifier, half as many steps",
    "cifar10_lt100_fast_dual_branch_augmented_left_out": "the same, "
    "AutoAugment and Cutout on the random branch",
}
# The methods on CIFAR-100-LT.
CIFAR100 = {
    "cifar100_lt100_fast_ce": "cross-entropy",
    "cifar100_lt100_fast_ce_drw": "deferred re-weighting",
    "cifar100_lt100_fast_ldam_drw": "LDAM-DRW",
    "cifar100_lt100_fast": "balanced softmax",
    "cifar100_lt100_fast_dual_branch": "dual branch, second classifier, "
    "half as many steps",
    "cifar100_lt100_fast_crt": "cRT on cross-entropy",
    "cifar100_lt100_fast_dlsa": "DLSA on cross-entropy",
    "cifar100_lt100_fast_c60": "balanced softmax in 60 epochs, AutoAugment, "
    "Cutout",
}


def read() -> dict[str, list[report.Record]]:
    """Records by the name of their flag file."""
    records = {}
    for path in sorted(RECORDS.glob("*/seed*.json")):
        records.setdefault(path.parent.name, []).append(
            report.Record.read(path)
        )
    for name, runs in records.items():
        optimizers = {*map(optimizer_of, runs)}
        if len(optimizers) > 1:
            raise ValueError(
                "Expected records of one optimizer for a flag file. Received: "
                f"{RECORDS / name} with {', '.join(sorted(optimizers))}"
            )
    return records


def tables(records: dict[str, list[report.Record]]) -> str:
    """A table for each data set, augmentation, optimizer and tested split."""
    columns = metrics.known_scores(
        run.test["last"] for runs in records.values() for run in runs
    )
    parts = {}
    for name, runs in records.items():
        tested = runs[0].flags.get("test_split") or "test"
        kind = (
            runs[0].dataset,
            runs[0].augmentation,
            optimizer_of(runs[0]),
            tested,
        )
        parts.setdefault(kind, {})[name] = runs
    order = ("sgd", "keras_sgd")
    return "\n\n".join(
        f"{'' if dataset == 'cifar10' else f'Data `{dataset}`, '}"
        f"{'a' if dataset != 'cifar10' else 'A'}ugmentation `{augment}`, "
        f"optimizer `{optimizer}`"
        f"{'' if tested == 'test' else f', tested on `{tested}`'}:\n\n"
        f"{table(part, columns)}"
        for (dataset, augment, optimizer, tested), part in sorted(
            parts.items(),
            key=lambda item: (
                item[0][0],
                item[0][1],
                item[0][3] != "test",
                [item[0][2] != name for name in order],
            ),
        )
    )


def optimizer_of(record: report.Record) -> str:
    """Name of the optimizer that trained the network of a run."""
    flags = record.train.get("from_flags", record.flags)
    name = flags.get("optimizer", "sgd").partition("(")[0]
    # Keras' own was called so when its momentum was a flag.
    return "keras_sgd" if name == "sgd" and "momentum" in flags else name


def link(label: str, name: str, folder: str) -> str:
    """A link to the first flag file of a run, if it is one of ours."""
    try:
        path = flag_files.find(name)[0]
    except FileNotFoundError:
        return label
    return f"[{label}]({folder}/{path.name})"


def table(
    records: dict[str, list[report.Record]], columns: list[metrics.Score]
) -> str:
    header = ["flag file", "seeds", *(score.label for score in columns)]
    header += [f"{metrics.SCORES[name].label}, 95 %" for name in WITH_INTERVALS]
    header += ["epochs", "steps", "images per step", "minutes"]
    rows = [f"| {' | '.join(header)} |", "| --- " * len(header) + "|"]
    for name, runs in records.items():
        train = runs[0].train
        cells = [
            link(name, name, "../flags"),
            str(len(runs)),
            *(spread(runs, score.name) for score in columns),
            *(interval(runs, name) for name in WITH_INTERVALS),
            str(train["epochs"]),
            f"{train['steps']:,}",
            f"{train['images'] / train['steps']:.6g}",
            minutes(runs),
        ]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def interval(runs: list[report.Record], score: str) -> str:
    """The mean over seeds of the ends of an interval, in percent."""
    found = [run.test["last"]["intervals"].get(score) for run in runs]
    if None in found:
        return "n/a"
    ends = [sum(column) / len(column) for column in zip(*found, strict=True)]
    return metrics.SCORES[score].between(ends)


def glance(records: dict[str, list[report.Record]]) -> str:
    """README's short table, with what * means if a row has it."""
    scores = ("top1", "many", "medium", "few")
    rows = short_table(records, GLANCE, scores, "recipes/flags")
    if any("*" in row for row in rows):
        rows += [
            "",
            "\\* Trained by Keras' form of SGD; the flag file has "
            "[the published one](recipes/results/README.md#all-results).",
        ]
    return "\n".join(rows)


def methods(
    records: dict[str, list[report.Record]],
    labels: dict[str, str],
    scores: Sequence[str] = SHOWN,
) -> str:
    """A table for recipes/README.md, of the rows that there are records of."""
    known = {name: label for name, label in labels.items() if name in records}
    return "\n".join(short_table(records, known, scores, "flags"))


def short_table(
    records: dict[str, list[report.Record]],
    labels: dict[str, str],
    scores: Sequence[str],
    folder: str,
) -> list[str]:
    """Lines of a table with a row for each flag file of `labels`."""
    header = ["method", "seeds", *(metrics.SCORES[key].label for key in scores)]
    header += ["images per step", "minutes"]
    rows = [f"| {' | '.join(header)} |", "| --- " * len(header) + "|"]
    for name, label in labels.items():
        runs = records[name]
        train = runs[0].train
        of_old = "\\*" if optimizer_of(runs[0]) == "keras_sgd" else ""
        cells = [
            link(label, name, folder) + of_old,
            str(len(runs)),
            *(spread(runs, key) for key in scores),
            f"{train['images'] / train['steps']:.6g}",
            minutes(runs),
        ]
        row = f"| {' | '.join(cells)} |"
        rows.append(row.replace(" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}"))
    return rows


def result_lines(path: Path, records: dict[str, list[report.Record]]) -> str:
    """What a flag file quotes, a line for each budget that follows it."""
    lines = []
    for name, runs in records.items():
        first, *others = flag_files.find(name)
        if first != path:
            continue
        budget = "".join(f" with {other.name}" for other in others)
        if optimizer_of(runs[0]) == "keras_sgd":
            budget += " and keras_sgd" if budget else " with keras_sgd"
        scores = ", ".join(
            f"{score} {spread(runs, score)}"
            for score in ("top1", "many", "medium", "few")
        )
        seeds = f"{len(runs)} seed{'s' if len(runs) > 1 else ''}"
        lines.append(
            f"# Result{budget}: {scores} ({seeds}; {minutes(runs)} minutes on "
            f"{runs[0].environment['cpu_count']} CPU cores)."
        )
    return "\n".join(lines or ["# Result: none measured yet."]) + "\n"


def benchmark_table() -> str:
    rows = ["| benchmark | figure | value | CPU |", "| --- | --- | --- | --- |"]
    for path in sorted(RECORDS.glob("benchmark_*.json")):
        found = figures(path)
        environment = found["environment"]
        cpu = environment.get("cpu", "AMD EPYC")
        isa = environment.get("onednn_max_cpu_isa")
        cpu += f", oneDNN as on one with {isa}" if isa else ""
        for name, value in found.items():
            if isinstance(value, (int, float)):
                shown = f"{value:.2f}" if value < 10 else f"{value:,.0f}"
                subject = path.stem.removeprefix("benchmark_")
                rows.append(f"| {subject} | `{name}` | {shown} | {cpu} |")
    return "\n".join(rows)


def folders() -> str:
    """The table of the one command on folders of images."""
    return own_folders.table(figures(RECORDS / "own_folders.json")["runs"])


def figures(path: Path) -> dict:
    """What a benchmark has written."""
    try:
        found = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"Expected JSON of a benchmark. Received: {path} ({error})"
        ) from error
    environment = isinstance(found, dict) and found.get("environment")
    if not isinstance(environment, dict):
        raise ValueError(
            "Expected an object of figures by name, and of the environment. "
            f"Received: {path} with {found!r:.80}"
        )
    return found


def between(text: str, name: str, content: str) -> str:
    """`text` with `content` between its two comments of that name."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    return re.sub(
        f"{begin}.*?{end}",
        lambda _: f"{begin}\n{content}\n{end}",
        text,
        flags=re.DOTALL,
    )


def quoted(records: dict[str, list[report.Record]]) -> dict[Path, str]:
    """The text of each file that quotes results, as it should be."""
    places = (
        (REPO / "README.md", "glance", glance(records)),
        (RECORDS / "README.md", "results", tables(records)),
        (RECIPES, "systems", methods(records, SYSTEMS, ("balanced", *SHOWN))),
        (RECIPES, "ingredients", methods(records, INGREDIENTS)),
        (RECIPES, "cifar100", methods(records, CIFAR100)),
        (RECIPES, "own folders", folders()),
        (RECORDS / "README.md", "benchmarks", benchmark_table()),
    )
    texts = {}
    for path, name, content in places:
        text = texts.get(path) or path.read_text()
        texts[path] = between(text, name, content)
    for path in sorted(FLAGS.glob("*.cfg")):
        lines = result_lines(path, records)
        texts[path] = re.sub(
            "(^# Result.*\n)+",
            lambda _, lines=lines: lines,
            path.read_text(),
            flags=re.MULTILINE,
        )
    return texts


def add(workdir: Path) -> None:
    record = report.Record.read(workdir / "result.json")
    if record.name is None:
        raise ValueError(
            "Expected a run that was started with --flagfile. "
            f"Received: {workdir}"
        )
    if record.name != Path(record.name).name:
        raise ValueError(
            "Expected the record of a flag file, with its name. "
            f"Received: {workdir} with name={record.name!r:.80}"
        )
    path = RECORDS / record.name / f"seed{record.seed}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    for other in path.parent.glob("seed*.json"):
        if optimizer_of(report.Record.read(other)) != optimizer_of(record):
            other.unlink()
            print(f"{other.relative_to(REPO)}: dropped, of another optimizer")
    weights = Path(record.flags.get("weights") or "") / "result.json"
    if weights.is_file():  # a run, which is at another place elsewhere
        first = report.Record.read(weights)
        record.flags["weights"] = f"{first.name}, seed {first.seed}"
    record.write(path)
    print(path.relative_to(REPO))


def main() -> None:
    files.escape_output()
    arguments = parse()
    for workdir in arguments.add or ():
        add(workdir)
    records = read()
    stale = {
        path: text
        for path, text in quoted(records).items()
        if text != path.read_text()
    }
    if arguments.check and stale:
        names = ", ".join(str(path.relative_to(REPO)) for path in stale)
        sys.exit(f"Run `python tools/results.py --write`: {names} differ.")
    if arguments.write:
        for path, text in stale.items():
            path.write_text(text)
            print(path.relative_to(REPO))
    if not (arguments.write or arguments.check or arguments.add):
        print(tables(records))


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError) as error:
        sys.exit(f"results.py: error: {' '.join(str(error).split())}")
