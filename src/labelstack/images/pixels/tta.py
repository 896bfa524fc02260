"""Test-time augmentation: transforms whose predictions are averaged."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Batch = NDArray[np.uint8]


def identity(batch: Batch) -> Batch:
    """The batch [n, h, w, 3] as it is."""
    return batch


def hflip(batch: Batch) -> Batch:
    """The batch [n, h, w, 3] mirrored left to right."""
    return np.ascontiguousarray(batch[:, :, ::-1])


TRANSFORMS: dict[str, Callable[[Batch], Batch]] = {"identity": identity, "hflip": hflip}
