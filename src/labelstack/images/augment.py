"""Training augmentation with imgaug: flip, rotate, hue and saturation, blur, contrast, sharpen, emboss, crop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelstack.images.imgaug_compat import import_augmenters
from labelstack.params import Augment

Augmenter = Callable[[NDArray[np.uint8], int], NDArray[np.uint8]]


def build_augmenter(params: Augment) -> Augmenter:
    """Build the policy of ``params``.

    Every operation but the flip is applied to an image with probability ``params.chance``; a range of [0, 0]
    (of scale: [1, 1]) leaves its operation out.

    Returns
    -------
    callable (batch uint8 [n, h, w, 3] RGB, seed ≥ 0) → uint8 [n, h, w, 3]
        Depends on batch and seed only, whatever was augmented before; the input stays as it is, and so does the
        state of ``numpy.random``.
    """
    iaa = import_augmenters()
    operations = _operations(iaa, params)
    sequence = iaa.Sequential(operations, random_order=False)

    def augment(batch: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
        if not operations or not len(batch):
            return batch.copy()
        sequence.seed_(seed % 2**31)
        return np.asarray(sequence.augment_images(batch), np.uint8)

    return augment


def _movement(params: Augment) -> dict[str, Any]:
    """Rotation, scale, shift and shear for one resampling; those that do nothing draw no random numbers."""
    movement: dict[str, Any] = {}
    if any(params.rotate):
        movement["rotate"] = params.rotate
    if params.scale != (1, 1):
        movement["scale"] = params.scale
    if any(params.shift):
        movement["translate_percent"] = {"x": params.shift, "y": params.shift}
    if any(params.shear):
        movement["shear"] = {"x": params.shear}  # a bare range slants both axes at once, which is a rotation
    return movement


def _operations(iaa: Any, params: Augment) -> list[Any]:
    movement = _movement(params)
    hue = tuple(round(value) for value in params.hue_and_saturation)
    sometimes: list[tuple[bool, Callable[[], Any]]] = [
        (bool(movement), lambda: iaa.Affine(**movement, mode="reflect")),
        (any(params.hue_and_saturation), lambda: iaa.AddToHueAndSaturation(hue)),
        (any(params.gaussian_blur), lambda: iaa.GaussianBlur(params.gaussian_blur)),
        (any(params.contrast), lambda: iaa.LinearContrast(params.contrast)),
        (any(params.sharpen), lambda: iaa.Sharpen(alpha=params.sharpen, lightness=1.0)),
        (any(params.emboss), lambda: iaa.Emboss(alpha=params.emboss, strength=1.0)),
        (any(params.crop), lambda: iaa.Crop(percent=params.crop, keep_size=True)),
    ]
    operations = [iaa.Fliplr(params.flip)] if params.flip > 0 else []
    if params.chance > 0:
        operations += [iaa.Sometimes(params.chance, make()) for wanted, make in sometimes if wanted]
    return operations
