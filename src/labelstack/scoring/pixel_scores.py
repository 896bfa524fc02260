"""Scores of class maps: accuracy off background, intersection over union of each class, all of one confusion matrix."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Counts = NDArray[np.int64]


def confusion(true: ArrayLike, given: ArrayLike, classes: int) -> Counts:
    """How many pixels of each true class were called each class, int64 [classes, classes]; add those of many photos.

    Parameters
    ----------
    true, given : whole numbers 0 … classes − 1, of one shape

    Raises
    ------
    ValueError
        When shapes differ or a class is none of them.
    """
    a, b = np.asarray(true), np.asarray(given)
    if a.shape != b.shape:
        raise ValueError(f"true and given must have one shape, not {a.shape} and {b.shape}")
    for name, values in (("true", a), ("given", b)):
        if values.size and not (values.min() >= 0 and values.max() < classes):
            raise ValueError(f"{name}: expected classes 0 … {classes - 1}, found {values.min()} … {values.max()}")
    pairs = a.astype(np.int64).ravel() * classes + b.ravel()
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def pixel_accuracy(counts: Counts, background: int | None = None) -> float:
    """Share of pixels called what they are, of those whose true class is not the background; NaN where there are none.

    With a background this is nik-hil's `acc_fashion` (nik-hil/imaterialist-fashion-2019-FGVC6).
    """
    rows = np.arange(len(counts)) != (-1 if background is None else background)
    total = counts[rows].sum()
    return float(np.diag(counts)[rows].sum() / total) if total else float("nan")


def class_iou(counts: Counts) -> NDArray[np.float64]:
    """Intersection over union of each class, float64 [classes]; NaN for a class neither true nor given anywhere."""
    hit = np.diag(counts)
    union = counts.sum(axis=0) + counts.sum(axis=1) - hit
    return np.divide(hit, union, out=np.full(len(counts), np.nan), where=union > 0)


def mean_iou(counts: Counts, background: int | None = None) -> float:
    """Mean of the classes' intersections over unions, those that occur nowhere left out, and the background if told.

    NaN where no class is left.
    """
    found = class_iou(counts)
    kept = ~np.isnan(found)
    if background is not None:
        kept[background] = False
    return float(found[kept].mean()) if kept.any() else float("nan")
