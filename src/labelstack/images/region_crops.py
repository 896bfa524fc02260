"""Regions of stored photos as images of their own: the box around a mask with a margin, the rest kept or grey.

The mask may lie beside the pixels, in the bytes of the image (`pixels/region_mask.py`).
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from labelstack.images.pixels.decode import read_pixels
from labelstack.images.pixels.region_mask import GREY, with_mask
from labelstack.images.shards.shard_files import Shard, shard_paths, write_shard
from labelstack.masks.run_geometry import boxes, resized
from labelstack.masks.run_lengths import Ints, RunLengths, decode
from labelstack.params.region_rows import PHOTO
from labelstack.support.cores import cores

_KEY_BYTES = 9


class RegionCrop(NamedTuple):
    """A region's JPEG, and its sides in pixels."""

    jpeg: bytes
    width: int
    height: int


class Cutting(Protocol):
    """What says how regions are cut out: ``region_rows`` in params.yaml, and a version's own."""

    @property
    def margin(self) -> float:
        """See ``CropStyle``."""

    @property
    def background(self) -> str:
        """``keep`` or ``grey``."""

    @property
    def mask(self) -> str:
        """``none`` or ``stored``."""

    @property
    def context(self) -> float | str:
        """See ``CropStyle``; ``photo``: all of it."""


class CropStyle(NamedTuple):
    """How regions are cut out.

    Attributes
    ----------
    margin : share of the box's sides that is added all round; so much belongs to the region
    grey : whether all but the region is 128
    quality : of the JPEG, 1 … 100
    mask : whether it holds the region's mask
    context : as margin, of what is kept around it besides, where it is more; None: all of the photo
    """

    margin: float
    grey: bool
    quality: int
    mask: bool = False
    context: float | None = 0

    @classmethod
    def of(cls, section: Cutting, quality: int) -> CropStyle:
        """What a section of params.yaml, or of a version, says."""
        context = None if section.context == PHOTO else float(section.context)
        return cls(section.margin, section.background == "grey", quality, section.mask == "stored", context)


def crops_of(photos: Iterable[tuple[bytes | memoryview, RunLengths]], how: CropStyle) -> Iterator[list[RegionCrop]]:
    """The regions of each photo, in order; photos are decoded in threads, a few ahead.

    Parameters
    ----------
    photos : JPEG of each, and the masks of its regions, of any size with the photo's corners
    """
    waiting, ahead = iter(photos), 2 * cores()
    with ThreadPoolExecutor(cores()) as threads:
        while some := list(islice(waiting, ahead)):
            yield from threads.map(lambda photo: crops(photo[0], photo[1], how), some)


def crops(jpeg: bytes | memoryview, masks: RunLengths, how: CropStyle) -> list[RegionCrop]:
    """Each region of a stored photo; raise ``ValueError`` when the bytes are no image."""
    pixels = read_pixels(jpeg)
    height, width = pixels.shape[:2]
    cut = []
    around = [[0, 0, width, height]] * len(masks)
    if how.context is not None:
        around = crop_boxes(masks, height, width, max(how.margin, how.context)).tolist()
    own = crop_boxes(masks, height, width, how.margin).tolist()
    for place, (left, top, right, bottom) in enumerate(around):
        shown = pixels[top:bottom, left:right]
        if how.grey or how.mask:
            inside = decode(resized(masks.take([place]), height, width))[0, top:bottom, left:right]
        if how.grey:
            shown = np.where(inside[:, :, None], shown, np.uint8(GREY))
        bgr = cv2.cvtColor(np.ascontiguousarray(shown), cv2.COLOR_RGB2BGR)
        written, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, how.quality])
        if not written:
            raise ValueError("could not be stored as a JPEG")
        data = encoded.tobytes()
        if how.mask:
            x, y, beyond_x, beyond_y = own[place]
            data = with_mask(data, inside, (x - left, y - top, beyond_x - left, beyond_y - top))
        cut.append(RegionCrop(data, right - left, bottom - top))
    return cut


def crop_boxes(masks: RunLengths, height: int, width: int, margin: float) -> Ints:
    """The box around each mask with a margin, in pixels of the photo: int64 [n, 4], left, top, right, bottom.

    Each goes as far as the photo does and has at least one pixel.

    Parameters
    ----------
    height, width : of the photo as it is stored
    margin : share of the box's sides that is added all round
    """
    sides, stored = np.stack([masks.width, masks.height], axis=1), np.array([width, height])
    corners = boxes(masks).reshape(-1, 2, 2) / sides[:, None, :] * stored
    more = margin * (corners[:, 1] - corners[:, 0])
    low = np.clip(np.floor(corners[:, 0] - more), 0, stored - 1)
    high = np.clip(np.ceil(corners[:, 1] + more), low + 1, stored)
    return np.concatenate([low, high], axis=1).astype(np.int64)


class CropShards:
    """Shards of a split's regions, written one at a time; what lay in the folder before is removed."""

    def __init__(self, folder: Path, shard_rows: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for stale in [*folder.glob(".shard-*"), *shard_paths(folder)]:
            stale.unlink()
        self._folder, self._most, self._written = folder, shard_rows, 0
        self._ids: list[int] = []
        self._crops: list[RegionCrop] = []

    def add(self, row_id: Sequence[int] | NDArray[np.int64], crops: Sequence[RegionCrop]) -> None:
        """More rows, in the manifest's order."""
        self._ids += np.asarray(row_id, np.int64).tolist()
        self._crops += crops
        while len(self._ids) >= self._most:
            self._write(self._most)

    def close(self) -> None:
        """Write the rows that are left."""
        if self._ids:
            self._write(len(self._ids))

    def _write(self, n: int) -> None:
        ids, some = self._ids[:n], self._crops[:n]
        self._ids, self._crops = self._ids[n:], self._crops[n:]
        sides = np.array([(crop.width, crop.height) for crop in some], np.int32)
        shard = Shard(np.array(ids, np.int64), [one.jpeg for one in some], ["ok"] * n, sides[:, 0], sides[:, 1])
        keys = [b64encode(hashlib.blake2b(one.jpeg, digest_size=_KEY_BYTES).digest()).decode() for one in some]
        write_shard(self._folder / f"shard-{self._written:05d}.parquet", shard, keys)
        self._written += 1
