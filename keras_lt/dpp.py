"""Determinantal point processes of a fixed size (k-DPPs), in NumPy.

A k-DPP draws a subset A of k of N items with a probability proportional to the
determinant of a kernel's rows and columns A. IP-DPP (Lin and Yuan,
arXiv:2510.08836) chooses training images of a class so, by a kernel of what a
model thinks of them: with the true-class probabilities p of N images,

    S_ij = p_i p_j / N^2 for i != j (scale "n2", as published), or
    S_ij = p_i p_j / N              (scale "n"),

and a diagonal that lets each row sum to 1. At scale "n2" determinants of all
subsets are nearly the same, so the draw is close to uniform; scale "n" prefers
images with small p.

The kernel is diag(d) + u u^T with d_i = 1 - u_i sum(u) and u = p / N or
p / sqrt(N). So det(S_A) is prod d_i * (1 + sum u_i^2 / d_i) over A, and nothing
here builds a matrix but `information_kernel`. Where all p are 1 (at scale "n",
or N = 1) the kernel has rank one; draws are then uniform, as they are of equal
p below 1.
"""

from collections.abc import Sequence

import numpy as np

from keras_lt import progress
from keras_lt.arguments import integer
from keras_lt.messages import brief

SCALES = ("n2", "n")

# Random numbers drawn at once: more take memory, fewer take time.
_BLOCK = 1 << 18


def information_kernel(probabilities, scale: str = "n2") -> np.ndarray:
    """The kernel of IP-DPP as a matrix, for small N.

    Args:
        probabilities: p, float (N,), each from 0 to 1.
        scale: "n2" or "n"; see the module.

    Returns:
        S, float64 (N, N), symmetric, with rows that sum to 1.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> keras_lt.dpp.information_kernel([0.9, 0.5, 0.1]).round(2)
        array([[0.94, 0.05, 0.01],
               [0.05, 0.94, 0.01],
               [0.01, 0.01, 0.98]])
    """
    p = _checked_probabilities("probabilities", probabilities)
    kernel = np.outer(p, p) / _divisor(len(p), scale)
    np.fill_diagonal(kernel, 0.0)
    np.fill_diagonal(kernel, 1.0 - kernel.sum(axis=1))
    return kernel


def sample(
    probabilities,
    k: int,
    *,
    seed: int | Sequence[int],
    scale: str = "n2",
    complements=None,
) -> np.ndarray:
    """Draws k items by the k-DPP of IP-DPP's kernel, exactly.

    Draws with probabilities proportional to prod d_i come from independent
    Bernoulli variables, kept when they are k; each is then accepted with
    probability (1 + sum_A r) / (1 + sum of the k largest r), r = u^2 / d. It
    takes O(N) memory and about O(N sqrt(k)) time.

    Args:
        probabilities: p, float (N,), each from 0 to 1.
        k: Items to draw, from 0 to N.
        seed: An integer or several, at least 0; equal ones give equal draws.
        scale: "n2" or "n"; see the module.
        complements: 1 - p, float (N,), where p is so close to 1 that its
            distance is lost; computed from p if None.

    Returns:
        int64 (k,), distinct and in order.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> drawn = keras_lt.dpp.sample(p, 50, seed=0, scale="n")
        >>> len(drawn)
        50
    """
    u, d = _factors(probabilities, complements, scale)
    k = _checked_size(k, len(d))
    if k in (0, len(d)):
        return np.arange(k)
    generator = np.random.default_rng(_checked_seed(seed))
    ratios = u**2 / d
    largest = 1.0 + np.partition(ratios, len(d) - k)[len(d) - k :].sum()
    draws = _conditional_bernoulli(np.log(d), k, generator)
    while True:
        chosen = next(draws)
        if generator.random() * largest < 1.0 + ratios[chosen].sum():
            return chosen


def balanced_subset(
    labels,
    k: int,
    *,
    seed: int | Sequence[int],
    probabilities=None,
    complements=None,
    scale: str = "n2",
) -> np.ndarray:
    """Draws k images of each class; all, where a class has fewer.

    Args:
        labels: Label ids, integers (N,), at least 0.
        k: Images per class, at least 1.
        seed: As in `sample`; classes draw independently.
        probabilities: True-class probabilities, float (N,), for draws by
            `sample` within each class; None draws uniformly.
        complements: As in `sample`.
        scale: As in `sample`.

    Returns:
        Indices of images, int64, in order.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> chosen = keras_lt.dpp.balanced_subset(train.labels, 10, seed=0)
        >>> train.subset(chosen).class_counts
        array([10, 10, 10, 10, 10, 10, 10, 10, 10, 10])
    """
    labels = np.asarray(labels)
    if labels.size == 0:
        labels = labels.astype(np.int64)
    if labels.ndim != 1 or not (
        labels.dtype.kind in "iu" and labels.min(initial=0) >= 0
    ):
        raise ValueError(
            "Expected labels to be ids of at least 0, integers of shape (N,). "
            f"Received: labels={brief(labels)}"
        )
    k, seed = integer("k", k, 1), _checked_seed(seed)
    for name, values in (
        ("probabilities", probabilities),
        ("complements", complements),
    ):
        if values is not None and np.shape(values) != labels.shape:
            raise ValueError(
                f"Expected one of {name} for each of {len(labels)} labels. "
                f"Received: shape {np.shape(values)}"
            )
    chosen = []
    with progress.bar("Draw", len(labels), "images") as bar:
        for label in np.unique(labels):
            members = np.flatnonzero(labels == label)
            size = len(members)
            if size > k:
                p = np.zeros(size)  # equal ones are drawn uniformly
                c = None
                if probabilities is not None:
                    p = np.asarray(probabilities)[members]
                if complements is not None:
                    c = np.asarray(complements)[members]
                drawn = sample(
                    p,
                    k,
                    seed=[*seed, label],
                    scale=scale,
                    complements=c,
                )
                members = members[drawn]
            chosen.append(members)
            bar.update(size)
    return np.sort(np.concatenate(chosen)) if chosen else np.arange(0)


def log_probability(
    subset, probabilities, *, scale: str = "n2", complements=None
) -> float:
    """Log-probability that `sample` draws a subset.

    Args:
        subset: Distinct items, integers (k,), in any order.
        probabilities: As in `sample`.
        scale: As in `sample`.
        complements: As in `sample`.

    Returns:
        log det(S_A) minus the log of the sum over all subsets of k, in O(N k)
        time.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> p = [0.9, 0.5, 0.1]
        >>> pairs = [[0, 1], [0, 2], [1, 2]]  # all that could be drawn
        >>> logs = [keras_lt.dpp.log_probability(pair, p) for pair in pairs]
        >>> round(float(np.exp(logs).sum()), 6)
        1.0
    """
    u, d = _factors(probabilities, complements, scale)
    subset = np.asarray(subset)
    if subset.size == 0:
        subset = subset.astype(np.int64)
    if (
        subset.ndim != 1
        or subset.dtype.kind not in "iu"
        or len(np.unique(subset)) != len(subset)
        or not ((subset >= 0) & (subset < len(d))).all()
    ):
        raise ValueError(
            f"Expected a subset of distinct items from 0 to {len(d) - 1}. "
            f"Received: subset={brief(subset)}"
        )
    subset = subset.astype(np.int64)
    k = len(subset)
    if k in (0, len(d)):
        return 0.0
    log_d = np.log(d)
    shift = _log_odds_shift(log_d, k)
    chances, ratios = _sigmoid(log_d + shift), u**2 / d
    total = _convolved(chances, ratios * chances, k)[-1].sum(axis=0)[k]
    log_weight = (log_d + shift)[subset].sum() + np.log1p(ratios[subset].sum())
    return float(
        log_weight - np.logaddexp(0.0, log_d + shift).sum() - np.log(total)
    )


def inclusion_probabilities(
    probabilities, k: int, *, scale: str = "n2", complements=None
) -> np.ndarray:
    """Probability of each item to be among those that `sample` draws.

    Args:
        probabilities: As in `sample`.
        k: As in `sample`.
        scale: As in `sample`.
        complements: As in `sample`.

    Returns:
        float64 (N,), exact, with sum k. Time and memory are O(N k).

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> p = [0.9, 0.5, 0.1]  # the hard ones are drawn more often
        >>> keras_lt.dpp.inclusion_probabilities(p, 2, scale="n").round(2)
        array([0.64, 0.65, 0.7 ])
    """
    u, d = _factors(probabilities, complements, scale)
    size = len(d)
    k = _checked_size(k, size)
    if k in (0, size):
        return np.full(size, float(k > 0))
    log_d = np.log(d)
    chances = _sigmoid(log_d + _log_odds_shift(log_d, k))
    extra = u**2 / d * chances
    before = _convolved(chances, extra, k)
    after = _convolved(chances[::-1], extra[::-1], k)[::-1]
    # Those with item i: k - 1 of the items before and after it.
    plain_before, mixed_before = before[:-1, 0, :k], before[:-1, 1, :k]
    plain_after = after[1:, 0, k - 1 :: -1][:, :k]
    mixed_after = after[1:, 1, k - 1 :: -1][:, :k]
    plain = np.einsum("ij,ij->i", plain_before, plain_after)
    mixed = np.einsum("ij,ij->i", plain_before, mixed_after)
    mixed += np.einsum("ij,ij->i", mixed_before, plain_after)
    weights = chances * (plain + mixed) + extra * plain
    return weights / before[-1].sum(axis=0)[k]


def sample_features(
    features, k: int, *, seed: int | Sequence[int], quality=None
) -> np.ndarray:
    """Draws k items that differ, by the k-DPP of L = diag(q) F F^T diag(q).

    Subsets are the likelier, the larger the volume that their rows q_i F_i
    span, so items of high quality and of different features are preferred. The
    draw is exact, through the D x D dual kernel (Kulesza and Taskar, 2012,
    section 3.3.3): O(N D^2 + N D k) time and O(N D) memory.

    Args:
        features: F, float (N, D).
        k: Items to draw, from 0 to the rank of F.
        seed: As in `sample`.
        quality: q, float (N,), at least 0; ones if None.

    Returns:
        int64 (k,), distinct and in order.

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> drawn = keras_lt.dpp.sample_features(features.features, 5, seed=0)
        >>> len(drawn)
        5
    """
    features = np.asarray(features, np.float64)
    if features.ndim != 2 or not np.isfinite(features).all():
        raise ValueError(
            "Expected finite features of shape (N, D). Received: "
            f"features.shape={features.shape}, "
            f"{(~np.isfinite(features)).sum()} values not finite"
        )
    if quality is not None:
        quality = np.asarray(quality, np.float64)
        if (
            quality.shape != features.shape[:1]
            or not np.isfinite(quality).all()
            or (quality < 0).any()
        ):
            raise ValueError(
                "Expected quality of shape (N,), finite and at least 0. "
                f"Received: quality={brief(quality)} for N={len(features)}"
            )
        features = quality[:, None] * features
    values, vectors = np.linalg.eigh(features.T @ features)
    positive = values > values.max(initial=0.0) * len(values) * 1e-15
    rank = int(positive.sum())
    k = _checked_size(k, rank, "the rank of the kernel")
    if k == 0:
        return np.arange(0)
    values, vectors = values[positive], vectors[:, positive]
    generator = np.random.default_rng(_checked_seed(seed))
    chosen = np.arange(rank)
    if k < rank:
        chosen = next(_conditional_bernoulli(np.log(values), k, generator))
    # Orthonormal eigenvectors of L; their span is a DPP of k items.
    basis = features @ (vectors[:, chosen] / np.sqrt(values[chosen]))  # (N, k)
    weights = np.sum(basis**2, axis=1)
    directions = np.empty((k, len(basis)))
    items = np.empty(k, np.int64)
    for number in range(k):
        item = generator.choice(len(weights), p=weights / weights.sum())
        direction = basis @ basis[item]
        direction -= directions[:number, item] @ directions[:number]
        direction /= np.sqrt(weights[item])
        weights = np.maximum(weights - direction**2, 0.0)
        weights[item] = 0.0
        directions[number], items[number] = direction, item
    return np.sort(items)


def _factors(
    probabilities, complements, scale: str
) -> tuple[np.ndarray, np.ndarray]:
    """Returns u and d of the kernel diag(d) + u u^T."""
    p = _checked_probabilities("probabilities", probabilities)
    if complements is None:
        complements = 1.0 - p
    c = _checked_probabilities("complements", complements)
    if c.shape != p.shape or not np.allclose(p + c, 1.0, rtol=0, atol=1e-6):
        raise ValueError(
            "Expected complements to be 1 - probabilities. Received: "
            f"probabilities={brief(p)}, complements={brief(c)}"
        )
    size = max(len(p), 1)
    divisor = _divisor(size, scale)
    # 1 - p_i sum(p) / divisor, without a difference of numbers close to 1.
    d = (divisor - size + size * c + p * c.sum()) / divisor
    if (d > 0.0).all():
        return p / np.sqrt(divisor), d
    return np.zeros_like(p), np.ones_like(d)


def _divisor(size: int, scale: str) -> int:
    if scale not in SCALES:
        raise ValueError(
            f"Expected scale to be one of {SCALES}. Received: scale={scale!r}"
        )
    return size**2 if scale == "n2" else size


def _checked_probabilities(name: str, values) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if values.ndim != 1:
        raise ValueError(
            f"Expected {name} of shape (N,). Received: shape {values.shape}"
        )
    outside = ~((values >= 0.0) & (values <= 1.0))  # NaN too
    if outside.any():
        item = int(outside.argmax())
        raise ValueError(
            f"Expected {name} from 0 to 1. "
            f"Received: {name}[{item}]={values[item]}"
        )
    return values


def _checked_size(k: int, most: int, what: str = "N") -> int:
    k = integer("k", k)
    if not 0 <= k <= most:
        raise ValueError(
            f"Expected k to be an integer from 0 to {most}, {what}. "
            f"Received: k={k}"
        )
    return k


def _checked_seed(seed: int | Sequence[int]) -> list[int]:
    """A seed as NumPy takes it, of one integer or several."""
    several = isinstance(seed, Sequence) or np.ndim(seed) == 1
    seeds = [integer("seed", each, 0) for each in (seed if several else [seed])]
    if not seeds:
        raise ValueError(
            f"Expected seed to be an integer or several. Received: seed={seed}"
        )
    return seeds


def _conditional_bernoulli(log_odds: np.ndarray, k: int, generator):
    """Yields draws of k items, each with probability ~ the product of odds."""
    log_odds = log_odds + _log_odds_shift(log_odds, k)
    chances = _sigmoid(log_odds)
    # About as many tries as one draw needs.
    tries = np.sqrt(2.0 * np.pi * (chances * (1.0 - chances)).sum())
    rows = max(1, min(int(2.0 * tries), _BLOCK // len(chances)))
    while True:
        drawn = generator.random((rows, len(chances))) < chances
        for row in np.flatnonzero(np.count_nonzero(drawn, axis=1) == k):
            yield np.flatnonzero(drawn[row])


def _log_odds_shift(log_odds: np.ndarray, k: int) -> float:
    """What to add so that k of N independent items are drawn on average.

    Any number would leave the conditional draw as it is; this one makes k the
    likeliest size, or nearly.
    """
    middle = np.log(k) - np.log(len(log_odds) - k)
    low, high = middle - log_odds.max(), middle - log_odds.min()
    shift = (low + high) / 2
    while True:
        chances = _sigmoid(log_odds + shift)
        missing = k - chances.sum()
        variance = (chances * (1.0 - chances)).sum()
        if missing**2 <= 1e-3 * variance or high - low < 1e-12 * (1 + abs(low)):
            return shift
        low, high = (shift, high) if missing > 0 else (low, shift)
        shift += missing / max(variance, 1e-300)  # Newton
        if not low < shift < high:
            shift = (low + high) / 2


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0.0, -x))


def _convolved(chances: np.ndarray, extra: np.ndarray, k: int) -> np.ndarray:
    """Coefficients of products of 1 - c_i + c_i t, up to t^k.

    Returns:
        (N + 1, 2, k + 1): of the first n factors [n, 0], and of the sum of
        products with one factor replaced by e_i t [n, 1].
    """
    table = np.zeros((len(chances) + 1, 2, k + 1))
    table[0, 0, 0] = 1.0
    for item, (chance, other) in enumerate(zip(chances, extra, strict=True)):
        before, after = table[item], table[item + 1]
        after[:] = (1.0 - chance) * before
        after[:, 1:] += chance * before[:, :-1]
        after[1, 1:] += other * before[0, :-1]
    return table
