"""Calibration: probabilities that come true as often as they say.

``platt`` is logit p' = a · logit p + b, ``beta`` is logit p' = a · ln p − a₂ · ln (1 − p) + b (Kull et al. 2017).
Slopes are one for all labels. Each label also has an offset of its own, drawn towards 0; how strongly is learnt from
the data (empirical Bayes): where the labels' offsets are noise they vanish. ``isotonic`` is one rising function for all
labels and one of its own for each label, weighted by the label's number of positives.

``temperature`` is for labels that exclude each other: p' = softmax(ln p / T) (Guo et al. 2017), one number, which keeps
an image's probabilities in their order and their sum at 1; what is fitted to each label on its own does neither.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labelstack.stacking.array_checks import check_probability, check_targets
from labelstack.support.cores import cores, in_threads

Method = Literal["none", "platt", "isotonic", "beta", "temperature"]
METHODS: tuple[Method, ...] = ("none", "platt", "isotonic", "beta", "temperature")
_EDGE = 1e-6  # probabilities are held this far from 0 and 1 before logarithms are taken
_POOLED_ROWS = 1024
_LABELS = 32  # whose sums are one piece of work
_ROUNDS, _STEPS = 20, 25
_LEAST = 1e-20  # of exclusive labels, whose small probabilities a temperature may raise: 0 alone is taken for it
_HOTTEST = 20.0  # and its inverse the coldest: beyond, a few rows that happen to be separable would decide
_TRUST = 50.0  # positives at which a label's own step function has half the weight


@dataclass(frozen=True, eq=False)
class Calibration:
    """A fitted calibration: call it with P [n, n_labels]; ``to_dict`` and ``from_dict`` keep every digit.

    Attributes
    ----------
    method : none, platt, isotonic, beta or temperature
    coefficients : float64 [3, n_labels], of ln p, of −ln (1 − p), and 1; platt and beta only
    steps : isotonic only: for each label the (x, y) knots and the weight of its own function, the shared one first
    temperature : of the method of this name
    """

    method: Method = "none"
    coefficients: NDArray[np.float64] = field(default_factory=lambda: np.zeros((3, 0)))
    steps: Sequence[tuple[NDArray[np.float64], NDArray[np.float64], float]] = ()
    temperature: float = 1.0

    def __call__(self, P: ArrayLike) -> NDArray[np.float32]:
        """Calibrated probabilities float32 [n, n_labels]."""
        probability = check_probability(P)
        if self.method == "none":
            return probability
        if self.method == "temperature":
            return tempered(probability, self.temperature).astype(np.float32)
        n_labels = self.coefficients.shape[1] if self.method != "isotonic" else len(self.steps) - 1
        if probability.shape[1] != n_labels:
            raise ValueError(f"P has {probability.shape[1]} labels, the calibration was fitted with {n_labels}")
        out = np.empty(probability.shape, np.float32)
        rows = max(1, 500_000 // n_labels)

        def fill(start: int) -> None:
            chunk = probability[start : start + rows]
            out[start : start + rows] = self._isotonic(chunk) if self.method == "isotonic" else self._curve(chunk)

        in_threads(fill, range(0, len(out), rows))
        return out

    def _curve(self, P: NDArray[np.float32]) -> NDArray[np.float64]:
        falling, rising = _logarithms(P)
        a, a2, b = self.coefficients
        return _sigmoid(a * falling + a2 * rising + b)

    def _isotonic(self, P: NDArray[np.float32]) -> NDArray[np.float64]:
        shared = np.interp(P, *self.steps[0][:2])
        for label, (x, y, weight) in enumerate(self.steps[1:]):
            if weight:
                shared[:, label] += weight * (np.interp(P[:, label], x, y) - shared[:, label])
        return shared

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists for JSON."""
        found: dict[str, Any] = {"method": self.method}
        if self.coefficients.size:
            found["coefficients"] = self.coefficients.tolist()
        if self.steps:
            found["steps"] = [[x.tolist(), y.tolist(), weight] for x, y, weight in self.steps]
        return found | ({"temperature": self.temperature} if self.method == "temperature" else {})

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Calibration:
        """What ``to_dict`` gave."""
        coefficients = np.array(kept.get("coefficients", np.zeros((3, 0))), np.float64)
        steps = [(np.array(x, np.float64), np.array(y, np.float64), float(w)) for x, y, w in kept.get("steps", ())]
        return cls(kept["method"], coefficients, steps, float(kept.get("temperature", 1.0)))


def fit_calibration(Y: ArrayLike, P: ArrayLike, method: Method = "platt") -> Calibration:
    """Fit a calibration by cross-entropy (``platt``, ``beta``, ``temperature``) or least squares (``isotonic``).

    Parameters
    ----------
    Y : float [n, n_labels] in 0 … 1, soft targets allowed
    P : float [n, n_labels] in 0 … 1, out-of-fold
    method : see the module; ``none`` gives probabilities back as they are

    Raises
    ------
    ValueError
        On input that does not fit, or an unknown method.
    """
    probability = check_probability(P)
    targets = check_targets(Y, (probability.shape[0], probability.shape[1]), of="P")
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, not {method!r}")
    if method == "none":
        return Calibration()
    if method == "isotonic":
        return _fit_isotonic(targets, probability)
    if method == "temperature":
        return Calibration(method, temperature=fit_temperature(targets, probability))
    return Calibration(method, _fit_curve(targets, probability, slopes=1 if method == "platt" else 2))


@dataclass(frozen=True)
class _Sums:
    """Cross-entropy; of each label the falling gradient [terms, n_labels] and Hessian [terms, terms, n_labels]."""

    loss: float
    gradient: NDArray[np.float64]
    hessian: NDArray[np.float64]


@dataclass(frozen=True)
class _Pooled:
    """Targets ``y`` and logarithms ``x`` [slopes, rows, labels] of the probabilities, and ``n`` images in each row.

    With many images, those with neighbouring probabilities of a label are pooled: hundreds of rows tell as much.
    """

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    n: NDArray[np.float64]

    @classmethod
    def of(cls, Y: NDArray[np.floating], P: NDArray[np.float32], slopes: int) -> _Pooled:
        rows = min(len(P), _POOLED_ROWS)
        starts = np.arange(rows) * len(P) // rows
        n = np.diff(np.append(starts, len(P))).astype(np.float64)[:, None]
        columns = np.ascontiguousarray(P.T)  # sorting along memory takes half the time
        order = np.argsort(columns, axis=1, kind="stable")
        falling, rising = _logarithms(np.take_along_axis(columns, order, 1))
        logs = [falling + rising] if slopes == 1 else [falling, rising]
        x = np.stack([np.add.reduceat(values, starts, axis=1).T / n for values in logs])
        targets = np.take_along_axis(np.ascontiguousarray(Y.T), order, 1).astype(np.float64)
        return cls(x, np.ascontiguousarray(np.add.reduceat(targets, starts, axis=1).T / n), n)

    def sums(self, shared: NDArray[np.float64], own: NDArray[np.float64]) -> _Sums:
        """With the shared slopes and offset and the labels' own offsets [labels]."""
        score = shared[-1] + own + sum(slope * x for slope, x in zip(shared[:-1], self.x, strict=True))
        small = np.exp(-np.abs(score))
        p = 1 / (1 + small)
        loss = float((self.n * (np.maximum(score, 0) - np.log(p) - self.y * score)).sum())
        p = np.where(score >= 0, p, 1 - p)
        error, weight = self.n * (self.y - p), self.n * p * (1 - p)
        slopes, labels = len(self.x), len(own)
        gradient, hessian = np.empty((slopes + 1, labels)), np.empty((slopes + 1, slopes + 1, labels))
        gradient[-1], hessian[-1, -1] = error.sum(axis=0), weight.sum(axis=0)
        for i, x in enumerate(self.x):
            gradient[i] = np.einsum("nl,nl->l", error, x)
            weighted = weight * x
            hessian[i, -1] = hessian[-1, i] = weighted.sum(axis=0)
            for j in range(i + 1):
                hessian[i, j] = hessian[j, i] = np.einsum("nl,nl->l", weighted, self.x[j])
        return _Sums(loss, gradient, hessian)


def _fit_curve(Y: NDArray[np.floating], P: NDArray[np.float32], slopes: int) -> NDArray[np.float64]:
    """Slopes, shared offset and labels' offsets; the offsets' variance by expectation-maximisation."""
    parts = [slice(first, first + _LABELS) for first in range(0, P.shape[1], _LABELS)]
    pooled = in_threads(lambda part: _Pooled.of(Y[:, part], P[:, part], slopes), parts)

    def sums(shared: NDArray[np.float64], own: NDArray[np.float64]) -> _Sums:
        of = list(each(lambda i: pooled[i].sums(shared, own[parts[i]]), range(len(parts))))
        return _Sums(
            sum(one.loss for one in of),
            np.concatenate([one.gradient for one in of], axis=1),
            np.concatenate([one.hessian for one in of], axis=2),
        )

    with ThreadPoolExecutor(cores()) as pool:
        each = pool.map if len(parts) > 1 and cores() > 1 else map
        shared, own, variance = np.array([1.0] * slopes + [0.0]), np.zeros(P.shape[1]), 0.1
        at = sums(shared, own)
        for _ in range(_ROUNDS):
            shared, own, at = _newton(sums, at, shared, own, variance)
            before = variance
            variance = max(float(np.mean(own**2 + 1 / (at.hessian[-1, -1] + 1 / variance))), 1e-4)
            if abs(variance - before) < 0.02 * before:
                break
    both = np.broadcast_to(shared[:-1, None], (2, P.shape[1]))  # Platt's one slope counts for both logarithms
    return np.vstack([both, shared[-1] + own])


def _newton(
    sums: Callable[[NDArray[np.float64], NDArray[np.float64]], _Sums],
    at: _Sums,
    shared: NDArray[np.float64],
    own: NDArray[np.float64],
    variance: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64], _Sums]:
    """Most likely slopes and offset (weak prior: slopes near 1) and labels' offsets (prior: 0 ± √variance)."""
    slopes = len(shared) - 1
    centre, pull = np.array([1.0] * slopes + [0.0]), np.array([1.0] * slopes + [1e-6])

    def penalised(found: _Sums, shared: NDArray[np.float64], own: NDArray[np.float64]) -> float:
        return found.loss + float((pull * (shared - centre) ** 2).sum() / 2 + (own**2).sum() / (2 * variance))

    value = penalised(at, shared, own)
    for _ in range(_STEPS):
        # The labels' offsets enter the Hessian on its diagonal only, so they are eliminated.
        gradient, hessian = at.gradient, at.hessian
        diagonal = hessian[-1, -1] + 1 / variance
        cross, rest = hessian[:, -1] / diagonal, gradient[-1] - own / variance
        system = hessian.sum(axis=2) + np.diag(pull) - cross @ hessian[:, -1].T
        step = np.linalg.solve(system, gradient.sum(axis=1) - pull * (shared - centre) - cross @ rest)
        own_step = (rest - hessian[:, -1].T @ step) / diagonal
        scale = min(1.0, 2.0 / max(np.abs(step).max(), np.abs(own_step).max(), 1e-12))
        before = value
        while scale > 1e-4:
            trial = shared + scale * step
            trial[:-1] = np.maximum(trial[:-1], 0.01)  # a higher probability never becomes a lower one
            found = sums(trial, own + scale * own_step)
            reached = penalised(found, trial, own + scale * own_step)
            if reached <= value:
                shared, own, value, at = trial, own + scale * own_step, reached, found
                break
            scale /= 4
        if before - value <= 1e-7 * abs(value):
            break
    return shared, own, at


def fit_temperature(Y: NDArray[Any], P: NDArray[np.float32], usual: float | None = None) -> float:
    """The temperature with the least cross-entropy, convex in 1 / T; rows without a label count for nothing.

    Parameters
    ----------
    Y, P : [n, n_labels], targets in 0 … 1 and probabilities of labels that exclude each other
    usual : drawn to this one, as if ln T were known to lie within ±1 of it; None: not drawn anywhere
    """
    from scipy.optimize import minimize_scalar  # here, because it takes half a second to import

    logs, y = _logs(P), Y.astype(np.float64)
    y /= np.maximum(y.sum(axis=1, keepdims=True), _EDGE)
    right, mass = float((y * logs).sum()), y.sum(axis=1)
    if not mass.any():
        return 1.0

    def loss(log_scale: float) -> float:
        scale = float(np.exp(log_scale))
        scaled = scale * logs
        top = scaled.max(axis=1)
        norm = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))
        drawn = 0.0 if usual is None else (log_scale + np.log(usual)) ** 2 / 2
        return (float(norm @ mass) - scale * right + drawn) / len(logs)

    widest = float(np.log(_HOTTEST))
    found = minimize_scalar(loss, bounds=(-widest, widest), method="bounded", options={"xatol": 1e-7})
    return float(np.exp(-found.x))


def _fit_isotonic(Y: NDArray[np.float32], P: NDArray[np.float32]) -> Calibration:
    steps = [(*_rising_steps(P.ravel(), Y.ravel()), 1.0)]
    for label in range(P.shape[1]):
        positives = float(Y[:, label].sum())
        x, y = _rising_steps(P[:, label], Y[:, label]) if positives else (np.zeros(1), np.zeros(1))
        steps.append((x, y, positives / (positives + _TRUST)))
    return Calibration("isotonic", steps=steps)


def _rising_steps(p: NDArray[np.float32], y: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Knots of the isotonic regression of ``y`` on ``p``, straight lines between them."""
    from sklearn.isotonic import IsotonicRegression  # here, because it takes seconds to import

    fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(p.astype(np.float64), y)
    return cast(NDArray[np.float64], fitted.X_thresholds_), cast(NDArray[np.float64], fitted.y_thresholds_)


def _logs(P: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    logs: NDArray[np.float64] = np.log(np.maximum(P.astype(np.float64), _LEAST))
    return logs


def tempered(P: NDArray[np.floating[Any]], temperature: float) -> NDArray[np.float64]:
    """softmax(ln p / T) of probabilities [n, n_labels] of labels that exclude each other."""
    return _softmax(_logs(P) / temperature)


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = raised / raised.sum(axis=1, keepdims=True)
    return shares


def _logarithms(P: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    p = np.clip(P.astype(np.float64), _EDGE, 1 - _EDGE)
    return np.log(p), -np.log1p(-p)


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return 0.5 * (1 + np.tanh(x / 2))
