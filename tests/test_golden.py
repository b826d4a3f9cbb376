"""Golden files: every case is visited, and so are others of the same schema."""

import golden
import numpy as np
import pytest
import tensorflow as tf
import test_contrastive_losses
import test_dlsa
import test_dlsa_terms
import test_logit_adjusted
import test_metrics

# Files and the tests that visit all of their cases.
FILES = {
    "balanced_softmax",
    "bns_loss",
    "cb_losses",
    "cb_weights",
    "class_counts",
    "cosine_classifier",
    "dlsa_losses",
    "ipdpp_kernel",
    "ldam",
    "maf_flow",
    "shot_acc",
    "tau_norm",
}
RNG = np.random.default_rng(0)


@pytest.mark.golden
def test_every_file_and_kind_has_a_test():
    found = {path.stem for path in golden.golden_dir().glob("*.npz")}
    if not found:
        pytest.skip(f"no golden vectors in {golden.golden_dir()}")
    assert found <= FILES
    for name, kinds in golden.KINDS.items():
        cases = dict(golden.load_cases(name))
        assert {str(case["kind"]) for case in cases.values()} <= {*kinds}
        of_kinds = [golden.load_cases(name, kind) for kind in kinds]
        assert sum(map(len, of_kinds)) == len(cases)


def visit(monkeypatch, folder, name, cases, *tests):
    """Runs tests of golden files on cases of our own."""
    arrays = {
        f"{case}/{key}": value
        for case, values in cases.items()
        for key, value in values.items()
    }
    np.savez(folder / f"{name}.npz", cases=[*cases], **arrays)
    monkeypatch.setenv("KERAS_LT_GOLDEN_DIR", str(folder))
    for test in tests:
        test()


def value_and_gradients(function, *inputs):
    inputs = [tf.constant(each, "float64") for each in inputs]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        value = function(*inputs)
    gradients = tape.gradient(value, inputs, unconnected_gradients="zero")
    return value.numpy(), *(gradient.numpy() for gradient in gradients)


def dlsa_case(kind, margin, momentum, freeze, size=6, clusters=4):
    """Losses and gradients of two steps, by the README's formulas."""
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 2])
    table = RNG.normal(0, 3, (len(labels), clusters))
    counts = np.bincount(labels)
    weights = counts.max() / counts
    factors = {"lh": 2.0, "purity": 0.5, "balance": 1.0}
    index = {
        which: RNG.integers(0, len(labels), (2, size))
        for which in ("pos", "neg")
    }
    weights = (weights / weights.sum())[labels[index["pos"]]]
    buffer, case = np.zeros(clusters), {}

    def log_q(log_p_neg):
        if kind == "soft_ce" and margin is not None:
            q = tf.clip_by_value(tf.nn.softmax(log_p_neg), margin, 1.0)
            return tf.math.log(q)
        return tf.nn.log_softmax(log_p_neg)

    def losses_of(log_p_pos, log_p_neg, step):
        log_lh = tf.reduce_logsumexp(log_p_pos, 1) - np.log(clusters)
        p = tf.nn.softmax(tf.stop_gradient(log_p_pos) if freeze else log_p_pos)
        if kind == "ce":
            p = tf.one_hot(tf.argmax(log_p_pos, 1), clusters, dtype="float64")
        q = tf.reduce_mean(tf.nn.softmax(log_p_pos), 0) + 1e-7
        if momentum is not None:
            q = momentum * buffer + (1 - momentum) * q
        new = q.numpy()
        q = q / (1 - (momentum or 0.0) ** (step + 1))
        terms = {
            "lh": -tf.reduce_mean(weights[step] * log_lh),
            "purity": tf.reduce_mean(tf.reduce_sum(p * log_q(log_p_neg), 1)),
            "balance": tf.reduce_sum(q * tf.math.log(q)) + np.log(clusters),
        }
        terms = {term: factors[term] * value for term, value in terms.items()}
        return {**terms, "total": sum(terms.values())}, new

    for step in range(2):
        inputs = [table[index[which][step]] for which in ("pos", "neg")]
        for term in (*factors, "total"):
            value, *gradients = value_and_gradients(
                lambda pos, neg, term=term, step=step: losses_of(
                    pos, neg, step
                )[0][term],
                *inputs,
            )
            case.setdefault(f"loss_{term}", []).append(value)
            for which, gradient in zip(("pos", "neg"), gradients, strict=True):
                key = f"grad_{term}_log_p_{which}"
                case.setdefault(key, []).append(gradient)
        buffer = losses_of(*map(tf.constant, inputs), step)[1]
        case.setdefault("posterior_buffer", []).append(buffer)
    return {
        **{key: np.array(value) for key, value in case.items()},
        "kind": "table",
        "train_labels": labels,
        "num_cluster": clusters,
        "weight_q": 1.0,
        "posterior_momentum": np.nan if momentum is None else momentum,
        "contrast_type": kind,
        "contrast_margin": np.nan if margin is None else margin,
        "contrast_freeze": freeze,
        "pos_index": index["pos"],
        "rev_wgt": weights,
        **{f"log_p_{which}": table[index[which]] for which in index},
        **{f"lambda_{term}": factor for term, factor in factors.items()},
    }


def test_other_losses_of_dlsa(monkeypatch, tmp_path):
    cases = {
        "ce": dlsa_case("ce", None, 0.7, True),
        "ce_margin": dlsa_case("ce", 0.2, 0.7, False),
        "margin": dlsa_case("soft_ce", 0.2, 0.9, True),
        "margin_nofreeze": dlsa_case("soft_ce", 0.2, None, False),
        "momentum_0": dlsa_case("soft_ce", None, 0.0, True),
    }
    visit(
        monkeypatch,
        tmp_path,
        "dlsa_losses",
        cases,
        lambda: test_dlsa_terms.test_golden_losses("float64"),
        lambda: test_dlsa_terms.test_golden_losses("float32"),
        test_dlsa_terms.test_golden_weights_of_classes,
    )


def test_other_training_steps_of_dlsa(monkeypatch, tmp_path):
    """Momentum of SGD, a flow without batch normalization, plain posteriors."""
    clusters, dim, size, rate, momentum = 3, 4, 8, 0.1, 0.6
    flow = test_dlsa.MaskedAutoregressiveFlow(
        1, hidden_layers=0, batch_norm=False, dtype="float64"
    )
    mixture = test_dlsa.FlowGaussianMixture(
        clusters, 1.0, flow, dtype="float64"
    )
    mixture.build((None, dim))
    names = test_dlsa.weights_by_name(mixture)

    def state():
        return {
            name: value.numpy()[None] if name == "means" else value.numpy().T
            for name, value in names.items()
        }

    labels = np.arange(20) % 2
    x = RNG.normal(size=(20, dim))
    case = {f"state0/{name}": value for name, value in state().items()}
    index = np.array(
        [np.flatnonzero(labels == which)[:size] for which in (0, 1)]
    )
    velocity = [np.zeros(w.shape) for w in mixture.trainable_weights]
    totals = []
    for _ in range(3):
        with tf.GradientTape() as tape:
            pos, neg = (mixture(x[rows]) for rows in index)
            q = tf.reduce_mean(tf.nn.softmax(pos), 0) + 1e-7
            lh = tf.reduce_logsumexp(pos, 1) - np.log(clusters)
            total = -2.0 * tf.reduce_mean(0.5 * lh)
            total += 0.1 * tf.reduce_mean(
                tf.reduce_sum(
                    tf.stop_gradient(tf.nn.softmax(pos))
                    * tf.nn.log_softmax(neg),
                    1,
                )
            )
            total += tf.reduce_sum(q * tf.math.log(q)) + np.log(clusters)
        gradients = tape.gradient(
            total, [w.value for w in mixture.trainable_weights]
        )
        for i, (weight, gradient) in enumerate(
            zip(mixture.trainable_weights, gradients, strict=True)
        ):
            velocity[i] = momentum * velocity[i] + gradient.numpy()
            weight.assign_sub(rate * velocity[i])
        totals.append(total.numpy())
    case |= {f"state_final/{name}": value for name, value in state().items()}
    case |= {
        "kind": "e2e",
        "features": x,
        "train_labels": labels,
        "num_cluster": clusters,
        "lr": rate,
        "sgd_momentum": momentum,
        "weight_q": 2.0,
        "lambda_lh": 2.0,
        "lambda_purity": 0.1,
        "lambda_balance": 1.0,
        "posterior_momentum": np.nan,
        "pos_x": np.array([x[index[0]]] * 3),
        "neg_x": np.array([x[index[1]]] * 3),
        "loss_total": np.array(totals),
    }
    visit(
        monkeypatch,
        tmp_path,
        "dlsa_losses",
        {"momentum": case},
        test_dlsa.test_golden_training_steps,
    )


def bns_case(labels_i, labels_j, lengths, temperature=0.5, dim=6):
    labels = np.concatenate([labels_i, labels_j])
    count = len(labels)
    embeddings = (
        RNG.normal(size=(count, dim)) * np.resize(lengths, count)[:, None]
    )
    same = labels[:, None] == labels
    positives = (same & ~np.eye(count, dtype=bool)).astype(float)

    def value(first, second):
        z = tf.nn.l2_normalize(tf.concat([first, second], 0), 1, 1e-30)
        scores = tf.exp(tf.matmul(z, z, transpose_b=True) / temperature)
        p = tf.reduce_sum(positives * scores, 1)
        p /= np.maximum(positives.sum(1), 1)
        q = tf.reduce_sum(np.where(same, 0.0, 1.0) * scores, 1) / count
        return tf.reduce_mean(tf.nn.softplus(-p) + tf.nn.softplus(q))

    halves = np.split(embeddings, 2)
    loss, *gradients = value_and_gradients(value, *halves)
    return {
        "labels_i": labels_i,
        "labels_j": labels_j,
        "temperature": temperature,
        "loss": loss,
        **dict(zip(("emb_i", "emb_j"), halves, strict=True)),
        **dict(zip(("grad_i", "grad_j"), gradients, strict=True)),
    }


def test_other_batches_of_bns(monkeypatch, tmp_path):
    ids = np.array([0, 0, 1, 2])
    cases = {
        "two_labels": bns_case(ids, np.array([0, 3, 2, 2]), [1.0]),
        "no_positive": bns_case(np.arange(4), np.arange(4, 8), [1.0], 0.1),
        "lengths": bns_case(ids, ids, [1e-3, 1.0, 1e3]),
    }
    visit(
        monkeypatch,
        tmp_path,
        "bns_loss",
        cases,
        lambda: test_contrastive_losses.test_golden_bns("float64"),
        lambda: test_contrastive_losses.test_golden_bns("float32"),
    )


def test_balanced_softmax_of_absent_classes(monkeypatch, tmp_path):
    train_labels = np.array([0] * 9 + [1] * 3)  # none of classes 2 and 3
    counts = np.bincount(train_labels, minlength=4)
    labels, smoothing = np.array([0, 1, 2, 3]), 0.1
    logits = RNG.normal(size=(4, 4)).astype("float32").astype("float64")
    prior = np.log(counts + 1e-6)
    eye = np.eye(4)
    soft = (1 - smoothing) * eye + smoothing / 3 * (1 - eye)

    def value(targets):
        return lambda x: (
            -tf.reduce_mean(
                tf.reduce_sum(targets * tf.nn.log_softmax(x + prior), 1)
            )
        )

    loss, gradient = value_and_gradients(value(eye), logits)
    v2_loss, v2_gradient = value_and_gradients(value(soft), logits)
    case = {
        "logits": logits,
        "labels": labels,
        "train_labels": train_labels,
        "train_counts": counts,
        "sample_weight": np.ones(len(train_labels)),
        "smoothing": smoothing,
        "loss": loss,
        "grad": gradient,
        "v2_loss": v2_loss,
        "v2_grad": v2_gradient,
        "log_prior": prior,
    }
    visit(
        monkeypatch,
        tmp_path,
        "balanced_softmax",
        {"absent": case},
        lambda: test_logit_adjusted.test_golden_balanced_softmax("float64"),
        lambda: test_logit_adjusted.test_golden_balanced_softmax("float32"),
    )


def test_predictions_of_no_class(monkeypatch, tmp_path):
    counts = np.array([600, 150, 30, 10])
    labels = np.arange(40) % 4
    predicted = np.where(RNG.random(40) < 0.5, labels, -1)
    predicted[:4] = [1, 1, 0, 3]
    hits = predicted == labels
    per_class = np.array([hits[labels == c].mean() for c in range(4)])
    case = {
        "preds": predicted,
        "labels": labels,
        "train_counts": counts,
        "overall_acc": hits.mean(),
        "per_class_acc": per_class,
        "present_classes": np.arange(4),
        "dlsa_many": per_class[:2].mean(),
        "dlsa_medium": per_class[2],
        "dlsa_few": per_class[3],
    }
    for key, codes in {"500_200": [0, 2, 2, 2], "100_20": [0, 0, 1, 2]}.items():
        codes = np.array(codes)
        case[f"bns_{key}_group"] = codes
        for code, group in enumerate(("many", "medium", "few")):
            chosen = hits[codes[labels] == code]
            case[f"bns_{key}_{group}"] = chosen.mean() if chosen.size else 0.0
    visit(
        monkeypatch,
        tmp_path,
        "shot_acc",
        {"none": case},
        test_metrics.test_golden_shot_accuracy,
    )
