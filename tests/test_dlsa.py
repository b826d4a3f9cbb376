"""DLSA: divisions, routing, training, degenerate data, one exported model."""

import json
import subprocess
import sys
from dataclasses import replace

import keras
import networks
import numpy as np
import pytest
import tensorflow as tf
from golden import load_cases, report_cases
from test_dlsa_terms import number_or_none
from test_flows import as_ours, weights_by_name

from keras_lt import features as features_lib
from keras_lt.models import (
    DLSA,
    FlowGaussianMixture,
    MaskedAutoregressiveFlow,
    classifier,
    stack,
)
from keras_lt.models import dlsa as dlsa_lib
from keras_lt.models.dlsa import (
    ClassifierSettings,
    Contrast,
    FlowSettings,
    FlowTrainer,
)
from keras_lt.models.dlsa.layers import _ClusterAidedClassifier

COUNTS = [200, 80, 30, 12]
DIM = 5
FLOW = FlowSettings(epochs=4, batch_size=64, weight_power=2.0)
CLASSIFIER = ClassifierSettings(epochs=4, batch_size=32)
QUICK = {"flow": FLOW, "classifier": CLASSIFIER, "verbose": 0}


def clusters(counts=COUNTS, dim=DIM, seed=0):
    """A Gaussian cloud a class."""
    centers = 2 * np.random.default_rng(0).normal(size=(len(counts), dim))
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.repeat(np.arange(len(counts)), counts))
    noise = generator.normal(size=(len(labels), dim))
    return (centers[labels] + noise).astype("float32"), labels


def make(**arguments):
    keras.utils.set_random_seed(0)
    arguments = {"llh_proportion": 0.3, **arguments}
    return DLSA(4, DIM, **{"depth": 2, "num_clusters": 6, **arguments})


@pytest.fixture(scope="module")
def trained():
    features, labels = clusters()
    model = make()
    facts = model.fit_features(features, labels, **QUICK)
    return model, facts, features, labels


# The authors' code.


@pytest.mark.golden
def test_golden_divisions():
    cases = load_cases("dlsa_losses", "divide")
    for name, case in cases:
        num_classes = int(case["num_class"])
        labels, likelihood = case["train_labels"], case["train_llh"]
        came, threshold = case["global_mask_train"], case["llh_thres_in"]
        if not np.isnan(proportion := float(case["llh_proportion"])):
            threshold = dlsa_lib.threshold(likelihood[came], proportion)
        assert threshold == case["llh_thres_used"], name
        num_clusters = int(case["num_cluster"])
        level = dlsa_lib.Level(
            likelihood, case["train_cluster_labels"], num_clusters, threshold
        )
        # The level above keeps what does not come here.
        above = dlsa_lib.Level(
            (~came).astype(float), np.zeros(len(came), int), 1, 0.5
        )
        routes = dlsa_lib.route([above, level], len(labels))
        keep, down = case["labelmap_index_train"], case["classify_index_train"]
        np.testing.assert_array_equal(routes == 1, keep, name)
        np.testing.assert_array_equal(routes == 2, down, name)
        facts = dlsa_lib.describe([above, level], labels, num_classes)[1]
        assert facts["samples"] == came.sum()
        for key, mask in (("samples", came), ("kept", keep)):
            np.testing.assert_array_equal(
                facts[f"{key}_by_class"],
                np.bincount(labels[mask], minlength=num_classes),
                name,
            )
        frequencies, sizes = dlsa_lib.class_frequencies(
            case["train_cluster_labels"], labels, num_clusters, num_classes
        )
        np.testing.assert_allclose(frequencies, case["cluster_prior"])
        np.testing.assert_array_equal(sizes, case["cluster_size"])
        if came.all():  # the authors' are of all samples
            np.testing.assert_allclose(facts["purity"], case["purity"])
            np.testing.assert_array_equal(
                facts["cluster_sizes"], case["cluster_size"]
            )
        for part in ("train", "test"):
            came = case[f"global_mask_{part}"]
            keep = case[f"{part}_llh"] >= threshold
            np.testing.assert_array_equal(
                keep & came, case[f"labelmap_index_{part}"]
            )
            np.testing.assert_array_equal(
                ~keep & came, case[f"classify_index_{part}"]
            )
            np.testing.assert_allclose(
                frequencies[case[f"{part}_cluster_labels"]],
                case[f"sample_priors_{part}"],
                rtol=1e-6,
            )
    report_cases("dlsa_losses", cases)


def flow_of(case):
    """The flow whose state a case has, without its weights."""
    names = [key.removeprefix("state0/nf.net.") for key in case]
    inputs = [name for name in names if name.endswith("net_input.weight")]
    inputs = [name for name in inputs if "/" not in name]
    first = inputs[0].split(".")[0]
    dense = [
        name
        for name in names
        if name.startswith(f"{first}.net.") and name.endswith(".weight")
    ]
    return MaskedAutoregressiveFlow(
        len(inputs),
        hidden_layers=len(dense) - 1,
        batch_norm=any(name.endswith(".log_gamma") for name in names),
        dtype="float64",
    )


@pytest.mark.golden
def test_golden_training_steps():
    cases = load_cases("dlsa_losses", "e2e")
    for name, case in cases:
        mixture = FlowGaussianMixture(
            int(case["num_cluster"]), 1.0, flow_of(case), dtype="float64"
        )
        mixture.build(case["features"].shape)
        ours = weights_by_name(mixture)
        for theirs, variable in ours.items():
            variable.assign(as_ours(theirs, case[f"state0/{theirs}"]))
        trainer = FlowTrainer(
            mixture,
            dlsa_lib.reversed_weights(
                np.bincount(case["train_labels"]), float(case["weight_q"])
            ),
            FlowSettings(
                likelihood_factor=float(case["lambda_lh"]),
                contrast_factor=float(case["lambda_purity"]),
                balance_factor=float(case["lambda_balance"]),
                posterior_momentum=number_or_none(case["posterior_momentum"]),
            ),
        )
        # Numbers would become those of float32.
        rate = tf.constant(case["lr"], "float64")
        optimizer = keras.optimizers.SGD(lambda rate=rate: rate)
        optimizer.momentum = tf.constant(case["sgd_momentum"], "float64")
        trainer.compile(optimizer)
        rows = {tuple(row): i for i, row in enumerate(case["features"])}
        for step in range(len(case["pos_x"])):
            batch = []
            for which in ("pos", "neg"):
                x = case[f"{which}_x"][step]
                labels = case["train_labels"][[rows[tuple(row)] for row in x]]
                batch.append((tf.constant(x), tf.constant(labels)))
            for tracker in trainer.metrics:
                tracker.reset_state()
            got = trainer.train_step(tuple(batch))
            np.testing.assert_allclose(
                got["loss"], case["loss_total"][step], rtol=1e-5, err_msg=name
            )
        for theirs, variable in ours.items():
            np.testing.assert_allclose(
                variable.numpy(),
                as_ours(theirs, case[f"state_final/{theirs}"]),
                rtol=1e-7,
                atol=1e-9,
                err_msg=f"{name} {theirs}",
            )
    report_cases("dlsa_losses", cases)


@pytest.mark.golden
def test_golden_cluster_aided_classifiers():
    for name, case in load_cases("cosine_classifier"):
        x = case["features"]
        others = np.concatenate([case["dlsa_z"], case["dlsa_p"]], axis=1)
        for kind in ("linear", "cosine"):
            layer = _ClusterAidedClassifier(
                len(case["dlsa_bias_x"]), kind, dtype="float64"
            )
            layer.build([x.shape, others.shape])
            weights = [case["dlsa_weight_x"].T, case["dlsa_bias_x"]]
            weights += [case["dlsa_weight_zp"].T, case["dlsa_bias_zp"]]
            layer.set_weights(weights if kind == "linear" else weights[::2])
            np.testing.assert_allclose(
                layer([x, others]),
                case[f"dlsa_{kind}_logits"],
                rtol=1e-9,
                atol=1e-12,
                err_msg=f"{name} {kind}",
            )


# Routing.


def by_hand(model, x):
    """Logits of one sample, by what each level is."""
    for level in model.levels:
        u, log_abs_det = level.mixture.flow(x[None])
        means = level.mixture.means.numpy()
        log_joint = -0.5 * ((u - means) ** 2).numpy().sum(axis=1)
        log_joint += log_abs_det.numpy().sum() - DIM / 2 * np.log(2 * np.pi)
        likelihood = np.log(np.exp(log_joint).mean())
        if likelihood >= level.threshold.numpy():
            frequencies = level.frequencies.numpy()[log_joint.argmax()]
            others = np.concatenate([u[0], frequencies])[None]
            return level.classifier([x[None], others])[0].numpy()
    return model.last([x[None], u])[0].numpy()


def routes_of(model, features):
    return dlsa_lib.route(model.inspect(features), len(features))


def test_each_sample_finds_its_level(trained):
    model, facts, features, labels = trained
    assert len(facts) == 2
    samples = len(labels)
    for level in facts:
        kept = samples - int(samples * 0.7)
        assert (level["samples"], level["kept"]) == (samples, kept)
        assert sum(level["kept_by_class"]) == kept
        assert sum(level["cluster_sizes"]) == samples
        samples -= kept
    routes = routes_of(model, features)
    np.testing.assert_array_equal(
        np.bincount(routes), [facts[0]["kept"], facts[1]["kept"], samples]
    )
    logits = model.predict(features, verbose=0)
    chosen = [np.flatnonzero(routes == level)[:8] for level in range(3)]
    for i in np.concatenate(chosen):
        np.testing.assert_allclose(
            logits[i], by_hand(model, features[i]), rtol=1e-4, atol=1e-4
        )


def test_far_samples_have_the_lowest_likelihood(trained):
    model, _, features, _ = trained
    far = np.concatenate([features[:1], np.full_like(features[:1], 3e38)])
    for level in model.inspect(far):
        assert np.isfinite(level.log_likelihood).all()
        assert level.log_likelihood[1] == np.finfo("float32").min
    assert routes_of(model, far)[1] == len(model.levels)


def test_frequencies_are_of_the_training_samples(trained):
    model, facts, features, labels = trained
    level = model.levels[0]
    assigned = level.mixture.assign(features).numpy()
    for cluster, size in enumerate(facts[0]["cluster_sizes"]):
        members = labels[assigned == cluster]
        assert len(members) == size
        counts = np.bincount(members if size else labels, minlength=4)
        want = counts / counts.sum()
        np.testing.assert_allclose(
            level.frequencies.numpy()[cluster], want, rtol=1e-6
        )
        purity = facts[0]["purity"][cluster]
        np.testing.assert_allclose(purity, want.max() if size else 0)


def test_learns_to_classify():
    features, labels = clusters([400, 300, 250, 200])
    model = make(num_clusters=8)
    classifier = replace(CLASSIFIER, epochs=60, learning_rate=0.1)
    model.fit_features(features, labels, **{**QUICK, "classifier": classifier})
    held_out, true = clusters([100] * 4, seed=1)  # around the same centers
    predicted = model.predict(held_out, verbose=0).argmax(axis=1)
    assert (predicted == true).mean() > 0.85


@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_features_as_z(kind):
    features, labels = clusters()
    model = make(depth=1, z="features", classifier=kind)
    classifier = replace(CLASSIFIER, loss="crossentropy")
    model.fit_features(features, labels, **{**QUICK, "classifier": classifier})
    last = routes_of(model, features) == 1
    x = features[last][:5]
    np.testing.assert_allclose(
        model.predict(x, verbose=0), model.last([x, x]), rtol=1e-4, atol=1e-5
    )


def test_flows_see_principal_components(tmp_path):
    features, labels = clusters()
    model = make(depth=1, components=2)
    model.fit_features(features, labels, **QUICK)
    level, offsets = model.levels[0], features - features.mean(axis=0)
    _, singular, axes = np.linalg.svd(offsets, full_matrices=False)
    seen = level.components(features).numpy()
    signs = np.sign(np.sum(seen * (offsets @ axes[:2].T), axis=0))
    np.testing.assert_allclose(
        seen, offsets @ axes[:2].T * signs, rtol=1e-4, atol=1e-4
    )
    assert singular[0] > singular[1] > singular[2]
    # As many stay as are asked for, by the likelihood of what the flow sees.
    joint = level.mixture.log_joint(seen).numpy()
    likelihood = np.logaddexp.reduce(joint, axis=1) - np.log(6)
    stays = routes_of(model, features) == 0
    assert stays.mean() == pytest.approx(0.3, abs=0.01)
    assert likelihood[stays].min() > likelihood[~stays].max() - 1e-4
    # Classifiers see the features.
    left = features[~stays][:5]
    np.testing.assert_allclose(
        model.predict(left, verbose=0),
        model.last([left, level.mixture.flow(seen[~stays][:5])[0]]),
        rtol=1e-4,
        atol=1e-4,
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        loaded.predict(features, verbose=0), model.predict(features, verbose=0)
    )


def test_levels_of_other_seeds_have_centers_of_their_own():
    centers = [
        level.mixture.means.numpy()
        for seed in (0, 1, np.int64(2))
        for level in make(seed=seed).levels
    ]
    assert len({each.tobytes() for each in centers}) == 6


def test_contrast_and_momentum_reach_the_flow(monkeypatch):
    features, labels = clusters([40, 20])
    made = []
    compile_trainer = FlowTrainer.compile

    def compiled(trainer, optimizer, **arguments):
        made.append((trainer.settings.contrast, optimizer.momentum))
        compile_trainer(trainer, optimizer, **arguments)

    monkeypatch.setattr(FlowTrainer, "compile", compiled)
    model = DLSA(2, DIM, num_clusters=4)
    contrast = Contrast("ce", freeze=False)
    model.fit_features(
        features,
        labels,
        flow=replace(FLOW, epochs=1, momentum=0.5, contrast=contrast),
        classifier=replace(CLASSIFIER, epochs=1),
        verbose=0,
    )
    assert made == [(contrast, 0.5)]


def test_the_purest_epoch_is_kept():
    """Its weights are those of a training that ends there."""
    features, labels = clusters()

    def pure_after(epochs, keep="last"):
        model = make(depth=1)
        model.fit_features(
            features,
            labels,
            flow=replace(FLOW, epochs=epochs, learning_rate=1.0, keep=keep),
            classifier=replace(CLASSIFIER, epochs=1),
            verbose=0,
        )
        level = model.levels[0]
        found = level.inspect(features)["clusters"]
        frequencies, sizes = dlsa_lib.class_frequencies(found, labels, 6, 4)
        is_pure = (frequencies.max(1) > 0.7) & (sizes > 10)
        return is_pure.sum(), level.mixture.get_weights()

    most, best = pure_after(4)
    last, _ = pure_after(5)
    assert most > last  # else the last epoch would do
    _, kept = pure_after(5, "purest")
    for ours, theirs in zip(kept, best, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


# Training that is cut, and data that can't be divided.


def test_goes_on_after_a_level(tmp_path, monkeypatch):
    features, labels = clusters()
    whole = make()
    facts = whole.fit_features(features, labels, **QUICK)

    cut = make()
    monkeypatch.setattr(
        type(cut.levels[1]), "fit_flow", fail_at("level_1", cut)
    )
    with pytest.raises(KeyboardInterrupt):
        cut.fit_features(features, labels, directory=tmp_path, **QUICK)
    monkeypatch.undo()
    other = make()
    trained = []
    monkeypatch.setattr(
        type(other.levels[1]), "fit_flow", recorded(trained, other)
    )
    again = other.fit_features(features, labels, directory=tmp_path, **QUICK)
    assert trained == ["level_1"]
    assert again[0] == facts[0]
    np.testing.assert_array_equal(
        other.levels[0].threshold.numpy(), whole.levels[0].threshold.numpy()
    )
    # What is not as it was written is one error, and not believed.
    index = tmp_path / "levels.json"
    kept = json.loads(index.read_text())
    for damaged in (
        "{",
        "[]",
        "[" * 10**5,
        json.dumps({**kept, "file": "../../passwords"}),
        json.dumps({**kept, "levels": 10**9}),
        json.dumps({**kept, "levels": "1"}),
    ):
        index.write_text(damaged)
        with pytest.raises(ValueError, match=r"levels\.json, which can't be"):
            make().fit_features(features, labels, directory=tmp_path, **QUICK)
    index.write_text(json.dumps(kept))
    with pytest.raises(ValueError, match="directory of the same training"):
        make(num_clusters=7).fit_features(
            features, labels, directory=tmp_path, **QUICK
        )


def fail_at(name, model):
    fit_flow = type(model.levels[0]).fit_flow

    def replaced(level, *arguments, **options):
        if level.name == name:
            raise KeyboardInterrupt
        return fit_flow(level, *arguments, **options)

    return replaced


def recorded(names, model):
    fit_flow = type(model.levels[0]).fit_flow

    def replaced(level, *arguments, **options):
        names.append(level.name)
        return fit_flow(level, *arguments, **options)

    return replaced


def test_fewer_samples_than_components():
    features, labels = clusters([6, 4, 2, 1], dim=40)
    model = DLSA(4, 40, num_clusters=4, components=20)
    with pytest.warns(UserWarning, match="13 samples for 20 components"):
        assert model.fit_features(features, labels, **QUICK) == []
    assert np.isfinite(model.predict(features, verbose=0)).all()


def degenerate(kind):
    features, labels = clusters()
    if kind == "few":
        return features[:5], np.array([0, 1, 0, 2, 0])
    if kind == "constant":
        features[:, 2] = 7.0
    if kind in ("equal", "still"):
        features[:] = 0.0
    return features, labels


@pytest.mark.parametrize(
    "kind, depth, levels, warning",
    [
        ("few", 1, 0, "5 samples for 6 clusters"),
        ("few", 2, 0, "5 samples for 6 clusters"),
        ("equal", 1, 0, "not finite"),  # the likelihood of a point is unbounded
        ("still", 2, 0, "likelihoods are all the same"),
        ("constant", 2, 2, None),
    ],
)
def test_degenerate_samples(kind, depth, levels, warning, recwarn):
    features, labels = degenerate(kind)
    model = make(depth=depth)
    # At the rate of the others whether this likelihood, which has no bound
    # either, stays finite for so few steps is up to the seed.
    rate = {"still": 0.0, "constant": 0.05}.get(kind, 0.2)
    flow = replace(FLOW, learning_rate=rate)
    facts = model.fit_features(features, labels, **{**QUICK, "flow": flow})
    assert len(facts) == levels
    said = [str(w.message) for w in recwarn if "left out" in str(w.message)]
    assert len(said) == (warning is not None)
    assert warning is None or warning in said[0]
    logits = model.predict(features, verbose=0)
    assert np.isfinite(logits).all()
    assert routes_of(model, features).max() == levels


@pytest.mark.parametrize("components", [None, 3])
def test_what_is_left_too_small_has_the_z_of_the_level_above(components):
    features, labels = clusters([30, 20, 6, 4])
    model = make(num_clusters=50, depth=3, components=components)
    with pytest.warns(UserWarning, match="42 samples for 50 clusters"):
        facts = model.fit_features(features, labels, **QUICK)
    assert len(facts) == 1
    first, *lower = model.levels
    for level in lower:
        np.testing.assert_array_equal(
            level.inspect(features)["log_likelihood"],
            first.inspect(features)["log_likelihood"],
        )
    below = features[routes_of(model, features) == 1]
    assert len(below) == 42
    np.testing.assert_allclose(
        model.predict(below, verbose=0),
        model.last([below, first.inspect(below)["latent"]]),
        rtol=1e-4,
        atol=1e-4,
    )


def test_a_flow_that_diverges_is_left_out():
    features, labels = clusters()
    model = make()
    with pytest.warns(UserWarning, match="not finite"):
        flow = replace(FLOW, learning_rate=1e20)
        facts = model.fit_features(features, labels, **{**QUICK, "flow": flow})
    assert facts == []
    assert np.isfinite(model.predict(features, verbose=0)).all()


# One model.


def test_saves_and_loads(trained, tmp_path):
    model, _, features, _ = trained
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        loaded.predict(features, verbose=0), model.predict(features, verbose=0)
    )
    assert loaded.get_config() == model.get_config()
    np.testing.assert_array_equal(
        routes_of(loaded, features), routes_of(model, features)
    )


def test_stacked_and_exported(tmp_path):
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (90, 8, 8, 1), "uint8")
    backbone = networks.convolutional((8, 8, 1))
    stage1 = classifier(backbone, 3)
    labels = np.repeat([0, 1, 2], [50, 25, 15])
    extracted = features_lib.Features(
        backbone.predict(images, verbose=0), labels
    )
    dlsa = DLSA(3, 64, num_clusters=4)
    dlsa.fit_features(*extracted, **QUICK)
    model = stack(stage1, dlsa)
    want = dlsa.predict(extracted.features, verbose=0)
    got = model.predict(images, verbose=0)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
    model.export(tmp_path / "saved_model", verbose=False)
    np.save(tmp_path / "images.npy", images)
    code = (
        "import sys, numpy as np, tensorflow as tf\n"
        "model = tf.saved_model.load(sys.argv[1] + '/saved_model')\n"
        "images = np.load(sys.argv[1] + '/images.npy')\n"
        "assert 'keras_lt' not in sys.modules\n"
        "np.save(sys.argv[1] + '/got.npy', model.serve(images))\n"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True)
    np.testing.assert_allclose(
        np.load(tmp_path / "got.npy"), got, rtol=1e-5, atol=1e-5
    )
    with pytest.raises(ValueError, match=r"with 5 features.* Received: 64"):
        stack(stage1, make())


def test_mixed_precision_scales_the_loss_back():
    """Flows and classifiers are float32: nothing changes but powers of two."""
    features, labels = clusters()
    trained = []
    before = keras.config.dtype_policy()
    for policy in ("float32", "mixed_float16"):
        keras.config.set_dtype_policy(policy)
        try:
            model = make(depth=1)
            model.fit_features(features, labels, **QUICK)
        finally:
            keras.config.set_dtype_policy(before)
        trained.append(model.get_weights())
    for wanted, got in zip(*trained, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-4, atol=1e-5)


def divided():
    inputs = keras.Input((DIM,))
    outputs = keras.layers.Dense(4)(keras.layers.Identity()(inputs))
    return stack(keras.Model(inputs, outputs), make())


@pytest.mark.parametrize("make_model", [make, divided])
def test_fit_is_refused(make_model):
    features, labels = clusters()
    model = make_model()
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(True))
    model(features[:2])
    before = model.get_weights()
    for train in (
        lambda: model.fit(features, labels, verbose=0),
        lambda: model.train_on_batch(features, labels),
    ):
        with pytest.raises(
            ValueError, match=r"Expected .*fit_features.*Received: fit"
        ):
            train()
    for got, wanted in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(got, wanted)


def test_a_divided_model_is_saved(tmp_path):
    features, _ = clusters()
    model = divided()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(features), model(features))


def test_levels_of_other_features(tmp_path):
    """As many samples of each class, but others."""
    quick = {
        "flow": replace(FLOW, epochs=1),
        "classifier": replace(CLASSIFIER, epochs=1),
        "verbose": 0,
    }
    features, labels = clusters()
    make(depth=1).fit_features(features, labels, directory=tmp_path, **quick)
    make(depth=1).fit_features(features, labels, directory=tmp_path, **quick)
    with pytest.raises(ValueError, match=r"of the same training\. Received"):
        make(depth=1).fit_features(
            features + 1, labels, directory=tmp_path, **quick
        )


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda x, y: make(depth=0), "depth=0"),
        (lambda x, y: make(num_clusters=1), "num_clusters=1"),
        (lambda x, y: make(llh_proportion=1.0), "llh_proportion=1.0"),
        (lambda x, y: make(components=6), "from 1 to 5, .* components=6"),
        (lambda x, y: make(components=0), "components=0"),
        (lambda x, y: make(z="u"), "z='u'"),
        (lambda x, y: make(classifier="mlp"), "kind='mlp'"),
        (lambda x, y: make().fit_features(x[:, :4], y), r"shape=\(322, 4\)"),
        (lambda x, y: make().fit_features(x * np.nan, y), "1610 NaN"),
        (lambda x, y: make().fit_features(x, y[1:]), r"shape=\(321,\)"),
        (lambda x, y: make().fit_features(x, y + 1), "from 1 to 4"),
        (lambda x, y: make().fit_features(x, 0 * y), r"labels \[0\]"),
        (lambda x, y: ClassifierSettings(loss="ce"), "loss='ce'"),
        (lambda x, y: ClassifierSettings(batch_size=0), "batch_size=0"),
        (lambda x, y: FlowSettings(learning_rate=-1.0), "learning_rate=-1.0"),
        (lambda x, y: FlowSettings(posterior_momentum=1.0), "momentum=1.0"),
        (lambda x, y: FlowSettings(keep="best"), "keep='best'"),
        (lambda x, y: Contrast("kl"), "kind='kl'"),
        (lambda x, y: Contrast("ce", margin=0.1), "margin=0.1"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=f"Expected .*{message}"):
        call(*clusters())
