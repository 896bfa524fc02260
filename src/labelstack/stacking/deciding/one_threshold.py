"""One threshold for all labels that is not the best one of the rows at hand: what solutions of iMet 2019 decided by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from labelstack.scoring.metrics import Average
from labelstack.stacking.deciding.thresholds import best_global


def mean_of_folds(
    Y: NDArray[np.bool_], P: NDArray[np.float32], folds: NDArray[np.int64], metric: Average, beta: float
) -> float:
    """The mean of the folds' own best thresholds.

    What subtracting each fold's threshold from the probabilities of that fold's networks comes to on new images, which
    all networks predict: the mean of p − t is above 0 where the mean of p is above the mean of t.

    Parameters
    ----------
    folds : int [n]
    """
    return float(np.mean([best_global(Y[folds == fold], P[folds == fold], metric, beta) for fold in np.unique(folds)]))


def of_mean_count(P: NDArray[np.float32], count: float) -> float:
    """The threshold that gives new images ``count`` labels in the mean, as near as it goes.

    Midway between the last probability that is taken and the next; just above 1 where none is to be taken.

    Parameters
    ----------
    P : float32 [m, n_labels] of the new images
    """
    values = P.ravel()
    taken = min(round(count * len(P)), len(values))
    if not taken:
        return float(np.nextafter(np.float32(1), np.float32(2)))
    if taken == len(values):
        return 0.0
    place = len(values) - taken
    ranked = np.partition(values, [place - 1, place])
    low, high = ranked[place - 1], ranked[place]
    middle = np.float32((high + low) / 2)
    return float(middle if middle > low else high)
