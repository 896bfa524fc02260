"""Ridge-penalised regressions of all labels at once: Newton's method on batches of small matrices.

Shapes: L labels, n images, d columns; X [L, n, d], targets Y [L, n] in 0 … 1, weights W [L, d].
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Family:
    """Loss as a function of the linear predictor: its mean, the derivative of the mean, and the loss itself."""

    mean: Callable[[Floats], Floats]
    slope: Callable[[Floats], Floats]
    loss: Callable[[Floats, Floats], Floats]


LOGISTIC = Family(expit, lambda p: p * (1 - p), lambda eta, y: np.logaddexp(0, eta) - y * eta)
SQUARED = Family(lambda eta: eta, np.ones_like, lambda eta, y: (eta - y) ** 2 / 2)


def fit_labels(
    X: Floats,
    Y: Floats,
    penalty: Floats,
    offset: Floats,
    family: Family = LOGISTIC,
    *,
    start: Floats | None = None,
    steps: int = 50,
    tolerance: float = 1e-10,
) -> Floats:
    """Weights [L, d] that minimise, for each label alone, Σ loss(X w + offset, y) + ½ Σ penalty w².

    Parameters
    ----------
    X, Y, offset : float64 [L, n, d], [L, n], [L, n]
    penalty : float64 [d], all ≥ 0
    start : weights [L, d] to begin with, None for zeros
    steps, tolerance : at most so many Newton steps, each halved until the objective falls; a label is finished when the
        squared Newton decrement is below the tolerance
    """
    W = np.zeros((X.shape[0], X.shape[2])) if start is None else start.copy()
    open_ = np.arange(len(X))
    for _ in range(steps):
        whole = len(open_) == len(X)
        x, y, o, w = (X, Y, offset, W) if whole else (X[open_], Y[open_], offset[open_], W[open_])
        eta = _linear(x, w) + o
        mean = family.mean(eta)
        gradient = np.matmul((mean - y)[:, None, :], x)[:, 0] + penalty * w
        step = np.linalg.solve(_hessian(x, family.slope(mean), penalty), gradient[:, :, None])[:, :, 0]
        decrement = (gradient * step).sum(axis=1)
        W[open_] = w - step * _length(x, y, o, w, step, eta, decrement, penalty, family)[:, None]
        open_ = open_[decrement > tolerance]
        if not len(open_):
            break
    return W


def fit_shared(
    blocks: Callable[[], Iterable[tuple[Floats, Floats]]],
    penalty: Floats,
    centre: Floats,
    family: Family = LOGISTIC,
    *,
    steps: int = 30,
    tolerance: float = 1e-8,
) -> Floats:
    """One weight vector [d] for all labels: minimises Σ loss(X w, y) + ½ Σ penalty (w − centre)².

    Parameters
    ----------
    blocks : called once for each step, gives (X, Y) of some labels at a time
    penalty, centre : float64 [d]
    """
    w = centre.copy()

    def objective(weights: Floats) -> float:
        fit = sum(float(family.loss(x @ weights, y).sum()) for x, y in blocks())
        return fit + float((penalty * (weights - centre) ** 2).sum()) / 2

    value = objective(w)
    for _ in range(steps):
        gradient, hessian = penalty * (w - centre), np.diag(penalty)
        for x, y in blocks():
            mean = family.mean(x @ w)
            gradient = gradient + np.tensordot(mean - y, x, axes=2)
            hessian = hessian + _hessian(x, family.slope(mean), np.zeros(x.shape[2])).sum(axis=0)
        step = np.linalg.solve(hessian + _RIDGE * np.eye(len(w)), gradient)
        decrement, length = float(gradient @ step), 1.0
        while (new := objective(w - length * step)) > value and length > 1e-6:
            length /= 2
        w, value = w - length * step, new
        if decrement < tolerance:
            break
    return w


def leave_one_out(
    X: Floats, Y: Floats, penalty: Floats, offset: Floats, W: Floats, family: Family = LOGISTIC
) -> Floats:
    """Loss [L] summed over images, each predicted as by a fit without it, to first order.

    One Newton step away from the full fit (Rad & Maleki 2020); exact for the squared loss.
    """
    eta = _linear(X, W) + offset
    mean = family.mean(eta)
    slope = family.slope(mean)
    leverage = (np.matmul(X, np.linalg.inv(_hessian(X, slope, penalty))) * X).sum(axis=2)
    without = eta + leverage * (mean - Y) / np.maximum(1 - slope * leverage, 1e-3)
    return np.asarray(family.loss(without, Y).sum(axis=1))


_RIDGE = 1e-9  # keeps matrices invertible where columns are equal and the penalty is 0


def _linear(X: Floats, W: Floats) -> Floats:
    return np.asarray(np.matmul(X, W[:, :, None])[:, :, 0])


def _hessian(X: Floats, slope: Floats, penalty: Floats) -> Floats:
    return np.matmul(X.transpose(0, 2, 1), X * slope[:, :, None]) + np.diag(penalty + _RIDGE)


def _length(
    x: Floats,
    y: Floats,
    offset: Floats,
    w: Floats,
    step: Floats,
    eta: Floats,
    decrement: Floats,
    penalty: Floats,
    family: Family,
) -> Floats:
    """Share [L] of the Newton step that lets the objective fall: 1, or halved as often as needed."""
    length = np.ones(len(w))
    before = family.loss(eta, y).sum(axis=1) + (penalty * w**2).sum(axis=1) / 2
    direction = _linear(x, step)
    for _ in range(30):
        new = w - length[:, None] * step
        after = family.loss(eta - length[:, None] * direction, y).sum(axis=1) + (penalty * new**2).sum(axis=1) / 2
        worse = after > before - 1e-4 * length * decrement + 1e-9 * np.abs(before)
        if not worse.any():
            break
        length[worse] /= 2
    return length
