"""Flag files, flags by groups, and what is said before TensorFlow is there."""

import os
import re
import subprocess
import sys
import time

import command
import flag_groups
import pytest
import recipe
from absl import flags

from keras_lt import counts, datasets, distribute

RECIPES = [
    path
    for path in sorted(recipe.REPO.glob("recipes/*.py"))
    if "command.parse(" in path.read_text()
]


def expand(path):
    return command.expand_flagfiles(["recipe", f"--flagfile={path}"])


def test_flag_files_that_include_others_twice(tmp_path):
    """22 deep, the files within would be read four million times."""
    for number in range(22):
        include = f"--flagfile={number + 1}.cfg\n"
        text = f"{include}--a={number}\n{include}--b={number}\n"
        (tmp_path / f"{number}.cfg").write_text(text)
    (tmp_path / "22.cfg").write_text("--a=last\n--b=last")
    begin = time.perf_counter()
    expanded = expand(tmp_path / "0.cfg")
    assert time.perf_counter() - begin < 5
    # Of all values the last one counts, as if each were read each time.
    values = dict(line.split("=") for line in expanded[1:])
    assert values == {"--a": "last", "--b": "0"}


def test_the_last_flag_counts_as_if_files_were_copied(tmp_path):
    (tmp_path / "base.cfg").write_text("--a=base\n--b=base\n--c=base")
    (tmp_path / "x.cfg").write_text("--flagfile=base.cfg\n--a=x")
    (tmp_path / "y.cfg").write_text("-flagfile=base.cfg\n--b=y")
    (tmp_path / "top.cfg").write_text("--flagfile=x.cfg\n--flagfile=y.cfg")
    # base, a=x, base, b=y.
    expanded = expand(tmp_path / "top.cfg")[1:]
    values = dict(line.split("=") for line in expanded)
    assert values == {"--a": "base", "--b": "y", "--c": "base"}


@pytest.mark.parametrize(
    "content, message",
    [
        (b"--seed=1\n\xff\xfe\x00", "text in UTF-8. Received: "),
        (b"\x7fELF\x02\x01", "lines that start with -- or #"),
        (b"--flagfile=a.cfg", "within itself"),
        (b"-flagfile=a.cfg", "within itself"),
        (b"--flagfile", "--flagfile without ="),
        (b"--flagfile=none.cfg", "none.cfg, which does not exist"),
        (b"--flagfile=fifo", "fifo, which does not exist"),
    ],
)
def test_other_flag_files_are_refused(
    content, message, tmp_path, monkeypatch, capsys
):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "a.cfg").write_bytes(content)
    argv = ["recipe.py", f"--flagfile={tmp_path / 'a.cfg'}"]
    with pytest.raises(SystemExit):
        command.read(flag_groups.declare("seed"), argv)
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert str(tmp_path) in line or "without =" in line


def test_flag_files_that_are_too_deep(tmp_path):
    for number in range(3000):
        include = f"--flagfile={number + 1}.cfg"
        (tmp_path / f"{number}.cfg").write_text(include)
    with pytest.raises(flags.Error, match="at most 100 deep"):
        expand(tmp_path / "0.cfg")


def test_choices_are_those_of_the_library():
    """Flags can't ask for them: TensorFlow would be imported."""
    values = flag_groups.declare("data", "devices", "running")

    def choices(name):
        return tuple(values[name].parser.enum_values)

    assert choices("on_bad_image") == tuple(datasets.ON_BAD_IMAGE)
    assert choices("profile") == tuple(counts.PROFILES)
    assert choices("strategy") == tuple(distribute.STRATEGIES)
    assert values["max_pixels"].default == datasets.MAX_PIXELS


@pytest.mark.parametrize(
    "argument, message",
    [
        ("--seed=1.5", "flag --seed=1.5"),
        ("--l2=nan", "Expected a finite number. Received: --l2=nan"),
        ("--augment=cutout(16", r"Expected name\(argument, key=value\)"),
        ("--augment=cutout(16) cutout(8)", r"Expected name\(argument"),
        ("--backbon=x", "Unknown command line flag 'backbon'. Did you mean"),
        ("--epochs=3", "Unknown command line flag 'epochs'"),
        ("epochs", r"Expected flags only. Received: \['epochs'\]"),
    ],
)
def test_wrong_flags_are_one_line(argument, message, capsys):
    values = flag_groups.declare("model", "augmentation", "seed")
    with pytest.raises(SystemExit) as end:
        command.read(values, ["recipe.py", argument])
    assert end.value.code == 1
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    "text",
    [
        "my_package.my_module:MyLoss(alpha=2)",
        "pad_crop_flip(4)|rand_augment(2,10)|cutout(16)",
        "kerashub('C:/folder:x')",
        "rotation(weight=linear(1.0))",
        "0.1",
    ],
)
def test_syntax_of_specs(text):
    assert flag_groups.SpecParser().parse(text) == text


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
@pytest.mark.parametrize("argument", ["--help", "--wrong", "--flagfile=none"])
def test_answers_come_before_tensorflow(path, argument, tmp_path):
    """`-X importtime` lists what is imported."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", path, argument],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    imported = {line.split("|")[-1].strip() for line in done.stderr.split("\n")}
    assert not {"tensorflow", "keras", "keras_lt", "numpy"} & imported
    assert done.returncode == (argument != "--help")
    if argument == "--help":
        assert "--imbalance_factor: Cut the training set" in done.stdout
        assert f"python recipes/{path.name}" in done.stdout
        assert max(map(len, done.stdout.splitlines())) <= 80


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_help_texts_are_whole_phrases(path):
    values = recipe.script(path.stem).FLAGS
    for name in values:
        text = re.sub("^<[^>]*>: ", "", values[name].help)
        assert text[0].isupper() or text[0].isdigit(), name
        assert text.endswith("."), name
        assert not text.startswith(("Of ", "From ", "Whether ")), name
