"""The log loss of convex mixes of members, as a function of the weights."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from labelstack.stacking.cells import BLOCK, flat, row_blocks
from labelstack.support.cores import cores, in_threads

Floats = NDArray[np.float64]
_CHUNK = 65_536  # cells that are weighed together
_LEAST = np.float32(1e-6)  # of the probability of what is true
_IMPROBABLE = np.float32(2e-3)  # of all members, of what is false: −ln (1 − m) = m + m²/2, to 3e-9


@dataclass(frozen=True)
class Mixture:
    """What the loss needs of the cells.

    Attributes
    ----------
    right : float32 [members, cells], what each member gives to what is true
    mass : float32 [cells], how much each counts; None: 1
    cells : number of all cells
    first, second : sums of improbable cells' probabilities float64 [members], and of their products [members, members]
    """

    right: NDArray[np.float32]
    mass: NDArray[np.float32] | None
    cells: int
    first: Floats
    second: Floats

    @classmethod
    def of(
        cls,
        stack: Sequence[NDArray[np.float32]],
        targets: NDArray[Any],
        rows: NDArray[np.bool_] | None = None,
        *,
        many: bool = False,
    ) -> Mixture:
        """Gather from members of one shape.

        Parameters
        ----------
        stack : probabilities float32 in 0 … 1, an array for each member
        targets : bool, or float in 0 … 1, of the same shape
        rows : bool [n], those that count; None: all
        many : whether false cells that all members hold improbable count by their moments; matrices only
        """
        members = len(stack)
        none = np.zeros(members), np.zeros((members, members))
        if not many:
            chosen = slice(None) if rows is None else rows
            right, mass = _right(np.stack([p[chosen].ravel() for p in stack]), np.asarray(targets)[chosen].ravel())
            return cls(right, mass, right.shape[1] if mass is None else right.shape[1] // 2, *none)

        def gathered(part: slice) -> tuple[NDArray[np.float32], Any, Floats, Floats, int]:
            values, y = flat(stack, part, rows), flat([targets], part, rows)[0]
            improbable = (values.max(axis=0) < _IMPROBABLE) & (y == 0)
            right, mass = _right(values[:, ~improbable], y[~improbable])
            values *= improbable
            return right, mass, values.sum(axis=1, dtype=np.float64), (values @ values.T).astype(np.float64), len(y)

        n, n_labels = stack[0].shape
        with threadpool_limits(1, user_api="blas"):
            parts = in_threads(gathered, row_blocks(n, n_labels, BLOCK // 4))
        right = np.concatenate([part[0] for part in parts], axis=1)
        mass = None
        if any(part[1] is not None for part in parts):
            of_parts = [np.ones(part[0].shape[1], np.float32) if part[1] is None else part[1] for part in parts]
            mass = np.concatenate(of_parts)
        first, second = sum(part[2] for part in parts), sum(part[3] for part in parts)
        return cls(right, mass, sum(part[4] for part in parts), np.asarray(first), np.asarray(second))

    def likeliest(self, kept: NDArray[np.int64]) -> Floats:
        """Weights ≥ 0 of sum 1 of some members whose mix has the least loss, by sequential quadratic programming."""
        if len(kept) == 1:
            return np.ones(1)
        from scipy.optimize import minimize  # half a second; before threads are limited, so that SciPy's are too

        right = self.right if len(kept) == len(self.right) else self.right[kept]
        first, second, mass = self.first[kept], self.second[np.ix_(kept, kept)], self.mass
        equal = np.full(len(kept), 1 / len(kept))

        chunks = [slice(start, start + _CHUNK) for start in range(0, right.shape[1], _CHUNK)]

        def of_chunk(weights: NDArray[np.float32], chunk: slice) -> tuple[float, Floats]:
            mixed = np.maximum(weights @ right[:, chunk], _LEAST)
            losses, slopes = np.log(mixed), 1 / mixed
            if mass is not None:
                losses, slopes = losses * mass[chunk], slopes * mass[chunk]
            return float(losses.sum(dtype=np.float64)), (right[:, chunk] @ slopes).astype(np.float64)

        def loss(weights: Floats) -> tuple[float, Floats]:
            parts = list(each(partial(of_chunk, weights.astype(np.float32)), chunks))
            both = second @ weights
            value = weights @ first + weights @ both / 2 - sum(part[0] for part in parts)
            slope = first + both - sum(part[1] for part in parts)
            return float(value) / self.cells / scale, slope / self.cells / scale

        scale = 1.0
        with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(cores()) as pool:
            each = pool.map if len(chunks) > 1 and cores() > 1 else map  # the same sums, however many cores
            scale = max(loss(equal)[0], 1e-9)  # labels may be rare and losses small, which must not end the search
            found = minimize(
                loss,
                equal,
                jac=True,
                method="SLSQP",
                bounds=[(0, 1)] * len(kept),
                constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones_like(w)},
                options={"ftol": 1e-9, "maxiter": 200},
            )
        weights: Floats = np.clip(found.x, 0, 1)
        return weights / weights.sum()


def _right(
    values: NDArray[np.float32], targets: NDArray[Any]
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    """What members give to what is true [members, cells]; an uncertain answer counts as both, by its weights."""
    true, mass = targets >= 0.5, None
    right = np.where(true, values, 1 - values)
    if targets.dtype != np.bool_ and (soft := np.minimum(targets, 1 - targets)).any():
        right = np.concatenate([right, 1 - right], axis=1)
        mass = np.concatenate([1 - soft, soft]).astype(np.float32)
    return np.maximum(right, _LEAST, out=right), mass
