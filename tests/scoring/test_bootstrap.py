"""Bootstrap intervals against a plain loop over resampled rows, and how often they hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from labelstack.scoring import bootstrap, f_resampling, metrics
from labelstack.scoring.bootstrap import Interval, interval, paired
from labelstack.scoring.metric import FMetric

AVERAGES = metrics.AVERAGES


def answers(n: int, n_labels: int, seed: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """True labels and two that are wrong here and there, the second more often."""
    rng = np.random.default_rng(seed)
    true = rng.random((n, n_labels)) < np.linspace(0.6, 0.02, n_labels)
    return true, true ^ (rng.random(true.shape) < 0.08), true ^ (rng.random(true.shape) < 0.15)


def resamples(n: int, draws: int, seed: int) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, n, size=(draws, n))


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("beta", [1.0, 2.0])
def test_it_is_the_plain_loop_over_resampled_rows(average, beta):
    true, a, b = answers(57, 9, seed=3)
    scores = [
        [metrics.f_beta(true[rows], labels[rows], average=average, beta=beta) for rows in resamples(57, 80, seed=5)]
        for labels in (a, b)
    ]
    metric, options = FMetric(average, beta), {"seed": 5, "draws": 80, "level": 0.9}
    found = interval(metric, true, a, **options)
    assert found.score == metrics.f_beta(true, a, average=average, beta=beta)
    assert np.allclose(found[1:], np.quantile(scores[0], [0.05, 0.95]), atol=1e-12)
    difference = paired(metric, true, a, b, **options)
    assert difference.score == pytest.approx(found.score - interval(metric, true, b, **options).score)
    assert np.allclose(difference[1:], np.quantile(np.subtract(*scores), [0.05, 0.95]), atol=1e-12)


@pytest.mark.parametrize("average", AVERAGES)
def test_chunks_change_nothing(average, monkeypatch):
    true, a, b = answers(41, 7, seed=1)
    whole = [interval(FMetric(average), true, a, draws=60), paired(FMetric(average), true, a, b, draws=60)]
    monkeypatch.setattr(f_resampling, "_CHUNK_BYTES", 8 * 41 * 7)
    monkeypatch.setattr(bootstrap, "_CHUNK_BYTES", 8 * 41 * 7)  # seven resamples, then two labels at a time
    assert [interval(FMetric(average), true, a, draws=60), paired(FMetric(average), true, a, b, draws=60)] == whole
    monkeypatch.setattr(bootstrap, "_CHUNK_BYTES", 1)
    monkeypatch.setattr(f_resampling, "_CHUNK_BYTES", 1)
    assert interval(FMetric(average), true, a, draws=60) == whole[0]


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    """The F of a large population, by intervals of small samples from it."""
    rng = np.random.default_rng(0)
    true, given_, _ = answers(200_000, 6, seed=8)
    truth = {average: metrics.f_beta(true, given_, average=average) for average in ("samples", "micro")}
    held = dict.fromkeys(truth, 0)
    for trial in range(150):
        rows = rng.integers(0, len(true), 150)
        for average in truth:
            found = interval(FMetric(average), true[rows], given_[rows], draws=300, level=0.9, seed=trial)
            held[average] += found.low <= truth[average] <= found.high
    for average, count in held.items():
        assert 0.82 <= count / 150 <= 0.97, average  # 0.9 with three standard errors of 0.025


@pytest.mark.parametrize("average", AVERAGES)
def test_pairing_tells_small_differences_from_none(average):
    true, a, _ = answers(400, 8, seed=2)
    better = a.copy()
    better[:60] = true[:60]
    gain = paired(FMetric(average), true, better, a)
    alone = interval(FMetric(average), true, better)
    assert 0 < gain.low <= gain.score <= gain.high
    assert gain.high - gain.low < alone.high - alone.low
    assert paired(FMetric(average), true, a, a) == Interval(0, 0, 0)
    swapped = paired(FMetric(average), true, a, better)
    assert swapped == pytest.approx([-gain.score, -gain.high, -gain.low])


def test_equal_seeds_give_equal_intervals_and_others_do_not():
    true, a, _ = answers(60, 5, seed=4)
    first = interval(FMetric("samples"), true, a, seed=1)
    assert interval(FMetric(), true.astype(int), a.astype(np.float32), seed=1) == first
    assert interval(FMetric("samples"), true, a, seed=2) != first
    narrow = interval(FMetric("samples"), true, a, seed=1, level=0.5)
    assert first.low < narrow.low < narrow.high < first.high


matrix = array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=6).flatmap(
    lambda shape: st.tuples(*[arrays(np.uint8, shape, elements=st.integers(0, 1), fill=st.just(0))] * 2)
)


@settings(max_examples=60, deadline=None)
@given(matrix, st.sampled_from(AVERAGES))
def test_degenerate_answers_stay_in_bounds(pair, average):
    true, labels = pair
    found = interval(FMetric(average), true, labels, draws=25)
    assert found.score == metrics.f_beta(true, labels, average=average)
    assert 0 <= found.low <= found.high <= 1
    if len(true) == 1 or not true.any() or not labels.any():
        assert found.low == found.high == found.score


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"given": np.zeros((3, 3))}, "given has shape"),
        ({"given": np.full((3, 2), 0.4)}, "given must hold only 0 and 1"),
        ({"Y": np.full((3, 2), np.nan)}, "Y must hold only 0 and 1"),
        ({"draws": 0}, "draws must be at least 1"),
        ({"level": 1}, "level between 0 and 1"),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    arguments = {"Y": np.eye(3, 2), "given": np.eye(3, 2)} | change
    with pytest.raises(ValueError, match=message):
        interval(FMetric(), arguments.pop("Y"), arguments.pop("given"), **arguments)
    with pytest.raises(ValueError, match="b has shape"):
        paired(FMetric(), np.eye(3, 2), np.eye(3, 2), np.eye(4, 2))
