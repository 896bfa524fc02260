"""Scores that tuning does not flatter: tuned on k − 1 folds, scored on the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labelstack import params
from labelstack.metrics import AVERAGES, f_beta
from labelstack.stacking import thresholds as limits
from labelstack.stacking.blend import blend, search_weights
from labelstack.stacking.checks import check_answers, check_folds, check_members, check_probability

Choose = Callable[[NDArray[np.bool_], NDArray[np.float32]], NDArray[np.float32]]


def chooser(metric: params.Metric, thresholds: params.Thresholds) -> Choose:
    """``thresholds.choose`` with the settings of params.yaml: takes Y and P, gives float32 [n_labels]."""

    def choose(Y: NDArray[np.bool_], P: NDArray[np.float32]) -> NDArray[np.float32]:
        return limits.choose(Y, P, thresholds.strategy, thresholds.fixed, metric.primary, metric.beta)

    return choose


def cross_fitted_labels(Y: ArrayLike, P: ArrayLike, folds: ArrayLike, choose: Choose) -> NDArray[np.bool_]:
    """Labels bool [n, n_labels], those of each fold by thresholds that were chosen on the other folds.

    Parameters
    ----------
    Y : 0/1 [n, n_labels]
    P : float [n, n_labels] in 0 … 1, out-of-fold
    folds : int [n]
    choose : takes Y and P of some rows and gives thresholds [n_labels]
    """
    probability = check_probability(P)
    answers = check_answers(Y, (probability.shape[0], probability.shape[1]), of="P")
    assigned = check_folds(folds, len(answers))
    labels = np.empty_like(answers)
    for fold in range(int(assigned.max()) + 1):
        scored = assigned == fold
        labels[scored] = limits.apply(probability[scored], choose(answers[~scored], probability[~scored]))
    return labels


def scores(
    Y: ArrayLike, P: ArrayLike, folds: ArrayLike, metric: params.Metric, thresholds: params.Thresholds
) -> dict[str, float]:
    """F-beta with the fixed threshold, with cross-fitted ones and, flattered, with ones chosen on the rows scored.

    Returns
    -------
    ``<average>_f<beta>_at_fixed``, ``…_cross_fitted`` and ``…_in_sample`` for samples, micro and macro; thresholds are
    always chosen for ``metric.primary``.
    """
    probability = check_probability(P)
    answers = check_answers(Y, (probability.shape[0], probability.shape[1]), of="P")
    choose = chooser(metric, thresholds)
    labels = {
        "at_fixed": limits.apply(probability, thresholds.fixed),
        "cross_fitted": cross_fitted_labels(answers, probability, folds, choose),
        "in_sample": limits.apply(probability, choose(answers, probability)),
    }
    return {
        f"{average}_f{metric.beta:g}_{name}": f_beta(answers, given, average=average, beta=metric.beta)
        for average in AVERAGES
        for name, given in labels.items()
    }


def cross_fitted_blend(
    members: Mapping[str, ArrayLike],
    Y: ArrayLike,
    folds: ArrayLike,
    *,
    step: float,
    metric: params.Metric,
    thresholds: params.Thresholds,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Blended probabilities and labels of each fold, with weights and thresholds chosen on the other folds.

    Returns
    -------
    probability float32 [n, n_labels], labels bool [n, n_labels]

    Notes
    -----
    What remains shared: the members' out-of-fold predictions on the k − 1 folds come from stackers that had the scored
    fold among their training rows. Weights and thresholds never see an answer of the scored fold directly, and a few
    numbers cannot carry many answers over, so the score is honest enough to compare members and blend; only answers
    that no stage has seen (a test set) are free of it.
    """
    checked = check_members(members)
    shape = next(iter(checked.values())).shape
    answers = check_answers(Y, (shape[0], shape[1]), of="members")
    assigned = check_folds(folds, len(answers))
    choose = chooser(metric, thresholds)
    probability, labels = np.empty(answers.shape, np.float32), np.empty_like(answers)
    k = int(assigned.max()) + 1
    for fold in range(k):
        scored = assigned == fold
        others = {name: p[~scored] for name, p in checked.items()}
        weights = search_weights(
            others,
            answers[~scored],
            step=step,
            metric=metric.primary,
            beta=metric.beta,
            progress=f"fold {fold + 1}/{k}",
        )
        tuned = choose(answers[~scored], blend(others, weights))
        probability[scored] = blend({name: p[scored] for name, p in checked.items()}, weights)
        labels[scored] = limits.apply(probability[scored], tuned)
    return probability, labels
