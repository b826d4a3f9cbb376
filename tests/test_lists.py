"""Lists of images as users write them, and the names of classes anywhere."""

import json
import os
import re
import shutil
import sys

import keras
import numpy as np
import pytest
import recipe
from PIL import Image

from keras_lt import classes, datasets, export, report

sys.path.insert(0, str(recipe.REPO / "tools"))

import evaluate_features
import inspect_data

LONG = "x" * 200_000


@pytest.fixture
def root(tmp_path):
    """A folder with ten pictures, `0.png` to `9.png`."""
    for number in range(10):
        Image.new("L", (8, 8), 20 * number).save(tmp_path / f"{number}.png")
    return tmp_path


def load(root, name, content, split="train", **arguments):
    if not isinstance(content, (str, bytes)):
        content = json.dumps(content)
    if isinstance(content, str):
        content = content.encode()
    (root / name).write_bytes(content)
    arguments = {"test_fraction": 0, "image_size": 8} | arguments
    return datasets.load(f"list:{root / name}", split=split, **arguments)


def table(labels, header="path,label"):
    rows = [f"{number}.png,{label}" for number, label in enumerate(labels)]
    return "\n".join([header, *rows, ""])


def coco(labels, names=None):
    """A picture of each label; categories have the ids of their order."""
    names = names or [*dict.fromkeys(labels)]
    return {
        "images": [
            {"id": 100 + number, "file_name": f"{number}.png"}
            for number in range(len(labels))
        ],
        "annotations": [
            {"id": number, "image_id": 100 + number, "category_id": id_}
            for number, id_ in enumerate(names.index(x) for x in labels)
        ],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names)],
    }


def refused(root, name, content, **arguments):
    """The error, which is one short line that names the file."""
    with pytest.raises(ValueError) as error:
        load(root, name, content, **arguments)
    message = str(error.value)
    assert message.startswith("Expected ") and "Received: " in message
    assert name in message and "\n" not in message and len(message) < 1500
    return message


# The order of classes.


@pytest.mark.parametrize(
    "names, ordered",
    [
        (["10", "2", "1"], ["1", "2", "10"]),
        (["10.0", "2.0", "1.0"], ["1.0", "2.0", "10.0"]),
        (["010", "02", "1"], ["1", "02", "010"]),
        (["3", "-10", "-2", "+1"], ["-10", "-2", "+1", "3"]),
        (["1.5", "-.5", "1e-3", "2e2"], ["-.5", "1e-3", "1.5", "2e2"]),
        (["9007199254740993", "9007199254740992"], None),  # equal as float64
        (["10", "2", "cat"], ["10", "2", "cat"]),
        (["dog", "Cat", "ä", "bird"], ["Cat", "bird", "dog", "ä"]),
        (["1,5", "1,25"], ["1,25", "1,5"]),
    ],
)
def test_one_order_of_classes_in_every_source(root, names, ordered):
    ordered = ordered or names[::-1]
    labels = [ordered.index(name) for name in names]
    for number, name in enumerate(names):
        folder = root / "photos" / name
        folder.mkdir(parents=True)
        os.link(root / f"{number}.png", folder / "a.png")
    quoted = table(f'"{name}"' for name in names)
    for data in (
        load(root, "a.csv", quoted),
        load(root, "a.json", coco(names)),
        load(root, "b.json", coco(names, names[::-1])),
    ):
        assert data.class_names == tuple(ordered)
        assert data.labels.tolist() == labels
    source = f"folder:{root / 'photos'}"
    data = datasets.load(source, split="train", test_fraction=0)
    assert data.class_names == tuple(ordered)
    assert data.labels.tolist() == [ordered.index(n) for n in sorted(names)]


def test_order_of_classes_of_tfds():
    labels = np.array([0, 2, 1, -1])
    found, names = datasets.prepared._in_order(labels, ["10", "9", "1"])
    assert names == ["1", "9", "10"] and found.tolist() == [2, 0, 1, -1]


# Names of classes.

NO_NAMES = {
    "line break": "a\nb",
    "return": "a\rb",
    "U+2028": "a\u2028b",
    "U+2029": "a\u2029",
    "U+0085": "\x85a",
    "U+000B": "a\x0bb",
    "U+000C": "\x0ca",
    "U+001C": "a\x1cb",
    "escape": "\x1b[31mred",
    "empty": "",
    "spaces": " \t",
    "no-break space": "\xa0",
    "invisible": "\u200b",
    "NUL": "a\0b",
    "no UTF-8": "caf\udce9",
    "long": LONG,
    "digits": "1" * 5000,
}


@pytest.mark.parametrize("name", NO_NAMES.values(), ids=NO_NAMES)
def test_names_that_classes_may_not_have(root, name, monkeypatch):
    with pytest.raises(ValueError, match=r"Expected names .*class_names\[1\]"):
        classes.checked(["a", name], "class_names")
    images = np.zeros((2, 4, 4, 1), np.uint8)
    with pytest.raises(ValueError, match=r"Expected names .*class_names\[1\]"):
        datasets.from_arrays(images, [0, 1], ["fine", name])
    content = coco(["fine", name])
    assert "categories[1]" in refused(root, "a.json", content)
    if "\udce9" not in name:  # no CSV file has it
        error = refused(root, "a.csv", table(["fine", f'"{name}"']))
        assert "line 3" in error
    if 0 < len(name) < 200 and "\0" not in name:
        for folder in ("fine", name):
            (root / "photos" / folder).mkdir(parents=True)
            os.link(root / "1.png", root / "photos" / folder / "a.png")
        source = f"folder:{root / 'photos'}"
        with pytest.raises(ValueError, match=r"Expected names .*photos'?: "):
            datasets.load(source, split="train")
        monkeypatch.setattr(sys, "argv", ["", source])
        with pytest.raises(ValueError, match="Expected names"):
            inspect_data.main()


def test_names_of_other_types():
    images = np.zeros((2, 4, 4, 1), np.uint8)
    for names in ([b"a", "b"], ["a", None], {"a": 0, "b": 1}, {"a", "b"}):
        with pytest.raises(TypeError, match=r"Expected .* class"):
            datasets.from_arrays(images, [0, 1], names)
    with pytest.raises(ValueError, match=r"class_names\[0\]: 'nan'"):
        datasets.from_arrays(images, [0, 1], [np.nan, 1])
    data = datasets.from_arrays(images, [0, 1], np.array([3, 1]))
    assert data.class_names == ("3", "1")  # the caller's order


TWINS = {
    "white space": ("New York", "New  York"),
    "no-break space": ("New York", "New\xa0York"),
    "Unicode form": ("caf\xe9", "cafe\u0301"),
    "invisible": ("cat", "\u200bcat"),
    "zero": ("1", "01"),
    "decimal": ("1", "1.0"),
    "sign": ("0", "-0"),
    "exponent": ("100", "1e2"),
}


@pytest.mark.parametrize("twins", TWINS.values(), ids=TWINS)
def test_names_that_differ_as_nobody_means_them_to(root, twins):
    images = np.zeros((2, 4, 4, 1), np.uint8)
    with pytest.raises(ValueError, match=r"without repetition.*1 repeated"):
        datasets.from_arrays(images, [0, 1], twins)
    for folder in twins:
        (root / "photos" / folder).mkdir(parents=True)
        os.link(root / "1.png", root / "photos" / folder / "a.png")
    with pytest.raises(ValueError, match=r"photos: 1 repeated.*only white"):
        datasets.load(f"folder:{root / 'photos'}", split="train")
    for name, content in (("a.csv", table(twins)), ("a.json", coco(twins))):
        error = refused(root, name, content)
        assert all(ascii(twin) in error for twin in twins)
    # Numbers among other names are names.
    if twins[0].isdecimal():
        assert load(root, "b.csv", table([*twins, "cat"])).num_classes == 3


def test_white_space_around_is_no_part_of_a_name(root):
    content = "\ufeff path , label \n 0.png,dog \n\n1.png, \tdog\xa0\n,\n"
    content += '2.png, "cat"\n'
    data = load(root, "a.csv", content)
    assert data.class_names == ("cat", "dog")
    assert data.labels.tolist() == [1, 1, 0]
    assert data.name(0) == str(root / "0.png")
    for folder in ("dog ", "cat"):
        (root / "photos" / folder).mkdir(parents=True)
        os.link(root / "1.png", root / "photos" / folder / "a.png")
    data = datasets.load(
        f"folder:{root / 'photos'}", split="train", test_fraction=0
    )
    assert data.class_names == ("cat", "dog")
    assert data.images[:].shape[0] == 2
    data = datasets.from_arrays(data.images[:], data.labels, ["a ", " b"])
    assert data.class_names == ("a", "b")


def test_names_of_other_splits(root):
    (root / "train.csv").write_text(table(["1", "2"]))
    (root / "test.csv").write_text(table(["01"]))
    source = f"list:{root}/{{split}}.csv"
    message = r"Received: class '01' in .*test\.csv \(where training has '1'\)"
    with pytest.raises(ValueError, match=message):
        datasets.load(source, split="test")


# Lists that are none.


@pytest.mark.parametrize(
    "header, hint",
    [
        ("path;label", "'path;label'"),
        ("path\tlabel", r"'path\tlabel'"),
        ("path,class", "'class'"),
        ("path,label,label", "'label', 'label'"),
        ("sep=;", "sep=;"),
    ],
)
def test_headers_of_csv(root, header, hint):
    error = refused(root, "a.csv", table([1, 2], header))
    assert "path and label, one of each, separated by commas" in error
    assert hint in error


@pytest.mark.parametrize(
    "content, hint",
    [
        ("", "[]"),
        (f"path,label\n0.png,{LONG}\n", "a.csv, line 2"),
        ('path,label\n0.png,a\n"1.png,b\n2.png,c\n', "a.csv, line 3 ("),
        ('path,label\n0.png,a\n1.png,"b\n2.png,c\n', "a.csv, line 3 ("),
        ('path,label\n0.png,a\n"1.png"x,b\n', "a.csv, line 3 ("),
        (f'path,label\n0.png,a\n"1.png,{LONG}\n', "a.csv, line 3 ("),
        ("path,label\n0.png\n", "a.csv, line 2: ['0.png']"),
        ("path,label\n ,cat\n", "a.csv, line 2: "),
        ("path,label\na,b.png,cat\n", "a.csv, line 2: ['a', 'b.png', 'cat']"),
        ("path,label\n0\0.png,cat\n", "a.csv, line 2"),
        (table(["a"]).encode("utf-16"), "a.csv ("),
    ],
)
def test_refused_csv(root, content, hint):
    assert hint in refused(root, "a.csv", content)


@pytest.mark.parametrize(
    "content, hint",
    [
        ("0.png 0\n\n1\0.png 0\n", "a.txt, line 3: '1\\x00.png'"),
        (f"0.png {'1' * 5000}\n", "a.txt, line 1"),
        (f"0.png {LONG}\n", "a.txt, line 1"),
        ("0.png 0\n\n1.png 999999\n2.png 1\n", "a.txt, line 3: label 999999"),
        ("0.png 0\n1.png 5\n", "a.txt, line 2: label 5, of 2 different ones"),
    ],
)
def test_refused_text_lists(root, content, hint):
    assert hint in refused(root, "a.txt", content)


def test_ids_with_gaps(root):
    data = load(root, "a.txt", "0.png 3\n1.png 1\n")
    assert data.class_counts.tolist() == [0, 1, 0, 1]
    # The way in for others.
    data = load(root, "a.csv", table([999999, 2]))
    assert data.class_names == ("2", "999999")
    images = np.zeros((2, 4, 4, 1), np.uint8)
    with pytest.raises(ValueError, match="labels: label 999999"):
        datasets.from_arrays(images, [0, 999999])
    names = [str(name) for name in range(9)]
    assert datasets.from_arrays(images, [0, 8], names).num_classes == 9


def changed(change):
    content = coco(["cat", "dog", "cat"])
    change(content)
    return content


def annotate(image, category):
    return lambda c: c["annotations"].append(
        {"image_id": image, "category_id": category}
    )


def test_annotations_that_agree(root):
    def repeat(content):
        for entries in content.values():
            entries += entries[:2]

    data = load(root, "a.json", changed(repeat))
    assert data.class_names == ("cat", "dog")
    assert data.labels.tolist() == [0, 1, 0]
    # Boxes: several annotations of an image, of one category.
    data = load(root, "a.json", changed(annotate(100, 0)))
    assert data.labels.tolist() == [0, 1, 0]
    content = changed(
        lambda c: c["categories"].append({"id": 7, "name": "empty"})
    )
    assert load(root, "a.json", content).class_counts.tolist() == [2, 1, 0]


@pytest.mark.parametrize(
    "change, hint",
    [
        (annotate(100, 1), "1 that have several, such as image_id 100 with 0 "),
        (
            lambda c: c["categories"].append({"id": 1, "name": "cow"}),
            "1 that have several, such as id 1 with 'dog' and 'cow'",
        ),
        (
            lambda c: c["images"].append({"id": 101, "file_name": "9.png"}),
            "1 that have several, such as id 101 with '1.png' and '9.png'",
        ),
        (
            lambda c: c["categories"].append({"id": 7, "name": "dog "}),
            "1 repeated, such as 'dog'",
        ),
        (annotate(99, 1), "1 annotated images that are not listed, such as 99"),
        (annotate("100", 1), "images that are not listed, such as '100'"),
        (
            lambda c: c["annotations"].pop(1),
            "1 images without annotation, such as 101",
        ),
        (
            lambda c: c["categories"].pop(1),
            "1 categories that are not listed, such as 1",
        ),
        (
            lambda c: c["images"][1].update(file_name=5),
            "images[1]: 5",
        ),
        (lambda c: c["images"][1].update(file_name=None), "images[1]: {"),
        (lambda c: c["images"][1].update(file_name=""), "images[1]: ''"),
        (lambda c: c["images"][1].update(file_name="\0"), "images[1]: "),
        (lambda c: c["images"][1].update(file_name="\ud800"), "images[1]: "),
        (lambda c: c["images"][1].update(id=[1]), "images[1]: {"),
        (lambda c: c["images"][1].pop("id"), "images[1]: {"),
        (lambda c: c["categories"][1].update(name={}), "categories[1]: {"),
        (lambda c: c["categories"][1].update(name=None), "categories[1]: {"),
        (lambda c: c["categories"][1].update(name=True), "categories[1]: {"),
        (lambda c: c["annotations"].append(3), "annotations[3]: 3"),
        (lambda c: c.update(annotations={}), "without a list annotations"),
        (lambda c: c.pop("categories"), "without a list categories"),
        (lambda c: c["images"][1].update(more=LONG, id=None), "images[1]: {"),
    ],
)
def test_refused_json(root, change, hint):
    assert hint in refused(root, "a.json", changed(change))


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[" * 200_000,
        '{"images": ' * 100_000,
        "[]",
        '"text"',
        "{} {}",
        '{"images": ' + "1" * 5000 + "}",
        '{"images": []}'.encode("utf-16"),
    ],
)
def test_what_is_no_json_of_images(root, content):
    refused(root, "a.json", content)


def test_many_images_of_several_categories(root):
    """Such as boxes of COCO: the number, and one example."""
    content = coco(["cat", "dog"] * 5)
    content["annotations"] += [
        {**each, "category_id": 1 - each["category_id"]}
        for each in content["annotations"]
    ]
    assert "with 10 that have several" in refused(root, "a.json", content)


def test_lists_of_what_is_no_file(root):
    (root / "folder.png").mkdir()
    os.mkfifo(root / "fifo.png")
    (root / "link.png").symlink_to("fifo.png")
    for name in ("folder", "fifo", "link"):
        error = refused(root, "a.txt", f"0.png 0\n{name}.png 0\n")
        assert f"1 folders, devices and the like, such as '{root}" in error
    os.unlink(root / "fifo.png")


# What is scored or goes on compares names.


def test_names_of_a_run(tmp_path):
    model = tmp_path / "run" / "model.keras"
    weights = tmp_path / "run" / "checkpoints" / "stage2" / "a.weights.h5"
    weights.parent.mkdir(parents=True)
    for file in (model, weights):
        assert report.class_names_of(file) is None
    labels = tmp_path / "run" / "saved_model" / "labels.txt"
    labels.parent.mkdir()
    labels.write_text("a\nb\n")
    index = {"settings": {"class_names": ["c", "d"]}}
    (weights.parent / "checkpoint.json").write_text(json.dumps(index))
    assert report.class_names_of(model) == ["a", "b"]
    assert report.class_names_of(weights) == ["c", "d"]
    for content in ("[]", "{", "[" * 100_000, '{"settings": 3}'):
        (weights.parent / "checkpoint.json").write_text(content)
        with pytest.raises(ValueError, match=r"Expected an index.*json"):
            report.class_names_of(weights)


@pytest.mark.parametrize(
    "names, found",
    [
        (["1", "2", "10"], None),
        (["1", "10", "2"], r"1 is '10', not '2' \(the same names in another"),
        (["01", "2", "10"], r"0 is '01', not '1' \(only white space, zeros or"),
        (["1", "2", "11"], "class 2 is '11', not '10'"),
        (["1", "2"], "2 classes, not 3"),
    ],
)
def test_differences(names, found):
    got = classes.difference(names, ["1", "2", "10"])
    assert got is found is None or re.search(found, got)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "run"

    def save(model, path, *args, **kwargs):  # nothing here serves
        path.mkdir()

    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(export, "save", save)
        assert not recipe.run(monkeypatch, *TINY, f"--workdir={workdir}")
    return workdir


TINY = ("--dataset=digits", "--backbone=cifar_resnet(8)", "--max_steps=1")
OTHER_ORDER = [*"0123456789"]
OTHER_ORDER[1], OTHER_ORDER[7] = "7", "1"
ORDER_SAID = "class 1 is '7', not '1' (the same names in another order)"


def rename(file, place, change):
    """Gives the classes in a record or index of checkpoints other names."""
    content = json.loads(file.read_text())
    content[place]["class_names"] = change
    file.write_text(json.dumps(content))


@pytest.fixture
def other(run, tmp_path):
    """The run of somebody whose classes have another order."""
    workdir = tmp_path / "other"
    shutil.copytree(run, workdir)
    rename(workdir / "result.json", "data", OTHER_ORDER)
    index = workdir / "checkpoints" / "checkpoint.json"
    rename(index, "settings", OTHER_ORDER)
    return workdir


def said(monkeypatch, capsys, *arguments):
    code = recipe.run(monkeypatch, *TINY, *arguments)
    return code, capsys.readouterr().err.strip()


def test_runs_of_other_classes_are_not_scored(
    run, other, tmp_path, monkeypatch, capsys
):
    score = ("--eval_only",)
    assert said(monkeypatch, capsys, *score, f"--workdir={run}")[0] == 0
    (weights,) = (other / "checkpoints").glob("*.weights.h5")
    for place in (
        f"--workdir={other}",
        f"--checkpoint={other / 'model.keras'}",
        f"--checkpoint={weights}",
    ):
        code, error = said(monkeypatch, capsys, *score, place)
        assert code == 1 and "\n" not in error
        assert error.startswith("cifar_lt.py: error: Expected a --checkpoint ")
        assert error.endswith(ORDER_SAID)
    # Outside of a run nobody knows.
    alone = tmp_path / "model.keras"
    shutil.copy(other / "model.keras", alone)
    place = f"--checkpoint={alone}"
    assert said(monkeypatch, capsys, *score, place)[0] == 0
    rename(other / "result.json", "data", [*"abcdefghij"])
    code, error = said(monkeypatch, capsys, *score, f"--workdir={other}")
    assert code == 1 and error.endswith("class 0 is 'a', not '0'")


def test_runs_of_other_classes_do_not_go_on(other, monkeypatch, capsys):
    (other / "result.json").unlink()
    code, error = said(monkeypatch, capsys, f"--workdir={other}")
    assert code == 1 and "it is of class_names=['0', '7'" in error
    assert error.endswith("(the same in another order)")


def test_errors_of_the_recipe_are_short(root, monkeypatch, capsys):
    (root / "a.csv").write_text(f'path,label,more\n0.png,,"{LONG[:100_000]}"\n')
    workdir = f"--workdir={root / 'run'}"
    code, error = said(
        monkeypatch, capsys, f"--dataset=list:{root / 'a.csv'}", workdir
    )
    assert code == 1 and "a.csv, line 2" in error and len(error) < 1200

    def load(*args, **kwargs):
        raise ValueError(LONG)

    monkeypatch.setattr(datasets, "load", load)
    code, error = said(monkeypatch, capsys, f"--workdir={root / 'other'}")
    assert code == 1 and error.endswith("(200,000 characters)")
    assert len(error) < 1200


def test_features_of_other_classes_are_not_compared(run, other, monkeypatch):
    paths = [str(folder / "features.npz") for folder in (run, other)]
    monkeypatch.setattr(sys, "argv", ["", *paths])
    with pytest.raises(ValueError) as error:
        evaluate_features.main()
    assert str(error.value).endswith(ORDER_SAID)


def test_served_names_have_one_line_each():
    inputs = keras.Input((4, 4, 1))
    outputs = keras.layers.Dense(2)(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, outputs)
    with pytest.raises(ValueError, match=r"class_names\[1\]: 'a\\u2028b'"):
        export.save(model, "never", class_names=["a", "a\u2028b"])
