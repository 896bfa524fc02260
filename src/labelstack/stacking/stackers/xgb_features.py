"""What the trees of a label see of the cube, and the prediction that they start from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from labelstack.stacking.stackers.newton import Floats, fit_labels
from labelstack.support.cores import in_threads

_LOGIT_LIMIT = 1e-4  # probabilities are kept this far from 0 and 1 before the logit
_SLOPE_PENALTY, _SHIFT_PENALTY = 1.0, 1e-3
_BLOCK = 400_000  # numbers of one batch of regressions
_GRID = 2.0**16  # sums of products of multiples of 1 / _GRID are exact up to 2**20 images, in whatever order


class TreeColumns:
    """Features and starting points of each label of one cube.

    Parameters
    ----------
    cube : float32 [n, n_models, n_labels]
    features : ``all``, ``own``, ``own+context`` or ``own+top_k``
    related : int64 [n_labels, k], the labels whose mean ``own+top_k`` adds
    base : float32 [n_labels, 2], slope and shift on the logit of the models' mean; None to start from the prior
    """

    def __init__(
        self,
        cube: NDArray[np.float32],
        features: str,
        related: NDArray[np.int64],
        base: NDArray[np.float32] | None,
    ) -> None:
        self.cube, self.features, self.related, self.base = cube, features, related, base
        self.means = cube.mean(axis=1) if base is not None or features in ("own+context", "own+top_k") else None
        self._own = cube if features == "all" else np.ascontiguousarray(cube.transpose(2, 1, 0))
        self._means = np.ascontiguousarray(self.means.T) if features == "own+top_k" and self.means is not None else None

    def of(self, label: int) -> NDArray[np.float32]:
        """Float32 [n, n_features], contiguous."""
        if self.features == "all":
            return np.ascontiguousarray(self.cube).reshape(len(self.cube), -1)
        own = self._own[label].T
        if self.features == "own" or self.means is None:
            return np.ascontiguousarray(own)
        if self._means is None:
            return np.hstack([own, self.means])
        return np.ascontiguousarray(np.vstack([self._own[label], self._means[[label, *self.related[label]]]]).T)

    def margin(self, label: int) -> NDArray[np.float32] | None:
        """Logit float32 [n] that the trees of a label correct, None where they start from the prior."""
        if self.base is None or self.means is None:
            return None
        slope, shift = self.base[label]
        return np.asarray(slope * _logit(self.means[:, label]) + shift, np.float32)


def related_labels(cube: NDArray[np.float32], targets: NDArray[np.float32], k: int) -> NDArray[np.int64]:
    """For each label the k others whose models' mean says most about it beyond its own: int64 [n_labels, k or fewer].

    Ranked by the absolute partial correlation of the other label's mean with the answers, the label's own mean held
    fixed. Values are rounded to a grid on which sums are exact, so that the ranking does not depend on the number of
    threads; equal ones rank by their number.

    Parameters
    ----------
    cube : float32 [n, n_models, n_labels]
    targets : float32 [n, n_labels] in 0 … 1
    """
    n, n_labels = targets.shape
    k = min(k, n_labels - 1)
    if k == 0:
        return np.empty((n_labels, 0), np.int64)
    x, y = (np.rint(a.astype(np.float64) * _GRID) / _GRID for a in (cube.mean(axis=1), targets))
    x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
    among = x.T @ x / n - np.outer(x_mean, x_mean)  # covariances [n_labels, n_labels]
    variance = np.maximum(np.diag(among), 1e-12)
    with_answers = y.T @ x / n - np.outer(y_mean, x_mean)  # row: label answered, column: label predicted
    own = np.diag(with_answers) / variance
    partial = with_answers - own[:, None] * among
    left = variance - among**2 / variance[:, None]
    strength = np.abs(partial) / np.sqrt(np.maximum(left, 1e-3 * variance))
    np.fill_diagonal(strength, -1)
    return np.argsort(-strength, axis=1, kind="stable")[:, :k].astype(np.int64)


def fit_base(cube: NDArray[np.float32], targets: NDArray[np.float32]) -> NDArray[np.float32]:
    """Slope and shift float32 [n_labels, 2] that calibrate the logit of the models' mean (Platt 1999).

    The slope is held near 1 by a ridge penalty, so that a label with few positives gets little more than a shift.
    """
    penalty = np.array([_SLOPE_PENALTY, _SHIFT_PENALTY])
    means, n_labels = cube.mean(axis=1), targets.shape[1]

    def fit(first: int) -> Floats:
        part = slice(first, first + step)
        logit = np.ascontiguousarray(_logit(means[:, part]).T, np.float64)
        columns = np.stack([logit, np.ones_like(logit)], axis=2)
        answers = np.ascontiguousarray(targets[:, part].T, np.float64)
        return fit_labels(columns, answers, penalty, logit) + np.array([1.0, 0.0])

    step = max(1, _BLOCK // (2 * len(means)))
    return np.concatenate(in_threads(fit, range(0, n_labels, step))).astype(np.float32)


def _logit(p: NDArray[np.float32]) -> NDArray[np.float32]:
    clipped = np.clip(p, _LOGIT_LIMIT, 1 - _LOGIT_LIMIT)
    return np.asarray(np.log(clipped / (1 - clipped)), np.float32)
