"""A multinomial logistic regression on log probabilities, for labels of which exactly one is true."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from labelstack.stacking.stackers.array_stacker import Arrays, ArrayStacker
from labelstack.stacking.stackers.logit_features import Floats

_STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0)
_FOLDS = 4  # on which a strength is chosen
_STEPS = 30
_NEAR = 1e-8  # a smaller gain ends the search


class MultinomialStacker(ArrayStacker):
    """P(label) ∝ exp(b + a₀ ln p̄ + Σ aₘ ln pₘ): a pool of the models' log probabilities and that of their mean.

    Every model has one slope for all labels, every label an offset (Genest & Zidek 1986: the logarithmic opinion pool).
    Slopes and offsets are drawn to those of the models' mean (a₀ = 1, all else 0) by a ridge penalty, so with few rows
    the answer is near that mean. By Newton's method; convex.

    Parameters
    ----------
    strength : prior variance of slopes and offsets, times 1; None: one of 0.01 … 1, by the log loss of four folds of
        the rows fitted
    clip : probabilities are mixed with so much of equal ones before logarithms are taken
    """

    kind = "multinomial"

    def __init__(self, *, strength: float | None = None, clip: float = 1e-3) -> None:
        self.strength = strength
        self.clip = clip

    def _learn(self, cube: NDArray[np.float32], targets: NDArray[np.float32], progress: str) -> Arrays:
        y = targets.astype(np.float64)
        mass = y.sum(axis=1, keepdims=True)
        rows = mass[:, 0] > 0
        X, y = self._columns(cube)[rows], y[rows] / mass[rows]
        with threadpool_limits(1, user_api="blas"):  # the same sums, however many cores
            strength = self.strength or self._chosen(X, y)
            return {"slopes": _fit(X, y, strength), "strength": np.array(strength)}

    def _answer(self, cube: NDArray[np.float32], arrays: Arrays) -> NDArray[np.floating[Any]]:
        return _softmax(_scores(self._columns(cube), arrays["slopes"]))

    def _columns(self, cube: NDArray[np.float32]) -> Floats:
        """Log probabilities float64 [n, n_labels, 1 + n_models] of the mean and of every model."""
        values = cube.astype(np.float64)
        total = values.sum(axis=2, keepdims=True)
        n_labels = values.shape[2]
        shares = np.divide(values, total, out=np.full(values.shape, 1 / n_labels), where=total > 0)
        shares = (1 - self.clip) * shares + self.clip / n_labels
        both = np.concatenate([shares.mean(axis=1, keepdims=True), shares], axis=1)
        return np.log(np.ascontiguousarray(both.transpose(0, 2, 1)))

    def _chosen(self, X: Floats, y: Floats) -> float:
        """The strength with the least log loss on rows that were not fitted; the smallest where rows are too few."""
        if len(X) < 2 * _FOLDS:
            return _STRENGTHS[0]
        part = np.arange(len(X)) % _FOLDS
        losses = []
        for strength in _STRENGTHS:
            loss = 0.0
            for fold in range(_FOLDS):
                scored = part == fold
                P = _softmax(_scores(X[scored], _fit(X[~scored], y[~scored], strength)))
                loss -= float((y[scored] * np.log(np.maximum(P, 1e-12))).sum())
            losses.append(loss)
        return _STRENGTHS[int(np.argmin(losses))]


def _fit(X: Floats, y: Floats, strength: float) -> Floats:
    """Slopes, then an offset for each label: Newton steps, halved as long as they do not help."""
    n, n_labels, n_columns = X.shape
    flat = X.reshape(-1, n_columns)
    centre = np.zeros(n_columns + n_labels)
    centre[0] = 1.0
    pull = 1 / strength

    def at(theta: Floats) -> tuple[float, Floats]:
        z = _scores(X, theta)
        z -= z.max(axis=1, keepdims=True)
        P = np.exp(z)
        total = P.sum(axis=1, keepdims=True)
        loss = float(np.log(total).sum() - (y * z).sum()) + pull * float(((theta - centre) ** 2).sum()) / 2
        return loss, P / total

    theta = centre.copy()
    value, P = at(theta)
    hessian = np.empty((len(theta), len(theta)))
    for _ in range(_STEPS):
        error = P - y
        gradient = np.concatenate([flat.T @ error.ravel(), error.sum(axis=0)]) + pull * (theta - centre)
        weighted = flat * P.ravel()[:, None]
        by_row = weighted.reshape(n, n_labels, n_columns)
        mean = by_row.sum(axis=1)
        hessian[:n_columns, :n_columns] = flat.T @ weighted - mean.T @ mean
        cross = by_row.sum(axis=0).T - mean.T @ P
        hessian[:n_columns, n_columns:], hessian[n_columns:, :n_columns] = cross, cross.T
        hessian[n_columns:, n_columns:] = np.diag(P.sum(axis=0)) - P.T @ P
        step, scale = np.linalg.solve(hessian + pull * np.eye(len(theta)), gradient), 1.0
        found, shares = at(theta - step)
        while found > value and scale > 1e-4:
            scale /= 2
            found, shares = at(theta - scale * step)
        gain = value - found
        if gain > 0:
            theta, value, P = theta - scale * step, found, shares
        if gain <= _NEAR * n:
            break
    return theta


def _scores(X: Floats, theta: Floats) -> Floats:
    n, n_labels, n_columns = X.shape
    return np.asarray((X.reshape(-1, n_columns) @ theta[:n_columns]).reshape(n, n_labels) + theta[n_columns:])


def _softmax(z: Floats) -> Floats:
    raised = np.exp(z - z.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))
