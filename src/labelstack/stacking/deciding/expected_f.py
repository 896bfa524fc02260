"""For each image the label set of the largest expected F-beta.

For labels that are independent given the image, and also for P(y) ∝ g(|y|) Π pᵢ^yᵢ (1 − pᵢ)^(1 − yᵢ), the best set of k
labels is the k most probable ones (Lewis 1995), so only k is searched. With M(i, s) = P(yᵢ = 1, |y| = s),
E[F_k] = (1 + β²) Σ_s Σ_{i ≤ k} M(i, s) / (β² s + k) (Dembczyński et al. 2011, "An exact algorithm for F-measure
maximization"; Ye et al. 2012, "Optimizing F-measures"). M comes from the distribution of the number of true labels with
label i taken out again.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labelstack.stacking.array_checks import check_probability
from labelstack.stacking.deciding.label_counts import count_distribution, largest_count
from labelstack.support.cores import in_threads

_CELLS = 1_000_000  # float64 numbers in one work array
_FIRST = 8  # most probable labels that are looked at first
_TOP = 64  # most probable labels that are sorted, of more than twice as many


def decode(P: ArrayLike, beta: float = 1.0, log_weights: ArrayLike | None = None) -> NDArray[np.bool_]:
    """The label set of each image with the largest expected F-beta, exactly (of more than 128 labels, to 1e-7).

    Parameters
    ----------
    P : float [n, n_labels] in 0 … 1, calibrated
    beta : weight of recall against precision, above 0
    log_weights : float [counts], log g(0), log g(1), … of ``label_counts``; the last holds for larger counts, and
        None means independent labels

    Returns
    -------
    bool [n, n_labels]; of equally good sets the smallest, of equally probable labels the first. An image without any
    chance of a label gets none.
    """
    probability = check_probability(P)
    if not beta > 0:
        raise ValueError(f"beta must be above 0, not {beta}")
    given = np.zeros(probability.shape, np.bool_)
    by_count = np.argsort(probability.sum(axis=1), kind="stable")  # images of a chunk need equally many counts
    rows = max(1, min(4096, _CELLS // (4 * probability.shape[1])))

    def one(start: int) -> None:
        chunk = by_count[start : start + rows]
        p = probability[chunk]
        if p.shape[1] > _TOP * 2:
            chunk = chunk[_decode_top(p, chunk, given, beta, log_weights)]
            p = probability[chunk]
        order = np.argsort(-p, axis=1, kind="stable")
        ranked = np.take_along_axis(p, order, 1).astype(np.float64)
        first = np.arange(order.shape[1]) < _sizes(ranked, p, beta, log_weights)[0][:, None]
        given[chunk[:, None], order] = first

    in_threads(one, range(0, len(given), rows))
    return given


def _decode_top(
    P: NDArray[np.float32], rows: NDArray[np.int64], given: NDArray[np.bool_], beta: float, log_weights: Any
) -> NDArray[np.int64]:
    """Give the rows their best sets among their most probable labels; which of them need a look at all labels."""
    top = np.sort(np.argpartition(-P, _TOP - 1, axis=1)[:, :_TOP], axis=1)
    values = np.take_along_axis(P, top, 1)
    by_value = np.argsort(-values, axis=1, kind="stable")  # of equally probable labels the first
    order, ranked = np.take_along_axis(top, by_value, 1), np.take_along_axis(values, by_value, 1)
    sizes, certain = _sizes(ranked.astype(np.float64), P, beta, log_weights)
    last = np.take_along_axis(ranked, np.maximum(sizes - 1, 0)[:, None], 1)[:, 0]
    certain &= (sizes == 0) | (last > ranked[:, -1])  # as probable a label may have been left out
    given[rows[certain, None], order[certain]] = np.arange(_TOP) < sizes[certain, None]
    return np.flatnonzero(~certain)


def _sizes(
    p: NDArray[np.float64], P: NDArray[np.float32], beta: float, log_weights: ArrayLike | None
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """How many of its most probable labels each image gets, int64 [n], and whether none outside ``p`` may be missing.

    The first labels are looked at; images whose best set may be larger are looked at again with twice as many.

    Parameters
    ----------
    p : [n, labels] the most probable labels, or all, falling in each row
    P : [n, n_labels] all labels
    """
    n, known_labels = p.shape
    if not n:
        return np.zeros(0, np.int64), np.ones(0, np.bool_)
    most = largest_count(P)
    counts = count_distribution(P, most)
    if log_weights is None:
        tilted = np.ones_like(counts)
    else:
        known = np.asarray(log_weights, np.float64)
        log_g = known[np.minimum(np.arange(most + 1), len(known) - 1)]
        scale = np.log(np.maximum(counts, 1e-300)) + log_g
        tilted = np.exp(log_g - scale.max(axis=1, keepdims=True))  # the norm does not change which k is best
    sizes, sure = np.zeros(n, np.int64), np.ones(n, np.bool_)
    left, width = np.arange(n), min(_FIRST, known_labels)
    while len(left):
        unsure = []
        rows = max(1, _CELLS // (width * (most + 1)))
        for start in range(0, len(left), rows):
            chunk = left[start : start + rows]
            sizes[chunk], certain = _best_of_first(p[chunk, :width], P.shape[1], counts[chunk], tilted[chunk], beta)
            unsure.append(chunk[~certain])
        left = np.concatenate(unsure)
        if width == known_labels:
            sure[left] = False
            break
        width = min(2 * width, known_labels)
    return sizes, sure


def _best_of_first(
    p: NDArray[np.float64], n_labels: int, counts: NDArray[np.float64], tilt: NDArray[np.float64], beta: float
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The best k up to the number of labels in ``p``, and whether no larger k can be better."""
    width, most = p.shape[1], counts.shape[1] - 1
    joint = _joint(p, counts) * tilt[:, None, 1:]
    s = np.arange(1, most + 1, dtype=np.float64)
    share = 1 / (beta**2 * s + np.arange(1, n_labels + 1, dtype=np.float64)[:, None])  # [k, s]
    sums = np.cumsum(joint, axis=1)
    value = np.einsum("nks,ks->nk", sums, share[:width])
    best = value.max(axis=1)
    sizes = np.where(best > 0, np.argmax(value >= best[:, None] * (1 - 1e-12), axis=1) + 1, 0)
    if width == n_labels:
        return sizes, np.ones(len(p), np.bool_)
    # A label further down is less probable at every count, so it adds at most what the last one looked at adds.
    more = np.arange(1, n_labels - width + 1, dtype=np.float64)
    bound = sums[:, -1] @ share[width:].T + (joint[:, -1] @ share[width:].T) * more
    return sizes, bound.max(axis=1) <= best


def _joint(p: NDArray[np.float64], counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """P(yᵢ = 1, |y| = s) [n, labels, most] for s = 1 … most: label i is divided out of the distribution of counts.

    Division goes upwards from no label for p ≤ 1/2 and downwards from the largest count above it: rounding shrinks.
    """
    most = counts.shape[1] - 1
    q = 1 - p
    rest = np.empty((most, *p.shape))
    low = p <= 0.5
    up, ratio = np.where(low, 1 / np.where(low, q, 1), 0), np.where(low, p / np.where(low, q, 1), 0)
    before = np.zeros(p.shape)
    for s in range(most):
        before = counts[:, s, None] * up - ratio * before
        rest[s] = before
    if not low.all():
        down, ratio = np.where(low, 0, 1 / np.where(low, 1, p)), np.where(low, 0, q / np.where(low, 1, p))
        above = np.zeros(p.shape)
        for s in range(most, 0, -1):
            above = counts[:, s, None] * down - ratio * above
            rest[s - 1] = np.where(low, rest[s - 1], above)
    joint: NDArray[np.float64] = np.moveaxis(np.maximum(rest, 0) * p, 0, 2)
    return joint
