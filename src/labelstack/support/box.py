"""The part of an image that a network sees."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Box(NamedTuple):
    """A part of an image, in shares of its width (left, right) and height (top, bottom): 0 ≤ left < right ≤ 1."""

    left: float
    top: float
    right: float
    bottom: float

    def widened(self, margin: float) -> Box:
        """The box with ``margin``, a share of its own sides, added all round, as far as the image goes."""
        across, down = margin * (self.right - self.left), margin * (self.bottom - self.top)
        return Box(
            max(0.0, self.left - across),
            max(0.0, self.top - down),
            min(1.0, self.right + across),
            min(1.0, self.bottom + down),
        )


Boxes = Mapping[int, Box]  # image id → box; an image that is not there is seen whole


def as_rows(boxes: Boxes | None, image_id: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """The boxes of some images, float64 [n, 4]; NaN where an image is seen whole, None where all are."""
    if boxes is None:
        return None
    whole = (np.nan,) * 4
    return np.array([boxes.get(int(i), whole) for i in image_id], np.float64).reshape(-1, 4)


def of_row(row: NDArray[np.float64]) -> Box | None:
    """A box of ``as_rows``; None: the whole image."""
    return None if np.isnan(row[0]) else Box(*row.tolist())
