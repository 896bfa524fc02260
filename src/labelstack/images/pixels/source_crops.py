"""Crops that are cut out of the stored image before it becomes a square, so that its pixels and ratio count."""

from __future__ import annotations

import io
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from labelstack.images.pixels.draws import ATTEMPTS, SOURCE, Draws, between, image_draws, ratio_between
from labelstack.params.augment import (
    AugmentSection,
    CropIfNeededSection,
    RectCropSection,
    ResizedCropSection,
    ScaledCropSection,
)
from labelstack.support.box import Box

Crop = tuple[int, int, int, int]  # left, top, width, height in pixels
Section = ResizedCropSection | CropIfNeededSection | RectCropSection | ScaledCropSection
Buffer = bytes | memoryview
Croppers = Callable[[int, NDArray[np.int64]], Callable[[int, Buffer, Box | None], Box | None]]
_PLACE, _TRIES = SOURCE + 1, SOURCE + 3
_WHOLE = Box(0, 0, 1, 1)


def build_croppers(params: AugmentSection | None, size: int) -> Croppers | None:
    """What says which part of each stored image is seen; None where no policy crops.

    Returns
    -------
    callable (seed, image ids int64 [n]) → callable (which of them, its JPEG, the part that is seen anyway) → what is
        left of that. It depends on the seed, the image's id and its size only.
    """
    section = None if params is None else params.source_crop
    if section is None:
        return None

    def croppers(seed: int, image_ids: NDArray[np.int64]) -> Callable[[int, Buffer, Box | None], Box | None]:
        draws = image_draws(seed, image_ids)

        def crop(place: int, jpeg: Buffer, box: Box | None) -> Box | None:
            if draws[place, SOURCE] >= section.chance:
                return box
            with Image.open(io.BytesIO(jpeg)) as image:  # reads the header only
                return _part(section, size, image.width, image.height, draws[place], box)

        return crop

    return croppers


def crop_boxes(
    params: AugmentSection | None, size: int, seed: int, image_ids: NDArray[np.int64], sides: NDArray[np.int64]
) -> list[Box | None]:
    """What ``build_croppers`` leaves of whole images whose height and width are known, int64 [n, 2]; None: all."""
    section = None if params is None else params.source_crop
    if section is None:
        return [None] * len(image_ids)
    return [
        None if own[SOURCE] >= section.chance else _part(section, size, int(width), int(height), own, None)
        for own, (height, width) in zip(image_draws(seed, image_ids), sides, strict=True)
    ]


def _part(section: Section, size: int, width: int, height: int, own: Draws, box: Box | None) -> Box:
    return part_of(box or _WHOLE, width, height, lambda w, h: crop_of(section, size, w, h, own))


def part_of(box: Box, width: int, height: int, crop: Callable[[int, int], Crop]) -> Box:
    """A crop of what a box shows of an image of ``width`` × ``height`` pixels, as a box of the image."""
    across, down = box.right - box.left, box.bottom - box.top
    inner = max(1, round(across * width)), max(1, round(down * height))
    left, top, w, h = crop(*inner)
    return Box(
        box.left + left / inner[0] * across,
        box.top + top / inner[1] * down,
        box.left + (left + w) / inner[0] * across,
        box.top + (top + h) / inner[1] * down,
    )


def crop_of(section: Section, size: int, width: int, height: int, draws: Draws) -> Crop:
    """The part of an image of ``width`` × ``height`` pixels for a network that sees ``size`` × ``size``."""
    if isinstance(section, ResizedCropSection):
        return _resized(section, width, height, draws)
    if isinstance(section, CropIfNeededSection):
        longest = round(section.sides * size)
        return _placed(min(width, longest), min(height, longest), width, height, draws)
    if isinstance(section, ScaledCropSection):
        scale = section.scales[int(draws[_TRIES] * len(section.scales))]
        side = max(1, round(min(width, height) / scale))
        return _placed(side, side, width, height, draws)
    longer = round(size / between(section.ratio, draws[_TRIES]))
    if width >= height:
        return _placed(min(width, longer), min(height, size), width, height, draws)
    return _placed(min(width, size), min(height, longer), width, height, draws)


def _resized(section: ResizedCropSection, width: int, height: int, draws: Draws) -> Crop:
    """As torchvision's RandomResizedCrop: ten attempts, then the largest central part of a ratio in range."""
    for attempt in range(ATTEMPTS):
        area_draw, ratio_draw = draws[_TRIES + 2 * attempt : _TRIES + 2 * attempt + 2]
        area, ratio = between(section.area, area_draw) * width * height, ratio_between(section.ratio, ratio_draw)
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return _placed(w, h, width, height, draws)
    low, high = section.ratio
    w, h = min(width, max(1, round(height * high))), min(height, max(1, round(width / low)))
    return (width - w) // 2, (height - h) // 2, w, h


def _placed(w: int, h: int, width: int, height: int, draws: Draws) -> Crop:
    across, down = draws[_PLACE : _PLACE + 2]
    return int(across * (width - w + 1)), int(down * (height - h + 1)), w, h
