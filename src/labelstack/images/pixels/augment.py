"""Training augmentation with imgaug: flip, rotate, hue and saturation, blur, contrast, sharpen, emboss, crop, …

imgaug works on batches, and draws for a whole batch from one generator. Here every image has a generator of its own,
made from the seed and its id, and the augmenters read what was drawn for the images at hand. So an image's pixels do
not depend on the other images of its batch, nor on where a batch begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from labelstack.images.pixels.draws import BLUR, CONTRAST, CROP, EMBOSS, FLIP, HUE, MOVE, SHARPEN, Draws, image_draws
from labelstack.images.pixels.erase import Erase
from labelstack.images.pixels.one_of import OneOf
from labelstack.params.augment import AugmentSection

Pixels = NDArray[np.uint8]
Augmenter = Callable[[Pixels, int, NDArray[np.int64]], Pixels]

# Images that imgaug gets at once: enough to spread what a call costs, few enough to stay in the processor's cache.
_AT_ONCE = 32


def build_augmenter(params: AugmentSection) -> Augmenter:
    """Build the policy of ``params``.

    Every operation but the flip is applied to an image with probability ``params.chance``; a range of [0, 0]
    (of scale: [1, 1]) leaves its operation out. Groups and erasing, which come last, have chances of their own; crops
    of the stored image are ``source_crops``'.

    Returns
    -------
    callable (batch uint8 [n, h, w, 3] RGB, seed, image ids int64 [n]) → uint8 [n, h, w, 3]
        What becomes of an image depends on its pixels, its id and the seed (0 ≤ seed < 2⁶⁴) only; the input stays as
        it is, and so does the state of ``numpy.random``.
    """
    groups = [OneOf(group, number) for number, group in enumerate(params.one_of)]
    operations: list[_Operation] = [*_operations(params), *groups]
    operations += [Erase(params.erase)] if params.erase is not None else []

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


class _Operation(Protocol):
    def apply(self, batch: Pixels, draws: Draws) -> None:
        """Change images in place: uint8 [n, h, w, 3], random numbers [n, draws]."""


@dataclass
class _Imgaug:
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


def _operations(params: AugmentSection) -> Iterator[_Imgaug]:
    """The operations that do something, in order."""
    from labelstack.images.pixels import imgaug_parts as parts

    iaa, chance = parts.iaa, params.chance
    if params.flip > 0:
        yield _Imgaug(iaa.Fliplr(1.0), FLIP, params.flip, [])
    if chance == 0:
        return
    if movement := _movement(params):
        yield _Imgaug(_affine(movement), MOVE, chance, list(movement.values()))
    if any(params.hue_and_saturation):
        shift = parts.Drawn(params.hue_and_saturation, integer=True)
        yield _Imgaug(parts.AddToHueAndSaturation(shift), HUE, chance, [(shift, HUE + 1)])
    kinds: list[tuple[int, tuple[float, float], Callable[[Any], Any]]] = [
        (BLUR, params.gaussian_blur, iaa.GaussianBlur),
        (CONTRAST, params.contrast, iaa.LinearContrast),
        (SHARPEN, params.sharpen, lambda alpha: parts.Sharpen(alpha=alpha, lightness=1.0)),
        (EMBOSS, params.emboss, lambda alpha: parts.Emboss(alpha=alpha, strength=1.0)),
    ]
    for chosen, low_high, make in kinds:
        if any(low_high):
            parameter = parts.Drawn(low_high)
            yield _Imgaug(make(parameter), chosen, chance, [(parameter, chosen + 1)])
    if any(params.crop):
        sides = [(parts.Drawn(params.crop), CROP + 1 + side) for side in range(4)]
        crop = iaa.Crop(percent=tuple(share for share, _ in sides), keep_size=True)
        yield _Imgaug(crop, CROP, chance, sides)


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
    places = enumerate(wanted.items(), start=MOVE + 1)
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
