"""Labels with too few rows to be spread over folds."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def frequent_labels(Y: ArrayLike, rare: int) -> NDArray[np.bool_]:
    """Labels that more than ``rare`` rows have, bool [n_labels].

    Folds of a published solution of iMet 2019 are stratified by labels with more than 30 images, and images without
    any such label are in none (`make_folds.py` in https://github.com/ceshine/imet-collection-2019). Such images have
    no part in the counts that are left, so nothing changes when it is asked again without them.

    Parameters
    ----------
    Y : 0/1 [n, n_labels]
    """
    return np.asarray(Y, bool).sum(axis=0) > rare
