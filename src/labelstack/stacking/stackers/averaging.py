"""The mean of predictions, for all who average."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from labelstack.stacking.cells import row_blocks


def mean_of(probabilities: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Mean of equally shaped float32 arrays, summed in float64 in the given order."""
    mean = np.empty(probabilities[0].shape, np.float32)
    for rows in row_blocks(len(mean), max(1, mean[:1].size)):
        total = np.zeros(mean[rows].shape, np.float64)
        for probability in probabilities:
            total += probability[rows]
        mean[rows] = total / len(probabilities)
    return mean
