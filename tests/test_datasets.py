import io
import os
import urllib.error
import urllib.request
import weakref

import numpy as np
import pytest
import tensorflow as tf
from data import numbered, tfds_dir
from PIL import Image

from keras_lt import counts, datasets, streams


@pytest.fixture(scope="module")
def cifar10():
    path = tfds_dir()
    return {
        split: datasets.load("cifar10", split=split, data_dir=path)
        for split in ("train", "test")
    }


def identities(dataset):
    """Which images of `numbered` a subset holds, in its order."""
    return dataset.images[:, 0, 0, 0].astype(int).tolist()


# Digits.


def test_digits_are_fixed_stratified_and_disjoint():
    from sklearn.datasets import load_digits

    train = datasets.load("digits", split="train")
    test = datasets.load("digits", split="test")
    assert (len(train), len(test)) == (1347, 450)  # 3/4 and 1/4 of 1797
    assert train.images.dtype == np.uint8
    assert train.image_shape == (8, 8, 1)
    assert train.class_names == tuple("0123456789")
    assert (train.images.min(), train.images.max()) == (0, 255)
    # Together they are scikit-learn's, each image once and with its label.
    whole = load_digits()
    levels = np.round(whole.images * 255 / 16).astype(int).reshape(-1, 64)
    want = sorted(map(tuple, np.c_[levels, whole.target].tolist()))
    got = [
        np.c_[part.images.reshape(-1, 64), part.labels]
        for part in (train, test)
    ]
    assert sorted(map(tuple, np.concatenate(got).tolist())) == want
    # A stratified class count is the exact quarter, rounded.
    quarter = np.bincount(whole.target) / 4
    assert abs(test.class_counts - quarter).max() < 1
    again = datasets.load("digits", split="train")
    np.testing.assert_array_equal(again.images, train.images)
    np.testing.assert_array_equal(again.labels, train.labels)
    with pytest.raises(ValueError, match=r"test, train.*split='validation'"):
        datasets.load("digits", split="validation")


# Arrays.


def test_from_arrays():
    images = np.arange(16, dtype=np.uint8).reshape(4, 2, 2, 1)
    dataset = datasets.from_arrays(images, [0, 2, 2, 0])
    assert len(dataset) == 4
    assert dataset.num_classes == 3
    assert dataset.class_names == ("0", "1", "2")
    assert dataset.image_shape == (2, 2, 1)
    assert dataset.labels.dtype == dataset.class_counts.dtype == np.int64
    np.testing.assert_array_equal(dataset.class_counts, [2, 0, 2])
    part = dataset.subset([3, 1])
    np.testing.assert_array_equal(part.images, images[[3, 1]])
    np.testing.assert_array_equal(part.labels, [0, 2])
    assert part.class_names == dataset.class_names
    named = datasets.from_arrays(images, [0, 1, 1, 0], ["a", "b", "c"])
    np.testing.assert_array_equal(named.class_counts, [2, 2, 0])
    doubles = datasets.from_arrays(images.astype(np.float64), [0, 1, 1, 0])
    assert doubles.images.dtype == np.float32


GRAY = np.zeros((3, 2, 2, 1), np.uint8)
NAN = np.array([0, np.nan, np.inf], np.float32).reshape(3, 1, 1, 1)


@pytest.mark.parametrize(
    "images, labels, names, error, message",
    [
        (GRAY.astype(int), [0, 1, 0], None, TypeError, "images.dtype=int64"),
        (GRAY[..., 0], [0, 1, 0], None, ValueError, r"shape=\(3, 2, 2\)"),
        (GRAY[:0], [], None, ValueError, "at least one image"),
        (GRAY, [0, 1], None, ValueError, r"labels.shape=\(2,\)"),
        (GRAY, np.eye(3, dtype=int), None, ValueError, r"\(3, 3\)"),
        (GRAY, [0.0, 1.0, 0.0], None, TypeError, "labels.dtype=float64"),
        (GRAY, [0.0, np.nan, 0.0], None, TypeError, "labels.dtype=float64"),
        (GRAY, ["cat", "dog", "cat"], None, TypeError, "labels.dtype=<U3"),
        (GRAY, [0, -1, 0], None, ValueError, "labels from -1 to 0"),
        (GRAY, [0, 2, 0], ["a", "b"], ValueError, "0 to 1.*from 0 to 2"),
        (GRAY, [0, 1, 0], ["a", "a"], ValueError, "without repetition"),
        (NAN, [0, 1, 0], None, ValueError, "2 NaN or infinite"),
    ],
)
def test_from_arrays_refuses(images, labels, names, error, message):
    with pytest.raises(error, match=message):
        datasets.from_arrays(images, labels, names)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_channel_statistics(dtype):
    images = np.random.default_rng(0).integers(0, 256, (1500, 3, 2, 3))
    images[..., 1] = 7
    dataset = datasets.from_arrays(images.astype(dtype), [0] * 1500)
    mean, variance = dataset.channel_statistics()
    pixels = images.reshape(-1, 3)
    np.testing.assert_allclose(mean, pixels.mean(0), rtol=1e-12)
    np.testing.assert_allclose(variance, pixels.var(0), rtol=1e-9)
    assert variance[1] == 0
    assert all(type(value) is float for value in (*mean, *variance))


# Long tails.


@pytest.mark.parametrize("selection", ["nested", "ldam"])
@pytest.mark.parametrize("profile", ["exp", "step"])
def test_long_tail_counts_seed_and_nesting(profile, selection):
    dataset = numbered([40, 43, 50, 41])

    def cut(factor, seed=0):
        return datasets.long_tail(
            dataset, factor, profile=profile, seed=seed, selection=selection
        )

    before = set(range(len(dataset)))
    for factor in (1, 2, 10, 40):
        part = cut(factor)
        np.testing.assert_array_equal(
            part.class_counts,
            counts.long_tail_counts(4, 40, factor, profile),
        )
        chosen = identities(part)
        np.testing.assert_array_equal(dataset.labels[chosen], part.labels)
        assert len(set(chosen)) == len(chosen)
        assert set(chosen) <= before
        before = set(chosen)
        assert identities(cut(factor)) == chosen
        assert set(identities(cut(factor, seed=1))) != set(chosen)
        if selection == "nested":
            assert chosen == sorted(chosen)
    assert part.class_names == dataset.class_names


@pytest.mark.parametrize("selection", ["nested", "ldam"])
def test_images_that_a_cut_leaves_out(selection):
    dataset = numbered([40, 43, 50, 41])
    cut = datasets.long_tail(dataset, 4, selection=selection)
    train, test = datasets.long_tail_split(dataset, 4, selection=selection)
    assert test.class_counts.tolist() == [4, 4, 4, 4]
    # The cut leaves none of class 0 out, and enough of all others.
    expected = cut.class_counts - [4, 0, 0, 0]
    np.testing.assert_array_equal(train.class_counts, expected)
    trained, tested = identities(train), identities(test)
    lost = {i for i in identities(cut) if dataset.labels[i] == 0} - {*trained}
    assert {*trained} == {*identities(cut)} - lost and lost <= {*tested}
    assert [i for i in identities(cut) if i not in lost] == [*trained]
    assert not {*trained} & {*tested} and len({*tested}) == 16
    other = datasets.long_tail_split(dataset, 4, seed=1, selection=selection)
    assert {*identities(other[1])} != {*tested}
    for fraction in (0, 0.01, 0.99, 1.5, -0.1):
        with pytest.raises(ValueError, match="of 40 images of the smallest"):
            datasets.long_tail_split(dataset, 4, fraction)


def test_long_tail_step_profile():
    part = datasets.long_tail(numbered([30] * 5), 10, profile="step")
    assert part.class_counts.tolist() == [30, 30, 3, 3, 3]


def test_long_tail_may_empty_classes():
    part = datasets.long_tail(numbered([10] * 3), 100)
    assert part.class_counts.tolist() == [10, 1, 0]  # 10, 1, 0.1
    assert part.num_classes == 3


def test_long_tail_draws_evenly():
    # Of 20 images 5 stay: each has 1/4 over seeds, 400 of them; standard
    # error sqrt(3/16 / 400).
    dataset = numbered([20, 20])
    kept = np.zeros(40)
    for seed in range(400):
        part = datasets.long_tail(dataset, 4, profile="step", seed=seed)
        kept[identities(part)] += 1
    share = kept[dataset.labels == 1] / 400
    assert abs(share - 1 / 4).max() < 4 * (3 / 16 / 400) ** 0.5


def test_long_tail_ldam_is_the_selection_of_the_ldam_code():
    dataset = numbered([20] * 4)
    wanted = counts.long_tail_counts(4, 20, 10)
    for seed in (0, 3):
        part = datasets.long_tail(dataset, 10, seed=seed, selection="ldam")
        want = counts.ldam_selection(dataset.labels, wanted, seed)
        assert identities(part) == want.tolist()


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"imbalance_factor": 0.5}, "imbalance_factor=0.5"),
        ({"imbalance_factor": float("nan")}, "imbalance_factor=nan"),
        ({"profile": "linear"}, "profile='linear'"),
        ({"selection": "random"}, "selection='random'"),
    ],
)
def test_long_tail_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        arguments = {"imbalance_factor": 2} | arguments
        datasets.long_tail(numbered([5, 5]), **arguments)


def test_long_tail_needs_images_in_every_class():
    with pytest.raises(ValueError, match=r"every class.*\[5, 0, 5\]"):
        datasets.long_tail(numbered([5, 0, 5]), 2)


# Hold-out.


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.5, 0.99])
def test_holdout_is_stratified_and_disjoint(fraction):
    dataset = numbered([100, 25, 5, 2, 1, 0])
    train, held_out = datasets.holdout(dataset, fraction, seed=2)
    for part in (train, held_out):
        chosen = identities(part)
        assert chosen == sorted(chosen)
        np.testing.assert_array_equal(dataset.labels[chosen], part.labels)
        assert part.class_names == dataset.class_names
    both = identities(train) + identities(held_out)
    assert sorted(both) == list(range(len(dataset)))
    want = np.array([100, 25, 5, 2, 1, 0])
    want = np.minimum(np.floor(want * fraction + 0.5), np.maximum(want - 1, 0))
    np.testing.assert_array_equal(held_out.class_counts, want)
    assert train.class_counts[:5].min() >= 1


def test_holdout_depends_on_its_seed():
    dataset = numbered([50, 20])
    chosen = [
        identities(datasets.holdout(dataset, 0.2, seed)[1])
        for seed in (0, 0, 1)
    ]
    assert chosen[0] == chosen[1] != chosen[2]


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan"), 0.001])
def test_holdout_refuses(fraction):
    with pytest.raises(ValueError, match=f"fraction={fraction}"):
        datasets.holdout(numbered([50, 20]), fraction)


# TFDS: the real CIFAR-10, and small ones made here.


def test_cifar10(cifar10):
    for split, each in (("train", 5000), ("test", 1000)):
        dataset = cifar10[split]
        assert dataset.images.shape == (10 * each, 32, 32, 3)
        assert dataset.images.dtype == np.uint8
        assert dataset.class_counts.tolist() == [each] * 10
    assert cifar10["train"].class_names == (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    )
    # The published mean of the training images, over 255.
    mean, variance = cifar10["train"].channel_statistics()
    np.testing.assert_allclose(
        np.array(mean) / 255, [0.4914, 0.4822, 0.4465], atol=5e-5
    )
    np.testing.assert_allclose(
        np.sqrt(variance) / 255, [0.2470, 0.2435, 0.2616], atol=5e-5
    )


def test_cifar10_is_in_the_order_of_its_ids(cifar10):
    import tensorflow_datasets as tfds

    examples = tfds.load("cifar10", split="test", data_dir=tfds_dir())
    examples = list(examples.as_numpy_iterator())
    ids = [example["id"] for example in examples]
    assert ids != sorted(ids)
    examples.sort(key=lambda example: example["id"])
    labels = [example["label"] for example in examples]
    np.testing.assert_array_equal(cifar10["test"].labels, labels)
    for number in (0, 1, 4321, 9999):
        np.testing.assert_array_equal(
            cifar10["test"].images[number], examples[number]["image"]
        )


@pytest.mark.parametrize("selection", ["nested", "ldam"])
def test_cifar10_long_tails_have_the_published_sizes(cifar10, selection):
    sizes = [
        len(datasets.long_tail(cifar10["train"], factor, selection=selection))
        for factor in (100, 50)
    ]
    assert sizes == [12_406, 13_996]


def test_unknown_split_of_cifar10():
    for split in ("validation", "train[:10%]"):
        with pytest.raises(ValueError, match=r"test, train.*split="):
            datasets.load("cifar10", split=split, data_dir=tfds_dir())


def store(path, dataset_name, features, examples, file_format=None):
    import tensorflow_datasets as tfds

    class Small(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        name = dataset_name
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self,
                features=tfds.features.FeaturesDict(features),
                supervised_keys=("image", "label"),
            )

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples()}

        def _generate_examples(self):
            yield from enumerate(examples)

    Small(data_dir=path, file_format=file_format).download_and_prepare()


def small_features(image_shape=(4, 4, 3), label=None):
    import tensorflow_datasets as tfds

    return {
        "image": tfds.features.Image(shape=image_shape),
        "label": label or tfds.features.ClassLabel(names=["cat", "dog"]),
    }


def small_examples(shapes):
    generator = np.random.default_rng(0)
    return [
        {
            "image": generator.integers(0, 256, shape, dtype=np.uint8),
            "label": number % 2,
        }
        for number, shape in enumerate(shapes)
    ]


def test_own_tfds_data(tmp_path):
    import tensorflow_datasets as tfds

    # Ids that do not come in order: the data set is put in theirs.
    examples = small_examples([(4, 4, 3)] * 20)
    places = np.random.default_rng(1).permutation(20)
    for place, example in zip(places, examples, strict=True):
        example["id"] = f"image_{place:02d}"
    # Nor do the names of the classes.
    label = tfds.features.ClassLabel(names=["10", "9"])
    features = small_features(label=label) | {"id": tfds.features.Text()}
    store(tmp_path, "small_pets", features, examples)
    dataset = datasets.load("small_pets", split="train", data_dir=tmp_path)
    assert dataset.class_names == ("9", "10")
    order = np.argsort(places)
    np.testing.assert_array_equal(
        dataset.images, [examples[number]["image"] for number in order]
    )
    np.testing.assert_array_equal(dataset.labels, 1 - order % 2)


def test_readers_share_the_images(monkeypatch):
    images = np.arange(48, dtype=np.uint8).reshape(12, 2, 2, 1)
    kept = weakref.ref(images)
    data = datasets.from_arrays(images, np.arange(12) % 2)
    want = images[[7, 3]].copy()
    del images
    tensors = []
    constant = tf.constant

    def counted(value, *arguments, **named):
        made = constant(value, *arguments, **named)
        tensors.extend([made] * (made.shape.rank == 4))
        return made

    monkeypatch.setattr(tf, "constant", counted)
    for sampling in ("random", "class_balanced"):
        batches = streams.stream(data, sampling=sampling, batch_size=2, seed=0)
        next(iter(batches))
        # To rewrite a pipeline TensorFlow copies what it has captured.
        rewriting = batches.options().experimental_optimization
        assert rewriting.apply_default_optimizations is False
    next(iter(streams.evaluation(data, 2)))
    read = data.batch_reader()
    np.testing.assert_array_equal(read(tf.constant([7, 3])), want)
    np.testing.assert_array_equal(data.images[[7, 3]], want)
    # One tensor is all that holds them.
    assert len(tensors) == 1 and kept() is None
    assert np.shares_memory(data.images, memoryview(tensors[0]))
    part = data.subset([3, 7])
    np.testing.assert_array_equal(part.images, want[::-1])
    with pytest.raises(ValueError, match="read-only"):
        data.images[0] = 0  # streams would show it, or not


def test_readers_that_are_made_in_graphs_share_the_images():
    images = np.arange(4, dtype=np.uint8).reshape(4, 1, 1, 1)
    data = datasets.from_arrays(images, [0] * 4)

    @tf.function
    def read(indices):
        return data.batch_reader()(indices)

    assert read(tf.constant([2, 1])).numpy().ravel().tolist() == [2, 1]
    (image,) = data.batch_reader()(tf.constant([3])).numpy().ravel()
    assert image == 3


def test_data_larger_than_memory_needs_array_records(tmp_path, monkeypatch):
    store(
        tmp_path, "small_big", small_features(), small_examples([(4, 4, 3)] * 4)
    )
    # Half of it holds all pixels twice.
    sizes = {"SC_PHYS_PAGES": 1, "SC_PAGE_SIZE": 2 * 2 * 4 * 4 * 4 * 3}
    monkeypatch.setattr(os, "sysconf", sizes.get)
    assert (
        len(datasets.load("small_big", split="train", data_dir=tmp_path)) == 4
    )
    sizes["SC_PAGE_SIZE"] -= 1
    with pytest.raises(ValueError, match=r"fit into memory.*tfrecord files"):
        datasets.load("small_big", split="train", data_dir=tmp_path)


def test_images_of_several_sizes_need_array_records(tmp_path):
    store(
        tmp_path,
        "small_mixed",
        small_features((None, None, 3)),
        small_examples([(4, 4, 3), (5, 4, 3)]),
    )
    message = (
        "tfds build small_mixed --file_format=array_record.*Received: tfrecord "
        f"files in {tmp_path}"
    )
    with pytest.raises(ValueError, match=message):
        datasets.load("small_mixed", split="train", data_dir=tmp_path)


def test_array_records_are_read_by_index(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    label = tfds.features.ClassLabel(names=["dog", "cat"])
    shapes = [(8 + number, 12, 3) for number in range(7)]
    examples = small_examples(shapes)
    store(
        tmp_path,
        "small_records",
        small_features((None, None, 3), label),
        examples,
        file_format="array_record",
    )

    def load(**arguments):
        return datasets.load(
            "small_records",
            split="train",
            data_dir=tmp_path,
            image_size=6,
            **arguments,
        )

    data = load()
    assert data.image_shape == (6, 6, 3)
    assert data.class_names == ("cat", "dog")
    assert data.class_counts.tolist() == [3, 4]
    found = {}
    for index in range(7):
        with Image.open(io.BytesIO(data.source.read(index))) as image:
            found[image.size[::-1]] = np.asarray(image), data.labels[index]
    for example in examples:  # TFDS shuffles them, and their sizes differ
        image, label = found[example["image"].shape[:2]]
        np.testing.assert_array_equal(image, example["image"])
        assert label == 1 - example["label"]
    want = [datasets.decode(data.source.read(index), 6) for index in range(7)]
    np.testing.assert_array_equal(data.images[:], want)
    assert data.name(3) == "small_records/train[3]"
    # Labels are read once: a second start finds them beside the files.
    (kept,) = tmp_path.rglob("keras_lt_labels_train.npy")
    np.testing.assert_array_equal(np.load(kept), 1 - data.labels)
    np.save(kept, data.labels)
    np.testing.assert_array_equal(load().labels, 1 - data.labels)
    # Those that were read from other files, or are damaged, are read anew.
    content = kept.read_bytes()
    for damaged in (content[:-8], b"", b"no array"):
        kept.write_bytes(damaged)
        np.testing.assert_array_equal(load().labels, data.labels)
    np.save(kept, 1 - data.labels)
    (records,) = (p for p in tmp_path.rglob("*array_record*") if p.is_file())
    os.utime(records, ns=(1, 1))
    np.testing.assert_array_equal(load().labels, data.labels)
    with pytest.raises(ValueError, match=r"train.*split='test'"):
        datasets.load("small_records", split="test", data_dir=tmp_path)


def test_labels_that_are_no_classes_are_refused(tmp_path):
    store(
        tmp_path,
        "small_depths",
        small_features(label=np.float32),
        small_examples([(4, 4, 3)] * 2),
    )
    with pytest.raises(ValueError, match=r"class label.*name='small_depths'"):
        datasets.load("small_depths", split="train", data_dir=tmp_path)


@pytest.mark.parametrize(
    "name", ["no_such_set", "Bad Name!", "", "cifar10/x", "cifar10:9.9.9"]
)
def test_unknown_names_are_refused(name, tmp_path):
    with pytest.raises(ValueError, match=f"TFDS data set.*name='{name}'"):
        datasets.load(name, split="train", data_dir=str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_missing_data_dir_is_refused(tmp_path):
    path = str(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=f"data_dir='{path}'"):
        datasets.load("cifar10", split="train", data_dir=path)


def test_data_dir_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "tfds").symlink_to(tfds_dir())
    test = datasets.load("cifar10", split="test", data_dir="~/tfds")
    assert len(test) == 10_000


def test_what_is_not_prepared_and_out_of_reach_is_refused(
    tmp_path, monkeypatch
):
    def offline(request, **_):
        raise urllib.error.URLError(f"no way to {request.full_url}")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    with pytest.raises(FileNotFoundError, match=r"cifar100.*no way to http"):
        datasets.load("cifar100", split="train", data_dir=str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_what_can_not_be_used_is_not_downloaded(tmp_path, monkeypatch):
    import tensorflow_datasets as tfds

    def download(*_, **__):
        raise AssertionError

    monkeypatch.setattr(
        tfds.core.DatasetBuilder, "download_and_prepare", download
    )
    for name in ("imdb_reviews", "coco"):
        with pytest.raises(ValueError, match=f"class label.*name='{name}'"):
            datasets.load(name, split="train", data_dir=str(tmp_path))
    for name in ("imagenet_lt", "i_naturalist2018"):
        message = f"{name}.*tfds build {name} --file_format=array_record"
        with pytest.raises(FileNotFoundError, match=message):
            datasets.load(name, split="train", data_dir=str(tmp_path))
