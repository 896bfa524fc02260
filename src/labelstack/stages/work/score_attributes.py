"""Scores of rows that know one label group each, beside those that every data set has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labelstack.scoring.attribute_precision import (
    BASIC_PRECISION,
    MAP,
    MAP_OFFICIAL,
    AttributePrecision,
    letters_of,
)
from labelstack.stages.rows import Rows

if TYPE_CHECKING:
    import pandas as pd

_KEYS = {
    "attribute_map": MAP,
    "attribute_map_official": MAP_OFFICIAL,
    "basic_precision": BASIC_PRECISION,
}


def attribute_scores(rows: Rows, P: NDArray[Any], labels: pd.DataFrame, *, prefix: str = "") -> dict[str, float]:
    """FashionAI's scores of probabilities [n, n_labels], with 95 % intervals; none where rows know all label groups.

    Parameters
    ----------
    labels : the label table
    prefix : of the scores' keys, such as ``test_``
    """
    if rows.known is None or rows.maybe is None or not len(rows):
        return {}
    truth, group = letters_of(rows.Y, rows.maybe), labels["group"].to_numpy(np.str_)
    scored, found = AttributePrecision(truth, P, rows.known, group), dict[str, float]()
    for key, score in _KEYS.items():
        interval = scored.interval(score)
        values = {"": interval.score, "_low": interval.low, "_high": interval.high}
        found |= {f"{prefix}{key}{end}": round(value, 6) for end, value in values.items() if np.isfinite(value)}
    return found
