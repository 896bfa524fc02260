"""How many labels an image has: the distribution of their number, and weights that correct it.

With independent labels the number of true labels of an image follows the Poisson-binomial distribution of its
probabilities. Real label counts do not: where every image has one label, independence puts much mass on none and two.
``fit_count_weights`` finds g in P(y) ∝ g(|y|) Π pᵢ^yᵢ (1 − pᵢ)^(1 − yᵢ) by maximum likelihood, that is, so that the
expected histogram of label counts is the observed one.
"""

from __future__ import annotations

from math import comb

import numpy as np
from numpy.typing import NDArray

from labelstack.support.cores import in_threads

Floats = NDArray[np.float64]
_ONE_BY_ONE = 128  # labels that are counted one by one, however improbable
_SMALL, _TERMS = 0.01, 5  # of more labels: those below this probability, by so many power sums
_CELLS = 2_000_000  # probabilities in one block
_SMOOTH = 0.1  # prior weight, in images, of the squared second differences of log g
_STEPS = 50


def largest_count(P: NDArray[np.floating]) -> int:
    """A number of labels that no row of ``P`` [n, n_labels] exceeds with more than about 1e-8 (Bernstein)."""
    mean = P.sum(axis=1, dtype=np.float64)
    variance = mean - np.einsum("nl,nl->n", P, P, dtype=np.float64)
    return int(min(P.shape[1], np.ceil((mean + 8 * np.sqrt(np.maximum(variance, 0))).max() + 12)))


def count_distribution(P: NDArray[np.floating], most: int) -> NDArray[np.float64]:
    """Poisson-binomial probabilities float64 [n, most + 1] of 0, 1, … ``most`` true labels; larger counts are cut off.

    Parameters
    ----------
    P : float [n, n_labels] in 0 … 1, each row the probabilities of independent labels
    most : largest count

    Notes
    -----
    Of more than 128 labels, those below 0.01 count by their power sums: the logarithm of their generating function is
    Σ ln (1 + p (z − 1)) = Σ_k (−1)^(k+1) Σ pᵏ (z − 1)ᵏ / k, taken to k = 5, which is off by less than 1e-11 a label.
    """
    if P.shape[1] <= _ONE_BY_ONE:
        return _one_by_one(np.ascontiguousarray(P.T), most)
    rows = max(1, _CELLS // P.shape[1])
    blocks = (P[start : start + rows] for start in range(0, len(P), rows))
    return np.concatenate(in_threads(lambda block: _many_labels(block, most), blocks))


def _one_by_one(columns: NDArray[np.floating], most: int, total: Floats | None = None) -> Floats:
    """Counts [n, most + 1] of labels [n_labels, n], added to those of a distribution [most + 1, n]; None: no label."""
    reached = most
    if total is None:
        total, reached = np.zeros((most + 1, columns.shape[1])), 0
        total[0] = 1
    for column in columns[columns.max(axis=1) > 1e-10]:
        p = column.astype(np.float64)
        reached = min(reached + 1, most)
        moved = total[:reached] * p
        total[:reached] -= moved
        if reached == most:
            total[most] *= 1 - p  # the mass above ``most`` leaves
        total[1 : reached + 1] += moved
    return np.ascontiguousarray(total.T)


def _many_labels(P: NDArray[np.floating], most: int) -> Floats:
    row, column = np.nonzero(P >= _SMALL)
    number = np.bincount(row, minlength=len(P))
    large = np.zeros((max(1, int(number.max())), len(P)))
    large[np.arange(len(row)) - np.repeat(np.cumsum(number) - number, number), row] = P[row, column]
    small = np.where(P < _SMALL, P, 0)
    power, sums = small, []
    for k in range(_TERMS):
        power = power * small if k else small
        sums.append(power.sum(axis=1, dtype=np.float64))
    return _one_by_one(large, most, _of_power_sums(sums, most))


def _of_power_sums(sums: list[Floats], most: int) -> Floats:
    """Counts [most + 1, n] whose generating function is the exponential of a polynomial in z."""
    series = [sums[k - 1] * (-1) ** (k + 1) / k for k in range(1, len(sums) + 1)]  # of (z − 1), (z − 1)², …
    h = [sum(comb(k, j) * (-1) ** (k - j) * a for k, a in enumerate(series, 1) if k >= j) for j in range(_TERMS + 1)]
    total = np.zeros((most + 1, len(sums[0])))
    total[0] = np.exp(h[0])
    for count in range(1, most + 1):
        for j in range(1, min(count, _TERMS) + 1):
            total[count] += j / count * h[j] * total[count - j]
    return np.maximum(total, 0)  # rounding


def fit_count_weights(counts: NDArray[np.int64], distribution: NDArray[np.float64]) -> NDArray[np.float64]:
    """log g(0), log g(1), … that make the observed label counts most likely.

    Parameters
    ----------
    counts : int64 [n], true labels of each image
    distribution : float64 [n, most + 1], from ``count_distribution``; ``most`` is at least the largest count

    Returns
    -------
    float64 [most + 1], 0 where the count is the most frequent one. The likelihood is concave in log g; its second
    differences are held small by a weak prior, so counts that were not seen get a finite weight. Newton's method.
    """
    n, width = distribution.shape
    free = min(width, int(counts.max()) + 3)
    offset = np.log(np.maximum(distribution, 1e-300))
    bend = np.diff(np.eye(free), 2, axis=0) if free > 2 else np.zeros((0, free))
    prior = _SMOOTH * bend.T @ bend + 1e-3 * np.eye(free)
    seen = np.bincount(counts, minlength=width)[:free].astype(np.float64)
    spread = np.zeros((free, width))  # beyond the last free weight log g stays level
    spread[np.minimum(np.arange(width), free - 1), np.arange(width)] = 1
    theta, value = np.zeros(free), -np.inf
    step = np.zeros(free)
    for _ in range(_STEPS):
        for _ in range(30):
            trial = theta + step
            scored = offset + trial @ spread
            top = scored.max(axis=1, keepdims=True)
            mass = np.exp(scored - top)
            norm = mass.sum(axis=1, keepdims=True)
            reached = float(seen @ trial - (np.log(norm) + top).sum() - trial @ prior @ trial / 2)
            if reached >= value - 1e-9:
                break
            step = step / 2
        if reached <= value + 1e-7:
            break
        theta, value = trial, reached
        expected = (mass / norm) @ spread.T
        hessian = np.diag(expected.sum(axis=0)) - expected.T @ expected + prior
        step = np.linalg.solve(hessian + 1e-9 * n * np.eye(free), seen - expected.sum(axis=0) - prior @ theta)
    weights = theta @ spread
    return weights - weights[int(seen.argmax())]
