"""Masks as runs of pixels, down the columns: to pixels, from pixels, and several of them as one picture.

A run is a start, counted from 0 in column-major order, and a length; files count from 1 (`masks/run_text.py`). The runs
of a mask ascend and do not overlap. All functions take many masks at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class RunLengths:
    """Several masks.

    Attributes
    ----------
    start : int64 [n_runs], first pixel of each run, y + height · x, from 0
    length : int64 [n_runs], pixels, at least 1
    first : int64 [n + 1]; the runs of mask i are ``first[i]`` … ``first[i + 1]`` − 1
    height, width : int64 [n], of each mask in pixels
    """

    start: Ints
    length: Ints
    first: Ints
    height: Ints
    width: Ints

    def __len__(self) -> int:
        return len(self.height)

    @property
    def count(self) -> Ints:
        """Runs of each mask, int64 [n]."""
        return np.diff(self.first)

    @property
    def mask(self) -> Ints:
        """Which mask each run is of, int64 [n_runs]."""
        return np.repeat(np.arange(len(self)), self.count)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width that all masks share; raise ``ValueError`` when they do not."""
        if len(self) and (self.height == self.height[0]).all() and (self.width == self.width[0]).all():
            return int(self.height[0]), int(self.width[0])
        sizes = set(zip(self.height.tolist(), self.width.tolist(), strict=True))
        raise ValueError(f"expected masks of one size, found {len(sizes)} sizes of {len(self)} masks")

    def take(self, masks: ArrayLike) -> RunLengths:
        """Some masks, by int [k] or bool [n], in that order."""
        chosen = np.arange(len(self))[np.asarray(masks)]
        count = self.count[chosen]
        first = offsets(count)
        runs = np.repeat(self.first[chosen] - first[:-1], count) + np.arange(first[-1])
        return RunLengths(self.start[runs], self.length[runs], first, self.height[chosen], self.width[chosen])


def offsets(count: ArrayLike) -> Ints:
    """Where each of several parts begins, and where the last ends: int64 [n + 1] of counts int [n]."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(count, dtype=np.int64)])


def concatenated(parts: Sequence[RunLengths]) -> RunLengths:
    """The masks of all parts, one part after the other."""
    start, length, height, width = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("start", "length", "height", "width")
    )
    return RunLengths(start, length, offsets(np.concatenate([part.count for part in parts])), height, width)


def sized(start: ArrayLike, length: ArrayLike, count: ArrayLike, height: int, width: int) -> RunLengths:
    """Masks of one size of their runs, ``count`` int [n] for each mask."""
    runs = np.asarray(start, np.int64), np.asarray(length, np.int64)
    sides = (np.full(len(np.asarray(count)), side, np.int64) for side in (height, width))
    return RunLengths(*runs, offsets(count), *sides)


def encode(masks: ArrayLike) -> RunLengths:
    """Runs of masks, bool [n, height, width]; runs that touch are one."""
    pixels = np.asarray(masks, bool)
    n, height, width = pixels.shape
    padded = np.zeros((n, height * width + 2), bool)  # so that no run goes from a mask into the next
    padded[:, 1:-1] = pixels.transpose(0, 2, 1).reshape(n, height * width)
    edges = np.flatnonzero(padded.ravel()[1:] != padded.ravel()[:-1])
    begins, ends = edges[::2], edges[1::2]
    of = begins // (height * width + 2)
    return sized(begins - of * (height * width + 2), ends - begins, np.bincount(of, minlength=n), height, width)


def encode_map(picture: ArrayLike, background: int) -> tuple[NDArray[Any], RunLengths]:
    """The values of a picture other than the background, ascending, and a mask for each of them.

    Parameters
    ----------
    picture : whole numbers [height, width], the class of each pixel
    """
    values = np.asarray(picture)
    height, width = values.shape
    flat = values.T.ravel()
    begins = np.concatenate([np.zeros(min(1, len(flat)), np.int64), np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    length, value = np.diff(begins, append=len(flat)), flat[begins]
    order = np.argsort(value, kind="stable")
    order = order[value[order] != background]
    found, count = np.unique(value[order], return_counts=True)
    return found, sized(begins[order], length[order], count, height, width)


def decode(runs: RunLengths) -> Bools:
    """Pixels of masks of one size, bool [n, height, width]; column-major in memory, as runs are."""
    if not len(runs):
        return np.zeros((0, 0, 0), bool)
    height, width = runs.size
    pixels = _filled(runs.start, runs.length, runs.mask, (len(runs), height * width))
    return pixels.reshape(len(runs), width, height).transpose(0, 2, 1)


def _filled(start: Ints, length: Ints, row: Ints, shape: tuple[int, int]) -> Bools:
    """True in runs of rows, bool of a shape; the runs of a row ascend, and so do rows."""
    begins = start + row * shape[1]
    lengths, inked = np.empty(2 * len(begins) + 1, np.int64), np.zeros(2 * len(begins) + 1, bool)
    lengths[1::2], inked[1::2] = length, True
    lengths[0::2] = np.append(begins, shape[0] * shape[1])
    lengths[2::2] -= begins + length
    return np.repeat(inked, lengths).reshape(shape)


def paint(runs: RunLengths, values: ArrayLike, background: int, size: tuple[int, int] | None = None) -> NDArray[Any]:
    """Masks of one size as a picture of their values; where masks overlap, the later one is seen.

    Parameters
    ----------
    values : whole numbers [n], of the type that the picture is to have
    size : height and width; may be left out where there are masks

    Returns
    -------
    [height, width], column-major in memory
    """
    height, width = runs.size if size is None else size
    shown = np.asarray(values)
    order = np.argsort(runs.start, kind="stable")  # quick, for each mask's runs ascend
    start, value = runs.start[order], shown[runs.mask[order]]
    end = start + runs.length[order]
    if (end[:-1] > start[1:]).any():
        edges, covered = cover(runs)
        kind = np.min_scalar_type(len(runs))
        top = (covered * np.arange(1, len(runs) + 1, dtype=kind)[:, None]).max(axis=0).astype(np.int64) - 1
        seen = top >= 0
        start, end, value = edges[:-1][seen], edges[1:][seen], shown[top[seen]]
    lengths, colours = np.empty(2 * len(start) + 1, np.int64), np.full(2 * len(start) + 1, background, shown.dtype)
    lengths[1::2], colours[1::2] = end - start, value
    lengths[0::2] = np.append(start, height * width)
    lengths[2::2] -= end
    return np.repeat(colours, lengths).reshape(width, height).T


def cover(runs: RunLengths) -> tuple[Ints, Bools]:
    """Which masks cover which stretch of pixels, for masks of one size.

    Returns
    -------
    edges : int64 [k + 1], ascending; stretch j goes from edges[j] to edges[j + 1] − 1
    covered : bool [n, k]
    """
    bounds = np.stack([runs.start, runs.start + runs.length], axis=1).ravel()
    order = np.argsort(bounds, kind="stable")
    new = np.diff(bounds[order], prepend=-1) > 0
    place = np.empty(len(bounds), np.int64)
    place[order] = np.cumsum(new) - 1
    edges = bounds[order][new]
    low, high = place[0::2], place[1::2]
    return edges, _filled(low, high - low, runs.mask, (len(runs), len(edges) - 1))


def smallest_last(runs: RunLengths) -> Ints:
    """An order of masks in which smaller ones lie on top when painted, int64 [n]; the later of equals on top."""
    return np.argsort(-areas(runs), kind="stable")


def areas(runs: RunLengths) -> Ints:
    """Pixels of each mask, int64 [n]."""
    return np.diff(offsets(runs.length)[runs.first])
