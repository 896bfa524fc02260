"""imgaug's operations on colours with fewer copies: as functions of an image and a value, and as augmenters.

A function gives the pixels that imgaug's augmenter of that value gives, in a new array. Imports imgaug, which takes a
second: only ``build_augmenter`` imports this module.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from labelstack.images.pixels.imgaug_compat import import_augmenters

iaa = import_augmenters()

Pixels = NDArray[np.uint8]
Kernel = NDArray[np.float32]

_SAME: Kernel = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]], np.float32)
_SHARP: Kernel = np.array([[-1, -1, -1], [-1, 9, -1], [-1, -1, -1]], np.float32)
_EMBOSSED: Kernel = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], np.float32)
_NARROW = 0.5  # sigma up to which OpenCV, which counts in 1/256, has zeros around the middle three weights


def add_to_hue_and_saturation(image: Pixels, value: int) -> Pixels:
    """``iaa.AddToHueAndSaturation(value)``, -255 … 255; the hue's circle has 255 parts."""
    hsv = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2HSV), np.uint8)
    _shift(hsv, int(np.float32(value) / np.float32(255) * 180), int(value))
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB, dst=hsv), np.uint8)


def gaussian_blur(image: Pixels, sigma: float) -> Pixels:
    """``iaa.GaussianBlur(sigma)``, which leaves an image as it is up to a sigma of 0.001."""
    blurred = iaa.blur_gaussian_(image, sigma, ksize=3 if sigma <= _NARROW else None)
    return np.asarray(blurred, np.uint8)


def linear_contrast(image: Pixels, alpha: float) -> Pixels:
    """``iaa.LinearContrast(alpha)``."""
    return np.asarray(iaa.adjust_contrast_linear(image, alpha), np.uint8)


def sharpen(image: Pixels, alpha: float) -> Pixels:
    """``iaa.Sharpen(alpha, lightness=1)``."""
    return np.asarray(cv2.filter2D(image, -1, (1 - alpha) * _SAME + alpha * _SHARP), np.uint8)


def emboss(image: Pixels, alpha: float) -> Pixels:
    """``iaa.Emboss(alpha, strength=1)``."""
    return np.asarray(cv2.filter2D(image, -1, (1 - alpha) * _SAME + alpha * _EMBOSSED), np.uint8)


def _shift(hsv: Pixels, hue: int, saturation: int) -> None:
    """Turn the hue, of which 180 is the whole circle, and add to the saturation, in place."""
    turned = cv2.LUT(cv2.extractChannel(hsv, 0), ((np.arange(256) + hue) % 180).astype(np.uint8))
    cv2.insertChannel(turned, hsv, 0)
    change = cv2.add if saturation > 0 else cv2.subtract  # both stop at 0 and 255
    change(hsv, (0.0, float(abs(saturation)), 0.0, 0.0), dst=hsv)


class _OneConvolution:
    """A convolution of all channels in one call; imgaug takes the channels apart, which gives the same pixels."""

    def _augment_batch_(self, batch: Any, random_state: Any, parents: Any, hooks: Any) -> Any:
        for number, image in enumerate(batch.images):
            (matrix,) = self.matrix(image, 1, random_state)  # type: ignore[attr-defined]
            batch.images[number] = cv2.filter2D(image, -1, matrix)
        return batch


class Sharpen(_OneConvolution, iaa.Sharpen):  # type: ignore[misc, name-defined]
    """``iaa.Sharpen`` for colour images."""


class Emboss(_OneConvolution, iaa.Emboss):  # type: ignore[misc, name-defined]
    """``iaa.Emboss`` for colour images."""


class AddToHueAndSaturation(iaa.AddToHueAndSaturation):  # type: ignore[misc, name-defined]
    """``iaa.AddToHueAndSaturation`` that copies no channels."""

    @classmethod
    def _transform_image_cv2(cls, image_hsv: Pixels, hue: int, saturation: int) -> Pixels:
        _shift(image_hsv, int(hue), int(saturation))
        return image_hsv
