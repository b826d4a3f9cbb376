"""Images in files: decoding, data sets, streams of them, folders and lists."""

import csv
import io
import json
import os
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from pictures import BAD, COUNTS, KINDS, convert, digits_of, write_folder
from PIL import Image

from keras_lt import datasets, preprocessing, report, seeding, streams
from keras_lt.datasets.decoding import CROP_DRAWS, random_box


def encode(image, kind, **arguments):
    file = io.BytesIO()
    image.save(file, kind, **arguments)
    return file.getvalue()


def photograph(height=60, width=90):
    """A smooth picture whose place can be told from its colors."""
    y, x = np.mgrid[:height, :width]
    levels = [255 * y / height, 255 * x / width, 255 * (x + y) / (x + y).max()]
    return Image.fromarray(np.stack(levels, -1).astype(np.uint8))


# Decoding.


@pytest.mark.parametrize(
    "height, width",
    [(32, 32), (60, 90), (33, 32), (16, 16), (32, 40), (9, 50), (2, 1)],
)
def test_evaluation_of_files_is_that_of_saved_models(height, width):
    noise = np.random.default_rng(0).integers(0, 60, (height, width, 3))
    pixels = np.asarray(photograph(height, width)) // 2 + noise.astype("uint8")
    got = datasets.decode(encode(Image.fromarray(pixels), "png"), 32)
    served = preprocessing.resize_and_crop(pixels[None], (32, 32)).numpy()
    assert got.shape == (32, 32, 3)
    assert abs(got.astype(int) - served[0]).max() <= 1
    if (height, width) == (32, 32):
        np.testing.assert_array_equal(got, pixels)
        np.testing.assert_array_equal(served[0], pixels)
        small = np.zeros(CROP_DRAWS)  # 0.08 of the area
        cropped = datasets.decode(
            encode(Image.fromarray(pixels), "png"), 32, small
        )
        assert (cropped != got).any()  # training crops all the same


@pytest.mark.parametrize("height, width", [(60, 90), (33, 16), (9, 50)])
def test_whole_images_of_files_are_those_of_saved_models(height, width):
    pixels = np.asarray(photograph(height, width))
    content = encode(Image.fromarray(pixels), "png")
    got = datasets.decode(content, 32, framing="whole")
    wanted = Image.fromarray(pixels).resize((32, 32), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(got, wanted)
    served = preprocessing.resize_and_crop(pixels[None], (32, 32), "whole")
    assert abs(got.astype(int) - served.numpy()[0]).max() <= 1
    with pytest.raises(ValueError, match="Received: framing='half'"):
        datasets.decode(content, 32, framing="half")


def test_data_sets_at_another_size(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        photograph(30, 40 + ord(name)).save(tmp_path / name / "1.png")
    images = datasets.load(
        f"folder:{tmp_path}", split="train", image_size=8, test_fraction=0
    )
    other = images.subset([1, 0]).at_size(12, "whole")
    path = other.name(0)
    with open(path, "rb") as file:
        wanted = datasets.decode(file.read(), 12, framing="whole")
    np.testing.assert_array_equal(other.images[0], wanted)
    assert images.framing == "center" and images.images[0].shape == (8, 8, 3)
    assert images.at_size(12).subset([0]).framing == "center"
    with pytest.raises(ValueError, match="image_size=0"):
        images.at_size(0)


def test_jpegs_of_the_size_are_left_as_they_are():
    exif = Image.Exif()
    exif[0x0112] = 6
    content = encode(photograph(24, 24), "jpeg", exif=exif)
    stored = np.asarray(Image.open(io.BytesIO(content)))
    want = stored.transpose(1, 0, 2)[:, ::-1]
    np.testing.assert_array_equal(datasets.decode(content, 24), want)
    np.testing.assert_array_equal(datasets.read_image(content), want)


@pytest.mark.parametrize("suffix, mode", KINDS)
def test_modes_become_rgb(suffix, mode):
    (levels,) = digits_of(3, 1)
    kind = {"jpg": "jpeg", "tif": "tiff"}.get(suffix.lower(), suffix)
    got = datasets.decode(encode(convert(levels, mode), kind), 20)
    want = datasets.decode(encode(Image.fromarray(levels), "png"), 20)
    assert got.dtype == np.uint8 and got.shape == (20, 20, 3)
    if mode == "1":  # black and white, dithered
        want = datasets.decode(encode(convert(levels, mode), "png"), 20)
        np.testing.assert_array_equal(got, want)
        return
    bound = {"png": 1, "bmp": 0, "tif": 1, "gif": 0}.get(suffix, 40)
    error = abs(got.astype(int) - want.astype(int))
    assert error.max() <= bound and error.mean() < 8


@pytest.mark.parametrize("suffix, mode", KINDS)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_as_they_are_with_the_channels_asked_for(suffix, mode, channels):
    (levels,) = digits_of(3, 1)
    kind = {"jpg": "jpeg", "tif": "tiff"}.get(suffix.lower(), suffix)
    image = convert(levels, mode)
    got = datasets.read_image(encode(image, kind), channels)
    assert got.dtype == np.uint8 and got.shape == (*levels.shape, channels)
    if mode == "1":
        levels = np.asarray(image.convert("L"))
    error = abs(got[..., :3].astype(int) - levels[..., None])
    assert error.max() <= {"png": 1, "bmp": 0, "tif": 1}.get(suffix, 40)
    assert error.mean() < 8
    assert channels < 4 or (got[..., 3] == 255).all()


def test_transparency_is_an_own_channel_or_dropped():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 4), "uint8")
    content = encode(Image.fromarray(pixels), "png")
    np.testing.assert_array_equal(datasets.read_image(content, 4), pixels)
    rgb = datasets.read_image(content)
    np.testing.assert_array_equal(rgb, pixels[..., :3])
    with pytest.raises(ValueError, match="Expected 1, 3 or 4"):
        datasets.read_image(content, 2)


def test_of_16_bits_the_high_byte_stays():
    levels = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    for kind in ("png", "tiff"):
        image = datasets.decode(encode(Image.fromarray(levels), kind), 64)
        high = Image.fromarray((levels >> 8).astype(np.uint8))
        want = datasets.decode(encode(high, "png"), 64)
        np.testing.assert_array_equal(image, want)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(orientation):
    upright = photograph()
    # How a camera stores the picture, by the EXIF standard.
    stored = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: a.transpose(1, 0, 2)[::-1],
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: a.transpose(1, 0, 2)[:, ::-1],
    }[orientation](np.asarray(upright))
    exif = Image.Exif()
    exif[0x0112] = orientation
    want = datasets.decode(encode(upright, "png"), 16)
    draws = np.full(CROP_DRAWS, 0.3)
    cropped = datasets.decode(encode(upright, "png"), 16, draws)
    assert (want != cropped).any()
    for kind, bound in (("png", 0), ("jpeg", 6)):
        content = encode(Image.fromarray(stored), kind, exif=exif)
        got = datasets.decode(content, 16).astype(int)
        assert abs(got - want).max() <= bound
        got = datasets.decode(content, 16, draws).astype(int)
        assert abs(got - cropped).max() <= bound


def test_large_jpegs_are_decoded_small():
    content = encode(photograph(600, 900), "jpeg", quality=95)
    whole = np.asarray(Image.open(io.BytesIO(content)))
    want = datasets.decode(encode(Image.fromarray(whole), "png"), 32)
    got = datasets.decode(content, 32)
    assert abs(got.astype(int) - want).max() <= 3
    draws = np.full(CROP_DRAWS, 0.4)
    want = datasets.decode(encode(Image.fromarray(whole), "png"), 32, draws)
    got = datasets.decode(content, 32, draws)
    assert abs(got.astype(int) - want).max() <= 3


def test_random_boxes_have_the_smallest_area_that_is_asked_for():
    draws = np.random.default_rng(0).random((500, *CROP_DRAWS))
    boxes = np.array([random_box(300, 300, each, 0.4) for each in draws])
    left, top, right, bottom = boxes.T
    area = (right - left) * (bottom - top) / 300**2
    assert 0.39 < area.min() < 0.42 and area.max() > 0.95


def test_random_boxes_follow_their_distribution():
    draws = np.random.default_rng(0).random((4000, *CROP_DRAWS))
    boxes = np.array([random_box(300, 300, each) for each in draws])
    left, top, right, bottom = boxes.T
    assert boxes.min() >= 0 and boxes.max() <= 300
    width, height = right - left, bottom - top
    area = width * height / 300**2
    ratio = np.log(width / height)
    assert abs(ratio).max() < np.log(4 / 3) + 0.03
    # Of a square most areas fit: below 3/4 all do, at any ratio.
    assert 0.075 < area.min() < 0.09 and area.max() > 0.95
    small = area[area < 0.7]
    assert abs(np.mean(small < 0.39) - 0.5) < 4 * (0.25 / len(small)) ** 0.5
    assert abs(ratio.mean()) < 4 * ratio.std() / 4000**0.5
    # Places are uniform: of the free margin half is left of the crop.
    free = 300 - width
    share = left[free > 20] / free[free > 20]
    assert abs(share.mean() - 0.5) < 4 * (1 / 12 / len(share)) ** 0.5 + 0.01


def test_random_boxes_of_whole_images_have_about_their_ratio():
    draws = np.random.default_rng(0).random((500, *CROP_DRAWS))
    boxes = np.array([random_box(300, 60, each, 0.4, True) for each in draws])
    left, top, right, bottom = boxes.T
    assert boxes.min() >= 0 and right.max() <= 300 and bottom.max() <= 60
    ratio = np.log((right - left) / (bottom - top) / 5)
    assert abs(ratio).max() < np.log(4 / 3) + 0.03
    area = (right - left) * (bottom - top) / (300 * 60)
    assert 0.39 < area.min() < 0.42 and area.max() > 0.95


def test_random_box_of_a_strip_is_central():
    draws = np.random.default_rng(0).random(CROP_DRAWS)
    draws[:, 0] = 0.99  # nothing that large fits
    assert random_box(300, 30, draws) == (130, 0, 170, 30)  # 4/3
    assert random_box(30, 300, draws) == (0, 130, 30, 170)  # 3/4


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no picture",
        encode(photograph(), "jpeg")[:-100],
        encode(photograph(), "png")[:200],
        encode(Image.fromarray(np.zeros((8, 8), np.float32)), "tiff"),
    ],
)
def test_damaged_files_are_bad_images(content):
    for decode in (datasets.decode, datasets.read_image):
        with pytest.raises(datasets.BadImageError):
            decode(content, 1)


# Data sets of files.


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("digits"))


@pytest.fixture(scope="module")
def clean(folder, tmp_path_factory):
    """The same without the damaged files."""
    root = tmp_path_factory.mktemp("clean") / "digits"
    shutil.copytree(folder, root)
    for name in BAD:
        (root / "train" / name).unlink()
    return root


def load(root, split="train", **arguments):
    arguments = {"image_size": 16} | arguments
    return datasets.load(f"folder:{root}", split=split, **arguments)


def test_surface_of_a_data_set_of_files(clean):
    data = load(clean)
    # In sorted order; "five" is empty.
    assert data.class_names == ("five", "four", "one", "three", "two")
    assert data.class_counts.tolist() == [0, 5, 38, 9, 19]
    assert len(data) == 71 and data.num_classes == 5
    assert data.image_shape == (16, 16, 3)
    assert data.images.shape == (71, 16, 16, 3) and len(data.images) == 71
    assert data.name(0) == f"{clean}/train/four/000.png"
    content = (clean / "train" / "four" / "003.jpg").read_bytes()
    want = datasets.decode(content, 16)
    np.testing.assert_array_equal(data.images[3], want)
    np.testing.assert_array_equal(data.images[2:5][1], want)
    np.testing.assert_array_equal(data.images[[7, 3]][1], want)
    part = data.subset([70, 3])
    assert part.name(1) == data.name(3)
    np.testing.assert_array_equal(part.images[1], want)
    np.testing.assert_array_equal(part.labels, [4, 1])
    part = data.subset(data.labels == 1).subset(slice(3, 4))
    np.testing.assert_array_equal(part.images[:], [want])
    assert part.class_counts.tolist() == [0, 1, 0, 0, 0]


def test_channel_statistics_are_those_of_the_images(clean, monkeypatch):
    data = load(clean)
    mean, variance = data.channel_statistics()
    pixels = data.images[:].reshape(-1, 3)
    np.testing.assert_allclose(mean, pixels.mean(0))
    np.testing.assert_allclose(variance, pixels.var(0))
    monkeypatch.setattr(datasets.files, "_STATISTICS_IMAGES", 10)
    sample = data.channel_statistics()
    assert sample == data.channel_statistics() != (mean, variance)
    np.testing.assert_allclose(sample[0], mean, atol=40)


def test_subsets_and_hold_outs(clean):
    data = load(clean)
    train, held_out = datasets.holdout(data, 0.2)
    assert len(train) + len(held_out) == 71
    names = {
        part.name(index)
        for part in (train, held_out)
        for index in range(len(part))
    }
    assert len(names) == 71
    without_five = datasets.FileDataset(
        data.source, data.labels - 1, data.class_names[1:]
    )
    cut = datasets.long_tail(without_five, 5)
    assert cut.class_counts.tolist() == [5, 2, 1, 1]  # 5, 2.9, 1.7, 1


def flat(batches, count):
    parts = zip(*batches.take(count).as_numpy_iterator(), strict=True)
    return [np.concatenate(part) for part in parts]


def cropped(data, batch_size=8, **arguments):
    return streams.stream(
        data,
        sampling="class_balanced",
        batch_size=batch_size,
        seed=3,
        random_resized_crop=True,
        **arguments,
    )


def test_stream_is_the_direct_decode(clean):
    data = load(clean)

    def tell(images, labels, indices, seeds):
        return images, labels, indices

    batches = streams.stream(
        data, sampling="random", batch_size=71, seed=0, transform=tell
    )
    images, labels, indices = flat(batches, 1)
    assert sorted(indices) == list(range(71))
    np.testing.assert_array_equal(images, data.images[indices])
    np.testing.assert_array_equal(labels, data.labels[indices])
    # Crops are those of the seeds of positions, from the original files.
    images, labels, indices = flat(cropped(data, transform=tell), 2)
    key = seeding.key_from_seed(3, "class_balanced/crop")
    seeds = seeding.fold_in(key, tf.range(16, dtype=tf.int64))
    draws = seeding.uniform(seeds, 40).numpy().reshape(16, *CROP_DRAWS)
    for image, index, draw in zip(images, indices, draws, strict=True):
        with open(data.name(index), "rb") as file:
            want = datasets.decode(file.read(), 16, draw)
        np.testing.assert_array_equal(image, want)
    assert (images != data.images[indices]).any()
    assert cropped(data).element_spec[0].shape == (8, 16, 16, 3)


def test_views_are_crops_of_their_own_of_the_file(clean, monkeypatch):
    data = load(clean)
    decoded = []

    def decode(content, size, *crop, **limit):
        decoded.append(crop)
        return datasets.decode(content, size, *crop, **limit)

    monkeypatch.setattr(datasets.files, "decode", decode)
    two_views = preprocessing.two_views(
        lambda images, seeds: images, data.batch_reader(True, 0.6)
    )

    def tell(images, labels, indices, seeds):
        views, labels = two_views(images, labels, indices, seeds)
        return *views, labels, indices, seeds

    batches = streams.stream(
        data, sampling="random", batch_size=8, seed=0, transform=tell
    )
    *views, labels, indices, seeds = flat(batches, 2)
    np.testing.assert_array_equal(labels, data.labels[indices])
    for number, view in enumerate(views):
        draws = seeding.uniform(seeding.fold_in(seeds, 2 + number), 40).numpy()
        for image, index, draw in zip(view, indices, draws, strict=True):
            with open(data.name(index), "rb") as file:
                want = datasets.decode(
                    file.read(), 16, draw.reshape(CROP_DRAWS), 0.6
                )
            np.testing.assert_array_equal(image, want)
    # Nobody decodes the centers, which no view shows.
    assert len(decoded) >= 32 and all(decoded)


def test_area_of_crops_is_checked(clean):
    with pytest.raises(ValueError, match=r"Expected min_area .* min_area=0"):
        load(clean).batch_reader(True, 0)


def test_positions_depend_on_nothing_else(clean):
    data = load(clean)
    flips = preprocessing.pad_crop_flip(0)
    want = flat(cropped(data, transform=flips), 6)
    for batch_size in (4, 16):
        got = flat(cropped(data, batch_size, transform=flips), 48 // batch_size)
        for a, b in zip(got, want, strict=True):
            np.testing.assert_array_equal(a, b)
    halves = [
        flat(cropped(data, transform=flips, shard=(part, 2), start_step=2), 4)
        for part in (0, 1)
    ]
    for a, b, whole in zip(*halves, want, strict=True):
        a, b = (part.reshape(4, 4, -1) for part in (a, b))
        whole = whole.reshape(6, 8, -1)[2:]
        np.testing.assert_array_equal(np.concatenate([a, b], 1), whole)


def test_evaluation_and_pairs(clean):
    data = load(clean, "test")
    images, labels = flat(streams.evaluation(data, 5), 4)
    assert len(images) == len(data) == 17
    np.testing.assert_array_equal(images, data.images[:])
    np.testing.assert_array_equal(labels, data.labels)
    crops, _ = flat(streams.evaluation(data, 5, random_resized_crop=True), 4)
    again, _ = flat(streams.evaluation(data, 7, random_resized_crop=True), 3)
    np.testing.assert_array_equal(crops, again)
    assert (crops != images).any()
    first, second = next(iter(streams.pairs(data, batch_size=6, seed=0)))
    assert first[0].shape == second[0].shape == (6, 16, 16, 3)
    assert (first[1] != second[1]).numpy().all()


def test_images_in_memory_are_not_cropped():
    data = datasets.from_arrays(np.zeros((2, 4, 4, 1), np.uint8), [0, 1])
    with pytest.raises(ValueError, match=r"data set of files.*in memory"):
        streams.stream(
            data,
            sampling="random",
            batch_size=2,
            seed=0,
            random_resized_crop=True,
        )


def test_fit_and_selection_page(clean, tmp_path):
    data = load(clean)
    model = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            keras.layers.Flatten(),
            keras.layers.Dense(5),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss)
    model.fit(cropped(data), steps_per_epoch=2, shuffle=False, verbose=0)
    report.write_selection(
        tmp_path / "page.html",
        data.images,
        data.labels,
        np.linspace(0, 1, len(data)),
        np.arange(0, len(data), 2),
        data.class_names,
    )
    assert "data:image/png" in (tmp_path / "page.html").read_text()


# Bad images.


def test_a_bad_image_is_named(folder):
    data = load(folder)
    names = [data.name(index) for index in range(len(data))]
    for bad in BAD:
        index = names.index(f"{folder}/train/{bad}")
        with pytest.raises(ValueError, match=f"can be decoded.*{bad}"):
            data.images[index]
    batches = streams.evaluation(data, 16)
    with pytest.raises(tf.errors.OpError, match=f"Received: .*{BAD[0]} "):
        list(batches)


def test_a_bad_image_is_replaced_by_the_next_of_its_class(folder):
    data = load(folder, on_bad_image="replace")
    names = [data.name(index) for index in range(len(data))]
    places = [names.index(f"{folder}/train/{bad}") for bad in BAD]
    # 001 and 002 of "one" are both bad.
    follows = [places[0] + 2, places[1] + 1, places[2] + 1]
    images = data.images[:]
    np.testing.assert_array_equal(images[places], images[follows])
    assert data.replaced == {names[place]: 1 for place in places}
    streamed, _ = flat(streams.evaluation(data, 16), 5)
    np.testing.assert_array_equal(streamed, images)
    assert data.replaced == {names[place]: 2 for place in places}
    # After the last one of a class, here a smaller one, comes the first.
    last = data.subset([places[2] + 1, places[2]])
    np.testing.assert_array_equal(last.images[1], last.images[0])
    assert sum(data.replaced.values()) == 7
    with pytest.raises(ValueError, match=r"class 'two'.*none of its 1"):
        data.subset([places[2]]).images[0]


def test_a_file_that_is_gone_is_an_error(clean, tmp_path):
    root = tmp_path / "digits"
    shutil.copytree(clean, root)
    data = load(root, on_bad_image="replace")
    (root / "train" / "four" / "001.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"train/four/001\.jpg"):
        data.images[1]


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"labels": [0]}, ValueError, r"2 images, labels.shape=\(1,\)"),
        ({"labels": [0.0, 1.0]}, TypeError, "labels.dtype=float64"),
        ({"labels": [0, 2]}, ValueError, "labels from 0 to 2"),
        ({"image_size": 0}, ValueError, "image_size=0"),
        ({"on_bad_image": "skip"}, ValueError, "on_bad_image='skip'"),
    ],
)
def test_refused_arguments(arguments, error, message):
    arguments = {"labels": [0, 1], "class_names": "ab"} | arguments
    with pytest.raises(error, match=message):
        datasets.FileDataset(datasets.Paths("", ["a", "b"]), **arguments)


# Folders.


def test_a_test_set_is_cut_where_there_is_none(clean, tmp_path):
    root = tmp_path / "digits"
    shutil.copytree(clean / "train", root)  # classes without train/
    assert datasets.splits(f"folder:{root}") == ["train"]
    train, test = load(root), load(root, "test")
    # round(0.2 * n) of 5, 38, 9, 19.
    assert test.class_counts.tolist() == [0, 1, 8, 2, 4]
    assert (train.class_counts + test.class_counts).tolist() == [
        0,
        5,
        38,
        9,
        19,
    ]
    names = [
        {part.name(index) for index in range(len(part))}
        for part in (
            train,
            test,
            load(root, "test"),
            load(root, "test", split_seed=1),
        )
    ]
    assert not names[0] & names[1] and names[1] == names[2] != names[3]
    assert len(load(root, test_fraction=0)) == 71
    with pytest.raises(ValueError, match=r"folder:.*: train\. .*'test'"):
        load(root, "test", test_fraction=0)
    with pytest.raises(ValueError, match=r"test, train\. .*'val'"):
        load(root, "val")
    (root / "test").mkdir()
    with pytest.raises(ValueError, match="beside test"):
        load(root)


def test_refused_folders(clean, tmp_path):
    with pytest.raises(FileNotFoundError, match="which is no folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"folder for each class"):
        load(tmp_path)
    (tmp_path / "cat").mkdir()
    with pytest.raises(ValueError, match=r"split 'train' of folder:.*without"):
        load(tmp_path)
    root = tmp_path / "digits"
    shutil.copytree(clean, root)
    (root / "test" / "six").mkdir()
    load(root, "test")  # an empty folder is no class
    shutil.copy(root / "test" / "one" / "000.png", root / "test" / "six")
    with pytest.raises(ValueError, match=r"class 'six' in .*/test"):
        load(root, "test")
    (root / "train" / "one" / "more").mkdir()
    with pytest.raises(ValueError, match=r"no folders.*one/more"):
        load(root)


def test_what_is_no_image_is_left_out(clean, tmp_path):
    root = tmp_path / "digits"
    shutil.copytree(clean, root)
    (root / "train" / ".cache").mkdir()
    for name in ("notes.txt", "Thumbs.db", ".hidden.png"):
        (root / "train" / "one" / name).write_text("")
    assert load(root).class_counts.tolist() == [0, 5, 38, 9, 19]


def test_links_out_of_the_root_are_refused(clean, tmp_path):
    root = tmp_path / "digits"
    shutil.copytree(clean, root)
    outside = tmp_path / "secret.png"
    shutil.copy(root / "test" / "one" / "000.png", outside)
    (root / "train" / "one" / "inside.png").symlink_to("000.png")
    assert load(root).class_counts[2] == 39
    link = root / "train" / "one" / "leak.png"
    link.symlink_to(outside)
    with pytest.raises(ValueError, match=r"inside of .*one/leak\.png"):
        load(root)
    assert load(root, allow_outside_root=True).class_counts[2] == 40
    link.unlink()
    (tmp_path / "elsewhere").mkdir()
    for place in (root / "train" / "six", root / "val"):
        place.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(ValueError, match=f"inside of .*{place.name}"):
            load(root, "val" if place.name == "val" else "train")
        place.unlink()


def test_odd_names(tmp_path):
    name = os.fsdecode(b"caf\xe9 \xff\n.png")
    for folder in ("b", "ä c"):
        (tmp_path / "train" / folder).mkdir(parents=True)
        convert(digits_of(1, 1)[0], "L").save(
            tmp_path / "train" / folder / name, "png"
        )
    data = load(tmp_path, test_fraction=0)
    assert data.class_names == ("b", "ä c")
    assert data.images[:].shape == (2, 16, 16, 3)


# Lists.


def write_text(path, rows):
    path.write_text("".join(f"{image} {label}\n" for image, label in rows))


@pytest.fixture
def images(clean, tmp_path):
    """A folder to write lists in, and (path, class name) of train and test."""
    rows = {
        split: sorted(
            (str(path.relative_to(clean)), path.parent.name)
            for path in (clean / split).rglob("*.*")
        )
        for split in ("train", "test")
    }
    return tmp_path, clean, rows


def load_list(name, split="train", **arguments):
    return datasets.load(f"list:{name}", split=split, image_size=8, **arguments)


def test_text_lists(images):
    lists, root, rows = images
    ids = {name: label for label, name in enumerate(COUNTS)}
    for split, listed in rows.items():
        write_text(
            lists / f"LT_{split}.txt",
            [(path, ids[name]) for path, name in listed],
        )
    name = f"{lists}/LT_{{split}}.txt"
    assert datasets.splits(f"list:{name}") == ["train", "test"]
    train = load_list(name, image_root=str(root))
    assert train.class_names == ("0", "1", "2", "3")
    assert train.class_counts.tolist() == [38, 19, 9, 5]
    assert train.name(5) == str(root / rows["train"][5][0])
    np.testing.assert_array_equal(
        train.labels, [ids[name] for _, name in rows["train"]]
    )
    test = load_list(name, "test", image_root=str(root))
    assert test.class_counts.tolist() == [4, 4, 4, 5]
    # One list: a test set is cut. The images are beside the list.
    alone = root / "alone.txt"
    write_text(alone, [(path, ids[name]) for path, name in rows["train"]])
    parts = [load_list(alone, split) for split in ("train", "test")]
    assert [len(part) for part in parts] == [56, 15]
    alone.unlink()
    write_text(lists / "LT_test.txt", [(rows["test"][0][0], 4)])
    with pytest.raises(ValueError, match=r"class '4' in .*LT_test\.txt"):
        load_list(name, "test", image_root=str(root))


def test_csv_lists(images):
    lists, root, rows = images
    for split, listed in rows.items():
        with open(lists / f"{split}.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["label", "path", "author"])
            writer.writerows((name, path, "A, B") for path, name in listed)
    name = f"{lists}/{{split}}.csv"
    train = load_list(name, image_root=str(root))
    assert train.class_names == ("four", "one", "three", "two")
    assert train.class_counts.tolist() == [5, 38, 9, 19]
    test = load_list(name, "test", image_root=str(root))
    np.testing.assert_array_equal(
        test.labels,
        [train.class_names.index(name) for _, name in rows["test"]],
    )
    path = rows["train"][0][0]
    numbers = lists / "numbers.csv"
    text = f"path,label\n{path},10\n{path},9\n"
    numbers.write_text(text, encoding="utf-8-sig")  # as Excel does
    data = load_list(numbers, image_root=str(root), test_fraction=0)
    assert data.class_names == ("9", "10") and data.labels.tolist() == [1, 0]
    numbers.write_text(f"{path},10\n")
    with pytest.raises(ValueError, match=r"columns path and label.*numbers"):
        load_list(numbers, image_root=str(root))
    numbers.write_text(f"path,label\n{path}\n")
    with pytest.raises(ValueError, match=r"in each line.*line 2"):
        load_list(numbers, image_root=str(root))


def test_inaturalist(images):
    lists, root, rows = images
    ids = {name: 10 * label for label, name in enumerate(COUNTS)}
    for split, listed in rows.items():
        number = range(100, 100 + len(listed))
        content = {
            "images": [
                {"id": n, "file_name": path}
                for n, (path, _) in zip(number, listed, strict=True)
            ],
            # In another order than the images.
            "annotations": [
                {"id": n, "image_id": n, "category_id": ids[name]}
                for n, (_, name) in reversed(
                    [*zip(number, listed, strict=True)]
                )
            ],
            "categories": [
                {"id": label, "name": name, "supercategory": "digits"}
                for name, label in reversed(ids.items())
            ],
        }
        (lists / f"{split}2018.json").write_text(json.dumps(content))
    name = f"{lists}/{{split}}2018.json"
    for split in rows:
        data = load_list(name, split, image_root=str(root))
        assert data.class_names == tuple(sorted(COUNTS))
        assert [
            (os.path.relpath(data.name(index), root), data.class_names[label])
            for index, label in enumerate(data.labels)
        ] == rows[split]
    del content["annotations"][3]
    (lists / "train2018.json").write_text(json.dumps(content))
    with pytest.raises(
        ValueError, match=r"train2018.*1 images without annotation"
    ):
        load_list(name, image_root=str(root))


@pytest.mark.parametrize("path", ["../{}/secret.png", "{}/secret.png"])
def test_lists_that_lead_out_are_refused(path, images):
    lists, root, rows = images
    outside = root.parent / "elsewhere"
    outside.mkdir(exist_ok=True)
    shutil.copy(root / rows["train"][0][0], outside / "secret.png")
    path = path.format(outside.name if path.startswith("..") else outside)
    write_text(lists / "list.txt", [(path, 0), (rows["train"][1][0], 0)])
    arguments = {"image_root": str(root), "test_fraction": 0}
    with pytest.raises(ValueError, match=r"inside of .*Received: .*secret"):
        load_list(lists / "list.txt", **arguments)
    data = load_list(lists / "list.txt", allow_outside_root=True, **arguments)
    assert data.images[:].shape == (2, 8, 8, 3)


def test_links_in_lists_are_refused(images, tmp_path_factory):
    lists, root, rows = images
    place = tmp_path_factory.mktemp("linked")
    (place / "file.png").symlink_to(root / rows["test"][0][0])
    (place / "folder").symlink_to(root / "test" / "one")
    for path in ("file.png", "folder/000.png"):
        write_text(lists / "list.txt", [(path, 0)])
        arguments = {"image_root": str(place), "test_fraction": 0}
        with pytest.raises(ValueError, match=r"inside of .*fi?(le|older)"):
            load_list(lists / "list.txt", **arguments)
        load_list(lists / "list.txt", allow_outside_root=True, **arguments)


def test_refused_lists(images):
    lists, root, rows = images
    file = lists / "list.txt"
    with pytest.raises(FileNotFoundError, match=r"list\.txt'.*no file"):
        load_list(file)
    for line in ("one/000.png", "one/000.png -1", "a b", "a 9999999"):
        file.write_text(f"{line}\n")
        with pytest.raises(ValueError, match=rf"list\.txt, line 1: '{line}'"):
            load_list(file, image_root=str(root))
    file.write_text("")
    with pytest.raises(ValueError, match="at least one image"):
        load_list(file, image_root=str(root))
    write_text(file, [("a.png", 0), ("b.png", 0), (rows["train"][0][0], 0)])
    with pytest.raises(FileNotFoundError, match=r"2 missing.*'a\.png'"):
        load_list(file, image_root=str(root))
    file.write_bytes(b"caf\xe9.png 0\n")
    with pytest.raises(ValueError, match="UTF-8"):
        load_list(file, image_root=str(root))


# Images in memory, as files.


@pytest.mark.parametrize("channels", [1, 3])
def test_images_in_memory_are_resized_as_files_are(channels):
    pixels = np.asarray(photograph(12, 12))[None, ..., :channels]
    found = datasets.as_files(datasets.Dataset(pixels, [0], ["one"]))
    # At their own size nothing is done to them; gray ones become RGB.
    np.testing.assert_array_equal(
        found.images[[0]], np.broadcast_to(pixels, (1, 12, 12, 3))
    )
    content = encode(Image.fromarray(found.images[[0]][0]), "png")
    for framing in ("center", "whole"):
        np.testing.assert_array_equal(
            found.at_size(40, framing).images[[0]][0],
            datasets.decode(content, 40, framing=framing),
        )


def test_names_of_images_in_memory_tell_other_images():
    def name(level):
        pixels = np.full((2, 4, 4, 3), level, np.uint8)
        return datasets.as_files(
            datasets.Dataset(pixels, [0, 0], ["one"])
        ).name(1)

    assert name(3) == name(3) != name(4)


def test_images_in_memory_of_no_picture_are_not_resized():
    levels = np.zeros((1, 4, 4, 3), np.float32)
    with pytest.raises(ValueError, match=r"uint8.*float32"):
        datasets.as_files(datasets.Dataset(levels, [0], ["one"]))
