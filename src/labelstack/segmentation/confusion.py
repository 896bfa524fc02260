"""How well class maps agree with the truth: pixel accuracy and intersection over union out of one count."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]


def confusion_matrix(
    truth: NDArray[np.integer[Any]], given: NDArray[np.integer[Any]], classes: int, ignored: int | None = None
) -> Counts:
    """Pixels by true and given class, int64 [classes, classes], in one pass.

    Parameters
    ----------
    truth, given : int, of one shape
        Classes 0 … classes − 1; of ``truth`` also ``ignored``, whose pixels count nothing.

    Raises
    ------
    ValueError
        Shapes that differ, or classes outside.
    """
    truth, given = np.asarray(truth), np.asarray(given)
    if truth.shape != given.shape:
        raise ValueError(f"class maps of one size are compared, not {truth.shape} and {given.shape}")
    if ignored is not None:
        counted = truth != ignored
        truth, given = truth[counted], given[counted]
    for name, values in (("truth", truth), ("given", given)):
        if values.size and not 0 <= values.min() <= values.max() < classes:
            raise ValueError(f"{name}: classes are 0 … {classes - 1}, not {values.min()} … {values.max()}")
    pairs = truth.ravel().astype(np.int64) * classes + given.ravel()
    return np.bincount(pairs, minlength=classes**2).reshape(classes, classes)


def class_iou(matrix: NDArray[Any]) -> NDArray[np.float64]:
    """Intersection over union of each class, float64 [..., classes]; NaN of one that occurs nowhere.

    Parameters
    ----------
    matrix : [..., classes, classes]
        From ``confusion_matrix``, summed over photos.
    """
    hit = np.diagonal(matrix, axis1=-2, axis2=-1).astype(np.float64)
    union = matrix.sum(-1) + matrix.sum(-2) - hit
    return np.divide(hit, union, out=np.full(hit.shape, np.nan), where=union > 0)


def pixel_scores(matrix: NDArray[Any], background: int) -> dict[str, float]:
    """Scores of the photos that were counted together.

    Returns
    -------
    dict
        ``mean_iou``: over the classes that truth has, background left out; ``pixel_accuracy``: the share of right
        pixels among those whose truth is not background (fastai's ``acc_fashion``); ``mean_iou_all`` and
        ``pixel_accuracy_all``: the same with background. NaN where nothing is to be counted.
    """
    matrix = np.asarray(matrix)
    per_class, there = class_iou(matrix), matrix.sum(-1) > 0
    off = np.arange(len(matrix)) != background
    scores = {}
    for suffix, chosen in (("", off), ("_all", np.ones_like(off))):
        iou = per_class[chosen & there]
        pixels, hit = matrix[chosen].sum(), np.diagonal(matrix)[chosen].sum()
        scores[f"mean_iou{suffix}"] = float(iou.mean()) if len(iou) else float("nan")
        scores[f"pixel_accuracy{suffix}"] = float(hit / pixels) if pixels else float("nan")
    return scores


def bootstrap_scores(
    matrices: NDArray[Any], background: int, *, repeats: int = 1000, seed: int = 0, level: float = 0.95
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of ``pixel_scores`` over photos drawn with replacement.

    Parameters
    ----------
    matrices : int [n, classes, classes]
        One for each photo.
    """
    n = len(matrices)
    counts = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=repeats)
    sums = counts @ matrices.reshape(n, -1)
    drawn = [pixel_scores(one.reshape(matrices.shape[1:]), background) for one in sums]
    ends = (1 - level) / 2, (1 + level) / 2
    low_high = {key: np.nanquantile([one[key] for one in drawn], ends) for key in drawn[0]}
    return {key: (float(low), float(high)) for key, (low, high) in low_high.items()}
