"""How many of our files one dual-branch batch passes, from flags to report."""

import ast
import sys
import threading
from pathlib import Path

import recipe

LIBRARY, RECIPES = recipe.REPO / "keras_lt", recipe.REPO / "recipes"
# Fewer is better: lower these when files are joined or left out. With one
# concept per file it was 71 files of 14,602 lines; with tunings, heads, scores
# with intervals, a check of what was learned, frozen layers that are run once
# and priors of older runs it was 84 of 19,003, with heads that start from texts
# and an augmentation of the auxiliary branch 84 of 19,140, and one more of 187
# where another test of the process has trained under a strategy.
FILES, LINES = 85, 19_340
FLAGS = 59  # 58 and --help


def profiler(found: dict[str, set[str]]):
    """Notes the files of ours in which a function runs, and its name."""
    ours = (f"{LIBRARY}/", f"{RECIPES}/")
    seen = {}  # by id, which is fast; the code is kept so that ids stay its own

    def profile(frame, event, argument):
        code = frame.f_code
        if id(code) in seen or event != "call":
            return
        # AutoGraph runs a copy of a function, from a file of its own.
        if code.co_name == "converted_call":
            function = frame.f_locals.get("f")
            function = getattr(function, "__func__", function)
            code = getattr(function, "__code__", code)
        else:
            seen[id(code)] = code
        if code.co_name != "<module>" and code.co_filename.startswith(ours):
            found.setdefault(code.co_filename, set()).add(code.co_name)

    return profile


def test_files_of_one_batch(tmp_path, monkeypatch, capsys):
    flagfile = tmp_path / "batch.cfg"
    flagfile.write_text(
        "--dataset=digits\n--imbalance_factor=20\n"
        "--backbone=cifar_resnet(8)\n--sampling=class_balanced\n"
        "--auxiliary=classifier\n--batch_size=8\n--max_steps=1\n"
    )
    recipe.script()  # what importing runs does not count
    found = {}
    profile = profiler(found)
    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        status = recipe.run(
            monkeypatch,
            f"--flagfile={flagfile}",
            f"--workdir={tmp_path / 'run'}",
        )
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    assert status == 0, capsys.readouterr().err
    lines = {path: len(Path(path).read_text().splitlines()) for path in found}
    listed = "\n".join(
        f"{count:5} {Path(path).relative_to(recipe.REPO)}: "
        f"{', '.join(sorted(found[path])[:6])}"
        for path, count in sorted(lines.items(), key=lambda item: -item[1])
    )
    listed += f"\n{len(lines)} files, {sum(lines.values())} lines"
    assert len(lines) <= FILES, listed
    assert sum(lines.values()) <= LINES, listed


def test_public_functions_have_few_parameters():
    """At most 10, but for loaders of data sets."""
    found = {}
    for path in LIBRARY.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            methods = node.body if isinstance(node, ast.ClassDef) else [node]
            for function in methods:
                if isinstance(function, ast.FunctionDef):
                    named = function.args
                    count = len(named.posonlyargs + named.args)
                    count += len(named.kwonlyargs) - (function is not node)
                    found[f"{path.stem}.{node.name}.{function.name}"] = count
    assert len(found) > 500
    assert not [
        name
        for name, count in found.items()
        if count > 10 and not name.startswith("loading.")
    ]


def test_flags_of_the_recipe():
    assert len([*recipe.script().FLAGS]) <= FLAGS
