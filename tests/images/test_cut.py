"""Images cut to boxes: by hand on a small one, and alike wherever they are decoded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from labelstack.images.loader import TrainingBatches, evaluation_batches
from labelstack.images.pixels.cut import cut
from labelstack.images.pixels.decode import decode
from labelstack.images.shards.shard_files import images_by_id
from labelstack.images.view_table import read_view, write_view
from labelstack.support.box import Box, as_rows, of_row
from labelstack.support.errors import UserError

Make = Callable[..., Path]
BOXES = {2: Box(0.25, 0.5, 0.75, 1), 5: Box(0, 0, 0.5, 0.5)}


def test_a_box_is_cut_to_the_nearest_pixels() -> None:
    image = np.arange(10 * 8 * 3, dtype=np.uint8).reshape(10, 8, 3)
    np.testing.assert_array_equal(cut(image, Box(0.25, 0.3, 0.75, 0.62)), image[3:6, 2:6])  # 6.2 rows end at 6
    np.testing.assert_array_equal(cut(image, Box(0, 0, 1, 1)), image)
    np.testing.assert_array_equal(cut(image, Box(0.99, 0.5, 1, 0.501)), image[5:6, 7:8])  # a pixel at least


def test_a_margin_is_a_share_of_the_box_and_ends_with_the_image() -> None:
    assert Box(0.25, 0.5, 0.75, 0.75).widened(0.5) == Box(0, 0.375, 1, 0.875)
    assert Box(0, 0.5, 0.5, 1).widened(0.25) == Box(0, 0.375, 0.625, 1)
    assert Box(0.25, 0.25, 0.75, 0.75).widened(0) == Box(0.25, 0.25, 0.75, 0.75)


def test_only_the_part_in_the_box_is_decoded_and_made_a_square() -> None:
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[20:, 20:] = 200
    data = cv2.imencode(".png", pixels)[1].tobytes()
    assert (decode(data, 16, box=Box(0.5, 0.5, 1, 1)) == 200).all()
    assert (decode(data, 16, box=Box(0, 0, 0.5, 1)) == 0).all()
    tall = decode(data, 16, "letterbox", Box(0.5, 0, 1, 1))
    assert tall[:7].max() == 0
    assert (tall[9:] == 200).all()


def test_rows_without_a_box_are_seen_whole() -> None:
    rows = as_rows(BOXES, np.array([1, 2]))
    assert rows is not None
    assert (of_row(rows[0]), of_row(rows[1])) == (None, BOXES[2])
    assert as_rows(None, np.array([1])) is None


def test_evaluation_sees_every_image_through_its_own_box(make_shards: Make) -> None:
    shards = make_shards(8)
    stored = images_by_id(shards, np.arange(1, 9))
    for ids, images in evaluation_batches(shards, None, 16, 3, boxes=BOXES):
        for image_id, image in zip(ids.tolist(), images, strict=True):
            np.testing.assert_array_equal(image, decode(stored[image_id], 16, box=BOXES.get(image_id)))


@pytest.mark.parametrize(("workers", "cache"), [(0, 2**20), (0, 0), (1, 0)])
def test_training_sees_the_same_with_and_without_workers(make_shards: Make, workers: int, cache: int) -> None:
    shards, ids = make_shards(8), np.arange(1, 9)
    stored = images_by_id(shards, ids)
    seen = {}
    with TrainingBatches(
        shards, ids, ids[:, None].astype(np.float32), size=16, batch_size=3, seed=0, augment=None, workers=workers,
        cache_bytes=cache, boxes=BOXES,
    ) as batches:  # fmt: skip
        for images, targets in batches.epoch(0):
            seen |= {int(target): image for image, target in zip(images, targets[:, 0], strict=True)}
    assert sorted(seen) == ids.tolist()
    for image_id, image in seen.items():
        np.testing.assert_array_equal(image, decode(stored[image_id], 16, box=BOXES.get(image_id)))


def test_a_view_comes_back_by_split_and_has_the_same_bytes_in_any_order(tmp_path: Path) -> None:
    boxes = {"train": BOXES, "test": {2: Box(0.1, 0.2, 0.3, 0.4)}}
    write_view(tmp_path / "one.parquet", boxes)
    write_view(tmp_path / "two.parquet", {"test": boxes["test"], "train": dict(reversed(BOXES.items()))})
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    assert {split: read_view(tmp_path / "one.parquet", split) for split in ("train", "validation", "test")} == {
        **boxes, "validation": {},
    }  # fmt: skip
    write_view(tmp_path / "none.parquet", {})
    assert read_view(tmp_path / "none.parquet", "train") == {}
    with pytest.raises(UserError, match="not found"):
        read_view(tmp_path / "absent.parquet", "train")
    (tmp_path / "none.parquet").write_text("no table")
    with pytest.raises(UserError, match="not a file with columns split, row_id, left"):
        read_view(tmp_path / "none.parquet", "train")
