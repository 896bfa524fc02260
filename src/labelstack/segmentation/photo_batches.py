"""Batches of photos and their class maps, moved together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from labelstack.images.pixels.augment import build_augmenter
from labelstack.params.augment import AugmentSection
from labelstack.support.cores import cores

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
        Or a sequence that reads them when they are asked for, by several threads (``images.class_maps.StoredPhotos``).
    class_maps : uint8 or uint16 [h, w] each
    size : (height, width)
        To which both are squashed: bilinear or area means, classes by the nearest pixel.
    augment : AugmentSection
        Flip, rotation, scale, shift, shear, crop and distortions move both, the rest changes colours.
    background : int
        The class of what distortions bring in from outside.
    """

    def __init__(
        self,
        images: Sequence[Pixels],
        class_maps: Sequence[Classes],
        size: tuple[int, int],
        batch_size: int,
        seed: int,
        augment: AugmentSection = OFF,
        background: int = 0,
    ) -> None:
        self.images, self.class_maps = images, class_maps
        self.size, self.batch_size, self.seed = size, batch_size, seed
        self._augmenter, self._background = build_augmenter(augment), background

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches in an epoch; the last may have fewer photos."""
        return -(-len(self.images) // self.batch_size)

    def epoch(self, number: int) -> Iterator[tuple[Pixels, Classes]]:
        """Batches (uint8 [b, H, W, 3], int32 [b, H, W]) of an epoch, from 0, the same whenever asked."""
        order = np.random.default_rng([self.seed, _SHUFFLE, number]).permutation(len(self.images)).astype(np.int64)
        seed = int(np.random.SeedSequence((self.seed, _AUGMENT, number)).generate_state(1, np.uint64)[0])
        with ThreadPoolExecutor(cores()) as threads:
            for start in range(0, len(order), self.batch_size):
                rows = order[start : start + self.batch_size]
                pixels, maps = (threads.map(all_.__getitem__, rows.tolist()) for all_ in (self.images, self.class_maps))
                images = np.empty((len(rows), *self.size, 3), np.uint8)
                self._augmenter.into(images, pixels, seed, rows)
                sources = list(map(np.asarray, maps))
                classes = np.empty((len(rows), *self.size), np.result_type(*sources))
                moved = (source.astype(classes.dtype, copy=False) for source in sources)
                self._augmenter.maps_into(classes, moved, seed, rows, self._background)
                yield images, classes.astype(np.int32)
