"""What a comparison says, against numbers computed by hand, by scikit-learn and by the bootstrap itself."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, f1_score, fbeta_score

from labelstack.params.metric import MetricSection
from labelstack.report.comparison import Side, param_rows, side_by_side
from labelstack.scoring import bootstrap
from labelstack.scoring.metric import FMetric, metric_of
from labelstack.scoring.scored import Scored
from report.sides import IMAGES, LABELS, TRUTH, large, made_up, scored, side

ALL_RIGHT = TRUTH.copy()
ONE_WRONG = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 0]], bool)  # image 3 is called a shoe, not a hat


def test_differences_by_hand() -> None:
    (against,) = side_by_side([side("a", ALL_RIGHT), side("b", ONE_WRONG)]).against
    samples, micro, macro = against.differences
    assert [row.metric for row in against.differences] == [
        "samples F1, cross-fitted", "micro F1, cross-fitted", "macro F1, cross-fitted",
    ]  # fmt: skip
    assert (samples.reference, samples.value, samples.difference) == (1, 0.75, -0.25)  # one image of four has 0
    assert micro.difference == pytest.approx(-0.2)  # 4 hits, 5 true, 5 given: 8/10
    assert macro.difference == pytest.approx(-(0 + 0.2 + 1) / 3)  # shoe 4/5, hat 0
    assert {row.basis for row in against.differences} == {"paired"}


@pytest.mark.parametrize("average", ["samples", "micro", "macro"])
def test_intervals_are_those_of_the_paired_bootstrap(average: str) -> None:
    a, b = large("a", 1, metric=FMetric(average)), large("b", 4)
    assert a.scored is not None
    assert b.scored is not None
    first = side_by_side([a, b]).against[0].differences[0]
    found = bootstrap.paired(FMetric(average), a.scored.truth, b.scored.chosen["blend"], a.scored.chosen["blend"])
    assert (first.metric, first.difference, first.low, first.high) == (f"{average} F1, cross-fitted", *found)
    assert first.verdict == "worse"
    oracle = [f1_score(each.scored.truth, each.scored.chosen["blend"], average=average) for each in (a, b)]
    assert (first.reference, first.value) == pytest.approx(oracle)
    turned = side_by_side([dataclasses.replace(b, metric=FMetric(average)), a]).against[0].differences[0]
    assert turned.verdict == "better"
    assert (turned.difference, turned.low, turned.high) == pytest.approx((-found.score, -found.high, -found.low))


def test_rows_in_another_order_are_the_same_data() -> None:
    turned = Scored(IMAGES[::-1], LABELS[[2, 0, 1]], TRUTH[::-1][:, [2, 0, 1]],
                    {"blend": ALL_RIGHT[::-1][:, [2, 0, 1]]})  # fmt: skip
    (against,) = side_by_side([side("a", ALL_RIGHT), side("b", turned)]).against
    assert [row.verdict for row in against.differences] == ["equal"] * 3
    assert against.changed_labels == 0
    assert (against.winners, against.losers) == ([], [])


def test_winners_and_losers_by_hand() -> None:
    before = np.array([[1, 0, 0], [1, 0, 0], [0, 0, 0], [0, 0, 1]], bool)  # coat 1, shoe 0, hat 1
    after = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 0]], bool)  # coat 1, shoe 4/5, hat 0
    (against,) = side_by_side([side("a", before), side("b", after)]).against
    (won,), (lost,) = against.winners, against.losers
    assert (won.label, won.positives, won.reference_given, won.given) == ("shoe", 2, 0, 3)
    assert (won.reference, won.value, won.change.score) == pytest.approx((0, 0.8, 0.8))
    assert (lost.label, lost.positives, lost.reference, lost.value, lost.change.score) == ("hat", 1, 1, 0, -1)
    assert against.changed_labels == 2
    assert won.change.low >= 0
    assert lost.change.high <= 0


def test_the_largest_changes_come_first_and_no_more_than_asked() -> None:
    (against,) = side_by_side([large("a", 1), large("b", 2)], labels=4).against
    for rows, sign in ((against.winners, 1), (against.losers, -1)):
        changes = [sign * row.change.score for row in rows]
        assert len(changes) == 4
        assert changes == sorted(changes, reverse=True)
        assert min(changes) > 0
    none = side_by_side([large("a", 1), large("b", 2)], labels=0).against[0]
    assert (none.winners, none.losers) == ([], [])
    assert none.changed_labels == against.changed_labels > 8


def test_intervals_of_labels_are_those_of_each_label_alone() -> None:
    a, b = large("a", 1).scored, large("b", 2).scored
    assert a is not None
    assert b is not None
    found = bootstrap.paired_per_label(FMetric(beta=2), a.truth, b.chosen["blend"], a.chosen["blend"])
    for j in (0, 17, 39):
        column = slice(j, j + 1)
        alone = bootstrap.paired(
            FMetric("macro", 2), a.truth[:, column], b.chosen["blend"][:, column], a.chosen["blend"][:, column]
        )
        assert found[j] == pytest.approx(alone, abs=1e-12)
    mean = bootstrap.paired(FMetric("macro", 2), a.truth, b.chosen["blend"], a.chosen["blend"]).score
    assert np.mean([row.score for row in found]) == pytest.approx(mean)


def test_other_data_is_said_and_gets_no_interval() -> None:
    a = side("a", ALL_RIGHT)
    elsewhere = dataclasses.replace(scored(*ONE_WRONG.tolist()), image_id=IMAGES + 1)
    (against,) = side_by_side([a, side("b", elsewhere)]).against
    assert {(row.basis, row.low, row.high, row.verdict) for row in against.differences} == {
        ("other data", None, None, "")
    }
    assert against.differences[0].difference == -0.25
    assert against.why_no_labels == "other validation data"


def test_sides_without_label_sets_get_plain_differences() -> None:
    recorded = {"kind": "blend", "samples_f1_cross_fitted": 0.5, "test_samples_f1": 0.4, "mean_average_precision": 0.3}
    bare = side("bare", rows={"blend": recorded})
    (against,) = side_by_side([side("a", ALL_RIGHT), bare]).against
    assert [(row.metric, row.difference, row.basis) for row in against.differences] == [
        ("samples F1, cross-fitted", -0.5, "plain")
    ]
    assert against.why_no_labels == "no label sets of bare"
    other = side("other", rows={"blend": recorded | {"test_samples_f1": 0.45, "samples_f1_cross_fitted": 0.5 + 1e-9}})
    rows = {row.metric: row.difference for row in side_by_side([bare, other]).against[0].differences}
    assert rows == {"samples F1, cross-fitted": 0, "samples F1 on test": 0.05, "mean average precision": 0}
    assert str(rows["samples F1, cross-fitted"]) == "0.0"


def test_the_references_metric_rules() -> None:
    a = large("a", 1, metric=FMetric("macro", 2))
    b = large("b", 2)
    assert b.scored is not None
    found = side_by_side([a, b])
    assert found.score_name == "F2"
    assert found.against[0].differences[0].metric == "macro F2, cross-fitted"
    expected = fbeta_score(b.scored.truth, b.scored.chosen["blend"], beta=2, average="macro")
    assert found.against[0].differences[0].value == pytest.approx(expected)
    (row,) = [row for row in found.board if row.side == "b" and row.shown_first]
    assert row.scores["macro_f2"] == pytest.approx(expected)
    assert row.low is not None
    assert row.low < expected
    assert found.notes == ["b: its rules were chosen for samples F1; compared by a's, macro F2"]


def test_leaderboard_has_the_compared_row_first_and_recorded_intervals() -> None:
    a = large("a", 1)
    recorded = {**a.rows["cnn"], "samples_f1_cross_fitted_low": 0.1, "samples_f1_cross_fitted_high": 0.9}
    a = dataclasses.replace(a, rows={**a.rows, "cnn": recorded})
    board = side_by_side([a, large("b", 2, row="wide")]).board
    assert [(row.side, row.row, row.shown_first) for row in board] == [
        ("a", "blend", True), ("a", "wide", False), ("a", "cnn", False),
        ("b", "wide", True), ("b", "cnn", False), ("b", "blend", False),
    ]  # fmt: skip
    assert (board[2].low, board[2].high) == (0.1, 0.9)
    assert a.scored is not None
    expected = bootstrap.interval(FMetric(), a.scored.truth, a.scored.chosen["blend"])
    assert (board[0].low, board[0].high) == expected[1:]
    assert board[0].test == pytest.approx(board[0].scores["samples_f1"] - 0.01)


def test_only_params_that_differ_are_shown_and_unknown_is_not_unset() -> None:
    a = side("a", params={"seed": "1", "blend.step": "0.1", "folds.k": "5", "old": "x"})
    b = side("b", params={"seed": "1", "blend.step": "0.2", "folds.k": "5"})
    run = side("run", params={"blend.step": "0.2", "folds.k": "5"}, whole=False)
    assert [(row.key, row.values) for row in param_rows([a, b, run])] == [
        ("blend.step", ["0.1", "0.2", "0.2"]),
        ("old", ["x", None, "…"]),
    ]
    assert param_rows([b, run]) == []
    assert side_by_side([b, run]).no_params == "no difference in those that all sides have"


def test_a_model_that_one_side_lacks_takes_one_row() -> None:
    models = {"models.wide.backbone": "small_cnn", "models.wide.epochs": "5", "stackers.x.kind": "ridge"}
    a, b = side("a", params=models), side("b", params={**models, "models.wide.epochs": "6"})
    run = side("run", params={"models.wide.epochs": "5"}, whole=False)
    none = side("none", params={})
    assert [(row.key, row.values) for row in param_rows([a, none])] == [
        ("models.wide", ["small_cnn", None]),
        ("stackers.x", ["ridge", None]),
    ]
    assert [(row.key, row.values) for row in param_rows([a, b, none, run])] == [
        ("models.wide", ["small_cnn", "small_cnn", None, "set"]),
        ("models.wide.epochs", ["5", "6", None, "5"]),
        ("stackers.x", ["ridge", "ridge", None, "…"]),
    ]


def test_notes_name_their_side_and_come_once() -> None:
    sides = [side("a", ALL_RIGHT, notes=["old"]), side("a", ALL_RIGHT, notes=["old"])]
    assert side_by_side(sides, notes=["first"]).notes == ["first", "a: old"]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**12 - 1), st.integers(0, 2**12 - 1))
def test_winners_and_losers_change_places_with_the_sides(first: int, second: int) -> None:
    answers = [np.array([bits >> i & 1 for i in range(12)], bool).reshape(4, 3) for bits in (first, second)]
    a, b = side("a", answers[0]), side("b", answers[1])
    there, back = side_by_side([a, b]).against[0], side_by_side([b, a]).against[0]
    assert [row.label for row in there.winners] == [row.label for row in back.losers]
    assert [row.label for row in there.losers] == [row.label for row in back.winners]
    assert there.changed_labels == back.changed_labels


def test_equal_input_gives_equal_results() -> None:
    assert made_up().against[0].differences == made_up().against[0].differences


RANKING = metric_of(MetricSection(primary="mean_average_precision"))


def ranked(name: str, seed: int, **changes: Any) -> Side:
    """A side chosen for rankings, with the probabilities of its blend."""
    made = large(name, seed, metric=RANKING, **changes)
    assert made.scored is not None
    noise = np.random.default_rng(seed).random(made.scored.truth.shape)
    P = (made.scored.truth * 0.3 + noise * (0.5 + seed / 10)).astype(np.float32)
    return dataclasses.replace(made, scored=dataclasses.replace(made.scored, probability={"blend": P}))


def test_sides_are_compared_by_rankings() -> None:
    a, b = ranked("a", 1), ranked("b", 3)
    assert a.scored is not None
    assert b.scored is not None
    found = side_by_side([a, b])
    first, second = found.against[0].differences[:2]
    pair = [each.scored.probability["blend"] for each in (a, b)]
    expected = bootstrap.paired(RANKING, a.scored.truth, pair[1], pair[0])
    assert (first.metric, first.difference, first.low, first.high) == (
        "mean average precision, cross-fitted",
        *expected,
    )
    assert (first.basis, first.verdict) == ("paired", "worse")
    oracle = [average_precision_score(a.scored.truth, P, average="macro") for P in pair]
    assert (first.reference, first.value) == pytest.approx(oracle)
    assert (second.metric, second.basis) == ("samples F1, cross-fitted", "paired")
    assert found.score_name == "mAP, F1"
    board = [row for row in found.board if row.shown_first]
    assert [row.scores["mean_average_precision"] for row in board] == pytest.approx(oracle)
    assert [row.scores["mean_average_precision"] for row in found.board if not row.shown_first] == [None] * 4


def test_labels_are_compared_by_their_own_ranking() -> None:
    a, b = ranked("a", 1), ranked("b", 3)
    assert a.scored is not None
    assert b.scored is not None
    (against,) = side_by_side([a, b], labels=3).against
    lost = against.losers[0]
    j = next(label for label, name in a.labels.items() if name == lost.label)
    pair = [each.scored.probability["blend"][:, j] for each in (a, b)]
    assert (lost.reference, lost.value) == pytest.approx(
        [average_precision_score(a.scored.truth[:, j], P) for P in pair]
    )
    assert (lost.positives, lost.given) == (a.scored.truth[:, j].sum(), b.scored.chosen["blend"][:, j].sum())
    assert lost.change.score == pytest.approx(lost.value - lost.reference)


def test_a_side_without_rankings_is_compared_by_what_it_has() -> None:
    recorded = large("b", 2)
    rows = {**recorded.rows, "blend": {**recorded.rows["blend"], "mean_average_precision_cross_fitted": 0.5}}
    (against,) = side_by_side([ranked("a", 1), dataclasses.replace(recorded, rows=rows)]).against
    first, second = against.differences[:2]
    assert (first.metric, first.basis, first.low) == ("mean average precision, cross-fitted", "plain", None)
    assert (second.metric, second.basis) == ("samples F1, cross-fitted", "paired")
    assert against.why_no_labels == "no rankings of both"
    said = side_by_side([ranked("a", 1), recorded]).notes
    assert said == ["b: its rules were chosen for samples F1; compared by a's, mean average precision"]
