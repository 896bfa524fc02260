"""Which rows something learns from where all would be more than it needs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def some_rows(n: int, most: int | None, seed: int = 0) -> NDArray[np.int64] | slice:
    """``most`` of ``n`` rows drawn by a seed, in their order; all of them where there are no more.

    Parameters
    ----------
    n : rows that there are
    most : rows that are wanted at most; None: all
    """
    if most is None or n <= most:
        return slice(None)
    drawn: NDArray[np.int64] = np.sort(np.random.default_rng((seed, n)).choice(n, most, replace=False))
    return drawn
