"""The simplex search for blend weights against the published one written out plainly: seconds, evaluations, F2.

    python benchmarks/blend_search.py [images] [members] [labels]

Members are made up, with about as many labels an image as iMet 2019 has. Both searches go on the same rows and folds:
once on all rows, and once without each fold for the cross-fitted F2, where a fold's rows are decided by weights of the
other folds and by the mean of each member's thresholds there. Seconds are of one core's time; thresholds are found in
the same way for both, once, and told apart.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from labelstack.scoring.metrics import f_of_counts
from labelstack.stacking.deciding.thresholds import best_global
from labelstack.stacking.weight_search import nelder_mead

K = 5
Members = dict[str, NDArray[np.float32]]
Labels = NDArray[np.bool_]
Ids = NDArray[np.int64]
Weights = NDArray[np.float64]


@dataclass
class Found:
    """Seconds of the search, how often F2 was computed, F2 on the rows searched on, weights of sum 1."""

    seconds: float
    evaluations: int
    score: float
    weights: Weights


def made_up(n: int, n_members: int, n_labels: int) -> tuple[Members, Labels]:
    """About three labels an image, Zipf-like; members that err together and alone."""
    rng = np.random.default_rng(0)
    often = np.minimum(3.2 / np.arange(1, n_labels + 1) / np.log(n_labels), 0.6)
    Y = rng.random((n, n_labels)) < often
    shared = rng.standard_normal(Y.shape, dtype=np.float32) + np.log(often / (1 - often)).astype(np.float32)
    members = {}
    for place in range(n_members):
        noise = rng.standard_normal(Y.shape, dtype=np.float32) * np.float32(0.8 + 0.1 * place)
        members[f"m{place}"] = 1 / (1 + np.exp(-(3 * Y + shared + noise - 0.5), dtype=np.float32))
    return members, Y


def thresholds_of(members: Members, Y: Labels, folds: Ids) -> tuple[NDArray[np.float32], float]:
    """Each member's best threshold for F2 in each fold, float32 [members, k], and the seconds they took."""
    start = time.process_time()
    found = [[best_global(Y[folds == f], P[folds == f], "samples", 2) for f in range(K)] for P in members.values()]
    return np.array(found, np.float32), time.process_time() - start


def f2(Y: Labels, given: Labels) -> float:
    """Samples F2."""
    hits, predicted = (given & Y).sum(axis=1).astype(np.float64), given.sum(axis=1).astype(np.float64)
    return float(f_of_counts(hits, Y.sum(axis=1).astype(np.float64), predicted, 2).mean())


def plain(members: Members, Y: Labels, folds: Ids, thresholds: NDArray[np.float32]) -> Found:
    """The published search: the whole matrix of each member, weighed and summed anew for every step."""
    start = time.process_time()
    margins = [P - own[folds][:, None] for P, own in zip(members.values(), thresholds, strict=True)]

    def loss(w: Weights) -> float:
        total = np.zeros(Y.shape, np.float32)
        for weight, margin in zip(w, margins, strict=True):
            total += np.float32(weight) * margin
        return -f2(Y, total > 0)

    equal = np.full(len(members), 1 / len(members))
    found = minimize(loss, equal, method="Nelder-Mead", bounds=[(0, 1)] * len(equal))
    return Found(time.process_time() - start, int(found.nfev), -float(found.fun), found.x / found.x.sum())


def ours(members: Members, Y: Labels, folds: Ids) -> Found:
    """labelstack's, which finds the thresholds itself: they are in its seconds."""
    start = time.process_time()
    found = nelder_mead(members, Y, folds, beta=2)
    weights = np.array(list(found.weights.values()))
    return Found(time.process_time() - start, found.evaluations, found.score, weights)


def cross_fitted(
    members: Members, Y: Labels, folds: Ids, thresholds: NDArray[np.float32], search: Callable[[Ids], Found]
) -> float:
    """F2 of each fold's rows by what the rows outside of it say."""
    given = np.empty_like(Y)
    for fold in range(K):
        rows, others = folds == fold, [f for f in range(K) if f != fold]
        weights = search(np.flatnonzero(~rows)).weights
        total = np.zeros((int(rows.sum()), Y.shape[1]), np.float32)
        for weight, P, own in zip(weights, members.values(), thresholds, strict=True):
            total += np.float32(weight) * (P[rows] - own[others].mean())
        given[rows] = total > 0
    return f2(Y, given)


def main() -> None:
    n, n_members, n_labels = (int(value) for value in [*sys.argv[1:], *("20000", "7", "1103")[len(sys.argv) - 1 :]])
    members, Y = made_up(n, n_members, n_labels)
    folds = np.arange(n) % K
    print(
        f"{n:,} images × {n_members} members × {n_labels} labels, {Y.sum(axis=1).mean():.2f} labels an image",
        flush=True,
    )
    thresholds, for_them = thresholds_of(members, Y, folds)
    whole = ours(members, Y, folds)
    print(
        f"ours: {for_them:.1f} s thresholds + {whole.seconds - for_them:.1f} s search, "
        f"{whole.evaluations} evaluations, F2 {whole.score:.6f}",
        flush=True,
    )
    there = plain(members, Y, folds, thresholds)
    print(
        f"plain: {for_them:.1f} s thresholds + {there.seconds:.1f} s search, {there.evaluations} evaluations, "
        f"F2 {there.score:.6f}",
        flush=True,
    )
    print(
        f"search alone {there.seconds / (whole.seconds - for_them):.1f} times as fast, with thresholds "
        f"{(there.seconds + for_them) / whole.seconds:.1f} times; largest difference of a weight "
        f"{np.abs(there.weights - whole.weights).max():.2g}",
        flush=True,
    )

    def part(rows: Ids) -> tuple[Members, Labels, Ids]:
        return {name: P[rows] for name, P in members.items()}, Y[rows], folds[rows]

    fitted = cross_fitted(members, Y, folds, thresholds, lambda rows: ours(*part(rows)))
    print(f"ours: cross-fitted F2 {fitted:.6f}", flush=True)
    published = cross_fitted(members, Y, folds, thresholds, lambda rows: plain(*part(rows), thresholds))
    print(f"plain: cross-fitted F2 {published:.6f}")
    print(f"most memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")


if __name__ == "__main__":
    main()
