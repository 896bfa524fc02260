"""Boxes, other sizes and what masks share: against pixels, OpenCV and pycocotools."""

from __future__ import annotations

import cv2
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco

from labelstack.masks.run_geometry import boxes, disjoint, iou, overlap, resized, shared_pixels
from labelstack.masks.run_lengths import concatenated, decode, encode, sized

sides = st.integers(1, 9)
pictures = st.tuples(st.integers(1, 5), sides, sides).flatmap(lambda shape: arrays(bool, shape))
two = st.tuples(st.integers(1, 4), st.integers(1, 4), sides, sides).flatmap(
    lambda s: st.tuples(arrays(bool, (s[0], *s[2:])), arrays(bool, (s[1], *s[2:])))
)


@settings(deadline=None)
@given(pictures)
def test_boxes_hold_all_pixels_and_no_more(masks: np.ndarray) -> None:
    for mask, box in zip(masks, boxes(encode(masks)), strict=True):
        y, x = np.nonzero(mask)
        expected = [x.min(), y.min(), x.max() + 1, y.max() + 1] if len(x) else [0] * 4
        assert box.tolist() == expected


@settings(deadline=None)
@given(pictures.filter(lambda masks: masks.any(axis=(1, 2)).all()))
def test_boxes_are_pycocotools(masks: np.ndarray) -> None:
    theirs = coco.toBbox(coco.encode(np.asfortranarray(masks.transpose(1, 2, 0).astype(np.uint8))))
    left, top, right, bottom = boxes(encode(masks)).T
    assert np.array_equal(np.stack([left, top, right - left, bottom - top], axis=1), theirs)


@settings(deadline=None)
@given(pictures, st.integers(1, 20), st.integers(1, 20))
def test_another_size_takes_the_pixel_in_which_the_middle_lies(masks: np.ndarray, height: int, width: int) -> None:
    rows = [(2 * y + 1) * masks.shape[1] // (2 * height) for y in range(height)]
    columns = [(2 * x + 1) * masks.shape[2] // (2 * width) for x in range(width)]
    smaller = resized(encode(masks), height, width)
    expected = masks[:, rows][:, :, columns]
    assert np.array_equal(decode(smaller), expected)
    again = encode(expected)
    assert np.array_equal(smaller.start, again.start)  # runs that touch are one
    assert np.array_equal(smaller.length, again.length)


def test_another_size_is_opencvs() -> None:
    rng = np.random.default_rng(0)
    masks = np.stack([cv2.blur(rng.random((61, 47)), (9, 9)) > level for level in (0.48, 0.5, 0.52)])
    for height, width in ((32, 32), (61, 20), (122, 94), (100, 47)):
        theirs = [
            cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST_EXACT) for mask in masks
        ]
        assert np.array_equal(decode(resized(encode(masks), height, width)), np.array(theirs, bool))


def test_masks_of_several_sizes_come_to_one() -> None:
    mixed = concatenated([encode(np.ones((1, 2, 2), bool)), encode(np.ones((1, 5, 3), bool))])
    assert decode(resized(mixed, 4, 6)).all()


@settings(deadline=None)
@given(pictures.filter(len))
def test_disjoint_masks_keep_what_no_earlier_one_has(masks: np.ndarray) -> None:
    taken, expected = np.zeros(masks.shape[1:], bool), []
    for mask in masks:
        expected.append(mask & ~taken)
        taken |= mask
    found, again = disjoint(encode(masks)), encode(np.array(expected))
    assert np.array_equal(decode(found), np.array(expected))
    assert np.array_equal(found.start, again.start)


@settings(deadline=None)
@given(two)
def test_overlap_is_that_of_pixels(pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = pair
    shared = np.array([[int((one & other).sum()) for other in b] for one in a])
    union = np.array([[int((one | other).sum()) for other in b] for one in a])
    assert np.array_equal(overlap(encode(a), encode(b)), shared)
    assert np.allclose(iou(encode(a), encode(b)), shared / np.maximum(union, 1))
    theirs = [coco.encode(np.asfortranarray(m.transpose(1, 2, 0).astype(np.uint8))) for m in (a, b)]
    filled = union > 0  # of two empty masks theirs is not a number
    assert np.allclose(coco.iou(*theirs, [0] * len(b))[filled], iou(encode(a), encode(b))[filled])


def test_pairs_of_photos_of_different_sizes() -> None:
    a = concatenated([sized([0], [4], [1], 2, 2), sized([0, 9], [3, 3], [2], 3, 5)])
    b = concatenated([sized([2], [7], [1], 3, 5), sized([3], [1], [1], 2, 2), sized([], [], [0], 3, 5)])
    assert shared_pixels(a, b, np.array([[0, 1], [1, 0], [1, 2]])).tolist() == [1, 1, 0]
    assert shared_pixels(a, b, np.zeros((0, 2), np.int64)).tolist() == []


def test_many_pairs_are_looked_up_in_parts(monkeypatch) -> None:
    rng = np.random.default_rng(1)
    a, b = encode(rng.random((6, 9, 8)) < 0.5), encode(rng.random((7, 9, 8)) < 0.5)
    whole = overlap(a, b)
    monkeypatch.setattr("labelstack.masks.run_geometry._CHUNK", 10)
    assert np.array_equal(overlap(a, b), whole)
