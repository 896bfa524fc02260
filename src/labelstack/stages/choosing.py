"""What the second level chooses by: the metric, the rules there are, the labels' groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from labelstack.params import Params

if TYPE_CHECKING:
    import pandas as pd


def choices(params: Params, labels: pd.DataFrame) -> dict[str, Any]:
    """What decision rules are chosen by: metric, thresholds and the labels' groups."""
    return {"metric": params.metric, "thresholds": params.thresholds, "groups": labels["group"].tolist()}
