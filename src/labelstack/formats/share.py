"""Rows for a split that nobody named, at random."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def choose_share(Y: NDArray[np.bool_], share: float, seed: int, source: NDArray[np.str_] | None) -> NDArray[np.bool_]:
    """Choose about a share of the rows at random, bool [n]; what belongs together is chosen together.

    Parameters
    ----------
    Y : bool [n, n_labels]
    share : 0 … 1
    seed : same arguments, same rows
    source : str [n], or None where every row stands alone
    """
    group = np.arange(len(Y)) if source is None else np.unique(source, return_inverse=True)[1]
    size = np.bincount(group)
    order = np.random.default_rng(seed).permutation(len(size))
    wanted = round(share * len(Y))
    taken = order[np.cumsum(size[order]) - size[order] < wanted]
    return np.isin(group, taken)
