"""The metric of 2019: photos counted by hand, and a plain loop over thresholds and pairs of pixel masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from labelstack.masks.run_lengths import concatenated, encode, sized
from labelstack.scoring.instance_precision import Instances, instance_precision, matches, photo_scores

SIDE = 20
Row = tuple[int, int, set[int], np.ndarray]  # photo, category, attributes, mask


def bar(first: int, last: int) -> np.ndarray:
    """Pixels ``first`` … ``last`` − 1 down the first columns."""
    flat = np.zeros(SIDE * SIDE, bool)
    flat[first:last] = True
    return flat.reshape(SIDE, SIDE).T


def made(*rows: Row) -> Instances:
    masks = np.array([row[3] for row in rows], bool).reshape(-1, SIDE, SIDE)
    photo, category = (np.array([row[i] for row in rows], np.int64) for i in (0, 1))
    return Instances(photo, category, [frozenset(row[2]) for row in rows], encode(masks))


def looped(truth: list[Row], found: list[Row], n: int, attributes: bool) -> list[float]:
    """Threshold by threshold, the pairs by falling IoU, each instance once."""
    scores = []
    for photo in range(n):
        true, ours = ([row for row in rows if row[0] == photo] for rows in (truth, found))
        precisions = []
        for threshold in [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]:
            pairs = []
            for i, a in enumerate(true):
                for j, b in enumerate(ours):
                    union = int((a[3] | b[3]).sum())
                    same = a[1] == b[1] and (not attributes or a[2] == b[2])
                    if same and union and int((a[3] & b[3]).sum()) / union > threshold:
                        pairs.append((-int((a[3] & b[3]).sum()) / union, i, j))
            used_true, used_ours = set[int](), set[int]()
            for _, i, j in sorted(pairs):
                if i not in used_true and j not in used_ours:
                    used_true.add(i)
                    used_ours.add(j)
            hits = len(used_true)
            of = len(true) + len(ours) - hits
            precisions.append(hits / of if of else 1.0)
        scores.append(sum(precisions) / 10)
    return scores


def test_one_instance_counts_the_thresholds_below_its_iou() -> None:
    truth = made((0, 3, set(), bar(0, 100)))
    for pixels, hits in ((100, 10), (96, 10), (95, 9), (80, 6), (51, 1), (50, 0), (10, 0)):
        # strict: an IoU of exactly 0.95 is no hit at 0.95, one of exactly 0.5 none at all
        assert photo_scores(truth, made((0, 3, set(), bar(0, pixels))), 1).tolist() == [hits / 10]


def test_a_photo_by_hand() -> None:
    truth = made((0, 1, set(), bar(0, 100)), (0, 2, {7}, bar(100, 200)), (0, 3, set(), bar(200, 300)))
    found = made(
        (0, 1, set(), bar(0, 72)),  # IoU 0.72: a hit at 0.50 … 0.70
        (0, 2, {7, 8}, bar(100, 200)),  # the right mask, an attribute too many
        (0, 9, set(), bar(300, 350)),  # nothing there
    )
    # TP 1, FP 2, FN 2 at five thresholds, and no hit at the five others
    assert photo_scores(truth, found, 1)[0] == pytest.approx((5 * 1 / 5) / 10)
    # categories alone: 2 / 4 at five, 1 / 5 at five
    assert photo_scores(truth, found, 1, attributes=False)[0] == pytest.approx((5 * 2 / 4 + 5 * 1 / 5) / 10)


def test_photos_without_instances() -> None:
    one = made((0, 1, set(), bar(0, 9)))
    assert photo_scores(one, made(), 2).tolist() == [0, 1]
    assert photo_scores(made(), one, 2).tolist() == [0, 1]
    assert photo_scores(made(), made(), 1).tolist() == [1]


def test_attributes_are_a_set() -> None:
    truth = made((0, 1, {5, 2}, bar(0, 9)))
    assert photo_scores(truth, made((0, 1, {2, 5}, bar(0, 9))), 1).tolist() == [1]
    assert photo_scores(truth, made((0, 1, {2}, bar(0, 9))), 1).tolist() == [0]


def test_each_instance_is_matched_once() -> None:
    truth = made((0, 1, set(), bar(0, 100)))
    twice = made((0, 1, set(), bar(0, 80)), (0, 1, set(), bar(0, 90)))
    matched = matches(truth, twice)
    assert (matched.true.tolist(), matched.given.tolist()) == ([0], [1])  # the better one
    assert photo_scores(truth, twice, 1)[0] == pytest.approx(0.8 * 1 / 2)


def test_instances_of_other_photos_do_not_match() -> None:
    assert photo_scores(made((0, 1, set(), bar(0, 9))), made((1, 1, set(), bar(0, 9))), 2).tolist() == [0, 0]


@st.composite
def photos(draw: st.DrawFn) -> tuple[list[Row], list[Row]]:
    def rows() -> list[Row]:
        found = []
        for _ in range(draw(st.integers(0, 7))):
            first = draw(st.integers(0, 6))
            place = (draw(st.integers(0, 2)), draw(st.integers(0, 1)), draw(st.sets(st.integers(0, 1))))
            found.append((*place, bar(first, first + draw(st.integers(1, 12)))))
        return found

    return rows(), rows()


@settings(max_examples=150, deadline=None)
@given(photos(), st.booleans())
def test_agrees_with_the_loop(both: tuple[list[Row], list[Row]], attributes: bool) -> None:
    truth, found = both
    scores = photo_scores(made(*truth), made(*found), 3, attributes=attributes)
    assert scores == pytest.approx(looped(truth, found, 3, attributes))


def test_the_mean_has_an_interval_over_photos() -> None:
    truth = made(*[(photo, 1, set(), bar(0, 100)) for photo in range(40)])
    found = made(*[(photo, 1, set(), bar(0, 100 if photo % 2 else 60)) for photo in range(40)])
    told = instance_precision(truth, found, 40)
    assert told.score == pytest.approx((1.0 + 0.2) / 2)
    assert told.low < told.score < told.high
    assert instance_precision(truth, found, 40) == told
    same = instance_precision(truth, truth, 40)
    assert (same.score, same.low, same.high) == (1, 1, 1)


def test_what_does_not_fit_is_refused() -> None:
    one = made((0, 1, set(), bar(0, 9)))
    other: Any = Instances(one.photo, one.category, one.attributes, sized([0], [9], [1], 30, 30))
    with pytest.raises(ValueError, match="masks of one size in a photo"):
        photo_scores(one, other, 1)
    with pytest.raises(ValueError, match=r"given\.photo: expected places of 1 photos, found 3 … 3"):
        photo_scores(one, made((3, 1, set(), bar(0, 9))), 1)
    with pytest.raises(ValueError, match=r"have \[1, 2\] entries"):
        Instances(one.photo, one.category, one.attributes, concatenated([one.masks, one.masks]))
