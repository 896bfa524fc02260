"""Stackers that average a label's own models: plainly, by ranks, or with weights found in five ways."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelstack.scoring.metric import FMetric
from labelstack.scoring.metrics import Average, f_beta
from labelstack.stacking.blending import likeliest_weights, search_weights
from labelstack.stacking.deciding import thresholds
from labelstack.stacking.stackers.array_stacker import Arrays, ArrayStacker
from labelstack.stacking.stackers.logit_features import Floats, logits

_SMALLEST = 1e-6  # probabilities are no smaller in a likelihood
_QUANTILES = 1001  # kept of a model's probabilities of a label
_BLOCK = 20_000_000  # numbers held at once


class MeanStacker(ArrayStacker):
    """Mean of the models; nothing is learnt.

    Parameters
    ----------
    space : ``probability``, or ``logit`` for the mean of logits clipped at ±log(999), turned back into a probability
    """

    kind = "mean"
    learns = False

    def __init__(self, *, space: str = "probability") -> None:
        self.space = space

    def _learn(self, cube: NDArray[np.float32], targets: NDArray[np.float32], progress: str) -> Arrays:
        return {}

    def _answer(self, cube: NDArray[np.float32], arrays: Arrays) -> NDArray[np.floating[Any]]:
        if self.space == "probability":
            return np.asarray(cube.mean(axis=1, dtype=np.float64))
        return np.asarray(1 / (1 + np.exp(-logits(cube, 1e-3).mean(axis=1, dtype=np.float64))))


class RankMeanStacker(ArrayStacker):
    """Mean of the models' ranks among the fitted rows, turned back into a probability.

    Each model's probability of a label becomes the share of fitted rows that lie below it; the mean of the shares is
    answered with the quantile of the models' mean at that share, so that labels remain comparable. Models that are
    poorly calibrated do no harm. Of more than 1,001 fitted rows, so many quantiles are kept.

    Parameters
    ----------
    rows : images that are learnt from at most, drawn from those of the fit; None: all
    """

    kind = "rank_mean"

    def __init__(self, *, rows: int | None = None) -> None:
        self.rows = rows

    def _learn(self, cube: NDArray[np.float32], targets: NDArray[np.float32], progress: str) -> Arrays:
        return {"models": _quantiles(cube), "mean": _quantiles(cube.mean(axis=1, keepdims=True))[0]}

    def _answer(self, cube: NDArray[np.float32], arrays: Arrays) -> NDArray[np.floating[Any]]:
        _, n_models, n_labels = cube.shape
        grid = np.linspace(0, 1, arrays["mean"].shape[1])
        answer = np.empty((len(cube), n_labels))
        for label in range(n_labels):
            total = np.zeros(len(cube))
            for model in range(n_models):
                known, values = arrays["models"][model, label], cube[:, model, label]
                total += np.searchsorted(known, values, "left") + np.searchsorted(known, values, "right")
            share = total / (2 * n_models * len(grid))
            answer[:, label] = np.interp(share, (grid * (len(grid) - 1) + 0.5) / len(grid), arrays["mean"][label])
        return answer


class _Weighted(ArrayStacker):
    """Stackers whose answer is a weighted mean; ``arrays_["weights"]`` is [n_models] or [n_models, n_labels]."""

    def _answer(self, cube: NDArray[np.float32], arrays: Arrays) -> NDArray[np.floating[Any]]:
        weights = arrays["weights"]
        if weights.ndim == 1:
            return np.asarray(np.einsum("nml,m->nl", cube, weights, dtype=np.float64))
        return np.asarray(np.einsum("nml,ml->nl", cube, weights, dtype=np.float64))


class WeightedMeanStacker(_Weighted):
    """Convex weights of the models by scipy.optimize, the same for all labels.

    Parameters
    ----------
    objective : ``log_loss``, a convex problem that SLSQP solves; or ``f``, F-beta at the best single threshold, looked
        for from there by Nelder and Mead's method and kept where it is higher
    metric, beta : which F-score, for ``f``
    rows : images that are learnt from at most, drawn from those of the fit; None: all
    """

    kind = "weighted_mean"

    def __init__(
        self,
        *,
        objective: str = "log_loss",
        metric: Average = "samples",
        beta: float = 1.0,
        rows: int | None = None,
    ) -> None:
        self.rows = rows
        self.objective = objective
        self.metric = metric
        self.beta = beta

    def _learn(self, cube: NDArray[np.float32], targets: NDArray[np.float32], progress: str) -> Arrays:
        weights = convex_weights(cube, targets)
        if self.objective == "f" and len(weights) > 1:
            weights = self._search(cube, targets >= 0.5, weights)
        return {"weights": weights}

    def _search(self, cube: NDArray[np.float32], answers: NDArray[np.bool_], start: Floats) -> Floats:
        from scipy.optimize import minimize

        def loss(free: Floats) -> float:
            P = np.einsum("nml,m->nl", cube, _convex(free).astype(np.float32))
            cut = thresholds.best_global(answers, P, self.metric, self.beta)
            return -f_beta(answers, np.float32(cut) <= P, average=self.metric, beta=self.beta)

        begin = np.log(np.maximum(start, 0.01))
        found = minimize(loss, begin, method="Nelder-Mead", options={"maxfev": 30 * len(start), "xatol": 0.01})
        return _convex(found.x) if found.fun < loss(np.log(np.maximum(start, 1e-9))) else start


class GreedyStacker(_Weighted):
    """Greedy selection of models with replacement, the same for all labels (Caruana et al. 2004).

    Parameters
    ----------
    step : weights are multiples of 1 / round(1 / step)
    metric, beta : the F-score at its best single threshold that is maximised
    rows : images that are learnt from at most, drawn from those of the fit; None: all
    """

    kind = "greedy"

    def __init__(
        self, *, step: float = 0.05, metric: Average = "samples", beta: float = 1.0, rows: int | None = None
    ) -> None:
        self.rows = rows
        self.step = step
        self.metric = metric
        self.beta = beta

    def _learn(self, cube: NDArray[np.float32], targets: NDArray[np.float32], progress: str) -> Arrays:
        members = {str(model): cube[:, model] for model in range(cube.shape[1])}
        metric = FMetric(self.metric, self.beta)
        weights = search_weights(members, targets >= 0.5, step=self.step, metric=metric, progress=progress)
        return {"weights": np.array([weights[name] for name in members])}


class PerLabelWeightsStacker(_Weighted):
    """Convex weights of the models for each label, by likelihood, drawn to weights that all labels share.

    Expectation maximisation for the weights of a mixture (Dempster, Laird & Rubin 1977) under a Dirichlet prior.

    Parameters
    ----------
    shrinkage : how many images the shared weights count for; 0: each label alone
    rows : images that are learnt from at most, drawn from those of the fit; None: all
    """

    kind = "per_label_weights"

    def __init__(self, *, shrinkage: float = 50.0, rows: int | None = None) -> None:
        self.rows = rows
        self.shrinkage = shrinkage

    def _learn(self, cube: NDArray[np.float32], targets: NDArray[np.float32], progress: str) -> Arrays:
        shared = convex_weights(cube, targets)
        n, n_models, n_labels = cube.shape
        step = max(1, _BLOCK // (n * n_models))
        parts = [
            _mixtures(cube[:, :, first : first + step], targets[:, first : first + step], shared, self.shrinkage)
            for first in range(0, n_labels, step)
        ]
        return {"weights": np.concatenate(parts, axis=1)}


def convex_weights(cube: NDArray[np.float32], targets: NDArray[np.float32]) -> Floats:
    """Weights [n_models], ≥ 0 and of sum 1, whose mean has the least log loss, float64.

    Parameters
    ----------
    cube : float32 [n, n_models, n_labels]
    targets : float32 [n, n_labels] in 0 … 1
    """
    weights = likeliest_weights(list(cube.transpose(1, 0, 2)), targets)
    weights = np.where(weights < 1e-4, 0, weights)
    return np.asarray(weights / weights.sum())


def _mixtures(
    cube: NDArray[np.float32], targets: NDArray[np.float32], shared: Floats, shrinkage: float, steps: int = 100
) -> Floats:
    """Weights [n_models, n_labels] after at most so many steps of expectation maximisation."""
    positive = np.maximum(cube, np.float32(_SMALLEST))
    negative = np.maximum(1 - cube, np.float32(_SMALLEST))
    start = (shared + 1 / len(shared)) / 2  # a weight that begins at 0 would stay there
    weights = np.repeat(start[:, None], cube.shape[2], axis=1)
    for _ in range(steps):
        w = weights.astype(np.float32)
        found = np.zeros_like(weights)
        for likelihood, mass in ((positive, targets), (negative, 1 - targets)):
            mixed = np.einsum("nml,ml->nl", likelihood, w)
            found += np.einsum("nml,nl->ml", likelihood, mass / mixed, dtype=np.float64)
        new = (weights * found + shrinkage * shared[:, None]) / (len(cube) + shrinkage)
        new /= new.sum(axis=0)
        moved = float(np.abs(new - weights).max())
        weights = new
        if moved < 1e-4:
            break
    return weights


def _convex(free: Floats) -> Floats:
    exponents = np.exp(free - free.max())
    return np.asarray(exponents / exponents.sum())


def _quantiles(cube: NDArray[np.float32]) -> NDArray[np.float32]:
    """Sorted probabilities [n_models, n_labels, quantiles], all of them where there are few."""
    ranked = np.sort(cube.transpose(1, 2, 0), axis=2)
    if ranked.shape[2] > _QUANTILES:
        keep = np.round(np.linspace(0, ranked.shape[2] - 1, _QUANTILES)).astype(np.int64)
        ranked = ranked[:, :, keep]
    return np.ascontiguousarray(ranked)
