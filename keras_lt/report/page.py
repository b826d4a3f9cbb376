"""`report.html`: one self-contained page about a record."""

import html
import os
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from keras_lt import files, plots
from keras_lt.counts import shot_groups
from keras_lt.messages import brief
from keras_lt.metrics import GROUPS, known_scores
from keras_lt.report.record import Record


def write_html(path: str | os.PathLike, record: Record) -> None:
    """Write a page about a record, in one file that needs no network.

    Args:
        path: File to write, new or a page of keras_lt.
        record: The record of a run.

    Raises:
        ValueError: If a required key is missing, or `path` holds something
            else than a page of keras_lt.
        OSError: If `path` can't be written.

    Example:
        >>> keras_lt.report.write_html("report.html", record)
    """
    record.check()
    confusion = record.test["last"]["confusion"]
    num_classes = record.data["num_classes"]
    if confusion is not None and len(confusion) != num_classes:
        raise ValueError(
            f"Expected {num_classes} rows (data.num_classes) in "
            f"test.last.confusion. Received: record with {len(confusion)}"
        )
    write_page(path, "report", record.title, _facts(record), _parts(record))


def write_page(
    path: str | os.PathLike,
    kind: str,
    title: str,
    facts: Sequence[str],
    parts: Sequence[str],
) -> None:
    """Writes a page of `parts` (HTML) under a header, at once or not at all."""
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"Expected a folder that exists. Received: path={str(path)!r}"
        )
    if path.exists() and not _is_page(path):
        raise ValueError(
            "Expected a new file, or a page of keras_lt to replace. "
            f"Received: path={str(path)!r}, which is neither"
        )
    header = (
        f"<header>{_MARK}{kind}</p>"
        f"<h1>{escape(title)}</h1>"
        f"<p class=facts>{escape(', '.join(facts))}</p></header>"
    )
    with files.replacing(path) as part:
        text = _page(title, "\n".join([header, *parts]))
        part.write_text(text, encoding="utf-8")


def _is_page(path: Path) -> bool:
    if not path.is_file():
        return False
    content = path.read_bytes()
    return content.startswith(_DOCTYPE.encode()) and _MARK.encode() in content


def data_facts(record: Record) -> list[str]:
    """What the run was trained on, in words."""
    data = record.data
    return [
        record.dataset,
        f"{data['num_classes']:,} classes",
        f"{data['num_train']:,} training images",
        f"imbalance factor {text(data['imbalance_factor'])}"
        if data["imbalance_factor"]
        else "no long tail imposed",
    ]


def _facts(record: Record) -> list[str]:
    return [*data_facts(record), record.method, f"seed {record.seed}"]


def _parts(record: Record) -> list[str]:
    data, train, last = record.data, record.train, record.test["last"]
    wide = len(record.class_counts) > plots.MAX_NAMED
    parts = [
        _headline(record),
        picture(
            "Training images a class",
            plots.class_distribution(record.classes),
            wide=wide,
        ),
        picture(
            "Accuracy a class",
            plots.per_class_accuracy(last["per_class"], record.classes),
            "Classes from most to fewest training images. Dashed: mean of "
            "the shot group.",
            wide=wide,
        ),
    ]
    if last["confusion"] is not None:
        parts.append(
            picture(
                "Confusion matrix",
                plots.confusion_matrix(last["confusion"], record.classes),
                "Share of each true class' test images, in percent. Mass left "
                "of the diagonal went to classes with more training images.",
            )
        )
    second = "stage2_"
    histories = {"Training": {}, "Second stage": {}}
    for name, values in record.history.items():
        stage = "Second stage" if name.startswith(second) else "Training"
        histories[stage][name.removeprefix(second)] = values
    parts += [
        picture(stage, plots.curves(history))
        for stage, history in histories.items()
        if history
    ]
    return [
        *parts,
        details("Every class", _class_table(record)),
        details("Training and data", _pairs({**train, **data})),
        details("Flags in effect", _pairs(record.flags)),
        details("Environment", _pairs(record.environment)),
    ]


def _headline(record: Record) -> str:
    last = record.test["last"]
    many, few = (record.shot_thresholds[key] for key in ("many", "few"))
    groups = shot_groups(record.class_counts, many=many, few=few)
    rule = {
        "many": f"more than {many:,} images",
        "medium": f"{few:,} to {many:,} images",
        "few": f"fewer than {few:,} images",
        "unseen": "no training image",
    }
    notes = {"top1": f"{last['num_images']:,} test images"}
    for group in GROUPS:
        size = int(groups[group].sum())
        classes = "class" if size == 1 else "classes"
        notes[group] = f"{size:,} {classes}, {rule[group]}"
    columns = known_scores(record.test.values())
    shown = "".join(
        f"<div class='tile {score.name}'><span class=label>{score.label}</span>"
        f"<span class=value>{score.shown(last.get(score.name))}</span>"
        f"<span class=note>{escape(notes.get(score.name, score.meaning))}"
        "</span></div>"
        for score in columns
    )
    rows = []
    for which, scores in record.test.items():
        chosen = scores.get("chosen_by")
        rows.append(
            [
                f"{which} (epoch {text(scores['epoch'])}"
                + (f", chosen by {chosen})" if chosen else ")")
            ]
            + [score.shown(scores.get(score.name)) for score in columns]
        )
    weights = ""
    if len(rows) > 1:
        weights = table(["weights", *(s.label for s in columns)], rows)
    return (
        "<section class=wide><h2>Test accuracy, "
        f"epoch {text(last['epoch'])}</h2>"
        f"<div class=tiles>{shown}</div>{weights}</section>"
    )


def _class_table(record: Record) -> str:
    last, counts = record.test["last"], record.class_counts
    names = record.data["class_names"]
    groups = shot_groups(counts, **record.shot_thresholds)
    header = ["class", "group", "training images", "accuracy"]
    if last["confusion"] is not None:
        header += ["test images", "most often taken for"]
    rows = []
    for label in np.argsort(-np.asarray(counts), kind="stable"):
        row = [
            names[label],
            next(name for name in GROUPS if groups[name][label]),
            f"{counts[label]:,}",
            percent(last["per_class"][label]),
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
    return table(header, rows)


def picture(title: str, figure, note: str = "", wide: bool = False) -> str:
    """A section that shows a figure of `plots`."""
    note = f"<p class=note>{escape(note)}</p>" if note else ""
    return (
        f"<section{' class=wide' if wide else ''}><h2>{title}</h2>"
        f"<div class=scroll><div class=picture>{plots.to_svg(figure)}</div>"
        f"</div>{note}</section>"
    )


def details(title: str, body: str) -> str:
    """A section that opens when asked."""
    return f"<details><summary>{title}</summary>{body}</details>"


def _pairs(values: dict) -> str:
    rows = "".join(
        f"<tr><th scope=row>{escape(key.replace('_', ' '))}</th>"
        f"<td>{escape(text(value))}</td></tr>"
        for key, value in values.items()
        if key != "class_names"
    )
    return f"<div class=scroll><table class=pairs>{rows}</table></div>"


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    strong: Collection[tuple[int, int]] = (),
) -> str:
    """A table of texts; `strong` holds (row, column) of emphasised cells."""

    def shown(row, column, cell):
        cell = escape(cell)
        return f"<strong>{cell}</strong>" if (row, column) in strong else cell

    head = "".join(f"<th scope=col>{escape(cell)}</th>" for cell in header)
    body = "".join(
        "<tr>"
        + "".join(f"<td>{shown(i, j, cell)}</td>" for j, cell in enumerate(row))
        + "</tr>"
        for i, row in enumerate(rows)
    )
    return (
        f"<div class=scroll><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></div>"
    )


def percent(value: float | None) -> str:
    """A share as a reader wants it."""
    return "n/a" if value is None else f"{100 * value:.1f}%"


def text(value) -> str:
    """A value of a record as a reader wants it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(map(text, value))
    return str(value)


def checked_ids(ids, size: int, name: str) -> np.ndarray:
    """Returns ids (N,) below `size`, as integers.

    Raises:
        ValueError: If they are something else.
    """
    ids = np.asarray(ids)
    if (
        ids.ndim != 1
        or (ids.size and ids.dtype.kind not in "iu")
        or not ((ids >= 0) & (ids < size)).all()
    ):
        raise ValueError(
            f"Expected integers (N,) from 0 to {size - 1}. "
            f"Received: {name}={brief(ids)}"
        )
    return ids.astype(int)


def escape(text: str) -> str:
    """Text as HTML."""
    return html.escape(str(text))


def _page(title: str, body: str) -> str:
    return f"""{_DOCTYPE}
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{_STYLE}</style>
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""


_DOCTYPE = "<!doctype html>"
_MARK = "<p class=eyebrow>keras_lt "
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
strong { font-weight: 700; }
.said { margin: 0; border-left: 3px solid FEW; padding-left: .75rem; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
.dense table { font-size: .84rem; }
.dense :is(th, td):not(:first-child) { padding-left: .6rem; }
.dense td:first-child {
  white-space: normal; overflow-wrap: anywhere; min-width: 9rem;
}
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
