"""Training augmentation with imgaug: flip, rotate, hue and saturation, blur, contrast, sharpen, emboss, crop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelstack.images.imgaug_compat import import_augmenters
from labelstack.params import Augment, Range

Augmenter = Callable[[NDArray[np.uint8], int], NDArray[np.uint8]]


def build_augmenter(params: Augment) -> Augmenter:
    """Build the policy of ``params``.

    Every operation but the flip is applied to an image with probability ``params.chance``; a range of [0, 0] leaves
    its operation out.

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


def _moved(params: Augment) -> Range:
    """[0, 0] when the image stays in its place, so that the operation is left out."""
    still = {tuple(params.rotate), tuple(params.shift), tuple(params.shear)} == {(0, 0)} and tuple(params.scale) == (
        1,
        1,
    )
    return (0, 0) if still else (0, 1)


def _movement(params: Augment) -> dict[str, Any]:
    """Rotation, scale, shift and shear as one resampling; those that do nothing draw no random numbers."""
    ranges: dict[str, tuple[Range, Any]] = {
        "rotate": ((0, 0), params.rotate),
        "scale": ((1, 1), params.scale),
        "translate_percent": ((0, 0), {"x": params.shift, "y": params.shift}),
        "shear": ((0, 0), params.shear),
    }
    unchanged = {"translate_percent": tuple(params.shift) == (0, 0)}
    return {name: value for name, (neutral, value) in ranges.items() if not unchanged.get(name, value == neutral)}


def _operations(iaa: Any, params: Augment) -> list[Any]:
    hue = tuple(round(value) for value in params.hue_and_saturation)
    sometimes: list[tuple[Range, Callable[[], Any]]] = [
        (_moved(params), lambda: iaa.Affine(**_movement(params), mode="reflect")),
        (params.hue_and_saturation, lambda: iaa.AddToHueAndSaturation(hue)),
        (params.gaussian_blur, lambda: iaa.GaussianBlur(params.gaussian_blur)),
        (params.contrast, lambda: iaa.LinearContrast(params.contrast)),
        (params.sharpen, lambda: iaa.Sharpen(alpha=params.sharpen, lightness=1.0)),
        (params.emboss, lambda: iaa.Emboss(alpha=params.emboss, strength=1.0)),
        (params.crop, lambda: iaa.Crop(percent=params.crop, keep_size=True)),
    ]
    operations = [iaa.Fliplr(params.flip)] if params.flip > 0 else []
    if params.chance > 0:
        operations += [iaa.Sometimes(params.chance, make()) for span, make in sometimes if tuple(span) != (0, 0)]
    return operations
