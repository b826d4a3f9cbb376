"""One self-contained page of a division: which samples each level keeps, and
how pure its clusters are.
"""

import os
from collections.abc import Sequence

import numpy as np

from keras_lt import plots
from keras_lt.counts import Classes
from keras_lt.metrics import GROUPS
from keras_lt.models import dlsa
from keras_lt.report.ids import checked_ids
from keras_lt.report.page import group_of
from keras_lt.report.rendering import counted, percent, text, write_page

_TRIMMED = 0.5  # percent of the likelihoods at either end


def write_division(
    path: str | os.PathLike,
    levels: Sequence[dlsa.Level],
    labels: Sequence[int],
    classes: Classes | Sequence[int],
    *,
    title: str = "division",
) -> None:
    """Write a page about a division, in one file that needs no network.

    It shows which classes go to which level, head against tail, and of each
    level how its clusters' purity and its likelihoods are distributed among
    the samples that come to it.

    Args:
        path: File to write, new or a page of keras_lt.
        levels: From the top down, as `keras_lt.models.DLSA.inspect` gives
            them.
        labels: Label ids of the samples that the levels saw, integers (N,).
        classes: `keras_lt.counts.Classes`, or training images per class,
            integers (C,).
        title: Heading of the page.

    Raises:
        ValueError: If lengths differ; if labels or clusters are out of their
            range; if a likelihood or threshold is not finite; or if `path`
            holds something else than a page of keras_lt.
        OSError: If `path` can't be written.

    Example:
        >>> features, labels = keras_lt.features.extract(stage1, train)
        >>> keras_lt.report.write_division(
        ...     "division.html",
        ...     dlsa.inspect(features),
        ...     labels,
        ...     keras_lt.counts.Classes(class_counts, class_names),
        ... )
    """
    classes = Classes.of(classes)
    num_classes = len(classes)
    labels = checked_ids(labels, num_classes, "labels")
    levels = [
        _checked_level(level, len(labels), f"levels[{number}]")
        for number, level in enumerate(levels)
    ]
    shown = {"levels": []}
    if levels:
        shown = _shown(levels, labels, classes)
    write_page(
        path,
        "division",
        title,
        [
            counted(num_classes, "class"),
            counted(len(labels), "sample"),
            counted(len(levels), "level"),
        ],
        **shown,
    )


def _shown(
    levels: Sequence[dlsa.Level], labels: np.ndarray, classes: Classes
) -> dict:
    """The values that the template shows."""
    found = dlsa.route(levels, len(labels))
    names = [*(f"level {i + 1}" for i in range(len(levels))), "left"]
    samples = {
        name: np.bincount(labels[found == number], minlength=len(classes))
        for number, name in enumerate(names)
    }
    return {
        "table": _levels(levels, found, labels, samples, classes.groups),
        "shares": plots.level_shares(samples, classes),
        "levels": [
            {
                "name": names[number],
                "clusters": None,
                **_figures(level, labels, found >= number, classes),
            }
            for number, level in enumerate(levels)
        ],
        "trimmed": _TRIMMED,
        "classes": _classes(classes, samples),
        "is_long": len(classes) > plots.MAX_NAMED,
    }


def _checked_level(level: dlsa.Level, size: int, name: str) -> dlsa.Level:
    log_likelihood = np.asarray(level.log_likelihood)
    shapes = log_likelihood.shape, np.shape(level.clusters)
    if shapes != ((size,), (size,)):
        raise ValueError(
            f"Expected a likelihood and a cluster for each of {size} labels. "
            f"Received: shapes {shapes[0]}, {shapes[1]} in {name}"
        )
    unbounded = ~np.isfinite(log_likelihood)
    if unbounded.any():
        item = int(unbounded.argmax())
        raise ValueError(
            "Expected finite likelihoods. Received: "
            f"{name}.log_likelihood[{item}]={log_likelihood[item]}"
        )
    if not np.isfinite(level.threshold):
        raise ValueError(
            "Expected a finite threshold. "
            f"Received: {name}.threshold={level.threshold}"
        )
    clusters = checked_ids(
        level.clusters, level.num_clusters, f"{name}.clusters"
    )
    return level._replace(log_likelihood=log_likelihood, clusters=clusters)


def _levels(
    levels: Sequence[dlsa.Level],
    found: np.ndarray,
    labels: np.ndarray,
    samples: dict[str, np.ndarray],
    groups: dict[str, np.ndarray],
) -> tuple:
    """Header and rows of the table of levels."""
    shown = [g for g in GROUPS if groups[g].any() or g != "unseen"]
    by_class = np.stack(list(samples.values()))  # (levels + 1, C)
    came = by_class[::-1].cumsum(axis=0)[::-1]
    rows = []
    for number, name in enumerate(samples):
        row = [
            name,
            f"{came[number].sum():,}",
            f"{by_class[number].sum():,}",
            *(
                _share(
                    by_class[number, groups[group]].sum(),
                    by_class[:, groups[group]].sum(),
                )
                for group in shown
            ),
        ]
        if number < len(levels):
            level = levels[number]
            (of_came, sizes), (of_kept, _) = (
                _purity(level, labels, chosen, len(by_class[0]))
                for chosen in (found >= number, found == number)
            )
            row += [
                of_came,
                of_kept,
                _share(came[number].max(), came[number].sum()),
                f"{(sizes == 0).sum():,} of {level.num_clusters:,}",
                text(float(level.threshold)),
            ]
        else:
            row += [""] * 5
        rows.append(row)
    header = [
        *("level", "samples", "kept"),
        *(f"{group} kept" for group in shown),
        *("purity", "purity, kept", "largest class"),
        *("empty clusters", "threshold"),
    ]
    return header, rows


def _purity(
    level: dlsa.Level,
    labels: np.ndarray,
    chosen: np.ndarray,
    num_classes: int,
) -> tuple[str, np.ndarray]:
    """Mean purity among the chosen samples, and the clusters' sizes."""
    frequencies, sizes = dlsa.class_frequencies(
        level.clusters[chosen], labels[chosen], level.num_clusters, num_classes
    )
    return _share(sizes @ frequencies.max(axis=1), sizes.sum()), sizes


def _share(part: float, whole: float) -> str:
    return percent(part / whole if whole else None)


def _figures(
    level: dlsa.Level,
    labels: np.ndarray,
    came: np.ndarray,
    classes: Classes,
) -> dict:
    """Figures of the samples that come to a level; none if none comes."""
    if not came.any():
        return {}
    labels, likelihood = labels[came], level.log_likelihood[came].astype(float)
    ends = np.percentile(likelihood, [_TRIMMED, 100 - _TRIMMED])
    likelihood = likelihood.clip(*ends)
    groups = classes.groups
    sets, colors = {}, []
    for group in GROUPS:
        members = likelihood[groups[group][labels]]
        if len(members):
            sets[f"{group} ({len(members):,})"] = members
            colors.append(plots.COLORS[group])
    frequencies, sizes = dlsa.class_frequencies(
        level.clusters[came], labels, level.num_clusters, len(classes)
    )
    return {
        "clusters": plots.cluster_purity(frequencies, sizes, classes),
        "likelihood": plots.share_histogram(
            sets,
            "log-likelihood",
            40,
            limits=(
                min(ends[0], level.threshold),
                max(ends[1], level.threshold),
            ),
            colors=colors,
            threshold=level.threshold,
        ),
    }


def _classes(classes: Classes, samples: dict[str, np.ndarray]) -> tuple:
    groups = classes.groups
    rows = [
        [
            classes.names[label],
            group_of(groups, label),
            f"{classes.counts[label]:,}",
            *(f"{by_class[label]:,}" for by_class in samples.values()),
        ]
        for label in np.argsort(-classes.counts, kind="stable")
    ]
    return ["class", "group", "training images", *samples], rows
