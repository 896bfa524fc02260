"""Training augmentation with imgaug: flip, rotate, hue and saturation, blur, contrast, sharpen, emboss, crop.

imgaug works on batches, and draws for a whole batch from one generator. Here every image has a generator of its own,
made from the seed and its id, and the augmenters read what was drawn for the images at hand. So an image's pixels do
not depend on the other images of its batch, nor on where a batch begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelstack.params.augment import AugmentSection

Pixels = NDArray[np.uint8]
Augmenter = Callable[[Pixels, int, NDArray[np.int64]], Pixels]
Draws = NDArray[np.float64]

# Images that imgaug gets at once: enough to spread what a call costs, few enough to stay in the processor's cache.
_AT_ONCE = 32
# The places of an image's random numbers. An operation keeps its own, whether others are switched on or not.
_FLIP, _MOVE, _HUE, _BLUR, _CONTRAST, _SHARPEN, _EMBOSS, _CROP = 0, 1, 7, 9, 11, 13, 15, 17
_N_DRAWS = 22


def build_augmenter(params: AugmentSection) -> Augmenter:
    """Build the policy of ``params``.

    Every operation but the flip is applied to an image with probability ``params.chance``; a range of [0, 0]
    (of scale: [1, 1]) leaves its operation out.

    Returns
    -------
    callable (batch uint8 [n, h, w, 3] RGB, seed, image ids int64 [n]) → uint8 [n, h, w, 3]
        What becomes of an image depends on its pixels, its id and the seed (0 ≤ seed < 2⁶⁴) only; the input stays as
        it is, and so does the state of ``numpy.random``.
    """
    operations = list(_operations(params))

    def augment(batch: Pixels, seed: int, image_ids: NDArray[np.int64]) -> Pixels:
        out = batch.copy()
        if operations:
            draws = image_draws(seed, image_ids)
            for start in range(0, len(out), _AT_ONCE):
                part, own = out[start : start + _AT_ONCE], draws[start : start + _AT_ONCE]
                for operation in operations:
                    operation.apply(part, own)
        return out

    return augment


def image_draws(seed: int, image_ids: NDArray[np.int64]) -> Draws:
    """Random numbers of each image, float64 [n, draws] in [0, 1): Philox, keyed by the seed and the image's id."""
    keys = np.empty((len(image_ids), 2), np.uint64)
    keys[:, 0], keys[:, 1] = seed, np.asarray(image_ids, np.int64).view(np.uint64)
    draws = np.empty((len(keys), _N_DRAWS))
    for key, row in zip(keys, draws, strict=True):
        np.random.Generator(np.random.Philox(key=key)).random(out=row)
    return draws


@dataclass
class _Operation:
    """One augmenter, and where the random numbers of its parameters stand."""

    augmenter: Any
    chosen: int
    chance: float
    parameters: list[tuple[Any, int]]

    def apply(self, batch: Pixels, draws: Draws) -> None:
        from labelstack.images.pixels.imgaug_parts import augment_in_place

        rows = np.flatnonzero(draws[:, self.chosen] < self.chance)
        if len(rows):
            for parameter, place in self.parameters:
                parameter.hand_in(draws[rows, place])
            augment_in_place(self.augmenter, [batch[row] for row in rows])


def _operations(params: AugmentSection) -> Iterator[_Operation]:
    """The operations that do something, in order."""
    from labelstack.images.pixels import imgaug_parts as parts

    iaa, chance = parts.iaa, params.chance
    if params.flip > 0:
        yield _Operation(iaa.Fliplr(1.0), _FLIP, params.flip, [])
    if chance == 0:
        return
    if movement := _movement(params):
        yield _Operation(_affine(movement), _MOVE, chance, list(movement.values()))
    if any(params.hue_and_saturation):
        shift = parts.Drawn(params.hue_and_saturation, integer=True)
        yield _Operation(parts.AddToHueAndSaturation(shift), _HUE, chance, [(shift, _HUE + 1)])
    kinds: list[tuple[int, tuple[float, float], Callable[[Any], Any]]] = [
        (_BLUR, params.gaussian_blur, iaa.GaussianBlur),
        (_CONTRAST, params.contrast, iaa.LinearContrast),
        (_SHARPEN, params.sharpen, lambda alpha: parts.Sharpen(alpha=alpha, lightness=1.0)),
        (_EMBOSS, params.emboss, lambda alpha: parts.Emboss(alpha=alpha, strength=1.0)),
    ]
    for chosen, low_high, make in kinds:
        if any(low_high):
            parameter = parts.Drawn(low_high)
            yield _Operation(make(parameter), chosen, chance, [(parameter, chosen + 1)])
    if any(params.crop):
        sides = [(parts.Drawn(params.crop), _CROP + 1 + side) for side in range(4)]
        crop = iaa.Crop(percent=tuple(share for share, _ in sides), keep_size=True)
        yield _Operation(crop, _CROP, chance, sides)


def _movement(params: AugmentSection) -> dict[str, tuple[Any, int]]:
    """Parameters of rotation, scale, shift and shear, with the places of their draws; only those that do something."""
    from labelstack.images.pixels.imgaug_parts import Drawn

    wanted = {
        "rotate": (any(params.rotate), params.rotate),
        "scale": (params.scale != (1, 1), params.scale),
        "shift_x": (any(params.shift), params.shift),
        "shift_y": (any(params.shift), params.shift),
        "shear": (any(params.shear), params.shear),
    }
    places = enumerate(wanted.items(), start=_MOVE + 1)
    return {name: (Drawn(low_high), place) for place, (name, (does, low_high)) in places if does}


def _affine(movement: dict[str, tuple[Any, int]]) -> Any:
    """All of the movement in one resampling."""
    from labelstack.images.pixels.imgaug_parts import iaa

    given = {name: parameter for name, (parameter, _) in movement.items()}
    options: dict[str, Any] = {name: given[name] for name in ("rotate", "scale") if name in given}
    if "shift_x" in given:
        options["translate_percent"] = {"x": given["shift_x"], "y": given["shift_y"]}
    if "shear" in given:
        options["shear"] = {"x": given["shear"]}  # a bare range slants both axes at once, which is a rotation
    return iaa.Affine(**options, mode="reflect")
