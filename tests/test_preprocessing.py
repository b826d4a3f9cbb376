import colorsys

import numpy as np
import pytest
import tensorflow as tf
from data import chi_square, chi_square_limit

from keras_lt import preprocessing, seeding


def seeds(count):
    key = seeding.key_from_seed(0, "transform")
    return seeding.fold_in(key, tf.range(count, dtype=tf.int64))


def pictures(count, shape, dtype=np.uint8):
    drawn = np.random.default_rng(0).integers(1, 256, (count, *shape))
    return drawn.astype(dtype)


def apply(images, seeds, **arguments):
    labels = tf.range(len(images), dtype=tf.int64)
    transform = preprocessing.pad_crop_flip(**arguments)
    moved, kept = transform(tf.constant(images), labels, labels, seeds)
    np.testing.assert_array_equal(kept, labels)
    assert moved.dtype == images.dtype
    assert moved.shape == images.shape
    return moved.numpy()


def reference(image, padding, row, column, mirrored):
    """Pad, cut at (row, column), mirror: one image, by slices."""
    height, width, _ = image.shape
    padded = np.pad(image, [(padding, padding), (padding, padding), (0, 0)])
    cut = padded[row : row + height, column : column + width]
    return cut[:, ::-1] if mirrored else cut


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("flip", [True, False])
@pytest.mark.parametrize(
    "shape, padding",
    [((32, 32, 3), 4), ((8, 8, 1), 1), ((5, 9, 2), 3), ((3, 2, 1), 5)],
)
def test_every_image_is_the_reference_crop(shape, padding, flip, dtype):
    images = pictures(40, shape, dtype)
    draws = seeding.uniform(seeds(40), 3).numpy().astype(np.float64)
    moved = apply(images, seeds(40), padding=padding, flip=flip)
    for image, got, (row, column, mirror) in zip(
        images, moved, draws, strict=True
    ):
        offsets = int(row * (2 * padding + 1)), int(column * (2 * padding + 1))
        want = reference(image, padding, *offsets, flip and mirror < 0.5)
        np.testing.assert_array_equal(got, want)


def test_offsets_are_uniform_and_half_are_mirrored():
    # One bright pixel in the middle of a 5 x 7 image with padding 2 always
    # stays inside, and where it lands tells the offset; the pixel to its
    # right tells the direction.
    padding, count = 2, 50_000
    image = np.zeros((5, 7, 1), np.uint8)
    image[2, 3], image[2, 4] = 2, 1
    images = np.broadcast_to(image, (count, 5, 7, 1))
    moved = apply(images, seeds(count), padding=padding)[..., 0]
    place = (moved == 2).reshape(count, -1).argmax(1)
    rows, columns = place // 7, place % 7
    assert (moved == 2).sum() == count
    right = np.minimum(columns + 1, 6)
    mirrored = moved[np.arange(count), rows, right] != 1
    assert abs(mirrored.mean() - 1 / 2) < 4 * (1 / 4 / count) ** 0.5
    assert rows.min() == 0 and rows.max() == 4
    assert columns.min() == 1 and columns.max() == 5
    cells = (rows * 5 + columns - 1) * 2 + mirrored
    table = np.bincount(cells, minlength=50)
    assert chi_square(table, count / 50) < chi_square_limit(49)


def test_no_padding_and_no_flip_is_the_identity():
    images = pictures(10, (6, 4, 3))
    np.testing.assert_array_equal(
        apply(images, seeds(10), padding=0, flip=False), images
    )


def test_an_image_depends_on_its_own_seed_only():
    images = pictures(12, (8, 8, 3))
    whole = apply(images, seeds(12))
    np.testing.assert_array_equal(whole, apply(images, seeds(12)))
    np.testing.assert_array_equal(
        whole[5:9], apply(images[5:9], seeds(12)[5:9])
    )
    other = apply(images, seeds(24)[12:])
    # 162 outcomes an image: hardly more than two agree by chance.
    assert (whole != other).any(axis=(1, 2, 3)).sum() >= 10


def test_negative_padding_is_an_error():
    with pytest.raises(ValueError, match=r"padding >= 0.*padding=-1"):
        preprocessing.pad_crop_flip(-1)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_rotate_90(dtype):
    images = pictures(8, (5, 5, 2), dtype)
    turns = np.arange(8) % 4
    got = preprocessing.rotate_90(tf.constant(images), turns)
    assert got.dtype == dtype
    for image, turned, turn in zip(images, got, turns, strict=True):
        np.testing.assert_array_equal(turned, np.rot90(image, turn))


def test_rotate_90_of_other_shapes():
    with pytest.raises(ValueError, match=r"Expected square .* Received: "):
        preprocessing.rotate_90(np.zeros((1, 4, 5, 3)), [1])


GREY = np.array([0.299, 0.587, 0.114])


def simclr_reference(image, draws, min_area, strength):
    """One image, by np.interp and colorsys."""
    area, ratio, top, left, mirror, *colours, jittered, grey = draws
    area = min_area + area * (1 - min_area)
    ratio = (4 / 3) ** (2 * ratio - 1)
    sizes = np.minimum([(area / ratio) ** 0.5, (area * ratio) ** 0.5], 1)
    for axis, (part, place) in enumerate(zip(sizes, (top, left), strict=True)):
        size = image.shape[axis]
        centers = (np.arange(size) + 0.5) / size
        at = ((1 - part) * place + part * centers) * size - 0.5
        image = np.apply_along_axis(
            lambda line, at=at: np.interp(at, np.arange(len(line)), line),
            axis,
            image,
        )
    if mirror < 0.5:
        image = image[:, ::-1]
    if jittered < 0.8:
        factors = 1 + 0.8 * strength * (2 * np.array(colours[:3]) - 1)
        image = np.clip(image * factors[0], 0, 255)
        mean = (image @ GREY).mean()
        image = np.clip(mean + factors[1] * (image - mean), 0, 255)
        luma = (image @ GREY)[..., None]
        image = np.clip(luma + factors[2] * (image - luma), 0, 255)
        for pixel in np.ndindex(image.shape[:2]):
            hue, saturation, value = colorsys.rgb_to_hsv(*image[pixel])
            hue = (hue + 0.2 * strength * (2 * colours[3] - 1)) % 1
            image[pixel] = colorsys.hsv_to_rgb(hue, saturation, value)
    if grey < 0.2:
        image = np.repeat((image @ GREY)[..., None], 3, axis=-1)
    return image


@pytest.mark.parametrize(
    "arguments",
    [
        {"min_area": 0.3, "jitter": 0.5},
        {"min_area": 1.0, "jitter": 1.0},
        {"min_area": 0.1, "jitter": 0.0},
    ],
    ids=str,
)
def test_simclr_is_the_reference(arguments):
    images = pictures(40, (6, 9, 3), np.float32)
    draws = seeding.uniform(seeds(40), 11).numpy().astype(np.float64)
    assert (draws[:, 10] < 0.2).any() and (draws[:, 9] > 0.8).any()
    got = preprocessing.simclr(**arguments)(images, seeds(40))
    for image, augmented, draw in zip(images, got, draws, strict=True):
        want = simclr_reference(image, draw, *arguments.values())
        np.testing.assert_allclose(augmented, want, atol=0.02)


def test_simclr_rounds_to_uint8():
    images = pictures(20, (8, 8, 3))
    got = preprocessing.simclr()(images, seeds(20))
    want = preprocessing.simclr()(images.astype(np.float32), seeds(20))
    assert got.dtype == tf.uint8
    np.testing.assert_array_equal(got, np.rint(want))


def test_simclr_of_grey_images_jitters_brightness_and_contrast():
    grey = pictures(20, (8, 8, 1), np.float32)
    got = preprocessing.simclr()(grey, seeds(20))
    wide = preprocessing.simclr()(np.repeat(grey, 3, -1), seeds(20))
    np.testing.assert_allclose(got, wide[..., :1], atol=0.02)


def test_simclr_is_a_function_of_each_seed():
    images = pictures(12, (8, 8, 3))
    augment = preprocessing.simclr()
    whole = augment(images, seeds(12))
    np.testing.assert_array_equal(
        augment(images[4:8], seeds(12)[4:8]), whole[4:8]
    )
    assert (whole != augment(images, seeds(24)[12:])).numpy().any()


@pytest.mark.parametrize("jit_compile", [False, True])
def test_simclr_in_a_graph(jit_compile):
    images = pictures(12, (8, 8, 3), np.float32)
    graph = tf.function(preprocessing.simclr(), jit_compile=jit_compile)
    got = graph(tf.constant(images), seeds(12))
    want = preprocessing.simclr()(images, seeds(12))
    np.testing.assert_allclose(got, want, atol=0.02)


@pytest.mark.parametrize(
    "arguments",
    [{"min_area": 0.0}, {"min_area": 1.1}, {"jitter": -0.1}, {"jitter": 2.0}],
    ids=str,
)
def test_simclr_errors(arguments):
    with pytest.raises(ValueError, match=r"Expected min_area .* Received: "):
        preprocessing.simclr(**arguments)


def test_simclr_of_other_channels():
    with pytest.raises(ValueError, match=r"Expected images .* Received: "):
        preprocessing.simclr()(np.zeros((1, 4, 4, 2), "uint8"), seeds(1))
