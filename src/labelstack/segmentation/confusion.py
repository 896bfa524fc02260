"""How well class maps agree with the truth: pixel accuracy and intersection over union out of one count."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
_DRAWN = 250_000  # numbers of photos' times that are drawn at once


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


def class_counts(matrix: NDArray[Any]) -> Counts:
    """What scores need of a matrix: int64 [..., 3, classes], right pixels of each class, those it has, those given it.

    Of many photos that is little to keep. Counts of several photos may be summed.

    Parameters
    ----------
    matrix : [..., classes, classes]
        From ``confusion_matrix``.
    """
    matrix = np.asarray(matrix, np.int64)
    return np.stack([np.diagonal(matrix, axis1=-2, axis2=-1), matrix.sum(-1), matrix.sum(-2)], axis=-2)


def class_iou(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Intersection over union of each class, float64 [..., classes]; NaN of one that occurs nowhere.

    Parameters
    ----------
    counts : [..., 3, classes]
        From ``class_counts``.
    """
    hit, true, given = np.moveaxis(np.asarray(counts), -2, 0)
    union = true + given - hit
    return np.divide(hit, union, out=np.full(hit.shape, np.nan), where=union > 0)


def pixel_scores(counts: NDArray[Any], background: int) -> dict[str, float]:
    """Scores of the photos that were counted together.

    Parameters
    ----------
    counts : [3, classes]
        From ``class_counts``.

    Returns
    -------
    dict
        ``mean_iou``: over the classes that truth has, background left out; ``pixel_accuracy``: the share of right
        pixels among those whose truth is not background (fastai's ``acc_fashion``); ``mean_iou_all`` and
        ``pixel_accuracy_all``: the same with background. NaN where nothing is to be counted.
    """
    return {key: float(value) for key, value in _scores(np.asarray(counts), background).items()}


def bootstrap_scores(
    counts: NDArray[Any], background: int, *, repeats: int = 1000, seed: int = 0, level: float = 0.95
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of ``pixel_scores`` over photos drawn with replacement.

    Parameters
    ----------
    counts : int [n, 3, classes]
        Of each photo.
    """
    n = len(counts)
    draw, share, flat = np.random.default_rng(seed), np.full(n, 1 / n), counts.reshape(n, -1)
    at_once = max(1, min(repeats, _DRAWN // max(n, 1)))
    parts = [
        draw.multinomial(n, share, size=min(at_once, repeats - start)) @ flat for start in range(0, repeats, at_once)
    ]
    sums = np.concatenate(parts).reshape(repeats, *counts.shape[1:])
    ends = (1 - level) / 2, (1 + level) / 2
    low_high = {key: np.nanquantile(values, ends) for key, values in _scores(sums, background).items()}
    return {key: (float(low), float(high)) for key, (low, high) in low_high.items()}


def _scores(counts: NDArray[Any], background: int) -> dict[str, NDArray[np.float64]]:
    """``pixel_scores`` of counts [..., 3, classes], float64 [...] each."""
    per_class, hit, true = class_iou(counts), counts[..., 0, :], counts[..., 1, :]
    off = np.arange(counts.shape[-1]) != background
    found = {}
    for suffix, chosen in (("", off), ("_all", np.ones_like(off))):
        there = chosen & (true > 0)
        found[f"mean_iou{suffix}"] = _share(np.where(there, per_class, 0).sum(-1), there.sum(-1))
        found[f"pixel_accuracy{suffix}"] = _share((hit * chosen).sum(-1), (true * chosen).sum(-1))
    return found


def _share(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[np.float64]:
    return np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=np.asarray(whole) > 0)
