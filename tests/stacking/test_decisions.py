"""Decision rules: what each decides, how they are chosen, and that JSON keeps them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from labelstack.params.metric import MetricSection
from labelstack.params.thresholds import Strategy, ThresholdsSection
from labelstack.scoring.metrics import AVERAGES, Average, f_beta
from labelstack.stacking.deciding import thresholds
from labelstack.stacking.deciding.context import apply_context, best_context
from labelstack.stacking.deciding.decisions import STRATEGIES, Decision, cross_fitted, fit_decision

Rows = tuple[NDArray[np.bool_], NDArray[np.float32]]


def rows(n: int, n_labels: int, seed: int = 0, noise: float = 1.0) -> Rows:
    """Calibrated probabilities, and answers drawn from them."""
    rng = np.random.default_rng(seed)
    P = 1 / (1 + np.exp(-rng.normal(-1.5, 1.5 / noise, (n, n_labels))))
    return rng.random(P.shape) < P, P.astype(np.float32)


def one_label_each(n: int, n_labels: int, seed: int = 0) -> Rows:
    """Exactly one label on each image; the classifiers of the labels do not know that."""
    rng = np.random.default_rng(seed)
    Y = np.eye(n_labels, dtype=bool)[rng.integers(0, n_labels, n)]
    score = 2.0 * Y + rng.normal(0, 1.5, Y.shape) - 2
    return Y, (1 / (1 + np.exp(-score))).astype(np.float32)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("calibration", ["none", "platt", "isotonic", "beta"])
def test_json_keeps_the_rule(strategy: Strategy, calibration: str) -> None:
    Y, P = rows(80, 4)
    chosen = ThresholdsSection(strategy=strategy, calibration=calibration, at_least_one=True)  # type: ignore[arg-type]
    rule = fit_decision(Y, P, chosen, groups=["a", "a", "b", "b"])
    again = Decision.from_dict(json.loads(json.dumps(rule.to_dict())))
    assert again.to_dict() == rule.to_dict()
    new = rows(500, 4, seed=1)[1]
    np.testing.assert_array_equal(again.decide(new), rule.decide(new))
    assert rule.strategy == strategy
    assert rule.decide(new).any(axis=1).all()
    assert (rule.thresholds is None) == (strategy in ("context", "expected_f", "top_share", "group_limits"))
    if rule.thresholds is not None:
        assert again.thresholds is not None
        np.testing.assert_array_equal(again.thresholds, rule.thresholds)


def test_thresholds_are_those_of_choose() -> None:
    Y, P = rows(120, 5)
    plain = ThresholdsSection(calibration="none")
    for strategy in ("fixed", "global", "per_label", "coordinate_ascent"):
        rule = fit_decision(Y, P, plain, MetricSection(primary="micro"), strategy=strategy)
        wanted = thresholds.choose(Y, P, strategy, metric="micro")  # type: ignore[arg-type]
        assert rule.thresholds is not None
        np.testing.assert_array_equal(rule.thresholds, wanted)
        np.testing.assert_array_equal(rule.decide(P), wanted <= P)


def test_the_fixed_threshold_means_the_probabilities_as_they_are() -> None:
    Y, P = rows(100, 3)
    P = P**2
    rule = fit_decision(Y, P, ThresholdsSection(strategy="fixed", fixed=0.25, calibration="platt"))
    np.testing.assert_array_equal(rule.decide(P), np.float32(0.25) <= P)


def test_an_image_without_a_label_gets_its_most_probable_one() -> None:
    Y, P = rows(40, 3)
    P[0] = [0.01, 0.03, 0.02]
    rule = fit_decision(Y, P, ThresholdsSection(strategy="fixed", fixed=0.9, at_least_one=True))
    assert rule.decide(P[:1]).tolist() == [[False, True, False]]
    never = fit_decision(Y, P, ThresholdsSection(strategy="fixed", fixed=0.9))
    assert not never.decide(P[:1]).any()


def test_expected_f_uses_that_images_have_one_label() -> None:
    Y, P = one_label_each(600, 5)
    new_Y, new_P = one_label_each(2000, 5, seed=1)
    scores = {
        name: f_beta(new_Y, fit_decision(Y, P, strategy=name).decide(new_P), average="samples")
        for name in ("global", "context", "expected_f")
    }
    assert scores["expected_f"] > scores["global"] + 0.02
    assert scores["context"] > scores["global"]
    rule = fit_decision(Y, P, strategy="expected_f")
    assert rule.log_weights is not None
    assert rule.log_weights[0] < -1
    assert rule.log_weights[2] < -1


def test_raw_probabilities_are_calibrated_before_decoding() -> None:
    Y, P = rows(800, 8)
    timid = P**3  # the same order, much too low
    new_Y, new_P = rows(2000, 8, seed=1)
    none, platt = (
        fit_decision(Y, timid, ThresholdsSection(strategy="expected_f", calibration=c)).decide(new_P**3)
        for c in ("none", "beta")
    )  # type: ignore[arg-type]
    assert f_beta(new_Y, platt, average="samples") > f_beta(new_Y, none, average="samples")


@pytest.mark.parametrize("primary", AVERAGES)
def test_auto_takes_a_candidate_and_tells_all_scores(primary: Average) -> None:
    Y, P = one_label_each(300, 4)
    metric = MetricSection(primary=primary)
    rule = fit_decision(Y, P, ThresholdsSection(), metric)
    names = ThresholdsSection().candidates
    assert list(rule.scores) == names
    assert rule.strategy in names
    labels = cross_fitted(Y, P, ThresholdsSection(), metric)
    for name in names:
        assert rule.scores[name] == pytest.approx(f_beta(Y, labels[name], average=primary))
    alone = fit_decision(Y, P, ThresholdsSection(), metric, strategy=rule.strategy)
    np.testing.assert_array_equal(alone.decide(P), rule.decide(P))


def test_auto_takes_what_is_clearly_better_and_otherwise_the_first() -> None:
    Y, P = one_label_each(500, 5)
    last = ThresholdsSection(candidates=["fixed", "expected_f"], fixed=0.9)
    assert fit_decision(Y, P, last).strategy == "expected_f"
    assert fit_decision(Y, P, ThresholdsSection(candidates=["expected_f", "fixed"], fixed=0.9)).strategy == "expected_f"
    for candidates in (["global", "per_group"], ["per_group", "global"]):  # one group is global: the same scores
        assert fit_decision(Y, P, ThresholdsSection(candidates=candidates)).strategy == candidates[0]  # type: ignore[arg-type]


def test_auto_for_macro_tunes_each_label() -> None:
    rng = np.random.default_rng(0)
    Y = rng.random((600, 5)) < np.linspace(0.02, 0.4, 5)
    P = (1 / (1 + np.exp(-(1.5 * Y + rng.normal(0, 1, Y.shape) + np.linspace(2, -3, 5))))).astype(np.float32)
    assert fit_decision(Y, P, ThresholdsSection(calibration="none"), MetricSection(primary="macro")).strategy in (
        "per_label",
        "coordinate_ascent",
    )


def test_folds_given_are_the_ones_used() -> None:
    Y, P = rows(60, 3)
    folds = np.repeat([0, 1, 3], 20)  # some rows' folds only, as inside a cross-fitting
    rule = fit_decision(Y, P, ThresholdsSection(), folds=folds)
    labels = cross_fitted(Y, P, ThresholdsSection(), MetricSection(), folds=folds)
    assert rule.scores["global"] == pytest.approx(f_beta(Y, labels["global"], average="samples"))
    part = folds != 3
    inner = ThresholdsSection(strategy="global")
    np.testing.assert_array_equal(labels["global"][~part], fit_decision(Y[part], P[part], inner).decide(P[~part]))


def test_cross_fitted_labels_do_not_see_their_own_answers() -> None:
    Y, P = rows(90, 4)
    folds = np.arange(90) % 3
    before = cross_fitted(Y, P, ThresholdsSection(), MetricSection(), folds=folds)
    flipped = Y.copy()
    flipped[folds == 1] = ~flipped[folds == 1]
    after = cross_fitted(flipped, P, ThresholdsSection(), MetricSection(), folds=folds)
    for name in before:
        np.testing.assert_array_equal(before[name][folds == 1], after[name][folds == 1])


@pytest.mark.parametrize("strategy", [*STRATEGIES, "auto"])
def test_awkward_shapes(strategy: str) -> None:
    for n, n_labels in ((1, 1), (2, 1), (3, 2), (40, 1)):
        Y, P = rows(n, n_labels)
        rule = fit_decision(Y, P, strategy=strategy)
        assert rule.decide(P).shape == (n, n_labels)
        assert rule.decide(rows(7, n_labels, seed=1)[1]).dtype == np.bool_
    Y, P = rows(50, 4)
    Y[:, 1:3] = False
    fit_decision(Y, P, strategy=strategy).decide(P)
    fit_decision(np.zeros_like(Y), P, strategy=strategy).decide(P)
    fit_decision(np.ones_like(Y), P, strategy=strategy).decide(P)
    soft = np.where(Y, 0.8, 0.1)
    fit_decision(soft, P, strategy=strategy).decide(P)
    fit_decision(Y, np.round(P), strategy=strategy).decide(P)  # certain ones and zeros


def test_more_than_a_thousand_labels() -> None:
    rng = np.random.default_rng(0)
    P = (rng.random((60, 1103)) ** 30).astype(np.float32)
    Y = rng.random(P.shape) < P
    rule = fit_decision(Y, P, ThresholdsSection(candidates=["expected_f", "global"]))
    assert rule.decide(P).shape == P.shape


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="strategy must be"):
        fit_decision([[1]], [[0.5]], strategy="best")
    with pytest.raises(ValueError, match="Y holds NaN"):
        fit_decision([[np.nan]], [[0.5]])
    with pytest.raises(ValueError, match="P holds NaN"):
        fit_decision([[1]], [[np.nan]], strategy="expected_f")
    with pytest.raises(ValueError, match="P has 2 labels"):
        fit_decision([[1], [0]], [[0.5], [0.2]], ThresholdsSection(strategy="global", calibration="platt")).decide(
            [[0.5, 0.5]]
        )


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 8), st.integers(1, 4), st.sampled_from(AVERAGES), st.sampled_from([1, 3]))
def test_context_is_the_best_of_all_pairs_that_alternate_and_not_below_global(
    seed: int, n: int, n_labels: int, metric: Average, digits: int
) -> None:
    rng = np.random.default_rng(seed)
    P = rng.random((n, n_labels)).round(digits).astype(np.float32)
    Y = rng.random(P.shape) < 0.4
    ratio, floor = best_context(Y, P, metric, 1.0)
    reached = f_beta(Y, apply_context(P, ratio, floor), average=metric)
    single = thresholds.apply(P, thresholds.choose(Y, P, "global", metric=metric))
    assert reached >= f_beta(Y, single, average=metric) - 1e-9
    for other in np.linspace(0, 1, 21):  # neither number alone can be bettered
        assert reached >= f_beta(Y, apply_context(P, float(other), floor), average=metric) - 1e-9
        assert reached >= f_beta(Y, apply_context(P, ratio, float(other)), average=metric) - 1e-9


def test_context_by_hand() -> None:
    P = np.float32([[0.8, 0.5], [0.1, 0.04]])
    assert apply_context(P, 0.5, 0.0).tolist() == [[True, True], [True, False]]
    assert apply_context(P, 0.5, 0.2).tolist() == [[True, True], [False, False]]
    assert apply_context(np.zeros((1, 2), np.float32), 0.5, 0.0).tolist() == [[True, True]]
