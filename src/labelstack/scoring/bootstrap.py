"""Bootstrap intervals of F-beta over images: how much of a score, or of a difference, is chance."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labelstack.scoring.metrics import AVERAGES, Average, as_binary, f_beta, f_beta_per_image, f_of_counts

_CHUNK_BYTES = 32 * 2**20  # of picked images, and of one matrix of label counts

Score = Callable[[NDArray[np.float32]], NDArray[np.float64]]


class Interval(NamedTuple):
    """A score, or a difference of two, with the bounds of its bootstrap interval."""

    score: float
    low: float
    high: float


def interval(
    Y: ArrayLike,
    labels: ArrayLike,
    *,
    average: Average,
    beta: float = 1.0,
    seed: int = 0,
    draws: int = 1000,
    level: float = 0.95,
) -> Interval:
    """F-beta and its percentile bootstrap interval over images (Efron & Tibshirani 1993, chapter 13).

    Parameters
    ----------
    Y, labels : 0/1 or bool [n, n_labels], true and given
    average, beta : which F-score
    seed : of the resampling; equal seeds resample equally whatever the labels are
    draws : resamples of n images with replacement
    level : share of the resampled scores between the bounds

    Raises
    ------
    ValueError
        On input that does not fit; the message names the argument.

    Notes
    -----
    Memory stays bounded: resamples and labels are taken in chunks. In ``macro``, a resample may lose every positive of
    a rare label, whose F is then 0; with many such labels the interval lies low, even below the score.
    """
    true, given = _checked(Y, labels, "labels", average, draws, level)
    values = _resampled(true, [given], average, beta, seed, draws)[0]
    return Interval(f_beta(true, given, average=average, beta=beta), *_bounds(values, level))


def paired(
    Y: ArrayLike,
    a: ArrayLike,
    b: ArrayLike,
    *,
    average: Average,
    beta: float = 1.0,
    seed: int = 0,
    draws: int = 1000,
    level: float = 0.95,
) -> Interval:
    """F-beta of ``a`` minus that of ``b``, with its bootstrap interval: both are scored on the same resampled images.

    Narrower than two single intervals suggest, for an image that is hard for one is mostly hard for the other.
    Arguments, errors and notes as in ``interval``.
    """
    true, first = _checked(Y, a, "a", average, draws, level)
    _, second = _checked(Y, b, "b", average, draws, level)
    values = _resampled(true, [first, second], average, beta, seed, draws)
    scores = [f_beta(true, given, average=average, beta=beta) for given in (first, second)]
    return Interval(scores[0] - scores[1], *_bounds(values[0] - values[1], level))


def paired_per_label(
    Y: ArrayLike,
    a: ArrayLike,
    b: ArrayLike,
    *,
    beta: float = 1.0,
    seed: int = 0,
    draws: int = 1000,
    level: float = 0.95,
) -> list[Interval]:
    """F-beta of ``a`` minus that of ``b`` for each label alone, each with its bootstrap interval.

    Arguments, errors and resamples as in ``paired``; the mean of the differences is its ``macro`` one. Intervals are
    for one label each: of many labels, some lie outside by chance. Memory: ``draws`` × n_labels × 8 bytes.
    """
    true, first = _checked(Y, a, "a", "macro", draws, level)
    _, second = _checked(Y, b, "b", "macro", draws, level)
    whole = np.ones((1, len(true)), np.float32)
    differences = (_of_labels(true, first, whole, beta) - _of_labels(true, second, whole, beta))[0]
    resampled = np.concatenate(
        [
            _of_labels(true, first, weights, beta) - _of_labels(true, second, weights, beta)
            for weights in _weights(len(true), draws, seed)
        ]
    )
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return [Interval(*map(float, values)) for values in zip(differences, low, high, strict=True)]


def _checked(
    Y: ArrayLike, labels: ArrayLike, name: str, average: str, draws: int, level: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    true, given = as_binary(Y, "Y"), as_binary(labels, name)
    if given.shape != true.shape:
        raise ValueError(f"{name} has shape {given.shape}, Y has {true.shape}: they must be equal")
    if average not in AVERAGES:
        raise ValueError(f"average must be one of {', '.join(AVERAGES)}, not {average!r}")
    if draws < 1 or not 0 < level < 1:
        raise ValueError(f"draws must be at least 1 and level between 0 and 1, not {draws} and {level}")
    return true, given


def _bounds(values: NDArray[np.float64], level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _resampled(
    true: NDArray[np.bool_], given: Sequence[NDArray[np.bool_]], average: Average, beta: float, seed: int, draws: int
) -> NDArray[np.float64]:
    """Scores of each resample, float64 [len(given), draws]."""
    scorer = {"samples": _samples, "micro": _micro, "macro": _macro}[average]
    scores = [scorer(true, labels, beta) for labels in given]
    parts = [np.stack([score(weights) for score in scores]) for weights in _weights(len(true), draws, seed)]
    return np.concatenate(parts, axis=1)


def _weights(n: int, draws: int, seed: int) -> Iterator[NDArray[np.float32]]:
    """How often each image occurs in each resample, float32 [some draws, n] a chunk; multinomial."""
    rng = np.random.default_rng(seed)
    size = max(1, _CHUNK_BYTES // (8 * n))
    for start in range(0, draws, size):
        rows = min(size, draws - start)
        picks = rng.integers(0, n, size=(rows, n)) + n * np.arange(rows)[:, None]
        yield np.bincount(picks.ravel(), minlength=rows * n).reshape(rows, n).astype(np.float32)


def _samples(true: NDArray[np.bool_], given: NDArray[np.bool_], beta: float) -> Score:
    f = f_beta_per_image(true, given, beta=beta)
    # einsum adds in one order; a BLAS product depends in its last digits on the number of threads
    return lambda weights: np.einsum("dn,n->d", weights, f) / len(f)


def _micro(true: NDArray[np.bool_], given: NDArray[np.bool_], beta: float) -> Score:
    counts = [values.sum(axis=1, dtype=np.float64) for values in (true & given, true, given)]

    def score(weights: NDArray[np.float32]) -> NDArray[np.float64]:
        hits, positives, predicted = (np.einsum("dn,n->d", weights, count) for count in counts)
        return f_of_counts(hits, positives, predicted, beta)

    return score


def _macro(true: NDArray[np.bool_], given: NDArray[np.bool_], beta: float) -> Score:
    n, n_labels = true.shape
    width = max(1, _CHUNK_BYTES // (4 * n))

    def score(weights: NDArray[np.float32]) -> NDArray[np.float64]:
        total = np.zeros(len(weights))
        for start in range(0, n_labels, width):
            some = slice(start, start + width)
            total += _of_labels(true[:, some], given[:, some], weights, beta).sum(axis=1)
        return total / n_labels

    return score


def _of_labels(
    true: NDArray[np.bool_], given: NDArray[np.bool_], weights: NDArray[np.float32], beta: float
) -> NDArray[np.float64]:
    """F-beta of each label in each resample, [len(weights), n_labels]."""
    # whole numbers below 2²⁴: exact in float32, in whatever order BLAS adds them
    hits, positives, predicted = (
        (weights @ values.astype(np.float32)).astype(np.float64) for values in (true & given, true, given)
    )
    return f_of_counts(hits, positives, predicted, beta)
