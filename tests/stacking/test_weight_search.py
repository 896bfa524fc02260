"""The simplex search on an F-score, against the published one written out plainly."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize

from labelstack.params.blend import BlendSection
from labelstack.params.metric import MetricSection
from labelstack.params.second_level_file import SecondLevel
from labelstack.scoring.metrics import Average, f_beta
from labelstack.stacking.blending import fit_weights
from labelstack.stacking.crossfit import fit_blend
from labelstack.stacking.deciding.thresholds import best_global
from labelstack.stacking.weight_search import nelder_mead

Cube = tuple[dict[str, NDArray[np.float32]], NDArray[np.bool_], NDArray[np.int64]]


def cube(n: int, n_labels: int = 12, noises: tuple[float, ...] = (0.8, 1.2, 2.5), seed: int = 0) -> Cube:
    """Members of unequal worth, whose folds' networks are calibrated differently."""
    rng = np.random.default_rng(seed)
    Y = rng.random((n, n_labels)) < 0.15
    folds = np.arange(n) % 4
    members = {}
    for place, noise in enumerate(noises):
        shift = rng.normal(-1.5, 0.6, 4)[folds, None]
        score = 2.5 * Y + rng.normal(0, noise, Y.shape) + shift
        members[f"m{place}"] = (1 / (1 + np.exp(-score))).astype(np.float32)
    return members, Y, folds


def test_thresholds_that_are_known_are_those_it_finds() -> None:
    members, Y, folds = cube(200)
    known = [[best_global(Y[folds == f], P[folds == f], "samples", 2) for f in range(4)] for P in members.values()]
    found = nelder_mead(members, Y, folds, beta=2)
    assert nelder_mead(members, Y, folds, beta=2, thresholds=np.array(known, np.float32)) == found
    others = np.array(known, np.float32) * np.float32(1.5)
    assert nelder_mead(members, Y, folds, beta=2, thresholds=others).score < found.score


def plain(
    members: dict[str, NDArray[np.float32]], Y: NDArray[np.bool_], folds: NDArray[np.int64], average: Average
) -> tuple[NDArray[np.float64], float, int]:
    """All members' probabilities minus their fold's threshold, summed over all cells in every step."""
    margins = []
    for P in members.values():
        own = np.array([best_global(Y[folds == f], P[folds == f], average, 2) for f in range(4)], np.float32)
        margins.append(P - own[folds][:, None])

    def loss(w: NDArray[np.float64]) -> float:
        total = np.zeros(Y.shape, np.float32)
        for weight, margin in zip(w, margins, strict=True):
            total += np.float32(weight) * margin
        return -f_beta(Y, total > 0, average=average, beta=2)

    start = np.full(len(members), 1 / len(members))
    found = minimize(loss, start, method="Nelder-Mead", bounds=[(0, 1)] * len(members))
    return found.x / found.x.sum(), -float(found.fun), int(found.nfev)


@pytest.mark.parametrize("average", ["samples", "micro", "macro"])
def test_it_is_the_published_search(average: Average) -> None:
    members, Y, folds = cube(400)
    found = nelder_mead(members, Y, folds, average=average, beta=2)
    weights, score, evaluations = plain(members, Y, folds, average)
    assert found.evaluations == evaluations
    assert list(found.weights.values()) == pytest.approx(weights.tolist(), abs=1e-12)
    assert found.score == pytest.approx(score, abs=1e-12)
    assert sum(found.weights.values()) == pytest.approx(1)


def test_it_scores_no_less_than_equal_weights_and_each_member_by_the_same_thresholds() -> None:
    members, Y, folds = cube(300, seed=1)
    found = nelder_mead(members, Y, folds, beta=2)
    same = nelder_mead({name: P for name, P in members.items() if name == "m0"}, Y, folds, beta=2)
    assert same.weights == {"m0": 1.0}
    assert found.score > same.score
    assert found.weights["m0"] > found.weights["m2"]


def test_it_is_a_method_of_the_blend_cross_fitted_as_the_others() -> None:
    members, Y, folds = cube(200)
    metric = MetricSection(beta=2)
    section = BlendSection(method="nelder_mead")
    mixed = fit_blend(members, Y, folds, blend_params=section, metric=metric)
    assert mixed.weights == nelder_mead(members, Y, folds, beta=2).weights
    for fold, weights in enumerate(mixed.cross_fitted.weights):
        left = folds != fold
        others = {name: P[left] for name, P in members.items()}
        inner = np.unique(folds[left], return_inverse=True)[1]
        assert weights == fit_weights(others, Y[left], section, metric, folds=inner)


def test_given_weights_are_taken_as_they_are() -> None:
    members, Y, folds = cube(120)
    given = {"m0": 0.25, "m1": 0.75, "m2": 0.0}
    mixed = fit_blend(members, Y, folds, weights=given)
    assert mixed.weights == given
    assert mixed.cross_fitted.weights == [given] * 4


def test_labels_that_exclude_each_other_have_no_thresholds() -> None:
    argmax = {"strategy": "argmax", "calibration": "temperature"}
    content = {"stackers": {"a": {"kind": "logistic"}}, "blend": {"method": "nelder_mead"}, "thresholds": argmax}
    with pytest.raises(ValueError, match=r"strategy argmax has no thresholds that blend.method: nelder_mead goes by"):
        SecondLevel.model_validate(content)
