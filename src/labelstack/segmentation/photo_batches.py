"""Batches of photos and their class maps, moved together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from labelstack.images.pixels.augment import build_augmenter
from labelstack.images.pixels.draws import image_draws
from labelstack.params.augment import AugmentSection

Pixels = NDArray[np.uint8]
Classes = NDArray[Any]  # uint8 or uint16
OFF = AugmentSection(flip=0, chance=0)

_SHUFFLE, _AUGMENT = 0, 1


class MaskBatches(Protocol):
    """Photos and class maps in batches, a pass at a time."""

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch."""

    def epoch(self, number: int) -> Iterator[tuple[Pixels, Classes]]:
        """Batches (uint8 [b, H, W, 3], whole numbers [b, H, W]) of an epoch, from 0, the same whenever asked."""


class PhotoBatches:
    """Training data in batches, a pass at a time, of photos of any size.

    What an epoch yields depends on photos, their numbers, size, batch size, seed and the epoch only.

    Parameters
    ----------
    images : uint8 [h, w, 3] each
        Or a sequence that reads them when they are asked for.
    class_maps : uint8 or uint16 [h, w] each
    size : (height, width)
        To which both are squashed: bilinear or area means, classes by the nearest pixel.
    augment : AugmentSection
        Flip, rotation, scale, shift, shear and crop move both, the rest changes colours.
    """

    def __init__(
        self,
        images: Sequence[Pixels],
        class_maps: Sequence[Classes],
        size: tuple[int, int],
        batch_size: int,
        seed: int,
        augment: AugmentSection = OFF,
    ) -> None:
        self.images, self.class_maps = images, class_maps
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self._augmenter = build_augmenter(augment)

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch; the last may have fewer photos."""
        return -(-len(self.images) // self.batch_size)

    def epoch(self, number: int) -> Iterator[tuple[Pixels, Classes]]:
        """Batches (uint8 [b, H, W, 3], int32 [b, H, W]) of an epoch, from 0, the same whenever asked."""
        order = np.random.default_rng([self.seed, _SHUFFLE, number]).permutation(len(self.images))
        seed = int(np.random.SeedSequence((self.seed, _AUGMENT, number)).generate_state(1, np.uint64)[0])
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size].astype(np.int64)
            images = np.empty((len(rows), *self.size, 3), np.uint8)
            self._augmenter.into(images, (self.images[row] for row in rows), seed, rows)
            plan = self._augmenter.geometry.plan(image_draws(seed, rows), *self.size)
            classes = np.empty((len(rows), *self.size), np.int32)
            for place, row in enumerate(rows):
                source = np.asarray(self.class_maps[row])
                moved = np.empty(self.size, source.dtype)
                plan.apply_to_map(place, source, moved)
                classes[place] = moved
            yield images, classes
