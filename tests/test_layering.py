"""The library's modules import only from the rooms above them."""

import ast
from pathlib import Path

import pytest

REPO = Path(__file__).parents[1]


def module_name(path: Path) -> str:
    parts = path.relative_to(REPO).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


PATHS = {module_name(p): p for p in sorted(REPO.glob("keras_lt/**/*.py"))}
# From the bottom up. A package comes after its modules: it gathers them.
# "package.*" is for all modules of a package that have no line of their own, so
# that one concept more is no line more here; they do not import one another.
ORDER = (
    "keras_lt.backend",
    "keras_lt.arguments",
    "keras_lt.files",
    "keras_lt.messages",
    "keras_lt.progress",
    "keras_lt.classes",
    "keras_lt.specs",
    "keras_lt.seeding",
    "keras_lt.labels",
    "keras_lt.counts",
    "keras_lt.hardware",
    "keras_lt.datasets.base",
    "keras_lt.datasets.decoding",
    "keras_lt.datasets.files",
    "keras_lt.datasets.sources",
    "keras_lt.datasets.prepared",
    "keras_lt.datasets.loading",
    "keras_lt.datasets",
    "keras_lt.dpp",
    "keras_lt.preprocessing.transforms",
    "keras_lt.preprocessing.mixing",
    "keras_lt.preprocessing.policies",
    "keras_lt.preprocessing.*",
    "keras_lt.preprocessing",
    "keras_lt.sampling",
    "keras_lt.streams",
    "keras_lt.distribute.collectives",
    "keras_lt.distribute.patches",
    "keras_lt.distribute.waiting",
    "keras_lt.distribute.workers",
    "keras_lt.distribute.strategies",
    "keras_lt.distribute",
    "keras_lt.metrics.base",
    "keras_lt.metrics.checks",
    "keras_lt.metrics.top1_accuracy",
    "keras_lt.metrics.balanced_accuracy",
    "keras_lt.metrics.per_class_accuracy",
    "keras_lt.metrics.confusion_matrix",
    "keras_lt.metrics.expected_calibration_error",
    "keras_lt.metrics.scores",
    "keras_lt.metrics.shot_accuracy",
    "keras_lt.metrics.scoring",
    "keras_lt.metrics.prediction",
    "keras_lt.metrics.probabilities",
    "keras_lt.metrics",
    "keras_lt.evaluation.predictions",
    "keras_lt.evaluation.scores",
    "keras_lt.evaluation.calibration",
    "keras_lt.evaluation.intervals",
    "keras_lt.evaluation.shifts",
    "keras_lt.evaluation.conformal",
    "keras_lt.evaluation.refusal",
    "keras_lt.evaluation.fitted",
    "keras_lt.evaluation.comparison",
    "keras_lt.evaluation.priors",
    "keras_lt.evaluation.mistakes",
    "keras_lt.evaluation.label_errors",
    "keras_lt.evaluation.neighbors",
    "keras_lt.evaluation.duplicates",
    "keras_lt.evaluation.collecting",
    "keras_lt.evaluation.files",
    "keras_lt.evaluation.recorded",
    "keras_lt.evaluation.summary",
    "keras_lt.evaluation",
    "keras_lt.losses.base",
    "keras_lt.losses.prior",
    "keras_lt.losses.class_weighted",
    "keras_lt.losses.*",
    "keras_lt.losses",
    "keras_lt.initializers",
    "keras_lt.layers.vectors",
    "keras_lt.layers.*",
    "keras_lt.layers",
    "keras_lt.structure",
    "keras_lt.trainable",
    "keras_lt.model_files",
    "keras_lt.features.examples",
    "keras_lt.features.extraction",
    "keras_lt.features.files",
    "keras_lt.features",
    "keras_lt.schedules",
    "keras_lt.sharpness",
    "keras_lt.optimizers",
    "keras_lt.models.base",
    "keras_lt.models.backbones.blocks",
    "keras_lt.models.backbones.images",
    "keras_lt.models.backbones.weights",
    "keras_lt.models.backbones.*",
    "keras_lt.models.backbones",
    "keras_lt.models.norm_and_bias",
    "keras_lt.models.lora",
    "keras_lt.models.adapters",
    "keras_lt.models.tuning",
    "keras_lt.models.classifier",
    "keras_lt.models.averaged_views",
    "keras_lt.models.heads",
    "keras_lt.models.auxiliary",
    "keras_lt.models.dual_branch",
    "keras_lt.models.contrastive",
    "keras_lt.models.two_stage",
    "keras_lt.models.second_stages",
    "keras_lt.models.dlsa.flows",
    "keras_lt.models.dlsa.mixture",
    "keras_lt.models.dlsa.terms",
    "keras_lt.models.dlsa.settings",
    "keras_lt.models.dlsa.routing",
    "keras_lt.models.dlsa.samples",
    "keras_lt.models.dlsa.trainer",
    "keras_lt.models.dlsa.layers",
    "keras_lt.models.dlsa.kept",
    "keras_lt.models.dlsa.model",
    "keras_lt.models.dlsa.stack",
    "keras_lt.models.dlsa",
    "keras_lt.models",
    "keras_lt.plots.style",
    "keras_lt.plots.class_axes",
    "keras_lt.plots.files",
    "keras_lt.plots.distribution",
    "keras_lt.plots.accuracy",
    "keras_lt.plots.confusion",
    "keras_lt.plots.training",
    "keras_lt.plots.comparison",
    "keras_lt.plots.images",
    "keras_lt.plots.histogram",
    "keras_lt.plots.division",
    "keras_lt.plots.shifts",
    "keras_lt.plots.reliability",
    "keras_lt.plots.recall_curve",
    "keras_lt.plots",
    "keras_lt.callbacks.checkpointing",
    "keras_lt.callbacks.averaging",
    "keras_lt.callbacks.evaluation",
    "keras_lt.callbacks.tensorboard",
    "keras_lt.callbacks.nonfinite",
    "keras_lt.callbacks.reweighting",
    "keras_lt.callbacks",
    "keras_lt.subsets",
    "keras_lt.report.environment",
    "keras_lt.report.schema",
    "keras_lt.report.record",
    "keras_lt.report.class_names",
    "keras_lt.report.ids",
    "keras_lt.report.rendering",
    "keras_lt.report.page",
    "keras_lt.report.card",
    "keras_lt.report.selection",
    "keras_lt.report.division",
    "keras_lt.report.pairs",
    "keras_lt.report.comparison",
    "keras_lt.report.evaluation",
    "keras_lt.report.galleries",
    "keras_lt.report",
    "keras_lt.export",
    "keras_lt",
)


def rooms() -> tuple[str, ...]:
    """The order with the modules that "package.*" stands for."""
    found = []
    for room in ORDER:
        package = room.removesuffix(".*")
        found += (
            [room]
            if room == package
            else [
                module
                for module in PATHS
                if module.rpartition(".")[0] == package and module not in ORDER
            ]
        )
    return tuple(found)


ROOMS = rooms()
NOT_FOR_MODELS = tuple(
    room
    for room in ROOMS
    if room.startswith(
        ("keras_lt.datasets", "keras_lt.dpp", "keras_lt.streams")
    )
)


def imported(module: str, source: str, is_package: bool) -> set[str]:
    """Names what `source` imports from this project, at any depth."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = node.module or ""
            if node.level:
                parts = module.split(".")
                keep = len(parts) - node.level + is_package
                parent = ".".join(parts[:keep] + parent.split(".")).strip(".")
            for alias in node.names:
                name = f"{parent}.{alias.name}"
                if name != "keras_lt.__version__":
                    found.add(name if name in ROOMS else parent)
    return {n for n in found if n.split(".")[0] in ("keras_lt", "recipes")}


def breaches(module: str, source: str, is_package: bool = False) -> set[str]:
    """Names the imports of `source` that its room may not make."""
    above = ROOMS[: ROOMS.index(module)]
    wrong = {n for n in imported(module, source, is_package) if n not in above}
    if module.startswith("keras_lt.models"):
        wrong |= imported(module, source, is_package) & {*NOT_FOR_MODELS}
    return wrong


@pytest.mark.parametrize("module", PATHS)
def test_module_imports_only_from_rooms_above(module):
    if module not in ROOMS:
        pytest.fail(f"{module} has no place in ROOMS: give it one.")
    path = PATHS[module]
    is_package = path.name == "__init__.py"
    assert breaches(module, path.read_text(), is_package) == set()


def imports_of(module: str) -> set[str]:
    path = PATHS[module]
    return imported(module, path.read_text(), path.name == "__init__.py")


def way_to(module: str, graph: dict[str, set[str]], room: str) -> list[str]:
    """The shortest chain of imports from a module to a room, or none."""
    ways = [[module]]
    seen = {module}
    for way in ways:  # which grows
        if way[-1] == room:
            return way
        new = sorted(graph.get(way[-1], set()) - seen)
        seen.update(new)
        ways += [[*way, each] for each in new]
    return []


def test_models_reach_neither_data_nor_streams_through_others():
    graph = {module: imports_of(module) for module in PATHS}
    ways = [
        way_to(module, graph, room)
        for module in PATHS
        if module.startswith("keras_lt.models")
        for room in NOT_FOR_MODELS
    ]
    assert [" -> ".join(way) for way in ways if way] == []


def test_a_way_through_others_is_seen():
    graph = {"models": {"a"}, "a": {"b", "c"}, "c": {"streams"}}
    assert way_to("models", graph, "streams") == [
        "models",
        "a",
        "c",
        "streams",
    ]
    assert way_to("models", graph, "dpp") == []


def long_signatures(source: str, at_most: int = 10) -> list[str]:
    """Public functions, methods and constructors with too many parameters."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef):
            continue
        if node.name.startswith("_") and node.name != "__init__":
            continue
        given = node.args
        names = [*given.posonlyargs, *given.args, *given.kwonlyargs]
        if sum(each.arg not in ("self", "cls") for each in names) > at_most:
            found.append(node.name)
    return found


@pytest.mark.parametrize("module", PATHS)
def test_public_functions_have_at_most_ten_parameters(module):
    assert long_signatures(PATHS[module].read_text()) == []


def test_long_signatures_are_seen():
    source = "def f(a, b, *, c): ...\ndef _g(a, b, c): ...\ndef h(a, *b): ..."
    assert long_signatures(source, at_most=2) == ["f"]


@pytest.mark.parametrize("module", PATHS)
def test_library_has_no_assert(module):
    tree = ast.parse(PATHS[module].read_text())
    lines = [n.lineno for n in ast.walk(tree) if isinstance(n, ast.Assert)]
    assert lines == []


@pytest.mark.parametrize(
    "module, source, wrong",
    [
        ("keras_lt.losses", "from keras_lt import counts", set()),
        ("keras_lt.losses", "from . import counts", set()),
        ("keras_lt.losses", "import keras_lt.counts", set()),
        ("keras_lt.losses", "from keras_lt.counts import f", set()),
        ("keras_lt.losses", "import keras", set()),
        ("keras_lt.losses", "from keras_lt import layers", {"keras_lt.layers"}),
        ("keras_lt.losses", "from .layers import A", {"keras_lt.layers"}),
        (
            "keras_lt.losses",
            "def f():\n  import keras_lt.layers",
            {"keras_lt.layers"},
        ),
        ("keras_lt.losses", "import keras_lt", {"keras_lt"}),
        ("keras_lt.losses", "from keras_lt import __version__", set()),
        ("keras_lt.export", "from recipes import x", {"recipes"}),
        (
            "keras_lt.models.dlsa",
            "from keras_lt.streams import stream",
            {"keras_lt.streams"},
        ),
        ("keras_lt.models.dlsa", "from ..layers import A", set()),
        ("keras_lt.models.dlsa", "from .backbones import A", set()),
        (
            "keras_lt.models.base",
            "from . import dlsa",
            {"keras_lt.models.dlsa"},
        ),
        ("keras_lt.layers", "import keras_lt.new", {"keras_lt.new"}),
    ],
)
def test_breaches_are_seen(module, source, wrong):
    assert breaches(module, source) == wrong


def test_package_sees_its_own_modules():
    assert imported("keras_lt.models", "from .base import A", True) == {
        "keras_lt.models.base"
    }
