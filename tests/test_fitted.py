"""What is fitted on a hold-out, refusal, moving priors, and their signatures.

The simulated model knows the class frequencies of its training: Bayes' rule
says what each part must find.
"""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.spatial.distance import mahalanobis
from sklearn import metrics as sklearn_metrics
from sklearn.covariance import LedoitWolf

from keras_lt import evaluation, export, plots
from keras_lt.evaluation import Fitted, Predictions, Scaling, Sets

COUNTS = np.array([5000, 1500, 450, 140, 40, 12])
CLASSES = len(COUNTS)


def simulate(per_class, seed, prior=COUNTS, sharpness=1.0):
    """Posterior logits of a prior, too sharp by a factor, and labels."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(CLASSES), per_class)
    x = generator.normal(size=(len(labels), CLASSES))
    x[np.arange(len(labels)), labels] += 1.5
    prior = np.asarray(prior)
    return sharpness * (1.5 * x + np.log(prior / prior.sum())), labels


def predictions(per_class, seed=0, **kwargs):
    return Predictions(*simulate(per_class, seed, **kwargs), COUNTS)


def test_temperature_of_a_hold_out_with_other_frequencies():
    """A long-tailed prior and a balanced hold-out: T is that of the truth."""
    held_out = predictions(1000, sharpness=2.0)
    naive = evaluation.fit_temperature(held_out)
    right = evaluation.fit_temperature(held_out, COUNTS)
    # Logits of this prior are not its exact ones times a factor: p_c ~ n_c^2.
    assert abs(right - 2) < 0.1 < abs(naive - 2)
    like_training = predictions(COUNTS, 1, sharpness=2.0)
    errors = evaluation.calibration(like_training, Scaling(1 / right))
    assert errors["ece"] < 0.03
    # The source's own frequencies add nothing.
    one = evaluation.fit_temperature(predictions(COUNTS), COUNTS)
    assert one == pytest.approx(evaluation.fit_temperature(predictions(COUNTS)))


def test_vector_scaling_of_a_hold_out_with_other_frequencies():
    held_out = predictions(1000, sharpness=2.0)
    found = evaluation.fit_vector_scaling(held_out, source=COUNTS)
    tail = predictions(COUNTS[::-1], 1, sharpness=2.0)
    for scaling, most in ((found, 1.0), (Scaling(), np.inf)):
        scaling = scaling.adjusted(COUNTS[::-1], COUNTS)
        nll = evaluation.calibration(tail, scaling)["nll"]
        exact = Scaling(0.5).adjusted(COUNTS[::-1], COUNTS)
        best = evaluation.calibration(tail, exact)["nll"]
        assert best - 0.02 < nll < best + (0.03 if most == 1.0 else most)


def test_reliability_is_counted_by_predicted_group():
    given = predictions(200, sharpness=2.0, prior=np.ones(CLASSES))
    found = evaluation.reliability(given, bins=10)
    logits = given.logits - given.logits.max(1, keepdims=True)
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    few = given.predicted == 5  # the one class with fewer than 20 images
    place = few & (p.max(1) > 0.9)
    assert found["few"]["images"][9] == place.sum() > 0
    assert found["few"]["confidence"][9] == pytest.approx(
        p.max(1)[place].mean()
    )
    assert found["few"]["accuracy"][9] == pytest.approx(
        (given.labels == 5)[place].mean()
    )
    assert found["all"]["ece"] == pytest.approx(
        evaluation.calibration(given, bins=10)["ece"]
    )
    assert found["unseen"] is None
    axes = plots.reliability(found).axes[0]
    assert len(axes.get_legend().get_texts()) == 4
    with pytest.raises(ValueError, match="at least one method"):
        plots.reliability({"few": None})


def test_pooled_tail_holds_on_average_over_the_tail():
    """With 3 and 5 images of two classes, neither has its own threshold."""
    covered, always, alone = [], [], []
    for seed in range(200):
        held_out = predictions([30, 30, 30, 30, 3, 5], 2 * seed)
        test_set = predictions([30, 30, 30, 30, 30, 50], 2 * seed + 1)
        for method, into in (
            ("pooled_tail", covered),
            ("class_conditional", always),
        ):
            thresholds = evaluation.conformal_thresholds(
                held_out, method, 0.875
            )
            tail = test_set.labels >= 4
            sets = evaluation.conformal_sets(test_set.logits, thresholds)
            own = sets[np.arange(len(sets)), test_set.labels]
            into.append(own[tail].mean())
        alone.append(own[~tail].mean())
    # One of the 8 may be missed: 1 - 1 / 9.
    assert np.mean(covered) == pytest.approx(8 / 9, abs=0.02)
    assert np.mean(always) == 1.0
    # Of 30, 3 are: 1 - 3 / 31.
    assert np.mean(alone) == pytest.approx(28 / 31, abs=0.015)
    notes = evaluation.evaluate(test_set, held_out, coverage=0.875)["notes"]
    wanted = "too few images of 2 classes, ['4', '5']"
    assert any(wanted in note for note in notes), notes


def test_gaussians_are_those_of_scipy():
    generator = np.random.default_rng(0)
    labels = np.arange(900) % 3
    mixing = generator.normal(size=(4, 4))
    features = generator.normal(size=(900, 4)) @ mixing + labels[:, None]
    found = evaluation.fit_gaussians(features, labels, 4)
    assert np.isnan(found.means[3]).all()
    means = [features[labels == c].mean(0) for c in range(3)]
    deviations = features - np.stack(means)[labels]
    shrunk = LedoitWolf(assume_centered=True).fit(deviations)
    image = generator.normal(size=4)
    nearest = min(mahalanobis(image, mean, shrunk.precision_) for mean in means)
    assert found.score(image[None])[0] == pytest.approx(-(nearest**2), rel=1e-3)


def test_separation_is_that_of_scikit_learn():
    generator = np.random.default_rng(0)
    known, unknown = generator.normal(1, 1, 300), generator.normal(size=200)
    known[:40] = np.round(known[:40])  # ties
    unknown[:40] = np.round(unknown[:40])
    found = evaluation.separation(known, unknown)
    truth = np.repeat([1, 0], [300, 200])
    scores = np.concatenate([known, unknown])
    assert found["auroc"] == pytest.approx(
        sklearn_metrics.roc_auc_score(truth, scores)
    )
    fpr, tpr, _ = sklearn_metrics.roc_curve(
        truth, scores, drop_intermediate=False
    )
    assert found["fpr95"] == pytest.approx(fpr[np.argmax(tpr >= 0.95)])


def test_refusal_keeps_the_share_that_it_states():
    """On average over hold-outs, as split conformal prediction."""
    shares = []
    for seed in range(150):
        x = [
            evaluation.known_score("max_logit", simulate(8, 2 * seed + part)[0])
            for part in (0, 1)
        ]
        refusal = evaluation.fit_refusal("max_logit", x[0], 0.9)
        shares.append((x[1] >= refusal.threshold).mean())
    # Of 48 images 4 may be missed: 1 - 4 / 49.
    assert np.mean(shares) == pytest.approx(45 / 49, abs=0.015)
    assert evaluation.fit_refusal("max_logit", x[0][:5]).threshold == -np.inf


def test_moving_prior_follows_a_change():
    """It is the estimate of the window alone, and forgets what was before."""
    first, then = (
        simulate(per_class, seed)[0]
        for seed, per_class in enumerate((COUNTS // 10, COUNTS[::-1] // 10))
    )
    generator = np.random.default_rng(0)
    moving = evaluation.MovingPrior(COUNTS, window=300)
    np.testing.assert_allclose(moving.adjustment, -np.log(COUNTS.sum()), 1e-3)
    for logits in (first, then):
        logits = generator.permutation(logits)
        for start in range(0, len(logits), 32):
            moving.update(logits[start : start + 32])
        wanted = evaluation.estimate_prior_em(logits[-300:], COUNTS, draws=0)
        np.testing.assert_allclose(moving.shares, wanted.shares, atol=0.01)
    assert moving.seen == len(first) + len(then)
    # The source counts as images: a few others move it little.
    slow = evaluation.MovingPrior(COUNTS, strength=1000)
    slow.update(then[-10:])
    np.testing.assert_allclose(slow.shares, COUNTS / COUNTS.sum(), atol=0.01)
    before = slow.shares
    with pytest.raises(ValueError, match="1 of them NaN or infinite"):
        slow.update([[np.nan] + [0.0] * 5])
    assert slow.shares is before and slow.seen == 10


def test_likelihood_ratio_test_holds_its_level_and_finds_a_shift():
    def p_value(shares, seed):
        drawn = np.random.default_rng(seed).multinomial(150, shares)
        logits, _ = simulate(drawn, seed)
        found = evaluation.likelihood_ratio_test(logits, COUNTS)
        return found["p_value"]

    shares = COUNTS / COUNTS.sum()
    p_values = np.array([p_value(shares, seed) for seed in range(200)])
    # Too large a p-value is allowed; 200 draws at 10 % deviate by 2.1 %.
    assert np.mean(p_values <= 0.1) < 0.1 + 0.05
    assert np.mean(p_values <= 0.5) > 0.2
    assert p_value(shares[::-1], 0) < 1e-6


# --- Signatures --------------------------------------------------------------

SERVE = """
import sys
import numpy as np
import tensorflow as tf

before = set(sys.modules)
images = np.load("images.npy")
loaded = tf.saved_model.load("saved_model").signatures
served = {
    "serving_default": loaded["serving_default"](images=images),
    "serve_prior": loaded["serve_prior"](
        images=images, prior=np.array([1, 2, 3], "float32")
    ),
    "serve_sets": loaded["serve_sets"](
        images=images, coverage=np.float32(0.85)
    ),
    "serve_known": loaded["serve_known"](images=images),
}
late = {name.split(".")[0] for name in set(sys.modules) - before}
assert not {"keras", "keras_lt"} & late
np.savez(
    "served.npz",
    **{
        f"{name}/{key}": value.numpy()
        for name, outputs in served.items()
        for key, value in outputs.items()
        if key != "classes"
    },
)
for asked in (0, 0.95, np.nan):
    try:
        loaded["serve_sets"](images=images, coverage=np.float32(asked))
        raise SystemExit(f"{asked} was taken")
    except tf.errors.InvalidArgumentError as error:
        assert "Expected a coverage above 0 and up to" in str(error), error
"""
SCALING = Scaling(np.array([0.5, 0.4, 0.6]), np.array([0.0, 0.3, -0.2]))


def small_model():
    """Logits of a layer of four features of the mean colors."""
    inputs = keras.Input((8, 8, 3))
    mean = keras.layers.GlobalAveragePooling2D()(inputs)
    features = keras.layers.Dense(4, "tanh")(mean / 255)
    return keras.Model(inputs, keras.layers.Dense(3)(features))


def pictures(size=40):
    colors = np.random.default_rng(0).integers(0, 256, (size, 1, 1, 3))
    return np.broadcast_to(colors, (size, 8, 8, 3)).astype("uint8")


def test_signatures_in_a_process_without_keras(tmp_path):
    score = "mahalanobis"
    model, images = small_model(), pictures()
    logits = np.asarray(model(images), np.float64)
    features = keras.Model(model.input, model.layers[-2].output)(images)
    features = np.asarray(features, np.float64)
    labels = np.arange(len(images)) % 3
    gaussians = evaluation.fit_gaussians(features, labels, 3)
    scores = evaluation.known_score(score, None, features, gaussians)
    refusal = evaluation.fit_refusal(score, scores, 0.8, gaussians)
    table = np.array([[0.5, 0.4, 0.3], [0.3, 0.25, 0.2]])
    fitted = Fitted(
        SCALING, Sets("marginal", (0.8, 0.9), table), refusal, {"a": 1}
    )
    export.save(
        model,
        tmp_path / "saved_model",
        images,
        class_counts=[9, 3, 1],
        fitted=fitted,
    )
    about = tmp_path / "saved_model" / "fitted.json"
    assert json.loads(about.read_text()) == {"a": 1}
    np.save(tmp_path / "images.npy", images)
    subprocess.run(
        [sys.executable, "-c", SERVE],
        cwd=tmp_path,
        check=True,
        timeout=120,
        env={"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
    )
    served = np.load(tmp_path / "served.npz")
    scaled = SCALING.scale * logits + SCALING.bias
    close = dict(rtol=1e-4, atol=1e-5)
    for name in ("serving_default", "serve_sets", "serve_known"):
        np.testing.assert_allclose(served[f"{name}/logits"], scaled, **close)
        p = served[f"{name}/probabilities"]
        np.testing.assert_allclose(
            p, np.exp(scaled) / np.exp(scaled).sum(1)[:, None], **close
        )
    # x + log q - log n, x the scaled logits
    prior = scaled + np.log([1 / 6, 2 / 6, 3 / 6]) - np.log([9, 3, 1])
    np.testing.assert_allclose(served["serve_prior/logits"], prior, **close)
    # 0.85 is not in the table: the sets are those of 0.9.
    assert served["serve_sets/coverage"] == np.float32(0.9)
    np.testing.assert_array_equal(served["serve_sets/sets"], p >= table[1])
    assert 0 < served["serve_sets/sets"].mean() < 1
    np.testing.assert_allclose(served["serve_known/score"], scores, **close)
    known = served["serve_known/known"]
    # Of 40 images the 8th lowest is the threshold; float32 may decide it.
    assert abs(known.sum() - 33) <= 1


@pytest.mark.parametrize("score", ["energy", "max_logit"])
def test_scores_of_logits_in_signatures(score, tmp_path):
    """They are of the logits as the model gives them, not of scaled ones."""
    model, images = small_model(), pictures(9)
    refusal = evaluation.Refusal(score, 0.1, 0.9)
    fitted = Fitted(SCALING, refusal=refusal)
    export.save(model, tmp_path / "saved_model", images, fitted=fitted)
    loaded = tf.saved_model.load(tmp_path / "saved_model").signatures
    assert "serve_sets" not in loaded
    served = loaded["serve_known"](images=images)
    wanted = evaluation.known_score(score, model(images))
    np.testing.assert_allclose(served["score"], wanted, 1e-5)
    np.testing.assert_array_equal(served["known"], wanted >= 0.1)


@pytest.mark.parametrize(
    "fitted, message",
    [
        (Fitted(Scaling(np.ones(2))), "one or 3 finite numbers"),
        (Fitted(Scaling(np.nan)), "one or 3 finite numbers"),
        (
            Fitted(sets=Sets("marginal", (0.8,), np.ones((1, 2)))),
            r"thresholds of shape \(1, 3\)",
        ),
        (
            Fitted(
                refusal=evaluation.Refusal(
                    "mahalanobis",
                    0.0,
                    0.9,
                    evaluation.Gaussians(np.ones((3, 5)), np.eye(5)),
                )
            ),
            "a model with 5 features",
        ),
    ],
)
def test_fitted_of_another_model(fitted, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        export.save(small_model(), tmp_path / "saved_model", fitted=fitted)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: evaluation.known_score("odin", [[1.0]]), "name of a score"),
        (
            lambda: evaluation.known_score("energy", [[np.nan, 1.0]]),
            "Expected finite logits",
        ),
        (
            lambda: evaluation.known_score("mahalanobis", [[1.0, 2.0]]),
            "Expected finite features.*features=None",
        ),
        (
            lambda: evaluation.known_score("mahalanobis", None, [[1.0, 2.0]]),
            "gaussians of 2 features.*Received: None",
        ),
        (
            lambda: evaluation.fit_gaussians([[1.0, 2.0]], [3], 3),
            "class ids from 0 to 2",
        ),
        (
            lambda: evaluation.fit_gaussians([[1.0, np.inf]], [0], 3),
            "Expected finite features",
        ),
        (lambda: evaluation.separation([], [1.0]), "scores .* known"),
        (
            lambda: evaluation.fit_refusal("energy", [1.0], 1.0),
            "share between 0 and 1",
        ),
        (
            lambda: evaluation.MovingPrior([1, 1], strength=-1),
            "strength >= 0",
        ),
        (
            lambda: evaluation.fit(predictions(9), calibration="platt"),
            "calibration to be one of",
        ),
        (
            lambda: evaluation.fit(predictions(9), coverages=[0.9, 0.8]),
            "coverages in increasing order",
        ),
        (
            lambda: evaluation.fit(Predictions(np.array([0]), [0], [9, 9])),
            "Expected logits",
        ),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_fit_tells_what_it_did():
    """Sets of a served table hold their class; a hold-out is named."""
    held_out = predictions([40, 40, 40, 40, 40, 3], 3, sharpness=2.0)
    fitted = evaluation.fit(held_out, COUNTS, coverages=[0.5, 0.9])
    assert fitted.about["holdout"] == {"images": 203, "kind": "long-tailed"}
    assert fitted.about["temperature"] == pytest.approx(2, abs=0.2)
    few = fitted.about["sets"]["classes_with_few_images"]
    assert few == [0, 1]  # 3 images say what half of them have, and no more
    vector = evaluation.fit(held_out, COUNTS, calibration="vector")
    assert np.shape(vector.scaling.bias) == (CLASSES,)
    test_set = predictions(200, 4, sharpness=2.0)
    scored = evaluation.score_sets(
        test_set, fitted.sets.thresholds[1], fitted.scaling
    )
    assert scored["macro_coverage"] == pytest.approx(0.9, abs=0.05)
    json.dumps(fitted.about, allow_nan=False)
    assert tf.constant(fitted.sets.thresholds).shape == (2, CLASSES)
