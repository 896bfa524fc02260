"""Which labels are doubted: known errors are found, as by cleanlab alone; what cannot be judged is left alone."""

from __future__ import annotations

import numpy as np
import pytest
from cleanlab.filter import find_label_issues
from numpy.typing import NDArray

from labelstack.scoring.label_doubts import by_loss, label_doubts


def made_up(n: int = 400, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Probabilities of good models, the truth, and labels of which one in ten is left out and few are wrong."""
    rng = np.random.default_rng(seed)
    truth = rng.random((n, 4)) < [0.5, 0.3, 0.1, 0.05]
    P = np.clip(np.where(truth, 0.85, 0.1) + rng.normal(0, 0.08, truth.shape), 0.01, 0.99)
    given = np.where(truth, rng.random(truth.shape) > 0.1, rng.random(truth.shape) < 0.01)
    return P, truth, given


def test_errors_that_are_known_are_found() -> None:
    P, truth, given = made_up()
    found, wrong = label_doubts(P, given), truth != given
    hits = wrong[found.row, found.label]
    assert hits.mean() > 0.8
    assert hits.sum() / wrong.sum() > 0.8
    assert (found.given == given[found.row, found.label]).all()
    assert (found.probability == P[found.row, found.label]).all()
    assert {True, False} == set(found.given.tolist())  # both wrong ones and missing ones


def test_each_label_is_filtered_as_by_cleanlab_alone() -> None:
    P, _, given = made_up(seed=1)
    found = label_doubts(P, given)
    for label in range(4):
        alone = find_label_issues(given[:, label].astype(int), np.stack([1 - P[:, label], P[:, label]], 1), n_jobs=1)
        assert sorted(found.row[found.label == label].tolist()) == np.flatnonzero(alone).tolist()


def test_the_same_rows_in_another_order_are_doubted() -> None:
    P, _, given = made_up(seed=2)
    order = np.random.default_rng(0).permutation(len(P))
    one, other = label_doubts(P, given), label_doubts(P[order], given[order])
    assert set(zip(one.row.tolist(), one.label.tolist(), strict=True)) == set(
        zip(order[other.row].tolist(), other.label.tolist(), strict=True)
    )


@pytest.mark.parametrize("fill", [0, 1, 399, 400])
def test_a_label_that_says_nothing_is_not_judged(fill: int) -> None:
    P, _, given = made_up()
    given[:, 2] = np.arange(400) < fill
    found = label_doubts(P, given)
    assert 2 not in found.label
    rest = [0, 1, 3]
    without = label_doubts(P[:, rest], given[:, rest])
    assert found.row.tolist() == without.row.tolist()


def test_nothing_to_judge_gives_no_doubts() -> None:
    assert len(label_doubts(np.full((3, 2), 0.5), np.zeros((3, 2), bool))) == 0


def test_the_largest_losses_come_first() -> None:
    P = np.array([[0.9, 0.4], [0.2, 0.05]])
    Y = np.array([[False, True], [True, True]])
    found = by_loss(P, Y, 3)  # probabilities of what is given: 0.1, 0.4, 0.2, 0.05
    assert list(zip(found.row.tolist(), found.label.tolist(), strict=True)) == [(1, 1), (0, 0), (1, 0)]
    assert found.given.tolist() == [True, False, True]
