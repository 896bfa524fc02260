"""Photos with their regions drawn on them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from labelstack.masks.run_lengths import encode
from labelstack.segmentation import region_picture
from labelstack.segmentation.region_picture import HUES, draw_regions, hue, jpeg

SIDE = (320, 320)


def square(left: int, top: int, side: int, of: int = 32) -> NDArray[np.bool_]:
    mask = np.zeros((of, of), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def grey(height: int = 100, width: int = 80) -> NDArray[np.uint8]:
    return np.full((height, width, 3), 128, np.uint8)


def test_a_region_is_tinted_where_it_is_and_nothing_elsewhere() -> None:
    drawn = draw_regions(grey(320, 320), encode(square(8, 8, 16)[None]), [4], [""], SIDE)
    assert drawn.shape == (320, 320, 3)
    inside = drawn[100:220, 100:220].reshape(-1, 3)  # rows and columns 80 … 239 are the region's
    assert (inside == np.round(0.65 * 128 + 0.35 * np.array(HUES[4])).astype(np.uint8)).all()
    assert (drawn[:70] == 128).all()
    assert (drawn[:, 250:] == 128).all()
    edge = {tuple(pixel) for pixel in drawn[160, 75:90].tolist()}
    assert HUES[4] in edge
    assert (0, 0, 0) in edge  # so that the line shows on any photo


def test_smaller_regions_lie_on_top() -> None:
    masks = encode(np.stack([square(12, 12, 8), square(0, 0, 32)]))
    drawn = draw_regions(grey(320, 320), masks, [4, 5], ["", ""], SIDE)
    assert tuple(drawn[160, 160]) == tuple(np.round(0.65 * 128 + 0.35 * np.array(HUES[4])).astype(np.uint8))


@pytest.mark.parametrize(
    ("sides", "wanted"),
    [((100, 80), (640, 512)), ((3000, 2000), (1600, 1067)), ((900, 700), (900, 700)), ((1, 900), (1, 900))],
)
def test_pictures_are_large_enough_to_read_and_no_larger_than_a_screen(
    sides: tuple[int, int], wanted: tuple[int, int]
) -> None:
    photo = np.zeros((*sides, 3), np.uint8)
    assert draw_regions(photo, encode(square(4, 4, 8)[None]), [0], ["name"]).shape == (*wanted, 3)
    assert draw_regions(photo, encode(np.zeros((0, 8, 8), bool)), [], []).shape == (*wanted, 3)


def written(box: tuple[int, int], text: str, width: int = 320) -> NDArray[np.bool_]:
    """Where a picture differs between one with a region's name and one without."""
    masks = encode(square(*box, 6)[None])
    photo = cv2.resize(grey(), (width, 320))
    with_name, without = (draw_regions(photo, masks, [1], [one], SIDE) for one in (text, ""))
    return (with_name != without).any(axis=-1)


@pytest.mark.parametrize("box", [(0, 0), (26, 0), (0, 26), (26, 26), (13, 13)])
@pytest.mark.parametrize("text", ["skirt 0.93", "a name " * 40, "été 毛衣\n\x1b[31m"])
def test_names_are_in_the_picture_wherever_the_region_lies(box: tuple[int, int], text: str) -> None:
    rows, columns = np.flatnonzero(written(box, text).any(axis=1)), np.flatnonzero(written(box, text).any(axis=0))
    assert 13 <= len(rows) <= 40  # one line, high enough to read
    high, wide = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
    assert high == len(rows)  # whole, no part of it beyond the edge
    if "skirt" in text:
        assert 60 < wide < 120


def test_names_do_not_lie_on_each_other() -> None:
    masks = encode(np.stack([square(10, 10, 8)] * 4))
    names = ["one 0.91", "two 0.92", "three 0.93", "four 0.94"]
    taken: list[tuple[int, int, int, int]] = []
    labels = region_picture._Labels
    with pytest.MonkeyPatch.context() as patch:

        class Spy(labels):  # type: ignore[misc, valid-type]
            def __init__(self, *given: object) -> None:
                super().__init__(*given)
                self._taken = taken

        patch.setattr(region_picture, "_Labels", Spy)
        draw_regions(grey(320, 320), masks, [0, 1, 2, 3], names, SIDE)
    assert len(taken) == 4
    for i, (left, top, right, bottom) in enumerate(taken):
        assert 0 <= left < right <= 320
        assert 0 <= top < bottom <= 320
        for other in taken[:i]:
            assert right <= other[0] or other[2] <= left or bottom <= other[1] or other[3] <= top


def test_colours_cycle_and_letters_stand_out_from_all_of_them() -> None:
    assert [hue(i) for i in range(7)] == list(HUES)
    assert hue(9) == HUES[2]

    def luminance(colour: tuple[int, int, int]) -> float:
        parts = [c / 255 for c in colour]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return float(np.dot([0.2126, 0.7152, 0.0722], linear))

    for colour in HUES:
        light, dark = sorted((luminance(colour), luminance(region_picture._readable(colour))), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5  # what WCAG 2 asks for


def test_a_picture_is_a_file() -> None:
    read = cv2.imdecode(np.frombuffer(jpeg(np.full((20, 30, 3), (200, 10, 10), np.uint8)), np.uint8), cv2.IMREAD_COLOR)
    assert read.shape == (20, 30, 3)
    assert abs(read[10, 10].astype(int) - (10, 10, 200)).max() < 8
