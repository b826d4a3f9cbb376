"""Mistakes that are planted are found, and what more images would give."""

import time

import numpy as np
import pytest
from scipy.special import expit
from sklearn.datasets import load_digits

from keras_lt import evaluation
from keras_lt.evaluation import Predictions, Scaling


def test_confident_errors_come_by_their_probability():
    logits = np.array([[0, 1, 9], [5, 0, 0], [0, 2, 1], [9, 0, 0], [0, 0, 3.0]])
    found = Predictions(logits, np.array([0, 0, 0, 2, 1]), [9, 5, 1])
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    sure = evaluation.confidences(found)
    np.testing.assert_allclose(sure, p.max(1))
    wrong = [0, 2, 3, 4]
    expected = sorted(wrong, key=lambda i: -p[i].max())
    assert evaluation.confident_errors(found).tolist() == expected
    # A temperature changes how sure, not which.
    cool = evaluation.confidences(found, Scaling(0.5))
    assert (cool < sure).all()
    right = Predictions(logits[:2], np.array([2, 0]), [9, 5, 1])
    assert not len(evaluation.confident_errors(right))


def test_pairs_are_ordered_by_what_they_cost():
    # 2 of 4 images of the tail are taken for 0; 9 of 100 of class 0 for 1.
    labels = np.repeat([0, 1, 2], [100, 100, 4])
    predicted = labels.copy()
    predicted[:9], predicted[100], predicted[200:202] = 1, 0, 0
    pairs = evaluation.confused_pairs(Predictions(predicted, labels, [9, 9, 1]))
    assert [pair.classes for pair in pairs] == [(2, 0), (0, 1)]
    assert [pair.missed for pair in pairs] == [(2, 0), (9, 1)]
    np.testing.assert_allclose(
        [pair.lost for pair in pairs], [2 / 4 / 3, (0.09 + 0.01) / 3]
    )
    # What pairs take and the balanced accuracy make one.
    predicted[0] = -1  # refused: a miss that no class is to blame for
    refused = Predictions(predicted, labels, [9, 9, 1])
    lost = sum(pair.lost for pair in evaluation.confused_pairs(refused))
    balanced = evaluation.scores(refused)["balanced"]
    assert lost + balanced == pytest.approx(1 - 0.01 / 3)


@pytest.fixture(scope="module")
def digits():
    """Long-tailed pixels, and 3 percent of labels planted wrong."""
    images, labels = load_digits(return_X_y=True)
    generator = np.random.default_rng(0)
    kept = np.concatenate(
        [
            np.flatnonzero(labels == label)[: 170 * 20 // (20 + 2 * label**2)]
            for label in range(10)
        ]
    )
    images, labels = images[kept], labels[kept]
    wrong = generator.choice(len(labels), len(labels) // 33, replace=False)
    given = labels.copy()
    given[wrong] = (labels[wrong] + generator.integers(1, 10, len(wrong))) % 10
    return images, labels, given, wrong


def test_planted_label_errors_come_first(digits):
    images, labels, given, wrong = digits
    logits = evaluation.out_of_fold_logits(images, given, 10)
    counts = np.bincount(given, minlength=10)
    found = evaluation.label_errors(logits, given, counts)
    assert np.isin(found.indices[:15], wrong).mean() >= 0.9  # precision at k
    assert np.isin(wrong, found.indices).mean() >= 0.8
    planted = np.isin(found.indices, wrong)
    right = found.suggested == labels[found.indices]
    assert right[planted].mean() >= 0.9
    assert (np.diff(found.log_odds) >= 0).all()
    # A tail class is not suspected as a whole.
    tail = np.flatnonzero(counts[given] <= np.sort(counts)[2])
    assert np.isin(tail, found.indices).mean() < 0.5


def test_logits_of_a_fold_do_not_know_its_labels(digits):
    images, _, given, _ = digits
    logits = evaluation.out_of_fold_logits(images, given, 10, folds=4, seed=1)
    again = evaluation.out_of_fold_logits(images, given, 10, folds=4, seed=1)
    np.testing.assert_array_equal(logits, again)
    # Labels by chance: what has seen them is above 1 / 10 by far.
    chance = np.random.default_rng(1).integers(0, 10, len(given))
    blind = evaluation.out_of_fold_logits(images, chance, 10)
    assert (blind.argmax(1) == chance).mean() < 0.15


def test_a_class_of_one_image_is_not_judged(digits):
    images, labels, _, _ = digits
    labels = labels.copy()
    labels[0] = 10
    logits = evaluation.out_of_fold_logits(images, labels, 12)
    counts = np.bincount(labels, minlength=12)
    found = evaluation.label_errors(logits, labels, counts)
    assert np.isfinite(logits).all()
    assert not found.judged[0] and found.judged[1:].all()
    assert 0 not in found.indices and 11 not in found.suggested


def test_nearest_are_those_of_scikit_learn(digits):
    from sklearn.metrics.pairwise import cosine_similarity

    images, labels, _, _ = digits
    among, own = images[::2], images[1::2]
    centered = cosine_similarity(own - among.mean(0), among - among.mean(0))
    found = evaluation.nearest(own, among)
    np.testing.assert_array_equal(found.indices, centered.argmax(1))
    np.testing.assert_allclose(found.similarities, centered.max(1), atol=1e-5)
    wanted = (labels[1::2] + 1) % 11  # class 10 has no image
    of_class = evaluation.nearest(own, among, labels[::2], wanted)
    masked = np.where(wanted[:, None] == labels[::2], centered, -1)
    expected = np.where(wanted == 10, -1, masked.argmax(1))
    np.testing.assert_array_equal(of_class.indices, expected)


def test_planted_duplicates_are_found():
    generator = np.random.default_rng(0)
    among = generator.integers(0, 256, (40, 6, 6, 3)).repeat(4, 1).repeat(4, 2)
    test = generator.integers(0, 256, (20, 6, 6, 3)).repeat(4, 1).repeat(4, 2)
    noise = generator.integers(-3, 4, test[:2].shape)
    test[3], test[5:7] = among[8], np.clip(among[30:32] + noise, 0, 255)
    test[9] = among[12, :, ::-1]  # mirrored: alike, and not the same pixels
    flat = [images.reshape(len(images), -1) for images in (test, among)]
    found = evaluation.nearest(*flat)
    near = evaluation.near_duplicates(found, test, among)
    assert near[0] == 3 and sorted(near) == [3, 5, 6]
    assert found.indices[near].tolist()[0] == 8


def test_thumbnails_are_means_of_blocks():
    images = np.random.default_rng(0).integers(0, 256, (2, 16, 24, 3))
    blocks = images.reshape(2, 8, 2, 8, 3, 3).mean((2, 4, 5))
    others = np.zeros_like(images)
    expected = blocks.mean((1, 2))
    found = evaluation.thumbnail_distance(images, others)
    np.testing.assert_allclose(found, expected)
    with pytest.raises(ValueError, match="Expected two arrays of images"):
        evaluation.thumbnail_distance(images, others[:, :8])


def simulated_recalls(generator, num_classes=60, images=100):
    counts = np.round(np.geomspace(2, 2000, num_classes)).astype(int)
    own = generator.normal(0, 0.7, num_classes)

    def recall(more=0):
        return expit(-1.2 + 0.45 * np.log(counts + more + 1) + own)

    return counts, generator.binomial(images, recall()), recall


def test_expected_gains_cover_the_true_ones():
    slopes, covered, predicted, true = [], [], 0, 0
    for seed in range(10):
        generator = np.random.default_rng(seed)
        counts, hits, recall = simulated_recalls(generator)
        curve = evaluation.RecallCurve(hits, np.full(60, 100), counts)
        slopes.append((curve.slope - 0.45) / curve.slope_error)
        gains = curve.gains(10, level=0.9, draws=100)
        gain = (recall(10) - recall()) / 60
        covered += ((gains.low <= gain) & (gain <= gains.high)).tolist()
        predicted, true = predicted + gains.balanced, true + gain
        np.testing.assert_allclose(gains.balanced * 60, gains.recall)
    assert np.abs(slopes).mean() < 1.5  # 0.8 is expected
    assert 0.75 < np.mean(covered) < 0.97  # classes of a seed err together
    assert predicted.sum() == pytest.approx(true.sum(), rel=0.1)
    assert np.corrcoef(predicted, true)[0, 1] > 0.95


def test_gains_where_there_is_little_to_go_by():
    # A class without training images, one without test images, one that is
    # always right.
    curve = evaluation.RecallCurve(
        [0, 0, 50, 30], [50, 0, 50, 50], [0, 9, 9, 9]
    )
    gains = curve.gains(10)
    assert all(np.isfinite(part).all() for part in gains)
    width = gains.high - gains.low
    assert width[1] > width[2]
    assert gains.balanced[2] < gains.balanced[3]
    # All of one size say nothing of the slope: it stays what was assumed.
    flat = evaluation.RecallCurve([40, 45, 50], [100] * 3, [20] * 3)
    assert flat.slope == pytest.approx(0.4, abs=0.05)
    assert flat.slope_error == pytest.approx(0.4, abs=0.05)


@pytest.mark.parametrize(
    "hits, trials, message",
    [
        ([3, 1], [2, 2], "at most as many as trials"),
        ([1], [2, 2], "one length"),
        ([0, 0], [0, 0], "Expected a test image"),
    ],
)
def test_curves_refuse_what_is_no_recall(hits, trials, message):
    with pytest.raises(ValueError, match=message):
        evaluation.RecallCurve(hits, trials, [5, 5])


def test_thousands_of_classes_take_seconds():
    generator = np.random.default_rng(0)
    counts, hits, _ = simulated_recalls(generator, 8142, 3)
    begin = time.process_time()
    curve = evaluation.RecallCurve(hits, np.full(8142, 3), counts)
    curve.gains(10, draws=100)
    assert time.process_time() - begin < 60
    assert curve.slope == pytest.approx(0.45, abs=0.1)
