"""Logits in which probabilities are kept, and matrices of probabilities that are made of them as they are asked for."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from labelstack.support.cores import in_threads

Dtype = Literal["float32", "float16"]
BLOCK = 4_000_000  # numbers that are turned together, in float64
Places = slice | NDArray[np.bool_] | NDArray[np.int64]


def to_logits(probability: NDArray[np.floating[Any]], dtype: Dtype) -> NDArray[np.floating[Any]]:
    """ln p − ln (1 − p) of probabilities in 0 … 1, of any shape: −inf of 0, inf of 1, NaN of NaN.

    Computed in float64 and rounded once. What ``to_probability`` makes of them is, in float32, from 0.25 on the very
    float32 that it was, and below it within a share of 6e-8 · (1 + |logit|): 3.4e-7 at 0.01. In float16 it is
    within 1.03e-4 of it everywhere, and within 0.4 % of what lies between 1e-7 and 1e-3.
    """
    p = np.asarray(probability, np.float64)
    with np.errstate(divide="ignore"):
        logits: NDArray[np.floating[Any]] = (np.log(p) - np.log1p(-p)).astype(dtype)
    return logits


def to_probability(logits: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """1 / (1 + exp(−logit)) as float32, of any shape, computed in float64."""
    with np.errstate(over="ignore"):
        odds = np.exp(-np.asarray(logits, np.float64))
    probability: NDArray[np.float32] = (1 / (1 + odds)).astype(np.float32)
    return probability


def as_kept(probability: NDArray[np.float32], dtype: Dtype | None) -> NDArray[np.float32]:
    """Probabilities float32 [n, …], clipped to 0 … 1, as they come back from a file; None: as they are."""
    if dtype is None:
        return probability
    found = np.empty(probability.shape, np.float32)

    def turn(rows: slice) -> None:
        found[rows] = to_probability(to_logits(np.clip(probability[rows], 0, 1), dtype))

    in_threads(turn, _blocks(probability.shape))
    return found


class LogitRows:
    """Probabilities float32 [n, n_labels] of some rows of a file of logits, made of them a block at a time.

    Indexing with rows (a slice, bool [n] or int [m]) gives an array; ``numpy.asarray`` gives all.

    Parameters
    ----------
    logits : float16 or float32 [m, n_labels] or, of nested predictions, [m, k, n_labels]; mapped from a file
    rows : int64 [n], places in the file
    fold : of nested predictions one fold, or int64 [n], one for each row; None: all that there are
    """

    dtype = np.dtype(np.float32)

    def __init__(
        self, logits: NDArray[Any], rows: NDArray[np.int64], fold: int | NDArray[np.int64] | None = None
    ) -> None:
        self._logits, self._rows, self._fold = logits, rows, fold
        self.shape = (len(rows), *logits.shape[1 if fold is None else 2 :])

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
            found[rows] = to_probability(self._of(places[rows]))

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
            return np.asarray(self._logits[rows])
        return np.asarray(self._logits[rows, self._fold if isinstance(self._fold, int) else self._fold[places]])


class LogitFolds:
    """Nested predictions float32 [k, n, n_labels] of a file of logits [m, k, n_labels].

    ``[j]`` is the matrix of a fold, ``[folds, arange(n)]`` that of one fold for each row: ``LogitRows``.
    """

    def __init__(self, logits: NDArray[Any], rows: NDArray[np.int64]) -> None:
        self._logits, self._rows = logits, rows
        self.shape = (logits.shape[1], len(rows), logits.shape[2])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: int | tuple[NDArray[np.int64], NDArray[np.int64]]) -> LogitRows:
        if isinstance(index, tuple):
            folds, rows = index
            return LogitRows(self._logits, self._rows[rows], folds)
        return LogitRows(self._logits, self._rows, int(index))


def _blocks(shape: tuple[int, ...]) -> list[slice]:
    """Consecutive rows with about ``BLOCK`` numbers."""
    step = max(1, BLOCK // max(1, int(np.prod(shape[1:]))))
    return [slice(start, min(start + step, shape[0])) for start in range(0, shape[0], step)]
