"""Rows that are held out of training, at random: for early stopping and the like."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labelstack.stacking.sources import source_codes
from labelstack.support.errors import UserError


def hold_out(n: int, share: float, most: int, seed: int, source: ArrayLike | None = None) -> NDArray[np.bool_]:
    """Which rows are held out: a share of them, drawn at random.

    Wanted are ``min(round(n * share), most)`` rows. Without sources it is that many. With sources whole ones are drawn
    in random order, and each is held out that brings the number nearer to the one wanted, or leaves it as near, and
    leaves rows to train on. So at most half of one source is held out too many, and less than half of any source
    left is missing. Where every source is more than twice as big as what is wanted, the smallest is held out, of
    equally small ones the first drawn.

    Parameters
    ----------
    n : number of rows
    share : of the rows, 0 … 1
    most : rows that may be wanted, however many there are
    seed : of the draw
    source : strings or whole numbers [n], equal where rows belong together

    Returns
    -------
    bool [n]

    Raises
    ------
    UserError
        When all rows are of one source and some should be held out.
    """
    size = min(round(n * share), most)
    chosen = np.zeros(n, bool)
    rng = np.random.default_rng([seed, 1])
    if source is None:
        chosen[rng.permutation(n)[:size]] = True
        return chosen
    codes = source_codes(source, n)
    sizes = np.bincount(codes)
    if len(sizes) == 1 and share > 0:
        raise UserError(
            f"training.holdout is {share:g}, and all {n} rows are of one source, which is not split: "
            "set training.holdout to 0, or folds.group_by to null"
        )
    drawn = rng.permutation(len(sizes))
    held, taken = [], 0
    for code, count in zip(drawn.tolist(), sizes[drawn].tolist(), strict=True):
        if 2 * taken + count <= 2 * size and taken + count < n:
            held.append(code)
            taken += count
    if size and not held:
        held = [int(drawn[np.argmin(sizes[drawn])])]
    return np.isin(codes, held)
