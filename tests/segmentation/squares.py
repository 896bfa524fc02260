"""Photos of coloured squares, and a network that learns them in seconds."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from labelstack.params.segmenters import DecoderSection, SegmenterPhase, SegmenterSection

BACKGROUND = 2
COLOURS = np.array([[220, 40, 40], [40, 60, 220], [128, 128, 128]])


def drawn(n: int, seed: int = 0, side: int = 40) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.uint8]]]:
    """Noise with a red square (class 0) and a blue one (class 1) on grey (class 2)."""
    rng = np.random.default_rng(seed)
    images, maps = [], []
    for _ in range(n):
        map_ = np.full((side, side + 8), BACKGROUND, np.uint8)
        for class_ in (0, 1):
            top, left, size = *rng.integers(0, side // 2, 2), rng.integers(10, side // 2)
            map_[top : top + size, left : left + size] = class_
        image = np.clip(COLOURS[map_] + rng.normal(0, 12, (*map_.shape, 3)), 0, 255)
        images.append(image.astype(np.uint8))
        maps.append(map_)
    return images, maps


def small(*phases: SegmenterPhase, **changes: Any) -> SegmenterSection:
    """A network of three levels."""
    settings = {
        "backbone": "small_cnn",
        "options": {"filters": [8, 8, 16], "convolutions": 1, "dropout": 0.1},
        "classes": 3,
        "decoder": DecoderSection(filters=(16, 8)),
        "phases": phases or (phase(),),
    }
    return SegmenterSection(**{**settings, **changes})


def phase(**changes: Any) -> SegmenterPhase:
    """Squares of 32 px, all layers at one rate."""
    settings = {"epochs": 2, "image_size": 32, "batch_size": 4, "learning_rate": 0.01, "group_rates": (1, 1, 1)}
    return SegmenterPhase(**{**settings, **changes})
