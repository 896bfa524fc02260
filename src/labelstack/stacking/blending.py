"""Convex blends of stackers and base models, with weights searched on out-of-fold predictions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labelstack.params.blend import BlendSection
from labelstack.params.metric import MetricSection
from labelstack.scoring.metric import FMetric, Metric, metric_of
from labelstack.scoring.metrics import most_probable
from labelstack.stacking.array_checks import check_answers, check_members
from labelstack.stacking.cells import BLOCK, above, row_blocks
from labelstack.stacking.mixture import Mixture
from labelstack.stacking.weight_search import nelder_mead
from labelstack.support.cores import in_threads
from labelstack.support.errors import UserError
from labelstack.support.progress import bar

MANY_CELLS = 10_000_000  # images × labels above which improbable cells are summed up and not looked at one by one
_LOWEST = np.float32(0.0099)  # a little below the lowest threshold of blends but 0, for rounding


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
    n, n_labels = next(iter(used.values())).shape
    mixed = np.empty((n, n_labels), np.float32)

    def mix(rows: slice) -> None:
        total = sum(weights[name] * p[rows].astype(np.float64) for name, p in used.items())
        mixed[rows] = np.clip(total, 0, 1)

    in_threads(mix, row_blocks(n, n_labels, BLOCK))
    return mixed


def of_sum_1(P: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities [n, n_labels] divided by the sum of their row; equal ones where that is 0."""
    P = np.asarray(P)
    total = P.sum(axis=1, keepdims=True, dtype=np.float64)
    return np.where(total > 0, P / np.where(total > 0, total, 1), 1 / P.shape[1]).astype(np.float32)


def fit_weights(
    members: Mapping[str, ArrayLike],
    Y: ArrayLike,
    settings: BlendSection,
    metric: MetricSection,
    *,
    rows: NDArray[np.bool_] | None = None,
    folds: NDArray[np.int64] | None = None,
    exclusive: bool = False,
    progress: str = "",
) -> dict[str, float]:
    """Weights by the method that ``blend.method`` names: ``search_weights``, ``likelihood_weights``, ``nelder_mead``.

    Parameters
    ----------
    members : name → float [n, n_labels] in 0 … 1, out-of-fold
    Y : 0/1 [n, n_labels]
    rows : bool [n], those that count; None: all
    folds : int [n], of the rows that count, for methods with thresholds of their own; None: there are no two
    exclusive : as of ``blend``; then what counts is each row's one label
    """
    if len(members) == 1:
        return {next(iter(members)): 1.0}
    if settings.method == "equal":
        return {name: 1 / len(members) for name in members}
    if settings.method == "log_loss":
        return likelihood_weights(members, Y, rows=rows, exclusive=exclusive)
    judge = metric_of(metric)
    if settings.method == "nelder_mead":
        f = judge.fits
        members, Y = _of_rows(members, Y, rows)
        return nelder_mead(members, Y, folds, average=f.average, beta=f.beta).weights
    by: dict[str, Any] = {"metric": judge, "rows": rows, "exclusive": exclusive, "progress": progress}
    return search_weights(members, Y, step=settings.step, **by)


def _of_rows(
    members: Mapping[str, ArrayLike], Y: ArrayLike, rows: NDArray[np.bool_] | None
) -> tuple[Mapping[str, ArrayLike], ArrayLike]:
    if rows is None:
        return {name: np.asarray(p) for name, p in members.items()}, Y
    return {name: np.asarray(p)[rows] for name, p in members.items()}, np.asarray(Y)[rows]


def likelihood_weights(
    members: Mapping[str, ArrayLike],
    Y: ArrayLike,
    *,
    smallest: float = 0.02,
    rows: NDArray[np.bool_] | None = None,
    exclusive: bool = False,
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
        checked, chosen = _of_rows(checked, answers, rows)  # type: ignore[assignment]
        answers = np.asarray(chosen)
        checked = {name: of_sum_1(p)[answers] for name, p in checked.items()}
        answers, rows = np.ones(int(answers.sum()), bool), None
    mixture = mixture_of(list(checked.values()), answers, rows)
    kept = np.arange(len(checked))
    while True:
        weights = mixture.likeliest(kept)
        small = weights < smallest
        if not small.any() or small.all():
            break
        kept = kept[~small]
    found = np.zeros(len(checked))
    found[kept] = weights
    return dict(zip(checked, found.tolist(), strict=True))


def likeliest_weights(stack: Sequence[NDArray[np.float32]], targets: NDArray[Any]) -> NDArray[np.float64]:
    """Weights ≥ 0 of sum 1 whose mean has the least log loss; sequential quadratic programming from equal ones.

    Parameters
    ----------
    stack : probabilities float32 of one shape in 0 … 1, an array for each weight
    targets : bool, or float in 0 … 1, of the same shape
    """
    return mixture_of(stack, targets).likeliest(np.arange(len(stack)))


def mixture_of(
    stack: Sequence[NDArray[np.float32]], targets: NDArray[Any], rows: NDArray[np.bool_] | None = None
) -> Mixture:
    """The likelihood of mixes as a function of weights; of many cells the improbable ones count by their moments."""
    return Mixture.of(stack, targets, rows, many=stack[0].size > MANY_CELLS and stack[0].ndim == 2)


def search_weights(
    members: Mapping[str, ArrayLike],
    Y: ArrayLike,
    *,
    step: float = 0.05,
    metric: Metric | None = None,
    rows: NDArray[np.bool_] | None = None,
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
    rows : bool [n], those that count; None: all
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
    counted = answers if rows is None else answers[rows]
    if isinstance(judge, FMetric) and not exclusive:
        # below the lowest threshold but 0 a cell is given at 0 alone, whatever its value
        place, values = above(stack, _LOWEST, rows=rows)
        stack, score = list(values), judge.objective(counted, some=place)
    else:
        stack = [np.asarray(p) if rows is None else p[rows] for p in stack]
        score = judge.objective(counted)
    if exclusive and judge.wants == "label_sets":
        score = lambda P: judge.score(counted, most_probable(P))  # noqa: E731
    return greedy_weights(dict(zip(checked, stack, strict=True)), score, step, progress)


def greedy_weights(
    members: Mapping[str, NDArray[np.float32]],
    score: Callable[[NDArray[np.float32]], float],
    step: float = 0.05,
    progress: str = "",
) -> dict[str, float]:
    """As ``search_weights``, of any score of blended probabilities [n, n_labels], or of some of their cells."""
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
