"""The whole second level on plain arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from labelstack.params.blend import BlendSection
from labelstack.scoring.metrics import f_beta
from labelstack.stacking import CNNStacker, StackedEnsemble, XGBoostStacker

from .conftest import Data, make_data


def trees(**settings: Any) -> XGBoostStacker:
    return XGBoostStacker(**{"features": "own", "n_estimators": 8, "max_depth": 2, "n_jobs": 1, **settings})


def ensemble(**settings: Any) -> StackedEnsemble:
    return StackedEnsemble({"trees": trees()}, **{"k": 3, **settings})


def test_fitted_predictions_are_the_blend_of_stackers_and_models(data: Data) -> None:
    cube, Y = data
    new, _ = make_data(15, 4, 6, seed=3)
    fitted = ensemble(model_names=["a", "b", "c", "d"]).fit(cube, Y)
    weights = fitted.blended_.weights
    assert set(weights) == {"trees", "a", "b", "c", "d"}
    assert sum(weights.values()) == pytest.approx(1)
    expected = weights["trees"] * fitted.ensembles_["trees"].predict_proba(new)
    expected = expected + sum(weights[name] * new[:, i] for i, name in enumerate("abcd"))
    np.testing.assert_allclose(fitted.predict_proba(new), expected, atol=1e-6)
    decision = fitted.blended_.decision
    np.testing.assert_array_equal(fitted.predict(new), decision.decide(fitted.predict_proba(new)))
    assert set(fitted.table_) == set(weights)
    assert fitted.scores_["samples_f1_cross_fitted_low"] < fitted.scores_["samples_f1_cross_fitted"]


def test_the_blend_takes_the_members_named(data: Data) -> None:
    fitted = ensemble(blend=BlendSection(members=["trees"])).fit(*data)
    assert fitted.blended_.weights == {"trees": 1.0}
    with pytest.raises(ValueError, match=r"blend.members forest unknown \(there are: trees, model_0"):
        ensemble(blend=BlendSection(members=["forest"])).fit(*data)


def test_equal_runs_are_equal(data: Data) -> None:
    one, two = ensemble().fit(*data), ensemble().fit(*data)
    np.testing.assert_array_equal(one.predict_proba(data[0]), two.predict_proba(data[0]))
    assert one.scores_ == two.scores_
    assert one.blended_.decision.to_dict() == two.blended_.decision.to_dict()


def test_shuffled_labels_score_no_more_than_the_prior() -> None:
    """Answers dealt out anew: whatever the second level scores above the best constant answer would be a leak."""
    cube, Y = make_data(400, 5, 8)
    real = ensemble(k=4).fit(cube, Y).scores_["samples_f1_cross_fitted"]
    shuffled = Y[np.random.default_rng(1).permutation(len(Y))]
    frequent = np.argsort(-shuffled.mean(axis=0), kind="stable")
    constant = np.zeros((8, 8), bool)
    for count in range(8):
        constant[count, frequent[: count + 1]] = True
    prior = max(f_beta(shuffled, np.tile(row, (400, 1)), average="samples") for row in constant)
    found = ensemble(k=4).fit(cube, shuffled).scores_["samples_f1_cross_fitted"]
    assert real > prior + 0.1
    assert found < prior + 0.01


@pytest.mark.parametrize(("n_models", "n_labels"), [(1, 6), (4, 1), (1, 1)])
def test_one_model_or_one_label_is_enough(n_models: int, n_labels: int) -> None:
    cube, Y = make_data(60, n_models, n_labels)
    fitted = StackedEnsemble({"trees": trees(), "cnn": CNNStacker(epochs=1, units=8)}, k=3).fit(cube, Y)
    assert fitted.predict_proba(cube).shape == Y.shape
    assert fitted.predict(cube).dtype == np.bool_


def test_two_folds_and_labels_without_positives(data: Data) -> None:
    cube, Y = data
    silent = Y.copy()
    silent[:, 2] = 0
    fitted = ensemble(k=2).fit(cube, silent)
    assert not fitted.predict(cube)[:, 2].any()
    assert np.isfinite(fitted.predict_proba(cube)).all()
    assert f_beta(silent, fitted.predict(cube), average="samples") > 0.5


def test_soft_labels_are_learnt_and_scored_from_one_half(data: Data) -> None:
    cube, Y = data
    soft = np.where(Y, 0.8, 0.1).astype(np.float32)
    fitted = ensemble().fit(cube, soft)
    hard = fitted.blended_.cross_fitted.labels
    assert f_beta(Y, hard, average="samples") == fitted.scores_["samples_f1_cross_fitted"]


def test_nan_is_refused_with_its_place(data: Data) -> None:
    cube, Y = data
    broken = cube.copy()
    broken[3, 1, 2] = np.nan
    with pytest.raises(ValueError, match=r"cube holds NaN or infinity \(1 of 2880 values, the first at \[3, 1, 2\]\)"):
        ensemble().fit(broken, Y)
    answers = Y.astype(float)
    answers[7, 0] = np.nan
    with pytest.raises(ValueError, match=r"Y holds NaN or infinity \(1 of 720 values, the first at \[7, 0\]\)"):
        ensemble().fit(cube, answers)


def test_names_must_fit_the_cube(data: Data) -> None:
    with pytest.raises(ValueError, match="model_names must be 4 different names"):
        ensemble(model_names=["a", "a", "b", "c"]).fit(*data)
    with pytest.raises(ValueError, match=r"share the name\(s\) trees: rename one"):
        ensemble(model_names=["a", "trees", "b", "c"]).fit(*data)
