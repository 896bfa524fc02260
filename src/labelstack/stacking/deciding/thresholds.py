"""From probabilities to labels by thresholds: a fixed one, the best single one, one for each group or each label.

A label is given where its probability is at or above the threshold. Chosen thresholds lie midway between two
neighbouring probabilities of the rows they were chosen on, never on one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labelstack.scoring.metrics import AVERAGES, Average, f_beta, f_of_counts
from labelstack.stacking.array_checks import check_answers, check_probability

Strategy = Literal["fixed", "global", "per_group", "per_label", "coordinate_ascent"]
_SWEEPS = 30


def choose(
    Y: ArrayLike,
    P: ArrayLike,
    strategy: Strategy = "coordinate_ascent",
    fixed: float = 0.3,
    metric: Average = "samples",
    beta: float = 1.0,
    groups: Sequence[str] | None = None,
) -> NDArray[np.float32]:
    """Thresholds that make F-beta on these rows large.

    Parameters
    ----------
    Y : 0/1 [n, n_labels], or soft labels, true from one half
    P : float [n, n_labels] in 0 … 1
    strategy : ``fixed`` (the number ``fixed`` for all), ``global`` (the best single one, exact), ``per_label`` (each
        label alone, the best for its own F, exact), ``coordinate_ascent`` (one for each label, for the metric of all:
        exact for ``macro`` and, by Dinkelbach's iteration, for ``micro``; for ``samples``, whose labels depend on each
        other, one label after the other from the best single threshold) or ``per_group`` (the same with one threshold
        for all labels of a group)
    metric, beta : which F-score
    groups : for each label the name of its group, for ``per_group``; None is one group

    Returns
    -------
    float32 [n_labels]. ``coordinate_ascent`` and ``per_group`` are never below ``global``, nor ``global`` below
    ``fixed``, on these rows. A label without positives gets, from ``per_label`` and ``coordinate_ascent``, a threshold
    above all its probabilities here; nothing can be learnt about where it should be. A threshold may lie just above 1,
    to give a label to no image.

    Raises
    ------
    ValueError
        On input that does not fit; the message names the argument.
    """
    probability = check_probability(P)
    answers = check_answers(Y, (probability.shape[0], probability.shape[1]), of="P")
    if strategy not in get_args(Strategy):
        raise ValueError(f"strategy must be one of {', '.join(get_args(Strategy))}, not {strategy!r}")
    if metric not in AVERAGES:
        raise ValueError(f"metric must be one of {', '.join(AVERAGES)}, not {metric!r}")
    if not 0 <= fixed <= 1 or not beta > 0:
        raise ValueError(f"fixed must be in 0 … 1 and beta above 0, not {fixed} and {beta}")
    if strategy == "per_label":
        return _tune_macro(answers, probability, np.zeros(0, np.float32), beta)
    candidates = [np.full(answers.shape[1], fixed, np.float32)]
    if strategy != "fixed":
        candidates.append(np.full(answers.shape[1], best_global(answers, probability, metric, beta), np.float32))
    if strategy == "per_group":
        blocks = _blocks(groups, answers.shape[1])
        candidates.append(_tune_groups(answers, probability, candidates[-1], blocks, metric, beta))
    if strategy == "coordinate_ascent":
        start = candidates[-1].copy()
        for label in np.flatnonzero(~answers.any(axis=0)):
            start[label] = _above(probability[:, label].max())
        tune = {"samples": _tune_samples, "micro": _tune_micro, "macro": _tune_macro}[metric]
        candidates.append(tune(answers, probability, start, beta))
    scores = [f_beta(answers, apply(probability, c), average=metric, beta=beta) for c in candidates]
    # Sums of floats may be off in the last digit; the last candidate wins a tie.
    return candidates[max(range(len(candidates)), key=lambda i: (round(scores[i], 12), i))]


def apply(P: ArrayLike, thresholds: ArrayLike) -> NDArray[np.bool_]:
    """Labels bool [n, n_labels]: where ``P`` float [n, n_labels] reaches the thresholds [n_labels] or one number."""
    limits = np.asarray(thresholds, np.float32)
    probability = np.asarray(P, np.float32)
    if probability.ndim != 2 or limits.shape not in ((), (probability.shape[1],)):
        raise ValueError(f"thresholds must be [n_labels] for P [n, n_labels]: {limits.shape} and {probability.shape}")
    return probability >= limits


def best_global(Y: NDArray[np.bool_], P: NDArray[np.float32], metric: Average, beta: float) -> float:
    """The single threshold with the largest F-beta, exactly; of equal ones the highest."""
    if metric == "macro":
        Y, P = Y.T, P.T
    if metric == "micro":
        Y, P = Y.reshape(1, -1), P.reshape(1, -1)
    none = np.zeros(len(Y))
    return _best_shared_cut(Y, P, none, none, Y.sum(axis=1, dtype=np.float64), beta)[1]


def _best_shared_cut(
    Y: NDArray[np.bool_],
    P: NDArray[np.float32],
    hits: NDArray[np.float64],
    predicted: NDArray[np.float64],
    true: NDArray[np.float64],
    beta: float,
) -> tuple[float, float]:
    """What one threshold for all columns adds to the sum of the rows' F at most, and that threshold.

    ``hits``, ``predicted`` and ``true`` [rows] count what other columns contribute to a row, and all that is true.
    """
    order = np.argsort(-P, axis=1, kind="stable")
    ranked, right = np.take_along_axis(P, order, 1), np.take_along_axis(Y, order, 1)
    # F of each row after its first 1, 2, … columns: what each adds to the sum is one event.
    count = predicted[:, None] + np.arange(1, P.shape[1] + 1, dtype=np.float64)
    f = f_of_counts(hits[:, None] + np.cumsum(right, axis=1, dtype=np.float64), true[:, None], count, beta)
    without = f_of_counts(hits, true, predicted, beta)[:, None]
    gain = (f - np.hstack([without, f[:, :-1]])).ravel()
    pooled = np.argsort(-ranked.ravel(), kind="stable")
    return _best_cut(ranked.ravel()[pooled], gain[pooled])


def _blocks(groups: Sequence[str] | None, n_labels: int) -> list[NDArray[np.int64]]:
    """Columns of each group, in order of first appearance."""
    if groups is None:
        return [np.arange(n_labels)]
    if len(groups) != n_labels:
        raise ValueError(f"groups must name a group for each of the {n_labels} labels, not for {len(groups)}")
    names = np.array([str(group) for group in groups])
    return [np.flatnonzero(names == name) for name in dict.fromkeys(names.tolist())]


def _tune_groups(
    Y: NDArray[np.bool_],
    P: NDArray[np.float32],
    start: NDArray[np.float32],
    blocks: list[NDArray[np.int64]],
    metric: Average,
    beta: float,
) -> NDArray[np.float32]:
    """One threshold for each group: exact for macro and micro, coordinate ascent over groups for samples."""
    chosen = start.copy()
    if metric == "macro":
        for block in blocks:
            chosen[block] = best_global(Y[:, block], P[:, block], metric, beta)
        return chosen
    if metric == "micro":
        return _dinkelbach(Y, P, start, blocks, beta)
    true = Y.sum(axis=1, dtype=np.float64)
    given = apply(P, chosen)
    for _ in range(_SWEEPS):
        before = chosen.copy()
        for block in blocks:
            others = np.delete(given, block, axis=1)
            hits = (others & np.delete(Y, block, axis=1)).sum(axis=1, dtype=np.float64)
            predicted = others.sum(axis=1, dtype=np.float64)
            gain, threshold = _best_shared_cut(Y[:, block], P[:, block], hits, predicted, true, beta)
            now = f_of_counts(
                (given & Y).sum(axis=1, dtype=np.float64), true, given.sum(axis=1, dtype=np.float64), beta
            )
            if gain - float((now - f_of_counts(hits, true, predicted, beta)).sum()) > 1e-9:
                chosen[block] = threshold
                given[:, block] = P[:, block] >= np.float32(threshold)
        if np.array_equal(before, chosen):
            break
    return chosen


def _tune_macro(
    Y: NDArray[np.bool_], P: NDArray[np.float32], start: NDArray[np.float32], beta: float
) -> NDArray[np.float32]:
    """Each label's own best cut."""
    chosen = np.empty(Y.shape[1], np.float32)
    for label in range(Y.shape[1]):
        order = np.argsort(-P[:, label], kind="stable")
        right = np.cumsum(Y[order, label], dtype=np.float64)
        count = np.arange(1, len(right) + 1, dtype=np.float64)
        gain = np.diff(f_of_counts(right, np.full(len(right), right[-1]), count, beta), prepend=0.0)
        chosen[label] = _best_cut(P[order, label], gain)[1]
    return chosen


def _tune_micro(
    Y: NDArray[np.bool_], P: NDArray[np.float32], start: NDArray[np.float32], beta: float
) -> NDArray[np.float32]:
    return _dinkelbach(Y, P, start, [np.array([j]) for j in range(Y.shape[1])], beta)


def _dinkelbach(
    Y: NDArray[np.bool_],
    P: NDArray[np.float32],
    start: NDArray[np.float32],
    blocks: list[NDArray[np.int64]],
    beta: float,
) -> NDArray[np.float32]:
    """Dinkelbach's iteration for a ratio: with λ the F reached, each block maximises (1 + β²) right − λ predicted."""
    ranked = []
    for block in blocks:
        p, y = P[:, block].ravel(), Y[:, block].ravel()
        order = np.argsort(-p, kind="stable")
        ranked.append((p[order], (1 + beta**2) * y[order].astype(np.float64)))
    best, reached = start, f_beta(Y, apply(P, start), average="micro", beta=beta)
    while True:
        candidate = np.empty_like(start)
        for block, (p, worth) in zip(blocks, ranked, strict=True):
            candidate[block] = _best_cut(p, worth - reached)[1]
        score = f_beta(Y, apply(P, candidate), average="micro", beta=beta)
        if score <= reached + 1e-12:
            return best
        best, reached = candidate, score


def _tune_samples(
    Y: NDArray[np.bool_], P: NDArray[np.float32], start: NDArray[np.float32], beta: float
) -> NDArray[np.float32]:
    """Coordinate ascent: for one label after the other the cut with the largest sum of the images' F, until none gains.

    Each image keeps its counts of right and predicted labels; giving it the label or not changes its F by a known
    amount, and a running sum over images in falling order of probability is the score of every cut at once.
    """
    order = np.argsort(-P, axis=0, kind="stable")
    chosen = start.copy()
    given = apply(P, chosen)
    hits, predicted = (given & Y).sum(axis=1, dtype=np.float64), given.sum(axis=1, dtype=np.float64)
    true = Y.sum(axis=1, dtype=np.float64)
    labels = [j for j in np.argsort(-Y.sum(axis=0), kind="stable") if Y[:, j].any()]
    for _ in range(_SWEEPS):
        improved = 0.0
        for label in labels:
            own, y = given[:, label], Y[:, label]
            hits_without, predicted_without = hits - (own & y), predicted - own
            without = f_of_counts(hits_without, true, predicted_without, beta)
            change = f_of_counts(hits_without + y, true, predicted_without + 1, beta) - without
            ranks = order[:, label]
            gain, threshold = _best_cut(P[ranks, label], change[ranks])
            step = gain - float(change[own].sum())
            if step <= 1e-9:
                continue
            improved += step
            chosen[label] = threshold
            given[:, label] = P[:, label] >= np.float32(threshold)
            hits, predicted = hits_without + (given[:, label] & y), predicted_without + given[:, label]
        if improved <= 1e-9:
            break
    return chosen


def _best_cut(ranked: NDArray[np.float32], gain: NDArray[np.float64]) -> tuple[float, float]:
    """Largest sum of gains above a cut through falling probabilities, and that cut; of equal ones the highest."""
    ends = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]) + 1, len(ranked))  # cuts never part equal probabilities
    total = np.cumsum(gain)[ends - 1]
    best = int(np.argmax(total))
    if total[best] <= 1e-12:
        return 0.0, _above(ranked[0])
    first = int(np.argmax(total >= total[best] - 1e-12))
    below = float(ranked[ends[first]]) if ends[first] < len(ranked) else 0.0
    return float(total[first]), _between(float(ranked[ends[first] - 1]), below)


def _above(highest: np.float32) -> float:
    """Midway between the highest probability and 1, or just above 1."""
    return _between(1.0, float(highest)) if highest < 1 else float(np.nextafter(np.float32(1), np.float32(2)))


def _between(high: float, low: float) -> float:
    """Midway in float32, above ``low`` and at most ``high``."""
    middle = np.float32((high + low) / 2)
    return float(middle if middle > np.float32(low) else np.float32(high))
