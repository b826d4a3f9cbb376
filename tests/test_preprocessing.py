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
