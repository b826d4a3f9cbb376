"""The documents of the project, in the order in which a person reads them."""

import re
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
PATHS = [
    REPO / "README.md",
    REPO / "recipes" / "README.md",
    REPO / "keras_lt" / "README.md",
    REPO / "recipes" / "results" / "README.md",
    REPO / "tests" / "bad_input.md",
    REPO / "tests" / "faults.md",
]
TEXTS = {path.relative_to(REPO).as_posix(): path.read_text() for path in PATHS}


def blocks_of(text: str, language: str) -> list[str]:
    """The blocks of code of a document in a language."""
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def blocks(language: str) -> list[str]:
    """The blocks of code of all documents in a language."""
    return [
        block for text in TEXTS.values() for block in blocks_of(text, language)
    ]


def commands() -> list[str]:
    """The commands of all documents that run Python, each once."""
    lines = [
        line
        for block in blocks("bash")
        for line in block.replace("\\\n", " ").splitlines()
    ]
    return list(dict.fromkeys(line for line in lines if line[:7] == "python "))


def table(document: str, first_header: str) -> list[list[str]]:
    """Cells of the rows of the table that starts with a header cell."""
    lines = TEXTS[document].splitlines()
    start = next(
        i for i, line in enumerate(lines) if line.startswith(first_header)
    )
    rows = []
    for line in lines[start + 2 :]:
        if not line.startswith("|"):
            break
        cells = re.split(r"(?<!\\)\|", line)[1:-1]
        rows.append([cell.strip().replace(r"\|", "|") for cell in cells])
    return rows


def prose(text: str) -> str:
    """A document without its code."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "", text)


def anchors(text: str) -> set[str]:
    """The fragments of links to the headings of a document."""
    headings = re.findall(
        r"^#+ (.*)$",
        re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE),
        re.MULTILINE,
    )
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in headings
    }
