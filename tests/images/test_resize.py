"""Whole images to squares, stretched or letterboxed, by every reader; movements of the augmentation, each alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from images import golden
from images.server import encoded, picture
from labelstack.images.loader import TrainingBatches, evaluation_batches
from labelstack.images.pixels.augment import build_augmenter
from labelstack.images.pixels.decode import decode
from labelstack.images.shards.shard_files import images_by_id, read_shard, shard_paths
from labelstack.images.workers import Portion, WorkerPool, make_images
from labelstack.params import load_params
from labelstack.params.augment import AugmentSection
from labelstack.params.models import Resize
from labelstack.support.errors import InputProblems

Make = Callable[..., Path]
Pixels = NDArray[np.uint8]


def stored(image: Pixels) -> bytes:
    return encoded(image, quality=98, subsampling=0)


def circle(width: int, height: int, radius: int) -> Pixels:
    image = np.full((height, width, 3), 20, np.uint8)
    return np.asarray(cv2.circle(image, (width // 2, height // 2), radius, (230, 230, 230), -1), np.uint8)


def extent(image: Pixels) -> tuple[int, int, float]:
    """Width, height and area of what is bright."""
    bright = image[..., 0] > 125
    rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
    return int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1, float(bright.sum())


@pytest.mark.parametrize(("width", "height"), [(200, 100), (100, 200), (80, 40), (131, 87)])
def test_letterbox_keeps_a_circle_a_circle_and_stretch_does_not(width: int, height: int) -> None:
    radius = min(width, height) // 3
    data, scale = stored(circle(width, height, radius)), 96 / max(width, height)
    across, down, area = extent(decode(data, 96, "letterbox"))
    assert abs(across - down) <= 1
    assert across == pytest.approx((2 * radius + 1) * scale, abs=2)
    assert area == pytest.approx(np.pi * (radius + 0.5) ** 2 * scale**2, rel=0.12)
    across, down, _ = extent(decode(data, 96))
    assert across / down == pytest.approx(height / width, rel=0.08)


@pytest.mark.parametrize(
    ("width", "height", "inner"),
    [(200, 100, (64, 32)), (100, 200, (32, 64)), (301, 7, (64, 1)), (7, 301, (1, 64)), (33, 77, (27, 64))],
)
def test_border_pixels_are_repeated_outwards(width: int, height: int, inner: tuple[int, int]) -> None:
    out = decode(stored(picture(3, width, height)), 64, "letterbox")
    top, left = (64 - inner[1]) // 2, (64 - inner[0]) // 2
    bottom, right = top + inner[1] - 1, left + inner[0] - 1
    assert (out[:top] == out[top]).all()
    assert (out[bottom:] == out[bottom]).all()
    assert (out[:, :left] == out[:, left : left + 1]).all()
    assert (out[:, right:] == out[:, right : right + 1]).all()
    middle = out[top : bottom + 1, left : right + 1].astype(int)
    shrunk = cv2.resize(picture(3, width, height), inner, interpolation=cv2.INTER_AREA)
    assert np.abs(middle - shrunk).mean() < 8  # the JPEG's loss


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
@pytest.mark.parametrize(
    ("width", "height"), [(1, 1), (1, 2), (1, 500), (500, 1), (2, 3), (97, 31), (31, 97), (48, 47), (1, 4000)]
)
@pytest.mark.parametrize("size", [16, 33])
def test_any_ratio_gives_the_exact_size(width: int, height: int, size: int, resize: Resize) -> None:
    grey = np.full((height, width, 3), 130, np.uint8)
    out = decode(stored(grey), size, resize)
    assert out.shape == (size, size, 3)
    assert out.dtype == np.uint8
    assert np.abs(out.astype(int) - 130).max() <= 1


@pytest.mark.parametrize("side", [20, 64, 90])
def test_a_square_image_is_the_same_either_way(side: int) -> None:
    data = stored(picture(1, side, side))
    assert (decode(data, 64, "letterbox") == decode(data, 64, "stretch")).all()


def test_stretch_is_the_default_and_plain_area_averaging() -> None:
    data = stored(picture(2, 120, 80))
    whole = cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    expected = cv2.resize(whole, (32, 32), interpolation=cv2.INTER_AREA)
    assert (decode(data, 32) == expected).all()
    assert (decode(data, 32, "stretch") == expected).all()
    assert (decode(data, 32, "letterbox") != expected).any()


@pytest.mark.parametrize(
    ("width", "height", "size", "filtered"),
    [
        (96, 64, 48, "linear"),
        (64, 64, 64, "linear"),
        (112, 64, 49, "linear"),
        (128, 96, 64, "area"),
        (64, 256, 60, "area"),
    ],
)
def test_bilinear_where_fewer_than_three_pixels_become_one(width: int, height: int, size: int, filtered: str) -> None:
    data = stored(picture(2, width, height))
    whole = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    filters = {"linear": cv2.INTER_LINEAR, "area": cv2.INTER_AREA}
    assert (decode(data, size) == cv2.resize(whole, (size, size), interpolation=filters[filtered])).all()


def test_views_decode_as_bytes_do() -> None:
    data = stored(picture(2, 30, 20))
    assert (decode(memoryview(b"x" + data)[1:], 16) == decode(data, 16)).all()
    with pytest.raises(ValueError, match="not an image"):
        decode(memoryview(b""), 16)


def jpegs(shards: Path) -> dict[int, bytes]:
    rows = [
        (int(image_id), data)
        for path in shard_paths(shards)
        for image_id, data in zip(read_shard(path).image_id, read_shard(path).bytes, strict=True)
    ]
    return {image_id: data for image_id, data in rows if data is not None}


@pytest.mark.parametrize("resize", ["stretch", "letterbox"])
def test_every_reader_passes_resize_on(make_shards: Make, resize: Resize) -> None:
    shards, ids = make_shards(12), np.arange(1, 13)
    expected = {image_id: decode(data, 16, resize) for image_id, data in jpegs(shards).items()}
    assert (expected[1] != decode(jpegs(shards)[1], 16, "stretch")).any() == (resize == "letterbox")
    for found, images in evaluation_batches(shards, None, 16, 5, resize):
        assert all((image == expected[int(image_id)]).all() for image_id, image in zip(found, images, strict=True))
    targets = ids[:, None].astype(np.float32)
    for cache_bytes, workers in itertools.product((0, 10**9), (0, 1)):
        options = {"size": 16, "batch_size": 5, "seed": 3, "augment": None, "workers": workers}
        with TrainingBatches(shards, ids, targets, resize=resize, cache_bytes=cache_bytes, **options) as batches:  # type: ignore[arg-type]
            epoch = list(batches.epoch(0))
        assert sum(len(images) for images, _ in epoch) == 12
        for images, chosen in epoch:
            assert all((image == expected[int(row[0])]).all() for image, row in zip(images, chosen, strict=True))


@pytest.mark.parametrize("cache_bytes", [0, 10**9], ids=["from shards", "kept"])
def test_workers_do_not_matter_to_letterboxed_augmented_batches(make_shards: Make, cache_bytes: int) -> None:
    shards, ids = make_shards(12), np.arange(1, 13)
    augment = AugmentSection(scale=(0.8, 1.2), shift=(-0.1, 0.1), shear=(-5, 5))
    epochs = []
    for workers in (0, 1):
        with TrainingBatches(
            shards, ids, ids[:, None].astype(np.float32), size=16, batch_size=5, seed=3, augment=augment,
            resize="letterbox", workers=workers, cache_bytes=cache_bytes,
        ) as batches:  # fmt: skip
            epochs.append(list(batches.epoch(0)))
    for (images, targets), (again, as_before) in zip(*epochs, strict=True):
        assert (images == again).all()
        assert (targets == as_before).all()


def test_a_worker_letterboxes_as_the_caller_does() -> None:
    parts = [stored(picture(seed, 50, 20)) for seed in range(3)]
    portion, there = Portion(parts, np.arange(3), 0), np.empty((3, 24, 24, 3), np.uint8)
    pool = WorkerPool(1, 24, None, "letterbox")
    try:
        pool.submit(portion, there).result()
    finally:
        pool.close()
    assert (there == make_images(portion, 24, None, "letterbox")).all()
    assert (there != make_images(portion, 24, None)).any()


def test_images_by_id_are_those_wanted_and_there(make_shards: Make) -> None:
    shards = make_shards(35, absent=(4, 30))
    everything = jpegs(shards)
    found = images_by_id(shards, np.array([31, 4, 2, 30, 9, 99]))
    assert found == {image_id: everything[image_id] for image_id in (2, 9, 31)}
    assert all(type(image_id) is int for image_id in found)
    assert images_by_id(shards, np.arange(1, 36)) == everything
    assert images_by_id(shards, np.zeros(0, np.int64)) == {}


# ---- movements of the augmentation, each alone ----

SIDE = 96


def bright_square(n: int = 60, side: int = 20) -> Pixels:
    batch = np.zeros((n, SIDE, SIDE, 3), np.uint8)
    low = (SIDE - side) // 2
    batch[:, low : low + side, low : low + side] = 255
    return batch


def moved(seed: int = 4, **changes: tuple[float, float]) -> NDArray[np.float64]:
    """The square after one operation, 0…1 [n, SIDE, SIDE]."""
    out = build_augmenter(AugmentSection(**{**golden.OFF, **changes}))(bright_square(), seed, np.arange(60))
    return out[..., 0] / 255.0


def centroids(images: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distance from the image's centre, right and down, as shares of the side."""
    mass, place = images.sum(axis=(1, 2)), (np.arange(SIDE) - (SIDE - 1) / 2) / SIDE
    return images.sum(axis=1) @ place / mass, images.sum(axis=2) @ place / mass


@pytest.mark.parametrize(("low", "high"), [(0.6, 0.8), (1.3, 1.9), (0.8, 1.25)])
def test_scale_resizes_about_the_centre(low: float, high: float) -> None:
    images = moved(scale=(low, high))
    factor = np.sqrt(images.sum(axis=(1, 2)) / 400)
    assert factor.min() > low - 0.03
    assert factor.max() < high + 0.03
    assert np.ptp(factor) > 0.7 * (high - low)
    across, down = centroids(images)
    assert max(np.abs(across).max(), np.abs(down).max()) < 0.5 / SIDE + 0.005
    wide, tall = (images.max(axis=axis).sum(axis=1) for axis in (1, 2))
    assert np.abs(wide - tall).max() < 1.5  # both sides by the same factor


@pytest.mark.parametrize(("low", "high"), [(0.05, 0.2), (-0.2, -0.05), (-0.2, 0.2)])
def test_shift_moves_by_a_share_of_the_side_in_both_directions_separately(low: float, high: float) -> None:
    images = moved(shift=(low, high))
    assert images.sum(axis=(1, 2)) == pytest.approx(400, rel=0.02)
    across, down = centroids(images)
    for offset in (across, down):
        assert offset.min() > low - 1 / SIDE
        assert offset.max() < high + 1 / SIDE
        assert np.ptp(offset) > 0.7 * (high - low)
    assert abs(np.corrcoef(across, down)[0, 1]) < 0.5


@pytest.mark.parametrize(("low", "high"), [(10.0, 25.0), (-25.0, -10.0)])
def test_shear_slants_the_upright_sides_only(low: float, high: float) -> None:
    images = moved(shear=(low, high))
    place = np.arange(SIDE)
    rows = images[:, 40:56]  # inside the square, whose rows are 38…57
    middles = (rows @ place) / rows.sum(axis=2)
    slant = np.degrees(np.arctan([np.polyfit(np.arange(16), middle, 1)[0] for middle in middles]))
    size = np.abs(slant)
    assert (np.sign(slant) == np.sign(slant[0])).all()
    assert size.min() > 10 - 2
    assert size.max() < 25 + 2
    assert np.ptp(size) > 9
    height = images.max(axis=2).sum(axis=1)
    assert np.abs(height - 20).max() < 2.5
    assert np.ptp(rows.sum(axis=2)) < 2.5  # rows keep their length


def test_shears_of_opposite_sign_slant_in_opposite_directions() -> None:
    right, left = moved(shear=(20, 20))[0], moved(shear=(-20, -20))[0]
    assert np.abs(right - left[:, ::-1]).mean() < 0.01
    assert np.abs(right - left).mean() > 0.01


def test_neutral_ranges_leave_the_movement_out() -> None:
    neutral = {"rotate": (0, 0), "scale": (1, 1), "shift": (0, 0), "shear": (0, 0)}
    batch = golden.batch()
    out = build_augmenter(AugmentSection(**{**golden.OFF, **neutral}))(batch, 1, golden.IDS)
    assert (out == batch).all()
    contrast = AugmentSection(**{**golden.OFF, "contrast": (1.5, 1.5)})
    same = AugmentSection(**{**golden.OFF, **neutral, "contrast": (1.5, 1.5)})
    assert (build_augmenter(same)(batch, 1, golden.IDS) == build_augmenter(contrast)(batch, 1, golden.IDS)).all()


@pytest.mark.parametrize("changes", [{"scale": (0.7, 1.3)}, {"shift": (-0.1, 0.1)}, {"shear": (-9, 9)}])
def test_movements_depend_on_the_seed_only(changes: dict[str, tuple[float, float]]) -> None:
    first = moved(1, **changes)
    assert (moved(1, **changes) == first).all()
    assert (moved(2, **changes) != first).any()
    assert len({image.tobytes() for image in first}) > 50  # every image its own draw


@pytest.mark.parametrize("scale", ["[0, 0]", "[0, 1.2]", "[-0.5, 1]"])
def test_an_image_cannot_be_scaled_to_nothing(tmp_path: Path, scale: str) -> None:
    (tmp_path / "params.yaml").write_text(
        f"augment: {{scale: {scale}}}\nmodels: {{a: {{backbone: pixels}}}}\nstackers: {{b: {{kind: cnn}}}}\n"
    )
    with pytest.raises(InputProblems, match=r"augment.scale: must be above 0 \(\[1, 1\] switches it off\)"):
        load_params(tmp_path / "params.yaml")
