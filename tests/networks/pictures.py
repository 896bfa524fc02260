"""Images for the tests of descriptors, and tensors as arrays."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray


def noise(*shape: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def smooth(size: int, seed: int = 0) -> NDArray[np.uint8]:
    """Blobs of random colours, uint8 [size, size, 3]."""
    return np.asarray(cv2.resize(noise(7, 7, 3, seed=seed), (size, size), interpolation=cv2.INTER_CUBIC), np.uint8)


def scene(background: Any, thing: Any, size: int = 64, share: float = 0.4) -> NDArray[np.uint8]:
    """A square of one colour in the middle of another, uint8 [1, size, size, 3]."""
    image = np.full((1, size, size, 3), background, np.uint8)
    low = round(size * (1 - share) / 2)
    image[:, low : size - low, low : size - low] = thing
    return image


def array(tensor: Any) -> NDArray[np.float32]:
    return np.asarray(tensor)
