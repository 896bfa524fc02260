"""From probabilities to labels: one fixed threshold, the best single one, or one for each label.

A label is given where its probability is at or above the threshold. Chosen thresholds lie midway between two
neighbouring probabilities of the rows they were chosen on, never on one of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labelstack.metrics import AVERAGES, Average, f_beta, f_of_counts
from labelstack.stacking.checks import check_answers, check_probability

Strategy = Literal["fixed", "global", "per_label"]
_SWEEPS = 30


def choose(
    Y: ArrayLike,
    P: ArrayLike,
    strategy: Strategy = "per_label",
    fixed: float = 0.3,
    metric: Average = "samples",
    beta: float = 1.0,
) -> NDArray[np.float32]:
    """Thresholds that make F-beta on these rows large.

    Parameters
    ----------
    Y : 0/1 [n, n_labels]
    P : float [n, n_labels] in 0 … 1
    strategy : ``fixed`` (the number ``fixed`` for all), ``global`` (the best single one, exact) or ``per_label``: exact
        for ``macro`` (each label alone) and ``micro`` (Dinkelbach's iteration); for ``samples``, whose labels depend on
        each other, coordinate ascent from the best single threshold
    metric, beta : which F-score

    Returns
    -------
    float32 [n_labels]. ``per_label`` is never below ``global``, nor ``global`` below ``fixed``, on these rows. A label
    without positives gets, from ``per_label``, a threshold above all its probabilities here; nothing can be learnt
    about where it should be. A threshold may lie just above 1, to give a label to no image.

    Raises
    ------
    ValueError
        On input that does not fit; the message names the argument.
    """
    probability = check_probability(P)
    answers = check_answers(Y, (probability.shape[0], probability.shape[1]), of="P")
    if strategy not in ("fixed", "global", "per_label"):
        raise ValueError(f"strategy must be fixed, global or per_label, not {strategy!r}")
    if metric not in AVERAGES:
        raise ValueError(f"metric must be one of {', '.join(AVERAGES)}, not {metric!r}")
    if not 0 <= fixed <= 1 or not beta > 0:
        raise ValueError(f"fixed must be in 0 … 1 and beta above 0, not {fixed} and {beta}")
    candidates = [np.full(answers.shape[1], fixed, np.float32)]
    if strategy != "fixed":
        candidates.append(np.full(answers.shape[1], best_global(answers, probability, metric, beta), np.float32))
    if strategy == "per_label":
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
    order = np.argsort(-P, axis=1, kind="stable")
    ranked, right = np.take_along_axis(P, order, 1), np.take_along_axis(Y, order, 1)
    # F of each image (or label) after its first 1, 2, … labels: what each adds to the sum is one event.
    count = np.arange(1, P.shape[1] + 1, dtype=np.float64)[None, :]
    true = Y.sum(axis=1, dtype=np.float64)[:, None]
    f = f_of_counts(np.cumsum(right, axis=1, dtype=np.float64), true, count, beta)
    gain = np.diff(f, axis=1, prepend=0.0).ravel()
    pooled = np.argsort(-ranked.ravel(), kind="stable")
    return _best_cut(ranked.ravel()[pooled], gain[pooled])[1]


def _tune_macro(
    Y: NDArray[np.bool_], P: NDArray[np.float32], start: NDArray[np.float32], beta: float
) -> NDArray[np.float32]:
    """Each label's own best cut."""

    def gain(label: int, right: NDArray[np.bool_]) -> NDArray[np.float64]:
        count = np.arange(1, len(right) + 1, dtype=np.float64)
        true = np.full(len(right), right.sum(), np.float64)
        f = f_of_counts(np.cumsum(right, dtype=np.float64), true, count, beta)
        change: NDArray[np.float64] = np.diff(f, prepend=0.0)
        return change

    return _each_label(Y, P, gain)


def _tune_micro(
    Y: NDArray[np.bool_], P: NDArray[np.float32], start: NDArray[np.float32], beta: float
) -> NDArray[np.float32]:
    """Dinkelbach's iteration for a ratio: with λ the F reached, each label maximises (1 + β²) right − λ predicted."""
    best, reached = start, f_beta(Y, apply(P, start), average="micro", beta=beta)
    while True:
        price = reached

        def gain(label: int, right: NDArray[np.bool_], price: float = price) -> NDArray[np.float64]:
            return (1 + beta**2) * right.astype(np.float64) - price

        candidate = _each_label(Y, P, gain)
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


def _each_label(
    Y: NDArray[np.bool_], P: NDArray[np.float32], gain: Callable[[int, NDArray[np.bool_]], NDArray[np.float64]]
) -> NDArray[np.float32]:
    chosen = np.empty(Y.shape[1], np.float32)
    for label in range(Y.shape[1]):
        order = np.argsort(-P[:, label], kind="stable")
        chosen[label] = _best_cut(P[order, label], gain(label, Y[order, label]))[1]
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
