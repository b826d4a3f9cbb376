"""One self-contained page of the images that a draw picks and leaves out."""

import os
from collections.abc import Sequence

import numpy as np

from keras_lt import plots
from keras_lt.messages import brief
from keras_lt.report.ids import checked_ids
from keras_lt.report.rendering import counted, write_page


def write_selection(
    path: str | os.PathLike,
    images: np.ndarray,
    labels: Sequence[int],
    probabilities: Sequence[float],
    drawn: Sequence[int],
    class_names: Sequence[str],
    *,
    title: str = "selection",
    most: int = 60,
) -> None:
    """Write a page about a drawn subset, in one file that needs no network.

    It counts what was drawn of each class. Of the largest class with images
    left out it shows drawn and left-out ones side by side, by the
    probability p that the model gave to the class at the draw.

    Args:
        path: File to write, new or a page of keras_lt.
        images: Training images (N, H, W, C) from 0 to 255, C being 1 or 3; an
            array, or the `images` of a data set of files.
        labels: Label ids, integers (N,).
        probabilities: p of each image's own class, float (N,).
        drawn: Indices of the drawn images, distinct integers (k,).
        class_names: C names by label id.
        title: Heading of the page.
        most: Images to show of the drawn and of the left-out ones. Of more,
            those at evenly spaced ranks of p.

    Raises:
        ValueError: If lengths differ; if labels, probabilities, indices or
            the images to show are out of their range; if an index comes
            twice; or if `path` holds something else than a page of keras_lt.
        OSError: If `path` can't be written.

    Example:
        >>> drawn = np.flatnonzero(labels != 0)
        >>> head = np.flatnonzero(labels == 0)
        >>> chosen = keras_lt.dpp.sample(p[head], 50, seed=0, scale="n")
        >>> keras_lt.report.write_selection(
        ...     "selection.html",
        ...     images,
        ...     labels,
        ...     p,
        ...     np.concatenate([drawn, head[chosen]]),
        ...     class_names,
        ... )
    """
    labels = checked_ids(labels, len(class_names), "labels")
    p = np.asarray(probabilities, float)
    if not p.shape == labels.shape == images.shape[:1]:
        raise ValueError(
            "Expected images, labels and probabilities of one length. "
            f"Received: shapes {images.shape}, {labels.shape}, {p.shape}"
        )
    _refuse_outside(p)
    is_drawn = _mask(drawn, len(labels))
    if most < 1:
        raise ValueError(f"Expected at least 1 to show. Received: most={most}")
    counts = np.bincount(labels, minlength=len(class_names))
    order = np.argsort(-counts, kind="stable")
    left_out = np.bincount(labels[~is_drawn], minlength=len(class_names))
    head = next((label for label in order if left_out[label]), None)
    figures = None
    if head is not None:
        of_class = labels == head
        members = {
            "drawn": np.flatnonzero(of_class & is_drawn),
            "left out": np.flatnonzero(of_class & ~is_drawn),
        }
        figures = _figures(images, p, members, most)
    write_page(
        path,
        "selection",
        title,
        [
            counted(len(class_names), "class"),
            f"{len(labels):,} training images",
            f"{is_drawn.sum():,} drawn",
        ],
        figures=figures,
        class_name=None if head is None else class_names[head],
        classes=_classes(labels, p, is_drawn, order, class_names),
        is_long=len(class_names) > plots.MAX_NAMED,
    )


def _refuse_outside(p: np.ndarray) -> None:
    outside = ~((p >= 0) & (p <= 1))  # NaN too
    if outside.any():
        item = int(outside.argmax())
        raise ValueError(
            "Expected probabilities from 0 to 1. "
            f"Received: probabilities[{item}]={p[item]}"
        )


def _mask(drawn, size: int) -> np.ndarray:
    drawn = np.asarray(drawn)
    if (
        drawn.ndim != 1
        or (drawn.size and drawn.dtype.kind not in "iu")
        or not ((drawn >= 0) & (drawn < size)).all()
        or len(np.unique(drawn)) != len(drawn)
    ):
        raise ValueError(
            f"Expected distinct integer indices (k,) from 0 to {size - 1}. "
            f"Received: drawn={brief(drawn)}"
        )
    mask = np.zeros(size, bool)
    mask[drawn.astype(int)] = True
    return mask


def _figures(
    images: np.ndarray,
    p: np.ndarray,
    members: dict[str, np.ndarray],
    most: int,
) -> dict:
    """Figures of one class; `members` are its drawn and left-out images."""
    sheets = {}
    for what, items in members.items():
        shown = _by_rank(items, p, most)
        size = f"{len(items):,}"
        if len(shown) < len(items):
            size = f"{len(shown):,} of {size}"
        sheets[f"{what} ({size})"] = images[shown], p[shown]
    shares = {
        f"{what} ({len(items):,})": p[items] for what, items in members.items()
    }
    return {
        "images": plots.contact_sheets(sheets),
        "probabilities": plots.share_histogram(shares, "p"),
    }


def _by_rank(items: np.ndarray, p: np.ndarray, most: int) -> np.ndarray:
    """At most `most` of `items`, by p, with the lowest and the highest."""
    ranks = np.linspace(0, len(items) - 1, min(len(items), most))
    by_p = items[np.argsort(p[items], kind="stable")]
    return by_p[np.rint(ranks).astype(int)]


def _classes(
    labels: np.ndarray,
    p: np.ndarray,
    is_drawn: np.ndarray,
    order: np.ndarray,
    class_names: Sequence[str],
) -> tuple:
    columns = []
    for chosen in (is_drawn, ~is_drawn):
        sizes = np.bincount(labels[chosen], minlength=len(order))
        sums = np.bincount(labels[chosen], p[chosen], minlength=len(order))
        columns.append((sizes, sums))
    (drawn, _), (left_out, _) = columns
    rows = [
        [
            class_names[label],
            f"{drawn[label] + left_out[label]:,}",
            f"{drawn[label]:,}",
            *(
                f"{sums[label] / sizes[label]:.3f}" if sizes[label] else "n/a"
                for sizes, sums in columns
            ),
        ]
        for label in order
    ]
    header = ["class", "images", "drawn", "mean p, drawn", "mean p, left out"]
    return header, rows
