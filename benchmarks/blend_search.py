"""The simplex search for blend weights against the published one written out plainly: seconds, evaluations, F2.

    python benchmarks/blend_search.py [images] [members] [labels]

Members are made up, with about as many labels an image as iMet 2019 has. Seconds are of one core's time; each search
finds the thresholds of every member's five folds first, in the same way, which are told apart.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from labelstack.scoring.metrics import f_of_counts
from labelstack.stacking.deciding.thresholds import best_global
from labelstack.stacking.weight_search import nelder_mead


def made_up(n: int, n_members: int, n_labels: int) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.bool_]]:
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


def plain(
    members: dict[str, NDArray[np.float32]], Y: NDArray[np.bool_], folds: NDArray[np.int64]
) -> tuple[float, float, float, int, NDArray[np.float64]]:
    """Seconds for thresholds, seconds of the search, F2, evaluations, weights."""
    start = time.process_time()
    margins = []
    for P in members.values():
        own = [best_global(Y[folds == f], P[folds == f], "samples", 2) for f in np.unique(folds)]
        margins.append(P - np.array(own, np.float32)[folds][:, None])
    ready = time.process_time()
    true = Y.sum(axis=1).astype(np.float64)

    def loss(w: NDArray[np.float64]) -> float:
        total = np.zeros(Y.shape, np.float32)
        for weight, margin in zip(w, margins, strict=True):
            total += np.float32(weight) * margin
        given = total > 0
        hits, predicted = (given & Y).sum(axis=1).astype(np.float64), given.sum(axis=1).astype(np.float64)
        return -float(f_of_counts(hits, true, predicted, 2).mean())

    equal = np.full(len(members), 1 / len(members))
    found = minimize(loss, equal, method="Nelder-Mead", bounds=[(0, 1)] * len(equal))
    done = time.process_time()
    return ready - start, done - ready, -float(found.fun), int(found.nfev), found.x / found.x.sum()


def main() -> None:
    n, n_members, n_labels = (int(value) for value in [*sys.argv[1:], *("20000", "7", "1103")[len(sys.argv) - 1 :]])
    members, Y = made_up(n, n_members, n_labels)
    folds = np.arange(n) % 5
    print(
        f"{n:,} images × {n_members} members × {n_labels} labels, {Y.sum(axis=1).mean():.2f} labels an image",
        flush=True,
    )
    start = time.process_time()
    ours = nelder_mead(members, Y, folds, beta=2)
    whole = time.process_time() - start
    print(f"ours: {whole:.1f} s with thresholds, {ours.evaluations} evaluations, F2 {ours.score:.6f}", flush=True)
    thresholds, seconds, score, evaluations, weights = plain(members, Y, folds)
    same = np.abs(weights - np.array(list(ours.weights.values()))).max()
    print(f"plain: {thresholds:.1f} s thresholds + {seconds:.1f} s search, {evaluations} evaluations, F2 {score:.6f}")
    print(f"search alone: {seconds:.1f} s / {whole - thresholds:.1f} s; largest difference of a weight {same:.2g}")


if __name__ == "__main__":
    main()
