"""Class maps of photos, painted from their instances' runs when they are asked for."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labelstack.images.pixels.decode import read_pixels
from labelstack.images.shards.shard_files import ok_ids, read_jpegs, shard_paths, status_frame
from labelstack.masks.instance_table import masks_of, read_instances
from labelstack.masks.run_geometry import resized
from labelstack.masks.run_lengths import paint, smallest_last

Images = NDArray[np.uint8]
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


class StoredPhotos(Sequence[Images]):
    """Photos of shards, uint8 [h, w, 3] RGB each, decoded when they are asked for, in several threads too.

    Their JPEGs are copied into one file without a name, which goes with the process: memory does not grow with them.

    Parameters
    ----------
    shards : a split's folder
    image_ids : int64 [n], the photos that are wanted
    folder : where that file lies; None: among the system's temporary files

    Attributes
    ----------
    image_ids : int64 [n], the photos that are there, in the order asked for
    sides : int64 [n, 2], their stored heights and widths
    """

    def __init__(self, shards: Path, image_ids: ArrayLike, folder: Path | None = None) -> None:
        wanted = np.asarray(image_ids, np.int64)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - as long as this object
        places: dict[int, tuple[int, int]] = {}
        for path in shard_paths(shards):
            if not np.isin(ok_ids(path), wanted).any():
                continue
            jpegs = read_jpegs(path)
            for row in np.flatnonzero(np.isin(jpegs.image_id, wanted)):
                if (data := jpegs.jpeg[row]) is not None:
                    places[int(jpegs.image_id[row])] = self._file.tell(), len(data)
                    self._file.write(data)
        self._file.flush()
        self.image_ids = np.array([one for one in wanted.tolist() if one in places], np.int64)
        self._places = np.array([places[one] for one in self.image_ids.tolist()], np.int64).reshape(-1, 2)
        frame = status_frame(shards).set_index("image_id")
        self.sides = frame.loc[self.image_ids, ["height", "width"]].to_numpy(np.int64)

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, place: Any) -> Any:
        begin, length = self._places[place].tolist()
        return read_pixels(os.pread(self._file.fileno(), length, begin))


class StoredMaps(Sequence[Maps]):
    """Class maps of ``StoredPhotos``, uint8 [h, w] each, painted when they are asked for."""

    def __init__(self, maps: ClassMaps, photos: StoredPhotos) -> None:
        self._maps, self._photos = maps, photos

    def __len__(self) -> int:
        return len(self._photos)

    def __getitem__(self, place: Any) -> Any:
        height, width = self._photos.sides[place].tolist()
        return self._maps.at(int(self._photos.image_ids[place]), height, width)
