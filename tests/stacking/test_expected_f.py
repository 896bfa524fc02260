"""Decoding and label counts against sums over all label sets."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from labelstack.scoring.metrics import f_of_counts
from labelstack.stacking.deciding import expected_f as expected_f_module
from labelstack.stacking.deciding import label_counts
from labelstack.stacking.deciding.expected_f import decode
from labelstack.stacking.deciding.label_counts import count_distribution, fit_count_weights, largest_count

Weights = NDArray[np.float64] | None


def every_set(n_labels: int) -> NDArray[np.int64]:
    return np.array(list(itertools.product([0, 1], repeat=n_labels)))


def expected_f(p: NDArray[np.float64], beta: float, log_weights: Weights) -> NDArray[np.float64]:
    """Expected F of every label set, from the probability of every label set."""
    sets = every_set(len(p))
    chance = np.where(sets, p, 1 - p).prod(axis=1)
    if log_weights is not None:
        chance = chance * np.exp(log_weights[np.minimum(sets.sum(axis=1), len(log_weights) - 1)])
        chance /= chance.sum() or 1
    size = sets.sum(axis=1).astype(np.float64)
    true, predicted = np.meshgrid(size, size)  # a row for each answer
    f = f_of_counts((sets @ sets.T).astype(np.float64), true, predicted, beta)
    expected: NDArray[np.float64] = f @ chance
    return expected


probabilities = st.one_of(
    st.sampled_from(np.float32([0, 0.1, 0.5, 0.9, 1]).tolist()),  # ties and certainties are common
    st.floats(0, 1, width=32),
)


@settings(max_examples=250, deadline=None)
@given(
    st.integers(1, 8).flatmap(lambda n: arrays(np.float32, n, elements=probabilities)),
    st.floats(0.3, 4),
    st.none() | st.integers(1, 9).flatmap(lambda n: arrays(np.float64, n, elements=st.floats(-4, 4))),
)
def test_no_label_set_is_better(p: NDArray[np.float32], beta: float, log_weights: Weights) -> None:
    chosen = decode(p[None], beta, log_weights)[0]
    expected = expected_f(p.astype(np.float64), beta, log_weights)
    place = int("".join("1" if c else "0" for c in chosen), 2)
    assert expected[place] >= expected.max() - 1e-9


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 60), st.sampled_from([0.02, 0.2, 1.0]))
def test_many_labels_are_searched_to_the_end(seed: int, n_labels: int, scale: float) -> None:
    p = (np.random.default_rng(seed).random((3, n_labels)) * scale).astype(np.float32)
    chosen = decode(p)
    counts = count_distribution(p, n_labels)
    for row, ranked in enumerate(-np.sort(-p.astype(np.float64), axis=1)):
        assert counts[row].sum() == pytest.approx(1)
        value = []
        for k in range(1, n_labels + 1):
            first, rest = (count_distribution(part[None], len(part))[0] for part in (ranked[:k], ranked[k:]))
            hits, missed = np.meshgrid(np.arange(len(first)), np.arange(len(rest)), indexing="ij")
            value.append(float(np.sum(np.outer(first, rest) * 2 * hits / (hits + missed + k))))
        k = int(chosen[row].sum())
        assert value[k - 1] == pytest.approx(max(value), abs=1e-6)
        assert p[row][chosen[row]].min() >= p[row][~chosen[row]].max(initial=0)


def test_hand_computed() -> None:
    # {a}: 0.6 · (0.5 · 1 + 0.5 · 2/3) = 0.5; {a, b}: 0.3 · 1 + 0.5 · 2/3 = 0.633.
    assert decode([[0.6, 0.5]]).tolist() == [[True, True]]
    # One label for sure: an answer of two costs a third of the better one.
    exactly_one = np.array([-30.0, 0.0, -30.0])
    assert decode([[0.6, 0.5]], 1.0, exactly_one).tolist() == [[True, True]]
    assert decode([[0.8, 0.2]], 1.0, exactly_one).tolist() == [[True, False]]
    assert decode([[0.0, 0.0]]).tolist() == [[False, False]]
    assert decode([[0.0, 1e-6]]).tolist() == [[False, True]]
    assert decode([[0.3], [0.0]]).tolist() == [[True], [False]]


def test_a_large_beta_gives_more_labels() -> None:
    P = np.random.default_rng(0).random((50, 12)).astype(np.float32) * 0.4
    sizes = [decode(P, beta).sum() for beta in (0.5, 1.0, 2.0, 10.0)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


def test_images_are_decided_one_by_one() -> None:
    P = (np.random.default_rng(1).random((3000, 40)) ** 6).astype(np.float32)
    together = decode(P)
    np.testing.assert_array_equal(together[:50], np.vstack([decode(row[None]) for row in P[:50]]))
    np.testing.assert_array_equal(together[::-1], decode(P[::-1]))


def test_over_a_thousand_dense_labels() -> None:
    P = np.full((2, 1103), 0.5, np.float32)
    P[1, 3:] = 1e-4
    sizes = decode(P).sum(axis=1)
    assert sizes[0] == 1103
    assert sizes[1] == 3


def test_bad_input_is_refused() -> None:
    with pytest.raises(ValueError, match="beta"):
        decode([[0.5]], 0)
    with pytest.raises(ValueError, match="NaN"):
        decode([[np.nan]])


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 7).flatmap(lambda n: arrays(np.float64, (2, n), elements=st.floats(0, 1))))
def test_count_distribution_is_the_sum_over_all_sets(P: NDArray[np.float64]) -> None:
    sets = every_set(P.shape[1])
    found = count_distribution(P, P.shape[1])
    for row, p in enumerate(P):
        chance = np.where(sets, p, 1 - p).prod(axis=1)
        wanted = np.bincount(sets.sum(axis=1), chance, minlength=P.shape[1] + 1)
        np.testing.assert_allclose(found[row], wanted, atol=1e-9)
    cut = count_distribution(P, 1)
    np.testing.assert_allclose(cut, found[:, :2], atol=1e-9)


def test_largest_count_leaves_nothing_out() -> None:
    P = np.random.default_rng(0).random((20, 300)) ** 8
    most = largest_count(P)
    assert most < 300
    assert count_distribution(P, most).sum(axis=1).min() > 1 - 1e-7


def test_count_weights_match_the_observed_histogram() -> None:
    rng = np.random.default_rng(0)
    p = rng.random((3000, 6)) * 0.4
    Y = rng.random(p.shape) < p
    one = Y.sum(axis=1) == 1  # keep images with one label, and a few others
    keep = one | (rng.random(3000) < 0.05)
    counts = Y[keep].sum(axis=1)
    distribution = count_distribution(p[keep], 6)
    log_weights = fit_count_weights(counts, distribution)
    assert log_weights[1] == 0
    assert log_weights[0] < -1
    assert log_weights[2] < -1
    tilted = distribution * np.exp(log_weights)
    expected = (tilted / tilted.sum(axis=1, keepdims=True)).mean(axis=0)
    observed = np.bincount(counts, minlength=7) / len(counts)
    np.testing.assert_allclose(expected, observed, atol=0.005)


def test_independent_counts_need_no_weights() -> None:
    rng = np.random.default_rng(1)
    p = rng.random((20000, 5)) * 0.6
    counts = (rng.random(p.shape) < p).sum(axis=1)
    log_weights = fit_count_weights(counts, count_distribution(p, 5))
    # Weights that grow by a factor with each label are those of shifted logits; nothing else should be left.
    assert np.abs(log_weights[:4]).max() < 0.15


def test_count_weights_of_one_label() -> None:
    weights = fit_count_weights(np.array([0, 0, 1]), count_distribution(np.full((3, 1), 0.5), 1))
    assert weights[0] == 0
    assert np.exp(weights[1]) == pytest.approx(0.5, rel=0.05)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([4, 12, 40]))
def test_power_sums_count_improbable_labels_as_one_by_one_does(seed: int, power: int) -> None:
    P = (np.random.default_rng(seed).random((7, 300)) ** power).astype(np.float32)
    most = largest_count(P)
    exact = label_counts._one_by_one(np.ascontiguousarray(P.T), most)
    np.testing.assert_allclose(count_distribution(P, most), exact, atol=1e-8)


@pytest.mark.parametrize("power", [3, 12, 40])
@pytest.mark.parametrize("beta", [1.0, 2.0])
def test_the_most_probable_labels_decide_as_all_labels_do(
    monkeypatch: pytest.MonkeyPatch, power: int, beta: float
) -> None:
    rng = np.random.default_rng(power)
    P = (rng.random((60, 400)) ** power).astype(np.float32)
    P[:5] = np.round(P[:5], 1)  # ties
    P[5] = 0.3  # an image whose labels are all alike
    weights = np.linspace(0.5, -0.5, 8)
    found = decode(P, beta, weights)
    monkeypatch.setattr(expected_f_module, "_TOP", 400)
    np.testing.assert_array_equal(found, decode(P, beta, weights))
