"""Flag files: what they ask for, and that records were made by them."""

import keras
import old_flags
import pytest
import recipe

from keras_lt import losses, report, schedules

FLAG_FILES = recipe.REPO / "recipes" / "flags"
RECORDS = sorted((recipe.REPO / "recipes" / "results").glob("*/seed*.json"))
COUNTS = {"class_counts": [5000, 500, 50], "num_classes": 3}
STEPS = {"steps_per_epoch": 97, "total_steps": 19_400}


def effective(name: str) -> dict:
    """{flag: value} of a flag file of cifar_lt.py."""
    argument = f"--flagfile={FLAG_FILES / name}.cfg"
    with recipe.flags(*recipe.expanded(argument)) as values:
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
    assert record.name == path.parent.name
    assert path.stem == f"seed{record['seed']}"
    assert record.environment["git_commit"]
    assert not record.environment["git_dirty"]
    assert record.train["epochs"] == record.flags["epochs"]
    if not old_flags.is_of_cifar_lt(record.flags):
        return
    found = effective(record.name)
    wanted = old_flags.translated(record.flags)
    assert same_loss(found["loss"], wanted.pop("loss"))
    assert same_rate(found["learning_rate"], wanted.pop("learning_rate"))
    del wanted["seed"]
    assert {name: found[name] for name in wanted} == wanted
    precision = found["mixed_precision"]  # as the machine of the record had it
    assert precision in ("auto", record.flags["mixed_precision"])


# Of the published configurations, PyTorch's weight decay and all.
PUBLISHED = {
    "imagenet_lt_ce_resnext50": ("resnext50", 90, 512, 0.2, 5e-4),
    "imagenet_lt_ce_resnet10": ("resnet10", 100, 512, 0.2, 1e-4),
    "places_lt_ce_resnet152": ("ResNet152", 30, 256, 0.1, 5e-4),
    "inaturalist2018_ce_resnet50": ("ResNet50", 90, 512, 0.2, 1e-4),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_flag_file_of_large_images(name):
    backbone, epochs, batch_size, rate, decay = PUBLISHED[name]
    places = name.startswith("places")
    found = effective(name)
    wanted = {
        "backbone": backbone,
        "weights": "imagenet" if places else None,
        "freeze": "conv4" if places else "none",
        "backbone_learning_rate_factor": 0.1 if places else 1.0,
        "optimizer": f"{'' if places else 'keras_'}sgd(momentum=0.9)",
        "epochs": epochs,
        "batch_size": batch_size,
        "l2": decay / 2,
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
