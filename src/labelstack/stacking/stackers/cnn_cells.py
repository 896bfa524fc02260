"""What the residual network learns from: single labels of images, more of those that the start gets wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from labelstack.stacking.stackers.cnn_start import Floats as Exact

Floats = NDArray[np.float32]
_BLIND = 0.25  # share of a cell's chance, against that by its error, that all cells have alike


@dataclass(frozen=True)
class Examples:
    """What a network is shown, in the order in which it is shown.

    Attributes
    ----------
    inputs : arrays [n, …] of the network
    logits, targets : float32 [n, n_labels]
    weights : of the cross-entropies, float32 [n, n_labels] or [n, 1]
    start : mean cross-entropy of the logits on all that these stand for
    """

    inputs: list[Floats]
    logits: Floats
    targets: Floats
    weights: Floats
    start: float = np.nan

    def loss(self, correction: Floats) -> float:
        """Mean cross-entropy with a correction [n, n_labels] of the logits: the start's and the mean of differences."""
        z = self.logits.astype(np.float64)
        apart = np.logaddexp(0, z + correction) - np.logaddexp(0, z) - self.targets * correction
        return self.start + float((self.weights * apart).mean())


class Cells:
    """Images × labels of some rows, drawn by chance where they tell something.

    Most labels of most images are far from true and cost a network as much as those in doubt. A cell's chance is its
    error |y − p| by the start's probability, as a share of the mean error, plus a quarter; its cross-entropy counts the
    less, the higher its chance, so that sums are right on average (importance sampling: Owen, Monte Carlo theory,
    chapter 9).

    Parameters
    ----------
    logits, targets : the start's, and the answers, [n, n_labels]
    rows : that cells are drawn from
    arrays : gives the network's inputs for cells, by their rows and labels, int64 [steps, cells of a step]
    """

    def __init__(
        self,
        logits: Exact,
        targets: Floats,
        rows: NDArray[np.int64],
        arrays: Callable[[NDArray[np.int64], NDArray[np.int64]], list[Floats]],
    ) -> None:
        self._logits, self._targets, self._rows, self._arrays = logits, targets, rows, arrays
        z, y = logits[rows], targets[rows]
        error = np.abs(y - expit(z)).ravel()
        chance = error + _BLIND * error.mean() + 1e-12
        self._up_to = np.cumsum(chance)
        self._weights = chance.mean() / chance
        self._start = cross_entropy(y, z)

    def drawn(self, steps: int, count: int, rng: np.random.Generator) -> Examples:
        """So many steps of so many cells, in random order; a cell may come more than once."""
        places = (np.arange(steps * count) + rng.random()) * (self._up_to[-1] / (steps * count))
        cells = np.minimum(np.searchsorted(self._up_to, places, side="right"), len(self) - 1)
        return self._examples(rng.permutation(cells).reshape(steps, count), self._weights)

    def held(self, most: int, rng: np.random.Generator) -> Examples:
        """All cells, or so many by chance, as the labels of one image."""
        if len(self) > most:
            return self.drawn(1, most, rng)
        return self._examples(np.arange(len(self))[None], np.ones(len(self)))

    def __len__(self) -> int:
        return len(self._weights)

    def _examples(self, cells: NDArray[np.int64], weights: Exact) -> Examples:
        n_labels = self._logits.shape[1]
        rows, labels = self._rows[cells // n_labels], cells % n_labels
        return Examples(
            self._arrays(rows, labels),
            self._logits[rows, labels].astype(np.float32),
            self._targets[rows, labels],
            weights[cells].astype(np.float32),
            self._start,
        )


def whole_rows(inputs: list[Floats], logits: Exact, targets: Floats, rows: NDArray[np.int64]) -> Examples:
    """All labels of some images."""
    return Examples(
        [each[rows] for each in inputs],
        logits[rows].astype(np.float32),
        targets[rows],
        np.ones((len(rows), 1), np.float32),
        cross_entropy(targets[rows], logits[rows]) if len(rows) else np.nan,
    )


def turns(rows: NDArray[np.int64], count: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """So many rows at a time, out of one random order of all rows after the other."""
    left = np.empty(0, np.int64)
    while True:
        while len(left) < count:
            left = np.concatenate([left, rng.permutation(rows)])
        yield left[:count]
        left = left[count:]


def cross_entropy(targets: NDArray[Any], logits: NDArray[Any]) -> float:
    """Mean binary cross-entropy of logits, both [n, n_labels]."""
    z = logits.astype(np.float64)
    return float((np.logaddexp(0, z) - targets * z).mean())
