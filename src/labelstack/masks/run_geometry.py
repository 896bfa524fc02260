"""What is found on runs alone: boxes, smaller and larger masks, how much two masks share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from labelstack.masks.run_lengths import Ints, RunLengths, areas, cover, offsets

_CHUNK = 1_000_000  # runs looked up at once


def boxes(runs: RunLengths) -> Ints:
    """The smallest box around each mask in pixels: int64 [n, 4], left, top, right, bottom; the last two are beyond it.

    Zeros for a mask without pixels.
    """
    found = np.zeros((len(runs), 4), np.int64)
    filled = np.flatnonzero(runs.count)
    if not len(filled):
        return found
    at, height = runs.first[filled], runs.height[runs.mask]
    last = runs.start + runs.length - 1
    wraps = runs.start // height < last // height  # goes on in the next column, so over the whole height of the two
    top, bottom = np.where(wraps, 0, runs.start % height), np.where(wraps, height, last % height + 1)
    found[filled, 0] = (runs.start // height)[at]
    found[filled, 1] = np.minimum.reduceat(top, at)
    found[filled, 2] = (last // height)[runs.first[filled + 1] - 1] + 1
    found[filled, 3] = np.maximum.reduceat(bottom, at)
    return found


def resized(runs: RunLengths, height: int, width: int) -> RunLengths:
    """Masks at another size: each pixel is the one that its middle lies in, as OpenCV's INTER_NEAREST_EXACT has it.

    No pixel is decoded. Small masks may vanish.
    """
    old_height, of = runs.height[runs.mask], runs.mask
    column, last = runs.start // old_height, (runs.start + runs.length - 1) // old_height
    pieces = last - column + 1  # one in each column that a run goes through
    part = np.arange(int(pieces.sum())) - np.repeat(offsets(pieces)[:-1], pieces)
    (begin, end, column, old_height, of) = (
        np.repeat(values, pieces) for values in (runs.start, runs.start + runs.length, column, old_height, of)
    )
    column = column + part
    low = np.maximum(begin, column * old_height) - column * old_height
    high = np.minimum(end, (column + 1) * old_height) - column * old_height
    top, bottom = _first(low, old_height, height), _first(high, old_height, height)
    left, right = (_first(column + k, runs.width[of], width) for k in (0, 1))
    copies = np.where(bottom > top, right - left, 0)
    (top, bottom, left, of) = (np.repeat(values, copies) for values in (top, bottom, left, of))
    left = left + np.arange(int(copies.sum())) - np.repeat(offsets(copies)[:-1], copies)
    start, length = left * height + top, bottom - top
    order = np.lexsort((start, of))
    sides = (np.full(len(runs), side, np.int64) for side in (height, width))
    return _joined(start[order], length[order], of[order], *sides)


def _first(place: Ints, old: Ints, new: int) -> Ints:
    """The first of ``new`` pixels whose middle lies at or beyond the start of pixel ``place`` of ``old``."""
    # (2 y + 1) · old ≥ 2 · new · place
    return np.maximum(-((old - 2 * new * place) // (2 * old)), 0)


def _joined(start: Ints, length: Ints, of: Ints, height: Ints, width: Ints) -> RunLengths:
    """Masks of ascending runs, those that touch made one."""
    if not len(start):
        return RunLengths(start, length, np.zeros(len(height) + 1, np.int64), height, width)
    begins = np.append(True, (start[1:] != start[:-1] + length[:-1]) | (of[1:] != of[:-1]))
    at = np.flatnonzero(begins)
    first = offsets(np.bincount(of[at], minlength=len(height)))
    return RunLengths(start[at], np.add.reduceat(length, at), first, height, width)


def disjoint(runs: RunLengths) -> RunLengths:
    """Masks of one size of which no two share a pixel: each keeps what no earlier one has; some may become empty."""
    if not len(runs.start):
        return runs
    edges, covered = cover(runs)
    seen = covered.any(axis=0)
    owner, start, end = np.argmax(covered, axis=0)[seen], edges[:-1][seen], edges[1:][seen]
    order = np.argsort(owner, kind="stable")
    return _joined(start[order], (end - start)[order], owner[order], runs.height, runs.width)


def shared_pixels(a: RunLengths, b: RunLengths, pairs: NDArray[np.integer]) -> Ints:
    """How many pixels the masks of each pair share, int64 [n_pairs].

    Parameters
    ----------
    pairs : int [n_pairs, 2], a place in ``a`` and one in ``b``; the two masks have one size
    """
    of_a, of_b = np.asarray(pairs, np.int64).reshape(-1, 2).T
    found = np.zeros(len(of_a), np.int64)
    if not len(a.start) or not len(b.start):
        return found
    reach = int(max((a.height * a.width).max(), (b.height * b.width).max())) + 1
    key, before = b.mask * reach + b.start, offsets(b.length)
    chunks = np.searchsorted(np.cumsum(a.count[of_a]), np.arange(0, int(a.count[of_a].sum()), _CHUNK), side="right")
    bounds = np.unique(np.concatenate([[0], chunks, [len(of_a)]]))
    for low, high in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        some = a.take(of_a[low:high])
        of = of_b[low:high][some.mask]

        def pixels_before(place: Ints, of: Ints = of) -> Ints:
            """Pixels of the pair's mask of ``b`` before a place, plus a constant of the mask."""
            run = np.searchsorted(key, of * reach + place, side="right") - 1
            inside = run >= b.first[of]
            run = np.maximum(run, 0)
            return np.where(inside, before[run] + np.minimum(b.length[run], place - b.start[run]), before[b.first[of]])

        shared = pixels_before(some.start + some.length) - pixels_before(some.start)
        found[low:high] = np.diff(offsets(shared)[some.first])
    return found


def overlap(a: RunLengths, b: RunLengths) -> Ints:
    """Pixels that each mask of ``a`` shares with each of ``b``, all of one size: int64 [len(a), len(b)]."""
    pairs = np.stack(np.meshgrid(np.arange(len(a)), np.arange(len(b)), indexing="ij"), axis=-1).reshape(-1, 2)
    return shared_pixels(a, b, pairs).reshape(len(a), len(b))


def iou(a: RunLengths, b: RunLengths) -> NDArray[np.float64]:
    """Intersection over union of each mask of ``a`` with each of ``b``: float64 [len(a), len(b)].

    0 for two masks without pixels.
    """
    shared = overlap(a, b)
    union = areas(a)[:, None] + areas(b)[None, :] - shared
    return np.divide(shared, union, out=np.zeros(shared.shape), where=union > 0)
