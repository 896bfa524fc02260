"""Our parts for imgaug against imgaug's own: the same pixels for the same values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from images import golden
from labelstack.images.pixels.augment import build_augmenter, image_draws
from labelstack.images.pixels.imgaug_parts import AddToHueAndSaturation, Drawn, Emboss, Sharpen, augment_in_place, iaa
from labelstack.params.augment import AugmentSection


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        *[(AddToHueAndSaturation(v), iaa.AddToHueAndSaturation(v)) for v in (-255, -8, 0, 1, 27, 255)],
        *[(Sharpen(a, 1.0), iaa.Sharpen(a, 1.0)) for a in (0.0, 0.15, 1.0)],
        *[(Emboss(a, 1.0), iaa.Emboss(a, 1.0)) for a in (0.0, 0.15, 1.0)],
    ],
)
def test_fewer_copies_same_pixels(ours: Any, theirs: Any) -> None:
    batch = golden.batch(6)
    assert (ours.augment_images(batch) == theirs.augment_images(batch)).all()


# The operation, alone and always applied; imgaug's own with one image's values; how many draws precede its own.
ORACLES = {
    "rotate": (lambda v: iaa.Affine(rotate=v[2], mode="reflect"), {"rotate": (-30, 30)}),
    "scale": (lambda v: iaa.Affine(scale=v[3], mode="reflect"), {"scale": (0.7, 1.4)}),
    "shift": (
        lambda v: iaa.Affine(translate_percent={"x": v[4], "y": v[5]}, mode="reflect"),
        {"shift": (-0.3, 0.3)},
    ),
    "shear": (lambda v: iaa.Affine(shear={"x": v[6]}, mode="reflect"), {"shear": (-20, 20)}),
    "gaussian_blur": (lambda v: iaa.GaussianBlur(v[10]), {"gaussian_blur": (0.5, 2)}),
    "contrast": (lambda v: iaa.LinearContrast(v[12]), {"contrast": (0.5, 1.5)}),
    "sharpen": (lambda v: iaa.Sharpen(alpha=v[14], lightness=1.0), {"sharpen": (0.1, 0.9)}),
    "emboss": (lambda v: iaa.Emboss(alpha=v[16], strength=1.0), {"emboss": (0.1, 0.9)}),
    "crop": (lambda v: iaa.Crop(percent=tuple(v[18:22])), {"crop": (0.05, 0.3)}),
}


@pytest.mark.parametrize("name", ORACLES)
def test_a_batch_is_what_imgaug_makes_of_each_image_alone(name: str) -> None:
    make, policy = ORACLES[name]
    batch, ids = golden.batch(5), np.arange(5)
    out = build_augmenter(AugmentSection(**{**golden.OFF, **policy}))(batch, 9, ids)
    ((low, high),) = policy.values()
    for image, augmented, draws in zip(batch, out, image_draws(9, ids), strict=True):
        values = (low + draws * (high - low)).astype(np.float32).tolist()
        assert (make(values).augment_image(image) == augmented).all()


def test_hue_and_saturation_move_by_the_same_whole_number() -> None:
    batch, ids = golden.batch(40), np.arange(40)
    out = build_augmenter(AugmentSection(**{**golden.OFF, "hue_and_saturation": (-2, 2)}))(batch, 9, ids)
    moved = {v: iaa.AddToHueAndSaturation(v).augment_images(batch) for v in range(-2, 3)}
    expected = np.floor(-2 + image_draws(9, ids)[:, 8] * 5).astype(int)
    assert set(expected) == set(moved)
    for number, value in enumerate(expected):
        assert (out[number] == moved[value][number]).all()


def test_values_are_handed_out_in_order_however_asked_for() -> None:
    drawn = Drawn((10, 20))
    drawn.hand_in(np.array([0.0, 0.5, 0.25]))
    assert drawn.draw_samples((3,)).tolist() == [10, 15, 12.5]
    drawn.hand_in(np.array([0.0, 0.5, 0.25]))
    assert [drawn.draw_sample() for _ in range(3)] == [10, 15, 12.5]
    drawn.hand_in(np.array([0.0, 0.5]))
    assert drawn.draw_samples((2, 3)).tolist() == [[10] * 3, [15] * 3]


def test_in_place_changes_the_array_behind_the_views() -> None:
    batch = golden.batch(4)
    augment_in_place(iaa.Fliplr(1.0), [batch[1], batch[3]])
    flipped = golden.batch(4)[:, :, ::-1]
    assert (batch == np.where(np.array([0, 1, 0, 1], bool)[:, None, None, None], flipped, golden.batch(4))).all()
