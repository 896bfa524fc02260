"""The few cells of large probability matrices that matter, gathered a block of rows at a time.

With many labels nearly all probabilities are next to 0. What weights and thresholds do to them is known in sum.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from labelstack.support.cores import in_threads

BLOCK = 4_000_000  # probabilities of one member that are looked at together


def row_blocks(n: int, n_labels: int, block: int = BLOCK) -> list[slice]:
    """Consecutive rows with about ``block`` cells."""
    step = max(1, block // n_labels)
    return [slice(start, min(start + step, n)) for start in range(0, n, step)]


def above(
    stack: Sequence[NDArray[np.float32]],
    limit: np.float32,
    *,
    rows: NDArray[np.bool_] | None = None,
    block: int = BLOCK,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Cells where one member at least reaches a limit.

    Parameters
    ----------
    stack : float32 [n, n_labels], one for each member
    limit : of probability
    rows : bool [n], those that count; None: all
    block : cells that are looked at together

    Returns
    -------
    flat places int64 [cells] in the matrix of the rows that count, and values float32 [members, cells]
    """
    n, n_labels = stack[0].shape
    blocks = row_blocks(n, n_labels, block)
    counted = np.ones(n, np.int64) if rows is None else rows.astype(np.int64)
    first = np.cumsum(counted) - counted

    def of(part: slice) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        values = flat(stack, part, rows)
        some = np.flatnonzero(values.max(axis=0) >= limit) if values.shape[1] else np.zeros(0, np.int64)
        return some + first[part.start] * n_labels, values[:, some]

    parts = in_threads(of, blocks)
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts], axis=1)


def flat(
    stack: Sequence[NDArray[np.float32]], part: slice, rows: NDArray[np.bool_] | None = None
) -> NDArray[np.float32]:
    """Values [members, cells] of the rows of a block that count."""
    if rows is None:
        return np.stack([np.asarray(p[part]).reshape(-1) for p in stack])
    return np.stack([np.asarray(p[part])[rows[part]].reshape(-1) for p in stack])
