"""A threshold relative to the image's top probability: a label is given where p ≥ max(ratio · top, floor)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from labelstack.scoring.metrics import Average, f_of_counts

_FLOORS = 12  # floors that the search starts from
_ROUNDS = 10


def apply_context(P: NDArray[np.float32], ratio: float, floor: float) -> NDArray[np.bool_]:
    """Labels bool [n, n_labels] of P float32 [n, n_labels]."""
    return (_share(P) >= np.float32(ratio)) & (np.float32(floor) <= P)


def best_context(Y: NDArray[np.bool_], P: NDArray[np.float32], metric: Average, beta: float) -> tuple[float, float]:
    """Ratio and floor with a large F-beta on these rows.

    For a given floor the best ratio is found exactly, from running sums over all labels of all images in falling order,
    and so is the best floor for a given ratio. From the best of some floors the two alternate until neither gains, so
    the result is never below the best single threshold (ratio 0).
    """
    search = _Search(Y, P, metric, beta)
    positive = P[Y] if Y.any() else P.ravel()
    floors = [0.0, *np.unique(np.quantile(positive, np.linspace(0, 0.9, _FLOORS))).tolist()]
    found = max((search.ratio(floor) for floor in floors), key=lambda f: f[0])
    alone = search.floor(0.0)
    if alone[0] >= found[0] - 1e-12:
        found = alone
    for _ in range(_ROUNDS):
        step = max(search.floor(found[1]), search.ratio(found[2]), key=lambda f: f[0])
        if step[0] <= found[0] + 1e-12:
            break
        found = step
    return found[1], found[2]


def best_share(Y: NDArray[np.bool_], P: NDArray[np.float32], metric: Average, beta: float) -> float:
    """The ratio to the top with the largest F-beta on these rows, exactly; a floor there is none."""
    return _Search(Y, P, metric, beta).ratio(0.0)[1]


def _share(P: NDArray[np.float32]) -> NDArray[np.float32]:
    """P over the row's top, 1 where all is 0."""
    top = P.max(axis=1, keepdims=True)
    return np.divide(P, top, out=np.ones_like(P), where=top > 0)


class _Search:
    """All labels of all images as events, sorted once by probability and once by ratio to the top."""

    def __init__(self, Y: NDArray[np.bool_], P: NDArray[np.float32], metric: Average, beta: float) -> None:
        self.metric, self.beta = metric, beta
        self.p, self.share, self.y = P.ravel(), _share(P).ravel(), Y.ravel()
        self.n_labels = P.shape[1]
        self.by_p = np.argsort(-self.p, kind="stable")
        self.by_share = np.argsort(-self.share, kind="stable")
        self.true = np.atleast_1d(Y.sum(axis={"samples": 1, "macro": 0, "micro": None}[metric])).astype(np.float64)
        # An image's labels fall in one order by probability and by ratio: what each adds to its F is always the same.
        self.gain = _prefix_gain(Y, P, beta).ravel() if metric == "samples" else None

    def ratio(self, floor: float) -> tuple[float, float, float]:
        """Best F with this floor, and its ratio and floor."""
        order = self.by_share[self.p[self.by_share] >= np.float32(floor)]
        value, cut = self._best(order, self.share[order])
        return value, cut, floor

    def floor(self, ratio: float) -> tuple[float, float, float]:
        """Best F with this ratio, and its ratio and floor."""
        order = self.by_p[self.share[self.by_p] >= np.float32(ratio)]
        value, cut = self._best(order, self.p[order])
        return value, ratio, cut

    def _best(self, order: NDArray[np.int64], ranked: NDArray[np.float32]) -> tuple[float, float]:
        ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]) + 1, len(ranked))
        total = self._running(order)[ends - 1]
        best = int(np.argmax(total >= total.max() - 1e-12))
        high = float(ranked[ends[best] - 1])
        low = float(ranked[ends[best]]) if ends[best] < len(ranked) else 0.0
        middle = np.float32((high + low) / 2)
        return float(total[best]), float(middle if middle > np.float32(low) else np.float32(high))

    def _running(self, order: NDArray[np.int64]) -> NDArray[np.float64]:
        """F of the metric after the first 1, 2, … events."""
        if self.gain is not None:
            return np.cumsum(self.gain[order]) / len(self.true)
        if self.metric == "micro":
            hits = np.cumsum(self.y[order], dtype=np.float64)
            return f_of_counts(hits, np.full(len(order), self.true[0]), np.arange(1.0, len(order) + 1), self.beta)
        label = order % self.n_labels
        by_label = np.argsort(label, kind="stable")  # each label's events, still in falling order
        first = np.flatnonzero(np.diff(label[by_label], prepend=-1))
        start = np.repeat(first, np.diff(np.append(first, len(order))))
        hits = np.cumsum(self.y[order[by_label]], dtype=np.float64)
        hits -= np.append(0, hits)[start]
        f = f_of_counts(hits, self.true[label[by_label]], np.arange(1.0, len(order) + 1) - start, self.beta)
        change = np.diff(f, prepend=0.0)
        change[first] = f[first]
        gain = np.empty_like(change)
        gain[by_label] = change
        return np.cumsum(gain) / len(self.true)


def _prefix_gain(Y: NDArray[np.bool_], P: NDArray[np.float32], beta: float) -> NDArray[np.float64]:
    """What each label adds to its image's F when labels are given in falling order of probability."""
    order = np.argsort(-P, axis=1, kind="stable")
    hits = np.cumsum(np.take_along_axis(Y, order, 1), axis=1, dtype=np.float64)
    f = f_of_counts(hits, Y.sum(axis=1, keepdims=True, dtype=np.float64), np.arange(1.0, P.shape[1] + 1)[None, :], beta)
    gain = np.empty_like(f)
    np.put_along_axis(gain, order, np.diff(f, axis=1, prepend=0.0), 1)
    return gain
