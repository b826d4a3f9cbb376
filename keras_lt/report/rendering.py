"""Pages and cards from templates, which escape all that is put into them."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from keras_lt import files, plots

_DOCTYPE = b"<!doctype html>"
_MARK = re.compile(rb'<p class="?eyebrow"?>keras_lt ')
# What Markdown reads as more than a character: marks, entities, addresses.
_SPECIAL = re.compile(r"[\\`*_{}\[\]<>|#~@]|&(?=#?\w+;)|:(?=//)|(?<=www)\.")
_BULLET = re.compile(r"^(\d*)([-+.)])(?=\s|$)")  # starts a list


class _Markdown(str):
    """Text that is Markdown already."""


def percent(value: float | None) -> str:
    """A share as a reader wants it."""
    return "n/a" if value is None else f"{100 * value:.1f}%"


def number(value: float) -> str:
    """A number with its thousands apart."""
    return f"{value:,}"


def text(value: Any) -> str:
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


def counted(size: int, thing: str) -> str:
    """`1 level`, `2 levels`, `2 classes`."""
    ending = "es" if thing.endswith("s") else "s"
    return f"{size:,} {thing}{ending if size != 1 else ''}"


def write_page(
    path: str | os.PathLike,
    kind: str,
    title: str,
    facts: Sequence[str],
    **values: Any,
) -> None:
    """Writes a page in one file that needs no network, at once or not at all.

    Args:
        path: File to write, new or a page of keras_lt.
        kind: Name of the template, and of the kind of page.
        title: Heading.
        facts: Phrases below the heading.
        **values: Values that the template shows.

    Raises:
        FileNotFoundError: If there is no such folder.
        ValueError: If `path` holds something else than a page of keras_lt.
    """
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
    values |= {"kind": kind, "title": title, "facts": facts}
    page = _PAGES.get_template(f"{kind}.html").render(values)
    with files.replacing(path) as part:
        part.write_text(page, encoding="utf-8")


def _is_page(path: Path) -> bool:
    if not path.is_file():
        return False
    content = path.read_bytes()
    return content.startswith(_DOCTYPE) and bool(_MARK.search(content))


def markdown(template: str, **values: Any) -> str:
    """Renders a template of Markdown."""
    return _CARDS.get_template(template).render(values)


def _escaped(value: Any) -> str:
    """Text as Markdown that stands for itself, on one line."""
    if isinstance(value, _Markdown):
        return value
    value = _SPECIAL.sub(r"\\\g<0>", " ".join(str(value).split()))
    return _BULLET.sub(r"\1\\\2", value)


def _markdown_table(
    header: Sequence[str], rows: Iterable[Sequence[str]]
) -> _Markdown:
    header, *rows = (map(_escaped, row) for row in (header, *rows))
    lines = [[*header], *rows]
    lines.insert(1, ["---"] * len(lines[0]))
    return _Markdown("\n".join(f"| {' | '.join(line)} |" for line in lines))


def _fenced(lines: Sequence[str]) -> _Markdown:
    """Lines as they are, between fences longer than what they hold."""
    content = "\n".join(lines)
    ticks = re.findall("`+", content)
    fence = "`" * max(3, 1 + max(map(len, ticks), default=0))
    return _Markdown(f"{fence}\n{content}\n{fence}")


def _yaml(value: str | float) -> _Markdown:
    """A fraction, or text in double quotes that stands for itself in YAML."""
    if not isinstance(value, str):
        return _Markdown(f"{value:.6f}")
    shown = (
        f"\\{character}"
        if character in '"\\'
        else character
        if character.isprintable()
        else f"\\U{ord(character):08x}"
        for character in files.printable(value)
    )
    return _Markdown(f'"{"".join(shown)}"')


def _environment(**arguments: Any) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("keras_lt.report"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        **arguments,
    )
    environment.filters |= {"text": text, "number": number, "percent": percent}
    return environment


_PAGES = _environment(autoescape=True)
_PAGES.filters["svg"] = lambda figure: Markup(plots.to_svg(figure))
_PAGES.globals["colors"] = plots.COLORS
# Jinja2 escapes HTML alone: of Markdown, each value is escaped as it is put in.
_CARDS = _environment(autoescape=False, finalize=_escaped)
_CARDS.filters |= {"tuple": tuple, "fenced": _fenced, "yaml": _yaml}
_CARDS.globals["table"] = _markdown_table
