"""Parts for imgaug: parameters whose values are drawn elsewhere, and three operations with fewer copies.

Imports imgaug, which takes a second: only ``build_augmenter`` imports this module.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from labelstack.images.pixels.imgaug_compat import import_augmenters

iaa = import_augmenters()

from imgaug.augmentables.batches import _BatchInAugmentation  # noqa: E402
from imgaug.parameters import StochasticParameter  # noqa: E402

Pixels = NDArray[np.uint8]


class Drawn(StochasticParameter):  # type: ignore[misc]
    """A parameter uniform in [low, high] (integers of low … high), from random numbers that are handed in.

    An augmenter that asks for n values at once, or n times for one, gets those of the first n images, in order.
    """

    def __init__(self, low_high: tuple[float, float], *, integer: bool = False) -> None:
        super().__init__()
        self.low: float = round(low_high[0]) if integer else low_high[0]
        self.high: float = round(low_high[1]) if integer else low_high[1]
        self.integer = integer
        self._values: NDArray[Any] = np.empty(0, np.float32)
        self._next = 0

    def hand_in(self, draws: NDArray[np.float64]) -> None:
        """Take the random numbers in [0, 1) of the images that come next, float64 [n]."""
        if self.integer:
            self._values = np.floor(self.low + draws * (self.high - self.low + 1)).astype(np.int32)
        else:
            self._values = (self.low + draws * (self.high - self.low)).astype(np.float32)
        self._next = 0

    def draw_samples(self, size: Any, random_state: Any = None) -> NDArray[Any]:
        """The next ``size[0]`` values, the same for every further axis; no random number is drawn."""
        shape = (size,) if np.isscalar(size) else tuple(size)
        values = self._values[self._next : self._next + shape[0]]
        self._next += shape[0]
        return np.broadcast_to(values.reshape(-1, *[1] * (len(shape) - 1)), shape).copy()

    def _draw_samples(self, size: Any, random_state: Any) -> NDArray[Any]:
        return self.draw_samples(size)


def augment_in_place(augmenter: Any, images: list[Pixels]) -> None:
    """Augment views of one array; imgaug's ``augment_images`` would copy them twice more."""
    result = augmenter.augment_batch_(_BatchInAugmentation(images=list(images))).images
    for image, augmented in zip(images, result, strict=True):
        if augmented is not image:
            image[:] = augmented


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
    """``iaa.AddToHueAndSaturation`` with one look-up for all channels, the third left as it is."""

    @classmethod
    def _transform_image_cv2(cls, image_hsv: Pixels, hue: int, saturation: int) -> Pixels:
        hues, saturations = cls._LUT_CACHE
        tables = np.stack([hues[255 + int(hue)], saturations[255 + int(saturation)], np.arange(256)], axis=-1)
        return np.asarray(cv2.LUT(image_hsv, tables.astype(np.uint8)[:, None], dst=image_hsv))
