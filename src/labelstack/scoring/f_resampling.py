"""F-beta of many resamples, of single rows' shares in it, and of all thresholds at once: counts, never a loop."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from labelstack.scoring.metrics import Average, f_beta_per_image, f_of_counts

Answers = NDArray[np.bool_]
Floats = NDArray[np.float64]
Resampled = Callable[[NDArray[np.float32]], Floats]

_CHUNK_BYTES = 32 * 2**20  # of one matrix of label counts
_BINS = 100  # thresholds 0, 0.01, …, 0.99


def resampled(true: Answers, given: Answers, average: Average, beta: float) -> Resampled:
    """A function from how often each row occurs, float32 [draws, n], to F-beta float64 [draws]."""
    return {"samples": _samples, "micro": _micro, "macro": _macro}[average](true, given, beta)


def mean_of_rows(rows: Floats) -> Resampled:
    """The same for a score that is the mean of its rows' scores float64 [n]."""
    # einsum adds in one order; a BLAS product depends in its last digits on the number of threads
    return lambda weights: np.einsum("dn,n->d", weights, rows) / len(rows)


def of_labels(true: Answers, given: Answers, weights: NDArray[np.float32], beta: float) -> Floats:
    """F-beta of each label in each resample, [len(weights), n_labels]."""
    # whole numbers below 2²⁴: exact in float32, in whatever order BLAS adds them
    hits, positives, predicted = (
        (weights @ values.astype(np.float32)).astype(np.float64) for values in (true & given, true, given)
    )
    return f_of_counts(hits, positives, predicted, beta)


def influence(Y: Answers, given: Answers, average: Average, beta: float) -> Floats:
    """What each image adds to F, to first order: its own F (samples), or its part in the counts of labels or of all.

    F = Σ a / Σ b over images changes by (a − F b) / mean b with an image's weight (infinitesimal jackknife).
    """
    if average == "samples":
        return f_beta_per_image(Y, given, beta=beta)
    a, b = (1 + beta**2) * (Y & given), beta**2 * Y.astype(np.float32) + given
    if average == "micro":
        a, b = a.sum(axis=1, keepdims=True), b.sum(axis=1, keepdims=True)
    mean = b.mean(axis=0)
    f = np.divide(a.mean(axis=0), mean, out=np.zeros_like(mean, dtype=np.float64), where=mean > 0)
    return np.asarray(((a - f * b) / np.where(mean > 0, mean, 1)).mean(axis=1), np.float64)


class BestThreshold:
    """F-beta of a probability matrix at its best threshold, all thresholds at once through histograms.

    Parameters
    ----------
    Y : bool [n, n_labels]
    average, beta : which F-score
    some : flat places int64 [cells] of all cells that may reach 0.01; what is called is then given these alone. None:
        all cells
    """

    def __init__(self, Y: Answers, average: Average, beta: float, some: NDArray[np.int64] | None = None) -> None:
        self.beta = beta
        n, n_labels = Y.shape
        self.groups = {"samples": n, "macro": n_labels, "micro": 1}[average]
        place = np.arange(Y.size) if some is None else some
        group = {"samples": place // n_labels, "macro": place % n_labels, "micro": np.zeros_like(place)}[average]
        self.offset = group.astype(np.int32) * np.int32(_BINS)
        self.positives = np.flatnonzero(Y.ravel()[place])
        axis = {"samples": 1, "macro": 0, "micro": None}[average]
        self.true = np.atleast_1d(Y.sum(axis=axis)).astype(np.float64)[:, None]
        self.cells = Y.size / self.groups

    def __call__(self, P: NDArray[np.float32]) -> float:
        """F-beta of P in 0 … 1: [n, n_labels], or the values [cells] of some cells."""
        bins = np.minimum((P.ravel() * np.float32(_BINS)).astype(np.int32), _BINS - 1)
        bins += self.offset
        predicted = self._at_or_above(bins, self.cells)
        hits = self._at_or_above(bins[self.positives], self.true[:, 0])
        return float(f_of_counts(hits, self.true, predicted, self.beta).mean(axis=0).max())

    def _at_or_above(self, bins: NDArray[np.int32], everything: Floats | float) -> Floats:
        """Counts [groups, thresholds] in falling order of thresholds; ``everything`` is at or above the last, 0."""
        counts = np.bincount(bins, minlength=self.groups * _BINS).reshape(self.groups, _BINS)
        found = np.cumsum(counts[:, ::-1], axis=1).astype(np.float64)
        found[:, -1] = everything
        return found


def _samples(true: Answers, given: Answers, beta: float) -> Resampled:
    return mean_of_rows(f_beta_per_image(true, given, beta=beta))


def _micro(true: Answers, given: Answers, beta: float) -> Resampled:
    counts = [values.sum(axis=1, dtype=np.float64) for values in (true & given, true, given)]

    def score(weights: NDArray[np.float32]) -> Floats:
        hits, positives, predicted = (np.einsum("dn,n->d", weights, count) for count in counts)
        return f_of_counts(hits, positives, predicted, beta)

    return score


def _macro(true: Answers, given: Answers, beta: float) -> Resampled:
    n, n_labels = true.shape
    width = max(1, _CHUNK_BYTES // (4 * n))

    def score(weights: NDArray[np.float32]) -> Floats:
        total = np.zeros(len(weights))
        for start in range(0, n_labels, width):
            some = slice(start, start + width)
            total += of_labels(true[:, some], given[:, some], weights, beta).sum(axis=1)
        return total / n_labels

    return score
