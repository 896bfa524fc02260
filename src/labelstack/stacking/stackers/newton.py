"""Ridge-penalised regressions of all labels at once: Newton's method on batches of small matrices.

Shapes: L labels, n images, d columns; X [L, n, d], targets Y [L, n] in 0 … 1, weights W [L, d].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from labelstack.support.cores import in_threads

Floats = NDArray[np.float64]
_SINGLE_STEPS = 8  # Newton steps with Hessians in single precision, which only say where to go


@dataclass(frozen=True)
class Family:
    """Loss as a function of the linear predictor: its mean, the derivative of the mean (None: 1), and the loss."""

    mean: Callable[[Floats], Floats]
    slope: Callable[[Floats], Floats] | None
    loss: Callable[[Floats, Floats], Floats]


def _sigmoid(eta: Floats) -> Floats:
    small = np.exp(-np.abs(eta))
    return np.asarray(np.where(eta >= 0, 1, small) / (1 + small))


def _cross_entropy(eta: Floats, y: Floats) -> Floats:
    return np.asarray(np.maximum(eta, 0) + np.log1p(np.exp(-np.abs(eta))) - y * eta)


LOGISTIC = Family(_sigmoid, lambda p: p * (1 - p), _cross_entropy)
SQUARED = Family(lambda eta: eta, None, lambda eta, y: (eta - y) ** 2 / 2)


class Design(Protocol):
    """Matrices X [L, n, d] as far as regressions need them."""

    shape: tuple[int, int, int]

    def some(self, labels: NDArray[np.int64]) -> Design:
        """Those of some labels."""

    def linear(self, W: Floats) -> Floats:
        """X w of each label, float64 [L, n]."""

    def transposed(self, R: Floats) -> Floats:
        """Xᵀ r of each label, float64 [L, d]."""

    def gram(self, weights: Floats | None, single: bool) -> Floats:
        """Xᵀ diag(weights) X, float64 [L, d, d]; weights [L, n], None for 1; ``single``: single precision will do."""

    def leverage(self, A: Floats) -> Floats:
        """xᵀ A x of each label and image, float64 [L, n], with symmetric A [L, d, d]."""


class Matrices:
    """A design that is written out: float64 [L, n, d]."""

    def __init__(self, X: Floats) -> None:
        self.X = X
        self.shape: tuple[int, int, int] = X.shape  # type: ignore[assignment]

    def some(self, labels: NDArray[np.int64]) -> Matrices:
        """Those of some labels."""
        return Matrices(self.X[labels])

    def linear(self, W: Floats) -> Floats:
        """X w of each label."""
        return np.asarray(np.matmul(self.X, W[:, :, None])[:, :, 0])

    def transposed(self, R: Floats) -> Floats:
        """Xᵀ r of each label."""
        return np.asarray(np.matmul(R[:, None, :], self.X)[:, 0])

    def gram(self, weights: Floats | None, single: bool) -> Floats:
        """Xᵀ diag(weights) X in double precision, whatever would do."""
        return np.matmul(self.X.transpose(0, 2, 1), self.X if weights is None else self.X * weights[:, :, None])

    def leverage(self, A: Floats) -> Floats:
        """xᵀ A x of each label and image."""
        return np.asarray((np.matmul(self.X, A) * self.X).sum(axis=2))


def fit_labels(
    X: Floats | Design,
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
    X, Y, offset : float64 [L, n, d] (or a ``Design``), [L, n], [L, n]
    penalty : float64 [d], all ≥ 0
    start : weights [L, d] to begin with, None for zeros
    steps, tolerance : at most so many Newton steps, each halved until the objective falls; a label is finished when the
        squared Newton decrement would next be below the tolerance, which is below the square of what it was (Boyd &
        Vandenberghe, 9.6.4). Gradients are in double precision, so that Hessians in single precision lead to the same
        weights.
    """
    design: Design = Matrices(X) if isinstance(X, np.ndarray) else X
    W = np.zeros((design.shape[0], design.shape[2])) if start is None else start.copy()
    open_ = np.arange(design.shape[0])
    x, y, w = design, Y, W
    eta = x.linear(w) + offset
    before = _penalised(eta, y, w, penalty, family)
    for done in range(steps):
        mean = family.mean(eta)
        gradient = x.transposed(mean - y) + penalty * w
        slope = None if family.slope is None else family.slope(mean)
        step = _newton_step(x, slope, gradient, penalty, done < _SINGLE_STEPS)
        decrement = (gradient * step).sum(axis=1)
        w, eta, before = _shortened(x, y, w, step, eta, before, decrement, penalty, family)
        W[open_] = w
        going = decrement > tolerance**0.5
        if not going.any():
            break
        if not going.all():
            keep = np.flatnonzero(going)
            open_, x, y, w, eta, before = open_[keep], x.some(keep), y[keep], w[keep], eta[keep], before[keep]
    return W


def _newton_step(x: Design, slope: Floats | None, gradient: Floats, penalty: Floats, single: bool) -> Floats:
    diagonal = np.diag(penalty + _RIDGE)
    step = np.linalg.solve(x.gram(slope, single) + diagonal, gradient[:, :, None])[:, :, 0]
    wrong = np.flatnonzero(~((gradient * step).sum(axis=1) >= 0))  # uphill: too little precision
    if single and len(wrong):
        exact = x.some(wrong).gram(None if slope is None else slope[wrong], False) + diagonal
        step[wrong] = np.linalg.solve(exact, gradient[wrong, :, None])[:, :, 0]
    return np.asarray(step)


def fit_shared(
    pieces: Sequence[Callable[[], tuple[Floats, Floats]]],
    penalty: Floats,
    centre: Floats,
    family: Family = LOGISTIC,
    *,
    start: Floats | None = None,
    steps: int = 30,
    tolerance: float = 1e-8,
) -> Floats:
    """One weight vector [d] for all labels: minimises Σ loss(X w, y) + ½ Σ penalty (w − centre)².

    Parameters
    ----------
    pieces : each is called once for every step, and gives (X [L, n, d], Y [L, n]) of some labels
    penalty, centre : float64 [d]
    start : weights to begin with; None: the centre
    """
    w = centre.copy() if start is None else start.copy()

    def sums(weights: Floats) -> tuple[float, Floats, Floats]:
        def of(piece: Callable[[], tuple[Floats, Floats]]) -> tuple[float, Floats, Floats]:
            x, y = piece()
            flat, answers = x.reshape(-1, x.shape[2]), y.reshape(-1)
            eta = flat @ weights
            mean = family.mean(eta)
            weighted = flat if family.slope is None else flat * family.slope(mean)[:, None]
            return float(family.loss(eta, answers).sum()), (mean - answers) @ flat, flat.T @ weighted

        parts = in_threads(of, pieces)
        fit = sum(part[0] for part in parts) + float((penalty * (weights - centre) ** 2).sum()) / 2
        gradient = penalty * (weights - centre) + sum(part[1] for part in parts)
        return fit, np.asarray(gradient), np.diag(penalty + _RIDGE) + sum(part[2] for part in parts)

    value, gradient, hessian = sums(w)
    for _ in range(steps):
        step = np.linalg.solve(hessian, gradient)
        decrement, length = float(gradient @ step), 1.0
        if 0 <= decrement < tolerance**0.5:  # the next is below its square
            return w - step
        while (found := sums(w - length * step))[0] > value and length > 1e-6:
            length /= 2
        w = w - length * step
        value, gradient, hessian = found
    return w


def leave_one_out(
    X: Floats | Design, Y: Floats, penalty: Floats, offset: Floats, W: Floats, family: Family = LOGISTIC
) -> Floats:
    """Loss [L] summed over images, each predicted as by a fit without it, to first order.

    One Newton step away from the full fit (Rad & Maleki 2020); exact for the squared loss.
    """
    design: Design = Matrices(X) if isinstance(X, np.ndarray) else X
    eta = design.linear(W) + offset
    mean = family.mean(eta)
    slope = None if family.slope is None else family.slope(mean)
    inverse = np.linalg.inv(design.gram(slope, True) + np.diag(penalty + _RIDGE))
    leverage = design.leverage((inverse + inverse.transpose(0, 2, 1)) / 2)
    without = eta + leverage * (mean - Y) / np.maximum(1 - (1 if slope is None else slope) * leverage, 1e-3)
    return np.asarray(family.loss(without, Y).sum(axis=1))


_RIDGE = 1e-9  # keeps matrices invertible where columns are equal and the penalty is 0


def _penalised(eta: Floats, y: Floats, w: Floats, penalty: Floats, family: Family) -> Floats:
    return np.asarray(family.loss(eta, y).sum(axis=1) + (penalty * w**2).sum(axis=1) / 2)


def _shortened(
    x: Design,
    y: Floats,
    w: Floats,
    step: Floats,
    eta: Floats,
    before: Floats,
    decrement: Floats,
    penalty: Floats,
    family: Family,
) -> tuple[Floats, Floats, Floats]:
    """Weights, linear predictor and objective after the Newton step, halved as often as the objective does not fall."""
    length, direction = np.ones(len(w)), x.linear(step)
    for _ in range(30):
        new, moved = w - length[:, None] * step, eta - length[:, None] * direction
        after = _penalised(moved, y, new, penalty, family)
        worse = after > before - 1e-4 * length * decrement + 1e-9 * np.abs(before)
        if not worse.any():
            break
        length[worse] /= 2
    return new, moved, after
