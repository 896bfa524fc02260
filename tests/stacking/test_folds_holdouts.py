"""Rows held out at random, and a part with its share of every label."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelstack.stacking.holdouts import hold_out
from labelstack.stacking.shares import choose_share
from labelstack.stacking.sources import blocks
from labelstack.support.errors import UserError


@given(st.integers(1, 200), st.floats(0, 0.5), st.integers(1, 50), st.integers(0, 2**31 - 1))
def test_without_sources_rows_are_drawn_one_by_one(n: int, share: float, most: int, seed: int) -> None:
    expected = np.zeros(n, bool)
    expected[np.random.default_rng([seed, 1]).permutation(n)[: min(round(n * share), most)]] = True
    assert np.array_equal(hold_out(n, share, most, seed), expected)


def test_a_draw_of_before() -> None:
    assert np.flatnonzero(hold_out(30, 0.2, 5000, 7)).tolist() == [0, 6, 15, 17, 25, 27]


sizes_of_sources = st.lists(st.integers(1, 20), min_size=2, max_size=15)


@settings(max_examples=300, deadline=None)
@given(sizes_of_sources, st.floats(0, 1), st.integers(1, 100), st.integers(0, 9))
def test_whole_sources_as_near_as_half_a_source(sizes: list[int], share: float, most: int, seed: int) -> None:
    n = sum(sizes)
    source = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    chosen = hold_out(n, share, most, seed, source)
    held = set(source[chosen].tolist())
    left = set(source[~chosen].tolist())
    assert held | left == set(range(len(sizes)))
    assert not held & left
    assert left
    wanted = min(round(n * share), most)
    assert bool(held) == (wanted > 0)
    if wanted and min(sizes) > 2 * wanted:
        assert [sizes[code] for code in held] == [min(sizes)]
    elif wanted:
        assert chosen.sum() - wanted <= max(sizes[code] for code in held) / 2
        assert all(wanted - chosen.sum() < sizes[code] / 2 for code in left) or len(left) == 1
    assert np.array_equal(chosen, hold_out(n, share, most, seed, source))


def test_small_hold_outs_counted_by_hand() -> None:
    tens = blocks(100, 10)
    assert hold_out(100, 0.2, 5000, 0, tens).sum() == 20
    assert hold_out(100, 0.24, 5000, 0, tens).sum() == 20
    assert hold_out(100, 0.25, 5000, 0, tens).sum() == 30  # as near as 20
    assert hold_out(100, 0.5, 12, 0, tens).sum() == 10
    assert hold_out(100, 0.03, 5000, 0, tens).sum() == 10  # the smallest, although none is nearer
    assert hold_out(100, 0, 5000, 0, tens).sum() == 0
    assert hold_out(100, 1, 5000, 0, tens).sum() == 90
    uneven = np.repeat(["giant", "small", "big"], [80, 4, 16])
    assert set(uneven[hold_out(100, 0.01, 5000, 0, uneven)]) == {"small"}
    assert set(uneven[hold_out(100, 0.2, 5000, 3, uneven)]) == {"small", "big"}  # whatever is drawn first
    assert len({tuple(hold_out(100, 0.2, 5000, seed, tens)) for seed in range(9)}) > 1


def test_one_source_cannot_be_held_out() -> None:
    with pytest.raises(UserError, match=r"training.holdout is 0.1, and all 5 rows are of one source"):
        hold_out(5, 0.1, 5000, 0, ["all"] * 5)
    assert not hold_out(5, 0, 5000, 0, ["all"] * 5).any()


@settings(max_examples=150, deadline=None)
@given(st.integers(2, 60), st.floats(0.001, 0.999), st.integers(0, 5))
def test_a_share_of_rows_is_as_big_as_said(n: int, share: float, seed: int) -> None:
    Y = np.random.default_rng(seed).random((n, 5)) < 0.3
    size = int(choose_share(Y, share, seed).sum())
    assert 1 <= size <= n - 1
    assert abs(size - n * share) <= 0.5 + 1e-6 or size in (1, n - 1)


@settings(max_examples=150, deadline=None)
@given(sizes_of_sources, st.floats(0.001, 0.999), st.integers(0, 5))
def test_a_share_of_sources_splits_none(sizes: list[int], share: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    source = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    Y = rng.random((len(source), 4)) < 0.3
    chosen = choose_share(Y, share, seed, source)
    assert chosen.dtype == bool
    assert 0 < chosen.sum() < len(Y)
    assert not set(source[chosen]) & set(source[~chosen])
    assert abs(chosen.sum() - share * len(Y)) <= max(sizes)
    assert np.array_equal(chosen, choose_share(Y, share, seed, source))


@pytest.mark.parametrize("share", [0.1, 0.3, 0.8])
def test_every_label_has_its_share(share: float) -> None:
    rng = np.random.default_rng(0)
    Y = rng.random((3000, 40)) < np.concatenate([[0.004, 0.01, 0.02], rng.uniform(0.03, 0.5, 37)])
    chosen = choose_share(Y, share, 0)
    assert chosen.sum() == 3000 * share
    off = np.abs(Y[chosen].sum(axis=0) - share * Y.sum(axis=0))
    at_random = np.abs(Y[rng.permutation(chosen)].sum(axis=0) - share * Y.sum(axis=0))
    assert off[0] <= 0.5 + 1e-6  # the rarest label is dealt first
    assert off.mean() < at_random.mean() / 2


@pytest.mark.parametrize("share", [0.1, 0.3, 0.8])
def test_sources_of_every_size_and_label_are_on_both_sides(share: float) -> None:
    off, at_random = [], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        source = np.repeat(np.arange(300), 1 + rng.geometric(0.1, 300))
        own = rng.lognormal(-0.5, 1, (300, 20)) / np.arange(3, 23)
        Y = rng.random((len(source), 20)) < np.minimum(own, 0.9)[source]
        chosen = choose_share(Y, share, seed, source)
        drawn = (rng.permutation(300) < 300 * share)[source]
        assert abs(chosen.sum() - share * len(Y)) <= 1
        off.append(np.abs(Y[chosen].mean(axis=0) - Y.mean(axis=0)).mean())
        at_random.append(np.abs(Y[drawn].mean(axis=0) - Y.mean(axis=0)).mean())
        big = np.bincount(source)[source] > 20
        assert abs(big[chosen].mean() - big.mean()) < 0.12
    assert np.mean(off) < np.mean(at_random) / 2


def test_small_shares_counted_by_hand() -> None:
    Y = np.repeat(np.eye(3, dtype=bool), [10, 20, 30], axis=0)
    for seed in range(5):
        assert Y[choose_share(Y, 0.1, seed)].sum(axis=0).tolist() == [1, 2, 3]
    assert not np.array_equal(choose_share(Y, 0.1, 0), choose_share(Y, 0.1, 1))
    assert choose_share(Y, 0.01, 0, blocks(60, 6)).sum() == 10  # never nothing
    assert choose_share(Y, 0.99, 0, blocks(60, 6)).sum() == 50  # never everything


def test_impossible_shares() -> None:
    Y = np.ones((4, 1), bool)
    for share in (0, 1, 1.5, float("nan")):
        with pytest.raises(UserError, match=f"a share of {share:g} of the rows .* above 0 and below 1"):
            choose_share(Y, share, 0)
    with pytest.raises(UserError, match="from 4 rows of one source"):
        choose_share(Y, 0.5, 0, [3] * 4)
    with pytest.raises(UserError, match="from 1 row of one source"):
        choose_share(Y[:1], 0.5, 0)
