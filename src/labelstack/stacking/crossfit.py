"""Scores that choosing does not flatter: whatever is chosen is chosen on k − 1 folds and scored on the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labelstack.params.blend import BlendSection
from labelstack.params.metric import MetricSection
from labelstack.params.thresholds import ThresholdsSection
from labelstack.scoring import bootstrap
from labelstack.scoring.metric import Metric, metric_of
from labelstack.stacking.array_checks import check_answers, check_folds, check_probability
from labelstack.stacking.blending import blend, fit_weights
from labelstack.stacking.deciding.decisions import Decision, fit_decision, fixed_labels, strategies_of
from labelstack.stacking.fold_predictions import FoldPredictions


@dataclass(frozen=True)
class CrossFitted:
    """Probabilities and labels of each fold by weights and a decision rule that were chosen without it.

    Attributes
    ----------
    probability : float32 [n, n_labels]
    labels : bool [n, n_labels]
    weights : for each fold, name → weight
    decisions : for each fold, the rule
    """

    probability: NDArray[np.float32]
    labels: NDArray[np.bool_]
    weights: list[dict[str, float]]
    decisions: list[Decision]

    def given(self, metric: Metric) -> NDArray[Any]:
        """What a metric scores: the labels or the probabilities; ``ValueError`` where it wants neither."""
        if metric.wants == "counts":
            raise ValueError(f"{metric.title} is scored from counts of rows, which there are none of")
        return self.labels if metric.wants == "label_sets" else self.probability


@dataclass(frozen=True)
class Blended:
    """A blend for new images, and what it scores.

    Attributes
    ----------
    weights : name → weight
    decision : from probabilities to labels
    probability : float32 [n, n_labels] of the rows, with these weights; flattered as far as the weights are
    cross_fitted : the honest counterpart
    """

    weights: dict[str, float]
    decision: Decision
    probability: NDArray[np.float32]
    cross_fitted: CrossFitted


def fit_blend(
    members: Mapping[str, FoldPredictions | ArrayLike],
    Y: ArrayLike,
    folds: ArrayLike,
    *,
    blend_params: BlendSection | None = None,
    metric: MetricSection | None = None,
    thresholds: ThresholdsSection | None = None,
    groups: Sequence[str] | None = None,
    new: Mapping[str, ArrayLike] | None = None,
    weights: Mapping[str, float] | None = None,
) -> Blended:
    """Choose weights and a decision rule on all rows, and cross-fit the same choice.

    Parameters
    ----------
    members : name → ``FoldPredictions`` of a stacker, or float [n, n_labels] of a base model that never saw these rows
    Y : 0/1 or soft [n, n_labels]
    folds : int [n], the folds that the stackers were trained on
    blend_params, metric, thresholds : sections of params.yaml; None: their defaults
    groups : for each label the name of its group, for thresholds per group
    new : name → float [m, n_labels], of the images that will be decided on, for rules that go by them (``mean_count``)
    weights : that are given and not searched, of every member and sum 1

    Notes
    -----
    Weights and rule for new images are chosen on ``FoldPredictions.like_new``: means of models, as new images have
    them, so that a stacker's averaging counts when it is weighed against a base model, which has no such gain.
    """
    blend_params, metric = blend_params or BlendSection(), metric or MetricSection()
    thresholds = thresholds or ThresholdsSection()
    checked = _members(members)
    answers = check_answers(Y, next(iter(checked.values())).oof.shape, of="members")  # type: ignore[arg-type]
    assigned = _folds(folds, checked)
    honest = _cross_fit(checked, answers, assigned, blend_params, metric, thresholds, groups, weights)
    rows = {name: member.like_new(assigned) for name, member in checked.items()}
    exclusive = thresholds.exclusive
    by: dict[str, Any] = {"folds": assigned, "exclusive": exclusive, "progress": "all rows"}
    weights = dict(weights or fit_weights(rows, answers, blend_params, metric, **by))
    probability = blend(rows, weights, exclusive=exclusive)
    unseen = None if new is None else blend(new, weights, exclusive=exclusive)
    decision = fit_decision(answers, probability, thresholds, metric, groups=groups, folds=assigned, new=unseen)
    return Blended(weights, decision, probability, honest)


def cross_fit(
    P: FoldPredictions | ArrayLike,
    Y: ArrayLike,
    folds: ArrayLike,
    *,
    metric: MetricSection | None = None,
    thresholds: ThresholdsSection | None = None,
    groups: Sequence[str] | None = None,
) -> CrossFitted:
    """Labels of one member, those of each fold by a decision rule that was chosen on the other folds."""
    checked = _members({"member": P})
    answers = check_answers(Y, checked["member"].oof.shape, of="P")  # type: ignore[arg-type]
    assigned = _folds(folds, checked)
    metric, thresholds = metric or MetricSection(), thresholds or ThresholdsSection()
    return _cross_fit(checked, answers, assigned, BlendSection(), metric, thresholds, groups)


def scores(
    Y: ArrayLike,
    P: FoldPredictions | ArrayLike,
    folds: ArrayLike,
    metric: MetricSection,
    thresholds: ThresholdsSection,
    *,
    groups: Sequence[str] | None = None,
    fitted: CrossFitted | None = None,
    decision: Decision | None = None,
) -> dict[str, float]:
    """Scores at the fixed threshold, by what was chosen on other folds and, flattered, what was chosen on these rows.

    Parameters
    ----------
    P : one member's predictions, or a blend's
    fitted, decision : what ``cross_fit`` (or ``fit_blend``) and ``fit_decision`` found, where it is known already

    Returns
    -------
    ``<key>_at_fixed`` (``fixed_labels``), ``…_cross_fitted`` and ``…_in_sample`` for every metric of the primary one's
    family, and of the cross-fitted primary ``…_low`` and ``…_high``, its 95 % bootstrap interval over images.
    """
    checked = _members({"P": P})
    member = checked["P"]
    answers = check_answers(Y, member.oof.shape, of="P")  # type: ignore[arg-type]
    assigned = _folds(folds, checked)
    rows = member.like_new(assigned)
    if fitted is None:
        fitted = cross_fit(member, answers, assigned, metric=metric, thresholds=thresholds, groups=groups)
    if decision is None:
        decision = fit_decision(answers, rows, thresholds, metric, groups=groups, folds=assigned)
    primary = metric_of(metric)
    label_sets = {
        "at_fixed": fixed_labels(fitted.probability, thresholds),
        "cross_fitted": fitted.labels,
        "in_sample": decision.decide(rows),
    }
    probabilities = {"cross_fitted": fitted.probability, "in_sample": rows}
    found = {
        f"{each.key}_{name}": each.score(answers, given)
        for each in primary.family
        for name, given in (label_sets if each.wants == "label_sets" else probabilities).items()
    }
    bounds = bootstrap.interval(primary, answers, fitted.given(primary))
    return found | {f"{primary.cross_fitted}_low": bounds.low, f"{primary.cross_fitted}_high": bounds.high}


def strategy_scores(
    members: Mapping[str, FoldPredictions | ArrayLike],
    fitted: CrossFitted,
    Y: ArrayLike,
    folds: ArrayLike,
    *,
    metric: MetricSection,
    thresholds: ThresholdsSection,
    groups: Sequence[str] | None = None,
    strategies: Sequence[str] | None = None,
) -> dict[str, dict[str, float]]:
    """Every way of deciding on the same cross-fitted blend, side by side; ``strategies`` None: ``strategies_of``.

    Returns
    -------
    strategy → the scores of label sets in the family of the metric that decides (such as ``samples_f1``), and of that
    metric the 95 % bootstrap interval (``low``, ``high``) and the paired difference to the fixed threshold (``gain``,
    ``gain_low``, ``gain_high``)
    """
    checked = _members(members)
    answers = check_answers(Y, next(iter(checked.values())).oof.shape, of="members")  # type: ignore[arg-type]
    assigned = _folds(folds, checked)
    fixed = fixed_labels(fitted.probability, thresholds)
    judge = metric_of(metric).decides
    table: dict[str, dict[str, float]] = {}
    blended = [
        blend({name: member.without(fold) for name, member in checked.items()}, weights, exclusive=thresholds.exclusive)
        for fold, weights in enumerate(fitted.weights)
    ]
    for strategy in strategies_of(thresholds) if strategies is None else strategies:
        labels = np.empty_like(answers)
        for fold, P in enumerate(blended):
            scored = assigned == fold
            rule = _decide_without(answers, P, assigned, fold, thresholds, metric, groups, strategy)
            labels[scored] = rule.decide(P[scored])
        bounds = bootstrap.interval(judge, answers, labels)
        gain = bootstrap.paired(judge, answers, labels, fixed)
        table[strategy] = {each.key: each.score(answers, labels) for each in judge.family} | {
            "low": bounds.low,
            "high": bounds.high,
            "gain": gain.score,
            "gain_low": gain.low,
            "gain_high": gain.high,
        }
    return table


def _cross_fit(
    members: Mapping[str, FoldPredictions],
    answers: NDArray[np.bool_],
    folds: NDArray[np.int64],
    blend_params: BlendSection,
    metric: MetricSection,
    thresholds: ThresholdsSection,
    groups: Sequence[str] | None,
    given: Mapping[str, float] | None = None,
) -> CrossFitted:
    probability, labels = np.empty(answers.shape, np.float32), np.empty_like(answers)
    all_weights, rules = [], []
    k = int(folds.max()) + 1
    for fold in range(k):
        scored = folds == fold
        rows = {name: member.without(fold) for name, member in members.items()}
        weights = (
            dict(given)
            if given
            else fit_weights(
                rows,
                answers,
                blend_params,
                metric,
                rows=~scored,
                folds=_without(folds, fold),
                exclusive=thresholds.exclusive,
                progress=f"fold {fold + 1}/{k}",
            )
        )
        P = blend(rows, weights, exclusive=thresholds.exclusive)
        rule = _decide_without(answers, P, folds, fold, thresholds, metric, groups, None)
        probability[scored], labels[scored] = P[scored], rule.decide(P[scored])
        all_weights.append(weights)
        rules.append(rule)
    return CrossFitted(probability, labels, all_weights, rules)


def _decide_without(
    answers: NDArray[np.bool_],
    P: NDArray[np.float32],
    folds: NDArray[np.int64],
    fold: int,
    thresholds: ThresholdsSection,
    metric: MetricSection,
    groups: Sequence[str] | None,
    strategy: str | None,
) -> Decision:
    """The decision rule chosen on the rows outside a fold."""
    rows = folds != fold
    inner = _without(folds, fold)
    by = {"strategy": strategy, "groups": groups, "folds": inner, "new": P[~rows]}
    return fit_decision(answers[rows], P[rows], thresholds, metric, **by)  # type: ignore[arg-type]


def _without(folds: NDArray[np.int64], fold: int) -> NDArray[np.int64] | None:
    """The other rows' folds, renumbered 0 … k − 2; None where less than two are left."""
    rest = folds[folds != fold]
    return rest - (rest > fold) if len(np.unique(rest)) > 1 else None


def _members(members: Mapping[str, FoldPredictions | ArrayLike]) -> dict[str, FoldPredictions]:
    if not members:
        raise ValueError("members is empty: a blend needs at least one")
    checked = {}
    for name, member in members.items():
        if not isinstance(member, FoldPredictions):
            member = FoldPredictions(check_probability(member, f"members[{name!r}]"))
        checked[name] = member
    shapes = {name: member.oof.shape for name, member in checked.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"members must have one shape, not {shapes}")
    return checked


def _folds(folds: ArrayLike, members: Mapping[str, FoldPredictions]) -> NDArray[np.int64]:
    """The folds int64 [n], checked against the members' rows and nested predictions."""
    n = len(next(iter(members.values())).oof)
    assigned = check_folds(folds, n)
    k = int(assigned.max()) + 1
    for name, member in members.items():
        if member.nested is not None and member.nested.shape != (k, *member.oof.shape):
            raise ValueError(
                f"members[{name!r}]: nested must be {(k, *member.oof.shape)}, one for each fold of {k}, "
                f"not {member.nested.shape}"
            )
    return assigned
