"""What the second level chooses by: the folds of the validation rows, the metric, the rules there are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from labelstack.params import Params
from labelstack.stacking.folds import assign_folds

if TYPE_CHECKING:
    import pandas as pd


def validation_folds(params: Params, Y: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The folds of the validation rows that stackers, blend and thresholds share."""
    return assign_folds(Y, params.folds.k, params.folds.seed)


def choices(params: Params, labels: pd.DataFrame) -> dict[str, Any]:
    """What decision rules are chosen by: metric, thresholds and the labels' groups."""
    return {"metric": params.metric, "thresholds": params.thresholds, "groups": labels["group"].tolist()}
