"""Random numbers of each image, and which of them is whose."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Draws = NDArray[np.float64]

# The places of an image's random numbers. An operation keeps its own, whether others are switched on or not.
FLIP, MOVE, HUE, BLUR, CONTRAST, SHARPEN, EMBOSS, CROP = 0, 1, 7, 9, 11, 13, 15, 17
ERASE = 22  # chosen, area, ratio, across, down
SOURCE = 27  # chosen, across, down, and two for each attempt
ATTEMPTS = 10
GROUPS = SOURCE + 3 + 2 * ATTEMPTS  # three for each group: chosen, which, seed
MOST_GROUPS = 8
_N_DRAWS = GROUPS + 3 * MOST_GROUPS


def image_draws(seed: int, image_ids: NDArray[np.int64]) -> Draws:
    """Random numbers of each image, float64 [n, draws] in [0, 1): Philox, keyed by the seed and the image's id."""
    keys = np.empty((len(image_ids), 2), np.uint64)
    keys[:, 0], keys[:, 1] = seed, np.asarray(image_ids, np.int64).view(np.uint64)
    draws = np.empty((len(keys), _N_DRAWS))
    for key, row in zip(keys, draws, strict=True):
        np.random.Generator(np.random.Philox(key=key)).random(out=row)
    return draws


def values(low_high: tuple[float, float], draws: NDArray[np.float64], *, integer: bool = False) -> NDArray[Any]:
    """Numbers of a range, uniform, float32 as in imgaug; integers of low … high, int64, where ``integer``."""
    if integer:
        low, high = round(low_high[0]), round(low_high[1])
        return np.floor(low + draws * (high - low + 1)).astype(np.int64)
    return (low_high[0] + draws * (low_high[1] - low_high[0])).astype(np.float32)


def between(low_high: tuple[float, float], draw: float) -> float:
    """A number of a range, uniform."""
    return low_high[0] + draw * (low_high[1] - low_high[0])


def ratio_between(low_high: tuple[float, float], draw: float) -> float:
    """A number of a range above 0, its logarithm uniform, so that a ratio and its inverse are as likely."""
    return math.exp(between((math.log(low_high[0]), math.log(low_high[1])), draw))
