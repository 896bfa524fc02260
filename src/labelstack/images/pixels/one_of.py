"""Groups of operations of which an image gets one: imgaug's, each seeded by the image."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from labelstack.images.pixels.draws import GROUPS, Draws
from labelstack.params.augment import GroupSection
from labelstack.params.augment_operations import OPERATIONS

Pixels = NDArray[np.uint8]
Operation = Callable[[Pixels, int], Pixels]


class OneOf:
    """A group: with its chance, an image gets one of the operations, each as likely as its weight says.

    Whatever an operation draws itself, such as the noise of every pixel, it draws from a seed of the image's own.
    """

    def __init__(self, section: GroupSection, number: int) -> None:
        names = sorted(section.of)  # YAML's order of keys decides nothing
        weights = np.array([section.of[name].weight for name in names])
        self._until = np.cumsum(weights) / weights.sum()
        self._moves = [map_operation_of(name, section.of[name].strength) for name in names]
        self._operations = [operation_of(name, section.of[name].strength) for name in names]
        self._chance, self._place = section.chance, GROUPS + 3 * number

    def apply(self, batch: Pixels, draws: Draws) -> None:
        """Change images in place: uint8 [n, h, w, 3], random numbers [n, draws]."""
        for row, which, seed in self._drawn(draws):
            batch[row] = self._operations[which](batch[row], seed)

    def apply_to_maps(self, batch: Pixels, draws: Draws, background: int) -> None:
        """Move class maps in place, uint8 [n, h, w], by the operations that move their images."""
        for row, which, seed in self._drawn(draws):
            move = self._moves[which]
            if move is not None:
                # What comes in from outside is 0.
                batch[row] = move(batch[row] - np.uint8(background), seed) + np.uint8(background)

    def _drawn(self, draws: Draws) -> Iterator[tuple[int, int, int]]:
        """Images that get an operation, which one, and its seed."""
        chosen, which, seeds = draws[:, self._place : self._place + 3].T
        for row in np.flatnonzero(chosen < self._chance).tolist():
            place = int(np.searchsorted(self._until[:-1], which[row], side="right"))
            yield row, place, int(seeds[row] * 2**31)


def operation_of(name: str, strength: tuple[float, float] | None = None) -> Operation:
    """A function of an image uint8 [h, w, 3] and a seed; ``strength`` None: the usual one."""
    from labelstack.images.pixels import imgaug_parts as parts

    iaa, low_high = parts.iaa, OPERATIONS[name].usual if strength is None else strength
    if name == "optical":
        return lambda image, seed: optical(image, np.random.default_rng(seed).uniform(*low_high))
    whole = (round(low_high[0]), round(low_high[1]))
    real = (float(low_high[0]), float(low_high[1]))
    augmenter: Any = {
        "gaussian_noise": lambda: iaa.AdditiveGaussianNoise(scale=real),
        "colour_noise": lambda: iaa.AdditiveGaussianNoise(scale=real, per_channel=True),
        "gaussian_blur": lambda: iaa.GaussianBlur(real),
        "motion_blur": lambda: iaa.MotionBlur(k=whole),
        "median_blur": lambda: iaa.MedianBlur(k=whole),
        "box_blur": lambda: iaa.AverageBlur(k=whole),
        "elastic": lambda: iaa.ElasticTransformation(alpha=real, sigma=4.0, mode="reflect"),
        "perspective": lambda: iaa.PerspectiveTransform(scale=real, mode="replicate"),
        "clahe": lambda: iaa.CLAHE(clip_limit=real),
        "sharpen": lambda: parts.Sharpen(alpha=real, lightness=1.0),
        "emboss": lambda: parts.Emboss(alpha=real, strength=1.0),
        "brightness": lambda: iaa.Multiply(real),
        "contrast": lambda: iaa.LinearContrast(real),
        "gamma": lambda: iaa.GammaContrast(real),
        "hue_and_saturation": lambda: parts.AddToHueAndSaturation(whole),
    }[name]()

    def apply(image: Pixels, seed: int) -> Pixels:
        augmenter.seed_(seed)
        return np.asarray(augmenter.augment_image(np.ascontiguousarray(image)), np.uint8)

    return apply


def map_operation_of(name: str, strength: tuple[float, float] | None = None) -> Operation | None:
    """What an operation does to a class map uint8 [h, w] of its image; None where pixels stay in their places."""
    low_high = OPERATIONS[name].usual if strength is None else strength
    if name == "optical":
        return lambda image, seed: optical(image, np.random.default_rng(seed).uniform(*low_high), cv2.INTER_NEAREST)
    if name not in ("elastic", "perspective"):
        return None
    from labelstack.images.pixels import imgaug_parts as parts

    iaa, real = parts.iaa, (float(low_high[0]), float(low_high[1]))
    augmenter: Any = (
        iaa.ElasticTransformation(alpha=real, sigma=4.0, mode="reflect")
        if name == "elastic"
        else iaa.PerspectiveTransform(scale=real, mode="replicate")
    )

    def apply(picture: Pixels, seed: int) -> Pixels:
        from imgaug.augmentables.segmaps import SegmentationMapsOnImage

        augmenter.seed_(seed)
        moved = augmenter.augment_segmentation_maps(SegmentationMapsOnImage(picture.astype(np.int32), picture.shape))
        return np.asarray(moved.get_arr(), np.uint8)

    return apply


def optical(image: Pixels, k: float, interpolation: int = cv2.INTER_LINEAR) -> Pixels:
    """Radial distortion around the middle, k1 = k2 = k with the sides as focal lengths; borders are mirrored.

    OpenCV's camera model; imgaug has no such operation.
    """
    height, width = image.shape[:2]
    camera = np.array([[width, 0, width / 2], [0, height, height / 2], [0, 0, 1]], np.float64)
    maps = cv2.initUndistortRectifyMap(
        camera, np.array([k, k, 0, 0, 0], np.float64), np.eye(3), camera, (width, height), cv2.CV_32FC1
    )
    return np.asarray(cv2.remap(image, *maps, interpolation, borderMode=cv2.BORDER_REFLECT_101), np.uint8)
