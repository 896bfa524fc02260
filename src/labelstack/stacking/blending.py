"""Convex blends of stackers and base models, with weights searched on out-of-fold predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from threadpoolctl import threadpool_limits

from labelstack.params.blend import BlendSection
from labelstack.params.metric import MetricSection
from labelstack.scoring.metric import FMetric, Metric, metric_of
from labelstack.scoring.metrics import most_probable
from labelstack.stacking.array_checks import check_answers, check_members
from labelstack.stacking.weight_search import nelder_mead
from labelstack.support.errors import UserError
from labelstack.support.progress import bar


def blend(
    members: Mapping[str, ArrayLike], weights: Mapping[str, float], *, exclusive: bool = False
) -> NDArray[np.float32]:
    """Weighted mean of the members' probabilities.

    Parameters
    ----------
    members : name → float [n, n_labels]; those without a weight are left out
    weights : name → weight ≥ 0; they sum to 1
    exclusive : labels exclude each other: every member's rows are divided by their sums first, as stackers, which see
        each label on its own, do not keep them at 1

    Raises
    ------
    UserError
        When a weight names no member, is negative, or the weights do not sum to 1.
    """
    unknown = [name for name, weight in weights.items() if name not in members and weight]
    if unknown:
        raise UserError(f"blend weights name unknown member(s) {', '.join(unknown)} (there are: {', '.join(members)})")
    if any(not weight >= 0 for weight in weights.values()) or abs(sum(weights.values()) - 1) > 1e-6:
        raise UserError(f"blend weights must be ≥ 0 and sum to 1: {dict(weights)}")
    used = check_members({name: members[name] for name, weight in weights.items() if weight})
    if exclusive:
        used = {name: of_sum_1(p) for name, p in used.items()}
    total = sum(weights[name] * p.astype(np.float64) for name, p in used.items())
    return np.clip(total, 0, 1).astype(np.float32)


def of_sum_1(P: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities [n, n_labels] divided by the sum of their row; equal ones where that is 0."""
    total = P.sum(axis=1, keepdims=True, dtype=np.float64)
    return np.where(total > 0, P / np.where(total > 0, total, 1), 1 / P.shape[1]).astype(np.float32)


def fit_weights(
    members: Mapping[str, ArrayLike],
    Y: ArrayLike,
    settings: BlendSection,
    metric: MetricSection,
    *,
    folds: NDArray[np.int64] | None = None,
    exclusive: bool = False,
    progress: str = "",
) -> dict[str, float]:
    """Weights by the method that ``blend.method`` names: ``search_weights``, ``likelihood_weights``, ``nelder_mead``.

    Parameters
    ----------
    members : name → float [n, n_labels] in 0 … 1, out-of-fold
    Y : 0/1 [n, n_labels]
    folds : int [n], of the rows, for methods with thresholds of their own; None: there are no two
    exclusive : as of ``blend``; then what counts is each row's one label
    """
    if len(members) == 1:
        return {next(iter(members)): 1.0}
    if settings.method == "equal":
        return {name: 1 / len(members) for name in members}
    if settings.method == "log_loss":
        return likelihood_weights(members, Y, exclusive=exclusive)
    judge = metric_of(metric)
    if settings.method == "nelder_mead":
        f = judge.fits
        return nelder_mead(members, Y, folds, average=f.average, beta=f.beta).weights
    return search_weights(members, Y, step=settings.step, metric=judge, exclusive=exclusive, progress=progress)


def likelihood_weights(
    members: Mapping[str, ArrayLike], Y: ArrayLike, *, smallest: float = 0.02, exclusive: bool = False
) -> dict[str, float]:
    """Convex weights with the largest likelihood of the answers, the optimum of a concave problem.

    The weights of a mixture, each image and label being one observation, or, of labels that are ``exclusive``, each
    image with its true label. Members that end below ``smallest`` are dropped and the rest is fitted again.

    Returns
    -------
    name → weight, in the members' order; they sum to 1
    """
    checked = check_members(members)
    answers = check_answers(Y, next(iter(checked.values())).shape, of="members")  # type: ignore[arg-type]
    if exclusive:
        checked = {name: of_sum_1(p)[answers] for name, p in checked.items()}
        answers = np.ones(int(answers.sum()), bool)
    kept = list(checked)
    while True:
        weights = likeliest_weights([checked[name] for name in kept], answers)
        small = [name for name, weight in zip(kept, weights, strict=True) if weight < smallest]
        if not small or len(kept) == len(small):
            break
        kept = [name for name in kept if name not in small]
    found = dict(zip(kept, weights, strict=True))
    return {name: float(found.get(name, 0)) for name in checked}


def likeliest_weights(stack: Sequence[NDArray[np.float32]], targets: NDArray[Any]) -> NDArray[np.float64]:
    """Weights ≥ 0 of sum 1 whose mean has the least log loss; sequential quadratic programming from equal ones.

    Parameters
    ----------
    stack : probabilities float32 of one shape in 0 … 1, an array for each weight
    targets : bool, or float in 0 … 1, of the same shape
    """
    if len(stack) == 1:
        return np.ones(1)
    from scipy.optimize import minimize  # half a second; before threads are limited, so that SciPy's are too

    true = targets >= 0.5
    right = np.stack([np.where(true, p, 1 - p).ravel() for p in stack])
    mass = None
    if targets.dtype != np.bool_ and (soft := np.minimum(targets, 1 - targets).ravel()).any():
        right = np.concatenate([right, 1 - right], axis=1)  # an uncertain answer counts as both, by its weights
        mass = np.concatenate([1 - soft, soft]).astype(np.float32)
    np.maximum(right, np.float32(1e-6), out=right)
    equal = np.full(len(stack), 1 / len(stack))

    def loss(weights: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        mixed = np.maximum(weights.astype(np.float32) @ right, np.float32(1e-6))
        losses, slopes = -np.log(mixed), -1 / mixed
        if mass is not None:
            losses, slopes = losses * mass, slopes * mass
        value = float(losses.mean(dtype=np.float64))
        return value / scale, (right @ slopes).astype(np.float64) / right.shape[1] / scale

    scale = 1.0
    with threadpool_limits(1, user_api="blas"):  # the same sums, however many cores
        scale = max(loss(equal)[0], 1e-9)  # where labels are rare every loss is small, which must not end the search
        found = minimize(
            loss,
            equal,
            jac=True,
            method="SLSQP",
            bounds=[(0, 1)] * len(stack),
            constraints={"type": "eq", "fun": lambda w: w.sum() - 1, "jac": lambda w: np.ones_like(w)},
            options={"ftol": 1e-9, "maxiter": 200},
        )
    weights: NDArray[np.float64] = np.clip(found.x, 0, 1)
    return weights / weights.sum()


def search_weights(
    members: Mapping[str, ArrayLike],
    Y: ArrayLike,
    *,
    step: float = 0.05,
    metric: Metric | None = None,
    exclusive: bool = False,
    progress: str = "",
) -> dict[str, float]:
    """Weights with a large score of the blend: of an F-score that at the best single threshold of 0, 0.01, …, 0.99.

    Greedy forward selection with replacement (Caruana et al. 2004), 1 / step picks; the best single member instead,
    should that score higher, so on these rows the blend is never worse. Deterministic. Exchanging weight between pairs
    of members afterwards gains on these rows but not on others, so the search stops here.

    Parameters
    ----------
    members : name → float [n, n_labels] in 0 … 1, out-of-fold
    Y : 0/1 [n, n_labels]
    step : weights are multiples of 1 / round(1 / step)
    metric : None: samples F1
    exclusive : as of ``blend``; label sets are then the most probable labels, and no threshold is looked for

    Returns
    -------
    name → weight, in the members' order; they sum to 1, some may be 0
    """
    checked = check_members(members)
    stack = [of_sum_1(p) for p in checked.values()] if exclusive else list(checked.values())
    n, n_labels = stack[0].shape
    answers = check_answers(Y, (n, n_labels), of="members")
    if not 0 < step <= 1:
        raise ValueError(f"step must be in 0 … 1, not {step}")
    judge = metric or FMetric()
    score = judge.objective(answers)
    if exclusive and judge.wants == "label_sets":
        score = lambda P: judge.score(answers, most_probable(P))  # noqa: E731
    return greedy_weights(dict(zip(checked, stack, strict=True)), score, step, progress)


def greedy_weights(
    members: Mapping[str, NDArray[np.float32]],
    score: Callable[[NDArray[np.float32]], float],
    step: float = 0.05,
    progress: str = "",
) -> dict[str, float]:
    """As ``search_weights``, of any score of blended probabilities [n, n_labels]."""
    picks = range(max(1, round(1 / step)))
    counts = _greedy(list(members.values()), score, bar(picks, desc=f"blend weights {progress}".strip(), unit="pick"))
    return {name: float(count / counts.sum()) for name, count in zip(members, counts, strict=True)}


def _greedy(
    stack: list[NDArray[np.float32]], score: Callable[[NDArray[np.float32]], float], picks: Iterable[int]
) -> NDArray[np.int64]:
    """How often each member is picked; only the best single one where that scores higher."""
    counts = np.zeros(len(stack), np.int64)
    total = np.zeros_like(stack[0])
    alone = [score(p) for p in stack]
    picked = 0.0
    for i in picks:
        found = alone if i == 0 else [score((total + p) / np.float32(i + 1)) for p in stack]
        best = max(range(len(stack)), key=lambda j: (found[j], alone[j]))  # a tie goes to the better member
        picked = found[best]
        counts[best] += 1
        total += stack[best]
    if max(alone) > picked:
        counts = np.zeros_like(counts)
        counts[int(np.argmax(alone))] = 1
    return counts
