"""Our parts for imgaug against imgaug's own: the same pixels for the same values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from images import golden
from images.server import picture
from labelstack.images.pixels.augment import build_augmenter, image_draws
from labelstack.images.pixels.imgaug_parts import (
    AddToHueAndSaturation,
    Emboss,
    Sharpen,
    add_to_hue_and_saturation,
    emboss,
    gaussian_blur,
    iaa,
    linear_contrast,
    sharpen,
)
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


@pytest.mark.parametrize("sigma", [0.0005, 0.001, 0.0011, *np.linspace(0.01, 0.5, 50), 0.501, 0.8, 1.7, 4])
def test_a_narrow_blur_needs_three_weights(sigma: float) -> None:
    image = picture(1, 60, 50)
    image[20:30, 20:40] = 255
    image[25:40, 30:35] = 0
    assert (gaussian_blur(image, np.float32(sigma)) == iaa.GaussianBlur(sigma).augment_image(image)).all()


def test_a_function_leaves_its_image_as_it_is() -> None:
    for function, value in [
        (add_to_hue_and_saturation, -20), (gaussian_blur, 0.4), (linear_contrast, 1.2), (sharpen, 0.3), (emboss, 0.3)
    ]:  # fmt: skip
        image = golden.batch(1)[0]
        assert (function(image, np.float32(value)) != image).any()
        assert (image == golden.batch(1)[0]).all()
