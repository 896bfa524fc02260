"""FashionAI's scores as what is optimised: counts of rows, bootstrap within label groups, families and keys."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from labelstack.params.metric import ATTRIBUTE_METRICS, MetricSection
from labelstack.scoring import bootstrap
from labelstack.scoring.attribute_metric import SCORES, AttributeMetric
from labelstack.scoring.attribute_precision import AttributePrecision, letters_of
from labelstack.scoring.attribute_rows import AttributeRows, LabelGroups
from labelstack.scoring.metric import metric_of, metric_of_key

GROUP = ("a", "a", "a", "b", "b")


def rows(n: int = 90, seed: int = 0) -> tuple[NDArray[np.bool_], NDArray[np.float32], AttributeRows]:
    """Answers, probabilities with ties, and what the rows know."""
    rng = np.random.default_rng(seed)
    known = rng.choice(["a", "b"], n, p=[0.7, 0.3])
    Y = np.zeros((n, 5), bool)
    first, size = np.where(known == "a", 0, 3), np.where(known == "a", 3, 2)
    Y[np.arange(n), first + rng.integers(0, size)] = True
    maybe = (rng.random(Y.shape) < 0.1) & ~Y & (known[:, None] == np.array(GROUP))
    P = np.round(0.2 * Y + 0.8 * rng.random(Y.shape), 1).astype(np.float32)
    return Y, P, AttributeRows.of(GROUP, known, maybe)


def metric(name: str = "attribute_map") -> AttributeMetric:
    found = metric_of(MetricSection(primary=name))
    assert isinstance(found, AttributeMetric)
    return found


@pytest.mark.parametrize("name", ATTRIBUTE_METRICS)
def test_the_metric_of_counts_is_the_score_of_rows(name: str) -> None:
    Y, P, asked = rows()
    judge = metric(name)
    whole = AttributePrecision(letters_of(Y, asked.maybe), P, asked.known, GROUP).score(SCORES[name][0])
    counts = judge.counts(Y, P, asked)
    assert judge.score(Y, counts) == pytest.approx(whole, abs=1e-12)
    assert judge.resampled(Y, counts)(np.ones((2, len(Y)), np.float32)) == pytest.approx([whole] * 2, abs=1e-6)
    shuffled = np.random.default_rng(1).permutation(len(Y))
    assert judge.score(Y[shuffled], counts[shuffled]) == pytest.approx(whole, abs=0.03)  # ties may fall otherwise
    assert judge.on_holdout(Y, P, asked) == (pytest.approx(whole), None)
    assert judge.objective(Y, asked=asked)(P) == pytest.approx(whole)


def test_a_resample_is_scored_as_rows_that_occur_so_often() -> None:
    Y, P, asked = rows()
    judge = metric()
    counts = judge.counts(Y, P, asked)
    times = np.random.default_rng(2).integers(0, 3, (4, len(Y)))
    expected = []
    for drawn in times:
        picked = np.repeat(np.arange(len(Y)), drawn)
        expected.append(judge.score(Y[picked], counts[picked]))
    assert judge.resampled(Y, counts)(times.astype(np.float32)) == pytest.approx(expected, abs=1e-5)


def test_rows_are_resampled_within_their_group() -> None:
    Y, P, asked = rows()
    judge = metric()
    counts = judge.counts(Y, P, asked)
    drawn = np.concatenate(list(bootstrap._weights(len(Y), 50, 0, judge.strata(counts))))
    for name in ("a", "b"):
        assert (drawn[:, asked.known == name].sum(axis=1) == (asked.known == name).sum()).all()
    found = bootstrap.interval(judge, Y, counts, draws=200)
    assert found.low < found.score < found.high
    other = judge.counts(Y, np.clip(P + 0.5 * Y, 0, 1), asked)
    gain = bootstrap.paired(judge, Y, other, counts, draws=200)
    assert 0 <= gain.low <= gain.score <= gain.high
    assert gain.score == pytest.approx(judge.score(Y, other) - judge.score(Y, counts))


def test_keys_and_family() -> None:
    judge = metric()
    assert judge.cross_fitted == "attribute_map_cross_fitted"
    assert metric_of_key("test_attribute_map") == judge
    assert [each.key for each in judge.family] == ["attribute_map", "basic_precision", "samples_f1"]
    assert [each.key for each in metric("basic_precision").family] == ["basic_precision", "samples_f1"]
    assert judge.wants == "counts"


def test_rows_that_know_all_labels_are_refused() -> None:
    Y, P, _ = rows()
    with pytest.raises(ValueError, match="one label group each"):
        metric().counts(Y, P, None)
    with pytest.raises(ValueError, match="is scored from counts"):
        metric().given(Y, None, None, None)
    with pytest.raises(ValueError, match="no label is of group c"):
        AttributeRows.of(GROUP, ["c"])


def test_a_group_in_which_all_values_may_be_true_has_no_score() -> None:
    judge = metric()
    asked = AttributeRows.of(GROUP, ["b"], np.array([[False, False, False, False, True]]))
    Y = np.array([[False, False, False, True, False]])
    assert judge.score(Y, judge.counts(Y, np.float32([[0, 0, 0, 0.2, 0.8]]), asked)) == 0


def test_what_a_row_knows_is_divided_by_its_sum() -> None:
    asked = AttributeRows.of(GROUP, ["a", "b", "b"])
    P: Any = np.float32([[0.1, 0.1, 0.2, 0.5, 0.1], [0.9, 0, 0, 0.1, 0.3], [0.3, 0.3, 0.4, 0, 0]])
    P[0, 3:] = np.nan
    expected = [[0.25, 0.25, 0.5, 0, 0], [0, 0, 0, 0.25, 0.75], [0, 0, 0, 0.5, 0.5]]
    np.testing.assert_allclose(asked.within(P), expected, rtol=1e-6)
    np.testing.assert_allclose(asked.within(np.stack([P, P]))[1], expected, rtol=1e-6)
    np.testing.assert_allclose(asked.where(np.array([False, True, True])).within(P[1:]), expected[1:], rtol=1e-6)


def test_label_groups_find_the_group_of_each_row_and_equal_parts() -> None:
    groups = LabelGroups(GROUP)
    assert groups.names == ("a", "b")
    assert groups.known([[0, 1, 0, 0, 0], [0, 0, 0.2, 0.8, 0]]).tolist() == ["a", "b"]
    with pytest.raises(ValueError, match="row 1 has no label"):
        groups.known([[0, 1, 0, 0, 0], [0] * 5])
    P = np.float32([[0.2, 0.2, 0.4, np.nan, np.nan], [0, 0, 0, 0.5, 0.5]])
    np.testing.assert_allclose(groups.equal_parts(P), [[0.125, 0.125, 0.25, 0, 0], [0, 0, 0, 0.25, 0.25]])
    with pytest.raises(ValueError, match=r"label group b: expected numbers or NaN, found both at \[0\]"):
        groups.equal_parts(np.float32([[0.2, 0.2, 0.4, np.nan, 0.1]]))
