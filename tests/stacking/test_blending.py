"""Blends: weights are convex, repeatable and never worse than the best member."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from counting import calls_in
from labelstack.scoring.metric import FMetric
from labelstack.scoring.metrics import AVERAGES, Average, f_beta
from labelstack.stacking import blend, search_weights
from labelstack.stacking.blending import likelihood_weights
from labelstack.support.errors import UserError

Members = dict[str, NDArray[np.float32]]


def make_members(n: int, n_labels: int, n_members: int, seed: int = 0) -> tuple[Members, NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(n, n_labels)) - 1
    Y = truth > 0
    noise = rng.uniform(0.8, 2.0, n_members)
    members = {
        f"m{i}": (1 / (1 + np.exp(-truth - rng.normal(size=truth.shape) * noise[i]))).astype(np.float32)
        for i in range(n_members)
    }
    return members, Y


def best_f(P: NDArray[np.float32], Y: NDArray[np.bool_], metric: Average, beta: float = 1) -> float:
    """F at the best of the thresholds 0, 0.01, …, 0.99, one by one."""
    bins = np.floor(P * np.float32(100))
    return max(f_beta(Y, bins >= t, average=metric, beta=beta) for t in range(100))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10_000), st.sampled_from(AVERAGES), st.sampled_from([0.05, 0.1, 0.3]), st.sampled_from([1.0, 2.0])
)
def test_weights_are_convex_repeatable_and_not_worse_than_any_member(
    seed: int, metric: Average, step: float, beta: float
) -> None:
    members, Y = make_members(25, 4, 4, seed)
    weights = search_weights(members, Y, step=step, metric=FMetric(metric, beta))
    assert list(weights) == list(members)
    assert sum(weights.values()) == pytest.approx(1)
    assert all(w >= 0 and round(w * round(1 / step), 9) % 1 == 0 for w in weights.values())
    assert weights == search_weights(members, Y, step=step, metric=FMetric(metric, beta))
    blended = best_f(blend(members, weights), Y, metric, beta)
    # A blended probability that lies on a bin's edge may fall to either side by rounding.
    assert blended >= max(best_f(p, Y, metric, beta) for p in members.values()) - 0.02


def test_single_member_and_a_useless_one() -> None:
    members, Y = make_members(200, 6, 1)
    assert search_weights(members, Y) == {"m0": 1.0}
    members["noise"] = np.random.default_rng(1).random((200, 6)).astype(np.float32)
    assert search_weights(members, Y)["noise"] <= 0.1
    perfect = {"noise": members["noise"], "truth": Y.astype(np.float32) * np.float32(0.8)}
    assert search_weights(perfect, Y) == {"noise": 0.0, "truth": 1.0}


@pytest.mark.parametrize("metric", AVERAGES)
def test_near_the_best_of_all_weights(metric: Average) -> None:
    members, Y = make_members(120, 5, 3, seed=4)
    found = best_f(blend(members, search_weights(members, Y, step=0.1, metric=FMetric(metric))), Y, metric)
    grid = [(a, b, 10 - a - b) for a in range(11) for b in range(11 - a)]
    every = [best_f(blend(members, dict(zip(members, np.array(w) / 10, strict=True))), Y, metric) for w in grid]
    assert found >= np.quantile(every, 0.9)
    assert found > max(best_f(p, Y, metric) for p in members.values())


def test_blend_helps_on_unseen_rows() -> None:
    members, Y = make_members(1000, 10, 5)
    weights = search_weights({name: p[:500] for name, p in members.items()}, Y[:500])
    unseen = {name: p[500:] for name, p in members.items()}
    assert best_f(blend(unseen, weights), Y[500:], "samples") > max(
        best_f(p, Y[500:], "samples") for p in unseen.values()
    )


def test_work_grows_with_the_members_and_not_with_the_images() -> None:
    few, many, twice = (
        calls_in(partial(search_weights, *make_members(n, 44, n_members)))
        for n, n_members in ((250, 12), (1000, 12), (500, 24))
    )
    assert many < 1.1 * few < 20_000
    assert twice < 2.2 * few


def test_blend_is_the_weighted_mean() -> None:
    a, b = np.float32([[0.2, 1.0]]), np.float32([[0.6, 1.0]])
    np.testing.assert_allclose(blend({"a": a, "b": b}, {"a": 0.25, "b": 0.75}), [[0.5, 1.0]], atol=1e-7)
    np.testing.assert_array_equal(blend({"a": a, "b": b}, {"a": 1.0}), a)
    assert blend({"a": a, "b": b}, {"b": 1.0, "gone": 0.0}).dtype == np.float32


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"a": 0.5, "c": 0.5}, r"unknown member\(s\) c \(there are: a\)"),
        ({"a": 0.9}, "sum to 1"),
        ({"a": 1.5, "b": -0.5}, "must be ≥ 0"),
        ({"a": float("nan")}, "must be ≥ 0"),
    ],
)
def test_bad_weights_are_the_users_mistake(weights: dict[str, float], message: str) -> None:
    members = {"a": np.zeros((2, 2))}
    if "b" in weights:
        members["b"] = np.zeros((2, 2))
    with pytest.raises(UserError, match=message):
        blend(members, weights)


def test_bad_input_is_refused_by_name() -> None:
    Y = np.eye(2)
    with pytest.raises(ValueError, match="members is empty"):
        search_weights({}, Y)
    with pytest.raises(ValueError, match="members must have one shape"):
        search_weights({"a": np.zeros((2, 2)), "b": np.zeros((2, 3))}, Y)
    with pytest.raises(ValueError, match=r"members\['a'\] must be numbers"):
        search_weights({"a": np.zeros(2)}, Y)
    with pytest.raises(ValueError, match="Y has 2 images"):
        search_weights({"a": np.zeros((3, 2))}, Y)
    with pytest.raises(ValueError, match="step must be"):
        search_weights({"a": Y}, Y, step=0)


def test_likelihood_weights_reach_the_optimum_for_rare_labels_too() -> None:
    """Rare labels make every loss small; the search must not take that for the end of it."""
    rng = np.random.default_rng(0)
    Y = rng.random((400, 200)) < 0.01
    good = np.clip(np.where(Y, 0.5, 0.005) + rng.random(Y.shape) * 0.002, 0, 1).astype(np.float32)
    poor = np.full(Y.shape, 0.01, np.float32)
    other = np.clip(np.where(Y, 0.3, 0.02) + rng.random(Y.shape) * 0.01, 0, 1).astype(np.float32)
    weights = likelihood_weights({"poor": poor, "good": good, "other": other}, Y)
    assert weights["good"] > 0.9
    right = [np.where(Y, p, 1 - p) for p in (poor, good, other)]

    def likelihood(values: list[float]) -> float:
        return float(np.log(sum(w * p for w, p in zip(values, right, strict=True))).mean())

    grid = [[a, b, 1 - a - b] for a in np.linspace(0, 1, 21) for b in np.linspace(0, 1 - a, 21)]
    assert likelihood(list(weights.values())) >= max(likelihood(w) for w in grid) - 1e-5
