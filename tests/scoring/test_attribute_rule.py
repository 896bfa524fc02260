"""When attributes are written: against every rule that there is, and against the metric itself."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from labelstack.masks.run_lengths import encode
from labelstack.scoring.attribute_rule import (
    FoundPairs,
    Written,
    chance_of,
    choose_rule,
    counted_right,
    pairs_of,
    photo_scores_of,
    written,
)
from labelstack.scoring.instance_precision import Instances, photo_scores


def drawn(seed: int, n_photos: int = 12, m: int = 40, n_categories: int = 2) -> FoundPairs:
    rng = np.random.default_rng(seed)
    photo = np.sort(rng.integers(0, n_photos, m))
    reached = rng.integers(1, 11, m)
    total = 2 * np.bincount(photo, minlength=n_photos) + rng.integers(0, 3, n_photos)
    return FoundPairs(
        photo,
        rng.integers(0, n_categories, m),
        np.arange(10) < reached[:, None],
        rng.random(m) < 0.4,
        rng.random((m, 1)) < 0.5,
        rng.random((m, 1)).round(1),
        total,
    )


def mean_score(found: FoundPairs, rule: dict[int, Written]) -> float:
    return float(photo_scores_of(found, counted_right(found, written(rule, found.category, found.chance))).mean())


@pytest.mark.parametrize("seed", range(5))
def test_the_rule_is_the_best_of_all(seed: int) -> None:
    """One category alone: every least chance is tried. Of two, no other choice for one of them is better."""
    alone = drawn(seed, n_categories=1)
    levels = [None, *np.unique(alone.chance).tolist()]
    best = max(mean_score(alone, {} if one is None else {0: Written(0, one)}) for one in levels)
    assert mean_score(alone, choose_rule(alone)) == pytest.approx(best)
    both = drawn(seed)
    rule = choose_rule(both)
    reached = mean_score(both, rule)
    for category, one in product((0, 1), levels):
        other = {key: how for key, how in rule.items() if key != category}
        other |= {} if one is None else {category: Written(0, one)}
        assert mean_score(both, other) <= reached + 1e-9


def test_attributes_that_are_always_wrong_are_never_written() -> None:
    found = drawn(1)
    wrong = FoundPairs(
        found.photo, found.category, found.hits, found.bare, found.right & False, found.chance, found.total
    )
    assert choose_rule(wrong) == {}


def test_a_set_below_its_least_chance_is_not_written() -> None:
    chance = np.array([[0.2, 0.9], [0.6, 0.1], [0.9, 0.8]])
    rule = {3: Written(0, 0.5), 4: Written(1, 0.85)}
    assert written(rule, np.array([3, 3, 4]), chance).tolist() == [-1, 0, -1]
    assert written(rule, np.array([4, 5, 3]), chance).tolist() == [1, -1, 0]


def test_scores_are_those_of_the_metric() -> None:
    rng = np.random.default_rng(0)
    masks = np.zeros((6, 8, 8), bool)
    masks[[0, 1], :4, :4], masks[[2, 3], 4:, :4], masks[[4, 5], :4, 4:] = True, True, True
    moved = masks.copy()
    moved[:, 3, 3] ^= True
    photo = np.array([0, 1, 0, 1, 0, 1])
    sets = [frozenset(rng.choice(3, 2, replace=False).tolist()) if i % 2 else frozenset[int]() for i in range(6)]
    category = np.array([0, 0, 1, 1, 2, 2])
    truth = Instances(photo, category, sets, encode(masks))
    for said in ([frozenset[int]()] * 6, sets, [frozenset({0, 1})] * 6):
        given = Instances(photo, category, said, encode(moved))
        i, j, hits = pairs_of(truth, given)
        right = np.array([sets[a] == said[b] for a, b in zip(i, j, strict=True)])
        bare = np.array([not sets[a] for a in i])
        found = FoundPairs(photo[j], category[i], hits, bare, right[:, None], np.ones((len(i), 1)), np.full(2, 6))
        assert photo_scores_of(found, right).tolist() == photo_scores(truth, given, 2).tolist()


def test_the_chance_of_a_set_is_the_product_over_labels() -> None:
    sets = np.array([[True, False], [False, False]])
    assert chance_of(sets, np.array([[0.8, 0.1], [0.5, 0.5]])) == pytest.approx([0.72, 0.25])
