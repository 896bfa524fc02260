"""Two or more ensembles (or runs) side by side: scores, differences with intervals, params, labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from labelstack.scoring import bootstrap
from labelstack.scoring.bootstrap import Interval
from labelstack.scoring.metric import FMetric, Metric, family_name
from labelstack.scoring.scored import Scored
from labelstack.support.progress import bar

Basis = Literal["paired", "plain", "other data"]
_UNKNOWN = "…"


@dataclass(frozen=True)
class Side:
    """One of the things that are compared.

    Attributes
    ----------
    name : str
        What the user typed.
    row : str
        Which of ``rows`` stands for it.
    rows : mapping of row name to its ``kind`` and flat scores, as metrics/evaluation.json has them
    params : mapping of str to str
        Flattened.
    whole : bool
        Whether ``params`` are all there are: a missing key is then unset, else unknown.
    metric : what everything in it was chosen for
    origin : sequence of (what, text, web address or None)
        Where it comes from.
    scored : Scored, optional
        What is cross-fitted, of ``row`` at least.
    labels : mapping of label id to name
    notes : sequence of str
        What a reader must know of it.
    """

    name: str
    row: str
    rows: Mapping[str, Mapping[str, Any]]
    params: Mapping[str, str] = field(default_factory=dict)
    whole: bool = True
    metric: Metric = field(default_factory=FMetric)
    origin: Sequence[tuple[str, str, str | None]] = ()
    scored: Scored | None = None
    labels: Mapping[int, str] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class BoardRow:
    """One line of the leaderboard: cross-fitted scores, the primary one's interval and the test score, where known."""

    side: str
    row: str
    kind: str
    scores: Mapping[str, float | None]  # by the metrics' keys
    low: float | None
    high: float | None
    test: float | None
    shown_first: bool  # the row that stands for its side


@dataclass(frozen=True)
class Difference:
    """A score of a side against the reference's; low and high where ``basis`` is ``paired``."""

    metric: str
    reference: float
    value: float
    difference: float
    low: float | None
    high: float | None
    basis: Basis

    @property
    def verdict(self) -> str:
        """``better``, ``worse``, ``unclear`` when the interval holds 0, ``equal``; empty where there is no interval."""
        if self.low is None or self.high is None:
            return ""
        if self.low == self.difference == self.high == 0:
            return "equal"
        return "better" if self.low > 0 else "worse" if self.high < 0 else "unclear"


@dataclass(frozen=True)
class LabelChange:
    """A label's score on two sides; ``given`` counts the images that get the label, None where that is not known."""

    label: str
    positives: int
    reference_given: int | None
    given: int | None
    reference: float
    value: float
    change: Interval


@dataclass(frozen=True)
class Against:
    """One side against the reference; where labels cannot be compared one by one, ``why_no_labels`` says why."""

    side: Side
    differences: Sequence[Difference]
    winners: Sequence[LabelChange] = ()
    losers: Sequence[LabelChange] = ()
    changed_labels: int = 0
    why_no_labels: str = ""


@dataclass(frozen=True)
class ParamRow:
    """A param that differs; a value a side, None where it is unset, ``…`` where it is unknown."""

    key: str
    values: Sequence[str | None]


@dataclass(frozen=True)
class SideBySide:
    """The whole comparison; the first side is the reference, and scores are by its metric."""

    sides: Sequence[Side]
    board: Sequence[BoardRow]
    against: Sequence[Against]
    params: Sequence[ParamRow]
    notes: Sequence[str]

    @property
    def reference(self) -> Side:
        """The side that the others are compared with."""
        return self.sides[0]

    @property
    def no_params(self) -> str:
        """What to say when ``params`` is empty."""
        whole = all(side.whole for side in self.sides)
        return "no difference" if whole else "no difference in those that all sides have"

    @property
    def score_name(self) -> str:
        """What the leaderboard shows: ``F1``."""
        return family_name(self.reference.metric)

    @property
    def label_score_name(self) -> str:
        """What labels are compared by."""
        return self.reference.metric.name


def side_by_side(sides: Sequence[Side], *, labels: int = 5, notes: Sequence[str] = ()) -> SideBySide:
    """Compare sides with the first.

    Parameters
    ----------
    labels : int
        So many winners and so many losers among the labels, at most.
    notes : sequence of str
        Said before the sides' own.
    """
    reference = sides[0]
    said = [*notes, *(f"{side.name}: {note}" for side in sides for note in side.notes)]
    for side in sides[1:]:
        if side.metric != reference.metric:
            said.append(
                f"{side.name}: its rules were chosen for {side.metric.title}; "
                f"compared by {reference.name}'s, {reference.metric.title}"
            )
    against = [_against(reference, side, labels) for side in bar(sides[1:], desc="compare", unit="side")]
    return SideBySide(sides, list(_board(sides)), against, param_rows(sides), list(dict.fromkeys(said)))


def cross_fitted(side: Side, row: str, metric: Metric) -> float | None:
    """A row's cross-fitted score: as it was recorded, else from what was kept of it, else None."""
    recorded = side.rows[row].get(metric.cross_fitted)
    given = None if side.scored is None else side.scored.given(metric, row)
    if recorded is None and side.scored is not None and given is not None:
        return metric.score(side.scored.truth, given)
    return recorded


def param_rows(sides: Sequence[Side]) -> list[ParamRow]:
    """Params whose values differ between the sides that know them, by name.

    A model or stacker that a side has none of takes one row, with its backbone or kind, not one for each of its keys.
    """
    rows = []
    keys = {key for side in sides for key in side.params}
    for section in {_section(key) for key in keys} - {""}:
        within = {key for key in keys if _section(key) == section}
        if any(side.whole and not within & side.params.keys() for side in sides):
            rows.append(ParamRow(section, [_summary(side, section, within) for side in sides]))
            holders = [side for side in sides if within & side.params.keys()]
            keys -= {key for key in within if len({_value(side, key) for side in holders} - {_UNKNOWN}) == 1}
    for key in keys:
        values = [_value(side, key) for side in sides]
        if len(set(values) - {_UNKNOWN}) > 1:
            rows.append(ParamRow(key, values))
    return sorted(rows, key=lambda row: row.key)


def _value(side: Side, key: str) -> str | None:
    return side.params.get(key, None if side.whole else _UNKNOWN)


def _section(key: str) -> str:
    """``models.<name>`` or ``stackers.<name>`` of a param inside one, else empty."""
    parts = key.split(".")
    return ".".join(parts[:2]) if parts[0] in ("models", "second_round", "stackers") and len(parts) > 2 else ""


def _summary(side: Side, section: str, keys: set[str]) -> str | None:
    if not keys & side.params.keys():
        return None if side.whole else _UNKNOWN
    return side.params.get(f"{section}.backbone") or side.params.get(f"{section}.kind") or "set"


def same_data(a: Scored | None, b: Scored | None) -> bool | None:
    """Whether images, labels and truth are the same; None when a side has no label sets."""
    return None if a is None or b is None else a.digest == b.digest


def _board(sides: Sequence[Side]) -> Iterator[BoardRow]:
    metric = sides[0].metric
    for side in sides:
        for name in sorted(side.rows, key=lambda name: name != side.row):
            row = side.rows[name]
            scores = {each.key: cross_fitted(side, name, each) for each in metric.family}
            low, high = (row.get(f"{metric.cross_fitted}_{end}") for end in ("low", "high"))
            given = None if side.scored is None else side.scored.given(metric, name)
            if low is None and side.scored is not None and given is not None:
                _, low, high = bootstrap.interval(metric, side.scored.truth, given)
            test = row.get(f"test_{metric.key}")
            yield BoardRow(side.name, name, str(row["kind"]), scores, low, high, test, name == side.row)


def _against(reference: Side, side: Side, labels: int) -> Against:
    differences = list(_differences(reference, side))
    same = same_data(reference.scored, side.scored)
    if same is None:
        lacking = " and ".join(each.name for each in (reference, side) if each.scored is None)
        return Against(side, differences, why_no_labels=f"no label sets of {lacking}")
    if not same:
        return Against(side, differences, why_no_labels="other validation data")
    given = _given(reference, side, reference.metric)
    if given is None:
        wanted = reference.metric.wants.replace("_", " ")
        return Against(side, differences, why_no_labels=f"no {wanted} of both")
    changes = _label_changes(reference, side, *given, labels)
    if changes is None:
        return Against(side, differences, why_no_labels=f"{reference.metric.title} has no score of one label")
    return Against(side, differences, *changes)


def _differences(reference: Side, side: Side) -> Iterator[Difference]:
    """The cross-fitted scores, the primary one first; then plain ones that both have."""
    primary = reference.metric
    ordered = sorted(primary.family, key=lambda metric: metric != primary)
    same = same_data(reference.scored, side.scored)
    basis: Basis = "other data" if same is False else "plain"
    for metric in ordered:
        name = f"{metric.title}, cross-fitted"
        if same and (given := _given(reference, side, metric)):
            truth, first, second = given
            scores = [metric.score(truth, values) for values in (first, second)]
            found = bootstrap.paired(metric, truth, second, first)
            yield Difference(name, scores[0], scores[1], *found, "paired")
            continue
        a, b = (cross_fitted(each, each.row, metric) for each in (reference, side))
        if a is not None and b is not None:
            yield Difference(name, a, b, _rounded(b - a), None, None, basis)
    plain = {f"{metric.title} on test": f"test_{metric.key}" for metric in ordered}
    plain[f"{primary.title} at the fixed threshold"] = f"{primary.key}_at_fixed"
    if primary.key != "mean_average_precision":
        plain["mean average precision"] = "mean_average_precision"
    for name, key in plain.items():
        a, b = reference.rows[reference.row].get(key), side.rows[side.row].get(key)
        if a is not None and b is not None:
            yield Difference(name, a, b, _rounded(b - a), None, None, basis)


def _rounded(difference: float) -> float:
    """To the six digits that recorded scores have, and no minus before 0."""
    return round(difference, 6) + 0.0


def _given(reference: Side, side: Side, metric: Metric) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Truth and what a metric wants of both sides, in the reference's order; None where one did not keep it."""
    assert reference.scored is not None  # the callers asked
    assert side.scored is not None
    ours = reference.scored.given(metric, reference.row)
    theirs = reference.scored.aligned(side.scored).given(metric, side.row)
    return None if ours is None or theirs is None else (reference.scored.truth, ours, theirs)


def _label_changes(
    reference: Side, side: Side, truth: np.ndarray, a: np.ndarray, b: np.ndarray, n: int
) -> tuple[list[LabelChange], list[LabelChange], int] | None:
    """Winners, losers (at most ``n`` each, the largest change first) and how many labels changed at all.

    None where the metric has no score of one label.
    """
    assert reference.scored is not None
    metric = reference.metric
    before, after = (metric.per_label(truth, given) for given in (a, b))
    if before is None or after is None:
        return None
    change, positives = after - before, truth.sum(axis=0)
    # ties: the label with more positives first
    up, down = (np.lexsort((-positives, -sign * change))[: min(n, (sign * change > 0).sum())] for sign in (1, -1))
    shown = np.concatenate([up, down])
    if not len(shown):
        return [], [], int(np.count_nonzero(change))
    intervals = bootstrap.paired_per_label(metric, truth[:, shown], b[:, shown], a[:, shown])
    names = {**side.labels, **reference.labels}
    counted = _given(reference, side, metric.decides)
    first, second = (None, None) if counted is None else (sets.sum(axis=0) for sets in counted[1:])
    rows = [
        LabelChange(
            label=names.get(int(reference.scored.label_id[i]), str(reference.scored.label_id[i])),
            positives=int(positives[i]),
            reference_given=None if first is None else int(first[i]),
            given=None if second is None else int(second[i]),
            reference=float(before[i]),
            value=float(after[i]),
            change=interval,
        )
        for i, interval in zip(shown, intervals, strict=True)
    ]
    return rows[: len(up)], rows[len(up) :], int(np.count_nonzero(change))
