"""Sources: what images that belong together, of one camera, patient or shop, have in common; never split by folds."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from labelstack.support.errors import UserError


def source_codes(source: ArrayLike, n: int) -> NDArray[np.int64]:
    """Sources as numbers 0 … number of sources − 1, in the order of their names.

    Parameters
    ----------
    source : strings or whole numbers [n], equal where images belong together
    n : number of images

    Returns
    -------
    int64 [n]

    Raises
    ------
    ValueError
        When there is not one for each image, or they are neither all strings nor all whole numbers.
    """
    values = np.asarray(source)
    if values.shape != (n,):
        raise ValueError(f"source must be [{n}], one for each image, not {list(values.shape)}")
    if values.dtype.kind not in "iuU":
        kinds = {type(value) for value in values.tolist()}
        if len(kinds) > 1 or not kinds <= {str, int}:
            found = ", ".join(sorted(kind.__name__ for kind in kinds))
            raise ValueError(f"source must be strings or whole numbers throughout, found {found}")
    return np.unique(values, return_inverse=True)[1].astype(np.int64)


def blocks(n: int, count: int) -> NDArray[np.int64]:
    """Sources for images that stand in the order in which they were made: runs of neighbours, as long as each other.

    Parameters
    ----------
    n : number of images
    count : number of runs, 2 … n

    Returns
    -------
    int64 [n]: 0 … count − 1, rising; the first n % count runs are one longer

    Raises
    ------
    UserError
        When count is below 2 or above the number of images.
    """
    if not 2 <= count <= n:
        raise UserError(f"{count} blocks: {n} images can be cut into 2 … {n} blocks of neighbours")
    lengths = np.full(count, n // count)
    lengths[: n % count] += 1
    return np.repeat(np.arange(count, dtype=np.int64), lengths)
