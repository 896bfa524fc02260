"""Stackers for labels of which exactly one is true: against scikit-learn and XGBoost, saved, and held near the mean."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from xgboost import XGBClassifier

from labelstack.params.second_level_file import SecondLevel
from labelstack.stacking.stackers.construction import load_stacker
from labelstack.stacking.stackers.multinomial import MultinomialStacker, _fit, _softmax
from labelstack.stacking.stackers.softprob import SoftprobStacker


def draw(n: int = 400, k: int = 4, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Three models, the first calibrated, the second too sure, the third noise; answers."""
    rng = np.random.default_rng(seed)
    true = rng.integers(0, k, n)
    z = 1.5 * np.eye(k)[true] + rng.normal(size=(n, k))
    logits = np.stack([1.5 * z, 6 * (z + rng.normal(size=(n, k))), rng.normal(size=(n, k))], axis=1)
    P = np.exp(logits - logits.max(axis=2, keepdims=True))
    return (P / P.sum(axis=2, keepdims=True)).astype(np.float32), np.eye(k, dtype=np.float32)[true]


def loss(P: NDArray[np.floating], Y: NDArray[np.float32]) -> float:
    return float(-np.log(np.maximum(P[Y > 0], 1e-9)).mean())


def test_the_multinomial_stacker_is_the_optimum_of_its_penalised_likelihood() -> None:
    cube, Y = draw()
    stacker = MultinomialStacker(strength=0.1).fit(cube, Y)
    X, theta = stacker._columns(cube), stacker.arrays_["slopes"]
    centre = np.eye(len(theta))[0]

    def value(t: NDArray[np.float64]) -> float:
        P = _softmax(np.einsum("nlm,m->nl", X, t[:4]) + t[4:])
        return float(-np.log(P[Y > 0]).sum() + 5 * ((t - centre) ** 2).sum())

    best = value(theta)
    rng = np.random.default_rng(1)
    for _ in range(50):
        assert value(theta + 0.01 * rng.normal(size=len(theta))) > best


def test_with_two_labels_it_is_a_binary_regression_on_differences() -> None:
    cube, Y = draw(k=2)
    stacker = MultinomialStacker(strength=1e6)
    X = stacker._columns(cube)
    theta = _fit(X, Y.astype(np.float64), 1e6)
    reference = LogisticRegression(C=1e6, tol=1e-10, max_iter=10_000).fit(X[:, 1] - X[:, 0], Y[:, 1])
    np.testing.assert_allclose(
        _softmax(np.einsum("nlm,m->nl", X, theta[:4]) + theta[4:])[:, 1],
        reference.predict_proba(X[:, 1] - X[:, 0])[:, 1],
        atol=1e-3,
    )


def test_little_strength_is_the_mean_and_the_chosen_one_is_better() -> None:
    cube, Y = draw()
    mean = cube.mean(axis=1)
    near = MultinomialStacker(strength=1e-6).fit(cube, Y).predict_proba(cube)
    np.testing.assert_allclose(near, mean, atol=2e-3)
    new_cube, new_Y = draw(seed=1)
    chosen = MultinomialStacker().fit(cube, Y).predict_proba(new_cube)
    np.testing.assert_allclose(chosen.sum(axis=1), 1, rtol=1e-5)
    assert loss(chosen, new_Y) < loss(new_cube.mean(axis=1), new_Y) - 0.02
    few = MultinomialStacker().fit(cube[:5], Y[:5])
    assert np.isfinite(few.predict_proba(new_cube)).all()


def test_the_softprob_stacker_is_xgboosts_classifier_on_the_margins_of_the_mean() -> None:
    cube, Y = draw()
    stacker = SoftprobStacker(n_estimators=8, subsample=1, colsample_bytree=1).fit(cube, Y)
    margin = np.log(np.maximum(cube.mean(axis=1), 1e-4))
    reference = XGBClassifier(
        n_estimators=8, max_depth=3, learning_rate=0.05, min_child_weight=5, tree_method="hist", n_jobs=1
    )
    flat = cube.reshape(len(cube), -1)
    reference.fit(flat, Y.argmax(axis=1), base_margin=margin)
    np.testing.assert_allclose(
        stacker.predict_proba(cube), reference.predict_proba(flat, base_margin=margin), atol=1e-5
    )


@pytest.mark.parametrize("stacker", [MultinomialStacker(), SoftprobStacker(n_estimators=5)])
def test_saved_and_read_they_say_the_same(stacker: MultinomialStacker | SoftprobStacker, tmp_path: Path) -> None:
    cube, Y = draw(100)
    Y[3] = 0  # a row without a label is left out
    stacker.fit(cube, Y).save(tmp_path / "one")
    again = load_stacker(tmp_path / "one")
    assert again.digest() == stacker.digest()
    np.testing.assert_array_equal(again.predict_proba(cube), stacker.predict_proba(cube))


def test_they_are_refused_where_labels_do_not_exclude_each_other() -> None:
    content = {"stackers": {"one": {"kind": "multinomial"}, "two": {"kind": "mean"}}}
    with pytest.raises(ValueError, match=r"stackers.one: for exactly one label"):
        SecondLevel.model_validate(content)
    thresholds = {"strategy": "argmax", "calibration": "temperature"}
    assert SecondLevel.model_validate(content | {"thresholds": thresholds})
