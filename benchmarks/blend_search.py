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


def ours(members: Members, Y: Labels, folds: Ids, thresholds: NDArray[np.float32]) -> Found:
    """labelstack's."""
    start = time.process_time()
    found = nelder_mead(members, Y, folds, beta=2, thresholds=thresholds)
    weights = np.array(list(found.weights.values()))
    return Found(time.process_time() - start, found.evaluations, found.score, weights)


def decided(members: Members, weights: Weights, thresholds: NDArray[np.float32], rows: Labels, fold: int) -> Labels:
    """Label sets of a fold's rows by weights of the others, and by the mean of each member's thresholds there."""
    total = np.zeros((int(rows.sum()), next(iter(members.values())).shape[1]), np.float32)
    for weight, P, own in zip(weights, members.values(), thresholds, strict=True):
        total += np.float32(weight) * (P[rows] - np.delete(own, fold).mean())
    return total > 0


def told(name: str, found: Found) -> str:
    """A search in words."""
    return f"{name} {found.seconds:.1f} s, {found.evaluations} evaluations, F2 {found.score:.6f}"


def main() -> None:
    n, n_members, n_labels = (int(value) for value in [*sys.argv[1:], *("20000", "7", "1103")[len(sys.argv) - 1 :]])
    members, Y = made_up(n, n_members, n_labels)
    folds = np.arange(n) % K
    print(
        f"{n:,} images × {n_members} members × {n_labels} labels, {Y.sum(axis=1).mean():.2f} labels an image",
        flush=True,
    )
    thresholds, for_them = thresholds_of(members, Y, folds)
    print(f"thresholds of {n_members} members in {K} folds: {for_them:.1f} s", flush=True)
    searches = {"ours": ours, "plain": plain}
    whole = {name: search(members, Y, folds, thresholds) for name, search in searches.items()}
    apart = np.abs(whole["plain"].weights - whole["ours"].weights).max()
    print(
        f"all rows: {told('ours', whole['ours'])}; {told('plain', whole['plain'])}; "
        f"{whole['plain'].seconds / whole['ours'].seconds:.1f} times as fast, weights apart by {apart:.2g} at most",
        flush=True,
    )
    given = {name: np.empty_like(Y) for name in searches}
    seconds = dict.fromkeys(searches, 0.0)
    for fold in range(K):
        rows = folds == fold
        others = {name: P[~rows] for name, P in members.items()}, Y[~rows], folds[~rows]
        found = {name: search(*others, thresholds) for name, search in searches.items()}
        for name, one in found.items():
            given[name][rows] = decided(members, one.weights, thresholds, rows, fold)
            seconds[name] += one.seconds
        scores = ", ".join(f"{name} {f2(Y[rows], labels[rows]):.6f}" for name, labels in given.items())
        both = "; ".join(told(name, one) for name, one in found.items())
        print(f"without fold {fold}: {both}; F2 of the fold: {scores}", flush=True)
    fitted = ", ".join(f"{name} {f2(Y, labels):.6f}" for name, labels in given.items())
    print(f"cross-fitted F2: {fitted}; {seconds['plain'] / seconds['ours']:.1f} times as fast")
    print(f"most memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")


if __name__ == "__main__":
    main()
