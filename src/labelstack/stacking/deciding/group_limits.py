"""A threshold for each label group, and how many labels of the group an image has at least and at most.

The rule of the winners of iMet 2019, who gave 0 to 3 cultures and 1 to 8 tags: the group's most probable labels are
given up to the least number, then those that reach the threshold up to the most.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from labelstack.scoring.metrics import f_of_counts

_LEAST = 2  # labels of a group that may be given whatever their probability, unless params say more
_MOST = 30  # labels of a group that an image may have
_SWEEPS = 10


@dataclass(frozen=True)
class GroupLimit:
    """The rule for one group.

    Attributes
    ----------
    labels : columns of the group
    threshold : of probability
    least, most : how many of them an image has
    """

    labels: tuple[int, ...]
    threshold: float
    least: int
    most: int


def apply_limits(P: NDArray[np.float32], limits: Sequence[GroupLimit]) -> NDArray[np.bool_]:
    """Labels bool [n, n_labels] of P float32 [n, n_labels]; of equally probable ones the first counts as more so."""
    given = np.zeros(P.shape, bool)
    for limit in limits:
        columns = np.array(limit.labels)
        p = P[:, columns]
        order = np.argsort(-p, axis=1, kind="stable")[:, : limit.most]
        top = np.take_along_axis(p, order, 1) >= np.float32(limit.threshold)
        top[:, : limit.least] = True
        mine = np.zeros(p.shape, bool)
        np.put_along_axis(mine, order, top, 1)
        given[:, columns] = mine
    return given


def best_limits(
    Y: NDArray[np.bool_],
    P: NDArray[np.float32],
    beta: float,
    start: float,
    groups: Sequence[str] | None = None,
    given: Mapping[str, tuple[int, int]] | None = None,
) -> list[GroupLimit]:
    """Thresholds and limits with a large samples F-beta on these rows, one group after the other until none gains.

    For the labels that other groups give, the best threshold of a group is found exactly for every pair of least and
    most: an image's labels of the group add to its F in falling order of probability, so a running sum over the first
    ``most`` labels of all images is the score of every threshold at once.

    Parameters
    ----------
    start : one threshold for all labels, where the search begins
    groups : for each label the name of its group; None is one group
    given : group → (least, most) that is held to; others are searched, least in 0 … 2, most in 1 … 30
    """
    names = np.array([""] * P.shape[1] if groups is None else [str(group) for group in groups])
    blocks = {name: _Block(Y, P, np.flatnonzero(names == name)) for name in dict.fromkeys(names.tolist())}
    true, given = Y.sum(axis=1, dtype=np.float64), given or {}
    found = {name: GroupLimit(block.columns, start, *given.get(name, block.free)) for name, block in blocks.items()}
    counts = {name: blocks[name].counts(limit) for name, limit in found.items()}
    value = -1.0
    for _ in range(_SWEEPS):
        before = value
        for name, block in blocks.items():
            others = [counts[other] for other in blocks if other != name]
            hits = np.sum([hit for hit, _ in others], axis=0) if others else np.zeros(len(P))
            predicted = np.sum([number for _, number in others], axis=0) if others else np.zeros(len(P))
            reached, limit = block.best(hits, predicted, true, beta, given.get(name))
            if reached > value + 1e-12:
                value, found[name] = reached, limit
                counts[name] = block.counts(limit)
        if value <= before + 1e-12:
            break
    return list(found.values())


class _Block:
    """The most probable labels of a group, sorted once."""

    def __init__(self, Y: NDArray[np.bool_], P: NDArray[np.float32], columns: NDArray[np.int64]) -> None:
        self.columns = tuple(columns.tolist())
        order = np.argsort(-P[:, columns], axis=1, kind="stable")[:, :_MOST]
        self._p = np.take_along_axis(P[:, columns], order, 1)
        self._hits = np.cumsum(np.take_along_axis(Y[:, columns], order, 1), axis=1, dtype=np.float64)
        self._pooled = np.argsort(-self._p.ravel(), kind="stable")
        self._rank = self._pooled % self.width
        ranked = self._p.ravel()[self._pooled]
        self._ranked = ranked
        self._ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]) + 1, len(ranked))  # none parts equal ones

    @property
    def width(self) -> int:
        return self._p.shape[1]

    @property
    def free(self) -> tuple[int, int]:
        """Limits that hold nothing back, but beyond the labels looked at."""
        return 0, self.width

    def counts(self, limit: GroupLimit) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Right and given labels of this group on each image, float64 [n]."""
        reached = (self._p >= np.float32(limit.threshold)).sum(axis=1)
        number = np.clip(reached, min(limit.least, self.width), min(limit.most, self.width))
        right = np.concatenate([np.zeros((len(number), 1)), self._hits], axis=1)
        return right[np.arange(len(number)), number], number.astype(np.float64)

    def best(
        self,
        hits: NDArray[np.float64],
        predicted: NDArray[np.float64],
        true: NDArray[np.float64],
        beta: float,
        given: tuple[int, int] | None,
    ) -> tuple[float, GroupLimit]:
        """Mean F of the images at the best threshold and limits, and these."""
        number = np.arange(self.width + 1, dtype=np.float64)
        right = np.concatenate([np.zeros((len(hits), 1)), self._hits], axis=1)
        f = f_of_counts(hits[:, None] + right, true[:, None], predicted[:, None] + number, beta)
        gain = np.diff(f, axis=1).ravel()[self._pooled]
        best, chosen = -1.0, GroupLimit(self.columns, 1.0, *(given or self.free))
        for least, most in [given] if given else self._pairs():
            base = float(f[:, min(least, self.width)].sum())
            inside = (self._rank >= least) & (self._rank < most)
            total = np.append(0.0, np.cumsum(np.where(inside, gain, 0))[self._ends - 1]) + base
            place = int(np.argmax(total >= total.max() - 1e-9))  # of equal ones the highest threshold
            if total[place] > best + 1e-9:
                best = float(total[place])
                chosen = GroupLimit(self.columns, self._threshold(place), least, most)
        return best / len(hits), chosen

    def _pairs(self) -> list[tuple[int, int]]:
        """No limits first, so that limits must gain something."""
        pairs = [(least, most) for least in range(_LEAST + 1) for most in range(max(least, 1), self.width + 1)]
        return sorted(pairs, key=lambda pair: (pair[0], -pair[1]))

    def _threshold(self, place: int) -> float:
        """Midway between the last probability that is taken, of ``place`` different ones, and the next."""
        high = 1.0 if place == 0 else float(self._ranked[self._ends[place - 1] - 1])
        below = self._ends[place - 1] if place else 0
        low = float(self._ranked[below]) if below < len(self._ranked) else 0.0
        middle = np.float32((high + low) / 2)
        if middle > np.float32(low):
            return float(middle)
        return float(np.float32(high)) if place else float(np.nextafter(np.float32(1), np.float32(2)))
