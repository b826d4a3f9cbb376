"""Class counts: long-tailed profiles, effective-number weights, shot groups."""

import dataclasses
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_lt import classes as names_of_classes
from keras_lt.arguments import integer, real
from keras_lt.messages import brief

PROFILES = ("exp", "step")


def validate_class_counts(class_counts, class_names=None) -> np.ndarray:
    """Checks class counts, puts them in order, and returns them as int64.

    What `labels.value_counts()` of pandas gives is in the order of frequency:
    the counts of a Series, or of a mapping, are put in the order of its index.

    Args:
        class_counts: `(C,)` images per class, by label id. Integers, or floats
            of integral value; zeros are legal. A pandas Series or a mapping
            has as its index all label ids from 0 to C - 1, or all names of the
            classes: names without `class_names` are numbered as
            `keras_lt.datasets` numbers them, by name (by value where all are
            numbers).
        class_names: C names by label id, where they are known: those of a
            Series or mapping are looked up among them, and a class that it
            lacks has no images.

    Returns:
        int64 array, shape `(C,)`.

    Raises:
        ValueError: if it is not 1-d, holds a fraction, a negative or a
            non-finite value, or no positive one; if its sum is 2^63 or more;
            if an index lacks a label id, repeats one, or has another one.
        TypeError: if it does not hold numbers, or an index holds neither label
            ids nor names.

    Example:
    >>> keras_lt.counts.validate_class_counts([500, 50.0, 0])
    array([500,  50,   0])
    >>> keras_lt.counts.validate_class_counts({"dog": 500, "cat": 50})
    array([ 50, 500])
    """
    counts = by_label("class_counts", class_counts, class_names=class_names)
    if counts.ndim != 1 or counts.size == 0:
        raise ValueError(
            "Expected class_counts of shape (num_classes,). "
            f"Received: class_counts.shape={counts.shape}"
        )
    counts = counts.tolist()  # Python's numbers: these do not wrap
    for label, count in enumerate(counts):
        if not isinstance(count, (int, float)) or isinstance(count, bool):
            raise TypeError(
                "Expected class_counts to hold integers. "
                f"Received: class_counts[{label}]={brief(count)}"
            )
        # No comparison with NaN holds.
        if not 0 <= count < float("inf") or count != int(count):
            raise ValueError(
                "Expected class_counts to be integers, zero or more. "
                f"Received: class_counts[{label}]={count}"
            )
        counts[label] = int(count)
    if not 0 < sum(counts) < 1 << 63:
        bound = "at least one positive count" if not any(counts) else None
        raise ValueError(
            f"Expected class_counts with {bound or 'a sum below 2^63'}. "
            f"Received: class_counts={brief(counts)}"
        )
    return np.array(counts, np.int64)


def by_label(name: str, values, dtype=None, class_names=None) -> np.ndarray:
    """Returns numbers by label id: those of a Series or mapping put in order.

    Args:
        name: Name of the argument, for errors.
        values: `(C,)`, or a pandas Series or a mapping, as
            `validate_class_counts` takes them.
        dtype: dtype of the result; as it comes if None.
        class_names: As `validate_class_counts` takes them; numbers of a class
            that is lacking are 0.

    Returns:
        The numbers as an array; nothing but the order is checked.

    Raises:
        TypeError: as `validate_class_counts`.
        ValueError: as `validate_class_counts`, for an index.

    Example:
    >>> keras_lt.counts.by_label("class_weights", {1: 2.0, 0: 0.5})
    array([0.5, 2. ])
    """
    index = None
    if isinstance(values, Mapping):
        index, values = [*values], [*values.values()]
    elif not callable(getattr(values, "index", len)):  # a method of lists
        index = [*values.index]
    if isinstance(values, (list, tuple)) and any(
        isinstance(value, (bool, np.bool_)) for value in values
    ):
        # An array of numbers would take bools among them for numbers.
        values = np.array(values, object)
    numbers = np.asarray(values, dtype)
    if index is not None:
        places = _label_ids(name, index, class_names)
        size = len(index) if class_names is None else len(class_names)
        ordered = np.zeros((size, *numbers.shape[1:]), numbers.dtype)
        ordered[places] = numbers
        return ordered
    if class_names is not None and numbers.shape != (len(class_names),):
        raise ValueError(
            f"Expected {name} of {len(class_names)} classes, as class_names. "
            f"Received: {name}.shape={numbers.shape}"
        )
    return numbers


def _label_ids(name: str, index: list, class_names) -> list[int]:
    """The label id of each entry of an index."""
    if all(isinstance(key, str) for key in index):
        where = f"the index of {name}"
        known = names_of_classes.in_order(
            index, where
        )  # refuses repeated names
        if class_names is not None:
            known = [*names_of_classes.checked(class_names, "class_names")]
        ids = {key: label for label, key in enumerate(known)}
        found = [names_of_classes.clean(key, where) for key in index]
        for key in found:
            if key not in ids:
                raise ValueError(
                    f"Expected {name} of classes of class_names="
                    f"{brief(known)}. Received: {where}: {brief(key)}"
                )
        return [ids[key] for key in found]
    for key in index:
        if isinstance(key, (bool, np.bool_)) or not isinstance(
            key, (int, np.integer)
        ):
            raise TypeError(
                f"Expected {name} with an index of label ids, which are "
                "integers, or of class names. "
                f"Received: the index of {name}: {brief(key)}"
            )
    size = len(index) if class_names is None else len(class_names)
    if len({*index}) < len(index) or not 0 <= min(index) <= max(index) < size:
        raise ValueError(
            f"Expected {name} with an index of the label ids 0 to {size - 1}, "
            f"each once. Received: the index of {name}: {brief(index)}"
        )
    return [int(key) for key in index]


def long_tail_counts(
    num_classes: int,
    max_count: int,
    imbalance_factor: float,
    profile: str = "exp",
) -> np.ndarray:
    """Images per class of a long-tailed subset of a balanced data set.

    With C classes, n = `max_count` and f = 1 / `imbalance_factor`:

    - `"exp"`: `trunc(n * f ** (k / (C - 1)))`, k = 0..C-1 (Cui et al., CVPR
      2019, https://arxiv.org/abs/1901.05555, section 5.1);
    - `"step"`: n for the first half of the classes, `trunc(n * f)` for the
      rest (Cao et al., NeurIPS 2019, https://arxiv.org/abs/1906.07413).

    Args:
        num_classes: C, at least 1.
        max_count: n, images of the largest class, at least 1.
        imbalance_factor: largest class over smallest, at least 1. Above
            `max_count` the smallest classes are empty.
        profile: `"exp"` or `"step"`.

    Returns:
        int64 array, shape `(C,)`, non-increasing.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        >>> keras_lt.counts.long_tail_counts(10, 5000, 100)
        array([5000, 2997, 1796, 1077,  645,  387,  232,  139,   83,   50])
    """
    num_classes = integer("num_classes", num_classes, 1)
    max_count = integer("max_count", max_count, 1)
    imbalance_factor = real("imbalance_factor", imbalance_factor)
    if not 1 <= imbalance_factor < np.inf:
        raise ValueError(
            "Expected imbalance_factor >= 1 (largest class over smallest). "
            f"Received: imbalance_factor={imbalance_factor}"
        )
    if profile not in PROFILES:
        raise ValueError(
            f"Expected profile to be one of {PROFILES}. "
            f"Received: profile={profile!r}"
        )
    if num_classes == 1:
        return np.array([max_count], dtype=np.int64)
    # Truncation makes the counts depend on the last bit: this is the order of
    # operations, in Python floats, that gave the published ones.
    factor = 1.0 / imbalance_factor
    if profile == "exp":
        counts = [
            int(max_count * (factor ** (k / (num_classes - 1.0))))
            for k in range(num_classes)
        ]
    else:
        # The LDAM code loses the last class where C is odd; here it joins the
        # tail.
        head = num_classes // 2
        tail = num_classes - head
        counts = [max_count] * head + [int(max_count * factor)] * tail
    return np.array(counts, dtype=np.int64)


def ldam_selection(labels, class_counts, seed: int) -> np.ndarray:
    """The images that the LDAM-DRW code keeps of a balanced data set.

    `numpy.random.RandomState(seed)` shuffles the indices of each class, class
    by class, and the first ones stay (Cao et al., NeurIPS 2019,
    `imbalance_cifar.py`). Published CIFAR-LT splits have seed 0.

    Args:
        labels: `(N,)` label ids of the data set, in its published order.
        class_counts: `(C,)` images wanted per class.
        seed: seed of the legacy generator.

    Returns:
        int64 array, shape `(sum(class_counts),)`: indices into `labels`, class
        by class, in shuffled order inside a class.

    Raises:
        ValueError: if a class has fewer images than wanted.

    Example:
        >>> keras_lt.counts.ldam_selection([0, 1, 0, 1], [2, 1], seed=0)
        array([2, 0, 1])
    """
    labels = np.asarray(labels)
    class_counts = validate_class_counts(class_counts)
    seed = integer("seed", seed, 0, (1 << 32) - 1)
    generator = np.random.RandomState(seed)
    selected = []
    for label, wanted in enumerate(class_counts):
        members = np.flatnonzero(labels == label)
        if members.size < wanted:
            raise ValueError(
                f"Expected at least {wanted} images of class {label}. "
                f"Received: labels with {members.size} of them"
            )
        # Also where all are kept: the generator's state runs through.
        generator.shuffle(members)
        selected.append(members[:wanted])
    return np.concatenate(selected).astype(np.int64)


def effective_number_weights(class_counts, beta: float) -> np.ndarray:
    """Class weights by the inverse effective number of samples.

    `w_k = (1 - beta) / (1 - beta ** n_k)`, scaled to sum to C (Cui et al., CVPR
    2019, https://arxiv.org/abs/1901.05555, equation 10). `beta=0` weighs all
    classes equally, `beta -> 1` by inverse frequency.

    Args:
        class_counts: `(C,)` images per class, n. A class without images has
            weight 0, and the others sum to C all the same.
        beta: in `[0, 1)`.

    Returns:
        float64 array, shape `(C,)`, of sum C.

    Raises:
        ValueError: if `beta` is not in `[0, 1)` or the counts are not valid.

    Warns:
        UserWarning: if counts differ and `beta` is not 0, but the weights of
            all present classes agree within 1%: nothing is re-weighted.

    Example:
        >>> keras_lt.counts.effective_number_weights([500, 50, 5], 0.9).round(3)
        array([0.675, 0.678, 1.647])
    """
    counts = validate_class_counts(class_counts)
    beta = real("beta", beta)
    if not 0 <= beta < 1:
        raise ValueError(f"Expected beta in [0, 1). Received: beta={beta}")
    present = counts > 0
    weights = np.zeros(counts.shape, np.float64)
    if beta == 0:
        weights[present] = 1.0
    else:
        # 1 - beta**n, without cancellation; the factor 1 - beta falls out in
        # the scaling below.
        weights[present] = -1.0 / np.expm1(counts[present] * np.log(beta))
    weights *= counts.size / weights.sum()
    low, high = weights[present].min(), weights[present].max()
    if beta > 0 and np.ptp(counts[present]) and high <= 1.01 * low:
        warnings.warn(
            f"beta={beta} gives weights from {low:.6g} to {high:.6g} to "
            f"classes of {counts[present].min()} to {counts.max()} images: "
            "they agree within 1%, so nothing is re-weighted. Set beta near "
            "1 - 1/n, n images in a typical class, or beta=0 to ask for equal "
            "weights.",
            stacklevel=2,
        )
    return weights


def log_prior(frequencies) -> np.ndarray:
    """Logarithm of class frequencies, `log(n + 1e-6)`.

    Softmax takes a common term out, so counts stand for probabilities. That of
    a class without images is finite, as in the code of DLSA (Xu et al., ECCV
    2022).

    Args:
        frequencies: `(C,)` numbers of at least 0, as images per class; a Series
            or mapping as `validate_class_counts` takes it.

    Returns:
        float64 array, shape `(C,)`.

    Raises:
        ValueError: if they are not such numbers.

    Example:
        >>> keras_lt.counts.log_prior([100, 1, 0]).round(2)
        array([  4.61,   0.  , -13.82])
    """
    values = by_label("frequencies", frequencies, np.float64)
    if values.ndim != 1 or not (np.isfinite(values) & (values >= 0)).all():
        raise ValueError(
            "Expected finite class frequencies of at least 0, of shape (C,). "
            f"Received: {brief(values)}"
        )
    return np.log(values + 1e-6)


def class_shares(name: str, values, num_classes: int) -> np.ndarray:
    """Class frequencies as shares.

    Args:
        name: Name of the argument, for errors.
        values: C numbers of at least 0, as shares or images per class.
        num_classes: C.

    Returns:
        float64 array, shape `(C,)`, of sum 1.

    Raises:
        ValueError: If they are not C finite numbers of at least 0, some above.

    Example:
        >>> keras_lt.counts.class_shares("prior", [300, 100], num_classes=2)
        array([0.75, 0.25])
    """
    try:
        shares = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        shares = np.zeros(0)
    if (
        shares.shape != (num_classes,)
        or not (np.isfinite(shares) & (shares >= 0)).all()
        or not shares.any()
    ):
        raise ValueError(
            f"Expected {name} of {num_classes} classes, finite numbers of at "
            f"least 0, one of them above. Received: {name}={brief(values)}"
        )
    shares = shares / shares.max()  # their sum is finite
    return shares / shares.sum()


def gini(class_counts) -> float:
    """Gini coefficient of class counts, 0 if all classes have as many images.

    `sum_k (2 k - C - 1) n_k / (C N)`, n_1 to n_C in ascending order, N their
    sum; near 1 if one of many classes has all images (Yang et al., IJCV 2022,
    https://arxiv.org/abs/2205.13775, compare long-tailed data sets by it).

    Args:
        class_counts: `(C,)` images per class; empty classes count.

    Returns:
        A number in `[0, 1)`.

    Raises:
        ValueError: if the counts are not valid.

    Example:
        >>> round(keras_lt.counts.gini([100, 10, 0]), 3)
        0.606
    """
    # As floats: products of counts may be too large for integers.
    counts = np.sort(validate_class_counts(class_counts)).astype(np.float64)
    weights = 2.0 * np.arange(1, counts.size + 1) - counts.size - 1
    return float(weights @ counts / (counts.size * counts.sum()))


def shot_groups(
    class_counts, many: float = 100, few: float = 20
) -> dict[str, np.ndarray]:
    """Splits classes by their number of training images.

    `"many"`: n > `many`; `"medium"`: `few` <= n <= `many`; `"few"`:
    0 < n < `few`; `"unseen"`: n = 0 (Liu et al., CVPR 2019,
    https://arxiv.org/abs/1904.05160, whose code counts unseen classes as few).
    CIFAR-10-LT is commonly split at 500 and 200.

    Args:
        class_counts: `(C,)` training images per class, n.
        many: upper threshold, in images.
        few: lower threshold, in images, at most `many`.

    Returns:
        One boolean mask of shape `(C,)` for each of the four names; each class
        is in exactly one.

    Raises:
        ValueError: if not 0 <= `few` <= `many`.

    Example:
        >>> keras_lt.counts.shot_groups([101, 100, 20, 19, 0])["medium"]
        array([False,  True,  True, False, False])
    """
    counts = validate_class_counts(class_counts)
    many, few = real("many", many), real("few", few)
    if not 0 <= few <= many:
        raise ValueError(
            f"Expected 0 <= few <= many. Received: many={many}, few={few}"
        )
    return {
        "many": counts > many,
        "medium": (counts >= few) & (counts <= many) & (counts > 0),
        "few": (counts > 0) & (counts < few),
        "unseen": counts == 0,
    }


@dataclasses.dataclass(frozen=True, eq=False)
class Classes:
    """What scores and figures need to know of the classes of a training.

    Args:
        counts: Training images per class, (C,), as `validate_class_counts`
            takes them.
        names: C names by label id; None takes the label ids.
        many: A class with more training images is many-shot.
        few: A class with fewer training images is few-shot.

    Attributes:
        counts: int64 (C,).
        names: tuple of C texts.
        many: The upper threshold.
        few: The lower threshold.

    Raises:
        TypeError: As `validate_class_counts`, or if names have no order.
        ValueError: As `validate_class_counts` and `shot_groups`, or if there
            are not C names.

    Example:
        >>> classes = keras_lt.counts.Classes(
        ...     [900, 300, 50], ["cat", "dog", "owl"], many=500, few=200
        ... )
        >>> classes.groups["medium"]
        array([False,  True, False])
        >>> len(classes)
        3
    """

    counts: np.ndarray
    names: Sequence[str] | None = None
    many: float = 100
    few: float = 20

    def __post_init__(self):
        counts = validate_class_counts(self.counts, self.names)
        names = self.names
        if names is None:
            names = map(str, range(len(counts)))
        names = names_of_classes.checked([*names], "class_names")
        object.__setattr__(self, "counts", counts)
        object.__setattr__(self, "names", names)
        shot_groups(counts, self.many, self.few)  # checks the thresholds

    @classmethod
    def of(cls, classes: Any) -> "Classes":
        """Classes as they are, or those of class counts, else by default.

        Example:
            >>> keras_lt.counts.Classes.of([900, 300]).many
            100
        """
        return classes if isinstance(classes, cls) else cls(classes)

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def groups(self) -> dict[str, np.ndarray]:
        """The mask (C,) of each shot group, as `shot_groups` gives them."""
        return shot_groups(self.counts, self.many, self.few)
