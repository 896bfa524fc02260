"""Class maps are painted as their images show them, and move as these do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest

from images import golden
from labelstack.images.class_maps import StoredMaps, StoredPhotos
from labelstack.images.pixels.decode import decode, read_pixels
from labelstack.images.shards.shard_files import KEY_LENGTH, Shard, images_by_id, write_shard
from labelstack.masks.instance_table import SCHEMA, write_instances
from labelstack.masks.painted_maps import ClassMaps
from labelstack.masks.run_lengths import encode
from labelstack.params.augment import AugmentSection
from labelstack.segmentation.photo_batches import PhotoBatches

SIDES = [(120, 90), (80, 130), (100, 100), (60, 60)]
N, SIZE = 24, 64
BACKGROUND = 2
CLASSES = {10: 0, 20: 1}


def garment(number: int) -> np.ndarray:
    """A lopsided blob that touches the rim in some photos, bool."""
    height, width = SIDES[number % len(SIDES)]
    rng = np.random.default_rng(number)
    canvas = np.zeros((height, width), np.uint8)
    turns = np.linspace(0, 2 * np.pi, 9, endpoint=False)
    reach = np.array([width, height]) * rng.uniform(0.2, 0.42, (9, 1))
    centre = rng.uniform(0.35, 0.65, 2) * [width, height]
    outline = centre + reach * np.stack([np.cos(turns), np.sin(turns)], axis=1)
    cv2.fillPoly(canvas, [outline.astype(np.int32)], 1)
    return canvas.astype(bool)


def rows_of(image_id: int, categories: list[int], masks: np.ndarray) -> list[dict[str, Any]]:
    """Rows of the table."""
    runs = encode(masks)
    found = []
    for place, category in enumerate(categories):
        one = runs.take([place])
        pairs = np.stack([one.start + 1, one.length], axis=1).ravel().tolist()
        sides = dict.fromkeys(("left", "top", "right", "bottom", "area"), 0)
        height, width = masks.shape[1:]
        found.append(
            {"image_id": image_id, "category": category, "attributes": [], "runs": pairs, "height": height,
             "width": width, **sides}
        )  # fmt: skip
    return found


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of photos that are white where their garment is, and the table of garments, drawn twice as large."""
    root = tmp_path_factory.mktemp("photos")
    (root / "shards").mkdir()
    small = [garment(number) for number in range(N)]
    jpegs = [
        cv2.imencode(".jpg", np.repeat(mask[:, :, None], 3, axis=2).astype(np.uint8) * 255, [1, 98])[1].tobytes()
        for mask in small
    ]
    height, width = np.array([mask.shape for mask in small], np.int32).T
    shard = Shard(np.arange(N), [*jpegs], ["ok"] * N, width, height)
    write_shard(root / "shards/shard-00000.parquet", shard, ["k" * KEY_LENGTH] * N)
    rows = [
        row for number, mask in enumerate(small)
        for row in rows_of(number, [10], mask.repeat(2, axis=0).repeat(2, axis=1)[None])
    ]  # fmt: skip
    write_instances(root / "instances", pa.Table.from_pylist(rows, SCHEMA))
    return root


def stored(photos: Path) -> tuple[StoredPhotos, StoredMaps]:
    own = StoredPhotos(photos / "shards", np.arange(N))
    return own, StoredMaps(ClassMaps(photos / "instances", np.arange(N), CLASSES, BACKGROUND), own)


def agreement(photos: Path, policy: AugmentSection) -> list[float]:
    """Intersection over union of what is white and what is a garment, of all images of three epochs."""
    batches = PhotoBatches(*stored(photos), (SIZE, SIZE), 7, 5, policy, BACKGROUND)
    found = []
    for number in range(3):
        for images, drawn in batches.epoch(number):
            assert images.shape == (*drawn.shape, 3)
            assert set(np.unique(drawn)) <= {0, BACKGROUND}
            for image, one in zip(images, drawn, strict=True):
                white, ours = image[:, :, 1] > 127, one == 0
                found.append(float((white & ours).sum() / max((white | ours).sum(), 1)))
    assert len(found) == 3 * N
    return found


@pytest.mark.parametrize(
    ("policy", "least"),
    [
        ({}, 0.96),
        ({"flip": 0.5}, 0.96),
        ({"crop": (0.0, 0.2), "flip": 0.5}, 0.95),
        ({"rotate": (-40, 40)}, 0.95),
        ({"rotate": (-20, 20), "scale": (0.8, 1.3), "shift": (-0.1, 0.1), "shear": (-15, 15), "flip": 0.5,
          "crop": (0.0, 0.1)}, 0.94),
        ({"one_of": [{"chance": 1, "of": {"optical": {"strength": [-0.3, 0.3]}}}]}, 0.94),
        ({"one_of": [{"chance": 1, "of": {"perspective": {"strength": [0.05, 0.1]}}}]}, 0.94),
        ({"one_of": [{"chance": 1, "of": {"elastic": {"strength": [20, 20]}}}]}, 0.93),
        ({"rotate": (-20, 20), "one_of": [{"chance": 0.5, "of": {"optical": {}, "gamma": {}}}]}, 0.94),
    ],
)  # fmt: skip
def test_a_mask_moves_as_the_image_of_it(photos: Path, policy: dict[str, Any], least: float) -> None:
    found = agreement(photos, AugmentSection(**{**golden.OFF, **policy}))
    assert np.median(found) > least
    assert min(found) > least - 0.06


def test_stored_photos_are_what_the_shards_hold(photos: Path) -> None:
    own = StoredPhotos(photos / "shards", [5, 99, 0, 3])
    assert own.image_ids.tolist() == [5, 0, 3]
    jpegs = images_by_id(photos / "shards", own.image_ids)
    for place, image_id in enumerate(own.image_ids.tolist()):
        assert np.array_equal(own[place], read_pixels(jpegs[image_id]))
        assert own[place].shape[:2] == tuple(own.sides[place])


def test_a_map_shows_a_photo_as_decode_does(photos: Path) -> None:
    maps = ClassMaps(photos / "instances", np.arange(N), CLASSES, BACKGROUND)
    for number in range(4):
        picture = np.repeat(garment(number)[:, :, None], 3, axis=2).astype(np.uint8) * 255
        jpeg = cv2.imencode(".jpg", picture, [1, 98])[1].tobytes()
        white, ours = decode(jpeg, SIZE, "stretch")[:, :, 1] > 127, maps.at(number, SIZE, SIZE) == 0
        assert (white & ours).sum() / (white | ours).sum() > 0.95


def test_what_lies_on_top(tmp_path: Path) -> None:
    masks = np.zeros((3, 6, 6), bool)
    masks[0, 2:4, 2:4] = True  # a pocket that comes first
    masks[1] = True
    masks[2, 0] = True  # of a category that nobody asked for
    table = pa.Table.from_pylist(rows_of(7, [20, 10, 30], masks), SCHEMA)
    write_instances(tmp_path / "table", table)
    smallest, last = (ClassMaps(tmp_path / "table", [7, 8], CLASSES, BACKGROUND, on) for on in ("smallest", "last"))
    assert np.array_equal(smallest.at(7, 6, 6), np.where(masks[0], 1, 0))
    assert (last.at(7, 6, 6) == 0).all()
    assert (smallest.at(8, 3, 5) == BACKGROUND).all()  # no instances
    assert smallest.at(8, 3, 5).shape == (3, 5)
    assert np.array_equal(smallest.at(7, 12, 12), np.kron(smallest.at(7, 6, 6), np.ones((2, 2), np.uint8)))


def test_classes_that_do_not_fit_are_refused(photos: Path) -> None:
    with pytest.raises(ValueError, match="from 0 to 254"):
        ClassMaps(photos / "instances", np.arange(N), {10: 255}, BACKGROUND)


def test_masks_survive_the_table(photos: Path) -> None:
    maps = ClassMaps(photos / "instances", np.arange(N), CLASSES, BACKGROUND)
    large = garment(1).repeat(2, axis=0).repeat(2, axis=1)
    assert np.array_equal(maps.at(1, *large.shape) == 0, large)
