"""Test-time views: the image as it is, mirrored, or parts of it; a network's answers to them are averaged."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from labelstack.images.pixels.decode import read_seen, to_square
from labelstack.images.pixels.draws import SOURCE, Draws, image_draws
from labelstack.images.pixels.source_crops import Crop, crop_of
from labelstack.params.augment import ResizedCropSection
from labelstack.params.models import Resize
from labelstack.params.prediction_views import OneView
from labelstack.params.region_view import PLAIN, RegionView
from labelstack.support.box import Box

Batch = NDArray[np.uint8]
_VIEWS = 3  # a random stream of its own, beside those of training
_ACROSS, _DOWN = SOURCE + 1, SOURCE + 2
# Where a crop lies: shares of the width and height that it leaves over, which are to its left and above.
_PLACES = {
    "top_left": (0.0, 0.0), "top": (0.5, 0.0), "top_right": (1.0, 0.0),
    "left": (0.0, 0.5), "center": (0.5, 0.5), "right": (1.0, 0.5),
    "bottom_left": (0.0, 1.0), "bottom": (0.5, 1.0), "bottom_right": (1.0, 1.0),
}  # fmt: skip


def identity(batch: Batch) -> Batch:
    """The batch [n, h, w, 3] as it is."""
    return batch


def hflip(batch: Batch) -> Batch:
    """The batch [n, h, w, 3] mirrored left to right."""
    return np.ascontiguousarray(batch[:, :, ::-1])


TRANSFORMS: dict[str, Callable[[Batch], Batch]] = {"identity": identity, "hflip": hflip}


@dataclass(frozen=True)
class Looks:
    """The views that a network is shown of each image.

    Where all are of the whole image, batches come as squares [n, size, size, 3], and each of ``transforms`` is a pass
    over them; else every image comes as all its views [n, views, size, size, 3], and there is nothing to transform.

    Parameters
    ----------
    views : at least one
    size : side in pixels of the square that the network sees
    resize : how a part, or the whole image, becomes a square
    region : what it is given of a region; a mask is a fourth channel of all shapes below
    """

    views: tuple[OneView, ...]
    size: int
    resize: Resize = "stretch"
    region: RegionView = PLAIN

    @property
    def whole(self) -> bool:
        """Whether nothing is cut out."""
        return all(view.whole for view in self.views)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an image as it is shown."""
        square = (self.size, self.size, self.region.channels)
        return square if self.whole else (len(self.views), *square)

    @property
    def transforms(self) -> list[Callable[[Batch], Batch]]:
        """Passes over a batch of squares; none where images come as all their views."""
        return [hflip if view.flip else identity for view in self.views] if self.whole else []

    def groups(self, n: int, batch_size: int) -> Iterator[slice]:
        """A batch of n images in the groups that are shown together: as many as fit with all their views, at least one.

        They end with the batch, so that the same images are together wherever they are predicted.
        """
        step = n if self.whole else max(1, batch_size // len(self.views))
        yield from (slice(start, min(n, start + step)) for start in range(0, n, max(1, step)))

    def __call__(self, jpeg: bytes | memoryview, image_id: int, box: Box | None = None) -> Batch:
        """All views of an image, decoded once: uint8 [size, size, 3] if whole, else [views, size, size, 3].

        Parameters
        ----------
        jpeg : as stored
        image_id : what random parts come from, with their view's seed and number
        box : the part of the image that is seen at all; None: all of it

        Raises
        ------
        ValueError
            When the bytes are no image.
        """
        pixels = read_seen(jpeg, box, self.region)
        if self.whole:
            return to_square(pixels, self.size, self.resize)
        seen = np.empty(self.shape, np.uint8)
        squares: dict[Crop, Batch] = {}
        for view, out in zip(self.views, seen, strict=True):
            part = part_seen(view, pixels.shape[1], pixels.shape[0], image_id)
            if part not in squares:
                left, top, width, height = part
                squares[part] = to_square(pixels[top : top + height, left : left + width], self.size, self.resize)
            out[:] = squares[part][:, ::-1] if view.flip else squares[part]
        return seen


def part_seen(view: OneView, width: int, height: int, image_id: int) -> Crop:
    """Which part of an image of ``width`` × ``height`` pixels a view shows: left, top, width and height in pixels.

    A crop of fixed size is ``share`` of each side, or a square that the short side is ``scale`` times as long as: of
    the image resized to a short side of ``scale`` times the network's, that is a square of the network's own side.
    """
    if view.area is not None:
        draws, section = _draws(view, image_id), _section(view)
        return crop_of(section, 0, width, height, draws)
    if view.crop is None:
        return 0, 0, width, height
    if view.scale is not None:
        w = h = max(1, round(min(width, height) / view.scale))
    else:
        w, h = (max(1, round((view.share or 1) * side)) for side in (width, height))
    if view.crop == "random":
        draws = _draws(view, image_id)
        return int(draws[_ACROSS] * (width - w + 1)), int(draws[_DOWN] * (height - h + 1)), w, h
    across, down = _PLACES[view.crop]
    return int(across * (width - w)), int(down * (height - h)), w, h


def id_of(jpeg: bytes | memoryview) -> int:
    """What stands for the id of an image that has none: 63 bits of its stored bytes' SHA-256."""
    return int.from_bytes(hashlib.sha256(jpeg).digest()[:8], "big") >> 1


def _draws(view: OneView, image_id: int) -> Draws:
    return image_draws(_stream(view.seed or 0, view.number or 0), np.array([image_id], np.int64))[0]


@lru_cache
def _stream(seed: int, number: int) -> int:
    return int(np.random.SeedSequence((seed, _VIEWS, number)).generate_state(1, np.uint64)[0])


@lru_cache
def _section(view: OneView) -> ResizedCropSection:
    return ResizedCropSection(area=view.area or (1, 1), ratio=view.ratio or (1, 1))
