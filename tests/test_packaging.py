"""Wheel, sdist and citation, and what `import keras_lt` costs."""

import configparser
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

REPO = Path(__file__).parents[1]
# TensorFlow itself writes to stderr, so what counts comes after its import.
PROBE = """
import os, sys, tempfile
import keras, tensorflow
before = set(sys.modules)
with tempfile.TemporaryFile() as file:
    streams = os.dup(1), os.dup(2)
    os.dup2(file.fileno(), 1)
    os.dup2(file.fileno(), 2)
    import keras_lt
    sys.stdout.flush()
    os.dup2(streams[0], 1)
    os.dup2(streams[1], 2)
    file.seek(0)
    printed = file.read()
new = {name.split(".")[0] for name in set(sys.modules) - before}
print(keras_lt.__version__)
print(keras_lt.__file__)
print(printed)
heavy = {"matplotlib", "sklearn", "tensorboard", "tensorflow_datasets"}
print(sorted(new & heavy))
"""


def run(*command, cwd):
    done = subprocess.run(
        [str(c) for c in command], cwd=cwd, capture_output=True, text=True
    )
    if done.returncode:
        pytest.fail(f"{command} failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Builds an sdist from a copy of the checkout, and a wheel from it."""
    source = tmp_path_factory.mktemp("source") / "keras_lt"
    skip = shutil.ignore_patterns(
        ".*", "runs", "build", "dist", "*.egg-info", "__pycache__"
    )
    shutil.copytree(REPO, source, ignore=skip)
    out = tmp_path_factory.mktemp("dist")
    command = ("-m", "build", "--no-isolation", "--outdir", out, source)
    run(sys.executable, *command, cwd=out)
    (wheel,) = out.glob("*.whl")
    (sdist,) = out.glob("*.tar.gz")
    return wheel, sdist


def library_files():
    return {
        path.relative_to(REPO).as_posix()
        for path in (REPO / "keras_lt").rglob("*")
        if path.suffix == ".py"
        or path.name == "py.typed"
        or path.parent.name == "templates"
    }


def test_wheel_holds_the_library_and_nothing_else(built):
    names = set(zipfile.ZipFile(built[0]).namelist())
    metadata = {name for name in names if ".dist-info/" in name}
    assert names - metadata == library_files()
    assert any(name.endswith("LICENSE") for name in metadata)


def test_sdist_holds_what_a_build_needs(built):
    with tarfile.open(built[1]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    needed = {"setup.cfg", "pyproject.toml", "README.md", "LICENSE"}
    assert needed | library_files() <= names


def test_wheel_imports_in_a_clean_environment_and_is_quiet(built, tmp_path):
    run(sys.executable, "-m", "venv", "--without-pip", "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(run(python, "-c", ask, cwd=tmp_path).strip())
    # Dependencies come from here; editable installs do not, since .pth files
    # in a folder that a .pth file names are not read.
    parent = sysconfig.get_path("purelib")
    (site / "dependencies.pth").write_text(parent + "\n")
    pip = ("-m", "pip", "--python", python, "install", "--quiet")
    wheel = ("--no-deps", "--no-index", built[0])
    run(sys.executable, *pip, *wheel, cwd=tmp_path)

    output = run(python, "-I", "-c", PROBE, cwd=tmp_path).splitlines()
    version, file, printed, heavy = output
    assert version == built[0].name.split("-")[1]
    assert Path(file) == site / "keras_lt" / "__init__.py"
    assert printed == "b''"
    assert heavy == "[]"


def test_citation_names_the_version_and_the_four_papers():
    citation = (REPO / "CITATION.cff").read_text()
    import keras_lt

    assert f"\nversion: {keras_lt.__version__}\n" in citation
    for paper in ("1901.05555", "1912.04486", "2208.02567", "2510.08836"):
        assert f"url: https://arxiv.org/abs/{paper}\n" in citation


@pytest.mark.parametrize(
    "python, holes",
    [
        ("3.10", {"keras": "3.12.3", "pillow": "12.2.0"}),
        ("3.11", {"keras": "3.15.0", "pillow": "12.3.0"}),
        ("3.13", {"keras": "3.15.0", "pillow": "12.3.0"}),
    ],
)
def test_versions_with_known_holes_are_not_installed(python, holes):
    config = configparser.ConfigParser()
    config.read(REPO / "setup.cfg")
    lines = config["options"]["install_requires"].split("\n")
    needed = {}
    for requirement in map(Requirement, filter(None, lines)):
        marker = requirement.marker
        if marker is None or marker.evaluate({"python_version": python}):
            assert requirement.name not in needed
            needed[requirement.name] = requirement.specifier
    for name, version in {**holes, "jinja2": "3.1.5", "tqdm": "4.66.2"}.items():
        assert version not in needed[name]
    # What keras_lt.distribute replaces is known of these versions alone.
    bounded = {name for name in needed if "99" not in needed[name]}
    assert bounded == {"keras", "tensorflow"}
