"""Flag files: what they ask for, and that records were made by them."""

import inspect
import re
import sys

import keras
import old_flags
import pytest
import recipe

from keras_lt import losses, report, schedules, specs
from keras_lt.models import second_stages

sys.path.insert(0, str(recipe.REPO / "tools"))

import flag_files

FLAG_FILES = recipe.REPO / "recipes" / "flags"
RECORDS = sorted((recipe.REPO / "recipes" / "results").glob("*/seed*.json"))
FILES = sorted(FLAG_FILES.glob("*.cfg"))
NESTED = ("cifar10_lt100", "cifar100_lt100")  # data alone
COUNTS = {"class_counts": [5000, 500, 50], "num_classes": 3}
STEPS = {"steps_per_epoch": 97, "total_steps": 19_400}


def effective(name: str) -> dict:
    """{flag: value} of the flag files of a run, by the recipe they are for."""
    files = flag_files.find(name)
    script = flag_files.script(files).stem
    arguments = (f"--flagfile={path}" for path in files)
    given = recipe.expanded(*arguments)
    with recipe.flags(*given, name=script) as values:
        return {name: values[name].value for name in values}


def same_loss(one: str, other: str) -> bool:
    configs = [
        keras.losses.serialize(losses.get(spec, **COUNTS))
        for spec in (one, other)
    ]
    return configs[0] == configs[1]


def same_rate(one: str, other: str) -> bool:
    made = [schedules.get(spec, **STEPS) for spec in (one, other)]
    return type(made[0]) is type(made[1]) and (
        made[0].get_config() == made[1].get_config()
    )


@pytest.mark.parametrize(
    "path", RECORDS, ids=lambda path: f"{path.parent.name}/{path.stem}"
)
def test_kept_record_is_of_its_flag_file(path):
    record = report.Record.read(path)
    # Runs of 200 epochs were called by their precision.
    names = path.parent.name, path.parent.name.replace("_c200", "_bf16")
    assert record.name in names
    assert path.stem == f"seed{record.seed}"
    assert record.environment["git_commit"]
    assert not record.environment["git_dirty"]
    name, flags = path.parent.name, record.flags
    if "method" not in flags:  # of a recipe as it is now
        compare_given(name, record)
        return
    assert record.train["epochs"] == flags["epochs"]
    if old_flags.is_of_cifar_lt(flags):
        compare(name, old_flags.translated(flags))
        return
    first = flag_files.needs(flag_files.find(name))
    if flags["method"] in ("linear_probe", "bns_ipdpp") and (
        flags["stage1"] != "ce"
    ):
        compare(first, old_flags.pretrained(flags))
    elif flags["method"] != "dlsa":  # what it is a division of, is not said
        single = "dual_branch" if flags["method"] == "dual_branch" else "single"
        compare(first, old_flags.translated({**flags, "method": single}))
    if flags["method"] == "bns_ipdpp":
        compare(name, old_flags.ip_dpp(flags))
    elif flags["method"] == "dlsa":
        compare_division(name, old_flags.dlsa(flags))
    else:
        compare(name, old_flags.second_stage(flags))


def compare_given(name: str, record: report.Record) -> None:
    """What the flag files of a run give is what the record says."""
    found, flags = effective(name), record.flags
    first = flag_files.needs(flag_files.find(name))
    if first is None:
        assert record.from_run is None
        assert record.train["epochs"] == flags["epochs"]
    else:  # whose epochs those of `train` are
        assert record.from_run == f"{first}, seed {record.seed}"
        flags = {**flags, "from": f"@{first}"}
        if "stage2_epochs" in record.train:
            assert record.train["stage2_epochs"] == flags["epochs"]
    arguments = (f"--flagfile={path}" for path in flag_files.find(name))
    given = {
        each.removeprefix("--").partition("=")[0]
        for each in recipe.expanded(*arguments)
    }
    assert given
    assert {each: found[each] for each in given} == {
        each: flags[each] for each in given
    }


def compare(name: str, wanted: dict) -> None:
    """Compares the flag files of a run with flags in effect."""
    found = effective(name)
    assert same_loss(found["loss"], wanted.pop("loss"))
    assert same_rate(found["learning_rate"], wanted.pop("learning_rate"))
    wanted.pop("seed", None)
    if "stage" in wanted:  # its arguments may be left to their defaults
        stages = specs.parse(found["stage"]), specs.parse(wanted.pop("stage"))
        makers = [
            inspect.signature(
                second_stages.SECOND_STAGES.table[spec.name]
            ).bind(*spec.arguments, **spec.keywords)
            for spec in stages
        ]
        for maker in makers:
            maker.apply_defaults()
        assert stages[0].name == stages[1].name
        assert makers[0].arguments == makers[1].arguments
    assert {name: found[name] for name in wanted} == wanted
    assert found["mixed_precision"] in ("auto", "bfloat16")


def compare_division(name: str, wanted: dict) -> None:
    script, found = recipe.script("dlsa"), effective(name)
    made = {
        "dlsa": script.LEVELS.get(
            found["dlsa"], given={"features_dim": 4}, num_classes=3, seed=0
        ).get_config(),
        "flow": vars(script.FLOWS.get(found["flow"])),
        "classifier": vars(script.CLASSIFIERS.get(found["classifier"])),
    }
    for part, values in wanted.items():
        assert {key: made[part][key] for key in values} == values


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_header_is_the_command(path):
    """The sweep finds the recipe there, which knows all flags of the file."""
    header = re.sub(r"\\\n#\s+", "", path.read_text())
    command = re.search(r"^#\s+python recipes/(\S+) (.*)$", header, re.M)
    if path.stem in NESTED:
        assert command is None
        return
    script = flag_files.script([path])
    assert script.name == command[1] and script.is_file()
    given = command[2].split()
    assert any(
        (recipe.REPO / each.partition("=")[2]) == path
        for each in given
        if each.startswith("--flagfile=")
    )
    needed = flag_files.needs([path])
    if needed is not None:
        given_from = [each for each in given if each.startswith("--from=")]
        assert given_from and given.index(given_from[0]) > 0
        flag_files.find(needed)  # it is there
    with recipe.flags(*recipe.expanded(*given), name=script.stem) as values:
        assert values.workdir.startswith("runs/")
        assert (
            not (values["from"].value or "").startswith("@")
            if ("from" in values)
            else True
        )


def test_runs_by_name():
    folder = FLAG_FILES
    assert flag_files.find("cifar10_lt100_ce_c30") == [
        folder / "cifar10_lt100_ce.cfg",
        folder / "c30.cfg",
    ]
    whole = [folder / "cifar10_lt100_ldam_drw_c30.cfg"]
    assert flag_files.find("cifar10_lt100_ldam_drw_c30") == whole
    assert flag_files.name(flag_files.find("cifar10_lt100_ce_c30")) == (
        "cifar10_lt100_ce_c30"
    )
    with pytest.raises(FileNotFoundError, match="Received: no_such_run"):
        flag_files.find("no_such_run")
    probe = flag_files.find("cifar10_lt100_simclr_linear_probe_cpu")
    assert flag_files.needs(probe) == "cifar10_lt100_simclr_cpu"


# Of the published configurations, PyTorch's weight decay and all.
PUBLISHED = {
    "imagenet_lt_ce_resnext50": ("resnext50", 90, 512, 0.2, "5e-4"),
    "imagenet_lt_ce_resnet10": ("resnet10", 100, 512, 0.2, "1e-4"),
    "places_lt_ce_resnet152": ("ResNet152", 30, 256, 0.1, "5e-4"),
    "inaturalist2018_ce_resnet50": ("ResNet50", 90, 512, 0.2, "1e-4"),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_flag_file_of_large_images(name):
    backbone, epochs, batch_size, rate, decay = PUBLISHED[name]
    places = name.startswith("places")
    found = effective(name)
    wanted = {
        "backbone": backbone,
        "weights": "imagenet" if places else None,
        "tune": "after('conv4')" if places else "all",
        "backbone_learning_rate_factor": 0.1 if places else 1.0,
        "optimizer": f"sgd(momentum=0.9,weight_decay={decay})",
        "epochs": epochs,
        "batch_size": batch_size,
        "l2": 0.0,
        "loss": "crossentropy",
        "sampling": "random",
        "auxiliary": None,
    }
    assert {flag: found[flag] for flag in wanted} == wanted
    rates = schedules.get(
        found["learning_rate"], steps_per_epoch=100, total_steps=100 * epochs
    )
    assert float(rates(0)) == pytest.approx(rate)
    if backbone == "resnet10":  # 0.1 of the rate from 60, 0.01 from 80
        found = [float(rates(100 * n)) / rate for n in (59, 60, 80)]
        assert found == pytest.approx([1, 0.1, 0.01])
    else:
        assert float(rates(50 * epochs)) == pytest.approx(rate / 2)


# Second stages of theirs: weight decay, epochs, images per step, rate.
SECOND = {
    "imagenet_lt_crt_resnext50": ("crt", "5e-4", 10, 512, 0.2),
    "imagenet_lt_lws_resnext50": ("lws", "5e-4", 5, 512, 0.2),
    "places_lt_crt_resnet152": ("crt", "5e-4", 10, 256, 0.1),
    "inaturalist2018_crt_resnet50": ("crt", "1e-4", 30, 512, 0.2),
}


@pytest.mark.parametrize("name", SECOND)
def test_second_stage_on_large_images(name):
    stage, decay, epochs, batch_size, rate = SECOND[name]
    found = effective(name)
    assert found["stage"] == stage and found["sampling"] == "class_balanced"
    assert found["optimizer"] == f"sgd(momentum=0.9,weight_decay={decay})"
    assert (found["epochs"], found["batch_size"]) == (epochs, batch_size)
    assert found["learning_rate"] == f"cosine({rate})"
    first = found["from"].removeprefix("@")
    assert PUBLISHED[first][2:] == (batch_size, rate, decay)


def test_values_of_a_run():
    """Of a flag that comes twice the last value counts."""
    found = flag_files.values(flag_files.find("cifar10_lt100_ldam_drw_c200"))
    assert found["loss"].startswith("ldam(max_margin=0.5,scale=30,")
    assert (found["epochs"], found["drw_epoch"]) == ("200", "160")
