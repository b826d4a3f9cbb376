"""What a run leaves behind: `result.json`, the record with a versioned
schema (`SCHEMA`), and `report.html`, one self-contained page about it.
"""

import html
import importlib
import json
import math
import os
import platform
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_lt import plots
from keras_lt.counts import shot_groups
from keras_lt.metrics import GROUPS, evaluate, predict

__all__ = [
    "SCHEMA",
    "SCHEMA_VERSION",
    "environment",
    "evaluate",
    "predict",
    "read_record",
    "record",
    "write_html",
    "write_record",
]

SCHEMA_VERSION = 1

_SCORES = {
    "top1": "fraction of test images whose class is predicted",
    "balanced": "mean over classes of per_class",
    "many": "mean over many-shot classes, null for an empty group",
    "medium": "mean over medium-shot classes, or null",
    "few": "mean over few-shot classes, or null",
    "unseen": "mean over classes without training images, or null",
    "ece": "expected calibration error, 15 bins",
    "per_class": "C fractions by label id, null without test images",
    "confusion": "C x C images, rows true; null above 1,000 classes",
    "num_images": "number of test images",
    "epoch": "number of epochs that were over when the weights were kept",
}

SCHEMA = {
    "schema_version": "1",
    "name": "name of the flag file without its ending, or null",
    "dataset": "name of the data set, as given to --dataset",
    "data": {
        "imbalance_factor": "largest over smallest class, or null",
        "profile": "exp or step, or null",
        "selection": "which rule chose the images, or null",
        "split_seed": "seed of the long-tailed selection and hold-out",
        "holdout": "fraction of the training set held out",
        "num_train": "images trained on",
        "num_test": "images tested on",
        "num_classes": "C",
        "class_names": "C names",
        "image_shape": "[height, width, channels]",
    },
    "class_counts": "C training images by label id",
    "shot_thresholds": {
        "many": "more training images than this: many-shot",
        "few": "fewer training images than this: few-shot",
    },
    "method": "method of the run, as single",
    "flags": "{name: value} of all flags in effect",
    "seed": "seed of the run",
    "environment": "what `environment()` gives",
    "train": {
        "epochs": "epochs trained",
        "steps": "steps trained",
        "steps_per_epoch": "steps an epoch",
        "batch_size": "global batch size",
        "images": "images processed",
        "wall_time_seconds": "seconds of training, over all starts",
        "images_per_second": "images over wall_time_seconds",
        "precision": "dtype policy, as mixed_bfloat16",
        "num_parameters": "parameters of the model",
        "resumed": "number of times the run was resumed",
    },
    "history": "{metric: one value an epoch}",
    "test": {"last": _SCORES},
}
"""Required keys of a record and what they hold. `test` may also hold `best`,
the same scores for the weights that the hold-out chose, with `chosen_by`
(the monitored figure); keys beyond these are kept."""


def environment() -> dict:
    """Software and machine of this process.

    Returns:
        `python`, `tensorflow`, `keras`, `numpy`, `keras_lt` (versions),
        `platform`, `cpu_count`, `devices` (names), `git_commit` of the
        checkout that holds keras_lt and `git_dirty` (both None outside git).
    """
    return {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
        "keras_lt": importlib.import_module(__package__).__version__,
        "platform": platform.platform(),
        "cpu_count": os.cpu_count(),
        "devices": [_device_name(d) for d in tf.config.list_physical_devices()],
        **_git(),
    }


def _device_name(device) -> str:
    details = tf.config.experimental.get_device_details(device)
    name = details.get("device_name")
    kind = ":".join(device.name.split(":")[-2:])
    return f"{kind} ({name})" if name else kind


def _git() -> dict:
    folder = Path(__file__).resolve().parent

    def git(*arguments):
        return subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        ).stdout.strip()

    try:
        # An installed copy inside somebody's checkout is not that checkout's.
        git("ls-files", "--error-unmatch", "__init__.py")
        return {
            "git_commit": git("rev-parse", "HEAD"),
            "git_dirty": bool(git("status", "--porcelain")),
        }
    except (OSError, subprocess.SubprocessError):
        return {"git_commit": None, "git_dirty": None}


def record(
    *,
    name: str | None,
    dataset: str,
    data: dict,
    class_counts: Sequence[int],
    shot_thresholds: dict,
    method: str,
    flags: dict,
    seed: int,
    train: dict,
    history: dict,
    test: dict,
) -> dict:
    """The record of a run: its arguments, the version and `environment()`.

    Args:
        name: Name of the flag file without its ending.
        dataset: Name of the data set.
        data: As `SCHEMA["data"]`.
        class_counts: Training images a class, integers (C,).
        shot_thresholds: `many` and `few`.
        method: Method of the run.
        flags: Flags in effect.
        seed: Seed of the run.
        train: As `SCHEMA["train"]`.
        history: A list of one value an epoch for each metric.
        test: `last` and perhaps `best`, each what `evaluate` gives with
            `epoch`.

    Returns:
        A dictionary of plain Python values for `write_record`; NaN and
        infinity become None.

    Raises:
        ValueError: If a required key is missing.
        TypeError: If a value has no counterpart in JSON.
    """
    result = _plain(
        {
            "schema_version": SCHEMA_VERSION,
            "name": name,
            "dataset": dataset,
            "data": data,
            "class_counts": class_counts,
            "shot_thresholds": shot_thresholds,
            "method": method,
            "flags": flags,
            "seed": seed,
            "environment": environment(),
            "train": train,
            "history": history,
            "test": test,
        },
        "record",
    )
    _check(result, "record")
    return result


def write_record(path: str | os.PathLike, record: dict) -> None:
    """Write a record as JSON, at once or not at all.

    Args:
        path: File to write.
        record: What `record` gave.

    Raises:
        ValueError: If a required key is missing.
        TypeError: If a value has no counterpart in JSON.
    """
    record = _plain(record, "record")
    _check(record, "record")
    text = json.dumps(record, indent=2, allow_nan=False, ensure_ascii=False)
    _write_atomically(path, _flat_lists(text) + "\n")


def read_record(path: str | os.PathLike) -> dict:
    """Read and check a record.

    Args:
        path: File that `write_record` wrote.

    Returns:
        The record.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not JSON, is of another schema version, or lacks
            a required key; the message names the file and the key.
    """
    try:
        result = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"Expected a JSON record. Received: path={str(path)!r} ({error})"
        ) from error
    _check(result, f"path={str(path)!r}")
    return result


def _check(result, where: str) -> None:
    if not isinstance(result, dict):
        raise ValueError(
            f"Expected a record, a JSON object. Received: {where} holds "
            f"{type(result).__name__}"
        )
    version = result.get("schema_version")
    if version != SCHEMA_VERSION:
        raise ValueError(
            f"Expected a record with schema_version={SCHEMA_VERSION}. "
            f"Received: {where} with schema_version={version!r}"
        )
    schema = SCHEMA
    if "best" in (result.get("test") or {}):
        best = {**_SCORES, "chosen_by": "monitored figure"}
        schema = {**SCHEMA, "test": {"last": _SCORES, "best": best}}
    missing = list(_missing(schema, result))
    if missing:
        raise ValueError(
            f"Expected a record with all keys of schema "
            f"{SCHEMA_VERSION}. Received: {where} without "
            f"{', '.join(missing)}"
        )
    num_classes = result["data"]["num_classes"]
    for key, values in (
        ("class_counts", result["class_counts"]),
        ("data.class_names", result["data"]["class_names"]),
        ("test.last.per_class", result["test"]["last"]["per_class"]),
    ):
        if not isinstance(values, list) or len(values) != num_classes:
            raise ValueError(
                f"Expected {num_classes} values (data.num_classes) in {key}. "
                f"Received: {where} with {key}={values!r:.80}"
            )


def _missing(schema: dict, result, prefix: str = ""):
    for key, inner in schema.items():
        if not isinstance(result, dict) or key not in result:
            yield prefix + key
        elif isinstance(inner, dict):
            yield from _missing(inner, result[key], f"{prefix}{key}.")


def _plain(value, where: str):
    """NumPy values as Python's, NaN and infinity as None."""
    if isinstance(value, dict):
        return {str(k): _plain(v, f"{where}.{k}") for k, v in value.items()}
    if isinstance(value, (np.ndarray, np.generic, tf.Tensor)):
        value = np.asarray(value).tolist()
    if isinstance(value, (list, tuple)):
        return [_plain(v, f"{where}[{i}]") for i, v in enumerate(value)]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    raise TypeError(
        "Expected values that JSON can hold. "
        f"Received: {where} of type {type(value).__name__}"
    )


def _flat_lists(text: str) -> str:
    """Put each innermost list of numbers on one line.

    JSON escapes line breaks in strings, so one after a bracket is layout.
    """
    return re.sub(
        r'\[\n\s*([^\[\]{}"]*?)\n\s*\]',
        lambda match: "[" + re.sub(r"\s*\n\s*", " ", match[1]) + "]",
        text,
    )


def _write_atomically(path: str | os.PathLike, text: str) -> None:
    path = Path(path)
    descriptor, temporary = tempfile.mkstemp(
        dir=path.parent, prefix=f".{path.name}.", suffix=".tmp"
    )
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes the file private; a record is as public as others.
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_html(path: str | os.PathLike, record: dict) -> None:
    """Write a page about a record, in one file that needs no network.

    Args:
        path: File to write.
        record: What `record` or `read_record` gave.

    Raises:
        ValueError: If a required key is missing.
    """
    _check(record, "record")
    title = record["name"] or f"{record['method']} on {record['dataset']}"
    _write_atomically(path, _page(title, _body(title, record)))


def _body(title: str, record: dict) -> str:
    data, train, last = record["data"], record["train"], record["test"]["last"]
    counts, names = record["class_counts"], data["class_names"]
    thresholds = record["shot_thresholds"]
    facts = [
        record["dataset"],
        f"{data['num_classes']:,} classes",
        f"{data['num_train']:,} training images",
        f"imbalance factor {_text(data['imbalance_factor'])}"
        if data["imbalance_factor"]
        else "no long tail imposed",
        record["method"],
        f"seed {record['seed']}",
    ]
    parts = [
        "<header>",
        "<p class=eyebrow>keras_lt report</p>",
        f"<h1>{_escape(title)}</h1>",
        f"<p class=facts>{_escape(', '.join(facts))}</p>",
        "</header>",
        _headline(record),
        _picture(
            "Training images a class",
            plots.class_distribution(counts, class_names=names, **thresholds),
            len(counts),
        ),
        _picture(
            "Accuracy a class",
            plots.per_class_accuracy(
                last["per_class"], counts, class_names=names, **thresholds
            ),
            len(counts),
            "Classes from most to fewest training images. Dashed: mean of "
            "the shot group.",
        ),
    ]
    if last["confusion"] is not None:
        parts.append(
            _picture(
                "Confusion matrix",
                plots.confusion_matrix(
                    last["confusion"], counts, class_names=names
                ),
                0,
                "Share of each true class' test images, in percent. Mass left "
                "of the diagonal went to classes with more training images.",
            )
        )
    if record["history"]:
        parts.append(_picture("Training", plots.curves(record["history"]), 0))
    return "\n".join(
        [
            *parts,
            _details("Every class", _class_table(record)),
            _details("Training and data", _pairs({**train, **data})),
            _details("Flags in effect", _pairs(record["flags"])),
            _details("Environment", _pairs(record["environment"])),
        ]
    )


def _headline(record: dict) -> str:
    last = record["test"]["last"]
    many, few = (record["shot_thresholds"][key] for key in ("many", "few"))
    groups = shot_groups(record["class_counts"], many=many, few=few)
    rule = {
        "many": f"more than {many:,} images",
        "medium": f"{few:,} to {many:,} images",
        "few": f"fewer than {few:,} images",
        "unseen": "no training image",
    }
    tiles = [
        ("top1", "top-1", f"{last['num_images']:,} test images"),
        ("balanced", "balanced", "mean over classes"),
    ]
    for group in GROUPS:
        size = int(groups[group].sum())
        if size or group != "unseen":
            classes = "class" if size == 1 else "classes"
            tiles.append((group, group, f"{size:,} {classes}, {rule[group]}"))
    tiles.append(("ece", "calibration error", "expected, 15 bins"))
    shown = "".join(
        f"<div class='tile {key}'><span class=label>{label}</span>"
        f"<span class=value>{_percent(last[key])}</span>"
        f"<span class=note>{_escape(note)}</span></div>"
        for key, label, note in tiles
    )
    rows = []
    for which, scores in record["test"].items():
        chosen = scores.get("chosen_by")
        rows.append(
            [
                f"{which} (epoch {_text(scores['epoch'])}"
                + (f", chosen by {chosen})" if chosen else ")")
            ]
            + [_percent(scores[key]) for key, _, _ in tiles]
        )
    table = ""
    if len(rows) > 1:
        table = _table(["weights", *(t[1] for t in tiles)], rows)
    return (
        "<section class=wide><h2>Test accuracy, "
        f"epoch {_text(last['epoch'])}</h2>"
        f"<div class=tiles>{shown}</div>{table}</section>"
    )


def _class_table(record: dict) -> str:
    last, counts = record["test"]["last"], record["class_counts"]
    names = record["data"]["class_names"]
    groups = shot_groups(counts, **record["shot_thresholds"])
    header = ["class", "group", "training images", "accuracy"]
    if last["confusion"] is not None:
        header += ["test images", "most often taken for"]
    rows = []
    for label in np.argsort(-np.asarray(counts), kind="stable"):
        row = [
            names[label],
            next(name for name in GROUPS if groups[name][label]),
            f"{counts[label]:,}",
            _percent(last["per_class"][label]),
        ]
        if last["confusion"] is not None:
            images = np.array(last["confusion"][label])
            row.append(f"{images.sum():,}")
            images[label] = 0
            other = images.argmax()
            row.append(
                f"{names[other]} ({images[other]:,})" if images.any() else ""
            )
        rows.append(row)
    return _table(header, rows)


def _picture(title: str, figure, num_classes: int, note: str = "") -> str:
    is_wide = num_classes > plots.MAX_NAMED
    note = f"<p class=note>{_escape(note)}</p>" if note else ""
    return (
        f"<section{' class=wide' if is_wide else ''}><h2>{title}</h2>"
        f"<div class=scroll><div class=picture>{plots.to_svg(figure)}</div>"
        f"</div>{note}</section>"
    )


def _details(title: str, body: str) -> str:
    return f"<details><summary>{title}</summary>{body}</details>"


def _pairs(values: dict) -> str:
    rows = "".join(
        f"<tr><th scope=row>{_escape(key.replace('_', ' '))}</th>"
        f"<td>{_escape(_text(value))}</td></tr>"
        for key, value in values.items()
        if key != "class_names"
    )
    return f"<div class=scroll><table class=pairs>{rows}</table></div>"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th scope=col>{_escape(cell)}</th>" for cell in header)
    body = "".join(
        "<tr>" + "".join(f"<td>{_escape(cell)}</td>" for cell in row) + "</tr>"
        for row in rows
    )
    return (
        f"<div class=scroll><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def _percent(value: float | None) -> str:
    return "n/a" if value is None else f"{100 * value:.1f}%"


def _text(value) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    return str(value)


def _escape(text: str) -> str:
    return html.escape(str(text))


def _page(title: str, body: str) -> str:
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


_STYLE = """
:root {
  color-scheme: light dark;
  --ink: #1b2230; --soft: #5c6575; --line: #e1e4ea;
  --page: #f6f7f9; --card: #ffffff;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e6e9ef; --soft: #9aa3b2; --line: #2b313c;
    --page: #12151b; --card: #1a1e26;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
}
main {
  max-width: 1180px; margin: 0 auto; padding: 2.5rem 1.25rem 4rem;
  display: grid; gap: 1.25rem;
  grid-template-columns: repeat(2, minmax(0, 1fr));
}
header, .wide { grid-column: 1 / -1; }
.eyebrow {
  margin: 0; color: var(--soft); font-size: .8rem; letter-spacing: .04em;
}
h1 {
  margin: .1rem 0 .3rem; font-size: clamp(1.5rem, 4.5vw, 2.3rem);
  line-height: 1.15; letter-spacing: -.02em; overflow-wrap: anywhere;
}
h2, summary { margin: 0; font-size: 1.02rem; font-weight: 600; }
.facts { margin: 0; color: var(--soft); }
section, details {
  background: var(--card); border: 1px solid var(--line);
  border-radius: 12px; padding: 1.1rem 1.25rem; min-width: 0;
}
details { grid-column: 1 / -1; }
summary { cursor: pointer; }
details .scroll { margin-top: .8rem; }
.tiles {
  display: grid; gap: 1rem 1.5rem; margin-top: .9rem;
  grid-template-columns: repeat(auto-fit, minmax(7.6rem, 1fr));
}
.tile {
  display: flex; flex-direction: column;
  border-left: 3px solid var(--line); padding-left: .75rem;
}
.many { border-color: MANY; } .medium { border-color: MEDIUM; }
.few { border-color: FEW; } .unseen { border-color: UNSEEN; }
.label { font-size: .88rem; color: var(--soft); }
.value {
  font-size: 1.75rem; font-weight: 650; line-height: 1.25;
  letter-spacing: -.02em; font-variant-numeric: tabular-nums;
}
.note { margin: .2rem 0 0; font-size: .82rem; color: var(--soft); }
.tile .note { line-height: 1.3; }
.tiles + .scroll { margin-top: 1.3rem; }
.scroll { overflow-x: auto; }
.picture svg { display: block; width: 100%; height: auto; }
.wide .picture { min-width: 640px; }
table { border-collapse: collapse; font-size: .9rem; width: 100%; }
th, td {
  text-align: right; padding: .32rem 0 .32rem 1rem; white-space: nowrap;
  border-bottom: 1px solid var(--line); font-variant-numeric: tabular-nums;
}
th { font-weight: 500; color: var(--soft); }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
.pairs th, .pairs td { text-align: left; vertical-align: top; }
.pairs th { width: 1%; padding-right: .5rem; }
.pairs td { white-space: normal; overflow-wrap: anywhere; }
@media (max-width: 760px) {
  main { grid-template-columns: minmax(0, 1fr); padding-top: 1.5rem; }
}
@media print { details { break-inside: avoid; } body { background: none; } }
"""
for _group in GROUPS:
    _STYLE = _STYLE.replace(_group.upper(), plots.COLORS[_group])
