"""Flip, movement, crop and resizing as one resampling: against imgaug's operations one after another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from images import golden
from images.server import encoded, picture
from images.test_loader import drawn, same
from labelstack.images.pixels.augment import build_augmenter
from labelstack.images.pixels.decode import decode, decode_to_move, fits_directly
from labelstack.images.pixels.draws import CROP, FLIP, MOVE, image_draws
from labelstack.images.pixels.geometry import Geometry
from labelstack.images.pixels.imgaug_parts import iaa
from labelstack.images.workers import Portion, make_images
from labelstack.params.augment import AugmentSection

Pixels = NDArray[np.uint8]
MOVEMENT: dict[str, Any] = {
    "rotate": (-30, 30), "scale": (0.9, 1.4), "shift": (-0.1, 0.1), "shear": (-15, 15)
}  # fmt: skip
SIZE = 96
IDS = np.arange(40) * 7


def policy(**keys: Any) -> AugmentSection:
    return AugmentSection(**{**golden.OFF, **keys})


def slopes(height: int, width: int) -> Pixels:
    """Red grows to the right, green downwards, blue is a slow wave: what bilinear interpolation keeps."""
    y, x = np.mgrid[:height, :width] + 0.5
    waves = 127 + 90 * np.sin(4 * x / width + 3 * y / height)
    return np.rint(np.stack([30 + 190 * x / width, 30 + 190 * y / height, waves], axis=-1)).astype(np.uint8)


def one_after_another(image: Pixels, params: AugmentSection, own: NDArray[np.float64]) -> Pixels:
    """The square of an image through imgaug's operations with this image's values."""

    def value(name: str, place: int) -> float:
        low, high = getattr(params, name)
        return float(np.float32(low + own[place] * (high - low)))

    out = np.asarray(cv2.resize(image, (SIZE, SIZE), interpolation=cv2.INTER_LINEAR), np.uint8)
    if own[FLIP] < params.flip:
        out = np.ascontiguousarray(out[:, ::-1])
    if own[MOVE] < params.chance:
        shift = {"x": value("shift", MOVE + 3), "y": value("shift", MOVE + 4)}
        affine = iaa.Affine(
            rotate=value("rotate", MOVE + 1), scale=value("scale", MOVE + 2), translate_percent=shift,
            shear={"x": value("shear", MOVE + 5)}, mode="reflect",
        )  # fmt: skip
        out = affine.augment_image(out)
    if own[CROP] < params.chance:
        out = iaa.Crop(percent=tuple(value("crop", CROP + 1 + side) for side in range(4))).augment_image(out)
    return np.asarray(out, np.uint8)


def test_movement_of_squares_is_imgaugs() -> None:
    params = policy(**MOVEMENT)
    batch = np.stack([picture(number, SIZE, SIZE) for number in range(40)])
    out = build_augmenter(params)(batch, 3, IDS)
    steps = np.stack([one_after_another(*each) for each in zip(batch, [params] * 40, image_draws(3, IDS), strict=True)])
    difference = np.abs(out.astype(int) - steps)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-4  # OpenCV rounds places to 1/32 pixel, matrices differ in the last bit


@pytest.mark.parametrize("sides", [(SIZE, SIZE), (130, 100), (99, 160)], ids=str)
@pytest.mark.parametrize("changes", [{}, MOVEMENT, {"crop": (0, 0.2)}, {**MOVEMENT, "crop": (0, 0.2)}], ids=str)
def test_together_they_are_where_one_after_another_would_be(sides: tuple[int, int], changes: dict[str, Any]) -> None:
    params = policy(flip=0.5, **{**changes, "chance": 0.7})
    image = slopes(*sides)
    out = np.empty((len(IDS), SIZE, SIZE, 3), np.uint8)
    build_augmenter(params).into(out, [image] * len(IDS), 5, IDS)
    for got, own in zip(out, image_draws(5, IDS), strict=True):
        # crops to whole pixels of the square and of the image differ by up to a pixel, which is 2 of these greys
        difference = np.abs(got.astype(int) - one_after_another(image, params, own))
        assert difference.mean() < 1.5
        assert np.percentile(difference, 95) <= 4  # edges, where mirrored borders meet


def test_detail_is_lost_once() -> None:
    params = policy(**MOVEMENT, crop=(0, 0.1), chance=1)
    image = picture(2, 170, 128)
    cv2.putText(image, "labels", (5, 70), cv2.FONT_HERSHEY_SIMPLEX, 1.1, (255, 255, 255), 1)
    out = np.empty((len(IDS), SIZE, SIZE, 3), np.uint8)
    build_augmenter(params).into(out, [image] * len(IDS), 5, IDS)
    steps = np.stack([one_after_another(image, params, own) for own in image_draws(5, IDS)])
    sharpness = [np.mean([np.abs(cv2.Laplacian(one, cv2.CV_32F)).mean() for one in images]) for images in (out, steps)]
    assert sharpness[0] > 1.15 * sharpness[1]


def test_what_is_neither_moved_nor_cropped_is_the_decoded_square() -> None:
    params = policy(**MOVEMENT, crop=(0, 0.1), flip=0.5, chance=0.3)
    jpegs = [encoded(picture(number, 140 - number, 110), quality=95) for number in range(40)]
    out = make_images(Portion(jpegs, IDS, 2), SIZE, build_augmenter(params))
    draws, alike = image_draws(2, IDS), 0
    for got, data, own in zip(out, jpegs, draws, strict=True):
        square = decode(data, SIZE)
        if own[MOVE] >= 0.3 and own[CROP] >= 0.3:
            assert (got == (square[:, ::-1] if own[FLIP] < 0.5 else square)).all()
            alike += 1
    assert 8 < alike < 32


@pytest.mark.parametrize(
    ("height", "width", "zoom", "direct"),
    [(100, 100, 1, True), (173, 173, 1, True), (174, 174, 1, False), (299, 90, 1, True), (300, 90, 1, False),
     (100, 100, 0.5, False), (86, 86, 0.5, True)],
)  # fmt: skip
def test_many_pixels_are_averaged_first(height: int, width: int, zoom: float, direct: bool) -> None:
    assert fits_directly(height, width, 100, zoom) is direct
    data = encoded(picture(1, width, height), quality=95)
    got = decode_to_move(data, 100, zoom=zoom)
    assert got.shape == ((height, width, 3) if direct else (100, 100, 3))
    if not direct:
        assert (got == decode(data, 100)).all()
    assert (decode_to_move(data, 100, "letterbox", zoom=zoom) == decode(data, 100, "letterbox")).all()


def test_how_small_an_image_may_become() -> None:
    assert Geometry(policy(flip=0.5)).zoom is None
    assert Geometry(policy(crop=(0, 0.1))).zoom == 1
    assert Geometry(policy(scale=(0.7, 1.2))).zoom == 0.7
    assert Geometry(policy(scale=(1.1, 1.2))).zoom == 1
    assert Geometry(policy(scale=(0.7, 1.2), chance=0)).zoom is None


def test_one_pixel_is_left_of_the_smallest_images() -> None:
    params = policy(crop=(0.49, 0.49))
    for side in (1, 2, 3):
        batch = np.full((1, side, side, 3), 9, np.uint8)
        assert (build_augmenter(params)(batch, 1, IDS[:1]) == 9).all()


@pytest.mark.parametrize("changes", [{"flip": 0.5, **MOVEMENT}, {**MOVEMENT, "crop": (0, 0.2), "chance": 0.6}], ids=str)
def test_kept_images_and_workers_do_not_matter(make_shards: Callable[..., Path], changes: dict[str, Any]) -> None:
    shards, ids = make_shards(30), np.arange(1, 31)
    options: dict[str, Any] = {"augment": policy(**changes), "size": 20}
    (expected,) = drawn(shards, ids, 1, cache_bytes=0, **options)
    assert same(drawn(shards, ids, 1, **options)[0], expected)
    assert same(drawn(shards, ids, 1, workers=1, **options)[0], expected)
