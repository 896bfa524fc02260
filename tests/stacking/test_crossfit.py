"""Cross-fitted scores: no answer of the scored fold is used."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from labelstack.params.blend import BlendSection
from labelstack.params.metric import MetricSection
from labelstack.params.thresholds import ThresholdsSection
from labelstack.scoring.metrics import f_beta
from labelstack.stacking import (
    FoldPredictions,
    XGBoostStacker,
    assign_folds,
    cross_fit,
    fit_blend,
    fit_decision,
    out_of_fold,
    scores,
    strategy_scores,
)
from labelstack.stacking.deciding import thresholds

from .conftest import make_data

METRIC = MetricSection()
TUNED = ThresholdsSection(strategy="coordinate_ascent")
Noise = tuple[NDArray[np.bool_], NDArray[np.float32], NDArray[np.int64]]


@pytest.fixture(scope="module")
def noise() -> Noise:
    """Answers that the probabilities know nothing of: whatever tuning gains in sample is flattery."""
    rng = np.random.default_rng(0)
    Y = rng.random((100, 20)) < 0.2
    return Y, rng.random((100, 20)).astype(np.float32), assign_folds(Y, 4, 0)


def test_rules_come_from_the_other_folds(noise: Noise) -> None:
    Y, P, folds = noise
    found = cross_fit(P, Y, folds, metric=METRIC, thresholds=TUNED)
    for fold in range(4):
        rule = fit_decision(Y[folds != fold], P[folds != fold], TUNED, METRIC)
        np.testing.assert_array_equal(found.labels[folds == fold], rule.decide(P[folds == fold]))
    other = Y.copy()
    other[folds == 2] = ~other[folds == 2]
    again = cross_fit(P, other, folds, metric=METRIC, thresholds=TUNED)
    np.testing.assert_array_equal(again.labels[folds == 2], found.labels[folds == 2])


def test_scores_have_names_that_tell_flattery(noise: Noise) -> None:
    Y, P, folds = noise
    found = scores(Y, P, folds, METRIC, TUNED)
    names = [f"{a}_f1_{k}" for a in ("samples", "micro", "macro") for k in ("at_fixed", "cross_fitted", "in_sample")]
    assert list(found) == [*names, "samples_f1_cross_fitted_low", "samples_f1_cross_fitted_high"]
    assert found["samples_f1_at_fixed"] == f_beta(Y, thresholds.apply(P, 0.3), average="samples")
    tuned = thresholds.choose(Y, P, "coordinate_ascent")
    assert found["micro_f1_in_sample"] == f_beta(Y, thresholds.apply(P, tuned), average="micro")
    assert found["samples_f1_in_sample"] > found["samples_f1_cross_fitted"] + 0.03
    low, high = found["samples_f1_cross_fitted_low"], found["samples_f1_cross_fitted_high"]
    assert low < found["samples_f1_cross_fitted"] < high
    assert "macro_f2_cross_fitted" in scores(Y, P, folds, MetricSection(beta=2), TUNED)


def test_fixed_thresholds_score_the_same_everywhere(noise: Noise) -> None:
    Y, P, folds = noise
    found = scores(Y, P, folds, METRIC, ThresholdsSection(strategy="fixed", fixed=0.6))
    assert found["micro_f1_at_fixed"] == found["micro_f1_cross_fitted"] == found["micro_f1_in_sample"]


def test_blend_is_chosen_without_the_scored_fold(noise: Noise) -> None:
    Y, P, folds = noise
    good = np.clip(Y * 0.4 + P * 0.6, 0, 1).astype(np.float32)
    members = {"good": good, "noise": P}
    settings = BlendSection(step=0.1)
    found = fit_blend(members, Y, folds, blend_params=settings, metric=METRIC, thresholds=TUNED)
    assert found.probability.shape == found.cross_fitted.labels.shape == Y.shape
    assert found.weights["good"] > found.weights["noise"]
    alone = cross_fit(P, Y, folds, metric=METRIC, thresholds=TUNED).labels
    assert f_beta(Y, found.cross_fitted.labels, average="samples") > f_beta(Y, alone, average="samples")
    other = Y.copy()
    other[folds == 1] = ~other[folds == 1]
    again = fit_blend(members, other, folds, blend_params=settings, metric=METRIC, thresholds=TUNED).cross_fitted
    assert again.weights[1] == found.cross_fitted.weights[1]
    rows = folds == 1
    np.testing.assert_array_equal(again.probability[rows], found.cross_fitted.probability[rows])
    np.testing.assert_array_equal(again.labels[rows], found.cross_fitted.labels[rows])


def test_nested_members_are_chosen_and_scored_without_the_fold() -> None:
    cube, Y = make_data(90, 3, 4)
    folds = assign_folds(Y, 3, 0)

    def make() -> XGBoostStacker:
        return XGBoostStacker(features="own", n_estimators=4, max_depth=2, n_jobs=1)

    def labels(answers: NDArray[np.uint8]) -> NDArray[np.bool_]:
        member = out_of_fold(make, cube, answers, folds, nested=True).predictions
        members = {"trees": member, "model": cube[:, 0]}
        return fit_blend(members, answers, folds, thresholds=TUNED).cross_fitted.labels

    other = Y.copy()
    other[folds == 0] = 1 - other[folds == 0]
    np.testing.assert_array_equal(labels(Y)[folds == 0], labels(other)[folds == 0])


def test_new_images_weights_are_chosen_on_means_of_models() -> None:
    """A member whose single models are poor and whose mean is good gets the weight that new images warrant."""
    rng = np.random.default_rng(0)
    Y = rng.random((300, 5)) < 0.3
    folds = assign_folds(Y, 3, 0)
    poor = np.clip(0.2 * Y + rng.random(Y.shape) * 0.8, 0, 1).astype(np.float32)
    good = np.clip(0.5 * Y + rng.random(Y.shape) * 0.5, 0, 1).astype(np.float32)
    fair = np.clip(0.35 * Y + rng.random(Y.shape) * 0.65, 0, 1).astype(np.float32)
    nested = np.stack([np.where((folds == j)[:, None], good, poor) for j in range(3)])
    members = {"averaged": FoldPredictions(poor, nested), "fair": fair}
    found = fit_blend(members, Y, folds, thresholds=ThresholdsSection(strategy="global"))
    assert found.weights["averaged"] > found.weights["fair"]
    assert all(weights["averaged"] < weights["fair"] for weights in found.cross_fitted.weights)


def test_every_strategy_stands_beside_the_others(noise: Noise) -> None:
    Y, P, folds = noise
    good = np.clip(Y * 0.3 + P * 0.7, 0, 1).astype(np.float32)
    chosen = {"metric": METRIC, "thresholds": TUNED}
    found = fit_blend({"good": good}, Y, folds, **chosen)  # type: ignore[arg-type]
    table = strategy_scores({"good": good}, found.cross_fitted, Y, folds, **chosen)  # type: ignore[arg-type]
    assert {"fixed", "global", "per_label", "coordinate_ascent", "context", "expected_f"} <= set(table)
    assert table["fixed"]["gain"] == table["fixed"]["gain_low"] == table["fixed"]["gain_high"] == 0
    own = scores(Y, good, folds, METRIC, TUNED)
    assert table["coordinate_ascent"]["samples_f1"] == own["samples_f1_cross_fitted"]
    assert table["fixed"]["micro_f1"] == own["micro_f1_at_fixed"]
    for row in table.values():
        assert row["low"] <= row["samples_f1"] <= row["high"]
        assert row["gain_low"] <= row["gain"] <= row["gain_high"]


def test_auto_is_the_best_candidate_chosen_inside_the_folds(noise: Noise) -> None:
    Y, P, folds = noise
    good = np.clip(Y * 0.3 + P * 0.7, 0, 1).astype(np.float32)
    auto = ThresholdsSection(strategy="auto")
    found = cross_fit(good, Y, folds, metric=METRIC, thresholds=auto)
    other = Y.copy()
    other[folds == 3] = ~other[folds == 3]
    again = cross_fit(good, other, folds, metric=METRIC, thresholds=auto)
    assert again.decisions[3].strategy == found.decisions[3].strategy
    np.testing.assert_array_equal(again.labels[folds == 3], found.labels[folds == 3])


def test_bad_input_is_refused_by_name(noise: Noise) -> None:
    Y, P, folds = noise
    with pytest.raises(ValueError, match="folds must be integers"):
        scores(Y, P, folds[:-1], METRIC, TUNED)
    with pytest.raises(ValueError, match="Y has 99 images"):
        cross_fit(P, Y[1:], folds, metric=METRIC, thresholds=TUNED)
    with pytest.raises(ValueError, match="members is empty"):
        fit_blend({}, Y, folds)
    with pytest.raises(ValueError, match="members must have one shape"):
        fit_blend({"a": P, "b": P[:, :3]}, Y, folds)


def test_nested_predictions_of_other_folds_are_refused():
    rng = np.random.default_rng(0)
    P, Y = rng.random((30, 2)).astype(np.float32), rng.random((30, 2)) < 0.5
    folds = np.arange(30) % 5
    for k in (2, 3, 6):
        member = FoldPredictions(P, np.stack([P] * k))
        with pytest.raises(ValueError, match=r"nested must be \(5, 30, 2\)"):
            fit_blend({"stale": member}, Y, folds)
        with pytest.raises(ValueError, match="one for each fold of 5"):
            cross_fit(member, Y, folds)
