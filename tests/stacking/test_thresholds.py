"""Thresholds against brute force over every possible cut."""

from __future__ import annotations

import itertools
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from counting import calls_in
from labelstack.scoring.metrics import AVERAGES, Average, f_beta
from labelstack.stacking.deciding import thresholds

Case = tuple[NDArray[np.uint8], NDArray[np.float32]]


@st.composite
def cases(draw: st.DrawFn, n: int = 9, n_labels: int = 4) -> Case:
    shape = draw(st.tuples(st.integers(1, n), st.integers(1, n_labels)))
    Y = draw(arrays(np.uint8, shape, elements=st.integers(0, 1)))
    few = st.sampled_from(np.float32([0, 0.1, 0.3, 0.5, 0.7, 1]).tolist())  # ties are common
    any_value = st.floats(0, 1, width=32)
    return Y, draw(arrays(np.float32, shape, elements=st.one_of(few, any_value)))


def cuts(p: NDArray[np.float32]) -> list[float]:
    """Thresholds that stand for every way to cut the values: each itself, and one above all."""
    return [*np.unique(p).tolist(), 2.0]


def f1(Y: NDArray[np.uint8], P: NDArray[np.float32], t: object, metric: Average, beta: float = 1) -> float:
    return f_beta(Y, np.greater_equal(P, np.asarray(t, np.float32)), average=metric, beta=beta)


@settings(max_examples=150, deadline=None)
@given(cases(), st.sampled_from(AVERAGES), st.sampled_from([0.5, 1.0, 2.0]))
def test_global_is_the_best_single_threshold(case: Case, metric: Average, beta: float) -> None:
    Y, P = case
    chosen = thresholds.choose(Y, P, "global", 0.3, metric, beta)
    assert len(np.unique(chosen)) == 1
    best = max(f1(Y, P, t, metric, beta) for t in cuts(P))
    assert f1(Y, P, chosen, metric, beta) == pytest.approx(best, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(cases(), st.sampled_from([1.0, 2.0]))
def test_macro_is_each_labels_optimum(case: Case, beta: float) -> None:
    Y, P = case
    chosen = thresholds.choose(Y, P, "per_label", 0.3, "macro", beta)
    best = np.mean([max(f1(Y[:, [j]], P[:, [j]], t, "macro", beta) for t in cuts(P[:, j])) for j in range(Y.shape[1])])
    assert f1(Y, P, chosen, "macro", beta) == pytest.approx(best, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(cases(n=6, n_labels=3), st.sampled_from([1.0, 2.0]))
def test_micro_is_the_optimum_over_all_combinations(case: Case, beta: float) -> None:
    Y, P = case
    chosen = thresholds.choose(Y, P, "coordinate_ascent", 0.3, "micro", beta)
    every = itertools.product(*(cuts(P[:, j]) for j in range(Y.shape[1])))
    best = max(f1(Y, P, t, "micro", beta) for t in every)
    assert f1(Y, P, chosen, "micro", beta) == pytest.approx(best, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(cases(), st.sampled_from([1.0, 2.0]))
def test_no_single_change_improves_samples(case: Case, beta: float) -> None:
    Y, P = case
    chosen = thresholds.choose(Y, P, "coordinate_ascent", 0.3, "samples", beta)
    reached = f1(Y, P, chosen, "samples", beta)
    for j in range(Y.shape[1]):
        for t in cuts(P[:, j]):
            changed = chosen.copy()
            changed[j] = t
            assert f1(Y, P, changed, "samples", beta) <= reached + 1e-8


@settings(max_examples=150, deadline=None)
@given(cases(n=30, n_labels=8), st.sampled_from(AVERAGES), st.floats(0, 1))
def test_coordinate_ascent_is_not_below_global_nor_global_below_fixed(
    case: Case, metric: Average, fixed: float
) -> None:
    Y, P = case
    f = [
        f_beta(Y, thresholds.apply(P, thresholds.choose(Y, P, s, fixed, metric)), average=metric)
        for s in ("fixed", "global", "coordinate_ascent")
    ]
    assert f[0] <= f[1] + 1e-12
    assert f[1] <= f[2] + 1e-12


@settings(max_examples=100, deadline=None)
@given(cases(), st.sampled_from(AVERAGES), st.sampled_from([1.0, 2.0]))
def test_per_label_is_each_labels_own_optimum_whatever_the_metric(case: Case, metric: Average, beta: float) -> None:
    Y, P = case
    chosen = thresholds.choose(Y, P, "per_label", 0.3, metric, beta)
    for j in range(Y.shape[1]):
        own = f1(Y[:, [j]], P[:, [j]], chosen[[j]], "macro", beta)
        assert own == pytest.approx(max(f1(Y[:, [j]], P[:, [j]], t, "macro", beta) for t in cuts(P[:, j])), abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(cases(n=5, n_labels=4), st.sampled_from(["micro", "macro"]), st.sampled_from([1.0, 2.0]))
def test_groups_are_at_the_optimum_over_all_combinations(case: Case, metric: Average, beta: float) -> None:
    Y, P = case
    names = ["a", "b", "a", "b"][: Y.shape[1]]
    chosen = thresholds.choose(Y, P, "per_group", 0.3, metric, beta, names)
    columns = [[j for j, name in enumerate(names) if name == group] for group in dict.fromkeys(names)]
    best = 0.0
    for pair in itertools.product(*(cuts(P[:, c].ravel()) for c in columns)):
        t = np.empty(len(names))
        for c, value in zip(columns, pair, strict=True):
            t[c] = value
        best = max(best, f1(Y, P, t, metric, beta))
    assert f1(Y, P, chosen, metric, beta) == pytest.approx(best, abs=1e-9)
    assert all(len(np.unique(chosen[c])) == 1 for c in columns)


@settings(max_examples=80, deadline=None)
@given(cases(), st.sampled_from([1.0, 2.0]))
def test_no_change_of_one_group_improves_samples(case: Case, beta: float) -> None:
    Y, P = case
    names = ["a", "b", "b", "c"][: Y.shape[1]]
    chosen = thresholds.choose(Y, P, "per_group", 0.3, "samples", beta, names)
    reached = f1(Y, P, chosen, "samples", beta)
    assert reached >= f1(Y, P, thresholds.choose(Y, P, "global", 0.3, "samples", beta), "samples", beta) - 1e-9
    for group in set(names):
        columns = [j for j, name in enumerate(names) if name == group]
        for t in cuts(P[:, columns].ravel()):
            changed = chosen.copy()
            changed[columns] = t
            assert f1(Y, P, changed, "samples", beta) <= reached + 1e-8


@settings(max_examples=60, deadline=None)
@given(cases(), st.sampled_from(AVERAGES))
def test_one_group_is_global_and_groups_of_one_are_as_good_as_labels(case: Case, metric: Average) -> None:
    Y, P = case
    wanted = thresholds.choose(Y, P, "global", metric=metric)
    np.testing.assert_array_equal(thresholds.choose(Y, P, "per_group", metric=metric), wanted)
    if metric != "samples":
        alone = thresholds.choose(Y, P, "per_group", metric=metric, groups=[str(j) for j in range(Y.shape[1])])
        ascent = thresholds.choose(Y, P, "coordinate_ascent", metric=metric)
        assert f1(Y, P, alone, metric) == pytest.approx(f1(Y, P, ascent, metric), abs=1e-9)


def test_soft_labels_count_from_one_half() -> None:
    rng = np.random.default_rng(0)
    soft, P = rng.random((60, 3)), rng.random((60, 3)).astype(np.float32)
    for strategy in ("global", "per_label", "coordinate_ascent"):
        np.testing.assert_array_equal(
            thresholds.choose(soft, P, strategy),  # type: ignore[arg-type]
            thresholds.choose(soft >= 0.5, P, strategy),  # type: ignore[arg-type]
        )


def test_groups_must_name_every_label() -> None:
    with pytest.raises(ValueError, match="groups must name a group for each of the 2 labels, not for 1"):
        thresholds.choose([[0, 1]], [[0.1, 0.2]], "per_group", groups=["a"])


def test_thresholds_lie_midway() -> None:
    P = np.float32([[0.1], [0.2], [0.6], [0.9]])
    for strategy in ("global", "per_label"):
        chosen = thresholds.choose([[0], [0], [1], [1]], P, strategy, metric="macro")  # type: ignore[arg-type]
        assert chosen == pytest.approx([0.4])
        assert chosen.dtype == np.float32


def test_neighbouring_floats_are_told_apart() -> None:
    low = np.float32(0.5)
    P = np.array([[low], [np.nextafter(low, np.float32(1))]])
    chosen = thresholds.choose([[0], [1]], P, "per_label", metric="macro")
    assert thresholds.apply(P, chosen).ravel().tolist() == [False, True]


def test_label_without_positives_is_given_to_no_image() -> None:
    rng = np.random.default_rng(0)
    Y, P = rng.random((50, 4)) < 0.4, rng.random((50, 4)).astype(np.float32)
    Y[:, 2] = False
    P[0, 2] = 1
    for metric in AVERAGES:
        chosen = thresholds.choose(Y, P, "per_label", metric=metric)
        assert not thresholds.apply(P, chosen)[:, 2].any()
        assert chosen[2] == np.nextafter(np.float32(1), np.float32(2))


def test_nothing_true_at_all() -> None:
    P = np.full((3, 2), 0.5, np.float32)
    for strategy in ("global", "per_label"):
        chosen = thresholds.choose(np.zeros((3, 2)), P, strategy)  # type: ignore[arg-type]
        np.testing.assert_allclose(chosen, 0.75)


def test_fixed_and_apply() -> None:
    P = np.float32([[0.3, 0.29], [0.31, 0.9]])
    chosen = thresholds.choose(np.eye(2), P, "fixed", 0.3)
    np.testing.assert_array_equal(chosen, np.float32([0.3, 0.3]))
    assert thresholds.apply(P, chosen).tolist() == [[True, False], [True, True]]  # at the threshold counts
    assert thresholds.apply(P, 0.3).tolist() == thresholds.apply(P, chosen).tolist()
    with pytest.raises(ValueError, match="thresholds must be"):
        thresholds.apply(P, [0.1, 0.2, 0.3])


def test_work_grows_with_the_labels_and_not_with_the_images() -> None:
    rng = np.random.default_rng(0)
    Y = rng.random((3000, 228)) < 0.03
    P = np.clip(Y * 0.3 + rng.random(Y.shape) * 0.7, 0, 1).astype(np.float32)
    whole, fewer_images, fewer_labels = (
        calls_in(partial(thresholds.choose, Y[rows, labels], P[rows, labels], "coordinate_ascent", metric="samples"))
        for rows, labels in (
            (slice(None), slice(None)), (slice(500), slice(None)), (slice(None), slice(57)),
        )
    )  # fmt: skip
    assert whole < 1.1 * fewer_images
    assert whole < 4.4 * fewer_labels
    assert whole < 200 * 228


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"strategy": "best"}, "strategy must be"),
        ({"metric": "weighted"}, "metric must be"),
        ({"fixed": 1.5}, "fixed must be"),
        ({"beta": 0}, "beta above 0"),
        ({"P": np.full((3, 2), np.nan)}, "P holds NaN"),
        ({"P": np.full((3, 2), 2.0)}, "P must hold probabilities"),
        ({"Y": np.ones((2, 2))}, "Y has 2 images and 2 labels, P has 3 and 2"),
    ],
)
def test_bad_input_is_refused_by_name(change: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"Y": np.ones((3, 2)), "P": np.full((3, 2), 0.5)}
    with pytest.raises(ValueError, match=message):
        thresholds.choose(**(arguments | change))  # type: ignore[arg-type]
