"""recipes/own_images.ipynb: well-formed, no outputs, and all of it runs."""

import ast
import base64
import json

import pytest
import recipe
from pictures import BAD, write_folder

PATH = recipe.REPO / "recipes" / "own_images.ipynb"
NOTEBOOK = json.loads(PATH.read_text(encoding="utf-8"))
CELLS = NOTEBOOK["cells"]
SOURCES = [
    "".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"
]
# A small network on small images, for some steps.
SMALL = {
    "BACKBONE": "cifar_resnet(8)",
    "IMAGE_SIZE": 24,
    "EPOCHS": 2,
    "EPOCHS_TUNING": 1,
}


def test_format():
    """Notebook format 4.5, as its schema has it."""
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    assert {*NOTEBOOK} == {"cells", "metadata", "nbformat", "nbformat_minor"}
    assert NOTEBOOK["metadata"]["kernelspec"]["name"] == "python3"
    assert len({cell["id"] for cell in CELLS}) == len(CELLS)
    more = {"markdown": set(), "code": {"outputs", "execution_count"}}
    for cell in CELLS:
        keys = {"cell_type", "id", "metadata", "source"}
        assert {*cell} == keys | more[cell["cell_type"]]
        assert all(line.endswith("\n") for line in cell["source"][:-1])


def test_outputs_are_pictures_at_most():
    pictures = []
    for cell in CELLS:
        assert cell.get("execution_count") is None
        for output in cell.get("outputs", []):
            assert output["output_type"] == "display_data"
            assert {*output["data"]} == {"image/png"}
            pictures.append(base64.b64decode(output["data"]["image/png"]))
    assert sum(map(len, pictures)) < 300_000
    assert PATH.stat().st_size < 500_000


def run_cell(source: str, namespace: dict):
    """Runs a cell, and returns the value that a notebook would show."""
    *body, last = ast.parse(source).body
    if not isinstance(last, ast.Expr):
        body, last = [*body, last], None
    exec(compile(ast.Module(body, []), PATH.name, "exec"), namespace)
    if last is None:
        return None
    return eval(
        compile(ast.Expression(last.value), PATH.name, "eval"), namespace
    )


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """The namespace, PNGs and folder of a run of all cells in their order."""
    folder = tmp_path_factory.mktemp("notebook")
    write_folder(folder / "photos")
    namespace, shown = {}, []
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        for source in SOURCES:
            value = run_cell(source, namespace)
            if hasattr(value, "_repr_png_"):
                shown.append(value._repr_png_())
            if "BACKBONE =" in source:
                assert {*SMALL} <= {*namespace}
                namespace.update(SMALL)
    return namespace, shown, folder


def test_all_cells_run(executed):
    namespace, shown, folder = executed
    assert len(shown) >= 5 and all(png[1:4] == b"PNG" for png in shown)
    names = ("one", "two", "three", "four", "five")
    assert {*namespace["names"]} == {*names}
    # A fifth of 40, 20, 9, 5 and 0 images is held out.
    assert sorted(namespace["train"].class_counts) == [0, 4, 7, 16, 32]
    assert len(namespace["held_out"]) == 8 + 4 + 2 + 1
    assert len(namespace["found"]) == 3
    assert any(name.endswith(BAD) for name in namespace["train"].replaced)
    labels = (folder / "saved_model" / "labels.txt").read_text().split()
    assert labels == [*namespace["names"]]


def test_the_best_model_is_exported(executed, monkeypatch):
    namespace, _, folder = executed
    monkeypatch.chdir(folder)
    balanced = {k: v["balanced"] for k, v in namespace["found"].items()}
    best = namespace["best"]
    assert balanced[best] == max(balanced.values())
    assert namespace["model"].layers[-1] is namespace["heads"][best][0]
    # The score of the test images is that of the model which is exported.
    after = namespace["score"](namespace["test"])
    assert after["confusion"] == namespace["result"]["confusion"]
    kept = namespace["score"](namespace["held_out"])["balanced"]
    assert kept == pytest.approx(
        max(balanced[best], namespace["tuned_scores"]["balanced"])
    )
