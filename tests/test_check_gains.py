"""tools/check_gains.py adds images that help, and measures that."""

import check_gains
import numpy as np
import pytest

from keras_lt import features

COUNTS = [300, 150, 80, 40, 24, 14, 6]


def sample(counts, seed):
    """Normal features of classes that are apart in all directions alike."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    x = generator.normal(size=(len(labels), 20))
    x[np.arange(len(labels)), labels] += 2.5
    return features.Features(x.astype("float32"), labels)


@pytest.fixture(scope="module")
def sets():
    return sample(COUNTS, 0), sample([200] * len(COUNTS), 1)


def test_images_are_laid_aside_and_added(sets):
    sizes, promised, measured = check_gains.one_draw(
        *sets, 10, np.random.default_rng(0)
    )
    # All but ten of a class, and half of one with less than twenty.
    assert sizes.tolist() == [290, 140, 70, 30, 14, 7, 3]
    able = [True] * 5 + [False] * 2
    np.testing.assert_array_equal(~np.isnan(measured), able)
    np.testing.assert_array_equal(~np.isnan(promised), able)
    # A mean of 24 images is nearer to the true one than that of 14.
    assert measured[4] > abs(measured[0])
    assert promised[4] > promised[0]


def test_tool_prints_a_row_per_group(sets, tmp_path, monkeypatch, capsys):
    paths = [tmp_path / name for name in ("train.npz", "test.npz")]
    for path, each in zip(paths, sets, strict=True):
        features.save(path, each)
    argv = ["check_gains.py", *map(str, paths), "--draws=2"]
    monkeypatch.setattr("sys.argv", argv)
    check_gains.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:-1]] == [
        "many (2)",
        "medium (2)",
        "few (1)",
        "all (5)",
    ]
    assert lines[-1].startswith("Correlation over classes: ")
    monkeypatch.setattr("sys.argv", [*argv, "--more=400"])
    with pytest.raises(ValueError, match="Expected classes of more than 400"):
        check_gains.main()
