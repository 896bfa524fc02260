"""Runs as files have them: pairs `start length` with spaces between, starts counted from 1, down the columns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labelstack.masks.run_lengths import Ints, RunLengths, offsets

_MAX_DIGITS = 12  # more than any photo has pixels
_SPACE, _ZERO = np.frombuffer(b" 0", np.uint8)


class RunFault(NamedTuple):
    """What is wrong with one mask's text: its place among the texts, what was expected, what was found."""

    mask: int
    expected: str
    found: str


def read_runs(
    texts: Sequence[str], height: ArrayLike, width: ArrayLike, *, clip: bool = False
) -> tuple[RunLengths, list[RunFault], NDArray[np.bool_]]:
    """Read and check the runs of masks; a mask with a fault has no runs.

    Parameters
    ----------
    texts : n texts; starts count from 1, in column-major order
    height, width : int [n] in pixels, at least 1
    clip : cut off at the photo's end what leads out of it, which is a fault otherwise

    Returns
    -------
    runs : n masks
    faults : the first of each mask, in order
    clipped : bool [n], masks of which something was cut off
    """
    high, wide = np.asarray(height, np.int64), np.asarray(width, np.int64)
    values, count, unread = _numbers(texts)
    faults = list(unread.values())
    n, odd = len(texts), count % 2 == 1
    if odd.any():
        values = values[~np.repeat(odd, count)]
    faults += [
        RunFault(int(i), "pairs of a start and a length", f"{count[i]:,} values, an odd number")
        for i in np.flatnonzero(odd)
    ]
    pairs = np.where(odd, 0, count) // 2
    start, length = values[0::2] - 1, values[1::2].copy()
    of, clipped = np.repeat(np.arange(n), pairs), np.zeros(n, bool)
    pixels = (high * wide)[of]
    beyond = (start < 0) | (start + length > pixels)
    if clip:
        kept = ~((start >= pixels) & (length > 0))
        clipped[of[beyond & (start >= 0)]] = True
        start, length, of, pixels = start[kept], length[kept], of[kept], pixels[kept]
        length = np.where(start >= 0, np.minimum(length, pixels - start), length)
        beyond = start < 0
    follows = of[1:] == of[:-1]
    ends = start + length
    descends = np.append(False, follows & (start[1:] <= start[:-1]))
    overlaps = np.append(False, follows & (start[1:] < ends[:-1]))
    wrong = beyond | (length < 1) | descends | overlaps
    if not (clip or faults or wrong.any()):
        return RunLengths(start, length, offsets(pairs), high, wide), [], clipped  # as nearly all files are
    told = {fault.mask for fault in faults}
    for mask, place in zip(*np.unique(of[wrong], return_index=True), strict=True):
        run = int(np.flatnonzero(wrong)[place])
        told.add(int(mask))
        faults.append(_fault(int(mask), run, start, length, int(high[mask]), int(wide[mask])))
    bare = np.bincount(of, minlength=n) == 0
    faults += [RunFault(int(i), "runs inside the photo", "none") for i in np.flatnonzero(bare) if int(i) not in told]
    bad = np.zeros(n, bool)
    bad[[fault.mask for fault in faults]] = True
    kept = ~bad[of]
    counts = np.bincount(of[kept], minlength=n)
    runs = RunLengths(start[kept], length[kept], offsets(counts), high, wide)
    return runs, sorted(faults, key=lambda fault: fault.mask), clipped & ~bad


def write_runs(runs: RunLengths) -> list[str]:
    """The text of each mask; empty for a mask without pixels."""
    pairs = np.stack([runs.start + 1, runs.length], axis=1).ravel().tolist()
    words = list(map(str, pairs))
    return [" ".join(words[low:high]) for low, high in pairwise((2 * runs.first).tolist())]


def _fault(mask: int, run: int, start: Ints, length: Ints, height: int, width: int) -> RunFault:
    """What is wrong with a run."""
    first, n = int(start[run]) + 1, int(length[run])
    pair = f"{first} {n}"
    if n < 1:
        return RunFault(mask, "lengths of at least 1", f"the run {pair}")
    if first < 1:
        return RunFault(mask, "starts counted from 1", f"the run {pair}")
    if first - 1 + n > height * width:
        what = "runs inside the photo, whose pixels are 1 … Height · Width"
        return RunFault(
            mask, what, f"the run {pair}, which ends at {first - 1 + n} of {height} · {width} = {height * width}"
        )
    before = f"{int(start[run - 1]) + 1} {int(length[run - 1])}"
    if first <= int(start[run - 1]) + 1:
        return RunFault(mask, "runs in ascending order", f"{pair} after {before}")
    return RunFault(mask, "runs that do not overlap", f"{pair} after {before}")


def _numbers(texts: Sequence[str]) -> tuple[Ints, Ints, dict[int, RunFault]]:
    """All numbers of all texts, int64, how many of them are each text's, int64 [n], and what can't be read, by text."""
    data = " ".join(texts).encode()
    signs = np.frombuffer(data, np.uint8)
    space = signs == _SPACE
    plain = len(data) > 0 and not space[0] and not space[-1] and not (space[1:] & space[:-1]).any()
    if plain and (space | (signs - _ZERO < 10)).all():
        values = np.fromstring(data, np.int64, sep=" ")
        if values.max() < 10**_MAX_DIGITS:
            ends = np.cumsum([len(text) + 1 for text in texts]) - 1
            count = np.diff(np.searchsorted(np.flatnonzero(space), ends, side="left"), prepend=-1)
            return values, count, {}
    return _one_by_one(texts)


def _one_by_one(texts: Sequence[str]) -> tuple[Ints, Ints, dict[int, RunFault]]:
    """As ``_numbers``, for texts in which something may be wrong."""
    found, unread = list[Any](), dict[int, RunFault]()
    for place, text in enumerate(texts):
        words = text.split()
        strange = next((word for word in words if not (word.isascii() and word.isdigit())), None)
        long = next((word for word in words if len(word.lstrip("0")) > _MAX_DIGITS), None)
        if not words:
            unread[place] = RunFault(place, "runs such as 1 3 10 5", "an empty cell")
        elif strange is not None:
            unread[place] = RunFault(place, "whole numbers with a space between them", _shown(strange))
        elif long is not None:
            unread[place] = RunFault(place, f"numbers of at most {_MAX_DIGITS} digits", _shown(long))
        found.append([] if place in unread else [int(word) for word in words])
    count = np.fromiter(map(len, found), np.int64, len(found))
    return np.array([value for one in found for value in one], np.int64), count, unread


def _shown(text: str) -> str:
    return json.dumps(text if len(text) <= 20 else text[:19] + "…", ensure_ascii=False)
