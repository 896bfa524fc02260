"""Sums over the few cells of a probability matrix that matter, against sums over all of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelstack.scoring.f_resampling import BestThreshold
from labelstack.stacking import blending
from labelstack.stacking.blending import likelihood_weights, search_weights
from labelstack.stacking.cells import above


def rare(seed: int, n: int = 400, n_labels: int = 30, n_members: int = 4):
    rng = np.random.default_rng(seed)
    truth = rng.random((n, n_labels)) ** 12
    Y = rng.random(truth.shape) < truth
    noise = [np.clip(truth * np.exp(rng.normal(0, 0.3 + 0.2 * m, truth.shape)), 1e-6, 1) for m in range(n_members)]
    return {str(m): p.astype(np.float32) for m, p in enumerate(noise)}, Y


def test_cells_above_a_limit_are_those_of_the_whole_matrix_in_its_order() -> None:
    members, _ = rare(0)
    stack = list(members.values())
    rows = np.random.default_rng(1).random(400) < 0.7
    place, values = above(stack, np.float32(0.01), rows=rows, block=1000)
    whole = np.stack([p[rows].ravel() for p in stack])
    wanted = np.flatnonzero(whole.max(axis=0) >= np.float32(0.01))
    np.testing.assert_array_equal(place, wanted)
    np.testing.assert_array_equal(values, whole[:, wanted])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.sampled_from(["samples", "micro", "macro"]), st.floats(0.5, 3))
def test_the_best_threshold_of_some_cells_is_that_of_all(seed: int, average: str, beta: float) -> None:
    members, Y = rare(seed, n=60, n_labels=9, n_members=2)
    place, values = above(list(members.values()), np.float32(0.0099))
    some = BestThreshold(Y, average, beta, place)
    every = BestThreshold(Y, average, beta)
    for weight in np.float32([0, 0.3, 1]):
        mixed = weight * members["0"] + (1 - weight) * members["1"]
        assert some(weight * values[0] + (1 - weight) * values[1]) == every(mixed)


def plain_loss(members, Y, weights) -> float:
    mixed = sum(weights[name] * p.astype(np.float64) for name, p in members.items())
    return float(-np.log(np.maximum(np.where(Y, mixed, 1 - mixed), 1e-6)).mean())


@pytest.mark.parametrize("seed", range(4))
def test_weights_of_many_cells_are_those_of_all_cells(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    members, Y = rare(seed)
    wanted = likelihood_weights(members, Y)
    monkeypatch.setattr(blending, "MANY_CELLS", 100)
    found = likelihood_weights(members, Y)
    assert plain_loss(members, Y, found) == pytest.approx(plain_loss(members, Y, wanted), rel=1e-5)
    assert [found[name] for name in members] == pytest.approx([wanted[name] for name in members], abs=2e-3)


def test_rows_that_do_not_count_are_as_if_they_were_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    members, Y = rare(7)
    rows = np.random.default_rng(0).random(len(Y)) < 0.6
    part = {name: p[rows] for name, p in members.items()}
    for many in (10**9, 100):
        monkeypatch.setattr(blending, "MANY_CELLS", many)
        assert likelihood_weights(members, Y, rows=rows) == likelihood_weights(part, Y[rows])
        assert search_weights(members, Y, rows=rows) == search_weights(part, Y[rows])


def test_blend_does_not_depend_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    members, _ = rare(3)
    weights = {"0": 0.5, "1": 0.25, "2": 0.25, "3": 0.0}
    whole = blending.blend(members, weights)
    monkeypatch.setattr(blending, "BLOCK", 100)
    np.testing.assert_array_equal(blending.blend(members, weights), whole)
    plain = sum(weight * members[name].astype(np.float64) for name, weight in weights.items() if weight)
    np.testing.assert_array_equal(whole, np.clip(plain, 0, 1).astype(np.float32))
