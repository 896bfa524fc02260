"""Parts of which none shares a source with another, every label spread over them as evenly as whole sources allow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

_TOLERANCE = 1e-9  # of the largest: needs that differ by less are equal


def deal_sources(
    answers: NDArray[np.bool_], codes: NDArray[np.int64], shares: ArrayLike, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Part of each image: whole sources are dealt out, so that parts get their share of images and of every label.

    Iterative stratification (Sechidis, Tsoumakas & Vlahavas 2011) of sources in the place of images; being an image
    counts as one more label. Big sources go first, those of sizes of the same power of two together: nothing that
    is left later makes up for a big one. Among them the label with the fewest images left is dealt out first, and of
    its sources the biggest. A source may go where there is room for it or, where it fits nowhere, to the part that
    lacks the most images. Unlike the paper's, the choice among parts looks at all labels of the source: it falls on
    the part with which the sum of (wanted − given)² / wanted over parts and labels becomes lowest.

    Parameters
    ----------
    answers : bool [n, n_labels]
    codes : int [n], the sources: 0 … number of sources − 1, each used, at least as many as parts
    shares : [n_parts] above 0 whose sum is 1
    rng : breaks ties

    Returns
    -------
    int64 [n] in 0 … n_parts − 1, each used
    """
    sizes = np.bincount(codes)
    sources = _label_counts(answers, codes)
    left = np.append(answers.sum(axis=0), len(answers))
    parts = _Filling(np.asarray(shares, np.float64), left, len(sizes), rng)
    part = np.full(len(sizes), -1, np.int64)
    shuffled = rng.permutation(len(sizes))
    order = shuffled[np.argsort(-sizes[shuffled], kind="stable")]
    power = np.frexp(sizes.astype(np.float64))[1]
    for alike in np.split(order, np.flatnonzero(np.diff(power[order])) + 1):
        for waiting in _by_rarest_label(sources, alike, left):
            for source in waiting:
                if part[source] < 0:
                    labels, counts = sources.of(int(source))
                    part[source] = parts.put(labels, counts)
                    left[labels] -= counts
    return part[codes]


@dataclass(frozen=True)
class _LabelCounts:
    """How many images of a source have a label, for all pairs that there are, sorted by source, then label.

    Attributes
    ----------
    source, label, count : int [number of pairs]; label n_labels, the last of each source, stands for being an image
    start : int [number of sources + 1], where the pairs of a source begin
    """

    source: NDArray[np.int64]
    label: NDArray[np.int64]
    count: NDArray[np.int64]
    start: NDArray[np.int64]

    def of(self, source: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Labels of a source, and how many images of it have each."""
        own = slice(self.start[source], self.start[source + 1])
        return self.label[own], self.count[own]


def _label_counts(answers: NDArray[np.bool_], codes: NDArray[np.int64]) -> _LabelCounts:
    rows, columns = np.nonzero(answers)
    width = answers.shape[1] + 1
    pairs = np.concatenate([codes[rows] * width + columns, codes * width + width - 1])
    pairs, count = np.unique(pairs, return_counts=True)
    source, label = np.divmod(pairs, width)
    return _LabelCounts(source, label, count, np.searchsorted(source, np.arange(codes.max() + 2)))


def _by_rarest_label(
    sources: _LabelCounts, some: NDArray[np.int64], left: NDArray[np.int64]
) -> Iterator[NDArray[np.int64]]:
    """``some`` sources, label by label: those that have the one with the fewest images ``left`` by now."""
    place = np.full(len(sources.start) - 1, -1)
    place[some] = np.arange(len(some))
    pairs = np.flatnonzero(place[sources.source] >= 0)
    pairs = pairs[np.lexsort((place[sources.source[pairs]], sources.label[pairs]))]
    labels, start = np.unique(sources.label[pairs], return_index=True)
    members = dict(zip(labels.tolist(), np.split(sources.source[pairs], start[1:]), strict=True))
    while members:
        waiting = np.fromiter(members, np.int64)
        yield members.pop(int(waiting[np.argmin(left[waiting])]))


class _Filling:
    """Parts that are being filled with sources.

    Parameters
    ----------
    shares : float [n_parts]
    totals : int [n_labels + 1], images of each label, then of all
    n_sources : how many there are to put
    rng : breaks ties
    """

    def __init__(
        self, shares: NDArray[np.float64], totals: NDArray[np.int64], n_sources: int, rng: np.random.Generator
    ) -> None:
        self._shares = shares
        self._totals = totals
        self._lack = shares[:, None] * totals
        self._room = self._lack[:, -1].copy()  # images that a part still wants: what one got too many others want less
        self._empty = np.ones(len(shares), bool)
        self._waiting = n_sources
        self._rng = rng

    def put(self, labels: NDArray[np.int64], counts: NDArray[np.int64]) -> int:
        """Put a source, ``counts`` of whose images have ``labels``, where it is needed most."""
        part = self._neediest(labels, counts)
        self._lack[part, labels] -= counts
        self._room[part] -= counts[-1]
        self._empty[part] = False
        self._waiting -= 1
        while (self._room < 0).any() and (self._room > 0).any():
            takers = np.where(self._room > 0, self._shares, 0)
            surplus = self._room[self._room < 0].sum()
            self._room = np.maximum(self._room, 0) + surplus * takers / takers.sum()
        return part

    def _neediest(self, labels: NDArray[np.int64], counts: NDArray[np.int64]) -> int:
        if self._empty.sum() >= self._waiting:
            parts = np.flatnonzero(self._empty)
        else:
            parts = np.flatnonzero(self._room >= counts[-1] - 1e-6)
            if not len(parts):
                parts = _highest(np.arange(len(self._room)), self._room)
        if len(parts) > 1:
            relief = (self._lack[parts[:, None], labels] - counts / 2) @ (counts / self._totals[labels])
            parts = _highest(parts, relief / self._shares[parts])
        return int(parts[0] if len(parts) == 1 else self._rng.choice(parts))


def _highest(parts: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.int64]:
    return parts[values >= values.max() - _TOLERANCE * np.abs(values).max()]
