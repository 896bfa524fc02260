"""Runs to pixels and back: against plain loops over pixels, against pycocotools, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco

from labelstack.masks.run_lengths import (
    areas,
    concatenated,
    decode,
    encode,
    encode_map,
    paint,
    sized,
    smallest_last,
)

sides = st.integers(1, 9)
pictures = st.tuples(st.integers(0, 5), sides, sides).flatmap(lambda shape: arrays(bool, shape))
maps = st.tuples(sides, sides).flatmap(lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 4)))


def looped(mask: np.ndarray) -> list[tuple[int, int]]:
    """Start and length of each run, a pixel after the other down the columns."""
    height, width = mask.shape
    runs, begin = [], None
    for place in range(height * width + 1):
        inside = place < height * width and mask[place % height, place // height]
        if inside and begin is None:
            begin = place
        if not inside and begin is not None:
            runs.append((begin, place - begin))
            begin = None
    return runs


@settings(deadline=None)
@given(pictures)
def test_encodes_as_a_loop_over_pixels_does_and_decodes_again(masks: np.ndarray) -> None:
    runs = encode(masks)
    for i, mask in enumerate(masks):
        one = runs.take([i])
        assert list(zip(one.start.tolist(), one.length.tolist(), strict=True)) == looped(mask)
    assert len(runs) == len(masks)
    if len(masks):
        assert np.array_equal(decode(runs), masks)
    assert areas(runs).tolist() == masks.sum(axis=(1, 2)).tolist()


@settings(deadline=None)
@given(pictures.filter(len))
def test_agrees_with_pycocotools(masks: np.ndarray) -> None:
    theirs = coco.encode(np.asfortranarray(masks.transpose(1, 2, 0).astype(np.uint8)))
    assert np.array_equal(coco.decode(theirs).transpose(2, 0, 1).astype(bool), decode(encode(masks)))
    assert coco.area(theirs).tolist() == areas(encode(masks)).tolist()
    height, width = masks.shape[1:]
    for i in range(len(masks)):
        one = encode(masks[i : i + 1])
        ends = np.stack([one.start, one.start + one.length], axis=1).ravel()
        counts = np.diff(ends, prepend=0, append=height * width).tolist()
        as_theirs = coco.frPyObjects({"size": [height, width], "counts": counts}, height, width)
        assert np.array_equal(coco.decode(as_theirs).astype(bool), masks[i])


@settings(deadline=None)
@given(maps)
def test_a_map_is_its_values_masks(picture: np.ndarray) -> None:
    values, runs = encode_map(picture, background=0)
    assert values.tolist() == sorted(set(picture.ravel().tolist()) - {0})
    for place, value in enumerate(values):
        assert np.array_equal(decode(runs.take([place]))[0], picture == value)
    assert np.array_equal(paint(runs, values, 0, picture.shape), picture)


@settings(deadline=None)
@given(pictures.filter(len), st.data())
def test_later_masks_are_seen_where_masks_overlap(masks: np.ndarray, data: st.DataObject) -> None:
    values = np.array(data.draw(st.lists(st.integers(0, 200), min_size=len(masks), max_size=len(masks))), np.uint8)
    expected = np.full(masks.shape[1:], 255, np.uint8)
    for mask, value in zip(masks, values, strict=True):
        expected[mask] = value
    assert np.array_equal(paint(encode(masks), values, 255), expected)


def test_the_smallest_lies_on_top() -> None:
    masks = np.zeros((3, 4, 4), bool)
    masks[0, 1, 1] = True  # a button
    masks[1] = True  # on a shirt
    masks[2, :3, :3] = True  # with a pocket
    order = smallest_last(encode(masks))
    assert order.tolist() == [1, 2, 0]
    picture = paint(encode(masks).take(order), np.array([7, 8, 9], np.uint8)[order], 0)
    assert picture.tolist() == [[9, 9, 9, 8], [9, 7, 9, 8], [9, 9, 9, 8], [8, 8, 8, 8]]


@settings(deadline=None)
@given(pictures, st.data())
def test_takes_and_joins_masks(masks: np.ndarray, data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.integers(0, max(len(masks) - 1, 0)), max_size=6 if len(masks) else 0))
    places = np.array(chosen, np.int64)
    taken = encode(masks).take(places)
    assert len(taken) == len(chosen)
    if chosen:
        assert np.array_equal(decode(taken), masks[places])
        assert np.array_equal(decode(concatenated([taken, encode(masks)])), np.concatenate([masks[places], masks]))


def test_masks_of_several_sizes_are_no_picture() -> None:
    mixed = concatenated([sized([0], [1], [1], 2, 2), sized([0], [1], [1], 3, 2)])
    with pytest.raises(ValueError, match="one size, found 2 sizes of 2 masks"):
        decode(mixed)


def test_no_masks() -> None:
    none = encode(np.zeros((0, 3, 5), bool))
    assert decode(none).shape == (0, 0, 0)
    assert paint(none, np.zeros(0, np.uint8), 9, (2, 3)).tolist() == [[9, 9, 9], [9, 9, 9]]
