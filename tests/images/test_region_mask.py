"""Masks inside stored images: carried by the bytes, moved as the pixels are, refused where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from labelstack.images.loader import TrainingBatches, evaluation_batches, shown_batches
from labelstack.images.pixels.augment import build_augmenter
from labelstack.images.pixels.decode import decode, read_pixels, read_seen, to_stored_jpeg
from labelstack.images.pixels.region_mask import masked, region_box, with_mask
from labelstack.images.pixels.tta import Looks
from labelstack.images.region_crops import CropShards, CropStyle, crops
from labelstack.masks.run_lengths import encode
from labelstack.params.augment import AugmentSection
from labelstack.params.prediction_views import OneView
from labelstack.params.region_view import RegionView
from labelstack.support.box import Box
from labelstack.support.errors import UserError

CHANNEL, GREYED = RegionView("channel"), RegionView("grey")
MOVING = AugmentSection.model_validate(
    {"rotate": [-40, 40], "scale": [0.8, 1.2], "shift": [-0.1, 0.1], "crop": [0, 0.2], "chance": 0.9}
)


def jpeg(height: int = 40, width: int = 50, seed: int = 0) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (height // 5, width // 5, 3)).astype(np.uint8)
    written, data = cv2.imencode(".jpg", cv2.resize(noise, (width, height)))
    assert written
    return bytes(data)


def region(height: int = 40, width: int = 50, seed: int = 0) -> tuple[bytes, NDArray[np.bool_]]:
    inside = np.zeros((height, width), bool)
    inside[8:30, 10:25] = True
    return with_mask(jpeg(height, width, seed), inside, (10, 8, 25, 30)), inside


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=40)))
@settings(max_examples=60, deadline=None)
def test_any_mask_comes_back_and_the_pixels_stay(inside: NDArray[np.bool_]) -> None:
    height, width = inside.shape
    bare = cv2.imencode(".jpg", np.full((height, width, 3), 90, np.uint8))[1].tobytes()
    data = with_mask(bare, inside, (0, 0, width, height))
    seen = read_seen(memoryview(data), None, CHANNEL)
    assert np.array_equal(seen[..., 3], np.where(inside, 255, 0))
    assert np.array_equal(seen[..., :3], read_pixels(bare))
    assert np.array_equal(read_seen(data), read_pixels(bare))


def test_a_mask_of_many_runs_takes_several_segments() -> None:
    inside = np.indices((300, 300)).sum(axis=0) % 2 == 0  # 45,000 runs
    data = with_mask(jpeg(300, 300), inside, (0, 0, 300, 300))
    assert data.count(b"labelstack.region\0") > 2  # 180 kB
    assert np.array_equal(read_seen(data, None, CHANNEL)[..., 3] > 0, inside)
    assert to_stored_jpeg(data, 300, 90)[0] == data  # what is stored is stored again as it is


def test_a_run_may_be_longer_than_sixteen_bits() -> None:
    inside = np.zeros((300, 400), bool)
    inside[:, 250:] = True
    inside[5, 5] = True
    data = with_mask(jpeg(300, 400), inside, (0, 0, 400, 300))
    assert np.array_equal(read_seen(data, None, CHANNEL)[..., 3] > 0, inside)
    full = with_mask(jpeg(300, 400), ~np.zeros((300, 400), bool), (0, 0, 400, 300))
    assert (read_seen(full, None, CHANNEL)[..., 3] == 255).all()


def test_grey_is_all_but_the_region() -> None:
    data, inside = region()
    seen = read_seen(data, None, GREYED)
    assert (seen[~inside] == 128).all()
    assert np.array_equal(seen[inside], read_pixels(data)[inside])


def test_the_box_of_the_region_is_cut_out_unless_there_is_another() -> None:
    data, _ = region()
    assert region_box(data) == Box(10 / 50, 8 / 40, 25 / 50, 30 / 40)
    seen = read_seen(data, None, RegionView("channel", "region"))
    assert seen.shape == (22, 15, 4)
    assert (seen[..., 3] == 255).all()
    assert read_seen(data, Box(0, 0, 1, 0.5), RegionView("none", "region")).shape == (20, 50, 3)
    assert read_seen(data, Box(0, 0, 1, 0.5), CHANNEL).shape == (20, 50, 4)


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
@pytest.mark.parametrize("size", [16, 64])
def test_colours_of_a_square_are_those_without_a_mask(resize: Any, size: int) -> None:
    data, inside = region()
    square = decode(data, size, resize, None, CHANNEL)
    assert np.array_equal(square[..., :3], decode(data, size, resize))
    assert set(np.unique(square[..., 3]).tolist()) == {0, 255}
    if resize == "stretch":
        assert abs((square[..., 3] > 0).mean() - inside.mean()) < 0.03


def test_augmentation_moves_mask_and_colours_alike() -> None:
    """A picture that shows its own mask: white within, black without."""
    inside = np.zeros((64, 64), bool)
    inside[15:50, 20:40] = True
    white = np.where(inside[..., None], np.uint8(255), np.uint8(0)).repeat(3, axis=2)
    source = np.concatenate([white, np.where(inside, np.uint8(255), np.uint8(0))[..., None]], axis=2)
    augmenter, ids = build_augmenter(MOVING), np.arange(40)
    out = augmenter(np.stack([source] * 40), 7, ids)
    plain = build_augmenter(MOVING)(np.stack([white] * 40), 7, ids)
    assert np.array_equal(out[..., :3], plain)
    apart = (out[..., 3] > 127) != (out[..., :3].mean(axis=3) > 127)
    assert apart.mean() < 0.02
    assert ((out[..., 3] > 0) != inside).mean() > 0.1  # and it does move


def test_colours_and_erasing_leave_the_mask() -> None:
    policy = AugmentSection.model_validate(
        {
            "flip": 0, "rotate": [0, 0], "crop": [0, 0], "chance": 1, "gaussian_blur": [2, 3],
            "erase": {"chance": 1, "area": [0.2, 0.4]},
        }
    )  # fmt: skip
    data, _ = region(64, 64)
    square = decode(data, 64, "stretch", None, CHANNEL)
    out = build_augmenter(policy)(square[None], 3, np.array([5]))
    assert np.array_equal(out[0, ..., 3], square[..., 3])
    assert not np.array_equal(out[0, ..., :3], square[..., :3])


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    masks = np.zeros((1, 40, 50), bool)
    masks[0, 8:30, 10:25] = True
    writer = CropShards(tmp_path / "train", 4)
    for number in range(9):
        writer.add([number], crops(jpeg(seed=number), encode(masks), CropStyle(0.3, False, 95, True)))
    writer.close()
    return tmp_path / "train"


@pytest.mark.parametrize("changes", [{}, {"cache_bytes": 0}, {"source": True}], ids=["kept", "from shards", "cropped"])
def test_batches_are_the_same_with_worker_processes(shards: Path, changes: dict[str, Any]) -> None:
    crop = {"resized_crop": {"area": [0.3, 0.8]}} if changes.pop("source", False) else {}
    policy = AugmentSection.model_validate({"flip": 0.5, "rotate": [-30, 30], **crop})

    def epoch(workers: int, view: RegionView) -> tuple[str, list[NDArray[np.uint8]]]:
        with TrainingBatches(
            shards, np.arange(9), np.zeros((9, 1), np.float32), size=24, batch_size=4, seed=2, augment=policy,
            workers=workers, view=view, **changes,
        ) as batches:  # fmt: skip
            return batches.digest, [images for images, _ in batches.epoch(1)]

    (digest, here), (_, there) = epoch(0, CHANNEL), epoch(1, CHANNEL)
    plain_digest, plain = epoch(0, RegionView())
    assert digest != plain_digest
    assert [one.shape[1:] for one in here] == [(24, 24, 4)] * 3
    for one, other, without in zip(here, there, plain, strict=True):
        assert np.array_equal(one, other)
        assert np.array_equal(one[..., :3], without)


def test_what_is_evaluated_is_what_single_images_are(shards: Path) -> None:
    data = crops(jpeg(seed=3), encode(np.ones((1, 40, 50), bool)), CropStyle(0, False, 95, True))[0].jpeg
    (ids, images), *_ = evaluation_batches(shards, np.array([3, 4]), 24, 8, view=CHANNEL)
    assert images.shape == (2, 24, 24, 4)
    looks = Looks((OneView(), OneView(flip=True)), 24, region=CHANNEL)
    (_, shown), *_ = shown_batches(shards, np.array([3, 4]), looks, 8)
    assert np.array_equal(shown, images)
    mirrored = looks.transforms[1](shown)
    assert np.array_equal(mirrored[:, :, ::-1], images)
    parts = Looks((OneView(crop="center", share=0.5),), 24, region=CHANNEL)
    assert parts(data, 3).shape == (1, 24, 24, 4)
    assert (parts(data, 3)[..., 3] == 255).all()
    assert ids.tolist() == [3, 4]


def test_an_image_without_a_mask_is_refused_in_a_sentence() -> None:
    with pytest.raises(UserError, match=r"no mask lies beside the image.*hand whole photos to a version"):
        decode(jpeg(), 16, "stretch", None, CHANNEL)
    with pytest.raises(UserError, match="no mask lies beside the image"):
        decode(jpeg(), 16, "stretch", None, RegionView("none", "region"))


@pytest.mark.parametrize("place", range(6))
@pytest.mark.parametrize("value", [0, 1, 7, 2**32 - 1])
def test_numbers_of_a_stranger_are_refused(place: int, value: int) -> None:
    data, _ = region()
    begin = data.index(b"labelstack.region\0") + len(b"labelstack.region\0") + 1 + 4 * place
    changed = data[:begin] + value.to_bytes(4, "little") + data[begin + 4 :]
    if value != int.from_bytes(data[begin : begin + 4], "little"):
        try:
            box = region_box(changed)
        except UserError:
            return
        assert 0 <= box.left < box.right <= 1
        assert 0 <= box.top < box.bottom <= 1


def test_a_mask_of_another_size_is_refused() -> None:
    data = with_mask(jpeg(40, 50), np.ones((50, 40), bool), (0, 0, 40, 50))
    with pytest.raises(UserError, match="is of 40 x 50 pixels, and the image has 50 x 40"):
        masked(read_pixels(data), data, CHANNEL)
    cut = data[: data.index(b"labelstack.region") + 60] + data[data.index(b"labelstack.region") + 64 :]
    with pytest.raises(UserError):
        masked(read_pixels(data), cut, CHANNEL)
