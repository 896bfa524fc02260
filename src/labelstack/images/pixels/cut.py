"""The part of an image in a box."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from labelstack.support.box import Box


def cut(pixels: NDArray[np.uint8], box: Box) -> NDArray[np.uint8]:
    """The part of an image uint8 [height, width, channels] in a box, to the nearest pixels, at least one each way."""
    height, width = pixels.shape[:2]
    left, right = _span(box.left, box.right, width)
    top, bottom = _span(box.top, box.bottom, height)
    return np.ascontiguousarray(pixels[top:bottom, left:right])


def _span(low: float, high: float, size: int) -> tuple[int, int]:
    start = min(round(low * size), size - 1)
    return start, min(size, max(start + 1, round(high * size)))
