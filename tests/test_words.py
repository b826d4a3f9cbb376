"""Words that readers of this field have to decode stay out.

American spelling, as Keras has it; "images per class" and not "images a class";
no narrator ("What becomes of ...").
"""

import re
import subprocess

import pytest
from documents import REPO

FOLDERS = ("keras_lt", "recipes", "tools", "tests")
ENDINGS = {".py", ".md", ".cfg", ".cff", ".sh", ".html", ".css"}
BRITISH = (
    r"colour|\bcentre|\bgrey|labelled|neighbour|favour|behaviour|honour"
    r"|artefact|licence\b|catalogue|modelling|cancelled|travell|fulfil\b"
    r"|(normal|optim|initial|synchron|general|serial|regular|vector|summar"
    r"|recogn|organ|minim|maxim|quant|equal|final|real|visual|util)is(e|ing|ation)"
)
UNITS = r"class|image|step|epoch|second|machine|request|row|flag|seed|replica"
COUNTED = (
    "images|accuracy|accuracies|rows|scores|losses|steps|weights|samples|examples"
    "|views|processes|row|scale|one|name|value|values|cores"
)
WORDS = {
    "British spelling": BRITISH,
    "a for per": rf"\b({COUNTED}) an? ({UNITS})\b",
    "narrator": r"What becomes of",
}


def files():
    listed = subprocess.run(
        ["git", "-C", REPO, "ls-files"], capture_output=True, text=True
    )
    names = listed.stdout.split() or [
        path.relative_to(REPO).as_posix()
        for folder in FOLDERS
        for path in (REPO / folder).rglob("*")
    ]
    for name in names:
        path = REPO / name
        if path.suffix in ENDINGS and path.name != "test_words.py":
            yield name, path


@pytest.mark.parametrize("kind", WORDS)
def test_words(kind):
    pattern = re.compile(WORDS[kind], re.IGNORECASE)
    found = [
        f"{name}:{number}: {line.strip()}"
        for name, path in files()
        if path.is_file()
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if pattern.search(line)
    ]
    assert not found, "\n".join(found)
