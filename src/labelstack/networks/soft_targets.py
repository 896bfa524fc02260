"""What is learned where an annotator says that other values may be true as well: the tables of FashionAI's teams."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Of a label that is true and of each that may be, by how many may be, the last row for all further ones; and how many
# of these have a part (`custom_dataset2` in https://github.com/gd2016229035/FashionAI2018-TianChi).
_PUBLISHED = np.array([(1.0, 0.0), (0.8, 0.2), (0.7, 0.15), (0.6, 0.13)])
_PUBLISHED_MOST = 3
# `custom_dataset` there: from four on they share 0.4.
_SUM_TO_ONE = np.array([(1.0, 0.0), (0.8, 0.2), (0.7, 0.15), (0.7, 0.1)])
_SHARED = 0.4


def soft_targets(Y: NDArray[np.bool_], maybe: NDArray[np.bool_], table: str) -> NDArray[np.float32]:
    """Targets float32 [n, n_labels] of rows with one true label each.

    Parameters
    ----------
    Y : bool [n, n_labels], what is true
    maybe : bool [n, n_labels], what may be as well
    table : ``none``: what is true alone. ``published``: 0.8 and 0.2; 0.7 and 2 × 0.15; from three on 0.6 and 0.13 for
        the first three, a sum of 0.99. ``sum_to_one``: as it up to two; 0.7 and 3 × 0.1; from four on 0.6 and 0.4
        shared by all
    """
    if table == "none":
        return Y.astype(np.float32)
    count = maybe.sum(axis=1)
    if table == "published":
        true, each = _PUBLISHED[np.minimum(count, _PUBLISHED_MOST)].T
        shared = maybe & (np.cumsum(maybe, axis=1) <= _PUBLISHED_MOST)
    elif table == "sum_to_one":
        true, each = _SUM_TO_ONE[np.minimum(count, len(_SUM_TO_ONE) - 1)].T.copy()
        many = count >= len(_SUM_TO_ONE)
        true[many], each[many], shared = 1 - _SHARED, _SHARED / count[many], maybe
    else:
        raise ValueError(f"table must be none, published or sum_to_one, not {table!r}")
    return np.where(Y, true[:, None], np.where(shared, each[:, None], 0)).astype(np.float32)


def known_targets(
    targets: NDArray[np.float32], known: NDArray[np.str_], group: NDArray[np.str_]
) -> NDArray[np.float32]:
    """Targets [n, n_labels] with NaN for labels that a row does not know.

    Parameters
    ----------
    known : [n], the label group that each row knows
    group : [n_labels], the label group of each label
    """
    return np.where(known[:, None] == group[None, :], targets, np.float32(np.nan))
