"""Regions cut out of photos: boxes counted by hand, what is grey, and shards of many photos."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from labelstack.images.pixels.decode import read_pixels, read_seen
from labelstack.images.pixels.region_mask import region_box
from labelstack.images.region_crops import CropShards, CropStyle, crop_boxes, crops, crops_of
from labelstack.images.shards.shard_files import ok_ids, read_shard, shard_paths
from labelstack.masks.run_lengths import RunLengths, decode, encode
from labelstack.params.region_view import RegionView
from labelstack.support.box import Box


def mask(height: int, width: int, top: int, bottom: int, left: int, right: int) -> RunLengths:
    pixels = np.zeros((1, height, width), bool)
    pixels[0, top:bottom, left:right] = True
    return encode(pixels)


def photo(colour: tuple[int, int, int], height: int = 60, width: int = 80) -> bytes:
    written, data = cv2.imencode(".png", np.full((height, width, 3), colour[::-1], np.uint8))
    assert written
    return bytes(data)


def test_a_box_is_scaled_to_the_photo_and_widened() -> None:
    region = mask(20, 40, 5, 15, 10, 20)  # 10 × 10 of a map of 20 × 40
    assert crop_boxes(region, 60, 80, 0).tolist() == [[20, 15, 40, 45]]
    assert crop_boxes(region, 60, 80, 0.1).tolist() == [[18, 12, 42, 48]]
    assert crop_boxes(region, 60, 80, 10).tolist() == [[0, 0, 80, 60]]


def test_a_region_smaller_than_a_pixel_is_one_pixel() -> None:
    corner = mask(600, 800, 599, 600, 799, 800)
    assert crop_boxes(corner, 60, 80, 0).tolist() == [[79, 59, 80, 60]]


def test_all_but_the_region_is_grey() -> None:
    wide = encode(np.stack([np.eye(60, 80, dtype=bool) | np.eye(60, 80, 30, dtype=bool)]))
    (kept,) = crops(photo((200, 30, 30)), wide, CropStyle(0, False, 100))
    assert np.abs(read_pixels(kept.jpeg).astype(int) - [200, 30, 30]).max() <= 3
    box = mask(60, 80, 10, 50, 10, 30)
    (grey,) = crops(photo((200, 30, 30)), box, CropStyle(1, True, 100))
    pixels = read_pixels(grey.jpeg).astype(int)  # 0 … 60 by 0 … 50
    assert pixels.shape == (grey.height, grey.width, 3) == (60, 50, 3)
    assert np.abs(pixels[14:46, 14:26] - [200, 30, 30]).max() <= 8
    assert np.abs(pixels[:4] - 128).max() <= 8
    assert np.abs(pixels[:, 36:] - 128).max() <= 8


def test_context_is_kept_around_the_box_of_the_region() -> None:
    box = mask(60, 80, 10, 30, 20, 40)  # left 20, top 10, 20 wide and high
    whole, most = photo((200, 30, 30)), 100
    (near,) = crops(whole, box, CropStyle(0.1, False, most, True, 0.5))
    assert (near.width, near.height) == (40, 40)  # 10 … 50 by 0 … 40
    assert region_box(near.jpeg) == Box(8 / 40, 8 / 40, 32 / 40, 32 / 40)
    (all_,) = crops(whole, box, CropStyle(0.1, False, most, True, None))
    assert (all_.width, all_.height) == (80, 60)
    assert region_box(all_.jpeg) == Box(18 / 80, 8 / 60, 42 / 80, 32 / 60)
    assert (read_seen(all_.jpeg, None, RegionView("channel"))[..., 3] == np.where(decode(box)[0], 255, 0)).all()
    (alone,) = crops(whole, box, CropStyle(0.1, False, most, True, 0.05))
    assert (alone.width, alone.height) == (24, 24)
    tight = [read_seen(one.jpeg, None, RegionView("channel", "region")) for one in (near, all_, alone)]
    assert all(np.array_equal(one[..., 3], tight[0][..., 3]) for one in tight)


def test_regions_of_many_photos_come_in_order_and_in_shards(tmp_path: Path) -> None:
    colours = [(10 * i, 0, 250 - 10 * i) for i in range(9)]
    region = mask(60, 80, 0, 20, 0, 20)
    shards = CropShards(tmp_path / "train", 4)
    for number, cut in enumerate(crops_of(((photo(one), region) for one in colours), CropStyle(0, False, 95))):
        shards.add([number], cut)
    shards.close()
    assert ok_ids(tmp_path / "train").tolist() == list(range(9))
    assert [len(read_shard(path).image_id) for path in shard_paths(tmp_path / "train")] == [4, 4, 1]
    jpegs = [data for path in shard_paths(tmp_path / "train") for data in read_shard(path).bytes]
    for colour, data in zip(colours, jpegs, strict=True):
        assert data is not None
        assert np.abs(read_pixels(data).mean(axis=(0, 1)) - colour).max() < 4
    CropShards(tmp_path / "train", 4).close()
    assert shard_paths(tmp_path / "train") == []
