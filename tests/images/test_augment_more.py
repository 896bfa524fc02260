"""Erasing, groups of operations and crops of stored images: what they do, and that an image decides it alone."""

from __future__ import annotations

from collections import Counter
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
from labelstack.images.pixels.decode import decode
from labelstack.images.pixels.draws import SOURCE, image_draws
from labelstack.images.pixels.erase import rectangle
from labelstack.images.pixels.one_of import operation_of, optical
from labelstack.images.pixels.source_crops import build_croppers, crop_of, part_of
from labelstack.params.augment import (
    AugmentSection,
    CropIfNeededSection,
    EraseSection,
    RectCropSection,
    ResizedCropSection,
    ScaledCropSection,
)
from labelstack.params.augment_operations import OPERATIONS
from labelstack.support.box import Box
from params.test_losses import problems

EVERYTHING: dict[str, Any] = {
    "one_of": [
        {"chance": 0.5, "of": {"gaussian_noise": {}, "colour_noise": {"weight": 2}}},
        {"chance": 0.5, "of": {"optical": {}, "elastic": {}, "perspective": {}}},
    ],
    "erase": {"chance": 0.5},
}
# Four images of 341 × 256 pixels for a network of 100: left, top, width, height.
GOLDEN = {
    "ResizedCropSection": [(9, 9, 283, 237), (10, 0, 320, 256), (39, 14, 279, 230), (70, 11, 265, 238)],
    "CropIfNeededSection": [(22, 26, 200, 200), (113, 2, 200, 200), (88, 30, 200, 200), (129, 35, 200, 200)],
    "RectCropSection": [(34, 72, 122, 100), (155, 5, 147, 100), (125, 85, 142, 100), (208, 98, 113, 100)],
}
CROPS: list[dict[str, Any]] = [
    {"resized_crop": {"area": (0.3, 0.6)}},
    {"crop_if_needed": {"sides": 1}},
    {"rect_crop": {"chance": 0.7}},
]


def policy(**keys: Any) -> AugmentSection:
    return AugmentSection(**{**golden.OFF, **keys})


def detail(image: NDArray[np.uint8]) -> float:
    return float(np.abs(cv2.Laplacian(image, cv2.CV_32F)).mean())


# --- erasing ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(64, 64), (24, 32), (90, 30)])
def test_what_is_erased_has_its_area_and_ratio_and_lies_inside(height: int, width: int) -> None:
    section, rng = EraseSection(area=(0.05, 0.4), ratio=(0.3, 3.33)), np.random.default_rng(0)
    for draws in rng.random((300, 4)):
        top, left, h, w = rectangle(section, height, width, draws)
        assert 0 <= top <= top + h <= height
        assert 0 <= left <= left + w <= width
        wanted = (0.05 + draws[0] * 0.35) * height * width
        assert abs(h * w - wanted) <= (h + w + 1) / 2 + 1  # sides are whole pixels
    ratios = [(h / w) for _, _, h, w in (rectangle(section, 640, 640, d) for d in rng.random((300, 4)))]
    assert 0.29 < min(ratios) < 0.5
    assert 2 < max(ratios) < 3.4


def test_a_rectangle_counted_by_hand() -> None:
    # 25 % of 40 × 40 are 400 pixels, with the ratio 4 the sides 40 and 10, at the right of 31 places
    section = EraseSection(area=(0.25, 0.25), ratio=(4, 4))
    assert rectangle(section, 40, 40, np.array([0.5, 0.5, 0.999, 0.999])) == (0, 30, 40, 10)
    assert rectangle(section, 40, 40, np.array([0.5, 0.5, 0.0, 0.0])) == (0, 0, 40, 10)


def test_it_is_filled_with_the_mean_or_a_colour() -> None:
    batch = golden.batch(8)
    for fill in ("mean", (1, 200, 3)):
        section = {"chance": 1, "area": (0.1, 0.1), "ratio": (1, 1), "fill": fill}
        out = build_augmenter(policy(erase=section))(batch, 3, np.arange(8))
        for before, after in zip(batch, out, strict=True):
            colour = np.rint(before.mean(axis=(0, 1))).astype(np.uint8) if fill == "mean" else np.array(fill)
            changed = (before != after).any(axis=2)
            assert 50 < changed.sum() <= 85  # 76.8 of 768, some may have had that colour
            assert (after[changed] == colour).all()


# --- one of -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_given_by_its_seed_and_grows_with_its_strength(name: str) -> None:
    image, usual = picture(3, 192, 160), OPERATIONS[name].usual
    operation = operation_of(name)
    first, kept = operation(image, 5), image.copy()
    operation(image, 6)
    assert (operation(image, 5) == first).all()
    assert (operation_of(name)(image, 5) == first).all()
    assert (image == kept).all()
    assert first.shape == image.shape
    weak, strong = ((usual[0], usual[0]), (usual[1], usual[1]))
    if name in ("optical", "hue_and_saturation", "brightness", "contrast", "gamma", "box_blur"):
        return  # two directions, or no weak one

    def change(low_high: tuple[float, float]) -> float:
        return float(np.abs(operation_of(name, low_high)(image, 5).astype(int) - image).mean())

    assert change(weak) < change(strong)


def test_noise_adds_detail_and_blur_takes_it() -> None:
    image = picture(2, 64, 64)
    for name in ("gaussian_noise", "colour_noise"):
        assert detail(operation_of(name)(image, 1)) > 2 * detail(image)
    grey = np.full((32, 32, 3), 128, np.uint8)
    same_for_channels = operation_of("gaussian_noise")(grey, 1)
    assert (same_for_channels == same_for_channels[..., :1]).all()
    assert np.ptp(operation_of("colour_noise")(grey, 1), axis=2).max() > 5
    spotted = image.copy()
    spotted[::8, ::8] = 255
    for name in ("gaussian_blur", "motion_blur", "median_blur", "box_blur"):
        assert detail(operation_of(name)(spotted, 1)) < 0.7 * detail(spotted)


def test_optical_distortion_leaves_the_middle_and_moves_what_is_outside() -> None:
    image = np.zeros((65, 65, 3), np.uint8)
    image[:, 8] = image[:, 32] = 255
    assert (optical(image, 0.0) == image).all()
    out = optical(image, 0.4)[..., 0]
    assert (out[:, 32] > 120).all()
    assert out[32, :20].argmax() < out[2, :20].argmax()  # a straight line is bent


def test_a_group_gives_one_operation_as_often_as_its_weight_says() -> None:
    of = {
        "brightness": {"weight": 3, "strength": (2, 2)},
        "contrast": {"weight": 1, "strength": (0, 0)},
        "gamma": {"weight": 4, "strength": (1, 1)},
    }
    batch = np.full((600, 4, 4, 3), 60, np.uint8)
    out = build_augmenter(policy(one_of=[{"chance": 0.8, "of": of}]))(batch, 1, np.arange(600))[:, 0, 0, 0]
    shares = [np.isin(out, values).mean() for values in (120, (127, 128), 60)]
    assert shares == pytest.approx([0.3, 0.1, 0.6], abs=0.05)  # untouched are 0.2, and half of 0.8 by gamma
    turned = dict(reversed(of.items()))
    again = build_augmenter(policy(one_of=[{"chance": 0.8, "of": turned}]))(batch, 1, np.arange(600))[:, 0, 0, 0]
    assert (out == again).all()


def test_all_of_it_depends_on_the_image_and_the_seed_only() -> None:
    augment, batch, ids = build_augmenter(AugmentSection(**EVERYTHING)), golden.batch(40), np.arange(40) * 9
    whole = augment(batch, 7, ids)
    some = np.random.default_rng(0).permutation(40)[:25]
    assert (build_augmenter(AugmentSection(**EVERYTHING))(batch[some], 7, ids[some]) == whole[some]).all()
    assert (augment(batch[3:4], 7, ids[3:4])[0] == whole[3]).all()
    assert (augment(batch, 8, ids) != whole).any()
    plain = build_augmenter(AugmentSection())(batch, 7, ids)
    alike = (whole == plain).all(axis=(1, 2, 3)).mean()
    assert 0.02 < alike < 0.35  # those that no group and no eraser took: the rest of the policy drew as before


# --- crops of the stored image ------------------------------------------------------------------------------------


def test_resized_crops_have_their_area_and_ratio() -> None:
    section = ResizedCropSection(area=(0.3, 0.8), ratio=(0.75, 1.5))
    for draws in image_draws(1, np.arange(300)):
        left, top, w, h = crop_of(section, 64, 300, 200, draws)
        assert 0 <= left <= left + w <= 300
        assert 0 <= top <= top + h <= 200
        assert 0.29 < w * h / 60000 < 0.81
        assert 0.74 < w / h < 1.52


def test_a_resized_crop_that_cannot_be_is_the_largest_in_the_middle() -> None:
    draws = image_draws(1, np.array([3]))[0]
    assert crop_of(ResizedCropSection(area=(1, 1), ratio=(1, 1)), 64, 300, 100, draws) == (100, 0, 100, 100)
    assert crop_of(ResizedCropSection(area=(1, 1), ratio=(1, 1)), 64, 100, 300, draws) == (0, 100, 100, 100)
    assert crop_of(ResizedCropSection(area=(1, 1), ratio=(1, 2)), 64, 300, 100, draws) == (50, 0, 200, 100)


def placed(across: float, down: float, third: float = 0.5) -> NDArray[np.float64]:
    draws = np.full(200, third)
    draws[SOURCE + 1 : SOURCE + 3] = across, down
    return draws


def test_only_sides_longer_than_twice_the_networks_are_cut() -> None:
    section = CropIfNeededSection()
    assert crop_of(section, 64, 100, 128, placed(0.9, 0.9)) == (0, 0, 100, 128)
    assert crop_of(section, 64, 328, 100, placed(0.5, 0.9)) == (100, 0, 128, 100)
    assert crop_of(section, 64, 328, 129, placed(0.0, 0.99)) == (0, 1, 128, 128)


def test_a_rect_crop_is_as_published() -> None:
    # the long side is size / ratio, the short one the network's: 64 / 0.5 = 128
    section = RectCropSection(ratio=(0.5, 0.5))
    assert crop_of(section, 64, 228, 100, placed(0.5, 0.0)) == (50, 0, 128, 64)
    assert crop_of(section, 64, 100, 228, placed(0.0, 0.5)) == (0, 50, 64, 128)
    assert crop_of(section, 64, 120, 50, placed(0.9, 0.9)) == (0, 0, 120, 50)


def test_a_scaled_crop_is_a_square_of_one_of_the_scales() -> None:
    """Of a short side of 100: 100, 80 and 50, each a third of the draws; the place is across and down what is left."""
    section = ScaledCropSection(scales=(1, 1.25, 2))
    assert crop_of(section, 64, 300, 100, placed(0.5, 0.9, 0.1)) == (100, 0, 100, 100)
    assert crop_of(section, 64, 300, 100, placed(0.0, 0.99, 0.4)) == (0, 20, 80, 80)
    assert crop_of(section, 64, 100, 300, placed(0.99, 0.5, 0.99)) == (50, 125, 50, 50)
    seen = Counter(
        crop_of(section, 64, 300, 200, draws)[2:] for draws in image_draws(3, np.arange(600, dtype=np.int64))
    )
    assert set(seen) == {(200, 200), (160, 160), (100, 100)}
    assert min(seen.values()) > 150
    assert AugmentSection(scaled_crop={}).source_crop == ScaledCropSection(scales=(1, 1.0714, 1.1429))


def test_stored_golden_crops() -> None:
    draws = image_draws(11, golden.IDS)
    found = {
        type(section).__name__: [crop_of(section, 100, 341, 256, own) for own in draws]
        for section in (ResizedCropSection(), CropIfNeededSection(), RectCropSection())
    }
    assert found == GOLDEN


def test_a_crop_of_a_box_is_a_box_of_the_image() -> None:
    # the box shows 100 × 50 pixels from (50, 25) on
    box = part_of(Box(0.25, 0.25, 0.75, 0.75), 200, 100, lambda width, height: (width // 10, 5, 20, height // 2))
    assert box == pytest.approx((60 / 200, 30 / 100, 80 / 200, 55 / 100))


def test_the_pixels_are_those_of_the_crop() -> None:
    image = np.zeros((256, 341, 3), np.uint8)
    image[:, :, 0] = np.arange(341)[None] // 2
    data = encoded(image, quality=98, subsampling=0)
    croppers = build_croppers(AugmentSection(crop_if_needed={}), 100)
    assert croppers is not None
    box = croppers(11, golden.IDS)(2, data, None)
    assert box is not None
    left, _, width, _ = GOLDEN["CropIfNeededSection"][2]
    seen = decode(data, 100, box=box)[50, :, 0].astype(int)
    assert abs(int(seen[0]) - left // 2) <= 3
    assert abs(int(seen[-1]) - (left + width) // 2) <= 3


@pytest.mark.parametrize("crop", CROPS, ids=str)
def test_workers_batches_and_kept_images_do_not_matter(make_shards: Callable[..., Path], crop: dict[str, Any]) -> None:
    shards, ids = make_shards(30), np.arange(1, 31)
    augment = policy(flip=0.5, **crop)
    expected = drawn(shards, ids, 0, 1, augment=augment, cache_bytes=0)
    assert not same(*expected)
    got = drawn(shards, ids, 1, 0, augment=augment, workers=2)
    assert same(got[0], expected[1])
    assert same(got[1], expected[0])
    (plain,) = drawn(shards, ids, 0, augment=policy(flip=0.5))
    assert not same(plain, expected[0])
    assert [y.tolist() for _, y in plain] == [y.tolist() for _, y in expected[0]]


def test_a_policy_without_crops_has_no_croppers() -> None:
    assert build_croppers(None, 64) is None
    assert build_croppers(AugmentSection(), 64) is None
    never = build_croppers(AugmentSection(rect_crop={"chance": 0}), 64)
    assert never is not None
    assert never(1, np.arange(1))(0, b"", None) is None


# --- params -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("augment", "told"),
    [
        (
            {"erase": {"area": [0, 0.4]}},
            "augment.erase.area: must be [low, high] with 0 < low ≤ high ≤ 1, not [0.0, 0.4]",
        ),
        ({"erase": {"fill": [1, 2, 300]}}, "augment.erase.fill"),
        ({"erase": {"chanse": 1}}, "augment.erase.chanse: unknown key; did you mean 'chance'?"),
        ({"resized_crop": {"ratio": [2, 1]}}, "augment.resized_crop.ratio: must be [low, high] with 0.01 ≤ low ≤ high"),
        (
            {"crop_if_needed": {"sides": 0.5}},
            "augment.crop_if_needed.sides: input should be greater than or equal to 1",
        ),
        (
            {"crop_if_needed": {}, "rect_crop": {}},
            "augment: crop_if_needed and rect_crop are crops of the stored image",
        ),
        ({"one_of": [{"of": {}}]}, "augment.one_of.0.of: must name at least one operation (gaussian_noise, "),
        ({"one_of": [{"of": {"blurr": {}}}]}, "augment.one_of.0.of: unknown operation 'blurr'; did you mean '"),
        (
            {"one_of": [{"chanc": 1, "of": {"clahe": {}}}]},
            "augment.one_of.0.chanc: unknown key; did you mean 'chance'?",
        ),
        (
            {"one_of": [{"of": {"motion_blur": {"strength": [1, 5]}}}]},
            "augment.one_of.0.of: strength of motion_blur must lie within 3 … 99, not be [1.0, 5.0]",
        ),
        (
            {"one_of": [{"of": {"clahe": {"wait": 1}}}]},
            "augment.one_of.0.of.clahe.wait: unknown key; did you mean 'weight'?",
        ),
    ],
)
def test_what_is_wrong_is_named(augment: dict[str, Any], told: str, tmp_path: Path) -> None:
    models = {"a": {"backbone": "small_cnn"}}
    found = problems(tmp_path, {"augment": augment, "models": models, "stackers": {"mean": {"kind": "mean"}}})
    assert found[0].startswith(told)


def test_a_section_is_read_as_it_is_written() -> None:
    section = AugmentSection(**EVERYTHING, rect_crop={})
    assert AugmentSection(**section.model_dump(mode="json")) == section
