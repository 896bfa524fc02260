"""How probabilities are kept, float32 or logits float16, and matrices that are read as they are asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelstack.support.cores import in_threads
from labelstack.support.dtypes import Dtype

BLOCK = 4_000_000  # numbers that are turned together, in float64
Places = slice | NDArray[np.bool_] | NDArray[np.int64]


def to_logits(probability: NDArray[np.floating[Any]]) -> NDArray[np.float16]:
    """ln p − ln (1 − p) as float16 of probabilities in 0 … 1, of any shape: −inf of 0, inf of 1, NaN of NaN.

    Computed in float64 and rounded once. What ``to_probability`` makes of them is within 1.03e-4 of what it was, and
    within 0.4 % of it between 1e-7 and 1e-3; float16 of the probability itself would make 1 of all above 0.99976.
    """
    p = np.asarray(probability, np.float64)
    with np.errstate(divide="ignore"):
        logits: NDArray[np.float16] = (np.log(p) - np.log1p(-p)).astype(np.float16)
    return logits


def to_probability(logits: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """1 / (1 + exp(−logit)) as float32, of any shape, computed in float64."""
    with np.errstate(over="ignore"):
        odds = np.exp(-np.asarray(logits, np.float64))
    probability: NDArray[np.float32] = (1 / (1 + odds)).astype(np.float32)
    return probability


def to_kept(probability: NDArray[np.float32], dtype: Dtype) -> NDArray[Any]:
    """What a file holds of probabilities: themselves, or logits float16.

    Logits float32 would change what lies below 0.25 by up to 1.5e-8: nothing, but for a CNN that learns from it.
    """
    return to_logits(probability) if dtype == "float16" else np.asarray(probability, np.float32)


def from_kept(kept: NDArray[Any]) -> NDArray[np.float32]:
    """Probabilities float32 of what ``to_kept`` gave."""
    return to_probability(kept) if kept.dtype == np.float16 else np.asarray(kept, np.float32)


def as_kept(probability: NDArray[np.float32], dtype: Dtype) -> NDArray[np.float32]:
    """Probabilities float32 [n, …] as they come back from a file: float32 as they are."""
    if dtype == "float32":
        return probability
    found = np.empty(probability.shape, np.float32)

    def turn(rows: slice) -> None:
        found[rows] = to_probability(to_logits(np.clip(probability[rows], 0, 1)))

    in_threads(turn, _blocks(probability.shape))
    return found


class MappedRows:
    """Probabilities float32 [n, n_labels] of some rows of a file, read and made of logits a block at a time.

    Indexing with rows (a slice, bool [n] or int [m]) gives an array; ``numpy.asarray`` gives all.

    Parameters
    ----------
    kept : as of ``to_kept``, [m, n_labels] or, of nested predictions, [m, k, n_labels]; mapped from a file
    rows : int64 [n], places in the file
    fold : of nested predictions one fold, or int64 [n], one for each row; None: all that there are
    """

    dtype = np.dtype(np.float32)

    def __init__(
        self, kept: NDArray[Any], rows: NDArray[np.int64], fold: int | NDArray[np.int64] | None = None
    ) -> None:
        self._kept, self._rows, self._fold = kept, rows, fold
        self.shape = (len(rows), *kept.shape[1 if fold is None else 2 :])

    @property
    def ndim(self) -> int:
        """Of the array that it stands for."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Numbers in it."""
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Places) -> NDArray[np.float32]:
        places = np.arange(len(self))[index]
        found = np.empty((len(places), *self.shape[1:]), np.float32)

        def turn(rows: slice) -> None:
            found[rows] = from_kept(self._of(places[rows]))

        in_threads(turn, _blocks(found.shape))
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[:].astype(dtype or self.dtype, copy=False)

    def holds_nan(self) -> bool:
        """Whether a label is unknown in a row; reads the file, and turns nothing."""
        places = np.arange(len(self))
        return any(bool(np.isnan(self._of(places[rows])).any()) for rows in _blocks(self.shape))

    def _of(self, places: NDArray[np.int64]) -> NDArray[Any]:
        rows = self._rows[places]
        if self._fold is None:
            return np.asarray(self._kept[rows])
        return np.asarray(self._kept[rows, self._fold if isinstance(self._fold, int) else self._fold[places]])


class MappedFolds:
    """Nested predictions float32 [k, n, n_labels] of a file, ``kept`` [m, k, n_labels] as of ``to_kept``.

    ``[j]`` is the matrix of a fold, ``[folds, arange(n)]`` that of one fold for each row: ``MappedRows``.
    """

    def __init__(self, kept: NDArray[Any], rows: NDArray[np.int64]) -> None:
        self._kept, self._rows = kept, rows
        self.shape = (kept.shape[1], len(rows), kept.shape[2])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int | tuple[NDArray[np.int64], NDArray[np.int64]]) -> MappedRows:
        if isinstance(index, tuple):
            folds, rows = index
            return MappedRows(self._kept, self._rows[rows], folds)
        return MappedRows(self._kept, self._rows, int(index))


def _blocks(shape: tuple[int, ...]) -> list[slice]:
    """Consecutive rows with about ``BLOCK`` numbers."""
    step = max(1, BLOCK // max(1, int(np.prod(shape[1:]))))
    return [slice(start, min(start + step, shape[0])) for start in range(0, shape[0], step)]
