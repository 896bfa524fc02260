"""Bootstrap intervals of a metric over images: how much of a score, or of a difference, is chance."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labelstack.scoring.metric import Metric

_CHUNK_BYTES = 32 * 2**20  # of picked images
_FEW_BYTES = 2 * 2**20


class Interval(NamedTuple):
    """A score, or a difference of two, with the bounds of its bootstrap interval."""

    score: float
    low: float
    high: float


def interval(
    metric: Metric, Y: ArrayLike, given: ArrayLike, *, seed: int = 0, draws: int = 1000, level: float = 0.95
) -> Interval:
    """A score and its percentile bootstrap interval over images (Efron & Tibshirani 1993, chapter 13).

    Parameters
    ----------
    Y : 0/1 or bool [n, n_labels]
    given : what the metric wants, a row for each of Y's
    seed : of the resampling; equal seeds resample equally whatever is given
    draws : resamples of n images with replacement
    level : share of the resampled scores between the bounds

    A metric whose rows are in strata has them resampled there: as many of each as there are.

    Raises
    ------
    ValueError
        On input that does not fit; the message names the argument.

    Notes
    -----
    Memory stays bounded: resamples are taken in chunks. In means over labels, a resample may lose every positive of a
    rare label, whose F is then 0; with many such labels the interval lies low, even below the score.
    """
    true, values = metric.checked(Y, given)
    _check(draws, level)
    resampled = metric.resampled(true, values)
    drawn = _weights(len(true), draws, seed, metric.strata(values))
    scores = np.concatenate([resampled(weights) for weights in drawn])
    return Interval(metric.score(true, values), *_bounds(scores, level))


def interval_of_mean(values: ArrayLike, *, seed: int = 0, draws: int = 1000, level: float = 0.95) -> Interval:
    """The mean of the rows' own scores, float [n], with its interval.

    Other arguments and resamples as in ``interval``.

    Raises
    ------
    ValueError
        Without rows.
    """
    each = np.asarray(values, np.float64)
    _check(draws, level)
    if each.ndim != 1 or not len(each):
        raise ValueError(f"values: expected scores of at least one row, found an array of {each.shape}")
    few = _weights(len(each), draws, seed, chunk=_FEW_BYTES)  # the same draws, few at a time
    means = np.concatenate([weights @ each / len(each) for weights in few])
    return Interval(float(each.mean()), *_bounds(means, level))


def paired(
    metric: Metric,
    Y: ArrayLike,
    a: ArrayLike,
    b: ArrayLike,
    *,
    seed: int = 0,
    draws: int = 1000,
    level: float = 0.95,
) -> Interval:
    """The score of ``a`` minus that of ``b``, with its bootstrap interval: both are scored on the same resamples.

    Narrower than two single intervals suggest, for an image that is hard for one is mostly hard for the other.
    Arguments, errors and notes as in ``interval``.
    """
    true, first = metric.checked(Y, a, "a")
    _, second = metric.checked(Y, b, "b")
    _check(draws, level)
    ours, theirs = (metric.resampled(true, values) for values in (first, second))
    drawn = _weights(len(true), draws, seed, metric.strata(first))
    pairs = [(ours(weights), theirs(weights)) for weights in drawn]
    gains = np.concatenate([a - b for a, b in pairs])
    return Interval(metric.score(true, first) - metric.score(true, second), *_bounds(gains, level))


def paired_per_label(
    metric: Metric,
    Y: ArrayLike,
    a: ArrayLike,
    b: ArrayLike,
    *,
    seed: int = 0,
    draws: int = 1000,
    level: float = 0.95,
) -> list[Interval]:
    """The score of ``a`` minus that of ``b`` for each label alone, each with its bootstrap interval.

    Arguments, errors and resamples as in ``paired``; a metric without scores of single labels is an error. Intervals
    are for one label each: of many labels, some lie outside by chance. Memory: ``draws`` × n_labels × 8 bytes.
    """
    true, first = metric.checked(Y, a, "a")
    _, second = metric.checked(Y, b, "b")
    _check(draws, level)
    ours, theirs = (metric.resampled_per_label(true, values) for values in (first, second))
    whole = np.ones((1, len(true)), np.float32)
    differences = (ours(whole) - theirs(whole))[0]
    resampled = np.concatenate([ours(weights) - theirs(weights) for weights in _weights(len(true), draws, seed)])
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return [Interval(*map(float, values)) for values in zip(differences, low, high, strict=True)]


def _check(draws: int, level: float) -> None:
    if draws < 1 or not 0 < level < 1:
        raise ValueError(f"draws must be at least 1 and level between 0 and 1, not {draws} and {level}")


def _bounds(values: NDArray[np.float64], level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _weights(
    n: int, draws: int, seed: int, strata: NDArray[np.int64] | None = None, chunk: int = _CHUNK_BYTES
) -> Iterator[NDArray[np.float32]]:
    """How often each image occurs in each resample, float32 [some draws, n] a chunk; multinomial, in each stratum."""
    rng = np.random.default_rng(seed)
    size = max(1, chunk // (8 * n))
    one = np.zeros(n, np.int64) if strata is None else strata
    parts = [np.flatnonzero(one == stratum) for stratum in np.unique(one)]
    for start in range(0, draws, size):
        weights = np.empty((min(size, draws - start), n), np.float32)
        for part in parts:
            own, rows = len(part), len(weights)
            picks = rng.integers(0, own, size=(rows, own)) + own * np.arange(rows)[:, None]
            weights[:, part] = np.bincount(picks.ravel(), minlength=rows * own).reshape(rows, own)
        yield weights
