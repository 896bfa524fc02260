"""Stratified folds, and out-of-fold prediction that survives a kill."""

from __future__ import annotations

import hashlib
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from counting import calls_in
from labelstack.stacking import assign_folds
from labelstack.support.errors import UserError


@settings(max_examples=150, deadline=None)
@given(st.data(), st.integers(2, 40), st.integers(1, 8), st.integers(0, 5))
def test_folds_are_even_and_repeatable(data: st.DataObject, n: int, n_labels: int, seed: int) -> None:
    Y = data.draw(arrays(np.uint8, (n, n_labels), elements=st.integers(0, 1)))
    k = data.draw(st.integers(2, n))
    folds = assign_folds(Y, k, seed)
    sizes = np.bincount(folds, minlength=k)
    assert len(sizes) == k
    assert sizes.max() - sizes.min() <= 1
    assert np.array_equal(folds, assign_folds(Y, k, seed))


def test_every_label_is_spread_over_the_folds() -> None:
    rng = np.random.default_rng(0)
    frequency = np.concatenate([[0.004, 0.01, 0.02], rng.uniform(0.03, 0.5, 37)])
    Y = rng.random((2500, 40)) < frequency
    folds = assign_folds(Y, 5, 0)
    counts = np.stack([Y[folds == fold].sum(axis=0) for fold in range(5)])
    random = rng.permutation(folds)
    at_random = np.stack([Y[random == fold].sum(axis=0) for fold in range(5)])
    assert counts[:, 0].max() - counts[:, 0].min() <= 1  # the rarest label is dealt first
    assert counts.std(axis=0).mean() < at_random.std(axis=0).mean() / 2


def test_seed_matters_and_rare_label_reaches_as_many_folds_as_it_has_images() -> None:
    Y = np.zeros((30, 2), bool)
    Y[:3, 0] = True
    Y[::2, 1] = True
    folds = assign_folds(Y, 5, 0)
    assert len(set(folds[:3])) == 3
    assert not np.array_equal(folds, assign_folds(Y, 5, 1))


def test_work_grows_with_the_images_and_hardly_with_the_labels() -> None:
    Y = np.random.default_rng(0).random((10_000, 228)) < 0.03
    assert np.array_equal(np.bincount(assign_folds(Y, 5, 0)), [2000] * 5)
    some, many, fewer_labels = (calls_in(partial(assign_folds, y, 5, 0)) for y in (Y[:2500], Y, Y[:, :57]))
    assert 40 * len(Y) > many
    assert many < 4.4 * some
    assert many < 1.2 * fewer_labels


def test_impossible_k_is_the_users_mistake() -> None:
    Y = np.eye(3, dtype=bool)
    for k in (4, 1):
        with pytest.raises(UserError, match=f"folds.k is {k}: 3 images"):
            assign_folds(Y, k, 0)


def test_folds_stay_what_they_were() -> None:
    """Folds of the version before sources, to the bit: results that stand on them stay."""
    image, label = np.arange(60)[:, None], np.arange(7)
    few = (image * image + 3 * image * label + label) % (2 * label + 3) == 0
    assert "".join(map(str, assign_folds(few, 4, 3).tolist())) == (
        "010200222132031000231120211131333032031313220300112321302123"
    )
    image, label = np.arange(3001)[:, None], np.arange(40)
    many = (image * image + 3 * image * label + label) % (3 * label + 2) == 0
    digest = hashlib.sha256(assign_folds(many, 7, 11).astype("<i8").tobytes()).hexdigest()
    assert digest == "1d5ce7edd34e1b172ce5c698b5a649dc882131b30c98f1e92e81cdffcd43a34d"
