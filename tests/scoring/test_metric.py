"""Metrics by what they promise: keys, families, resamples, hold-outs; ranking against scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from pydantic import ValidationError
from sklearn.metrics import average_precision_score

from labelstack.params.metric import METRICS, MetricSection
from labelstack.scoring import bootstrap
from labelstack.scoring.mean_average_precision import MeanAveragePrecision, average_precision
from labelstack.scoring.metric import (
    THRESHOLD_GRID,
    FMetric,
    Metric,
    chosen_for,
    family_name,
    found_holdout_column,
    holdout_column,
    holdout_score_name,
    metric_of,
    metric_of_key,
)
from labelstack.scoring.metrics import AVERAGES, f_beta

RANKING = metric_of(MetricSection(primary="mean_average_precision", beta=2))


class Exact(Metric):
    """The share of rows whose labels are all right: a mean over rows."""

    wants = "label_sets"

    def score(self, Y: NDArray[np.bool_], given: NDArray[Any]) -> float:
        return float(self.per_row(Y, given).mean())

    def per_row(self, Y: NDArray[np.bool_], given: NDArray[Any]) -> NDArray[np.float64]:
        return (given == Y).all(axis=1).astype(np.float64)


class Pooled(Metric):
    """A ratio of sums of counts, which is no mean over rows."""

    wants = "counts"

    def score(self, Y: NDArray[np.bool_], given: NDArray[Any]) -> float:
        hits, area = given.sum(axis=0)
        return float(hits / area)


class Looped(MeanAveragePrecision):
    """The ranking metric as one that knows no better way than resample after resample."""

    resampled = Metric.resampled
    resampled_per_label = Metric.resampled_per_label


def data(n: int = 60, n_labels: int = 7, seed: int = 0) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    Y = rng.random((n, n_labels)) < np.linspace(0.5, 0.02, n_labels)
    return Y, np.round(Y * 0.3 + rng.random(Y.shape) * 0.7, 2).astype(np.float32)  # rounded: with ties


@st.composite
def ranked(draw: st.DrawFn) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
    """Answers and scores of few values, so that ties and labels without positives are common."""
    shape = draw(array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9))
    Y = draw(arrays(np.bool_, shape, fill=st.just(False)))
    few = st.sampled_from(np.float32([0, 0.1, 0.25, 0.5, 0.9, 1]).tolist())
    return Y, draw(arrays(np.float32, shape, elements=few))


@settings(max_examples=150, deadline=None)
@given(ranked())
def test_average_precision_is_that_of_scikit_learn(made: tuple[NDArray[np.bool_], NDArray[np.float32]]) -> None:
    Y, P = made
    found, there = average_precision(Y, P), Y.any(axis=0)
    assert np.isnan(found[~there]).all()
    oracle = [average_precision_score(Y[:, j], P[:, j]) for j in np.flatnonzero(there)]
    np.testing.assert_allclose(found[there], oracle, atol=1e-12)
    assert RANKING.score(Y, P) == pytest.approx(np.mean(oracle) if oracle else 0)
    labels = RANKING.per_label(Y, P)
    assert labels is not None
    np.testing.assert_allclose(labels, np.where(there, found, 0))


def test_of_many_images_too() -> None:
    Y, P = data(3000, 40)
    assert RANKING.score(Y, P) == pytest.approx(average_precision_score(Y, P, average="macro"), abs=1e-12)


@pytest.mark.parametrize("metric", [RANKING, *(FMetric(average, 2) for average in AVERAGES)], ids=repr)
def test_resamples_are_the_plain_loop(metric: Metric) -> None:
    Y, P = data()
    a, b = (P, P[::-1]) if metric is RANKING else (P > 0.4, P > 0.6)
    picks = np.random.default_rng(3).integers(0, len(Y), size=(50, len(Y)))
    scores = [[metric.score(Y[rows], given[rows]) for rows in picks] for given in (a, b)]
    found = bootstrap.interval(metric, Y, a, seed=3, draws=50, level=0.9)
    assert found.score == metric.score(Y, a)
    assert found[1:] == pytest.approx(np.quantile(scores[0], [0.05, 0.95]), abs=1e-12)
    difference = bootstrap.paired(metric, Y, a, b, seed=3, draws=50, level=0.9)
    assert difference.score == metric.score(Y, a) - metric.score(Y, b)
    assert difference[1:] == pytest.approx(np.quantile(np.subtract(*scores), [0.05, 0.95]), abs=1e-12)
    labels = [[metric.per_label(Y[rows], given[rows]) for rows in picks] for given in (a, b)]
    low, high = np.quantile(np.subtract(*labels), [0.05, 0.95], axis=0)
    of_labels = bootstrap.paired_per_label(metric, Y, a, b, seed=3, draws=50, level=0.9)
    np.testing.assert_allclose([each.low for each in of_labels], low, atol=1e-12)
    np.testing.assert_allclose([each.high for each in of_labels], high, atol=1e-12)


def test_a_metric_that_says_nothing_of_resamples_gets_the_plain_loop() -> None:
    Y, P = data()
    looped = Looped(MetricSection(primary="mean_average_precision"))
    for ours, plain in zip(
        bootstrap.paired_per_label(RANKING, Y, P, P[::-1], draws=20),
        bootstrap.paired_per_label(looped, Y, P, P[::-1], draws=20),
        strict=True,
    ):
        assert ours == pytest.approx(plain, abs=1e-12)
    assert bootstrap.interval(looped, Y, P, draws=20) == pytest.approx(bootstrap.interval(RANKING, Y, P, draws=20))


def test_a_mean_over_rows_is_resampled_as_such() -> None:
    Y, P = data(80, 3)
    metric, given_ = Exact(MetricSection()), P > 0.45
    rows = metric.per_row(Y, given_)
    picks = np.random.default_rng(0).integers(0, 80, size=(60, 80))
    found = bootstrap.interval(metric, Y, given_, draws=60)
    assert found[1:] == pytest.approx(np.quantile(rows[picks].mean(axis=1), [0.025, 0.975]), abs=1e-12)
    with pytest.raises(ValueError, match="has no score of one label"):
        bootstrap.paired_per_label(metric, Y, given_, given_)


def test_counts_of_rows_are_pooled() -> None:
    rng = np.random.default_rng(0)
    counts = rng.integers(1, 9, size=(40, 2)).cumsum(axis=1)
    metric = Pooled(MetricSection())
    Y = np.ones((40, 3), bool)
    picks = np.random.default_rng(0).integers(0, 40, size=(30, 40))
    sums = counts[picks].sum(axis=1)
    found = bootstrap.interval(metric, Y, counts, draws=30)
    assert found.score == counts[:, 0].sum() / counts[:, 1].sum()
    assert found[1:] == pytest.approx(np.quantile(sums[:, 0] / sums[:, 1], [0.025, 0.975]))
    with pytest.raises(ValueError, match=r"given has shape \(39, 2\)"):
        bootstrap.interval(metric, Y, counts[1:])


@pytest.mark.parametrize(
    ("key", "metric"),
    [
        ("samples_f1_cross_fitted", FMetric()),
        ("macro_f0.5_cross_fitted_low", FMetric("macro", 0.5)),
        ("micro_f2", FMetric("micro", 2)),
        ("test_macro_f2_at_fixed", FMetric("macro", 2)),
        ("samples_f1e-05_in_sample", FMetric("samples", 1e-5)),
        ("holdout_micro_f0.5", FMetric("micro", 0.5)),
        ("holdout_f1", FMetric()),  # of the first histories
        ("mean_average_precision", metric_of(MetricSection(primary="mean_average_precision"))),
        ("test_mean_average_precision", metric_of(MetricSection(primary="mean_average_precision"))),
        ("weighted_f1_cross_fitted", None),
        ("samples_fx", None),
        ("micro_f-1", None),
        ("micro_f0", None),
        ("samples", None),
        ("", None),
    ],
)
def test_a_key_tells_its_metric(key: str, metric: Metric | None) -> None:
    assert metric_of_key(key) == metric


@pytest.mark.parametrize("primary", METRICS.own)
@pytest.mark.parametrize("beta", [1, 0.5, 2])
def test_every_metrics_own_keys_tell_it(primary: str, beta: float) -> None:
    metric = metric_of(MetricSection(primary=primary, beta=beta))
    scores = [f"{each.cross_fitted}{end}" for each in metric.family for end in ("", "_low")[: 1 + (each == metric)]]
    assert chosen_for(scores) == metric
    assert metric_of_key(metric.cross_fitted, scores) == metric
    column = holdout_column(metric)
    assert found_holdout_column(["loss", "holdout_loss", column, "holdout_threshold"]) == column
    assert holdout_score_name(column) == metric.title


def test_what_has_no_interval_was_chosen_for_nothing_known() -> None:
    assert chosen_for(["samples_f1_cross_fitted", "mean_average_precision"]) is None
    assert found_holdout_column(["loss", "holdout_loss", "holdout_threshold"]) is None
    assert holdout_score_name("holdout_of_another_world") == "of another world"


def test_families_and_what_decides_label_sets() -> None:
    assert [each.key for each in FMetric("macro", 2).family] == ["samples_f2", "micro_f2", "macro_f2"]
    assert FMetric("macro", 2).decides == FMetric("macro", 2).fits == FMetric("macro", 2)
    assert [each.key for each in RANKING.family] == ["mean_average_precision", "samples_f2"]
    assert RANKING.decides == FMetric("samples", 2)
    assert (family_name(FMetric()), family_name(RANKING)) == ("F1", "mAP, F2")
    exact = Exact(MetricSection())
    assert exact.decides == exact
    assert exact.fits == FMetric()


def test_what_a_holdout_measures() -> None:
    Y, P = data()
    assert RANKING.on_holdout(Y, P) == (RANKING.score(Y, P), None)
    score, threshold = FMetric("macro").on_holdout(Y, P)
    scores = [f_beta(Y, point <= P, average="macro") for point in THRESHOLD_GRID]
    assert (score, threshold) == (max(scores), THRESHOLD_GRID[int(np.argmax(scores))])
    assert RANKING.objective(Y)(P) == RANKING.score(Y, P)
    assert Exact(MetricSection()).objective(Y)(P) == Exact(MetricSection()).on_holdout(Y, P)[0]


def test_what_does_not_fit_is_named() -> None:
    Y, P = data(5, 3)
    with pytest.raises(ValueError, match=r"given has shape \(5, 2\)"):
        RANKING.checked(Y, P[:, :2])
    with pytest.raises(ValueError, match="given must be numbers without NaN"):
        RANKING.checked(Y, np.where(P > 0.5, np.nan, P))
    with pytest.raises(ValueError, match="average must be one of samples, micro, macro"):
        FMetric("weighted")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="beta must be above 0"):
        FMetric(beta=0)
    with pytest.raises(ValidationError, match="did you mean 'mean_average_precision'"):
        MetricSection(primary="mean_average_precison")
