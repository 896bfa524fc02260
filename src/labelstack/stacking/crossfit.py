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
from labelstack.scoring.attribute_rows import AttributeRows
from labelstack.scoring.metric import Metric, metric_of
from labelstack.stacking.array_checks import check_answers, check_folds, check_probability
from labelstack.stacking.deciding.decisions import Decision, fit_decision, fixed_labels, strategies_of
from labelstack.stacking.fold_predictions import FoldPredictions
from labelstack.stacking.mixing import Mix, fit_mix, given_mix


@dataclass(frozen=True)
class CrossFitted:
    """Probabilities and labels of each fold by weights and a decision rule that were chosen without it.

    Attributes
    ----------
    probability : float32 [n, n_labels]
    labels : bool [n, n_labels]
    mixes : for each fold, the blend
    decisions : for each fold, the rule
    answers : bool [n, n_labels]
    asked : the label group that each row knows; None: all of them
    """

    probability: NDArray[np.float32]
    labels: NDArray[np.bool_]
    mixes: list[Mix]
    decisions: list[Decision]
    answers: NDArray[np.bool_]
    asked: AttributeRows | None = None

    @property
    def weights(self) -> list[dict[str, float]]:
        """For each fold, name → weight."""
        return [mix.weights for mix in self.mixes]

    def given(self, metric: Metric) -> NDArray[Any]:
        """What a metric scores: labels, probabilities or counts; ``ValueError`` where it wants something else."""
        return metric.given(self.answers, self.labels, self.probability, self.asked)


@dataclass(frozen=True)
class Blended:
    """A blend for new images, and what it scores.

    Attributes
    ----------
    mix : from members' probabilities to the blend's
    decision : from probabilities to labels
    probability : float32 [n, n_labels] of the rows, with these weights; flattered as far as the weights are
    cross_fitted : the honest counterpart
    """

    mix: Mix
    decision: Decision
    probability: NDArray[np.float32]
    cross_fitted: CrossFitted

    @property
    def weights(self) -> dict[str, float]:
        """name → weight."""
        return self.mix.weights


def fit_blend(
    members: Mapping[str, FoldPredictions | ArrayLike],
    Y: ArrayLike,
    folds: ArrayLike,
    *,
    blend_params: BlendSection | None = None,
    metric: MetricSection | None = None,
    thresholds: ThresholdsSection | None = None,
    groups: Sequence[str] | None = None,
    asked: AttributeRows | None = None,
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
    asked : the label group that each row knows; its members' other probabilities are nothing to it. None: all of them
    new : name → float [m, n_labels], of the images that will be decided on, for rules that go by them (``mean_count``)
    weights : that are given and not searched, of every member and sum 1

    Notes
    -----
    Weights and rule for new images are chosen on ``FoldPredictions.like_new``: means of models, as new images have
    them, so that a stacker's averaging counts when it is weighed against a base model, which has no such gain.
    """
    blend_params, metric = blend_params or BlendSection(), metric or MetricSection()
    thresholds = thresholds or ThresholdsSection()
    checked = _members(members, asked)
    answers = check_answers(Y, next(iter(checked.values())).oof.shape, of="members")  # type: ignore[arg-type]
    assigned = _folds(folds, checked)
    honest = _cross_fit(checked, answers, assigned, blend_params, metric, thresholds, groups, asked, weights)
    rows = {name: member.like_new(assigned) for name, member in checked.items()}
    exclusive = thresholds.exclusive
    if weights:
        mix = given_mix(weights, exclusive, asked)
    else:
        by: dict[str, Any] = {"folds": assigned, "exclusive": exclusive, "asked": asked, "progress": "all rows"}
        mix = fit_mix(rows, answers, blend_params, metric, **by)
    probability = mix(rows)
    unseen = None if new is None else mix(new)
    by = {"groups": groups, "asked": asked, "folds": assigned, "new": unseen}
    decision = fit_decision(answers, probability, thresholds, metric, **by)
    return Blended(mix, decision, probability, honest)


def cross_fit(
    P: FoldPredictions | ArrayLike,
    Y: ArrayLike,
    folds: ArrayLike,
    *,
    metric: MetricSection | None = None,
    thresholds: ThresholdsSection | None = None,
    groups: Sequence[str] | None = None,
    asked: AttributeRows | None = None,
) -> CrossFitted:
    """Labels of one member, those of each fold by a decision rule that was chosen on the other folds."""
    checked = _members({"member": P}, asked)
    answers = check_answers(Y, checked["member"].oof.shape, of="P")  # type: ignore[arg-type]
    assigned = _folds(folds, checked)
    metric, thresholds = metric or MetricSection(), thresholds or ThresholdsSection()
    alone = BlendSection(calibration="none")
    return _cross_fit(checked, answers, assigned, alone, metric, thresholds, groups, asked)


def scores(
    Y: ArrayLike,
    P: FoldPredictions | ArrayLike,
    folds: ArrayLike,
    metric: MetricSection,
    thresholds: ThresholdsSection,
    *,
    groups: Sequence[str] | None = None,
    asked: AttributeRows | None = None,
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
    checked = _members({"P": P}, asked)
    member = checked["P"]
    answers = check_answers(Y, member.oof.shape, of="P")  # type: ignore[arg-type]
    assigned = _folds(folds, checked)
    rows = np.asarray(member.like_new(assigned))
    if fitted is None:
        by: dict[str, Any] = {"metric": metric, "thresholds": thresholds, "groups": groups, "asked": asked}
        fitted = cross_fit(member, answers, assigned, **by)
    if decision is None:
        decision = fit_decision(answers, rows, thresholds, metric, groups=groups, asked=asked, folds=assigned)
    primary = metric_of(metric)
    label_sets = {
        "at_fixed": fixed_labels(fitted.probability, thresholds),
        "cross_fitted": fitted.labels,
        "in_sample": decision.decide(rows),
    }
    probabilities = {"cross_fitted": fitted.probability, "in_sample": rows}
    found = {
        f"{each.key}_{name}": each.score(answers, each.given(answers, label_sets[name], probabilities.get(name), asked))
        for each in primary.family
        for name in (label_sets if each.wants == "label_sets" else probabilities)
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
    asked: AttributeRows | None = None,
    strategies: Sequence[str] | None = None,
) -> dict[str, dict[str, float]]:
    """Every way of deciding on the same cross-fitted blend, side by side; ``strategies`` None: ``strategies_of``.

    Returns
    -------
    strategy → the scores of label sets in the family of the metric that decides (such as ``samples_f1``), and of that
    metric the 95 % bootstrap interval (``low``, ``high``) and the paired difference to the fixed threshold (``gain``,
    ``gain_low``, ``gain_high``)
    """
    checked = _members(members, asked)
    answers = check_answers(Y, next(iter(checked.values())).oof.shape, of="members")  # type: ignore[arg-type]
    assigned = _folds(folds, checked)
    fixed = fixed_labels(fitted.probability, thresholds)
    judge = metric_of(metric).decides
    table: dict[str, dict[str, float]] = {}
    given = {name: np.empty_like(answers) for name in (strategies_of(thresholds) if strategies is None else strategies)}
    for fold, mix in enumerate(fitted.mixes):  # one blend of all rows at a time
        P = mix({name: member.without(fold) for name, member in checked.items()})
        scored = assigned == fold
        for strategy, labels in given.items():
            rule = _decide_without(answers, P, assigned, fold, thresholds, metric, groups, asked, strategy)
            labels[scored] = rule.decide(P[scored])
    for strategy, labels in given.items():
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
    asked: AttributeRows | None,
    given: Mapping[str, float] | None = None,
) -> CrossFitted:
    probability, labels = np.empty(answers.shape, np.float32), np.empty_like(answers)
    mixes, rules = list[Mix](), []
    k = int(folds.max()) + 1
    for fold in range(k):
        scored = folds == fold
        rows = {name: member.without(fold) for name, member in members.items()}
        if given:
            mix = given_mix(given, thresholds.exclusive, asked)
        else:
            mix = fit_mix(
                rows,
                answers,
                blend_params,
                metric,
                rows=~scored,
                folds=_without(folds, fold),
                exclusive=thresholds.exclusive,
                asked=asked,
                progress=f"fold {fold + 1}/{k}",
            )
        P = mix(rows)
        rule = _decide_without(answers, P, folds, fold, thresholds, metric, groups, asked, None)
        probability[scored], labels[scored] = P[scored], rule.decide(P[scored])
        mixes.append(mix)
        rules.append(rule)
    return CrossFitted(probability, labels, mixes, rules, answers, asked)


def _decide_without(
    answers: NDArray[np.bool_],
    P: NDArray[np.float32],
    folds: NDArray[np.int64],
    fold: int,
    thresholds: ThresholdsSection,
    metric: MetricSection,
    groups: Sequence[str] | None,
    asked: AttributeRows | None,
    strategy: str | None,
) -> Decision:
    """The decision rule chosen on the rows outside a fold."""
    rows = folds != fold
    inner = _without(folds, fold)
    known = None if asked is None else asked.where(rows)
    by: dict[str, Any] = {"strategy": strategy, "groups": groups, "asked": known, "folds": inner, "new": P[~rows]}
    return fit_decision(answers[rows], P[rows], thresholds, metric, **by)


def _without(folds: NDArray[np.int64], fold: int) -> NDArray[np.int64] | None:
    """The other rows' folds, renumbered 0 … k − 2; None where less than two are left."""
    rest = folds[folds != fold]
    return rest - (rest > fold) if len(np.unique(rest)) > 1 else None


def _members(
    members: Mapping[str, FoldPredictions | ArrayLike], asked: AttributeRows | None = None
) -> dict[str, FoldPredictions]:
    if not members:
        raise ValueError("members is empty: a blend needs at least one")
    checked = {}
    silent = len(members) > 1  # what one says nothing of is left to the others
    for name, member in members.items():
        if asked is not None:
            whole = member if isinstance(member, FoldPredictions) else FoldPredictions(np.asarray(member))
            nested = None if whole.nested is None else asked.within(whole.nested, silent=silent)
            member = FoldPredictions(asked.within(whole.oof, silent=silent), nested)
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
