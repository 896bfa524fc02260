"""Decisions: rules that turn probabilities into labels, chosen on rows with answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labelstack.params.metric import MetricSection
from labelstack.params.thresholds import ARGMAX, TEMPERATURE, Strategy, ThresholdsSection
from labelstack.scoring.attribute_rows import AttributeRows, LabelGroups
from labelstack.scoring.metric import metric_of
from labelstack.scoring.metrics import most_probable
from labelstack.stacking.array_checks import check_answers, check_probability
from labelstack.stacking.deciding import thresholds as limits
from labelstack.stacking.deciding.calibration import Calibration, fit_calibration
from labelstack.stacking.deciding.context import apply_context, best_context, best_share
from labelstack.stacking.deciding.expected_f import decode
from labelstack.stacking.deciding.group_calibration import GroupCalibration, fit_groups, most_probable_of_groups
from labelstack.stacking.deciding.group_limits import GroupLimit, apply_limits, best_limits
from labelstack.stacking.deciding.label_counts import count_distribution, fit_count_weights, largest_count
from labelstack.stacking.deciding.one_threshold import mean_of_folds, of_mean_count
from labelstack.stacking.folds import assign_folds
from labelstack.stacking.sampling import some_rows
from labelstack.support.errors import UserError

STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
Rule = Strategy | Literal["argmax"]
_MARGIN = 1.0  # standard errors
_ABOVE_0 = 1e-30  # a label of no probability at all is no share of anything


@dataclass(frozen=True, eq=False)
class Decision:
    """A fitted rule from probabilities to labels.

    Attributes
    ----------
    strategy : one of ``STRATEGIES``, or ``argmax``: the most probable label; ``auto`` never, but what it chose
    calibration : applied first
    thresholds : float32 [n_labels], for calibrated probabilities; None where the rule has none
    ratio, floor : of ``context`` and ``top_share``
    limits : of ``group_limits``
    beta, log_weights : of ``expected_f``
    at_least_one : an image without a label gets its most probable one
    scores : of ``auto``: strategy → cross-fitted score by the metric that decides
    group : of ``argmax`` where labels exclude each other within groups alone: for each label its group
    """

    strategy: Rule
    calibration: Calibration | GroupCalibration = field(default_factory=Calibration)
    thresholds: NDArray[np.float32] | None = None
    ratio: float = 0.0
    floor: float = 0.0
    beta: float = 1.0
    log_weights: NDArray[np.float64] | None = None
    limits: Sequence[GroupLimit] = ()
    at_least_one: bool = False
    scores: Mapping[str, float] = field(default_factory=dict)
    group: tuple[str, ...] = ()

    def decide(self, P: ArrayLike) -> NDArray[np.bool_]:
        """Labels bool [n, n_labels] of probabilities float [n, n_labels]; of groups one label of each that has any."""
        if isinstance(self.calibration, GroupCalibration):
            probability = self.calibration(P) if self.calibration.offset else check_probability(P)
            return most_probable_of_groups(probability, self.group)
        if self.strategy == ARGMAX and self.calibration.method == TEMPERATURE:
            return most_probable(check_probability(P))  # their order before the last bits are rounded
        probability = self.calibration(P)
        if self.strategy == ARGMAX:
            return most_probable(probability)
        if self.strategy == "expected_f":
            given = decode(probability, self.beta, self.log_weights)
        elif self.strategy in ("context", "top_share"):
            given = apply_context(probability, self.ratio, self.floor)
        elif self.strategy == "group_limits":
            given = apply_limits(probability, self.limits)
        else:
            assert self.thresholds is not None
            given = limits.apply(probability, self.thresholds)
        if self.at_least_one:
            empty = np.flatnonzero(~given.any(axis=1))
            given[empty, probability[empty].argmax(axis=1)] = True
        return given

    def told(self, P: ArrayLike) -> NDArray[np.float32]:
        """Probabilities [n, n_labels] as people are told them: calibrated, and of label groups the sum of each is 1."""
        calibrated = self.calibration(P)
        if not isinstance(self.calibration, GroupCalibration):
            return calibrated
        return (LabelGroups(self.group).equal_parts(calibrated) * len(LabelGroups(self.group).names)).astype(np.float32)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and lists for JSON; ``from_dict`` gets every digit back."""
        kept: dict[str, Any] = {"strategy": self.strategy, "calibration": self.calibration.to_dict()}
        if self.thresholds is not None:
            kept["thresholds"] = [float(str(t)) for t in self.thresholds]
        if self.strategy in ("context", "top_share"):
            kept |= {"ratio": self.ratio, "floor": self.floor}
        if self.strategy == "group_limits":
            kept["limits"] = [asdict(limit) for limit in self.limits]
        if self.strategy == "expected_f":
            kept["beta"] = self.beta
            kept["log_weights"] = None if self.log_weights is None else self.log_weights.tolist()
        kept |= {"at_least_one": self.at_least_one, "scores": dict(self.scores)}
        return kept | ({"group": list(self.group)} if self.group else {})

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Decision:
        """What ``to_dict`` gave."""
        values = dict(kept)
        calibration = values.get("calibration", {"method": "none"})
        of_groups = calibration["method"] == GroupCalibration.method
        values["calibration"] = (GroupCalibration if of_groups else Calibration).from_dict(calibration)
        if "group" in values:
            values["group"] = tuple(values["group"])
        if "limits" in values:
            values["limits"] = [GroupLimit(**each | {"labels": tuple(each["labels"])}) for each in values["limits"]]
        for name, kind in (("thresholds", np.float32), ("log_weights", np.float64)):
            if values.get(name) is not None:
                values[name] = np.array(values[name], kind)
        return cls(**values)


def fit_decision(
    Y: ArrayLike,
    P: ArrayLike,
    settings: ThresholdsSection | None = None,
    metric: MetricSection | None = None,
    *,
    strategy: str | None = None,
    groups: Sequence[str] | None = None,
    asked: AttributeRows | None = None,
    folds: ArrayLike | None = None,
    new: ArrayLike | None = None,
) -> Decision:
    """Fit a rule for a large F-beta: the primary metric, or the F-score by which it has label sets decided.

    Parameters
    ----------
    Y : 0/1 [n, n_labels], or soft labels, true from one half
    P : float [n, n_labels] in 0 … 1, out-of-fold
    settings, metric : sections of params.yaml; None: their defaults. Of more than ``settings.rows`` rows, so many are
        drawn to choose on
    strategy : instead of ``settings.strategy``
    groups : for each label the name of its group, for ``per_group``
    asked : the label group that each row knows, of which it has one label; None: rows know all labels
    folds : int [n], for ``auto``, which scores its candidates by cross-fitting, and ``per_fold``. None deals out five.
    new : float [m, n_labels], of the images that will be decided on, for ``mean_count``; None: as those here

    Raises
    ------
    ValueError
        On input that does not fit, or an unknown strategy.
    """
    settings, metric = settings or ThresholdsSection(), metric or MetricSection()
    probability = check_probability(P)
    check_answers(Y, (probability.shape[0], probability.shape[1]), of="P")
    name = strategy or settings.strategy
    if name not in (*STRATEGIES, ARGMAX, "auto"):
        raise ValueError(f"strategy must be one of {', '.join(STRATEGIES)}, {ARGMAX} or auto, not {name!r}")
    if settings.rows is not None and len(probability) > settings.rows:
        some = np.arange(len(probability))[some_rows(len(probability), settings.rows)]
        probability, Y = probability[some], np.asarray(Y)[some]
        folds = None if folds is None else np.asarray(folds)[some]
        asked = None if asked is None else asked.where(some)
    if asked is not None:
        return _of_groups(np.asarray(Y) >= 0.5, probability, settings, asked)
    if name == "auto":
        return _auto(np.asarray(Y), probability, settings, metric, groups, folds, new)
    return _fit(cast(Rule, name), np.asarray(Y), probability, settings, metric, groups, folds=folds, new=new)


def _of_groups(
    Y: NDArray[np.bool_], P: NDArray[np.float32], settings: ThresholdsSection, asked: AttributeRows
) -> Decision:
    """The most probable label of each group; what is told of its probability is calibrated."""
    heat = settings.calibration == TEMPERATURE
    calibration = fit_groups(Y, P, asked, temperature=heat, offset=settings.prior_bias)
    return Decision(ARGMAX, calibration, group=asked.group)


def cross_fitted(
    Y: ArrayLike,
    P: ArrayLike,
    settings: ThresholdsSection,
    metric: MetricSection,
    *,
    strategies: Sequence[Strategy] | None = None,
    groups: Sequence[str] | None = None,
    folds: ArrayLike | None = None,
) -> dict[Strategy, NDArray[np.bool_]]:
    """Labels bool [n, n_labels] by each strategy, those of a fold by a rule that was fitted to the other folds.

    Arguments as in ``fit_decision``; strategies None: the candidates of the settings.
    """
    probability, targets = check_probability(P), np.asarray(Y)
    answers = check_answers(Y, (probability.shape[0], probability.shape[1]), of="P")
    assigned = _usable_folds(folds, answers)
    labels = {name: np.zeros_like(answers) for name in strategies or settings.candidates}
    for fold in np.unique(assigned):
        scored, others = assigned == fold, assigned != fold
        known: dict[str, Calibration] = {}
        for name, given in labels.items():
            given_rows = targets[others], probability[others]
            inner, new = assigned[others], probability[scored]
            rule = _fit(name, *given_rows, settings, metric, groups, known, folds=inner, new=new)
            given[scored] = rule.decide(probability[scored])
    return labels


def strategies_of(settings: ThresholdsSection) -> tuple[Rule, ...]:
    """The strategies that may be compared: where labels exclude each other there is one."""
    return (ARGMAX,) if settings.exclusive else STRATEGIES


def fixed_labels(P: ArrayLike, settings: ThresholdsSection) -> NDArray[np.bool_]:
    """Labels bool [n, n_labels] by nothing that was chosen on any row: one threshold, or the most probable label."""
    return most_probable(P) if settings.exclusive else limits.apply(P, settings.fixed)


def _fit(
    strategy: Rule,
    Y: NDArray[Any],
    P: NDArray[np.float32],
    settings: ThresholdsSection,
    metric: MetricSection,
    groups: Sequence[str] | None,
    known: dict[str, Calibration] | None = None,
    *,
    folds: ArrayLike | None = None,
    new: ArrayLike | None = None,
) -> Decision:
    """One strategy's rule; ``known`` keeps calibrations of the same rows by method."""
    answers = check_answers(Y, (P.shape[0], P.shape[1]), of="P")
    # The fixed threshold is a number that the user gave for the probabilities as they are.
    method = "none" if strategy == "fixed" else settings.calibration
    known = {} if known is None else known
    calibration = known.setdefault(method, known.get(method) or fit_calibration(Y, P, method))
    if strategy == ARGMAX:
        return Decision(strategy, calibration)
    probability = calibration(P)
    f = metric_of(metric).fits
    rule = Decision(strategy, calibration, beta=f.beta, at_least_one=settings.at_least_one)
    if strategy == "expected_f":
        return replace(rule, log_weights=_count_weights(answers, probability))
    if strategy == "context":
        ratio, floor = best_context(answers, probability, f.average, f.beta)
        return replace(rule, ratio=ratio, floor=floor)
    if strategy == "top_share":
        return replace(rule, ratio=best_share(answers, probability, f.average, f.beta), floor=_ABOVE_0)
    if strategy == "group_limits":
        _known_groups(settings, groups)
        start = limits.best_global(answers, probability, "samples", f.beta)
        return replace(rule, limits=best_limits(answers, probability, f.beta, start, groups, settings.limits))
    if strategy == "per_fold" and len(P) > 1:
        one = mean_of_folds(answers, probability, _usable_folds(folds, answers), f.average, f.beta)
        return replace(rule, thresholds=np.full(answers.shape[1], one, np.float32))
    if strategy in ("per_fold", "mean_count"):
        one = limits.best_global(answers, probability, f.average, f.beta)
        if strategy == "mean_count" and new is not None:
            one = of_mean_count(calibration(new), float(limits.apply(probability, one).sum(axis=1).mean()))
        return replace(rule, thresholds=np.full(answers.shape[1], one, np.float32))
    by_label = cast(limits.Strategy, strategy)
    chosen = limits.choose(answers, probability, by_label, settings.fixed, f.average, f.beta, groups)
    return replace(rule, thresholds=chosen)


def _known_groups(settings: ThresholdsSection, groups: Sequence[str] | None) -> None:
    there = {""} if groups is None else set(map(str, groups))
    if unknown := sorted(settings.limits.keys() - there):
        raise UserError(
            f"thresholds.limits: no label group is called {', '.join(unknown)} (there are: {', '.join(sorted(there))})"
        )


def _count_weights(Y: NDArray[np.bool_], P: NDArray[np.float32]) -> NDArray[np.float64]:
    """Half of the most likely log g: on new images between independence and g it scores better than at either end."""
    counts = Y.sum(axis=1)
    most = min(P.shape[1], max(largest_count(P), int(counts.max()) + 3))
    return fit_count_weights(counts, count_distribution(P, most)) / 2


def _auto(
    Y: NDArray[Any],
    P: NDArray[np.float32],
    settings: ThresholdsSection,
    metric: MetricSection,
    groups: Sequence[str] | None,
    folds: ArrayLike | None,
    new: ArrayLike | None,
) -> Decision:
    """The candidate with the largest cross-fitted score, fitted to all rows.

    An earlier candidate keeps its place unless a later one is better by more than the standard error of their
    difference over images (the one-standard-error rule of Breiman et al. 1984): less is as often worse on new images.
    A metric that does not know what an image adds to it takes the largest score.
    """
    names = list(dict.fromkeys(settings.candidates))
    if len(names) == 1 or len(P) == 1:
        return _fit(names[0], Y, P, settings, metric, groups, folds=folds, new=new)
    answers = check_answers(Y, (P.shape[0], P.shape[1]), of="P")
    labels = cross_fitted(Y, P, settings, metric, groups=groups, folds=folds)
    judge = metric_of(metric).decides
    scores: dict[str, float] = {name: judge.score(answers, given) for name, given in labels.items()}
    shares = {name: judge.influence(answers, labels[name]) for name in names}
    chosen = names[0]
    for name in names[1:]:
        ours, theirs = shares[name], shares[chosen]
        error = 0.0 if ours is None or theirs is None else float((ours - theirs).std() / np.sqrt(len(P)))
        if scores[name] > scores[chosen] + _MARGIN * error + 1e-9:
            chosen = name
    return replace(_fit(chosen, Y, P, settings, metric, groups, folds=folds, new=new), scores=scores)


def _usable_folds(folds: ArrayLike | None, Y: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The folds given where there are two or more, otherwise five, or as many as there are images."""
    if folds is not None and len(np.unique(np.asarray(folds))) > 1:
        return np.asarray(folds, np.int64)
    return assign_folds(Y, min(5, len(Y)), seed=0)
