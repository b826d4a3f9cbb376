import colorsys

import numpy as np
import pytest
import tensorflow as tf
from data import chi_square, chi_square_limit
from PIL import Image, ImageEnhance, ImageOps
from scipy import ndimage

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
    with pytest.raises(ValueError, match=r"padding .*at least 0.*padding=-1"):
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


GRAY = np.array([0.299, 0.587, 0.114])


def simclr_reference(image, draws, min_area, strength, blur=0.0):
    """One image, by np.interp, colorsys and scipy."""
    *draws, jittered, gray, blurred, deviation = draws
    area, ratio, top, left, mirror, *colors = draws
    sizes = [1.0, 1.0]
    if min_area is not None:
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
        factors = 1 + 0.8 * strength * (2 * np.array(colors[:3]) - 1)
        image = np.clip(image * factors[0], 0, 255)
        mean = (image @ GRAY).mean()
        image = np.clip(mean + factors[1] * (image - mean), 0, 255)
        luma = (image @ GRAY)[..., None]
        image = np.clip(luma + factors[2] * (image - luma), 0, 255)
        for pixel in np.ndindex(image.shape[:2]):
            hue, saturation, value = colorsys.rgb_to_hsv(*image[pixel])
            hue = (hue + 0.2 * strength * (2 * colors[3] - 1)) % 1
            image[pixel] = colorsys.hsv_to_rgb(hue, saturation, value)
    if gray < 0.2:
        image = np.repeat((image @ GRAY)[..., None], 3, axis=-1)
    if blurred < blur:
        deviation = 0.1 + 1.9 * deviation
        for axis in (0, 1):
            radius = max(1, image.shape[axis] // 20)
            image = ndimage.gaussian_filter1d(
                image, deviation, axis, mode="mirror", radius=radius
            )
    return image


@pytest.mark.parametrize(
    "arguments",
    [
        {"min_area": 0.3, "jitter": 0.5},
        {"min_area": 1.0, "jitter": 1.0},
        {"min_area": 0.1, "jitter": 0.0},
        {"min_area": None, "jitter": 0.5},
        {"min_area": 0.4, "jitter": 0.2, "blur": 0.5},
    ],
    ids=str,
)
def test_simclr_is_the_reference(arguments):
    shape = (6, 41, 3) if "blur" in arguments else (6, 9, 3)
    images = pictures(40, shape, np.float32)
    draws = seeding.uniform(seeds(40), 13).numpy().astype(np.float64)
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


def test_simclr_of_gray_images_jitters_brightness_and_contrast():
    gray = pictures(20, (8, 8, 1), np.float32)
    got = preprocessing.simclr()(gray, seeds(20))
    wide = preprocessing.simclr()(np.repeat(gray, 3, -1), seeds(20))
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
    [
        {"min_area": 0.0},
        {"min_area": 1.1},
        {"jitter": -0.1},
        {"jitter": 2.0},
        {"blur": 1.5},
    ],
    ids=str,
)
def test_simclr_errors(arguments):
    with pytest.raises(ValueError, match=r"Expected min_area .* Received: "):
        preprocessing.simclr(**arguments)


def test_two_views():
    images, labels = pictures(12, (8, 8, 3)), tf.range(12)
    augment = preprocessing.simclr()
    views, kept = preprocessing.two_views(augment)(
        images, labels, None, seeds(12)
    )
    np.testing.assert_array_equal(kept, labels)
    for number, view in enumerate(views):
        want = augment(images, seeding.fold_in(seeds(12), number))
        np.testing.assert_array_equal(view, want)
    assert (views[0] != views[1]).numpy().any(axis=(1, 2, 3)).all()


def test_simclr_of_other_channels():
    with pytest.raises(ValueError, match=r"Expected images .* Received: "):
        preprocessing.simclr()(np.zeros((1, 4, 4, 2), "uint8"), seeds(1))


# Mixing.

PAIRS = 300


def pairs(shape=(6, 8, 3), dtype=np.float32):
    images = pictures(2 * PAIRS, shape, dtype)
    labels = np.random.default_rng(1).integers(0, 4, 2 * PAIRS)
    return images[:PAIRS], labels[:PAIRS], images[PAIRS:], labels[PAIRS:]


def assert_labels(got, labels, others, share):
    eye = np.eye(4)
    want = share[:, None] * eye[labels] + (1 - share)[:, None] * eye[others]
    np.testing.assert_allclose(got, want, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_mixup_by_hand(dtype):
    images, labels, others, other_labels = pairs(dtype=dtype)
    got, soft = preprocessing.mixup(4)(
        images, labels, others, other_labels, seeds(PAIRS)
    )
    # Beta(1, 1) is uniform: the share is the draw.
    share = seeding.uniform(seeds(PAIRS), 1).numpy()[:, 0].astype("float64")
    part = share[:, None, None, None]
    want = part * images + (1 - part) * others
    assert got.dtype == dtype
    tolerance = 0.51 if dtype == np.uint8 else 1e-3
    np.testing.assert_allclose(
        np.asarray(got, "float64"), want, rtol=0, atol=tolerance
    )
    assert_labels(soft, labels, other_labels, share)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_are_of_the_beta_distribution(alpha):
    count = 20_000
    ones = np.ones((count, 1, 1, 1), "float32")
    labels = np.zeros(count, int)
    share, _ = preprocessing.mixup(2, alpha)(
        ones, labels, 0 * ones, labels, seeds(count)
    )
    # Beta(a, a): mean 1/2, variance 1 / (4 (2 a + 1)).
    deviation = (4 * (2 * alpha + 1)) ** -0.5
    assert np.mean(share) == pytest.approx(0.5, abs=5 * deviation / count**0.5)
    assert np.std(share) == pytest.approx(deviation, rel=0.02)


def test_remix_by_hand():
    counts = [30, 10, 11, 0]
    images, labels, others, other_labels = pairs()
    _, soft = preprocessing.remix(counts, kappa=3.0, tau=0.4)(
        images, labels, others, other_labels, seeds(PAIRS)
    )
    share = seeding.uniform(seeds(PAIRS), 1).numpy()[:, 0].astype("float64")
    ratio = np.take(counts, labels) / np.maximum(
        np.take(counts, other_labels), 1e-9
    )
    want = np.where((ratio >= 3) & (share < 0.4), 0.0, share)
    want = np.where((ratio <= 1 / 3) & (1 - share < 0.4), 1.0, want)
    differing = labels != other_labels
    assert (want == 0).any() and (want == 1).any()
    assert_labels(
        soft.numpy()[differing],
        labels[differing],
        other_labels[differing],
        want[differing],
    )


def test_cutmix_by_hand():
    images, labels, others, other_labels = pairs()
    got, soft = preprocessing.cutmix(4)(
        images, labels, others, other_labels, seeds(PAIRS)
    )
    shares = []
    for n, (share, row, column) in enumerate(
        seeding.uniform(seeds(PAIRS), 3).numpy()
    ):
        want = images[n].copy()
        tall, wide = (int((1 - share) ** 0.5 * size) for size in (6, 8))
        top, left = int(row * 6) - tall // 2, int(column * 8) - wide // 2
        box = (
            slice(max(top, 0), max(top + tall, 0)),
            slice(max(left, 0), max(left + wide, 0)),
        )
        want[box] = others[n][box]
        np.testing.assert_array_equal(got[n], want)
        shares.append(1 - want[box][..., 0].size / 48)
    assert_labels(soft, labels, other_labels, np.array(shares))


def test_cutout_by_hand():
    images = pictures(50, (6, 8, 3))
    got, _ = preprocessing.cutout(4)(images, None, None, seeds(50))
    draws = seeding.uniform(seeds(50), 2).numpy()
    for image, cut, (row, column) in zip(images, got, draws, strict=True):
        want = image.copy()
        top, left = int(row * 6) - 2, int(column * 8) - 2
        want[max(top, 0) : top + 4, max(left, 0) : left + 4] = 0
        np.testing.assert_array_equal(cut, want)


def distorted(image, strength):
    """What each operation of rand_augment gives, by PIL."""
    height, width = image.shape[:2]
    gray = (128,) * image.shape[-1]
    image = Image.fromarray(image.squeeze())
    fill = gray if len(gray) > 1 else gray[0]
    positive = abs(strength)

    def affine(*matrix):
        return image.transform(
            image.size, Image.Transform.AFFINE, matrix, fillcolor=fill
        )

    shear, shift = 0.3 * strength, 150 / 331 * strength
    factor = 1 + 0.9 * strength
    return {
        "identity": image,
        "shear_x": affine(1, shear, 0, 0, 1, 0),
        "shear_y": affine(1, 0, 0, shear, 1, 0),
        "translate_x": affine(1, 0, shift * width, 0, 1, 0),
        "translate_y": affine(1, 0, 0, 0, 1, shift * height),
        "rotate": image.rotate(30 * strength, fillcolor=fill),
        "brightness": ImageEnhance.Brightness(image).enhance(factor),
        "color": ImageEnhance.Color(image).enhance(factor),
        "contrast": ImageEnhance.Contrast(image).enhance(factor),
        "sharpness": ImageEnhance.Sharpness(image).enhance(factor),
        "posterize": ImageOps.posterize(image, 8 - round(4 * positive)),
        "solarize": ImageOps.solarize(image, 255 * (1 - positive)),
        "auto_contrast": ImageOps.autocontrast(image),
        "equalize": ImageOps.equalize(image),
    }


@pytest.mark.parametrize("shape", [(32, 32, 3), (8, 12, 1)])
def test_rand_augment_is_pil(shape):
    count, magnitude = 400, 17.3
    # Smooth in part, and not over the whole range, for the histograms.
    images = 20 + pictures(count, shape) // 3
    images[:, :6, :4] = 77
    images[7] = 55  # one color
    got, _ = preprocessing.rand_augment(1, magnitude)(
        tf.constant(images), None, None, seeds(count)
    )
    draws = seeding.uniform(seeding.fold_in(seeds(count), 0), 2).numpy()
    seen = set()
    for image, augmented, (choice, sign) in zip(
        images, got.numpy(), draws, strict=True
    ):
        strength = magnitude / 30 * (-1 if sign < 0.5 else 1)
        name, want = list(distorted(image, strength).items())[int(choice * 14)]
        want = np.array(want).reshape(shape).astype(int)
        # PIL cuts off where we round.
        exact = name in ("identity", "rotate", "posterize", "solarize")
        exact |= name.startswith(("shear", "translate", "equalize"))
        np.testing.assert_allclose(augmented, want, atol=0 if exact else 1)
        seen.add((name, sign < 0.5))
    assert len(seen) == 28


def test_rand_augment_draws_again_for_each_operation():
    images, keys = pictures(60, (8, 8, 3)), seeds(60)
    twice, _ = preprocessing.rand_augment(2)(images, None, None, keys)
    once, _ = preprocessing.rand_augment(1)(images, None, None, keys)
    second = seeding.uniform(seeding.fold_in(keys, 1), 2)[:, 0].numpy()
    same = (twice.numpy() == once.numpy()).all(axis=(1, 2, 3))
    assert same[second < 1 / 14].all() and not same.all()


# Tables 7 and 9 of arXiv:1805.09501, "operation probability magnitude" twice.
PUBLISHED = {
    "cifar10": """
        Invert 0.1 7, Contrast 0.2 6
        Rotate 0.7 2, TranslateX 0.3 9
        Sharpness 0.8 1, Sharpness 0.9 3
        ShearY 0.5 8, TranslateY 0.7 9
        AutoContrast 0.5 8, Equalize 0.9 2
        ShearY 0.2 7, Posterize 0.3 7
        Color 0.4 3, Brightness 0.6 7
        Sharpness 0.3 9, Brightness 0.7 9
        Equalize 0.6 5, Equalize 0.5 1
        Contrast 0.6 7, Sharpness 0.6 5
        Color 0.7 7, TranslateX 0.5 8
        Equalize 0.3 7, AutoContrast 0.4 8
        TranslateY 0.4 3, Sharpness 0.2 6
        Brightness 0.9 6, Color 0.2 8
        Solarize 0.5 2, Invert 0.0 3
        Equalize 0.2 0, AutoContrast 0.6 0
        Equalize 0.2 8, Equalize 0.6 4
        Color 0.9 9, Equalize 0.6 6
        AutoContrast 0.8 4, Solarize 0.2 8
        Brightness 0.1 3, Color 0.7 0
        Solarize 0.4 5, AutoContrast 0.9 3
        TranslateY 0.9 9, TranslateY 0.7 9
        AutoContrast 0.9 2, Solarize 0.8 3
        Equalize 0.8 8, Invert 0.1 3
        TranslateY 0.7 9, AutoContrast 0.9 1
    """,
    "imagenet": """
        Posterize 0.4 8, Rotate 0.6 9
        Solarize 0.6 5, AutoContrast 0.6 5
        Equalize 0.8 8, Equalize 0.6 3
        Posterize 0.6 7, Posterize 0.6 6
        Equalize 0.4 7, Solarize 0.2 4
        Equalize 0.4 4, Rotate 0.8 8
        Solarize 0.6 3, Equalize 0.6 7
        Posterize 0.8 5, Equalize 1.0 2
        Rotate 0.2 3, Solarize 0.6 8
        Equalize 0.6 8, Posterize 0.4 6
        Rotate 0.8 8, Color 0.4 0
        Rotate 0.4 9, Equalize 0.6 2
        Equalize 0.0 7, Equalize 0.8 8
        Invert 0.6 4, Equalize 1.0 8
        Color 0.6 4, Contrast 1.0 8
        Rotate 0.8 8, Color 1.0 2
        Color 0.8 8, Solarize 0.8 7
        Sharpness 0.4 7, Invert 0.6 8
        ShearX 0.6 5, Equalize 1.0 9
        Color 0.4 0, Equalize 0.6 3
        Equalize 0.4 7, Solarize 0.2 4
        Solarize 0.6 5, AutoContrast 0.6 5
        Invert 0.6 4, Equalize 1.0 8
        Color 0.6 4, Contrast 1.0 8
        Equalize 0.8 8, Equalize 0.6 3
    """,
}
NAMES = {
    "ShearX": "shear_x",
    "ShearY": "shear_y",
    "TranslateX": "translate_x",
    "TranslateY": "translate_y",
    "Color": "color",
    "AutoContrast": "auto_contrast",
}


def published(policy):
    """[[(operation, probability, magnitude), twice], ...]"""
    found = []
    for line in PUBLISHED[policy].strip().splitlines():
        pair = [operation.split() for operation in line.split(",")]
        found.append(
            [
                (NAMES.get(name, name.lower()), float(chance), int(magnitude))
                for name, chance, magnitude in pair
            ]
        )
    return found


@pytest.mark.parametrize(
    "policy, shape",
    [
        ("cifar10", (32, 32, 3)),
        ("imagenet", (16, 24, 3)),
        ("cifar10", (8, 12, 1)),
    ],
)
def test_auto_augment_is_the_published_table_by_pil(policy, shape):
    count = 500
    images = 20 + pictures(count, shape) // 3
    images[:, :6, :4] = 77
    images[::3, 1:5, 5:] = 170  # solarization's threshold of magnitude 3
    got, _ = preprocessing.auto_augment(policy)(
        tf.constant(images), None, None, seeds(count)
    )
    draws = seeding.uniform(seeds(count), 5).numpy()
    table, seen = published(policy), set()
    assert len(table) == 25
    for image, augmented, draw in zip(images, got.numpy(), draws, strict=True):
        number, want, exact = int(draw[0] * 25), image, True
        for place, (name, chance, magnitude) in enumerate(table[number]):
            if draw[1 + place] >= np.float32(chance):
                continue
            strength = magnitude / 9 * (-1 if draw[3 + place] < 0.5 else 1)
            results = distorted(want, strength)
            image_now = results["identity"]
            results["invert"] = ImageOps.invert(image_now)
            results["solarize"] = ImageOps.solarize(
                image_now, 255 - 255 * magnitude / 9
            )
            want = np.array(results[name]).reshape(shape)
            exact &= name not in ENHANCEMENTS
            seen.add((number, place))
        if not exact and table[number][1][0] in AMPLIFIERS:
            continue  # PIL cuts off where we round, and that is amplified
        # Twice rounded, a brightness of 1.9 amplifies the first one.
        np.testing.assert_allclose(
            augmented, want.astype(int), atol=0 if exact else 3
        )
    assert len(seen) >= 44  # of 50, of which some have a chance of 0 or 0.1


ENHANCEMENTS = (
    *("brightness", "color", "contrast", "sharpness", "auto_contrast"),
)
AMPLIFIERS = ("equalize", "auto_contrast", "solarize", "sharpness")


def test_auto_augment_draws_each_sub_policy_as_often():
    draws = seeding.uniform(seeds(50_000), 5)[:, 0].numpy()
    counts = np.bincount((draws * 25).astype(int), minlength=25)
    assert chi_square(counts, np.full(25, 2_000)) < chi_square_limit(24)


def test_auto_augment_does_not_depend_on_the_cut_of_a_batch():
    images, keys = tf.constant(pictures(60, (16, 16, 3))), seeds(60)
    transform = preprocessing.auto_augment()
    whole, _ = transform(images, None, None, keys)
    parts = [
        transform(images[i : i + 20], None, None, keys[i : i + 20])[0]
        for i in (0, 20, 40)
    ]
    np.testing.assert_array_equal(whole, tf.concat(parts, 0))
    again, _ = tf.function(transform)(images, None, None, keys)
    np.testing.assert_array_equal(whole, again)
    others, _ = transform(images, None, None, seeds(120)[60:])
    assert (whole.numpy() != others.numpy()).any()


def test_chain_gives_each_transform_seeds_of_its_own():
    received = []

    def recorder(images, labels, indices, seeds):
        received.append(seeds.numpy())
        return images + 1, labels

    images, _ = preprocessing.chain(recorder, recorder)(
        tf.zeros((5, 1, 1, 1)), tf.range(5), None, seeds(5)
    )
    np.testing.assert_array_equal(images, np.full((5, 1, 1, 1), 2.0))
    assert len(np.unique(received)) == 10


@pytest.mark.parametrize(
    "make",
    [
        lambda: preprocessing.mixup(4, 0.0),
        lambda: preprocessing.cutmix(4, -1.0),
        lambda: preprocessing.remix([1, 2], kappa=0.5),
        lambda: preprocessing.remix([1, 2], tau=1.5),
        lambda: preprocessing.cutout(1),
        lambda: preprocessing.auto_augment("cifar"),
        lambda: preprocessing.auto_augment(["cifar10"]),
        lambda: preprocessing.auto_augment()(
            np.zeros((2, 4, 4, 2)), None, None, seeds(2)
        ),
        lambda: preprocessing.rand_augment(0),
        lambda: preprocessing.rand_augment(2, 31),
        lambda: preprocessing.rand_augment()(
            np.zeros((2, 4, 4, 2)), None, None, seeds(2)
        ),
    ],
)
def test_mixing_errors(make):
    with pytest.raises(ValueError, match=r"Expected .* Received: "):
        make()


@pytest.mark.parametrize(
    "shape, size",
    [
        ((40, 60), (24, 24)),
        ((60, 40), (24, 24)),
        ((200, 31), (24, 24)),
        ((9, 11), (24, 24)),
        ((24, 23), (24, 24)),
        ((50, 70), (24, 40)),
        ((1, 1), (4, 4)),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_resize_and_crop_is_the_center_of_a_resized_image(
    shape, size, channels
):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (2, *shape, channels), "uint8")
    got = preprocessing.resize_and_crop(tf.constant(images), size)
    assert got.dtype == tf.uint8
    # The largest part of 224/256 of the image that has the shape of `size`.
    factor = 224 / 256 * min(np.array(shape) / size)
    height, width = factor * np.array(size)
    top, left = (shape[0] - height) / 2, (shape[1] - width) / 2
    for image, one in zip(images, got.numpy(), strict=True):
        for channel in range(channels):
            wanted = Image.fromarray(image[..., channel]).resize(
                size[::-1],
                Image.Resampling.BILINEAR,
                box=(left, top, left + width, top + height),
            )
            error = np.asarray(wanted, int) - one[..., channel]
            assert np.abs(error).max() <= 1


def test_resize_and_crop_leaves_images_of_the_size():
    images = np.random.default_rng(0).integers(0, 256, (3, 9, 7, 3), "uint8")
    inside = tf.function(
        lambda x: preprocessing.resize_and_crop(x, (9, 7)),
        input_signature=[tf.TensorSpec((None, None, None, 3), tf.uint8)],
    )
    np.testing.assert_array_equal(inside(images), images)
    assert inside(images[:, ::2]).shape == (3, 9, 7, 3)
    # A long image takes no more than its pixels: enlarged it were 20 GB.
    assert inside(images[:1, :, :1].repeat(300_000, 2)).shape == (1, 9, 7, 3)
