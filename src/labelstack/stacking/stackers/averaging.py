"""The mean of predictions, for all who average."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def mean_of(probabilities: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Mean of equally shaped float32 arrays, summed in float64 in the given order."""
    total = np.zeros(probabilities[0].shape, np.float64)
    for probability in probabilities:
        total += probability
    return (total / len(probabilities)).astype(np.float32)
