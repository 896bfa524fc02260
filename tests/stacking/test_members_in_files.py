"""A blend that is chosen on members that stay in files is the one that is chosen in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from labelstack.params.blend import BlendSection
from labelstack.params.metric import MetricSection
from labelstack.params.thresholds import ThresholdsSection
from labelstack.predictions import read_predictions, write_predictions
from labelstack.stacking import FoldPredictions, assign_folds
from labelstack.stacking.crossfit import cross_fit, fit_blend, scores, strategy_scores

from .conftest import make_data

K = 3


def members(folder: Path) -> tuple[dict[str, FoldPredictions], dict[str, FoldPredictions], np.ndarray, np.ndarray]:
    """Two members, one of them nested, in files and in memory; answers and folds."""
    cube, Y = make_data(60, 3, 5)
    folds, ids = assign_folds(Y, K, 0), np.random.default_rng(0).permutation(len(Y))
    nested = np.stack([cube[:, 1], cube[:, 2], (cube[:, 1] + cube[:, 2]) / 2], axis=1)
    for name, P in (("a", cube[:, 0]), ("b", cube[:, 1]), ("nested", nested)):
        write_predictions(folder / f"{name}.npy", ids, P)
    kept = {name: read_predictions(folder / f"{name}.npy") for name in ("a", "b", "nested")}
    rows = kept["a"].places_of(np.sort(ids))
    Y, folds = Y[rows], folds[rows]
    there = {
        "a": FoldPredictions(kept["a"].matrix(rows)),
        "b": FoldPredictions(kept["b"].matrix(rows), kept["nested"].folds(rows)),
    }
    here = {
        "a": FoldPredictions(kept["a"].probability[rows]),
        "b": FoldPredictions(kept["b"].probability[rows], kept["nested"].probability[rows].transpose(1, 0, 2)),
    }
    return there, here, Y >= 0.5, folds


@pytest.mark.parametrize("method", ["greedy", "log_loss", "equal", "nelder_mead"])
@pytest.mark.parametrize("primary", ["samples_f", "mean_average_precision"])
def test_the_blend_is_the_same(tmp_path: Path, method: str, primary: str) -> None:
    there, here, Y, folds = members(tmp_path)
    section = BlendSection.model_validate({"method": method})
    metric = MetricSection(primary="mean_average_precision") if primary != "samples_f" else MetricSection()
    found, expected = (fit_blend(one, Y, folds, blend_params=section, metric=metric) for one in (there, here))
    assert found.weights == expected.weights
    assert found.decision.to_dict() == expected.decision.to_dict()
    for name in ("probability", "labels"):
        np.testing.assert_array_equal(getattr(found.cross_fitted, name), getattr(expected.cross_fitted, name))
    np.testing.assert_array_equal(found.probability, expected.probability)


def test_what_is_exclusive_and_how_members_score_is_the_same(tmp_path: Path) -> None:
    there, here, Y, folds = members(tmp_path)
    one = np.zeros_like(Y)
    one[np.arange(len(Y)), np.random.default_rng(1).integers(0, Y.shape[1], len(Y))] = True
    argmax = ThresholdsSection(strategy="argmax", calibration="temperature")
    both = [fit_blend(given, one, folds, thresholds=argmax).cross_fitted.probability for given in (there, here)]
    np.testing.assert_array_equal(*both)
    metric, thresholds = MetricSection(), ThresholdsSection()
    fitted = fit_blend(here, Y, folds).cross_fitted
    tables = [strategy_scores(given, fitted, Y, folds, metric=metric, thresholds=thresholds) for given in (there, here)]
    assert tables[0] == tables[1]
    assert next(iter(tables[0])) == "fixed"
    labels = [cross_fit(given["b"], Y, folds).labels for given in (there, here)]
    np.testing.assert_array_equal(*labels)
    assert scores(Y, there["b"], folds, metric, thresholds) == scores(Y, here["b"], folds, metric, thresholds)


def test_unknown_labels_are_refused(tmp_path: Path) -> None:
    P = np.full((6, 2), 0.5, np.float32)
    P[4, 1] = np.nan
    write_predictions(tmp_path / "a.npy", np.arange(6), P, unknown=True)
    found = read_predictions(tmp_path / "a.npy")
    Y, folds = np.tile([[True, False], [False, True]], (3, 1)), np.arange(6) % 2
    with pytest.raises(ValueError, match="holds NaN"):
        fit_blend({"a": found.matrix(np.arange(6)), "b": P.clip(0, 1) * 0}, Y, folds)
