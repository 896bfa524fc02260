"""Training augmentation with imgaug: flip, rotate, crop, hue and saturation, blur, contrast, sharpen, emboss, …

imgaug works on batches, and draws for a whole batch from one generator. Here every image has a generator of its own,
made from the seed and its id, and gets imgaug's operations with the values drawn for it. So an image's pixels do not
depend on the other images of its batch, nor on where a batch begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelstack.images.pixels.draws import BLUR, CONTRAST, EMBOSS, HUE, SHARPEN, Draws, image_draws, values
from labelstack.images.pixels.erase import Erase
from labelstack.images.pixels.geometry import Geometry
from labelstack.images.pixels.one_of import OneOf
from labelstack.images.pixels.region_mask import joined, split
from labelstack.params.augment import AugmentSection

Pixels = NDArray[np.uint8]


def build_augmenter(params: AugmentSection) -> Augmenter:
    """Build the policy of ``params``.

    Every operation but the flip is applied to an image with probability ``params.chance``; a range of [0, 0]
    (of scale: [1, 1]) leaves its operation out. First come flip, rotation, scale, shift, shear and crop, as one
    resampling, then colours. Groups and erasing, which come last, have chances of their own; crops of the stored image
    are ``source_crops``'.
    """
    rest: list[OneOf | Erase] = [OneOf(group, number) for number, group in enumerate(params.one_of)]
    rest += [Erase(params.erase)] if params.erase is not None else []
    return Augmenter(Geometry(params), list(_colours(params)), rest)


@dataclass(frozen=True)
class _Colour:
    """An operation on an image's pixels where they are, and where its random numbers stand: chosen, then a value."""

    change: Callable[[Pixels, Any], Pixels]
    chosen: int
    low_high: tuple[float, float]
    integer: bool

    def values(self, draws: Draws) -> NDArray[Any]:
        """What is drawn for each image [n]."""
        return values(self.low_high, draws[:, self.chosen + 1], integer=self.integer)


@dataclass(frozen=True)
class Augmenter:
    """A policy. What becomes of an image depends on its pixels, its id and the seed (0 ≤ seed < 2⁶⁴) only.

    The input stays as it is, and so does the state of ``numpy.random``.
    """

    geometry: Geometry
    colours: list[_Colour]
    rest: list[OneOf | Erase]

    def __call__(self, batch: Pixels, seed: int, image_ids: NDArray[np.int64]) -> Pixels:
        """Augment images of one size: uint8 [n, h, w, 3] RGB, ids int64 [n] → uint8 [n, h, w, 3]."""
        out = np.empty_like(batch)
        self.into(out, batch, seed, image_ids)
        return out

    def into(self, out: Pixels, sources: Iterable[Pixels], seed: int, image_ids: NDArray[np.int64]) -> None:
        """Augment images uint8 [h, w, 3] of any size (see ``decode_to_move``) into ``out`` uint8 [n, H, W, 3].

        A fourth channel, the mask of a region, is moved as a class map is: see ``maps_into``.
        """
        if not len(out):
            return
        if out.shape[3] == 4:
            colours, masks = zip(*map(split, sources), strict=True)
            seen, inside = np.empty((*out.shape[:3], 3), np.uint8), np.empty(out.shape[:3], np.uint8)
            self.into(seen, colours, seed, image_ids)
            self.maps_into(inside, masks, seed, image_ids, 0)
            out[:] = joined(seen, inside)
            return
        draws = image_draws(seed, image_ids)
        chance = self.geometry.params.chance
        drawn = [(colour.change, draws[:, colour.chosen] < chance, colour.values(draws)) for colour in self.colours]
        plan = self.geometry.plan(draws, *out.shape[1:3])
        # One image after another, so that it stays in the processor's cache from its JPEG to the end.
        for place, (source, row) in enumerate(zip(sources, out, strict=True)):
            plan.apply(place, source, row)
            image = row
            for change, chosen, value in drawn:
                if chosen[place]:
                    image = change(image, value[place])
            if image is not row:
                row[:] = image
        for operation in self.rest:
            operation.apply(out, draws)

    def maps_into(
        self, out: Pixels, sources: Iterable[Pixels], seed: int, image_ids: NDArray[np.int64], background: int
    ) -> None:
        """Move class maps [h, w], each as large as its image, into ``out`` [n, H, W], uint8 or uint16 as they are.

        They go where ``into`` moves their images.

        Colours leave them as they are, and so does erasing; what distortions bring in from outside is background.
        """
        if not len(out):
            return
        draws = image_draws(seed, image_ids)
        plan = self.geometry.plan(draws, *out.shape[1:3])
        for place, (source, row) in enumerate(zip(sources, out, strict=True)):
            plan.apply_to_map(place, source, row)
        for operation in self.rest:
            if isinstance(operation, OneOf):
                operation.apply_to_maps(out, draws, background)


def _colours(params: AugmentSection) -> Iterator[_Colour]:
    """The operations that do something, in order."""
    if params.chance == 0:
        return
    kinds = [
        ("add_to_hue_and_saturation", HUE, params.hue_and_saturation),
        ("gaussian_blur", BLUR, params.gaussian_blur),
        ("linear_contrast", CONTRAST, params.contrast),
        ("sharpen", SHARPEN, params.sharpen),
        ("emboss", EMBOSS, params.emboss),
    ]
    for name, place, low_high in kinds:
        if any(low_high) and (place != CONTRAST or low_high != (1, 1)):
            from labelstack.images.pixels import imgaug_parts as parts

            yield _Colour(getattr(parts, name), place, low_high, integer=place == HUE)
