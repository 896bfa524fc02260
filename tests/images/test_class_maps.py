"""Class maps move as their images do: masks painted as images and masks kept as runs come out alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest

from images import golden
from labelstack.images.class_maps import ClassMaps, MapBatches
from labelstack.images.loader import TrainingBatches
from labelstack.images.pixels.decode import decode
from labelstack.images.shards.shard_files import KEY_LENGTH, Shard, write_shard
from labelstack.masks.instance_table import SCHEMA, write_instances
from labelstack.masks.run_lengths import encode
from labelstack.params.augment import AugmentSection
from labelstack.support.box import Box

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


def batches(photos: Path, policy: AugmentSection | None, **options: Any) -> TrainingBatches:
    given: dict[str, Any] = {"size": SIZE, "batch_size": 7, "seed": 5, "workers": 0}
    return TrainingBatches(photos / "shards", np.arange(N), np.zeros((N, 1)), augment=policy, **{**given, **options})


def agreement(photos: Path, policy: AugmentSection | None, **options: Any) -> list[float]:
    """Intersection over union of what is white and what is a garment, of all images of three epochs."""
    own = batches(photos, policy, **options)
    maps = ClassMaps(photos / "instances", np.arange(N), CLASSES, BACKGROUND)
    found = []
    for number in range(3):
        for images, drawn in MapBatches(own, maps).epoch(number):
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
        (None, 0.96),
        ({"flip": 0.5}, 0.96),
        ({"crop": (0.0, 0.2), "flip": 0.5}, 0.95),
        ({"rotate": (-40, 40)}, 0.95),
        ({"rotate": (-20, 20), "scale": (0.8, 1.3), "shift": (-0.1, 0.1), "shear": (-15, 15), "flip": 0.5,
          "crop": (0.0, 0.1)}, 0.94),
        ({"resized_crop": {"chance": 1, "area": (0.4, 1)}, "flip": 0.5}, 0.95),
        ({"crop_if_needed": {"sides": 1}, "rotate": (-10, 10)}, 0.95),
        ({"one_of": [{"chance": 1, "of": {"optical": {"strength": [-0.3, 0.3]}}}]}, 0.94),
        ({"one_of": [{"chance": 1, "of": {"perspective": {"strength": [0.05, 0.1]}}}]}, 0.94),
        ({"one_of": [{"chance": 1, "of": {"elastic": {"strength": [20, 20]}}}]}, 0.93),
        ({"rotate": (-20, 20), "one_of": [{"chance": 0.5, "of": {"optical": {}, "gamma": {}}}]}, 0.94),
    ],
)  # fmt: skip
def test_a_mask_moves_as_the_image_of_it(photos: Path, policy: dict[str, Any] | None, least: float) -> None:
    section = None if policy is None else AugmentSection(**{**golden.OFF, **policy})
    found = agreement(photos, section)
    assert np.median(found) > least
    assert min(found) > least - 0.06


@pytest.mark.parametrize("policy", [None, {"rotate": (-20, 20), "scale": (0.8, 1.2), "flip": 0.5}])
def test_letterboxed_too(photos: Path, policy: dict[str, Any] | None) -> None:
    section = None if policy is None else AugmentSection(**{**golden.OFF, **policy})
    found = agreement(photos, section, resize="letterbox")
    assert np.median(found) > 0.93  # a garment at the rim goes on in the image's border, not in the map's


def test_maps_of_one_seed_are_the_same_whatever_the_batch(photos: Path) -> None:
    policy = AugmentSection(**{**golden.OFF, "rotate": (-40, 40), "flip": 0.5})
    maps = ClassMaps(photos / "instances", np.arange(N), CLASSES, BACKGROUND)

    def by_id(batch_size: int) -> dict[int, bytes]:
        own = batches(photos, policy, batch_size=batch_size)
        drawn = np.concatenate([one for _, one in MapBatches(own, maps).epoch(1)])
        return {int(own.image_ids[row]): one.tobytes() for row, one in zip(own.order(1), drawn, strict=True)}

    assert by_id(3) == by_id(24)


def test_shown_without_augmentation_as_decode_shows_the_image(photos: Path) -> None:
    maps = ClassMaps(photos / "instances", np.arange(N), CLASSES, BACKGROUND)
    for number in range(4):
        picture = np.repeat(garment(number)[:, :, None], 3, axis=2).astype(np.uint8) * 255
        jpeg = cv2.imencode(".jpg", picture, [1, 98])[1].tobytes()
        for resize in ("stretch", "letterbox"):
            white = decode(jpeg, SIZE, resize)[:, :, 1] > 127
            ours = maps.square(number, *picture.shape[:2], SIZE, resize) == 0
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


def test_boxes_and_classes_that_do_not_fit_are_refused(photos: Path) -> None:
    maps = ClassMaps(photos / "instances", np.arange(N), CLASSES, BACKGROUND)
    with pytest.raises(ValueError, match="whole images"):
        MapBatches(batches(photos, None, boxes={1: Box(0, 0, 0.5, 0.5)}), maps)
    with pytest.raises(ValueError, match="from 0 to 254"):
        ClassMaps(photos / "instances", np.arange(N), {10: 255}, BACKGROUND)


def test_masks_survive_the_table(photos: Path) -> None:
    maps = ClassMaps(photos / "instances", np.arange(N), CLASSES, BACKGROUND)
    large = garment(1).repeat(2, axis=0).repeat(2, axis=1)
    assert np.array_equal(maps.at(1, *large.shape) == 0, large)
