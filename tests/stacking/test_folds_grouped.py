"""Folds that keep sources whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from labelstack.stacking.folds import assign_folds
from labelstack.stacking.grouped_folds import deal_sources
from labelstack.stacking.sources import blocks, source_codes
from labelstack.support.errors import UserError


def clustered(sizes: Sequence[int] | NDArray[np.int64], n_labels: int, seed: int) -> tuple[NDArray, NDArray]:
    """Labels bool [n, n_labels], which images of one source share more than others do, and sources [n]."""
    rng = np.random.default_rng(seed)
    source = np.repeat(np.arange(len(sizes)), sizes)
    frequency = 0.5 / np.arange(1, n_labels + 1) ** 0.8
    own = frequency * rng.lognormal(-0.5, 1, (len(sizes), n_labels))
    return rng.random((len(source), n_labels)) < np.minimum(own, 0.9)[source], source


def unevenness(Y: NDArray, folds: NDArray, k: int) -> float:
    """Mean standard deviation over the folds of a label's count, each relative to the label's mean."""
    counts = np.stack([Y[folds == fold].sum(axis=0) for fold in range(k)])
    return float((counts.std(axis=0) / np.maximum(counts.mean(axis=0), 1e-9)).mean())


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=2, max_size=25), st.integers(1, 6), st.integers(0, 5), st.data())
def test_no_source_is_split_and_every_fold_used(
    sizes: list[int], n_labels: int, seed: int, data: st.DataObject
) -> None:
    k = data.draw(st.integers(2, len(sizes)))
    Y, source = clustered(sizes, n_labels, seed)
    shuffled = np.random.default_rng(seed).permutation(len(Y))
    Y, source = Y[shuffled], source[shuffled]
    folds = assign_folds(Y, k, seed, source=source)
    assert folds.dtype == np.int64
    assert np.array_equal(np.unique(folds), np.arange(k))
    assert len(np.unique(np.stack([source, folds]), axis=1).T) == len(sizes)
    assert np.array_equal(folds, assign_folds(Y, k, seed, source=source))
    rows = np.bincount(folds)
    assert rows.max() - rows.min() <= max(sizes)


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 9), st.integers(2, 24), st.integers(0, 5), st.data())
def test_sources_of_one_size_make_folds_of_as_many(size: int, n_sources: int, seed: int, data: st.DataObject) -> None:
    k = data.draw(st.integers(2, n_sources))
    Y, source = clustered([size] * n_sources, 5, seed)
    counts = np.bincount(assign_folds(Y, k, seed, source=source)) // size
    assert sorted(counts.tolist()) == sorted(len(some) for some in np.array_split(np.arange(n_sources), k))


@pytest.mark.parametrize("skewed", [False, True])
def test_labels_and_rows_are_more_even_than_at_random(skewed: bool) -> None:
    k, dealt, at_random = 5, [], []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        sizes = 1 + rng.geometric(0.05, 200) if skewed else np.full(200, 12)
        Y, source = clustered(sizes, 30, seed)
        folds = assign_folds(Y, k, seed, source=source)
        dealt.append(unevenness(Y, folds, k))
        at_random.append(unevenness(Y, rng.permutation(np.arange(200) % k)[source], k))
        rows = np.bincount(folds)
        assert rows.max() - rows.min() <= 3
    assert np.mean(dealt) < np.mean(at_random) / 2


def test_images_that_are_their_own_sources_are_as_even_as_without() -> None:
    Y, source = clustered([1] * 2000, 30, 0)
    folds = assign_folds(Y, 5, 0, source=source)
    assert np.array_equal(np.bincount(folds), [400] * 5)
    assert unevenness(Y, folds, 5) < 1.2 * unevenness(Y, assign_folds(Y, 5, 0), 5)


def test_sources_with_the_same_label_part() -> None:
    Y = np.repeat(np.array([[1, 0], [1, 0], [0, 1], [0, 1]], bool), 2, axis=0)
    for seed in range(10):
        a, b, c, d = assign_folds(Y, 2, seed, source=blocks(8, 4))[::2].tolist()
        assert a != b
        assert c != d


def test_the_seed_breaks_ties_of_folds_and_of_sources() -> None:
    different = np.repeat([0, 1], [5, 3])
    assert {int(assign_folds(np.ones((8, 1)), 2, seed, source=different)[0]) for seed in range(20)} == {0, 1}
    drawn = [assign_folds(np.ones((6, 1)), 2, seed, source=blocks(6, 3))[::2] for seed in range(40)]
    assert {frozenset(np.flatnonzero(folds == folds.sum() // 2).tolist()) for folds in drawn} == {
        frozenset(pair) for pair in ([0, 1], [0, 2], [1, 2])
    }


def test_the_rarest_label_is_dealt_first() -> None:
    """Six sources of two images; one image of two of them has the rare label, one of all has the other."""
    Y = np.zeros((12, 2), bool)
    Y[::2, 0] = True
    Y[[1, 3], 1] = True
    for seed in range(20):
        folds = assign_folds(Y, 2, seed, source=blocks(12, 6))
        assert folds[1] != folds[3]
        assert np.bincount(folds).tolist() == [6, 6]


def test_all_labels_of_a_source_count_not_only_the_rarest() -> None:
    """Sources 0 and 1 share the rarest label and part; 2 has the most of label 1, like 0, and so goes with 1."""
    own = [{0: 5, 1: 8}, {0: 5}, {2: 6, 1: 8}, {2: 6}, {}, {}]
    source = np.repeat(np.arange(6), [8, 8, 9, 8, 8, 8])
    Y = np.zeros((49, 3), bool)
    for number, labels in enumerate(own):
        for label, count in labels.items():
            Y[np.flatnonzero(source == number)[:count], label] = True
    for seed in range(20):
        folds = assign_folds(Y, 2, seed, source=source)[np.searchsorted(source, np.arange(6))]
        assert folds[0] == folds[3] != folds[1] == folds[2]


def test_what_a_giant_takes_too_much_is_missing_to_all_others() -> None:
    """Sources 2, 3 and 4 have a label of source 1 each and would all go where it is not."""
    Y = np.zeros((140, 3), bool)
    Y[100:110] = True
    Y[110:120, 0] = Y[120:130, 1] = Y[130:140, 2] = True
    source = np.repeat(np.arange(5), [100, 10, 10, 10, 10])
    for seed in range(10):
        assert sorted(np.bincount(assign_folds(Y, 3, seed, source=source)).tolist()) == [20, 20, 100]


def test_big_sources_go_first() -> None:
    """Nine of one image have the rarest label: dealt before the two of nine images, they would spoil the balance."""
    Y = np.zeros((27, 2), bool)
    Y[:9, 0] = True
    Y[9:, 1] = True
    source = np.concatenate([np.arange(9), np.repeat([9, 10], 9)])
    for seed in range(10):
        folds = assign_folds(Y, 3, seed, source=source)
        assert np.bincount(folds).tolist() == [9, 9, 9]


def test_parts_of_different_shares() -> None:
    codes = blocks(200, 20)
    Y, _ = clustered([10] * 20, 8, 0)
    parts = deal_sources(Y, codes, [0.1, 0.3, 0.6], np.random.default_rng(0))
    assert np.bincount(parts).tolist() == [20, 60, 120]


def test_sources_may_be_words_or_numbers() -> None:
    Y, source = clustered([3, 1, 4, 1, 5, 9, 2, 6], 4, 0)
    expected = assign_folds(Y, 3, 0, source=source)
    words = [f"camera {number}" for number in source]
    assert np.array_equal(assign_folds(Y, 3, 0, source=words), expected)
    assert np.array_equal(assign_folds(Y, 3, 0, source=np.array(words, object)), expected)
    assert source_codes(["b", "a", "b", "c"], 4).tolist() == [1, 0, 1, 2]
    assert source_codes(np.array([5, 4, 5], object), 3).tolist() == [1, 0, 1]
    assert source_codes([30, -1, 30], 3).tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (["a", "b"], r"source must be \[3\], one for each image, not \[2\]"),
        ([0.5, 1.0, 2.0], "source must be strings or whole numbers throughout, found float"),
        (np.array(["a", None, "b"], object), "source must be strings or whole numbers throughout, found NoneType, str"),
        (np.array(["a", 1, "b"], object), "source must be strings or whole numbers throughout, found int, str"),
    ],
)
def test_sources_that_are_none(source: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        assign_folds(np.eye(3), 2, 0, source=source)


def test_fewer_sources_than_folds_are_the_users_to_mend() -> None:
    Y = np.ones((6, 1), bool)
    with pytest.raises(
        UserError, match=r"folds.k is 4: .* from 3 sources, .*; lower folds.k to 3 or less, or set folds.group_by"
    ):
        assign_folds(Y, 4, 0, source=blocks(6, 3))
    with pytest.raises(UserError, match=r"folds.k is 2: .* from 1 source, and no source is split; set folds.group_by"):
        assign_folds(Y, 2, 0, source=["one"] * 6)
    with pytest.raises(UserError, match=r"folds.k is 7: 6 images"):
        assign_folds(Y, 7, 0, source=blocks(6, 3))
    assert np.array_equal(np.unique(assign_folds(Y, 3, 0, source=blocks(6, 3))), [0, 1, 2])


@given(st.integers(2, 300), st.data())
def test_blocks_are_runs_of_neighbours(n: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(2, n))
    runs = blocks(n, count)
    assert runs.dtype == np.int64
    assert [run.tolist() for run in np.array_split(np.arange(n), count)] == [
        np.flatnonzero(runs == block).tolist() for block in range(count)
    ]


def test_impossible_blocks() -> None:
    assert blocks(7, 3).tolist() == [0, 0, 0, 1, 1, 2, 2]
    for count in (1, 8):
        with pytest.raises(UserError, match=f"{count} blocks: 7 images can be cut into 2 … 7"):
            blocks(7, count)
