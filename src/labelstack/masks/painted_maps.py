"""Class maps of photos, painted from their instances' runs when they are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labelstack.masks.instance_table import masks_of, read_instances
from labelstack.masks.run_geometry import resized
from labelstack.masks.run_lengths import paint, smallest_last

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
