"""The second level where every image has exactly one label."""

from __future__ import annotations

import json

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.calibration import CalibratedClassifierCV
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss

from labelstack.params.blend import BlendSection
from labelstack.params.metric import MetricSection
from labelstack.params.stackers import section_of
from labelstack.params.thresholds import ThresholdsSection
from labelstack.scoring.metric import FMetric
from labelstack.scoring.metrics import f_beta, most_probable
from labelstack.stacking import StackedEnsemble
from labelstack.stacking.blending import blend, fit_weights, likelihood_weights, of_sum_1
from labelstack.stacking.crossfit import cross_fit, fit_blend, scores, strategy_scores
from labelstack.stacking.deciding.calibration import Calibration, fit_calibration
from labelstack.stacking.deciding.decisions import Decision, fit_decision, fixed_labels, strategies_of
from labelstack.stacking.stackers.construction import make_stacker

N, LABELS = 400, 5
ONE = ThresholdsSection(strategy="argmax", calibration="temperature")


def softmax(x: NDArray[np.float64]) -> NDArray[np.float64]:
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


@pytest.fixture(scope="module")
def made() -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.float32]]:
    """Labels [n], the same as 0/1 [n, n_labels], and what two models and a bad one say [n, 3, n_labels]."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, LABELS, N)
    Y = np.eye(LABELS, dtype=bool)[label]
    sharp = [softmax(3 * (w * Y + rng.normal(0, 0.6, Y.shape))) for w in (1.0, 0.8, 0.0)]
    return label, Y, np.stack(sharp, axis=1).astype(np.float32)


def test_argmax_gives_exactly_one_label_the_first_of_equal_ones() -> None:
    P = np.array([[0.2, 0.5, 0.3], [0.4, 0.2, 0.4], [0.0, 0.0, 0.0]], np.float32)
    given = Decision("argmax").decide(P)
    np.testing.assert_array_equal(given, [[0, 1, 0], [1, 0, 0], [1, 0, 0]])
    np.testing.assert_array_equal(fixed_labels(P, ONE), given)
    np.testing.assert_array_equal(fixed_labels(P, ThresholdsSection(fixed=0.4)), [[0, 1, 0], [1, 0, 1], [0, 0, 0]])


def test_f_scores_of_one_label_each_are_the_accuracy(made: tuple[NDArray[np.int64], ...]) -> None:
    label, Y, cube = made
    given = most_probable(cube[:, 1])
    accuracy = accuracy_score(label, cube[:, 1].argmax(axis=1))
    for average in ("samples", "micro"):
        assert f_beta(Y, given, average=average) == pytest.approx(accuracy)


def test_the_temperature_is_scikit_learns() -> None:
    rng = np.random.default_rng(3)
    X = rng.normal(size=(900, 6))
    label = (X @ rng.normal(size=(6, 4)) + rng.gumbel(size=(900, 4))).argmax(axis=1)
    learnt = LogisticRegression(C=20).fit(X[:60], label[:60])  # of few rows: overconfident
    oracle = CalibratedClassifierCV(FrozenEstimator(learnt), method="temperature").fit(X[60:500], label[60:500])
    ours = fit_calibration(np.eye(4)[label[60:500]], learnt.predict_proba(X[60:500]), "temperature")
    new = learnt.predict_proba(X[500:])
    np.testing.assert_allclose(ours(new), oracle.predict_proba(X[500:]), atol=2e-4)
    assert ours.temperature > 1
    assert log_loss(label[500:], ours(new)) < log_loss(label[500:], new)
    np.testing.assert_array_equal(ours(new).argmax(axis=1), new.argmax(axis=1))
    np.testing.assert_allclose(ours(new).sum(axis=1), 1, rtol=1e-5)


def test_a_temperature_does_not_care_for_the_sum_of_rows_and_keeps_every_digit(
    made: tuple[NDArray[np.int64], ...],
) -> None:
    _, Y, cube = made
    found = fit_calibration(Y, cube[:, 0], "temperature")
    half = fit_calibration(Y, cube[:, 0] * np.float32(0.5), "temperature")
    assert half.temperature == pytest.approx(found.temperature, rel=1e-4)
    kept = Calibration.from_dict(json.loads(json.dumps(found.to_dict())))
    np.testing.assert_array_equal(kept(cube[:, 0]), found(cube[:, 0]))
    separable = fit_calibration(Y, Y * np.float32(0.9) + np.float32(0.02), "temperature")
    assert 1 / 20 <= separable.temperature < 1 / 5


def test_the_blend_takes_members_whose_rows_do_not_sum_to_1() -> None:
    members = {"a": np.array([[0.6, 0.6], [0.0, 0.0]]), "b": np.array([[0.1, 0.3], [0.2, 0.0]])}
    weights = {"a": 0.5, "b": 0.5}
    np.testing.assert_allclose(blend(members, weights, exclusive=True), [[0.375, 0.625], [0.75, 0.25]], rtol=1e-6)
    np.testing.assert_allclose(blend(members, weights), [[0.35, 0.45], [0.1, 0.0]], rtol=1e-6)
    np.testing.assert_allclose(of_sum_1(np.array([[0, 0], [1, 3]], np.float32)), [[0.5, 0.5], [0.25, 0.75]])


def test_weights_are_the_likeliest_of_the_one_label(made: tuple[NDArray[np.int64], ...]) -> None:
    label, Y, cube = made
    members = {name: cube[:, i] for i, name in enumerate("abc")}
    found = likelihood_weights(members, Y, exclusive=True)

    def loss(a: float, b: float) -> float:
        mixed = (cube.astype(np.float64) * np.array([a, b, 1 - a - b])[:, None]).sum(axis=1)
        return log_loss(label, mixed / mixed.sum(axis=1, keepdims=True), labels=range(LABELS))

    grid = [(a, b) for a in np.arange(0, 1.001, 0.02) for b in np.arange(0, 1.001 - a, 0.02)]
    assert loss(found["a"], found["b"]) <= min(loss(a, b) for a, b in grid) + 1e-6
    scaled = likelihood_weights(members | {"b": cube[:, 1] * np.float32(0.3)}, Y, exclusive=True)
    assert scaled == pytest.approx(found, abs=1e-3)


def test_greedy_weights_count_the_labels_that_are_right(made: tuple[NDArray[np.int64], ...]) -> None:
    label, Y, cube = made
    members = {name: cube[:, i] for i, name in enumerate("abc")}
    settings = BlendSection(method="greedy", step=0.1)
    weights = fit_weights(members, Y, settings, MetricSection(), exclusive=True)
    mixed = blend(members, weights, exclusive=True)
    alone = max(accuracy_score(label, p.argmax(axis=1)) for p in members.values())
    assert accuracy_score(label, mixed.argmax(axis=1)) >= alone


def test_all_that_is_chosen_gives_one_label_and_scores_the_accuracy(made: tuple[NDArray[np.int64], ...]) -> None:
    label, Y, cube = made
    folds = np.arange(N) % 4
    members = {name: cube[:, i] for i, name in enumerate("abc")}
    mixed = fit_blend(members, Y, folds, thresholds=ONE)
    assert (mixed.cross_fitted.labels.sum(axis=1) == 1).all()
    np.testing.assert_allclose(mixed.cross_fitted.probability.sum(axis=1), 1, rtol=1e-5)
    assert (mixed.decision.strategy, mixed.decision.calibration.method) == ("argmax", "temperature")
    found = scores(
        Y, mixed.probability, folds, MetricSection(), ONE, fitted=mixed.cross_fitted, decision=mixed.decision
    )
    accuracy = accuracy_score(label, mixed.cross_fitted.labels.argmax(axis=1))
    for key in ("samples_f1_cross_fitted", "micro_f1_cross_fitted", "samples_f1_at_fixed"):
        assert found[key] == pytest.approx(accuracy)
    table = strategy_scores(members, mixed.cross_fitted, Y, folds, metric=MetricSection(), thresholds=ONE)
    assert list(table) == ["argmax"] == list(strategies_of(ONE))
    assert table["argmax"]["gain"] == 0
    alone = cross_fit(cube[:, 0], Y, folds, thresholds=ONE)
    np.testing.assert_array_equal(alone.labels, most_probable(cube[:, 0]))


def test_a_rule_comes_back_from_json(made: tuple[NDArray[np.int64], ...]) -> None:
    _, Y, cube = made
    rule = fit_decision(Y, cube[:, 0], ONE, MetricSection())
    back = Decision.from_dict(json.loads(json.dumps(rule.to_dict())))
    assert back.strategy == "argmax"
    assert back.calibration.temperature == rule.calibration.temperature
    np.testing.assert_array_equal(back.decide(cube[:, 0]), rule.decide(cube[:, 0]))


def test_the_whole_second_level_beats_its_best_model(made: tuple[NDArray[np.int64], ...]) -> None:
    label, Y, cube = made
    stackers = {"logistic": make_stacker(section_of("logistic").model_validate({"kind": "logistic"}))}
    ensemble = StackedEnsemble(stackers, thresholds=ONE, k=3).fit(cube[:300], Y[:300])
    P, given = ensemble.predict_proba(cube[300:]), ensemble.predict(cube[300:])
    np.testing.assert_allclose(P.sum(axis=1), 1, rtol=1e-5)
    assert (given.sum(axis=1) == 1).all()
    best = max(accuracy_score(label[300:], cube[300:, i].argmax(axis=1)) for i in range(3))
    assert FMetric("samples").score(Y[300:], given) >= best - 0.02
