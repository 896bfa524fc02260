"""Cross-fitted scores: no answer of the scored fold is used."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from labelstack import params
from labelstack.metrics import f_beta
from labelstack.stacking import assign_folds, cross_fitted_blend, cross_fitted_labels, scores, thresholds
from labelstack.stacking.crossfit import chooser

METRIC = params.Metric()
PER_LABEL = params.Thresholds()


@pytest.fixture(scope="module")
def noise() -> tuple[NDArray[np.bool_], NDArray[np.float32], NDArray[np.int64]]:
    """Answers that the probabilities know nothing of: whatever tuning gains in sample is flattery."""
    rng = np.random.default_rng(0)
    Y = rng.random((100, 20)) < 0.2
    return Y, rng.random((100, 20)).astype(np.float32), assign_folds(Y, 4, 0)


def test_thresholds_come_from_the_other_folds(
    noise: tuple[NDArray[np.bool_], NDArray[np.float32], NDArray[np.int64]],
) -> None:
    Y, P, folds = noise
    choose = chooser(METRIC, PER_LABEL)
    labels = cross_fitted_labels(Y, P, folds, choose)
    for fold in range(4):
        tuned = choose(Y[folds != fold], P[folds != fold])
        np.testing.assert_array_equal(labels[folds == fold], P[folds == fold] >= tuned)
    other = Y.copy()
    other[folds == 2] = ~other[folds == 2]
    np.testing.assert_array_equal(cross_fitted_labels(other, P, folds, choose)[folds == 2], labels[folds == 2])


def test_scores_have_names_that_tell_flattery(
    noise: tuple[NDArray[np.bool_], NDArray[np.float32], NDArray[np.int64]],
) -> None:
    Y, P, folds = noise
    found = scores(Y, P, folds, METRIC, PER_LABEL)
    names = [f"{a}_f1_{k}" for a in ("samples", "micro", "macro") for k in ("at_fixed", "cross_fitted", "in_sample")]
    assert list(found) == names
    assert found["samples_f1_at_fixed"] == f_beta(Y, thresholds.apply(P, 0.3), average="samples")
    tuned = thresholds.choose(Y, P, "per_label")
    assert found["micro_f1_in_sample"] == f_beta(Y, thresholds.apply(P, tuned), average="micro")
    assert found["samples_f1_in_sample"] > found["samples_f1_cross_fitted"] + 0.03
    assert "macro_f2_cross_fitted" in scores(Y, P, folds, params.Metric(beta=2), PER_LABEL)


def test_fixed_thresholds_score_the_same_everywhere(
    noise: tuple[NDArray[np.bool_], NDArray[np.float32], NDArray[np.int64]],
) -> None:
    Y, P, folds = noise
    found = scores(Y, P, folds, METRIC, params.Thresholds(strategy="fixed", fixed=0.6))
    assert found["micro_f1_at_fixed"] == found["micro_f1_cross_fitted"] == found["micro_f1_in_sample"]


def test_blend_is_chosen_without_the_scored_fold(
    noise: tuple[NDArray[np.bool_], NDArray[np.float32], NDArray[np.int64]],
) -> None:
    Y, P, folds = noise
    good = np.clip(Y * 0.4 + P * 0.6, 0, 1).astype(np.float32)
    members = {"good": good, "noise": P}
    probability, labels = cross_fitted_blend(members, Y, folds, step=0.1, metric=METRIC, thresholds=PER_LABEL)
    assert probability.shape == labels.shape == Y.shape
    assert f_beta(Y, labels, average="samples") > f_beta(
        Y, cross_fitted_labels(Y, P, folds, chooser(METRIC, PER_LABEL)), average="samples"
    )
    other = Y.copy()
    other[folds == 1] = ~other[folds == 1]
    again, again_labels = cross_fitted_blend(members, other, folds, step=0.1, metric=METRIC, thresholds=PER_LABEL)
    np.testing.assert_array_equal(again[folds == 1], probability[folds == 1])
    np.testing.assert_array_equal(again_labels[folds == 1], labels[folds == 1])


def test_bad_input_is_refused_by_name(
    noise: tuple[NDArray[np.bool_], NDArray[np.float32], NDArray[np.int64]],
) -> None:
    Y, P, folds = noise
    with pytest.raises(ValueError, match="folds must be integers"):
        scores(Y, P, folds[:-1], METRIC, PER_LABEL)
    with pytest.raises(ValueError, match="Y has 99 images"):
        cross_fitted_labels(Y[1:], P, folds, chooser(METRIC, PER_LABEL))
