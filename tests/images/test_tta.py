"""Test-time views: which part each shows, by hand and by Pillow, and random ones from id and seed alone."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from labelstack.images.loader import evaluation_batches, shown_batches
from labelstack.images.pixels import tta
from labelstack.images.pixels.decode import decode
from labelstack.images.pixels.tta import TRANSFORMS, Looks, part_seen
from labelstack.images.shards.shard_files import images_by_id
from labelstack.params.prediction_views import NINE, OneView, ViewSection, single_views
from labelstack.support.box import Box

Make = Callable[..., Path]
AREA = OneView(area=(0.6, 1), ratio=(0.8, 1.25), seed=3, number=0)
MIXED = (
    OneView(),
    OneView(flip=True),
    OneView(crop="top_left", share=0.5),
    OneView(crop="right", scale=1.5, flip=True),
)


def gradient(width: int, height: int) -> bytes:
    """A PNG whose red says the column and whose green says the row."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0], pixels[..., 1] = np.arange(width), np.arange(height)[:, None]
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


PARTS = {  # of 80 × 60 pixels, a half: 40 × 30; left and top
    "top_left": (0, 0), "top": (20, 0), "top_right": (40, 0),
    "left": (0, 15), "center": (20, 15), "right": (40, 15),
    "bottom_left": (0, 30), "bottom": (20, 30), "bottom_right": (40, 30),
}  # fmt: skip


@pytest.mark.parametrize("place", NINE)
def test_nine_crops_lie_where_their_names_say(place: str) -> None:
    assert part_seen(OneView(crop=place, share=0.5), 80, 60, 1) == (*PARTS[place], 40, 30)


def test_odd_rests_lie_to_the_right_and_below_and_a_pixel_is_left() -> None:
    assert part_seen(OneView(crop="center", share=0.5), 9, 7, 1) == (2, 1, 4, 4)  # 4.5 and 3.5 rounded to even
    assert part_seen(OneView(crop="bottom_right", share=0.001), 9, 7, 1) == (8, 6, 1, 1)
    assert part_seen(OneView(crop="center", share=1.0), 9, 7, 1) == (0, 0, 9, 7)


def test_a_scale_is_a_square_of_the_short_side() -> None:
    assert part_seen(OneView(crop="center", scale=1.0), 80, 60, 1) == (10, 0, 60, 60)
    assert part_seen(OneView(crop="top_right", scale=1.5), 80, 60, 1) == (40, 0, 40, 40)
    assert part_seen(OneView(crop="bottom", scale=1.5), 60, 90, 1) == (10, 50, 40, 40)


def test_at_a_scale_of_1_the_nine_crops_of_a_square_are_one() -> None:
    views = single_views(["nine"], {"nine": ViewSection(crop="nine", scale=1)}, 0)
    assert {part_seen(view, 50, 50, 1) for view in views.values()} == {(0, 0, 50, 50)}
    assert len({part_seen(view, 70, 50, 1) for view in views.values()}) == 3


def test_parts_are_cut_at_the_stored_resolution_and_then_resized() -> None:
    """A part as large as the network's square keeps every pixel; Pillow's crop is the oracle."""
    data = gradient(80, 60)
    whole = Image.open(io.BytesIO(data))
    looks = Looks((OneView(crop="top_left", scale=1.5), OneView(crop="right", scale=1.5, flip=True)), 40)
    first, second = looks(data, 1)
    np.testing.assert_array_equal(first, np.asarray(whole.crop((0, 0, 40, 40))))
    np.testing.assert_array_equal(second, np.asarray(whole.crop((40, 10, 80, 50)))[:, ::-1])
    half = Looks((OneView(crop="bottom_right", share=0.5),), 16)(data, 1)[0]
    buffer = io.BytesIO()
    whole.crop((40, 30, 80, 60)).save(buffer, "PNG")
    np.testing.assert_array_equal(half, decode(buffer.getvalue(), 16))


def test_a_letterbox_keeps_the_ratio_of_a_part() -> None:
    data = gradient(80, 40)
    seen = Looks((OneView(crop="left", share=0.5),), 16, "letterbox")(data, 1)[0]
    np.testing.assert_array_equal(seen[:4], np.broadcast_to(seen[4], (4, 16, 3)))  # the border repeated outwards
    assert 0 <= seen[..., 0].max() < 40


def test_a_box_comes_first() -> None:
    """The part is one of what the box shows."""
    data = gradient(80, 60)
    seen = Looks((OneView(crop="top_left", share=0.5),), 20)(data, 1, Box(0.5, 0, 1, 1))[0]
    assert seen[..., 0].min() >= 40
    assert seen[..., 0].max() < 60
    assert seen[..., 1].max() < 30


@given(
    st.integers(0, 2**63 - 1), st.integers(0, 2**31 - 1), st.integers(0, 63), st.integers(1, 300), st.integers(1, 300)
)
def test_random_parts_depend_on_id_seed_and_number_and_lie_inside(
    image_id: int, seed: int, number: int, width: int, height: int
) -> None:
    for view in (
        AREA.model_copy(update={"seed": seed, "number": number}),
        OneView(crop="random", scale=1.2, seed=seed, number=number),
        OneView(crop="random", share=0.7, seed=seed, number=number),
    ):
        found = left, top, w, h = part_seen(view, width, height, image_id)
        assert found == part_seen(view.model_copy(update={"flip": True}), width, height, image_id)
        assert 0 <= left < left + w <= width
        assert 0 <= top < top + h <= height


def test_other_ids_seeds_and_numbers_have_other_parts_within_the_range() -> None:
    parts = [part_seen(AREA, 400, 300, image_id) for image_id in range(200)]
    assert len(set(parts)) == 200
    shares = np.array([w * h / (400 * 300) for _, _, w, h in parts])
    assert 0.58 < shares.min() < 0.65
    assert shares.max() < 1.01
    assert part_seen(AREA.model_copy(update={"number": 1}), 400, 300, 5) != parts[5]
    assert part_seen(AREA.model_copy(update={"seed": 4}), 400, 300, 5) != parts[5]


def test_random_parts_are_the_same_for_ever() -> None:
    """Versions recorded elsewhere must be predicted again alike."""
    assert part_seen(AREA, 400, 300, 12345) == (12, 7, 288, 284)


def test_an_image_is_decoded_once_for_all_views(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = list[int]()
    real = tta.read_seen

    def counting(data: bytes | memoryview, *how: Any) -> NDArray[np.uint8]:
        counted.append(len(data))
        return real(data, *how)

    monkeypatch.setattr(tta, "read_seen", counting)
    assert Looks(MIXED, 16)(gradient(40, 30), 1).shape == (4, 16, 16, 3)
    assert len(counted) == 1


def test_whole_views_are_the_squares_and_passes_of_before() -> None:
    looks = Looks((OneView(), OneView(flip=True)), 16, "letterbox")
    np.testing.assert_array_equal(looks(gradient(40, 30), 1), decode(gradient(40, 30), 16, "letterbox"))
    assert looks.transforms == [TRANSFORMS["identity"], TRANSFORMS["hflip"]]
    assert list(looks.groups(7, 4)) == [slice(0, 7)]


def test_groups_are_as_large_as_a_batch_holds_and_end_with_the_images() -> None:
    looks = Looks(MIXED, 16)
    assert list(looks.groups(7, 8)) == [slice(0, 2), slice(2, 4), slice(4, 6), slice(6, 7)]
    assert list(looks.groups(2, 3)) == [slice(0, 1), slice(1, 2)]
    assert list(looks.groups(0, 8)) == []
    assert looks.transforms == []


@pytest.mark.parametrize("batch_size", [3, 8, 64])
def test_shards_give_every_image_its_views_in_any_batch(make_shards: Make, batch_size: int) -> None:
    shards, boxes = make_shards(23), {2: Box(0.25, 0, 1, 0.75)}
    stored = images_by_id(shards, np.arange(1, 24))
    looks = Looks((*MIXED, AREA), 16)
    found = list(shown_batches(shards, None, looks, batch_size, boxes))
    assert [int(i) for ids, _ in found for i in ids] == list(range(1, 24))
    assert max(images.shape[0] for _, images in found) == max(1, batch_size // 5)
    for ids, images in found:
        for image_id, image in zip(ids.tolist(), images, strict=True):
            np.testing.assert_array_equal(image, looks(stored[image_id], image_id, boxes.get(image_id)))


def test_whole_views_come_in_the_batches_of_before(make_shards: Make) -> None:
    shards, some = make_shards(23), np.array([2, 3, 17, 22])
    looks = Looks((OneView(), OneView(flip=True)), 16)
    for wanted in (None, some):
        now = list(shown_batches(shards, wanted, looks, 4))
        before = list(evaluation_batches(shards, wanted, 16, 4))
        assert [ids.tolist() for ids, _ in now] == [ids.tolist() for ids, _ in before]
        for (_, shown), (_, images) in zip(now, before, strict=True):
            np.testing.assert_array_equal(shown, images)
