"""Class maps of photos: painted from their instances' runs as they are loaded, and moved as their images are."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from labelstack.images.loader import Images, TrainingBatches
from labelstack.images.pixels.augment import build_augmenter
from labelstack.images.pixels.cut import cut
from labelstack.images.pixels.decode import letterbox, read_pixels
from labelstack.images.pixels.source_crops import crop_boxes
from labelstack.images.shards.shard_files import images_by_id, status_frame
from labelstack.masks.instance_table import masks_of, read_instances
from labelstack.masks.run_geometry import resized
from labelstack.masks.run_lengths import paint, smallest_last
from labelstack.params.models import Resize

OnTop = Literal["smallest", "last"]
Maps = NDArray[np.uint8]


class ClassMaps:
    """What class each pixel of a photo is of.

    The runs stay in memory as 32-bit numbers, 8 bytes a run; pictures are painted one at a time.

    Parameters
    ----------
    path : the table of instances (``masks/instance_table.py``)
    image_ids : int [n], the photos that are wanted; one without instances is background all over
    classes : category → class, 0 … 254; instances of other categories are left out
    background : the class of pixels of no instance
    on_top : what is seen where instances overlap: the smallest, or the last in the table
    """

    def __init__(
        self,
        path: Path,
        image_ids: ArrayLike,
        classes: Mapping[int, int],
        background: int,
        on_top: OnTop = "smallest",
    ) -> None:
        if not all(0 <= value < 255 for value in (*classes.values(), background)):
            raise ValueError("classes and background must be numbers from 0 to 254")
        self.background, self.on_top = background, on_top
        self._table = read_instances(path, image_ids)
        category = self._table["category"].to_numpy()
        known = np.array(sorted(classes), np.int64)
        self._kept = np.isin(category, known)
        values = np.array([classes[int(one)] for one in known], np.uint8)
        self._class = values[np.searchsorted(known, category[self._kept])] if len(known) else np.zeros(0, np.uint8)
        self._table = self._table.filter(self._kept) if not self._kept.all() else self._table
        ids, first, count = np.unique(self._table["image_id"].to_numpy(), return_index=True, return_counts=True)
        self._rows = {int(i): (int(at), int(n)) for i, at, n in zip(ids, first, count, strict=True)}

    def at(self, image_id: int, height: int, width: int) -> Maps:
        """The map of a photo at a size, uint8 [height, width]: each pixel is what its middle lies in."""
        first, count = self._rows.get(int(image_id), (0, 0))
        masks = resized(masks_of(self._table.slice(first, count)), height, width)
        values = self._class[first : first + count]
        if self.on_top == "smallest":
            order = smallest_last(masks)
            masks, values = masks.take(order), values[order]
        return np.ascontiguousarray(paint(masks, values, self.background, (height, width)))

    def square(self, image_id: int, height: int, width: int, size: int, resize: Resize = "stretch") -> Maps:
        """The map of a photo stored at ``height`` × ``width`` as ``decode`` shows the photo, uint8 [size, size].

        Border pixels that a letterbox repeats are background.
        """
        if resize == "stretch":
            return self.at(image_id, size, size)
        return _boxed(self.at(image_id, *letterbox(height, width, size)[:2]), size, self.background)


class StoredPhotos(Sequence[Images]):
    """Photos of shards, uint8 [h, w, 3] RGB each, decoded when they are asked for; their JPEGs stay in memory.

    Attributes
    ----------
    image_ids : int64 [n], the photos that are there, in the order asked for
    sides : int64 [n, 2], their stored heights and widths
    """

    def __init__(self, shards: Path, image_ids: ArrayLike) -> None:
        wanted = np.asarray(image_ids, np.int64)
        jpegs = images_by_id(shards, wanted)
        self.image_ids = np.array([one for one in wanted.tolist() if one in jpegs], np.int64)
        self._jpegs = [jpegs[one] for one in self.image_ids.tolist()]
        frame = status_frame(shards).set_index("image_id")
        self.sides = frame.loc[self.image_ids, ["height", "width"]].to_numpy(np.int64)

    def __len__(self) -> int:
        return len(self._jpegs)

    def __getitem__(self, place: Any) -> Any:
        return read_pixels(self._jpegs[place])


class StoredMaps(Sequence[Maps]):
    """Class maps of ``StoredPhotos``, uint8 [h, w] each, painted when they are asked for."""

    def __init__(self, maps: ClassMaps, photos: StoredPhotos) -> None:
        self._maps, self._photos = maps, photos

    def __len__(self) -> int:
        return len(self._photos)

    def __getitem__(self, place: Any) -> Any:
        height, width = self._photos.sides[place].tolist()
        return self._maps.at(int(self._photos.image_ids[place]), height, width)


class MapBatches:
    """Images of ``TrainingBatches`` with class maps in the place of targets.

    A map is painted at the stored image's size and resampled once, by the matrix that moves the image.

    Raises
    ------
    ValueError
        When the batches show boxes of images.
    """

    def __init__(self, batches: TrainingBatches, maps: ClassMaps) -> None:
        if batches.boxes is not None:
            raise ValueError("class maps are of whole images, and these batches show boxes")
        self._batches, self._maps = batches, maps
        self._augmenter = None if batches.augment is None else build_augmenter(batches.augment)

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""
        return self._batches.steps_per_epoch

    def epoch(self, number: int) -> Iterator[tuple[Images, Maps]]:
        """Batches of epoch ``number``: images uint8 [b, size, size, 3] RGB, maps uint8 [b, size, size]."""
        order, size = self._batches.order(number), self._batches.batch_size
        parts = deque(order[start : start + size] for start in range(0, len(order), size))
        ahead: deque[Future[Maps]] = deque()
        with ThreadPoolExecutor(1) as threads:  # augmenters are seeded for one map at a time
            for images, _ in self._batches.epoch(number):
                while parts and len(ahead) < 2:
                    ahead.append(threads.submit(self.of_rows, parts.popleft(), number))
                yield images, ahead.popleft().result()

    def of_rows(self, rows: NDArray[np.int64], number: int) -> Maps:
        """Maps of some rows in epoch ``number``, uint8 [b, size, size]."""
        own = self._batches
        ids, sides, seed = own.image_ids[rows], own.sides[rows], own.augment_seed(number)
        out = np.empty((len(rows), own.size, own.size), np.uint8)
        boxes = crop_boxes(own.augment, own.size, seed, ids, sides)
        stored = (self._maps.at(i, int(h), int(w)) for i, (h, w) in zip(ids.tolist(), sides, strict=True))
        shown = (one if box is None else cut(one, box) for one, box in zip(stored, boxes, strict=True))
        if own.resize == "letterbox":
            shown = (_letterboxed_map(one, own.size, self._maps.background) for one in shown)
        if self._augmenter is not None:
            self._augmenter.maps_into(out, shown, seed, ids, self._maps.background)
            return out
        for row, one in zip(out, shown, strict=True):
            row[:] = cv2.resize(one, (own.size, own.size), interpolation=cv2.INTER_NEAREST_EXACT)
        return out


def _letterboxed_map(picture: Maps, size: int, background: int) -> Maps:
    height, width = letterbox(picture.shape[0], picture.shape[1], size)[:2]
    inner = cv2.resize(picture, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    return _boxed(np.asarray(inner, np.uint8), size, background)


def _boxed(picture: Maps, size: int, background: int) -> Maps:
    """A map that fills its square one way, in the middle of it."""
    height, width = picture.shape
    top, left = (size - height) // 2, (size - width) // 2
    out = np.full((size, size), background, np.uint8)
    out[top : top + height, left : left + width] = picture
    return out
