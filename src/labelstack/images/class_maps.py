"""Stored photos beside their class maps, decoded and painted when they are asked for."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labelstack.images.pixels.decode import read_pixels
from labelstack.images.shards.shard_files import ok_ids, read_jpegs, shard_paths, status_frame
from labelstack.masks.painted_maps import ClassMaps, Maps

Images = NDArray[np.uint8]


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
