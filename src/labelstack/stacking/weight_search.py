"""Blend weights by a simplex search on an F-score itself, as published solutions of iMet 2019 found theirs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from labelstack.scoring.metrics import Average, f_of_counts
from labelstack.stacking.array_checks import check_answers, check_members
from labelstack.stacking.deciding.thresholds import best_global


@dataclass(frozen=True)
class Searched:
    """What a search found.

    Attributes
    ----------
    weights : name → weight ≥ 0, in the members' order; they sum to 1
    score : F-beta on the rows searched on, by the members' own thresholds
    evaluations : how often that was computed
    """

    weights: dict[str, float]
    score: float
    evaluations: int


def nelder_mead(
    members: Mapping[str, ArrayLike],
    Y: ArrayLike,
    folds: NDArray[np.int64] | None = None,
    *,
    average: Average = "samples",
    beta: float = 1.0,
    thresholds: NDArray[np.float32] | None = None,
) -> Searched:
    """Weights with a large F-beta of label sets Σ w (p − t) > 0, t being a member's best threshold for the row's fold.

    SciPy's ``minimize(method="Nelder-Mead")`` from equal weights within 0 … 1 and its own tolerances, as in artyompal's
    `ensemble_search_scipy_optimize.py` (https://github.com/artyompal/imet), which subtracts the threshold of each
    fold's network. The score is the same for weights of any sum and constant but for steps. With weights ≥ 0 a label
    can be given only where one member at least is above its threshold: all else is left out of the sums.

    Parameters
    ----------
    members : name → float [n, n_labels] in 0 … 1, out-of-fold
    Y : 0/1 [n, n_labels]
    folds : int [n]; None: one threshold for each member
    average, beta : which F-score
    thresholds : float32 [members, k], of each member in each fold, where they are known
    """
    checked = check_members(members)
    shape = next(iter(checked.values())).shape
    answers = check_answers(Y, (shape[0], shape[1]), of="members")
    assigned = np.zeros(shape[0], np.int64) if folds is None else folds
    objective = _Objective(checked, answers, assigned, average, beta, thresholds)
    equal = np.full(len(checked), 1 / len(checked))
    if len(checked) == 1:
        return Searched(dict.fromkeys(checked, 1.0), objective(equal), 1)
    from scipy.optimize import minimize  # half a second; before threads are limited, so that SciPy's are too

    with threadpool_limits(1, user_api="blas"):  # the same sums, however many cores
        found = minimize(lambda w: -objective(w), equal, method="Nelder-Mead", bounds=[(0, 1)] * len(equal))
    weights = found.x / found.x.sum() if found.x.sum() > 0 else equal
    return Searched(dict(zip(checked, weights.tolist(), strict=True)), -float(found.fun), int(found.nfev))


class _Objective:
    """F-beta of weights, from the cells where it can change."""

    def __init__(
        self,
        members: Mapping[str, NDArray[np.float32]],
        Y: NDArray[np.bool_],
        folds: NDArray[np.int64],
        average: Average,
        beta: float,
        thresholds: NDArray[np.float32] | None,
    ) -> None:
        self._beta = beta
        if thresholds is None:
            margins = [P - _best(P, Y, folds, average, beta)[folds][:, None] for P in members.values()]
        else:
            margins = [P - own[folds][:, None] for P, own in zip(members.values(), thresholds, strict=True)]
        some = np.flatnonzero(np.any([margin.ravel() > 0 for margin in margins], axis=0))
        self._margins = np.stack([margin.ravel()[some] for margin in margins])
        n_labels = Y.shape[1]
        of_cell = {"samples": some // n_labels, "macro": some % n_labels, "micro": np.zeros_like(some)}
        self._unit = of_cell[average].astype(np.int32)  # what an F of its own is computed for
        self._right = self._unit[Y.ravel()[some]], Y.ravel()[some]
        axis = {"samples": 1, "macro": 0, "micro": None}[average]
        self._true = np.atleast_1d(Y.sum(axis=axis)).astype(np.float64)

    def __call__(self, weights: NDArray[np.float64]) -> float:
        given = weights.astype(np.float32) @ self._margins > 0
        units, right = self._right
        predicted = np.bincount(self._unit[given], minlength=len(self._true)).astype(np.float64)
        hits = np.bincount(units[given[right]], minlength=len(self._true)).astype(np.float64)
        return float(f_of_counts(hits, self._true, predicted, self._beta).mean())


def _best(
    P: NDArray[np.float32], Y: NDArray[np.bool_], folds: NDArray[np.int64], average: Average, beta: float
) -> NDArray[np.float32]:
    """The best threshold for the rows of each fold, float32 [k]; 0 of a fold without rows."""
    found = np.zeros(int(folds.max()) + 1, np.float32)
    for fold in np.unique(folds):
        rows = folds == fold
        found[fold] = best_global(Y[rows], P[rows], average, beta)
    return found
