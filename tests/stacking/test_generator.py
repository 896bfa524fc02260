"""The made-up cube has what it promises: correlated labels and errors, a long tail, unequal, bent models."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from labelstack.scoring.mean_average_precision import average_precision
from labelstack.stacking.bench.cubes import Cube
from labelstack.stacking.bench.generator import generate
from labelstack.support.errors import InputProblems


@pytest.fixture(scope="module")
def made() -> Cube:
    return generate(3000, 6, 60, n_test=600, seed=2)


def test_shapes_types_and_bounds(made):
    assert made.cube.shape == (3000, 6, 60)
    assert made.test_cube.shape == (600, 6, 60)
    assert made.labels.shape == (3000, 60)
    assert made.test_labels.shape == (600, 60)
    assert made.models == tuple(f"model_{m}" for m in range(6))
    assert made.cube.dtype == made.labels.dtype == np.float32
    assert 1e-6 * 0.99 <= made.cube.min() < 0.01
    assert 0.99 < made.cube.max() < 1
    assert set(np.unique(made.labels)) == {0, 1}


def test_equal_arguments_give_equal_bytes(made):
    again = generate(3000, 6, 60, n_test=600, seed=2)
    assert again.cube.tobytes() == made.cube.tobytes()
    assert again.test_labels.tobytes() == made.test_labels.tobytes()
    assert generate(30, 2, 3, seed=0).cube.tobytes() != generate(30, 2, 3, seed=1).cube.tobytes()


def test_frequencies_have_a_long_tail(made):
    frequency = np.sort(np.vstack([made.labels, made.test_labels]).mean(axis=0))[::-1]
    assert 0.5 <= frequency[0] <= 0.61
    assert np.median(frequency) < 0.05
    assert 0 < frequency[-1] < 0.02
    assert 3 < frequency.sum() < 7


def test_labels_go_together_and_so_do_errors(made):
    common = made.labels[:, made.labels.mean(axis=0) > 0.05]
    together = np.corrcoef(common.T)[np.triu_indices(common.shape[1], 1)]
    assert np.quantile(np.abs(together), 0.9) > 0.12  # independent ones: about 0.03
    errors = [(made.cube[:, m] - made.labels)[:, made.labels.mean(axis=0) > 0.05].ravel() for m in range(6)]
    between = np.corrcoef(errors)
    assert between[np.triu_indices(6, 1)].min() > 0.4
    assert between[0, 3] > between[0, 1]  # one family
    assert between.max(initial=0, where=~np.eye(6, dtype=bool)) < 0.98


def test_models_are_unequal_and_bent(made):
    skill = [np.nanmean(average_precision(made.labels > 0, made.cube[:, m])) for m in range(6)]
    assert max(skill) - min(skill) > 0.05
    slopes = []
    for m in range(6):
        P = made.cube[:, m].ravel()
        logit = np.log(P / (1 - P))[:, None]
        slopes.append(LogisticRegression(C=np.inf).fit(logit, made.labels.ravel()).coef_[0, 0])
    assert max(slopes) > 1.1  # under-confident: the calibrated logit is larger
    assert min(slopes) < 0.9  # over-confident
    frequency = made.labels.mean()
    assert max(abs(made.cube[:, m].mean() / frequency - 1) for m in range(6)) > 0.15


@pytest.mark.parametrize(("n", "n_models", "n_labels"), [(2, 1, 1), (5, 1, 3), (3, 4, 1)])
def test_the_smallest(n, n_models, n_labels):
    made = generate(n, n_models, n_labels, n_test=0)
    assert made.cube.shape == (n, n_models, n_labels)
    assert made.test_cube is None
    assert np.isfinite(made.cube).all()
    assert made.labels.any()


def test_numbers_that_make_no_cube():
    with pytest.raises(InputProblems) as caught:
        generate(1, 0, 2, n_test=-1)
    assert caught.value.problems == [
        "n must be at least 2, not 1",
        "n_models must be at least 1, not 0",
        "n_test must be at least 0, not -1",
    ]
